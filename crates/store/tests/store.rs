//! The store over a restart, a power cut, a full disk and a damaged file.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use ferry_store::{
    Definition, Direction, GuestRecord, HistoryEntry, JournalEntry, Role, Snapshot, Store, StoreError,
    StoredSecret, Write,
};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use uuid::Uuid;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ferry.db")
    }

    fn open(&self) -> Store {
        Store::open(&self.path()).unwrap()
    }
}

fn definition(number: u128, name: &str) -> Definition {
    let uuid = Uuid::from_u128(number);
    Definition {
        uuid,
        name: name.to_owned(),
        xml: format!("<domain><name>{name}</name></domain>"),
        autostart: false,
    }
}

fn guest(number: u128, name: &str) -> GuestRecord {
    GuestRecord {
        uuid: Uuid::from_u128(number),
        name: name.to_owned(),
        id: 7,
        launch_id: "0f3a".to_owned(),
        pid: 4711,
        start_ticks: 123_456_789,
        boot_id: "d3b07384-d9a0-4f5c-9f3e-000000000001".to_owned(),
        run_dir: "/run/ferry/0f3a".into(),
        xml: "<domain id='7'/>".to_owned(),
        state: 1,
        reason: -1,
        transient: true,
        next_node: 5,
        driver: json!({"vnc": 5900, "ptys": ["/dev/pts/3"]}),
    }
}

fn entry(migration: u128, epoch: u64, kind: &str) -> JournalEntry {
    JournalEntry {
        migration,
        epoch,
        role: Role::Source,
        domain: Uuid::from_u128(1),
        kind: kind.to_owned(),
        body: json!({"peer": "beta"}),
        at_ms: 1_700_000_000_000,
    }
}

fn history(migration: u128, started_ms: u64) -> HistoryEntry {
    HistoryEntry {
        migration,
        domain: Uuid::from_u128(1),
        name: "web".to_owned(),
        direction: Direction::Out,
        peer: "beta".to_owned(),
        started_ms,
        ended_ms: Some(started_ms + 400),
        result: "completed".to_owned(),
        guarantee: "proven".to_owned(),
        statistics: json!({"downtime_ms": 12}),
    }
}

#[test]
fn everything_is_found_again_after_a_restart() {
    let place = Place::new();
    let store = place.open();
    store.set_host_value("uuid", "a").unwrap();
    store.set_host_value("uuid", "b").unwrap();
    store.save_definition(&definition(2, "web")).unwrap();
    store.save_definition(&definition(1, "db")).unwrap();
    assert!(store.set_autostart(Uuid::from_u128(1), true).unwrap());
    store.save_guest(&guest(2, "web")).unwrap();
    store.append(&entry(u128::MAX, 1, "Begun")).unwrap();
    store.append(&JournalEntry { role: Role::Destination, ..entry(3, 9, "Prepared") }).unwrap();
    store.append(&entry(u128::MAX, 1, "Granted")).unwrap();
    store.save_history(&history(5, 1000)).unwrap();
    store
        .save_history(&HistoryEntry { direction: Direction::In, ended_ms: None, ..history(6, 2000) })
        .unwrap();
    drop(store);

    let store = place.open();
    assert_eq!(store.host_value("uuid").unwrap().as_deref(), Some("b"));
    assert_eq!(store.host_value("other").unwrap(), None);
    let db = Definition { autostart: true, ..definition(1, "db") };
    assert_eq!(store.definitions().unwrap(), [db.clone(), definition(2, "web")]);
    assert_eq!(store.definition(db.uuid).unwrap(), Some(db));
    assert_eq!(store.guests().unwrap(), [guest(2, "web")]);
    let kinds: Vec<_> =
        store.journal().unwrap().into_iter().map(|entry| (entry.migration, entry.kind)).collect();
    assert_eq!(
        kinds,
        [(u128::MAX, "Begun".to_owned()), (3, "Prepared".to_owned()), (u128::MAX, "Granted".to_owned())]
    );
    assert_eq!(
        store.journal_of(3).unwrap(),
        [JournalEntry { role: Role::Destination, ..entry(3, 9, "Prepared") }]
    );
    let directions: Vec<_> = store.history(10).unwrap().into_iter().map(|entry| entry.direction).collect();
    assert_eq!(directions, [Direction::In, Direction::Out]);
    assert_eq!(store.history(1).unwrap().len(), 1);
}

