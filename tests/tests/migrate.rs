//! Live migration as stock virsh orders it: every way to go, and what the guest and both hosts are afterwards.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ferry_testkit::guest::Work;
use ferry_testkit::tools::Tools;
use ferry_tests::aftermath::{Asking as _, is_silent};
use ferry_tests::events::Events;
use ferry_tests::{Pair, SOON};

/// The client drives both daemons, or the source daemon does.
const MODES: [&[&str]; 2] = [&[], &["--p2p"]];

fn pair() -> Pair {
    Pair::new(&Pair::distribution()).expect("two hosts")
}

/// `migrate vm` from host `from` to the other, with more words.
fn migrate<'a>(pair: &'a Pair, from: usize, words: &[&'a str]) -> ferry_testkit::Result<String> {
    let uri = pair.uri(1 - from);
    let all = ["migrate", "vm", uri.as_str(), "--unsafe"].into_iter().chain(words.iter().copied());
    pair.virsh(from).ok(all)
}

/// Live, both ways: what each side shows afterwards.
#[test]
fn live_in_both_modes_there_and_back() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    for mode in MODES {
        let words: Vec<&str> = ["--live", "--verbose"].iter().chain(mode).copied().collect();
        migrate(&pair, 0, &words).unwrap();
        pair.moved(0, "vm", "running (migrated)", &serial);
        assert_eq!(pair.virsh(0).reason("vm"), "shut off (migrated)");
        assert_eq!(pair.virsh(1).field(&["dominfo", "vm"], "Persistent"), "no");
        assert_eq!(pair.virsh(0).field(&["dominfo", "vm"], "Persistent"), "yes");
        migrate(&pair, 1, &words).unwrap();
        pair.moved(1, "vm", "running (migrated)", &serial);
        pair.is_clean(1, "vm");
        assert_eq!(pair.virsh(0).field(&["dominfo", "vm"], "Persistent"), "yes");
    }
}

#[test]
fn progress_is_shown_to_its_end() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    let uri = pair.uri(1);
    let output = pair.virsh(0).run(["migrate", "vm", &uri, "--live", "--unsafe", "--verbose"]).unwrap();
    assert!(output.success() && output.stderr.contains("Migration: [100"), "{output:?}");
    pair.moved(0, "vm", "running (migrated)", &serial);
}

/// Without `--live` the guest does not run while its memory moves.
#[test]
fn not_live_the_guest_pauses_first() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    let (virsh, uri) = (pair.virsh(0), pair.uri(1));
    virsh.ok(["migrate-setmaxdowntime", "vm", "1"]).unwrap();
    for mode in MODES {
        let words = ["migrate", "vm", &uri, "--unsafe", "--bandwidth", "1"].into_iter();
        let copy = virsh.start(words.chain(mode.iter().copied()), "copy").unwrap();
        virsh.until_reason("vm", "paused (migrating)");
        is_silent(&serial);
        assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
        pair.moved(0, "vm", "running (migrated)", &serial);
        migrate(&pair, 1, &[]).unwrap();
        pair.moved(1, "vm", "running (migrated)", &serial);
    }
}

#[test]
fn a_guest_may_be_left_paused_where_it_arrives() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    for mode in MODES {
        let words: Vec<&str> = ["--live", "--suspend"].iter().chain(mode).copied().collect();
        migrate(&pair, 0, &words).unwrap();
        pair.moved(0, "vm", "paused (user)", &serial);
        is_silent(&serial);
        pair.virsh(1).ok(["resume", "vm"]).unwrap();
        assert_eq!(pair.virsh(1).reason("vm"), "running (unpaused)");
        serial.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
        migrate(&pair, 1, &["--live"]).unwrap();
        pair.moved(1, "vm", "running (migrated)", &serial);
    }
}

