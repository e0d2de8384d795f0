//! What a host refuses to let go, and says why: disks that the other host does not see, and whatever else cannot move.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::process::Command;

use ferry_testkit::ferryd::Options;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};
use serde_json::{Value, json};

/// Stock's words for a disk that the other host does not see.
const NOT_SHARED: &str = "Unsafe migration: Migration without shared storage is unsafe";

/// QEMU's words for what [`hold`] gives it.
const BLOCKER: &str =
    "cannot migrate domain: The vdi format used by node 'extra' does not support live migration";

/// Two hosts; the first one's operator says that what the tests write to is seen by both.
fn pair_with_shared_folder() -> Pair {
    let tools = Pair::distribution();
    let config = format!("shared_filesystems = [{:?}]\n", std::env::temp_dir().display().to_string());
    Pair::with([&tools; 2], [Options { config: Some(config), ..Options::default() }, Options::default()])
        .unwrap()
}

fn migrate(pair: &Pair, from: usize, words: &[&str]) -> Vec<String> {
    let there = pair.uri(1 - from);
    ["migrate", "vm", &there].into_iter().chain(words.iter().copied()).map(str::to_owned).collect()
}

/// Refused with every part in what is said.
fn refused(pair: &Pair, words: &[&str], parts: &[&str]) {
    let all = migrate(pair, 0, words);
    let said = pair.virsh(0).refusal(&all.iter().map(String::as_str).collect::<Vec<_>>());
    for part in parts {
        assert!(said.contains(part), "{words:?}: {part:?} is not in {said}");
    }
}

/// Asks QEMU itself.
fn qemu(pair: &Pair, command: &str, arguments: &Value) -> Value {
    let text = json!({"execute": command, "arguments": arguments}).to_string();
    let answer = pair.virsh(0).ok(["qemu-monitor-command", "vm", &text]).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer.get("return").is_some(), "{command}: {answer}");
    answer["return"].clone()
}

#[test]
fn a_disk_that_only_this_host_sees_keeps_its_guest_here_unless_somebody_answers_for_it() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    for words in [&["--live"][..], &["--live", "--p2p"], &[], &["--live", "--persistent", "--undefinesource"]]
    {
        refused(&pair, words, &[NOT_SHARED, "disk vda", "vm.img is on "]);
        pair.stayed("vm", &serial);
    }
    pair.virsh(0).ok(migrate(&pair, 0, &["--live", "--unsafe"])).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    for number in [0, 1] {
        let told = pair.ferry(number, &["history"]).ok().unwrap();
        assert!(told.contains("guarantee: proven; disks not checked (--unsafe)"), "{told}");
    }
}

#[test]
fn a_tree_that_the_operator_declares_is_shared_as_far_as_he_declares_it() {
    let pair = pair_with_shared_folder();
    let serial = pair.boot_sector("vm").unwrap();
    pair.virsh(0).ok(migrate(&pair, 0, &["--live"])).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    // Nobody has told the other host.
    pair.virsh(1).refused(&["migrate", "vm", &pair.uri(0), "--live", "--p2p"], NOT_SHARED);
    serial.wait_beats_on(pair.ear(1), 20, SOON).unwrap();
}

#[test]
fn a_disk_that_is_only_read_and_an_empty_drive_hold_nobody() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain).unwrap();
    let text = fs::read_to_string(&xml).unwrap();
    let drive = "<disk type='file' device='cdrom'><target dev='sdz' bus='scsi'/></disk>";
    let text = text.replacen("</disk>", &format!("<readonly/></disk>{drive}"), 1);
    fs::write(&xml, text).unwrap();
    pair.virsh(0).ok(["create".as_ref(), xml.as_os_str()]).unwrap();
    serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
    for mode in [&["--live"][..], &["--live", "--p2p"]] {
        let (from, to) = if mode.len() == 1 { (0, 1) } else { (1, 0) };
        pair.virsh(from).ok(migrate(&pair, from, mode)).unwrap();
        serial.wait_beats_on(pair.ear(to), 20, SOON).unwrap();
    }
}

/// Gives the guest what QEMU does not migrate, and a block job that is active.
fn hold(pair: &Pair) {
    let image = pair.lab().shared().join("extra.vdi");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "vdi"]).arg(&image).arg("1M").status();
    assert!(made.unwrap().success());
    let file = json!({"driver": "file", "filename": image});
    qemu(pair, "blockdev-add", &json!({"driver": "vdi", "node-name": "extra", "file": file}));
    qemu(pair, "blockdev-add", &json!({"driver": "null-co", "node-name": "from", "size": 1 << 20}));
    qemu(pair, "blockdev-add", &json!({"driver": "null-co", "node-name": "to", "size": 1 << 20}));
    let mirror = json!({"job-id": "copy", "device": "from", "target": "to", "sync": "full"});
    qemu(pair, "blockdev-mirror", &mirror);
}

fn end_job(pair: &Pair) {
    qemu(pair, "block-job-cancel", &json!({"device": "copy", "force": true}));
    let nobody = || qemu(pair, "query-block-jobs", &json!({})) == json!([]);
    ferry_testkit::deadline::wait_until("the job's end", SOON, nobody).unwrap();
}

