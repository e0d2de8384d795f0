//! Disks beyond a file of this host: images on servers, encrypted ones, secrets for both, limits on how fast they are; and
//! folders that the guest shares with the host.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::process::Command;

use ferry_testkit::deadline::wait_until;
use ferry_testkit::tools::EMULATOR;
use ferry_testkit::tree::{Launch, Tree};
use ferry_tests::aftermath::Asking as _;
use ferry_tests::bench::Bench;
use ferry_tests::events::Events;
use ferry_tests::{Pair, SOON};

/// A secret for encrypted images, and its value in base64.
const VOLUME: &str = "6d1f8f3c-4d0f-4f3c-9d5a-3f3f3f3f3f01";
const PASSPHRASE: &str = "open sesame, slowly";
const PASSPHRASE_BASE64: &str = "b3BlbiBzZXNhbWUsIHNsb3dseQ==";

fn secret(uuid: &str, ephemeral: &str, private: &str, usage: &str) -> String {
    format!("<secret ephemeral='{ephemeral}' private='{private}'><uuid>{uuid}</uuid>{usage}</secret>")
}

/// Defines a secret on the first host.
fn define(pair: &Pair, xml: &str) {
    let file = pair.lab().shared().join("secret.xml");
    fs::write(&file, xml).unwrap();
    pair.virsh(0).ok(["secret-define".as_ref(), file.as_os_str()]).unwrap();
}

fn passphrase(pair: &Pair) {
    let usage = "<usage type='volume'><volume>/images/a</volume></usage>";
    define(pair, &secret(VOLUME, "no", "yes", usage));
    pair.virsh(0).ok(["secret-set-value", VOLUME, PASSPHRASE_BASE64]).unwrap();
}

#[test]
fn secrets_outlive_the_daemon_unless_they_are_not_to_and_private_ones_are_told_to_nobody() {
    const OTHER: &str = "6d1f8f3c-4d0f-4f3c-9d5a-3f3f3f3f3f02";
    let mut pair = Pair::new(&Pair::distribution()).unwrap();
    passphrase(&pair);
    define(&pair, &secret(OTHER, "yes", "no", "<usage type='iscsi'><target>t</target></usage>"));
    let virsh = pair.virsh(0);
    let listed = |words: &[&str]| {
        let text = virsh.ok(["secret-list"].iter().chain(words)).unwrap();
        text.lines()
            .skip(2)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    let (volume, target) = (format!("{VOLUME} volume /images/a"), format!("{OTHER} iscsi t"));
    assert_eq!(listed(&["--private"]), std::slice::from_ref(&volume));
    assert_eq!(listed(&["--ephemeral"]), std::slice::from_ref(&target));
    assert_eq!(listed(&[]), [volume, target]);
    virsh.refused(&["secret-get-value", VOLUME], "Invalid secret: secret is private");
    virsh.refused(&["secret-get-value", OTHER], &format!("secret '{OTHER}' does not have a value"));
    virsh.ok(["secret-set-value", OTHER, "c2VzYW1l"]).unwrap();
    assert_eq!(virsh.ok(["secret-get-value", OTHER]).unwrap().trim(), "c2VzYW1l");
    let twice = pair.lab().shared().join("secret.xml");
    fs::write(&twice, "<secret><usage type='iscsi'><target>t</target></usage></secret>").unwrap();
    virsh.refused(
        &["secret-define", twice.to_str().unwrap()],
        &format!("internal error: a secret with UUID {OTHER} already defined for use with t"),
    );
    pair.daemon_mut(0).kill_and_restart().unwrap();
    let virsh = pair.virsh(0);
    let text = virsh.ok(["secret-list"]).unwrap();
    assert!(text.contains(VOLUME) && !text.contains(OTHER), "{text}");
    let told = virsh.ok(["secret-dumpxml", VOLUME]).unwrap();
    assert!(told.contains("<volume>/images/a</volume>") && !told.contains("sesame"), "{told}");
    virsh.ok(["secret-undefine", VOLUME]).unwrap();
    virsh.refused(&["secret-dumpxml", VOLUME], &format!("no secret with matching uuid '{VOLUME}'"));
    let log = pair.daemon(0).log_tail(10_000);
    assert!(!log.contains("sesame") && !log.contains(PASSPHRASE_BASE64), "{log}");
}

#[test]
fn an_encrypted_image_is_opened_with_its_secret_at_the_start_and_when_it_is_plugged_in() {
    let bench = Bench::sector();
    let first = bench.file("a.luks");
    // It measures how fast this machine is, and gives up where something else takes the processor meanwhile.
    wait_until("an encrypted image", SOON, || {
        let mut make = Command::new("qemu-img");
        make.args(["create", "-q", "-f", "luks", "-o", "key-secret=s,iter-time=100", "--object"]);
        make.arg(format!("secret,id=s,data={}", PASSPHRASE.replace(',', ",,"))).arg(&first).arg("1M");
        make.status().unwrap().success()
    })
    .unwrap();
    fs::copy(&first, bench.file("b.luks")).unwrap();
    let disk = |name: &str, dev: &str| {
        let xml = bench.file(&format!("{dev}.xml"));
        let text = format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'><encryption format='luks'>\
             <secret type='passphrase' uuid='{VOLUME}'/></encryption></source><target dev='{dev}' bus='virtio'/></disk>",
            bench.file(name).display()
        );
        fs::write(&xml, text).unwrap();
        xml.to_str().unwrap().to_owned()
    };
    let plugged = disk("a.luks", "vdb");
    bench.refused(&["attach-device", "vm", &plugged], &format!("no secret with matching uuid '{VOLUME}'"));
    passphrase(&bench.pair);
    bench.ok(&["attach-device", "vm", &plugged]);
    // The header is not the guest's.
    assert!(bench.ok(&["domblkinfo", "vm", "vdb"]).contains("Capacity:       1048576"));
    assert!(!bench.ok(&["dumpxml", "vm", "--security-info"]).contains("sesame"));

    bench.ok(&["attach-device", "vm", &disk("b.luks", "vdc"), "--config"]);
    bench.ok(&["destroy", "vm"]);
    bench.ok(&["start", "vm"]);
    assert!(bench.ok(&["domblkinfo", "vm", "vdc"]).contains("Capacity:       1048576"));
    let log = fs::read_to_string(bench.pair.daemon(0).root().join("log/qemu/vm.log"));
    if let Ok(log) = log {
        assert!(log.contains("masterKey0") && !log.contains("sesame"), "{log}");
    }
}