/// A paused guest travels paused, as often as it is sent, and has lost nothing when it runs again.
fn a_paused_guest_stays_paused(tools: &Tools) {
    let pair = Pair::new(tools).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    pair.virsh(0).ok(["suspend", "vm"]).unwrap();
    for (from, words) in [(0, &["--live"][..]), (1, &["--live", "--p2p"]), (0, &["--p2p"]), (1, &[])] {
        migrate(&pair, from, words).unwrap();
        pair.moved(from, "vm", "paused (user)", &serial);
    }
    is_silent(&serial);
    pair.virsh(0).ok(["resume", "vm"]).unwrap();
    serial.wait_beats_on(pair.ear(0), 200, SOON).unwrap();
    serial.verdict().whole().unwrap();
}

#[test]
fn a_paused_guest_stays_paused_on_the_distributions_qemu() {
    a_paused_guest_stays_paused(&Pair::distribution());
}

#[test]
fn a_paused_guest_stays_paused_on_backports_qemu() {
    a_paused_guest_stays_paused(&Pair::newer());
}

/// From Debian 12's QEMU and virsh to backports', with a machine that both know.
#[test]
fn a_guest_moves_up_a_generation() {
    let (old, new) = (Pair::distribution(), Pair::newer());
    let pair = Pair::with([&old, &new], [Default::default(), Default::default()]).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    migrate(&pair, 0, &["--live"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}

#[test]
fn events_tell_the_story_on_both_hosts() {
    let pair = pair();
    let ears = [0, 1].map(|number| Events::on(&pair, number).unwrap());
    let _serial = pair.boot_sector("vm").unwrap();
    migrate(&pair, 0, &["--live", "--p2p", "--persistent", "--undefinesource"]).unwrap();
    ears[0].wait_lifecycle("vm", "Stopped Migrated").unwrap();
    ears[1].wait_lifecycle("vm", "Defined Added").unwrap();
    let source = ears[0].lifecycle("vm");
    assert_eq!(
        source,
        [
            "Defined Added",
            "Resumed Unpaused",
            "Started Booted",
            "Suspended Migrated",
            "Shutdown Finished after host request",
            "Stopped Migrated"
        ],
        "the definition goes without an event"
    );
    assert_eq!(ears[1].lifecycle("vm"), ["Started Migrated", "Resumed Migrated", "Defined Added"]);
    let passes = ears[0].named("migration-iteration", "vm");
    assert_eq!(passes.first().map(String::as_str), Some("iteration: '1'"), "{passes:?}");
    for ear in &ears {
        assert_eq!(ear.named("job-completed", "vm").len(), 1, "{}", ear.text());
    }
    assert!(ears[0].text().contains("operation: 5"), "{}", ears[0].text());
    assert!(ears[1].text().contains("operation: 4"), "{}", ears[1].text());
}

/// Guests that leave at the same time each have a port of their own.
#[test]
fn several_guests_leave_at_once() {
    const NAMES: [&str; 3] = ["one", "two", "three"];
    let pair = pair();
    let ears = NAMES.map(|name| pair.boot_sector(name).unwrap());
    let copies = NAMES.map(|name| pair.slow_copy(name, &[]).unwrap());
    if pair.host(1).is_isolated() {
        let mut ports = pair.listening(1);
        ports.retain(|port| *port != pair.host(1).port());
        // A QEMU that has been connected to no longer listens, so there may be none; but none is another's.
        assert!(ports.iter().all(|port| (49152..=49154).contains(port)), "{ports:?}");
    }
    for name in NAMES {
        pair.let_go(name).unwrap();
    }
    for (copy, (name, serial)) in copies.iter().zip(NAMES.iter().zip(&ears)) {
        assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
        serial.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
        assert_eq!(pair.virsh(1).reason(name), "running (migrated)");
        serial.verdict().whole().unwrap();
    }
    pair.nothing_runs(0);
    assert_eq!(pair.daemon(1).qemus().len(), 3);
}

/// What the client of a monitoring system asks meanwhile is answered meanwhile, on the same connection too.
#[test]
fn questions_are_answered_while_a_guest_leaves() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    let copy = pair.slow_copy("vm", &[]).unwrap();
    let virsh = pair.virsh(0).limit(std::time::Duration::from_secs(5));
    for words in [
        &["list", "--all"][..],
        &["domstate", "vm"],
        &["dominfo", "vm"],
        &["dumpxml", "vm"],
        &["domjobinfo", "vm"],
        &["migrate-getspeed", "vm"],
        &["migrate-getmaxdowntime", "vm"],
    ] {
        virsh.ok(words).unwrap();
    }
    assert_eq!(copy.ended(), None, "it was under way all the time");
    // What would change the guest is refused at once.
    let held = "cannot acquire state change lock";
    for words in [&["resume", "vm"][..], &["reset", "vm"], &["shutdown", "vm"], &["reboot", "vm"]] {
        virsh.refused(words, held);
    }
    virsh.refused(
        &["migrate", "vm", &pair.uri(1), "--live", "--unsafe"],
        "another migration job is already running for domain 'vm'",
    );
    pair.let_go("vm").unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
    pair.moved(0, "vm", "running (migrated)", &serial);
}

/// A user who stops the guest on its way out: the copy ends, and the guest runs where it arrives.
#[test]
fn a_suspend_meanwhile_ends_the_copy() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    let copy = pair.slow_copy("vm", &["--p2p"]).unwrap();
    pair.virsh(0).ok(["suspend", "vm"]).unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
    pair.moved(0, "vm", "running (migrated)", &serial);
}

