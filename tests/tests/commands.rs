//! What people type at stock virsh besides moving guests: statistics, tuning, devices, media, the raw monitor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;

use ferry_testkit::deadline::wait_until;
use ferry_testkit::guest::Work;
use ferry_tests::bench::Bench;
use ferry_tests::events::Events;
use ferry_tests::{BOOT, Pair, SOON};

#[test]
fn statistics_have_the_names_that_clients_pick_them_by() {
    let bench = Bench::sector();
    let stats = bench.stats(&["domstats", "vm", "--backing"]);
    let value = |name: &str| stats.get(name).unwrap_or_else(|| panic!("{name} is not in {stats:?}")).as_str();
    assert_eq!((value("state.state"), value("vcpu.current"), value("vcpu.0.state")), ("1", "1", "1"));
    assert_eq!((value("balloon.current"), value("balloon.maximum")), ("32768", "32768"));
    assert_eq!((value("block.count"), value("block.0.name"), value("block.1.name")), ("2", "vda", "sda"));
    assert_eq!(value("dirtyrate.calc_mode"), "page-sampling");
    assert!(value("block.0.rd.reqs").parse::<u64>().unwrap() > 0, "it booted from there");
    for name in [
        "cpu.time",
        "cpu.user",
        "cpu.system",
        "vcpu.0.time",
        "vcpu.0.wait",
        "vcpu.0.delay",
        "balloon.rss",
        "balloon.last-update",
        "block.0.path",
        "block.0.backingIndex",
        "block.0.capacity",
        "block.0.physical",
        "block.0.allocation",
        "block.1.rd.bytes",
    ] {
        value(name);
    }
    let one = bench.stats(&["domstats", "vm", "--state"]);
    assert_eq!(one.keys().collect::<Vec<_>>(), ["state.reason", "state.state"]);
    assert_eq!(bench.ok(&["domstats", "--list-inactive", "--state"]).trim(), "");

    assert!(bench.ok(&["domblkinfo", "vm", "vda"]).contains("Capacity:"));
    bench.ok(&["domblkinfo", "vm", "--all"]);
    bench.refused(&["domblkinfo", "vm", "sda"], "disk 'sda' does not currently have a source assigned");
    bench.refused(&["domblkinfo", "vm", "vdz"], "invalid path vdz not assigned to domain");
    assert!(bench.ok(&["domblkstat", "vm", "vda"]).contains("vda rd_req"));
    assert!(bench.ok(&["domblkstat", "vm"]).contains("flush_operations"));
    bench.refused(&["domblkstat", "vm", "vdz"], "invalid path: vdz");
    assert_eq!(bench.ok(&["domblkerror", "vm"]), "No errors found");
    let memory = bench.ok(&["dommemstat", "vm"]);
    assert!(memory.contains("actual 32768") && memory.contains("rss "), "{memory}");
    assert!(bench.ok(&["domblklist", "vm", "--details"]).contains("cdrom"));
    assert!(bench.ok(&["domiflist", "vm"]).contains("52:54:00:00:00:51"));
    bench.refused(&["domifstat", "vm", "52:54:00:00:00:51"], "Interface name not provided");
    bench.refused(&["domifstat", "vm", "vnet77"], "'vnet77' is not a known interface");
    bench.ok(&["domdirtyrate-calc", "vm", "--seconds", "1"]);
    wait_until("a measurement", SOON, || {
        bench.stats(&["domstats", "vm", "--dirtyrate"]).contains_key("dirtyrate.megabytes_per_second")
    })
    .unwrap();
    // Stock's QEMU, and with it the guest, does not survive these on an emulated machine.
    bench.refused(&["domdirtyrate-calc", "vm", "--mode", "dirty-bitmap"], "needs KVM");
    bench.serial.wait_beats(20, SOON).unwrap();
}

