//! Scalars and models that a definition leaves open.

use std::collections::BTreeSet;

use ferry_domxml::chardev::{
    Backend, ConsoleTarget, ConsoleTargetType, Serial, SerialModel, SerialTarget, SerialTargetType,
    SocketMode,
};
use ferry_domxml::clock::{Clock, ClockOffset};
use ferry_domxml::cpu::{Cpu, CpuCheck, CpuFallback, CpuMatch, CpuMode, CpuModel, Vcpu, VcpuPlacement};
use ferry_domxml::disk::VirtioModel;
use ferry_domxml::display::{Graphics, Listen, Video, VideoType};
use ferry_domxml::features::HyperVMode;
use ferry_domxml::firmware::FirmwareFormat;
use ferry_domxml::input_device::{InputBus, InputType};
use ferry_domxml::interface::InterfaceModel;
use ferry_domxml::memory::Size;
use ferry_domxml::os::{Arch, BootDevice};
use ferry_domxml::small_devices::PanicModel;
use ferry_domxml::{Domain, DomainKind, GenId, Mac, OnCrash, OnEvent, OnOff, Rest, Uuid, YesNo};

use super::{CompleteError, Origin};
use crate::capabilities::Capabilities;
use crate::machine::{self, Family, MachineError};

/// The machine type by its full name, and its family.
pub(super) fn machine(domain: &mut Domain, capabilities: &Capabilities) -> Result<Family, CompleteError> {
    let os = &mut domain.os.machine;
    os.arch.get_or_insert(Arch::X86_64);
    let known = match os.machine.as_deref() {
        Some(name) => capabilities.machine(name),
        None => capabilities.default_machine(),
    };
    match (known, &os.machine) {
        (Some(machine), _) => os.machine = Some(machine.name.clone()),
        // Kept for the start to refuse: the definition may be meant for another binary.
        (None, Some(_)) => {}
        (None, None) => return Err(MachineError::NoDefault.into()),
    }
    Ok(machine::family(domain)?)
}

/// What every domain has, with the value that stock gives it.
pub(super) fn scalars(domain: &mut Domain, capabilities: &Capabilities) {
    let memory = domain.memory.kib;
    let current = domain.current_memory.get_or_insert(Size { kib: memory });
    current.kib = current.kib.min(memory);
    domain.vcpus.placement.get_or_insert(VcpuPlacement::Static);
    each_vcpu(domain);
    if domain.os.boot.is_empty() && !has_boot_order(domain) {
        domain.os.boot.push(BootDevice::Hd);
    }
    cpu(domain, capabilities);
    threads(domain);
    firmware(domain);
    if let Some(hyperv) = domain.features.as_mut().and_then(|features| features.hyperv.as_mut()) {
        hyperv.mode.get_or_insert(HyperVMode::Custom);
    }
    domain.clock.get_or_insert_with(|| Clock {
        offset: ClockOffset::Utc { reset: false },
        timers: Vec::new(),
        rest: Rest::default(),
    });
    domain.on_poweroff.get_or_insert(OnEvent::Destroy);
    domain.on_reboot.get_or_insert(OnEvent::Restart);
    domain.on_crash.get_or_insert(OnCrash::Destroy);
}

/// A list of processors has every one, those that it does not name unplugged, and says how many there are.
fn each_vcpu(domain: &mut Domain) {
    let max = domain.vcpus.max;
    if domain.each_vcpu.as_ref().is_some_and(|each| each.vcpus.is_empty()) {
        domain.each_vcpu = None;
    }
    let Some(each) = &mut domain.each_vcpu else { return };
    let named: BTreeSet<u32> = each.vcpus.iter().map(|vcpu| vcpu.id).collect();
    let absent = |id| Vcpu {
        id,
        enabled: YesNo::No,
        hotpluggable: Some(YesNo::Yes),
        order: None,
        rest: Rest::default(),
    };
    each.vcpus.extend((0..max).filter(|id| !named.contains(id)).map(absent));
    each.vcpus.sort_by_key(|vcpu| vcpu.id);
    for vcpu in &mut each.vcpus {
        vcpu.hotpluggable.get_or_insert(YesNo::from(!vcpu.enabled.is_yes()));
    }
    let present = each.vcpus.iter().filter(|vcpu| vcpu.enabled.is_yes()).count();
    let present = u32::try_from(present).unwrap_or(max);
    domain.vcpus.current = (present != max).then_some(present);
}

