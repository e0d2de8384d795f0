//! Guests: what a restarted daemon must know to take up a QEMU that went on without it.

use crate::value::{Json, Text};
use crate::{Store, StoreError, Write};
use rusqlite::Row;
use serde_json::Value;
use std::path::PathBuf;
use uuid::Uuid;

/// A QEMU that runs, or was about to.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestRecord {
    /// The domain's UUID.
    pub uuid: Uuid,
    /// Its name; no two running guests share one.
    pub name: String,
    /// Its number as clients see it, until the host is restarted.
    pub id: i32,
    /// Names this start of it: its run folder and its sockets.
    pub launch_id: String,
    /// QEMU's process; 0 while it is not started.
    pub pid: i32,
    /// When the process started, in clock ticks since boot: a process with the same number and another start is
    /// another one.
    pub start_ticks: u64,
    /// The boot of the host in which all of this holds.
    pub boot_id: String,
    /// Where its sockets and files are.
    pub run_dir: PathBuf,
    /// The live XML.
    pub xml: String,
    /// The domain's state as clients see it.
    pub state: i32,
    /// Why it is in that state.
    pub reason: i32,
    /// The domain is gone when it ends.
    pub transient: bool,
    /// The number of the next block node.
    pub next_node: u32,
    /// Whatever else the domain's driver needs to take the guest up.
    pub driver: Value,
}

const COLUMNS: &str = "uuid, name, id, launch_id, pid, start_ticks, boot_id, run_dir, xml, state, reason, transient, \
                       next_node, driver";

impl GuestRecord {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (Text(uuid), Json(driver)) = (row.get("uuid")?, row.get("driver")?);
        Ok(Self {
            uuid,
            name: row.get("name")?,
            id: row.get("id")?,
            launch_id: row.get("launch_id")?,
            pid: row.get("pid")?,
            start_ticks: row.get("start_ticks")?,
            boot_id: row.get("boot_id")?,
            run_dir: row.get::<_, String>("run_dir")?.into(),
            xml: row.get("xml")?,
            state: row.get("state")?,
            reason: row.get("reason")?,
            transient: row.get("transient")?,
            next_node: row.get("next_node")?,
            driver,
        })
    }
}

impl Store {
    /// Every guest, by name.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn guests(&self) -> Result<Vec<GuestRecord>, StoreError> {
        self.query(&format!("SELECT {COLUMNS} FROM guest ORDER BY name"), &[], GuestRecord::read)
    }

    /// Keeps what a guest is now, in place of what it was.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] when another running guest has its name; others when it is not on the disk.
    pub fn save_guest(&self, guest: &GuestRecord) -> Result<(), StoreError> {
        self.write(|write| write.save_guest(guest))
    }

    /// Forgets a guest that has ended. `false` when there was none.
    ///
    /// # Errors
    /// [`StoreError`] when it is not on the disk.
    pub fn remove_guest(&self, uuid: Uuid) -> Result<bool, StoreError> {
        self.write(|write| write.remove_guest(uuid))
    }
}

impl Write<'_> {
    /// See [`Store::save_guest`].
    ///
    /// # Errors
    /// The same. A run folder whose name is not UTF-8 is kept with replacement characters; the daemon makes none.
    pub fn save_guest(&mut self, guest: &GuestRecord) -> Result<(), StoreError> {
        self.refuse_taken_name("guest", &guest.name, guest.uuid)?;
        let sql = format!(
            "INSERT OR REPLACE INTO guest ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        );
        let run_dir = guest.run_dir.to_string_lossy();
        self.execute(
            &sql,
            &[
                &Text(guest.uuid),
                &guest.name,
                &guest.id,
                &guest.launch_id,
                &guest.pid,
                &guest.start_ticks,
                &guest.boot_id,
                &run_dir,
                &guest.xml,
                &guest.state,
                &guest.reason,
                &guest.transient,
                &guest.next_node,
                &Json(&guest.driver),
            ],
        )
        .map(drop)
    }

    /// See [`Store::remove_guest`].
    ///
    /// # Errors
    /// The same.
    pub fn remove_guest(&mut self, uuid: Uuid) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM guest WHERE uuid = ?1", &[&Text(uuid)])? > 0)
    }
}
