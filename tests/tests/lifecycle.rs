//! A guest's life on one host, as stock virsh commands and sees it.

use std::path::Path;

use ferry_testkit::deadline::wait_until;
use ferry_testkit::guest::{Boot, Domain, LinuxImage, Port, Work};
use ferry_testkit::serial::{Event, Serial};
use ferry_testkit::{cache::Cache, tree};
use ferry_tests::aftermath::{Asking as _, is_silent};
use ferry_tests::events::Events;
use ferry_tests::{BOOT, Pair, SOON};

fn pair() -> Pair {
    Pair::new(&Pair::distribution()).expect("two hosts")
}

/// The boot-sector guest, defined and not started.
fn defined(pair: &Pair, name: &str) -> Serial {
    let (domain, serial) = pair.sector(name).expect("a guest");
    let xml = pair.write(name, &domain).expect("its definition");
    pair.virsh(0).ok(["define".as_ref(), xml.as_os_str()]).expect("define");
    serial
}

/// Whether the guest has begun from its first beat again since `mark`.
fn began_anew(serial: &Serial, mark: usize) {
    serial
        .wait_event("the first beat", mark, SOON, |heard| {
            matches!(heard.event, Event::Beat { seq: 1, .. }).then_some(())
        })
        .expect("a guest that begins anew");
}

#[test]
fn a_definition_comes_changes_and_goes() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let _serial = defined(&pair, "vm");
    assert_eq!(virsh.reason("vm"), "shut off (unknown)");
    assert_eq!(virsh.field(&["dominfo", "vm"], "Persistent"), "yes");
    assert_eq!(virsh.ok(["domid", "vm"]).unwrap(), "-");
    let uuid = virsh.ok(["domuuid", "vm"]).unwrap();
    assert_eq!(virsh.ok(["domname", &uuid]).unwrap(), "vm");

    // The same UUID under another name, and the same name under another UUID.
    let xml = virsh.ok(["dumpxml", "vm", "--inactive"]).unwrap();
    let file = pair.lab().shared().join("changed.xml");
    let changed = |from: &str, to: &str| {
        assert!(xml.contains(from), "{from} is not in {xml}");
        std::fs::write(&file, xml.replace(from, to)).unwrap();
        ["define", file.to_str().unwrap()].map(str::to_owned)
    };
    let refused = virsh.fails(changed("<name>vm</name>", "<name>other</name>")).unwrap();
    assert!(refused.contains(&format!("domain 'vm' is already defined with uuid {uuid}")), "{refused}");
    let stranger = "11111111-2222-3333-4444-555555555555";
    let refused = virsh.fails(changed(&uuid, stranger)).unwrap();
    assert!(refused.contains(&format!("domain 'vm' already exists with uuid {uuid}")), "{refused}");

    virsh.ok(changed("<vcpu placement='static'>1</vcpu>", "<vcpu placement='static'>2</vcpu>")).unwrap();
    assert_eq!(virsh.field(&["dominfo", "vm"], "CPU(s)"), "2");
    assert_eq!(virsh.ok(["domuuid", "vm"]).unwrap(), uuid);
    virsh.ok(["undefine", "vm"]).unwrap();
    assert!(virsh.domains().unwrap().is_empty());
    virsh.refused(&["dominfo", "vm"], "failed to get domain 'vm'");
    virsh.refused(&["undefine", "vm"], "failed to get domain 'vm'");
}

