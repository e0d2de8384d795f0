//! What a host refuses to let go, and says why: disks that the other host does not see, and whatever else cannot move.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::process::Command;

use ferry_testkit::command::Output;
use ferry_testkit::ferryd::Options;
use ferry_testkit::programs;
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

/// The operator's tool, on a host and for its daemon.
fn ferry(pair: &Pair, number: usize, words: &[&str]) -> Output {
    let root = pair.daemon(number).root().display().to_string();
    let words = ["-c", &root].into_iter().chain(words.iter().copied()).map(str::to_owned);
    pair.host(number).run(programs::ferry().unwrap(), words.collect::<Vec<_>>(), SOON).unwrap()
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
        let told = ferry(&pair, number, &["history"]).ok().unwrap();
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
    let planned = ferry(&pair, 0, &words);
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
    let told = ferry(&pair, 0, &[&words[..], &["--json"]].concat());
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&told["would_go"], told["findings"].as_array().unwrap().len()), (&json!(false), 5), "{told}");

    end_job(&pair);
    qemu(&pair, "blockdev-del", &json!({"node-name": "extra"}));
    pair.virsh(1).ok(["undefine", "vm"]).unwrap();
    let planned = ferry(&pair, 0, &["plan", "vm", &there, "--unsafe"]);
    assert_eq!(planned.stdout.matches("nothing stands in the way").count(), 2, "{}", planned.stdout);
    assert_eq!(planned.status.code(), Some(0), "{}", planned.stderr);
    pair.stayed("vm", &serial);

    let here = ferry(&pair, 0, &["plan", "vm", &pair.uri(0), "--unsafe"]);
    assert!(here.stdout.contains("Attempt to migrate guest to the same host"), "{}", here.stdout);
}
