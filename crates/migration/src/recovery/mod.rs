//! What a restarted daemon does with a migration that it finds in its journal: one table for each side, over what is
//! on record and what QEMU is found doing. What the peer then answers is the third axis; the tests have that table
//! and hold the machines against every combination.
//!
//! Called by [`Source::recover`](crate::source::Source::recover) and
//! [`Destination::recover`](crate::destination::Destination::recover), which turn a case into a state and effects.
//! Only the newest migration of a guest is recovered so; older ones answer from their records alone
//! ([`SourceStatus::answer`], [`DestinationStatus::answer`]).

use crate::journal::{DestinationStatus, SourceStatus};
use crate::{Coordination, Peer, Plan, destination, source};

/// When a row holds, beside its status and what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// The source daemon itself coordinates: the copy goes on without anybody.
    PeerToPeer,
    /// The same, and the guest ran when it began: a copy that is found complete is not one of an earlier migration.
    PeerToPeerRan,
    /// The guest ran before, and is to run again.
    WasRunning,
    /// The guest is to stay paused on the destination.
    LeftPaused,
    /// The other side can be asked.
    Ferry,
}

impl When {
    const fn holds(self, plan: &Plan, peer: Option<Peer>) -> bool {
        match self {
            Self::Always => true,
            Self::PeerToPeer => matches!(plan.coordination, Coordination::PeerToPeer),
            Self::PeerToPeerRan => matches!(plan.coordination, Coordination::PeerToPeer) && plan.was_running,
            Self::WasRunning => plan.was_running,
            Self::LeftPaused => plan.leave_paused,
            Self::Ferry => matches!(peer, Some(Peer::Ferry)),
        }
    }
}

/// One row of a table. The first row that fits holds.
#[derive(Clone, Copy, Debug)]
pub struct Case<Status: 'static, Seen: 'static, Action> {
    /// What is on record.
    pub status: &'static [Status],
    /// What QEMU is found doing.
    pub seen: &'static [Seen],
    /// What else must hold.
    pub when: When,
    /// What is done.
    pub action: Action,
    /// Why.
    pub story: &'static str,
}

/// What a restarted source does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceAction {
    /// Nothing is left to do.
    Nothing,
    /// Wait for what QEMU reports, as if there had been no restart.
    GoOn,
    /// QEMU waits at the switchover: try the journal and let it go.
    LetGo,
    /// Write Granted and tell it.
    Grant,
    /// Post-copy: write GrantedAhead, and make the switch.
    GrantAhead,
    /// Tell Granted until the destination answers.
    TellGranted,
    /// Post-copy: ask what the destination has, before it is told Granted.
    AskBeforeTelling,
    /// Post-copy: make the switch.
    SwitchAgain,
    /// Write Kept, cancel the copy, let the guest run, tell Kept.
    CallOff,
    /// Write Kept, let the guest run, tell Kept once it does.
    KeepComplete,
    /// Write Kept, let the guest run, tell Kept.
    Keep,
    /// Cancel the copy, let the guest run, tell Kept.
    Cancel,
    /// Let the guest run, tell Kept once it does.
    ResumeThenTell,
    /// Let the guest run if it does not, tell Kept.
    TellKept,
    /// Let the guest run; the destination knows already.
    Resume,
    /// Ask the destination whether it holds the guest.
    AskBegun,
    /// The same; the switch to post-copy may have been made.
    AskAhead,
    /// The same; the guest may have gone on here.
    AskKept,
    /// End QEMU.
    EndQemu,
    /// Only the destination's questions are left to answer.
    Answer,
}

use SourceAction as A;
use SourceStatus as S;
use source::Seen as Q;