#[test]
fn start_suspend_resume_destroy() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let events = Events::on(&pair, 0).unwrap();
    let serial = defined(&pair, "vm");
    virsh.ok(["start", "vm"]).unwrap();
    serial.wait_beats(100, SOON).unwrap();
    assert_eq!(virsh.reason("vm"), "running (booted)");
    assert_ne!(virsh.ok(["domid", "vm"]).unwrap(), "-");
    virsh.refused(&["start", "vm"], "Domain is already active");
    virsh.refused(&["resume", "vm"], "domain is already running");
    assert!(virsh.field(&["domjobinfo", "vm"], "Job type").starts_with("None"));
    virsh.refused(&["domjobabort", "vm"], "no job is active on the domain");

    virsh.ok(["suspend", "vm"]).unwrap();
    assert_eq!(virsh.reason("vm"), "paused (user)");
    is_silent(&serial);
    virsh.ok(["resume", "vm"]).unwrap();
    assert_eq!(virsh.reason("vm"), "running (unpaused)");
    serial.wait_beats(100, SOON).unwrap();
    serial.verdict().whole().unwrap();

    virsh.ok(["destroy", "vm"]).unwrap();
    assert_eq!(virsh.reason("vm"), "shut off (destroyed)");
    pair.nothing_runs(0);
    virsh.refused(&["destroy", "vm"], "domain is not running");
    virsh.refused(&["suspend", "vm"], "domain is not running");
    virsh.ok(["undefine", "vm"]).unwrap();
    events.wait_lifecycle("vm", "Undefined Removed").unwrap();
    let all = [
        "Defined Added",
        "Resumed Unpaused",
        "Started Booted",
        "Suspended Paused",
        "Resumed Unpaused",
        "Stopped Destroyed",
        "Undefined Removed",
    ];
    assert_eq!(events.lifecycle("vm"), all);
}

#[test]
fn a_guest_that_is_started_paused_waits() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let events = Events::on(&pair, 0).unwrap();
    let serial = defined(&pair, "vm");
    virsh.ok(["start", "vm", "--paused"]).unwrap();
    assert_eq!(virsh.reason("vm"), "paused (user)");
    is_silent(&serial);
    assert!(serial.record().heard.is_empty(), "it has run");
    virsh.ok(["resume", "vm"]).unwrap();
    serial.wait_beats(100, SOON).unwrap();
    serial.verdict().whole().unwrap();
    events.wait_lifecycle("vm", "Resumed Unpaused").unwrap();
    assert_eq!(
        events.lifecycle("vm"),
        ["Defined Added", "Started Booted", "Suspended Paused", "Resumed Unpaused"]
    );
}

#[test]
fn a_guest_without_a_definition_is_gone_with_its_end() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain).unwrap();
    virsh.ok(["create".as_ref(), xml.as_os_str()]).unwrap();
    serial.wait_beats(100, SOON).unwrap();
    assert_eq!(virsh.field(&["dominfo", "vm"], "Persistent"), "no");
    virsh.refused(&["undefine", "vm"], "cannot undefine transient domain");
    virsh.refused(&["autostart", "vm"], "cannot set autostart for transient domain");
    // Another with its name has another UUID, since the file names none.
    virsh.refused(&["create", xml.to_str().unwrap()], "domain 'vm' already exists with uuid");

    // It may be defined while it runs, and forgotten again.
    let file = pair.lab().shared().join("live.xml");
    std::fs::write(&file, virsh.ok(["dumpxml", "vm", "--inactive"]).unwrap()).unwrap();
    virsh.ok(["define".as_ref(), file.as_os_str()]).unwrap();
    assert_eq!(virsh.field(&["dominfo", "vm"], "Persistent"), "yes");
    virsh.refused(&["create", file.to_str().unwrap()], "domain 'vm' is already active");
    virsh.ok(["undefine", "vm"]).unwrap();
    assert_eq!(virsh.field(&["dominfo", "vm"], "Persistent"), "no");
    serial.wait_beats(100, SOON).unwrap();

    virsh.ok(["destroy", "vm"]).unwrap();
    assert!(virsh.domains().unwrap().is_empty());
    pair.is_clean(0, "vm");
}

#[test]
fn a_guest_may_hang_on_the_connection_that_started_it() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let serial = defined(&pair, "vm");
    let session = virsh.start(["start vm --autodestroy; event vm --event reboot --loop"], "session").unwrap();
    serial.wait_beats(100, SOON).unwrap();
    // Not with just any connection's end.
    assert_eq!(virsh.reason("vm"), "running (booted)");
    virsh
        .refused(&["migrate", "vm", &pair.uri(1), "--live", "--unsafe"], "domain is marked for auto destroy");
    drop(session);
    virsh.until_reason("vm", "shut off (destroyed)");
    pair.nothing_runs(0);
}