/// What the small devices leave open, and the guest's identity as a run of itself.
pub(super) fn small_devices(domain: &mut Domain, random: &mut dyn FnMut() -> u8) {
    if let Some(genid @ GenId { id: None }) = &mut domain.genid {
        let mut bytes = [0; 16];
        bytes.iter_mut().for_each(|byte| *byte = random());
        // A random identity says that it is one.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        genid.id = Some(Uuid::from_bytes(bytes));
    }
    for panic in &mut domain.devices.panics {
        panic.model.get_or_insert(PanicModel::Isa);
    }
    for tpm in &mut domain.devices.tpms {
        let (model, version) = (tpm.model(), tpm.version());
        tpm.model = Some(model);
        if let Some(backend) = &mut tpm.backend {
            backend.version = Some(version);
            // Said or not, it is the same, and stock does not write it.
            backend.persistent_state = backend.persistent_state.filter(|word| word.is_yes());
            backend.active_pcr_banks =
                backend.active_pcr_banks.take().filter(|banks| !banks.names().is_empty());
        }
    }
    if let Some(vsock) = &mut domain.devices.vsock {
        vsock.model.get_or_insert(VirtioModel::Virtio);
        let cid = vsock.cid.get_or_insert_default();
        cid.auto.get_or_insert(YesNo::from(cid.address.is_none()));
    }
}

/// A format is never guessed: an image of firmware that names none is raw.
fn firmware(domain: &mut Domain) {
    if let Some(loader) = domain.os.loader.as_mut().filter(|loader| loader.path.is_some()) {
        loader.format.get_or_insert(FirmwareFormat::Raw);
    }
    if let Some(nvram) = domain.os.nvram.as_mut().filter(|nvram| nvram.path.is_some()) {
        nvram.format.get_or_insert(FirmwareFormat::Raw);
    }
}

/// The count and the list of threads for disks speak of the same threads.
fn threads(domain: &mut Domain) {
    let listed = domain.iothread_ids.as_ref().map_or(0, |ids| ids.threads.len());
    let listed = u32::try_from(listed).unwrap_or(u32::MAX);
    if listed > 0 || domain.iothreads.is_some() {
        domain.iothreads = Some(domain.iothreads.unwrap_or(0).max(listed));
    }
}

/// Whether a device has a place in the boot order of its own.
fn has_boot_order(domain: &Domain) -> bool {
    let disks = domain.devices.disks.iter().any(|disk| disk.boot_order.is_some());
    disks
        || domain.devices.interfaces.iter().any(|card| card.boot_order.is_some())
        || domain.devices.redirdevs.iter().any(|redirdev| redirdev.boot_order.is_some())
}

