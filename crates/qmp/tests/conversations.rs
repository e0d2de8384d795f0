//! Recorded conversations with real QEMUs: what we send is byte for byte what was sent then, and what came back is
//! understood.
//!
//! `tests/data/VERSION-SIDE.qmp` holds a migration over a UNIX socket as either side's monitor saw it, a line for
//! each message: `> ` to QEMU, `< ` from it. Folder names were shortened.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use ferry_qmp::commands::block::{QueryBlock, QueryBlockstats, QueryNamedBlockNodes};
use ferry_qmp::commands::device::{DeviceDel, QueryChardev};
use ferry_qmp::commands::dirty_rate::{CalcDirtyRate, DirtyRateStatus, QueryDirtyRate};
use ferry_qmp::commands::guest::QueryBalloon;
use ferry_qmp::commands::migration::{
    CapabilityState, Migrate, MigrateContinue, MigrateIncoming, MigratePause, MigrateSetCapabilities,
    MigrateSetParameters, MigrationCapability, MigrationParameters, MigrationStatus, MultifdCompression,
    QueryMigrateCapabilities, QueryMigrateParameters, SocketAddress,
};
use ferry_qmp::commands::progress::QueryMigrate;
use ferry_qmp::commands::run::{
    Cont, QueryCpusFast, QueryStatus, Quit, RunState, Stop, SystemPowerdown, SystemReset,
};
use ferry_qmp::{
    Command, ErrorClass, Event, EventKind, Greeting, Incoming, Reply, Request, Session, ShutdownReason,
};
use serde_json::Map;

struct Conversation {
    greeting: Greeting,
    replies: Vec<Reply>,
    events: Vec<Event>,
}

impl Conversation {
    /// Sends `requests` where the recording has messages to QEMU, and feeds what came from it.
    fn replay(recording: &str, requests: Vec<Request>) -> Self {
        let mut session = Session::new(0);
        let (mut requests, mut greeting, mut replies, mut events) =
            (requests.into_iter(), None, vec![], vec![]);
        for line in recording.lines() {
            if let Some(sent) = line.strip_prefix("> ") {
                if greeting.is_some() {
                    session.submit(requests.next().unwrap());
                }
                let output = session.poll_output().unwrap();
                assert_eq!(String::from_utf8(output.bytes).unwrap(), format!("{sent}\r\n"));
            } else {
                let received = line.strip_prefix("< ").unwrap();
                session.handle_bytes(received.as_bytes()).unwrap();
                session.handle_bytes(b"\r\n").unwrap();
            }
            while let Some(incoming) = session.poll_event() {
                match incoming {
                    Incoming::Ready(ready) => greeting = Some(ready),
                    Incoming::Reply(reply) => replies.push(reply),
                    Incoming::Event(event) => events.push(event),
                }
            }
        }
        assert!(session.poll_output().is_none() && requests.next().is_none());
        Self { greeting: greeting.unwrap(), replies, events }
    }

    fn reply<C: Command>(&self, number: usize) -> C::Reply {
        self.replies[number - 1].decode::<C>().unwrap()
    }

    fn kinds(&self) -> Vec<&EventKind> {
        self.events.iter().map(|event| &event.kind).collect()
    }

    fn statuses(&self) -> Vec<&MigrationStatus> {
        let mut statuses = vec![];
        for event in &self.events {
            if let EventKind::Migration(status) = &event.kind {
                statuses.push(status);
            }
        }
        statuses
    }
}

fn request(command: &impl Command) -> Request {
    Request::new(command).unwrap()
}

fn switch_on(capabilities: &[MigrationCapability]) -> Request {
    let on =
        |capability: &MigrationCapability| CapabilityState { capability: capability.clone(), state: true };
    request(&MigrateSetCapabilities { capabilities: capabilities.iter().map(on).collect() })
}

fn bandwidth(bytes: u64) -> Request {
    request(&MigrateSetParameters(MigrationParameters { max_bandwidth: Some(bytes), ..Default::default() }))
}

fn source() -> Vec<Request> {
    vec![
        request(&QueryStatus),
        request(&QueryCpusFast),
        request(&QueryChardev),
        request(&QueryNamedBlockNodes { flat: Some(true) }),
        request(&QueryBlock),
        request(&QueryBlockstats::default()),
        request(&QueryBalloon),
        request(&QueryMigrate),
        switch_on(&[MigrationCapability::Events, MigrationCapability::PauseBeforeSwitchover]),
        request(&QueryMigrateCapabilities),
        bandwidth(1_000_000),
        request(&QueryMigrateParameters),
        request(&Cont),
        Request::raw("no-such-command", &Map::new()).unwrap(),
        request(&DeviceDel { id: "nobody".to_owned() }),
        request(&Migrate::to("unix:/srv/m.sock")),
        request(&QueryMigrate),
        bandwidth(0),
        request(&QueryMigrate),
        request(&MigrateContinue { state: MigrationStatus::PreSwitchover }),
        request(&QueryMigrate),
        request(&QueryStatus),
        request(&MigratePause),
        request(&Quit),
    ]
}

fn destination() -> Vec<Request> {
    vec![
        switch_on(&[MigrationCapability::Events]),
        request(&MigrateIncoming::at("unix:/srv/m.sock")),
        request(&QueryMigrate),
        request(&QueryMigrate),
        request(&QueryStatus),
        request(&Cont),
        request(&CalcDirtyRate { calc_time: 1, sample_pages: None, mode: None }),
        request(&QueryDirtyRate),
        request(&SystemPowerdown),
        request(&SystemReset),
        request(&Stop),
        request(&Quit),
    ]
}

