//! What a binary, or QEMU at all, cannot do with a completed definition.
//!
//! Called at define, at start and by the destination of a migration before anything is created, so that a
//! caller gets a sentence and not QEMU's last words. The texts are stock's where stock has one. Elements that
//! the model does not know, and contradictions within the XML, are refused by `ferry_domxml`.

mod disks;
mod virtio;

use std::collections::BTreeSet;

use ferry_domxml::address::DeviceInfo;
use ferry_domxml::controller::{ControllerKind, ScsiModel, UsbModel};
use ferry_domxml::cpu::CpuMode;
use ferry_domxml::disk::DiskBus;
use ferry_domxml::display::{Graphics, VideoType};
use ferry_domxml::filesystem::FileSystemServer;
use ferry_domxml::interface::InterfaceModel;
use ferry_domxml::memory_device::MemoryModel;
use ferry_domxml::misc::{BalloonModel, WatchdogModel};
use ferry_domxml::small_devices::PanicModel;
use ferry_domxml::{Domain, DomainKind, YesNo};

use crate::capabilities::{Accelerator, Capabilities};
use crate::command_line::{codecs, memory_driver, sound_driver};
use crate::complete::is_ich9;
use crate::host_model::{self, NoHostModel};
use crate::machine::{self, MachineError};

/// What stands in the way of a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// A machine family that is not supported.
    #[error(transparent)]
    Family(#[from] MachineError),
    /// The binary does not have the machine type.
    #[error("unsupported configuration: Emulator '{emulator}' does not support machine type '{machine}'")]
    MachineType {
        /// Path of the binary.
        emulator: String,
        /// The machine type.
        machine: String,
    },
    /// The binary cannot use the accelerator on this host.
    #[error("unsupported configuration: Emulator '{emulator}' does not support virt type '{kind}'")]
    VirtType {
        /// Path of the binary.
        emulator: String,
        /// `qemu` or `kvm`.
        kind: &'static str,
    },
    /// The binary does not have the device.
    #[error("unsupported configuration: {what} model '{device}' is not supported by this QEMU binary")]
    Device {
        /// Kind of device.
        what: &'static str,
        /// QEMU's name of it.
        device: &'static str,
    },
    /// The host's CPU has no name.
    #[error(transparent)]
    HostModel(#[from] NoHostModel),
    /// A CPU mode that needs the host's processor.
    #[error(
        "unsupported configuration: CPU mode '{mode}' for x86_64 {kind} domain on x86_64 host is not supported by hypervisor"
    )]
    CpuMode {
        /// The mode.
        mode: &'static str,
        /// `qemu` or `kvm`.
        kind: &'static str,
    },
    /// The binary does not have the CPU model.
    #[error("unsupported configuration: CPU model '{0}' is not supported by this QEMU binary")]
    CpuModel(String),
    /// A name with characters that mean something to QEMU.
    #[error("unsupported configuration: {what} '{word}' is not a name")]
    Word {
        /// What is named.
        what: &'static str,
        /// The name.
        word: String,
    },
    /// More CPUs than the machine takes.
    #[error("unsupported configuration: Maximum CPUs greater than specified machine type limit {0}")]
    Vcpus(u32),
    /// Two disks at one place.
    #[error(
        "unsupported configuration: Found duplicate drive address for disk with target name '{target}' controller='{controller}' bus='{bus}' target='{scsi_target}' unit='{unit}'"
    )]
    Drive {
        /// Name of the disk.
        target: String,
        /// Of the address.
        controller: u32,
        /// Of the address.
        bus: u32,
        /// Of the address.
        scsi_target: u32,
        /// Of the address.
        unit: u32,
    },
    /// A disk that cannot be what it is called.
    #[error("unsupported configuration: {0}")]
    Disk(String),
    /// A name that says of a disk what it is not; of a CD drive it may be any. Stock reports it as an internal error.
    #[error("internal error: Invalid {kind} device name: {name}")]
    DiskName {
        /// `harddisk` or `floppy`.
        kind: &'static str,
        /// Its target.
        name: String,
    },
    /// An option that only virtio devices have.
    #[error("unsupported configuration: {0} driver option is only supported for virtio devices")]
    VirtioOption(&'static str),
    /// A thread that a device is to have and that is not there.
    #[error("unsupported configuration: {0}")]
    Thread(String),
    /// Two devices of one name.
    #[error("unsupported configuration: non unique alias detected: {0}")]
    Alias(String),
    /// A graphics card that only the firmware's first one can be.
    #[error("unsupported configuration: video type '{0}' is only valid as primary video device")]
    Secondary(&'static str),
    /// More than one VNC server.
    #[error(
        "unsupported configuration: only 1 graphics device of each type (sdl, vnc, spice, headless, dbus) is supported"
    )]
    Graphics,
    /// Secure boot without the chipset that has it.
    #[error("unsupported configuration: Secure boot is supported with q35 machine types only")]
    SecureBoot,
    /// The firmware's screen has nowhere to go.
    #[error("XML error: need at least one serial port to use BIOS serial output")]
    BiosSerial,
    /// Memory in several pieces, which came with QEMU 8.2.
    #[error("unsupported configuration: dynamic memory slots are not supported by this QEMU binary")]
    DynamicSlots,
    /// A companion without its master.
    #[error("XML error: No master USB controller specified")]
    UsbMaster,
}

