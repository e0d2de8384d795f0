//! What is fuzzed: every decoder that a peer, a client, a guest or a user's file reaches.
//!
//! Each function takes arbitrary bytes and panics only when one of our promises is broken. The programs in
//! `targets/` hand them to libFuzzer; `tests/smoke.rs` runs each with a fixed number of inputs. To fuzz:
//!
//! ```text
//! cargo +nightly fuzz run server_session        # with coverage and a sanitizer
//! cargo build --manifest-path fuzz/Cargo.toml   # builds on stable; what CI does
//! ```

use std::time::{Duration, Instant};

use ferry_domxml::{Domain, FormatOptions, Uuid};
use ferry_migration::cookie::{Cookie, Expected, Reader};
use ferry_migration::params::{Phase, Request};
use ferry_rpc::flags::{ConsoleFlags, MigrateFlags};
use ferry_rpc::proto::{self, ConnectGetVersion, DomainOpenConsole, DomainRef};
use ferry_rpc::{TypedParam, client, server};

/// The program, and the seeds that a random input starts from.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of them.
pub const TARGETS: &[Target] = &[
    ("server_session", server_session, seeds::server_session),
    ("client_session", client_session, seeds::client_session),
    ("layouts", layouts, seeds::layouts),
    ("params", params, seeds::params),
    ("uri", uri, seeds::uri),
    ("domain_xml", domain_xml, seeds::domain_xml),
    ("cookie", cookie, seeds::cookie),
    ("qmp", qmp, seeds::qmp),
];

/// A client's bytes. The first one says how they are cut.
pub fn server_session(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let now = Instant::now();
    let config = server::Config { unanswered_max: 4, stream_backlog_max: 4096, ..server::Config::default() };
    let mut session = server::Session::new(now, config);
    for chunk in bytes.chunks(usize::from(*cut) + 1) {
        session.handle_bytes(now, chunk);
        while let Some(event) = session.poll_event() {
            match event {
                server::Event::Call(call)
                    if call.procedure.stream() != ferry_rpc::procedure::Stream::None =>
                {
                    session.reply_stream(call.id, &());
                }
                server::Event::Call(call) => session.reply(call.id, &()),
                server::Event::Stream(id, server::StreamEvent::Data(data)) => {
                    session.stream_consumed(id, data.len() / 2);
                }
                server::Event::Stream(id, server::StreamEvent::Finish) => session.stream_finish(id),
                server::Event::Stream(..) | server::Event::Closed(_) => {}
            }
        }
        assert!(session.unanswered() <= config.unanswered_max);
        assert!(session.output_len() <= config.output_max);
    }
    session.handle_timeout(now + Duration::from_secs(3600));
}

/// A server's bytes, after a call and a stream. The first one says how they are cut.
pub fn client_session(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let now = Instant::now();
    let mut session = client::Session::new(now, client::Config::default());
    let domain = DomainRef { name: "vm".to_owned(), uuid: Uuid::nil(), id: 1 };
    let console = DomainOpenConsole { domain, dev_name: None, flags: ConsoleFlags::NONE };
    session.call(&console).expect("within its bounds");
    session.call(&ConnectGetVersion {}).expect("within its bounds");
    for chunk in bytes.chunks(usize::from(*cut) + 1) {
        session.handle_bytes(now, chunk);
        while let Some(event) = session.poll_event() {
            if let client::Event::Stream(serial, client::StreamEvent::Data(data)) = event {
                session.stream_consumed(serial, data.len());
            }
        }
    }
    session.handle_timeout(now + Duration::from_secs(3600));
}

/// Arguments, results and messages of every procedure; the first two bytes choose one. What is accepted reads
/// the same when it is sent again.
pub fn layouts(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first_chunk::<2>() else { return };
    let all: Vec<_> = proto::layouts().collect();
    let choice = usize::from(u16::from_be_bytes(*choice));
    let layout = all[choice / 2 % all.len()];
    let recode = if choice.is_multiple_of(2) { layout.arguments } else { layout.reply };
    if let Ok(once) = recode(bytes) {
        assert_eq!(recode(&once), Ok(once), "{:?}", layout.procedure);
    }
}

/// Typed parameters of a migration call.
pub fn params(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first_chunk::<5>() else { return };
    let [phase, flags @ ..] = *choice;
    let phases = [Phase::Begin, Phase::Prepare, Phase::Perform, Phase::Finish, Phase::Confirm];
    let mut reader = ferry_xdr::Reader::new(bytes);
    let params = <ferry_xdr::Array<64> as ferry_xdr::Codec<Vec<TypedParam>>>::decode(&mut reader);
    if let Ok(params) = params {
        let flags = MigrateFlags::from_bits(u32::from_be_bytes(flags));
        let _ = Request::parse(phases[usize::from(phase) % phases.len()], &params, flags);
    }
}

/// A connection URI. What is accepted reads the same when it is written again.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(uri) = text.parse::<ferry_client::Uri>() {
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
}

/// A user's or a peer's domain XML. What is accepted reads the same when it is written again.
pub fn domain_xml(data: &[u8]) {
    let Ok(domain) = Domain::parse_bytes(data) else { return };
    let _ = domain.check_supported();
    let options = FormatOptions { secure: true, ..FormatOptions::LIVE };
    let text = domain.format(options);
    let again = Domain::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(again.format(options), text);
}

/// A peer's migration cookie, in every phase.
pub fn cookie(data: &[u8]) {
    for reader in [Reader::Prepare, Reader::Perform, Reader::Finish, Reader::Confirm] {
        let expected = Expected { name: None, uuid: None, host_uuid: Uuid::from_bytes([9; 16]) };
        if let Ok(Some(cookie)) = Cookie::parse(data, reader, &expected) {
            let bytes = cookie.to_bytes();
            assert_eq!(bytes.last(), Some(&0));
        }
    }
}

/// What sits in QEMU's place. The first byte says how the bytes are cut.
pub fn qmp(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let mut session = ferry_qmp::Session::new(1);
    for chunk in bytes.chunks(usize::from(*cut) + 1) {
        if session.handle_bytes(chunk).is_err() {
            return;
        }
        while session.poll_event().is_some() {}
        while session.poll_output().is_some() {}
    }
}

mod seeds;
