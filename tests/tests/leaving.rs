//! What keeps a guest on its host beside its disks: each obstacle alone, by whichever host sees it.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;

use ferry_rpc::error::{Error, ErrorCode};
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::proto::{
    Cookie, DomainLookupByName, DomainMigrateBegin3Params, DomainMigratePerform3Params,
    DomainMigratePrepare3Params,
};
use ferry_rpc::typed_param::TypedParam;
use ferry_store::{Snapshot, Store};
use ferry_testkit::cache::Cache;
use ferry_testkit::ferryd::{Ferryd, Options};
use ferry_testkit::guest::{Boot, Domain, LinuxImage, Work};
use ferry_testkit::programs;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::copying::until_copying;
use ferry_tests::wire::Wire;
use ferry_tests::{BOOT, Pair, SOON};
use uuid::Uuid;

const INVALID: &str = "Requested operation is not valid: ";

fn migrate<'a>(uri: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    ["migrate", "vm", uri].into_iter().chain(words.iter().copied()).collect()
}

/// Gives the guest an image that QEMU cannot migrate.
fn block(pair: &Pair) {
    let image = pair.lab().shared().join("extra.vdi").display().to_string();
    pair.host(0).sh(&format!("qemu-img create -q -f vdi '{image}' 1M")).unwrap();
    let add = format!(
        "{{\"execute\":\"blockdev-add\",\"arguments\":{{\"driver\":\"vdi\",\"node-name\":\"extra\",\
         \"file\":{{\"driver\":\"file\",\"filename\":\"{image}\"}}}}}}"
    );
    let answer = pair.virsh(0).ok(["qemu-monitor-command", "vm", &add]).unwrap();
    assert!(answer.contains("return"), "{answer}");
}

const BLOCKER: &str = "The vdi format used by node 'extra' does not support live migration";

#[test]
fn a_guest_that_ends_with_its_connection_stays() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain).unwrap();
    pair.virsh(0).ok(["define".as_ref(), xml.as_os_str()]).unwrap();
    let uri = pair.uri(1);
    // One session, for the guest ends with it.
    let session = format!(
        "start vm --autodestroy; migrate vm {uri} --live --unsafe; migrate vm {uri} --live --unsafe --p2p; \
         migrate vm {uri} --offline --persistent"
    );
    let said = pair.virsh(0).run([&session]).unwrap();
    let text = format!("{INVALID}domain is marked for auto destroy");
    assert_eq!(said.stderr.matches(&text).count(), 3, "{}", said.stderr);
    pair.is_clean(1, "vm");
    drop(serial);
}

#[test]
fn what_is_known_of_snapshots_keeps_a_guest_until_it_is_forgotten() {
    let mut pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let uuid: Uuid = pair.virsh(0).ok(["domuuid", "vm"]).unwrap().trim().parse().unwrap();
    // Nothing makes one yet: it is put where it belongs while the daemon is away.
    pair.daemon(0).stop().unwrap();
    let store = Store::open(&pair.database(0)).unwrap();
    for (name, parent) in [("first", None), ("second", Some("first"))] {
        let xml = format!(
            "<domainsnapshot><name>{name}</name><state>running</state><creationTime>1700000000</creationTime>\
             </domainsnapshot>"
        );
        let snapshot = Snapshot {
            domain: uuid,
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            is_current: true,
            xml,
        };
        store.save_snapshot(&snapshot).unwrap();
    }
    drop(store);
    pair.daemon_mut(0).start_again().unwrap();

    let (virsh, uri) = (pair.virsh(0), pair.uri(1));
    let two = format!("{INVALID}cannot migrate domain with 2 snapshots");
    for words in
        [&["--live", "--unsafe"][..], &["--live", "--unsafe", "--p2p"], &["--offline", "--persistent"]]
    {
        virsh.refused(&migrate(&uri, words), &two);
    }
    let root = pair.daemon(0).root().display().to_string();
    let words = ["-c", &root, "plan", "vm", &uri, "--unsafe"];
    let planned = pair.host(0).run(programs::ferry().unwrap(), words, SOON).unwrap();
    assert!(
        planned.stdout.contains("cannot migrate domain with 2 snapshots [55]\n    remedy: "),
        "{}",
        planned.stdout
    );
    pair.stayed("vm", &serial);

    let listed = virsh.ok(["snapshot-list", "vm", "--name"]).unwrap();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(virsh.ok(["snapshot-current", "vm", "--name"]).unwrap().trim(), "second");
    assert_eq!(virsh.ok(["list", "--all", "--name", "--with-snapshot"]).unwrap().trim(), "vm");
    virsh.refused(&["undefine", "vm"], "cannot delete inactive domain with 2 snapshots");
    virsh.refused(&["snapshot-delete", "vm", "second"], "metadata alone can be forgotten");
    virsh.refused(&["snapshot-delete", "vm", "first", "--metadata"], "has a child, 'second'");
    virsh.ok(["snapshot-delete", "vm", "second", "--metadata"]).unwrap();
    virsh.refused(
        &migrate(&uri, &["--live", "--unsafe"]),
        &format!("{INVALID}cannot migrate domain with 1 snapshots"),
    );
    virsh.ok(["snapshot-delete", "vm", "first", "--metadata"]).unwrap();
    virsh.ok(migrate(&uri, &["--live", "--unsafe"])).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}

