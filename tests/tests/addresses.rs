//! Where the memory goes: data URIs, listen addresses, ports, and destinations that are not there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;

use ferry_testkit::ferryd::Options;
use ferry_testkit::serial::Serial;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};

/// The client drives both daemons, or the source daemon does.
const MODES: [&str; 2] = ["--verbose", "--p2p"];

/// Two hosts with namespaces, whose ports are their own, and the boot-sector guest on the first. None for an ordinary user.
fn isolated(options: [Options; 2]) -> Option<(Pair, Serial)> {
    let tools = Pair::distribution();
    let pair = Pair::with([&tools, &tools], options).expect("two hosts");
    if !pair.host(0).is_isolated() {
        eprintln!("ports of one's own need hosts in namespaces");
        return None;
    }
    let serial = pair.boot_sector("vm").expect("a guest that beats");
    Some((pair, serial))
}

fn plain() -> Option<(Pair, Serial)> {
    isolated([Options::default(), Options::default()])
}

fn configured(config: &str) -> Options {
    Options { config: Some(config.to_owned()), ..Options::default() }
}

/// `migrate vm` from the first host with more words.
fn migrate(pair: &Pair, words: &[&str]) -> ferry_testkit::command::Output {
    let uri = pair.uri(1);
    let all = ["migrate", "vm", uri.as_str(), "--live", "--unsafe"].into_iter().chain(words.iter().copied());
    pair.virsh(0).run(all).unwrap()
}

/// What is said of a migration that is refused.
fn refusal(pair: &Pair, words: &[&str]) -> String {
    let uri = pair.uri(1);
    let all = ["migrate", "vm", uri.as_str(), "--live", "--unsafe"].into_iter().chain(words.iter().copied());
    pair.virsh(0).refusal(&all.collect::<Vec<_>>())
}

/// The guest arrives; it is fetched back for the next try.
fn arrives(pair: &Pair, serial: &Serial, words: &[&str]) {
    for mode in MODES {
        let words: Vec<&str> = words.iter().copied().chain([mode]).collect();
        migrate(pair, &words).ok().unwrap();
        pair.moved(0, "vm", "running (migrated)", serial);
        pair.virsh(1).ok(["migrate", "vm", &pair.uri(0), "--live", "--unsafe"]).unwrap();
        pair.moved(1, "vm", "running (migrated)", serial);
    }
}

/// The guest stays, in both modes, and is told why.
fn stays(pair: &Pair, serial: &Serial, words: &[&str], part: &str) {
    for mode in MODES {
        let words: Vec<&str> = words.iter().copied().chain([mode]).collect();
        let said = refusal(pair, &words);
        assert!(said.contains(part), "{words:?}\nwanted: {part}\nsaid:   {said}");
        pair.stayed("vm", serial);
    }
}

/// The port on which the guest was received, while its copy goes on: where the connection ends.
fn port_in_use(pair: &Pair) -> u16 {
    // Without what the other daemon has to say to this one.
    let sockets = pair.host(0).sh("ss -Htn state established 'sport != :16509'").unwrap();
    let peers = sockets.lines().filter_map(|line| line.split_whitespace().last()?.rsplit_once(':'));
    let ports: Vec<u16> = peers.filter_map(|(_, port)| port.parse().ok()).collect();
    let [port] = ports.iter().copied().filter(|port| (49000..52000).contains(port)).collect::<Vec<_>>()[..]
    else {
        panic!("one migration's port: {sockets}")
    };
    port
}

/// Starts a slow copy, gives the port that it goes to, and aborts it.
fn port_of_a_copy(pair: &Pair, serial: &Serial) -> u16 {
    let copy = pair.slow_copy("vm", &[]).unwrap();
    let port = port_in_use(pair);
    pair.virsh(0).ok(["domjobabort", "vm"]).unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 1");
    pair.stayed("vm", serial);
    port
}

/// Something else on the second host that listens on `port` of all addresses, IPv6's and IPv4's.
fn occupy(pair: &Pair, port: u16) -> TcpListener {
    pair.host(1).listen((Ipv6Addr::UNSPECIFIED, port).into()).unwrap()
}

