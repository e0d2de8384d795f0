//! What a domain is doing and why, and the events that tell of it, as the numbers that clients know.
//! Called by [`crate::lifecycle`] and by whoever answers a state query.

use ferry_rpc::values::{
    CrashedDetail, CrashedReason, DomainState, LifecycleEvent, PausedReason, PmSuspendedDetail,
    ResumedDetail, RunningReason, ShutdownDetail, ShutdownReason, ShutoffReason, StartedDetail,
    StoppedDetail, SuspendedDetail,
};

/// What a domain is doing, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The CPUs run.
    Running(RunningReason),
    /// They do not, and QEMU lives.
    Paused(PausedReason),
    /// The guest has powered off, QEMU is about to end.
    InShutdown(ShutdownReason),
    /// There is no QEMU.
    ShutOff(ShutoffReason),
    /// The guest's kernel has panicked, QEMU lives.
    Crashed(CrashedReason),
    /// The guest sleeps.
    PmSuspended,
}

impl State {
    /// The pair of procedure 212.
    pub const fn numbers(self) -> (DomainState, i32) {
        match self {
            Self::Running(reason) => (DomainState::RUNNING, reason.0),
            Self::Paused(reason) => (DomainState::PAUSED, reason.0),
            Self::InShutdown(reason) => (DomainState::SHUTDOWN, reason.0),
            Self::ShutOff(reason) => (DomainState::SHUTOFF, reason.0),
            Self::Crashed(reason) => (DomainState::CRASHED, reason.0),
            Self::PmSuspended => (DomainState::PMSUSPENDED, 0),
        }
    }

    /// The state of a stored pair; `None` for one that this code does not write.
    pub const fn from_numbers(state: DomainState, reason: i32) -> Option<Self> {
        match state {
            DomainState::RUNNING => Some(Self::Running(RunningReason(reason))),
            DomainState::PAUSED => Some(Self::Paused(PausedReason(reason))),
            DomainState::SHUTDOWN => Some(Self::InShutdown(ShutdownReason(reason))),
            DomainState::SHUTOFF => Some(Self::ShutOff(ShutoffReason(reason))),
            DomainState::CRASHED => Some(Self::Crashed(CrashedReason(reason))),
            DomainState::PMSUSPENDED => Some(Self::PmSuspended),
            _ => None,
        }
    }

    /// Whether there is a QEMU.
    pub const fn is_active(self) -> bool {
        !matches!(self, Self::ShutOff(_))
    }
}

/// A lifecycle event: what happened, and the detail of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A QEMU was started for the guest.
    Started(StartedDetail),
    /// The CPUs stopped.
    Suspended(SuspendedDetail),
    /// The CPUs run again.
    Resumed(ResumedDetail),
    /// QEMU is gone.
    Stopped(StoppedDetail),
    /// The guest has powered off, or the host ends it.
    Shutdown(ShutdownDetail),
    /// The guest sleeps.
    PmSuspended(PmSuspendedDetail),
    /// The guest's kernel has panicked.
    Crashed(CrashedDetail),
}

impl Event {
    /// The pair of event 318.
    pub const fn numbers(self) -> (LifecycleEvent, i32) {
        match self {
            Self::Started(detail) => (LifecycleEvent::STARTED, detail.0),
            Self::Suspended(detail) => (LifecycleEvent::SUSPENDED, detail.0),
            Self::Resumed(detail) => (LifecycleEvent::RESUMED, detail.0),
            Self::Stopped(detail) => (LifecycleEvent::STOPPED, detail.0),
            Self::Shutdown(detail) => (LifecycleEvent::SHUTDOWN, detail.0),
            Self::PmSuspended(detail) => (LifecycleEvent::PMSUSPENDED, detail.0),
            Self::Crashed(detail) => (LifecycleEvent::CRASHED, detail.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pairs_that_clients_know() {
        for (state, pair) in [
            (State::Running(RunningReason::BOOTED), (1, 1)),
            (State::Running(RunningReason::MIGRATION_CANCELED), (1, 6)),
            (State::Paused(PausedReason::MIGRATION), (3, 2)),
            (State::ShutOff(ShutoffReason::DESTROYED), (5, 2)),
            (State::PmSuspended, (7, 0)),
        ] {
            let (number, reason) = state.numbers();
            assert_eq!((number.0, reason), pair, "{state:?}");
            assert_eq!(State::from_numbers(number, reason), Some(state));
        }
        assert_eq!(State::from_numbers(DomainState(99), 0), None);
    }
}
