//! The client's session against bytes made by hand, and against the server's session.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::flags::ConsoleFlags;
use crate::proto::{
    ConnectGetHostname, ConnectGetVersion, DomainEventCallbackReboot, DomainOpenConsole, DomainRef,
};
use crate::server;

fn session() -> Session {
    Session::new(Instant::now(), Config::default())
}

fn frame(procedure: i32, kind: i32, serial: u32, status: i32, payload: &[u8]) -> Vec<u8> {
    let header = Header { program: 0x2000_8086, version: 1, procedure, kind, serial, status };
    header.frame(payload).unwrap()
}

fn receive(session: &mut Session, bytes: &[u8]) -> Vec<Event> {
    session.handle_bytes(Instant::now(), bytes);
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn written(session: &mut Session) -> Vec<u8> {
    let mut all = Vec::new();
    while !session.output().is_empty() {
        all.extend_from_slice(session.output());
        session.output_written(session.output().len());
    }
    all
}

fn console(session: &mut Session) -> Serial {
    let domain = DomainRef { name: "vm".to_owned(), uuid: Uuid::nil(), id: 1 };
    let call = DomainOpenConsole { domain, dev_name: None, flags: ConsoleFlags::NONE };
    let serial = session.call(&call).unwrap();
    receive(session, &frame(201, 1, serial.0, 0, &[]));
    written(session);
    serial
}

#[test]
fn serials_count_from_zero_and_replies_find_their_calls() {
    let mut session = session();
    let first = session.call(&ConnectGetVersion {}).unwrap();
    let second = session.call(&ConnectGetHostname {}).unwrap();
    assert_eq!((first, second), (Serial(0), Serial(1)));
    assert_eq!(written(&mut session), [frame(4, 0, 0, 0, &[]), frame(59, 0, 1, 0, &[])].concat());

    let bytes = [frame(59, 1, 1, 0, b"\0\0\0\x01h\0\0\0"), frame(4, 1, 0, 0, &7_u64.to_be_bytes())].concat();
    let events = receive(&mut session, &bytes);
    let [Event::Reply(a, Ok(host)), Event::Reply(b, Ok(version))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*a, *b), (second, first));
    assert_eq!((host.as_slice(), version.len()), (b"\0\0\0\x01h\0\0\0".as_slice(), 8));
    assert!(receive(&mut session, &frame(4, 1, 0, 0, &[])).is_empty(), "a reply that nobody waits for");
}

