//! A migration that is only thought of: what `ferry plan` says of two real hosts, and that nothing comes of asking.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::proto::{
    Cookie, DomainLookupByName, DomainMigrateBegin3, DomainMigratePrepare3, PlanArriving, PlanArrivingReply,
    PlanGuest, PlanLeaving, PlanLeavingReply,
};
use ferry_rpc::{ParamValue, TypedParam};
use ferry_testkit::command::Output;
use ferry_testkit::ferryd::{Ferryd, Options};
use ferry_testkit::guest::Domain;
use ferry_testkit::lab::Lab;
use ferry_testkit::programs;
use ferry_testkit::serial::Serial;
use ferry_testkit::stock::Libvirtd;
use ferry_testkit::virsh::Virsh;
use ferry_tests::wire::Wire;
use ferry_tests::{Pair, SOON};
use serde_json::{Value, json};

/// Two hosts that see each other's images; `there` is more of the second one's configuration.
fn pair(there: &str) -> Pair {
    let tools = Pair::distribution();
    let shared = format!("shared_filesystems = [{:?}]\n", std::env::temp_dir().display().to_string());
    let options = |more: &str| Options { config: Some(format!("{more}{shared}")), ..Options::default() };
    Pair::with([&tools; 2], [options(""), options(there)]).unwrap()
}

/// A guest of 256 MiB on the first host: below 128 MiB QEMU does not sample.
fn boot(pair: &Pair) -> Serial {
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain.memory_mib(256)).unwrap();
    pair.virsh(0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
    serial
}

/// The operator's tool on the first host.
fn ferry(pair: &Pair, words: &[&str]) -> Output {
    let root = pair.daemon(0).root().display().to_string();
    let words: Vec<_> = ["-c", &root].into_iter().chain(words.iter().copied()).map(str::to_owned).collect();
    pair.host(0).run(programs::ferry().unwrap(), words, SOON).unwrap()
}

fn parsed(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// What a daemon keeps, by name and size; its log and the store's own working files grow by themselves.
fn kept(daemon: &Ferryd) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = vec![daemon.host().seen(daemon.root())];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() {
                open.push(path);
            } else if !["log", "-wal", "-shm"].iter().any(|end| name.ends_with(end)) {
                let size = if kind.is_file() { entry.metadata().unwrap().len() } else { 0 };
                found.push((path, size));
            }
        }
    }
    found.sort();
    found
}

/// TCP ports of the migration range on which somebody listens on a host.
fn listening(pair: &Pair, number: usize) -> Vec<u16> {
    let tables = pair.host(number).sh("cat /proc/net/tcp /proc/net/tcp6").unwrap();
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let number = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (state == "0A" && (49152..=49215).contains(&number)).then_some(number)
    };
    tables.lines().filter_map(port).collect()
}