/// virsh itself suspends a guest that takes too long.
#[test]
fn a_timeout_suspends_the_guest_and_the_copy_ends() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    let words = ["--timeout", "2", "--timeout-suspend"];
    let copy = pair.slow_copy("vm", &words).unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
    pair.moved(0, "vm", "running (migrated)", &serial);
    let uri = pair.uri(0);
    let refused = |words: &[&str]| {
        let all = ["migrate", "vm", &uri, "--unsafe"].into_iter().chain(words.iter().copied());
        pair.virsh(1).fails(all).unwrap()
    };
    let said = refused(&["--timeout", "2"]);
    assert!(said.contains("migrate: Unexpected timeout for offline migration"), "{said}");
    let said = refused(&["--live", "--timeout-suspend"]);
    assert!(said.contains("migrate: Unexpected --timeout-* option without --timeout"), "{said}");
}

#[test]
fn destroy_meanwhile_leaves_nothing_anywhere() {
    let pair = pair();
    let _serial = pair.boot_sector("vm").unwrap();
    for (host, state) in [(0, "shut off (destroyed)"), (1, "running (booted)")] {
        if pair.virsh(0).state("vm").unwrap() != "running" {
            pair.virsh(0).ok(["start", "vm"]).unwrap();
        }
        let copy = pair.slow_copy("vm", &["--p2p"]).unwrap();
        pair.virsh(host).ok(["destroy", "vm"]).unwrap();
        assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 1");
        if host == 0 {
            pair.virsh(0).until_reason("vm", state);
            pair.nothing_runs(0);
        } else {
            pair.virsh(0).until_state("vm", "running");
        }
        pair.is_clean(1, "vm");
    }
}

#[test]
fn what_is_not_built_is_refused_by_its_name() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    let (virsh, uri) = (pair.virsh(0), pair.uri(1));
    for (words, part) in [
        (&["--live", "--p2p", "--tunnelled"][..], "argument unsupported: tunnelled migration"),
        (&["--live", "--tunnelled"], "cannot perform tunnelled migration without using peer2peer flag"),
        (&["--live", "--copy-storage-all"], "argument unsupported: copying of disks"),
        (&["--live", "--copy-storage-inc"], "argument unsupported: copying of disks"),
        (&["--live", "--parallel"], "argument unsupported: parallel migration"),
        (&["--live", "--parallel-connections", "3"], "'parallel.connections' is not supported"),
        (&["--live", "--tls"], "argument unsupported: encryption of the memory stream"),
        (&["--live", "--compressed"], "argument unsupported: compression"),
        (&["--live", "--comp-methods", "mt"], "parameter 'compression' is not supported"),
        (&["--live", "--rdma-pin-all"], "argument unsupported: RDMA"),
        (&["--live", "--zerocopy"], "zero-copy is only available for parallel migration"),
        (&["--live", "--migrate-disks", "vda"], "requires a flag for migration of non-shared storage"),
        (&["--live", "--auto-converge-initial", "10"], "Turn auto convergence on to tune it"),
        (&["--postcopy"], "post-copy migration is not supported with non-live or paused migration"),
        (&["--live", "--direct"], "direct migration is not supported by the source host"),
    ] {
        let all: Vec<&str> =
            ["migrate", "vm", &uri, "--unsafe"].into_iter().chain(words.iter().copied()).collect();
        virsh.refused(&all, part);
    }
    pair.stayed("vm", &serial);
}