/// Refuses a completed definition that this binary cannot run.
///
/// # Errors
/// The first of the [`problems`].
pub fn validate(domain: &Domain, capabilities: &Capabilities) -> Result<(), ValidateError> {
    problems(domain, capabilities).into_iter().next().map_or(Ok(()), Err)
}

/// All that this binary cannot run of a completed definition; see [`ValidateError`].
pub fn problems(domain: &Domain, capabilities: &Capabilities) -> Vec<ValidateError> {
    if let Err(error) = machine::family(domain) {
        return vec![error.into()];
    }
    let checks = [
        board(domain, capabilities),
        processor(domain, capabilities),
        bios(domain),
        firmware(domain),
        disks::check(domain, capabilities),
        virtio::options(domain),
        virtio::threads(domain, capabilities),
        aliases(domain),
        display(domain),
        usb(domain),
        memory_devices(domain, capabilities),
    ];
    let mut found: Vec<_> = checks.into_iter().filter_map(Result::err).collect();
    let missing = needed_devices(domain).into_iter().filter(|(_, device)| !capabilities.has_device(device));
    found.extend(missing.map(|(what, device)| ValidateError::Device { what, device }));
    found
}

fn accelerator(domain: &Domain) -> (Accelerator, &'static str) {
    match domain.kind {
        DomainKind::Qemu => (Accelerator::Tcg, "qemu"),
        DomainKind::Kvm => (Accelerator::Kvm, "kvm"),
    }
}

fn board(domain: &Domain, capabilities: &Capabilities) -> Result<(), ValidateError> {
    let emulator = || domain.devices.emulator.clone().unwrap_or_default();
    let (accelerator, kind) = accelerator(domain);
    if !capabilities.has_accelerator(accelerator) {
        return Err(ValidateError::VirtType { emulator: emulator(), kind });
    }
    let name = domain.os.machine.machine.as_deref().unwrap_or_default();
    let Some(machine) = capabilities.machine(name) else {
        return Err(ValidateError::MachineType { emulator: emulator(), machine: name.to_owned() });
    };
    if domain.vcpus.max > machine.cpus_max {
        return Err(ValidateError::Vcpus(machine.cpus_max));
    }
    Ok(())
}

fn processor(domain: &Domain, capabilities: &Capabilities) -> Result<(), ValidateError> {
    let (accelerator, kind) = accelerator(domain);
    let Some(cpu) = &domain.cpu else { return Ok(()) };
    if let Some(feature) = cpu.features.iter().find(|feature| !is_word(&feature.name)) {
        return Err(ValidateError::Word { what: "CPU feature", word: feature.name.clone() });
    }
    match cpu.mode() {
        mode @ CpuMode::HostPassthrough if domain.kind == DomainKind::Qemu => {
            Err(ValidateError::CpuMode { mode: mode.as_str(), kind })
        }
        // Expanded at every start anew; here it is only asked whether it can be.
        CpuMode::HostModel => Ok(host_model::host_model(domain.kind, capabilities).map(drop)?),
        CpuMode::HostPassthrough | CpuMode::Maximum => Ok(()),
        CpuMode::Custom => match cpu.model.as_ref().and_then(|model| model.name.as_deref()) {
            Some(model) if capabilities.cpu_model(accelerator, model).is_none() => {
                Err(ValidateError::CpuModel(model.to_owned()))
            }
            _ => Ok(()),
        },
    }
}

fn bios(domain: &Domain) -> Result<(), ValidateError> {
    let on_serial = domain.os.bios.as_ref().and_then(|bios| bios.use_serial).is_some_and(|on| on.is_yes());
    if on_serial && domain.devices.serials.is_empty() { Err(ValidateError::BiosSerial) } else { Ok(()) }
}

