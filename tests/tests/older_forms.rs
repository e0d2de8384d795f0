//! The protocol's older forms: migration with plain fields, and calls that have newer siblings. Clients of old make them,
//! and so do today's where they need no more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use ferry_rpc::flags::{
    DestroyFlags, ListFlags, MaxSpeedFlags, MigrateFlags, ShutdownFlags, StartFlags, XmlFlags,
};
use ferry_rpc::proto::{
    ConnectDomainEventDeregister, ConnectDomainEventDeregisterAny, ConnectDomainEventRegister,
    ConnectDomainEventRegisterAny, ConnectGetHostname, ConnectGetLibVersion, ConnectGetType,
    ConnectGetVersion, ConnectListAllDomains, ConnectListDefinedDomains, ConnectListDomains,
    ConnectNumOfDefinedDomains, ConnectNumOfDomains, Cookie, DomainAbortJob, DomainCreate, DomainCreateXml,
    DomainDefineXml, DomainDestroy, DomainDestroyFlags, DomainEventLifecycle, DomainGetInfo,
    DomainGetJobInfo, DomainGetMaxMemory, DomainGetMaxVcpus, DomainGetOsType, DomainGetState, DomainGetVcpus,
    DomainGetXmlDesc, DomainIsActive, DomainIsPersistent, DomainLookupById, DomainLookupByName,
    DomainLookupByUuid, DomainMigrateBegin3, DomainMigrateConfirm3, DomainMigrateFinish3,
    DomainMigrateGetMaxDowntime, DomainMigrateGetMaxSpeed, DomainMigratePerform3, DomainMigratePrepare3,
    DomainMigratePrepareTunnel3, DomainMigrateSetMaxDowntime, DomainMigrateSetMaxSpeed, DomainReboot,
    DomainRef, DomainResume, DomainSetMaxMemory, DomainSetMemory, DomainSetVcpus, DomainShutdown,
    DomainSuspend, DomainUndefine, MigratePrepareReply, NodeGetInfo,
};
use ferry_rpc::values::{DomainState, EventId, JobType, LifecycleEvent};
use ferry_testkit::serial::Serial;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::wire::Wire;
use ferry_tests::{Pair, SOON};

const LIVE: MigrateFlags = MigrateFlags::LIVE.with(MigrateFlags::UNSAFE);

/// A client that migrates by plain fields, and a connection to each host.
struct Client {
    wires: [Wire; 2],
    /// What it asks for, beside what the protocol has it add.
    flags: MigrateFlags,
    name: Option<String>,
}

