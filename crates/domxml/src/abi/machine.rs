//! Everything outside `<devices>`.

use std::collections::BTreeMap;

use crate::model::Value;

use super::{AbiMismatch, Row, quoted, rows, same, shown};
use crate::{
    Clock, Cpu, CpuMatch, Domain, FeaturePolicy, HyperVMode, KvmFeatures, NumaCell, OnOff, Os,
    PowerManagement, Smbios, SmbiosMode, Sysinfo, Timer, Topology, YesNo,
};

pub(super) fn check(source: &Domain, target: &Domain) -> Result<(), AbiMismatch> {
    rows(DOMAIN, source, target)?;
    let (plugged, target_plugged) = (source.vcpus.current(), target.vcpus.current());
    if plugged != target_plugged {
        return Err(AbiMismatch::Vcpu { number: plugged.min(target_plugged) });
    }
    features(source, target)?;
    tables(source, target)?;
    let empty = Clock::default();
    let timers = |domain: &Domain| sorted_timers(domain.clock.as_ref().unwrap_or(&empty));
    let (timers, target_timers) = (timers(source), timers(target));
    if timers.len() != target_timers.len() {
        return Err(AbiMismatch::Timers);
    }
    timers.iter().zip(&target_timers).try_for_each(|(source, target)| rows(TIMER, source, target))?;
    cpu(source.cpu.as_ref(), target.cpu.as_ref())?;
    cells(source, target)?;
    let pm = |domain: &Domain| domain.pm.clone().unwrap_or_default();
    rows(PM, &pm(source), &pm(target))
}

const DOMAIN: &[Row<Domain>] = &[
    Row { what: "domain virt type", value: |domain| domain.kind.to_string() },
    Row { what: "domain uuid", value: |domain| shown(domain.uuid) },
    Row { what: "domain genid", value: |domain| shown(domain.genid.and_then(|genid| genid.id)) },
    Row { what: "domain name", value: |domain| quoted(&domain.name) },
    Row { what: "domain max memory", value: |domain| domain.memory.kib.to_string() },
    Row {
        what: "domain maximum memory",
        value: |domain| {
            shown(domain.max_memory.as_ref().map(|max| format!("{} in {} slots", max.kib, max.slots)))
        },
    },
    Row { what: "domain vCPU max", value: |domain| domain.vcpus.max.to_string() },
    Row { what: "domain architecture", value: |domain| shown(domain.os.machine.arch) },
    Row { what: "domain machine type", value: |domain| shown(domain.os.machine.machine.as_ref()) },
    Row { what: "domain loader type", value: |domain| quoted(shown(domain.os.loader_type())) },
    Row { what: "domain firmware variables", value: |domain| quoted(YesNo::from(domain.os.has_variables())) },
    Row {
        what: "domain secure loader",
        value: |domain| {
            let loader = domain.os.loader.as_ref();
            quoted(loader.and_then(|loader| loader.secure).unwrap_or(YesNo::No))
        },
    },
    Row { what: "domain BIOS on serial port", value: |domain| quoted(use_serial(&domain.os)) },
];

fn use_serial(os: &Os) -> YesNo {
    os.bios.as_ref().and_then(|bios| bios.use_serial).unwrap_or(YesNo::No)
}

type FeatureState = fn(&crate::Features) -> String;

const FEATURES: &[(&str, FeatureState)] = &[
    ("acpi", |features| present(features.acpi)),
    ("apic", |features| {
        let eoi = features.apic.as_ref().and_then(|apic| apic.eoi);
        format!("{},eoi={}", present(features.apic.is_some()), state(eoi))
    }),
    ("pae", |features| present(features.pae)),
    ("pmu", |features| state(features.pmu)),
    ("vmport", |features| state(features.vmport)),
    ("smm", |features| state(features.smm.as_ref().map(|smm| smm.state.unwrap_or(OnOff::On)))),
    ("smm tseg", |features| {
        let size = features.smm.as_ref().and_then(|smm| smm.tseg);
        shown(size.map(|size| size.mib))
    }),
    ("ioapic", |features| shown(features.ioapic)),
    ("vmcoreinfo", |features| state(features.vmcoreinfo)),
    ("pvspinlock", |features| state(features.pvspinlock)),
    ("hyperv mode", |features| {
        shown(features.hyperv.as_ref().map(|hyperv| hyperv.mode.unwrap_or(HyperVMode::Custom)))
    }),
    ("hyperv", |features| {
        let switches = features.hyperv.as_ref().map(|hyperv| hyperv.switches());
        let named = |(name, state): (&str, Option<OnOff>)| Some(format!("{name}={}", state?));
        switches.into_iter().flatten().filter_map(named).collect::<Vec<_>>().join(",")
    }),
    ("hyperv spinlocks", |features| {
        let locks = features.hyperv.as_ref().and_then(|hyperv| hyperv.spinlocks.as_ref());
        shown(locks.map(|locks| format!("{},{}", locks.state, shown(locks.retries))))
    }),
    ("hyperv vendor_id", |features| {
        let vendor = features.hyperv.as_ref().and_then(|hyperv| hyperv.vendor_id.as_ref());
        shown(vendor.map(|vendor| format!("{},{}", vendor.state, shown(vendor.value.as_ref()))))
    }),
    ("kvm hidden", |features| kvm(features, |kvm| kvm.hidden)),
    ("kvm hint-dedicated", |features| kvm(features, |kvm| kvm.hint_dedicated)),
    ("kvm poll-control", |features| kvm(features, |kvm| kvm.poll_control)),
    ("kvm pv-ipi", |features| kvm(features, |kvm| kvm.pv_ipi)),
];

