//! What drives and shared folders leave open.

use ferry_domxml::Domain;
use ferry_domxml::address::{Address, DriveAddress};
use ferry_domxml::disk::{Disk, DiskBus, DiskDevice};
use ferry_domxml::filesystem::{AccessMode, FileSystemServer};
use ferry_domxml::network_source::{SourceProtocol, Transport};
use ferry_domxml::secret::EncryptionEngine;
use ferry_domxml::storage::{BackingStore, ImageFormat, Location, Source};
use ferry_domxml::throttle::Limits;

use super::CompleteError;

/// Bus, driver, read-only media, and the address that the name implies.
pub(super) fn disks(domain: &mut Domain) -> Result<(), CompleteError> {
    let groups = domain.throttle_groups.iter_mut().flat_map(|groups| &mut groups.groups);
    groups.for_each(without_zeroes);
    domain.devices.disks.iter_mut().try_for_each(disk)
}

fn disk(disk: &mut Disk) -> Result<(), CompleteError> {
    let bus = *disk.target.bus.insert(disk.bus());
    if disk.device == DiskDevice::Cdrom {
        disk.readonly = true;
    }
    let driver = disk.driver.get_or_insert_default();
    driver.name.get_or_insert_with(|| "qemu".to_owned());
    // A format is never guessed; a definition that names none means raw.
    driver.format.get_or_insert(ImageFormat::Raw);
    source(&mut disk.source);
    let mut below = disk.backing_store.as_mut();
    while let Some(BackingStore::Image(image)) = below {
        source(&mut image.source);
        below = image.backing_store.as_mut();
    }
    if let Some(encryption) = disk.source.encryption.as_deref_mut().or(disk.encryption.as_mut()) {
        encryption.engine.get_or_insert(EncryptionEngine::Qemu);
    }
    if let Some(limits) = &mut disk.iotune {
        without_zeroes(limits);
        disk.iotune = disk.iotune.take().filter(|limits| !limits.is_unlimited());
    }

    let per_controller = match bus {
        DiskBus::Virtio | DiskBus::Usb => return Ok(()),
        DiskBus::Ide => 4,
        DiskBus::Fdc => 2,
        DiskBus::Sata => 6,
        // As many as the narrowest controller has, whichever it is.
        DiskBus::Scsi => 7,
    };
    if disk.info.address.is_some() {
        return Ok(());
    }
    let index = disk.target.index().ok_or_else(|| CompleteError::DiskName(disk.target.dev.clone()))?;
    let (controller, place) = (index / per_controller, index % per_controller);
    let (bus_number, unit) = match bus {
        DiskBus::Ide => (place / 2, place % 2),
        _ => (0, place),
    };
    disk.info.address = Some(Address::Drive(DriveAddress { controller, bus: bus_number, target: 0, unit }));
    Ok(())
}

/// The port of a server that names none, and the unit of an iSCSI target.
fn source(source: &mut Source) {
    let Location::Network(network) = &mut source.location else { return };
    for host in &mut network.hosts {
        if host.transport != Some(Transport::Unix) {
            host.port = host.port.or(network.protocol.default_port());
        }
    }
    if let (SourceProtocol::Iscsi, Some(name)) = (network.protocol, &mut network.name)
        && !name.contains('/')
    {
        name.push_str("/0");
    }
}

/// A limit of nothing is none.
fn without_zeroes(limits: &mut Limits) {
    for (_, number) in limits.numbers_mut() {
        *number = number.take().filter(|number| *number > 0);
    }
}

/// Whose rights count in a folder that QEMU serves.
pub(super) fn file_systems(domain: &mut Domain) {
    for file_system in &mut domain.devices.filesystems {
        if file_system.served_by() == FileSystemServer::Path {
            file_system.access_mode.get_or_insert(AccessMode::Passthrough);
        }
    }
}
