//! Everything in `<devices>`: no device more or less, each with the same face and in the same place.

use super::{AbiMismatch, Row, lists, quoted, rows, same, shown};
use crate::{
    Address, BalloonModel, Channel, Console, Controller, ControllerKind, DeviceInfo, Devices, Disk,
    FileSystem, InputDevice, Interface, MemBalloon, MemoryDevice, Offloads, OnOff, Pstore, Rng, Serial,
    Sound, Tpm, UsbNumber, Video, VirtioOptions, Vsock, Watchdog, WatchdogModel, YesNo,
};

pub(super) fn check(source: &Devices, target: &Devices) -> Result<(), AbiMismatch> {
    // What is not modelled is refused wherever a guest could get it; one side may have it all the same.
    for (name, what) in UNMODELLED {
        same(what, source.rest.count(name), target.rest.count(name))?;
    }
    lists("domain disk count", &source.disks, &target.disks, |source, target| {
        rows(DISK, source, target)?;
        virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
        info(&source.info, &target.info)
    })?;
    lists("domain controller count", &source.controllers, &target.controllers, |source, target| {
        rows(CONTROLLER, source, target)?;
        virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
        info(&source.info, &target.info)
    })?;
    lists("domain filesystem count", &source.filesystems, &target.filesystems, |source, target| {
        rows(FILE_SYSTEM, source, target)?;
        virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
        info(&source.info, &target.info)
    })?;
    lists("domain net card count", &source.interfaces, &target.interfaces, |source, target| {
        rows(INTERFACE, source, target)?;
        virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
        info(&source.info, &target.info)
    })?;
    lists("domain input device count", &source.inputs, &target.inputs, |source, target| {
        rows(INPUT, source, target)?;
        virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
        info(&source.info, &target.info)
    })?;
    lists("domain TPM device count", &source.tpms, &target.tpms, |source, target| {
        rows(TPM, source, target)?;
        info(&source.info, &target.info)
    })?;
    lists("domain sound card count", &source.sounds, &target.sounds, |source, target| {
        rows(SOUND, source, target)?;
        info(&source.info, &target.info)
    })?;
    lists("domain video card count", &source.videos, &target.videos, |source, target| {
        rows(VIDEO, source, target)?;
        virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
        info(&source.info, &target.info)
    })?;
    lists("domain serial port count", &source.serials, &target.serials, |source, target| {
        rows(SERIAL, source, target)?;
        info(&source.info, &target.info)
    })?;
    lists("domain channel count", &source.channels, &target.channels, |source, target| {
        rows(CHANNEL, source, target)?;
        info(&source.info, &target.info)
    })?;
    lists("domain console count", &source.consoles, &target.consoles, |source, target| {
        rows(CONSOLE, source, target)?;
        info(&source.info, &target.info)
    })?;
    // Every q35 guest has the chipset's, whether it is said or not.
    let watchdogs = |devices: &Devices| -> Vec<Watchdog> {
        devices.watchdogs.iter().filter(|watchdog| watchdog.model != WatchdogModel::Itco).cloned().collect()
    };
    lists("domain watchdog count", &watchdogs(source), &watchdogs(target), |source, target| {
        rows(WATCHDOG, source, target)?;
        info(&source.info, &target.info)
    })?;
    balloon(source.memballoon.as_ref(), target.memballoon.as_ref())?;
    lists("domain RNG device count", &source.rngs, &target.rngs, |source, target| {
        rows(RNG, source, target)?;
        virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
        info(&source.info, &target.info)
    })?;
    lists("domain panic device count", &source.panics, &target.panics, |source, target| {
        same("panic model", quoted(shown(source.model)), quoted(shown(target.model)))?;
        info(&source.info, &target.info)
    })?;
    lists("domain redirected devices count", &source.redirdevs, &target.redirdevs, |source, target| {
        same("redirected device bus", source.bus, target.bus)?;
        info(&source.info, &target.info)
    })?;
    same("redirection filter", quoted(filter(source)), quoted(filter(target)))?;
    lists("domain hub device count", &source.hubs, &target.hubs, |source, target| {
        info(&source.info, &target.info)
    })?;
    lists("domain memory device count", &source.memories, &target.memories, |source, target| {
        rows(MEMORY, source, target)?;
        info(&source.info, &target.info)
    })?;
    let of = |one: &Option<Vsock>| one.iter().cloned().collect::<Vec<_>>();
    lists("domain vsock device count", &of(&source.vsock), &of(&target.vsock), |source, target| {
        same("vsock model", quoted(shown(source.model)), quoted(shown(target.model)))?;
        virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
        info(&source.info, &target.info)
    })?;
    let of = |one: &Option<Pstore>| one.iter().cloned().collect::<Vec<_>>();
    lists("domain pstore device count", &of(&source.pstore), &of(&target.pstore), |source, target| {
        let size = |pstore: &Pstore| shown(pstore.size.map(|size| size.kib));
        same("pstore backend", source.backend, target.backend)?;
        same("pstore size", size(source), size(target))?;
        info(&source.info, &target.info)
    })
}