fn kvm(features: &crate::Features, switch: fn(&KvmFeatures) -> Option<OnOff>) -> String {
    state(features.kvm.as_ref().and_then(switch))
}

fn present(is_present: bool) -> String {
    state(is_present.then_some(OnOff::On))
}

fn state(state: Option<OnOff>) -> String {
    state.map_or_else(|| "default".to_owned(), |state| state.to_string())
}

fn features(source: &Domain, target: &Domain) -> Result<(), AbiMismatch> {
    let features = |domain: &Domain| domain.features.clone().unwrap_or_default();
    let (source, target) = (features(source), features(target));
    for (feature, state_of) in FEATURES {
        let (origin, target) = (state_of(&source), state_of(&target));
        if origin != target {
            return Err(AbiMismatch::Feature { feature, target, origin });
        }
    }
    Ok(())
}

/// Memory cells: to QEMU each is a block of memory of its own.
fn cells(source: &Domain, target: &Domain) -> Result<(), AbiMismatch> {
    let (source, target) = (source.cells(), target.cells());
    same("NUMA node count", source.len(), target.len())?;
    source.iter().zip(target).try_for_each(|(source, target)| rows(CELL, source, target))
}

const CELL: &[Row<NumaCell>] = &[
    Row { what: "NUMA node id", value: |cell| shown(cell.id) },
    Row { what: "NUMA node CPUs", value: |cell| shown(cell.cpus.as_ref().map(Value::to_text)) },
    Row { what: "NUMA node memory", value: |cell| cell.kib.to_string() },
    Row {
        what: "NUMA node distances",
        value: |cell| {
            let siblings = cell.distances.as_ref().map_or(&[][..], |distances| &distances.siblings);
            siblings
                .iter()
                .map(|sibling| format!("{}:{}", sibling.id, sibling.value))
                .collect::<Vec<_>>()
                .join(",")
        },
    },
];

/// What the firmware's tables say, and the files that the firmware hands over. Stock compares this too.
fn tables(source: &Domain, target: &Domain) -> Result<(), AbiMismatch> {
    let mode = |domain: &Domain| domain.os.smbios.unwrap_or(SmbiosMode::Emulate);
    same("SMBIOS mode", mode(source), mode(target))?;
    if mode(source) == SmbiosMode::Sysinfo {
        let no_tables = Smbios::default();
        let (source, target) = (smbios(source).unwrap_or(&no_tables), smbios(target).unwrap_or(&no_tables));
        rows(SMBIOS, source, target)?;
    }
    let files = |domain: &Domain| -> Vec<String> {
        let entries = domain.sysinfos.iter().flat_map(|sysinfo| match sysinfo {
            Sysinfo::FwCfg(files) => &files.entries[..],
            Sysinfo::Smbios(_) => &[],
        });
        entries.map(|entry| format!("{}={}", entry.name, shown(entry.value.as_ref()))).collect()
    };
    same("firmware files", files(source).join(","), files(target).join(","))
}

fn smbios(domain: &Domain) -> Option<&Smbios> {
    domain.sysinfos.iter().find_map(|sysinfo| match sysinfo {
        Sysinfo::Smbios(smbios) => Some(smbios.as_ref()),
        Sysinfo::FwCfg(_) => None,
    })
}

const SMBIOS: &[Row<Smbios>] = &[
    Row { what: "sysinfo bios", value: |tables| table(tables.bios.iter()) },
    Row { what: "sysinfo system", value: |tables| table(tables.system.iter()) },
    Row { what: "sysinfo baseBoard", value: |tables| table(tables.base_boards.iter()) },
    Row { what: "sysinfo chassis", value: |tables| table(tables.chassis.iter()) },
    Row {
        what: "sysinfo oemStrings",
        value: |tables| {
            let entries = tables.oem_strings.as_ref().map_or(&[][..], |strings| &strings.entries);
            entries.iter().map(|entry| entry.value.as_str()).collect::<Vec<_>>().join(",")
        },
    },
];

