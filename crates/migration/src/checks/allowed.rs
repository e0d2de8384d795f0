//! Whether the guest may leave at all: what it is, what is being done with it, what QEMU says.
//!
//! Called through [`super`]. Host devices, block jobs and the like do not survive a move; each has stock's text. What the
//! definition alone shows is looked for in [`super::devices`].

use ferry_domxml::Domain;
use ferry_domxml::clock::TimerName;
use ferry_domxml::cpu::FeaturePolicy;
use ferry_rpc::error::ErrorCode;

use super::{Ask, Finding, Severity, devices};

/// What is known of the guest beside its definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// It ends with the connection that started it.
    pub autodestroy: bool,
    /// Snapshots whose metadata this host keeps.
    pub snapshots: usize,
    /// It is paused by an I/O error.
    pub io_error: bool,
    /// Block jobs that are active.
    pub block_jobs: usize,
    /// Why QEMU cannot migrate it now, in QEMU's words (`blocked-reasons` of `query-migrate`). `None`: nobody says it, for
    /// QEMU is older than 6.0 or the guest is not here; then the table of devices decides.
    pub blockers: Option<Vec<String>>,
    /// Programs beside QEMU that hold a part of the guest's state and cannot send it.
    pub helpers: Vec<Helper>,
}

/// A program beside QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// slirp-helper, for a network without privileges.
    Slirp,
    /// One that gives its state to QEMU over D-Bus, with a QEMU that has no `dbus-vmstate`.
    DbusVmstate,
}

/// What forbids to move this guest now. The destination calls it with no facts, for what the definition alone shows.
pub fn findings(domain: &Domain, facts: &Facts, ask: Ask) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut refuse = |text: String, remedy| {
        found.push(Finding { severity: Severity::Refusal, code: ErrorCode::OPERATION_INVALID, text, remedy });
    };
    if ask.remote && facts.autodestroy {
        refuse(
            "domain is marked for auto destroy".to_owned(),
            "start the guest without --autodestroy: on the other host nobody holds the connection that ends it",
        );
    }
    if ask.remote && facts.snapshots > 0 {
        refuse(
            format!("cannot migrate domain with {} snapshots", facts.snapshots),
            "what this host knows of them would stay behind: let it forget them (`virsh snapshot-delete DOMAIN NAME \
             --metadata`), the snapshots themselves stay in the images",
        );
    }
    // The rest is about a running machine.
    if ask.offline {
        return found;
    }
    if ask.remote && ask.abort_on_error && facts.io_error {
        refuse(
            "cannot migrate domain with I/O error".to_owned(),
            "mend the storage and resume the guest, or migrate without --abort-on-error",
        );
    }
    if facts.block_jobs > 0 {
        refuse(
            "domain has active block job".to_owned(),
            "wait for the block job to end, or end it: `virsh blockjob DOMAIN DISK --abort`",
        );
    }
    for reason in facts.blockers.iter().flatten() {
        refuse(
            format!("cannot migrate domain: {reason}"),
            "take out of the guest what QEMU names; it cannot be moved while the guest has it",
        );
    }
    for disk in domain.devices.disks.iter().filter(|disk| disk.transient) {
        refuse(
            format!("migration with transient disk is not supported (disk {})", disk.target.dev),
            "what the guest wrote to the disk is in a file that only this host has: detach the disk first",
        );
    }
    let modules = domain.devices.memories.iter().filter(|memory| memory.is_module());
    for memory in modules.filter(|memory| memory.slot().is_none() || memory.base().is_none()) {
        let name = memory.info.alias.as_deref().unwrap_or("without a name");
        refuse(
            format!("domain's dimm info lacks slot ID or base address (memory device {name})"),
            "the other host could put the memory elsewhere in the guest's address space: detach the device, or start the guest anew",
        );
    }
    if ask.remote && has_invariant_tsc(domain) && !has_tsc_frequency(domain) {
        refuse(
            "domain has 'invtsc' CPU feature but TSC frequency is not specified".to_owned(),
            "give <timer name='tsc' frequency='…'/>, so that the other host can be held to it",
        );
    }
    for helper in &facts.helpers {
        let (text, remedy) = match helper {
            Helper::Slirp => (
                "a slirp-helper cannot be migrated",
                "use a slirp-helper that can migrate, or plug the card into a bridge",
            ),
            Helper::DbusVmstate => (
                "cannot migrate this domain without dbus-vmstate support",
                "use a QEMU with dbus-vmstate: it takes along what programs beside it know",
            ),
        };
        refuse(text.to_owned(), remedy);
    }
    found.extend(devices::findings(&domain.elements(), facts.blockers.is_some()));
    found
}

fn has_invariant_tsc(domain: &Domain) -> bool {
    let features = domain.cpu.iter().flat_map(|cpu| &cpu.features);
    features
        .filter(|feature| feature.name == "invtsc")
        .any(|feature| matches!(feature.policy, None | Some(FeaturePolicy::Force | FeaturePolicy::Require)))
}

