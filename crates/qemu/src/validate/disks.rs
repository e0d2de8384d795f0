//! Disks that cannot be what the definition says of them.

use std::collections::BTreeMap;

use ferry_domxml::Domain;
use ferry_domxml::disk::{CacheMode, Disk, DiskBus, DiskDevice, IoMode};
use ferry_domxml::network_source::SourceProtocol;
use ferry_domxml::storage::{BackingStore, ImageFormat, Location};

use super::ValidateError;
use crate::capabilities::Capabilities;

pub(super) fn check(domain: &Domain, capabilities: &Capabilities) -> Result<(), ValidateError> {
    let mut places = BTreeMap::new();
    for disk in &domain.devices.disks {
        self::disk(disk, capabilities)?;
        let Some(drive) = disk.drive_address() else { continue };
        if let Some(other) = places.insert((disk.bus(), drive), disk) {
            return Err(ValidateError::Drive {
                target: other.target.dev.clone(),
                controller: drive.controller,
                bus: drive.bus,
                scsi_target: drive.target,
                unit: drive.unit,
            });
        }
    }
    Ok(())
}

fn disk(disk: &Disk, capabilities: &Capabilities) -> Result<(), ValidateError> {
    let target = &disk.target.dev;
    let refuse = |text: String| Err(ValidateError::Disk(text));
    if let Location::Volume { pool, volume } = &disk.source.location {
        return refuse(format!(
            "disk '{target}' of type 'volume' (pool '{pool}', volume '{volume}'): there are no storage pools"
        ));
    }
    let (kind, prefixes): (_, &[&str]) = match disk.device {
        DiskDevice::Disk | DiskDevice::Lun => ("harddisk", &["hd", "sd", "vd", "xvd", "ubd"]),
        DiskDevice::Floppy => ("floppy", &["fd"]),
        DiskDevice::Cdrom => ("cdrom", &[""]),
    };
    if !prefixes.iter().any(|prefix| target.starts_with(prefix)) {
        return Err(ValidateError::DiskName { kind, name: target.clone() });
    }
    match (disk.device, disk.bus()) {
        (DiskDevice::Cdrom, DiskBus::Virtio) => {
            return refuse(format!("disk type of '{target}' does not support ejectable media"));
        }
        (DiskDevice::Floppy, bus) if bus != DiskBus::Fdc => {
            return refuse(format!("Invalid bus type '{bus}' for floppy disk"));
        }
        (device, DiskBus::Fdc) if device != DiskDevice::Floppy => {
            return refuse(format!("Invalid bus type 'fdc' for disk '{target}'"));
        }
        (DiskDevice::Lun, bus) if bus != DiskBus::Scsi => {
            return refuse(format!("disk device='lun' is not supported for bus='{bus}'"));
        }
        (DiskDevice::Lun, _) => match &disk.source.location {
            Location::Block(_) => {}
            Location::Network(network) if network.protocol == SourceProtocol::Iscsi => {}
            Location::Network(network) => {
                let protocol = network.protocol;
                return refuse(format!("disk device='lun' is not supported for protocol='{protocol}'"));
            }
            Location::File(_) | Location::Volume { .. } => {
                return refuse("disk device='lun' is only valid for block type disk source".to_owned());
            }
        },
        (DiskDevice::Disk, DiskBus::Ide | DiskBus::Sata) if disk.readonly => {
            return refuse(format!("readonly {} disks are not supported", disk.bus()));
        }
        (DiskDevice::Disk | DiskDevice::Cdrom | DiskDevice::Floppy, _) => {}
    }
    images(disk, capabilities)?;
    face(disk)?;
    if let Some(wwn) = &disk.wwn {
        if !matches!(disk.bus(), DiskBus::Ide | DiskBus::Scsi) {
            return refuse("Only ide and scsi disk support wwn".to_owned());
        }
        if wwn.len() != 16 || !wwn.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return refuse(format!("wwn '{wwn}' of disk '{target}' is not 16 hexadecimal digits"));
        }
    }
    let Some(driver) = &disk.driver else { return Ok(()) };
    if let Some(name) = driver.name.as_deref().filter(|name| *name != "qemu") {
        return refuse(format!("unsupported driver name '{name}' for disk '{target}'"));
    }
    if driver.queues.is_some() && disk.bus() != DiskBus::Virtio {
        return refuse("queues attribute in disk driver element is only supported by virtio-blk".to_owned());
    }
    if driver.queue_size.is_some() && disk.bus() != DiskBus::Virtio {
        return refuse(
            "queue_size attribute in disk driver element is only supported by virtio-blk".to_owned(),
        );
    }
    let direct = matches!(driver.cache, Some(CacheMode::None | CacheMode::Directsync));
    if driver.io == Some(IoMode::Native) && !direct {
        return refuse("io='native' needs either no disk cache or directsync cache mode".to_owned());
    }
    Ok(())
}