/// Devices that are only kept, and what stock calls their number.
const UNMODELLED: &[(&str, &str)] = &[
    ("filesystem", "domain filesystem count"),
    ("hostdev", "domain host device count"),
    ("smartcard", "domain smartcard count"),
    ("parallel", "domain parallel port count"),
    ("hub", "domain hub device count"),
    ("redirdev", "domain redirected devices count"),
    ("shmem", "domain shared memory device count"),
    ("memory", "domain memory device count"),
    ("tpm", "domain TPM device count"),
];

/// The rules for devices that come over a channel, as they are shown.
fn filter(devices: &Devices) -> String {
    let rules = devices.redirfilter.iter().flat_map(|filter| &filter.rules);
    let rules = rules.map(|rule| {
        let number = |number: &Option<UsbNumber>| shown(number.as_ref().map(|number| number.number));
        let version = shown(rule.version.as_ref().map(|version| version.digits));
        let (class, vendor, product) = (number(&rule.class), number(&rule.vendor), number(&rule.product));
        format!("{class}:{vendor}:{product}:{version}:{}", rule.allow)
    });
    rules.collect::<Vec<_>>().join(",")
}

const DISK: &[Row<Disk>] = &[
    Row { what: "disk device", value: |disk| disk.device.to_string() },
    Row { what: "disk bus", value: |disk| disk.bus().to_string() },
    Row { what: "disk", value: |disk| disk.target.dev.clone() },
    Row { what: "disk serial", value: |disk| shown(disk.serial.as_ref()) },
    Row { what: "disk wwn", value: |disk| quoted(shown(disk.wwn.as_ref())) },
    Row { what: "disk vendor", value: |disk| quoted(shown(disk.vendor.as_ref())) },
    Row { what: "disk product", value: |disk| quoted(shown(disk.product.as_ref())) },
    Row { what: "disk access mode", value: |disk| quoted(if disk.readonly { "ro" } else { "rw" }) },
    Row { what: "disk model", value: |disk| quoted(shown(disk.model)) },
    Row { what: "disk removable", value: |disk| quoted(shown(disk.target.removable)) },
    Row { what: "disk rotation rate", value: |disk| shown(disk.target.rotation_rate) },
    Row { what: "disk logical_block_size", value: |disk| block_size(disk, |sizes| sizes.logical_block_size) },
    Row {
        what: "disk physical_block_size",
        value: |disk| block_size(disk, |sizes| sizes.physical_block_size),
    },
    Row {
        what: "disk discard_granularity",
        value: |disk| block_size(disk, |sizes| sizes.discard_granularity),
    },
    Row {
        what: "disk geometry",
        value: |disk| {
            let shape = disk.geometry.as_ref();
            let shape = shape.map(|shape| format!("{}/{}/{}", shape.cylinders, shape.heads, shape.sectors));
            quoted(shown(shape))
        },
    },
    Row {
        what: "disk event_idx",
        value: |disk| quoted(shown(disk.driver.as_ref().and_then(|driver| driver.event_idx))),
    },
    Row { what: "disk queues", value: |disk| shown(disk.driver.as_ref().and_then(|driver| driver.queues)) },
    Row {
        what: "disk queue_size",
        value: |disk| shown(disk.driver.as_ref().and_then(|driver| driver.queue_size)),
    },
];

fn block_size(disk: &Disk, size: fn(&crate::BlockIo) -> Option<u32>) -> String {
    shown(disk.block_io.as_ref().and_then(size))
}

