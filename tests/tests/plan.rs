//! A migration that is only thought of: what `ferry plan` says of two real hosts, and that nothing comes of asking.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;

use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::proto::{
    DomainLookupByName, PlanArriving, PlanArrivingReply, PlanGuest, PlanLeaving, PlanLeavingReply,
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

/// What is said, that the guest does not notice, and that nothing is left.
#[test]
fn a_plan_says_what_will_be_and_nothing_comes_of_it() {
    let pair = pair("");
    let serial = boot(&pair);
    let there = pair.uri(1);
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
    // Neither state nor files nor ports, and the guest ran on.
    pair.is_clean(1, "vm");
    assert_eq!(listening(&pair, 1), [0; 0]);
    serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
    serial.verdict_since(mark).whole().unwrap();
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
    // Nobody came to the door; it closes by itself.
    ferry_testkit::deadline::wait_until("the door's end", SOON, || listening(&pair, 1).is_empty()).unwrap();
    pair.stayed("vm", &serial);
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

/// A device more or less on one of the hosts.
#[test]
fn a_device_too_many_or_too_few_is_named() {
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
    let mut longer = guest;
    longer.devices.push("usb-tablet at bus=usb.0 port=1".to_owned());
    let less = "the destination would not build a device that the guest has: usb-tablet at bus=usb.0 port=1";
    assert!(asking.found(&xml, longer)[0].1.ends_with(less));

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
