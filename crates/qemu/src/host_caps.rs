//! The capabilities document: what `virsh capabilities` shows of this host and of the guests it can run.
//!
//! The daemon collects [`HostFacts`] once at start, and answers the procedure with [`document`]. Nothing is read
//! here, and nothing is claimed that the facts or the probe do not say: a CPU model stands in the document only
//! when KVM works and QEMU calls the model usable. Stock's list of CPU features beyond the model is left out,
//! because it takes a table of what each model holds.

use crate::capabilities::{Accelerator, Capabilities, Machine};
use crate::tree::{Tree, element};
use ferry_domxml::Uuid;
use std::collections::BTreeSet;

/// What the document says about the host, as the daemon found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The host's UUID.
    pub uuid: Uuid,
    /// The host's processor.
    pub cpu: HostCpu,
    /// Sizes of pages that guest memory can be made of, in KiB, smallest first.
    pub page_sizes_kib: Vec<u64>,
    /// The host has an IOMMU in use.
    pub iommu: bool,
    /// NUMA cells; a host without NUMA has one.
    pub cells: Vec<Cell>,
    /// Path of the emulator that domains get when they name none.
    pub emulator: String,
    /// User and group ids that QEMU runs as, when images are handed over to them.
    pub owner: Option<(u32, u32)>,
}

/// The host's processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCpu {
    /// As CPUID names it: `GenuineIntel`, `AuthenticAMD`.
    pub vendor: String,
    /// Family, model and stepping.
    pub signature: Option<(u32, u32, u32)>,
    /// Version of its microcode.
    pub microcode: Option<u32>,
}

/// One NUMA cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Its number.
    pub id: u32,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// How many pages it has of which size in KiB.
    pub pages: Vec<(u64, u64)>,
    /// How far it is to which cell; 10 is itself.
    pub distances: Vec<(u32, u32)>,
    /// Its processors.
    pub cpus: Vec<Processor>,
}

/// One logical processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// Its number.
    pub id: u32,
    /// Its socket.
    pub socket: u32,
    /// Its die within the socket.
    pub die: u32,
    /// Its core within the die.
    pub core: u32,
    /// The processors that share its core, itself among them, in order.
    pub siblings: Vec<u32>,
}

/// Models by how much they can do, best first, with the vendor who makes such processors. The host's model is the
/// first one that QEMU calls usable.
const MODELS: &[(&str, &str)] = &[
    ("SapphireRapids", "GenuineIntel"),
    ("Icelake-Server-noTSX", "GenuineIntel"),
    ("Cascadelake-Server-noTSX", "GenuineIntel"),
    ("Skylake-Server-noTSX-IBRS", "GenuineIntel"),
    ("Skylake-Client-noTSX-IBRS", "GenuineIntel"),
    ("Broadwell", "GenuineIntel"),
    ("Broadwell-noTSX", "GenuineIntel"),
    ("Haswell", "GenuineIntel"),
    ("Haswell-noTSX", "GenuineIntel"),
    ("IvyBridge", "GenuineIntel"),
    ("SandyBridge", "GenuineIntel"),
    ("Westmere", "GenuineIntel"),
    ("Nehalem", "GenuineIntel"),
    ("Penryn", "GenuineIntel"),
    ("Conroe", "GenuineIntel"),
    ("EPYC-Genoa", "AuthenticAMD"),
    ("EPYC-Milan", "AuthenticAMD"),
    ("EPYC-Rome", "AuthenticAMD"),
    ("EPYC-IBPB", "AuthenticAMD"),
    ("EPYC", "AuthenticAMD"),
    ("Opteron_G5", "AuthenticAMD"),
    ("Opteron_G4", "AuthenticAMD"),
    ("Opteron_G3", "AuthenticAMD"),
    ("Opteron_G2", "AuthenticAMD"),
    ("Opteron_G1", "AuthenticAMD"),
];

/// The document, with a line break at its end.
pub fn document(facts: &HostFacts, capabilities: &Capabilities) -> String {
    let root = element("capabilities").with(host(facts, capabilities)).with(guest(facts, capabilities));
    root.format()
}

/// The best named model that guests can have at the host's full speed; `None` without KVM.
pub fn host_model<'a>(vendor: &str, capabilities: &'a Capabilities) -> Option<&'a str> {
    MODELS.iter().filter(|(_, maker)| *maker == vendor).find_map(|(name, _)| {
        let model = capabilities.cpu_model(Accelerator::Kvm, name)?;
        model.lacks.as_ref().is_some_and(Vec::is_empty).then_some(model.name.as_str())
    })
}

