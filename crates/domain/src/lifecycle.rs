//! The life of one guest: what happened to it in, its state and the events to emit out.
//!
//! Called by the driver for each thing that QEMU reports or that it did itself. Everything that may arrive late or
//! twice leaves the state as it is and emits nothing. Definitions (defined, undefined) are not its business.
//!
//! ```text
//!              Launched                Resumed                    Stopped
//! ShutOff ──────────────> Paused ───────────────> Running <──────────────> Paused
//!    ▲                      │                        │    Resumed             │
//!    │        Ended         │        PoweredOff      ▼                        │
//!    └──────────────────────┴──────────────────── InShutdown, Crashed, PmSuspended
//! ```

use ferry_rpc::values::{
    CrashedDetail, CrashedReason, PausedReason, PmSuspendedDetail, ResumedDetail, RunningReason,
    ShutdownDetail, ShutdownReason, ShutoffReason, StartedDetail, StoppedDetail, SuspendedDetail,
};

use crate::state::{Event, State};

/// The life of one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    state: State,
    /// Launched and not yet announced as booted: clients see "resumed" before "started".
    announce: Option<StartedDetail>,
}

/// Something that happened to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Happening {
    /// QEMU was started for a plain start; the CPUs do not run yet.
    Launched,
    /// QEMU was started to receive the guest from another host.
    LaunchedIncoming,
    /// A plain start that leaves the guest paused is complete.
    StartedPaused,
    /// The CPUs run, for this reason.
    Resumed(RunningReason),
    /// The CPUs stopped, for this reason.
    Stopped(PausedReason),
    /// The machine is off: the guest's own doing, or the host's.
    PoweredOff {
        /// The guest did it.
        by_guest: bool,
    },
    /// The guest's kernel has panicked; QEMU lives.
    Panicked,
    /// The guest sleeps in memory, or on disk.
    Slept {
        /// To disk.
        to_disk: bool,
    },
    /// The guest has woken up.
    Woke,
    /// QEMU is gone, for this reason.
    Ended(ShutoffReason),
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { state: State::ShutOff(ShutoffReason::UNKNOWN), announce: None }
    }
}

impl Lifecycle {
    /// A guest in this state: as the store has it, checked against QEMU.
    pub const fn found(state: State) -> Self {
        Self { state, announce: None }
    }

    /// What it is doing, and why.
    pub const fn state(self) -> State {
        self.state
    }