#[test]
fn a_card_on_a_bridge_counts_what_it_carries() {
    let bench = Bench::linux();
    if !bench.pair.host(0).is_isolated() {
        eprintln!("passed by: without namespaces there is no bridge");
        return;
    }
    let name = bench.xml("//interface[@type='bridge']/target/@dev");
    wait_until("traffic", SOON, || {
        let stats = bench.stats(&["domstats", "vm", "--interface"]);
        assert_eq!(stats["net.0.name"], name);
        stats["net.0.rx.bytes"].parse::<u64>().unwrap() + stats["net.0.tx.bytes"].parse::<u64>().unwrap() > 0
    })
    .unwrap();
    assert!(bench.ok(&["domifstat", "vm", &name]).contains("rx_bytes"));
}

#[test]
fn memory_and_processors_are_changed_live_and_for_the_next_start() {
    let bench = Bench::linux();
    bench.ok(&["dommemstat", "vm", "--period", "1", "--live"]);
    bench.ok(&["setmem", "vm", "200M", "--live"]);
    wait_until("the balloon", BOOT, || bench.ok(&["dommemstat", "vm"]).contains("actual 204800")).unwrap();
    wait_until("the running definition", SOON, || {
        bench.stats(&["domstats", "vm", "--balloon"])["balloon.current"] == "204800"
    })
    .unwrap();
    wait_until("the guest's own figures", SOON, || bench.ok(&["dommemstat", "vm"]).contains("unused "))
        .unwrap();
    bench.refused(&["setmem", "vm", "1G"], "cannot set memory higher than max memory");
    bench.refused(
        &["setmaxmem", "vm", "1G", "--live"],
        "cannot resize the maximum memory on an active domain",
    );
    bench.ok(&["setmaxmem", "vm", "512M", "--config"]);
    bench.ok(&["setvcpus", "vm", "4", "--config", "--maximum"]);
    bench.ok(&["setvcpus", "vm", "2", "--config"]);
    bench.refused(&["setvcpus", "vm", "2", "--live"], "2 > 1");
    assert_eq!(bench.ok(&["vcpucount", "vm", "--config", "--maximum"]), "4");

    bench.ok(&["destroy", "vm"]);
    // A guest that has more than it is to have gives it back while it boots.
    bench.ok(&["setmem", "vm", "300M", "--config"]);
    bench.ok(&["start", "vm"]);
    wait_until("the balloon", BOOT, || {
        bench.stats(&["domstats", "vm", "--balloon"])["balloon.current"] == "307200"
    })
    .unwrap();
    assert_eq!(bench.stats(&["domstats", "vm", "--balloon"])["balloon.maximum"], "524288");
    assert_eq!(bench.ok(&["vcpucount", "vm", "--live", "--active"]), "2");
    bench.ok(&["setvcpus", "vm", "3", "--live"]);
    assert_eq!(bench.ok(&["vcpucount", "vm", "--live", "--active"]), "3");
    assert_eq!(bench.stats(&["domstats", "vm", "--vcpu"])["vcpu.2.state"], "1");
    assert_eq!(bench.ok(&["vcpucount", "vm", "--config", "--active"]), "2");
    // What was plugged in is plugged in on another host too, and can be told from what the machine began with.
    assert_eq!(bench.xml("//vcpus/vcpu[@hotpluggable='yes'][@enabled='yes']/@id"), "2");
    bench.ok(&["migrate", "vm", &bench.pair.uri(1), "--live", "--p2p", "--unsafe"]);
    let there = bench.pair.virsh(1);
    assert_eq!(there.ok(["vcpucount", "vm", "--live", "--active"]).unwrap(), "3");
    let cpus = there.ok(["qemu-monitor-command", "vm", "query-cpus-fast"]).unwrap();
    assert!(cpus.contains("/machine/peripheral/vcpu2") && !cpus.contains("peripheral/vcpu1"), "{cpus}");
}

