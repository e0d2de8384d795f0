//! What an agent inside the guest does for people at stock virsh.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;

use ferry_testkit::deadline::wait_until;
use ferry_testkit::virsh::Virsh;
use ferry_tests::bench::Bench;
use ferry_tests::events::Events;
use ferry_tests::{BOOT, Pair, SOON};

/// Waits until the agent has its channel open.
fn connected(virsh: &Virsh) {
    let state = ["dumpxml", "vm", "--xpath", "//channel/target/@state"];
    let is_open = || virsh.run(state).is_ok_and(|found| found.stdout.contains("\"connected\""));
    wait_until("the agent's channel", BOOT, is_open).unwrap();
}

#[test]
fn the_agent_answers_here_and_on_the_other_host() {
    let bench = Bench::linux();
    connected(&bench.virsh());
    let pong = bench.ok(&["qemu-agent-command", "vm", r#"{"execute":"guest-ping"}"#]);
    assert_eq!(pong.trim(), r#"{"return":{}}"#);
    bench.refused(&["qemu-agent-command", "vm", r#"{"execute":"guest-exec"}"#], "has not been found");
    assert!(bench.ok(&["domfsfreeze", "vm"]).contains("Froze 1 filesystem"));
    assert!(bench.ok(&["domfsthaw", "vm"]).contains("Thawed 1 filesystem"));
    assert!(bench.ok(&["domtime", "vm"]).starts_with("Time: "));
    bench.ok(&["domtime", "vm", "--now"]);
    assert_eq!(bench.ok(&["domhostname", "vm", "--source", "agent"]), "ferry-guest");
    bench.refused(&["domhostname", "vm", "--source", "lease"], "no hostname found");
    bench.ok(&["domfstrim", "vm", "--minimum", "4096"]);
    bench.refused(&["domfstrim", "vm", "--mountpoint", "/"], "Specifying mount point is not supported");
    assert!(bench.ok(&["domifaddr", "vm", "--source", "agent"]).contains("127.0.0.1"));

    bench.ok(&["migrate", "vm", &bench.pair.uri(1), "--live", "--p2p", "--unsafe"]);
    let there = bench.pair.virsh(1);
    connected(&there);
    there.ok(["qemu-agent-command", "vm", r#"{"execute":"guest-ping"}"#]).unwrap();
    there.ok(["suspend", "vm"]).unwrap();
    let refused = there.fails(["domtime", "vm"]).unwrap();
    assert!(refused.contains("domain is not running"), "{refused}");
}

#[test]
fn a_guest_without_an_agent_says_so() {
    let pair = Pair::new(&Pair::distribution()).expect("two hosts");
    let _serial = pair.boot_sector("vm").unwrap();
    let virsh = pair.virsh(0);
    let refused = virsh.fails(["domtime", "vm"]).unwrap();
    assert!(refused.contains("QEMU guest agent is not configured"), "{refused}");
}

#[test]
fn an_agent_switches_its_guest_off_and_on_again() {
    let bench = Bench::linux();
    connected(&bench.virsh());
    let events = Events::on(&bench.pair, 0).unwrap();
    // Returns once the agent has gone; it is there again when the guest is.
    bench.ok(&["reboot", "vm", "--mode", "agent"]);
    connected(&bench.virsh());
    assert!(!events.named("reboot", "vm").is_empty(), "{}", events.text());
    bench.ok(&["shutdown", "vm", "--mode", "agent"]);
    wait_until("the end", SOON, || bench.virsh().state("vm").is_ok_and(|state| state == "shut off")).unwrap();
    bench.refused(&["shutdown", "vm", "--mode", "agent"], "domain is not running");
}

#[test]
fn an_agent_tells_what_the_guest_is_from_within() {
    let bench = Bench::linux();
    connected(&bench.virsh());
    let image = bench.image("extra.img", 1);
    bench.ok(&["attach-disk", "vm", &image, "vda", "--live"]);
    wait_until("the disk", SOON, || bench.ok(&["guestinfo", "vm", "--disk"]).contains("/dev/vda")).unwrap();
    let told = bench.ok(&["guestinfo", "vm"]);
    let facts: std::collections::BTreeMap<&str, &str> = told
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    let fact = |name: &str| *facts.get(name).unwrap_or_else(|| panic!("{name} is not in {facts:?}"));
    for (name, value) in [
        ("user.count", "1"),
        ("user.0.name", "ferry"),
        ("user.0.login-time", "1500"),
        ("os.id", "ferry-guest"),
        ("os.machine", "x86_64"),
        ("timezone.name", "UTC"),
        ("timezone.offset", "0"),
        ("hostname", "ferry-guest"),
        ("fs.count", "1"),
        ("fs.0.mountpoint", "/"),
        ("fs.0.disk.0.alias", "vda"),
        ("disk.count", "2"),
        ("disk.0.name", "/dev/sr0"),
        ("disk.0.alias", "sda"),
        ("disk.1.name", "/dev/vda"),
        ("disk.1.partition", "no"),
        ("disk.1.alias", "vda"),
        ("if.0.name", "lo"),
        ("if.0.addr.0.addr", "127.0.0.1"),
        ("if.0.addr.0.prefix", "8"),
    ] {
        assert_eq!(fact(name), value, "{name}");
    }
    let some = bench.ok(&["guestinfo", "vm", "--os", "--hostname"]);
    assert!(some.contains("os.name") && !some.contains("user.count"), "{some}");
    let systems = bench.ok(&["domfsinfo", "vm"]);
    assert!(systems.contains("ramfs") && systems.contains("vda"), "{systems}");
}

#[test]
fn an_agent_switches_the_guests_processors() {
    let bench = Bench::linux();
    bench.ok(&["setvcpus", "vm", "3", "--config", "--maximum"]);
    bench.ok(&["setvcpus", "vm", "3", "--config"]);
    bench.ok(&["destroy", "vm"]);
    bench.ok(&["start", "vm"]);
    wait_until("the agent", BOOT, || bench.virsh().ok(["vcpucount", "vm", "--guest"]).is_ok()).unwrap();
    assert_eq!(bench.ok(&["vcpucount", "vm", "--guest"]), "3");
    let online = || {
        let told = bench.ok(&["guestvcpus", "vm"]);
        let line = told.lines().find_map(|line| line.strip_prefix("online"));
        line.unwrap_or_default().trim_start_matches([' ', ':']).to_owned()
    };
    assert_eq!(online(), "0-2");
    bench.ok(&["guestvcpus", "vm", "--cpulist", "1", "--disable"]);
    assert_eq!(online(), "0,2");
    bench.ok(&["guestvcpus", "vm", "--cpulist", "0-2", "--enable"]);
    assert_eq!(online(), "0-2");
    bench.refused(&["guestvcpus", "vm", "--cpulist", "2-4", "--disable"], "guest is missing vCPUs '3-4'");
    bench.refused(&["guestvcpus", "vm", "--cpulist", "x", "--disable"], "Failed to parse bitmap 'x'");
    bench.ok(&["setvcpus", "vm", "1", "--guest"]);
    assert_eq!(online(), "0");
    bench.refused(&["setvcpus", "vm", "4", "--guest"], "4 > 3");
}

#[test]
fn an_agent_sets_a_password_and_keys() {
    let bench = Bench::linux();
    connected(&bench.virsh());
    bench.ok(&["set-user-password", "vm", "ferry", "a secret"]);
    let arrived = bench.ok(&["qemu-agent-command", "vm", r#"{"execute":"ferry-password"}"#]);
    assert!(
        arrived.contains(r#""password":"YSBzZWNyZXQ=""#) && arrived.contains(r#""crypted":false"#),
        "{arrived}"
    );
    bench.ok(&["set-user-password", "vm", "ferry", "$6$x", "--encrypted"]);
    let arrived = bench.ok(&["qemu-agent-command", "vm", r#"{"execute":"ferry-password"}"#]);
    assert!(arrived.contains(r#""crypted":true"#), "{arrived}");
    bench.refused(&["set-user-password", "vm", "nobody", "x"], "no user");

    let keys = bench.file("keys");
    let put = |text: &str, options: &[&str]| {
        fs::write(&keys, text).unwrap();
        let file = keys.to_str().unwrap();
        bench.ok(&[&["set-user-sshkeys", "vm", "ferry", "--file", file][..], options].concat());
    };
    // virsh prints one key after the other.
    let held = || bench.ok(&["get-user-sshkeys", "vm", "ferry"]).replace('\n', "");
    assert_eq!(held(), "");
    put("ssh-ed25519 one\n", &[]);
    put("ssh-ed25519 two\n", &[]);
    assert_eq!(held(), "ssh-ed25519 onessh-ed25519 two");
    put("ssh-ed25519 one\n", &["--remove"]);
    assert_eq!(held(), "ssh-ed25519 two");
    put("ssh-ed25519 three\n", &["--reset"]);
    assert_eq!(held(), "ssh-ed25519 three");
    bench.refused(&["get-user-sshkeys", "vm", "nobody"], "no user");
}
