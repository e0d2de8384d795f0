//! Guests with a TPM: its program lives and ends with the guest, its state belongs to the domain and moves along.
//!
//! Only hosts with namespaces have the programs in their places; elsewhere these tests pass by.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ferry_testkit::cache::Cache;
use ferry_testkit::deadline::wait_until;
use ferry_testkit::ferryd::Options;
use ferry_testkit::guest::{Boot, Domain, LinuxImage, Port, Work};
use ferry_testkit::serial::{Event, Heard, Serial};
use ferry_testkit::tools::Tools;
use ferry_testkit::tree;
use ferry_testkit::virsh::Virsh;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{BOOT, Pair, SOON};

const UUID: &str = "5b1f6a34-7a0e-4e63-9d5c-2f0d6c1b7e21";
const CRB: &str = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>";

/// Two hosts with swtpm in its place. None for an ordinary user.
fn pair(tools: Tools) -> Option<Pair> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("swtpm is laid over a host's own /usr, which needs namespaces: passed by");
        return None;
    }
    let tools = tools.with_tpm(&Cache::open().unwrap()).unwrap();
    Some(Pair::new(&tools).unwrap())
}

/// Where a host keeps the state of the guest's TPM, as this process sees it.
fn state_folder(pair: &Pair, number: usize) -> PathBuf {
    pair.host(number).seen(pair.daemon(number).root().join("swtpm").join(UUID))
}

fn state(pair: &Pair, number: usize) -> Option<Vec<u8>> {
    fs::read(state_folder(pair, number).join("tpm2/tpm2-00.permall")).ok()
}

/// How many TPMs were made on a host so far: one that is kept is not made again.
fn made(pair: &Pair, number: usize) -> usize {
    let log = pair.host(number).seen(pair.daemon(number).root().join("log/vm-swtpm.log"));
    fs::read_to_string(log).unwrap().matches("Starting vTPM manufacturing").count()
}

/// No guest, no program of one, no socket folder.
fn is_empty(pair: &Pair, number: usize) {
    let daemon = pair.daemon(number);
    wait_until("the end of swtpm", SOON, || daemon.swtpms().is_empty() && daemon.qemus().is_empty()).unwrap();
    let runs = pair.host(number).seen(daemon.root().join("channel"));
    wait_until("no run folder", SOON, || fs::read_dir(&runs).unwrap().count() == 0).unwrap();
}

/// The boot-sector guest with a TPM, defined and started on the first host.
fn sector(pair: &Pair, tpm: &str) -> (Serial, PathBuf) {
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain.uuid(UUID).device(tpm)).unwrap();
    pair.virsh(0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
    (serial, xml)
}

#[test]
fn its_program_lives_and_ends_with_the_guest_and_its_state_with_the_definition() {
    let Some(mut pair) = pair(Pair::distribution()) else { return };
    let (serial, xml) = sector(&pair, CRB);
    let [swtpm] = pair.daemon(0).swtpms()[..] else { panic!("one program") };
    assert!(state(&pair, 0).unwrap().len() > 1000, "keys and certificates");

    // A daemon that dies or stops takes nothing along.
    pair.daemon_mut(0).kill_and_restart().unwrap();
    assert_eq!(pair.daemon(0).swtpms(), [swtpm]);
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();
    is_empty(&pair, 0);

    // A guest that ends while no daemon watches takes its TPM along.
    pair.virsh(0).ok(["start", "vm"]).unwrap();
    pair.daemon(0).kill().unwrap();
    let [qemu] = pair.daemon(0).qemus()[..] else { panic!("one QEMU") };
    tree::kill(qemu).unwrap();
    wait_until("the end of swtpm", SOON, || pair.daemon(0).swtpms().is_empty()).unwrap();
    pair.daemon_mut(0).start_again().unwrap();
    is_empty(&pair, 0);
    assert!(state(&pair, 0).is_some() && made(&pair, 0) == 1, "it is kept with the definition");

    // What becomes of the state when the definition goes is said by flags.
    let virsh = pair.virsh(0);
    virsh.ok(["undefine", "vm", "--keep-tpm"]).unwrap();
    assert!(state(&pair, 0).is_some());
    virsh.ok(["define", xml.to_str().unwrap()]).unwrap();
    virsh.ok(["start", "vm"]).unwrap();
    assert_eq!(made(&pair, 0), 1);
    let said = virsh.fails(["undefine", "vm", "--tpm"]).unwrap();
    assert!(said.contains("the guest runs with its TPM, whose state cannot be deleted now"), "{said}");
    virsh.ok(["destroy", "vm"]).unwrap();
    virsh.ok(["undefine", "vm"]).unwrap();
    assert!(!state_folder(&pair, 0).exists());
}

