//! Options and threads that only some devices take.

use ferry_domxml::Domain;
use ferry_domxml::controller::ControllerKind;
use ferry_domxml::disk::DiskBus;
use ferry_domxml::display::VideoType;
use ferry_domxml::input_device::InputBus;
use ferry_domxml::interface::{InterfaceDriver, InterfaceModel};
use ferry_domxml::virtio::{VirtioDriver, VirtioOptions};

use super::ValidateError;
use crate::capabilities::Capabilities;

/// Options of the virtio family on a device of another, which has no such thing.
pub(super) fn options(domain: &Domain) -> Result<(), ValidateError> {
    let devices = &domain.devices;
    for disk in devices.disks.iter().filter(|disk| disk.bus() != DiskBus::Virtio) {
        let Some(driver) = &disk.driver else { continue };
        for (name, is_set) in
            [("ioeventfd", driver.ioeventfd.is_some()), ("event_idx", driver.event_idx.is_some())]
        {
            if is_set {
                return Err(ValidateError::Disk(format!("disk {name} mode supported only for virtio bus")));
            }
        }
        none(&driver.virtio)?;
    }
    for controller in &devices.controllers {
        let Some(driver) = &controller.driver else { continue };
        match controller.kind {
            ControllerKind::VirtioSerial(_) => {}
            ControllerKind::Scsi(Some(model)) if model.is_virtio() => continue,
            _ => none(&driver.virtio)?,
        }
        for (name, is_set) in [
            ("queues", driver.queues.is_some()),
            ("cmd_per_lun", driver.cmd_per_lun.is_some()),
            ("max_sectors", driver.max_sectors.is_some()),
        ] {
            if is_set {
                let text = format!("'{name}' is only supported by virtio-scsi controller");
                return Err(ValidateError::Disk(text));
            }
        }
        if driver.ioeventfd.is_some() || driver.iothread.is_some() {
            let kind = controller.kind.controller_type();
            return Err(ValidateError::Thread(format!(
                "ioeventfd and iothread are only supported for virtio-scsi controllers, not for '{kind}'"
            )));
        }
    }
    for card in &devices.interfaces {
        let is_virtio = card.model.is_some_and(InterfaceModel::is_virtio);
        if let Some(driver) = card.driver.as_ref().filter(|_| !is_virtio) {
            no_card_option(driver)?;
        }
    }
    let plain = |driver: &Option<VirtioDriver>| driver.as_ref().map_or(Ok(()), |driver| none(&driver.virtio));
    let inputs = devices.inputs.iter().filter(|input| input.bus != Some(InputBus::Virtio));
    inputs.map(|input| &input.driver).try_for_each(plain)?;
    let videos = devices.videos.iter().filter(|video| video.model.kind != VideoType::Virtio);
    videos.map(|video| &video.driver).try_for_each(plain)
}

fn none(options: &VirtioOptions) -> Result<(), ValidateError> {
    let set = [
        ("iommu", options.iommu.is_some()),
        ("ats", options.ats.is_some()),
        ("packed", options.packed.is_some()),
        ("page_per_vq", options.page_per_vq.is_some()),
    ];
    match set.into_iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => Err(ValidateError::VirtioOption(name)),
        None => Ok(()),
    }
}

/// What only a virtio card has, beyond what stock overlooks on others: queues and their sizes.
fn no_card_option(driver: &InterfaceDriver) -> Result<(), ValidateError> {
    none(&driver.virtio)?;
    let set = [
        ("txmode", driver.tx_mode.is_some()),
        ("ioeventfd", driver.ioeventfd.is_some()),
        ("event_idx", driver.event_idx.is_some()),
        ("rss", driver.rss.is_some()),
        ("rss_hash_report", driver.rss_hash_report.is_some()),
        ("host", driver.host.is_some()),
        ("guest", driver.guest.is_some()),
    ];
    match set.into_iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => Err(ValidateError::VirtioOption(name)),
        None => Ok(()),
    }
}

/// Every thread that serves something is there.
pub(super) fn threads(domain: &Domain, capabilities: &Capabilities) -> Result<(), ValidateError> {
    let known = domain.iothread_numbers();
    for disk in &domain.devices.disks {
        let Some(driver) = &disk.driver else { continue };
        let dev = &disk.target.dev;
        let mapped = driver.iothreads.as_ref().map_or(&[][..], |mapping| &mapping.threads);
        let mut wanted = driver.iothread.into_iter().chain(mapped.iter().map(|thread| thread.id)).peekable();
        if wanted.peek().is_none() {
            continue;
        }
        if disk.bus() != DiskBus::Virtio {
            let text = format!("IOThreads not available for bus {} target {dev}", disk.bus());
            return Err(ValidateError::Thread(text));
        }
        if let Some(id) = wanted.find(|id| !known.contains(id)) {
            return Err(ValidateError::Thread(format!("Disk iothread '{id}' not defined in iothreadid")));
        }
        if driver.iothread.is_some() && driver.iothreads.is_some() {
            let text = format!("disk '{dev}' has both one iothread and a mapping to several");
            return Err(ValidateError::Thread(text));
        }
        if driver.iothreads.is_some() && !capabilities.device_has("virtio-blk-pci", "iothread-vq-mapping") {
            let text = "IOThread mapping for disk is not available with this QEMU binary";
            return Err(ValidateError::Thread(text.to_owned()));
        }
    }
    let controllers = domain.devices.controllers.iter().filter_map(|controller| controller.driver.as_ref());
    match controllers.filter_map(|driver| driver.iothread).find(|id| !known.contains(id)) {
        Some(id) => {
            Err(ValidateError::Thread(format!("controller iothread '{id}' not defined in iothreadid")))
        }
        None => Ok(()),
    }
}