/// What is no longer there cannot leave, and what was never there neither.
#[test]
fn a_guest_that_does_not_run_does_not_leave() {
    let pair = pair();
    let (domain, _serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain).unwrap();
    let (virsh, uri) = (pair.virsh(0), pair.uri(1));
    virsh.ok(["define".as_ref(), xml.as_os_str()]).unwrap();
    for mode in MODES {
        let words: Vec<&str> =
            ["migrate", "vm", &uri, "--live", "--unsafe"].iter().chain(mode).copied().collect();
        virsh.refused(&words, "Requested operation is not valid: domain is not running");
    }
    virsh.refused(&["migrate", "nobody", &uri, "--live"], "failed to get domain 'nobody'");
    pair.is_clean(1, "vm");
}

/// Auto-converge and abort-on-error are accepted and change nothing for a guest that converges without errors.
#[test]
fn further_flags_are_taken() {
    let pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    let words =
        ["--live", "--auto-converge", "--auto-converge-initial", "30", "--auto-converge-increment", "10"];
    migrate(&pair, 0, &words).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    migrate(&pair, 1, &["--live", "--abort-on-error", "--change-protection", "--p2p"]).unwrap();
    pair.moved(1, "vm", "running (migrated)", &serial);
}

/// Linux with memory and a disk at work, both ways in both modes.
#[test]
fn a_working_guest_keeps_memory_disk_and_time() {
    let pair = pair();
    let serial = pair.linux("vm", Work { memory_rate: 20, ..Work::default() }).unwrap();
    for (from, mode) in [(0, MODES[0]), (1, MODES[1]), (0, MODES[1]), (1, MODES[0])] {
        let words: Vec<&str> = ["--live"].iter().chain(mode).copied().collect();
        migrate(&pair, from, &words).unwrap();
        pair.moved(from, "vm", "running (migrated)", &serial);
    }
    if pair.is_asked_there() {
        let check = pair.ask(0, "vm", &serial, "check").unwrap();
        assert_eq!(check["damaged"], "0", "{check:?}");
    }
    serial.verdict().whole().unwrap();
}

/// A destination whose QEMU has one device less than the source's, which no definition shows: only QEMU can say what is wrong.
#[test]
fn what_the_destinations_qemu_says_reaches_the_caller() {
    let pair = pair();
    if !pair.host(0).is_isolated() {
        eprintln!("two hosts whose QEMUs differ need namespaces");
        return;
    }
    let (domain, serial) = pair.sector("vm").unwrap();
    let script = pair.lab().shared().join("qemu");
    let device =
        "case \"$(uname -n) $*\" in h1*guest=vm*) set -- \"$@\" -device virtio-rng-pci,addr=0x1e;; esac";
    let emulator = pair.emulator();
    fs::write(&script, format!("#!/bin/sh\n{device}\nexec {} \"$@\"\n", emulator.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let xml = pair.write("vm", &domain.emulator(script)).unwrap();
    pair.virsh(0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(pair.ear(0), 100, SOON).unwrap();
    for mode in MODES {
        let words: Vec<&str> = ["--live"].iter().chain(mode).copied().collect();
        let refused = migrate(&pair, 0, &words).unwrap_err().to_string();
        assert!(refused.contains("virtio-rng"), "{mode:?}: {refused}");
        pair.stayed("vm", &serial);
    }
    // A copy that the source gives up is no more than an end to the destination, and is not told as its failure.
    let copy = pair.slow_copy("vm", &["--p2p"]).unwrap();
    pair.virsh(0).ok(["domjobabort", "vm"]).unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 1");
    assert!(!copy.log_tail(5).contains("destination"), "{}", copy.log_tail(5));
    pair.stayed("vm", &serial);
}
