//! Plugging a device in.

use std::sync::Arc;

use ferry_domxml::interface::{Interface, LinkState};
use ferry_domxml::{Device, Disk, DiskBus, Domain, Mac};
use ferry_qemu::blockgraph;
use ferry_qemu::command_line::plug;
use ferry_qemu::complete::Origin as From;
use ferry_qmp::commands::block::BlockdevAdd;
use ferry_qmp::commands::console::SetLink;
use ferry_qmp::commands::device::{DeviceAdd, DeviceDel, NetdevAdd, NetdevDel};
use ferry_qmp::commands::fd::{Closefd, Getfd};
use ferry_rpc::error::{Error, ErrorCode, Origin};

use super::super::Driver;
use super::super::change::{Affected, check};
use super::{arguments, complete_kept, delete_nodes, disk_at, is_removable, objects, unsupported};
use crate::events::DomainEvent;
use crate::host::random_byte;
use crate::perform::monitor::{Monitor, MonitorError};
use crate::perform::{images, network, throttle};
use crate::refuse;

impl Driver {
    /// Plugs a device in.
    pub(in crate::driver) async fn attach(
        &mut self,
        mut device: Device,
        affected: Affected,
    ) -> Result<(), Error> {
        if let Device::Interface(card) = &mut device {
            // One card, with one address, wherever it is put.
            let [a, b, c] = [random_byte(), random_byte(), random_byte()];
            card.mac.get_or_insert(Mac([0x52, 0x54, 0, a, b, c]));
        }
        let config = match self.config_copy(affected) {
            Some(config) => {
                let capabilities = self.host.capabilities(config.devices.emulator.as_deref()).await?;
                Some(complete_kept(with_device(config, device.clone())?, &capabilities)?)
            }
            None => None,
        };
        if affected.live {
            match device {
                Device::Disk(disk) => self.plug_disk(*disk).await?,
                Device::Interface(card) => self.plug_interface(*card).await?,
                Device::Memory(memory) => self.plug_memory(*memory).await?,
                Device::Other(kind) => {
                    return Err(unsupported(format!("live attach of device '{kind}' is not supported")));
                }
            }
        }
        self.keep_changed(None, config).await
    }

    async fn plug_disk(&mut self, disk: Disk) -> Result<(), Error> {
        let guest = self.running()?;
        let dev = disk.target.dev.clone();
        if is_removable(&disk)
            && let Some(at) = disk_at(&guest.domain, &dev)
        {
            // A drive is there: it is the medium that is meant.
            return self.change_medium(at, disk, false).await;
        }
        match disk.bus() {
            DiskBus::Virtio | DiskBus::Scsi | DiskBus::Usb => {}
            bus @ (DiskBus::Ide | DiskBus::Sata | DiskBus::Fdc) => {
                return Err(unsupported(format!("disk bus '{bus}' cannot be hotplugged.")));
            }
        }
        let mut domain = Domain::clone(&guest.domain);
        domain.devices.disks.push(disk);
        let completed = self.complete_live(&domain)?;
        let placed = disk_at(&completed, &dev).and_then(|at| completed.devices.disks.get(at));
        let placed = placed.cloned().ok_or_else(|| refuse::internal("a completed disk is lost"))?;
        domain.devices.disks.pop();
        domain.devices.disks.push(self.open_images(placed).await?);
        domain.devices.arrange();
        let at = disk_at(&domain, &dev).ok_or_else(|| refuse::internal("an arranged disk is lost"))?;
        let next_node = blockgraph::number_disk(&mut domain.devices.disks[at], self.running()?.next_node);
        ferry_qemu::aliases::assign(&mut domain).map_err(refuse::machine)?;
        let objects = self.objects_of(&domain.devices.disks[at]).await?;
        let limits = domain.devices.disks[at].iotune.clone();
        let guest = self.running()?;
        let plug = plug::disk(&domain, &guest.capabilities, at).map_err(refuse::no_command_line)?;
        let alias = domain.devices.disks[at].info.alias.clone().unwrap_or_default();
        let (monitor, before) = (guest.monitor.clone(), Arc::clone(&guest.domain));
        if let Some(guest) = &mut self.guest {
            guest.next_node = next_node;
        }
        self.replace_live(domain).await?;
        let added = async {
            objects::add(&monitor, &objects).await?;
            let added = add_disk(&monitor, &plug).await;
            if added.is_err() {
                objects::delete(&monitor, &objects).await;
            }
            added
        };
        if let Err(error) = added.await {
            self.undo(before).await;
            return Err(refuse::monitor(error));
        }
        self.emit(DomainEvent::DeviceAdded { alias: alias.clone() });
        let Some(limits) = limits else { return Ok(()) };
        // A disk that is faster than it may be is not the one that was asked for. The guest has it by now and lets it go
        // when it likes; its definition goes with it.
        if let Err(error) = throttle::set(&monitor, &alias, &limits).await {
            let _ = monitor.execute(&DeviceDel { id: alias }).await;
            return Err(refuse::monitor(error));
        }
        Ok(())
    }

