//! The journal of a migration, as its machines want it written: recorded and synced, or not at all.
//!
//! With each record goes what a restarted daemon needs beside it: the plan, the peer, the names.

use std::fmt::Debug;

use ferry_migration::journal::{DestinationRecord, SourceRecord};
use ferry_migration::plan::Guarantee;
use ferry_migration::{MigrationId, Peer, Plan, Written, destination, source};
use ferry_rpc::flags::MigrateFlags;
use ferry_store::{Direction, HistoryEntry, JournalEntry, Role};
use serde::{Deserialize, Serialize};

use super::{Migration, Names};
use crate::driver::{Driver, now_ms};
use crate::fault;

/// For how long a plan is one for the migration that follows it, ms.
const FORESEEN_MS_MAX: u64 = 10 * 60 * 1000;

/// What stands beside every record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Beside {
    pub(crate) plan: Plan,
    pub(crate) peer: Option<Peer>,
    pub(crate) secret: ferry_migration::Secret,
    /// The guest's name on the source.
    pub(crate) source_name: String,
    /// The start of QEMU that the records are about.
    pub(crate) launch_id: String,
    /// The other daemon, as far as it is known.
    pub(crate) host: Option<uuid::Uuid>,
    pub(crate) addresses: Vec<String>,
    /// The flags of the call that counts: what is to become of the definitions.
    pub(crate) flags: u32,
    /// The definition to keep on the destination, when the caller gave one.
    pub(crate) persistent_xml: Option<String>,
    /// Where the destination's QEMU listens, as this side's QEMU is told it.
    pub(crate) uri: Option<String>,
}

impl Driver {
    pub(super) async fn write_source_record(&mut self, record: SourceRecord) -> Written {
        let Some(Migration::Out(outgoing)) = &self.migration else { return Written::No };
        let beside = Beside {
            plan: *outgoing.machine.plan(),
            peer: outgoing.machine.peer(),
            secret: outgoing.names.secret.clone(),
            source_name: self.name.clone(),
            launch_id: outgoing.launch_id.clone(),
            host: outgoing.conversation.peer.as_ref().map(|peer| peer.host),
            addresses: addresses(outgoing.conversation.peer.as_ref()),
            flags: outgoing.parameters().flags.bits(),
            persistent_xml: outgoing.parameters().persistent_xml.clone(),
            uri: outgoing.rest.uri.clone(),
        };
        self.append(&outgoing.names, Role::Source, record, &beside).await
    }

    pub(super) async fn write_destination_record(&mut self, record: DestinationRecord) -> Written {
        let Some(Migration::In(incoming)) = &self.migration else { return Written::No };
        let names = &incoming.names;
        let beside = Beside {
            plan: *incoming.machine.plan(),
            peer: Some(incoming.machine.peer()),
            secret: names.secret.clone(),
            source_name: incoming.source_name.clone(),
            launch_id: incoming.launch_id.clone(),
            host: incoming.conversation.peer.as_ref().map(|peer| peer.host),
            addresses: addresses(incoming.conversation.peer.as_ref()),
            flags: incoming.parameters().flags.bits(),
            persistent_xml: None,
            uri: incoming.rest.uri.clone(),
        };
        self.append(names, Role::Destination, record, &beside).await
    }

    /// Drops the records of a migration whose end everybody knows who could ask for it.
    pub(super) async fn purge_journal(&self, migration: MigrationId) {
        let id = u128::from_be_bytes(*migration.as_bytes());
        // Records that stay are folded again at the next start, and found settled.
        let _ = self.host.store(move |store| store.purge(id)).await;
    }

    /// The guest is here again: that it once left is nobody's matter any more.
    pub(in crate::driver) async fn forget_departures(&mut self) {
        self.moved_to = None;
        let (uuid, done) = (self.uuid, format!("{:?}", SourceRecord::Done));
        let forgotten = self.host.store(move |store| {
            let mut journal = store.journal()?;
            journal.retain(|entry| entry.domain == uuid && entry.role == Role::Source && entry.kind == done);
            journal.iter().try_for_each(|entry| store.purge(entry.migration).map(drop))
        });
        // Records that stay only make the next start ask where the guest is.
        let _ = forgotten.await;
    }

    async fn append(&self, names: &Names, role: Role, record: impl Debug, beside: &Beside) -> Written {
        let entry = JournalEntry {
            migration: u128::from_be_bytes(*names.id.as_bytes()),
            epoch: names.epoch.0,
            role,
            domain: self.uuid,
            kind: format!("{record:?}"),
            // Our own types always have a JSON form.
            body: serde_json::to_value(beside).unwrap_or_default(),
            at_ms: now_ms(),
        };
        fault::point!("before-{record:?}");
        // The store has said why it could not.
        let written = match self.host.store(move |store| store.append(&entry)).await {
            Ok(()) => Written::Yes,
            Err(_) => Written::No,
        };
        fault::point!("after-{record:?}");
        written
    }

