//! A daemon that is stopped or killed at a quiet time, and started again: it loses nothing, and does nothing twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use ferry_testkit::deadline::wait_until;
use ferry_testkit::guest::{Boot, Domain, Port};
use ferry_testkit::tree;
use ferry_tests::aftermath::{Asking as _, is_silent};
use ferry_tests::{Pair, SOON};

fn pair() -> Pair {
    Pair::new(&Pair::distribution()).expect("two hosts")
}

/// The two ways in which a daemon ends.
fn restart(pair: &mut Pair, kill: bool) {
    let daemon = pair.daemon_mut(0);
    if kill { daemon.kill() } else { daemon.stop() }.expect("an end");
    daemon.start_again().expect("a start");
}

#[test]
fn every_domain_is_found_as_it_was() {
    let mut pair = pair();
    let running = pair.boot_sector("running").unwrap();
    let paused = pair.boot_sector("paused").unwrap();
    let virsh = pair.virsh(0);
    virsh.ok(["suspend", "paused"]).unwrap();
    let (domain, _) = pair.sector("defined").unwrap();
    let xml = pair.write("defined", &domain).unwrap();
    virsh.ok(["define".as_ref(), xml.as_os_str()]).unwrap();
    virsh.ok(["autostart", "defined"]).unwrap();
    let (domain, brief) = pair.sector("brief").unwrap();
    let xml = pair.write("brief", &domain).unwrap();
    virsh.ok(["create".as_ref(), xml.as_os_str()]).unwrap();
    brief.wait_beats(50, SOON).unwrap();

    let seen = |pair: &Pair| {
        let virsh = pair.virsh(0);
        let domains = ["brief", "defined", "paused", "running"].map(|name| {
            let info = ["Id", "UUID", "State", "Persistent", "Autostart"]
                .map(|key| virsh.field(&["dominfo", name], key));
            let shown = virsh.ok(["dumpxml", name, "--security-info"]).unwrap();
            (virsh.reason(name), info, shown)
        });
        let host = virsh.ok(["capabilities"]).unwrap();
        let uuid = host.lines().find(|line| line.contains("<uuid>")).map(str::to_owned);
        assert!(uuid.is_some(), "{host}");
        (domains, uuid, pair.daemon(0).qemus())
    };
    let before = seen(&pair);
    for kill in [false, true, true, false] {
        restart(&mut pair, kill);
        assert_eq!(seen(&pair), before, "killed: {kill}");
    }
    // They are held as firmly as before.
    is_silent(&paused);
    let virsh = pair.virsh(0);
    virsh.ok(["resume", "paused"]).unwrap();
    for serial in [&paused, &running, &brief] {
        serial.wait_beats(100, SOON).unwrap();
        serial.verdict().whole().unwrap();
    }
    virsh.ok(["migrate", "running", &pair.uri(1), "--live", "--unsafe"]).unwrap();
    running.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
    for name in ["paused", "brief"] {
        virsh.ok(["destroy", name]).unwrap();
    }
    pair.nothing_runs(0);
    assert_eq!(virsh.domains().unwrap(), ["defined", "paused", "running"]);
    restart(&mut pair, true);
    assert_eq!(pair.virsh(0).domains().unwrap(), ["defined", "paused", "running"]);
    restart_destination(&mut pair);
    assert_eq!(pair.virsh(1).reason("running"), "running (migrated)");
    running.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
    running.verdict().whole().unwrap();
}

fn restart_destination(pair: &mut Pair) {
    pair.daemon_mut(1).kill_and_restart().expect("a start");
}

#[test]
fn what_was_undefined_or_destroyed_stays_gone() {
    let mut pair = pair();
    let _serial = pair.boot_sector("vm").unwrap();
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();
    pair.daemon_mut(0).kill_and_restart().unwrap();
    assert_eq!(pair.virsh(0).state("vm").unwrap(), "shut off");
    pair.nothing_runs(0);
    pair.virsh(0).ok(["undefine", "vm"]).unwrap();
    pair.daemon_mut(0).kill_and_restart().unwrap();
    assert!(pair.virsh(0).domains().unwrap().is_empty());
}

#[test]
fn a_guest_that_ended_while_nobody_watched_is_found_ended() {
    let mut pair = pair();
    let _serial = pair.boot_sector("vm").unwrap();
    let [qemu] = pair.daemon(0).qemus()[..] else { panic!("one QEMU") };
    pair.daemon(0).kill().unwrap();
    tree::kill(qemu).unwrap();
    pair.daemon_mut(0).start_again().unwrap();
    assert_eq!(pair.virsh(0).reason("vm"), "shut off (crashed)");
    pair.nothing_runs(0);
    pair.virsh(0).ok(["start", "vm"]).unwrap();
}