/// The user's own words for QEMU, and where on the host its threads run.
#[test]
fn words_for_qemu_and_places_of_threads_are_heeded() {
    let own = "<cputune><shares>2048</shares><vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='1'/></cputune>\
        <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\
        <qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/org.example/a,string=$(id)'/>\
        <qemu:env name='EXAMPLE' value='$HOME x'/></qemu:commandline>";
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("passed by: this machine has one processor");
        return;
    }
    let bench = Bench::sector_with(|domain| domain.beside(own));
    let pid = bench.pair.daemon(0).qemus()[0];
    let of_guest = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap();
    assert!(of_guest("cmdline").contains("-fw_cfg\0name=opt/org.example/a,string=$(id)\0"));
    assert!(of_guest("environ").contains("EXAMPLE=$HOME x\0"));
    let allowed = |thread: &str| {
        let status = of_guest(&format!("task/{thread}/status"));
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(allowed(&pid.to_string()), "1");
    let cpus = bench.ok(&["qemu-monitor-command", "vm", "query-cpus-fast"]);
    let thread = cpus.split_once("\"thread-id\":").unwrap().1;
    let thread: String = thread.trim_start().chars().take_while(char::is_ascii_digit).collect();
    assert_eq!(allowed(&thread), "0");
    let pins = bench.ok(&["vcpupin", "vm"]);
    assert!(pins.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == ["0", "0"]), "{pins}");
    assert!(bench.ok(&["emulatorpin", "vm"]).contains("1"));
    assert!(bench.has("/domain/cputune/shares"));
    // A host without the processor does not start the guest.
    bench.ok(&["destroy", "vm"]);
    let xml = bench
        .ok(&["dumpxml", "vm", "--inactive"])
        .replace("emulatorpin cpuset='1'", "emulatorpin cpuset='900'");
    let file = bench.file("elsewhere.xml");
    fs::write(&file, xml).unwrap();
    bench.ok(&["define", file.to_str().unwrap()]);
    bench.refused(&["start", "vm"], "cannot set CPU affinity on process");
}

#[test]
fn words_about_a_domain_are_kept_where_they_are_put() {
    let bench = Bench::sector();
    let events = Events::on(&bench.pair, 0).unwrap();
    bench.ok(&["desc", "vm", "--live", "--new-desc", "two words"]);
    assert_eq!(bench.ok(&["desc", "vm", "--live"]), "two words");
    assert!(bench.ok(&["desc", "vm", "--config"]).contains("No description"));
    bench.ok(&["desc", "vm", "--config", "--title", "--new-desc", "a title"]);
    assert!(bench.ok(&["list", "--all", "--title"]).contains("vm"));
    let uri = "http://example.org/a";
    let set =
        ["metadata", "vm", "--uri", uri, "--key", "k", "--set", "<a b='c'><d/></a>", "--live", "--config"];
    bench.ok(&set);
    assert_eq!(bench.ok(&["metadata", "vm", "--uri", uri]), "<a b=\"c\">\n  <d/>\n</a>");
    assert!(bench.has("//metadata"));
    bench.ok(&["metadata", "vm", "--uri", uri, "--remove", "--live", "--config"]);
    bench.refused(&["metadata", "vm", "--uri", uri], "Requested metadata element is not present");
    bench.refused(&["domrename", "vm", "other"], "cannot rename active domain");
    wait_until("events", SOON, || events.named("metadata-change", "vm").len() == 4).unwrap();
    assert_eq!(
        events.named("metadata-change", "vm"),
        [
            "type description, uri <null>",
            "type title, uri <null>",
            "type element, uri http://example.org/a",
            "type element, uri http://example.org/a"
        ]
    );

    bench.ok(&["set-lifecycle-action", "vm", "poweroff", "restart", "--live"]);
    assert_eq!(bench.xml("//on_poweroff"), "<on_poweroff>restart</on_poweroff>");
    bench.ok(&["destroy", "vm"]);
    bench.ok(&["domrename", "vm", "other"]);
    assert_eq!(bench.virsh().domains().unwrap(), ["other"]);
    assert_eq!(bench.ok(&["desc", "other", "--title"]), "a title");
    wait_until("events", SOON, || events.lifecycle("other").contains(&"Defined Renamed".to_owned())).unwrap();
    bench.ok(&["start", "other"]);
}

