//! The doors of a daemon: libvirt's own sockets, TCP, private roots, and what is refused at start.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use ferry_testkit::ferryd::Options;
use ferry_testkit::lab::Lab;
use ferry_testkit::programs;
use ferry_testkit::virsh::Virsh;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};

const UUID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";

/// Runs a daemon that must refuse to start, gives what it says.
fn refused(pair: &Pair, words: &[&str]) -> String {
    let output = pair.host(0).run(programs::ferryd().unwrap(), words, SOON).unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    output.stderr
}

#[test]
fn libvirts_own_sockets_reach_it_without_a_uri() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("libvirt's own sockets need hosts in namespaces");
        return;
    }
    let tools = Pair::distribution();
    let libvirt = Options { arguments: vec!["--libvirt-sockets".to_owned()], ..Options::default() };
    let pair = Pair::with([&tools, &tools], [libvirt.clone(), libvirt]).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let virsh = Virsh::new(pair.host(0), "qemu:///system");
    assert_eq!(virsh.state("vm").unwrap(), "running");
    virsh.ok(["suspend", "vm"]).unwrap();
    virsh.ok(["resume", "vm"]).unwrap();
    // `-r` takes the socket for lookers.
    assert_eq!(virsh.ok(["-r", "domstate", "vm"]).unwrap(), "running");
    virsh.refused(&["-r", "destroy", "vm"], "read only access prevents virDomainDestroy");
    for (name, mode) in [
        ("libvirt-sock", 0o700),
        ("libvirt-sock-ro", 0o777),
        ("virtqemud-sock", 0o700),
        ("virtqemud-sock-ro", 0o777),
    ] {
        let socket = pair.host(0).seen(format!("/run/libvirt/{name}"));
        let found = fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    virsh.ok(["migrate", "vm", "qemu+tcp://h2/system", "--live", "--unsafe", "--p2p"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);

    // Whoever holds them is left alone.
    let said = refused(&pair, &["--root", "/run/second", "--libvirt-sockets"]);
    assert!(said.contains("another daemon listens on \"/run/libvirt/libvirt-sock\""), "{said}");
    assert_eq!(virsh.domains().unwrap(), ["vm"]);
}

#[test]
fn listening_without_authentication_is_said_aloud() {
    let tools = Pair::distribution();
    let quiet = Options { tcp: false, ..Options::default() };
    let pair = Pair::with([&tools, &tools], [quiet, Options::default()]).unwrap();
    // Who answers has said at start what there was to say.
    assert!(Virsh::new(pair.host(0), pair.uri(1)).domains().unwrap().is_empty());
    assert!(pair.virsh(0).domains().unwrap().is_empty());
    let loud = "WITHOUT AUTHENTICATION OR ENCRYPTION";
    assert!(pair.daemon(1).log_tail(20).contains(loud), "{}", pair.daemon(1).log_tail(20));
    assert!(!pair.daemon(0).log_tail(20).contains(loud));
    if pair.host(0).is_isolated() {
        assert!(pair.listening(0).is_empty(), "nobody asked it to listen");
        assert_eq!(pair.listening(1), [pair.host(1).port()]);
        Virsh::new(pair.host(0), pair.uri(0)).refused(&["list"], "Connection refused");
    }
}

#[test]
fn what_cannot_be_is_refused_at_start() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let root = pair.daemon(0).root().display().to_string();
    let said = refused(&pair, &["--root", &root]);
    assert!(said.contains("another ferryd runs with"), "{said}");
    assert!(pair.virsh(0).domains().unwrap().is_empty(), "the first one goes on");

    let shared = pair.lab().shared();
    let long = shared.join("x".repeat(100)).display().to_string();
    let said = refused(&pair, &["--root", &long]);
    assert!(said.contains("is too long for UNIX sockets below it") && said.contains("at most"), "{said}");

    let config = shared.join("bad.toml");
    fs::write(&config, "migration_prot_min = 1\n").unwrap();
    let other = shared.join("r").display().to_string();
    let said = refused(&pair, &["--root", &other, "--config", config.to_str().unwrap()]);
    assert!(said.contains("migration_prot_min"), "{said}");
    let said = refused(&pair, &["--root", &other, "--config", "/nonexistent.toml"]);
    assert!(said.contains("cannot read the configuration"), "{said}");
    let taken = format!("{}:{}", pair.host(0).address(), pair.host(0).port());
    let said = refused(&pair, &["--root", &other, "--listen-tcp", &taken]);
    assert!(said.contains(&format!("cannot listen on tcp {taken}")), "{said}");
}

#[test]
fn a_host_is_known_by_the_uuid_that_it_is_given() {
    let tools = Pair::distribution();
    let given = Options { host_uuid: Some(UUID.to_owned()), ..Options::default() };
    let mut pair = Pair::with([&tools, &tools], [given, Options::default()]).unwrap();
    let uuid = |pair: &Pair, number: usize| {
        let host = pair.virsh(number).ok(["capabilities"]).unwrap();
        let line = host.lines().find_map(|line| line.trim().strip_prefix("<uuid>")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no uuid in {host}"))
    };
    assert_eq!(uuid(&pair, 0), format!("{UUID}</uuid>"));
    let own = uuid(&pair, 1);
    assert_ne!(own, uuid(&pair, 0));
    pair.daemon_mut(1).kill_and_restart().unwrap();
    assert_eq!(uuid(&pair, 1), own, "its own stays");
}

/// An ordinary user's hosts: private roots, no namespaces, loopback.
#[test]
fn private_hosts_need_no_namespaces() {
    let tools = Pair::distribution();
    let lab = Lab::local(&[("a", &tools), ("b", &tools)]).unwrap();
    let daemons = [0, 1]
        .map(|number| ferry_testkit::ferryd::Ferryd::start(lab.host(number), Options::default()).unwrap());
    let image = lab.shared().join("vm.img");
    let log = lab.shared().join("vm.log");
    let serial = ferry_testkit::serial::Serial::follow([("both", &log)]).unwrap();
    let domain = ferry_testkit::guest::Domain::boot_sector("vm", &image, &log)
        .unwrap()
        .emulator(lab.host(0).emulator());
    let xml = domain.write(lab.shared().join("vm.xml")).unwrap();
    let virsh = Virsh::new(lab.host(0), daemons[0].uri()).limit(Duration::from_secs(30));
    virsh.define_and_start("vm", &xml).unwrap();
    serial.wait_beats(50, SOON).unwrap();
    for mode in ["--verbose", "--p2p"] {
        let (from, to) = if mode == "--p2p" { (1, 0) } else { (0, 1) };
        let uri = format!("qemu+unix:///system?socket={}", daemons[to].socket().display());
        let words = ["migrate", "vm", &uri, "--live", "--unsafe", "--migrateuri", "tcp://127.0.0.1", mode];
        Virsh::new(lab.host(from), daemons[from].uri()).ok(words).unwrap();
        serial.wait_beats(50, SOON).unwrap();
        assert_eq!((daemons[from].qemus().len(), daemons[to].qemus().len()), (0, 1));
    }
    serial.verdict().whole().unwrap();
}
