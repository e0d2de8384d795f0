//! While nobody can know which host has the guest, nobody starts it: it is shown, and settled by contact alone.

#![allow(clippy::panic, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use ferry_store::Store;
use ferry_testkit::deadline::wait_until;
use ferry_testkit::{programs, tree};
use ferry_tests::aftermath::Asking as _;
use ferry_tests::doubt::{self, REASON};
use ferry_tests::{Pair, SOON};

/// The guest's own definition, with its UUID, as a file for virsh.
fn same_again(pair: &Pair) -> String {
    let xml = pair.lab().shared().join("same.xml");
    std::fs::write(&xml, pair.virsh(0).ok(["dumpxml", "vm", "--inactive"]).unwrap()).unwrap();
    xml.display().to_string()
}

#[test]
fn a_guest_in_doubt_is_shown_and_left_alone_until_the_hosts_have_spoken() {
    let Some((mut pair, serial)) = doubt::hosts().unwrap() else { return };
    pair.virsh(0).ok(["autostart", "vm"]).unwrap();
    let xml = same_again(&pair);
    let client = doubt::fall_into(&pair).unwrap();

    for round in
        ["the daemon that saw it", "a daemon that was started since, with the guest to be autostarted"]
    {
        let virsh = pair.virsh(0);
        assert_eq!(virsh.ok(["domstate", "vm", "--reason"]).unwrap(), "paused (migrating)", "{round}");
        for words in [&["resume", "vm"][..], &["suspend", "vm"], &["reset", "vm"], &["destroy", "vm"]] {
            virsh.refused(words, REASON);
        }
        // It is active, so virsh and the daemon say no more than that.
        virsh.refused(&["start", "vm"], "already active");
        virsh.refused(&["create", xml.as_str()], "already active");
        let ferry = programs::ferry().unwrap();
        let root = pair.daemon(0).root().display().to_string();
        let said = pair.host(0).run(ferry, ["-c", &root, "list"], SOON).unwrap();
        assert!(said.stdout.contains(REASON), "{round}: {}{}", said.stdout, said.stderr);
        assert_eq!(pair.daemon(0).qemus().len(), 1, "{round}");
        if round.starts_with("the daemon") {
            pair.daemon_mut(0).kill_and_restart().unwrap();
            doubt::wait_shown(&pair, 0).unwrap();
            assert_ne!(client.wait_end(SOON).unwrap(), "exit code 0");
        }
    }

    pair.host(1).heal().unwrap();
    wait_until("the guest on the destination alone", SOON, || {
        let states =
            [0, 1].map(|host| pair.virsh(host).ok(["domstate", "vm", "--reason"]).unwrap_or_default());
        states == ["shut off (migrated)", "running (migrated)"] && pair.daemon(0).qemus().is_empty()
    })
    .unwrap();
    serial.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
    serial.verdict().whole().unwrap();
    // It is known now that it left: starting it here again is not refused for a doubt, but because it runs there.
    let refused = pair.virsh(0).fails(["start", "vm"]).unwrap();
    assert!(!refused.contains(REASON), "{refused}");
}

/// Its host comes up again: nothing of the guest lives here, and the other host cannot be asked. It is to start with its
/// host, and must not.
#[test]
fn a_guest_in_doubt_does_not_start_with_its_host() {
    let Some((mut pair, serial)) = doubt::hosts().unwrap() else { return };
    pair.virsh(0).ok(["autostart", "vm"]).unwrap();
    let xml = same_again(&pair);
    let _client = doubt::fall_into(&pair).unwrap();
    // As a power cut leaves it.
    pair.daemon(0).kill().unwrap();
    let [qemu] = pair.daemon(0).qemus()[..] else { panic!("one QEMU on the source") };
    tree::kill(qemu).unwrap();
    Store::open(&pair.database(0)).unwrap().set_host_value("autostarted_boot", "another").unwrap();
    pair.daemon_mut(0).start_again().unwrap();

    let refused = "could not be started with the host";
    wait_until("the start to be refused", SOON, || pair.daemon(0).log_tail(40).contains(refused)).unwrap();
    for round in ["handed over", "in doubt"] {
        for words in [&["start", "vm"][..], &["start", "vm", "--force-boot"], &["create", xml.as_str()]] {
            let said = pair.virsh(0).fails(words.iter().copied()).unwrap();
            assert!(said.contains("handed over") || said.contains(REASON), "{round}: {words:?}: {said}");
        }
        assert!(pair.daemon(0).qemus().is_empty(), "{round}");
        if round == "handed over" {
            doubt::wait_shown(&pair, 0).unwrap();
        }
    }
    pair.host(1).heal().unwrap();
    serial.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
    wait_until("the guest on the destination alone", SOON, || {
        let states =
            [0, 1].map(|host| pair.virsh(host).ok(["domstate", "vm", "--reason"]).unwrap_or_default());
        states[0].starts_with("shut off") && states[1] == "running (migrated)"
    })
    .unwrap();
    serial.verdict().whole().unwrap();
}
