//! PCI places for every device of a domain, in stock's order.
//!
//! Twice over the same walk: once on buses that may grow, to learn which controllers are missing, then on
//! the full set, whose places are kept. A device that has a place keeps it, so a completed domain comes out
//! as it went in.

use std::collections::BTreeMap;

use ferry_domxml::address::{Address, DeviceInfo, PciAddress};
use ferry_domxml::chardev::SerialTargetType;
use ferry_domxml::controller::{
    Controller, ControllerKind, ControllerType, HexByte, PciDevice, PciModel, PciTarget, ScsiModel, UsbModel,
};
use ferry_domxml::disk::{DiskBus, VirtioModel};
use ferry_domxml::display::{Video, VideoType};
use ferry_domxml::input_device::InputBus;
use ferry_domxml::interface::InterfaceModel;
use ferry_domxml::misc::{BalloonModel, WatchdogModel};
use ferry_domxml::small_devices::PanicModel;
use ferry_domxml::sound::SoundModel;
use ferry_domxml::{Domain, OnOff, Rest};

use super::controllers::{self, is_ich9, pci_buses};
use super::{CompleteError, Origin};
use crate::machine::Family;
use crate::pci::{Buses, Connect, PciError, needs_of};

/// A device of the domain that may sit on a PCI bus, by its position in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Device {
    Controller(usize),
    FileSystem(usize),
    Interface(usize),
    Sound(usize),
    Disk(usize),
    Balloon,
    Rng(usize),
    Watchdog(usize),
    Video(usize),
    Input(usize),
    Serial(usize),
    Vsock,
    Memory(usize),
    Pstore,
    Panic(usize),
}

/// Gives every PCI device a place, and every PCI controller its numbers.
pub(super) fn assign(domain: &mut Domain, family: Family, origin: Origin) -> Result<(), CompleteError> {
    let alone = pci_buses(domain).all(|(index, _)| index == 0);
    let mut plan = Walk::new(domain, family, true);
    plan.run()?;
    // A new guest whose ports were all made here gets one more, to plug something in later.
    if family == Family::Q35 && origin == Origin::Define && alone && plan.buses.count() > 1 {
        plan.buses.next(EXPRESS, 0)?;
    }
    let planned: Vec<_> = plan.buses.models().collect();
    for (index, model) in planned {
        controllers::ensure(domain, ControllerKind::Pci(Some(model)), index)?;
    }

    let mut walk = Walk::new(domain, family, false);
    walk.run()?;
    let Walk { buses, given, .. } = walk;
    for (device, address) in given {
        if let Some(info) = info_mut(domain, device) {
            info.address = Some(Address::Pci(address));
        }
    }
    for device in order(domain) {
        let Some(info) = info_mut(domain, device) else { continue };
        if let Some(Address::Pci(address)) = &mut info.address
            && address.is_assigned()
            && address.function == 0
            && address.multifunction.is_none()
            && buses.slot_is_shared(*address)
        {
            address.multifunction = Some(OnOff::On);
        }
    }
    domain.devices.controllers.iter_mut().for_each(number);
    Ok(())
}

/// A conventional device that can be unplugged.
const CONVENTIONAL: Connect = Connect::PCI_DEVICE.and(Connect::HOTPLUG);
/// A PCI Express device that can be unplugged.
const EXPRESS: Connect = Connect::PCIE_DEVICE.and(Connect::HOTPLUG);

/// One pass over the devices.
struct Walk<'a> {
    domain: &'a Domain,
    family: Family,
    /// Looking for missing buses; the places are thrown away.
    planning: bool,
    buses: Buses,
    given: BTreeMap<Device, PciAddress>,
}

impl<'a> Walk<'a> {
    fn new(domain: &'a Domain, family: Family, planning: bool) -> Self {
        let buses = Buses::new(pci_buses(domain), planning);
        Self { domain, family, planning, buses, given: BTreeMap::new() }
    }

