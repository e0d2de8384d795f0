//! The destination's half of one migration: it starts the guest only with the source's grant and a whole state,
//! and declines only what cannot have run.
//!
//! Called by ferryd's driver, one instance per incoming migration, and by the tests. It refuses to know XML,
//! cookies, addresses and QEMU's error texts: those lie beside it, in the driver.
//!
//! ```text
//!                 Prepare                 listening           whole              granted
//! ExpectPrepared ───────> Launching ──────> Incoming ──────> Complete ───> ExpectStarting
//!                            │                │  Kept,          │  Kept         │       ▲
//!                            │                │  called off     │               ▼       │ Retry
//!                            │                │                 │           Starting ──┼──> CannotStart
//!                            │                │                 │    RESUME │    │ died │        │ TakeBack
//!                            └──── Ending ──────┴─> ExpectDeclined           ▼    ▼               │
//!                                                       │   ▲        ExpectRunning  MaybeRan     │
//!                                                       │   └───────────────┼───────────┼─ Kept ─┘
//!                                                       ▼                   ▼
//!                                                    Declined            Running
//! ```
//! `Incoming` remembers a grant that came before the state was whole. A paused guest skips `Starting`: the record
//! Starting and a living, whole QEMU are ownership.

mod step;
mod types;

pub use types::{Answer, Call, Denied, Effect, Ended, Fate, Input, Refusal, Report, Seen};

use crate::journal::DestinationRecord;
use crate::message::Word;
use crate::{Doubt, MigrationId, Peer, Plan, Standing, Why};

/// One incoming migration. Small, so that a model checker can keep millions of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    id: MigrationId,
    plan: Plan,
    /// Who sends the guest.
    peer: Peer,
    qemu: Qemu,
    phase: Phase,
}

/// Whether the guest's QEMU on this host still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Qemu {
    Alive,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Prepared is being written.
    ExpectPrepared,
    /// QEMU is being started.
    Launching,
    /// State is arriving. `granted`: the right came before the state was whole. `asks`: whoever coordinated is gone,
    /// or called it off, and the source is asked what it wants. `alone`: the source's QEMU is gone and there was no
    /// switch to post-copy, or for the source it is over.
    Incoming { granted: bool, asks: bool, alone: bool },
    /// The state is whole (post-copy: the package is loaded); the right is missing.
    Complete { doubt: bool },
    /// Starting is being written. `recorded`, `first`: as in `CannotStart`.
    ExpectStarting { recorded: bool, first: bool },
    /// `cont` was sent. `first`: by this process, and no earlier one can have sent it.
    Starting { first: bool },
    /// No CPU was started. `recorded`: Starting is written. `first`: no earlier process can have started one.
    CannotStart { recorded: bool, first: bool },
    /// Running is being written.
    ExpectRunning,
    /// The guest is this host's. `recorded`: Running is written. `settled`: the source knows.
    Running { recorded: bool, settled: bool },
    /// QEMU died after `cont` was sent and before RESUME was seen.
    MaybeRan,
    /// Declined is being written.
    ExpectDeclined { why: Why, tail: Tail },
    /// QEMU, in which no CPU was started, is being ended; Declined follows.
    Ending { why: Why },
    /// It will not run here. `recorded`: Declined is written. `settled`: the source knows.
    Declined { why: Why, recorded: bool, settled: bool },
}

/// What is on record when Declined is written: what holds when it cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tail {
    /// Prepared alone.
    Prepared,
    /// Starting: a dead QEMU would mean that it may have run. `first`: as in `CannotStart`.
    Starting { first: bool },
    /// The same, and QEMU has died without a proof; the source's or the operator's word settles it.
    MaybeRan,
    /// It was declined before, and only the record is missing.
    Gone,
}

impl Destination {
    /// Opens a migration at Prepare.
    pub fn prepare(id: MigrationId, plan: Plan, peer: Peer) -> (Self, Vec<Effect>) {
        let destination = Self { id, plan, peer, qemu: Qemu::Dead, phase: Phase::ExpectPrepared };
        (destination, vec![Effect::Journal(DestinationRecord::Prepared)])
    }

    /// Which migration.
    pub const fn id(&self) -> MigrationId {
        self.id
    }

