//! `<features>` and `<pm>`: what the board can do.

use crate::memory::Size;
use crate::model::{OnOff, YesNo, element, values};

element! {
    /// What the board can do.
    #[derive(Default)]
    pub struct Features {
        /// ACPI tables. Absent means `acpi=off`.
        acpi: bool => Flag("acpi"),
        /// Interrupt controllers.
        apic: Option<Apic> => Child("apic"),
        /// Physical address extension.
        pae: bool => Flag("pae"),
        /// What Microsoft's guests ask their hypervisor for.
        hyperv: Option<HyperV> => Child("hyperv"),
        /// What KVM tells its guests.
        kvm: Option<KvmFeatures> => Child("kvm"),
        /// Paravirtual spin locks.
        pvspinlock: Option<OnOff> => FlagState("pvspinlock"),
        /// Performance counters.
        pmu: Option<OnOff> => FlagState("pmu"),
        /// VMware's I/O port.
        vmport: Option<OnOff> => FlagState("vmport"),
        /// System management mode.
        smm: Option<Smm> => Child("smm"),
        /// Who has the I/O interrupt controller.
        ioapic: Option<IoApic> => ChildAttr("ioapic", "driver"),
        /// Whether the guest can say where its crash dump lies.
        vmcoreinfo: Option<OnOff> => FlagState("vmcoreinfo"),
        /// Details of QEMU's emulator.
        tcg: Option<TcgFeatures> => Child("tcg"),
    }
    order [
        "acpi", "apic", "pae", "hap", "viridian", "privnet", "hyperv", "kvm", "xen", "pvspinlock", "capabilities",
        "pmu", "vmport", "gic", "smm", "ioapic", "hpt", "vmcoreinfo", "htm", "nested-hv", "msrs", "ccf-assist",
        "cfpc", "sbbc", "ibs", "tcg", "async-teardown", "ras", "ps2", "aia",
    ]
}

element! {
    /// `<apic>`
    pub struct Apic {
        /// Whether the guest may acknowledge interrupts through memory.
        eoi: Option<OnOff> => Attr("eoi"),
    }
}

element! {
    /// `<smm>`
    pub struct Smm {
        /// Whether there is one. `None`: on.
        state: Option<OnOff> => Attr("state"),
        /// Memory that it has for itself (q35).
        tseg: Option<MebiSize> => Child("tseg"),
    }
}

values! {
    /// Who has the I/O interrupt controller.
    pub enum IoApic {
        /// the host's kernel
        Kvm = "kvm",
        /// QEMU
        Qemu = "qemu",
    }
}

element! {
    /// `<tcg>`
    #[derive(Default)]
    pub struct TcgFeatures {
        /// Memory for translated code.
        tb_cache: Option<Size> => Child("tb-cache"),
    }
}

/// The size of `<tseg>`: whole MiB, written in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MebiSize {
    /// MiB.
    pub mib: u64,
}

impl crate::model::Model for MebiSize {
    fn read(input: &mut crate::model::Input<'_>) -> Result<Self, crate::model::Refusal> {
        let kib = crate::memory::take_kib(input)?;
        input.finish()?;
        if !kib.is_multiple_of(1024) {
            let text = "SMM TSEG size must be divisible by 1 MiB".to_owned();
            return Err(crate::model::Refusal::Invalid(crate::ParseError::Unsupported(text)));
        }
        Ok(Self { mib: kib / 1024 })
    }

    fn write(&self, out: &mut crate::model::Output) {
        out.attribute("unit", &crate::memory::Unit::Mib);
        out.text(&self.mib);
    }
}

element! {
    /// `<hyperv>`: enlightenments.
    #[derive(Default)]
    pub struct HyperV {
        /// Whether they are listed here. `None`: custom.
        mode: Option<HyperVMode> => Attr("mode"),
        /// No waiting where a hypervisor makes waits long.
        relaxed: Option<OnOff> => ChildAttr("relaxed", "state"),
        /// A paravirtual interrupt controller.
        vapic: Option<OnOff> => ChildAttr("vapic", "state"),
        /// Paravirtual spin locks.
        spinlocks: Option<HyperVSpinlocks> => Child("spinlocks"),
        /// Numbers of virtual processors.
        vpindex: Option<OnOff> => ChildAttr("vpindex", "state"),
        /// The time that a processor ran.
        runtime: Option<OnOff> => ChildAttr("runtime", "state"),
        /// A synthetic interrupt controller.
        synic: Option<OnOff> => ChildAttr("synic", "state"),
        /// Synthetic timers.
        stimer: Option<HyperVTimer> => Child("stimer"),
        /// A reset that the hypervisor performs.
        reset: Option<OnOff> => ChildAttr("reset", "state"),
        /// The name that the hypervisor gives itself.
        vendor_id: Option<HyperVVendor> => Child("vendor_id"),
        /// Frequencies of clocks.
        frequencies: Option<OnOff> => ChildAttr("frequencies", "state"),
        /// News of a migration.
        reenlightenment: Option<OnOff> => ChildAttr("reenlightenment", "state"),
        /// Paravirtual flushes of the translation buffer.
        tlbflush: Option<HyperVTlbFlush> => Child("tlbflush"),
        /// Paravirtual interrupts between processors.
        ipi: Option<OnOff> => ChildAttr("ipi", "state"),
        /// A faster way for nested guests on Intel.
        evmcs: Option<OnOff> => ChildAttr("evmcs", "state"),
        /// The processor's own virtual interrupt controller.
        avic: Option<OnOff> => ChildAttr("avic", "state"),
        /// A faster way for nested guests' registers.
        emsr_bitmap: Option<OnOff> => ChildAttr("emsr_bitmap", "state"),
        /// Hypercalls with vector registers.
        xmm_input: Option<OnOff> => ChildAttr("xmm_input", "state"),
    }
}

