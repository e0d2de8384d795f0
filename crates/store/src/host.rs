//! Values of the host itself: its UUID, and whatever else is one per host.

use crate::{Store, StoreError, Write};

impl Store {
    /// The value of this name.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn host_value(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.query("SELECT value FROM host WHERE name = ?1", &[&name], |row| row.get(0))?.pop())
    }

    /// Sets the value of this name.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn set_host_value(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.write(|write| write.set_host_value(name, value))
    }
}

impl Write<'_> {
    /// See [`Store::set_host_value`].
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn set_host_value(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO host VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.execute(sql, &[&name, &value]).map(drop)
    }
}