#[test]
fn a_missing_procedure_reads_as_not_supported() {
    let mut session = session();
    let serial = session.call(&ConnectGetVersion {}).unwrap();
    let error = Error::new(ErrorCode::RPC, Origin::RPC, "unknown procedure: 4");
    let events = receive(&mut session, &frame(4, 1, serial.0, 1, &ferry_xdr::to_bytes(&error).unwrap()));
    let [Event::Reply(_, Err(error))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((error.code, error.origin), (ErrorCode::NO_SUPPORT, Origin::RPC));
}

#[test]
fn an_error_that_cannot_be_read_is_still_an_error() {
    let mut session = session();
    let serial = session.call(&ConnectGetVersion {}).unwrap();
    let events = receive(&mut session, &frame(4, 1, serial.0, 1, &[1, 2, 3]));
    assert!(matches!(&events[..], [Event::Reply(_, Err(error))] if error.code == ErrorCode::RPC));
}

#[test]
fn a_server_that_contradicts_itself_is_left() {
    let contradictions: [fn(u32) -> Vec<u8>; 4] = [
        |serial| frame(59, 1, serial, 0, &[]),
        |serial| frame(4, 1, serial, 2, &[]),
        |serial| frame(4, 0, serial, 0, &[]),
        |serial| frame(4, 5, serial, 0, &[0; 4]),
    ];
    for contradiction in contradictions {
        let mut session = session();
        let serial = session.call(&ConnectGetVersion {}).unwrap();
        let events = receive(&mut session, &contradiction(serial.0));
        assert!(matches!(events[..], [Event::Closed(Closed::Contradiction(_))]), "{events:?}");
    }
}

#[test]
fn messages_decode_as_what_they_are() {
    let mut session = session();
    let domain = DomainRef { name: "vm".to_owned(), uuid: Uuid::nil(), id: 1 };
    let message = DomainEventCallbackReboot { callback_id: 3, domain };
    let events = receive(&mut session, &frame(319, 2, 1, 0, &ferry_xdr::to_bytes(&message).unwrap()));
    let [Event::Message(received)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(received.decode::<DomainEventCallbackReboot>(), Some(Ok(message)));
    assert_eq!(received.decode::<crate::proto::DomainEventCallbackLifecycle>(), None);
    assert!(receive(&mut session, &frame(999, 2, 1, 0, &[])).is_empty(), "a newer server's message");
}

#[test]
fn a_stream_that_the_client_ends() {
    let mut session = session();
    let stream = console(&mut session);
    session.stream_data(stream, b"ls\n");
    session.stream_finish(stream);
    session.stream_data(stream, b"late");
    assert_eq!(written(&mut session), [frame(201, 3, 0, 2, b"ls\n"), frame(201, 3, 0, 0, &[])].concat());
    let events = receive(&mut session, &[frame(201, 3, 0, 2, b"out"), frame(201, 3, 0, 0, &[])].concat());
    let [Event::Stream(_, StreamEvent::Data(data)), Event::Stream(_, StreamEvent::Finished)] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(data, b"out");
    assert!(receive(&mut session, &frame(201, 3, 0, 2, b"late")).is_empty());
}

#[test]
fn a_stream_that_the_server_ends_fails_or_finishes() {
    let mut session = session();
    let stream = console(&mut session);
    let events = receive(&mut session, &frame(201, 3, stream.0, 2, &[]));
    assert!(matches!(events[..], [Event::Stream(_, StreamEvent::End)]));
    receive(&mut session, &frame(201, 3, stream.0, 0, &[]));
    assert_eq!(written(&mut session), frame(201, 3, stream.0, 0, &[]), "answered with the same frame");

    let stream = console(&mut session);
    let error = Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, "taken over");
    let events = receive(&mut session, &frame(201, 3, stream.0, 1, &ferry_xdr::to_bytes(&error).unwrap()));
    assert!(matches!(&events[..], [Event::Stream(_, StreamEvent::Failed(failed))] if *failed == error));
}

#[test]
fn an_aborted_stream_is_forgotten() {
    let mut session = session();
    let stream = console(&mut session);
    session.stream_abort(stream);
    assert_eq!(written(&mut session), frame(201, 3, stream.0, 1, &[]));
    assert!(receive(&mut session, &frame(201, 3, stream.0, 0, &[])).is_empty());
}

#[test]
fn unused_stream_bytes_stop_the_reading() {
    let mut session = Session::new(Instant::now(), Config { stream_backlog_max: 4, ..Config::default() });
    let stream = console(&mut session);
    assert_eq!(receive(&mut session, &frame(201, 3, stream.0, 2, b"1234").repeat(2)).len(), 1);
    assert!(!session.wants_read());
    session.stream_consumed(stream, 4);
    assert!(session.wants_read() && session.poll_event().is_some());
}

#[test]
fn pings_begin_when_the_server_knows_them() {
    let start = Instant::now();
    let mut session = Session::new(start, Config::default());
    assert_eq!(session.deadline(), None);
    session.start_keepalive(Keepalive { interval: Duration::from_secs(5), count: 0 });
    session.handle_timeout(start + Duration::from_secs(5));
    assert!(matches!(session.poll_event(), Some(Event::Closed(Closed::Silent))));
    assert!(session.poll_event().is_none());
}

#[test]
fn an_argument_beyond_its_bound_is_not_sent() {
    let mut session = session();
    let name = "x".repeat(ferry_xdr::STRING_MAX + 1);
    assert!(session.call(&crate::proto::DomainLookupByName { name }).is_err());
    assert!(written(&mut session).is_empty());
}

/// Both sessions joined: a call, a stream of some size, its confirmation.
#[test]
fn the_two_sides_understand_each_other() {
    let now = Instant::now();
    let (mut client, mut server) = (session(), server::Session::new(now, server::Config::default()));
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let (mut received, mut stream, mut finished) = (Vec::new(), None, false);
    let opened = console_call(&mut client);
    for _ in 0..100 {
        let bytes = written(&mut client);
        server.handle_bytes(now, &bytes);
        while let Some(event) = server.poll_event() {
            match event {
                server::Event::Call(call) => stream = server.reply_stream(call.id, &()),
                server::Event::Stream(id, server::StreamEvent::Data(data)) => {
                    assert_eq!(Some(id), stream);
                    server.stream_consumed(id, data.len());
                    received.extend(data);
                }
                server::Event::Stream(id, server::StreamEvent::Finish) => server.stream_finish(id),
                other => panic!("{other:?}"),
            }
        }
        let bytes = server.output().to_vec();
        server.output_written(bytes.len());
        for event in receive(&mut client, &bytes) {
            match event {
                Event::Reply(serial, Ok(_)) => {
                    assert_eq!(serial, opened);
                    client.stream_data(serial, &sent);
                    client.stream_finish(serial);
                }
                Event::Stream(_, StreamEvent::Finished) => finished = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(finished && received == sent);
}

fn console_call(client: &mut Session) -> Serial {
    let domain = DomainRef { name: "vm".to_owned(), uuid: Uuid::nil(), id: 1 };
    client.call(&DomainOpenConsole { domain, dev_name: None, flags: ConsoleFlags::NONE }).unwrap()
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        frames in proptest::collection::vec(
            (0_i32..460, -1_i32..8, 0_u32..4, -1_i32..4, proptest::collection::vec(any::<u8>(), 0..80)),
            0..40,
        ),
        noise in proptest::collection::vec(any::<u8>(), 0..64),
        cut in 1_usize..200,
    ) {
        let mut session = Session::new(Instant::now(), Config { stream_backlog_max: 100, ..Config::default() });
        console_call(&mut session);
        session.call(&ConnectGetVersion {}).unwrap();
        let mut bytes: Vec<u8> = frame(201, 1, 0, 0, &[]);
        for (procedure, kind, serial, status, payload) in &frames {
            bytes.extend(frame(*procedure, *kind, *serial, *status, payload));
        }
        bytes.extend(&noise);
        for chunk in bytes.chunks(cut) {
            receive(&mut session, chunk);
            prop_assert!(session.backlog <= 100 + 80);
            prop_assert!(session.link.held() <= 2 * bytes.len().max(1024));
        }
    }
}