    /// One thing that happened: the life after it and the events to emit, in this order.
    pub fn step(self, happening: Happening) -> (Self, Vec<Event>) {
        let (state, events) = match (self.state, happening) {
            (State::ShutOff(_), Happening::Launched) => {
                let state = State::Paused(PausedReason::STARTING_UP);
                return (Self { state, announce: Some(StartedDetail::BOOTED) }, Vec::new());
            }
            (State::ShutOff(_), Happening::LaunchedIncoming) => {
                (State::Paused(PausedReason::MIGRATION), vec![Event::Started(StartedDetail::MIGRATED)])
            }
            // Nothing else happens to a guest without a QEMU: a late report of the one that is gone.
            (State::ShutOff(_), _) => return (self, Vec::new()),
            // One QEMU at a time: a second launch is the driver's mistake and changes nothing here.
            (_, Happening::Launched | Happening::LaunchedIncoming) => return (self, Vec::new()),

            (State::Paused(_), Happening::StartedPaused) => {
                let started = Event::Started(self.announce.unwrap_or(StartedDetail::BOOTED));
                let state = State::Paused(PausedReason::USER);
                let life = Self { state, announce: None };
                return (life, vec![started, Event::Suspended(SuspendedDetail::PAUSED)]);
            }
            (_, Happening::StartedPaused) => return (self, Vec::new()),

            // Already running: only the way of a post-copy, and its end, change why.
            (State::Running(was), Happening::Resumed(reason)) => {
                let postcopy = [RunningReason::POSTCOPY, RunningReason::POSTCOPY_FAILED];
                let told = was != reason
                    && postcopy.contains(&was)
                    && (postcopy.contains(&reason) || reason == RunningReason::MIGRATED);
                if !told {
                    return (self, Vec::new());
                }
                (State::Running(reason), vec![Event::Resumed(resumed_detail(reason))])
            }
            (_, Happening::Resumed(reason)) => {
                let mut events = vec![Event::Resumed(resumed_detail(reason))];
                // A plain start tells "resumed" first, and then that it has booted.
                events.extend(self.announce.map(Event::Started));
                (State::Running(reason), events)
            }

            // A pause takes another reason only when the migration gives it one.
            (State::Paused(was), Happening::Stopped(reason)) if was == reason => return (self, Vec::new()),
            (State::Paused(_), Happening::Stopped(reason)) => match reason {
                PausedReason::MIGRATION | PausedReason::POSTCOPY | PausedReason::POSTCOPY_FAILED => {
                    (State::Paused(reason), vec![Event::Suspended(suspended_detail(reason))])
                }
                PausedReason::USER | PausedReason::API_ERROR => (State::Paused(reason), Vec::new()),
                _ => return (self, Vec::new()),
            },
            (_, Happening::Stopped(reason)) => {
                (State::Paused(reason), vec![Event::Suspended(suspended_detail(reason))])
            }

            (State::InShutdown(_), Happening::PoweredOff { .. }) => return (self, Vec::new()),
            (_, Happening::PoweredOff { by_guest }) => {
                let detail = if by_guest { ShutdownDetail::GUEST } else { ShutdownDetail::HOST };
                (State::InShutdown(ShutdownReason::USER), vec![Event::Shutdown(detail)])
            }
            (State::Crashed(_), Happening::Panicked) => return (self, Vec::new()),
            (_, Happening::Panicked) => {
                (State::Crashed(CrashedReason::PANICKED), vec![Event::Crashed(CrashedDetail::PANICKED)])
            }
            (State::PmSuspended, Happening::Slept { .. }) => return (self, Vec::new()),
            (_, Happening::Slept { to_disk }) => {
                let detail = if to_disk { PmSuspendedDetail::DISK } else { PmSuspendedDetail::MEMORY };
                (State::PmSuspended, vec![Event::PmSuspended(detail)])
            }
            (State::PmSuspended, Happening::Woke) => {
                (State::Running(RunningReason::WAKEUP), vec![Event::Started(StartedDetail::WAKEUP)])
            }
            (_, Happening::Woke) => return (self, Vec::new()),

            (_, Happening::Ended(reason)) => (State::ShutOff(reason), ended_events(reason)),
        };
        (Self { state, announce: None }, events)
    }
}

fn resumed_detail(reason: RunningReason) -> ResumedDetail {
    match reason {
        RunningReason::MIGRATED => ResumedDetail::MIGRATED,
        RunningReason::RESTORED | RunningReason::FROM_SNAPSHOT => ResumedDetail::FROM_SNAPSHOT,
        RunningReason::POSTCOPY => ResumedDetail::POSTCOPY,
        RunningReason::POSTCOPY_FAILED => ResumedDetail::POSTCOPY_FAILED,
        _ => ResumedDetail::UNPAUSED,
    }
}

fn suspended_detail(reason: PausedReason) -> SuspendedDetail {
    match reason {
        PausedReason::MIGRATION => SuspendedDetail::MIGRATED,
        PausedReason::IOERROR => SuspendedDetail::IOERROR,
        PausedReason::WATCHDOG => SuspendedDetail::WATCHDOG,
        PausedReason::FROM_SNAPSHOT => SuspendedDetail::FROM_SNAPSHOT,
        PausedReason::API_ERROR => SuspendedDetail::API_ERROR,
        PausedReason::POSTCOPY => SuspendedDetail::POSTCOPY,
        PausedReason::POSTCOPY_FAILED => SuspendedDetail::POSTCOPY_FAILED,
        _ => SuspendedDetail::PAUSED,
    }
}