#[test]
fn the_source_of_a_migration() {
    for (major, recording) in
        [(7, include_str!("data/7.2-source.qmp")), (10, include_str!("data/10.0-source.qmp"))]
    {
        let talk = Conversation::replay(recording, source());
        assert_eq!(talk.greeting.version.qemu.major, major);
        assert_eq!(talk.greeting.capabilities, ["oob"]);

        let status = talk.reply::<QueryStatus>(1);
        assert_eq!((status.running, status.status), (false, RunState::Prelaunch));
        assert_eq!(talk.reply::<QueryCpusFast>(2)[0].props.unwrap().core_id, Some(0));
        let chardevs = talk.reply::<QueryChardev>(3);
        let serial = chardevs.iter().find(|chardev| chardev.label == "charserial0").unwrap();
        assert_eq!(serial.pty_path(), Some("/dev/pts/0"));
        let nodes = talk.reply::<QueryNamedBlockNodes>(4);
        let names: Vec<_> = nodes.iter().map(|node| (node.node_name.as_deref(), node.drv.as_str())).collect();
        assert_eq!(names, [(Some("libvirt-1-format"), "qcow2"), (Some("libvirt-1-storage"), "file")]);
        assert_eq!(nodes[0].active, (major >= 10).then_some(true));
        assert_eq!(nodes[0].image.virtual_size, 64 << 20);
        assert_eq!(nodes[0].image.format_specific.as_ref().unwrap().data["compat"], "1.1");
        let devices = talk.reply::<QueryBlock>(5);
        assert_eq!(devices[0].inserted.as_ref().unwrap().node_name.as_deref(), Some("libvirt-1-format"));
        let stats = talk.reply::<QueryBlockstats>(6);
        assert_eq!(stats[0].parent.as_ref().unwrap().node_name.as_deref(), Some("libvirt-1-storage"));
        assert_eq!(talk.reply::<QueryBalloon>(7).actual, 64 << 20);
        assert_eq!(talk.reply::<QueryMigrate>(8).status, None);

        let on = CapabilityState { capability: MigrationCapability::PauseBeforeSwitchover, state: true };
        assert!(talk.reply::<QueryMigrateCapabilities>(10).contains(&on));
        let parameters = talk.reply::<QueryMigrateParameters>(12);
        assert_eq!((parameters.max_bandwidth, parameters.downtime_limit), (Some(1_000_000), Some(300)));
        assert_eq!(parameters.multifd_compression, Some(MultifdCompression::None));
        assert_eq!((parameters.compress_level.is_some(), parameters.mode.is_some()), (major < 9, major > 9));

        let refusal = talk.replies[13].outcome.as_ref().unwrap_err();
        assert_eq!(refusal.class, ErrorClass::CommandNotFound);
        let error = talk.replies[14].decode::<DeviceDel>().unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused device_del");
        assert_eq!(error.refusal().unwrap().class, ErrorClass::DeviceNotFound);
        assert_eq!(error.refusal().unwrap().to_string(), "Device 'nobody' not found");

        let active = talk.reply::<QueryMigrate>(17);
        assert_eq!((active.status, active.ram.unwrap().page_size), (Some(MigrationStatus::Active), 4096));
        assert_eq!(talk.reply::<QueryMigrate>(19).status, Some(MigrationStatus::PreSwitchover));
        let complete = talk.reply::<QueryMigrate>(21);
        assert_eq!(complete.status, Some(MigrationStatus::Completed));
        assert!(complete.downtime.is_some() && complete.total_time >= complete.downtime);
        assert_eq!(complete.ram.unwrap().remaining, 0);
        assert_eq!(talk.replies[22].outcome.as_ref().unwrap_err().class, ErrorClass::GenericError);

        use MigrationStatus as Status;
        let expected =
            [&Status::Setup, &Status::Active, &Status::PreSwitchover, &Status::Device, &Status::Completed];
        assert_eq!(talk.statuses(), expected);
        assert!(matches!(talk.kinds()[0], EventKind::Resume));
        assert!(
            talk.kinds().contains(&&EventKind::MigrationPass(2)) && talk.kinds().contains(&&EventKind::Stop)
        );
        let Some(EventKind::Shutdown(cause)) = talk.kinds().last().copied() else { panic!("no SHUTDOWN") };
        assert_eq!((cause.guest, &cause.reason), (false, &ShutdownReason::HostQmpQuit));
        assert!(talk.events.iter().is_sorted_by_key(|event| event.at));
    }
}

#[test]
fn the_destination_of_a_migration() {
    // Both tell by an event that they wait; only the newer one says so when it is asked.
    for (waits, recording) in [
        (None, include_str!("data/7.2-destination.qmp")),
        (Some(MigrationStatus::Setup), include_str!("data/10.0-destination.qmp")),
    ] {
        let talk = Conversation::replay(recording, destination());
        let waiting = talk.reply::<QueryMigrate>(3);
        assert_eq!(waiting.status, waits);
        let here = SocketAddress::Unix { path: "/srv/m.sock".to_owned(), abstract_name: None };
        assert_eq!(waiting.socket_address, [here]);
        assert_eq!(talk.reply::<QueryMigrate>(4).status, Some(MigrationStatus::Completed));
        assert_eq!(talk.reply::<QueryStatus>(5).status, RunState::Paused);
        assert_eq!(talk.reply::<QueryDirtyRate>(8).status, DirtyRateStatus::Measuring);
        assert_eq!(
            talk.statuses(),
            [&MigrationStatus::Setup, &MigrationStatus::Active, &MigrationStatus::Completed]
        );
        assert!(talk.kinds().contains(&&EventKind::Powerdown));
        assert!(talk.kinds().iter().any(|kind| matches!(kind, EventKind::Reset(cause) if !cause.guest)));
    }
}