#[test]
fn saving_again_replaces_and_removing_tells_whether_it_was_there() {
    let place = Place::new();
    let store = place.open();
    store.save_definition(&definition(1, "db")).unwrap();
    store.save_definition(&definition(1, "renamed")).unwrap();
    assert_eq!(store.definitions().unwrap(), [definition(1, "renamed")]);
    store.save_guest(&guest(1, "db")).unwrap();
    store.save_guest(&GuestRecord { state: 3, ..guest(1, "db") }).unwrap();
    assert_eq!(store.guests().unwrap(), [GuestRecord { state: 3, ..guest(1, "db") }]);
    let one = Uuid::from_u128(1);
    assert_eq!([store.remove_definition(one).unwrap(), store.remove_definition(one).unwrap()], [true, false]);
    assert_eq!([store.remove_guest(one).unwrap(), store.remove_guest(one).unwrap()], [true, false]);
    assert!(!store.set_autostart(one, true).unwrap());
}

#[test]
fn two_domains_cannot_share_a_name() {
    let place = Place::new();
    let store = place.open();
    store.save_definition(&definition(1, "db")).unwrap();
    store.save_guest(&guest(1, "db")).unwrap();
    let refused = [store.save_definition(&definition(2, "db")), store.save_guest(&guest(2, "db"))];
    for refusal in refused {
        let Err(StoreError::NameTaken { name, holder }) = refusal else { panic!("{refusal:?}") };
        assert_eq!((name.as_str(), holder), ("db", Uuid::from_u128(1)));
    }
    assert_eq!(store.definitions().unwrap(), [definition(1, "db")]);
    assert_eq!(store.guests().unwrap(), [guest(1, "db")]);
}

#[test]
fn the_epoch_outlives_the_journal_and_never_falls() {
    let place = Place::new();
    let store = place.open();
    let domain = Uuid::from_u128(1);
    assert_eq!(store.epoch(domain).unwrap(), 0);
    store.append(&entry(1, 4, "Begun")).unwrap();
    store.append(&entry(2, 3, "Begun")).unwrap();
    assert_eq!(store.purge(1).unwrap(), 1);
    assert_eq!(store.purge(1).unwrap(), 0);
    assert_eq!(store.journal().unwrap(), [entry(2, 3, "Begun")]);
    assert_eq!(store.epoch(domain).unwrap(), 4);
    drop(store);
    assert_eq!(place.open().epoch(domain).unwrap(), 4);
}

#[test]
fn an_epoch_that_no_column_holds_is_an_error_and_leaves_nothing() {
    let place = Place::new();
    let store = place.open();
    assert!(matches!(store.append(&entry(1, u64::MAX, "Begun")), Err(StoreError::Write { .. })));
    assert_eq!(store.journal().unwrap(), []);
    store.append(&entry(1, i64::MAX.unsigned_abs(), "Begun")).unwrap();
}