fn ended_events(reason: ShutoffReason) -> Vec<Event> {
    let stopped = |detail| vec![Event::Stopped(detail)];
    match reason {
        // The host ends a QEMU whose guest has left.
        ShutoffReason::MIGRATED => {
            vec![Event::Shutdown(ShutdownDetail::HOST), Event::Stopped(StoppedDetail::MIGRATED)]
        }
        ShutoffReason::SAVED => {
            vec![Event::Shutdown(ShutdownDetail::HOST), Event::Stopped(StoppedDetail::SAVED)]
        }
        ShutoffReason::DESTROYED => stopped(StoppedDetail::DESTROYED),
        ShutoffReason::CRASHED | ShutoffReason::FAILED => stopped(StoppedDetail::FAILED),
        ShutoffReason::FROM_SNAPSHOT => stopped(StoppedDetail::FROM_SNAPSHOT),
        _ => stopped(StoppedDetail::SHUTDOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a life, as pairs of numbers, and how it ends.
    fn life(happenings: &[Happening]) -> (Vec<(i32, i32)>, State) {
        let mut life = Lifecycle::default();
        let mut told = Vec::new();
        for happening in happenings {
            let (next, events) = life.step(*happening);
            told.extend(events.into_iter().map(|event| (event.numbers().0.0, event.numbers().1)));
            life = next;
        }
        (told, life.state())
    }

    use Happening::{Ended, Launched, LaunchedIncoming, Resumed, StartedPaused, Stopped};

    const POWERED_OFF: Happening = Happening::PoweredOff { by_guest: true };

    #[test]
    fn a_plain_start_tells_resumed_before_started() {
        let (told, state) = life(&[Launched, Resumed(RunningReason::BOOTED)]);
        assert_eq!(told, [(4, 0), (2, 0)]);
        assert_eq!(state, State::Running(RunningReason::BOOTED));
        let (told, state) = life(&[Launched, StartedPaused, Resumed(RunningReason::UNPAUSED)]);
        assert_eq!(told, [(2, 0), (3, 0), (4, 0)]);
        assert_eq!(state, State::Running(RunningReason::UNPAUSED));
    }

    #[test]
    fn a_migration_as_both_hosts_tell_it() {
        let start = [Launched, Resumed(RunningReason::BOOTED)];
        let leaving = [Stopped(PausedReason::MIGRATION), Ended(ShutoffReason::MIGRATED)];
        let (told, state) = life(&[start, leaving].concat());
        assert_eq!(told[2..], [(3, 1), (6, 2), (5, 3)]);
        assert_eq!(state, State::ShutOff(ShutoffReason::MIGRATED));
        let (told, state) = life(&[LaunchedIncoming, Resumed(RunningReason::MIGRATED)]);
        assert_eq!(told, [(2, 1), (4, 1)]);
        assert_eq!(state, State::Running(RunningReason::MIGRATED));
        let (told, _) = life(&[LaunchedIncoming, Ended(ShutoffReason::FAILED)]);
        assert_eq!(told, [(2, 1), (5, 5)]);
    }

    #[test]
    fn post_copy_tells_each_step() {
        let source = [
            Launched,
            Resumed(RunningReason::BOOTED),
            Stopped(PausedReason::MIGRATION),
            Stopped(PausedReason::POSTCOPY),
            Ended(ShutoffReason::MIGRATED),
        ];
        assert_eq!(life(&source).0[2..], [(3, 1), (3, 7), (6, 2), (5, 3)]);
        let destination =
            [LaunchedIncoming, Resumed(RunningReason::POSTCOPY), Resumed(RunningReason::MIGRATED)];
        assert_eq!(
            life(&destination),
            (vec![(2, 1), (4, 3), (4, 1)], State::Running(RunningReason::MIGRATED))
        );
    }

    #[test]
    fn what_is_late_or_repeated_tells_nothing() {
        let (told, state) = life(&[
            Resumed(RunningReason::UNPAUSED),
            POWERED_OFF,
            Launched,
            Launched,
            Resumed(RunningReason::BOOTED),
            Resumed(RunningReason::UNPAUSED),
            Stopped(PausedReason::USER),
            Stopped(PausedReason::USER),
            Ended(ShutoffReason::DESTROYED),
            Ended(ShutoffReason::DESTROYED),
            Stopped(PausedReason::USER),
        ]);
        assert_eq!(told, [(4, 0), (2, 0), (3, 0), (5, 1)]);
        assert_eq!(state, State::ShutOff(ShutoffReason::DESTROYED));
    }

    #[test]
    fn a_guest_that_powers_off_ends_as_shut_down() {
        let (told, state) =
            life(&[Launched, Resumed(RunningReason::BOOTED), POWERED_OFF, Ended(ShutoffReason::SHUTDOWN)]);
        assert_eq!(told[2..], [(6, 1), (5, 0)]);
        assert_eq!(state, State::ShutOff(ShutoffReason::SHUTDOWN));
    }
}
