//! Taking a device out: asked of QEMU here, done by the guest when it likes.

use std::time::Duration;

use ferry_domxml::memory::Size;
use ferry_domxml::{Device, DiskBus, DiskDevice, Domain};
use ferry_qemu::blockgraph;
use ferry_qmp::DeviceGone;
use ferry_qmp::commands::device::{DeviceDel, NetdevDel};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use tokio::time::Instant;

use super::super::change::Affected;
use super::super::{Driver, Reply};
use super::memory::{memory_at, not_present};
use super::{delete_nodes, disk_at, interface_at, missing, objects, unsupported};
use crate::events::DomainEvent;
use crate::refuse;

/// How long a client is kept waiting for the guest to let go. As with stock.
const GUEST_DEADLINE: Duration = Duration::from_secs(5);

/// A device that the guest was asked to let go, and who asked for it.
#[derive(Debug)]
pub(in crate::driver) struct Unplug {
    alias: String,
    device: Device,
    /// It is to go from the kept definition too.
    config: bool,
    reply: Reply<()>,
    due: Instant,
}

impl Unplug {
    /// When its asker is answered at the latest.
    pub(in crate::driver) fn due(&self) -> Instant {
        self.due
    }
}

impl Driver {
    /// Takes a device out. The asker is answered when it is gone, or after a while.
    pub(in crate::driver) async fn detach(&mut self, device: Device, affected: Affected, reply: Reply<()>) {
        match self.ask_for(&device, affected).await {
            Ok(Some(alias)) => {
                let due = Instant::now() + GUEST_DEADLINE;
                self.unplugs.push(Unplug { alias, device, config: affected.config, reply, due });
            }
            Ok(None) => {
                let outcome = self.forget_kept(&device, affected.config).await;
                self.answer(reply, outcome);
            }
            Err(error) => self.answer(reply, Err(error)),
        }
    }

    /// Has a device taken out; that it is gone an event tells.
    pub(in crate::driver) async fn detach_alias(
        &mut self,
        alias: &str,
        affected: Affected,
    ) -> Result<(), Error> {
        let live = self.live_copy(affected);
        let config = self.config_copy(affected);
        for domain in live.iter().chain(&config) {
            if named(domain, alias).is_none() {
                return Err(refuse::internal(&format!("no device found with alias {alias}")));
            }
        }
        if let Some(device) = live.as_ref().and_then(|live| named(live, alias)) {
            self.ask_for(&device, Affected { live: true, config: false }).await?;
        }
        match config.as_ref().and_then(|config| named(config, alias)) {
            Some(device) => self.forget_kept(&device, true).await,
            None => Ok(()),
        }
    }

