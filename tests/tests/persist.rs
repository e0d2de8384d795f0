//! What becomes of the definitions: which host keeps one, under which name, and what may be changed on the way.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::path::PathBuf;

use ferry_testkit::guest::{Boot, Domain, Port};
use ferry_testkit::serial::Serial;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::events::Events;
use ferry_tests::{Pair, SOON};

const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn pair() -> Pair {
    Pair::new(&Pair::distribution()).expect("two hosts")
}

/// The boot-sector guest's definition, with a UUID, in a file.
fn definition(pair: &Pair) -> (PathBuf, Serial) {
    let (domain, serial) = pair.sector("vm").unwrap();
    (pair.write("vm", &domain.uuid(UUID)).unwrap(), serial)
}

/// Writes `xml` with `from` turned into `to` to a file.
fn changed(pair: &Pair, xml: &str, from: &str, to: &str) -> String {
    assert!(xml.contains(from), "{from} is not in {xml}");
    let file = pair.lab().shared().join("changed.xml");
    fs::write(&file, xml.replace(from, to)).unwrap();
    file.display().to_string()
}

fn is_known(pair: &Pair, number: usize) -> bool {
    pair.virsh(number).domains().unwrap().iter().any(|name| name == "vm")
}

/// All sixteen: a kept or transient guest, a definition on the destination or none, forgotten on the source or not,
/// kept on the destination or not.
#[test]
fn who_keeps_a_definition() {
    let pair = pair();
    let (xml, serial) = definition(&pair);
    let xml = xml.to_str().unwrap();
    let uri = pair.uri(1);
    for case in 0..16_u32 {
        let [kept, known_there, undefine, persist] = [8, 4, 2, 1].map(|bit| case & bit != 0);
        let story = format!("kept {kept}, known there {known_there}, undefine {undefine}, persist {persist}");
        let virsh = [0, 1].map(|number| pair.virsh(number));
        if kept {
            virsh[0].ok(["define", xml]).unwrap();
            virsh[0].ok(["start", "vm"]).unwrap();
        } else {
            virsh[0].ok(["create", xml]).unwrap();
        }
        if known_there {
            let text = fs::read_to_string(xml).unwrap();
            let other = changed(&pair, &text, "<vcpu>", "<description>of old</description><vcpu>");
            virsh[1].ok(["define", &other]).unwrap();
        }
        serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
        let mut words = vec!["migrate", "vm", &uri, "--live", "--unsafe"];
        words.extend(undefine.then_some("--undefinesource"));
        words.extend(persist.then_some("--persistent"));
        words.extend((case % 3 == 0).then_some("--p2p"));
        virsh[0].ok(&words).unwrap_or_else(|error| panic!("{story}: {error}"));
        serial.wait_beats_on(pair.ear(1), 20, SOON).unwrap();

        assert_eq!(is_known(&pair, 0), kept && !undefine, "{story}: the source");
        let persistent = virsh[1].field(&["dominfo", "vm"], "Persistent");
        assert_eq!(persistent == "yes", known_there || persist, "{story}: the destination");
        if known_there {
            let stored = virsh[1].ok(["dumpxml", "vm", "--inactive"]).unwrap();
            assert_eq!(stored.contains("of old"), !persist, "{story}: {stored}");
        }

        virsh[1].ok(["destroy", "vm"]).unwrap();
        assert_eq!(is_known(&pair, 1), known_there || persist, "{story}: after its end");
        for number in [0, 1] {
            if is_known(&pair, number) {
                virsh[number].ok(["undefine", "vm"]).unwrap();
            }
            pair.nothing_runs(number);
        }
    }
}

#[test]
fn what_was_changed_for_the_next_start_goes_along_and_autostart_does_not() {
    let pair = pair();
    let (xml, serial) = definition(&pair);
    let virsh = pair.virsh(0);
    virsh.define_and_start("vm", &xml).unwrap();
    virsh.ok(["autostart", "vm"]).unwrap();
    let text = fs::read_to_string(&xml).unwrap();
    virsh.ok(["define", &changed(&pair, &text, "<vcpu>1</vcpu>", "<vcpu>3</vcpu>")]).unwrap();
    virsh.ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe", "--persistent"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    let there = pair.virsh(1);
    assert_eq!(there.field(&["dominfo", "vm"], "CPU(s)"), "1");
    assert!(there.ok(["dumpxml", "vm", "--inactive"]).unwrap().contains(">3</vcpu>"));
    assert_eq!(there.field(&["dominfo", "vm"], "Autostart"), "disable");
    assert_eq!(virsh.field(&["dominfo", "vm"], "Autostart"), "enable");
}