/// The source's table.
pub const SOURCE: &[Case<SourceStatus, source::Seen, SourceAction>] = &[
    Case {
        status: &[S::Begun],
        seen: &[Q::Gone],
        when: When::Always,
        action: A::AskBegun,
        story: "QEMU died while nobody looked: if it had completed, the destination holds the last copy",
    },
    Case {
        status: &[S::Begun],
        seen: &[Q::Idle, Q::Running, Q::Stopped],
        when: When::Always,
        action: A::Keep,
        story: "no copy is under way, or the guest has run since: it is here, and nothing was granted",
    },
    Case {
        status: &[S::Begun],
        seen: &[Q::Postcopy],
        when: When::Always,
        action: A::GrantAhead,
        story: "not of our making: past the switch without a record, the guest is the destination's all the same",
    },
    Case {
        status: &[S::Begun],
        seen: &[Q::Copying, Q::Switching],
        when: When::PeerToPeer,
        action: A::GoOn,
        story: "two QEMUs are at work: a memory copy is not thrown away because a daemon was restarted",
    },
    Case {
        status: &[S::Begun],
        seen: &[Q::PreSwitchover],
        when: When::PeerToPeer,
        action: A::LetGo,
        story: "the copy waits for a word that the old daemon did not give",
    },
    Case {
        status: &[S::Begun],
        seen: &[Q::Completed],
        when: When::PeerToPeerRan,
        action: A::Grant,
        story: "this daemon has itself seen the copy complete, and the guest has not run since",
    },
    Case {
        status: &[S::Begun],
        seen: &[Q::Copying, Q::PreSwitchover, Q::Switching],
        when: When::Always,
        action: A::CallOff,
        story: "the client that coordinated has lost its connection: nothing was granted, the guest stays",
    },
    Case {
        status: &[S::Begun],
        seen: &[Q::Completed],
        when: When::Always,
        action: A::KeepComplete,
        story: "the same, or the copy may be an earlier one: the destination hears of it once the guest has gone on here",
    },
    Case {
        status: &[S::Granted],
        seen: &[Q::Completed, Q::Gone],
        when: When::Always,
        action: A::TellGranted,
        story: "the right is the destination's; with QEMU gone, it holds the last copy",
    },
    Case {
        status: &[S::GrantedAhead],
        seen: &[Q::Completed],
        when: When::Always,
        action: A::TellGranted,
        story: "complete without or after the switch: nothing can bring the guest back here",
    },
    Case {
        status: &[S::GrantedAhead],
        seen: &[Q::Gone],
        when: When::Always,
        action: A::AskAhead,
        story: "the switch may have failed and the guest run on before QEMU died: only the destination knows",
    },
    Case {
        status: &[S::Granted, S::GrantedAhead],
        seen: &[Q::Postcopy],
        when: When::Ferry,
        action: A::AskBeforeTelling,
        story: "it may not be past the switch yet: Granted is told once the destination has the package",
    },
    Case {
        status: &[S::Granted, S::GrantedAhead],
        seen: &[Q::Postcopy],
        when: When::Always,
        action: A::TellGranted,
        story: "there is nobody to ask",
    },
    Case {
        status: &[S::Granted, S::GrantedAhead],
        seen: &[Q::Copying, Q::PreSwitchover, Q::Switching],
        when: When::PeerToPeer,
        action: A::SwitchAgain,
        story: "the switch was wanted and not made, so nothing was told",
    },
    Case {
        status: &[S::Granted, S::GrantedAhead],
        seen: &[Q::Copying, Q::PreSwitchover, Q::Switching],
        when: When::Always,
        action: A::CallOff,
        story: "the same, and the coordinator is gone: Kept is legal, for nothing was told",
    },
    Case {
        status: &[S::Granted, S::GrantedAhead],
        seen: &[Q::Idle, Q::Running, Q::Stopped],
        when: When::Always,
        action: A::Keep,
        story: "after a told grant QEMU runs only on Declined, its Kept unwritten; else the switch had failed, untold",
    },
    Case {
        status: &[S::Kept],
        seen: &[Q::Copying, Q::PreSwitchover, Q::Switching],
        when: When::Always,
        action: A::Cancel,
        story: "kept, and the copy was not cancelled yet",
    },
    Case {
        status: &[S::Kept],
        seen: &[Q::Gone],
        when: When::Always,
        action: A::AskKept,
        story: "kept, and QEMU died: if the guest had not gone on here, the destination holds the last copy",
    },
    Case {
        status: &[S::Kept],
        seen: &[Q::Completed],
        when: When::Always,
        action: A::ResumeThenTell,
        story: "kept, and the guest has not gone on yet",
    },
    Case {
        status: &[S::Kept],
        seen: &[Q::Idle, Q::Running, Q::Stopped, Q::Postcopy],
        when: When::Always,
        action: A::TellKept,
        story: "kept, and the guest is back: the destination may not know it",
    },
    Case {
        status: &[S::Done],
        seen: &[Q::Gone],
        when: When::Always,
        action: A::Answer,
        story: "the guest is the destination's, and nothing of it is left here",
    },
    Case {
        status: &[S::Done],
        seen: &[
            Q::Idle,
            Q::Copying,
            Q::PreSwitchover,
            Q::Switching,
            Q::Postcopy,
            Q::Completed,
            Q::Running,
            Q::Stopped,
        ],
        when: When::Always,
        action: A::EndQemu,
        story: "the guest is the destination's: the daemon died before it had ended the copy here",
    },
    Case {
        status: &[S::Settled],
        seen: &[Q::Completed, Q::Idle],
        when: When::WasRunning,
        action: A::Resume,
        story: "both know that it stays, and the daemon died before QEMU took `cont`; a user's stop is respected",
    },
    Case {
        status: &[S::Settled],
        seen: &Q::ALL,
        when: When::Always,
        action: A::Nothing,
        story: "both know that it stays",
    },
];