fn firmware(domain: &Domain) -> Result<(), ValidateError> {
    let is_secure = domain.os.loader.as_ref().is_some_and(|loader| loader.secure == Some(YesNo::Yes));
    match machine::family(domain)? {
        machine::Family::Pc if is_secure => Err(ValidateError::SecureBoot),
        machine::Family::Pc | machine::Family::Q35 => Ok(()),
    }
}

/// Names that the user chose are used once; the others are ours to give.
fn aliases(domain: &Domain) -> Result<(), ValidateError> {
    let devices = &domain.devices;
    let mut infos: Vec<&DeviceInfo> = Vec::new();
    infos.extend(devices.disks.iter().map(|device| &device.info));
    infos.extend(devices.controllers.iter().map(|device| &device.info));
    infos.extend(devices.filesystems.iter().map(|device| &device.info));
    infos.extend(devices.interfaces.iter().map(|device| &device.info));
    infos.extend(devices.serials.iter().map(|device| &device.info));
    infos.extend(devices.channels.iter().map(|device| &device.info));
    // The first console may be the first serial port over again, name included.
    infos.extend(devices.consoles.iter().skip(1).map(|device| &device.info));
    infos.extend(devices.inputs.iter().map(|device| &device.info));
    infos.extend(devices.tpms.iter().map(|device| &device.info));
    infos.extend(devices.videos.iter().map(|device| &device.info));
    infos.extend(devices.watchdogs.iter().map(|device| &device.info));
    infos.extend(devices.memballoon.iter().map(|device| &device.info));
    infos.extend(devices.rngs.iter().map(|device| &device.info));
    infos.extend(devices.sounds.iter().map(|device| &device.info));
    infos.extend(devices.panics.iter().map(|device| &device.info));
    infos.extend(devices.memories.iter().map(|device| &device.info));
    infos.extend(devices.redirdevs.iter().map(|device| &device.info));
    infos.extend(devices.hubs.iter().map(|device| &device.info));
    infos.extend(devices.vsock.iter().map(|device| &device.info));
    infos.extend(devices.pstore.iter().map(|device| &device.info));
    let mut seen = BTreeSet::new();
    for alias in infos.into_iter().filter_map(DeviceInfo::user_alias) {
        if !seen.insert(alias) {
            return Err(ValidateError::Alias(alias.to_owned()));
        }
    }
    Ok(())
}

/// QEMU's older option syntax gives other characters a meaning, or a keyboard layout another folder.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) && !text.starts_with('.')
}

fn display(domain: &Domain) -> Result<(), ValidateError> {
    for Graphics::Vnc(vnc) in &domain.devices.graphics {
        if let Some(keymap) = vnc.keymap.as_deref().filter(|keymap| !is_word(keymap)) {
            return Err(ValidateError::Word { what: "keymap", word: keymap.to_owned() });
        }
    }
    if domain.devices.graphics.len() > 1 {
        return Err(ValidateError::Graphics);
    }
    let secondary = domain.devices.videos.iter().skip(1).find(|video| video.model.kind != VideoType::Virtio);
    match secondary {
        Some(video) => Err(ValidateError::Secondary(video.model.kind.as_str())),
        None => Ok(()),
    }
}

/// A companion has ports only through its master.
fn usb(domain: &Domain) -> Result<(), ValidateError> {
    let controllers = &domain.devices.controllers;
    let is_master = |kind| kind == ControllerKind::Usb(Some(UsbModel::Ich9Ehci1));
    let orphan =
        controllers.iter().filter(|one| is_ich9(one.kind) && !is_master(one.kind)).any(|companion| {
            let master =
                controllers.iter().any(|other| is_master(other.kind) && other.index == companion.index);
            !master || companion.master_start_port.is_none()
        });
    if orphan { Err(ValidateError::UsbMaster) } else { Ok(()) }
}

/// Parts of memory devices that not every QEMU has.
fn memory_devices(domain: &Domain, capabilities: &Capabilities) -> Result<(), ValidateError> {
    let in_slots = domain.devices.memories.iter().any(|memory| memory.target.dynamic_slots.is_some());
    if in_slots && !capabilities.device_has(memory_driver(MemoryModel::VirtioMem), "dynamic-memslots") {
        return Err(ValidateError::DynamicSlots);
    }
    Ok(())
}

