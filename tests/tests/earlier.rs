//! What is left of an earlier migration, or of an earlier start of QEMU, does nothing to the guest of now; and what two
//! hosts cannot prove to each other, they say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use ferry_migration::cookie::{Cookie, Expected, Handover, Reader};
use ferry_migration::message::Word;
use ferry_migration::{MigrationId, Secret};
use ferry_rpc::proto::{self, HandoverTell, HandoverTellReply, MigrateBeginReply};
use ferry_store::{JournalEntry, Role, Store};
use ferry_testkit::deadline::wait_until;
use ferry_testkit::ferryd::{Ferryd, Options};
use ferry_testkit::guest::Domain;
use ferry_testkit::lab::Lab;
use ferry_testkit::programs;
use ferry_testkit::serial::Serial;
use ferry_testkit::virsh::Virsh;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::calls::Client;
use ferry_tests::doubt;
use ferry_tests::wire::Wire;
use ferry_tests::{Pair, SOON};
use uuid::Uuid;

/// What the operator's tool says of the last migration of a host.
fn history(pair: &Pair, number: usize) -> String {
    let root = pair.daemon(number).root().display().to_string();
    let words = ["-c", &root, "history", "--limit", "1"];
    pair.host(number).run(programs::ferry().unwrap(), words, SOON).unwrap().ok().unwrap()
}

/// The records of a daemon that does not run.
fn store(pair: &Pair, number: usize) -> Store {
    Store::open(&pair.database(number)).unwrap()
}

/// Stops a daemon, puts records of the migration `of` in its journal, in place of all others, and starts it again.
fn restart_with(pair: &mut Pair, number: usize, of: &JournalEntry, role: Role, kinds: &[&str]) {
    pair.daemon(number).stop().unwrap();
    let store = store(pair, number);
    for entry in store.journal().unwrap() {
        store.purge(entry.migration).unwrap();
    }
    for kind in kinds {
        store.append(&JournalEntry { role, kind: (*kind).to_owned(), ..of.clone() }).unwrap();
    }
    drop(store);
    pair.daemon_mut(number).start_again().unwrap();
}

/// The QEMU that runs on a host is the one that did, and its guest goes on as `reason` says.
fn goes_on(pair: &Pair, number: usize, qemu: &[u32], reason: &str, serial: &Serial) {
    serial.wait_beats_on(pair.ear(number), 200, SOON).unwrap();
    assert_eq!(pair.daemon(number).qemus(), qemu);
    assert_eq!(pair.virsh(number).reason("vm"), reason);
}

#[test]
fn records_about_an_earlier_start_of_qemu_do_nothing_to_a_later_one() {
    let mut pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let xml = pair.lab().shared().join("vm.xml");
    pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe", "--p2p"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    pair.daemon(0).stop().unwrap();
    let records = store(&pair, 0).journal().unwrap();
    pair.daemon_mut(0).start_again().unwrap();
    let left = records.last().expect("that the guest left is kept").clone();
    assert_eq!((left.role, left.kind.as_str()), (Role::Source, "Done"), "{records:?}");

    // The guest ends there, and is started here anew: the record that it left must not end the QEMU of now.
    pair.virsh(1).ok(["destroy", "vm"]).unwrap();
    pair.virsh(0).ok(["start", "vm"]).unwrap();
    let qemu = pair.daemon(0).qemus();
    restart_with(&mut pair, 0, &left, Role::Source, &["Begun", "Granted", "Done"]);
    goes_on(&pair, 0, &qemu, "running (booted)", &serial);
    // Nor may one that it was given away stop it.
    restart_with(&mut pair, 0, &left, Role::Source, &["Begun", "Granted"]);
    goes_on(&pair, 0, &qemu, "running (booted)", &serial);
    pair.virsh(0).ok(["suspend", "vm"]).unwrap();
    // Nor one that it stays here set a guest going that its user has stopped.
    restart_with(&mut pair, 0, &left, Role::Source, &["Begun", "Kept"]);
    assert_eq!(pair.virsh(0).reason("vm"), "paused (user)");
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();

    // The same on the other host, where an earlier QEMU was to be ended.
    pair.virsh(1).ok(["create".as_ref(), xml.as_os_str()]).unwrap();
    let qemu = pair.daemon(1).qemus();
    for kinds in [&["Prepared", "Declined"][..], &["Prepared"], &["Prepared", "Starting"]] {
        restart_with(&mut pair, 1, &left, Role::Destination, kinds);
        goes_on(&pair, 1, &qemu, "running (booted)", &serial);
    }
    pair.virsh(1).ok(["destroy", "vm"]).unwrap();
    pair.nothing_runs(1);
}

