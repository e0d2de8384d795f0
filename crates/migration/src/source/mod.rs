//! The source's half of one migration: it alone decides when the right to run the guest leaves this host.
//!
//! Called by ferryd's driver, one instance per outgoing migration, and by the tests. It refuses to know XML,
//! cookies, addresses and QEMU's error texts: those lie beside it, in the driver.
//!
//! ```text
//!            Begin   Perform, peer on record pre-switchover     probe ok        completed
//! ExpectBegun ───> Begun ──────> Copying ────> ExpectProbe ────> Switching ────> ExpectGranted ──> Granted
//!                    │             │  │ StartPostcopy │              │                 ▲              │
//!                    │             │  └─> ExpectGranted ──> Crossing ─── past the ─────┘      Running │ Declined
//!                    │             │                           │         switch                │      │
//!                    └─────────────┴──── anything wrong ───────┴──> ExpectKept <───────────────┼──────┘
//!                                                                      │                       ▼
//!                                          CallingOff (QEMU cancels) <─┤                  ExpectDone
//!                                                    │                 ▼                       │
//!                                                    └──────────────> Kept                   Done
//! ```
//! Beside the road: `Unwritten` (complete, and neither Granted nor Kept can be written: the destination is
//! asked to decline), `Resuming` (Kept on record after a complete copy: the destination is told once the CPUs have
//! run here), `Unsure` (QEMU died while the destination may be whole: it is asked).
//!
//! Only `Granted`'s entry tells the destination `Granted`; only `Kept`'s entry resumes the guest. In post-copy the
//! record goes before the switch and the word after it: until QEMU cannot come back, Kept stays legal.

mod moves;
mod step;
mod types;

pub use types::{Answer, Call, Denied, Effect, Ended, Fate, Input, Refusal, Report, Seen};

use crate::journal::SourceRecord;
use crate::message::Word;
use crate::{Doubt, MigrationId, Peer, Plan, Standing, Why};

/// One outgoing migration. Small, so that a model checker can keep millions of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    id: MigrationId,
    plan: Plan,
    /// Who is at the other end; nothing before Perform brought the destination's cookie.
    peer: Option<Peer>,
    qemu: Qemu,
    phase: Phase,
}

/// Whether the guest's QEMU on this host still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Qemu {
    Alive,
    Dead,
}

/// Where the copy was when the guest was to stay: what must happen before it may go on, and what becomes of it when
/// Kept cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// No copy is under way that could complete, or the destination has declined: the guest may go on.
    Idle,
    /// QEMU copies: it must cancel first.
    Underway,
    /// QEMU has completed and nothing was granted: without a record, the destination must decline first.
    Complete,
    /// It was granted, and the operator says that it is here: without a record, nothing changes.
    Granted(Handed),
    /// The guest goes on already; only the record is missing.
    GoesOn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Begun is being written.
    ExpectBegun,
    /// Begin was answered. `aborted`: Abort came meanwhile, and Perform will fail at once.
    Begun { aborted: bool },
    /// Begun is being written again, with the peer beside it: a restarted daemon must know whom to ask.
    ExpectPeer,
    /// QEMU copies; the guest is this host's.
    Copying,
    /// QEMU waits at the switchover with the guest stopped; whether the journal takes a record is being tried.
    ExpectProbe,
    /// QEMU was told to go on: it may be complete at any moment.
    Switching,
    /// Granted is being written, for this reason.
    ExpectGranted(Grant),
    /// Post-copy: Granted is written and not told. `loaded`: the destination reported the package loaded.
    Crossing { loaded: bool },
    /// The right is the destination's, and it is told so.
    Granted(Handed),
    /// Kept is being written.
    ExpectKept { why: Why, stage: Stage },
    /// QEMU is cancelling the copy. `recorded`: Kept is written.
    CallingOff { why: Why, recorded: bool },
    /// Complete, not granted, and Kept cannot be written: the destination is asked to decline.
    Unwritten { why: Why },
    /// Kept is written, the destination may be whole: it is told once the CPUs have run here, and not before.
    Resuming { why: Why, recorded: bool },
    /// QEMU died while the destination may be whole.
    Unsure(Sight),
    /// The guest stays. `recorded`: Kept is written. `settled`: the destination knows.
    Kept { why: Why, recorded: bool, settled: bool },
    /// Done is being written; what was known before it is kept in case it cannot be.
    ExpectDone(Handed),
    /// The guest is the destination's for good.
    Done,
}

/// What had been written when QEMU died unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sight {
    /// Begun: the switchover was let go, and `completed` was not seen.
    Begun,
    /// GrantedAhead: whether the switch was made, and the guest came back from it, was not seen.
    Ahead,
    /// Kept: whether the guest went on here was not seen.
    Kept,
}

/// Why Granted is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Grant {
    /// QEMU has reported the copy complete.
    Complete,
    /// The switch to post-copy is wanted.
    Postcopy,
    /// The operator says that the destination has the guest.
    Operator,
}

/// What is known after the grant was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Handed {
    /// The switch went to post-copy: this QEMU still holds pages that the destination needs.
    pub(crate) postcopy: bool,
    /// QEMU has reported the copy complete: nothing is needed from it any more.
    pub(crate) completed: bool,
    /// The destination said Running.
    pub(crate) ran: bool,
    /// The destination cannot start: QEMU here is being asked whether it lives.
    pub(crate) asked_back: bool,
    /// Why the outcome is in doubt, once it is.
    pub(crate) doubt: Option<Doubt>,
}

