//! Calls of a migration that come too early, too late, again, or from somebody whom they do not concern: they find out
//! what has become of the guest, and change nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::time::{Duration, Instant};

use ferry_rpc::error::ErrorCode;
use ferry_rpc::proto::Cookie;
use ferry_rpc::{ParamValue, TypedParam};
use ferry_testkit::ferryd::Options;
use ferry_testkit::serial::Serial;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::calls::Client;
use ferry_tests::wire::Wire;
use ferry_tests::{Pair, SOON};

fn beating() -> (Pair, Serial) {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    (pair, serial)
}

fn nothing() -> Cookie {
    Cookie::default()
}

/// On the destination alone, whatever was asked afterwards.
fn is_there(pair: &Pair, serial: &Serial) {
    serial.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
    assert_eq!(pair.virsh(1).reason("vm"), "running (migrated)");
    assert!(pair.daemon(0).qemus().is_empty() && pair.daemon(1).qemus().len() == 1);
    serial.verdict().whole().unwrap();
}

#[test]
fn a_perform_that_is_refused_as_it_stands_ends_its_begin() {
    let (pair, serial) = beating();
    let mut client = Client::new(&pair, 0);
    let begun = client.begin().unwrap();
    let prepared = client.prepare(&begun).unwrap();
    let compressed = [TypedParam::new("compression", ParamValue::String("zlib".to_owned()))];
    let refusal = client.perform(&prepared, &compressed).unwrap_err();
    assert!(refusal.message.contains("'compression' is not supported"), "{refusal}");
    // Nobody has closed a connection, and another client finds the guest free.
    let cleaned = client.finish(&nothing(), true).unwrap_err();
    assert_eq!(cleaned.code, ErrorCode::MIGRATE_FINISH_OK, "{cleaned}");
    pair.stayed("vm", &serial);
    pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe"]).unwrap();
    is_there(&pair, &serial);
}

#[test]
fn a_finish_that_calls_off_before_perform_cleans_up_at_once() {
    for (tools, what) in [(Pair::distribution(), "7.2"), (Pair::newer(), "10.0")] {
        let pair = Pair::new(&tools).unwrap();
        let serial = pair.boot_sector("vm").unwrap();
        let mut client = Client::new(&pair, 0);
        let begun = client.begin().unwrap();
        client.prepare(&begun).unwrap();
        let asked = Instant::now();
        let cleaned = client.finish(&nothing(), true).unwrap_err();
        assert_eq!(cleaned.code, ErrorCode::MIGRATE_FINISH_OK, "QEMU {what}: {cleaned}");
        assert!(asked.elapsed() < Duration::from_secs(5), "QEMU {what}: {:?}", asked.elapsed());
        // The source has heard of it, and is free for another.
        pair.stayed("vm", &serial);
        pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe"]).unwrap();
        is_there(&pair, &serial);
    }
}

#[test]
fn what_is_asked_again_is_answered_again_and_what_comes_late_finds_it_over() {
    let (pair, serial) = beating();
    let mut client = Client::new(&pair, 0);
    let begun = client.begin().unwrap();
    let twice = client.begin().unwrap_err();
    assert_eq!(twice.code, ErrorCode::OPERATION_INVALID, "{twice}");
    let prepared = client.prepare(&begun).unwrap();
    let twice = client.prepare(&begun).unwrap_err();
    assert_eq!(twice.code, ErrorCode::OPERATION_INVALID, "{twice}");
    let performed = client.perform(&prepared, &[]).unwrap();
    let twice = client.perform(&prepared, &[]).unwrap_err();
    assert_eq!(twice.code, ErrorCode::OPERATION_INVALID, "{twice}");
    let finished = client.finish(&performed, false).unwrap();
    is_there(&pair, &serial);
    // Its coordinator still stands: it may not have got the answer.
    let again = client.finish(&performed, false).unwrap();
    assert_eq!((again.domain.name, again.domain.uuid), (finished.domain.name, finished.domain.uuid));
    let too_late = client.finish(&performed, true).unwrap_err();
    assert!(too_late.message.contains("had been handed over before it was called off"), "{too_late}");
    // That it is called cancelled does not bring it back.
    let too_late = client.confirm(&finished.cookie, true).unwrap_err();
    assert!(too_late.message.contains("runs on the destination after all"), "{too_late}");
    client.confirm(&finished.cookie, false).unwrap();
    client.confirm(&nothing(), false).unwrap();
    is_there(&pair, &serial);

    // The same from somebody who comes when all is over, with the old cookies.
    let domain = client.domain.clone();
    drop(client);
    let mut late = Client::again(&pair, 0, domain);
    for cancelled in [true, false] {
        late.finish(&performed, cancelled).map(|_| ()).unwrap_err();
        late.confirm(&finished.cookie, cancelled).unwrap_err();
    }
    late.perform(&prepared, &[]).unwrap_err();
    let old = late.prepare(&begun).unwrap_err();
    assert_eq!(old.code, ErrorCode::OPERATION_INVALID, "{old}");
    is_there(&pair, &serial);

    // Back, and the old calls once more: they are about another migration than the last.
    pair.virsh(1).ok(["migrate", "vm", &pair.uri(0), "--live", "--unsafe"]).unwrap();
    for cancelled in [true, false] {
        late.finish(&performed, cancelled).map(|_| ()).unwrap_err();
        late.confirm(&finished.cookie, cancelled).unwrap_err();
    }
    let old = late.prepare(&begun).unwrap_err();
    assert!(old.message.contains("was prepared before"), "{old}");
    let old = late.perform(&prepared, &[]).unwrap_err();
    assert!(old.message.contains("prepared for another migration"), "{old}");
    pair.stayed("vm", &serial);
}

#[test]
fn a_connection_that_is_never_opened_is_dropped() {
    let options = Options { config: Some("open_timeout = 1\n".to_owned()), ..Options::default() };
    let tools = Pair::distribution();
    let pair = Pair::with([&tools, &tools], [options, Options::default()]).unwrap();
    let mut open = Wire::open(pair.daemon(0));
    let mut silent = Wire::connect(pair.daemon(0)).unwrap();
    assert!(silent.is_closed_soon(), "it takes a place for nothing");
    open.ask(&ferry_rpc::proto::ConnectGetHostname {}).unwrap();
}
