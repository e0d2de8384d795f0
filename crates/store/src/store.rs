//! The open file: how it is opened and checked, and how a change becomes durable.

use crate::error::{During, StoreError};
use crate::schema::{APPLICATION_ID, STEPS};
use rusqlite::{Connection, OpenFlags, Row, ToSql, Transaction, TransactionBehavior};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to wait for a process that has the file open, as a daemon that is just ending has.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// The open file. Calls block on the disk; they may come from any thread and take turns.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
}

/// A change under way, made by [`Store::write`]. Its parts are on the disk together or not at all.
#[derive(Debug)]
pub struct Write<'a> {
    path: &'a Path,
    transaction: Transaction<'a>,
}

impl Store {
    /// Opens the file, makes it if it is not there, and brings its tables up to date. The folder must exist. Only
    /// the daemon's user can read it, because XML may hold passwords.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is damaged, newer, or another program's is left as it was.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut private = OpenOptions::new();
        private.append(true).create(true).mode(0o600);
        private.open(path).map_err(|source| StoreError::Create { path: path.to_owned(), source })?;
        let connection = open(path).map_err(|error| match error {
            OpenError::Sqlite(source) => StoreError::new(path, During::Open, source),
            OpenError::Refused(error) => error,
        })?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// Makes several changes as one: all of them are on the disk when this returns, or none is made.
    ///
    /// # Errors
    /// What `change` returns, or [`StoreError`] when the whole could not be made durable; see there for what that
    /// means.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let failed = |source| StoreError::new(&self.path, During::Write, source);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut write = Write { path: &self.path, transaction };
        // A transaction that is dropped is rolled back.
        let value = change(&mut write)?;
        write.transaction.commit().map_err(failed)?;
        Ok(value)
    }

    /// Brings the log into the file. SQLite does so by itself once the log has a thousand pages, in the middle of the
    /// write that fills it; a daemon that calls this when nothing is under way keeps that out of a guest's pause.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails. What was written before stays in the log and is not lost.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let done = self.lock().query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()));
        done.map_err(|source| StoreError::new(&self.path, During::Write, source))
    }

    pub(crate) fn query<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.lock();
        query(&connection, sql, parameters, read)
            .map_err(|source| StoreError::new(&self.path, During::Read, source))
    }

    /// The lock is poisoned when a caller's closure panicked; its transaction was rolled back then.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write<'_> {
    /// Runs one statement and tells how many rows it changed.
    pub(crate) fn execute(&mut self, sql: &str, parameters: &[&dyn ToSql]) -> Result<usize, StoreError> {
        let done =
            self.transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(parameters));
        done.map_err(|source| StoreError::new(self.path, During::Write, source))
    }

    pub(crate) fn query<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        query(&self.transaction, sql, parameters, read)
            .map_err(|source| StoreError::new(self.path, During::Read, source))
    }
}

fn query<T>(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn ToSql],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(parameters, read)?.collect()
}

enum OpenError {
    Sqlite(rusqlite::Error),
    Refused(StoreError),
}

impl From<rusqlite::Error> for OpenError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite(source)
    }
}

fn open(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Held from the first access on. The log's index then lives in memory, not in a shared file.
    connection.pragma_update(None, "locking_mode", "exclusive")?;
    let version = check(path, &connection)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let detail = format!("journal mode is {mode}, not wal");
        return Err(OpenError::Refused(StoreError::Damaged { path: path.to_owned(), detail }));
    }
    connection.pragma_update(None, "synchronous", "full")?;
    bring_up_to_date(&mut connection, version)?;
    Ok(connection)
}

/// Looks whether the file is whole and ours, before anything in it changes. Returns its version.
fn check(path: &Path, connection: &Connection) -> Result<usize, OpenError> {
    let path = path.to_owned();
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, found) = (number("application_id")?, number("user_version")?);
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 && application == 0 && found == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(OpenError::Refused(StoreError::Foreign { path }));
    }
    let found = found.unsigned_abs();
    match usize::try_from(found) {
        Ok(version) if version <= STEPS.len() => {
            let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            let damaged = || OpenError::Refused(StoreError::Damaged { path, detail: verdict.clone() });
            if verdict == "ok" { Ok(version) } else { Err(damaged()) }
        }
        _ => {
            let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
            Err(OpenError::Refused(StoreError::Newer { path, found, known }))
        }
    }
}

/// Takes the steps that the file lacks, all or none.
fn bring_up_to_date(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(version) {
        transaction.execute_batch(step)?;
    }
    if version < STEPS.len() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", i64::try_from(STEPS.len()).unwrap_or(i64::MAX))?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_waits_for_the_disk() {
        let dir = tempfile::TempDir::new().unwrap();
        let store = Store::open(&dir.path().join("ferry.db")).unwrap();
        let connection = store.lock();
        let pragma =
            |name| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        assert_eq!(pragma("journal_mode").unwrap(), "wal".to_owned().into());
        assert_eq!(pragma("synchronous").unwrap(), 2.into(), "FULL");
        assert_eq!(pragma("locking_mode").unwrap(), "exclusive".to_owned().into());
    }

    #[test]
    fn nobody_else_reads_the_file_or_its_log() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::TempDir::new().unwrap();
        let store = Store::open(&dir.path().join("ferry.db")).unwrap();
        store.set_host_value("a", "b").unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "{:?}",
                entry.file_name()
            );
        }
    }
}