    fn run(&mut self) -> Result<(), CompleteError> {
        for device in order(self.domain) {
            if let Some(address) = info(self.domain, device).pci() {
                self.buses.reserve(address, self.needs(device))?;
            }
        }
        self.chipset()?;
        // A bridge that is added later needs a slot itself.
        if self.planning && self.family == Family::Pc && !self.buses.are_full() {
            self.buses.next(CONVENTIONAL, 0)?;
        }
        for device in order(self.domain) {
            self.place(device)?;
        }
        Ok(())
    }

    fn place(&mut self, device: Device) -> Result<(), PciError> {
        let needs = self.needs(device);
        if needs == Connect::NONE || self.place_of(device).is_some() || !wants_pci(info(self.domain, device))
        {
            return Ok(());
        }
        let address = match device {
            Device::Controller(at) if is_ich9(self.domain.devices.controllers[at].kind) => {
                self.companion(at, needs)?
            }
            _ => self.buses.next(needs, 0)?,
        };
        self.given.insert(device, address);
        Ok(())
    }

    /// The parts of an ich9 USB set share a slot, each at its own function.
    fn companion(&mut self, at: usize, needs: Connect) -> Result<PciAddress, PciError> {
        let controllers = &self.domain.devices.controllers;
        let controller = &controllers[at];
        let function = ich9_function(controller.kind);
        let sibling = (0..controllers.len()).find_map(|other| {
            let is_sibling = controllers[other].index == controller.index && is_ich9(controllers[other].kind);
            if is_sibling { self.place_of(Device::Controller(other)) } else { None }
        });
        let mut address = match sibling {
            Some(sibling) => {
                let address = PciAddress { domain: 0, function, multifunction: None, ..sibling };
                self.buses.reserve(address, needs)?;
                address
            }
            None => self.buses.next(needs, function)?,
        };
        address.multifunction = (function == 0).then_some(OnOff::On);
        Ok(address)
    }

    fn place_of(&self, device: Device) -> Option<PciAddress> {
        info(self.domain, device).pci().or_else(|| self.given.get(&device).copied())
    }

    fn needs(&self, device: Device) -> Connect {
        needs(self.domain, self.family, device)
    }

    /// The devices that the chipset has at fixed places, and the primary graphics card.
    fn chipset(&mut self) -> Result<(), CompleteError> {
        let video_slot = match self.family {
            Family::Pc => {
                self.fixed(&IDE, |controller| controller.kind == ControllerKind::Ide)?;
                self.fixed(&PIIX3_USB, |controller| is_piix3_usb(controller.kind))?;
                // ISA bridge and power management.
                self.occupy(1, 0)?;
                self.occupy(1, 3)?;
                2
            }
            Family::Q35 => {
                self.fixed(&SATA, |controller| controller.kind == ControllerKind::Sata)?;
                self.ich9_usb()?;
                self.ich9_sound()?;
                self.dmi_to_pci()?;
                // ISA bridge and SMBus.
                self.occupy(0x1f, 0)?;
                self.occupy(0x1f, 3)?;
                1
            }
        };
        let primary = Device::Video(0);
        let shown =
            self.domain.devices.videos.first().is_some_and(|video| video.model.kind != VideoType::None);
        if !shown || self.place_of(primary).is_some() {
            return Ok(());
        }
        let needs = self.needs(primary);
        if self.buses.slot_is_free(0, video_slot) {
            let address = PciAddress::new(0, video_slot, 0);
            self.buses.reserve(address, needs)?;
            self.given.insert(primary, address);
        } else {
            // Displaced. Stock's plan forgets this place and counts the card again.
            let address = self.buses.next(needs, 0)?;
            if !self.planning {
                self.given.insert(primary, address);
            }
        }
        Ok(())
    }