#[test]
fn another_definition_may_be_kept() {
    let pair = pair();
    let (xml, serial) = definition(&pair);
    let (virsh, uri) = (pair.virsh(0), pair.uri(1));
    virsh.define_and_start("vm", &xml).unwrap();
    serial.wait_beats(50, SOON).unwrap();
    let stored = virsh.ok(["dumpxml", "vm", "--inactive"]).unwrap();
    let other = changed(&pair, &stored, "<vcpu", "<description>for later</description><vcpu");
    virsh.refused(
        &["migrate", "vm", &uri, "--live", "--unsafe", "--persistent-xml", &other],
        "Option --persistent is required by option --persistent-xml",
    );
    for (from, mode) in [(0, "--verbose"), (1, "--p2p")] {
        let uri = pair.uri(1 - from);
        let words =
            ["migrate", "vm", &uri, "--live", "--unsafe", "--persistent", "--persistent-xml", &other, mode];
        pair.virsh(from).ok(words).unwrap();
        pair.moved(from, "vm", "running (migrated)", &serial);
        let there = pair.virsh(1 - from);
        assert!(there.ok(["dumpxml", "vm", "--inactive"]).unwrap().contains("for later"));
        assert!(!there.ok(["dumpxml", "vm"]).unwrap().contains("for later"));
    }
}

#[test]
fn a_definition_travels_without_its_guest() {
    let pair = pair();
    let (xml, serial) = definition(&pair);
    let ear = Events::on(&pair, 1).unwrap();
    let (virsh, there, uri) = (pair.virsh(0), pair.virsh(1), pair.uri(1));
    virsh.ok(["define".as_ref(), xml.as_os_str()]).unwrap();
    let offline = |words: &[&str]| {
        let all = ["migrate", "vm", &uri, "--offline"].into_iter().chain(words.iter().copied());
        virsh.run(all).unwrap()
    };
    // Shut off: there, and still here.
    offline(&["--persistent"]).ok().unwrap();
    assert_eq!(there.reason("vm"), "shut off (unknown)");
    assert_eq!(virsh.reason("vm"), "shut off (unknown)");
    assert_eq!(there.ok(["domuuid", "vm"]).unwrap(), UUID);
    let (mine, theirs) = (virsh.ok(["dumpxml", "vm"]).unwrap(), there.ok(["dumpxml", "vm"]).unwrap());
    assert_eq!(mine, theirs);
    // What is there already is written over.
    offline(&["--persistent", "--p2p"]).ok().unwrap();
    ear.wait_lifecycle("vm", "Defined Updated").unwrap();
    assert_eq!(ear.lifecycle("vm"), ["Defined Added", "Defined Updated"]);
    there.ok(["undefine", "vm"]).unwrap();

    // Running: only the definition goes, and the guest notices nothing.
    virsh.ok(["start", "vm"]).unwrap();
    serial.wait_beats(50, SOON).unwrap();
    for mode in ["--verbose", "--p2p"] {
        offline(&["--persistent", mode]).ok().unwrap();
        assert_eq!(there.state("vm").unwrap(), "shut off");
        assert_eq!(virsh.reason("vm"), "running (booted)");
        assert!(virsh.field(&["domjobinfo", "vm"], "Job type").starts_with("None"));
        there.ok(["undefine", "vm"]).unwrap();
    }
    offline(&["--persistent", "--dname", "renamed"]).ok().unwrap();
    assert_eq!(there.domains().unwrap(), ["renamed"]);
    there.ok(["undefine", "renamed"]).unwrap();
    serial.verdict().whole().unwrap();
    virsh.ok(["destroy", "vm"]).unwrap();

    // Forgotten here, it is only there.
    offline(&["--persistent", "--undefinesource"]).ok().unwrap();
    assert!(!is_known(&pair, 0) && is_known(&pair, 1));

    for (words, part) in [
        (&[][..], "offline migration must be specified with the persistent flag set"),
        (&["--persistent", "--live"], "Options --live and --offline are mutually exclusive"),
        (&["--persistent", "--copy-storage-all"], "offline migration cannot handle non-shared storage"),
        (&["--persistent", "--p2p", "--tunnelled"], "tunnelled offline migration does not make sense"),
    ] {
        virsh.ok(["define".as_ref(), xml.as_os_str()]).unwrap();
        let all = ["migrate", "vm", &uri, "--offline"].into_iter().chain(words.iter().copied());
        let said = virsh.refusal(&all.collect::<Vec<_>>());
        assert!(said.contains(part), "wanted: {part}\nsaid:   {said}");
    }
}

