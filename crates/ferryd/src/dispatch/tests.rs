//! A client on a connection to a host of its own, without sockets and without QEMU.

use std::sync::Arc;
use std::time::Duration;

use ferry_rpc::error::Error;
use ferry_rpc::flags::OpenFlags;
use ferry_rpc::header::{Header, Kind, Status};
use ferry_rpc::procedure::{Access, Procedure, Program};
use ferry_rpc::proto::{
    Arguments, AuthList, ConnectClose, ConnectDomainEventCallbackDeregisterAny,
    ConnectDomainEventCallbackRegisterAny, ConnectDomainEventDeregister, ConnectDomainEventRegister,
    ConnectGetHostname, ConnectGetType, ConnectListAllDomains, ConnectOpen, ConnectSupportsFeature,
    DomainCreate, DomainDefineXml, DomainEventCallbackJobCompleted, DomainEventCallbackLifecycle,
    DomainEventLifecycle, DomainGetState, DomainLookupByName, DomainRef, Message,
};
use ferry_rpc::typed_param::TypedParam;
use ferry_rpc::values::{EventId, Feature, LifecycleEvent};
use ferry_store::Store;
use ferry_xdr::{from_bytes, to_bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use uuid::Uuid;

use crate::config::Config;
use crate::events::DomainEvent;
use crate::host::Host;
use crate::layout::Layout;
use crate::listen::Room;
use crate::listen::connection::serve;
use crate::perform::ownership::Account;

/// How long anything here may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Connections that a test host takes.
const PLACES: usize = 8;

/// A host in a folder of its own.
struct TestHost {
    host: Arc<Host>,
    room: Room,
    _root: tempfile::TempDir,
}

impl TestHost {
    fn new() -> TestHost {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::private(root.path()).unwrap();
        let store = Store::open(&layout.database).unwrap();
        let (uuid, name) = (Uuid::new_v4(), "here".to_owned());
        let account = Account::default();
        let host = Host::new(Config::default(), layout, uuid, name, account, store, Vec::new());
        TestHost { host: Arc::new(host), room: Room::new(PLACES, 1000), _root: root }
    }

    /// A client that has not opened yet.
    fn connect(&self, read_only: bool) -> Wire {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(theirs);
        let place = self.room.place(read_only).unwrap();
        serve(Arc::clone(&self.host), reader, writer, read_only, place);
        Wire { stream: ours, serial: 0 }
    }

    async fn opened(&self) -> Wire {
        let mut wire = self.connect(false);
        wire.call(open()).await.unwrap();
        wire
    }

    /// Waits until no connection is left.
    async fn alone(&self) {
        let all = u32::try_from(PLACES).unwrap();
        soon(self.room.emptied(all)).await;
    }

    fn emit(&self, uuid: Uuid, event: DomainEvent) {
        self.host.events.emit(&domain(uuid), event);
    }
}

/// A client's end of a connection.
struct Wire {
    stream: DuplexStream,
    serial: u32,
}

impl Wire {
    async fn send(&mut self, procedure: Procedure, payload: &[u8]) -> u32 {
        let serial = self.serial;
        self.serial += 1;
        let header = Header {
            program: procedure.program().number(),
            version: 1,
            procedure: procedure.number(),
            kind: Kind::Call.number(),
            serial,
            status: Status::Ok.number(),
        };
        self.write(&header.frame(payload).unwrap()).await;
        serial
    }

    async fn write(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    async fn frame(&mut self) -> (Header, Vec<u8>) {
        let len = soon(self.stream.read_u32()).await.unwrap();
        let mut rest = vec![0; usize::try_from(len).unwrap() - 4];
        soon(self.stream.read_exact(&mut rest)).await.unwrap();
        let (header, payload) = rest.split_at(24);
        (from_bytes(header).unwrap(), payload.to_vec())
    }

    async fn answer(&mut self, serial: u32) -> Result<Vec<u8>, Error> {
        let (header, payload) = self.frame().await;
        assert_eq!((header.kind(), header.serial), (Some(Kind::Reply), serial));
        match header.status() {
            Some(Status::Ok) => Ok(payload),
            _ => Err(from_bytes(&payload).unwrap()),
        }
    }

    async fn call<C: Arguments>(&mut self, call: C) -> Result<C::Reply, Error> {
        let serial = self.send(C::PROCEDURE, &to_bytes(&call).unwrap()).await;
        self.answer(serial).await.map(|payload| from_bytes(&payload).unwrap())
    }

    async fn event<M: Message>(&mut self) -> M {
        let (header, payload) = self.frame().await;
        assert_eq!((header.kind(), header.procedure), (Some(Kind::Event), M::PROCEDURE.number()));
        from_bytes(&payload).unwrap()
    }

    /// Waits until the daemon has hung up; nothing may come before.
    async fn hung_up(&mut self) {
        assert_eq!(soon(self.stream.read(&mut [0])).await.unwrap(), 0);
    }

    async fn register(&mut self, event_id: EventId, domain: Option<DomainRef>) -> Result<i32, Error> {
        self.call(ConnectDomainEventCallbackRegisterAny { event_id, domain }).await
    }
}

async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(DEADLINE, work).await.expect("in time")
}

fn open() -> ConnectOpen {
    ConnectOpen { name: Some("qemu:///system".to_owned()), flags: OpenFlags::NONE }
}

fn domain(uuid: Uuid) -> DomainRef {
    DomainRef { name: "guest".to_owned(), uuid, id: -1 }
}

fn numbers<T: std::fmt::Debug>(refused: Result<T, Error>) -> (i32, i32) {
    let error = refused.unwrap_err();
    (error.code.0, error.origin.0)
}

fn started() -> DomainEvent {
    DomainEvent::Lifecycle { event: LifecycleEvent::STARTED, detail: 1 }
}

#[tokio::test]
async fn a_client_opens_asks_and_closes() {
    let host = TestHost::new();
    let mut wire = host.connect(false);
    assert_eq!(wire.call(AuthList {}).await.unwrap().types.len(), 1);
    assert!(wire.call(ConnectSupportsFeature { feature: Feature::KEEPALIVE }).await.unwrap());
    assert_eq!(numbers(wire.call(ConnectSupportsFeature { feature: Feature::MIGRATION_V3 }).await), (1, 7));
    assert_eq!(numbers(wire.call(ConnectGetType {}).await), (1, 7));
    wire.call(open()).await.unwrap();
    assert_eq!(numbers(wire.call(open()).await), (1, 7));
    assert_eq!(wire.call(ConnectGetType {}).await.unwrap(), "QEMU");
    assert_eq!(wire.call(ConnectGetHostname {}).await.unwrap(), "here");
    wire.call(ConnectClose {}).await.unwrap();
    wire.hung_up().await;
    host.alone().await;
}

#[tokio::test]
async fn a_read_only_socket_stays_read_only() {
    let host = TestHost::new();
    let mut wire = host.connect(true);
    wire.call(open()).await.unwrap();
    assert_eq!(numbers(wire.call(DomainCreate { domain: domain(Uuid::nil()) }).await), (29, 20));
    assert_eq!(numbers(wire.call(DomainDefineXml { xml: String::new() }).await), (29, 20));
    let list = ConnectListAllDomains { need_results: true, flags: Default::default() };
    assert_eq!(wire.call(list).await.unwrap().count, 0);
}

#[tokio::test]
async fn a_domain_that_is_not_there_is_missed_with_the_code_of_stock() {
    let host = TestHost::new();
    let mut wire = host.opened().await;
    assert_eq!(numbers(wire.call(DomainLookupByName { name: "guest".to_owned() }).await), (42, 10));
    assert_eq!(numbers(wire.call(DomainGetState { domain: domain(Uuid::nil()), flags: 0 }).await), (42, 10));
    assert_eq!(numbers(wire.call(DomainGetState { domain: domain(Uuid::nil()), flags: 4 }).await), (8, 10));
}

#[tokio::test]
async fn no_procedure_ends_a_connection() {
    let host = TestHost::new();
    let mut wire = host.opened().await;
    // These two ask a QEMU binary, which a test without QEMU has not.
    let probes = [Procedure::ConnectGetVersion, Procedure::ConnectGetCapabilities, Procedure::ConnectClose];
    for procedure in Procedure::ALL {
        if procedure.access() == Access::Event || probes.contains(procedure) {
            continue;
        }
        let serial = wire.send(*procedure, &[]).await;
        if let Err(error) = wire.answer(serial).await {
            assert!([1, 3, 8, 39, 67].contains(&error.code.0), "{procedure:?}: {error:?}");
        }
    }
    assert_eq!(wire.call(ConnectGetType {}).await.unwrap(), "QEMU");
}

#[tokio::test]
async fn a_frame_in_halves_is_whole_and_a_senseless_length_is_the_end() {
    let host = TestHost::new();
    let mut wire = host.connect(false);
    let header = Header {
        program: Program::Remote.number(),
        version: 1,
        procedure: 66,
        kind: 0,
        serial: 7,
        status: 0,
    };
    let frame = header.frame(&[]).unwrap();
    let (first, second) = frame.split_at(11);
    wire.write(first).await;
    tokio::task::yield_now().await;
    wire.write(second).await;
    wire.answer(7).await.unwrap();
    wire.write(&27_u32.to_be_bytes()).await;
    wire.hung_up().await;
    host.alone().await;
}

#[tokio::test]
async fn events_reach_those_who_registered_in_order_and_once_per_callback() {
    let host = TestHost::new();
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut wire = host.opened().await;
    let all = wire.register(EventId::LIFECYCLE, None).await.unwrap();
    let only = wire.register(EventId::LIFECYCLE, Some(domain(one))).await.unwrap();
    let jobs = wire.register(EventId::JOB_COMPLETED, None).await.unwrap();
    assert!(all < only && only < jobs, "one counter for all");

    host.emit(other, started());
    host.emit(one, DomainEvent::Reboot);
    host.emit(one, DomainEvent::JobCompleted { params: vec![TypedParam::new("operation", 5)] });
    host.emit(one, started());
    let first: DomainEventCallbackLifecycle = wire.event().await;
    assert_eq!((first.callback_id, first.domain.uuid, first.event), (all, other, LifecycleEvent::STARTED));
    let second: DomainEventCallbackJobCompleted = wire.event().await;
    assert_eq!((second.callback_id, second.params.len()), (jobs, 1));
    for callback in [all, only] {
        assert_eq!(wire.event::<DomainEventCallbackLifecycle>().await.callback_id, callback);
    }

    let deregister = |callback_id| ConnectDomainEventCallbackDeregisterAny { callback_id };
    wire.call(deregister(all)).await.unwrap();
    assert_eq!(numbers(wire.call(deregister(all)).await), (1, 7));
    host.emit(one, started());
    assert_eq!(wire.event::<DomainEventCallbackLifecycle>().await.callback_id, only);
}

#[tokio::test]
async fn registrations_are_refused_as_by_stock() {
    let host = TestHost::new();
    let mut wire = host.opened().await;
    wire.register(EventId::LIFECYCLE, None).await.unwrap();
    assert_eq!(numbers(wire.register(EventId::LIFECYCLE, None).await), (8, 0));
    assert_eq!(
        numbers(wire.call(ConnectDomainEventRegister {}).await),
        (8, 0),
        "both styles share the table"
    );
    assert_eq!(numbers(wire.register(EventId(28), None).await), (1, 7));
    // Another client's callback is not this one's to take back.
    let mut other = host.opened().await;
    let theirs = other.register(EventId::REBOOT, None).await.unwrap();
    let deregister = ConnectDomainEventCallbackDeregisterAny { callback_id: theirs };
    assert_eq!(numbers(wire.call(deregister).await), (1, 7));
}

#[tokio::test]
async fn an_old_client_gets_messages_without_a_callback() {
    let host = TestHost::new();
    let mut wire = host.opened().await;
    wire.call(ConnectDomainEventRegister {}).await.unwrap();
    host.emit(Uuid::nil(), started());
    assert_eq!(wire.event::<DomainEventLifecycle>().await.event, LifecycleEvent::STARTED);
    wire.call(ConnectDomainEventDeregister {}).await.unwrap();
    assert_eq!(numbers(wire.call(ConnectDomainEventDeregister {}).await), (1, 7));
}

#[tokio::test]
async fn what_hangs_on_a_connection_goes_with_it() {
    let host = TestHost::new();
    let mut wire = host.opened().await;
    wire.register(EventId::LIFECYCLE, None).await.unwrap();
    wire.register(EventId::REBOOT, None).await.unwrap();
    assert_eq!(host.host.events.registrations(), 2);
    drop(wire);
    host.alone().await;
    assert_eq!(host.host.events.registrations(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_is_let_go() {
    let host = TestHost::new();
    let mut deaf = host.opened().await;
    let mut other = host.opened().await;
    deaf.register(EventId::JOB_COMPLETED, None).await.unwrap();
    let params = vec![TypedParam::new("errmsg", "x".repeat(1 << 20))];
    for _ in 0..80 {
        host.emit(Uuid::nil(), DomainEvent::JobCompleted { params: params.clone() });
    }
    assert_eq!(other.call(ConnectGetType {}).await.unwrap(), "QEMU");
    drop(other);
    // The deaf client has not hung up: the daemon has.
    host.alone().await;
    drop(deaf);
}