    /// Asks the guest, through QEMU, to let a device go; `None` when only the kept definition is meant.
    async fn ask_for(&self, device: &Device, affected: Affected) -> Result<Option<String>, Error> {
        // What cannot be taken out of the definition is not taken out of the guest.
        if let Some(mut config) = self.config_copy(affected) {
            without_device(&mut config, device)?;
        }
        if !affected.live {
            return Ok(None);
        }
        let guest = self.running()?;
        let alias = alias_of(&guest.domain, device)?;
        if self.unplugs.iter().any(|unplug| unplug.alias == alias) {
            let text = format!("device {alias} is already being unplugged");
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        guest.monitor.execute(&DeviceDel { id: alias.clone() }).await.map_err(refuse::monitor)?;
        Ok(Some(alias))
    }

    async fn forget_kept(&mut self, device: &Device, config: bool) -> Result<(), Error> {
        let Some(mut config) = self.config_copy(Affected { live: false, config }) else { return Ok(()) };
        without_device(&mut config, device)?;
        self.keep(config).await
    }

    /// A device is gone from the guest.
    pub(in crate::driver) async fn handle_device_deleted(&mut self, gone: &DeviceGone) {
        // Parts of devices have no name; what has one is a device of ours.
        let (Some(alias), Some(guest)) = (&gone.device, &self.guest) else { return };
        let monitor = guest.monitor.clone();
        let mut domain = Domain::clone(&guest.domain);
        let devices = &mut domain.devices;
        if let Some(at) = devices.disks.iter().position(|disk| disk.info.alias.as_ref() == Some(alias)) {
            let disk = devices.disks.remove(at);
            if let Ok(nodes) = blockgraph::nodes(&disk) {
                delete_nodes(&monitor, &nodes.blockdevs).await;
            }
            objects::delete_of(&monitor, &disk).await;
        } else if let Some(at) =
            devices.interfaces.iter().position(|card| card.info.alias.as_ref() == Some(alias))
        {
            devices.interfaces.remove(at);
            if let Err(error) = monitor.execute(&NetdevDel { id: format!("host{alias}") }).await {
                tracing::warn!(alias, error = refuse::chain(&error), "the host's end of a card stays");
            }
        } else if let Some(at) =
            devices.memories.iter().position(|memory| memory.info.alias.as_ref() == Some(alias))
        {
            self.forget_memory(&mut domain, at).await;
        } else {
            return;
        }
        // The store has said why it could not; the next daemon finds the device gone.
        let _ = self.replace_live(domain).await;
        self.emit(DomainEvent::DeviceRemoved { alias: alias.clone() });
        self.answer_unplugs(|unplug| unplug.alias == *alias, None).await;
    }

    /// The guest does not let a device go.
    pub(in crate::driver) async fn handle_unplug_refused(&mut self, kept: &DeviceGone) {
        let Some(alias) = &kept.device else { return };
        self.emit(DomainEvent::DeviceRemovalFailed { alias: alias.clone() });
        let text = "unplug of device was rejected by the guest";
        let refused = Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text);
        self.answer_unplugs(|unplug| unplug.alias == *alias, Some(refused)).await;
    }

    /// Those who have waited long enough are told that the guest was asked.
    pub(in crate::driver) async fn handle_unplug_timer(&mut self) {
        let now = Instant::now();
        self.answer_unplugs(|unplug| unplug.due <= now, None).await;
    }

    /// The guest has ended, and all its devices with it.
    pub(in crate::driver) async fn give_up_unplugs(&mut self) {
        self.answer_unplugs(|_| true, Some(refuse::not_running())).await;
    }

    async fn answer_unplugs(&mut self, which: impl Fn(&Unplug) -> bool, refused: Option<Error>) {
        let (answered, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unplugs).into_iter().partition(which);
        self.unplugs = left;
        for Unplug { device, config, reply, .. } in answered {
            let outcome = match &refused {
                Some(error) => Err(error.clone()),
                None => self.forget_kept(&device, config).await,
            };
            self.answer(reply, outcome);
        }
    }
}

/// The device with this name.
fn named(domain: &Domain, alias: &str) -> Option<Device> {
    let is = |name: &Option<String>| name.as_deref() == Some(alias);
    let disk = domain.devices.disks.iter().find(|disk| is(&disk.info.alias));
    let card = domain.devices.interfaces.iter().find(|card| is(&card.info.alias));
    let disk = disk.map(|disk| Device::Disk(Box::new(disk.clone())));
    let memory = domain.devices.memories.iter().find(|memory| is(&memory.info.alias));
    disk.or_else(|| card.map(|card| Device::Interface(Box::new(card.clone()))))
        .or_else(|| memory.map(|memory| Device::Memory(Box::new(memory.clone()))))
}