#[test]
fn a_data_uri_may_name_host_and_port() {
    let Some((pair, serial)) = plain() else { return };
    for uri in ["tcp://h2", "tcp://h2/", "tcp:h2", "tcp://192.0.2.2", "tcp://h2:49777", "tcp:192.0.2.2:49778"]
    {
        arrives(&pair, &serial, &["--migrateuri", uri]);
    }
    let copy = pair.slow_copy("vm", &["--migrateuri", "tcp://h2:49777"]).unwrap();
    assert_eq!(port_in_use(&pair), 49777);
    pair.let_go("vm").unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
    pair.moved(0, "vm", "running (migrated)", &serial);
}

#[test]
fn a_data_uri_that_is_none_is_refused() {
    let Some((pair, serial)) = plain() else { return };
    for (uri, part) in [
        ("xyz", "invalid argument: missing scheme in migration URI: xyz"),
        ("foo://h2", "argument unsupported: unsupported scheme foo in migration URI foo://h2"),
        ("rdma://h2", "argument unsupported: unsupported scheme rdma in migration URI rdma://h2"),
        ("tcp:", "invalid argument: missing host in migration URI: tcp:"),
        ("tcp://h2:99999", "malformed migration URI: tcp://h2:99999"),
        ("tcp://h2,exec:1", "malformed migration URI"),
        ("exec:touch /tmp/never", "unsupported scheme exec in migration URI"),
        ("unix:relative", "malformed migration URI: unix:relative"),
        ("tcp://nohost:49777", "Unable to resolve address 'nohost' service '49777'"),
    ] {
        stays(&pair, &serial, &["--migrateuri", uri], part);
    }
    assert!(!Path::new("/tmp/never").exists());
}

/// Memory and words over sockets in a folder that both hosts see: nothing listens on the network.
#[test]
fn sockets_in_a_folder_will_do() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let folder = pair.lab().shared().display().to_string();
    // The destination's own socket under a path that the source sees, as container platforms arrange it.
    let proxy = format!("{folder}/control");
    std::os::unix::fs::symlink(pair.host(1).seen(pair.daemon(1).socket()), &proxy).unwrap();
    let uri = format!("qemu+unix:///system?socket={proxy}");
    for (from, mode) in [(0, "--verbose"), (0, "--p2p")] {
        let data = format!("unix://{folder}/data{mode}");
        let words = ["migrate", "vm", &uri, "--live", "--unsafe", "--migrateuri", &data, mode];
        pair.virsh(from).ok(words).unwrap();
        pair.moved(0, "vm", "running (migrated)", &serial);
        assert!(!Path::new(&data[7..]).exists(), "the data socket was left behind");
        pair.virsh(1).ok(["migrate", "vm", &pair.uri(0), "--live", "--unsafe"]).unwrap();
        pair.moved(1, "vm", "running (migrated)", &serial);
    }
    pair.virsh(0).refused(
        &[
            "migrate",
            "vm",
            &uri,
            "--live",
            "--unsafe",
            "--migrateuri",
            "unix:///tmp/x",
            "--listen-address",
            "192.0.2.2",
        ],
        "Usage of listen-address is forbidden when migration URI uses UNIX transport method",
    );
    pair.stayed("vm", &serial);
}

#[test]
fn the_destination_listens_where_it_is_told() {
    let Some((pair, serial)) = plain() else { return };
    arrives(&pair, &serial, &["--listen-address", "192.0.2.2"]);
    arrives(&pair, &serial, &["--listen-address", "0.0.0.0"]);
    for (address, part) in [
        ("192.0.2.77", "'migrate-incoming': Failed to bind socket: Cannot assign requested address"),
        // It listens, but not where the source looks.
        ("127.0.0.1", "Connection refused"),
        ("a,b", "invalid argument: malformed listen address: a,b"),
    ] {
        stays(&pair, &serial, &["--listen-address", address], part);
    }
}

#[test]
fn ports_are_taken_in_order_passed_over_when_occupied_and_used_again() {
    let Some((pair, serial)) = plain() else { return };
    assert_eq!(port_of_a_copy(&pair, &serial), 49152);
    assert_eq!(port_of_a_copy(&pair, &serial), 49152, "it is free again");
    let other = occupy(&pair, 49152);
    assert_eq!(port_of_a_copy_beside(&pair, &serial, &other), 49153);
    // One that was asked for by number is not exchanged for another.
    let said = refusal(&pair, &["--migrateuri", "tcp://h2:49152"]);
    assert!(
        said.contains("'migrate-incoming': Failed to find an available port: Address already in use"),
        "{said}"
    );
    drop(other);
    pair.stayed("vm", &serial);
    arrives(&pair, &serial, &[]);
    assert_eq!(port_of_a_copy(&pair, &serial), 49152);
}