fn host(facts: &HostFacts, capabilities: &Capabilities) -> Tree {
    let transports = ["tcp", "unix"].map(|name| element("uri_transport").text(name));
    let migration = element("migration_features")
        .with(element("live"))
        .with(element("uri_transports").with_all(transports));
    let cells = element("cells").attribute("num", facts.cells.len()).with_all(facts.cells.iter().map(cell));
    element("host")
        .with(element("uuid").text(facts.uuid))
        .with(cpu(facts, capabilities))
        .with(element("power_management"))
        .with(element("iommu").attribute("support", yes_no(facts.iommu)))
        .with(migration)
        .with(element("topology").with(cells))
        .with_all(facts.owner.map(security))
}

fn cpu(facts: &HostFacts, capabilities: &Capabilities) -> Tree {
    let HostCpu { vendor, signature, microcode } = &facts.cpu;
    let vendor_name = match vendor.as_str() {
        "GenuineIntel" => Some("Intel"),
        "AuthenticAMD" => Some("AMD"),
        "HygonGenuine" => Some("Hygon"),
        _ => None,
    };
    let signature = signature.map(|(family, model, stepping)| {
        element("signature")
            .attribute("family", family)
            .attribute("model", model)
            .attribute("stepping", stepping)
    });
    let page = |size: &u64| element("pages").attribute("unit", "KiB").attribute("size", size);
    element("cpu")
        .with(element("arch").text(&capabilities.arch))
        .with_all(host_model(vendor, capabilities).map(|model| element("model").text(model)))
        .with_all(vendor_name.map(|name| element("vendor").text(name)))
        .with_all(microcode.map(|version| element("microcode").attribute("version", version)))
        .with_all(signature)
        .with_all(topology(&facts.cells))
        .with_all(facts.page_sizes_kib.iter().map(page))
}

/// Sockets of a cell, dies of a socket, cores of a die, threads of a core: the largest of each, as the places of
/// the processors show them. `None` without processors.
fn topology(cells: &[Cell]) -> Option<Tree> {
    let cpus = || cells.iter().flat_map(|cell| cell.cpus.iter().map(move |cpu| (cell.id, cpu)));
    let sockets = largest_group(cpus().map(|(cell, cpu)| (cell, cpu.socket)))?;
    let dies = largest_group(cpus().map(|(_, cpu)| (cpu.socket, cpu.die)))?;
    let cores = largest_group(cpus().map(|(_, cpu)| ((cpu.socket, cpu.die), cpu.core)))?;
    let threads = cpus().map(|(_, cpu)| cpu.siblings.len().max(1)).max()?;
    let topology = element("topology").attribute("sockets", sockets).attribute("dies", dies);
    Some(topology.attribute("cores", cores).attribute("threads", threads))
}

/// How many different members the group with the most of them has.
fn largest_group<G: Ord + Copy, M: Ord>(pairs: impl Iterator<Item = (G, M)>) -> Option<usize> {
    let pairs: BTreeSet<_> = pairs.collect();
    pairs.iter().map(|(group, _)| pairs.iter().filter(|(other, _)| other == group).count()).max()
}

fn cell(cell: &Cell) -> Tree {
    let page = |(size, count): &(u64, u64)| {
        element("pages").attribute("unit", "KiB").attribute("size", size).text(count)
    };
    let sibling = |(id, value): &(u32, u32)| element("sibling").attribute("id", id).attribute("value", value);
    let cpu = |cpu: &Processor| {
        element("cpu")
            .attribute("id", cpu.id)
            .attribute("socket_id", cpu.socket)
            .attribute("die_id", cpu.die)
            .attribute("core_id", cpu.core)
            .attribute("siblings", ranges(&cpu.siblings))
    };
    element("cell")
        .attribute("id", cell.id)
        .with(element("memory").attribute("unit", "KiB").text(cell.memory_kib))
        .with_all(cell.pages.iter().map(page))
        .with_all(
            (!cell.distances.is_empty())
                .then(|| element("distances").with_all(cell.distances.iter().map(sibling))),
        )
        .with(element("cpus").attribute("num", cell.cpus.len()).with_all(cell.cpus.iter().map(cpu)))
}