/// The devices without which the domain does not start, with stock's word for their kind.
fn needed_devices(domain: &Domain) -> Vec<(&'static str, &'static str)> {
    let devices = &domain.devices;
    let mut needed = Vec::new();
    for controller in &devices.controllers {
        let device = match controller.kind {
            ControllerKind::Usb(Some(model)) => match model {
                UsbModel::Piix3Uhci => "piix3-usb-uhci",
                UsbModel::Piix4Uhci => "piix4-usb-uhci",
                UsbModel::PciOhci => "pci-ohci",
                UsbModel::Ehci => "usb-ehci",
                UsbModel::Ich9Ehci1 => "ich9-usb-ehci1",
                UsbModel::Ich9Uhci1 => "ich9-usb-uhci1",
                UsbModel::Ich9Uhci2 => "ich9-usb-uhci2",
                UsbModel::Ich9Uhci3 => "ich9-usb-uhci3",
                UsbModel::NecXhci => "nec-usb-xhci",
                UsbModel::QemuXhci => "qemu-xhci",
                UsbModel::None => continue,
            },
            ControllerKind::Scsi(Some(ScsiModel::Lsilogic)) => "lsi53c895a",
            ControllerKind::Scsi(Some(ScsiModel::LsiSas1068)) => "mptsas1068",
            ControllerKind::Scsi(Some(ScsiModel::LsiSas1078)) => "megasas",
            ControllerKind::Scsi(Some(ScsiModel::VmPvscsi)) => "pvscsi",
            ControllerKind::Scsi(Some(_)) => "virtio-scsi-pci",
            ControllerKind::VirtioSerial(_) => "virtio-serial-pci",
            _ => continue,
        };
        needed.push(("controller", device));
    }
    for file_system in &devices.filesystems {
        needed.push((
            "filesystem",
            match file_system.served_by() {
                FileSystemServer::Path => "virtio-9p-pci",
                FileSystemServer::Virtiofs => "vhost-user-fs-pci",
            },
        ));
    }
    for card in &devices.interfaces {
        needed.push((
            "interface",
            match card.model {
                Some(InterfaceModel::E1000) => "e1000",
                Some(InterfaceModel::E1000e) => "e1000e",
                Some(InterfaceModel::Rtl8139) => "rtl8139",
                Some(_) => "virtio-net-pci",
                None => continue,
            },
        ));
    }
    needed.extend(
        devices.disks.iter().filter(|disk| disk.bus() == DiskBus::Virtio).map(|_| ("disk", "virtio-blk-pci")),
    );
    for (at, video) in devices.videos.iter().enumerate() {
        needed.push((
            "video",
            match video.model.kind {
                VideoType::Vga => "VGA",
                VideoType::Cirrus => "cirrus-vga",
                VideoType::Bochs => "bochs-display",
                VideoType::Virtio if at == 0 => "virtio-vga",
                VideoType::Virtio => "virtio-gpu-pci",
                VideoType::None => continue,
            },
        ));
    }
    for watchdog in &devices.watchdogs {
        match watchdog.model {
            WatchdogModel::I6300esb => needed.push(("watchdog", "i6300esb")),
            WatchdogModel::Ib700 => needed.push(("watchdog", "ib700")),
            WatchdogModel::Itco => {}
        }
    }
    if devices.memballoon.as_ref().is_some_and(|balloon| balloon.model != BalloonModel::None) {
        needed.push(("memballoon", "virtio-balloon-pci"));
    }
    needed.extend(devices.rngs.iter().map(|_| ("rng", "virtio-rng-pci")));
    needed.extend(devices.redirdevs.iter().map(|_| ("redirdev", "usb-redir")));
    needed.extend(devices.hubs.iter().map(|_| ("hub", "usb-hub")));
    needed.extend(devices.memories.iter().map(|memory| ("memory", memory_driver(memory.model))));
    for sound in &devices.sounds {
        needed.push(("sound", sound_driver(sound.model)));
        needed.extend(codecs(sound).into_iter().map(|codec| ("sound codec", codec)));
    }
    needed.extend(devices.panics.iter().filter_map(|panic| match panic.model {
        Some(PanicModel::Isa) => Some(("panic", "pvpanic")),
        Some(PanicModel::PvPanic) => Some(("panic", "pvpanic-pci")),
        None | Some(PanicModel::HyperV) => None,
    }));
    needed.extend(devices.tpms.iter().map(|tpm| ("tpm", tpm.model().as_str())));
    needed.extend(devices.vsock.iter().map(|_| ("vsock", "vhost-vsock-pci")));
    needed.extend(domain.genid.iter().map(|_| ("genid", "vmgenid")));
    needed
}