#[test]
fn the_reset_button_starts_the_guest_over() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let events = Events::on(&pair, 0).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let (mark, qemus) = (serial.mark(), pair.daemon(0).qemus());
    virsh.ok(["reset", "vm"]).unwrap();
    began_anew(&serial, mark);
    assert_eq!(pair.daemon(0).qemus(), qemus, "it is the same QEMU");
    assert_eq!(virsh.state("vm").unwrap(), "running");
    wait_until("the reboot event", SOON, || events.text().contains("event 'reboot' for domain 'vm'"))
        .unwrap();
}

#[test]
fn a_qemu_that_dies_is_a_crash() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let events = Events::on(&pair, 0).unwrap();
    let _serial = pair.boot_sector("vm").unwrap();
    let [qemu] = pair.daemon(0).qemus()[..] else { panic!("one QEMU") };
    tree::kill(qemu).unwrap();
    virsh.until_reason("vm", "shut off (crashed)");
    events.wait_lifecycle("vm", "Stopped Failed").unwrap();
    pair.nothing_runs(0);
    let (_, again) = pair.listen("vm").unwrap();
    virsh.ok(["start", "vm"]).unwrap();
    again.wait_beats(100, SOON).unwrap();
}

#[test]
fn linux_obeys_its_power_button_and_comes_back_from_a_reboot() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let serial = pair.linux("vm", Work::default()).unwrap();
    let qemus = pair.daemon(0).qemus();
    let mark = serial.mark();
    virsh.ok(["reboot", "vm", "--mode", "acpi"]).unwrap();
    serial
        .wait_event("ready, once more", mark, BOOT, |heard| {
            matches!(heard.event, Event::Ready(_)).then_some(())
        })
        .unwrap();
    assert_eq!(pair.daemon(0).qemus(), qemus, "it is the same QEMU");
    assert_eq!(virsh.state("vm").unwrap(), "running");

    virsh.refused(&["shutdown", "vm", "--mode", "agent"], "QEMU guest agent is not configured");
    let events = Events::on(&pair, 0).unwrap();
    virsh.ok(["shutdown", "vm"]).unwrap();
    virsh.until_reason("vm", "shut off (shutdown)");
    events.wait_lifecycle("vm", "Stopped Shutdown").unwrap();
    assert_eq!(events.lifecycle("vm"), ["Shutdown Finished after guest request", "Stopped Shutdown"]);
    pair.nothing_runs(0);
}

#[test]
fn lists_show_what_they_are_asked_for() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let _ears = ["off", "on", "paused"].map(|name| defined(&pair, name));
    virsh.ok(["start", "on"]).unwrap();
    virsh.ok(["start", "paused", "--paused"]).unwrap();
    virsh.ok(["autostart", "off"]).unwrap();
    let (transient, _serial) = pair.sector("brief").unwrap();
    let xml = pair.write("brief", &transient).unwrap();
    virsh.ok(["create".as_ref(), xml.as_os_str()]).unwrap();

    let listed = |filters: &[&str]| {
        let words = ["list", "--name"].into_iter().chain(filters.iter().copied());
        let list = virsh.ok(words).unwrap();
        let mut names: Vec<String> =
            list.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        names.sort();
        names
    };
    for (filters, expected) in [
        (&[][..], &["brief", "on", "paused"][..]),
        (&["--all"], &["brief", "off", "on", "paused"]),
        (&["--inactive"], &["off"]),
        (&["--all", "--persistent"], &["off", "on", "paused"]),
        (&["--all", "--transient"], &["brief"]),
        (&["--all", "--state-running"], &["brief", "on"]),
        (&["--all", "--state-paused"], &["paused"]),
        (&["--all", "--state-shutoff"], &["off"]),
        (&["--all", "--state-other"], &[]),
        (&["--all", "--autostart"], &["off"]),
        (&["--all", "--no-autostart"], &["brief", "on", "paused"]),
        (&["--all", "--with-snapshot"], &[]),
        (&["--all", "--without-managed-save"], &["brief", "off", "on", "paused"]),
    ] {
        assert_eq!(listed(filters), expected, "{filters:?}");
    }
    assert_eq!(virsh.field(&["dominfo", "off"], "Autostart"), "enable");
    virsh.ok(["autostart", "off", "--disable"]).unwrap();
    assert_eq!(virsh.field(&["dominfo", "off"], "Autostart"), "disable");
    let id = virsh.ok(["domid", "on"]).unwrap();
    assert_eq!(virsh.ok(["domname", &id]).unwrap(), "on");
}

