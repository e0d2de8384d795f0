//! A connection against a server that is made of the server's session: no daemon, but every byte is real.

use std::sync::{Arc, Mutex};

use ferry_rpc::flags::{ConsoleFlags, DefineFlags, MigrateFlags};
use ferry_rpc::proto::{
    ConnectGetHostname, ConnectGetVersion, Cookie, DomainEventCallbackReboot, DomainLookupByName, DomainRef,
};
use ferry_rpc::server::{self, Call, Event, StreamEvent};
use ferry_rpc::values::{DomainState, EventId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use uuid::Uuid;

use super::*;

/// What a test's server does with a call.
enum Do {
    /// Answers with these bytes.
    Reply(Vec<u8>),
    Refuse(Error),
    /// Opens a stream and sends this on it.
    Stream(Vec<u8>),
    /// Answers with nothing and sends this message this many times.
    Tell(DomainEventCallbackReboot, usize),
    Ignore,
    HangUp,
}

type Handler = Box<dyn FnMut(&Call) -> Do + Send>;

/// The numbers of the procedures that were called, in order.
type Called = Arc<Mutex<Vec<i32>>>;

fn reply<T: ferry_xdr::Encode>(value: &T) -> Do {
    Do::Reply(ferry_xdr::to_bytes(value).unwrap())
}

/// A value of bytes that are encoded already.
struct Raw(Vec<u8>);

impl ferry_xdr::Encode for Raw {
    fn encode(&self, writer: &mut ferry_xdr::Writer) -> Result<(), EncodeError> {
        writer.fixed(&self.0);
        Ok(())
    }
}

fn vm() -> DomainRef {
    DomainRef { name: "vm".to_owned(), uuid: Uuid::from_bytes([5; 16]), id: 1 }
}

/// Serves one connection: the opening calls by itself, the rest as `handler` says. What arrives on streams is
/// collected and returned.
async fn serve(mut socket: DuplexStream, called: Called, mut handler: Handler) -> Vec<u8> {
    let mut session = server::Session::new(std::time::Instant::now(), server::Config::default());
    let (mut buffer, mut streamed) = (vec![0; 4096], Vec::new());
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Call(call) => {
                    called.lock().unwrap().push(call.procedure.number());
                    match opening(&call).unwrap_or_else(|| handler(&call)) {
                        Do::Reply(bytes) => session.reply(call.id, &Raw(bytes)),
                        Do::Refuse(error) => session.reply_error(call.id, &error),
                        Do::Stream(bytes) => {
                            let stream = session.reply_stream(call.id, &()).unwrap();
                            session.stream_data(stream, &bytes);
                            session.stream_end(stream);
                        }
                        Do::Tell(message, times) => {
                            (0..times).for_each(|_| session.event(&message));
                            session.reply(call.id, &());
                        }
                        Do::Ignore => {}
                        Do::HangUp => return streamed,
                    }
                }
                Event::Stream(id, StreamEvent::Data(bytes)) => {
                    session.stream_consumed(id, bytes.len());
                    streamed.extend(bytes);
                }
                Event::Stream(id, StreamEvent::Finish) => session.stream_finish(id),
                Event::Stream(_, StreamEvent::Abort) => streamed.extend(b"aborted"),
                Event::Closed(_) => return streamed,
            }
        }
        while !session.output().is_empty() {
            match socket.write(session.output()).await {
                Ok(len) => session.output_written(len),
                Err(_) => return streamed,
            }
        }
        match socket.read(&mut buffer).await {
            Ok(len) if len > 0 => session.handle_bytes(std::time::Instant::now(), &buffer[..len]),
            _ => return streamed,
        }
    }
}

/// The answers that every client needs first.
fn opening(call: &Call) -> Option<Do> {
    match call.procedure {
        Procedure::AuthList => Some(Do::Reply([1_u32, 0].map(u32::to_be_bytes).concat())),
        Procedure::ConnectSupportsFeature => Some(reply(&true)),
        Procedure::ConnectOpen
        | Procedure::ConnectClose
        | Procedure::ConnectRegisterCloseCallback
        | Procedure::ConnectUnregisterCloseCallback => Some(reply(&())),
        _ => None,
    }
}