/// A server of `image` that both hosts reach, on the first one.
fn serve(pair: &Pair, image: &str) -> (Tree, u16) {
    let host = pair.host(0);
    let port = if host.is_isolated() { 10_809 } else { free_port() };
    let address = host.address().to_string();
    let words = ["--persistent", "--shared=8", "--format=raw", "--export-name=vm"].map(str::to_owned);
    let place = [format!("--bind={address}"), format!("--port={port}"), image.to_owned()];
    let launch = Launch::new(host.tool("qemu-nbd")).args(words.into_iter().chain(place));
    let server = host.start(launch, "nbd").unwrap();
    let is_up = format!("qemu-img info nbd://{address}:{port}/vm");
    wait_until("the server", SOON, || host.sh(&is_up).is_ok()).unwrap();
    (server, port)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn a_guest_on_a_network_disk_starts_runs_and_moves_without_being_asked_twice() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let (domain, serial) = pair.sector("vm").unwrap();
    let image = pair.lab().shared().join("vm.img");
    let (_server, port) = serve(&pair, image.to_str().unwrap());
    let xml = pair.write("vm", &domain).unwrap();
    let text = fs::read_to_string(&xml).unwrap();
    let address = pair.host(0).address();
    let source = format!("<source protocol='nbd' name='vm'><host name='{address}' port='{port}'/></source>");
    let (before, rest) = text.split_once("<disk type='file'").unwrap();
    let (disk, after) = rest.split_once("</disk>").unwrap();
    let (head, tail) = disk.split_once("<source ").unwrap();
    let (_, tail) = tail.split_once("/>").unwrap();
    let text = format!("{before}<disk type='network'{head}{source}{tail}</disk>{after}");
    fs::write(&xml, text).unwrap();
    pair.virsh(0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
    assert!(pair.virsh(0).ok(["domblklist", "vm"]).unwrap().contains("vda"));
    for (from, to, mode) in [(0, 1, &["--live"][..]), (1, 0, &["--live", "--p2p"])] {
        let there = pair.uri(to);
        let words = ["migrate", "vm", &there].into_iter().chain(mode.iter().copied());
        pair.virsh(from).ok(words).unwrap();
        serial.wait_beats_on(pair.ear(to), 20, SOON).unwrap();
        let found = pair.virsh(to).ok(["dumpxml", "vm", "--xpath", "//disk/source/@protocol"]).unwrap();
        assert!(found.contains("nbd"), "{found}");
    }
    serial.verdict().whole().unwrap();
}

/// What `blkdeviotune` shows that is not 0.
fn limits(bench: &Bench, words: &[&str]) -> String {
    let text = bench.ok(&["blkdeviotune", "vm"].iter().chain(words).copied().collect::<Vec<_>>());
    let set = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let (name, value) = (name.trim(), value.trim());
        (value != "0" && !value.is_empty() && name != "group_name").then(|| format!("{name}={value}"))
    });
    set.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_disk_is_as_fast_as_it_may_be_and_a_change_is_told() {
    let bench = Bench::sector();
    let events = Events::on(&bench.pair, 0).unwrap();
    let image = bench.image("limited.img", 1);
    let xml = bench.file("limited.xml");
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/><target dev='vdb' bus='virtio'/>\
         <iotune><read_bytes_sec>10000</read_bytes_sec></iotune></disk>"
    );
    fs::write(&xml, disk).unwrap();
    let xml = xml.to_str().unwrap();
    bench.ok(&["attach-device", "vm", xml, "--persistent"]);
    assert_eq!(limits(&bench, &["vdb"]), "read_bytes_sec=10000");
    let set = |words: &[&str]| {
        bench.ok(&["blkdeviotune", "vm", "vdb", "--live"].iter().chain(words).copied().collect::<Vec<_>>());
    };
    set(&["--total-bytes-sec", "1000"]);
    set(&["--read-iops-sec", "50", "--write-iops-sec", "60"]);
    assert_eq!(limits(&bench, &["vdb"]), "total_bytes_sec=1000 read_iops_sec=50 write_iops_sec=60");
    set(&["--total-bytes-sec-max", "5000", "--total-bytes-sec-max-length", "7"]);
    set(&["--total-iops-sec", "70", "--group-name", "x"]);
    let now = "total_bytes_sec=1000 total_iops_sec=70 total_bytes_sec_max=5000 total_bytes_sec_max_length=7";
    assert_eq!(limits(&bench, &["vdb", "--live"]), now);
    assert_eq!(limits(&bench, &["vdb", "--config"]), "read_bytes_sec=10000");
    assert!(bench.xml("//disk/iotune").contains("<group_name>x</group_name>"));
    bench.refused(
        &["blkdeviotune", "vm", "vdb", "--total-bytes-sec-max", "500"],
        "unsupported configuration: value 'total_bytes_sec_max' cannot be smaller than 'total_bytes_sec'",
    );
    bench.refused(&["blkdeviotune", "vm", "vdx", "--total-bytes-sec", "5"], "disk 'vdx' not found in domain");
    assert_eq!(limits(&bench, &["vdb"]), now);
    wait_until("the events", SOON, || {
        let text = events.text();
        text.contains("blkdeviotune.disk: vdb")
            && text.contains("blkdeviotune.read_iops_sec: 50")
            && text.contains("blkdeviotune.group_name: x")
    })
    .unwrap();

    // The same QEMU from its kept definition, and on the other host.
    bench.ok(&["blkdeviotune", "vm", "vdb", "--config", "--write-bytes-sec", "4096"]);
    assert_eq!(limits(&bench, &["vdb", "--config"]), "write_bytes_sec=4096");
    let there = bench.pair.uri(1);
    bench.ok(&["migrate", "vm", &there, "--live", "--unsafe"]);
    let text = bench.pair.virsh(1).ok(["blkdeviotune", "vm", "vdb"]).unwrap();
    assert!(text.contains("total_bytes_sec_max_length: 7") && text.contains("group_name     : x"), "{text}");
}