fn table<'a, F: std::fmt::Display + 'a>(tables: impl Iterator<Item = &'a crate::Table<F>>) -> String {
    let fields = tables.map(|table| {
        let fields: Vec<String> =
            table.entries.iter().map(|(field, value)| format!("{field}={value}")).collect();
        fields.join(",")
    });
    fields.collect::<Vec<_>>().join(";")
}

/// Their order in the XML means nothing.
fn sorted_timers(clock: &Clock) -> Vec<Timer> {
    let mut timers = clock.timers.clone();
    timers.sort_by_key(|timer| timer.name);
    timers
}

const TIMER: &[Row<Timer>] = &[
    Row { what: "timer", value: |timer| timer.name.to_string() },
    Row { what: "timer presence", value: |timer| quoted(shown(timer.present)) },
    Row { what: "timer tick policy", value: |timer| quoted(shown(timer.tick_policy)) },
    Row { what: "TSC frequency", value: |timer| shown(timer.frequency_hz) },
    Row { what: "TSC mode", value: |timer| shown(timer.mode) },
];

fn cpu(source: Option<&Cpu>, target: Option<&Cpu>) -> Result<(), AbiMismatch> {
    let (source, target) = match (source, target) {
        (None, None) => return Ok(()),
        (Some(source), Some(target)) => (source, target),
        (source, target) => return same("CPU", shown(source.map(Cpu::mode)), shown(target.map(Cpu::mode))),
    };
    rows(CPU, source, target)?;
    let features = |cpu: &Cpu| -> BTreeMap<String, FeaturePolicy> {
        let policy = |policy: Option<FeaturePolicy>| policy.unwrap_or(FeaturePolicy::Require);
        cpu.features.iter().map(|feature| (feature.name.clone(), policy(feature.policy))).collect()
    };
    let (source, target) = (features(source), features(target));
    same("CPU feature count", source.len(), target.len())?;
    for ((source, source_policy), (target, target_policy)) in source.iter().zip(&target) {
        same("CPU feature", source, target)?;
        same("CPU feature policy", source_policy, target_policy)?;
    }
    Ok(())
}

const CPU: &[Row<Cpu>] = &[
    Row { what: "CPU mode", value: |cpu| cpu.mode().to_string() },
    Row { what: "CPU match", value: |cpu| cpu.match_.unwrap_or(CpuMatch::Exact).to_string() },
    Row { what: "CPU model", value: |cpu| shown(cpu.model.as_ref().and_then(|model| model.name.as_ref())) },
    Row { what: "CPU vendor", value: |cpu| shown(cpu.vendor.as_ref()) },
    Row {
        what: "CPU vendor id",
        value: |cpu| shown(cpu.model.as_ref().and_then(|model| model.vendor_id.as_ref())),
    },
    Row { what: "CPU migratable", value: |cpu| quoted(cpu.migratable.unwrap_or(OnOff::On)) },
    Row { what: "CPU sockets", value: |cpu| topology(cpu, |topology| topology.sockets) },
    Row { what: "CPU dies", value: |cpu| topology(cpu, |topology| topology.dies.unwrap_or(1)) },
    Row { what: "CPU clusters", value: |cpu| topology(cpu, |topology| topology.clusters.unwrap_or(1)) },
    Row { what: "CPU cores", value: |cpu| topology(cpu, |topology| topology.cores) },
    Row { what: "CPU threads", value: |cpu| topology(cpu, |topology| topology.threads) },
    Row { what: "CPU cache mode", value: |cpu| shown(cpu.cache.as_ref().map(|cache| cache.mode)) },
    Row { what: "CPU cache level", value: |cpu| shown(cpu.cache.as_ref().and_then(|cache| cache.level)) },
    Row {
        what: "CPU maxphysaddr mode",
        value: |cpu| shown(cpu.max_phys_addr.as_ref().map(|width| width.mode)),
    },
    Row {
        what: "CPU maxphysaddr bits",
        value: |cpu| shown(cpu.max_phys_addr.as_ref().and_then(|width| width.bits)),
    },
    Row {
        what: "CPU maxphysaddr limit",
        value: |cpu| shown(cpu.max_phys_addr.as_ref().and_then(|width| width.limit)),
    },
];

/// 0 stands for "no topology given", as stock counts.
fn topology(cpu: &Cpu, number: fn(&Topology) -> u32) -> String {
    cpu.topology.as_ref().map_or(0, number).to_string()
}

const PM: &[Row<PowerManagement>] = &[
    Row { what: "domain suspend-to-mem", value: |pm| quoted(shown(pm.suspend_to_mem)) },
    Row { what: "domain suspend-to-disk", value: |pm| quoted(shown(pm.suspend_to_disk)) },
];