/// An open connection to a server that does as `handler` says.
async fn connected(
    handler: impl FnMut(&Call) -> Do + Send + 'static,
) -> (Connection, Called, tokio::task::JoinHandle<Vec<u8>>) {
    // Smaller than many messages, so that reads and writes are cut.
    let (ours, theirs) = duplex(999);
    let called = Called::default();
    let server = tokio::spawn(serve(theirs, called.clone(), Box::new(handler)));
    let connection = Connection::open_over(ours, "qemu:///system", OpenOptions::default()).await.unwrap();
    (connection, called, server)
}

#[tokio::test]
async fn opens_and_closes_with_the_calls_of_a_stock_client() {
    let (connection, called, server) = connected(|_| Do::Ignore).await;
    let all = Features { keepalive: true, event_callback: true, close_callback: true };
    assert_eq!(connection.features(), all);
    connection.close().await.unwrap();
    server.await.unwrap();
    assert_eq!(*called.lock().unwrap(), [66, 60, 1, 60, 60, 360, 361, 2]);
}

#[tokio::test]
async fn a_server_that_wants_a_password_is_refused_by_name() {
    let (ours, mut theirs) = duplex(4096);
    let server = tokio::spawn(async move {
        let mut call = [0; 28];
        theirs.read_exact(&mut call).await.unwrap();
        let reply = [36_u32, 0x2000_8086, 1, 66, 1, 0, 0, 1, 1].map(u32::to_be_bytes).concat();
        theirs.write_all(&reply).await.unwrap();
        theirs
    });
    let refused = Connection::open_over(ours, "qemu:///system", OpenOptions::default()).await.unwrap_err();
    assert_eq!(refused.to_string(), "authentication required: the server offers only [SASL=1]");
    assert_eq!(refused.to_wire().code, ErrorCode::AUTH_UNAVAILABLE);
    server.await.unwrap();
}

#[tokio::test]
async fn calls_of_one_connection_do_not_wait_for_each_other() {
    let (connection, _, _server) = connected(|call| match call.procedure {
        Procedure::ConnectGetVersion => reply(&7_002_022_u64),
        _ => Do::Ignore,
    })
    .await;
    let slow = connection.call(&ConnectGetHostname {});
    tokio::pin!(slow);
    tokio::select! {
        biased;
        done = &mut slow => panic!("nobody answers: {done:?}"),
        version = connection.hypervisor_version() => assert_eq!(version, Ok(7_002_022)),
    }
    let limit = Duration::from_millis(1);
    let late = connection.call_within(limit, &ConnectGetHostname {}).await.unwrap_err();
    assert_eq!(late, CallError::Timeout(limit));
    assert!(late.is_unknown());
}

#[tokio::test]
async fn refusals_come_as_they_were_sent() {
    let error = Error::of(ErrorCode::NO_DOMAIN, Origin::QEMU, "no domain with matching name 'x'");
    let sent = error.clone();
    let (connection, _, _server) = connected(move |_| Do::Refuse(sent.clone())).await;
    let refused = connection.domain_lookup_by_name("x").await.unwrap_err();
    assert_eq!(refused, CallError::Remote(error.clone()));
    assert!(!refused.is_unknown());
    assert_eq!(refused.to_wire(), error);
}