fn cpu(domain: &mut Domain, capabilities: &Capabilities) {
    let kvm = domain.kind == DomainKind::Kvm;
    let machine = domain.os.machine.machine.as_deref().and_then(|name| capabilities.machine(name));
    let default_model =
        machine.and_then(|machine| machine.default_cpu.as_deref()).map_or("qemu64", model_name);

    let cpu = domain.cpu.get_or_insert_with(empty_cpu);
    if cpu.mode.is_none() && cpu.model.is_none() {
        cpu.mode = Some(CpuMode::Custom);
        cpu.match_ = Some(CpuMatch::Exact);
        cpu.check = Some(CpuCheck::None);
        cpu.model = Some(CpuModel {
            fallback: Some(CpuFallback::Forbid),
            vendor_id: None,
            name: Some(default_model.to_owned()),
            rest: Rest::default(),
        });
    }
    let mode = *cpu.mode.get_or_insert(CpuMode::Custom);
    let (check, migratable) = match mode {
        CpuMode::Custom if kvm => (CpuCheck::Partial, None),
        CpuMode::Custom => (CpuCheck::None, None),
        CpuMode::HostModel => (CpuCheck::Partial, None),
        CpuMode::HostPassthrough => (CpuCheck::None, Some(OnOff::On)),
        CpuMode::Maximum => (CpuCheck::None, None),
    };
    cpu.check.get_or_insert(check);
    cpu.migratable = cpu.migratable.or(migratable);
    if mode == CpuMode::Custom {
        cpu.match_.get_or_insert(CpuMatch::Exact);
        if let Some(model) = &mut cpu.model {
            model.fallback.get_or_insert(CpuFallback::Allow);
        }
    }
    if let Some(topology) = &mut cpu.topology {
        topology.dies.get_or_insert(1);
        topology.clusters.get_or_insert(1);
    }
    for feature in &mut cpu.features {
        feature.policy.get_or_insert(ferry_domxml::cpu::FeaturePolicy::Require);
    }
}

/// `qemu64-x86_64-cpu`, as a machine names its default, is `qemu64` on the command line.
fn model_name(type_name: &str) -> &str {
    type_name.strip_suffix("-x86_64-cpu").unwrap_or(type_name)
}

/// A processor of which nothing is said.
pub(super) fn empty_cpu() -> Cpu {
    Cpu {
        mode: None,
        match_: None,
        check: None,
        migratable: None,
        model: None,
        vendor: None,
        topology: None,
        cache: None,
        max_phys_addr: None,
        features: Vec::new(),
        numa: None,
        rest: Rest::default(),
    }
}

/// Prefix of the hardware addresses that are made up: QEMU's own.
const MAC_PREFIX: [u8; 3] = [0x52, 0x54, 0x00];

/// Model and hardware address of the network cards.
pub(super) fn interfaces(domain: &mut Domain, capabilities: &Capabilities, random: &mut dyn FnMut() -> u8) {
    const CHOICES: [(InterfaceModel, &str); 3] = [
        (InterfaceModel::Rtl8139, "rtl8139"),
        (InterfaceModel::E1000, "e1000"),
        (InterfaceModel::Virtio, "virtio-net-pci"),
    ];
    let chosen = CHOICES.into_iter().find(|(_, device)| capabilities.has_device(device));
    let model = chosen.map_or(InterfaceModel::Rtl8139, |(model, _)| model);
    for card in &mut domain.devices.interfaces {
        card.model.get_or_insert(model);
        card.mac.get_or_insert_with(|| {
            let [a, b, c] = MAC_PREFIX;
            Mac([a, b, c, random(), random(), random()])
        });
    }
}