    async fn plug_interface(&mut self, card: Interface) -> Result<(), Error> {
        let mut domain = Domain::clone(&self.running()?.domain);
        domain.devices.interfaces.push(card);
        let completed = self.complete_live(&domain)?;
        let placed = completed.devices.interfaces.last().cloned();
        let at = domain.devices.interfaces.len() - 1;
        domain.devices.interfaces[at] = placed.ok_or_else(|| refuse::internal("a completed card is lost"))?;
        let card = &mut domain.devices.interfaces[at];
        network::map(card, &self.host.config.networks, &self.host.layout.config)?;
        ferry_qemu::aliases::assign(&mut domain).map_err(refuse::machine)?;
        let card = &mut domain.devices.interfaces[at];
        let alias = card.info.alias.clone().unwrap_or_default();
        let mut fds = Vec::new();
        if let Some(request) = network::TapRequest::of(card) {
            let opened = tokio::task::spawn_blocking(move || network::open(&request)).await;
            let tap = opened
                .map_err(|_| refuse::internal("the daemon is stopping"))?
                .map_err(|error| Error::of(ErrorCode::SYSTEM_ERROR, Origin::NONE, refuse::chain(&error)))?;
            card.target_dev = Some(tap.name);
            fds = tap.fds;
        }
        let unplugged = card.link == Some(LinkState::Down);
        let names: Vec<String> = (0..fds.len()).map(|queue| format!("fd-{alias}-{queue}")).collect();
        let guest = self.running()?;
        let plug =
            plug::interface(&domain, &guest.capabilities, at, &names).map_err(refuse::no_command_line)?;
        let (monitor, before) = (guest.monitor.clone(), Arc::clone(&guest.domain));
        self.replace_live(domain).await?;
        let added = async {
            for (fdname, fd) in names.iter().zip(fds) {
                monitor.execute_with_fd(&Getfd { fdname: fdname.clone() }, fd).await?;
            }
            monitor.execute(&NetdevAdd(arguments(&plug.netdev))).await?;
            monitor.execute(&DeviceAdd(arguments(&plug.device))).await?;
            if unplugged {
                monitor.execute(&SetLink { name: alias.clone(), up: false }).await?;
            }
            Ok::<_, MonitorError>(())
        };
        if let Err(error) = added.await {
            // Each of them may not have come to be: that is what a refusal says.
            let _ = monitor.execute(&NetdevDel { id: format!("host{alias}") }).await;
            for fdname in names {
                let _ = monitor.execute(&Closefd { fdname }).await;
            }
            self.undo(before).await;
            return Err(refuse::monitor(error));
        }
        self.emit(DomainEvent::DeviceAdded { alias });
        Ok(())
    }