#[test]
fn a_guest_may_arrive_under_another_name() {
    let pair = pair();
    let (xml, serial) = definition(&pair);
    let virsh = pair.virsh(0);
    virsh.define_and_start("vm", &xml).unwrap();
    serial.wait_beats(50, SOON).unwrap();
    let (there, back) = (pair.uri(1), pair.uri(0));
    let flags = ["--live", "--unsafe", "--persistent", "--undefinesource"];
    let renamed =
        |from: &'static str, to: &'static str| ["--dname", to].into_iter().chain(flags).chain([from]);
    virsh.ok(["migrate", "vm", &there].into_iter().chain(renamed("--verbose", "renamed"))).unwrap();
    assert!(!is_known(&pair, 0));
    pair.moved(0, "renamed", "running (migrated)", &serial);
    let shown = pair.virsh(1).ok(["dumpxml", "renamed", "--inactive"]).unwrap();
    assert!(shown.contains("<name>renamed</name>"), "{shown}");
    // The old name in the changed definition is the source's, and is right.
    let live = pair.virsh(1).ok(["dumpxml", "renamed", "--migratable"]).unwrap();
    let file = changed(&pair, &live, "<vcpu", "<description>renamed again</description><vcpu");
    let words = ["migrate", "renamed", &back, "--xml", &file];
    pair.virsh(1).ok(words.into_iter().chain(renamed("--p2p", "vm"))).unwrap();
    pair.moved(1, "vm", "running (migrated)", &serial);
    assert!(pair.virsh(0).ok(["dumpxml", "vm"]).unwrap().contains("renamed again"));
    assert!(pair.virsh(1).domains().unwrap().is_empty());
}

#[test]
fn names_and_uuids_that_are_taken_are_refused() {
    let pair = pair();
    let (xml, serial) = definition(&pair);
    let (virsh, there, uri) = (pair.virsh(0), pair.virsh(1), pair.uri(1));
    virsh.define_and_start("vm", &xml).unwrap();
    let stored = virsh.ok(["dumpxml", "vm", "--inactive"]).unwrap();
    let other_uuid = "22222222-2222-3333-4444-555555555555";
    let both = |words: &[&str], part: &str| {
        for mode in ["--verbose", "--p2p"] {
            let all: Vec<&str> = ["migrate", "vm", &uri, "--live", "--unsafe", mode]
                .into_iter()
                .chain(words.iter().copied())
                .collect();
            virsh.refused(&all, part);
        }
    };

    let taken = stored.replace("<name>vm<", "<name>taken<");
    there.ok(["define", &changed(&pair, &taken, UUID, other_uuid)]).unwrap();
    both(
        &["--dname", "taken"],
        &format!("operation failed: domain 'taken' already exists with uuid {other_uuid}"),
    );
    there.ok(["undefine", "taken"]).unwrap();

    there.ok(["define", &changed(&pair, &stored, "<name>vm<", "<name>other<")]).unwrap();
    both(&[], &format!("operation failed: domain 'other' is already defined with uuid {UUID}"));
    there.ok(["undefine", "other"]).unwrap();

    // A guest of that UUID runs there: it is not this one.
    let image = pair.lab().shared().join("own.img");
    ferry_testkit::boot_sector::write_image(&image).unwrap();
    let log = pair.lab().shared().join("own.log");
    let own = Domain::new("vm", Boot::Disk, Port::File(log)).disk(&image, "raw").uuid(UUID);
    let own = pair.write("own", &own).unwrap();
    there.ok(["create".as_ref(), own.as_os_str()]).unwrap();
    both(&[], "Requested operation is not valid: domain 'vm' is already active");
    assert_eq!(there.reason("vm"), "running (booted)");
    there.ok(["destroy", "vm"]).unwrap();
    pair.stayed("vm", &serial);
}

