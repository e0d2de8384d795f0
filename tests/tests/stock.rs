//! Guests cross to and from hosts that run stock libvirt, in both modes, and back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use ferry_testkit::cache::Cache;
use ferry_testkit::deadline::wait_until;
use ferry_testkit::ferryd::{Ferryd, Hold, Options};
use ferry_testkit::guest::Domain;
use ferry_testkit::lab::Lab;
use ferry_testkit::serial::Serial;
use ferry_testkit::stock::Libvirtd;
use ferry_testkit::tools::Tools;
use ferry_testkit::tree::Tree;
use ferry_testkit::virsh::Virsh;
use ferry_testkit::{programs, tree};
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};

/// A host with Ferry and one with stock libvirt, and the boot-sector guest's definition. None for an ordinary user.
struct Crossing {
    // The daemons end before their hosts.
    ferry: Ferryd,
    stock: Libvirtd,
    serial: Serial,
    xml: std::path::PathBuf,
    lab: Lab,
}

impl Crossing {
    fn new(tools: &Tools, machine: &str) -> Option<Self> {
        Self::with(tools, machine, Options::default(), "")
    }

    /// With something more among the guest's devices.
    fn with(tools: &Tools, machine: &str, options: Options, device: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("stock libvirt needs hosts in namespaces");
            return None;
        }
        let lab = Lab::new(&[("h1", tools), ("h2", tools)]).unwrap();
        let ferry = Ferryd::start(lab.host(0), options).unwrap();
        let stock = Libvirtd::start(lab.host(1)).unwrap();
        let log = "/run/vm.log";
        let serial =
            Serial::follow([0, 1].map(|number| (lab.host(number).name(), lab.host(number).seen(log))))
                .unwrap();
        let image = lab.shared().join("vm.img");
        let domain = Domain::boot_sector("vm", &image, log)
            .unwrap()
            .emulator(lab.host(0).emulator())
            .machine(machine)
            .device(device);
        let xml = domain.write(lab.shared().join("vm.xml")).unwrap();
        Some(Self { ferry, stock, serial, xml, lab })
    }

    fn virsh(&self, number: usize) -> Virsh {
        let uri = if number == 0 { self.ferry.uri() } else { self.stock.uri() };
        Virsh::new(self.lab.host(number), uri)
    }

    fn uri(&self, number: usize) -> String {
        if number == 0 { self.ferry.tcp_uri() } else { self.stock.tcp_uri() }
    }

    fn qemus(&self) -> [usize; 2] {
        [self.ferry.qemus().len(), self.stock.qemus().len()]
    }

    /// Sends the guest from host `from` to the other one and looks at both.
    fn cross(&self, from: usize, words: &[&str]) {
        let to = 1 - from;
        let uri = self.uri(to);
        let all = ["migrate", "vm", &uri, "--live", "--unsafe", "--persistent", "--undefinesource"];
        self.virsh(from).ok(all.into_iter().chain(words.iter().copied())).unwrap();
        self.serial.wait_beats_on(self.lab.host(to).name(), 50, SOON).unwrap();
        assert_eq!(self.virsh(to).reason("vm"), "running (migrated)");
        assert!(self.virsh(from).domains().unwrap().is_empty(), "the source keeps nothing");
        let one = if to == 0 { [1, 0] } else { [0, 1] };
        wait_until("one QEMU", SOON, || self.qemus() == one).unwrap();
        self.serial.verdict().whole().unwrap();
    }
}

fn crosses_there_and_back(tools: &Tools, machine: &str, device: &str) {
    let Some(crossing) = Crossing::with(tools, machine, Options::default(), device) else { return };
    crossing.virsh(0).define_and_start("vm", &crossing.xml).unwrap();
    crossing.serial.wait_beats(50, SOON).unwrap();
    for words in [&[][..], &["--p2p"]] {
        crossing.cross(0, words);
        crossing.cross(1, words);
    }
    // Nobody can prove anything to, or of, a stock host, and the history says so.
    let ferry = programs::ferry().unwrap();
    let root = crossing.ferry.root().display().to_string();
    let words = ["-c", &root, "history", "vm", "--json"];
    let told = crossing.lab.host(0).run(ferry, words, SOON).unwrap().ok().unwrap();
    assert_eq!(told.matches("best effort").count(), 4, "{told}");
    assert!(!told.contains("proven"), "{told}");
}

#[test]
fn there_and_back_with_the_distributions_libvirt() {
    crosses_there_and_back(&Pair::distribution(), "pc", "");
}

/// The watchdog of the q35 chipset, which this stock does not know, stays out of what it is told.
#[test]
fn there_and_back_with_the_distributions_libvirt_and_a_q35_machine() {
    crosses_there_and_back(&Pair::distribution(), "q35", "");
}

#[test]
fn there_and_back_with_backports_libvirt() {
    crosses_there_and_back(&Pair::newer(), "q35", "");
}

/// The state of a TPM is in QEMU's stream, whoever started its program.
#[test]
fn a_guest_with_a_tpm_crosses_there_and_back() {
    let tpm = "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>";
    let tools = Pair::newer().with_tpm(&Cache::open().unwrap()).unwrap();
    crosses_there_and_back(&tools, "q35", tpm);
}

