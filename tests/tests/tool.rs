//! The operator's tool against real daemons and real guests: what it does, what it says, and how it exits.

use std::fs;
use std::time::Duration;

use ferry_testkit::cache::Cache;
use ferry_testkit::command::Output;
use ferry_testkit::deadline::wait_until;
use ferry_testkit::guest::{Domain, LinuxImage, Work};
use ferry_testkit::lab::Lab;
use ferry_testkit::tools::EMULATOR;
use ferry_testkit::tree::{Launch, Tree};
use ferry_testkit::{programs, tree};
use ferry_tests::{BOOT, Pair, SOON};
use rustix::process::Signal;

/// Slow enough that a copy is under way for as long as a test looks at it.
const SLOW: [&str; 2] = ["--bandwidth", "4"];

/// The tool on a host, against that host's daemon by the folder that is its root.
fn words(pair: &Pair, number: usize, words: &[&str]) -> Vec<String> {
    let root = pair.daemon(number).root().display().to_string();
    ["-c".to_owned(), root].into_iter().chain(words.iter().map(|word| (*word).to_owned())).collect()
}

fn run(pair: &Pair, number: usize, what: &[&str]) -> Output {
    let ferry = programs::ferry().expect("the tool");
    pair.host(number).run(ferry, words(pair, number, what), SOON).expect("an end")
}

fn start(pair: &Pair, number: usize, what: &[&str]) -> Tree {
    let launch = Launch::new(programs::ferry().expect("the tool")).args(words(pair, number, what));
    pair.host(number).start(launch, "ferry").expect("a start")
}

fn said(tool: &Tree) -> String {
    fs::read_to_string(tool.log()).unwrap_or_default()
}

/// Checks exit code and that each part was said.
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let all = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}\n{all}", output.command);
    for part in parts {
        assert!(all.contains(part), "{part:?} is not in {all}");
    }
}

#[test]
fn a_guests_whole_life_by_the_tool_alone() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let (log, serial) = pair.listen("vm").unwrap();
    let image = pair.lab().shared().join("vm.img");
    let domain = Domain::boot_sector("vm", &image, log).unwrap().emulator(pair.emulator());
    let xml = domain.write(pair.lab().shared().join("vm.xml")).unwrap();

    let defined = run(&pair, 0, &["define", xml.to_str().unwrap()]).ok().unwrap();
    assert!(defined.starts_with("'vm' is defined ("), "{defined}");
    assert!(!run(&pair, 0, &["list"]).ok().unwrap().contains("vm"));
    assert!(run(&pair, 0, &["list", "--all"]).ok().unwrap().contains("vm    shut off"));
    assert_eq!(run(&pair, 0, &["start", "vm"]).ok().unwrap(), "'vm' runs with id 1");
    serial.wait_beats_on(pair.ear(0), 100, SOON).unwrap();

    let (there, back) = (pair.uri(1), pair.uri(0));
    let moved = run(&pair, 0, &["migrate", "vm", &there, "--unsafe"]);
    assert!(moved.stderr.contains("vm: preparing the destination"), "{}", moved.stderr);
    let line = moved.ok().unwrap();
    assert!(line.starts_with("'vm' moved to qemu+tcp://") && line.contains(": pause "), "{line}");
    assert!(run(&pair, 1, &["list"]).ok().unwrap().contains("running (migrated)"));
    serial.wait_beats_on(pair.ear(1), 100, SOON).unwrap();

    let moved = run(&pair, 1, &["migrate", "vm", &back, "--unsafe", "--p2p", "--json"]).ok().unwrap();
    for part in [r#""outcome":"moved""#, r#""coordination":"p2p""#, r#""total_ms":"#, r#""pause_ms":"#] {
        assert!(moved.contains(part), "{part} is not in {moved}");
    }
    serial.wait_beats_on(pair.ear(0), 100, SOON).unwrap();
    serial.verdict().whole().unwrap();
    assert_eq!(run(&pair, 0, &["stop", "vm", "--now"]).ok().unwrap(), "'vm' has ended");
    assert!(pair.daemon(0).qemus().is_empty() && pair.daemon(1).qemus().is_empty());
}