fn has_tsc_frequency(domain: &Domain) -> bool {
    let timers = domain.clock.iter().flat_map(|clock| &clock.timers);
    timers.into_iter().any(|timer| timer.name == TimerName::Tsc && timer.frequency_hz.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_rpc::flags::MigrateFlags;

    fn domain(inner: &str) -> Domain {
        let xml = format!(
            "<domain type='qemu'><name>vm</name><memory>65536</memory>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os>{inner}</domain>"
        );
        Domain::parse(&xml).unwrap()
    }

    fn texts(domain: &Domain, facts: &Facts, flags: MigrateFlags) -> Vec<String> {
        let found = findings(domain, facts, Ask::of(flags));
        assert!(found.iter().all(|finding| !finding.remedy.is_empty()));
        found.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn each_fact_alone_forbids_it_and_all_are_told_together() {
        let plain = domain("");
        assert_eq!(texts(&plain, &Facts::default(), MigrateFlags::LIVE), [""; 0]);
        let one = |facts: Facts| texts(&plain, &facts, MigrateFlags::LIVE);
        assert_eq!(
            one(Facts { autodestroy: true, ..Facts::default() }),
            ["domain is marked for auto destroy"]
        );
        assert_eq!(
            one(Facts { snapshots: 2, ..Facts::default() }),
            ["cannot migrate domain with 2 snapshots"]
        );
        assert_eq!(one(Facts { block_jobs: 1, ..Facts::default() }), ["domain has active block job"]);
        let vdi = "The vdi format used by node 'libvirt-1-format' does not support live migration";
        assert_eq!(
            one(Facts { blockers: Some(vec![vdi.to_owned()]), ..Facts::default() }),
            [format!("cannot migrate domain: {vdi}")]
        );
        let helpers = |helper| one(Facts { helpers: vec![helper], ..Facts::default() });
        assert_eq!(helpers(Helper::Slirp), ["a slirp-helper cannot be migrated"]);
        assert_eq!(helpers(Helper::DbusVmstate), ["cannot migrate this domain without dbus-vmstate support"]);
        let all = Facts {
            autodestroy: true,
            snapshots: 1,
            block_jobs: 2,
            io_error: true,
            blockers: Some(vec!["a".into(), "b".into()]),
            helpers: vec![Helper::Slirp],
        };
        assert_eq!(texts(&plain, &all, MigrateFlags::LIVE | MigrateFlags::ABORT_ON_ERROR).len(), 7);
    }

    #[test]
    fn an_io_error_forbids_it_only_to_whom_errors_matter() {
        let facts = Facts { io_error: true, ..Facts::default() };
        assert_eq!(texts(&domain(""), &facts, MigrateFlags::LIVE), [""; 0]);
        assert_eq!(
            texts(&domain(""), &facts, MigrateFlags::ABORT_ON_ERROR),
            ["cannot migrate domain with I/O error"]
        );
    }

    #[test]
    fn a_definition_alone_moves_whatever_the_machine_does() {
        let facts = Facts { block_jobs: 1, blockers: Some(vec!["a".into()]), ..Facts::default() };
        let device = domain("<devices><hostdev mode='subsystem' type='pci'/></devices>");
        assert_eq!(texts(&device, &facts, MigrateFlags::OFFLINE), [""; 0]);
        let bound = Facts { autodestroy: true, snapshots: 1, ..facts };
        assert_eq!(texts(&device, &bound, MigrateFlags::OFFLINE).len(), 2);
    }

    #[test]
    fn a_guest_that_stays_on_its_host_is_asked_less() {
        let here = Ask { remote: false, ..Ask::of(MigrateFlags::ABORT_ON_ERROR) };
        let facts = Facts { autodestroy: true, snapshots: 3, io_error: true, ..Facts::default() };
        assert_eq!(findings(&domain(""), &facts, here), []);
        // What stops QEMU itself stops it here too.
        let facts = Facts { block_jobs: 1, blockers: Some(vec!["a".into()]), ..facts };
        assert_eq!(findings(&domain(""), &facts, here).len(), 2);
    }

    #[test]
    fn what_is_written_to_a_transient_disk_does_not_follow() {
        let disk = |more: &str| {
            domain(&format!(
                "<devices><disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/>{more}\
                 </disk></devices>"
            ))
        };
        assert_eq!(texts(&disk(""), &Facts::default(), MigrateFlags::LIVE), [""; 0]);
        let found = texts(&disk("<transient/>"), &Facts::default(), MigrateFlags::LIVE);
        assert_eq!(found, ["migration with transient disk is not supported (disk vda)"]);
    }

    #[test]
    fn an_invariant_clock_needs_its_frequency_unless_the_guest_stays_on_this_host() {
        let cpu = |policy: &str, clock: &str| {
            domain(&format!(
                "<cpu mode='host-model'><feature policy='{policy}' name='invtsc'/></cpu><clock offset='utc'>{clock}</clock>"
            ))
        };
        let timer = "<timer name='tsc' frequency='2400000000'/>";
        let none = Facts::default();
        assert_eq!(texts(&cpu("require", ""), &none, MigrateFlags::LIVE).len(), 1);
        assert_eq!(texts(&cpu("force", "<timer name='tsc'/>"), &none, MigrateFlags::LIVE).len(), 1);
        assert_eq!(texts(&cpu("require", timer), &none, MigrateFlags::LIVE), [""; 0]);
        assert_eq!(texts(&cpu("disable", ""), &none, MigrateFlags::LIVE), [""; 0]);
        let here = Ask { remote: false, ..Ask::of(MigrateFlags::LIVE) };
        assert_eq!(findings(&cpu("require", ""), &none, here), []);
    }
}
