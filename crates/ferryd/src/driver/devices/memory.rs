//! Memory that is plugged into a running guest, taken out, or made more or less.

use std::sync::Arc;

use ferry_domxml::Domain;
use ferry_domxml::memory::Size;
use ferry_domxml::memory_device::{MemoryDevice, MemoryModel};
use ferry_qemu::command_line::plug;
use ferry_qmp::MemoryDeviceSizeChange;
use ferry_qmp::commands::device::{DeviceAdd, ObjectAdd, ObjectDel, QomSet};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use serde_json::{Value, json};

use super::super::Driver;
use super::{arguments, missing};
use crate::events::DomainEvent;
use crate::perform::memory;
use crate::perform::monitor::{Monitor, MonitorError};
use crate::refuse;

impl Driver {
    pub(super) async fn plug_memory(&mut self, device: MemoryDevice) -> Result<(), Error> {
        let mut domain = Domain::clone(&self.running()?.domain);
        room(&domain, &device)?;
        let boot_kib = domain.memory_at_boot_kib();
        domain.devices.memories.push(device);
        domain.memory.kib = boot_kib.saturating_add(domain.devices.memory_kib());
        let completed = self.complete_live(&domain)?;
        let at = domain.devices.memories.len() - 1;
        let placed = completed.devices.memories.into_iter().nth(at);
        domain.devices.memories[at] = placed.ok_or_else(|| refuse::internal("completed memory is lost"))?;
        ferry_qemu::aliases::assign(&mut domain).map_err(refuse::machine)?;
        let host = Arc::clone(&self.host);
        let needed = domain.clone();
        let prepared =
            tokio::task::spawn_blocking(move || memory::prepare(&needed, &host.layout, &host.account));
        let folders = prepared
            .await
            .map_err(|_| refuse::internal("the daemon is stopping"))?
            .map_err(|error| refuse::system("cannot make a folder for guest memory", &error))?;
        let guest = self.running()?;
        let plug =
            plug::memory(&domain, &guest.capabilities, at, folders).map_err(refuse::no_command_line)?;
        let (monitor, before) = (guest.monitor.clone(), Arc::clone(&guest.domain));
        let alias = domain.devices.memories[at].info.alias.clone().unwrap_or_default();
        self.replace_live(domain.clone()).await?;
        if let Err(error) = add(&monitor, &plug, &alias).await {
            self.undo(before).await;
            return Err(refuse::monitor(error));
        }
        // Where it came to lie has to travel with the guest.
        memory::learn(&monitor, &mut domain).await.map_err(refuse::monitor)?;
        self.replace_live(domain).await?;
        self.emit(DomainEvent::DeviceAdded { alias });
        Ok(())
    }

    /// The host's memory of a device that the guest has let go.
    pub(super) async fn forget_memory(&mut self, domain: &mut Domain, at: usize) {
        let boot_kib = domain.memory_at_boot_kib();
        let device = domain.devices.memories.remove(at);
        domain.memory.kib = boot_kib.saturating_add(domain.devices.memory_kib());
        let Some(guest) = &self.guest else { return };
        let id = format!("mem{}", device.info.alias.unwrap_or_default());
        if let Err(error) = guest.monitor.execute(&ObjectDel { id: id.clone() }).await {
            tracing::warn!(object = id, error = refuse::chain(&error), "the host's memory of a device stays");
        }
        if let Err(error) = memory::learn_balloon(&guest.monitor, domain).await {
            tracing::warn!(error = refuse::chain(&error), "cannot ask for the guest's memory");
        }
    }

    /// How much of a block that grows the guest is to take.
    pub(super) async fn update_memory(&mut self, wanted: &MemoryDevice) -> Result<(), Error> {
        let guest = self.running()?;
        let at = memory_at(&guest.domain, wanted).ok_or_else(|| not_found(wanted))?;
        let mut domain = Domain::clone(&guest.domain);
        let device = &mut domain.devices.memories[at];
        only_requested_differs(device, wanted)?;
        device.target.requested = wanted.target.requested;
        let set = QomSet {
            path: format!("/machine/peripheral/{}", device.info.alias.as_deref().unwrap_or_default()),
            property: "requested-size".to_owned(),
            value: json!(device.requested_kib().saturating_mul(1024)),
        };
        super::super::change::check(&domain)?;
        guest.monitor.execute(&set).await.map_err(refuse::monitor)?;
        self.replace_live(domain).await
    }

    /// The guest took or gave back memory of a block that grows.
    pub(in crate::driver) async fn handle_memory_size(&mut self, change: &MemoryDeviceSizeChange) {
        let (Some(alias), Some(guest)) = (&change.id, &self.guest) else { return };
        let mut domain = Domain::clone(&guest.domain);
        let device =
            domain.devices.memories.iter_mut().find(|device| device.info.alias.as_ref() == Some(alias));
        let Some(device) = device else { return };
        device.target.current = Some(Size { kib: change.size / 1024 });
        // How much that leaves the guest altogether only QEMU can tell.
        let monitor = guest.monitor.clone();
        if let Err(error) = memory::learn_balloon(&monitor, &mut domain).await {
            tracing::warn!(error = refuse::chain(&error), "cannot ask for the guest's memory");
        }
        // The store has said why it could not.
        let _ = self.replace_live(domain).await;
        self.emit(DomainEvent::MemoryDeviceSizeChange { alias: alias.clone(), bytes: change.size });
    }
}