#[test]
fn changes_made_together_are_there_together_or_not_at_all() {
    let place = Place::new();
    let store = place.open();
    store.save_guest(&guest(1, "db")).unwrap();
    let end = |write: &mut Write<'_>| {
        write.append(&entry(1, 1, "Done"))?;
        write.remove_guest(Uuid::from_u128(1))?;
        write.save_definition(&definition(1, "db"))?;
        write.save_definition(&definition(2, "db"))
    };
    assert!(matches!(store.write(end), Err(StoreError::NameTaken { .. })));
    assert_eq!((store.journal().unwrap().len(), store.guests().unwrap().len()), (0, 1));

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.write(|write| -> Result<(), StoreError> {
            write.append(&entry(1, 1, "Done"))?;
            panic!("a bug of the caller")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(store.journal().unwrap(), []);
    store.append(&entry(1, 1, "Done")).unwrap();
}

#[test]
fn the_history_is_trimmed_to_the_newest_but_keeps_what_goes_on() {
    let place = Place::new();
    let store = place.open();
    for number in 0..10 {
        store.save_history(&history(number, 1000 + u64::try_from(number).unwrap())).unwrap();
    }
    store.save_history(&HistoryEntry { ended_ms: None, ..history(99, 1) }).unwrap();
    assert_eq!(store.write(|write| write.trim_history(3)).unwrap(), 7);
    let left: Vec<_> = store.history(100).unwrap().into_iter().map(|entry| entry.migration).collect();
    assert_eq!(left, [9, 8, 7, 99]);
}

/// The files as they lie there at some moment, log included: what a power cut leaves.
fn cut_power(from: &Path, to: &Path) {
    for name in ["ferry.db", "ferry.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn a_power_cut_after_any_write_loses_none_of_those_before() {
    let place = Place::new();
    let store = place.open();
    for number in 1..=20_u64 {
        store.append(&entry(u128::from(number), number, "Begun")).unwrap();
        let after = Place::new();
        cut_power(place.dir.path(), after.dir.path());
        let epochs: Vec<_> = after.open().journal().unwrap().into_iter().map(|entry| entry.epoch).collect();
        assert_eq!(epochs, (1..=number).collect::<Vec<_>>());
    }
}

#[test]
fn a_power_cut_in_the_middle_of_a_write_loses_that_write_only() {
    let place = Place::new();
    let store = place.open();
    store.append(&entry(1, 1, "Begun")).unwrap();
    let before = fs::metadata(place.dir.path().join("ferry.db-wal")).unwrap().len();
    store.append(&entry(1, 1, "Granted")).unwrap();
    let after = fs::metadata(place.dir.path().join("ferry.db-wal")).unwrap().len();
    assert!(after > before);
    for length in (before..after).step_by(512) {
        let torn = Place::new();
        cut_power(place.dir.path(), torn.dir.path());
        fs::OpenOptions::new()
            .write(true)
            .open(torn.dir.path().join("ferry.db-wal"))
            .unwrap()
            .set_len(length)
            .unwrap();
        let store = torn.open();
        let kinds: Vec<_> = store.journal().unwrap().into_iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, ["Begun"], "log cut at {length} of {after} bytes");
        store.append(&entry(1, 1, "Kept")).unwrap();
    }
}

#[test]
fn after_a_checkpoint_the_log_starts_over() {
    let place = Place::new();
    let store = place.open();
    let log = || fs::metadata(place.dir.path().join("ferry.db-wal")).unwrap().len();
    for number in 1..=50 {
        store.append(&entry(1, number, "Begun")).unwrap();
    }
    let full = log();
    store.checkpoint().unwrap();
    for number in 51..=90 {
        store.append(&entry(1, number, "Begun")).unwrap();
    }
    assert_eq!(log(), full);
    let after = Place::new();
    cut_power(place.dir.path(), after.dir.path());
    assert_eq!(after.open().journal().unwrap().len(), 90);
}

#[test]
fn a_second_process_is_refused() {
    let place = Place::new();
    let _first = place.open();
    let error = Store::open(&place.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
}

#[test]
fn a_missing_folder_and_a_folder_in_place_of_the_file_are_errors_that_name_it() {
    let place = Place::new();
    for path in [place.dir.path().join("none/ferry.db"), place.dir.path().to_owned()] {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Create { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_was() {
    let place = Place::new();
    drop(place.open());
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    raw.pragma_update(None, "user_version", 1000).unwrap();
    drop(raw);
    let before = fs::read(place.path()).unwrap();
    let error = Store::open(&place.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 1000, .. }), "{error:?}");
    assert!(error.to_string().contains("ferry.db has schema version 1000"), "{error}");
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_file_of_an_older_version_is_brought_up_to_date_and_keeps_what_it_has() {
    let place = Place::new();
    place.open().save_definition(&definition(1, "vm")).unwrap();
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    raw.execute_batch("DROP TABLE secret; DROP TABLE snapshot; PRAGMA user_version = 1").unwrap();
    drop(raw);
    let store = place.open();
    assert_eq!(store.definitions().unwrap(), [definition(1, "vm")]);
    assert_eq!(store.secrets().unwrap(), []);
}

#[test]
fn secrets_are_kept_whatever_their_bytes_and_are_not_shown() {
    let place = Place::new();
    let secret = |value: Option<&[u8]>| StoredSecret {
        uuid: Uuid::from_u128(5),
        xml: "<secret/>".to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    place.open().save_secret(&secret(None)).unwrap();
    place.open().save_secret(&secret(Some(b"\0\xffsesame"))).unwrap();
    let store = place.open();
    assert_eq!(store.secrets().unwrap(), [secret(Some(b"\0\xffsesame"))]);
    assert!(!format!("{:?}", store.secrets().unwrap()).contains("115"), "the value's bytes are not shown");
    assert!(store.remove_secret(Uuid::from_u128(5)).unwrap());
    assert!(!store.remove_secret(Uuid::from_u128(5)).unwrap());
}

#[test]
fn another_programs_database_is_refused() {
    let place = Place::new();
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    raw.execute_batch("CREATE TABLE cookies (flavour TEXT)").unwrap();
    drop(raw);
    let error = Store::open(&place.path()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let place = Place::new();
    fs::write(place.path(), "once upon a time ".repeat(1000)).unwrap();
    let error = Store::open(&place.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("ferry.db is damaged"), "{error}");
}

#[test]
fn a_damaged_page_is_noticed_at_open() {
    let place = Place::new();
    let store = place.open();
    for number in 0..200 {
        store.save_definition(&definition(number, &format!("guest{number}"))).unwrap();
    }
    drop(store);
    let mut bytes = fs::read(place.path()).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xa5);
    fs::write(place.path(), bytes).unwrap();
    let error = Store::open(&place.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_value_that_is_not_what_its_column_says_is_damage() {
    let place = Place::new();
    drop(place.open());
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    raw.execute_batch("INSERT INTO definition VALUES ('not a uuid', 'x', '<domain/>', 0)").unwrap();
    drop(raw);
    let error = place.open().definitions().unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn snapshots_are_known_by_their_domain_and_one_of_them_is_the_current_one() {
    let place = Place::new();
    let store = place.open();
    let snapshot = |domain: u128, name: &str, parent: Option<&str>| Snapshot {
        domain: Uuid::from_u128(domain),
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        is_current: true,
        xml: format!("<domainsnapshot><name>{name}</name></domainsnapshot>"),
    };
    for snapshot in [snapshot(1, "b", None), snapshot(1, "a", Some("b")), snapshot(2, "b", None)] {
        store.save_snapshot(&snapshot).unwrap();
    }
    drop(store);
    let store = place.open();
    let names = |domain| -> Vec<(String, bool)> {
        let all = store.snapshots(Uuid::from_u128(domain)).unwrap();
        all.into_iter().map(|snapshot| (snapshot.name, snapshot.is_current)).collect()
    };
    let named = |name: &str, current| (name.to_owned(), current);
    assert_eq!(names(1), [named("b", false), named("a", true)]);
    assert_eq!(names(2), [named("b", true)]);
    store.save_snapshot(&Snapshot { is_current: false, ..snapshot(2, "b", None) }).unwrap();
    assert_eq!(names(2), [named("b", false)], "written over");

    assert!(store.remove_snapshot(Uuid::from_u128(1), "a").unwrap());
    assert!(!store.remove_snapshot(Uuid::from_u128(1), "a").unwrap());
    assert_eq!(names(1), [named("b", true)], "what it was based on");
    assert_eq!(store.remove_snapshots(Uuid::from_u128(1)).unwrap(), 1);
    assert_eq!((names(1).len(), names(2).len()), (0, 1));
}
