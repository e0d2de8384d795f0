//! The source's vocabulary: what goes in, what comes out, what is refused.
//! Called by the driver, which turns wire calls and QMP events into inputs, and effects into acts.

use crate::journal::SourceRecord;
use crate::message::Word;
use crate::{Doubt, Evidence, GuestIs, Peer, Why, Written};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The result of [`Effect::Journal`]: always the next input after it.
    Journaled(Written),
    /// The result of [`Effect::Probe`]: always the next input after it.
    Probed(Written),
    /// Call: start the copy. The peer as the destination's cookie tells it.
    Perform(Peer),
    /// Call: the coordinator's claim about the destination.
    Confirm {
        /// It says that the guest does not run there.
        cancelled: bool,
        /// What proves it.
        evidence: Evidence,
    },
    /// Call: abort the job (164).
    Abort,
    /// Call: switch to post-copy now (364).
    StartPostcopy,
    /// The connection of the client that coordinates has closed. Peer to peer, it changes nothing.
    ClientGone,
    /// Call: destroy the guest.
    Destroy,
    /// The pending Confirm has waited long enough.
    Deadline,
    /// Time to say and try again what is outstanding.
    Retry,
    /// QEMU reported this by itself.
    Qemu(Report),
    /// The fresh answer to [`Effect::QueryCopy`].
    QemuNow(Report),
    /// The destination's daemon says.
    Told(Word),
    /// The destination's host prepares to send the same guest back here in a newer epoch: so it ran there.
    ComesBack,
    /// The operator's word.
    Resolve(GuestIs),
}

/// What QEMU reports on the source: the state of its copy, and its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// `setup` or `active`: memory is being copied.
    Active,
    /// `pre-switchover`: the guest is stopped, QEMU waits to be told to go on.
    PreSwitchover,
    /// `device`: the last state is being sent.
    Device,
    /// `postcopy-active`: past the switch, unless it fails before the destination has the package.
    PostcopyActive,
    /// `postcopy-paused` or `postcopy-recover`: past the switch, the channel is broken.
    PostcopyPaused,
    /// `completed`.
    Completed,
    /// `failed`: QEMU has made, or will make, the guest run again if it ran before.
    Failed,
    /// `cancelled`, or no copy at all.
    Cancelled,
    /// RESUME: the CPUs run here.
    Resumed,
    /// The process is gone.
    Died,
}

impl Report {
    /// Whether the guest's memory is on two hosts, so that QEMU lets it go on here no more.
    pub const fn is_past_the_switch(self) -> bool {
        match self {
            Self::PostcopyActive | Self::PostcopyPaused => true,
            Self::Active
            | Self::PreSwitchover
            | Self::Device
            | Self::Completed
            | Self::Failed
            | Self::Cancelled
            | Self::Resumed
            | Self::Died => false,
        }
    }
}

/// What the driver must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write and sync; feed [`Input::Journaled`] next.
    Journal(SourceRecord),
    /// See whether the journal has room and works, without a sync; feed [`Input::Probed`] next.
    Probe,
    /// Stop the CPUs (a migration that is not live, or CPUs that must not run).
    StopCpus,
    /// Set capabilities and parameters and start `migrate`, with `pause-before-switchover`. When QEMU refuses, feed
    /// `Qemu(Failed)` and keep its words for the answer.
    StartCopy,
    /// `migrate-continue`. When QEMU refuses, feed what the copy's state is.
    Continue,
    /// `migrate-start-postcopy`. When QEMU refuses, feed nothing: the copy goes on as pre-copy.
    SwitchToPostcopy,
    /// `migrate_cancel`, and then, whether QEMU took it or not, feed the copy's state at least once more: `Cancelled`,
    /// `Completed` or `Failed` when it ends, or the post-copy state in which it cannot be cancelled.
    CancelCopy,
    /// Ask QEMU for the copy's state now; feed [`Input::QemuNow`] with an answer given after this effect. When it gives
    /// none, feed nothing: its death is reported when it dies.
    QueryCopy,
    /// Make the CPUs run if they do not, repeating `cont` while QEMU refuses it; feed `Qemu(Resumed)` once they run, or
    /// at once when a user's stop is respected: the guest has been given back either way. When QEMU refuses for good,
    /// feed nothing; it is tried again at `Retry`.
    Resume,
    /// End QEMU (signal, wait on the pidfd); the answer to the caller does not wait for its burial.
    EndQemu,
    /// Send once; lost messages are told again at `Retry`.
    Tell(Word),
    /// Answer the pending call of this kind, if there is one.
    Answer(Answer),
    /// The migration ended for this host: release the job, emit the events, settle definitions.
    Finished(Ended),
    /// The destination runs the guest although this host was told to keep it (by the operator): shout.
    Alarm,
}

