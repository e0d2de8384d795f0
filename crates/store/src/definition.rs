//! Definitions: the domains that are there whether they run or not.

use crate::value::Text;
use crate::{Store, StoreError, Write};
use rusqlite::Row;
use uuid::Uuid;

/// A domain that is there whether it runs or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its name; no two definitions share one.
    pub name: String,
    /// Its XML, complete with the addresses that it was given.
    pub xml: String,
    /// It starts with the host.
    pub autostart: bool,
}

const COLUMNS: &str = "uuid, name, xml, autostart";

impl Definition {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let Text(uuid) = row.get("uuid")?;
        Ok(Self { uuid, name: row.get("name")?, xml: row.get("xml")?, autostart: row.get("autostart")? })
    }
}

impl Store {
    /// Every definition, by name.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        self.query(&format!("SELECT {COLUMNS} FROM definition ORDER BY name"), &[], Definition::read)
    }

    /// One definition.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn definition(&self, uuid: Uuid) -> Result<Option<Definition>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM definition WHERE uuid = ?1");
        Ok(self.query(&sql, &[&Text(uuid)], Definition::read)?.pop())
    }

    /// Keeps a definition, in place of an earlier one with its UUID.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] when another definition has its name; others when it is not on the disk.
    pub fn save_definition(&self, definition: &Definition) -> Result<(), StoreError> {
        self.write(|write| write.save_definition(definition))
    }

    /// Sets whether a domain starts with the host. `false` when it is not defined.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn set_autostart(&self, uuid: Uuid, autostart: bool) -> Result<bool, StoreError> {
        self.write(|write| write.set_autostart(uuid, autostart))
    }

    /// Forgets a definition. `false` when there was none.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn remove_definition(&self, uuid: Uuid) -> Result<bool, StoreError> {
        self.write(|write| write.remove_definition(uuid))
    }
}

impl Write<'_> {
    /// See [`Store::save_definition`].
    ///
    /// # Errors
    /// The same.
    pub fn save_definition(&mut self, definition: &Definition) -> Result<(), StoreError> {
        let Definition { uuid, name, xml, autostart } = definition;
        self.refuse_taken_name("definition", name, *uuid)?;
        let sql = format!(
            "INSERT INTO definition ({COLUMNS}) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (uuid) DO UPDATE
             SET name = excluded.name, xml = excluded.xml, autostart = excluded.autostart"
        );
        self.execute(&sql, &[&Text(*uuid), name, xml, autostart]).map(drop)
    }

    /// See [`Store::set_autostart`].
    ///
    /// # Errors
    /// The same.
    pub fn set_autostart(&mut self, uuid: Uuid, autostart: bool) -> Result<bool, StoreError> {
        let sql = "UPDATE definition SET autostart = ?2 WHERE uuid = ?1";
        Ok(self.execute(sql, &[&Text(uuid), &autostart])? > 0)
    }

    /// See [`Store::remove_definition`].
    ///
    /// # Errors
    /// The same.
    pub fn remove_definition(&mut self, uuid: Uuid) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM definition WHERE uuid = ?1", &[&Text(uuid)])? > 0)
    }

    /// `table` is one of ours and has `uuid` and `name`.
    pub(crate) fn refuse_taken_name(
        &self,
        table: &'static str,
        name: &str,
        uuid: Uuid,
    ) -> Result<(), StoreError> {
        let sql = format!("SELECT uuid FROM {table} WHERE name = ?1 AND uuid <> ?2");
        match self.query(&sql, &[&name, &Text(uuid)], |row| row.get(0))?.pop() {
            Some(Text(holder)) => Err(StoreError::NameTaken { name: name.to_owned(), holder }),
            None => Ok(()),
        }
    }
}