/// The name of a device of the running guest, when it is one that can go.
fn alias_of(domain: &Domain, device: &Device) -> Result<String, Error> {
    let alias = match device {
        Device::Disk(meant) => {
            let dev = &meant.target.dev;
            let at = disk_at(domain, dev).ok_or_else(|| missing(format!("disk {dev} not found")))?;
            let disk = &domain.devices.disks[at];
            if !matches!(disk.device, DiskDevice::Disk | DiskDevice::Lun) {
                return Err(unsupported(format!("disk device type '{}' cannot be detached", disk.device)));
            }
            if !matches!(disk.bus(), DiskBus::Virtio | DiskBus::Scsi | DiskBus::Usb) {
                return Err(unsupported("This type of disk cannot be hot unplugged"));
            }
            disk.info.alias.clone()
        }
        Device::Interface(meant) => {
            let at = interface_at(domain, meant)?;
            domain.devices.interfaces[at].info.alias.clone()
        }
        Device::Memory(meant) => {
            let at = memory_at(domain, meant).ok_or_else(|| not_present(meant))?;
            domain.devices.memories[at].info.alias.clone()
        }
        Device::Other(kind) => {
            return Err(unsupported(format!("live detach of device '{kind}' is not supported")));
        }
    };
    alias.ok_or_else(|| refuse::internal("a device of a running guest has no alias"))
}

/// Takes a device out of a kept definition.
fn without_device(config: &mut Domain, device: &Device) -> Result<(), Error> {
    match device {
        Device::Disk(meant) => {
            let dev = &meant.target.dev;
            let at = disk_at(config, dev).ok_or_else(|| missing(format!("no target device {dev}")))?;
            config.devices.disks.remove(at);
        }
        Device::Interface(meant) => {
            // Names are the running guest's.
            let mut meant = meant.clone();
            meant.info.alias = None;
            let at = interface_at(config, &meant)?;
            config.devices.interfaces.remove(at);
        }
        Device::Memory(meant) => {
            let mut meant = meant.clone();
            meant.info.alias = None;
            let at = memory_at(config, &meant)
                .ok_or_else(|| missing("matching memory device was not found".to_owned()))?;
            let boot_kib = config.memory_at_boot_kib();
            config.devices.memories.remove(at);
            let kib = boot_kib.saturating_add(config.devices.memory_kib());
            config.memory.kib = kib;
            config.current_memory = config.current_memory.map(|current| current.min(Size { kib }));
        }
        Device::Other(kind) => {
            return Err(unsupported(format!("persistent detach of device '{kind}' is not supported")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>\
            <disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>\
            <disk type='file'><source file='/b'/><target dev='sda' bus='sata'/><alias name='sata0-0-0'/></disk>\
            <disk type='file' device='cdrom'><target dev='sdb' bus='scsi'/><alias name='scsi0-0-0-1'/></disk>\
            <interface type='user'><mac address='52:54:00:00:00:01'/><alias name='net0'/></interface></devices></domain>";
        Domain::parse(xml).unwrap()
    }

    fn disk(dev: &str) -> Device {
        Device::parse(&format!("<disk type='file'><source file='/a'/><target dev='{dev}'/></disk>")).unwrap()
    }

    #[test]
    fn only_what_can_be_unplugged_is_asked_for() {
        let domain = domain();
        assert_eq!(alias_of(&domain, &disk("vda")).unwrap(), "virtio-disk0");
        let refusal = |device: &Device| {
            let error = alias_of(&domain, device).unwrap_err();
            (error.code.0, error.message)
        };
        assert_eq!(refusal(&disk("vdz")), (99, "device not found: disk vdz not found".to_owned()));
        assert_eq!(refusal(&disk("sda")).0, 84);
        assert_eq!(
            refusal(&disk("sdb")).1,
            "Operation not supported: disk device type 'cdrom' cannot be detached"
        );
        assert_eq!(refusal(&Device::Other("rng".to_owned())).0, 84);
    }

    #[test]
    fn a_definition_loses_what_is_meant() {
        let mut config = domain();
        without_device(&mut config, &disk("vda")).unwrap();
        assert_eq!(without_device(&mut config, &disk("vda")).unwrap_err().code.0, 99);
        let card =
            "<interface type='user'><mac address='52:54:00:00:00:01'/><alias name='net7'/></interface>";
        without_device(&mut config, &Device::parse(card).unwrap()).unwrap();
        assert_eq!((config.devices.disks.len(), config.devices.interfaces.len()), (2, 0));
    }
}
