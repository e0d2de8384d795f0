//! Changing a device that stays: a drive's medium, a card's cable; of a kept definition, all of a device.

use std::sync::Arc;

use ferry_domxml::interface::{Interface, LinkState};
use ferry_domxml::{Device, Disk, Domain};
use ferry_qemu::blockgraph;
use ferry_qmp::commands::block::BlockdevAdd;
use ferry_qmp::commands::console::SetLink;
use ferry_qmp::commands::media::{
    BlockdevCloseTray, BlockdevInsertMedium, BlockdevOpenTray, BlockdevRemoveMedium,
};
use ferry_rpc::error::{Error, ErrorCode, Origin};

use super::super::Driver;
use super::super::change::Affected;
use super::memory::{memory_at, only_requested_differs};
use super::{
    arguments, complete_kept, delete_nodes, disk_at, interface_at, is_removable, missing, objects,
    unsupported,
};
use crate::perform::monitor::{Monitor, MonitorError};
use crate::refuse;

impl Driver {
    /// Changes a device. `force` takes a medium out of a drive that the guest has locked.
    pub(in crate::driver) async fn update(
        &mut self,
        device: Device,
        force: bool,
        affected: Affected,
    ) -> Result<(), Error> {
        let config = match self.config_copy(affected) {
            Some(config) => {
                let capabilities = self.host.capabilities(config.devices.emulator.as_deref()).await?;
                Some(complete_kept(with_changed(config, device.clone())?, &capabilities)?)
            }
            None => None,
        };
        if affected.live {
            match device {
                Device::Disk(disk) => self.update_disk(*disk, force).await?,
                Device::Interface(card) => self.update_interface(&card).await?,
                Device::Memory(memory) => self.update_memory(&memory).await?,
                Device::Other(kind) => {
                    return Err(unsupported(format!("live update of device '{kind}' is not supported")));
                }
            }
        }
        self.keep_changed(None, config).await
    }

    async fn update_disk(&mut self, disk: Disk, force: bool) -> Result<(), Error> {
        let present = &self.running()?.domain;
        let at = disk_at(present, &disk.target.dev)
            .ok_or_else(|| refuse::internal(&format!("disk '{}' not found", disk.target.dev)))?;
        let present = &present.devices.disks[at];
        if present.source.location != disk.source.location {
            return self.change_medium(at, disk, force).await;
        }
        // Nothing else of a disk can be changed while the guest runs.
        let same = present.bus() == disk.bus()
            && present.device == disk.device
            && present.readonly == disk.readonly
            && present.serial == disk.serial;
        if same {
            Ok(())
        } else {
            Err(unsupported("cannot modify a disk of a running guest but for its medium"))
        }
    }

    /// Puts another medium, or none, into a drive.
    pub(super) async fn change_medium(
        &mut self,
        at: usize,
        mut disk: Disk,
        force: bool,
    ) -> Result<(), Error> {
        let guest = self.running()?;
        let old = guest.domain.devices.disks[at].clone();
        if !is_removable(&old) {
            let text = "disk source can be changed only in removable drives";
            return Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text));
        }
        let mut next_node = guest.next_node;
        if !disk.source.is_empty() {
            disk = self.open_images(disk).await?;
            next_node = blockgraph::number_disk(&mut disk, next_node);
        }
        let mut domain = Domain::clone(&self.running()?.domain);
        let changed = &mut domain.devices.disks[at];
        changed.source = disk.source;
        changed.auth = disk.auth;
        changed.encryption = disk.encryption;
        changed.backing_store = disk.backing_store;
        changed.backing_detected = disk.backing_detected;
        if let Some(format) = disk.driver.and_then(|driver| driver.format)
            && let Some(driver) = &mut changed.driver
        {
            driver.format = Some(format);
        }
        super::super::change::check(&domain)?;
        let graph = |disk| blockgraph::nodes(disk).map_err(|error| refuse::internal(&error.to_string()));
        let (old_nodes, new_nodes) = (graph(&old)?, graph(&domain.devices.disks[at])?);
        let objects = self.objects_of(&domain.devices.disks[at]).await?;
        let drive = old.info.alias.clone().unwrap_or_default();
        let guest = self.running()?;
        let (monitor, before) = (guest.monitor.clone(), Arc::clone(&guest.domain));
        if let Some(guest) = &mut self.guest {
            guest.next_node = next_node;
        }
        self.replace_live(domain).await?;
        let swap = Swap { drive, force, had_medium: old_nodes.top.is_some(), new: &new_nodes };
        let swapped = async {
            objects::add(&monitor, &objects).await?;
            let swapped = swap.perform(&monitor).await;
            if swapped.is_err() {
                objects::delete(&monitor, &objects).await;
            }
            swapped
        };
        match swapped.await {
            Ok(()) => {
                delete_nodes(&monitor, &old_nodes.blockdevs).await;
                objects::delete_of(&monitor, &old).await;
                Ok(())
            }
            Err(error) => {
                self.undo(before).await;
                Err(refuse::monitor(error))
            }
        }
    }

    async fn update_interface(&mut self, wanted: &Interface) -> Result<(), Error> {
        let guest = self.running()?;
        let at = interface_at(&guest.domain, wanted)?;
        let present = &guest.domain.devices.interfaces[at];
        if wanted.model.is_some() && wanted.model != present.model {
            let word = |card: &Interface| card.model.map_or("", |model| model.as_str());
            let (from, to) = (word(present), word(wanted));
            return Err(unsupported(format!("cannot modify network device model from {from} to {to}")));
        }
        if !same_network(present, wanted) {
            return Err(unsupported("cannot change what a network card of a running guest is plugged into"));
        }
        if wanted.mtu != present.mtu {
            return Err(unsupported("cannot modify MTU of a network card of a running guest"));
        }
        if wanted.link == present.link {
            return Ok(());
        }
        let mut domain = Domain::clone(&guest.domain);
        domain.devices.interfaces[at].link = wanted.link;
        let name = present.info.alias.clone().unwrap_or_default();
        let link = SetLink { name, up: wanted.link != Some(LinkState::Down) };
        guest.monitor.execute(&link).await.map_err(refuse::monitor)?;
        self.replace_live(domain).await
    }
}

