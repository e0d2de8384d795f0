//! The destination's vocabulary: what goes in, what comes out, what is refused.
//! Called by the driver, which turns wire calls and QMP events into inputs, and effects into acts.

use crate::journal::DestinationRecord;
use crate::message::Word;
use crate::{Doubt, Evidence, GuestIs, Why, Written};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The result of [`Effect::Journal`]: always the next input after it.
    Journaled(Written),
    /// Call: Finish.
    Finish {
        /// The coordinator says that the copy failed or was called off.
        cancelled: bool,
        /// What proves that the right is this host's; only `None` and `Granted` mean anything here.
        evidence: Evidence,
    },
    /// The connection of whoever coordinates (client or source daemon) has closed.
    ClientGone,
    /// Call: destroy the guest.
    Destroy,
    /// Enough waited: a pending Finish is to be answered, an orphan with an incomplete state to be given up.
    Deadline,
    /// Time to say and try again what is outstanding.
    Retry,
    /// QEMU reported this.
    Qemu(Report),
    /// The source's daemon says.
    Told(Word),
    /// The operator's word.
    Resolve(GuestIs),
}

/// What QEMU reports on the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// It was launched and waits for the source: Prepare may answer.
    Listening,
    /// The state is whole. Pre-copy: `completed`. Post-copy: the package is loaded, i.e. `postcopy-active` and the run
    /// state is no longer `inmigrate`; or `completed`.
    Complete,
    /// RESUME after [`Effect::StartCpus`]: the CPUs run.
    Resumed,
    /// `cont` was answered with an error, and QEMU lives.
    StartRefused,
    /// The copy failed; QEMU may be about to exit.
    Failed,
    /// After a Finish that says "cancelled": no source had ever connected.
    Unconnected,
    /// The process is gone.
    Died,
}

/// What the driver must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write and sync; feed [`Input::Journaled`] next.
    Journal(DestinationRecord),
    /// Start QEMU with `-incoming defer -S`, listen; feed `Qemu(Listening)`, or `Qemu(Died)` when it cannot.
    Launch,
    /// `cont`, once; feed `Qemu(Resumed)` or `Qemu(StartRefused)` or `Qemu(Died)`.
    StartCpus,
    /// Ask QEMU now; feed `Qemu(Complete)` when it lives and is whole, `Qemu(StartRefused)` when it lives and does not
    /// say so, `Qemu(Died)` when its process is gone.
    ProveAlive,
    /// End QEMU (signal, wait on the pidfd); feed `Qemu(Died)`.
    EndQemu,
    /// Send once; lost messages are told again at `Retry`.
    Tell(Word),
    /// Answer the pending call of this kind, if there is one.
    Answer(Answer),
    /// The migration ended for this host: release the job, emit the events, settle definitions.
    Finished(Ended),
    /// The source keeps the guest although it runs here (by an operator's word): shout.
    Alarm,
}

/// The calls that the destination answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Prepare.
    Prepare,
    /// Finish.
    Finish,
    /// Destroy.
    Destroy,
    /// The operator's word.
    Resolve,
}

/// The answer to a pending call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Success.
    Ok(Call),
    /// The guest will not run here.
    Failed(Call, Why),
    /// Nobody knows yet; the daemon keeps asking.
    InDoubt(Call, Doubt),
    /// Finish's answer is the guest's fate; whether that is success depends on what the call had asked for.
    Finish(Fate),
}

/// Whether the guest came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is this host's (running, or paused when that was asked).
    Arrived,
    /// It is not, for this reason, and nothing of it is left here.
    Declined(Why),
}

/// How a migration ended on the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The guest is this host's.
    Arrived,
    /// It is not: no process, port, file or definition of it stays.
    Declined(Why),
}

/// What a restarted daemon finds of the guest's QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// No process.
    Gone,
    /// Waiting for the source, or loading.
    Incomplete,
    /// The state is whole, the CPUs are stopped.
    Complete,
    /// The CPUs run.
    Running,
}

impl Seen {
    /// All of them, for the table over every combination.
    pub const ALL: [Self; 4] = [Self::Gone, Self::Incomplete, Self::Complete, Self::Running];
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
    /// The state here may be the only one: the source decides.
    #[error("the guest is being handed over to this host")]
    HandingOver,
    /// There is nothing to resolve.
    #[error("the migration is not in doubt")]
    NotInDoubt,
    /// The driver fed something else than the result of its journal.
    #[error("the driver broke its contract")]
    Driver,
}