/// Whether there is room for one more, in words that stock has for a running guest.
fn room(domain: &Domain, device: &MemoryDevice) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::DOMAIN, text));
    let Some(max) = &domain.max_memory else {
        return refuse(
            "cannot use/hotplug a memory device when domain 'maxMemory' is not defined".to_owned(),
        );
    };
    let modules = domain.devices.memories.iter().filter(|other| other.is_module()).count();
    if device.is_module() && modules >= max.slots as usize {
        return refuse(format!(
            "count of memory devices requiring memory slots '{}' exceeds slots count '{}'",
            modules + 1,
            max.slots
        ));
    }
    let size = device.target.size.kib;
    if domain.memory.kib.saturating_add(size) > max.kib {
        return refuse(format!(
            "Attaching memory device with size '{size}' would exceed domain's maxMemory config size '{}'",
            max.kib
        ));
    }
    Ok(())
}

async fn add(monitor: &Monitor, plug: &plug::MemoryPlug, alias: &str) -> Result<(), MonitorError> {
    let mut properties = arguments(&plug.backend);
    let mut take = |name: &str| match properties.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (qom_type, id) = (take("qom-type"), take("id"));
    monitor.execute(&ObjectAdd { qom_type, id: id.clone(), properties }).await?;
    let added = monitor.execute(&DeviceAdd(arguments(&plug.device))).await;
    if added.is_err() {
        // What QEMU says of it is said in its log; the answer is why the device did not come.
        if let Err(error) = monitor.execute(&ObjectDel { id }).await {
            tracing::warn!(alias, error = refuse::chain(&error), "the host's memory of a device stays");
        }
    }
    added.map(drop)
}

/// Where the memory device that is meant is in a domain: by its name, its slot or address, else by all that it is.
pub(super) fn memory_at(domain: &Domain, meant: &MemoryDevice) -> Option<usize> {
    let fits = |device: &MemoryDevice| {
        let same_place = match (meant.slot(), &meant.info.address) {
            (Some(slot), _) => device.slot() == Some(slot),
            (None, Some(address)) => device.info.address.as_ref() == Some(address),
            (None, None) => true,
        };
        let path = |device: &MemoryDevice| device.source.as_ref().and_then(|source| source.path.clone());
        same_place
            && (meant.info.alias.is_none() || device.info.alias == meant.info.alias)
            && device.model == meant.model
            && device.target.size == meant.target.size
            && (meant.target.node.is_none() || device.target.node == meant.target.node)
            && path(device) == path(meant)
    };
    domain.devices.memories.iter().position(fits)
}

/// There is no such memory in a running guest.
pub(super) fn not_present(meant: &MemoryDevice) -> Error {
    missing(format!("model '{}' memory device not present in the domain configuration", meant.model))
}

fn not_found(wanted: &MemoryDevice) -> Error {
    let name = wanted.info.alias.as_deref().unwrap_or(wanted.model.as_str());
    let text = format!("memory '{name}' not found");
    Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text)
}

/// Nothing else of memory can be changed while the guest has it.
pub(super) fn only_requested_differs(present: &MemoryDevice, wanted: &MemoryDevice) -> Result<(), Error> {
    if present.model != MemoryModel::VirtioMem {
        let text = format!("modification of memory device of model '{}' is not supported", present.model);
        return Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text));
    }
    let named = wanted.target.block.is_none() || wanted.target.block == present.target.block;
    if named {
        return Ok(());
    }
    let text = "cannot modify memory device of a running guest but for its requested size";
    Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::Device;

    fn memory(text: &str) -> MemoryDevice {
        let Device::Memory(memory) = Device::parse(text).unwrap() else { panic!("no memory") };
        *memory
    }

    fn dimm(size: u64, more: &str) -> String {
        format!("<memory model='dimm'><target><size>{size}</size><node>0</node></target>{more}</memory>")
    }

    fn domain(devices: &str) -> Domain {
        Domain::parse(&format!(
            "<domain type='qemu'><name>a</name><maxMemory slots='2'>4096</maxMemory><memory>3072</memory>\
             <os><type>hvm</type></os><cpu><numa><cell memory='1024'/></numa></cpu><devices>{devices}</devices></domain>"
        ))
        .unwrap()
    }

    #[test]
    fn memory_is_meant_by_all_that_is_said_of_it() {
        let slot = |slot: u32| format!("<address type='dimm' slot='{slot}' base='0x{slot}00000000'/>");
        let domain = domain(&(dimm(1024, &slot(1)) + &dimm(1024, &slot(0))));
        let at = |text: &str| memory_at(&domain, &memory(text));
        assert_eq!(at(&dimm(1024, "")), Some(0));
        assert_eq!(at(&dimm(1024, "<address type='dimm' slot='0'/>")), Some(1));
        assert_eq!(at(&dimm(2048, "")), None);
        assert_eq!(at(&dimm(1024, "<alias name='dimm7'/>")), None);
        assert_eq!(at("<memory model='virtio-mem'><target><size>1024</size></target></memory>"), None);
    }

    #[test]
    fn there_is_room_for_so_much_and_no_more() {
        let refusal = |devices: &str, size: u64| {
            room(&domain(devices), &memory(&dimm(size, ""))).map_err(|error| error.message)
        };
        assert_eq!(refusal("", 1024), Ok(()));
        let full = dimm(1024, "").repeat(2);
        let text = "unsupported configuration: count of memory devices requiring memory slots '3' exceeds slots count '2'";
        assert_eq!(refusal(&full, 1024), Err(text.to_owned()));
        let text = "unsupported configuration: Attaching memory device with size '2048' would exceed domain's maxMemory config size '4096'";
        assert_eq!(refusal("", 2048), Err(text.to_owned()));
    }
}