/// The names of a migration, as Begin's cookie gives them to whoever carries it.
fn names(begun: &MigrateBeginReply) -> Handover {
    let anyone = Expected { name: None, uuid: None, host_uuid: Uuid::nil() };
    Cookie::parse(&begun.cookie.0, Reader::Prepare, &anyone).unwrap().unwrap().handover.unwrap()
}

/// Says a word as if this were the daemon of the host with this UUID.
fn say(daemon: &Ferryd, host: Uuid, id: MigrationId, secret: &Secret, word: Word) -> HandoverTellReply {
    let (number, nonce) = (u32::from(word.number()), [9; 16]);
    let parts: [&[u8]; 6] = [b"tell", id.as_bytes(), host.as_bytes(), &number.to_be_bytes(), &nonce, &[]];
    let call = HandoverTell {
        migration: *id.as_bytes(),
        host,
        word: number,
        nonce,
        proof: secret.prove(&parts).0,
        cookie: proto::Cookie::default(),
    };
    Wire::open(daemon).ask(&call).unwrap()
}

fn host_uuid(pair: &Pair, number: usize) -> Uuid {
    let shown = pair.virsh(number).ok(["capabilities"]).unwrap();
    let (_, rest) = shown.split_once("<uuid>").unwrap();
    rest[..36].parse().unwrap()
}

#[test]
fn words_of_strangers_and_of_an_earlier_migration_settle_nothing() {
    let Some((pair, serial)) = doubt::hosts().unwrap() else { return };
    let there = host_uuid(&pair, 1);

    // One migration that was called off, of which somebody has kept the names.
    let mut client = Client::new(&pair, 0);
    let begun = client.begin().unwrap();
    client.prepare(&begun).unwrap();
    client.finish(&proto::Cookie::default(), true).unwrap_err();
    drop(client);
    pair.stayed("vm", &serial);
    let earlier = names(&begun);

    // And one that is in doubt: granted, and the destination cannot be asked.
    let _client = doubt::fall_into(&pair).unwrap();
    let log = pair.daemon(0).log_tail(200);
    let (_, last) = log.rsplit_once("leaving domain=").unwrap();
    let (_, id) = last.split_once("migration=").unwrap();
    let present: MigrationId = id[..32].parse().unwrap();

    for (id, secret, whose) in [
        (earlier.id, &earlier.secret, "an earlier migration's own"),
        (present, &earlier.secret, "this migration's, with the secret of an earlier one"),
        (present, &Secret::from_bytes([0; 16]), "this migration's, from a stranger"),
        (MigrationId::from_bytes([7; 16]), &earlier.secret, "nobody's"),
    ] {
        for word in Word::ALL {
            let answer = say(pair.daemon(0), there, id, secret, word);
            let said: Vec<_> =
                answer.words.iter().map(|number| Word::from_number(u8::try_from(*number).unwrap())).collect();
            // What a daemon says of what it does not know; of the earlier one, that the guest stayed.
            let harmless = [Some(Word::Settled), Some(Word::Kept)];
            assert!(said.iter().all(|word| harmless.contains(word)), "{whose}: {word} {said:?}");
            assert!(answer.cookie.0.is_empty(), "{whose}: {word}");
        }
        assert_eq!(pair.virsh(0).reason("vm"), "paused (migrating)", "{whose}");
        assert!(pair.virsh(0).ok(["dominfo", "vm"]).unwrap().contains(doubt::REASON), "{whose}");
    }
    pair.host(1).heal().unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}