#[test]
fn a_disk_grows_and_has_no_job() {
    let bench = Bench::sector();
    let image = bench.image("grows.img", 1);
    bench.ok(&["attach-disk", "vm", &image, "vdb", "--subdriver", "raw"]);
    bench.ok(&["blockresize", "vm", "vdb", "2M"]);
    assert!(bench.ok(&["domblkinfo", "vm", "vdb"]).contains("Capacity:       2097152"));
    bench.ok(&["blockresize", "vm", &image, "3145728b"]);
    assert!(bench.ok(&["domblkinfo", "vm", "vdb"]).contains("Capacity:       3145728"));
    bench.refused(&["blockresize", "vm", "vdx", "2M"], "disk 'vdx' was not found");
    bench.refused(&["blockresize", "vm", "sda", "2M"], "does not currently have a source");
    assert_eq!(bench.ok(&["blockjob", "vm", "vdb", "--info"]).trim(), "No current block job for vdb");
    bench.refused(&["blockjob", "vm", "vdb", "--abort"], "disk vdb does not have an active block job");
    bench.refused(&["blockjob", "vm", "vdx", "--info"], "disk 'vdx' not found in domain");
    bench.ok(&["destroy", "vm"]);
    bench.refused(&["blockresize", "vm", "vda", "2M"], "domain is not running");
    bench.refused(&["blockjob", "vm", "vda", "--info"], "domain is not running");
}