/// Edits what is known of the emulators, as if they were older, and has the daemon read it anew.
fn make_older(pair: &mut Pair, number: usize, edits: &[(&str, &str)]) {
    pair.daemon(number).stop().unwrap();
    let folder = pair.host(number).seen(pair.daemon(number).root().join("cache"));
    let mut changed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut text = fs::read_to_string(&path).unwrap();
        for (from, to) in edits {
            changed += text.matches(from).count();
            text = text.replace(from, to);
        }
        fs::write(path, text).unwrap();
    }
    assert!(changed >= edits.len(), "{changed} changes");
    pair.daemon_mut(number).start_again().unwrap();
}

fn beside_the_root(daemon: &Ferryd) -> std::path::PathBuf {
    daemon.host().seen(daemon.root().join("ferryd.toml"))
}

#[test]
fn an_older_qemu_needs_a_cache_mode_and_is_not_believed_to_have_spoken() {
    let tools = Pair::distribution();
    let shared = format!("shared_filesystems = [{:?}]\n", std::env::temp_dir().display().to_string());
    let options = Options { config: Some(shared.clone()), ..Options::default() };
    let mut pair = Pair::with([&tools; 2], [options, Options::default()]).unwrap();
    let (domain, serial) = pair.sector("vm").unwrap();
    let xml = pair.write("vm", &domain.emulator(pair.emulator())).unwrap();
    let text = fs::read_to_string(&xml).unwrap();
    fs::write(&xml, text.replacen("cache='none'", "cache='writeback'", 1)).unwrap();
    pair.virsh(0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(pair.ear(0), 20, SOON).unwrap();
    let uri = pair.uri(1);

    make_older(&mut pair, 0, &[("\"drop-cache\",", ""), ("\"blocked-reasons\",", "")]);
    let cached = "Unsafe migration: Migration may lead to data corruption if disks use cache other than none or \
                  directsync (disk vda: ";
    for words in [&["--live"][..], &["--live", "--p2p"]] {
        pair.virsh(0).refused(&migrate(&uri, words), cached);
    }
    pair.stayed("vm", &serial);

    // It says nothing beforehand: what it cannot migrate shows when it is to, and its words come through.
    block(&pair);
    pair.virsh(0).refused(&migrate(&uri, &["--live", "--unsafe"]), BLOCKER);
    pair.stayed("vm", &serial);
    let del = r#"{"execute":"blockdev-del","arguments":{"node-name":"extra"}}"#;
    pair.virsh(0).ok(["qemu-monitor-command", "vm", del]).unwrap();

    // The operator knows better.
    pair.daemon(0).stop().unwrap();
    fs::write(beside_the_root(pair.daemon(0)), format!("{shared}check_disk_cache = false\n")).unwrap();
    pair.daemon_mut(0).start_again().unwrap();
    assert!(pair.daemon(0).log_tail(50).contains("check_disk_cache is off"));
    pair.virsh(0).ok(migrate(&uri, &["--live"])).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}

/// What a source that does not look, or is no Ferry, sends.
#[test]
fn the_destination_refuses_what_the_definition_shows() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let xml = pair.virsh(0).ok(["dumpxml", "vm", "--migratable"]).unwrap();
    let (mut source, mut destination) = (Wire::open(pair.daemon(0)), Wire::open(pair.daemon(1)));
    let flags = MigrateFlags::LIVE.with(MigrateFlags::UNSAFE);
    let domain = source.ask(&DomainLookupByName { name: "vm".to_owned() }).unwrap();
    let begun = source.ask(&DomainMigrateBegin3Params { domain, params: Vec::new(), flags }).unwrap();
    let mut refused = |device: &str, text: &str| {
        let changed = xml.replacen("</devices>", &format!("{device}</devices>"), 1);
        let params = vec![TypedParam::new("destination_xml", changed.as_str())];
        let call = DomainMigratePrepare3Params { params, cookie: Cookie(begun.cookie.0.clone()), flags };
        let error: Error = destination.ask(&call).unwrap_err();
        assert_eq!(error.code, ErrorCode::OPERATION_INVALID, "{error}");
        assert_eq!(error.message, format!("{INVALID}{text}"));
    };
    for kind in ["pci", "usb", "scsi", "mdev"] {
        refused(
            &format!("<hostdev mode='subsystem' type='{kind}'><source/></hostdev>"),
            &format!("cannot migrate a domain with <hostdev mode='subsystem' type='{kind}'>"),
        );
    }
    refused(
        "<shmem name='m' role='peer'><model type='ivshmem-plain'/></shmem>",
        "shmem device 'm' cannot be migrated, only shmem with role='master' can be migrated",
    );
    refused(
        "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>",
        "vDPA devices cannot be migrated",
    );

    // Through virsh: of the definition that the user sends along, only the destination sees this.
    let file = pair.lab().shared().join("transient.xml");
    fs::write(&file, xml.replacen("</disk>", "<transient/></disk>", 1)).unwrap();
    let (uri, file) = (pair.uri(1), file.display().to_string());
    for mode in ["--verbose", "--p2p"] {
        pair.virsh(0).refused(
            &migrate(&uri, &["--live", "--unsafe", "--xml", &file, mode]),
            &format!("{INVALID}migration with transient disk is not supported (disk vda)"),
        );
    }
    pair.stayed("vm", &serial);
}