const FILE_SYSTEM: &[Row<FileSystem>] = &[
    Row { what: "filesystem guest target", value: |file_system| file_system.target.dir.clone() },
    Row { what: "filesystem model", value: |file_system| quoted(shown(file_system.model)) },
    Row { what: "filesystem driver", value: |file_system| file_system.served_by().to_string() },
    Row { what: "filesystem access mode", value: |file_system| file_system.readonly.to_string() },
    Row {
        what: "filesystem queue size",
        value: |file_system| shown(file_system.driver.as_ref().and_then(|driver| driver.queue)),
    },
];

const CONTROLLER: &[Row<Controller>] = &[
    Row { what: "controller type", value: |controller| controller.kind.controller_type().to_string() },
    Row { what: "controller index", value: |controller| shown(controller.index) },
    Row { what: "controller model", value: |controller| quoted(controller_model(controller.kind)) },
    Row { what: "controller ports", value: |controller| shown(controller.ports) },
    Row { what: "controller vectors", value: |controller| shown(controller.vectors) },
    Row { what: "controller queues", value: |controller| driver(controller, |driver| driver.queues) },
    Row {
        what: "controller cmd_per_lun",
        value: |controller| driver(controller, |driver| driver.cmd_per_lun),
    },
    Row {
        what: "controller max_sectors",
        value: |controller| driver(controller, |driver| driver.max_sectors),
    },
    Row { what: "PCI controller model name", value: |controller| quoted(shown(controller.model_name)) },
    Row { what: "PCI controller chassisNr", value: |controller| pci(controller, |target| target.chassis_nr) },
    Row { what: "PCI controller chassis", value: |controller| pci(controller, |target| target.chassis) },
    Row {
        what: "PCI controller port",
        value: |controller| pci(controller, |target| target.port.map(|port| port.0.into())),
    },
    Row { what: "PCI controller busNr", value: |controller| pci(controller, |target| target.bus_nr) },
    Row { what: "PCI controller hotplug", value: |controller| quoted(hotplug(controller)) },
    Row {
        what: "PCI controller pcihole64",
        value: |controller| shown(controller.pcihole64.map(|size| size.kib)),
    },
    Row { what: "USB controller master port", value: |controller| shown(controller.master_start_port) },
];

fn controller_model(kind: ControllerKind) -> String {
    match kind {
        ControllerKind::Ide | ControllerKind::Fdc | ControllerKind::Sata | ControllerKind::Ccid => {
            shown(None::<u8>)
        }
        ControllerKind::Scsi(model) => shown(model),
        ControllerKind::VirtioSerial(model) => shown(model),
        ControllerKind::Usb(model) => shown(model),
        ControllerKind::Pci(model) => shown(model),
    }
}

fn driver(controller: &Controller, number: fn(&crate::ControllerDriver) -> Option<u32>) -> String {
    shown(controller.driver.as_ref().and_then(number))
}

fn pci(controller: &Controller, number: fn(&crate::PciTarget) -> Option<u32>) -> String {
    shown(controller.target.as_ref().and_then(number))
}

fn hotplug(controller: &Controller) -> OnOff {
    controller.target.as_ref().and_then(|target| target.hotplug).unwrap_or(OnOff::On)
}

const INTERFACE: &[Row<Interface>] = &[
    Row { what: "network card mac", value: |interface| shown(interface.mac) },
    Row { what: "network card model", value: |interface| shown(interface.model) },
    Row { what: "network card MTU", value: |interface| interface.mtu.unwrap_or(0).to_string() },
    Row { what: "network card queues", value: |interface| nic(interface, |driver| driver.queues) },
    Row {
        what: "network card rx_queue_size",
        value: |interface| nic(interface, |driver| driver.rx_queue_size),
    },
    Row {
        what: "network card tx_queue_size",
        value: |interface| nic(interface, |driver| driver.tx_queue_size),
    },
    Row {
        what: "network card event_idx",
        value: |interface| nic_switch(interface, |driver| driver.event_idx),
    },
    Row { what: "network card rss", value: |interface| nic_switch(interface, |driver| driver.rss) },
    Row {
        what: "network card rss_hash_report",
        value: |interface| nic_switch(interface, |driver| driver.rss_hash_report),
    },
    Row {
        what: "network card host offloads",
        value: |interface| offloads(interface.driver.as_ref().and_then(|driver| driver.host.as_ref())),
    },
    Row {
        what: "network card guest offloads",
        value: |interface| offloads(interface.driver.as_ref().and_then(|driver| driver.guest.as_ref())),
    },
    Row {
        what: "network card ROM",
        value: |interface| quoted(shown(interface.rom.as_ref().and_then(|rom| rom.enabled))),
    },
    Row {
        what: "network card ROM bar",
        value: |interface| quoted(shown(interface.rom.as_ref().and_then(|rom| rom.bar))),
    },
];

