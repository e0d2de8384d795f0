//! The server's session against bytes made by hand.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::header::FRAME_MIN;
use crate::proto::{DomainEventCallbackReboot, DomainLookupByName, DomainRef};
use uuid::Uuid;

/// A session, its clock, and the bytes that it wrote.
struct Wire {
    now: Instant,
    session: Session,
}

impl Wire {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self { now, session: Session::new(now, config) }
    }

    fn receive(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.session.handle_bytes(self.now, bytes);
        self.events()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// One call, which has to arrive.
    fn call(&mut self, procedure: i32, serial: u32, payload: &[u8]) -> Call {
        match self.receive(&frame(procedure, 0, serial, 0, payload)).pop() {
            Some(Event::Call(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    fn written(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.session.output().is_empty() {
            all.extend_from_slice(self.session.output());
            self.session.output_written(self.session.output().len());
        }
        all
    }

    /// The code, origin and text of the one error that was written, and the header it came with.
    fn refusal(&mut self) -> (Header, i32, i32, String) {
        let bytes = self.written();
        let (header, payload) = Header::split(&bytes).unwrap();
        assert_eq!(header.status, 1);
        assert_eq!(usize::try_from(u32::from_be_bytes(*bytes.first_chunk().unwrap())), Ok(bytes.len()));
        let error: Error = ferry_xdr::from_bytes(payload).unwrap();
        (header, error.code.0, error.origin.0, error.message)
    }
}

/// A frame of the main program by hand.
fn frame(procedure: i32, kind: i32, serial: u32, status: i32, payload: &[u8]) -> Vec<u8> {
    frame_of(0x2000_8086, 1, procedure, kind, serial, status, payload)
}

fn frame_of(
    program: u32,
    version: u32,
    procedure: i32,
    kind: i32,
    serial: u32,
    status: i32,
    payload: &[u8],
) -> Vec<u8> {
    let len = u32::try_from(28 + payload.len()).unwrap();
    let mut bytes = [len, program, version].map(u32::to_be_bytes).concat();
    bytes.extend([procedure, kind].map(i32::to_be_bytes).concat());
    bytes.extend([serial.to_be_bytes(), status.to_be_bytes()].concat());
    bytes.extend(payload);
    bytes
}

fn console(wire: &mut Wire, serial: u32) -> Option<StreamId> {
    let call = wire.call(201, serial, &[]);
    let stream = wire.session.reply_stream(call.id, &());
    wire.written();
    stream
}

#[test]
fn a_call_and_its_reply_as_they_travel() {
    let mut wire = Wire::new(Config::default());
    let call = wire.call(23, 7, b"\0\0\0\x02vm\0\0");
    assert_eq!(call.procedure, Procedure::DomainLookupByName);
    assert_eq!(call.decode::<DomainLookupByName>().unwrap().name, "vm");
    let domain = DomainRef { name: "vm".to_owned(), uuid: Uuid::from_bytes([5; 16]), id: 1 };
    wire.session.reply(call.id, &domain);
    let payload = [b"\0\0\0\x02vm\0\0".as_slice(), &[5; 16], &[0, 0, 0, 1]].concat();
    assert_eq!(wire.written(), frame(23, 1, 7, 0, &payload));
    wire.session.reply(call.id, &domain);
    assert!(wire.written().is_empty(), "answered once");
}

#[test]
fn replies_go_out_in_any_order_and_a_serial_may_repeat() {
    let mut wire = Wire::new(Config::default());
    let (first, second) = (wire.call(4, 9, &[]), wire.call(157, 9, &[]));
    wire.session.reply(second.id, &2_u64);
    wire.session.reply(first.id, &1_u64);
    let replies = [frame(157, 1, 9, 0, &2_u64.to_be_bytes()), frame(4, 1, 9, 0, &1_u64.to_be_bytes())];
    assert_eq!(wire.written(), replies.concat());
}

#[test]
fn an_error_has_all_its_fields() {
    let mut wire = Wire::new(Config::default());
    let call = wire.call(9, 3, &[]);
    let error = Error::of(ErrorCode::NO_DOMAIN, Origin::QEMU, "no");
    wire.session.reply_error(call.id, &error);
    let text = b"Domain not found: no";
    let payload = [
        &[0, 0, 0, 42, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 20],
        text.as_slice(),
        &[0, 0, 0, 2],
        &[0; 16],
        &[0xff; 8],
        &[0; 4],
    ];
    assert_eq!(wire.written(), frame(9, 1, 3, 1, &payload.concat()));
}

#[test]
fn what_does_not_exist_is_answered_as_stock_does() {
    let mut wire = Wire::new(Config::default());
    let cases = [
        (frame(9999, 0, 5, 0, &[]), "unknown procedure: 9999"),
        (frame(318, 0, 5, 0, &[]), "unknown procedure: 318"),
        (frame(-1, 0, 5, 0, &[]), "unknown procedure: -1"),
        (frame(3, 0, 5, 1, &[]), "Unexpected message status 1"),
        (frame(3, 0, 5, 77, &[]), "Unexpected message status 77"),
        (frame_of(0x1234, 1, 3, 0, 5, 0, &[]), "Cannot find program 4660 version 1"),
        (frame_of(0x2000_8086, 2, 3, 0, 5, 0, &[]), "Cannot find program 536903814 version 2"),
        (frame_of(0x6b65_6570, 1, 1, 0, 5, 0, &[]), "Cannot find program 1801807216 version 1"),
    ];
    for (bytes, text) in cases {
        assert!(wire.receive(&bytes).is_empty(), "{text}");
        let (asked, _) = Header::split(&bytes).unwrap();
        let (header, code, origin, message) = wire.refusal();
        assert_eq!((code, origin, message.as_str()), (39, 7, text));
        assert_eq!(header, Header { kind: 1, status: 1, ..asked });
    }
    assert!(wire.session.wants_read(), "the connection stays");
}

#[test]
fn what_a_client_has_no_business_to_send_is_ignored() {
    let mut wire = Wire::new(Config::default());
    for (kind, status) in [(1, 0), (2, 0), (5, 0), (7, 0), (-1, 0), (3, 2), (3, 0), (3, 1), (6, 2)] {
        assert!(wire.receive(&frame(9, kind, 1, status, &[0; 12])).is_empty());
    }
    assert!(wire.written().is_empty() && wire.session.wants_read());
}

#[test]
fn undecodable_arguments_are_refused_and_surplus_ones_ignored() {
    let mut wire = Wire::new(Config::default());
    let short = wire.call(23, 1, &[0, 0]);
    let refused = Error::new(ErrorCode::RPC, Origin::RPC, "Unable to decode message payload");
    assert_eq!(short.decode::<DomainLookupByName>(), Err(refused));
    let million = wire.call(344, 2, &1_000_000_u32.to_be_bytes());
    assert!(million.decode::<crate::proto::ConnectGetAllDomainStats>().is_err());
    let surplus = wire.call(23, 3, b"\0\0\0\x01a\0\0\0surplus");
    assert_eq!(surplus.decode::<DomainLookupByName>().unwrap().name, "a");
}

#[test]
fn a_senseless_length_ends_the_connection_without_a_word() {
    for len in [0_u32, 27, 33_554_437, u32::MAX] {
        let mut wire = Wire::new(Config::default());
        let events = wire.receive(&len.to_be_bytes());
        assert!(matches!(events[..], [Event::Closed(Closed::BadLength(bad))] if bad == len), "{events:?}");
        assert!(wire.written().is_empty() && !wire.session.wants_read());
        assert!(wire.receive(&frame(3, 0, 0, 0, &[])).is_empty(), "nothing comes after the end");
    }
}

#[test]
fn a_result_that_breaks_a_bound_becomes_an_error() {
    let mut wire = Wire::new(Config::default());
    let call = wire.call(59, 1, &[]);
    wire.session.reply(call.id, &"x".repeat(ferry_xdr::STRING_MAX + 1));
    assert_eq!(wire.refusal().3, "Unable to encode message payload");
    let call = wire.call(59, 2, &[]);
    let long = Error::new(ErrorCode::INTERNAL_ERROR, Origin::QEMU, "é".repeat(ferry_xdr::STRING_MAX));
    wire.session.reply_error(call.id, &long);
    assert_eq!(wire.refusal().3.len(), 16 * 1024, "an error is cut rather than lost");
}

#[test]
fn what_a_connection_holds_is_counted_until_it_is_gone() {
    let mut wire = Wire::new(Config::default());
    assert_eq!(wire.session.held(), 0);
    let call = wire.call(59, 1, &[0; 1000]);
    assert_eq!(wire.session.held(), 1000, "arguments, while the call waits");
    wire.session.handle_bytes(Instant::now(), &[0, 0, 1, 0, 7]);
    assert_eq!(wire.session.held(), 1005, "half a frame");
    wire.session.reply(call.id, &());
    assert_eq!(wire.session.held(), 5 + FRAME_MIN, "an answer that nobody has read");
    wire.session.output_written(FRAME_MIN);
    assert_eq!(wire.session.held(), 5);
}

#[test]
fn too_many_unanswered_calls_stop_the_reading() {
    let mut wire = Wire::new(Config { unanswered_max: 2, ..Config::default() });
    let three: Vec<u8> = (0..3).flat_map(|serial| frame(3, 0, serial, 0, &[])).collect();
    let events = wire.receive(&three);
    assert_eq!((events.len(), wire.session.wants_read(), wire.session.unanswered()), (2, false, 2));
    let Event::Call(call) = &events[1] else { panic!("{events:?}") };
    wire.session.reply(call.id, &());
    let [Event::Call(third)] = &wire.events()[..] else { panic!("the third call was there already") };
    assert_eq!(third.procedure, Procedure::ConnectGetType);
}

#[test]
fn only_clients_that_asked_for_it_are_pinged() {
    let mut wire = Wire::new(Config::default());
    wire.call(60, 0, &[0, 0, 0, 14]);
    assert_eq!(wire.session.deadline(), None);
    wire.call(60, 1, &[0, 0, 0, 10]);
    let start = wire.now;
    assert_eq!(wire.session.deadline(), Some(start + Duration::from_secs(5)));
    for n in 1..=6 {
        wire.now = start + Duration::from_secs(5 * n);
        wire.session.handle_timeout(wire.now);
    }
    assert_eq!(wire.written(), frame_of(0x6b65_6570, 1, 1, 2, 0, 0, &[]).repeat(5));
    assert!(matches!(wire.events()[..], [Event::Closed(Closed::Silent)]), "after 30 s");
}

#[test]
fn a_connection_may_be_left_without_pings() {
    let mut wire = Wire::new(Config { keepalive: None, ..Config::default() });
    wire.call(60, 1, &[0, 0, 0, 10]);
    assert_eq!(wire.session.deadline(), None);
}

#[test]
fn calls_with_descriptors_are_refused_by_name_and_the_next_frame_is_found() {
    let mut wire = Wire::new(Config::default());
    let with_fd = frame(443, 4, 8, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    let events = wire.receive(&[with_fd, vec![0], frame(3, 0, 9, 0, &[])].concat());
    assert!(matches!(&events[..], [Event::Call(call)] if call.procedure == Procedure::ConnectGetType));
    let (header, code, origin, text) = wire.refusal();
    assert_eq!((header.serial, code, origin), (8, 3, 7));
    assert!(text.ends_with("file descriptors in calls"), "{text}");

    let mut wire = Wire::new(Config::default());
    let events = wire.receive(&frame(443, 4, 8, 0, &[0, 0, 0, 33]));
    assert!(matches!(events[..], [Event::Closed(Closed::Contradiction(_))]));
}

#[test]
fn a_console_both_ways_until_the_client_leaves() {
    let mut wire = Wire::new(Config::default());
    let call = wire.call(201, 4, &[]);
    let stream = wire.session.reply_stream(call.id, &()).unwrap();
    wire.session.stream_data(stream, b"login: ");
    assert_eq!(wire.written(), [frame(201, 1, 4, 0, &[]), frame(201, 3, 4, 2, b"login: ")].concat());

    let events = wire.receive(&[frame(201, 3, 4, 2, b"root"), frame(201, 3, 4, 0, &[])].concat());
    let [Event::Stream(a, StreamEvent::Data(data)), Event::Stream(b, StreamEvent::Finish)] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*a, *b, data.as_slice()), (stream, stream, b"root".as_slice()));
    wire.session.stream_finish(stream);
    assert_eq!(wire.written(), frame(201, 3, 4, 0, &[]));
    assert!(wire.receive(&frame(201, 3, 4, 2, b"late")).is_empty());
    wire.session.stream_data(stream, b"late");
    assert!(wire.written().is_empty());
}

#[test]
fn an_abort_is_confirmed_and_the_stream_gone() {
    let mut wire = Wire::new(Config::default());
    let stream = console(&mut wire, 4).unwrap();
    let events = wire.receive(&frame(201, 3, 4, 1, &[]));
    assert!(matches!(&events[..], [Event::Stream(id, StreamEvent::Abort)] if *id == stream));
    assert_eq!(wire.written(), frame(201, 3, 4, 0, &[]), "status 0, as stock answers");
    wire.session.stream_finish(stream);
    assert!(wire.written().is_empty());
}

#[test]
fn the_servers_end_and_the_servers_error() {
    let mut wire = Wire::new(Config::default());
    let ended = console(&mut wire, 4).unwrap();
    wire.session.stream_end(ended);
    assert_eq!(wire.written(), frame(201, 3, 4, 2, &[]));
    let failed = console(&mut wire, 5).unwrap();
    wire.session.stream_error(failed, &Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, "gone"));
    let (header, code, _, text) = wire.refusal();
    assert_eq!((header.kind, header.serial, code, text.as_str()), (3, 5, 9, "operation failed: gone"));
}

#[test]
fn unused_stream_bytes_stop_the_reading() {
    let mut wire = Wire::new(Config { stream_backlog_max: 10, ..Config::default() });
    let stream = console(&mut wire, 4).unwrap();
    let data = frame(201, 3, 4, 2, b"12345678");
    assert_eq!(wire.receive(&data.repeat(3)).len(), 2);
    assert!(!wire.session.wants_read());
    wire.session.stream_consumed(stream, 8);
    assert!(wire.session.wants_read());
    assert_eq!(wire.events().len(), 1);
    wire.session.stream_finish(stream);
    assert!(wire.session.wants_read(), "what nobody will use any more does not count");
}

#[test]
fn streams_are_limited_and_two_cannot_share_a_serial() {
    let mut wire = Wire::new(Config { streams_max: 2, ..Config::default() });
    assert!(console(&mut wire, 1).is_some());
    assert!(console(&mut wire, 1).is_none());
    assert!(console(&mut wire, 2).is_some());
    let call = wire.call(201, 3, &[]);
    assert!(wire.session.reply_stream(call.id, &()).is_none());
    assert_eq!(wire.refusal().1, 1);
}

#[test]
fn a_hole_is_refused_by_name() {
    let mut wire = Wire::new(Config::default());
    console(&mut wire, 4).unwrap();
    wire.receive(&frame(201, 6, 4, 2, &[0; 12]));
    let (_, code, _, text) = wire.refusal();
    assert_eq!((code, text.as_str()), (84, "Operation not supported: sparse streams are not supported"));
}

#[test]
fn an_event_as_it_travels() {
    let mut wire = Wire::new(Config::default());
    let domain = DomainRef { name: "vm".to_owned(), uuid: Uuid::from_bytes([5; 16]), id: -1 };
    wire.session.event(&DomainEventCallbackReboot { callback_id: 2, domain });
    let payload = [b"\0\0\0\x02\0\0\0\x02vm\0\0".as_slice(), &[5; 16], &[0xff; 4]].concat();
    assert_eq!(wire.written(), frame(319, 2, 1, 0, &payload));
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let mut wire = Wire::new(Config { output_max: 1000, ..Config::default() });
    for serial in 0..1000 {
        let events = wire.receive(&frame(9999, 0, serial, 0, &[]));
        if let [Event::Closed(Closed::NotReading(waiting))] = events[..] {
            assert!(waiting <= 1000);
            return;
        }
    }
    panic!("1,000 refusals were queued");
}

proptest! {
    /// Bytes without sense, and frames with senseless contents, however they are cut: no panic, and nothing is
    /// kept beyond what was sent.
    #[test]
    fn any_bytes_are_survived(
        frames in proptest::collection::vec(
            (any::<u8>(), 0_i32..460, -1_i32..8, 0_u32..4, -1_i32..4, proptest::collection::vec(any::<u8>(), 0..80)),
            0..40,
        ),
        noise in proptest::collection::vec(any::<u8>(), 0..64),
        cut in 1_usize..200,
    ) {
        let mut wire = Wire::new(Config { unanswered_max: 3, stream_backlog_max: 100, ..Config::default() });
        let mut bytes = Vec::new();
        for (program, procedure, kind, serial, status, payload) in &frames {
            let program = [0x2000_8086, 0x2000_8087, 0x6b65_6570, 7][usize::from(program % 4)];
            bytes.extend(frame_of(program, 1, *procedure, *kind, *serial, *status, payload));
        }
        bytes.extend(&noise);
        let sent = bytes.len();
        for chunk in bytes.chunks(cut) {
            for event in wire.receive(chunk) {
                match event {
                    Event::Call(call) if call.id.0.is_multiple_of(3) => {
                        wire.session.reply_stream(call.id, &());
                    }
                    Event::Call(call) => wire.session.reply(call.id, &()),
                    Event::Stream(id, StreamEvent::Finish) => wire.session.stream_finish(id),
                    Event::Stream(..) | Event::Closed(_) => {}
                }
            }
            prop_assert!(wire.session.unanswered() <= 3);
            prop_assert!(wire.session.link.held() <= 2 * sent.max(1024));
            prop_assert!(wire.session.output_len() <= 64 << 20);
            prop_assert!(wire.session.backlog <= 100 + 80);
        }
        wire.now += Duration::from_secs(3600);
        wire.session.handle_timeout(wire.now);
    }
}