/// A definition that stock filled in is the same machine to us.
#[test]
fn a_guest_that_stock_started_crosses_and_returns() {
    let Some(crossing) = Crossing::new(&Pair::distribution(), "q35") else { return };
    crossing.virsh(1).define_and_start("vm", &crossing.xml).unwrap();
    crossing.serial.wait_beats(50, SOON).unwrap();
    for words in [&["--p2p"][..], &[]] {
        crossing.cross(1, words);
        crossing.cross(0, words);
    }
}

#[test]
fn an_abort_toward_stock_leaves_the_guest_here() {
    let Some(crossing) = Crossing::new(&Pair::distribution(), "pc") else { return };
    let (virsh, uri) = (crossing.virsh(0), crossing.uri(1));
    virsh.define_and_start("vm", &crossing.xml).unwrap();
    crossing.serial.wait_beats(50, SOON).unwrap();
    virsh.ok(["migrate-setmaxdowntime", "vm", "1"]).unwrap();
    for mode in ["--verbose", "--p2p"] {
        let words = ["migrate", "vm", &uri, "--live", "--unsafe", "--bandwidth", "1", mode];
        let copy = virsh.start(words, "copy").unwrap();
        ferry_tests::copying::until_copying(&virsh, "vm").unwrap();
        virsh.ok(["domjobabort", "vm"]).unwrap();
        assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 1");
        crossing.serial.wait_beats_on("h1", 50, SOON).unwrap();
        wait_until("one QEMU", SOON, || crossing.qemus() == [1, 0]).unwrap();
        assert!(crossing.virsh(1).domains().unwrap().is_empty());
    }
    crossing.serial.verdict().whole().unwrap();
}

/// Granted toward a stock host, which has not been called to start the guest yet: what happens next is up to it.
fn granted_to_stock() -> Option<(Crossing, Tree, Hold)> {
    let options = Options { fault_points: true, ..Options::default() };
    let crossing = Crossing::with(&Pair::distribution(), "pc", options, "")?;
    crossing.virsh(0).define_and_start("vm", &crossing.xml).unwrap();
    crossing.serial.wait_beats(50, SOON).unwrap();
    let hold = crossing.ferry.arm("after-Granted").unwrap();
    let uri = crossing.uri(1);
    let words = ["migrate", "vm", &uri, "--live", "--unsafe", "--p2p"];
    let client = crossing.virsh(0).start(words, "migrate").unwrap();
    hold.wait(SOON).unwrap();
    Some((crossing, client, hold))
}

/// A stock host's word that the guest does not run there is no proof, for it may have run and ended. That it was never
/// started is one: this daemon has watched its events without a break.
#[test]
fn a_guest_that_stock_was_seen_not_to_start_goes_on_here() {
    let Some((crossing, client, hold)) = granted_to_stock() else { return };
    let [there] = crossing.stock.qemus()[..] else { panic!("one QEMU on the stock host") };
    tree::kill(there).unwrap();
    drop(hold);
    assert_eq!(client.wait_end(SOON).unwrap(), "exit code 1", "{}", client.log_tail(3));
    crossing.serial.wait_beats_on("h1", 50, SOON).unwrap();
    let reason = crossing.virsh(0).reason("vm");
    assert!(reason.starts_with("running"), "{reason}");
    wait_until("one QEMU", SOON, || crossing.qemus() == [1, 0]).unwrap();
    crossing.serial.verdict().whole().unwrap();
}

#[test]
fn a_guest_that_stock_may_have_started_waits_for_the_operator() {
    let Some((crossing, client, hold)) = granted_to_stock() else { return };
    // The events end with the connection: what follows is not seen.
    crossing.stock.kill().unwrap();
    drop(hold);
    assert_ne!(client.wait_end(SOON * 3).unwrap(), "exit code 0", "{}", client.log_tail(3));
    let virsh = crossing.virsh(0);
    assert_eq!(virsh.reason("vm"), "paused (migrating)");
    virsh.refused(&["resume", "vm"], "it is in doubt");
    assert!(virsh.ok(["dominfo", "vm"]).unwrap().contains("doubt"));
    // He has seen to it that nothing runs there.
    for qemu in crossing.stock.qemus() {
        tree::kill(qemu).unwrap();
    }
    let root = crossing.ferry.root().display().to_string();
    let ferry = |words: &[&str]| {
        let words: Vec<_> = ["-c", &root].iter().chain(words).map(|word| (*word).to_owned()).collect();
        crossing.lab.host(0).run(programs::ferry().unwrap(), words, SOON).unwrap()
    };
    ferry(&["resolve", "vm", "--guest-is", "here", "--yes"]).ok().unwrap();
    crossing.serial.wait_beats_on("h1", 50, SOON).unwrap();
    crossing.serial.verdict().whole().unwrap();
    let told = ferry(&["history", "--limit", "1"]).ok().unwrap();
    assert!(told.contains("best effort: the other host runs no ferryd"), "{told}");
}