fn nic(interface: &Interface, number: fn(&crate::InterfaceDriver) -> Option<u32>) -> String {
    shown(interface.driver.as_ref().and_then(number))
}

fn nic_switch(interface: &Interface, switch: fn(&crate::InterfaceDriver) -> Option<OnOff>) -> String {
    quoted(shown(interface.driver.as_ref().and_then(switch)))
}

fn offloads(offloads: Option<&Offloads>) -> String {
    let switches = offloads.map(Offloads::switches).into_iter().flatten();
    let set = switches.filter_map(|(name, state)| Some(format!("{name}={}", state?)));
    quoted(set.collect::<Vec<_>>().join(","))
}

const INPUT: &[Row<InputDevice>] = &[
    Row { what: "input device type", value: |input| input.kind.to_string() },
    Row { what: "input device bus", value: |input| shown(input.bus) },
];

const TPM: &[Row<Tpm>] = &[
    Row { what: "TPM device model", value: |tpm| tpm.model().to_string() },
    Row { what: "TPM device type", value: |tpm| shown(tpm.backend.as_ref().map(|backend| backend.kind)) },
    Row { what: "TPM version", value: |tpm| tpm.version().to_string() },
];

const SOUND: &[Row<Sound>] = &[
    Row { what: "sound card model", value: |sound| sound.model.to_string() },
    Row {
        what: "sound card codecs",
        value: |sound| sound.codecs.iter().map(|codec| codec.as_str()).collect::<Vec<_>>().join(","),
    },
];

const VIDEO: &[Row<Video>] = &[
    Row { what: "video card model", value: |video| video.model.kind.to_string() },
    Row { what: "video card vram", value: |video| video.model.vram.unwrap_or(0).to_string() },
    Row { what: "video card heads", value: |video| video.model.heads.unwrap_or(1).to_string() },
    Row { what: "video card primary", value: |video| quoted(shown(video.model.primary)) },
    Row {
        what: "video card resolution",
        value: |video| {
            shown(
                video
                    .model
                    .resolution
                    .as_ref()
                    .map(|resolution| format!("{}x{}", resolution.x, resolution.y)),
            )
        },
    },
];

const SERIAL: &[Row<Serial>] = &[
    Row { what: "serial port", value: |serial| shown(serial.target.as_ref().and_then(|target| target.port)) },
    Row {
        what: "serial port type",
        value: |serial| shown(serial.target.as_ref().and_then(|target| target.kind)),
    },
    Row {
        what: "serial port model",
        value: |serial| shown(serial.target.as_ref().and_then(|target| target.model)),
    },
];

const CHANNEL: &[Row<Channel>] = &[
    Row { what: "channel type", value: |channel| channel.target.kind.to_string() },
    Row { what: "channel name", value: |channel| shown(channel.target.name.as_ref()) },
];

const CONSOLE: &[Row<Console>] = &[
    Row { what: "console type", value: |console| shown(console.target.as_ref().map(|target| target.kind)) },
    Row {
        what: "console port",
        value: |console| shown(console.target.as_ref().and_then(|target| target.port)),
    },
];

const MEMORY: &[Row<MemoryDevice>] = &[
    Row { what: "memory device model", value: |memory| quoted(memory.model) },
    Row { what: "memory device size", value: |memory| quoted(memory.target.size.kib) },
    Row { what: "memory device targetNode", value: |memory| quoted(shown(memory.target.node)) },
    Row {
        what: "NVDIMM label size",
        value: |memory| {
            let label = memory.target.label.as_ref().and_then(|label| label.size);
            quoted(shown(label.map(|size| size.kib)))
        },
    },
    Row { what: "NVDIMM readonly flag", value: |memory| quoted(YesNo::from(memory.target.readonly)) },
    Row {
        what: "memory device block size",
        value: |memory| quoted(shown(memory.target.block.map(|size| size.kib))),
    },
    Row { what: "memory device dynamic slots", value: |memory| quoted(shown(memory.target.dynamic_slots)) },
    Row {
        what: "memory device address",
        value: |memory| quoted(memory.base().map_or_else(|| "0x0".to_owned(), |base| format!("0x{base:x}"))),
    },
];