#[test]
fn keys_a_picture_and_the_monitor() {
    let bench = Bench::sector();
    bench.ok(&["send-key", "vm", "KEY_LEFTCTRL", "KEY_A"]);
    bench.ok(&["send-key", "vm", "--codeset", "usb", "4"]);
    bench.refused(&["send-key", "vm", "9999"], "cannot translate keycode 9999 of linux codeset");
    bench.ok(&["inject-nmi", "vm"]);
    let picture = bench.file("screen.png");
    let said = bench.ok(&["screenshot", "vm", picture.to_str().unwrap()]);
    assert!(said.contains("image/png"), "{said}");
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    bench.refused(&["screenshot", "vm", "/dev/null", "--screen", "1"], "no such screen ID");

    let heard =
        bench.virsh().start(["qemu-monitor-event", "--loop", "--event", "stop", "--no-case"], "heard");
    let heard = heard.unwrap();
    let told = || fs::read_to_string(heard.log()).unwrap_or_default();
    wait_until("what QEMU says", SOON, || {
        bench.ok(&["suspend", "vm"]);
        bench.ok(&["resume", "vm"]);
        told().contains("event STOP at ")
    })
    .unwrap();
    assert!(told().contains("for domain 'vm'") && !told().contains("RESUME"), "{}", told());
    bench.refused(&["qemu-monitor-event", "--regex", "--event", "ST.*"], "unsupported flags (0x1)");

    let status = bench.ok(&["qemu-monitor-command", "vm", r#"{"execute":"query-status"}"#]);
    assert!(status.contains("\"running\"") && status.contains("\"return\""), "{status}");
    assert!(
        bench.ok(&["qemu-monitor-command", "vm", "--hmp", "info", "status"]).contains("VM status: running")
    );
    assert!(bench.ok(&["qemu-monitor-command", "vm", "no-such"]).contains("CommandNotFound"));
    bench.serial.wait_beats(20, SOON).unwrap();
}

#[test]
fn disks_and_cards_come_and_go_and_move_with_their_guest() {
    let mut bench = Bench::linux();
    let events = Events::on(&bench.pair, 0).unwrap();
    let extra = bench.image("extra.img", 16);
    bench.ok(&["attach-disk", "vm", &extra, "vdb", "--live"]);
    bench.refused(&["attach-disk", "vm", &extra, "vdb", "--live"], "target 'vdb' duplicated");
    bench.refused(&["attach-disk", "vm", "/no/such.img", "vdc", "--live"], "Cannot access storage file");
    bench.refused(&["attach-disk", "vm", &extra, "hdz", "--targetbus", "sata", "--live"], "");
    assert_eq!(bench.stats(&["domstats", "vm", "--block"])["block.count"], "2");
    let card = bench.file("card.xml");
    fs::write(
        &card,
        "<interface type='user'><mac address='52:54:00:00:00:77'/><model type='virtio'/></interface>",
    )
    .unwrap();
    bench.ok(&["attach-device", "vm", card.to_str().unwrap(), "--live", "--config"]);
    assert!(bench.ok(&["domiflist", "vm"]).contains("52:54:00:00:00:77"));
    assert!(bench.ok(&["domiflist", "vm", "--inactive"]).contains("52:54:00:00:00:77"));
    wait_until("events", SOON, || events.named("device-added", "vm").len() == 2).unwrap();

    // A daemon that comes back knows what was plugged in, and so does another host.
    bench.pair.daemon_mut(0).kill_and_restart().unwrap();
    assert!(bench.has("//disk[target/@dev='vdb']"));
    let events = Events::on(&bench.pair, 0).unwrap();
    bench.ok(&["detach-device", "vm", card.to_str().unwrap(), "--live", "--config"]);
    wait_until("the card's end", SOON, || !bench.has("//interface[mac/@address='52:54:00:00:00:77']"))
        .unwrap();
    assert!(!bench.ok(&["domiflist", "vm", "--inactive"]).contains("52:54:00:00:00:77"));
    bench.ok(&["migrate", "vm", &bench.pair.uri(1), "--live", "--p2p", "--unsafe"]);
    bench.serial.wait_beats_on(bench.pair.ear(1), 50, SOON).unwrap();
    bench.pair.virsh(1).ok(["migrate", "vm", &bench.pair.uri(0), "--live", "--p2p", "--unsafe"]).unwrap();
    bench.serial.wait_beats_on(bench.pair.ear(0), 50, SOON).unwrap();

    bench.ok(&["detach-disk", "vm", "vdb", "--live"]);
    wait_until("the disk's end", SOON, || !bench.has("//disk[target/@dev='vdb']")).unwrap();
    assert!(events.named("device-removed", "vm").contains(&"virtio-disk1".to_owned()));
    let nodes = bench.ok(&["qemu-monitor-command", "vm", "query-named-block-nodes"]);
    assert!(!nodes.contains("extra.img"), "{nodes}");
    bench.ok(&["attach-disk", "vm", &extra, "vdb", "--live", "--alias", "ua-extra"]);
    bench.refused(&["detach-device-alias", "vm", "ua-none", "--live"], "no device found with alias ua-none");
    bench.ok(&["detach-device-alias", "vm", "ua-extra", "--live"]);
    wait_until("the disk's end", SOON, || {
        events.named("device-removed", "vm").contains(&"ua-extra".to_owned())
    })
    .unwrap();
    assert!(!bench.has("//disk[target/@dev='vdb']"));
    bench.serial.verdict().whole().unwrap();
}

#[test]
fn a_definition_gains_and_loses_devices_without_a_guest() {
    let bench = Bench::sector();
    bench.ok(&["destroy", "vm"]);
    let extra = bench.image("extra.img", 1);
    bench.refused(&["attach-disk", "vm", &extra, "vdb", "--live"], "domain is not running");
    bench.ok(&["attach-disk", "vm", &extra, "vdb", "--config"]);
    bench.refused(&["attach-disk", "vm", &extra, "vdb", "--config"], "target vdb already exists");
    let device = bench.file("device.xml");
    let refused = |xml: &str, verb: &str, text: &str| {
        fs::write(&device, xml).unwrap();
        bench.refused(&[verb, "vm", device.to_str().unwrap(), "--config"], text);
    };
    refused("<foo/>", "attach-device", "unknown device type 'foo'");
    refused("<disk", "attach-device", "device");
    refused("<rng model='virtio'/>", "attach-device", "persistent attach of device 'rng' is not supported");
    refused(
        "<disk type='file'><source file='/x'/><target dev='vdz' bus='virtio'/></disk>",
        "detach-device",
        "device not found: no target device vdz",
    );
    refused(
        "<disk type='file'><source file='/x'/><target dev='vdz' bus='virtio'/></disk>",
        "update-device",
        "target vdz doesn't exist.",
    );
    refused(
        "<disk type='file'><source file='/x'/><target dev='vdz' bus='virtio'/><mirror job='copy'/></disk>",
        "attach-device",
        "mirror",
    );
    bench.ok(&["detach-disk", "vm", "vdb", "--config"]);
    bench.ok(&["domif-setlink", "vm", "52:54:00:00:00:51", "down", "--config"]);
    assert!(bench.ok(&["domif-getlink", "vm", "52:54:00:00:00:51", "--config"]).ends_with("down"));
    bench.ok(&["start", "vm"]);
    assert!(bench.ok(&["domif-getlink", "vm", "52:54:00:00:00:51"]).ends_with("down"));
    bench.ok(&["domif-setlink", "vm", "52:54:00:00:00:51", "up"]);
    assert!(bench.ok(&["domif-getlink", "vm", "52:54:00:00:00:51"]).ends_with("up"));

    let image = bench.xml("//disk[target/@dev='vda']/source/@file");
    bench.refused(&["vol-delete", &image], "is in use by domain 'vm'");
    bench.ok(&["destroy", "vm"]);
    assert!(bench.ok(&["undefine", "vm", "--storage", "vda"]).contains("removed."));
    assert!(!fs::exists(&image).unwrap() && fs::exists(&extra).unwrap());
}

#[test]
fn limits_that_a_definition_states_are_told() {
    let bench = Bench::sector();
    bench.ok(&["destroy", "vm"]);
    let text = bench.ok(&["dumpxml", "vm"]).replacen(
        "<vcpu ",
        "<blkiotune><weight>500</weight></blkiotune><memtune><hard_limit unit='MiB'>512</hard_limit></memtune>\
         <cputune><shares>2048</shares><quota>-1</quota></cputune><iothreads>2</iothreads><vcpu ",
        1,
    );
    let file = bench.file("limits.xml");
    fs::write(&file, text).unwrap();
    bench.ok(&["define", file.to_str().unwrap()]);
    let says = |words: &[&str], what: &str| {
        let told: Vec<String> = bench.ok(words).split_whitespace().map(str::to_owned).collect();
        assert!(told.join(" ").contains(what), "{words:?}: {told:?}");
    };
    says(&["blkiotune", "vm"], "weight : 500");
    says(&["memtune", "vm"], "hard_limit : 524288 soft_limit : unlimited");
    says(&["schedinfo", "vm"], "cpu_shares : 2048");
    says(&["schedinfo", "vm"], "vcpu_quota : -1");
    says(&["iothreadinfo", "vm"], "1 0-");
    bench.ok(&["start", "vm"]);
    says(&["iothreadinfo", "vm"], "2 0-");
    says(&["memtune", "vm", "--config"], "hard_limit : 524288");
    bench.refused(&["schedinfo", "vm", "--live"], "cgroup CPU controller is not mounted");
}

#[test]
fn a_disk_that_fills_up_says_so_once() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let events = Events::on(&pair, 0).unwrap();
    let _serial = pair.linux("vm", Work::default()).unwrap();
    let virsh = pair.virsh(0);
    virsh.ok(["domblkthreshold", "vm", "vda", "1"]).unwrap();
    wait_until("the word", SOON, || events.named("block-threshold", "vm").len() == 2).unwrap();
    let told = events.named("block-threshold", "vm");
    assert!(
        told[0].contains("dev: vda(") && told[0].contains("vm.img") && told[1].contains("dev: vda["),
        "{told:?}"
    );
    let refused = virsh.fails(["domblkthreshold", "vm", "vda[7]", "1"]).unwrap();
    assert!(refused.contains("failed to find disk 'vda[7]'"), "{refused}");
}

#[test]
fn media_are_changed_in_a_drive_that_stays() {
    let bench = Bench::sector();
    let (one, other) = (bench.image("one.iso", 1), bench.image("other.iso", 1));
    let medium = || bench.xml("//disk[@device='cdrom']/source/@file");
    bench.ok(&["change-media", "vm", "sda", &one, "--insert", "--live"]);
    assert_eq!(medium(), one);
    bench.ok(&["change-media", "vm", "sda", &other, "--update", "--live", "--config"]);
    assert_eq!(medium(), other);
    assert_eq!(bench.ok(&["domblklist", "vm", "--inactive"]).matches("other.iso").count(), 1);
    let missing = bench.file("missing.iso");
    bench.refused(
        &["change-media", "vm", "sda", missing.to_str().unwrap(), "--update", "--live"],
        "Cannot access storage file",
    );
    assert_eq!(medium(), other);
    bench.ok(&["change-media", "vm", "sda", "--eject", "--live"]);
    assert!(!bench.has("//disk[@device='cdrom']/source"));
    let nodes = bench.ok(&["qemu-monitor-command", "vm", "query-named-block-nodes"]);
    assert!(!nodes.contains(".iso"), "{nodes}");
}