/// A boot of the host starts what is marked; a start of the daemon does not.
#[test]
fn a_domain_starts_with_its_host_and_only_then() {
    let mut pair = pair();
    if !pair.host(0).is_isolated() {
        eprintln!("a boot of its own needs a host in namespaces");
        return;
    }
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain).unwrap();
    pair.virsh(0).ok(["define".as_ref(), xml.as_os_str()]).unwrap();
    pair.virsh(0).ok(["autostart", "vm"]).unwrap();
    for kill in [false, true] {
        restart(&mut pair, kill);
        assert_eq!(pair.virsh(0).state("vm").unwrap(), "shut off");
    }
    let boot = pair.lab().shared().join("boot_id");
    fs::write(&boot, "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee\n").unwrap();
    pair.daemon(0).stop().unwrap();
    pair.host(0).sh(&format!("mount --bind '{}' /proc/sys/kernel/random/boot_id", boot.display())).unwrap();
    pair.daemon_mut(0).start_again().unwrap();
    pair.virsh(0).until_state("vm", "running");
    serial.wait_beats(50, SOON).unwrap();
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();
    restart(&mut pair, true);
    assert_eq!(pair.virsh(0).state("vm").unwrap(), "shut off", "it was started with the host already");
}

/// A daemon that died between the start of a QEMU and its record: no CPU of that QEMU was ever told to run.
#[test]
fn a_qemu_without_a_record_is_ended() {
    let mut pair = pair();
    let root = pair.host(0).seen(pair.daemon(0).root());
    pair.daemon(0).stop().unwrap();
    let files = |name: &str| ["", "-wal", "-shm"].map(|end| root.join(format!("{name}{end}")));
    let earlier: Vec<_> = files("ferry.sqlite").iter().map(|path| fs::read(path).ok()).collect();
    pair.daemon_mut(0).start_again().unwrap();
    let _serial = pair.boot_sector("vm").unwrap();
    pair.daemon(0).kill().unwrap();
    assert_eq!(pair.daemon(0).qemus().len(), 1);
    // The record is taken back.
    for (path, content) in files("ferry.sqlite").iter().zip(earlier) {
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }
    pair.daemon_mut(0).start_again().unwrap();
    pair.is_clean(0, "vm");
}

#[test]
fn sockets_that_were_left_behind_are_no_obstacle_and_other_files_are() {
    let mut pair = pair();
    let socket = pair.host(0).seen(pair.daemon(0).socket());
    pair.daemon(0).kill().unwrap();
    assert!(socket.exists(), "a killed daemon leaves its socket");
    pair.daemon_mut(0).start_again().unwrap();
    pair.daemon(0).stop().unwrap();
    assert!(!socket.exists(), "one that is stopped takes it away");
    symlink("/etc/hostname", &socket).unwrap();
    let refused = pair.daemon_mut(0).start_again().unwrap_err().to_string();
    assert!(refused.contains("exists and is no socket"), "{refused}");
    fs::remove_file(&socket).unwrap();
    pair.daemon_mut(0).start_again().unwrap();
}

/// Starts `count` guests, restarts the daemon, and gives how long it took to accept clients again.
fn found_again(count: usize) -> Duration {
    let mut pair = pair();
    let virsh = pair.virsh(0);
    for number in 0..count {
        let name = format!("vm{number}");
        let image = pair.lab().shared().join(format!("{name}.img"));
        ferry_testkit::boot_sector::write_image(&image).unwrap();
        let log = pair.lab().shared().join(format!("{name}.log"));
        let domain = Domain::new(&name, Boot::Disk, Port::File(log)).disk(image, "raw").memory_mib(4);
        pair.start(&name, domain).unwrap();
        if number % 2 == 1 {
            virsh.ok(["suspend", &name]).unwrap();
        }
    }
    let qemus = pair.daemon(0).qemus();
    assert_eq!(qemus.len(), count);
    pair.daemon(0).kill().unwrap();
    let began = Instant::now();
    pair.daemon_mut(0).start_again().unwrap();
    let took = began.elapsed();
    assert_eq!(pair.daemon(0).qemus(), qemus);
    let listed = |state: &str| {
        let list = pair.virsh(0).ok(["list", "--name", state]).unwrap();
        list.lines().filter(|line| !line.trim().is_empty()).count()
    };
    assert_eq!(listed("--state-running"), count.div_ceil(2));
    assert_eq!(listed("--state-paused"), count / 2);
    took
}

#[test]
fn twenty_guests_are_found_again() {
    let took = found_again(20);
    eprintln!("20 guests found again in {took:?}");
}

#[test]
#[ignore = "takes minutes and 8 GiB: run it by name"]
fn two_hundred_guests_are_found_again() {
    let took = found_again(200);
    eprintln!("200 guests found again in {took:?}");
}

/// A daemon that ends does not wait for its clients, and they notice at once.
#[test]
fn a_daemon_ends_under_its_clients() {
    let mut pair = pair();
    let serial = pair.boot_sector("vm").unwrap();
    let listener = pair.virsh(0).start(["event", "vm", "--all", "--loop"], "listener").unwrap();
    wait_until("a listener", SOON, || listener.ended().is_none() && !listener.living().is_empty()).unwrap();
    pair.daemon(0).stop().unwrap();
    listener.wait_end(SOON).unwrap();
    pair.daemon_mut(0).start_again().unwrap();
    pair.stayed("vm", &serial);
}
