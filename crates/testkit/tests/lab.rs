//! The lab itself: hosts that see each other, links that can be cut and shaped, and stock libvirt that migrates a guest
//! there, which shows that whatever fails in the same place with our daemon fails by our doing.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ferry_testkit::cache::Cache;
use ferry_testkit::deadline::wait_until;
use ferry_testkit::floor::{self, Bare};
use ferry_testkit::guest::{Boot, Domain, LinuxImage, Port, Work};
use ferry_testkit::lab::Lab;
use ferry_testkit::serial::Serial;
use ferry_testkit::stock::Libvirtd;
use ferry_testkit::tools::Tools;
use ferry_testkit::tree::Launch;
use ferry_testkit::virsh::Virsh;

const SOON: Duration = Duration::from_secs(20);

/// An echo service, as the guest has one, in a language that every Debian machine has.
const ECHO: &str = r#"
    use IO::Socket::INET;
    my $port = IO::Socket::INET->new(LocalPort => 7, Listen => 5, ReuseAddr => 1) or die $!;
    while (my $peer = $port->accept) {
        while (defined(my $line = <$peer>)) { print $peer $line; $peer->flush }
    }
"#;

/// Sends 4 MiB to the echo service, in lines, and counts what comes back.
const EXCHANGE: &str = r#"
    use IO::Socket::INET;
    my $peer = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => 7) or die $!;
    my $line = ("x" x 4095) . "\n";
    if (!fork) { print $peer $line for 1 .. 1024; $peer->flush; shutdown($peer, 1); exit }
    my $count = 0;
    while (my $back = <$peer>) { $count += length $back }
    print $count;
"#;

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("passed by: namespaces need root");
    }
    root
}

#[test]
fn hosts_have_names_and_links_that_can_be_cut_and_healed() {
    if !root() {
        return;
    }
    let tools = Tools::distribution(&Cache::open().unwrap()).unwrap();
    let lab = Lab::new(&[("h1", &tools), ("h2", &tools)]).unwrap();
    let [h1, h2] = [lab.host(0), lab.host(1)];
    assert_eq!(h1.sh("hostname").unwrap(), "h1");
    assert_eq!(h1.sh("getent hosts h2").unwrap().split_whitespace().next(), Some("192.0.2.2"));
    std::fs::write(h1.seen("/run/mark"), "here").unwrap();
    assert_eq!(h1.sh("cat /run/mark").unwrap(), "here");
    assert!(h2.sh("cat /run/mark").is_err() && !std::path::Path::new("/run/mark").exists());

    let _echo = h2.start(Launch::new("perl").args(["-e", ECHO]), "echo").unwrap();
    wait_until("echo over the switch", SOON, || h1.echo(h2.address())).unwrap();
    h2.cut().unwrap();
    assert!(!h1.echo(h2.address()));
    h2.heal().unwrap();
    wait_until("echo over the healed link", SOON, || h1.echo(h2.address())).unwrap();

    let exchange = || {
        let began = Instant::now();
        assert_eq!(h1.run("perl", ["-e", EXCHANGE, "192.0.2.2"], SOON).unwrap().ok().unwrap(), "4194304");
        began.elapsed()
    };
    // 4 MiB each way, at the same time, take 0.34 s at 100 Mbit/s.
    h2.shape(Some(100)).unwrap();
    let shaped = exchange();
    assert!(shaped > Duration::from_millis(250), "{shaped:?}");
    h2.shape(None).unwrap();
    let free = exchange();
    assert!(free < shaped, "{free:?}, shaped {shaped:?}");
}

/// The boot sector, moved there and back by stock libvirt and its own virsh.
fn stock_moves_a_guest(tools: &Tools, versions: [&str; 2]) {
    let lab = Lab::new(&[("h1", tools), ("h2", tools)]).unwrap();
    let daemons = [0, 1].map(|number| Libvirtd::start(lab.host(number)).unwrap());
    let [first, second] = [0, 1].map(|number: usize| Virsh::new(lab.host(number), daemons[number].uri()));
    let running = first.ok(["version"]).unwrap();
    assert!(versions.iter().all(|version| running.contains(version)), "{running}");

    let log = "/run/vm.log";
    let serial =
        Serial::follow([0, 1].map(|number| (lab.host(number).name(), lab.host(number).seen(log)))).unwrap();
    let domain = Domain::boot_sector("vm", &lab.shared().join("vm.img"), log).unwrap();
    let domain = domain.emulator(lab.host(0).emulator());
    first.define_and_start("vm", &domain.write(lab.shared().join("vm.xml")).unwrap()).unwrap();
    serial.wait_beats_on("h1", 100, SOON).unwrap();

    let began = Instant::now();
    first.ok(["migrate", "vm", &daemons[1].tcp_uri(), "--live", "--unsafe"]).unwrap();
    let took = began.elapsed();
    serial.wait_beats_on("h2", 100, SOON).unwrap();
    assert_eq!(second.state("vm").unwrap(), "running");
    assert_eq!((daemons[0].qemus().len(), daemons[1].qemus().len()), (0, 1));
    second.ok(["migrate", "vm", &daemons[0].tcp_uri(), "--live", "--p2p", "--unsafe"]).unwrap();
    serial.wait_beats_on("h1", 100, SOON).unwrap();
    assert_eq!(serial.beating_within(Duration::from_millis(50)), ["h1"]);
    let verdict = serial.verdict();
    verdict.whole().unwrap();
    assert_eq!(verdict.moves.len(), 2);
    eprintln!("stock {versions:?}: {took:?}, pauses {:?}", verdict.moves);
}

