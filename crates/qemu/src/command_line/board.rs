//! The board: machine, accelerator, processors, memory, and that nothing comes unasked.

use ferry_domxml::clock::TimerName;
use ferry_domxml::cpu::{CacheModeOfCpu, Cpu, CpuMode, FeaturePolicy, PhysAddrMode};
use ferry_domxml::features::{Features, HyperVMode, IoApic};
use ferry_domxml::memory_device::MemoryModel;
use ferry_domxml::small_devices::PanicModel;
use ferry_domxml::{DomainKind, OnOff, YesNo};

use super::firmware::Flash;
use super::{Builder, CommandLineError, incomplete, rtc};
use crate::host_model::qemu_feature;
use crate::props::{KeyValue, on_off};

const MIB_KIB: u64 = 1024;

impl Builder<'_> {
    pub(super) fn board(&mut self) -> Result<(), CommandLineError> {
        let flash = self.flash()?;
        self.machine(flash)?;
        self.accelerator();
        self.cpu()?;
        self.firmware();
        self.smm_memory();
        self.memory_size();
        self.whole_memory()?;
        let is_locked = self.domain.memory_backing.as_ref().is_some_and(|backing| backing.locked);
        self.option("-overcommit", KeyValue::new("").switch("mem-lock", is_locked));
        self.smp();
        self.iothreads();
        self.cells()?;
        let uuid = self.domain.uuid.ok_or_else(|| incomplete("the domain", "uuid"))?;
        self.option("-uuid", uuid.hyphenated());
        self.firmware_tables();
        if self.domain.devices.graphics.is_empty() {
            self.option("-display", "none");
        }
        self.flag("-no-user-config");
        self.flag("-nodefaults");
        Ok(())
    }

    fn machine(&mut self, flash: Flash) -> Result<(), CommandLineError> {
        let domain = self.domain;
        let name = domain.os.machine.machine.as_deref().ok_or_else(|| incomplete("the domain", "machine"))?;
        let ram = domain.cells().is_empty().then(|| self.ram_id());
        let is_merged = !domain.memory_backing.as_ref().is_some_and(|backing| backing.no_share_pages);
        let memories = &domain.devices.memories;
        let has_nvdimm = memories.iter().any(|memory| memory.model == MemoryModel::Nvdimm);
        let features = domain.features.as_ref();
        let state = |state: Option<OnOff>| state.map(|state| on_off(state.is_on()));
        let timers = domain.clock.as_ref().map_or(&[][..], |clock| &clock.timers);
        let hpet = rtc::timer(timers, TimerName::Hpet).and_then(|hpet| hpet.present).map(YesNo::is_yes);
        let hpet_is_property = self.capabilities.machine_has("hpet");
        let smm = features.and_then(|features| features.smm.as_ref());
        let interrupts = features.and_then(|features| features.ioapic).map(|ioapic| match ioapic {
            IoApic::Kvm => "on",
            IoApic::Qemu => "split",
        });
        let serial_screen = domain.os.bios.as_ref().and_then(|bios| bios.use_serial) == Some(YesNo::Yes);

        let option = KeyValue::new(name)
            .switch("usb", false)
            .with_some("vmport", state(features.and_then(|features| features.vmport)))
            .with_some("smm", state(smm.map(|smm| smm.state.unwrap_or(OnOff::On))))
            .with_some("kernel_irqchip", interrupts)
            .switch("dump-guest-core", domain.memory.dump_core == Some(OnOff::On))
            .with_some("mem-merge", (!is_merged).then_some("off"))
            .with_some("nvdimm", has_nvdimm.then_some("on"))
            .with_some("memory-backend", ram)
            .with_some("pflash0", flash.code)
            .with_some("pflash1", flash.variables)
            .with_some("hpet", hpet.filter(|_| hpet_is_property).map(on_off))
            .switch("acpi", features.is_some_and(|features| features.acpi))
            .with_some("graphics", serial_screen.then_some("off"));
        self.option("-machine", option);
        if hpet == Some(false) && !hpet_is_property {
            self.flag("-no-hpet");
        }
        Ok(())
    }

    fn accelerator(&mut self) {
        let tcg = self.domain.features.as_ref().and_then(|features| features.tcg.as_ref());
        let cache = tcg.and_then(|tcg| tcg.tb_cache).map(|size| size.kib.div_ceil(MIB_KIB));
        let option = match self.domain.kind {
            DomainKind::Qemu => KeyValue::new("tcg").with_some("tb-size", cache),
            DomainKind::Kvm => KeyValue::new("kvm"),
        };
        self.option("-accel", option);
    }

    /// Memory that only system management mode sees.
    fn smm_memory(&mut self) {
        let smm = self.domain.features.as_ref().and_then(|features| features.smm.as_ref());
        if let Some(size) = smm.and_then(|smm| smm.tseg) {
            self.option("-global", format!("mch.extended-tseg-mbytes={}", size.mib));
        }
    }

    fn cpu(&mut self) -> Result<(), CommandLineError> {
        let cpu = self.domain.cpu.as_ref().ok_or_else(|| incomplete("the domain", "cpu"))?;
        let mut option = match cpu.mode() {
            CpuMode::Custom => {
                let model = cpu.model.as_ref().and_then(|model| model.name.as_deref());
                KeyValue::new(model.ok_or_else(|| incomplete("the cpu", "model"))?)
            }
            CpuMode::HostPassthrough => KeyValue::new("host"),
            CpuMode::Maximum => KeyValue::new("max"),
            CpuMode::HostModel => return Err(incomplete("the cpu", "model that host-model stands for")),
        };
        // QEMU's own default under TCG, where nothing is passed through.
        let migratable = cpu.migratable.filter(|_| self.domain.kind == DomainKind::Kvm);
        option = option.with_some("migratable", migratable.map(|state| on_off(state.is_on())));
        option = option.with_some("vendor", cpu.model.as_ref().and_then(|model| model.vendor_id.as_deref()));
        for feature in &cpu.features {
            let on = matches!(feature.policy, None | Some(FeaturePolicy::Force | FeaturePolicy::Require));
            let optional = feature.policy == Some(FeaturePolicy::Optional) && self.host_has(&feature.name);
            option = option.switch(&qemu_feature(&feature.name), on || optional);
        }
        option = self.cpu_clock(option);
        option = self.cpu_board(option);
        option = hypervisor(self.domain.features.as_ref(), option);
        let panics = &self.domain.devices.panics;
        let tells_crashes = panics.iter().any(|panic| panic.model == Some(PanicModel::HyperV));
        option = option.with_some("hv-crash", tells_crashes.then_some("on"));
        self.option("-cpu", cpu_shape(cpu, option));
        Ok(())
    }

    /// Whether the best CPU of this host and accelerator has a feature.
    fn host_has(&self, feature: &str) -> bool {
        use crate::capabilities::Accelerator;
        let accelerator = match self.domain.kind {
            DomainKind::Qemu => Accelerator::Tcg,
            DomainKind::Kvm => Accelerator::Kvm,
        };
        let features = self.capabilities.accelerators.get(&accelerator).map(|known| &known.max_cpu);
        features.is_some_and(|features| features.get(&qemu_feature(feature)) == Some(&true))
    }

    /// Clocks that are features of the CPU.
    fn cpu_clock(&self, option: KeyValue) -> KeyValue {
        let timers = self.domain.clock.as_ref().map_or(&[][..], |clock| &clock.timers);
        let present = |name| rtc::timer(timers, name).and_then(|timer| timer.present).map(YesNo::is_yes);
        option
            .with_some("tsc-frequency", rtc::timer(timers, TimerName::Tsc).and_then(|tsc| tsc.frequency_hz))
            .with_some("kvmclock", present(TimerName::Kvmclock).map(on_off))
            .with_some("hv-time", present(TimerName::Hypervclock).filter(|present| *present).map(on_off))
    }

    /// Features of the board that are features of the CPU to QEMU.
    fn cpu_board(&self, option: KeyValue) -> KeyValue {
        let features = self.domain.features.as_ref();
        let eoi = features.and_then(|features| features.apic.as_ref()).and_then(|apic| apic.eoi);
        let pmu = features.and_then(|features| features.pmu);
        let locks = features.and_then(|features| features.pvspinlock);
        option
            .with_some("kvm-pv-unhalt", locks.map(|state| on_off(state.is_on())))
            .with_some("kvm-pv-eoi", eoi.map(|state| on_off(state.is_on())))
            .with_some("pmu", pmu.map(|state| on_off(state.is_on())))
    }

    fn smp(&mut self) {
        let vcpus = &self.domain.vcpus;
        let topology = self.domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
        // Those that were plugged in are plugged in again, so that they can be taken out.
        let plugged = u32::try_from(self.domain.plugged_vcpus().len()).unwrap_or(0);
        let own = vcpus.current().saturating_sub(plugged).max(1);
        let hotplug = (own < vcpus.max).then_some(vcpus.max);
        let option = KeyValue::new(&own.to_string()).with_some("maxcpus", hotplug);
        let option = match topology {
            None => option.with("sockets", vcpus.max).with("cores", 1).with("threads", 1),
            Some(topology) => option
                .with("sockets", topology.sockets)
                .with_some("dies", topology.dies)
                .with_some("clusters", topology.clusters)
                .with("cores", topology.cores)
                .with("threads", topology.threads),
        };
        self.option("-smp", option);
    }
}