/// How a step failed: which one, and code and origin.
type Failure = (&'static str, i32, i32);

fn failed(step: &'static str) -> impl Fn(ferry_rpc::Error) -> Failure {
    move |error| (step, error.code.0, error.origin.0)
}

impl Client {
    fn new(pair: &Pair, flags: MigrateFlags) -> Self {
        Self { wires: [0, 1].map(|number| Wire::open(pair.daemon(number))), flags, name: None }
    }

    fn guest(&mut self, host: usize, name: &str) -> DomainRef {
        self.wires[host].ask(&DomainLookupByName { name: name.to_owned() }).unwrap()
    }

    /// The source's flags: it keeps its job from Begin to Confirm.
    fn protected(&self) -> u64 {
        self.flags.with(MigrateFlags::CHANGE_PROTECTION).bits().into()
    }

    fn begin(&mut self, from: usize, domain: &DomainRef) -> Result<(Cookie, String), Failure> {
        let call = DomainMigrateBegin3 {
            domain: domain.clone(),
            xml: None,
            flags: self.protected(),
            destination_name: self.name.clone(),
            bandwidth: 0,
        };
        self.wires[from].ask(&call).map(|begun| (begun.cookie, begun.xml)).map_err(failed("begin"))
    }

    fn prepare(&mut self, to: usize, cookie: Cookie, xml: &str) -> Result<MigratePrepareReply, Failure> {
        let call = DomainMigratePrepare3 {
            cookie,
            uri: None,
            flags: self.flags.bits().into(),
            destination_name: self.name.clone(),
            bandwidth: 0,
            xml: xml.to_owned(),
        };
        self.wires[to].ask(&call).map_err(failed("prepare"))
    }

    fn perform(
        &mut self,
        from: usize,
        domain: &DomainRef,
        cookie: Cookie,
        uri: Option<String>,
    ) -> Result<Cookie, Failure> {
        let call = DomainMigratePerform3 {
            domain: domain.clone(),
            xml: None,
            cookie,
            destination_uri: None,
            uri,
            flags: self.protected(),
            destination_name: self.name.clone(),
            bandwidth: 0,
        };
        self.wires[from].ask(&call).map_err(failed("perform"))
    }

    fn finish(
        &mut self,
        to: usize,
        domain: &DomainRef,
        cookie: Cookie,
        cancelled: bool,
    ) -> Result<(DomainRef, Cookie), Failure> {
        let call = DomainMigrateFinish3 {
            destination_name: self.name.clone().unwrap_or_else(|| domain.name.clone()),
            cookie,
            destination_uri: None,
            uri: None,
            flags: self.flags.bits().into(),
            cancelled,
        };
        self.wires[to].ask(&call).map(|reply| (reply.domain, reply.cookie)).map_err(failed("finish"))
    }

    fn confirm(
        &mut self,
        from: usize,
        domain: &DomainRef,
        cookie: Cookie,
        cancelled: bool,
    ) -> Result<(), Failure> {
        let call =
            DomainMigrateConfirm3 { domain: domain.clone(), cookie, flags: self.protected(), cancelled };
        self.wires[from].ask(&call).map_err(failed("confirm"))
    }

    /// All five, as a client of old makes them.
    fn migrate(&mut self, from: usize, name: &str) -> Result<DomainRef, Failure> {
        let to = 1 - from;
        let domain = self.guest(from, name);
        let (cookie, xml) = self.begin(from, &domain)?;
        let prepared = match self.prepare(to, cookie, &xml) {
            Ok(prepared) => prepared,
            Err(failure) => {
                self.confirm(from, &domain, Cookie::default(), true)?;
                return Err(failure);
            }
        };
        let performed = match self.perform(from, &domain, prepared.cookie, prepared.uri) {
            Ok(cookie) => cookie,
            Err(failure) => {
                let (step, code, _) = self.finish(to, &domain, Cookie::default(), true).unwrap_err();
                assert_eq!((step, code), ("finish", 93), "cleaned up as asked");
                return Err(failure);
            }
        };
        let (arrived, cookie) = self.finish(to, &domain, performed, false)?;
        self.confirm(from, &domain, cookie, false)?;
        Ok(arrived)
    }
}

fn beating() -> (Pair, Serial) {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    (pair, serial)
}

/// Hosts without namespaces share a name that need not lead to this machine.
fn isolated(pair: &Pair) -> bool {
    let isolated = pair.host(0).is_isolated();
    if !isolated {
        eprintln!("hosts that are to be found by their names need namespaces");
    }
    isolated
}

#[test]
fn a_guest_goes_there_and_back_by_plain_fields() {
    let (pair, serial) = beating();
    if !isolated(&pair) {
        return;
    }
    for flags in
        [LIVE, LIVE | MigrateFlags::PERSIST_DEST | MigrateFlags::UNDEFINE_SOURCE, MigrateFlags::UNSAFE]
    {
        for from in [0, 1] {
            let arrived = Client::new(&pair, flags).migrate(from, "vm").unwrap();
            assert_eq!(arrived.name, "vm");
            assert!(arrived.id > 0, "{arrived:?}");
            pair.moved(from, "vm", "running (migrated)", &serial);
        }
    }
    // With UNDEFINE_SOURCE the definition has gone along.
    let words = ["dominfo", "vm"];
    assert_eq!(pair.virsh(0).field(&words, "Persistent"), "yes");
    assert_eq!(pair.virsh(1).domains().unwrap(), Vec::<String>::new());
}

/// The coordinator's connection stays open, as a long-lived client's does: nothing of the guest is in the way of another.
#[test]
fn a_name_is_free_once_its_guest_has_left() {
    let (pair, serial) = beating();
    if !isolated(&pair) {
        return;
    }
    let mut client = Client::new(&pair, LIVE | MigrateFlags::PERSIST_DEST | MigrateFlags::UNDEFINE_SOURCE);
    let left = client.migrate(0, "vm").unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    let xml = "<domain type='qemu'><name>vm</name><memory>32768</memory><os><type>hvm</type></os></domain>";
    let namesake = client.wires[0].ask(&DomainDefineXml { xml: xml.to_owned() }).unwrap();
    assert_ne!(namesake.uuid, left.uuid);
    assert_eq!(client.guest(0, "vm"), namesake);
    // It is in the way of the one that wants to come back.
    assert_eq!(client.migrate(1, "vm").unwrap_err().0, "prepare");
    drop(client);
    let mut client = Client::new(&pair, LIVE);
    assert_eq!(client.guest(0, "vm"), namesake, "the end of the coordinator takes nothing away");
    client.wires[0].ask(&DomainUndefine { domain: namesake }).unwrap();
    client.migrate(1, "vm").unwrap();
    pair.moved(1, "vm", "running (migrated)", &serial);
}

#[test]
fn names_and_peers_by_plain_fields() {
    let (pair, serial) = beating();
    if !isolated(&pair) {
        return;
    }
    let mut renaming = Client::new(&pair, LIVE);
    renaming.name = Some("renamed".to_owned());
    assert_eq!(renaming.migrate(0, "vm").unwrap().name, "renamed");
    pair.moved(0, "renamed", "running (migrated)", &serial);

    // Peer to peer the one call is all of it.
    let mut client = Client::new(&pair, LIVE);
    let domain = client.guest(1, "renamed");
    let flags = LIVE | MigrateFlags::PEER2PEER;
    let call = DomainMigratePerform3 {
        domain,
        xml: None,
        cookie: Cookie::default(),
        destination_uri: Some(pair.uri(0)),
        uri: None,
        flags: flags.bits().into(),
        destination_name: Some("vm".to_owned()),
        bandwidth: 1000,
    };
    assert_eq!(client.wires[1].ask(&call).unwrap(), Cookie::default());
    pair.moved(1, "vm", "running (migrated)", &serial);
}

#[test]
fn a_definition_alone_goes_by_plain_fields() {
    let (pair, serial) = beating();
    if !isolated(&pair) {
        return;
    }
    let mut client = Client::new(&pair, MigrateFlags::OFFLINE | MigrateFlags::PERSIST_DEST);
    let domain = client.guest(0, "vm");
    let (cookie, xml) = client.begin(0, &domain).unwrap();
    client.prepare(1, cookie, &xml).unwrap();
    let (defined, cookie) = client.finish(1, &domain, Cookie::default(), false).unwrap();
    assert_eq!((defined.name.as_str(), defined.id), ("vm", -1));
    client.confirm(0, &domain, cookie, false).unwrap();
    assert_eq!(pair.virsh(1).reason("vm"), "shut off (unknown)");
    assert_eq!(pair.virsh(0).state("vm").unwrap(), "running");
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
}

#[test]
fn what_fails_on_the_way_by_plain_fields() {
    let (pair, serial) = beating();
    if !isolated(&pair) {
        return;
    }
    let mut client = Client::new(&pair, LIVE);
    let domain = client.guest(0, "vm");

    // Nobody listens where the copy is to go.
    let (cookie, xml) = client.begin(0, &domain).unwrap();
    let prepared = client.prepare(1, cookie, &xml).unwrap();
    let nowhere = Some("tcp:192.0.2.2:9".to_owned());
    let (step, code, _) = client.perform(0, &domain, prepared.cookie, nowhere).unwrap_err();
    assert_eq!((step, code), ("perform", 9));
    assert_eq!(client.finish(1, &domain, Cookie::default(), true).unwrap_err().1, 93);
    pair.stayed("vm", &serial);

    // The destination does not want it.
    let (cookie, xml) = client.begin(0, &domain).unwrap();
    let other = xml.replace("<type arch='x86_64' machine='", "<type arch='x86_64' machine='no-such-");
    assert_ne!(other, xml);
    assert_eq!(client.prepare(1, cookie, &other).unwrap_err().0, "prepare");
    client.confirm(0, &domain, Cookie::default(), true).unwrap();
    pair.stayed("vm", &serial);

    // Flags beyond those that there are, and what is not built.
    let mut begin = DomainMigrateBegin3 {
        domain: domain.clone(),
        xml: None,
        flags: 1 << 40,
        destination_name: None,
        bandwidth: 0,
    };
    assert_eq!(client.wires[0].ask(&begin).unwrap_err().code.0, 8);
    begin.flags = MigrateFlags::TUNNELLED.with(MigrateFlags::PEER2PEER).bits().into();
    assert_eq!(client.wires[0].ask(&begin).unwrap_err().code.0, 74);
    let flags = begin.flags;
    let (cookie, bandwidth) = (Cookie::default(), 0);
    let tunnel = DomainMigratePrepareTunnel3 { cookie, flags, destination_name: None, bandwidth, xml };
    assert_eq!(client.wires[1].ask(&tunnel).unwrap_err().code.0, 74);
    pair.stayed("vm", &serial);
    client.migrate(0, "vm").unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}

#[test]
fn the_life_of_a_guest_in_the_oldest_calls() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = domain.emulator(pair.emulator()).xml();
    let mut wire = Wire::open(pair.daemon(0));
    assert_eq!(wire.ask(&ConnectGetType {}).unwrap(), "QEMU");
    assert!(wire.ask(&ConnectGetVersion {}).unwrap() >= 7_002_000);
    assert!(wire.ask(&ConnectGetLibVersion {}).unwrap() > 0);
    assert!(!wire.ask(&ConnectGetHostname {}).unwrap().is_empty());
    let node = wire.ask(&NodeGetInfo {}).unwrap();
    assert!(node.cpus > 0 && node.memory > 0, "{node:?}");
    assert_eq!(wire.ask(&ConnectNumOfDomains {}).unwrap(), 0);

    let defined = wire.ask(&DomainDefineXml { xml: xml.clone() }).unwrap();
    let vm = |id| DomainRef { id, ..defined.clone() };
    assert_eq!(defined.id, -1);
    assert_eq!(wire.ask(&ConnectNumOfDefinedDomains {}).unwrap(), 1);
    assert_eq!(wire.ask(&ConnectListDefinedDomains { maxnames: 10 }).unwrap().names, ["vm"]);
    assert!(wire.ask(&ConnectListDefinedDomains { maxnames: 0 }).unwrap().names.is_empty());
    assert!(!wire.ask(&DomainIsActive { domain: vm(-1) }).unwrap());
    assert!(wire.ask(&DomainIsPersistent { domain: vm(-1) }).unwrap());
    // The maximum of what was kept, before there is a guest.
    wire.ask(&DomainSetMaxMemory { domain: vm(-1), memory: 40960 }).unwrap();
    assert_eq!(wire.ask(&DomainGetMaxMemory { domain: vm(-1) }).unwrap(), 40960);

    // Events without a callback id, in both forms.
    let mut listener = Wire::open(pair.daemon(0));
    assert!(listener.ask(&ConnectDomainEventRegister {}).unwrap() >= 0);
    wire.ask(&DomainCreate { domain: vm(-1) }).unwrap();
    let event = |listener: &mut Wire| listener.message::<DomainEventLifecycle>().event;
    let until = |listener: &mut Wire, wanted: LifecycleEvent| {
        while event(listener) != wanted {}
    };
    until(&mut listener, LifecycleEvent::STARTED);
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();

    // Clients look a started domain up again to learn its id.
    let running = wire.ask(&DomainLookupByUuid { uuid: defined.uuid }).unwrap();
    assert!(running.id > 0);
    assert_eq!(wire.ask(&DomainLookupById { id: running.id }).unwrap(), running);
    assert_eq!(wire.ask(&DomainLookupById { id: running.id + 1 }).unwrap_err().code.0, 42);
    assert_eq!(wire.ask(&ConnectNumOfDomains {}).unwrap(), 1);
    assert_eq!(wire.ask(&ConnectListDomains { maxids: 10 }).unwrap().ids, [running.id]);
    assert_eq!(wire.ask(&ConnectNumOfDefinedDomains {}).unwrap(), 0);

    // What they say is what the newer ones say.
    let all = wire.ask(&ConnectListAllDomains { need_results: true, flags: ListFlags::NONE }).unwrap();
    assert_eq!(all.domains, std::slice::from_ref(&running));
    let info = wire.ask(&DomainGetInfo { domain: running.clone() }).unwrap();
    let state = wire.ask(&DomainGetState { domain: running.clone(), flags: 0 }).unwrap();
    assert_eq!(i32::from(info.state), state.state.0);
    assert_eq!((info.max_memory, info.vcpus), (40960, 1));
    assert_eq!(wire.ask(&DomainGetOsType { domain: running.clone() }).unwrap(), "hvm");
    assert_eq!(wire.ask(&DomainGetMaxVcpus { domain: running.clone() }).unwrap(), 1);
    let vcpus = wire.ask(&DomainGetVcpus { domain: running.clone(), maxinfo: 4, maplen: 8 }).unwrap();
    assert_eq!(vcpus.info.len(), 1);
    let shown = wire.ask(&DomainGetXmlDesc { domain: running.clone(), flags: XmlFlags::NONE }).unwrap();
    assert!(shown.contains(&format!("id='{}'", running.id)), "{shown}");
    wire.ask(&DomainSetMemory { domain: running.clone(), memory: 36864 }).unwrap();
    assert!(wire.ask(&DomainSetVcpus { domain: running.clone(), nvcpus: 2 }).is_err(), "it has one");

    // A job that there is not, and the limits of one that may come.
    let job = wire.ask(&DomainGetJobInfo { domain: running.clone() }).unwrap();
    assert_eq!(job.kind, JobType::NONE);
    assert_eq!(wire.ask(&DomainAbortJob { domain: running.clone() }).unwrap_err().code.0, 55);
    let downtime = DomainMigrateSetMaxDowntime { domain: running.clone(), downtime: 77, flags: 0 };
    wire.ask(&downtime).unwrap();
    let limit = DomainMigrateGetMaxDowntime { domain: running.clone(), flags: 0 };
    assert_eq!(wire.ask(&limit).unwrap(), 77);
    let flags = MaxSpeedFlags::NONE;
    wire.ask(&DomainMigrateSetMaxSpeed { domain: running.clone(), bandwidth: 33, flags }).unwrap();
    assert_eq!(wire.ask(&DomainMigrateGetMaxSpeed { domain: running.clone(), flags }).unwrap(), 33);

    wire.ask(&DomainSuspend { domain: running.clone() }).unwrap();
    until(&mut listener, LifecycleEvent::SUSPENDED);
    let state = wire.ask(&DomainGetState { domain: running.clone(), flags: 0 }).unwrap();
    assert_eq!(state.state, DomainState::PAUSED);
    wire.ask(&DomainResume { domain: running.clone() }).unwrap();
    until(&mut listener, LifecycleEvent::RESUMED);
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
    // The guest knows no power button: asking is all that there is.
    wire.ask(&DomainShutdown { domain: running.clone() }).unwrap();
    wire.ask(&DomainReboot { domain: running.clone(), flags: ShutdownFlags::NONE }).unwrap();

    // A guest whose definition goes is transient, and gone with its end.
    listener.ask(&ConnectDomainEventDeregister {}).unwrap();
    listener.ask(&ConnectDomainEventRegisterAny { event_id: EventId::LIFECYCLE }).unwrap();
    wire.ask(&DomainUndefine { domain: running.clone() }).unwrap();
    until(&mut listener, LifecycleEvent::UNDEFINED);
    assert!(!wire.ask(&DomainIsPersistent { domain: running.clone() }).unwrap());
    wire.ask(&DomainDestroy { domain: running.clone() }).unwrap();
    until(&mut listener, LifecycleEvent::STOPPED);
    listener.ask(&ConnectDomainEventDeregisterAny { event_id: EventId::LIFECYCLE }).unwrap();
    assert_eq!(wire.ask(&DomainGetInfo { domain: running }).unwrap_err().code.0, 42);
    pair.is_clean(0, "vm");

    // And one that never had any.
    let made = wire.ask(&DomainCreateXml { xml, flags: StartFlags::NONE }).unwrap();
    assert!(made.id > 0);
    wire.ask(&DomainDestroyFlags { domain: made, flags: DestroyFlags::NONE }).unwrap();
    pair.is_clean(0, "vm");
}