#[test]
fn bare_qemus_move_a_guest_between_hosts() {
    if !root() {
        return;
    }
    let tools = Tools::distribution(&Cache::open().unwrap()).unwrap();
    let lab = Lab::new(&[("h1", &tools), ("h2", &tools)]).unwrap();
    let log = "/run/bare.log";
    let serial =
        Serial::follow([0, 1].map(|number| (lab.host(number).name(), lab.host(number).seen(log)))).unwrap();
    let bare = Bare {
        emulator: lab.host(0).emulator(),
        machine: "q35".into(),
        memory_mib: 64,
        linux: None,
        disk: None,
        log: log.into(),
        folder: lab.shared().to_path_buf(),
    };
    let guest = bare.start(Some(lab.host(0))).unwrap();
    serial.wait_beats_on("h1", 100, SOON).unwrap();
    let options = floor::Options { downtime_limit_ms: Some(20), ..floor::Options::default() };
    let (_guest, timings) = floor::migrate(&bare, guest, Some(lab.host(1)), options).unwrap();
    serial.wait_beats_on("h2", 100, SOON).unwrap();
    serial.verdict().whole().unwrap();
    eprintln!("floor: {timings:?}, own cost {:?}", timings.own_cost());
}

#[test]
fn stock_libvirt_of_the_distribution_moves_a_guest_whole() {
    if root() {
        stock_moves_a_guest(
            &Tools::distribution(&Cache::open().unwrap()).unwrap(),
            ["libvirt 9.0", "QEMU 7.2"],
        );
    }
}

#[test]
fn stock_libvirt_of_backports_moves_a_guest_whole() {
    if root() {
        stock_moves_a_guest(&Tools::newer(&Cache::open().unwrap()).unwrap(), ["libvirt 11.", "QEMU 10."]);
    }
}

#[test]
fn the_linux_guest_answers_on_the_network_and_to_the_power_button() {
    if !root() {
        return;
    }
    let cache = Cache::open().unwrap();
    let tools = Tools::distribution(&cache).unwrap();
    let lab = Lab::new(&[("h1", &tools), ("h2", &tools)]).unwrap();
    let daemon = Libvirtd::start(lab.host(0)).unwrap();
    let virsh = Virsh::new(lab.host(0), daemon.uri());
    let disk = lab.shared().join("disk.img");
    std::fs::File::create(&disk).and_then(|file| file.set_len(8 << 20)).unwrap();

    let log = "/run/vm.log";
    let serial = Serial::follow([("h1", lab.host(0).seen(log))]).unwrap();
    let work = Work { address: Some("192.0.2.50/24".into()), ..Work::default() };
    let boot = Boot::Linux(LinuxImage::ready(&cache).unwrap(), work);
    let domain = Domain::new("vm", boot, Port::Terminal { log: log.into() })
        .disk(&disk, "raw")
        .bridge("br0")
        .command_port("/run/vm.commands");
    virsh.define_and_start("vm", &domain.write(lab.shared().join("vm.xml")).unwrap()).unwrap();
    serial.wait_ready(Duration::from_secs(90)).unwrap();
    wait_until("echo from the guest", SOON, || lab.host(1).echo("192.0.2.50".parse().unwrap())).unwrap();

    let mut port = UnixStream::connect(lab.host(0).seen("/run/vm.commands")).unwrap();
    assert_eq!(serial.ask(&mut port, "check", SOON).unwrap()["damaged"], "0");
    virsh.ok(["shutdown", "vm"]).unwrap();
    wait_until("power off", SOON, || virsh.state("vm").is_ok_and(|state| state == "shut off")).unwrap();
    serial.verdict().whole().unwrap();
}
