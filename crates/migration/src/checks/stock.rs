//! What can be known beforehand of a destination that runs no ferryd: what its ordinary calls tell.
//!
//! Called by the tool, which asks. [`Wanted`] is what the guest's definition wants of the host, [`Told`] what the host has
//! said, [`NOT_KNOWN`] what nobody could ask.

use ferry_domxml::interface::Network;
use ferry_domxml::{Domain, DomainKind, Uuid};
use ferry_rpc::error::{Error, ErrorCode};

use super::fits::{self, Memory, Overcommit};
use super::{Finding, Severity};

/// What shows only when the migration is tried.
pub const NOT_KNOWN: [&str; 5] = [
    "images and what they are based on",
    "bridges and whether networks are started",
    "free ports and the way for the memory",
    "which devices it would build",
    "its clock",
];

/// What a definition wants of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The guest's name.
    pub name: String,
    /// The guest.
    pub uuid: Option<Uuid>,
    /// Path of the emulator.
    pub emulator: Option<String>,
    /// The architecture.
    pub arch: Option<String>,
    /// The machine type.
    pub machine: Option<String>,
    /// `qemu` or `kvm`.
    pub kind: &'static str,
    /// Bytes.
    pub memory: u64,
    /// The processor, when it is described, as an element.
    pub cpu: Option<String>,
    /// Names of networks.
    pub networks: Vec<String>,
}

/// What a host has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The domain of the guest's name: which, and whether it runs.
    pub by_name: Option<(Uuid, bool)>,
    /// The domain with the guest's UUID: its name, and whether it runs.
    pub by_uuid: Option<(String, bool)>,
    /// Why it cannot tell what its hypervisor can do with such a machine.
    pub no_machine: Option<Error>,
    /// The processor does not fit; only asked where the host's own processor runs the guest.
    pub no_processor: bool,
    /// Memory: all, and what is free. Bytes.
    pub memory: Option<(u64, u64)>,
    /// Networks that it does not know.
    pub no_networks: Vec<String>,
}

impl Wanted {
    /// Of a definition; `name` is what it is to be called there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(xml: &str, name: Option<&str>) -> Result<Self, ferry_domxml::ParseError> {
        let domain = Domain::parse(xml)?;
        let networks = domain.devices.interfaces.iter().filter_map(|card| match &card.source.network {
            Network::Network { network, .. } => Some(network.clone()),
            Network::User | Network::Ethernet | Network::Bridge { .. } => None,
        });
        Ok(Self {
            name: name.unwrap_or(&domain.name).to_owned(),
            uuid: domain.uuid,
            emulator: domain.devices.emulator.clone(),
            arch: domain.os.machine.arch.map(|arch| arch.as_str().to_owned()),
            machine: domain.os.machine.machine.clone(),
            kind: match domain.kind {
                DomainKind::Qemu => "qemu",
                DomainKind::Kvm => "kvm",
            },
            memory: domain.memory.kib.saturating_mul(1024),
            cpu: domain.cpu.as_ref().filter(|cpu| cpu.model.is_some()).map(ferry_domxml::cpu::Cpu::to_xml),
            networks: networks.collect(),
        })
    }
}

/// What stands in the way, as far as the host has told.
pub fn findings(wanted: &Wanted, told: &Told) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut refuse = |code, text: String, remedy| {
        found.push(Finding { severity: Severity::Refusal, code, text, remedy });
    };
    let is_ours = |uuid: &Uuid| Some(*uuid) == wanted.uuid;
    match (&told.by_name, &told.by_uuid) {
        (Some((uuid, _)), _) if !is_ours(uuid) => refuse(
            ErrorCode::OPERATION_FAILED,
            format!("domain '{}' already exists with uuid {uuid}", wanted.name),
            "rename the guest for the destination: --dname NAME",
        ),
        (_, Some((name, _))) if *name != wanted.name => refuse(
            ErrorCode::OPERATION_FAILED,
            format!("domain '{name}' is already defined with the guest's uuid"),
            "undefine the domain on the destination, or give the guest its name: --dname",
        ),
        (Some((_, true)), _) | (_, Some((_, true))) => refuse(
            ErrorCode::OPERATION_INVALID,
            format!("domain '{}' is already active", wanted.name),
            "the guest runs on the destination already: see which of the two is the one",
        ),
        (Some(_) | None, Some(_) | None) => {}
    }
    if let Some(error) = &told.no_machine {
        found.push(Finding {
            severity: Severity::Refusal,
            code: error.code,
            text: bare(error),
            remedy: "install on the destination an emulator at the same path, which has the machine type",
        });
    }
    if told.no_processor {
        found.push(Finding {
            severity: Severity::Refusal,
            code: ErrorCode::CPU_INCOMPATIBLE,
            text: "the destination's processor cannot give the guest its CPU".to_owned(),
            remedy: "give the guest a CPU model that both hosts have (`virsh hypervisor-cpu-baseline`), and start it anew",
        });
    }
    for network in &told.no_networks {
        found.push(Finding {
            severity: Severity::Refusal,
            code: ErrorCode::NO_NETWORK,
            text: format!("no network with matching name '{network}'"),
            remedy: "define the network on the destination, or name another one with --xml",
        });
    }
    // How far its kernel would go is not known: what is not free is only a warning.
    let memory = told.memory.map(|(total, available)| Memory {
        total,
        available,
        swap: 0,
        overcommit: Overcommit::Always,
    });
    found.extend(memory.and_then(|memory| fits::memory(wanted.memory, &memory)));
    found
}