#[test]
fn refusals_keep_their_codes_and_say_what_to_do() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let here = pair.uri(0);
    refused(&run(&pair, 0, &["start", "nobody"]), 2, &["'nobody' [42/", "next:  `ferry list --all`"]);
    refused(&run(&pair, 0, &["migrate", "vm", "nowhere"]), 2, &["neither a URI nor the folder"]);
    refused(&run(&pair, 0, &["migrate", "vm", &here, "--offline"]), 2, &["--persistent"]);

    let _serial = pair.boot_sector("vm").unwrap();
    refused(&run(&pair, 0, &["migrate", "vm", &here]), 2, &["[81/10]", "disk vda", "shared_filesystems"]);
    let same = run(&pair, 0, &["migrate", "vm", &here, "--unsafe"]);
    refused(&same, 2, &["[1/10]", "guest: untouched on the source"]);
    let unreachable = format!("qemu+tcp://{}:1/system", pair.host(1).address());
    let direct = run(&pair, 0, &["migrate", "vm", &unreachable, "--json"]);
    refused(&direct, 2, &["[38/7]", "--listen-tcp", r#""outcome":"refused""#]);
    let peer = run(&pair, 0, &["migrate", "vm", &unreachable, "--p2p", "--unsafe"]);
    refused(&peer, 2, &["[38/7]", "guest: untouched on the source"]);
    let blind = run(&pair, 0, &["migrate", "vm", &unreachable, "--p2p", "--unsafe", "--no-plan"]);
    refused(&blind, 1, &["[38/7]", "guest: on the source: running"]);

    let shared = pair.lab().shared();
    let xml = fs::read_to_string(shared.join("vm.xml")).unwrap().replace("<devices>", "<devices><nonsense/>");
    fs::write(shared.join("odd.xml"), xml).unwrap();
    let odd = run(&pair, 0, &["define", shared.join("odd.xml").to_str().unwrap()]);
    refused(&odd, 2, &["unsupported configuration", "nonsense", "[67/"]);
    assert_eq!(pair.virsh(0).state("vm").unwrap(), "running");
}

#[test]
fn an_interrupted_migration_goes_on_at_the_source_and_the_power_button_ends_the_guest() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.linux("vm", Work::default()).unwrap();
    let tool = start(&pair, 0, &["migrate", "vm", &pair.uri(1), "--unsafe", SLOW[0], SLOW[1]]);
    wait_until("progress", SOON, || said(&tool).contains(" left at ")).unwrap();
    tool.signal(Signal::INT);
    assert_eq!(tool.wait_end(SOON).unwrap(), "exit code 1", "{}", said(&tool));
    for part in ["calling the migration off", "[78/10]", "guest: on the source: running"] {
        assert!(said(&tool).contains(part), "{part:?} is not in {}", said(&tool));
    }
    serial.wait_beats_on(pair.ear(0), 100, SOON).unwrap();
    assert!(pair.daemon(1).qemus().is_empty());

    assert_eq!(run(&pair, 0, &["stop", "vm"]).ok().unwrap(), "'vm' has ended");
    serial.verdict().whole().unwrap();
}

#[test]
fn a_source_that_goes_away_leaves_a_doubt_and_never_a_failure() {
    let mut pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.linux("vm", Work::default()).unwrap();
    let tool = start(&pair, 0, &["migrate", "vm", &pair.uri(1), "--p2p", "--unsafe", SLOW[0], SLOW[1]]);
    wait_until("progress", SOON, || said(&tool).contains(" left at ")).unwrap();
    pair.daemon(0).kill().unwrap();
    // It looks for a while whether the host comes back.
    assert_eq!(tool.wait_end(SOON * 2).unwrap(), "exit code 3", "{}", said(&tool));
    for part in ["IN DOUBT. Source: no answer", "start it nowhere by hand"] {
        assert!(said(&tool).contains(part), "{part:?} is not in {}", said(&tool));
    }
    pair.daemon_mut(0).start_again().unwrap();
    serial.wait_beats(100, SOON).unwrap();
    serial.verdict().whole().unwrap();
}

/// The demonstration in a tree of its own, so that whatever it leaves behind is seen.
fn demo() -> (Lab, Tree) {
    let tools = Pair::distribution();
    let lab = Lab::best(&[("h1", &tools)]).expect("a host");
    let image = Cache::open().and_then(|cache| LinuxImage::ready(&cache)).expect("a guest");
    let host = lab.host(0);
    let emulator = tools.emulator().map_or_else(|| host.tool(EMULATOR), std::path::Path::to_path_buf);
    let ferryd = programs::ferryd().expect("the daemon");
    let launch = Launch::new(programs::ferry().expect("the tool"))
        .args(["demo".as_ref(), "--kernel".as_ref(), image.kernel.as_os_str()])
        .args(["--initrd".as_ref(), image.initrd.as_os_str(), "--emulator".as_ref(), emulator.as_os_str()])
        .args(["--ferryd".as_ref(), ferryd.as_os_str()])
        .env("TMPDIR", lab.shared());
    let tree = host.start(launch, "demo").expect("a start");
    (lab, tree)
}

fn left_nothing(lab: &Lab, demo: &Tree) {
    assert_eq!(demo.living(), [0_u32; 0], "{}", said(demo));
    let folders = fs::read_dir(lab.shared()).expect("the lab's folder").flatten();
    let left = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("ferry-")).count();
    assert_eq!(left, 0, "{}", said(demo));
}

#[test]
fn the_demonstration_ends_with_a_whole_guest_and_leaves_nothing() {
    let (lab, demo) = demo();
    let end = demo.wait_end(BOOT * 2).unwrap();
    assert_eq!(end, "exit code 0", "{}", tree::tail(demo.log(), 60));
    for part in ["a → b, coordinated by ferry", "b → a, peer to peer", "where it began", "noticed nothing"]
    {
        assert!(said(&demo).contains(part), "{part:?} is not in {}", said(&demo));
    }
    left_nothing(&lab, &demo);
}

#[test]
fn a_demonstration_that_is_interrupted_leaves_nothing() {
    let (lab, demo) = demo();
    wait_until("a guest that runs", BOOT, || said(&demo).contains("2  A Linux guest")).unwrap();
    demo.signal(Signal::INT);
    assert_eq!(demo.wait_end(Duration::from_secs(60)).unwrap(), "exit code 1");
    left_nothing(&lab, &demo);
}