#[test]
fn hosts_that_cannot_ask_each_other_say_that_nothing_is_proven() {
    let tools = Pair::distribution();
    let options = || Options { tcp: false, ..Options::default() };
    let pair = Pair::with([&tools, &tools], [options(), options()]).unwrap();
    if !pair.host(0).is_isolated() {
        return; // Sockets of one machine reach each other.
    }
    let serial = pair.boot_sector("vm").unwrap();
    let mut client = Client::new(&pair, 0);
    let finished = client.move_unconfirmed().unwrap();
    client.confirm(&finished.cookie, false).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
    for number in [0, 1] {
        let told = history(&pair, number);
        let part = "best effort: neither daemon has an address at which the other could ask";
        assert!(told.contains(part), "{told}");
        assert!(pair.daemon(number).log_tail(20).contains(part), "the log of host {number}");
    }
    drop(client);

    // Back, and the coordinator dies before it can tell the source that the guest runs.
    let mut client = Client::new(&pair, 1);
    client.move_unconfirmed().unwrap();
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
    drop(client);
    pair.virsh(1).until_reason("vm", "paused (migrating)");
    doubt::wait_shown(&pair, 1).unwrap();
    let virsh = pair.virsh(1);
    virsh.refused(&["resume", "vm"], doubt::REASON);

    // A guest that comes from where this one went, in a later migration, proves that it ran there. One of before does not.
    let mut client = Client::new(&pair, 0);
    let begun = client.begin().unwrap();
    let mut old = begun.clone();
    let text = String::from_utf8(old.cookie.0).unwrap();
    assert!(text.contains("epoch='3'"), "{text}");
    old.cookie = proto::Cookie(text.replace("epoch='3'", "epoch='2'").into_bytes());
    client.prepare(&old).map(|_| ()).unwrap_err();
    assert_eq!(virsh.reason("vm"), "paused (migrating)");
    let prepared = client.prepare(&begun).unwrap();
    let performed = client.perform(&prepared, &[]).unwrap();
    let finished = client.finish(&performed, false).unwrap();
    client.confirm(&finished.cookie, false).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}

/// Three hosts in a row and back to the first, twice round; every daemon that was left is killed and started again before
/// the guest goes on.
#[test]
fn around_three_hosts_whose_daemons_are_killed_meanwhile() {
    let tools = Pair::distribution();
    let names = ["h1", "h2", "h3"];
    if !rustix::process::geteuid().is_root() {
        return; // Hosts that find each other by name need namespaces.
    }
    let lab = Lab::new(&names.map(|name| (name, &tools))).unwrap();
    let mut daemons = [0, 1, 2].map(|number| Ferryd::start(lab.host(number), Options::default()).unwrap());
    let log = "/run/vm.log";
    let serial = Serial::follow([0, 1, 2].map(|number| (names[number], lab.host(number).seen(log)))).unwrap();
    let domain = Domain::boot_sector("vm", &lab.shared().join("vm.img"), log).unwrap();
    let xml = domain.emulator(lab.host(0).emulator()).write(lab.shared().join("vm.xml")).unwrap();
    let virsh = |daemons: &[Ferryd; 3], number: usize| Virsh::new(lab.host(number), daemons[number].uri());
    virsh(&daemons, 0).define_and_start("vm", &xml).unwrap();
    serial.wait_beats_on(names[0], 50, SOON).unwrap();
    for step in 0..6 {
        let (from, to) = (step % 3, (step + 1) % 3);
        let uri = daemons[to].tcp_uri();
        let mode = ["--p2p", "--verbose"][step % 2];
        virsh(&daemons, from).ok(["migrate", "vm", &uri, "--live", "--unsafe", mode]).unwrap();
        daemons[from].kill_and_restart().unwrap();
        serial.wait_beats_on(names[to], 50, SOON).unwrap();
        let running = [0, 1, 2].map(|number| daemons[number].qemus().len());
        assert_eq!(running[to], 1, "step {step}: {running:?}");
        wait_until("the QEMU that was left to be gone", SOON, || daemons[from].qemus().is_empty()).unwrap();
        assert_eq!(virsh(&daemons, to).reason("vm"), "running (migrated)", "step {step}");
    }
    daemons[0].kill_and_restart().unwrap();
    assert_eq!(virsh(&daemons, 0).reason("vm"), "running (migrated)");
    serial.wait_beats_on(names[0], 50, SOON).unwrap();
    serial.verdict().whole().unwrap();
}
