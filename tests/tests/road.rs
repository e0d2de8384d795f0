//! The road: a guest, two hosts that run `ferryd`, and stock virsh.

use std::time::Duration;

use ferry_testkit::guest::Work;
use ferry_testkit::tools::Tools;
use ferry_tests::{Pair, SOON};

/// The boot sector, directly and then peer to peer.
fn moves_there_and_back(tools: &Tools) {
    let pair = Pair::new(tools).expect("two hosts");
    let serial = pair.boot_sector("vm").expect("a guest that beats");
    for (from, to, mode) in [(0, 1, None), (1, 0, Some("--p2p"))] {
        let uri = pair.uri(to);
        let words = ["migrate", "vm", &uri, "--live", "--unsafe"].into_iter().chain(mode);
        pair.virsh(from).ok(words).expect("a migration");
        serial.wait_beats_on(pair.ear(to), 100, SOON).expect("beats on the destination");
        assert_eq!(pair.virsh(to).state("vm").expect("a state"), "running");
        assert_eq!((pair.daemon(from).qemus().len(), pair.daemon(to).qemus().len()), (0, 1));
    }
    serial.verdict().whole().expect("a whole guest");
    assert!(serial.beating_within(Duration::from_millis(100)).len() == 1);
}

#[test]
fn a_guest_moves_there_and_back_on_the_distributions_qemu() {
    moves_there_and_back(&Pair::distribution());
}

#[test]
fn a_guest_moves_there_and_back_on_backports_qemu() {
    moves_there_and_back(&Pair::newer());
}

#[test]
fn a_working_linux_guest_keeps_its_memory_and_its_disk() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.linux("vm", Work { memory_rate: 20, ..Work::default() }).unwrap();
    pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--p2p", "--unsafe"]).unwrap();
    serial.wait_beats_on(pair.ear(1), 200, SOON).unwrap();
    if pair.is_asked_there() {
        let check = pair.ask(1, "vm", &serial, "check").unwrap();
        assert_eq!(check["damaged"], "0", "{check:?}");
    }
    pair.virsh(1).ok(["shutdown", "vm"]).unwrap();
    serial.wait_silence(Duration::from_millis(500), SOON).unwrap();
    serial.verdict().whole().unwrap();
}

#[test]
fn a_daemon_that_was_killed_finds_its_guest_again() {
    let mut pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    pair.daemon_mut(0).kill_and_restart().unwrap();
    serial.wait_beats(100, SOON).unwrap();
    assert_eq!(pair.virsh(0).state("vm").unwrap(), "running");
    pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe"]).unwrap();
    serial.wait_beats_on(pair.ear(1), 100, SOON).unwrap();
    serial.verdict().whole().unwrap();
}