#[tokio::test]
async fn every_argument_arrives() {
    let (connection, called, _server) = connected(|call| match call.procedure {
        Procedure::DomainLookupByName => {
            assert_eq!(call.decode::<DomainLookupByName>().unwrap().name, "vm");
            reply(&vm())
        }
        Procedure::DomainGetState => Do::Reply([1_u32, 2].map(u32::to_be_bytes).concat()),
        Procedure::DomainDefineXml => reply(&vm()),
        _ => Do::Reply(vec![0; 64]),
    })
    .await;
    let domain = connection.domain_lookup_by_name("vm").await.unwrap();
    assert_eq!(domain, vm());
    assert_eq!(connection.domain_state(&domain).await, Ok((DomainState::RUNNING, 2)));
    connection.define("<domain/>", DefineFlags::NONE).await.unwrap();
    connection.define("<domain/>", DefineFlags::VALIDATE).await.unwrap();
    connection.migrate_begin(&domain, vec![], MigrateFlags::LIVE).await.unwrap();
    assert_eq!(called.lock().unwrap()[6..], [23, 212, 11, 350, 302]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_and_what_cannot_be_read_is_unknown() {
    let (connection, called, _server) = connected(|_| Do::Reply(vec![])).await;
    let long = "x".repeat(ferry_xdr::STRING_MAX + 1);
    let refused = connection.domain_lookup_by_name(&long).await.unwrap_err();
    assert!(matches!(refused, CallError::Encode(_)) && !refused.is_unknown());
    let unread = connection.domain_lookup_by_name("vm").await.unwrap_err();
    assert!(matches!(unread, CallError::Decode { procedure: Procedure::DomainLookupByName, .. }));
    assert!(unread.is_unknown());
    assert_eq!(called.lock().unwrap()[6..], [23]);
}

#[tokio::test]
async fn a_server_that_goes_takes_its_calls_along() {
    let (connection, _, server) = connected(|call| match call.procedure {
        Procedure::ConnectGetHostname => Do::HangUp,
        _ => Do::Ignore,
    })
    .await;
    let (waiting, last) = (connection.call(&ConnectGetVersion {}), connection.call(&ConnectGetHostname {}));
    let (waiting, last) = tokio::join!(waiting, last);
    server.await.unwrap();
    let lost = Err(CallError::Lost(Lost::Eof));
    assert_eq!((waiting, connection.closed().await), (lost, Lost::Eof));
    assert!(last.unwrap_err().is_unknown());
    assert!(!connection.is_alive());
    let after = connection.call(&ConnectGetVersion {}).await.unwrap_err();
    assert_eq!(after, CallError::Lost(Lost::Eof));
    assert_eq!((after.to_wire().code, after.to_wire().origin), (ErrorCode::SYSTEM_ERROR, Origin::RPC));
}

#[tokio::test]
async fn messages_reach_every_subscriber_and_a_slow_one_learns_what_it_missed() {
    let message = DomainEventCallbackReboot { callback_id: 3, domain: vm() };
    let told = message.clone();
    let (connection, _, _server) = connected(move |call| match call.procedure {
        Procedure::ConnectDomainEventCallbackRegisterAny => reply(&3_i32),
        Procedure::DomainSuspend => Do::Tell(told.clone(), 1),
        _ => Do::Tell(told.clone(), 2000),
    })
    .await;
    let (mut first, mut second) = (connection.subscribe(), connection.subscribe());
    assert_eq!(connection.register_event(EventId::REBOOT, None).await, Ok(3));
    connection.suspend(&vm()).await.unwrap();
    for subscription in [&mut first, &mut second] {
        let received = subscription.next().await.unwrap();
        assert_eq!(received.decode::<DomainEventCallbackReboot>(), Some(Ok(message.clone())));
    }
    connection.resume(&vm()).await.unwrap();
    let missed = first.next().await.unwrap_err();
    assert_eq!(missed, crate::Missed::Overflow(2000 - 1024));
    assert!(first.next().await.is_ok(), "later ones follow");
    connection.close().await.unwrap();
    let end = loop {
        match second.next().await {
            Ok(_) | Err(crate::Missed::Overflow(_)) => {}
            Err(crate::Missed::Lost(why)) => break why,
        }
    };
    assert!(matches!(end, Lost::Closed | Lost::Eof), "{end:?}");
}

#[tokio::test]
async fn a_stream_in_each_direction() {
    let download: Vec<u8> = (0..700_000_u32).map(|n| n as u8).collect();
    let sent = download.clone();
    let (connection, _, server) = connected(move |_| Do::Stream(sent.clone())).await;
    let mut stream = connection.open_console(&vm(), None, ConsoleFlags::NONE).await.unwrap();
    let mut received = Vec::new();
    while let Some(bytes) = stream.reader.read().await.unwrap() {
        received.extend(bytes);
    }
    assert_eq!(received, download);
    for chunk in download.chunks(65536) {
        assert_eq!(stream.writer.write(chunk).await, Ok(true));
    }
    stream.finish().await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(server.await.unwrap(), download);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_aborted() {
    let (connection, _, server) = connected(|_| Do::Stream(vec![])).await;
    let cookie = Cookie(b"<c/>\0".to_vec());
    let opened = connection.migrate_prepare_tunnel(vec![], cookie, MigrateFlags::TUNNELLED).await;
    assert!(matches!(opened, Err(CallError::Decode { .. })), "the stream is not lost with the answer");
    let stream = connection.open_console(&vm(), None, ConsoleFlags::NONE).await.unwrap();
    stream.abort();
    connection.close().await.unwrap();
    assert_eq!(server.await.unwrap(), b"abortedaborted");
}