    /// A copy of the running definition with a new device in it, completed: its address, its defaults.
    ///
    /// # Errors
    /// It contradicts what is there, has no place, or is not supported.
    pub(super) fn complete_live(&self, domain: &Domain) -> Result<Domain, Error> {
        check(domain)?;
        let guest = self.running()?;
        let mut completed = domain.clone();
        ferry_qemu::complete(&mut completed, &guest.capabilities, From::Migration, &mut random_byte)
            .map_err(refuse::incomplete)?;
        let controllers = (&domain.devices.controllers, &completed.devices.controllers);
        let new = controllers.1.iter().find(|one| {
            let key = |of: &ferry_domxml::Controller| (of.kind.controller_type(), of.index);
            !controllers.0.iter().any(|other| key(other) == key(one))
        });
        if let Some(controller) = new {
            let kind = controller.kind.controller_type();
            return Err(match kind {
                ferry_domxml::ControllerType::Pci => refuse::internal("No more available PCI slots"),
                _ => unsupported(format!(
                    "the device needs a {kind} controller, which cannot be plugged into a running guest"
                )),
            });
        }
        ferry_qemu::validate(&completed, &guest.capabilities).map_err(refuse::invalid_definition)?;
        Ok(completed)
    }

    /// Follows a disk's image to its base and makes the images QEMU's.
    pub(super) async fn open_images(&self, disk: Disk) -> Result<Disk, Error> {
        let host = Arc::clone(&self.host);
        let prepared = tokio::task::spawn_blocking(move || {
            let mut disks = [disk];
            images::follow(&mut disks).map_err(refuse::chain_unreadable)?;
            images::own(&disks, &host.account)
                .map_err(|error| refuse::system("Unable to set image ownership", &error))?;
            let [disk] = disks;
            Ok(disk)
        });
        prepared.await.map_err(|_| refuse::internal("the daemon is stopping"))?
    }

    /// Goes back to an earlier running definition.
    pub(super) async fn undo(&mut self, before: Arc<Domain>) {
        if let Some(guest) = &mut self.guest {
            guest.domain = before;
        }
        // The store has said why it could not; what is then recorded and not there, the next daemon finds out.
        let _ = self.record_guest().await;
    }
}

/// Adds the nodes of a disk and the device on them; what was added goes again when something fails.
async fn add_disk(monitor: &Monitor, plug: &plug::DiskPlug) -> Result<(), MonitorError> {
    for (added, node) in plug.blockdevs.iter().enumerate() {
        if let Err(error) = monitor.execute(&BlockdevAdd(arguments(node))).await {
            delete_nodes(monitor, &plug.blockdevs[..added]).await;
            return Err(error);
        }
    }
    if let Err(error) = monitor.execute(&DeviceAdd(arguments(&plug.device))).await {
        delete_nodes(monitor, &plug.blockdevs).await;
        return Err(error);
    }
    Ok(())
}

/// A kept definition with one more device.
fn with_device(mut config: Domain, device: Device) -> Result<Domain, Error> {
    match device {
        Device::Disk(disk) => {
            if disk_at(&config, &disk.target.dev).is_some() {
                let text = format!("target {} already exists", disk.target.dev);
                return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
            }
            config.devices.disks.push(*disk);
        }
        Device::Interface(card) => config.devices.interfaces.push(*card),
        Device::Memory(memory) => {
            let slots = config.max_memory.as_ref().map_or(0, |max| max.slots as usize);
            let taken = config.devices.memories.iter().filter(|memory| memory.is_module()).count();
            if memory.is_module() && config.max_memory.is_some() && taken >= slots {
                let text = "no free memory device slot available";
                return Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text));
            }
            let boot_kib = config.memory_at_boot_kib();
            // A guest that had all of its memory has this too.
            let had_all = config.current_memory.is_none_or(|current| current.kib >= config.memory.kib);
            config.devices.memories.push(*memory);
            config.memory.kib = boot_kib.saturating_add(config.devices.memory_kib());
            config.current_memory = config.current_memory.filter(|_| !had_all);
        }
        Device::Other(kind) => {
            return Err(unsupported(format!("persistent attach of device '{kind}' is not supported")));
        }
    }
    Ok(config)
}