#[test]
fn who_may_only_look_changes_nothing() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let serial = pair.boot_sector("vm").unwrap();
    let xml = pair.lab().shared().join("vm.xml");
    let xml = xml.to_str().unwrap();
    let uri = pair.uri(1);
    for (words, function) in [
        (&["destroy", "vm"][..], "virDomainDestroy"),
        (&["undefine", "vm"], "virDomainUndefine"),
        (&["suspend", "vm"], "virDomainSuspend"),
        (&["resume", "vm"], "virDomainResume"),
        (&["reset", "vm"], "virDomainReset"),
        (&["shutdown", "vm"], "virDomainShutdown"),
        (&["reboot", "vm"], "virDomainReboot"),
        (&["define", xml], "virDomainDefineXML"),
        (&["create", xml], "virDomainCreateXML"),
        (&["autostart", "vm"], "virDomainSetAutostart"),
        (&["domjobabort", "vm"], "virDomainAbortJob"),
        (&["migrate-setspeed", "vm", "10"], "virDomainMigrateSetMaxSpeed"),
        (&["migrate-setmaxdowntime", "vm", "10"], "virDomainMigrateSetMaxDowntime"),
        (&["migrate", "vm", &uri, "--live", "--unsafe"], "virDomainMigrate"),
        (&["migrate", "vm", &uri, "--live", "--unsafe", "--p2p"], "virDomainMigrate"),
    ] {
        let words: Vec<&str> = ["-r"].into_iter().chain(words.iter().copied()).collect();
        let part = format!("read only access prevents {function}");
        virsh.refused(&words, &part);
    }
    virsh.refused(&["-r", "dumpxml", "vm", "--security-info"], "virDomainGetXMLDesc with secure flag");
    for words in [&["list", "--all"][..], &["dominfo", "vm"], &["dumpxml", "vm"], &["domjobinfo", "vm"]] {
        virsh.ok(["-r"].into_iter().chain(words.iter().copied())).unwrap();
    }
    // The socket for lookers makes everybody one.
    let socket = pair.daemon(0).root().join("sock-ro");
    let looker = ferry_testkit::virsh::Virsh::new(
        pair.host(0),
        format!("qemu+unix:///system?socket={}", socket.display()),
    );
    assert_eq!(looker.state("vm").unwrap(), "running");
    looker.refused(&["destroy", "vm"], "read only access prevents virDomainDestroy");
    pair.stayed("vm", &serial);
}