/// Targets of serial ports, which of the consoles is one, and sockets that are the daemon's to choose.
pub(super) fn chardevs(domain: &mut Domain) -> Result<(), CompleteError> {
    for channel in &mut domain.devices.channels {
        if let Backend::Unix { path: None, mode } = &mut channel.source.backend {
            // Who listens is clear once the daemon has chosen the path; stock does not write it either.
            *mode = SocketMode::Connect;
        }
    }
    super::implicit::serial_console(domain)?;
    let serials = &mut domain.devices.serials;
    for serial in serials.iter_mut() {
        serial.target.get_or_insert_with(empty_serial_target);
    }
    // Those that say ISA take the lowest free number, the others go behind the highest.
    let mut taken: BTreeSet<u32> = serials.iter().filter_map(port_of).collect();
    let mut free = (0..).filter({
        let given = taken.clone();
        move |port| !given.contains(port)
    });
    for target in serials.iter_mut().filter_map(|serial| serial.target.as_mut()) {
        if target.kind == Some(SerialTargetType::Isa) && target.port.is_none() {
            target.port = free.next();
            taken.extend(target.port);
        }
    }
    let mut next = taken.last().map_or(0, |last| last.saturating_add(1));
    for target in serials.iter_mut().filter_map(|serial| serial.target.as_mut()) {
        target.port.get_or_insert_with(|| {
            next = next.saturating_add(1);
            next - 1
        });
        let kind = *target.kind.get_or_insert(SerialTargetType::Isa);
        target.model.get_or_insert(match kind {
            SerialTargetType::Isa => SerialModel::Isa,
            SerialTargetType::Usb => SerialModel::Usb,
            SerialTargetType::Pci => SerialModel::Pci,
        });
    }
    super::mirror_console(domain);
    let mut next = 0;
    for console in &mut domain.devices.consoles {
        let target = console.target.get_or_insert_with(|| ConsoleTarget {
            kind: ConsoleTargetType::Serial,
            port: None,
            rest: Rest::default(),
        });
        if target.kind == ConsoleTargetType::Virtio {
            let port = *target.port.get_or_insert(next);
            next = next.max(port.saturating_add(1));
        }
    }
    Ok(())
}

fn port_of(serial: &Serial) -> Option<u32> {
    serial.target.as_ref().and_then(|target| target.port)
}

pub(super) fn empty_serial_target() -> SerialTarget {
    SerialTarget { kind: None, port: None, model: None, rest: Rest::default() }
}

/// The bus of input devices.
pub(super) fn inputs(domain: &mut Domain) -> Result<(), CompleteError> {
    for input in &mut domain.devices.inputs {
        let default = if input.kind == InputType::Tablet { InputBus::Usb } else { InputBus::Ps2 };
        let bus = *input.bus.get_or_insert(default);
        if bus == InputBus::Ps2 && input.kind == InputType::Tablet {
            return Err(CompleteError::InputBus { bus: bus.as_str(), kind: input.kind.as_str() });
        }
    }
    Ok(())
}

/// Graphics cards and the servers that show them.
pub(super) fn display(domain: &mut Domain, capabilities: &Capabilities, origin: Origin) {
    for Graphics::Vnc(vnc) in &mut domain.devices.graphics {
        let automatic = vnc.autoport == Some(YesNo::Yes)
            || vnc.port == Some(-1)
            || vnc.port.is_none() && vnc.autoport.is_none();
        // The port of a guest that runs elsewhere is not ours to keep.
        if automatic {
            vnc.autoport = Some(YesNo::Yes);
            vnc.port = Some(-1);
        }
        vnc.autoport.get_or_insert(YesNo::No);
        if vnc.listens.is_empty() {
            vnc.listens.push(Listen::Address(None));
        }
    }
    let videos = &mut domain.devices.videos;
    if videos.is_empty() && !domain.devices.graphics.is_empty() && origin == Origin::Define {
        videos.push(super::implicit::video(capabilities));
    }
    if let Some(primary) = videos.iter().position(is_primary) {
        let primary = videos.remove(primary);
        videos.insert(0, primary);
    }
    for (index, video) in videos.iter_mut().enumerate() {
        let model = &mut video.model;
        let vram = match model.kind {
            VideoType::Vga | VideoType::Cirrus | VideoType::Bochs => Some(VRAM_KIB),
            VideoType::Virtio => None,
            VideoType::None => continue,
        };
        model.vram = model.vram.or(vram);
        model.heads.get_or_insert(1);
        model.primary = (index == 0).then_some(YesNo::Yes);
    }
}

/// Memory of an emulated graphics card that names none.
const VRAM_KIB: u32 = 16 * 1024;

fn is_primary(video: &Video) -> bool {
    video.model.primary == Some(YesNo::Yes)
}