impl HyperV {
    /// Every switch by its name in the XML; one inside another is `outer-inner`. With a value of its own and not here:
    /// spin locks, the vendor.
    pub fn switches(&self) -> [(&'static str, Option<OnOff>); 18] {
        let timer = self.stimer.as_ref();
        let flush = self.tlbflush.as_ref();
        [
            ("relaxed", self.relaxed),
            ("vapic", self.vapic),
            ("vpindex", self.vpindex),
            ("runtime", self.runtime),
            ("synic", self.synic),
            ("stimer", timer.map(|timer| timer.state)),
            ("stimer-direct", timer.and_then(|timer| timer.direct)),
            ("reset", self.reset),
            ("frequencies", self.frequencies),
            ("reenlightenment", self.reenlightenment),
            ("tlbflush", flush.map(|flush| flush.state)),
            ("tlbflush-direct", flush.and_then(|flush| flush.direct)),
            ("tlbflush-extended", flush.and_then(|flush| flush.extended)),
            ("ipi", self.ipi),
            ("evmcs", self.evmcs),
            ("avic", self.avic),
            ("emsr_bitmap", self.emsr_bitmap),
            ("xmm_input", self.xmm_input),
        ]
    }
}

values! {
    /// Whether enlightenments are listed.
    pub enum HyperVMode {
        /// they are
        Custom = "custom",
        /// all that the host has
        Passthrough = "passthrough",
    }
}

element! {
    /// `<spinlocks>`
    pub struct HyperVSpinlocks {
        /// Whether the guest has it.
        state: OnOff => Attr("state"),
        /// How often it tries before it tells the hypervisor, at least 4095.
        retries: Option<u32> => Attr("retries"),
    }
}

element! {
    /// `<stimer>`
    pub struct HyperVTimer {
        /// Whether the guest has it.
        state: OnOff => Attr("state"),
        /// Whether expired timers interrupt directly.
        direct: Option<OnOff> => ChildAttr("direct", "state"),
    }
}

element! {
    /// `<vendor_id>`
    pub struct HyperVVendor {
        /// Whether it is set.
        state: OnOff => Attr("state"),
        /// At most 12 characters.
        value: Option<String> => Attr("value"),
    }
}

element! {
    /// `<tlbflush>`
    pub struct HyperVTlbFlush {
        /// Whether the guest has it.
        state: OnOff => Attr("state"),
        /// Whether nested guests have it.
        direct: Option<OnOff> => ChildAttr("direct", "state"),
        /// Whether it takes ranges.
        extended: Option<OnOff> => ChildAttr("extended", "state"),
    }
}

element! {
    /// `<kvm>`
    #[derive(Default)]
    pub struct KvmFeatures {
        /// Whether KVM is hidden from the guest.
        hidden: Option<OnOff> => ChildAttr("hidden", "state"),
        /// Whether processors of the host belong to this guest alone.
        hint_dedicated: Option<OnOff> => ChildAttr("hint-dedicated", "state"),
        /// Whether the guest may say how long the host polls.
        poll_control: Option<OnOff> => ChildAttr("poll-control", "state"),
        /// Paravirtual interrupts between processors.
        pv_ipi: Option<OnOff> => ChildAttr("pv-ipi", "state"),
    }
}

element! {
    /// `<pm>`: sleep states offered to the guest.
    #[derive(Default)]
    pub struct PowerManagement {
        /// S3
        suspend_to_mem: Option<YesNo> => ChildAttr("suspend-to-mem", "enabled"),
        /// S4
        suspend_to_disk: Option<YesNo> => ChildAttr("suspend-to-disk", "enabled"),
    }
}