const WATCHDOG: &[Row<Watchdog>] =
    &[Row { what: "watchdog model", value: |watchdog| watchdog.model.to_string() }];

const RNG: &[Row<Rng>] = &[Row { what: "RNG model", value: |rng| quoted(rng.model) }];

const BALLOON: &[Row<MemBalloon>] = &[
    Row { what: "balloon model", value: |balloon| balloon.model.to_string() },
    Row {
        what: "balloon autodeflate attribute value",
        value: |balloon| quoted(balloon.autodeflate.unwrap_or(OnOff::Off)),
    },
    Row {
        what: "balloon free-page-reporting attribute value",
        value: |balloon| quoted(balloon.free_page_reporting.unwrap_or(OnOff::Off)),
    },
];

/// No balloon and a balloon of model `none` are the same to the guest.
fn balloon(source: Option<&MemBalloon>, target: Option<&MemBalloon>) -> Result<(), AbiMismatch> {
    let present = |balloon: &&MemBalloon| balloon.model != BalloonModel::None;
    match (source.filter(present), target.filter(present)) {
        (None, None) => Ok(()),
        (Some(source), Some(target)) => {
            rows(BALLOON, source, target)?;
            virtio(&source.driver, &target.driver, |driver| &driver.virtio)?;
            info(&source.info, &target.info)
        }
        (source, target) => {
            let model = |balloon: Option<&MemBalloon>| shown(balloon.map(|balloon| balloon.model));
            same("balloon model", model(source), model(target))
        }
    }
}

/// Features that every virtio device offers or not, of what its driver says. The names are stock's.
fn virtio<D>(
    source: &Option<D>,
    target: &Option<D>,
    options: impl Fn(&D) -> &VirtioOptions,
) -> Result<(), AbiMismatch> {
    let none = VirtioOptions::default();
    let [source, target] = [source, target].map(|driver| driver.as_ref().map_or(&none, &options));
    same("device iommu option", quoted(shown(source.iommu)), quoted(shown(target.iommu)))?;
    same("device ats option", quoted(shown(source.ats)), quoted(shown(target.ats)))?;
    same("device packed option", quoted(shown(source.packed)), quoted(shown(target.packed)))?;
    same("device page_per_vq option", quoted(shown(source.page_per_vq)), quoted(shown(target.page_per_vq)))
}

/// Where the device is, and its id in QEMU as far as the user chose it.
fn info(source: &DeviceInfo, target: &DeviceInfo) -> Result<(), AbiMismatch> {
    same("device alias", quoted(shown(source.user_alias())), quoted(shown(target.user_alias())))?;
    let kind = |info: &DeviceInfo| shown(info.address.as_ref().map(Address::kind));
    same("device address type", kind(source), kind(target))?;
    let what = match source.address {
        None => return Ok(()),
        Some(Address::Pci(_)) => "device PCI address",
        Some(Address::Drive(_)) => "device drive address",
        Some(Address::VirtioSerial(_)) => "device virtio serial address",
        Some(Address::Usb(_)) => "device USB address",
        Some(Address::Isa(_)) => "device isa address",
        Some(Address::Ccid(_)) => "device ccid address",
        Some(Address::Dimm(_)) => "device dimm address",
    };
    same(what, shown(source.address.as_ref()), shown(target.address.as_ref()))?;
    // What the text does not show.
    let multifunction = |info: &DeviceInfo| match &info.address {
        Some(Address::Pci(pci)) => pci.multifunction.unwrap_or(OnOff::Off),
        _ => OnOff::Off,
    };
    same("device PCI multifunction", quoted(multifunction(source)), quoted(multifunction(target)))?;
    let scsi_target = |info: &DeviceInfo| match &info.address {
        Some(Address::Drive(drive)) => drive.target,
        _ => 0,
    };
    same("device drive address target", scsi_target(source), scsi_target(target))
}