    /// A controller 0 that is part of the chipset.
    fn fixed(&mut self, fixed: &Fixed, is: impl Fn(&Controller) -> bool) -> Result<(), CompleteError> {
        let controllers = &self.domain.devices.controllers;
        let Some(at) =
            controllers.iter().position(|controller| controller.index == Some(0) && is(controller))
        else {
            return Ok(());
        };
        let address = PciAddress::new(0, fixed.slot, fixed.function);
        match controllers[at].info.pci() {
            Some(given) if same_place(given, address) => {}
            Some(_) => return Err(CompleteError::ChipsetPlace { device: fixed.device, place: fixed.place }),
            None => {
                self.buses.reserve(address, CONVENTIONAL)?;
                self.given.insert(Device::Controller(at), address);
            }
        }
        Ok(())
    }

    /// A function of the chipset that the definition does not show.
    fn occupy(&mut self, slot: u32, function: u32) -> Result<(), PciError> {
        self.buses.reserve(PciAddress::new(0, slot, function), CONVENTIONAL)
    }

    /// The first old bridge sits where the real chipset has one.
    fn dmi_to_pci(&mut self) -> Result<(), PciError> {
        const SLOT: u32 = 0x1e;
        let controllers = &self.domain.devices.controllers;
        let bridge = controllers.iter().position(|one| one.pci_model() == Some(PciModel::DmiToPciBridge));
        if let Some(at) = bridge
            && controllers[at].info.pci().is_none()
            && self.buses.slot_is_free(0, SLOT)
        {
            let address = PciAddress::new(0, SLOT, 0);
            self.buses.reserve(address, Connect::DMI_TO_PCI)?;
            self.given.insert(Device::Controller(at), address);
        }
        Ok(())
    }

    /// The first ich9 sound card sits where the real chipset has one.
    fn ich9_sound(&mut self) -> Result<(), PciError> {
        const SLOT: u32 = 0x1b;
        let sounds = &self.domain.devices.sounds;
        let card =
            sounds.iter().position(|sound| sound.model == SoundModel::Ich9 && sound.info.pci().is_none());
        if let Some(at) = card
            && self.buses.slot_is_free(0, SLOT)
        {
            let address = PciAddress::new(0, SLOT, 0);
            self.buses.reserve(address, Connect::PCI_DEVICE)?;
            self.given.insert(Device::Sound(at), address);
        }
        Ok(())
    }

    /// The first two sets of ich9 USB sit where the real chipset has them.
    fn ich9_usb(&mut self) -> Result<(), PciError> {
        let domain = self.domain;
        let controllers =
            || domain.devices.controllers.iter().enumerate().filter(|(_, one)| is_ich9(one.kind));
        for (at, controller) in controllers() {
            let device = Device::Controller(at);
            if self.place_of(device).is_some() {
                continue;
            }
            let placed = |(other, sibling): (usize, &Controller)| {
                let is_sibling = sibling.index == controller.index;
                if is_sibling { self.place_of(Device::Controller(other)) } else { None }
            };
            let slot = match controllers().find_map(placed) {
                Some(sibling) if sibling.bus == 0 && ICH9_USB_SLOTS.contains(&sibling.slot) => sibling.slot,
                Some(_) => continue,
                // Without the companion at function 0 the slot would be invisible.
                None if !controllers()
                    .any(|(_, one)| one.index == controller.index && ich9_function(one.kind) == 0) =>
                {
                    continue;
                }
                None => match ICH9_USB_SLOTS.into_iter().find(|slot| self.buses.slot_is_free(0, *slot)) {
                    Some(slot) => slot,
                    None => continue,
                },
            };
            let function = ich9_function(controller.kind);
            let mut address = PciAddress::new(0, slot, function);
            self.buses.reserve(address, Connect::PCI_DEVICE)?;
            address.multifunction = (function == 0).then_some(OnOff::On);
            self.given.insert(device, address);
        }
        Ok(())
    }
}

/// Where the chipset of `q35` has its two USB sets.
const ICH9_USB_SLOTS: [u32; 2] = [0x1d, 0x1a];

/// A controller with a fixed place on bus 0.
struct Fixed {
    device: &'static str,
    place: &'static str,
    slot: u32,
    function: u32,
}

