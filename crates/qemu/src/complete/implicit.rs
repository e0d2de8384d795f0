//! What a guest gets without being asked: the chipset's devices, a pointer and a keyboard, the balloon, the
//! controllers that other devices need.

use ferry_domxml::address::{Address, DeviceInfo, VirtioSerialAddress};
use ferry_domxml::chardev::{
    ChannelTargetType, Console, ConsoleTarget, ConsoleTargetType, Serial, SerialTargetType,
};
use ferry_domxml::controller::{ControllerKind, ControllerType, UsbModel};
use ferry_domxml::disk::DiskBus;
use ferry_domxml::display::{Audio, AudioType, Video, VideoModel, VideoType};
use ferry_domxml::input_device::{InputBus, InputDevice, InputType};
use ferry_domxml::misc::{BalloonModel, MemBalloon, RngBackend, Watchdog, WatchdogAction, WatchdogModel};
use ferry_domxml::{Domain, Rest};

use super::controllers::{ensure, scsi_model};
use super::{CompleteError, Origin};
use crate::capabilities::Capabilities;
use crate::machine::Family;

/// The devices that every guest of the family has.
pub(super) fn devices(
    domain: &mut Domain,
    family: Family,
    capabilities: &Capabilities,
    origin: Origin,
) -> Result<(), CompleteError> {
    let has_usb = domain.devices.controllers.iter().any(|c| c.kind.controller_type() == ControllerType::Usb);
    // Stock leaves the one that every i440FX guest has out of what it sends; who wants none says so.
    if !has_usb && (origin == Origin::Define || family == Family::Pc) {
        ensure(domain, ControllerKind::Usb(Some(usb_model(family, capabilities))), 0)?;
    }
    if family == Family::Q35 {
        ensure(domain, ControllerKind::Sata, 0)?;
    }
    ensure(domain, ControllerKind::Pci(Some(family.pci_root())), 0)?;

    input(domain, InputType::Mouse);
    input(domain, InputType::Keyboard);
    let devices = &mut domain.devices;
    if devices.audios.is_empty() {
        devices.audios.push(Audio { id: 1, kind: AudioType::None, rest: Rest::default() });
    }
    let has_itco = devices.watchdogs.iter().any(|watchdog| watchdog.model == WatchdogModel::Itco);
    // A guest that arrives has it too: it is left out of what travels, for the sake of those who do not know it.
    let action = devices.watchdog_action();
    if family == Family::Q35 && !has_itco {
        devices.watchdogs.push(Watchdog {
            model: WatchdogModel::Itco,
            action: Some(action),
            info: DeviceInfo::default(),
            rest: Rest::default(),
        });
    }
    for watchdog in &mut devices.watchdogs {
        watchdog.action.get_or_insert(WatchdogAction::Reset);
    }
    for rng in &mut devices.rngs {
        if let RngBackend::Random(path) = &mut rng.backend {
            path.get_or_insert_with(|| "/dev/random".to_owned());
        }
    }
    if devices.memballoon.is_none() {
        let model = if origin == Origin::Define { BalloonModel::Virtio } else { BalloonModel::None };
        devices.memballoon = Some(balloon(model));
    }
    Ok(())
}

fn usb_model(family: Family, capabilities: &Capabilities) -> UsbModel {
    match family {
        Family::Pc => UsbModel::Piix3Uhci,
        Family::Q35 if capabilities.has_device("qemu-xhci") => UsbModel::QemuXhci,
        Family::Q35 => UsbModel::NecXhci,
    }
}

fn balloon(model: BalloonModel) -> MemBalloon {
    MemBalloon {
        model,
        autodeflate: None,
        free_page_reporting: None,
        stats_period_s: None,
        info: DeviceInfo::default(),
        driver: None,
        rest: Rest::default(),
    }
}

/// The chipset has both, whether the definition says so or not.
fn input(domain: &mut Domain, kind: InputType) {
    let inputs = &mut domain.devices.inputs;
    if !inputs.iter().any(|input| input.kind == kind && input.bus == Some(InputBus::Ps2)) {
        let bus = Some(InputBus::Ps2);
        inputs.push(InputDevice {
            kind,
            bus,
            model: None,
            driver: None,
            info: DeviceInfo::default(),
            rest: Rest::default(),
        });
    }
}

/// The graphics card of a guest that is to be looked at and names none.
pub(super) fn video(capabilities: &Capabilities) -> Video {
    const CHOICES: [(VideoType, &str); 4] = [
        (VideoType::Cirrus, "cirrus-vga"),
        (VideoType::Vga, "VGA"),
        (VideoType::Bochs, "bochs-display"),
        (VideoType::Virtio, "virtio-vga"),
    ];
    let chosen = CHOICES.into_iter().find(|(_, device)| capabilities.has_device(device));
    let kind = chosen.map_or(VideoType::Cirrus, |(kind, _)| kind);
    let model =
        VideoModel { kind, vram: None, heads: None, primary: None, resolution: None, rest: Rest::default() };
    Video { driver: None, model, info: DeviceInfo::default(), rest: Rest::default() }
}