#[test]
fn a_guest_that_is_not_kept_takes_its_state_along_unless_it_says_otherwise() {
    let Some(pair) = pair(Pair::distribution()) else { return };
    let (domain, _serial) = pair.sector("vm").unwrap();
    let virsh = pair.virsh(0);
    let create = |tpm: &str| {
        let xml = pair.write("vm", &domain.clone().uuid(UUID).device(tpm)).unwrap();
        virsh.ok(["create", xml.to_str().unwrap()]).unwrap();
    };
    create(CRB);
    assert!(state(&pair, 0).is_some());
    virsh.ok(["destroy", "vm"]).unwrap();
    is_empty(&pair, 0);
    assert!(!state_folder(&pair, 0).exists());

    create(&CRB.replace("version='2.0'", "persistent_state='yes'"));
    virsh.ok(["destroy", "vm"]).unwrap();
    let made_before = made(&pair, 0);
    assert!(state(&pair, 0).is_some() && made_before == 2);

    // Banks are chosen anew at a start; a definition that goes while the guest runs may have the state kept.
    let xml = pair
        .write(
            "vm",
            &domain.clone().uuid(UUID).device(&CRB.replace(
                "version='2.0'/>",
                "version='2.0'><active_pcr_banks><sha1/><sha384/></active_pcr_banks></backend>",
            )),
        )
        .unwrap();
    virsh.define_and_start("vm", &xml).unwrap();
    let log = pair.host(0).seen(pair.daemon(0).root().join("log/vm-swtpm.log"));
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains("activated PCR banks sha1,sha384"), "{said}");
    assert_eq!(made(&pair, 0), made_before);
    virsh.ok(["undefine", "vm", "--keep-tpm"]).unwrap();
    virsh.ok(["destroy", "vm"]).unwrap();
    is_empty(&pair, 0);
    assert!(state(&pair, 0).is_some());
}

#[test]
fn a_host_that_cannot_play_one_says_so_and_leaves_nothing() {
    let config = "swtpm = \"/nowhere/swtpm\"\n".to_owned();
    let options = || Options { config: Some(config.clone()), ..Options::default() };
    let tools = Pair::distribution();
    let pair = Pair::with([&tools, &tools], [options(), options()]).unwrap();
    let (domain, _serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain.uuid(UUID).device(CRB)).unwrap();
    let virsh = pair.virsh(0);
    virsh.ok(["define", xml.to_str().unwrap()]).unwrap();
    let said = virsh.fails(["start", "vm"]).unwrap();
    let expected = "unsupported configuration: TPM version '2.0' is not supported: there is no '/nowhere/swtpm' on this \
                    host (package swtpm)";
    assert!(said.contains(expected), "{said}");
    let told = virsh.ok(["domcapabilities"]).unwrap();
    assert!(told.contains("<tpm supported='no'/>"), "{told}");
    assert!(!state_folder(&pair, 0).exists());
    is_empty(&pair, 0);
}

/// Two programs would write one file.
#[test]
fn a_state_on_storage_that_both_hosts_see_keeps_the_guest_where_it_is() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let tools = Pair::distribution().with_tpm(&Cache::open().unwrap()).unwrap();
    let shared =
        || Options { config: Some("shared_filesystems = [\"/run\"]\n".into()), ..Options::default() };
    let pair = Pair::with([&tools, &tools], [shared(), shared()]).unwrap();
    let (serial, _) = sector(&pair, CRB);
    let refused = pair.virsh(0).refusal(&["migrate", "vm", &pair.uri(1), "--live", "--unsafe", "--p2p"]);
    let expected = "this function is not supported by the connection driver: the running swtpm does not support \
                    migration with shared storage (its state is on ";
    assert!(refused.contains(expected), "{refused}");
    pair.stayed("vm", &serial);
}

