//! Names of the devices in the running guest: QEMU's ids.
//!
//! An id travels in the migration stream as the path of the device's state, so it is part of the guest ABI
//! and given out by stock's rules. A name that the user chose (`ua-…`) stays. Called once when a domain is
//! about to start, after it was completed; the live definition then carries the names.

use ferry_domxml::Domain;
use ferry_domxml::address::DeviceInfo;
use ferry_domxml::chardev::ConsoleTargetType;
use ferry_domxml::controller::{Controller, ControllerKind, ControllerType, PciModel, ScsiModel};
use ferry_domxml::disk::{Disk, DiskBus};
use ferry_domxml::display::VideoType;
use ferry_domxml::memory_device::MemoryModel;

use crate::complete::mirror_console;
use crate::machine::{self, Family, MachineError};

/// Names every device that has no name yet.
///
/// # Errors
/// The machine type is not of a known family.
pub fn assign(domain: &mut Domain) -> Result<(), MachineError> {
    let family = machine::family(domain)?;
    let devices = &mut domain.devices;

    for controller in &mut devices.controllers {
        name(&mut controller.info, || controller_alias(controller.kind, controller.index, family));
    }
    for at in 0..devices.disks.len() {
        let alias = disk_alias(&devices.disks[at], &devices.controllers);
        name(&mut devices.disks[at].info, || alias);
    }
    for (at, file_system) in devices.filesystems.iter_mut().enumerate() {
        name(&mut file_system.info, || format!("fs{at}"));
    }
    count(devices.interfaces.iter_mut().map(|card| &mut card.info).collect(), "net");
    for (at, serial) in devices.serials.iter_mut().enumerate() {
        name(&mut serial.info, || format!("serial{at}"));
    }
    for (at, channel) in devices.channels.iter_mut().enumerate() {
        name(&mut channel.info, || format!("channel{at}"));
    }
    for (at, console) in devices.consoles.iter_mut().enumerate() {
        let is_serial = console.target.as_ref().is_none_or(|target| target.kind == ConsoleTargetType::Serial);
        // The serial port's name, which mirroring brings.
        if !is_serial {
            name(&mut console.info, || format!("console{at}"));
        }
    }
    for (at, input) in devices.inputs.iter_mut().enumerate() {
        name(&mut input.info, || format!("input{at}"));
    }
    for tpm in &mut devices.tpms {
        name(&mut tpm.info, || "tpm0".to_owned());
    }
    for (at, video) in devices.videos.iter_mut().enumerate() {
        if video.model.kind != VideoType::None {
            name(&mut video.info, || format!("video{at}"));
        }
    }
    for (at, watchdog) in devices.watchdogs.iter_mut().enumerate() {
        name(&mut watchdog.info, || format!("watchdog{at}"));
    }
    if let Some(balloon) = &mut devices.memballoon {
        name(&mut balloon.info, || "balloon0".to_owned());
    }
    for (at, sound) in devices.sounds.iter_mut().enumerate() {
        name(&mut sound.info, || format!("sound{at}"));
    }
    for (at, panic) in devices.panics.iter_mut().enumerate() {
        name(&mut panic.info, || format!("panic{at}"));
    }
    for memory in devices.memories.iter_mut().filter(|memory| memory.is_module()) {
        let prefix = if memory.model == MemoryModel::Nvdimm { "nvdimm" } else { "dimm" };
        // By its slot, which nobody else has.
        if let Some(slot) = memory.slot() {
            name(&mut memory.info, || format!("{prefix}{slot}"));
        }
    }
    count(devices.redirdevs.iter_mut().map(|device| &mut device.info).collect(), "redir");
    count(devices.hubs.iter_mut().map(|device| &mut device.info).collect(), "hub");
    for (model, prefix) in [(MemoryModel::VirtioMem, "virtiomem"), (MemoryModel::VirtioPmem, "virtiopmem")] {
        let of_model = devices.memories.iter_mut().filter(|memory| memory.model == model);
        count(of_model.map(|memory| &mut memory.info).collect(), prefix);
    }
    if let Some(vsock) = &mut devices.vsock {
        name(&mut vsock.info, || "vsock0".to_owned());
    }
    if let Some(pstore) = &mut devices.pstore {
        name(&mut pstore.info, || "pstore0".to_owned());
    }
    count(devices.rngs.iter_mut().map(|rng| &mut rng.info).collect(), "rng");
    mirror_console(domain);
    Ok(())
}

fn name(info: &mut DeviceInfo, alias: impl FnOnce() -> String) {
    info.alias.get_or_insert_with(alias);
}

/// Numbers go on behind the highest that is in use, so that a device that is plugged in never takes the name
/// of one that left while another stays.
fn count(infos: Vec<&mut DeviceInfo>, prefix: &str) {
    let used =
        infos.iter().filter_map(|info| info.alias.as_deref()?.strip_prefix(prefix)?.parse::<u32>().ok());
    let mut next = used.max().map_or(0, |last| last.saturating_add(1));
    for info in infos {
        name(info, || {
            let alias = format!("{prefix}{next}");
            next = next.saturating_add(1);
            alias
        });
    }
}

fn controller_alias(kind: ControllerKind, index: Option<u32>, family: Family) -> String {
    let index = index.unwrap_or(0);
    let controller_type = kind.controller_type();
    match (controller_type, index, family) {
        (ControllerType::Pci, ..) => match kind {
            ControllerKind::Pci(Some(PciModel::PcieRoot)) => format!("pcie.{index}"),
            _ => format!("pci.{index}"),
        },
        (ControllerType::Usb, 0, _) => "usb".to_owned(),
        // The chipset's own, whose buses QEMU names `ide.N`.
        (ControllerType::Ide, 0, Family::Pc) | (ControllerType::Sata, 0, Family::Q35) => "ide".to_owned(),
        _ => format!("{controller_type}{index}"),
    }
}

fn disk_alias(disk: &Disk, controllers: &[Controller]) -> String {
    let bus = disk.bus();
    let number = disk.target.index().unwrap_or(0);
    let Some(drive) = disk.drive_address() else {
        let bus = if bus == DiskBus::Usb { "usb" } else { "virtio" };
        return format!("{bus}-disk{number}");
    };
    let has_targets =
        bus == DiskBus::Scsi && scsi_model(controllers, drive.controller) != Some(ScsiModel::Lsilogic);
    if has_targets {
        return format!("scsi{}-{}-{}-{}", drive.controller, drive.bus, drive.target, drive.unit);
    }
    format!("{bus}{}-{}-{}", drive.controller, drive.bus, drive.unit)
}

/// Model of a SCSI controller.
pub(crate) fn scsi_model(controllers: &[Controller], index: u32) -> Option<ScsiModel> {
    controllers.iter().find_map(|controller| match controller.kind {
        ControllerKind::Scsi(model) if controller.index == Some(index) => model,
        _ => None,
    })
}