/// All of it: what is said, that the guest does not notice, that nothing is left, and that both ways of asking agree. Then
/// the migration that follows keeps what was predicted.
#[test]
fn a_plan_says_what_will_be_and_nothing_comes_of_it() {
    let pair = pair("");
    let serial = boot(&pair);
    let there = pair.uri(1);
    // What is made once and kept, such as what QEMU can do, is made now.
    ferry(&pair, &["plan", "vm", &there, "--no-prediction"]).ok().unwrap();
    let before = [0, 1].map(|number| kept(pair.daemon(number)));
    let mark = serial.mark();
    let told = ferry(&pair, &["plan", "vm", &there]).ok().unwrap();
    for part in [
        "source:\n  nothing stands in the way\n",
        "destination qemu+tcp://",
        "disks:\n  vda image ",
        "(shared), cache none: safe: QEMU drops its cache",
        "devices: ",
        "guarantee: proven",
        "prediction: copy ",
        ", pause ",
        " of 256.0 MiB in use, ",
        "got across in a short probe, no earlier copy between these hosts",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    for way in [&["plan", "vm", &there, "--json"][..], &["plan", "vm", &there, "--p2p", "--json"]] {
        let told = parsed(&ferry(&pair, way));
        assert_eq!((&told["would_go"], &told["findings"]), (&json!(true), &json!([])), "{told}");
        assert_eq!((&told["disks"][0]["disk"], &told["disks"][0]["safe"]), (&json!("vda"), &json!(true)));
        assert!(
            told["devices"]
                .as_array()
                .unwrap()
                .iter()
                .any(|device| { device.as_str().unwrap().starts_with("virtio-blk-pci at bus=pci") })
        );
        assert!(told["clock_skew_us"]["ahead"].as_i64().unwrap().abs() < 200_000, "one clock: {told}");
        let predicted = &told["prediction"];
        assert_eq!(
            (&predicted["end"], &predicted["guest"]["total"]),
            (&json!("converges"), &json!(256 << 20))
        );
        assert!(predicted["guest"]["used"].as_u64().unwrap() < 64 << 20, "nearly all is still zero: {told}");
        assert!(predicted["probed"].as_u64().unwrap() > 1 << 20, "{told}");
        assert!(predicted["copy_ms"]["expected"].as_u64().unwrap() < 5000, "{told}");
    }
    // Neither state nor files nor ports, and the guest ran on.
    pair.is_clean(1, "vm");
    assert_eq!(before, [0, 1].map(|number| kept(pair.daemon(number))));
    assert_eq!(listening(&pair, 1), [0; 0]);
    serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
    let verdict = serial.verdict_since(mark);
    verdict.whole().unwrap();
    assert!(verdict.longest_pause() < Duration::from_millis(500), "{:?}", verdict.longest_pause());

    // The last plan goes into the history of the migration that follows, on the host that made it.
    let moved = parsed(&ferry(&pair, &["migrate", "vm", &there, "--json", "--quiet"]));
    assert_eq!((&moved["outcome"], &moved["findings"]), (&json!("moved"), &json!([])), "{moved}");
    pair.moved(0, "vm", "running (migrated)", &serial);
    let history = parsed(&ferry(&pair, &["history", "vm", "--limit", "1", "--json"]));
    let figures = &history["statistics"];
    assert!(figures["predicted"]["copy_ms"]["expected"].is_u64() && figures["copy_ms"].is_u64(), "{history}");
    let shown = ferry(&pair, &["history", "vm", "--limit", "1"]).ok().unwrap();
    assert!(shown.contains("\n  predicted: copy ") && shown.contains("; measured: copy "), "{shown}");
}

/// The destination's name leads the source to itself: a plan finds out, and so does a migration, before it begins.
#[test]
fn a_way_that_leads_nowhere_is_found_before_anything_is_begun() {
    let pair = pair("migration_host = \"127.0.0.1\"\n");
    if !pair.host(0).is_isolated() {
        eprintln!("on one loopback every name leads to the destination");
        return;
    }
    let serial = boot(&pair);
    let there = pair.uri(1);
    let planned = ferry(&pair, &["plan", "vm", &there, "--no-prediction"]);
    assert_eq!(planned.status.code(), Some(2), "{planned:?}");
    for part in [
        "between the two:\n  - operation failed: the source cannot connect to tcp:127.0.0.1:4915",
        "Connection refused [9]\n    remedy: open the destination's migration ports",
    ] {
        assert!(planned.stdout.contains(part), "{part:?} is not in {}", planned.stdout);
    }
    for way in [&[][..], &["--p2p"]] {
        let words = [&["migrate", "vm", &there][..], way].concat();
        let refused = ferry(&pair, &words);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let part = "the source cannot connect to tcp:127.0.0.1:4915";
        assert!(refused.stderr.contains(part) && refused.stderr.contains("migration_host"), "{refused:?}");
        let told = parsed(&ferry(&pair, &[&words[..], &["--json"]].concat()));
        assert_eq!((&told["outcome"], &told["findings"][0]["host"]), (&json!("refused"), &json!("between")));
    }
    // Nobody came to the door; it closes by itself.
    ferry_testkit::deadline::wait_until("the door's end", SOON, || listening(&pair, 1).is_empty()).unwrap();
    pair.stayed("vm", &serial);
    assert_eq!(ferry(&pair, &["history", "vm"]).ok().unwrap(), "", "nothing was begun");
    // With another way named it goes.
    let uri = format!("tcp:{}", pair.host(1).address());
    let words = ["migrate", "vm", &there, "--migrateuri", &uri, "--predict"];
    let moved = ferry(&pair, &words).ok().unwrap();
    assert!(moved.contains("moved to"), "{moved}");
    pair.moved(0, "vm", "running (migrated)", &serial);
}

#[test]
fn a_range_without_a_free_port_is_found_and_the_door_takes_the_next_free_one() {
    let pair = pair("migration_port_min = 49700\nmigration_port_max = 49701\n");
    let _serial = boot(&pair);
    let there = pair.uri(1);
    let words = ["plan", "vm", &there, "--no-prediction", "--json"];
    let hold = |port| pair.host(1).listen((pair.host(1).address(), port).into()).unwrap();
    let _first = hold(49700);
    assert_eq!(parsed(&ferry(&pair, &words))["would_go"], json!(true), "the second port is free");
    let second = hold(49701);
    let told = parsed(&ferry(&pair, &words));
    let text = "Unable to find an unused port in range 'migration' (49700-49701)";
    assert!(told["findings"][0]["text"].as_str().unwrap().contains(text), "{told}");
    assert_eq!((&told["would_go"], &told["findings"][0]["host"]), (&json!(false), &json!("destination")));
    drop(second);
    assert_eq!(parsed(&ferry(&pair, &words))["would_go"], json!(true));
}

/// What the look before a migration costs the operator, in wall time of the tool. A figure for people, not a bound.
#[test]
#[ignore = "measures: run it by name, on an idle machine"]
fn what_the_look_beforehand_adds() {
    let pair = pair("");
    let serial = boot(&pair);
    let mut took = [Vec::new(), Vec::new()];
    for run in 0..14 {
        // With and without it by turns, and either of them in both directions.
        let (here, there, blind) = (run % 2, (run + 1) % 2, (run / 2 + run) % 2);
        let (root, uri) = (pair.daemon(here).root().display().to_string(), pair.uri(there));
        let words = ["-c", &root, "migrate", "vm", &uri, "--quiet", "--no-plan"].map(str::to_owned);
        let words = words.into_iter().take(7 - usize::from(blind == 0));
        let began = Instant::now();
        pair.host(here).run(programs::ferry().unwrap(), words, SOON).unwrap().ok().unwrap();
        took[blind].push(began.elapsed());
        serial.wait_beats_on(pair.ear(there), 20, SOON).unwrap();
    }
    for (name, took) in ["with the look", "--no-plan"].iter().zip(&mut took) {
        took.sort_unstable();
        let [least, middle, most] = [0, took.len() / 2, took.len() - 1].map(|at| took[at].as_millis());
        println!("{name}: median {middle} ms, {least} to {most} ms, {} runs", took.len());
    }
}

/// What the source says of a guest, and a question to the destination about it.
struct Asking {
    wires: [Wire; 2],
    leaving: PlanLeavingReply,
}

impl Asking {
    fn new(pair: &Pair) -> Self {
        let mut wires = [0, 1].map(|number| Wire::open(pair.daemon(number)));
        let domain = wires[0].ask(&DomainLookupByName { name: "vm".to_owned() }).unwrap();
        let call = PlanLeaving { domain, params: Vec::new(), flags: MigrateFlags::LIVE };
        let leaving = wires[0].ask(&call).unwrap();
        Self { wires, leaving }
    }

    fn arriving(&mut self, xml: &str, guest: PlanGuest) -> PlanArrivingReply {
        let params = vec![TypedParam::new("destination_xml", ParamValue::String(xml.to_owned()))];
        let call = PlanArriving { params, flags: MigrateFlags::LIVE, guest, opens_door: false };
        self.wires[1].ask(&call).unwrap()
    }

    /// Severity and text of what is found about a changed definition or guest.
    fn found(&mut self, xml: &str, guest: PlanGuest) -> Vec<(bool, String)> {
        let reply = self.arriving(xml, guest);
        reply.findings.into_iter().map(|finding| (finding.warns, finding.message)).collect()
    }
}

/// Each of what must fit, with a definition or a guest in which it alone does not. At Prepare the same is refused.
#[test]
fn what_does_not_fit_is_named_and_refused_at_prepare() {
    let pair = pair("");
    let serial = boot(&pair);
    let mut asking = Asking::new(&pair);
    let (xml, guest) = (asking.leaving.xml.clone().unwrap(), asking.leaving.guest.clone());
    assert_eq!(asking.found(&xml, guest.clone()), [], "it fits");

    // QEMU would load the guest into a machine with one device more without a word.
    let mut fewer = guest.clone();
    let gone = fewer.devices.pop().unwrap();
    let more = format!(
        "unsupported configuration: the destination would build a device that the guest does not have: {gone}"
    );
    assert_eq!(asking.found(&xml, fewer), [(false, more.clone())]);
    let mut longer = guest.clone();
    longer.devices.push("usb-tablet at bus=usb.0 port=1".to_owned());
    let less = "the destination would not build a device that the guest has: usb-tablet at bus=usb.0 port=1";
    assert!(asking.found(&xml, longer)[0].1.ends_with(less));

    // A feature that the guest has and emulation here does not give; unless the source does not give it either.
    let wishful = xml.replace("</cpu>", "<feature policy='require' name='avx512f'/></cpu>");
    assert_ne!(wishful, xml);
    let missing = "operation failed: guest CPU doesn't match specification: missing features: avx512f";
    assert_eq!(asking.found(&wishful, guest.clone()), [(false, missing.to_owned())]);
    let lacks = PlanGuest { lacks: vec!["avx512f".to_owned()], ..guest.clone() };
    assert_eq!(asking.found(&wishful, lacks), []);

    // More memory than the kernel would map, and more than is free.
    let of = |kib: u64| xml.replace("262144</", &format!("{kib}</"));
    let huge = asking.found(&of(1 << 40), guest.clone());
    assert!(
        !huge[0].0 && huge[0].1.contains("cannot set up guest memory: Cannot allocate memory"),
        "{huge:?}"
    );
    let available = fs::read_to_string("/proc/meminfo").unwrap();
    let kib = |key: &str| {
        let line = available.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let between = kib("MemTotal:").midpoint(kib("MemAvailable:"));
    let tight = asking.found(&of(between), guest);
    assert!(tight[0].0 && tight[0].1.contains("MiB are free on the destination"), "{tight:?}");

    // The same at Prepare, where the source's word is in the cookie.
    let [source, destination] = &mut asking.wires;
    let domain = source.ask(&DomainLookupByName { name: "vm".to_owned() }).unwrap();
    let begin = DomainMigrateBegin3 {
        domain,
        xml: None,
        flags: MigrateFlags::LIVE.bits().into(),
        destination_name: None,
        bandwidth: 0,
    };
    let begun = source.ask(&begin).unwrap();
    let text = String::from_utf8(begun.cookie.0.clone()).unwrap();
    let line = format!("    <ferry:device>{gone}</ferry:device>\n");
    assert_eq!(text.matches(&line).count(), 1, "{text}");
    let mut prepare = |cookie: Vec<u8>, xml: &str| {
        let call = DomainMigratePrepare3 {
            cookie: Cookie(cookie),
            uri: None,
            flags: MigrateFlags::LIVE.bits().into(),
            destination_name: None,
            bandwidth: 0,
            xml: xml.to_owned(),
        };
        destination.ask(&call).map(drop).unwrap_err().message
    };
    assert_eq!(prepare(text.replace(&line, "").into_bytes(), &xml), more);
    let huge = prepare(begun.cookie.0.clone(), &of(1 << 40));
    assert!(huge.contains("cannot set up guest memory: Cannot allocate memory"), "{huge}");
    assert_eq!(prepare(begun.cookie.0, &wishful), missing);
    pair.stayed("vm", &serial);
}

/// A stock destination is asked what its ordinary calls tell, and what they do not is named.
#[test]
fn of_a_stock_destination_is_told_what_can_be_known() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("stock libvirt needs hosts in namespaces");
        return;
    }
    let tools = Pair::distribution();
    let lab = Lab::new(&[("h1", &tools), ("h2", &tools)]).unwrap();
    let config = format!("shared_filesystems = [{:?}]\n", std::env::temp_dir().display().to_string());
    let options = Options { config: Some(config), ..Options::default() };
    let (source, stock) =
        (Ferryd::start(lab.host(0), options).unwrap(), Libvirtd::start(lab.host(1)).unwrap());
    let image = lab.shared().join("vm.img");
    let domain = Domain::boot_sector("vm", &image, "/run/vm.log").unwrap().emulator(lab.host(0).emulator());
    let xml = domain.write(lab.shared().join("vm.xml")).unwrap();
    Virsh::new(lab.host(0), source.uri()).define_and_start("vm", &xml).unwrap();
    let root = source.root().display().to_string();
    let plan = |words: &[&str]| {
        let uri = stock.tcp_uri();
        let all = ["-c", &root, "plan", "vm", &uri, "--no-prediction"].map(str::to_owned);
        let words: Vec<_> = all.into_iter().chain(words.iter().map(|word| (*word).to_owned())).collect();
        lab.host(0).run(programs::ferry().unwrap(), words, SOON).unwrap()
    };
    for way in [&[][..], &["--p2p"]] {
        let told = plan(way).ok().unwrap();
        for part in [
            "it runs no ferryd; not known before it is tried: images and what they are based on, bridges",
            "guarantee: best effort: nothing can be proven with a host that does not run ferryd",
        ] {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
    }
    // Another guest of the name, no such network, and a machine type that it does not have.
    let other = fs::read_to_string(&xml).unwrap();
    fs::write(&xml, other.replace("<devices>", "<uuid>11111111-1111-1111-1111-111111111111</uuid><devices>"))
        .unwrap();
    let there = Virsh::new(lab.host(1), stock.uri());
    there.ok(["define".as_ref(), xml.as_os_str()]).unwrap();
    let told = parsed(&plan(&["--json"]));
    let texts: Vec<_> = told["findings"].as_array().unwrap().iter().map(|one| one["text"].clone()).collect();
    assert_eq!(
        texts,
        [json!(
            "operation failed: domain 'vm' already exists with uuid 11111111-1111-1111-1111-111111111111"
        )],
        "{told}"
    );
    assert_eq!(told["would_go"], json!(false));
    let renamed = parsed(&plan(&["--json", "--dname", "new"]));
    assert_eq!((&renamed["would_go"], &renamed["findings"]), (&json!(true), &json!([])), "{renamed}");
    assert_eq!(there.ok(["list", "--name"]).unwrap().trim(), "", "nothing was started");
}