#[test]
fn the_hosts_side_of_a_definition_may_change_on_the_way() {
    let pair = pair();
    let (log, serial) = pair.listen("vm").unwrap();
    let image = pair.lab().shared().join("vm.img");
    let domain = Domain::boot_sector("vm", &image, &log)
        .unwrap()
        .device("<graphics type='vnc' port='5901' autoport='no' listen='127.0.0.1'/>")
        .device(
            "<interface type='bridge'><mac address='52:54:00:11:22:33'/><source bridge='br0'/></interface>",
        );
    if !pair.host(0).is_isolated() {
        eprintln!("a guest on a bridge needs hosts in namespaces");
        return;
    }
    pair.start("vm", domain).unwrap();
    serial.wait_beats(50, SOON).unwrap();
    // The same image under another path, as it may be mounted elsewhere.
    let elsewhere = pair.lab().shared().join("elsewhere.img");
    std::os::unix::fs::symlink(&image, &elsewhere).unwrap();
    pair.host(1).sh("ip link add br1 type bridge; ip link set br1 up").unwrap();
    let live = pair.virsh(0).ok(["dumpxml", "vm", "--migratable"]).unwrap();
    let wished = live
        .replace("port='5901'", "port='5907'")
        .replace("listen='127.0.0.1'", "listen='192.0.2.2'")
        .replace("address='127.0.0.1'", "address='192.0.2.2'")
        .replace("bridge='br0'", "bridge='br1'");
    let file = changed(&pair, &wished, image.to_str().unwrap(), elsewhere.to_str().unwrap());
    pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe", "--xml", &file]).unwrap();
    assert_eq!(pair.virsh(1).reason("vm"), "running (migrated)");
    serial.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
    let shown = pair.virsh(1).ok(["dumpxml", "vm"]).unwrap();
    for part in ["5907", "192.0.2.2", "br1", "elsewhere.img", "52:54:00:11:22:33"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(pair.listening(1).contains(&5907));
    serial.verdict().whole().unwrap();
}

#[test]
fn the_guests_side_of_a_definition_may_not() {
    let pair = pair();
    let (xml, serial) = definition(&pair);
    let (virsh, uri) = (pair.virsh(0), pair.uri(1));
    virsh.define_and_start("vm", &xml).unwrap();
    let live = virsh.ok(["dumpxml", "vm", "--migratable"]).unwrap();
    for (from, to, part) in [
        ("<name>vm<", "<name>nn<", "Target domain name 'nn' does not match source 'vm'"),
        (
            UUID,
            "22222222-2222-3333-4444-555555555555",
            "Target domain uuid 22222222-2222-3333-4444-555555555555 does not match source 11111111",
        ),
        ("32768", "65536", "Target domain max memory 65536 does not match source 32768"),
        (">1</vcpu>", ">2</vcpu>", "Target domain vCPU max 2 does not match source 1"),
        ("vda", "vdb", "Target disk vdb does not match source vda"),
        (
            "pc-q35-7.2",
            "pc-q35-7.1",
            "Target domain machine type pc-q35-7.1 does not match source pc-q35-7.2",
        ),
        ("<acpi/>", "", "State of feature 'acpi' differs: source: 'on', destination: 'default'"),
        (
            "</devices>",
            "<frobnicator/></devices>",
            "unsupported configuration: element 'devices/frobnicator'",
        ),
        ("</domain>", "", "(domain_definition):"),
    ] {
        let file = changed(&pair, &live, from, to);
        for mode in ["--verbose", "--p2p"] {
            virsh.refused(&["migrate", "vm", &uri, "--live", "--unsafe", "--xml", &file, mode], part);
        }
    }
    virsh.refused(
        &["migrate", "vm", &uri, "--live", "--unsafe", "--xml", "/nonexistent.xml"],
        "cannot read file '/nonexistent.xml'",
    );
    pair.stayed("vm", &serial);
}