    /// Whether the journal takes a record now: a host value is written in its place.
    pub(super) async fn probe_journal(&self) -> Written {
        let stamp = now_ms().to_string();
        match self.host.store(move |store| store.set_host_value("journal_probe", &stamp)).await {
            Ok(()) => Written::Yes,
            Err(_) => Written::No,
        }
    }

    /// One line of the history, for a guest that was to leave.
    pub(super) async fn write_history(&mut self, ended: &source::Ended) {
        let Some(Migration::Out(outgoing)) = &self.migration else { return };
        let result = match ended {
            source::Ended::Moved => "moved".to_owned(),
            source::Ended::Stayed(_) if outgoing.io_error => "stayed: the guest met an I/O error".to_owned(),
            source::Ended::Stayed(why) => format!("stayed: {why}"),
        };
        let peer = outgoing.parameters().migrate_uri.clone().unwrap_or_default();
        let guarantee = guarantee(outgoing.machine.peer().map(Peer::guarantee), outgoing.parameters().flags);
        let mut figures = figures(&outgoing.stats);
        let peer_host = outgoing.conversation.peer.as_ref().map(|peer| peer.host);
        let limited = outgoing.parameters().bandwidth_mib.is_some() || self.limits.speed_mib.is_some();
        figures["peer_host"] = serde_json::json!(peer_host);
        figures["limited"] = serde_json::json!(limited);
        // A plan that is older, or for another host, says nothing of this migration.
        let foreseen = self.predicted.as_ref().filter(|predicted| {
            let age_ms = outgoing.stats.timeline.started.saturating_sub(predicted.at_ms);
            Some(predicted.destination) == peer_host && age_ms <= FORESEEN_MS_MAX
        });
        if let Some(predicted) = foreseen {
            figures["predicted"] = serde_json::to_value(&predicted.prediction).unwrap_or_default();
        }
        let entry = self.history(
            &outgoing.names,
            Direction::Out,
            peer,
            outgoing.stats.timeline.started,
            result,
            guarantee,
            figures,
        );
        self.save_history(entry).await;
    }

    /// One line of the history, for a guest that was to come.
    pub(super) async fn write_arrival(&mut self, ended: &destination::Ended) {
        let Some(Migration::In(incoming)) = &self.migration else { return };
        let names = &incoming.names;
        let result = match ended {
            destination::Ended::Arrived => "arrived".to_owned(),
            destination::Ended::Declined(why) => format!("declined: {why}"),
        };
        let guarantee = guarantee(Some(incoming.machine.peer().guarantee()), incoming.parameters().flags);
        let figures = incoming.stats.as_ref().map(figures).unwrap_or_default();
        let entry = self.history(
            names,
            Direction::In,
            incoming.source_host.clone(),
            incoming.started_ms,
            result,
            guarantee,
            figures,
        );
        self.save_history(entry).await;
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of one row")]
    fn history(
        &self,
        names: &Names,
        direction: Direction,
        peer: String,
        started_ms: u64,
        result: String,
        guarantee: String,
        statistics: serde_json::Value,
    ) -> HistoryEntry {
        tracing::info!(domain = %self.uuid, migration = %names.id, result, guarantee, "migration ended");
        HistoryEntry {
            migration: u128::from_be_bytes(*names.id.as_bytes()),
            domain: self.uuid,
            name: self.name.clone(),
            direction,
            peer,
            started_ms,
            ended_ms: Some(now_ms()),
            result,
            guarantee,
            statistics,
        }
    }

    async fn save_history(&self, entry: HistoryEntry) {
        // A history that lacks a line is a pity; the store has said why.
        let _ = self
            .host
            .store(move |store| {
                store.save_history(&entry)?;
                // Now that nothing waits: the next migration's records find an empty log.
                store.checkpoint()
            })
            .await;
    }
}

/// What held for a migration, for the history.
fn guarantee(holds: Option<Guarantee>, flags: MigrateFlags) -> String {
    let holds = match holds {
        None => "not needed".to_owned(),
        Some(Guarantee::Proven) => "proven".to_owned(),
        Some(Guarantee::BestEffort(why)) => format!("best effort: {why}"),
    };
    let disks = if flags.contains(MigrateFlags::UNSAFE) { "; disks not checked (--unsafe)" } else { "" };
    holds + disks
}

fn addresses(peer: Option<&crate::handover::Peer>) -> Vec<String> {
    peer.map(|peer| peer.addresses.clone()).unwrap_or_default()
}

/// What the history keeps of a job.
fn figures(stats: &ferry_migration::stats::JobStats) -> serde_json::Value {
    serde_json::json!({
        "time_elapsed_ms": stats.time_elapsed_ms,
        "downtime_ms": stats.downtime_ms,
        "memory_processed": stats.progress.memory.map(|memory| memory.processed),
        "memory_total": stats.progress.memory.map(|memory| memory.total),
        "copy_ms": stats.progress.total_ms,
        "passes": stats.progress.memory.map(|memory| memory.iteration),
    })
}