fn security((user, group): (u32, u32)) -> Tree {
    let label = |kind| element("baselabel").attribute("type", kind).text(format!("+{user}:+{group}"));
    element("secmodel")
        .with(element("model").text("dac"))
        .with(element("doi").text(0))
        .with_all(["kvm", "qemu"].map(label))
}

fn guest(facts: &HostFacts, capabilities: &Capabilities) -> Tree {
    let (first, rest): (Vec<_>, Vec<_>) =
        capabilities.machines.iter().partition(|machine| machine.is_default);
    let domain = |kind: &str| element("domain").attribute("type", kind);
    let kvm = capabilities.has_accelerator(Accelerator::Kvm);
    let arch = element("arch")
        .attribute("name", &capabilities.arch)
        .with(element("wordsize").text(64))
        .with(element("emulator").text(&facts.emulator))
        .with_all(first.into_iter().chain(rest).flat_map(machine))
        .with(domain("qemu"))
        .with_all(kvm.then(|| domain("kvm")));
    let switch = |name: &str, default: &str, toggle: &str| {
        element(name).attribute("default", default).attribute("toggle", toggle)
    };
    let features = element("features")
        .with(switch("acpi", "on", "yes"))
        .with(switch("apic", "on", "no"))
        .with(element("cpuselection"))
        .with(element("deviceboot"));
    element("guest").with(element("os_type").text("hvm")).with(arch).with(features)
}

/// A machine type, and its short name where it has one.
fn machine(machine: &Machine) -> impl Iterator<Item = Tree> {
    let entry = |canonical: Option<&str>, name: &str| {
        let entry = element("machine");
        let entry = match canonical {
            Some(canonical) => entry.attribute("canonical", canonical),
            None => entry,
        };
        let entry = entry.attribute("maxCpus", machine.cpus_max);
        if machine.deprecated { entry.attribute("deprecated", "yes") } else { entry }.text(name)
    };
    let alias = machine.alias.as_deref().map(|alias| entry(Some(&machine.name), alias));
    std::iter::once(entry(None, &machine.name)).chain(alias)
}