const IDE: Fixed = Fixed { device: "Primary IDE controller", place: "0:0:1.1", slot: 1, function: 1 };
const PIIX3_USB: Fixed =
    Fixed { device: "PIIX3 USB controller at index 0", place: "0:0:1.2", slot: 1, function: 2 };
const SATA: Fixed = Fixed { device: "Primary SATA controller", place: "0:0:1f.2", slot: 0x1f, function: 2 };

fn same_place(one: PciAddress, other: PciAddress) -> bool {
    PciAddress { multifunction: None, ..one } == PciAddress { multifunction: None, ..other }
}

fn is_piix3_usb(kind: ControllerKind) -> bool {
    kind == ControllerKind::Usb(Some(UsbModel::Piix3Uhci))
}

fn ich9_function(kind: ControllerKind) -> u32 {
    match kind {
        ControllerKind::Usb(Some(UsbModel::Ich9Uhci2)) => 1,
        ControllerKind::Usb(Some(UsbModel::Ich9Uhci3)) => 2,
        ControllerKind::Usb(Some(UsbModel::Ich9Ehci1)) => 7,
        _ => 0,
    }
}

/// Every device in the order in which places are given out.
fn order(domain: &Domain) -> Vec<Device> {
    let devices = &domain.devices;
    let is_pci = |at: &usize| devices.controllers[*at].kind.controller_type() == ControllerType::Pci;
    let (pci, other): (Vec<_>, Vec<_>) = (0..devices.controllers.len()).partition(is_pci);
    let mut order: Vec<Device> = pci.into_iter().map(Device::Controller).collect();
    order.extend((0..devices.filesystems.len()).map(Device::FileSystem));
    order.extend((0..devices.interfaces.len()).map(Device::Interface));
    order.extend((0..devices.sounds.len()).map(Device::Sound));
    order.extend(other.into_iter().map(Device::Controller));
    order.extend((0..devices.disks.len()).map(Device::Disk));
    order.extend(devices.memballoon.iter().map(|_| Device::Balloon));
    order.extend((0..devices.rngs.len()).map(Device::Rng));
    order.extend((0..devices.watchdogs.len()).map(Device::Watchdog));
    order.extend((0..devices.videos.len()).map(Device::Video));
    order.extend((0..devices.inputs.len()).map(Device::Input));
    order.extend((0..devices.serials.len()).map(Device::Serial));
    order.extend(devices.vsock.iter().map(|_| Device::Vsock));
    order.extend((0..devices.memories.len()).map(Device::Memory));
    order.extend(devices.pstore.iter().map(|_| Device::Pstore));
    order.extend((0..devices.panics.len()).map(Device::Panic));
    order
}

fn info(domain: &Domain, device: Device) -> &DeviceInfo {
    const NOWHERE: &DeviceInfo = &DeviceInfo { alias: None, address: None };
    let devices = &domain.devices;
    match device {
        Device::Controller(at) => &devices.controllers[at].info,
        Device::FileSystem(at) => &devices.filesystems[at].info,
        Device::Interface(at) => &devices.interfaces[at].info,
        Device::Sound(at) => &devices.sounds[at].info,
        Device::Disk(at) => &devices.disks[at].info,
        Device::Balloon => devices.memballoon.as_ref().map_or(NOWHERE, |balloon| &balloon.info),
        Device::Rng(at) => &devices.rngs[at].info,
        Device::Watchdog(at) => &devices.watchdogs[at].info,
        Device::Video(at) => &devices.videos[at].info,
        Device::Input(at) => &devices.inputs[at].info,
        Device::Serial(at) => &devices.serials[at].info,
        Device::Vsock => devices.vsock.as_ref().map_or(NOWHERE, |vsock| &vsock.info),
        Device::Memory(at) => &devices.memories[at].info,
        Device::Pstore => devices.pstore.as_ref().map_or(NOWHERE, |pstore| &pstore.info),
        Device::Panic(at) => &devices.panics[at].info,
    }
}

