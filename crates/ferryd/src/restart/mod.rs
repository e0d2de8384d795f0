//! The guests that lived on while the daemon did not.
//!
//! Called once, before the doors open. Every definition and every recorded guest gets its driver back; a recorded
//! QEMU that still lives is connected to, one that does not is settled as ended. A run folder that no record knows
//! belongs to a QEMU that was never told to run a CPU: it is ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_domxml::Domain;
use ferry_migration::journal::{Record, SourceStatus, Status};
use ferry_migration::{Epoch, MigrationId};
use ferry_qmp::commands::run::Quit;
use ferry_store::{GuestRecord, JournalEntry, Role, StoreError};
use thiserror::Error;

use crate::driver::Request;
use crate::driver::migrate::Beside;
use crate::host::Host;
use crate::perform::discard;
use crate::perform::monitor::Monitor;
use crate::perform::tpm::State;
use crate::process::boot_id;

/// What a former daemon left of one domain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// The definition and whether it starts with the host.
    pub(crate) config: Option<(Domain, bool)>,
    /// The guest that ran.
    pub(crate) guest: Option<GuestRecord>,
    /// Of its last migration.
    pub(crate) epoch: Epoch,
    /// Snapshots whose metadata is kept.
    pub(crate) snapshots: usize,
    /// Migrations whose end one of the two sides does not know, in the order in which they began here.
    pub(crate) migrations: Vec<Left>,
}

/// What the journal says of one migration.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub(crate) id: MigrationId,
    pub(crate) epoch: Epoch,
    pub(crate) status: Status,
    /// What stands beside the last record.
    pub(crate) beside: Beside,
    /// When the first record was written, in milliseconds since 1970.
    pub(crate) started_ms: u64,
}

/// How many domains there are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) defined: usize,
    pub(crate) running: usize,
}

/// Why the domains of this host cannot be found.
#[derive(Debug, Error)]
pub(crate) enum RestartError {
    #[error("cannot read the store")]
    Store(#[from] StoreError),
    #[error("cannot read the domains: {0}")]
    Read(ferry_rpc::Error),
    #[error("cannot look at {path:?}")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the journal of migration {migration:032x} is damaged: {reason}")]
    Journal { migration: u128, reason: String },
    #[error("the stored definition of domain '{name}' cannot be read: {reason}")]
    Damaged { name: String, reason: String },
}

/// Gives every domain of this host its driver.
pub(crate) async fn find_domains(host: &Arc<Host>) -> Result<Counted, RestartError> {
    let stored = host.store(|store| Ok((store.definitions()?, store.guests()?, store.journal()?))).await;
    let (definitions, guests, journal) = stored.map_err(RestartError::Read)?;
    let mut known: Vec<PathBuf> = guests.iter().map(|guest| guest.run_dir.clone()).collect();
    known.sort();

    let mut found = BTreeMap::<uuid::Uuid, (String, Found)>::new();
    for definition in definitions {
        let parsed = Domain::parse(&definition.xml).map_err(|error| RestartError::Damaged {
            name: definition.name.clone(),
            reason: error.to_string(),
        })?;
        let entry = found.entry(definition.uuid).or_default();
        entry.0.clone_from(&definition.name);
        entry.1.config = Some((parsed, definition.autostart));
    }
    for guest in guests {
        let entry = found.entry(guest.uuid).or_default();
        entry.0.clone_from(&guest.name);
        entry.1.guest = Some(guest);
    }

    for (uuid, left) in unfinished(host, journal).await? {
        // A domain that is neither defined nor running is known here by its UUID only.
        let entry = found.entry(uuid).or_insert_with(|| (uuid.to_string(), Found::default()));
        entry.1.migrations.push(left);
    }

    let mut adopted = Vec::new();
    for (uuid, (name, mut found)) in found {
        let known = host.store(move |store| Ok((store.epoch(uuid)?, store.snapshots(uuid)?.len()))).await;
        let (epoch, snapshots) = known.map_err(RestartError::Read)?;
        (found.epoch, found.snapshots) = (Epoch(epoch), snapshots);
        let claim = host.claim(uuid, &name).map_err(RestartError::Read)?;
        // All at once: one guest that is slow to answer holds up none of the others.
        adopted.push(tokio::spawn(async move {
            let outcome = claim.handle().ask(|reply| Request::Adopt { found: Box::new(found), reply }).await;
            if let Err(error) = outcome {
                tracing::error!(domain = %uuid, %error, "a domain could not be taken over");
            }
        }));
    }
    for task in adopted {
        let _ = task.await;
    }
    end_orphans(&host.layout.run, &known).await?;
    sweep(host);

    let all = host.registry.all();
    Ok(Counted {
        defined: all.iter().filter(|(_, view)| view.config.is_some()).count(),
        running: all.iter().filter(|(_, view)| view.live.is_some()).count(),
    })
}

/// How long the record of a guest that left is kept, in milliseconds: long after any host could still ask.
const DONE_KEPT_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// Folds the journal: what is settled is dropped, the rest is given to the domains' drivers.
async fn unfinished(
    host: &Arc<Host>,
    journal: Vec<JournalEntry>,
) -> Result<Vec<(uuid::Uuid, Left)>, RestartError> {
    let mut by_id = BTreeMap::<u128, (usize, Vec<JournalEntry>)>::new();
    for (at, entry) in journal.into_iter().enumerate() {
        by_id.entry(entry.migration).or_insert_with(|| (at, Vec::new())).1.push(entry);
    }
    let mut left = Vec::new();
    for (migration, (began, entries)) in by_id {
        let damaged = |reason: String| RestartError::Journal { migration, reason };
        let records = entries.iter().map(record).collect::<Result<Vec<_>, _>>().map_err(damaged)?;
        let status = Status::fold(records).map_err(|error| damaged(error.to_string()))?;
        let (Some(status), Some(first), Some(last)) = (status, entries.first(), entries.last()) else {
            continue;
        };
        let age_ms = crate::driver::now_ms().saturating_sub(last.at_ms);
        let is_done = status == Status::Source(SourceStatus::Done);
        let beside: Beside =
            serde_json::from_value(last.body.clone()).map_err(|error| damaged(error.to_string()))?;
        // Without a peer nothing was ever copied: there is nobody to tell that the guest stayed.
        let is_idle = status == Status::Source(SourceStatus::Kept) && beside.peer.is_none();
        if status.is_settled() || is_idle || (is_done && age_ms > DONE_KEPT_MS) {
            host.store(move |store| store.purge(migration)).await.map_err(RestartError::Read)?;
            continue;
        }
        let id = MigrationId::from_bytes(migration.to_be_bytes());
        let left_behind = Left { id, epoch: Epoch(last.epoch), status, beside, started_ms: first.at_ms };
        left.push((began, last.domain, left_behind));
    }
    left.sort_by_key(|(began, ..)| *began);
    Ok(left.into_iter().map(|(_, domain, left)| (domain, left)).collect())
}

/// A stored record, as the machines know it.
pub(crate) fn record(entry: &JournalEntry) -> Result<Record, String> {
    let kind = serde_json::Value::from(entry.kind.as_str());
    match entry.role {
        Role::Source => serde_json::from_value(kind).map(Record::Source),
        Role::Destination => serde_json::from_value(kind).map(Record::Destination),
    }
    .map_err(|error| error.to_string())
}

/// Ends every QEMU of ours that no record knows: the daemon died between its start and its record, so no CPU of it
/// was ever told to run.
async fn end_orphans(run: &Path, known: &[PathBuf]) -> Result<(), RestartError> {
    let look = |source| RestartError::Look { path: run.to_owned(), source };
    for entry in fs::read_dir(run).map_err(look)? {
        let path = entry.map_err(look)?.path();
        if known.binary_search(&path).is_ok() {
            continue;
        }
        if let Ok((monitor, _events)) = Monitor::connect(&path.join("mon.sock"), 0).await {
            tracing::warn!(folder = %path.display(), "ending a QEMU that was never recorded");
            // The answer may be lost with the process that gave it.
            let _ = monitor.execute(&Quit).await;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "cannot remove what a former daemon left");
        }
    }
    Ok(())
}

