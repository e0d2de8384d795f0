//! Post-copy: the guest runs on the destination before its memory is there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::time::Duration;

use ferry_testkit::deadline::wait_until;
use ferry_testkit::ferryd::Options;
use ferry_testkit::guest::Work;
use ferry_testkit::serial::Serial;
use ferry_testkit::tools::Tools;
use ferry_testkit::tree::Tree;
use ferry_tests::aftermath::Asking as _;
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

/// From host `from` to the other one.
fn migrate(pair: &Pair, from: usize, more: &[&str]) -> Tree {
    let uri = pair.uri(1 - from);
    // So strict that it does not end before it is switched.
    pair.virsh(from).ok(["migrate-setmaxdowntime", "vm", "1"]).unwrap();
    let words =
        ["migrate", "vm", &uri, "--live", "--unsafe", "--postcopy"].into_iter().chain(more.iter().copied());
    pair.virsh(from).start(words, "migrate").unwrap()
}

/// So little bandwidth that the rest of the memory is on its way for as long as a test looks.
const SLOWLY: [&str; 2] = ["--postcopy-bandwidth", "1"];

/// Switched by itself, after one pass.
const AFTER_PRECOPY: [&str; 3] = ["--postcopy-after-precopy", "--bandwidth", "30"];

fn wait_reasons(pair: &Pair, from: usize, source: &str, destination: &str) {
    let shown = || (reason(pair, from), reason(pair, 1 - from));
    wait_until(&format!("{source} and {destination}"), SOON, || {
        shown() == (source.to_owned(), destination.to_owned())
    })
    .unwrap_or_else(|late| panic!("{late}: {:?}", shown()));
}

fn hurry(pair: &Pair, from: usize) {
    pair.virsh(from).ok(["migrate-setspeed", "vm", "10000", "--postcopy"]).unwrap();
}

/// It came from host `from`.
fn is_whole_on_the_destination(pair: &Pair, from: usize, serial: &Serial) {
    let to = 1 - from;
    // It is defined on the first host alone.
    wait_reasons(pair, from, ["shut off (migrated)", ""][from], "running (migrated)");
    serial.wait_beats_on(pair.ear(to), 100, SOON).unwrap();
    let check = pair.ask(to, "vm", serial, "check").unwrap();
    assert_eq!(check["damaged"], "0", "{check:?}");
    serial.verdict().whole().unwrap();
    wait_until("the source's QEMU to be gone", SOON, || pair.daemon(from).qemus().is_empty()).unwrap();
    assert!(serial.beating_within(Duration::from_millis(100)) == [pair.ear(to)]);
}

fn follows_by_itself(tools: &Tools, p2p: &[&str]) {
    let pair = Pair::new(tools).unwrap();
    if !is_possible(&pair) {
        return;
    }
    let serial = pair.linux("vm", WORK).unwrap();
    let client = migrate(&pair, 0, &[p2p, &AFTER_PRECOPY, &SLOWLY].concat());
    wait_reasons(&pair, 0, "paused (post-copy)", "running (post-copy)");
    let refused = pair.virsh(0).fails(["domjobabort", "vm"]).unwrap();
    assert!(refused.contains("cannot abort migration in post-copy mode"), "{refused}");
    hurry(&pair, 0);
    assert_eq!(client.wait_end(SOON).unwrap(), "exit code 0", "{}", client.log_tail(5));
    is_whole_on_the_destination(&pair, 0, &serial);
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
    let client = migrate(&pair, 0, &["--bandwidth", "1"]);
    wait_until("the copy", SOON, || {
        pair.virsh(0).ok(["domjobinfo", "vm"]).is_ok_and(|job| job.contains("Iteration"))
    })
    .unwrap();
    let refused = pair.virsh(0).fails(["domjobabort", "vm", "--postcopy"]).unwrap();
    assert!(refused.contains("current job is not outgoing migration in post-copy mode"), "{refused}");
    let uri = pair.uri(1);
    let refused = pair.virsh(0).fails(["migrate", "vm", &uri, "--postcopy", "--postcopy-resume"]).unwrap();
    assert!(refused.contains("migration of domain vm is not in post-copy phase"), "{refused}");
    // Refused until memory moves.
    wait_until("the switch", SOON, || pair.virsh(0).ok(["migrate-postcopy", "vm"]).is_ok()).unwrap();
    assert_eq!(client.wait_end(SOON).unwrap(), "exit code 0", "{}", client.log_tail(5));
    is_whole_on_the_destination(&pair, 0, &serial);
}

/// The words by which a user goes on.
fn resume(pair: &Pair, from: usize, p2p: &[&str]) -> ferry_testkit::Result<String> {
    let uri = pair.uri(1 - from);
    let words = ["migrate", "vm", &uri, "--live", "--unsafe", "--postcopy", "--postcopy-resume"];
    pair.virsh(from).ok([&words, p2p].concat())
}

