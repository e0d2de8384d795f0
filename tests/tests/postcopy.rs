//! Post-copy: the guest runs on the destination before its memory is there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::time::Duration;

use ferry_testkit::deadline::wait_until;
use ferry_testkit::guest::Work;
use ferry_testkit::serial::Serial;
use ferry_testkit::tools::Tools;
use ferry_testkit::tree::Tree;
use ferry_tests::{Pair, SOON};

/// Dirties so much that there is always something left to follow.
const WORK: Work =
    Work { beat_us: 2000, memory_mib: 48, memory_rate: 16, disk_mib: 0, disk_rate: 0, address: None };

/// QEMU may not have the kernel tell it of missing pages for an ordinary user.
fn is_possible(pair: &Pair) -> bool {
    let possible = pair.host(0).is_isolated();
    if !possible {
        eprintln!("post-copy needs userfaultfd, and so root");
    }
    possible
}

fn reason(pair: &Pair, host: usize) -> String {
    pair.virsh(host).ok(["domstate", "vm", "--reason"]).unwrap_or_default()
}

fn migrate(pair: &Pair, more: &[&str]) -> Tree {
    let uri = pair.uri(1);
    // So strict that it does not end before it is switched.
    pair.virsh(0).ok(["migrate-setmaxdowntime", "vm", "1"]).unwrap();
    let words =
        ["migrate", "vm", &uri, "--live", "--unsafe", "--postcopy"].into_iter().chain(more.iter().copied());
    pair.virsh(0).start(words, "migrate").unwrap()
}

/// So little bandwidth that the rest of the memory is on its way for as long as a test looks.
const SLOWLY: [&str; 2] = ["--postcopy-bandwidth", "1"];

fn wait_reasons(pair: &Pair, source: &str, destination: &str) {
    wait_until(&format!("{source} and {destination}"), SOON, || {
        (reason(pair, 0).as_str(), reason(pair, 1).as_str()) == (source, destination)
    })
    .unwrap_or_else(|late| panic!("{late}: {} and {}", reason(pair, 0), reason(pair, 1)));
}

fn hurry(pair: &Pair) {
    pair.virsh(0).ok(["migrate-setspeed", "vm", "10000", "--postcopy"]).unwrap();
}

fn is_whole_on_the_destination(pair: &Pair, serial: &Serial) {
    wait_reasons(pair, "shut off (migrated)", "running (migrated)");
    serial.wait_beats_on(pair.ear(1), 100, SOON).unwrap();
    let check = pair.ask(1, "vm", serial, "check").unwrap();
    assert_eq!(check["damaged"], "0", "{check:?}");
    serial.verdict().whole().unwrap();
    wait_until("the source's QEMU to be gone", SOON, || pair.daemon(0).qemus().is_empty()).unwrap();
    assert!(serial.beating_within(Duration::from_millis(100)) == [pair.ear(1)]);
}

fn follows_by_itself(tools: &Tools, p2p: &[&str]) {
    let pair = Pair::new(tools).unwrap();
    if !is_possible(&pair) {
        return;
    }
    let serial = pair.linux("vm", WORK).unwrap();
    let client = migrate(&pair, &[p2p, &["--postcopy-after-precopy", "--bandwidth", "30"], &SLOWLY].concat());
    wait_reasons(&pair, "paused (post-copy)", "running (post-copy)");
    let refused = pair.virsh(0).fails(["domjobabort", "vm"]).unwrap();
    assert!(refused.contains("cannot abort migration in post-copy mode"), "{refused}");
    hurry(&pair);
    assert_eq!(client.wait_end(SOON).unwrap(), "exit code 0", "{}", client.log_tail(5));
    is_whole_on_the_destination(&pair, &serial);
}

#[test]
fn directly_after_the_first_pass() {
    follows_by_itself(&Pair::distribution(), &[]);
}

#[test]
fn peer_to_peer_on_backports_qemu() {
    follows_by_itself(&Pair::newer(), &["--p2p"]);
}

#[test]
fn by_hand() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    if !is_possible(&pair) {
        return;
    }
    let serial = pair.linux("vm", WORK).unwrap();
    let client = migrate(&pair, &["--bandwidth", "1"]);
    // Refused until memory moves.
    wait_until("the switch", SOON, || pair.virsh(0).ok(["migrate-postcopy", "vm"]).is_ok()).unwrap();
    assert_eq!(client.wait_end(SOON).unwrap(), "exit code 0", "{}", client.log_tail(5));
    is_whole_on_the_destination(&pair, &serial);
}
