//! Guest memory in all its forms: what it is made of on the host, and what is plugged into a guest that runs.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;

use ferry_testkit::deadline::wait_until;
use ferry_tests::bench::Bench;
use ferry_tests::events::Events;
use ferry_tests::{Pair, SOON};

/// A guest with one cell of `mib` whose memory can grow.
fn grows(mib: u64) -> String {
    format!(
        "<maxMemory slots='4' unit='GiB'>4</maxMemory>\
         <cpu><numa><cell id='0' cpus='0' memory='{mib}' unit='MiB'/></numa></cpu>"
    )
}

fn module(mib: u64, more: &str) -> String {
    format!(
        "<memory model='dimm'><target><size unit='MiB'>{mib}</size><node>0</node></target>{more}</memory>"
    )
}

/// A guest to which memory is given and from which it is taken.
struct Growing {
    bench: Bench,
}

impl Growing {
    fn with(&self, verb: &str, xml: &str, more: &[&str]) -> Vec<String> {
        let file = self.bench.file("memory.xml");
        fs::write(&file, xml).unwrap();
        let words = [verb, "vm", file.to_str().unwrap()].into_iter().chain(more.iter().copied());
        words.map(str::to_owned).collect()
    }

    fn ok(&self, verb: &str, xml: &str, more: &[&str]) {
        let words = self.with(verb, xml, more);
        self.bench.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn refused(&self, verb: &str, xml: &str, more: &[&str], text: &str) {
        let words = self.with(verb, xml, more);
        self.bench.refused(&words.iter().map(String::as_str).collect::<Vec<_>>(), text);
    }

    /// MiB that the guest has, on the host where it is.
    fn mib(&self, host: usize) -> (u64, u64) {
        let told = |field: &str| {
            let text = self.bench.pair.virsh(host).field(&["dominfo", "vm"], field);
            text.trim_end_matches(" KiB").parse::<u64>().unwrap() / 1024
        };
        (told("Max memory"), told("Used memory"))
    }
}

use ferry_tests::aftermath::Asking as _;

#[test]
fn memory_is_plugged_in_moves_with_its_guest_and_is_taken_out() {
    let more = |domain: ferry_testkit::guest::Domain| domain.beside(&grows(256));
    let mut growing = Growing { bench: Bench::linux_with(&Pair::newer(), more) };
    let base = |growing: &Growing, slot: u32| {
        growing.bench.xml(&format!("//memory[@model='dimm']/address[@slot='{slot}']/@base"))
    };
    assert_eq!(growing.mib(0), (256, 256));
    growing.ok("attach-device", &module(128, ""), &["--live", "--config"]);
    assert_eq!(growing.mib(0), (384, 384));
    assert_eq!(base(&growing, 0), "0x100000000");
    assert!(
        growing.bench.ok(&["dumpxml", "vm", "--inactive"]).contains("<memory unit='KiB'>393216</memory>")
    );
    growing.ok("attach-device", &module(64, ""), &["--live"]);
    let refused = |xml: &str, text: &str| growing.refused("attach-device", xml, &["--live"], text);
    refused(&module(8192, ""), "would exceed domain's maxMemory config size '4194304'");
    refused(&module(64, "<address type='dimm' slot='1'/>"), "memory device slot '1' is already being used");
    refused(
        "<memory model='dimm'><target><size>9</size><node>3</node></target></memory>",
        "can't add memory backend for guest node '3'",
    );
    refused(
        "<memory model='dimm'><source><pagesize unit='GiB'>16</pagesize></source>\
         <target><size>2048</size><node>0</node></target></memory>",
        "hugetlbfs",
    );

    // The first one leaves a hole, which a machine that is started anew would not have.
    growing.bench.pair.daemon_mut(0).kill_and_restart().unwrap();
    let events = Events::on(&growing.bench.pair, 0).unwrap();
    growing.refused("detach-device", &module(32, ""), &["--live"], "not present in the domain configuration");
    growing.ok("detach-device", &module(128, "<address type='dimm' slot='0'/>"), &["--live", "--config"]);
    wait_until("the memory's end", SOON, || {
        events.named("device-removed", "vm").contains(&"dimm0".to_owned())
    })
    .unwrap();
    assert_eq!(growing.mib(0), (320, 320));
    assert!(!growing.bench.ok(&["dumpxml", "vm", "--inactive"]).contains("model='dimm'"));
    assert_eq!(base(&growing, 1), "0x108000000");

    // A block of which the guest has as much as it is told to; this kernel has no driver for it.
    let block = |requested: u64| {
        format!(
            "<memory model='virtio-mem'><target><size unit='MiB'>64</size><node>0</node><block unit='MiB'>2</block>\
             <requested unit='MiB'>{requested}</requested></target></memory>"
        )
    };
    growing.ok("attach-device", &block(4), &["--live"]);
    growing.ok("update-device", &block(8), &["--live"]);
    growing.refused("update-device", &block(7), &["--live"], "integer multiple of block size");
    growing.refused("update-device", &module(64, ""), &["--live"], "model 'dimm' is not supported");
    assert_eq!(growing.bench.xml("//memory[@model='virtio-mem']/target/requested/text()"), "8192");

    for from in [0, 1] {
        let uri = growing.bench.pair.uri(1 - from);
        let virsh = growing.bench.pair.virsh(from);
        virsh.ok(["migrate", "vm", &uri, "--live", "--p2p", "--unsafe"]).unwrap();
        growing.bench.serial.wait_beats_on(growing.bench.pair.ear(1 - from), 50, SOON).unwrap();
        assert_eq!(growing.mib(1 - from), (384, 320), "after the way from {from}");
    }
    assert_eq!(base(&growing, 1), "0x108000000");
    let requested = "//memory[@model='virtio-mem']/target/requested/text()";
    assert_eq!(growing.bench.xml(requested), "8192");
    growing.bench.serial.verdict().whole().unwrap();
}

#[test]
fn large_pages_are_the_hosts_or_the_start_is_refused() {
    let bench = Bench::sector_with(|domain| {
        domain.beside("<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>")
    });
    // Memory in a file has no file that anybody would have to take away.
    let host = bench.pair.host(0);
    let of_guest = |what: &str| {
        let pid = bench.pair.daemon(0).qemus()[0];
        fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap()
    };
    let maps = of_guest("maps");
    assert!(maps.contains("/ram/qemu_back_mem.pc.ram"), "{maps}");
    bench.ok(&["destroy", "vm"]);

    let with = |backing: &str| {
        let xml = bench.ok(&["dumpxml", "vm", "--inactive"]);
        let (before, rest) = xml.split_once("<memoryBacking>").unwrap();
        let (_, after) = rest.split_once("</memoryBacking>").unwrap();
        let file = bench.file("pages.xml");
        fs::write(&file, format!("{before}<memoryBacking>{backing}</memoryBacking>{after}")).unwrap();
        bench.ok(&["define", file.to_str().unwrap()]);
    };
    with("<hugepages/>");
    if !host.is_isolated() {
        eprintln!("large pages are mounted on hosts with namespaces only");
        return;
    }
    bench.refused(
        &["start", "vm"],
        "internal error: hugetlbfs filesystem is not mounted or disabled by administrator config",
    );
    let mounted = host.sh("mkdir -p /run/pages && mount -t hugetlbfs -o pagesize=2M none /run/pages");
    if mounted.is_err() {
        eprintln!("this kernel has no large pages");
        return;
    }
    with("<hugepages><page size='64' unit='KiB'/></hugepages>");
    bench.refused(&["start", "vm"], "Unable to find any usable hugetlbfs mount for 64 KiB");
    with("<hugepages><page size='2' unit='MiB'/></hugepages>");
    let Some(_pages) = Pages::reserve(16) else {
        eprintln!("this machine has no large pages to spare");
        return;
    };
    bench.ok(&["start", "vm"]);
    bench.serial.wait_beats(50, SOON).unwrap();
    assert!(of_guest("maps").contains("/run/pages/ferry/"), "{}", of_guest("maps"));
    bench.ok(&["destroy", "vm"]);
    with("<locked/>");
    bench.ok(&["start", "vm"]);
    let status = of_guest("status");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let kib: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib >= 32 << 10, "{kib} KiB are locked");
}

/// Large pages that the machine holds ready while this lives.
struct Pages {
    before: u64,
}

impl Pages {
    const COUNT: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    fn reserve(more: u64) -> Option<Self> {
        let count = || fs::read_to_string(Self::COUNT).ok()?.trim().parse::<u64>().ok();
        let before = count()?;
        fs::write(Self::COUNT, (before + more).to_string()).ok()?;
        let pages = Self { before };
        (count()? >= before + more).then_some(pages)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = fs::write(Self::COUNT, self.before.to_string());
    }
}
