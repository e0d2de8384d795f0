//! The history: one row for each migration, for people. Nothing is decided by it but that no id is used twice.

use crate::value::{Json, Text};
use crate::{Store, StoreError, Write};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde_json::Value;
use uuid::Uuid;

/// Which way a guest went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Away from this host.
    Out,
    /// To this host.
    In,
}

/// One migration.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// Its id: 128 random bits.
    pub migration: u128,
    /// The guest.
    pub domain: Uuid,
    /// The guest's name at the time.
    pub name: String,
    /// Which way it went.
    pub direction: Direction,
    /// The other host, as it named itself.
    pub peer: String,
    /// When it began, in milliseconds since 1970 by the caller's clock.
    pub started_ms: u64,
    /// When it ended; `None` while it goes on or is in doubt.
    pub ended_ms: Option<u64>,
    /// How it ended, or stands.
    pub result: String,
    /// What was promised about two hosts running the guest: proven, or best effort.
    pub guarantee: String,
    /// Its figures.
    pub statistics: Value,
}

const COLUMNS: &str =
    "migration, domain, name, direction, peer, started_ms, ended_ms, result, guarantee, statistics";

impl HistoryEntry {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (Text(migration), Text(domain), Json(statistics)) =
            (row.get("migration")?, row.get("domain")?, row.get("statistics")?);
        Ok(Self {
            migration,
            domain,
            name: row.get("name")?,
            direction: row.get("direction")?,
            peer: row.get("peer")?,
            started_ms: row.get("started_ms")?,
            ended_ms: row.get("ended_ms")?,
            result: row.get("result")?,
            guarantee: row.get("guarantee")?,
            statistics,
        })
    }
}

impl Store {
    /// The last migrations, newest first, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn history(&self, limit: u32) -> Result<Vec<HistoryEntry>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM history ORDER BY started_ms DESC, rowid DESC LIMIT ?1");
        self.query(&sql, &[&limit], HistoryEntry::read)
    }

    /// Whether there is a row of this migration.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn is_in_history(&self, migration: u128) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM history WHERE migration = ?1)";
        Ok(self.query(sql, &[&Text(migration)], |row| row.get(0))?.pop().unwrap_or(false))
    }

    /// Keeps what is known of a migration, in place of what was known before.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn save_history(&self, entry: &HistoryEntry) -> Result<(), StoreError> {
        self.write(|write| write.save_history(entry))
    }
}

impl Write<'_> {
    /// See [`Store::save_history`].
    ///
    /// # Errors
    /// The same.
    pub fn save_history(&mut self, entry: &HistoryEntry) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT OR REPLACE INTO history ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        );
        self.execute(
            &sql,
            &[
                &Text(entry.migration),
                &Text(entry.domain),
                &entry.name,
                &entry.direction,
                &entry.peer,
                &entry.started_ms,
                &entry.ended_ms,
                &entry.result,
                &entry.guarantee,
                &Json(&entry.statistics),
            ],
        )
        .map(drop)
    }

    /// Drops all but the newest `keep` entries that have ended. Tells how many went.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn trim_history(&mut self, keep: u32) -> Result<usize, StoreError> {
        let sql = "DELETE FROM history WHERE ended_ms IS NOT NULL AND rowid NOT IN
                   (SELECT rowid FROM history ORDER BY started_ms DESC, rowid DESC LIMIT ?1)";
        self.execute(sql, &[&keep])
    }
}

impl rusqlite::ToSql for Direction {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(match self {
            Self::Out => "out",
            Self::In => "in",
        }))
    }
}

impl FromSql for Direction {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "out" => Ok(Self::Out),
            "in" => Ok(Self::In),
            other => Err(FromSqlError::Other(format!("{other:?} is no direction").into())),
        }
    }
}