/// Settles files that were set aside for a definition to be forgotten: those of kept ones are back, the others go.
fn sweep(host: &Host) {
    for (_, view) in host.registry.all() {
        let nvram = view.config.as_ref().and_then(|config| config.os.nvram.as_ref());
        let variables = nvram.and_then(|nvram| nvram.path.as_deref()).map(PathBuf::from);
        let state = view.config.is_some().then(|| State::of(&host.layout.tpm, view.uuid).folder().to_owned());
        for path in variables.into_iter().chain(state) {
            if let Err(error) = discard::put_back(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot put back what a former daemon set aside");
                return;
            }
        }
    }
    for folder in [&host.layout.nvram, &host.layout.tpm] {
        if let Err(error) = discard::sweep(folder) {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove what a former daemon set aside");
        }
    }
}

/// Starts the domains that are to start with the host: once for each boot of it, not for each start of the daemon.
pub(crate) async fn autostart(host: &Arc<Host>) {
    const KEY: &str = "autostarted_boot";
    let Ok(boot) = boot_id() else { return };
    let stored = host.store(|store| store.host_value(KEY)).await;
    if stored.is_ok_and(|last| last.as_deref() == Some(boot.as_str())) {
        return;
    }
    if host.store(move |store| store.set_host_value(KEY, &boot)).await.is_err() {
        return;
    }
    for (handle, view) in host.registry.all() {
        if !view.autostart || view.live.is_some() {
            continue;
        }
        let client = crate::listen::Client::daemon();
        let flags = ferry_rpc::flags::StartFlags::NONE;
        let started = handle.ask(|reply| Request::Start { flags, client, reply }).await;
        match started {
            Ok(_) => tracing::info!(domain = view.name, "started with the host"),
            Err(error) => tracing::error!(domain = view.name, %error, "could not be started with the host"),
        }
    }
}
