//! A step of the handover whose record cannot be written does not happen: the guest stays where it is, and what has piled up
//! is settled once there is room again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use ferry_testkit::deadline::wait_until;
use ferry_testkit::ferryd::Options;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};

/// Puts a daemon that has no guest yet on a small disk of its own.
fn on_a_small_disk(pair: &mut Pair, number: usize) {
    pair.daemon(number).stop().unwrap();
    let root = pair.daemon(number).root().display().to_string();
    let script = format!(
        "cp -a {root} /run/spare && mount -t tmpfs -o size=3m,mode=700 none {root} && cp -a /run/spare/. {root}/"
    );
    pair.host(number).sh(&script).unwrap();
    pair.daemon_mut(number).start_again().unwrap();
}

#[test]
fn with_a_full_disk_on_either_side_the_guest_stays() {
    let tools = Pair::distribution();
    let options = || Options { fault_points: true, ..Options::default() };
    let mut pair = Pair::with([&tools, &tools], [options(), options()]).unwrap();
    if !pair.host(0).is_isolated() {
        return; // No disk of its own to fill.
    }
    for number in [0, 1] {
        on_a_small_disk(&mut pair, number);
    }
    let serial = pair.boot_sector("vm").unwrap();
    let uri = pair.uri(1);
    for (full, point, mode) in [
        (0, "before-Granted", "--verbose"),
        (1, "before-Starting", "--p2p"),
        (0, "before-Begun", "--p2p"),
        (1, "before-Prepared", "--verbose"),
    ] {
        // Its log of changes begins anew, and has no room in reserve.
        pair.daemon(full).stop().unwrap();
        pair.daemon_mut(full).start_again().unwrap();
        let hold = pair.daemon(full).arm(point).unwrap();
        let client =
            pair.virsh(0).start(["migrate", "vm", &uri, "--live", "--unsafe", mode], "migrate").unwrap();
        hold.wait(SOON).unwrap();
        let fill = format!("{}/fill", pair.daemon(full).root().display());
        // It ends because there is no room.
        pair.host(full).sh(&format!("dd if=/dev/zero of={fill} bs=4k 2>/dev/null || true")).unwrap();
        drop(hold);
        assert_eq!(client.wait_end(SOON).unwrap(), "exit code 1", "{point}: {}", client.log_tail(3));
        serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
        assert!(pair.virsh(0).reason("vm").starts_with("running"), "{point}");
        pair.host(full).sh(&format!("rm {fill}")).unwrap();
        wait_until("the other QEMU to be gone", SOON, || pair.daemon(1).qemus().is_empty()).unwrap();
        serial.verdict().whole().unwrap_or_else(|heard| panic!("{point}: {heard}"));
    }
    // Room again, and nothing is left that would hold it.
    pair.virsh(0).ok(["migrate", "vm", &uri, "--live", "--unsafe"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}
