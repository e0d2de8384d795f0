//! `<features>` and `<pm>`: what the board can do.

use crate::model::{OnOff, YesNo, element};

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
        /// Performance counters.
        pmu: Option<OnOff> => ChildAttr("pmu", "state"),
        /// VMware's I/O port.
        vmport: Option<OnOff> => ChildAttr("vmport", "state"),
        /// System management mode.
        smm: Option<OnOff> => ChildAttr("smm", "state"),
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
    /// `<pm>`: sleep states offered to the guest.
    #[derive(Default)]
    pub struct PowerManagement {
        /// S3
        suspend_to_mem: Option<YesNo> => ChildAttr("suspend-to-mem", "enabled"),
        /// S4
        suspend_to_disk: Option<YesNo> => ChildAttr("suspend-to-disk", "enabled"),
    }
}