/// What the guest is told of its hypervisor. Only what differs from QEMU's default is said.
fn hypervisor(features: Option<&Features>, option: KeyValue) -> KeyValue {
    let mut option = option;
    if let Some(hyperv) = features.and_then(|features| features.hyperv.as_ref()) {
        if hyperv.mode == Some(HyperVMode::Passthrough) {
            option = option.switch("hv-passthrough", true);
        }
        for (name, state) in hyperv.switches() {
            if state == Some(OnOff::On) {
                option = option.switch(&hyperv_feature(name), true);
            }
        }
        let locks = hyperv.spinlocks.as_ref().filter(|locks| locks.state.is_on());
        let retries = locks.and_then(|locks| locks.retries).map(|retries| format!("0x{retries:x}"));
        let vendor = hyperv.vendor_id.as_ref().filter(|vendor| vendor.state.is_on());
        option = option
            .with_some("hv-spinlocks", retries)
            .with_some("hv-vendor-id", vendor.and_then(|vendor| vendor.value.as_deref()));
    }
    let Some(kvm) = features.and_then(|features| features.kvm.as_ref()) else { return option };
    let on = |state: Option<OnOff>| (state == Some(OnOff::On)).then_some("on");
    let off = |state: Option<OnOff>, when| (state == Some(when)).then_some("off");
    option
        .with_some("kvm", off(kvm.hidden, OnOff::On))
        .with_some("kvm-hint-dedicated", on(kvm.hint_dedicated))
        .with_some("kvm-poll-control", on(kvm.poll_control))
        .with_some("kvm-pv-ipi", off(kvm.pv_ipi, OnOff::Off))
}

/// QEMU's name of an enlightenment.
fn hyperv_feature(name: &str) -> String {
    match name {
        "tlbflush-extended" => "hv-tlbflush-ext".to_owned(),
        name => format!("hv-{}", name.replace('_', "-")),
    }
}

/// Caches and address width.
fn cpu_shape(cpu: &Cpu, option: KeyValue) -> KeyValue {
    let option = match cpu.cache.as_ref().map(|cache| cache.mode) {
        None => option,
        Some(CacheModeOfCpu::Emulate) => option.switch("l3-cache", true),
        Some(CacheModeOfCpu::Passthrough) => option.switch("host-cache-info", true).switch("l3-cache", false),
        Some(CacheModeOfCpu::Disable) => option.switch("l3-cache", false),
    };
    match &cpu.max_phys_addr {
        None => option,
        Some(width) if width.mode == PhysAddrMode::Emulate => option.with_some("phys-bits", width.bits),
        Some(width) => option.switch("host-phys-bits", true).with_some("host-phys-bits-limit", width.limit),
    }
}