/// Whether a card is to be plugged into what it is plugged into.
fn same_network(present: &Interface, wanted: &Interface) -> bool {
    use ferry_domxml::interface::Network;
    match (&present.source.network, &wanted.source.network) {
        (Network::Network { network: one, .. }, Network::Network { network: other, .. }) => one == other,
        (one, other) => one == other,
    }
}

/// One medium for another.
struct Swap<'a> {
    drive: String,
    force: bool,
    had_medium: bool,
    new: &'a blockgraph::Nodes,
}

impl Swap<'_> {
    async fn perform(&self, monitor: &Monitor) -> Result<(), MonitorError> {
        let nodes = &self.new.blockdevs;
        for (added, node) in nodes.iter().enumerate() {
            if let Err(error) = monitor.execute(&BlockdevAdd(arguments(node))).await {
                delete_nodes(monitor, &nodes[..added]).await;
                return Err(error);
            }
        }
        let outcome = self.exchange(monitor).await;
        if outcome.is_err() {
            delete_nodes(monitor, nodes).await;
        }
        outcome
    }

    async fn exchange(&self, monitor: &Monitor) -> Result<(), MonitorError> {
        let id = || self.drive.clone();
        monitor.execute(&BlockdevOpenTray { id: id(), force: self.force }).await?;
        if self.had_medium {
            monitor.execute(&BlockdevRemoveMedium { id: id() }).await?;
        }
        if let Some(node) = &self.new.top {
            let insert = BlockdevInsertMedium { id: id(), node_name: node.clone() };
            monitor.execute(&insert).await?;
        }
        monitor.execute(&BlockdevCloseTray { id: id() }).await?;
        Ok(())
    }
}

/// A kept definition with a device in place of the one that it is about. It stays where it was unless it says otherwise.
fn with_changed(mut config: Domain, device: Device) -> Result<Domain, Error> {
    match device {
        Device::Disk(mut disk) => {
            let dev = &disk.target.dev;
            let at = disk_at(&config, dev).ok_or_else(|| {
                let text = format!("target {dev} doesn't exist.");
                Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text)
            })?;
            let present = &mut config.devices.disks[at];
            disk.info.address = disk.info.address.take().or(present.info.address.take());
            *present = *disk;
        }
        Device::Interface(mut card) => {
            card.info.alias = None;
            let at = interface_at(&config, &card)?;
            let present = &mut config.devices.interfaces[at];
            card.info.address = card.info.address.take().or(present.info.address.take());
            *present = *card;
        }
        Device::Memory(mut wanted) => {
            wanted.info.alias = None;
            let at = memory_at(&config, &wanted)
                .ok_or_else(|| missing("matching memory device was not found".to_owned()))?;
            let present = &mut config.devices.memories[at];
            only_requested_differs(present, &wanted)?;
            present.target.requested = wanted.target.requested;
        }
        Device::Other(kind) => {
            return Err(unsupported(format!("persistent update of device '{kind}' is not supported")));
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_device_stays_where_it_was() {
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>\
            <disk type='file' device='cdrom'><source file='/a'/><target dev='sda' bus='sata'/>\
            <address type='drive' controller='0' bus='0' target='0' unit='3'/></disk></devices></domain>";
        let config = Domain::parse(xml).unwrap();
        let eject = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>";
        let changed = with_changed(config.clone(), Device::parse(eject).unwrap()).unwrap();
        assert!(changed.devices.disks[0].source.is_empty());
        assert_eq!(changed.devices.disks[0].info.address, config.devices.disks[0].info.address);
        let missing = "<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>";
        let error = with_changed(config, Device::parse(missing).unwrap()).unwrap_err();
        assert_eq!(error.message, "invalid argument: target sdb doesn't exist.");
    }
}