fn break_off(pair: &Pair, from: usize, p2p: &[&str]) -> Tree {
    let client = migrate(pair, from, &[p2p, &AFTER_PRECOPY, &SLOWLY].concat());
    wait_reasons(pair, from, "paused (post-copy)", "running (post-copy)");
    pair.virsh(from).ok(["domjobabort", "vm", "--postcopy"]).unwrap();
    client
}

fn stops_and_goes_on_by_hand(tools: &Tools) {
    let pair = Pair::new(tools).unwrap();
    if !is_possible(&pair) {
        return;
    }
    let serial = pair.linux("vm", WORK).unwrap();
    let nothing = resume(&pair, 0, &[]).unwrap_err().to_string();
    assert!(nothing.contains("domain 'vm' is not being migrated"), "{nothing}");
    for (from, p2p) in [(0, &[][..]), (1, &["--p2p"][..])] {
        let client = break_off(&pair, from, p2p);
        assert_ne!(client.wait_end(SOON).unwrap(), "exit code 0");
        let said = client.log_tail(5);
        assert!(said.contains("job 'migration in' failed in post-copy phase"), "{said}");
        wait_reasons(&pair, from, "paused (post-copy failed)", "running (post-copy failed)");
        // The daemons would have made it anew several times over.
        let stays = wait_until("the daemons to go on by themselves", Duration::from_millis(1500), || {
            reason(&pair, 1 - from) != "running (post-copy failed)"
        });
        assert!(stays.is_err(), "nobody but the user goes on");
        pair.virsh(from).refused(&["resume", "vm"], "handed over");
        hurry(&pair, from);
        resume(&pair, from, p2p).unwrap();
        is_whole_on_the_destination(&pair, from, &serial);
    }
}

#[test]
fn a_user_stops_it_and_goes_on() {
    stops_and_goes_on_by_hand(&Pair::distribution());
}

#[test]
fn a_user_stops_it_and_goes_on_with_backports_qemu() {
    stops_and_goes_on_by_hand(&Pair::newer());
}

#[test]
fn a_user_and_the_daemons_go_on_at_the_same_time() {
    let mut pair = Pair::new(&Pair::distribution()).unwrap();
    if !is_possible(&pair) {
        return;
    }
    let serial = pair.linux("vm", WORK).unwrap();
    for (from, p2p) in [(0, &["--p2p"][..]), (1, &[][..])] {
        let client = break_off(&pair, from, p2p);
        assert_ne!(client.wait_end(SOON).unwrap(), "exit code 0");
        // A restarted daemon knows nothing of the user's wish, and goes on by itself.
        pair.daemon_mut(from).kill_and_restart().unwrap();
        match resume(&pair, from, p2p) {
            Ok(_) => {}
            // The daemons were quicker.
            Err(error) => assert!(error.to_string().contains("has not failed"), "{error}"),
        }
        // It may be over by now.
        let _ = pair.virsh(from).run(["migrate-setspeed", "vm", "10000", "--postcopy"]);
        is_whole_on_the_destination(&pair, from, &serial);
    }
}

/// The daemons have no words for each other, so nobody goes on but a user.
#[test]
fn a_user_goes_on_between_hosts_that_cannot_ask_each_other() {
    let tools = Pair::distribution();
    let options = || Options { tcp: false, ..Options::default() };
    let pair = Pair::with([&tools, &tools], [options(), options()]).unwrap();
    if !is_possible(&pair) {
        return;
    }
    let serial = pair.linux("vm", WORK).unwrap();
    // The destination's socket under a path that the source sees.
    let proxy = pair.lab().shared().join("control");
    std::os::unix::fs::symlink(pair.host(1).seen(pair.daemon(1).socket()), &proxy).unwrap();
    let uri = format!("qemu+unix:///system?socket={}", proxy.display());
    let words = ["migrate", "vm", &uri, "--live", "--unsafe", "--postcopy"];
    let virsh = pair.virsh(0);
    virsh.ok(["migrate-setmaxdowntime", "vm", "1"]).unwrap();
    let client = virsh.start([&words[..], &AFTER_PRECOPY, &SLOWLY].concat(), "migrate").unwrap();
    wait_reasons(&pair, 0, "paused (post-copy)", "running (post-copy)");
    virsh.ok(["domjobabort", "vm", "--postcopy"]).unwrap();
    assert_ne!(client.wait_end(SOON).unwrap(), "exit code 0");
    wait_reasons(&pair, 0, "paused (post-copy failed)", "running (post-copy failed)");
    virsh.refused(&["resume", "vm"], "vm");
    hurry(&pair, 0);
    virsh.ok([&words[..], &["--postcopy-resume"]].concat()).unwrap();
    is_whole_on_the_destination(&pair, 0, &serial);
}