/// What a restarted destination does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DestinationAction {
    /// Nothing is left to do.
    Nothing,
    /// Write Declined and tell it.
    Decline,
    /// End QEMU, then write Declined and tell it.
    EndThenDecline,
    /// Receive on, and ask what the source wants.
    AskOn,
    /// Tell Complete until the source answers.
    TellComplete,
    /// Write Running and tell it.
    Claim,
    /// Start the CPUs again.
    StartAgain,
    /// Tell MaybeRan until somebody settles it.
    TellMaybeRan,
    /// Tell Running (Ended, when QEMU is gone) until the source knows.
    TellRunning,
    /// End QEMU if it lives, tell Declined until the source knows.
    TellDeclined,
    /// End QEMU; the source knows already.
    EndQemu,
}

use DestinationAction as B;
use DestinationStatus as D;
use destination::Seen as P;

/// The destination's table.
pub const DESTINATION: &[Case<DestinationStatus, destination::Seen, DestinationAction>] = &[
    Case {
        status: &[D::Prepared],
        seen: &[P::Gone],
        when: When::Always,
        action: B::Decline,
        story: "no CPU was started, and none can be any more",
    },
    Case {
        status: &[D::Prepared],
        seen: &[P::Incomplete],
        when: When::Ferry,
        action: B::AskOn,
        story: "the two QEMUs may be at work: the source knows whether it goes on",
    },
    Case {
        status: &[D::Prepared],
        seen: &[P::Complete],
        when: When::Ferry,
        action: B::TellComplete,
        story: "it may be the last copy; a grant that had come and was not acted on is asked for afresh",
    },
    Case {
        status: &[D::Prepared],
        seen: &[P::Incomplete, P::Complete],
        when: When::Always,
        action: B::EndThenDecline,
        story: "a source that cannot be asked ends its QEMU only after Finish: it has the guest",
    },
    Case {
        status: &[D::Prepared, D::Starting],
        seen: &[P::Running],
        when: When::Always,
        action: B::Claim,
        story: "it runs, whoever started it: only saying so keeps the source from running it too",
    },
    Case {
        status: &[D::Starting],
        seen: &[P::Gone],
        when: When::LeftPaused,
        action: B::Decline,
        story: "a guest that was to stay paused ran on no CPU before Running was written",
    },
    Case {
        status: &[D::Starting],
        seen: &[P::Gone],
        when: When::Always,
        action: B::TellMaybeRan,
        story: "the CPUs may have run before QEMU died: nobody here can tell",
    },
    Case {
        status: &[D::Starting],
        seen: &[P::Incomplete, P::Complete],
        when: When::LeftPaused,
        action: B::Claim,
        story: "the record and a living, whole QEMU are ownership of a guest that stays paused",
    },
    Case {
        status: &[D::Starting],
        seen: &[P::Incomplete, P::Complete],
        when: When::Always,
        action: B::StartAgain,
        story: "granted and recorded: `cont` was not sent, or not taken",
    },
    Case {
        status: &[D::Running],
        seen: &P::ALL,
        when: When::Always,
        action: B::TellRunning,
        story: "the guest came here; the source may not know it",
    },
    Case {
        status: &[D::Declined],
        seen: &P::ALL,
        when: When::Always,
        action: B::TellDeclined,
        story: "it will not run here; the source may not know it",
    },
    Case {
        status: &[D::SettledDeclined],
        seen: &[P::Incomplete, P::Complete, P::Running],
        when: When::Always,
        action: B::EndQemu,
        story: "both know that it does not run here, and the daemon died before it had ended QEMU",
    },
    Case {
        status: &[D::SettledDeclined],
        seen: &[P::Gone],
        when: When::Always,
        action: B::Nothing,
        story: "both know that it does not run here",
    },
    Case {
        status: &[D::SettledRunning],
        seen: &P::ALL,
        when: When::Always,
        action: B::Nothing,
        story: "both know that it came here: it is a guest like any other",
    },
];

/// What a restarted source does first. The tests show that every combination has a row.
pub fn source(status: SourceStatus, seen: source::Seen, plan: &Plan, peer: Option<Peer>) -> SourceAction {
    first(SOURCE, status, seen, plan, peer).map_or(A::Nothing, |case| case.action)
}

/// What a restarted destination does first. The tests show that every combination has a row.
pub fn destination(
    status: DestinationStatus,
    seen: destination::Seen,
    plan: &Plan,
    peer: Peer,
) -> DestinationAction {
    first(DESTINATION, status, seen, plan, Some(peer)).map_or(B::Nothing, |case| case.action)
}

fn first<Status: PartialEq, Seen: PartialEq, Action>(
    table: &'static [Case<Status, Seen, Action>],
    status: Status,
    seen: Seen,
    plan: &Plan,
    peer: Option<Peer>,
) -> Option<&'static Case<Status, Seen, Action>> {
    table.iter().find(|case| {
        case.status.contains(&status) && case.seen.contains(&seen) && case.when.holds(plan, peer)
    })
}

#[cfg(test)]
mod tests;