/// `0-3,8`.
fn ranges(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::Element;

    fn captured() -> Capabilities {
        Capabilities::from_json(include_str!("../tests/data/qemu-7.2.json")).unwrap()
    }

    fn processor(id: u32, socket: u32, core: u32, siblings: &[u32]) -> Processor {
        Processor { id, socket, die: 0, core, siblings: siblings.to_vec() }
    }

    /// Two sockets, a cell each, one core of two threads in each.
    fn facts() -> HostFacts {
        let cell = |id: u32, cpus| Cell {
            id,
            memory_kib: 4 << 20,
            pages: vec![(4, 1 << 20), (2048, 0)],
            distances: vec![(0, 10 + 10 * id), (1, 20 - 10 * id)],
            cpus,
        };
        HostFacts {
            uuid: "822127db-e9ab-43df-b375-962e1a97db64".parse().unwrap(),
            cpu: HostCpu {
                vendor: "GenuineIntel".to_owned(),
                signature: Some((6, 143, 4)),
                microcode: Some(1),
            },
            page_sizes_kib: vec![4, 2048],
            iommu: false,
            cells: vec![
                cell(0, vec![processor(0, 0, 0, &[0, 2]), processor(2, 0, 0, &[0, 2])]),
                cell(1, vec![processor(1, 1, 0, &[1, 3]), processor(3, 1, 0, &[1, 3])]),
            ],
            emulator: "/usr/bin/qemu-system-x86_64".to_owned(),
            owner: Some((64055, 108)),
        }
    }

    fn find<'a>(root: &'a Element, path: &str) -> &'a Element {
        path.split('/').fold(root, |element, name| element.child(name).unwrap_or_else(|| panic!("no {name}")))
    }

    #[test]
    fn the_host_as_clients_read_it() {
        let root = Element::parse(&document(&facts(), &captured())).unwrap();
        assert_eq!(find(&root, "host/uuid").text(), "822127db-e9ab-43df-b375-962e1a97db64");
        assert_eq!(find(&root, "host/cpu/arch").text(), "x86_64");
        assert_eq!(find(&root, "host/cpu/vendor").text(), "Intel");
        let topology = &find(&root, "host/cpu/topology").attributes;
        let values: Vec<_> = topology.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(values, [("sockets", "1"), ("dies", "1"), ("cores", "1"), ("threads", "2")]);
        let transports = find(&root, "host/migration_features/uri_transports").elements().map(Element::text);
        assert_eq!(transports.collect::<Vec<_>>(), ["tcp", "unix"]);
        assert_eq!(find(&root, "host/topology/cells").elements().count(), 2);
        let cell = find(&root, "host/topology/cells/cell");
        assert_eq!(find(cell, "memory").text(), "4194304");
        assert_eq!(find(cell, "cpus/cpu").attribute("siblings"), Some("0,2"));
        assert_eq!(find(&root, "host/secmodel/baselabel").text(), "+64055:+108");
    }

    #[test]
    fn the_guests_as_clients_read_them() {
        let mut capabilities = captured();
        let root = Element::parse(&document(&facts(), &capabilities)).unwrap();
        let arch = find(&root, "guest/arch");
        assert_eq!(arch.attribute("name"), Some("x86_64"));
        assert_eq!(find(arch, "emulator").text(), "/usr/bin/qemu-system-x86_64");
        let machines: Vec<_> = arch.elements().filter(|element| element.name == "machine").collect();
        assert_eq!(machines[0].text(), "pc-i440fx-7.2");
        assert_eq!(
            (machines[1].text().as_str(), machines[1].attribute("canonical")),
            ("pc", Some("pc-i440fx-7.2"))
        );
        let q35 = machines.iter().find(|machine| machine.text() == "q35").unwrap();
        assert_eq!((q35.attribute("canonical"), q35.attribute("maxCpus")), (Some("pc-q35-7.2"), Some("288")));
        let old = machines.iter().find(|machine| machine.text() == "pc-i440fx-1.4").unwrap();
        assert_eq!(old.attribute("deprecated"), Some("yes"));
        let kinds = |root: &Element| {
            let domains = find(root, "guest/arch").elements().filter(|element| element.name == "domain");
            domains.map(|domain| domain.attribute("type").unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&root), ["qemu", "kvm"]);
        capabilities.accelerators.remove(&Accelerator::Kvm);
        assert_eq!(kinds(&Element::parse(&document(&facts(), &capabilities)).unwrap()), ["qemu"]);
    }

    #[test]
    fn the_model_is_the_best_usable_one_of_the_vendor() {
        let mut capabilities = captured();
        let models = &mut capabilities.accelerators.entry(Accelerator::Kvm).or_default().cpu_models;
        for model in models.iter_mut() {
            model.lacks = Some(vec!["avx".to_owned()]);
        }
        for model in
            models.iter_mut().filter(|model| ["Haswell", "Nehalem", "EPYC"].contains(&model.name.as_str()))
        {
            model.lacks = Some(vec![]);
        }
        assert_eq!(host_model("GenuineIntel", &capabilities), Some("Haswell"));
        assert_eq!(host_model("AuthenticAMD", &capabilities), Some("EPYC"));
        assert_eq!(host_model("CyrixInstead", &capabilities), None);
        assert!(document(&facts(), &capabilities).contains("<model>Haswell</model>"));
        capabilities.accelerators.remove(&Accelerator::Kvm);
        assert_eq!(host_model("GenuineIntel", &capabilities), None);
        assert!(!document(&facts(), &capabilities).contains("<model>Haswell"));
    }

    #[test]
    fn models_in_the_table_are_models_of_qemu() {
        let newest = Capabilities::from_json(include_str!("../tests/data/qemu-10.0.json")).unwrap();
        for (name, _) in MODELS {
            assert!(newest.cpu_model(Accelerator::Tcg, name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_path_with_markup_in_it_stays_text() {
        let facts = HostFacts { emulator: "/opt/<x>&'/qemu".to_owned(), ..facts() };
        let root = Element::parse(&document(&facts, &captured())).unwrap();
        assert_eq!(find(&root, "guest/arch/emulator").text(), "/opt/<x>&'/qemu");
    }

    #[test]
    fn numbers_are_joined_to_ranges() {
        for (numbers, text) in [
            (&[][..], ""),
            (&[3], "3"),
            (&[0, 1, 2, 3, 8], "0-3,8"),
            (&[0, 2, 3], "0,2-3"),
            (&[u32::MAX], "4294967295"),
        ] {
            assert_eq!(ranges(numbers), text);
        }
    }
}
