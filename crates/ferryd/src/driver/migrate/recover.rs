//! Migrations that a former daemon left open: the machines are made anew from the journal and from what QEMU is doing.
//!
//! What to do is the machines' own table; this room finds out what it asks for, and gives the hands back what they
//! need to go on: names, flags, the way to the other daemon.

use ferry_domain::{Happening, State};
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
use ferry_rpc::values::PausedReason;

use super::{Conversation, Incoming, Migration, Names, Outgoing, Rest};
use crate::driver::Driver;
use crate::driver::adopt::Doing;
use crate::handover;
use crate::restart::Left;

impl Driver {
    /// Goes on with the last migration of the guest, when the journal says that it is not settled.
    ///
    /// `doing` is what the guest's QEMU was found doing; nothing when it is gone. `user_stopped`: a user has stopped the
    /// guest, and it is to stay so.
    pub(in crate::driver) async fn adopt_migration(
        &mut self,
        left: Left,
        doing: Option<&Doing>,
        user_stopped: bool,
    ) {
        let its_guest = self.holds_guest_of(&left);
        // The guest has been in a later migration, or has been started since: it was its own master when it was.
        let is_past = left.epoch < self.epoch || (self.guest.is_some() && !its_guest);
        // A record of an earlier start says nothing of the QEMU that runs now.
        let doing = doing.filter(|_| its_guest);
        let plan = left.beside.plan;
        let rest = Rest::found(left.beside.uri.clone(), doing.map(|doing| &doing.copy));
        match left.status {
            Status::Source(SourceStatus::Done) if !its_guest => {
                // Settled on this side long ago; who asks is answered from the journal.
                if self.guest.is_none() {
                    self.moved_to = peer_of(&left);
                }
            }
            Status::Source(_) if is_past => self.adopt_earlier(left).await,
            Status::Source(status) => {
                let seen = seen_by_source(doing);
                tracing::info!(domain = %self.uuid, migration = %left.id, ?status, ?seen, "leaving, found again");
                let recovered = Source::recover(left.id, plan, left.beside.peer, status, seen);
                if let Some((machine, effects)) = recovered {
                    let mut outgoing = self.outgoing_of(&left, machine);
                    outgoing.suspended = user_stopped;
                    outgoing.rest = rest;
                    let waits =
                        matches!(outgoing.machine.standing(), Standing::HandedOver | Standing::InDoubt(_));
                    self.migration = Some(Migration::Out(Box::new(outgoing)));
                    if waits && matches!(self.state(), State::Paused(_)) {
                        self.happen(Happening::Stopped(PausedReason::MIGRATION));
                    }
                    self.show_memory();
                    let follow = self.perform_source_effects(effects).await;
                    self.run_source(follow).await;
                }
            }
            Status::Destination(status) => {
                let seen = seen_by_destination(doing);
                tracing::info!(domain = %self.uuid, migration = %left.id, ?status, ?seen, "arriving, found again");
                let recovered = Destination::recover(left.id, plan, source_of(&left), status, seen);
                if let Some((machine, effects)) = recovered {
                    let mut incoming = self.incoming_of(&left, machine);
                    incoming.job_open |= rest.is_split();
                    incoming.rest = rest;
                    self.migration = Some(Migration::In(Box::new(incoming)));
                    self.show_memory();
                    let follow = self.perform_destination_effects(effects).await;
                    self.run_destination(follow).await;
                }
            }
        }
    }

    /// Tells the end of an earlier migration whose other side may not know it. It has nothing to do with what QEMU is
    /// doing now.
    pub(in crate::driver) async fn adopt_earlier(&mut self, left: Left) {
        let plan = left.beside.plan;
        tracing::info!(domain = %self.uuid, migration = %left.id, status = ?left.status, "an earlier migration, found again");
        match left.status {
            Status::Source(status) => {
                let settling = Source::settle(left.id, plan, left.beside.peer, status);
                let Some((machine, effects)) = settling else { return };
                let mut outgoing = self.outgoing_of(&left, machine);
                outgoing.job_open = false;
                self.migration = Some(Migration::Out(Box::new(outgoing)));
                let follow = self.perform_source_effects(effects).await;
                self.run_source(follow).await;
            }
            Status::Destination(status) => {
                let lives = self.holds_guest_of(&left);
                let settling = Destination::settle(left.id, plan, source_of(&left), status, lives);
                let Some((machine, effects)) = settling else { return };
                let mut incoming = self.incoming_of(&left, machine);
                incoming.job_open = false;
                self.migration = Some(Migration::In(Box::new(incoming)));
                let follow = self.perform_destination_effects(effects).await;
                self.run_destination(follow).await;
            }
        }
        self.make_room();
    }

    fn holds_guest_of(&self, left: &Left) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.launch_id == left.beside.launch_id)
    }

    fn outgoing_of(&self, left: &Left, machine: Source) -> Outgoing {
        self.host.registry.enlist(left.id, self.uuid);
        let names = names_of(left);
        let conversation = Conversation::with(peer_of(left), Some(&names), self.host.uuid);
        let job_open = is_open(machine.standing());
        let launch_id = left.beside.launch_id.clone();
        let mut outgoing = Outgoing::new(machine, names, parameters(left), (launch_id, None));
        outgoing.conversation = conversation;
        outgoing.job_open = job_open;
        outgoing.stats = JobStats::started(left.started_ms);
        outgoing
    }

    fn incoming_of(&self, left: &Left, machine: Destination) -> Incoming {
        self.host.registry.enlist(left.id, self.uuid);
        let names = names_of(left);
        let conversation = Conversation::with(peer_of(left), Some(&names), self.host.uuid);
        let job_open = is_open(machine.standing());
        let (source_name, launch_id) = (left.beside.source_name.clone(), left.beside.launch_id.clone());
        let mut incoming = Incoming::new(
            machine,
            (names, true),
            conversation,
            parameters(left),
            source_name,
            (launch_id, None),
        );
        incoming.job_open = job_open;
        incoming.started_ms = left.started_ms;
        incoming
    }
}

fn names_of(left: &Left) -> Names {
    Names { id: left.id, epoch: left.epoch, secret: left.beside.secret.clone() }
}

/// The other daemon, as far as the journal knows it.
fn peer_of(left: &Left) -> Option<handover::Peer> {
    left.beside.host.map(|host| handover::Peer { host, addresses: left.beside.addresses.clone() })
}

/// What the sender of a guest can prove.
fn source_of(left: &Left) -> Peer {
    left.beside.peer.unwrap_or(Peer::Mute(BestEffort::CookieLost))
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