fn info_mut(domain: &mut Domain, device: Device) -> Option<&mut DeviceInfo> {
    let devices = &mut domain.devices;
    Some(match device {
        Device::Controller(at) => &mut devices.controllers[at].info,
        Device::FileSystem(at) => &mut devices.filesystems[at].info,
        Device::Interface(at) => &mut devices.interfaces[at].info,
        Device::Sound(at) => &mut devices.sounds[at].info,
        Device::Disk(at) => &mut devices.disks[at].info,
        Device::Balloon => &mut devices.memballoon.as_mut()?.info,
        Device::Rng(at) => &mut devices.rngs[at].info,
        Device::Watchdog(at) => &mut devices.watchdogs[at].info,
        Device::Video(at) => &mut devices.videos[at].info,
        Device::Input(at) => &mut devices.inputs[at].info,
        Device::Serial(at) => &mut devices.serials[at].info,
        Device::Vsock => &mut devices.vsock.as_mut()?.info,
        Device::Memory(at) => &mut devices.memories[at].info,
        Device::Pstore => &mut devices.pstore.as_mut()?.info,
        Device::Panic(at) => &mut devices.panics[at].info,
    })
}

/// No address yet, or one that only says "PCI".
fn wants_pci(info: &DeviceInfo) -> bool {
    matches!(info.address, None | Some(Address::Pci(_)))
}

/// What a device needs of a bus; [`Connect::NONE`] for one that has no PCI place of its own.
fn needs(domain: &Domain, family: Family, device: Device) -> Connect {
    let devices = &domain.devices;
    let express = match family {
        Family::Pc => CONVENTIONAL,
        Family::Q35 => EXPRESS,
    };
    let virtio = |model: Option<VirtioModel>| match model {
        // The older generation is a conventional device.
        Some(VirtioModel::Transitional) => CONVENTIONAL,
        None | Some(VirtioModel::Virtio | VirtioModel::NonTransitional) => express,
    };
    match device {
        Device::Controller(at) => match devices.controllers[at].kind {
            ControllerKind::Pci(model) => model.map_or(Connect::NONE, needs_of),
            ControllerKind::Usb(Some(UsbModel::None)) => Connect::NONE,
            ControllerKind::Usb(Some(UsbModel::NecXhci | UsbModel::QemuXhci)) => express,
            ControllerKind::Usb(_) | ControllerKind::Sata | ControllerKind::Ide => CONVENTIONAL,
            ControllerKind::Scsi(Some(ScsiModel::VirtioScsi | ScsiModel::VirtioNonTransitional)) => express,
            ControllerKind::Scsi(_) => CONVENTIONAL,
            ControllerKind::VirtioSerial(model) => virtio(model),
            ControllerKind::Fdc | ControllerKind::Ccid => Connect::NONE,
        },
        Device::FileSystem(at) => virtio(devices.filesystems[at].model),
        Device::Interface(at) => match devices.interfaces[at].model {
            Some(InterfaceModel::Virtio | InterfaceModel::VirtioNonTransitional | InterfaceModel::E1000e) => {
                express
            }
            Some(InterfaceModel::VirtioTransitional | InterfaceModel::E1000 | InterfaceModel::Rtl8139)
            | None => CONVENTIONAL,
        },
        Device::Sound(at) => match devices.sounds[at].model {
            SoundModel::Sb16 => Connect::NONE,
            SoundModel::Virtio => express,
            SoundModel::Es1370 | SoundModel::Ac97 | SoundModel::Ich6 | SoundModel::Ich9 => CONVENTIONAL,
        },
        Device::Vsock => virtio(devices.vsock.as_ref().and_then(|vsock| vsock.model)),
        Device::Memory(at) if devices.memories[at].is_module() => Connect::NONE,
        Device::Memory(_) => express,
        Device::Pstore => CONVENTIONAL,
        Device::Panic(at) => match devices.panics[at].model {
            // Stock puts it beside the chipset's own.
            Some(PanicModel::PvPanic) => match family {
                Family::Pc => CONVENTIONAL,
                Family::Q35 => Connect::PCIE_DEVICE.and(Connect::INTEGRATED),
            },
            None | Some(PanicModel::Isa | PanicModel::HyperV) => Connect::NONE,
        },
        Device::Disk(at) if devices.disks[at].bus() == DiskBus::Virtio => virtio(devices.disks[at].model),
        Device::Disk(_) => Connect::NONE,
        Device::Balloon => match devices.memballoon.as_ref().map(|balloon| balloon.model) {
            None | Some(BalloonModel::None) => Connect::NONE,
            Some(BalloonModel::VirtioTransitional) => CONVENTIONAL,
            Some(BalloonModel::Virtio | BalloonModel::VirtioNonTransitional) => express,
        },
        Device::Rng(at) => virtio(Some(devices.rngs[at].model)),
        Device::Watchdog(at) => match devices.watchdogs[at].model {
            WatchdogModel::I6300esb => CONVENTIONAL,
            WatchdogModel::Ib700 | WatchdogModel::Itco => Connect::NONE,
        },
        Device::Video(at) => video_needs(&devices.videos[at], express),
        Device::Input(at) if devices.inputs[at].bus == Some(InputBus::Virtio) => express,
        Device::Input(_) => Connect::NONE,
        Device::Serial(at) => match devices.serials[at].target.as_ref().and_then(|target| target.kind) {
            Some(SerialTargetType::Pci) => CONVENTIONAL,
            _ => Connect::NONE,
        },
    }
}