/// The controllers that addresses of disks and channels speak of.
pub(super) fn controllers_of_devices(
    domain: &mut Domain,
    capabilities: &Capabilities,
) -> Result<(), CompleteError> {
    for bus in [DiskBus::Scsi, DiskBus::Fdc, DiskBus::Ide, DiskBus::Sata] {
        let numbers = domain.devices.disks.iter().filter(|disk| disk.bus() == bus);
        let Some(highest) =
            numbers.filter_map(|disk| disk.drive_address()).map(|drive| drive.controller).max()
        else {
            continue;
        };
        if highest > super::CONTROLLERS_MAX {
            return Err(CompleteError::Index { what: "controller", index: highest });
        }
        if bus == DiskBus::Ide && highest > 0 {
            return Err(CompleteError::IdeControllers);
        }
        for index in 0..=highest {
            let kind = match bus {
                DiskBus::Scsi => ControllerKind::Scsi(Some(scsi_model(capabilities, index)?)),
                DiskBus::Fdc => ControllerKind::Fdc,
                DiskBus::Ide => ControllerKind::Ide,
                _ => ControllerKind::Sata,
            };
            ensure(domain, kind, index)?;
        }
    }

    let devices = &domain.devices;
    let channels = devices.channels.iter().filter(|channel| channel.target.kind == ChannelTargetType::Virtio);
    let consoles = devices.consoles.iter().filter(|console| is_virtio(console));
    let infos = channels.map(|channel| &channel.info).chain(consoles.map(|console| &console.info));
    let numbers: Vec<u32> = infos
        .map(|info| match info.address {
            Some(Address::VirtioSerial(VirtioSerialAddress { controller, .. })) => controller,
            _ => 0,
        })
        .collect();
    numbers.into_iter().try_for_each(|index| ensure(domain, ControllerKind::VirtioSerial(None), index))
}

pub(super) fn is_virtio(console: &Console) -> bool {
    console.target.as_ref().is_some_and(|target| target.kind == ConsoleTargetType::Virtio)
}

fn is_serial(console: &Console) -> bool {
    !is_virtio(console)
}

/// Makes the first console and the first serial port one: either may have been given alone.
pub(super) fn serial_console(domain: &mut Domain) -> Result<(), CompleteError> {
    let devices = &mut domain.devices;
    if devices.consoles.iter().skip(1).any(is_serial) {
        return Err(CompleteError::SerialConsole);
    }
    let first_is_serial = devices.consoles.first().is_some_and(is_serial);
    if first_is_serial && devices.serials.is_empty() {
        let console = &devices.consoles[0];
        let target = console.target.as_ref().and_then(|target| target.port);
        devices.serials.push(Serial {
            source: console.source.clone(),
            log: console.log.clone(),
            target: target.map(|port| {
                let mut target = super::defaults::empty_serial_target();
                target.port = Some(port);
                target
            }),
            info: DeviceInfo::default(),
            rest: Rest::default(),
        });
    } else if !first_is_serial && has_plain_serial(&devices.serials) {
        let source = devices.serials[0].source.clone();
        devices.consoles.insert(
            0,
            Console {
                tty: None,
                source,
                log: None,
                target: None,
                info: DeviceInfo::default(),
                rest: Rest::default(),
            },
        );
    }
    Ok(())
}

/// Only an ISA port is shown as a console too.
fn has_plain_serial(serials: &[Serial]) -> bool {
    let kind = serials.first().map(|serial| serial.target.as_ref().and_then(|target| target.kind));
    matches!(kind, Some(None | Some(SerialTargetType::Isa)))
}

/// Makes the first console say what the first serial port says, when they are one. To be called again when
/// the serial port has learned something: its alias, the path of its pty.
pub fn mirror_console(domain: &mut Domain) {
    let devices = &mut domain.devices;
    let (Some(serial), Some(console)) = (devices.serials.first(), devices.consoles.first_mut()) else {
        return;
    };
    if is_virtio(console) {
        return;
    }
    console.source = serial.source.clone();
    console.log = serial.log.clone();
    console.info = serial.info.clone();
    console.tty = match &serial.source.backend {
        ferry_domxml::chardev::Backend::Pty(path) => path.clone(),
        _ => None,
    };
    let target = console.target.get_or_insert_with(|| ConsoleTarget {
        kind: ConsoleTargetType::Serial,
        port: None,
        rest: Rest::default(),
    });
    target.port = serial.target.as_ref().and_then(|target| target.port);
}