/// QEMU's own blocker, a block job and a disk, told at once; each alone when the others are gone.
#[test]
fn every_obstacle_is_named_at_once() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    hold(&pair);
    let job = "Requested operation is not valid: domain has active block job";
    refused(&pair, &["--live"], &[job, &format!("; also: {BLOCKER}"), &format!("; also: {NOT_SHARED}")]);
    refused(&pair, &["--live", "--p2p", "--unsafe"], &[job, BLOCKER]);
    pair.stayed("vm", &serial);

    end_job(&pair);
    refused(&pair, &["--live", "--unsafe"], &[&format!("Requested operation is not valid: {BLOCKER}")]);
    qemu(&pair, "blockdev-del", &json!({"node-name": "extra"}));
    pair.virsh(0).ok(migrate(&pair, 0, &["--live", "--unsafe"])).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}

/// Three problems on the source and two on the destination, in one answer; and none when there are none.
#[test]
fn a_plan_names_what_both_hosts_have_against_it_and_begins_nothing() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let there = pair.uri(1);
    hold(&pair);
    // Another guest has the name there, and the disk is to be where there is none.
    let other = pair.write("other", &pair.sector("vm").unwrap().0).unwrap();
    pair.virsh(1).ok(["define".as_ref(), other.as_os_str()]).unwrap();
    let xml = pair.virsh(0).ok(["dumpxml", "vm", "--migratable"]).unwrap();
    let moved = pair.lab().shared().join("moved.xml");
    fs::write(&moved, xml.replace("vm.img", "nowhere.img")).unwrap();

    let words = ["plan", "vm", &there, "--xml", moved.to_str().unwrap()];
    let planned = pair.ferry(0, &words);
    assert_eq!(planned.status.code(), Some(2), "{}{}", planned.stdout, planned.stderr);
    for part in [
        "domain has active block job [55]\n    remedy: ",
        &format!("{BLOCKER} [55]\n    remedy: "),
        &format!("{NOT_SHARED} (disk vda: "),
        "domain 'vm' already exists with uuid",
        "nowhere.img",
        "guarantee: ",
    ] {
        assert!(planned.stdout.contains(part), "{part:?} is not in {}", planned.stdout);
    }
    assert!(planned.stderr.contains("5 problems"), "{}", planned.stderr);
    let told = pair.ferry(0, &[&words[..], &["--json"]].concat());
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&told["would_go"], told["findings"].as_array().unwrap().len()), (&json!(false), 5), "{told}");

    end_job(&pair);
    qemu(&pair, "blockdev-del", &json!({"node-name": "extra"}));
    pair.virsh(1).ok(["undefine", "vm"]).unwrap();
    let planned = pair.ferry(0, &["plan", "vm", &there, "--unsafe"]);
    assert_eq!(planned.stdout.matches("nothing stands in the way").count(), 2, "{}", planned.stdout);
    assert_eq!(planned.status.code(), Some(0), "{}", planned.stderr);
    pair.stayed("vm", &serial);

    let here = pair.ferry(0, &["plan", "vm", &pair.uri(0), "--unsafe"]);
    assert!(here.stdout.contains("Attempt to migrate guest to the same host"), "{}", here.stdout);
}

/// Two hosts that see one data file, and have an image of their own for it under the same path.
struct Split {
    pair: Pair,
    serial: ferry_testkit::serial::Serial,
}

/// The images of [`Split`].
const OWN: &str = "/run/own/vm.qcow2";

impl Split {
    /// `None` where the hosts have one file system between them.
    fn new(raw: &str) -> Option<Split> {
        let tools = Pair::distribution();
        let config = format!("shared_filesystems = [{:?}]\n", std::env::temp_dir().display().to_string());
        let options = Options { config: Some(config), ..Options::default() };
        let pair = Pair::with([&tools; 2], [options.clone(), options]).unwrap();
        if !pair.host(0).is_isolated() {
            eprintln!("images of each host's own need hosts in namespaces");
            return None;
        }
        let (log, serial) = pair.listen("vm").unwrap();
        let data = pair.lab().shared().join("vm.raw");
        // Making an image empties its data file: the guest's sector is written last.
        let make = |number: usize, path: &str, size: &str| {
            let words = format!(
                "mkdir -p /run/own; qemu-img create -q -f qcow2 -o data_file='{}',data_file_raw={raw} {path} {size}",
                data.display()
            );
            pair.host(number).sh(&words).unwrap();
        };
        make(0, OWN, "1M");
        make(1, "/run/own/larger", "2M");
        make(1, "/run/own/equal", "1M");
        make(1, "/run/own/marked", "1M");
        pair.host(1).sh("qemu-img bitmap --add -g 64k /run/own/marked b0").unwrap();
        let sector = pair.lab().shared().join("sector");
        ferry_testkit::boot_sector::write_image(&sector).unwrap();
        let fill = format!(
            "qemu-img bitmap --add -g 64k {OWN} b0
             qemu-io -c 'write -q -s {} 0 512' -c 'write -q 128k 64k' {OWN}",
            sector.display()
        );
        pair.host(0).sh(&fill).unwrap();
        let boot = ferry_testkit::guest::Boot::Disk;
        let port = ferry_testkit::guest::Port::File(log);
        let domain = ferry_testkit::guest::Domain::new("vm", boot, port).disk(OWN, "qcow2");
        pair.start("vm", domain).unwrap();
        serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
        Some(Split { pair, serial })
    }