fn video_needs(video: &Video, express: Connect) -> Connect {
    match video.model.kind {
        VideoType::None => Connect::NONE,
        VideoType::Virtio | VideoType::Bochs => express,
        VideoType::Vga | VideoType::Cirrus => CONVENTIONAL,
    }
}

/// The QEMU device and the numbers of a PCI controller that has its place.
fn number(controller: &mut Controller) {
    let (Some(model), Some(index)) = (controller.pci_model(), controller.index) else { return };
    let place = controller.info.pci();
    let device = match model {
        PciModel::PciRoot | PciModel::PcieRoot => return,
        PciModel::PciBridge => PciDevice::PciBridge,
        PciModel::DmiToPciBridge => PciDevice::I82801b11Bridge,
        PciModel::PcieToPciBridge => PciDevice::PciePciBridge,
        PciModel::PcieRootPort => PciDevice::PcieRootPort,
        PciModel::PcieSwitchUpstreamPort => PciDevice::X3130Upstream,
        PciModel::PcieSwitchDownstreamPort => PciDevice::Xio3130Downstream,
        PciModel::PciExpanderBus => PciDevice::Pxb,
        PciModel::PcieExpanderBus => PciDevice::PxbPcie,
    };
    controller.model_name.get_or_insert(device);
    let empty = PciTarget {
        chassis_nr: None,
        chassis: None,
        port: None,
        bus_nr: None,
        hotplug: None,
        rest: Rest::default(),
    };
    match model {
        PciModel::PciBridge => {
            controller.target.get_or_insert(empty).chassis_nr.get_or_insert(index);
        }
        PciModel::PcieRootPort | PciModel::PcieSwitchDownstreamPort => {
            let target = controller.target.get_or_insert(empty);
            target.chassis.get_or_insert(index);
            let port = place.map_or(0, |place| place.slot << 3 | place.function);
            target.port.get_or_insert(HexByte(u8::try_from(port).unwrap_or(0)));
        }
        PciModel::PciRoot
        | PciModel::PcieRoot
        | PciModel::DmiToPciBridge
        | PciModel::PcieToPciBridge
        | PciModel::PcieSwitchUpstreamPort
        | PciModel::PciExpanderBus
        | PciModel::PcieExpanderBus => {}
    }
}