/// As [`port_of_a_copy`], while a stranger listens on the destination, too.
fn port_of_a_copy_beside(pair: &Pair, serial: &Serial, _stranger: &TcpListener) -> u16 {
    let copy = pair.slow_copy("vm", &[]).unwrap();
    let port = port_in_use(pair);
    pair.virsh(0).ok(["domjobabort", "vm"]).unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 1");
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
    port
}

#[test]
fn a_range_of_ports_may_be_configured_and_run_out() {
    let range = "migration_port_min = 51000\nmigration_port_max = 51001\n";
    let Some((pair, serial)) = isolated([Options::default(), configured(range)]) else { return };
    assert_eq!(port_of_a_copy(&pair, &serial), 51000);
    let [first, second] = [51000, 51001].map(|port| occupy(&pair, port));
    let part = "internal error: Unable to find an unused port in range 'migration' (51000-51001)";
    for mode in MODES {
        let said = refusal(&pair, &[mode]);
        assert!(said.contains(part), "{said}");
    }
    drop((first, second));
    pair.stayed("vm", &serial);
    arrives(&pair, &serial, &[]);
}

#[test]
fn the_destination_may_have_a_name_for_its_data_and_an_address_of_its_own() {
    let config = "migration_host = \"192.0.2.2\"\nmigration_address = \"192.0.2.2\"\n";
    let Some((pair, serial)) = isolated([Options::default(), configured(config)]) else { return };
    let copy = pair.slow_copy("vm", &[]).unwrap();
    // Without what the other daemon has to say to this one.
    let sockets = pair.host(0).sh("ss -Htn state established 'sport != :16509'").unwrap();
    assert!(sockets.contains("192.0.2.2:49152"), "{sockets}");
    pair.let_go("vm").unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
    pair.moved(0, "vm", "running (migrated)", &serial);
}

#[test]
fn a_name_for_the_data_that_leads_nowhere_leaves_the_guest_where_it_is() {
    let Some((pair, serial)) = isolated([Options::default(), configured("migration_host = \"127.0.0.1\"\n")])
    else {
        return;
    };
    stays(&pair, &serial, &[], "Connection refused");
}

#[test]
fn destinations_that_are_not_there() {
    let Some((pair, serial)) = plain() else { return };
    let virsh = pair.virsh(0);
    for (uri, part) in [
        ("qemu+tcp://h2:16599/system", "unable to connect to server at 'h2:16599': Connection refused"),
        ("qemu+tcp://nowhere/system", "Unable to resolve address 'nowhere' service '16509'"),
        ("qemu+unix:///system?socket=/nonexistent", "Failed to connect socket to '/nonexistent'"),
    ] {
        for mode in MODES {
            virsh.refused(&["migrate", "vm", uri, "--live", "--unsafe", mode], part);
        }
    }
    let own = pair.uri(0);
    for mode in MODES {
        virsh.refused(
            &["migrate", "vm", &own, "--live", "--unsafe", mode],
            "internal error: Attempt to migrate guest to the same host",
        );
    }
    pair.stayed("vm", &serial);
}

/// Two hosts that were cloned with their host UUID are one host as far as anybody can tell.
#[test]
fn hosts_with_one_uuid_are_one_host() {
    let uuid = || Options {
        host_uuid: Some("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".to_owned()),
        ..Options::default()
    };
    let Some((pair, serial)) = isolated([uuid(), uuid()]) else { return };
    let part = "Attempt to migrate guest to the same host aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
    stays(&pair, &serial, &[], part);
}

/// A QEMU of today that was told to listen in vain cannot be told again.
#[test]
fn an_occupied_port_is_passed_over_on_backports_qemu() {
    let pair = Pair::new(&Pair::newer()).unwrap();
    if !pair.host(0).is_isolated() {
        eprintln!("the ports of a host of its own need namespaces");
        return;
    }
    let serial = pair.boot_sector("vm").unwrap();
    let _others = [49152, 49153].map(|port| occupy(&pair, port));
    pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}
