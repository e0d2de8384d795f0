//! 200 whole definitions, as virt-install, Nova, KubeVirt and vagrant-libvirt write them: each is defined, shown without a loss, and
//! started with a real QEMU, whose own device tree must have every device of it.
//!
//! The guests stay paused and are ended at once. What the definitions need of a host is made: bridges, images, a folder.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

#[path = "../../crates/qemu/tests/abi/corpus/mod.rs"]
mod corpus;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use corpus::{Definition, kept};
use ferry_domxml::Element;
use ferry_rpc::flags::{StartFlags, UndefineFlags, XmlFlags};
use ferry_rpc::proto::{
    DomainCreateWithFlags, DomainDefineXml, DomainDestroy, DomainGetXmlDesc, DomainRef, DomainUndefineFlags,
    QemuDomainMonitorCommand,
};
use ferry_testkit::cache::Cache;
use ferry_testkit::lab::Host;
use ferry_testkit::tools::Tools;
use ferry_tests::Pair;
use ferry_tests::wire::Wire;
use serde_json::Value;

/// Devices that are QEMU's own whatever the definition says, or none of the guest's.
fn is_the_chipsets(device: &Element, is_q35: bool) -> bool {
    let attribute = |name: &str| device.attribute(name).unwrap_or_default();
    let (kind, model, bus) = (attribute("type"), attribute("model"), attribute("bus"));
    match device.name.as_str() {
        "graphics" | "audio" | "emulator" => true,
        "input" => bus == "ps2",
        "watchdog" => model == "itco",
        "memballoon" => model == "none",
        "video" => device.child("model").and_then(|model| model.attribute("type")) == Some("none"),
        "console" => device.child("target").and_then(|target| target.attribute("type")) != Some("virtio"),
        "controller" => match kind {
            "pci" => ["pci-root", "pcie-root"].contains(&model),
            "usb" => model == "none",
            "sata" => is_q35 && attribute("index") == "0",
            "ide" | "fdc" => true,
            _ => false,
        },
        _ => false,
    }
}

/// The devices of a definition, but for those that are the chipset's.
fn devices(text: &str) -> Vec<Element> {
    let root = Element::parse(text).unwrap();
    let machine = root.child("os").and_then(|os| os.child("type")).and_then(|kind| kind.attribute("machine"));
    let is_q35 = machine.is_some_and(|machine| machine.contains("q35"));
    let devices = root.child("devices").unwrap().elements();
    devices.filter(|device| !is_the_chipsets(device, is_q35)).cloned().collect()
}

/// What the definitions need of a host. Gives the folder that stands in for `/corpus`.
fn furnish(host: &Host, shared: &Path) -> PathBuf {
    let folder = shared.join(format!("corpus-{}", host.name()));
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in [
        ("b.img", 1 << 20),
        ("c.img", 1 << 20),
        ("install.iso", 1 << 20),
        ("disk.config", 1 << 20),
        ("noCloud.iso", 1 << 20),
        ("floppy.img", 1440 << 10),
    ] {
        File::create(folder.join(name)).and_then(|file| file.set_len(bytes)).unwrap();
    }
    let dir = folder.display();
    host.sh(&format!(
        "cd {dir} && qemu-img create -q -f qcow2 a.qcow2 1M && qemu-img create -q -f qcow2 base.qcow2 1M &&
         qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2 1M
         for bridge in br0 br-int virbr0; do
             ip link show $bridge > /dev/null 2>&1 || ip link add $bridge type bridge
             ip link set $bridge up
         done"
    ))
    .unwrap();
    folder
}