/// Begin saw nothing; by the time of Perform there is something.
#[test]
fn perform_looks_again() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let mut source = Wire::open(pair.daemon(0));
    let flags = MigrateFlags::LIVE.with(MigrateFlags::UNSAFE);
    let domain = source.ask(&DomainLookupByName { name: "vm".to_owned() }).unwrap();
    let begin = DomainMigrateBegin3Params { domain: domain.clone(), params: Vec::new(), flags };
    source.ask(&begin).unwrap();
    block(&pair);
    let perform = |flags| DomainMigratePerform3Params {
        domain: domain.clone(),
        destination_uri: None,
        params: vec![TypedParam::new("migrate_uri", "tcp:127.0.0.1:1")],
        cookie: Cookie(Vec::new()),
        flags,
    };
    let error = source.ask(&perform(flags)).unwrap_err();
    assert_eq!(error.message, format!("{INVALID}cannot migrate domain: {BLOCKER}"));
    // Nor is the disk trusted any more, once nobody answers for it.
    let error = source.ask(&perform(MigrateFlags::LIVE)).unwrap_err();
    assert!(error.message.contains("; also: Unsafe migration: "), "{error}");
    pair.stayed("vm", &serial);
}

/// A disk whose file system fills up while the guest writes to it.
#[test]
fn an_io_error_calls_a_copy_off_only_where_that_is_asked() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    if !pair.host(0).is_isolated() {
        eprintln!("a file system that fills up needs hosts in namespaces");
        return;
    }
    // Each host has its own behind the same path, so that the copy finds room for what failed.
    let (place, disk) = ("/run/small", "/run/small/vm.img");
    for (number, mib) in [(0, 24), (1, 64)] {
        let make =
            format!("mkdir {place}; mount -t tmpfs -o size={mib}M ferry-lab {place}; truncate -s 64M {disk}");
        pair.host(number).sh(&make).unwrap();
    }
    let (log, serial) = pair.listen("vm").unwrap();
    let work = Work { disk_mib: 48, disk_rate: 1, ..Work::default() };
    let boot = Boot::Linux(LinuxImage::ready(&Cache::open().unwrap()).unwrap(), work);
    let domain = Domain::new("vm", boot, ferry_testkit::guest::Port::File(log)).disk(disk, "raw");
    pair.start("vm", domain).unwrap();
    serial.wait_ready(BOOT).unwrap();

    let (virsh, uri) = (pair.virsh(0), pair.uri(1));
    virsh.ok(["migrate-setmaxdowntime", "vm", "1"]).unwrap();
    let slow = migrate(&uri, &["--live", "--unsafe", "--bandwidth", "1", "--abort-on-error"]);
    let copy = virsh.start(slow, "copy").unwrap();
    until_copying(&virsh, "vm").unwrap();
    pair.host(0).sh(&format!("cat /dev/zero > {place}/filler || true")).unwrap();
    let end = copy.wait_end(SOON).unwrap();
    assert!(end != "exit code 0", "{end}");
    let said = copy.log_tail(5);
    assert!(said.contains("operation failed: job 'migration out' failed due to I/O error"), "{said}");
    virsh.until_reason("vm", "paused (I/O error)");
    pair.is_clean(1, "vm");
    let root = pair.daemon(0).root().display().to_string();
    let told = pair.host(0).run(programs::ferry().unwrap(), ["-c", &root, "history"], SOON).unwrap();
    assert!(told.stdout.contains("stayed: the guest met an I/O error"), "{}", told.stdout);

    // It is not even begun for who wants no guest with errors.
    virsh.refused(
        &migrate(&uri, &["--live", "--unsafe", "--abort-on-error"]),
        &format!("{INVALID}cannot migrate domain with I/O error"),
    );
    // For others it goes as it is, and goes on where there is room.
    virsh.ok(["migrate-setmaxdowntime", "vm", "300"]).unwrap();
    virsh.ok(migrate(&uri, &["--live", "--unsafe"])).unwrap();
    pair.nothing_runs(0);
    assert_eq!(pair.virsh(1).state("vm").unwrap(), "paused");
    pair.virsh(1).ok(["resume", "vm"]).unwrap();
    serial.wait_beats_on(pair.ear(1), 50, SOON).unwrap();
}