#[test]
fn a_disk_passes_through_the_groups_of_its_domain() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain).unwrap();
    let text = fs::read_to_string(&xml).unwrap();
    let groups = "<throttlegroups><throttlegroup><group_name>slow</group_name><total_bytes_sec>1048576</total_bytes_sec>\
                  </throttlegroup></throttlegroups>";
    let filters = "<throttlefilters><throttlefilter group='slow'/></throttlefilters></disk>";
    let text = text.replacen("<os>", &format!("{groups}<os>"), 1).replacen("</disk>", filters, 1);
    fs::write(&xml, text).unwrap();
    pair.virsh(0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
    let ask = r#"{"execute":"query-named-block-nodes","arguments":{"flat":true}}"#;
    for (from, to) in [(0, 1), (1, 0)] {
        let nodes = pair.virsh(from).ok(["qemu-monitor-command", "vm", ask]).unwrap();
        assert!(nodes.contains("libvirt-2-filter") && nodes.contains("\"throttle\""), "{nodes}");
        pair.virsh(from).ok(["migrate", "vm", &pair.uri(to), "--live", "--unsafe"]).unwrap();
        serial.wait_beats_on(pair.ear(to), 20, SOON).unwrap();
    }
    pair.virsh(0).refused(
        &["blkdeviotune", "vm", "vda", "--total-bytes-sec", "5"],
        "block 'iotune' can't be used together with 'throttlefilters' for disk 'vda'",
    );
}

#[test]
fn a_missing_medium_that_may_be_missing_is_left_out() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let (domain, serial) = pair.sector("vm").unwrap();
    let drive = "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>\
                 <source file='/no/such/medium' startupPolicy='optional'/><target dev='sda' bus='sata'/></disk>\
                 <disk type='file' device='disk'><driver name='qemu' type='raw'/>\
                 <source file='/no/such/disk' startupPolicy='optional'/><target dev='vdz' bus='virtio'/></disk>";
    let xml = pair.write("vm", &domain.device(drive)).unwrap();
    pair.virsh(0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
    let running = pair.virsh(0).ok(["domblklist", "vm"]).unwrap();
    assert!(running.contains("sda") && !running.contains("/no/such"), "{running}");
    assert!(!running.contains("vdz"), "{running}");
    let kept = pair.virsh(0).ok(["domblklist", "vm", "--inactive"]).unwrap();
    assert!(kept.contains("/no/such/medium") && kept.contains("/no/such/disk"), "{kept}");
}

#[test]
fn folders_of_the_host_are_shared_and_their_servers_end_with_the_guest() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    if !pair.host(0).is_isolated() {
        eprintln!("passed by: the server of Debian 12 wants to be root");
        return;
    }
    let (domain, serial) = pair.sector("vm").unwrap();
    let folder = pair.lab().shared().join("folder");
    fs::create_dir(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    let shared = format!(
        "<filesystem type='mount'><driver type='virtiofs' queue='512'/><source dir='{folder}'/><target dir='one'/></filesystem>\
         <filesystem type='mount'><source dir='{folder}'/><target dir='two'/><readonly/></filesystem>"
    );
    // QEMU itself: the script that stands in for it changes how much memory there is.
    let domain = domain.device(&shared).emulator(pair.host(0).tool(EMULATOR));
    let xml = pair.write("vm", &domain).unwrap();
    let text = fs::read_to_string(&xml).unwrap();
    let memory = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking><os>";
    fs::write(&xml, text.replacen("<os>", memory, 1)).unwrap();
    pair.virsh(0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
    let served = || {
        let option = format!("source={folder}").into_bytes();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        // One that ends meanwhile has nothing to read.
        let mut lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.any(|line| line.split(|byte| *byte == 0).any(|word| word == option))
    };
    assert!(served());
    let devices = pair.virsh(0).ok(["qemu-monitor-command", "vm", "--hmp", "info qtree"]).unwrap();
    assert!(devices.contains("vhost-user-fs-pci") && devices.contains("virtio-9p-pci"), "{devices}");
    let mine = "migration with this virtiofs device is not supported";
    pair.virsh(0).refused(&["migrate", "vm", &pair.uri(1), "--live", "--unsafe"], mine);
    assert!(served());
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();
    wait_until("the server's end", SOON, || !served()).unwrap();

    fs::remove_dir(folder).unwrap();
    pair.virsh(0).refused(&["start", "vm"], &format!("unable to serve '{folder}'"));
    assert!(!served());
}