/// A QEMU's devices, by QEMU: names of those that have one, kinds of those that have none.
fn tree(wire: &mut Wire, domain: &DomainRef) -> Vec<String> {
    let mut found = Vec::new();
    for (path, key) in [("/machine/peripheral", "name"), ("/machine/peripheral-anon", "type")] {
        let cmd = format!(r#"{{"execute":"qom-list","arguments":{{"path":"{path}"}}}}"#);
        let answer = wire.ask(&QemuDomainMonitorCommand { domain: domain.clone(), cmd, flags: 0 }).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let entries = answer["return"].as_array().unwrap().iter();
        found.extend(entries.filter_map(|entry| entry[key].as_str()).map(str::to_owned));
    }
    found
}

/// Everything that is wrong with what becomes of a definition.
fn wrong_with(wire: &mut Wire, xml: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let domain = match wire.ask(&DomainDefineXml { xml: xml.to_owned() }) {
        Ok(domain) => domain,
        Err(refused) => return vec![format!("not defined: {}", refused.message)],
    };
    let show =
        |wire: &mut Wire, flags| wire.ask(&DomainGetXmlDesc { domain: domain.clone(), flags }).unwrap();
    let shown = show(wire, XmlFlags::SECURE.with(XmlFlags::INACTIVE));
    let losses = kept::lost(&Element::parse(xml).unwrap(), &Element::parse(&shown).unwrap());
    wrong.extend(losses.into_iter().map(|loss| format!("lost: {loss}")));

    match wire.ask(&DomainCreateWithFlags { domain: domain.clone(), flags: StartFlags::PAUSED }) {
        Err(refused) => wrong.push(format!("not started: {}", refused.message)),
        Ok(_) => {
            let live = devices(&show(wire, XmlFlags::SECURE));
            let tree = tree(wire, &domain);
            for device in &live {
                let alias =
                    device.child("alias").and_then(|alias| alias.attribute("name")).unwrap_or_default();
                let is_there = match device.name.as_str() {
                    // It has no name in QEMU.
                    "panic" => tree.iter().any(|kind| kind.contains("pvpanic")),
                    _ => tree.iter().any(|name| name == alias),
                };
                if !is_there {
                    wrong.push(format!("QEMU has no {} {alias:?}", device.name));
                }
            }
            for kind in [
                "disk",
                "interface",
                "channel",
                "serial",
                "input",
                "sound",
                "video",
                "watchdog",
                "rng",
                "panic",
                "tpm",
            ] {
                let count = |devices: &[Element]| devices.iter().filter(|device| device.name == kind).count();
                let (given, running) = (count(&devices(xml)), count(&live));
                // A console brings its serial port along, a screen its card.
                if running < given {
                    wrong.push(format!("{given} of {kind} became {running}"));
                }
            }
            wire.ask(&DomainDestroy { domain: domain.clone() }).unwrap();
        }
    }
    wire.ask(&DomainUndefineFlags { domain, flags: UndefineFlags::NVRAM }).unwrap();
    wrong
}

/// Each definition on one of two hosts.
#[expect(clippy::print_stdout, reason = "the count is what the run is for")]
fn all_are_right(tools: Tools, chosen: &[Definition]) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("passed by: without namespaces there are no bridges");
        return;
    }
    let tools = tools.with_tpm(&Cache::open().unwrap()).unwrap();
    let pair = Pair::new(&tools).unwrap();
    let begin = |number: usize| {
        let folder = furnish(pair.host(number), pair.lab().shared());
        let mut wire = Wire::open(pair.daemon(number));
        let mut wrong = Vec::new();
        for definition in chosen.iter().skip(number).step_by(2) {
            let xml = definition.xml.replace("/corpus/", &format!("{}/", folder.display()));
            let found = wrong_with(&mut wire, &xml);
            if !found.is_empty() {
                wrong.push(format!("{}:\n    {}", definition.name, found.join("\n    ")));
            }
        }
        wrong
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let begun: Vec<_> = [0, 1].map(|number| scope.spawn(move || begin(number))).into();
        begun.into_iter().flat_map(|begun| begun.join().unwrap()).collect()
    });
    println!("{} of {} whole definitions start with every device", chosen.len() - wrong.len(), chosen.len());
    assert!(wrong.is_empty(), "{} of {} are not right:\n{}", wrong.len(), chosen.len(), wrong.join("\n"));
}

#[test]
fn whole_definitions_start_on_7_2_with_every_device() {
    all_are_right(Pair::distribution(), &corpus::all());
}

/// A third of them: what differs between the two is in their command lines, which are looked at elsewhere.
#[test]
fn whole_definitions_start_on_10_0_with_every_device() {
    let chosen: Vec<Definition> = corpus::all().into_iter().step_by(3).collect();
    all_are_right(Pair::newer(), &chosen);
}
