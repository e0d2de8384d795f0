//! Snapshots: what this host knows of them beside what lies in the images.

use crate::value::Text;
use crate::{Store, StoreError, Write};
use rusqlite::Row;
use uuid::Uuid;

/// What is known of one snapshot of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The domain.
    pub domain: Uuid,
    /// Its name; unique in the domain.
    pub name: String,
    /// The name of the one that it is based on.
    pub parent: Option<String>,
    /// The guest's present state is based on it. At most one of a domain.
    pub is_current: bool,
    /// Its XML, `<domainsnapshot>`.
    pub xml: String,
}

const COLUMNS: &str = "domain, name, parent, is_current, xml";

impl Snapshot {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let Text(domain) = row.get("domain")?;
        Ok(Self {
            domain,
            name: row.get("name")?,
            parent: row.get("parent")?,
            is_current: row.get("is_current")?,
            xml: row.get("xml")?,
        })
    }
}

impl Store {
    /// The snapshots of a domain, in the order in which they were saved first.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn snapshots(&self, domain: Uuid) -> Result<Vec<Snapshot>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM snapshot WHERE domain = ?1 ORDER BY sequence");
        self.query(&sql, &[&Text(domain)], Snapshot::read)
    }

    /// Keeps a snapshot, in place of an earlier one of the domain with its name. When it is the current one, no other of
    /// the domain is any more.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.write(|write| write.save_snapshot(snapshot))
    }

    /// Forgets a snapshot; when it was the current one, its parent is from then on. `false` when there was none.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn remove_snapshot(&self, domain: Uuid, name: &str) -> Result<bool, StoreError> {
        self.write(|write| write.remove_snapshot(domain, name))
    }

    /// Forgets all snapshots of a domain. Tells how many there were.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn remove_snapshots(&self, domain: Uuid) -> Result<usize, StoreError> {
        self.write(|write| write.remove_snapshots(domain))
    }
}

impl Write<'_> {
    /// See [`Store::save_snapshot`].
    ///
    /// # Errors
    /// The same.
    pub fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let Snapshot { domain, name, parent, is_current, xml } = snapshot;
        if *is_current {
            self.execute("UPDATE snapshot SET is_current = 0 WHERE domain = ?1", &[&Text(*domain)])?;
        }
        let sql = format!(
            "INSERT INTO snapshot ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (domain, name) DO UPDATE
             SET parent = excluded.parent, is_current = excluded.is_current, xml = excluded.xml"
        );
        self.execute(&sql, &[&Text(*domain), name, parent, is_current, xml]).map(drop)
    }

    /// See [`Store::remove_snapshot`].
    ///
    /// # Errors
    /// The same.
    pub fn remove_snapshot(&mut self, domain: Uuid, name: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE snapshot SET is_current = 1 WHERE domain = ?1 AND name =
                   (SELECT parent FROM snapshot WHERE domain = ?1 AND name = ?2 AND is_current)";
        self.execute(sql, &[&Text(domain), &name])?;
        let sql = "DELETE FROM snapshot WHERE domain = ?1 AND name = ?2";
        Ok(self.execute(sql, &[&Text(domain), &name])? > 0)
    }

    /// See [`Store::remove_snapshots`].
    ///
    /// # Errors
    /// The same.
    pub fn remove_snapshots(&mut self, domain: Uuid) -> Result<usize, StoreError> {
        self.execute("DELETE FROM snapshot WHERE domain = ?1", &[&Text(domain)])
    }
}
