//! Migrations that a former daemon left open: the machines are made anew from the journal and from what QEMU is doing.
//!
//! What to do is the machines' own table; this room finds out what it asks for, and gives the hands back what they
//! need to go on: names, flags, the way to the other daemon.

use ferry_migration::Standing;
use ferry_migration::destination::{self, Destination};
use ferry_migration::journal::{SourceStatus, Status};
use ferry_migration::params::Request as Parameters;
use ferry_migration::plan::{BestEffort, Peer};
use ferry_migration::source::{self, Source};
use ferry_migration::stats::JobStats;
use ferry_qmp::commands::migration::MigrationStatus;
use ferry_qmp::commands::run::RunState;
use ferry_rpc::flags::MigrateFlags;

use super::{Conversation, Incoming, Migration, Names, Outgoing};
use crate::driver::adopt::Doing;
use crate::driver::{Driver, now_ms};
use crate::handover;
use crate::restart::Left;

impl Driver {
    /// Goes on with a migration that the journal says is not settled.
    ///
    /// `doing` is what the guest's QEMU was found doing; nothing when it is gone.
    pub(in crate::driver) async fn adopt_migration(&mut self, left: Left, doing: Option<&Doing>) {
        let names = Names { id: left.id, epoch: left.epoch, secret: left.beside.secret.clone() };
        let peer =
            left.beside.host.map(|host| handover::Peer { host, addresses: left.beside.addresses.clone() });
        let conversation = Conversation::with(peer, Some(&names), self.host.uuid);
        self.make_room();
        // A record of an earlier start says nothing of the QEMU that runs now.
        let its_guest = self.guest.as_ref().is_some_and(|guest| guest.launch_id == left.beside.launch_id);
        let doing = doing.filter(|_| its_guest);
        self.host.registry.enlist(left.id, self.uuid);
        match left.status {
            Status::Source(status) => {
                let seen = seen_by_source(doing);
                if status == SourceStatus::Done && !its_guest {
                    // Settled on this side long ago; who asks is answered from the journal.
                    if self.guest.is_none() {
                        self.moved_to = conversation.peer;
                    }
                    return self.host.registry.strike(left.id);
                }
                let recovered = Source::recover(left.id, left.beside.plan, left.beside.peer, status, seen);
                tracing::info!(domain = %self.uuid, migration = %left.id, ?status, ?seen, "leaving, found again");
                let Some((machine, effects)) = recovered else { return };
                let job_open = is_open(machine.standing());
                let stats = JobStats::started(left.started_ms);
                let outgoing = Outgoing::recovered(
                    machine,
                    names,
                    conversation,
                    job_open,
                    parameters(&left),
                    (left.beside.launch_id.clone(), stats),
                );
                self.migration = Some(Migration::Out(Box::new(outgoing)));
                let follow = self.perform_source_effects(effects).await;
                self.run_source(follow).await;
            }
            Status::Destination(status) => {
                let seen = seen_by_destination(doing);
                let peer = left.beside.peer.unwrap_or(Peer::Mute(BestEffort::CookieLost));
                let recovered = Destination::recover(left.id, left.beside.plan, peer, status, seen);
                tracing::info!(domain = %self.uuid, migration = %left.id, ?status, ?seen, "arriving, found again");
                let Some((machine, effects)) = recovered else { return };
                let job_open = is_open(machine.standing());
                let incoming = Incoming::recovered(
                    machine,
                    names,
                    conversation,
                    job_open,
                    parameters(&left),
                    left.beside.source_name.clone(),
                    (left.beside.launch_id.clone(), left.started_ms),
                );
                self.migration = Some(Migration::In(Box::new(incoming)));
                let follow = self.perform_destination_effects(effects).await;
                self.run_destination(follow).await;
            }
        }
    }
}

/// What the source's QEMU is found doing.
fn seen_by_source(doing: Option<&Doing>) -> source::Seen {
    use source::Seen;
    let Some(Doing { status, copy }) = doing else { return Seen::Gone };
    match copy.status {
        None | Some(MigrationStatus::None | MigrationStatus::Failed | MigrationStatus::Cancelled) => {
            Seen::Idle
        }
        Some(MigrationStatus::PreSwitchover) => Seen::PreSwitchover,
        Some(MigrationStatus::Device | MigrationStatus::Cancelling) => Seen::Switching,
        Some(
            MigrationStatus::PostcopyActive
            | MigrationStatus::PostcopyPaused
            | MigrationStatus::PostcopyRecover
            | MigrationStatus::PostcopyRecoverSetup,
        ) => Seen::Postcopy,
        Some(MigrationStatus::Completed) if status.running => Seen::Running,
        Some(MigrationStatus::Completed) => match status.status {
            RunState::Postmigrate | RunState::FinishMigrate => Seen::Completed,
            _ => Seen::Stopped,
        },
        Some(
            MigrationStatus::Setup
            | MigrationStatus::Active
            | MigrationStatus::Colo
            | MigrationStatus::WaitUnplug
            | MigrationStatus::Other(_),
        ) => Seen::Copying,
    }
}

/// What the destination's QEMU is found doing.
fn seen_by_destination(doing: Option<&Doing>) -> destination::Seen {
    use destination::Seen;
    match doing {
        None => Seen::Gone,
        Some(Doing { status, .. }) if status.running => Seen::Running,
        Some(Doing { status, .. }) if status.status == RunState::Inmigrate => Seen::Incomplete,
        Some(_) => Seen::Complete,
    }
}

/// Whether the migration still occupies the domain.
fn is_open(standing: Standing) -> bool {
    match standing {
        Standing::Leaving | Standing::HandedOver | Standing::InDoubt(_) | Standing::Arriving => true,
        Standing::Here | Standing::Away => false,
    }
}

/// What is known of the call that a former daemon served.
fn parameters(left: &Left) -> Parameters {
    Parameters {
        flags: MigrateFlags::from_bits(left.beside.flags),
        migrate_uri: None,
        destination_name: None,
        destination_xml: None,
        persistent_xml: left.beside.persistent_xml.clone(),
        bandwidth_mib: None,
        postcopy_bandwidth_mib: None,
        switchover_bandwidth_mib: None,
        listen_address: None,
        graphics_uri: None,
        auto_converge_initial: None,
        auto_converge_increment: None,
    }
}

impl Outgoing {
    fn recovered(
        machine: Source,
        names: Names,
        conversation: Conversation,
        job_open: bool,
        parameters: Parameters,
        (launch_id, stats): (String, JobStats),
    ) -> Outgoing {
        let mut outgoing = Outgoing::new(machine, names, parameters, (launch_id, None));
        outgoing.conversation = conversation;
        outgoing.job_open = job_open;
        outgoing.standing_since_ms = now_ms();
        outgoing.stats = stats;
        outgoing
    }
}

impl Incoming {
    fn recovered(
        machine: Destination,
        names: Names,
        conversation: Conversation,
        job_open: bool,
        parameters: Parameters,
        source_name: String,
        (launch_id, started_ms): (String, u64),
    ) -> Incoming {
        let mut incoming =
            Incoming::new(machine, (names, true), conversation, parameters, source_name, (launch_id, None));
        incoming.job_open = job_open;
        incoming.started_ms = started_ms;
        incoming
    }
}