/// Each side fails in turn: the guest stays, its TPM with it, and the other host is as it was.
#[test]
fn a_migration_that_fails_leaves_both_states_as_they_were() {
    let Some(pair) = pair(Pair::distribution()) else { return };
    let (serial, _) = sector(&pair, CRB);
    let uri = pair.uri(1);
    let migrate = ["migrate", "vm", &uri, "--live", "--unsafe", "--p2p", "--persistent"];
    // The other host has a state of an earlier stay.
    let earlier = state_folder(&pair, 1).join("tpm2");
    fs::create_dir_all(&earlier).unwrap();
    fs::write(earlier.join("tpm2-00.permall"), "an earlier stay").unwrap();
    let [swtpm] = pair.daemon(0).swtpms()[..] else { panic!("one program") };
    let before = state(&pair, 0);
    assert!(before.is_some());

    for fault in ["abort", "destination"] {
        let copy = pair.slow_copy("vm", &["--persistent"]).unwrap();
        assert_eq!(pair.daemon(1).swtpms().len(), 1, "it waits for the state");
        if fault == "abort" {
            pair.virsh(0).ok(["domjobabort", "vm"]).unwrap();
        } else {
            tree::kill(pair.daemon(1).qemus()[0]).unwrap();
        }
        assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 1", "{fault}");
        pair.let_go("vm").unwrap();
        serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
        is_empty(&pair, 1);
        assert_eq!(state(&pair, 1).as_deref(), Some(&b"an earlier stay"[..]), "{fault}");
        assert!(!state_folder(&pair, 1).join("before").exists(), "{fault}");
        assert_eq!((pair.daemon(0).swtpms(), state(&pair, 0)), (vec![swtpm], before.clone()), "{fault}");
    }

    // And then it goes: what the other host had is replaced, the definition that stays here keeps its own.
    pair.virsh(0).ok(migrate).unwrap();
    serial.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
    is_empty(&pair, 0);
    assert!(state(&pair, 1).unwrap().len() > 1000 && state(&pair, 0).is_some());
    assert!(!state_folder(&pair, 1).join("before").exists());
    serial.verdict().whole().unwrap();
}

/// Once it has run on the other host its state is there, also when it dies before its memory has followed.
#[test]
fn a_guest_that_dies_in_post_copy_had_brought_its_state() {
    let Some(pair) = pair(Pair::distribution()) else { return };
    let lasting = CRB.replace("type='emulator'", "type='emulator' persistent_state='yes'");
    assert_ne!(lasting, CRB);
    let (serial, _) = sector(&pair, &lasting);
    let earlier = state_folder(&pair, 1).join("tpm2");
    fs::create_dir_all(&earlier).unwrap();
    fs::write(earlier.join("tpm2-00.permall"), "an earlier stay").unwrap();
    let _copy = pair.slow_copy("vm", &["--postcopy", "--postcopy-bandwidth", "1"]).unwrap();
    wait_until("the switch", SOON, || pair.virsh(0).ok(["migrate-postcopy", "vm"]).is_ok()).unwrap();
    serial.wait_beats_on(pair.ear(1), 5, SOON).unwrap();
    tree::kill(pair.daemon(1).qemus()[0]).unwrap();
    wait_until("its end", SOON, || pair.daemon(1).swtpms().is_empty()).unwrap();
    wait_until("that its end is known", SOON, || {
        pair.virsh(1).ok(["list", "--name"]).is_ok_and(|names| names.trim().is_empty())
    })
    .unwrap();
    assert!(
        state(&pair, 1).is_some_and(|state| state.len() > 1000),
        "what it brought, not an earlier stay's"
    );
    assert!(!state_folder(&pair, 1).join("before").exists());
}

/// What the tests ask the guest's TPM.
struct Asked<'a> {
    pair: &'a Pair,
    serial: &'a Serial,
}

