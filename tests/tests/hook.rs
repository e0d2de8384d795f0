//! The program that a host asks about each guest that arrives: what it is given, what it may change, and its no.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use ferry_testkit::ferryd::Options;
use ferry_testkit::serial::Serial;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};

/// Where stock has its hook for QEMU's guests, and where a host without an `/etc` of its own has it.
const STOCK: &str = "/etc/libvirt/hooks/qemu";

struct Scene {
    pair: Pair,
    hook: String,
    serial: Serial,
}

impl Scene {
    /// A guest on the first host; the second has a hook, and at most 2 s for it.
    fn new() -> Scene {
        let tools = Pair::distribution();
        let root = rustix::process::geteuid().is_root();
        let folder = std::env::temp_dir().join(format!("ferry-hook-{}", std::process::id()));
        let hook = if root { STOCK.to_owned() } else { folder.join("qemu").display().to_string() };
        let config = format!("migration_hook = {hook:?}\nmigration_hook_seconds = 2\n");
        let options = Options { config: Some(config), ..Options::default() };
        let pair = Pair::with([&tools; 2], [Options::default(), options]).unwrap();
        let serial = pair.boot_sector("vm").unwrap();
        Scene { pair, hook, serial }
    }

    /// Puts a script in the hook's place, or in the folder beside it. The host itself writes it: a file that this
    /// process had open could not be run while another of its threads forks.
    fn script(&self, place: &str, text: &str) {
        let script = format!(
            "mkdir -p \"$(dirname '{place}')\"; cat > '{place}' <<'END'\n#!/bin/sh\n{text}\nEND\nchmod 755 '{place}'"
        );
        self.pair.host(1).sh(&script).unwrap();
    }

    fn hook(&self, text: &str) {
        self.script(&self.hook, text);
    }

    fn words(&self, from: usize, mode: &str) -> Vec<String> {
        let uri = self.pair.uri(1 - from);
        ["migrate", "vm", &uri, "--live", "--unsafe", mode].map(str::to_owned).to_vec()
    }

    fn refused(&self, part: &str) {
        for mode in ["--verbose", "--p2p"] {
            let words = self.words(0, mode);
            self.pair.virsh(0).refused(&words.iter().map(String::as_str).collect::<Vec<_>>(), part);
        }
    }
}

#[test]
fn it_may_refuse_a_guest_and_change_what_the_guest_does_not_see() {
    let scene = Scene::new();
    let (pair, serial) = (&scene.pair, &scene.serial);
    let seen = pair.lab().shared().join("seen").display().to_string();
    scene.refused("Hook script execution failed: there is no program");

    scene.hook("echo the rack is full >&2; exit 1");
    scene.refused(&format!(
        "Hook script execution failed: internal error: Child process ({} vm migrate begin -) unexpected exit status 1: \
         the rack is full",
        scene.hook
    ));
    scene.hook("sed 's/<vcpu>1/<vcpu>2/; s/>1<.vcpu>/>2<\\/vcpu>/'");
    scene.refused("Target domain vCPU max 2 does not match source 1");
    scene.hook("echo '<domain'");
    scene.refused("(domain_definition):");
    scene.hook("sed 's/<.devices>/<frobnicator\\/><\\/devices>/'");
    scene.refused("unsupported configuration: element 'devices/frobnicator'");
    scene.hook(&format!("sleep 1000 & echo $! > '{seen}.pid'; wait"));
    scene.refused("was not done after 2 s");
    let pid = std::fs::read_to_string(format!("{seen}.pid")).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "what it had started lives on: {state}");
    pair.stayed("vm", serial);

    // What it is given; and silence is a yes.
    scene.hook(&format!("echo \"$@\" > '{seen}'; cat >> '{seen}'"));
    pair.virsh(0).ok(scene.words(0, "--verbose")).unwrap();
    pair.moved(0, "vm", "running (migrated)", serial);
    let given = std::fs::read_to_string(&seen).unwrap();
    assert!(given.starts_with("vm migrate begin -\n<domain"), "{given}");
    assert!(given.contains("<name>vm</name>") && given.trim_end().ends_with("</domain>"), "{given}");
    // The other host has none.
    pair.virsh(1).ok(scene.words(1, "--p2p")).unwrap();
    pair.moved(1, "vm", "running (migrated)", serial);

    // The image is to be found elsewhere, says the hook; a second one in the folder beside it adds a word.
    let image = pair.lab().shared().join("vm.img").display().to_string();
    let elsewhere = pair.lab().shared().join("elsewhere.img").display().to_string();
    std::os::unix::fs::symlink(&image, &elsewhere).unwrap();
    scene.hook(&format!("sed 's#{image}#{elsewhere}#'"));
    scene.script(
        &format!("{}.d/10-words", scene.hook),
        "sed 's#<vcpu#<description>by a hook</description><vcpu#'",
    );
    pair.virsh(0).ok(scene.words(0, "--p2p")).unwrap();
    pair.moved(0, "vm", "running (migrated)", serial);
    let shown = pair.virsh(1).ok(["dumpxml", "vm"]).unwrap();
    assert!(shown.contains(&elsewhere) && shown.contains("by a hook"), "{shown}");
    serial.wait_beats_on(pair.ear(1), 20, SOON).unwrap();
    if !rustix::process::geteuid().is_root() {
        let _ = std::fs::remove_dir_all(std::path::Path::new(&scene.hook).parent().unwrap());
    }
}
