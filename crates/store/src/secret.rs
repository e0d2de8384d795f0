//! Secrets that outlive the daemon. The file is its user's alone.

use crate::value::Text;
use crate::{Store, StoreError, Write};
use rusqlite::Row;
use uuid::Uuid;

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its description; the value is not in it.
    pub xml: String,
    /// Its value, any bytes. `None`: not set.
    pub value: Option<Vec<u8>>,
}

/// The value is not for logs.
impl std::fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSecret").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

const COLUMNS: &str = "uuid, xml, value";

impl StoredSecret {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let Text(uuid) = row.get("uuid")?;
        Ok(Self { uuid, xml: row.get("xml")?, value: row.get("value")? })
    }
}

impl Store {
    /// Every secret.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn secrets(&self) -> Result<Vec<StoredSecret>, StoreError> {
        self.query(&format!("SELECT {COLUMNS} FROM secret ORDER BY uuid"), &[], StoredSecret::read)
    }

    /// Keeps a secret, in place of an earlier one with its UUID.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn save_secret(&self, secret: &StoredSecret) -> Result<(), StoreError> {
        self.write(|write| write.save_secret(secret))
    }

    /// Forgets a secret. `false` when there was none.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn remove_secret(&self, uuid: Uuid) -> Result<bool, StoreError> {
        self.write(|write| write.remove_secret(uuid))
    }
}

impl Write<'_> {
    /// See [`Store::save_secret`].
    ///
    /// # Errors
    /// The same.
    pub fn save_secret(&mut self, secret: &StoredSecret) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO secret ({COLUMNS}) VALUES (?1, ?2, ?3)
             ON CONFLICT (uuid) DO UPDATE SET xml = excluded.xml, value = excluded.value"
        );
        self.execute(&sql, &[&Text(secret.uuid), &secret.xml, &secret.value]).map(drop)
    }

    /// See [`Store::remove_secret`].
    ///
    /// # Errors
    /// The same.
    pub fn remove_secret(&mut self, uuid: Uuid) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM secret WHERE uuid = ?1", &[&Text(uuid)])? > 0)
    }
}