impl Source {
    /// Opens a migration at Begin (or at a Perform that had no Begin).
    pub fn begin(id: MigrationId, plan: Plan) -> (Self, Vec<Effect>) {
        let source = Self { id, plan, peer: None, qemu: Qemu::Alive, phase: Phase::ExpectBegun };
        (source, vec![Effect::Journal(SourceRecord::Begun)])
    }

    /// Which migration.
    pub const fn id(&self) -> MigrationId {
        self.id
    }

    /// Its unchanging facts.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Who is at the other end; nothing before Perform.
    pub const fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Whether it waits for Perform.
    pub const fn expects_perform(&self) -> bool {
        matches!(self.phase, Phase::Begun { .. })
    }

    /// What the driver keeps telling the destination until something changes: sent again at every `Retry`.
    pub const fn outstanding(&self) -> Option<Word> {
        match self.peer {
            None | Some(Peer::Mute(_)) => None,
            Some(Peer::Ferry) => match self.phase {
                Phase::Granted(handed) if !handed.ran => Some(Word::Granted),
                Phase::Crossing { .. } | Phase::Unsure(_) => Some(Word::Ask),
                Phase::Kept { recorded: true, settled: false, .. } => Some(Word::Kept),
                Phase::ExpectBegun
                | Phase::Begun { .. }
                | Phase::ExpectPeer
                | Phase::Copying
                | Phase::ExpectProbe
                | Phase::Switching
                | Phase::ExpectGranted(_)
                | Phase::Granted(_)
                | Phase::ExpectKept { .. }
                | Phase::CallingOff { .. }
                | Phase::Unwritten { .. }
                | Phase::Resuming { .. }
                | Phase::Kept { .. }
                | Phase::ExpectDone(_)
                | Phase::Done => None,
            },
        }
    }

    /// Whether the driver is to feed `Retry` from time to time: something is to be said or written again.
    pub const fn wants_retry(&self) -> bool {
        self.outstanding().is_some()
            || matches!(
                self.phase,
                Phase::Unwritten { .. }
                    | Phase::Resuming { .. }
                    | Phase::Kept { recorded: false, .. }
                    | Phase::Granted(Handed { ran: true, .. })
            )
    }

    /// Where the guest stands on this host.
    pub const fn standing(&self) -> Standing {
        match self.phase {
            Phase::ExpectBegun
            | Phase::Begun { .. }
            | Phase::ExpectPeer
            | Phase::Copying
            | Phase::ExpectProbe
            | Phase::Switching
            | Phase::ExpectGranted(_)
            | Phase::ExpectKept { .. }
            | Phase::CallingOff { .. }
            | Phase::Resuming { .. } => Standing::Leaving,
            Phase::Crossing { .. } | Phase::ExpectDone(_) => Standing::HandedOver,
            Phase::Granted(Handed { doubt: None, .. }) => Standing::HandedOver,
            Phase::Granted(Handed { doubt: Some(doubt), .. }) => Standing::InDoubt(doubt),
            Phase::Unwritten { .. } => Standing::InDoubt(Doubt::JournalFull),
            Phase::Unsure(_) => Standing::InDoubt(Doubt::SourceDied),
            Phase::Kept { .. } => Standing::Here,
            Phase::Done => Standing::Away,
        }
    }

    /// Whether nothing is left to do, so that the driver may drop the machine (the record stays).
    pub const fn is_over(&self) -> bool {
        match self.phase {
            Phase::Done => true,
            Phase::Kept { recorded, settled, .. } => {
                recorded && (settled || !matches!(self.peer, Some(Peer::Ferry)))
            }
            Phase::ExpectBegun
            | Phase::Begun { .. }
            | Phase::ExpectPeer
            | Phase::Copying
            | Phase::ExpectProbe
            | Phase::Switching
            | Phase::ExpectGranted(_)
            | Phase::Crossing { .. }
            | Phase::Granted(_)
            | Phase::ExpectKept { .. }
            | Phase::CallingOff { .. }
            | Phase::Unwritten { .. }
            | Phase::Resuming { .. }
            | Phase::Unsure(_)
            | Phase::ExpectDone(_) => false,
        }
    }

    /// The last of the state is on its way to a peer that can be asked. Should it be stuck there, `Deadline` calls it back.
    pub const fn is_switching(&self) -> bool {
        matches!(self.phase, Phase::Switching) && matches!(self.peer, Some(Peer::Ferry))
    }

    /// The grant is told: in post-copy, the guest is the destination's for good.
    pub const fn is_granted(&self) -> bool {
        matches!(self.phase, Phase::Granted(_))
    }

    /// The phase's name, for logs and errors.
    pub const fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::ExpectBegun => "opening",
            Phase::Begun { .. } | Phase::ExpectPeer => "begun",
            Phase::Copying => "copying",
            Phase::ExpectProbe => "before the switchover",
            Phase::Switching => "switching over",
            Phase::ExpectGranted(_) => "granting",
            Phase::Crossing { .. } => "switching to post-copy",
            Phase::Granted(_) => "handed over",
            Phase::ExpectKept { .. } => "keeping",
            Phase::CallingOff { .. } => "calling off",
            Phase::Unwritten { .. } => "waiting for the destination to decline",
            Phase::Resuming { .. } => "resuming",
            Phase::Unsure(_) => "in doubt since QEMU died",
            Phase::Kept { .. } => "kept",
            Phase::ExpectDone(_) => "finishing",
            Phase::Done => "done",
        }
    }
}

#[cfg(test)]
mod tests;
