//! A guest with devices to play with, for the tests of what people type at stock virsh.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the helpers of a test fail as the test does"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use ferry_testkit::cache::Cache;
use ferry_testkit::guest::{Boot, Domain, LinuxImage, Port, Work};
use ferry_testkit::serial::Serial;
use ferry_testkit::tools::{EMULATOR, Tools};
use ferry_testkit::virsh::Virsh;

use crate::{BOOT, Pair, SOON};

/// Free places for what is plugged in later, an empty drive, a card, an agent's channel, a screen.
pub const DEVICES: &str = "\
    <controller type='pci' index='0' model='pcie-root'/>\
    <controller type='pci' model='pcie-root-port'/><controller type='pci' model='pcie-root-port'/>\
    <controller type='pci' model='pcie-root-port'/><controller type='pci' model='pcie-root-port'/>\
    <controller type='pci' model='pcie-root-port'/><controller type='pci' model='pcie-root-port'/>\
    <controller type='pci' model='pcie-root-port'/><controller type='pci' model='pcie-root-port'/>\
    <controller type='pci' model='pcie-root-port'/><controller type='pci' model='pcie-root-port'/>\
    <controller type='scsi' model='virtio-scsi'/>\
    <disk type='file' device='cdrom'><target dev='sda' bus='scsi'/><readonly/></disk>\
    <interface type='user'><mac address='52:54:00:00:00:51'/><model type='virtio'/></interface>\
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
    <video><model type='vga' vram='16384' heads='1' primary='yes'/></video>";

/// A guest named `vm` on the first of two hosts, and what a test asks virsh about it. A failure ends the test.
#[derive(Debug)]
pub struct Bench {
    /// The hosts.
    pub pair: Pair,
    /// An ear on the guest.
    pub serial: Serial,
}

impl Bench {
    /// A boot sector, which is up at once and lets go of nothing.
    pub fn sector() -> Bench {
        Self::sector_with(|domain| domain)
    }

    /// The same with more in its definition.
    pub fn sector_with(more: impl FnOnce(Domain) -> Domain) -> Bench {
        let pair = Pair::new(&Pair::distribution()).expect("two hosts");
        let (domain, serial) = pair.sector("vm").expect("a guest");
        // QEMU itself, which gives a guest exactly the memory that it is told to.
        let domain = more(domain.device(DEVICES)).emulator(pair.host(0).tool(EMULATOR));
        let xml = pair.write("vm", &domain).expect("its definition");
        pair.virsh(0).define_and_start("vm", &xml).expect("a start");
        serial.wait_beats(50, SOON).expect("beats");
        Bench { pair, serial }
    }

    /// Linux, which serves its devices.
    pub fn linux() -> Bench {
        Self::linux_with(&Pair::distribution(), |domain| domain)
    }

    /// The same with other programs, and more in its definition.
    pub fn linux_with(tools: &Tools, more: impl FnOnce(Domain) -> Domain) -> Bench {
        let pair = Pair::new(tools).expect("two hosts");
        let (log, serial) = pair.listen("vm").expect("an ear");
        let image = LinuxImage::ready(&Cache::open().expect("the cache")).expect("a Linux guest");
        let work = Work { disk_mib: 0, ..Work::default() };
        let domain = Domain::new("vm", Boot::Linux(image, work), Port::File(log));
        let bridge = if pair.host(0).is_isolated() { domain.bridge("br0") } else { domain };
        pair.start("vm", more(bridge.device(DEVICES))).expect("a start");
        serial.wait_ready(BOOT).expect("Linux");
        Bench { pair, serial }
    }

    /// The first host's virsh.
    pub fn virsh(&self) -> Virsh {
        self.pair.virsh(0)
    }

    /// What virsh says to a command that must succeed.
    pub fn ok(&self, words: &[&str]) -> String {
        let found = self.virsh().ok(words);
        assert!(found.is_ok(), "{words:?}: {found:?}");
        found.unwrap_or_default()
    }

    /// Has virsh run a command that must fail with `text`.
    pub fn refused(&self, words: &[&str], text: &str) {
        let found = self.virsh().fails(words);
        assert!(found.is_ok(), "{words:?}: {found:?}");
        let found = found.unwrap_or_default();
        assert!(found.contains(text), "{words:?}: {found}");
    }

    /// An image of zeros that all hosts see.
    pub fn image(&self, name: &str, mib: u64) -> String {
        let path = self.file(name);
        File::create(&path).and_then(|file| file.set_len(mib << 20)).expect("an image");
        path.to_str().expect("a plain path").to_owned()
    }

    /// A file that all hosts see.
    pub fn file(&self, name: &str) -> PathBuf {
        self.pair.lab().shared().join(name)
    }

    /// `domstats` and the like, as names and values.
    pub fn stats(&self, words: &[&str]) -> BTreeMap<String, String> {
        let text = self.ok(words);
        let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// What the definition that runs has at `path`: elements with their tags, an attribute's value.
    pub fn xml(&self, path: &str) -> String {
        let found = self.ok(&["dumpxml", "vm", "--xpath", path]);
        match found.trim().split_once("=\"") {
            Some((_, value)) if path.contains('@') => value.trim_end_matches('"').to_owned(),
            _ => found.trim().to_owned(),
        }
    }

    /// Whether the running definition has something at `path`.
    pub fn has(&self, path: &str) -> bool {
        let words = ["dumpxml", "vm", "--xpath", path];
        self.virsh().run(words).is_ok_and(|output| output.success() && !output.stdout.trim().is_empty())
    }
}