    /// Its unchanging facts.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Who sends the guest.
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// What the driver keeps telling the source until something changes: sent again at every `Retry`.
    pub const fn outstanding(&self) -> Option<Word> {
        match self.peer {
            Peer::Mute(_) => None,
            Peer::Ferry => match self.phase {
                Phase::Incoming { asks: true, .. } => Some(Word::Ask),
                Phase::Complete { .. } => Some(Word::Complete),
                Phase::CannotStart { .. } => Some(Word::CannotStart),
                Phase::MaybeRan => Some(Word::MaybeRan),
                Phase::Running { settled: false, .. } => Some(self.ran_word()),
                Phase::Declined { settled: false, .. } => Some(Word::Declined),
                Phase::ExpectPrepared
                | Phase::Launching
                | Phase::Incoming { asks: false, .. }
                | Phase::ExpectStarting { .. }
                | Phase::Starting { .. }
                | Phase::ExpectRunning
                | Phase::Running { .. }
                | Phase::ExpectDeclined { .. }
                | Phase::Ending { .. }
                | Phase::Declined { .. } => None,
            },
        }
    }

    /// That the guest ran here, and whether it still can.
    pub(crate) const fn ran_word(&self) -> Word {
        match self.qemu {
            Qemu::Alive => Word::Running,
            Qemu::Dead => Word::Ended,
        }
    }

    /// Whether the driver is to feed `Retry` from time to time: something is to be said or written again.
    pub const fn wants_retry(&self) -> bool {
        self.outstanding().is_some()
            || matches!(
                self.phase,
                Phase::Incoming { granted: true, .. }
                    | Phase::CannotStart { .. }
                    | Phase::Running { recorded: false, .. }
                    | Phase::Declined { recorded: false, .. }
            )
    }

    /// Where the guest stands on this host.
    pub const fn standing(&self) -> Standing {
        match self.phase {
            Phase::ExpectPrepared
            | Phase::Launching
            | Phase::Incoming { .. }
            | Phase::Complete { doubt: false }
            | Phase::ExpectStarting { .. }
            | Phase::Starting { .. } => Standing::Arriving,
            Phase::Complete { doubt: true } => Standing::InDoubt(Doubt::NoGrant),
            Phase::CannotStart { .. } => Standing::InDoubt(Doubt::CannotStart),
            Phase::MaybeRan => Standing::InDoubt(Doubt::MaybeRan),
            Phase::ExpectRunning | Phase::Running { .. } => Standing::Here,
            Phase::ExpectDeclined { .. } | Phase::Ending { .. } | Phase::Declined { .. } => Standing::Away,
        }
    }

    /// Whether nothing is left to do, so that the driver may drop the machine (the record stays).
    pub const fn is_over(&self) -> bool {
        match self.phase {
            Phase::Running { recorded, settled } | Phase::Declined { recorded, settled, .. } => {
                recorded && (settled || matches!(self.peer, Peer::Mute(_)))
            }
            Phase::ExpectPrepared
            | Phase::Launching
            | Phase::Incoming { .. }
            | Phase::Complete { .. }
            | Phase::ExpectStarting { .. }
            | Phase::Starting { .. }
            | Phase::CannotStart { .. }
            | Phase::ExpectRunning
            | Phase::MaybeRan
            | Phase::ExpectDeclined { .. }
            | Phase::Ending { .. } => false,
        }
    }

    /// The phase's name, for logs and errors.
    pub const fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::ExpectPrepared => "opening",
            Phase::Launching => "starting QEMU",
            Phase::Incoming { .. } => "receiving",
            Phase::Complete { .. } => "waiting for the grant",
            Phase::ExpectStarting { .. } | Phase::Starting { .. } => "starting the guest",
            Phase::CannotStart { .. } => "unable to start the guest",
            Phase::ExpectRunning => "started",
            Phase::Running { .. } => "running",
            Phase::MaybeRan => "in doubt since QEMU died",
            Phase::ExpectDeclined { .. } | Phase::Ending { .. } => "declining",
            Phase::Declined { .. } => "declined",
        }
    }
}

#[cfg(test)]
mod tests;
