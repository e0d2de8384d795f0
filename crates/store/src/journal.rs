//! The journal of handovers: what each side wrote down before it acted, until the other side knows the end.
//!
//! The migration room decides what is written and folds what is read; here an entry is a kind and a JSON body.
//! Entries are only ever added, and dropped with their whole migration, so the table stays small and has no index:
//! an entry costs one page in the log. The epoch of a guest stays when its
//! journal goes, so that a later migration is never taken for an earlier one.

use crate::value::{Json, Text};
use crate::{Store, StoreError, Write};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde_json::Value;
use uuid::Uuid;

/// Which side of a migration this host is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The guest leaves this host.
    Source,
    /// The guest comes to this host.
    Destination,
}

/// One record of one migration.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// The migration: 128 random bits.
    pub migration: u128,
    /// The migrations of one guest, in order.
    pub epoch: u64,
    /// Which side wrote it.
    pub role: Role,
    /// The guest.
    pub domain: Uuid,
    /// What was written: `Begun`, `Granted`, ….
    pub kind: String,
    /// What else it says.
    pub body: Value,
    /// When, in milliseconds since 1970 by the caller's clock. For people; order is the order of writing.
    pub at_ms: u64,
}

const COLUMNS: &str = "migration, epoch, role, domain, kind, body, at_ms";

impl JournalEntry {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (Text(migration), Text(domain), Json(body)) =
            (row.get("migration")?, row.get("domain")?, row.get("body")?);
        Ok(Self {
            migration,
            epoch: row.get("epoch")?,
            role: row.get("role")?,
            domain,
            kind: row.get("kind")?,
            body,
            at_ms: row.get("at_ms")?,
        })
    }
}

impl Store {
    /// Every entry of every migration that was not purged, in the order of writing.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn journal(&self) -> Result<Vec<JournalEntry>, StoreError> {
        self.query(&format!("SELECT {COLUMNS} FROM journal ORDER BY sequence"), &[], JournalEntry::read)
    }

    /// The entries of one migration, in the order of writing.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn journal_of(&self, migration: u128) -> Result<Vec<JournalEntry>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM journal WHERE migration = ?1 ORDER BY sequence");
        self.query(&sql, &[&Text(migration)], JournalEntry::read)
    }

    /// Adds an entry. What it records may be done once this has returned without an error.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn append(&self, entry: &JournalEntry) -> Result<(), StoreError> {
        self.write(|write| write.append(entry))
    }

    /// Drops the entries of a migration whose end both sides know. Tells how many there were.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn purge(&self, migration: u128) -> Result<usize, StoreError> {
        self.write(|write| write.purge(migration))
    }

    /// The last epoch of a guest, 0 when it was never migrated.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn epoch(&self, domain: Uuid) -> Result<u64, StoreError> {
        let sql = "SELECT last FROM epoch WHERE domain = ?1";
        Ok(self.query(sql, &[&Text(domain)], |row| row.get(0))?.pop().unwrap_or(0))
    }
}

impl Write<'_> {
    /// See [`Store::append`]. The guest's epoch rises to the entry's if that is higher.
    ///
    /// # Errors
    /// The same.
    pub fn append(&mut self, entry: &JournalEntry) -> Result<(), StoreError> {
        let JournalEntry { migration, epoch, role, domain, kind, body, at_ms } = entry;
        let sql = "INSERT INTO epoch VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET last = excluded.last WHERE excluded.last > last";
        self.execute(sql, &[&Text(*domain), epoch])?;
        let sql = format!("INSERT INTO journal ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
        self.execute(&sql, &[&Text(*migration), epoch, role, &Text(*domain), kind, &Json(body), at_ms])
            .map(drop)
    }

    /// See [`Store::purge`].
    ///
    /// # Errors
    /// The same.
    pub fn purge(&mut self, migration: u128) -> Result<usize, StoreError> {
        self.execute("DELETE FROM journal WHERE migration = ?1", &[&Text(migration)])
    }
}

impl rusqlite::ToSql for Role {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }))
    }
}

impl FromSql for Role {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "source" => Ok(Self::Source),
            "destination" => Ok(Self::Destination),
            other => Err(FromSqlError::Other(format!("{other:?} is no side of a migration").into())),
        }
    }
}