/// What the images and their servers are.
fn images(disk: &Disk, capabilities: &Capabilities) -> Result<(), ValidateError> {
    let refuse = |text: String| Err(ValidateError::Disk(text));
    let mut below = disk.backing_store.as_ref();
    let backing = std::iter::from_fn(move || match below {
        Some(BackingStore::Image(image)) => {
            below = image.backing_store.as_ref();
            Some((&image.source, image.format.unwrap_or(ImageFormat::Raw)))
        }
        Some(BackingStore::End) | None => None,
    });
    for (source, format) in std::iter::once((&disk.source, disk.format())).chain(backing) {
        if let Some(network) = source.network()
            && !capabilities.block_drivers.contains_key(network.protocol.as_str())
        {
            let protocol = network.protocol;
            return refuse(format!("disk protocol '{protocol}' is not supported by this QEMU binary"));
        }
        if let Some(data) = &source.data_store {
            if format != ImageFormat::Qcow2 {
                return refuse("<dataStore> feature available only with qcow2 images".to_owned());
            }
            if data.format.is_some_and(|format| format != ImageFormat::Raw) {
                return refuse("only 'raw' images supported as <dataStore>".to_owned());
            }
        }
    }
    let Some(driver) = &disk.driver else { return Ok(()) };
    let is_raw = disk.format() == ImageFormat::Raw;
    if driver.metadata_cache.is_some() && is_raw {
        return refuse("metadata cache max size control is supported only with qcow2 images".to_owned());
    }
    if driver.discard_no_unref.is_some() {
        if is_raw {
            return refuse("'discard_no_unref' only works with qcow2 disk format".to_owned());
        }
        if disk.readonly {
            return refuse("'discard_no_unref' is not compatible with read-only disk".to_owned());
        }
        if !capabilities.block_driver_has("qcow2", "discard-no-unref") {
            return refuse("'discard_no_unref' is not supported by this QEMU binary".to_owned());
        }
    }
    if disk.copies_on_read() && disk.readonly {
        let target = &disk.target.dev;
        return refuse(format!("copy_on_read is not compatible with read-only disk '{target}'"));
    }
    Ok(())
}

/// What the guest reads of the drive.
fn face(disk: &Disk) -> Result<(), ValidateError> {
    const VENDOR_MAX: usize = 8;
    const PRODUCT_MAX: usize = 16;
    let bus = disk.bus();
    let refuse = |text: String| Err(ValidateError::Disk(text));
    for (name, value, longest) in
        [("vendor", &disk.vendor, VENDOR_MAX), ("product", &disk.product, PRODUCT_MAX)]
    {
        let Some(value) = value else { continue };
        if bus != DiskBus::Scsi {
            return refuse(format!("Only scsi disk supports '{name}'"));
        }
        if value.len() > longest {
            return refuse(format!("disk {name} is more than {longest} characters"));
        }
        if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return refuse(format!("disk {name} is not printable string"));
        }
    }
    let turns = matches!(bus, DiskBus::Scsi | DiskBus::Ide | DiskBus::Sata);
    if disk.target.rotation_rate.is_some() && !turns {
        return refuse("rotation rate is only valid for SCSI/IDE/SATA bus".to_owned());
    }
    if disk.target.removable.is_some() && !matches!(bus, DiskBus::Usb | DiskBus::Scsi) {
        return refuse("removable is only valid for usb or scsi disks".to_owned());
    }
    let translation = disk.geometry.as_ref().and_then(|shape| shape.translation);
    if translation.is_some() && bus != DiskBus::Ide {
        return refuse(format!("CHS translation mode can only be set for 'ide' bus not '{bus}'"));
    }
    Ok(())
}
