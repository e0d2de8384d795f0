//! The store on a disk that is full: an error, nothing half written, and it goes on when there is room again.
//!
//! A limit on the size of files stands in for the disk. It holds for a whole process, so the test runs itself again
//! under it.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use ferry_store::{JournalEntry, Role, Store, StoreError};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use uuid::Uuid;

fn entry(epoch: u64) -> JournalEntry {
    JournalEntry {
        migration: u128::from(epoch),
        epoch,
        role: Role::Destination,
        domain: Uuid::from_u128(1),
        kind: "Prepared".to_owned(),
        body: json!({"filler": "x".repeat(3000)}),
        at_ms: 0,
    }
}

/// Where the process under the limit finds its file.
const PLACE: &str = "FERRY_TEST_FULL_DISK";

fn epochs(store: &Store) -> Vec<u64> {
    store.journal().unwrap().into_iter().map(|entry| entry.epoch).collect()
}

#[test]
fn a_full_disk_is_an_error_and_what_was_written_before_stays() {
    if let Some(path) = std::env::var_os(PLACE) {
        return fill(Path::new(&path));
    }
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("ferry.db");
    // The signal is ignored, so that the write fails instead of ending the process.
    let limited = "trap '' XFSZ; ulimit -f 200; exec \"$0\" --exact a_full_disk_is_an_error_and_what_was_written_before_stays";
    let status = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .env(PLACE, &path)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");

    let store = Store::open(&path).unwrap();
    let written = epochs(&store);
    let last = u64::try_from(written.len()).unwrap();
    assert_eq!(written, (1..=last).collect::<Vec<_>>());
    store.append(&entry(last + 1)).unwrap();
    assert_eq!(epochs(&store).len(), written.len() + 1);
}

/// Writes until the disk is full, then once more, and looks what is there.
fn fill(path: &Path) {
    let store = Store::open(path).unwrap();
    let mut written = 0;
    let error = loop {
        match store.append(&entry(written + 1)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the limit does not bite");
    };
    assert!(matches!(error, StoreError::Write { .. } | StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("ferry.db"), "{error}");
    assert!(written > 0);
    assert_eq!(epochs(&store), (1..=written).collect::<Vec<_>>());
    assert!(store.append(&entry(written + 1)).is_err(), "still full");
}