impl Asked<'_> {
    fn tpm(&self, host: usize, command: &str) -> String {
        let reply = self.pair.ask(host, "vm", self.serial, &format!("tpm {command}")).unwrap();
        reply["value"].clone()
    }

    /// The agent answers on `host`.
    fn agent(&self, host: usize) {
        let virsh: Virsh = self.pair.virsh(host);
        let state = ["dumpxml", "vm", "--xpath", "//channel/target[@state='connected']"];
        wait_until("the agent", SOON, || virsh.run(state).is_ok_and(|found| found.success())).unwrap();
        let pong = virsh.ok(["qemu-agent-command", "vm", r#"{"execute":"guest-ping"}"#]).unwrap();
        assert_eq!(pong.trim(), r#"{"return":{}}"#);
    }
}

/// UEFI, a TPM, two disks on different buses, an agent's channel and a tablet.
fn desktop(pair: &Pair) -> (Serial, PathBuf) {
    let (log, serial) = pair.listen("vm").unwrap();
    let disks = ["vda", "sda"].map(|name| pair.lab().shared().join(format!("{name}.img")));
    for disk in &disks {
        File::create(disk).unwrap().set_len(8 << 20).unwrap();
    }
    let image = LinuxImage::ready(&Cache::open().unwrap()).unwrap();
    let devices = format!(
        "{CRB}<controller type='scsi' model='virtio-scsi'/>\
         <disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='{}'/>\
         <target dev='sda' bus='scsi'/></disk>\
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <input type='tablet' bus='usb'/>",
        disks[1].display()
    );
    let domain = Domain::new("vm", Boot::Linux(image, Work::default()), Port::File(log))
        .uuid(UUID)
        .machine("q35")
        .memory_mib(256)
        .disk(&disks[0], "raw")
        .command_port("/run/vm.commands")
        .device(&devices)
        .emulator(pair.emulator());
    let wish = "<os firmware='efi'><firmware><feature enabled='no' name='secure-boot'/></firmware>";
    let file = pair.lab().shared().join("vm.xml");
    fs::write(&file, domain.xml().replacen("<os>", wish, 1)).unwrap();
    (serial, file)
}

/// There directly and back peer to peer: the agent answers on each side, what the guest put into its TPM is there, and so
/// is what its firmware keeps.
fn a_desktop_crosses_and_returns(tools: Tools) {
    if !Path::new("/usr/share/qemu/firmware").is_dir() {
        eprintln!("no firmware is installed on this host: passed by");
        return;
    }
    let Some(pair) = pair(tools) else { return };
    let (serial, file) = desktop(&pair);
    pair.virsh(0).define_and_start("vm", &file).unwrap();
    serial.wait_ready(BOOT).unwrap();
    let asked = Asked { pair: &pair, serial: &serial };
    asked.agent(0);
    asked.tpm(0, "extend 7");
    let register = asked.tpm(0, "extend 8");
    assert!(register.len() == 64 && !register.starts_with("0000"), "{register}");
    asked.tpm(0, "keep of-h1");

    let words = ["--live", "--unsafe", "--persistent", "--undefinesource"];
    pair.virsh(0).ok(["migrate", "vm", &pair.uri(1)].into_iter().chain(words)).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    is_empty(&pair, 0);
    assert!(!state_folder(&pair, 0).exists(), "nothing of it stays where it is not");
    asked.agent(1);
    assert_eq!(asked.tpm(1, "register"), register, "the TPM runs on");
    assert_eq!(asked.tpm(1, "kept"), "of-h1");
    let register = asked.tpm(1, "extend 9");
    asked.tpm(1, "keep of-h2");
    let variables = pair.host(1).seen(pair.daemon(1).root().join("nvram/vm_VARS.fd"));
    let template = fs::read("/usr/share/OVMF/OVMF_VARS_4M.fd").unwrap();
    let there = fs::read(&variables).unwrap();
    assert!(there.len() == template.len() && there != template, "the firmware's variables have come");

    pair.virsh(1).ok(["migrate", "vm", &pair.uri(0), "--p2p"].into_iter().chain(words)).unwrap();
    pair.moved(1, "vm", "running (migrated)", &serial);
    is_empty(&pair, 1);
    asked.agent(0);
    assert_eq!(asked.tpm(0, "register"), register);
    assert_eq!(asked.tpm(0, "kept"), "of-h2");
    let checked = pair.ask(0, "vm", &serial, "check").unwrap();
    assert_eq!(checked["damaged"], "0");
    serial.verdict().whole().unwrap();

    // What the TPM keeps came to the disk too, and outlives the guest.
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();
    is_empty(&pair, 0);
    let mark = serial.mark();
    pair.virsh(0).ok(["start", "vm"]).unwrap();
    let ready = |heard: &Heard| matches!(heard.event, Event::Ready(_)).then_some(());
    serial.wait_event("the second start", mark, BOOT, ready).unwrap();
    assert_eq!(asked.tpm(0, "kept"), "of-h2");
    assert_ne!(asked.tpm(0, "register"), register, "a new start begins with clean registers");
}

#[test]
fn a_desktop_with_uefi_and_tpm_crosses_and_returns() {
    a_desktop_crosses_and_returns(Pair::distribution());
}

#[test]
fn a_desktop_with_uefi_and_tpm_crosses_and_returns_with_the_newer_qemu() {
    a_desktop_crosses_and_returns(Pair::newer());
}