/// The commands that a person or a monitoring agent runs; none prints an error line.
#[test]
fn everything_that_is_asked_of_a_guest_has_an_answer() {
    let pair = pair();
    let virsh = pair.virsh(0);
    let _serial = pair.boot_sector("vm").unwrap();
    for words in [
        &["version", "--daemon"][..],
        &["hostname"],
        &["uri"],
        &["nodeinfo"],
        &["capabilities"],
        &["list", "--all", "--title", "--uuid"],
        &["dominfo", "vm"],
        &["domstate", "vm", "--reason"],
        &["domcontrol", "vm"],
        &["domjobinfo", "vm"],
        &["domblklist", "vm", "--details"],
        &["domiflist", "vm"],
        &["vcpucount", "vm"],
        &["vcpuinfo", "vm"],
        &["dumpxml", "vm"],
        &["desc", "vm"],
        &["migrate-getspeed", "vm"],
        &["migrate-getmaxdowntime", "vm"],
    ] {
        let output = virsh.run(words).unwrap();
        assert!(output.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    }
    assert_eq!(virsh.field(&["dominfo", "vm"], "Max memory"), "32768 KiB");
    assert_eq!(virsh.ok(["hostname"]).unwrap(), pair.host(0).sh("hostname").unwrap());
    let told = virsh.ok(["version"]).unwrap();
    assert!(told.contains("Running hypervisor: QEMU 7.2."), "{told}");
}

#[test]
fn a_guest_of_a_configured_user_owns_its_images_from_its_start_on() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can run QEMU as somebody else");
        return;
    }
    let tools = Pair::distribution();
    let options = || ferry_testkit::ferryd::Options {
        config: Some("user = \"nobody\"\ngroup = \"nogroup\"\n".to_owned()),
        ..Default::default()
    };
    let pair = Pair::with([&tools, &tools], [options(), options()]).unwrap();
    // The images' folder must be open to the guest's user, as an operator's would be; and so must the emulator.
    let shared = pair.lab().shared();
    std::fs::set_permissions(shared, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (domain, serial) = pair.sector("vm").unwrap();
    let image = shared.join("vm.img");
    let owner = |path: &Path| std::fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
    let before = owner(&image);
    let domain = domain.emulator(pair.host(0).tool(ferry_testkit::tools::EMULATOR));
    let xml = pair.write("vm", &domain).unwrap();
    let virsh = pair.virsh(0);
    virsh.define_and_start("vm", &xml).unwrap();
    serial.wait_beats(100, SOON).unwrap();
    let [qemu] = pair.daemon(0).qemus()[..] else { panic!("one QEMU") };
    let process = owner(Path::new(&format!("/proc/{qemu}")));
    assert_ne!(process, before);
    assert_eq!(owner(&image), process, "the image belongs to the guest's user");

    virsh.ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    assert_eq!(owner(&image), process, "the source took nothing away");
    pair.virsh(1).ok(["destroy", "vm"]).unwrap();
    pair.nothing_runs(1);
    assert_eq!(owner(&image), process, "nor did the end of the guest");
}

#[test]
fn a_guest_on_a_mapped_network_answers_and_is_heard() {
    let tools = Pair::distribution();
    let options = || ferry_testkit::ferryd::Options {
        config: Some("[networks]\nlan = \"br0\"\n".to_owned()),
        ..Default::default()
    };
    let pair = Pair::with([&tools, &tools], [options(), options()]).unwrap();
    if !pair.host(0).is_isolated() {
        eprintln!("a guest on a bridge needs hosts in namespaces");
        return;
    }
    let address = std::net::Ipv4Addr::new(192, 0, 2, 50);
    let (log, serial) = pair.listen("vm").unwrap();
    let work = Work { address: Some(format!("{address}/24")), disk_mib: 0, ..Work::default() };
    let boot = Boot::Linux(LinuxImage::ready(&Cache::open().unwrap()).unwrap(), work);
    let card = "<interface type='network'><source network='lan'/><model type='virtio'/></interface>";
    let domain = Domain::new("vm", boot, Port::File(log)).device(card);
    pair.start("vm", domain).unwrap();
    serial.wait_ready(BOOT).unwrap();
    let live = pair.virsh(0).ok(["dumpxml", "vm"]).unwrap();
    assert!(live.contains("network='lan'") && live.contains("bridge='br0'"), "{live}");
    assert!(!pair.virsh(0).ok(["dumpxml", "vm", "--inactive"]).unwrap().contains("bridge='br0'"));
    wait_until("an echo", SOON, || pair.host(0).echo(address)).unwrap();
    assert!(pair.host(1).echo(address), "the other host hears it too");

    // On its new host it is heard without having spoken: QEMU announces it.
    pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe", "--p2p"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    wait_until("an echo", SOON, || pair.host(0).echo(address)).unwrap();
    assert!(pair.host(1).echo(address));
    let taps = pair.host(0).sh("ls /sys/class/net").unwrap();
    assert!(!taps.contains("vnet"), "an interface was left behind: {taps}");
    serial.verdict().whole().unwrap();
}