/// The host's text without the words that its code puts in front of every text.
fn bare(error: &Error) -> String {
    let prefix = Error::of(error.code, error.origin, "").message;
    error.message.strip_prefix(&prefix).unwrap_or(&error.message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_rpc::error::Origin;

    const XML: &str = "<domain type='kvm'><name>vm</name><uuid>00000000-0000-0000-0000-000000000007</uuid>\
        <memory unit='MiB'>64</memory><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>\
        <cpu mode='custom'><model>Nehalem</model></cpu>\
        <devices><emulator>/usr/bin/qemu</emulator>\
        <interface type='network'><source network='inner'/></interface><interface type='user'/></devices></domain>";

    fn wanted() -> Wanted {
        Wanted::read(XML, None).unwrap()
    }

    fn texts(told: &Told) -> Vec<String> {
        findings(&wanted(), told).iter().map(|finding| finding.error().message).collect()
    }

    #[test]
    fn a_definition_says_what_it_wants() {
        let wanted = wanted();
        assert_eq!((wanted.name.as_str(), wanted.kind, wanted.memory), ("vm", "kvm", 64 << 20));
        assert_eq!(
            (wanted.machine.as_deref(), wanted.emulator.as_deref()),
            (Some("pc-q35-7.2"), Some("/usr/bin/qemu"))
        );
        assert_eq!(wanted.networks, ["inner"]);
        assert!(wanted.cpu.unwrap().contains("Nehalem"));
        assert_eq!(Wanted::read(XML, Some("new")).unwrap().name, "new");
        assert!(Wanted::read("<nonsense", None).is_err());
    }

    #[test]
    fn each_answer_alone_stands_in_the_way() {
        let (ours, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let none = Told::default();
        assert_eq!(texts(&none), [""; 0]);
        let shut =
            Told { by_name: Some((ours, false)), by_uuid: Some(("vm".to_owned(), false)), ..none.clone() };
        assert_eq!(texts(&shut), [""; 0], "the same guest, shut off");
        let taken = Told { by_name: Some((other, false)), ..none.clone() };
        assert_eq!(
            texts(&taken),
            [format!("operation failed: domain 'vm' already exists with uuid {other}")]
        );
        let named = Told { by_uuid: Some(("else".to_owned(), true)), ..none.clone() };
        assert!(texts(&named)[0].contains("domain 'else' is already defined"));
        let runs = Told { by_name: Some((ours, true)), ..none.clone() };
        assert_eq!(texts(&runs), ["Requested operation is not valid: domain 'vm' is already active"]);
        let error = Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, "the machine 'x' is not supported");
        let machine = Told { no_machine: Some(error.clone()), ..none.clone() };
        assert_eq!(texts(&machine), [error.message]);
        let processor = Told { no_processor: true, ..none.clone() };
        assert_eq!(findings(&wanted(), &processor)[0].code, ErrorCode::CPU_INCOMPATIBLE);
        let network = Told { no_networks: vec!["inner".to_owned()], ..none.clone() };
        assert_eq!(texts(&network), ["Network not found: no network with matching name 'inner'"]);
        let memory = Told { memory: Some((1 << 30, 1 << 20)), ..none };
        let found = findings(&wanted(), &memory);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
    }
}
