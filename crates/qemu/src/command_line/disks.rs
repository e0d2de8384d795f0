//! Disks: the block graph of each, then the device on top of it.

use ferry_domxml::controller::{ControllerType, ScsiModel};
use ferry_domxml::disk::{CacheMode, Disk, DiskBus, DiskDevice, DiskIoThread, DiskIoThreads, ErrorPolicy};

use super::threads::iothread_name;
use super::virtio::{virtio_driver, virtio_options};
use super::{Builder, CommandLineError, alias, incomplete};
use crate::aliases::scsi_model;
use crate::blockgraph::{cache_mode, needed, nodes};
use crate::props::Props;

impl Builder<'_> {
    pub(super) fn disks(&mut self) -> Result<(), CommandLineError> {
        for (at, disk) in self.domain.devices.disks.iter().enumerate() {
            let graph = nodes(disk)?;
            for secret in needed(disk) {
                let sealed = self.launch.secrets.get(&secret.object);
                let sealed = sealed.ok_or_else(|| CommandLineError::NoSecret(secret.object.clone()))?;
                self.option("-object", sealed.object(&secret.object));
            }
            for node in &graph.blockdevs {
                self.option("-blockdev", node);
            }
            let props = self.disk_props(disk, self.boot.disks.get(&at).copied(), graph.top)?;
            self.device(&props);
        }
        Ok(())
    }

    pub(super) fn disk_props(
        &self,
        disk: &Disk,
        boot: Option<u32>,
        node: Option<String>,
    ) -> Result<Props, CommandLineError> {
        let bus = disk.bus();
        let name = alias(&disk.info, "disk")?;
        let props = self.disk_place(disk, bus, name)?;
        let props = props
            .with_some("share-rw", disk.shareable.then_some(true))
            .with_some("drive", node)
            .with("id", name);
        // A floppy's boot index is told to its controller.
        let boot = boot.filter(|_| bus != DiskBus::Fdc);
        let sizes = disk.block_io.as_ref();
        let wwn = disk.wwn.as_deref().and_then(|wwn| u64::from_str_radix(wwn, 16).ok());
        let removable = disk.target.removable.map(|on| on.is_on()).or((bus == DiskBus::Usb).then_some(false));
        let write_cache = match cache_mode(disk) {
            _ if disk.device == DiskDevice::Lun => None,
            None => None,
            Some(CacheMode::Writethrough | CacheMode::Directsync) => Some("off"),
            Some(_) => Some("on"),
        };
        let (write_error, read_error) = error_policies(disk);
        let shape = disk.geometry.as_ref();
        let translation = shape.and_then(|shape| shape.translation).map(|translation| translation.as_str());
        Ok(props
            .with_some("bootindex", boot)
            .with_some("logical_block_size", sizes.and_then(|sizes| sizes.logical_block_size))
            .with_some("physical_block_size", sizes.and_then(|sizes| sizes.physical_block_size))
            .with_some("discard_granularity", sizes.and_then(|sizes| sizes.discard_granularity))
            .with_some("cyls", shape.map(|shape| shape.cylinders))
            .with_some("heads", shape.map(|shape| shape.heads))
            .with_some("secs", shape.map(|shape| shape.sectors))
            .with_some("bios-chs-trans", translation)
            .with_some("wwn", wwn)
            .with_some("rotation_rate", disk.target.rotation_rate)
            .with_some("vendor", disk.vendor.as_deref())
            .with_some("product", disk.product.as_deref())
            .with_some("removable", removable)
            .with_some("write-cache", write_cache)
            .with_some("serial", disk.serial.as_deref())
            .with_some("werror", write_error)
            .with_some("rerror", read_error))
    }

    /// Driver and place of a disk.
    fn disk_place(&self, disk: &Disk, bus: DiskBus, name: &str) -> Result<Props, CommandLineError> {
        let cdrom = disk.device == DiskDevice::Cdrom;
        match bus {
            DiskBus::Virtio => {
                let driver = disk.driver.as_ref();
                let props = Props::driver(virtio_driver("virtio-blk-pci", disk.model))
                    .with_some("num-queues", driver.and_then(|driver| driver.queues))
                    .with_some("queue-size", driver.and_then(|driver| driver.queue_size))
                    .with_some("ioeventfd", driver.and_then(|driver| driver.ioeventfd).map(|on| on.is_on()))
                    .with_some("event_idx", driver.and_then(|driver| driver.event_idx).map(|on| on.is_on()))
                    .with_some("iothread", driver.and_then(|driver| driver.iothread).map(iothread_name))
                    .with_some(
                        "iothread-vq-mapping",
                        driver.and_then(|driver| driver.iothreads.as_ref()).map(mapping),
                    );
                let props = virtio_options(props, driver.map(|driver| &driver.virtio));
                self.pci(props, &disk.info, "disk")
            }
            DiskBus::Usb => self.usb(Props::driver("usb-storage"), &disk.info, "disk"),
            DiskBus::Ide | DiskBus::Sata | DiskBus::Scsi | DiskBus::Fdc => {
                let drive = disk.drive_address().ok_or_else(|| incomplete(name, "drive address"))?;
                let ide = Props::driver(if cdrom { "ide-cd" } else { "ide-hd" });
                Ok(match bus {
                    DiskBus::Ide => ide.with("bus", format!("ide.{}", drive.bus)).with("unit", drive.unit),
                    DiskBus::Sata => {
                        ide.with("bus", format!("{}.{}", self.sata_bus(drive.controller)?, drive.unit))
                    }
                    DiskBus::Fdc => Props::driver("floppy").with("unit", drive.unit),
                    _ => self.scsi_place(disk, name, drive)?,
                })
            }
        }
    }

    /// The chipset's SATA controller has QEMU's own name, whatever the user calls it.
    fn sata_bus(&self, index: u32) -> Result<&str, CommandLineError> {
        if self.family == crate::machine::Family::Q35 && index == 0 {
            return Ok("ide");
        }
        Ok(self.controller(ControllerType::Sata, index, "sata controller")?.1)
    }

    fn scsi_place(
        &self,
        disk: &Disk,
        name: &str,
        drive: ferry_domxml::address::DriveAddress,
    ) -> Result<Props, CommandLineError> {
        let driver = match disk.device {
            DiskDevice::Lun => "scsi-block",
            DiskDevice::Cdrom => "scsi-cd",
            DiskDevice::Disk | DiskDevice::Floppy => "scsi-hd",
        };
        let (_, controller) = self.controller(ControllerType::Scsi, drive.controller, "scsi controller")?;
        let props = Props::driver(driver).with("bus", format!("{controller}.0"));
        let props = match scsi_model(&self.domain.devices.controllers, drive.controller) {
            Some(ScsiModel::Lsilogic) => props.with("scsi-id", drive.unit),
            _ => props.with("channel", drive.bus).with("scsi-id", drive.target).with("lun", drive.unit),
        };
        // What the guest reads as the drive's identification; a host device has its own.
        let identification = match &disk.serial {
            _ if disk.device == DiskDevice::Lun => None,
            Some(serial) => Some(serial.clone()),
            None => Some(format!("drive-{name}")),
        };
        Ok(props.with_some("device_id", identification))
    }
}

/// Which thread serves which queue.
fn mapping(threads: &DiskIoThreads) -> Vec<Props> {
    let thread = |thread: &DiskIoThread| {
        let queues = (!thread.queues.is_empty()).then(|| thread.queues.clone());
        Props::new().with("iothread", iothread_name(thread.id)).with_some("vqs", queues)
    };
    threads.threads.iter().map(thread).collect()
}

/// What to do on an error in writing and in reading.
fn error_policies(disk: &Disk) -> (Option<&'static str>, Option<&'static str>) {
    let driver = disk.driver.as_ref();
    let write = driver.and_then(|driver| driver.error_policy);
    let read = driver.and_then(|driver| driver.rerror_policy);
    match write {
        // Only writing can run out of space.
        Some(ErrorPolicy::Enospace) => (Some("enospc"), read.map(ErrorPolicy::as_str)),
        write => (write.map(ErrorPolicy::as_str), read.or(write).map(ErrorPolicy::as_str)),
    }
}