    /// Puts one of the second host's images in place.
    fn place(&self, name: &str) {
        self.pair.host(1).sh(&format!("cp /run/own/{name} {OWN}")).unwrap();
    }

    /// How many bytes the guest's bitmap on this host calls dirty, and whether it would be stored.
    fn bitmap(&self, number: usize) -> (u64, bool) {
        let text = json!({"execute": "query-named-block-nodes", "arguments": {"flat": true}}).to_string();
        let answer = self.pair.virsh(number).ok(["qemu-monitor-command", "vm", &text]).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let nodes = answer["return"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["drv"] == "qcow2").unwrap();
        let bitmap = node["dirty-bitmaps"].as_array().and_then(|bitmaps| bitmaps.first());
        let bitmap = bitmap.expect("a bitmap");
        assert_eq!(bitmap["name"], "b0");
        (bitmap["count"].as_u64().unwrap(), bitmap["persistent"] == true)
    }
}

/// What the guest reads and writes is in the data file; the image's bitmaps go along, there and back.
#[test]
fn an_image_beside_a_raw_data_file_need_not_be_shared() {
    let Some(split) = Split::new("on") else { return };
    let (pair, serial) = (&split.pair, &split.serial);
    refused(pair, &["--live"], &["No such file or directory"]);
    split.place("larger");
    for mode in ["--verbose", "--p2p"] {
        let part =
            "the image on the destination does not fit the source's: its size is 2097152 bytes, not 1048576)";
        refused(pair, &["--live", mode], &[NOT_SHARED, "disk vda", part]);
        let plan = ["plan", "vm", &pair.uri(1), "--no-prediction"];
        let planned = pair.ferry(0, &[&plan[..], &["--p2p"][..usize::from(mode == "--p2p")]].concat());
        assert!(
            planned.stdout.contains(part) && planned.stdout.contains("an image of the same size"),
            "{planned:?}"
        );
        assert_eq!(planned.status.code(), Some(2), "{planned:?}");
        let trusted = pair.ferry(0, &[&plan[..], &["--unsafe"]].concat());
        assert_eq!(trusted.status.code(), Some(0), "{trusted:?}");
    }
    split.place("marked");
    refused(pair, &["--live"], &[NOT_SHARED, "it has a bitmap 'b0' of its own"]);
    split.place("equal");
    let planned = pair.ferry(0, &["plan", "vm", &pair.uri(1), "--no-prediction"]);
    assert_eq!(planned.status.code(), Some(0), "{planned:?}");
    pair.stayed("vm", serial);
    assert_eq!(split.bitmap(0), (131_072, true));

    for (from, mode) in [(0, "--verbose"), (1, "--p2p"), (0, "--p2p")] {
        pair.virsh(from).ok(migrate(pair, from, &["--live", mode])).unwrap();
        pair.moved(from, "vm", "running (migrated)", serial);
        assert_eq!(split.bitmap(1 - from), (131_072, true), "on its way from {from}");
    }
}

/// QEMU forgets to store what it has begun to send: what stays here is stored all the same.
#[test]
fn bitmaps_that_were_not_sent_in_the_end_are_kept() {
    let Some(split) = Split::new("on") else { return };
    let (pair, serial) = (&split.pair, &split.serial);
    split.place("equal");
    let copy = pair.slow_copy("vm", &[]).unwrap();
    pair.virsh(0).ok(["domjobabort", "vm"]).unwrap();
    assert!(copy.wait_end(SOON).unwrap() != "exit code 0");
    pair.stayed("vm", serial);
    assert_eq!(split.bitmap(0), (131_072, true));
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();
    let told = pair.host(0).sh(&format!("qemu-img info --output=json {OWN}")).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let bitmaps = told["format-specific"]["data"]["bitmaps"].as_array().unwrap();
    assert_eq!(bitmaps.len(), 1, "{told}");
    assert_eq!((&bitmaps[0]["name"], &bitmaps[0]["flags"]), (&json!("b0"), &json!(["auto"])), "{told}");
}

/// Without `data_file_raw` the image says where in the data file what lies.
#[test]
fn an_image_that_maps_its_data_file_must_be_shared_as_well() {
    let Some(split) = Split::new("off") else { return };
    split.place("equal");
    for mode in ["--verbose", "--p2p"] {
        refused(&split.pair, &["--live", mode], &[NOT_SHARED, "disk vda: /run/own/vm.qcow2 is on tmpfs"]);
    }
    split.pair.stayed("vm", &split.serial);
}