/// The calls that the source answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Begin.
    Begin,
    /// Perform.
    Perform,
    /// Confirm.
    Confirm,
    /// Abort.
    Abort,
    /// Switch to post-copy.
    StartPostcopy,
    /// Destroy.
    Destroy,
    /// The operator's word.
    Resolve,
}

/// The answer to a pending call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Success. Perform's cookie carries the grant, when there is one.
    Ok(Call),
    /// The migration did not move the guest, which stays here.
    Failed(Call, Why),
    /// Nobody knows yet; the daemon keeps asking.
    InDoubt(Call, Doubt),
    /// Confirm's answer is the guest's fate; whether that is success depends on what the call had claimed.
    Confirm(Fate),
}

/// Which host has the guest now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The destination.
    Moved,
    /// This one.
    Stayed,
}

/// What a restarted daemon finds of the guest's QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// No process.
    Gone,
    /// No copy under way and none completed (`none`, `failed`, `cancelled`), CPUs running or stopped.
    Idle,
    /// `setup`, `active`: the switchover has not been let go.
    Copying,
    /// `pre-switchover`.
    PreSwitchover,
    /// `device`, `cancelling`: it may complete at any moment.
    Switching,
    /// `postcopy-active`, `postcopy-paused`, `postcopy-recover`.
    Postcopy,
    /// `completed`, run state `postmigrate` or `finish-migrate`: the CPUs have not run since.
    Completed,
    /// `completed`, and the CPUs run again.
    Running,
    /// `completed`, CPUs stopped in any other run state (`paused`, `io-error`, `watchdog` …): they have run since.
    Stopped,
}

impl Seen {
    /// All of them, for the table over every combination.
    pub const ALL: [Self; 9] = [
        Self::Gone,
        Self::Idle,
        Self::Copying,
        Self::PreSwitchover,
        Self::Switching,
        Self::Postcopy,
        Self::Completed,
        Self::Running,
        Self::Stopped,
    ];
}

/// How a migration ended on the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The guest is the destination's: QEMU ends, `shut off (migrated)`, UNDEFINE_SOURCE is honoured.
    Moved,
    /// The guest stays, running if it ran before and QEMU lives.
    Stayed(Why),
}

/// A call that this phase does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{refusal} (the migration is {phase})")]
pub struct Denied {
    /// The phase's name.
    pub phase: &'static str,
    /// Why it is refused.
    pub refusal: Refusal,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The phases come in another order.
    #[error("the call does not belong here")]
    OutOfOrder,
    /// There is nothing to abort any more: the guest may run on the destination.
    #[error("the guest has been handed over")]
    HandedOver,
    /// The copy is in post-copy and cannot be called off.
    #[error("cannot abort migration in post-copy mode")]
    InPostcopy,
    /// The migration was started without POSTCOPY.
    #[error("switching to post-copy requires migration to be started with VIR_MIGRATE_POSTCOPY flag")]
    NotPostcopy,
    /// No copy is in progress.
    #[error("post-copy can only be started while outgoing migration is in progress")]
    NotCopying,
    /// The migration has ended.
    #[error("no job is active on the domain")]
    Over,
    /// There is nothing to resolve: the daemons know who runs the guest.
    #[error("the migration is not in doubt")]
    NotInDoubt,
    /// The driver fed something that was not asked for, or something else than the result of its journal.
    #[error("the driver broke its contract")]
    Driver,
}
