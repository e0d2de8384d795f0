//! The destination's transitions, one function per phase. Every pair of phase and input is answered for: a call
//! is taken or denied, an event is acted on or passed over. Called through [`Destination::step`] alone.

use super::types::{Answer, Call, Denied, Effect, Ended, Fate, Input, Refusal, Report, Seen};
use super::{Destination, Phase, Qemu, Tail};
use crate::journal::{DestinationRecord, DestinationStatus};
use crate::message::Word;
use crate::recovery::{self, DestinationAction};
use crate::{Doubt, Evidence, GuestIs, MigrationId, Peer, Plan, Why, Written};

/// The next state and what is to be done, in this order.
type Step = Result<(Destination, Vec<Effect>), Denied>;

impl Destination {
    /// One step. Events never fail; a call that the phase does not take is denied and changes nothing (the
    /// driver keeps its copy of the state).
    pub fn step(mut self, input: Input) -> Step {
        match input {
            Input::Qemu(Report::Died) => self.qemu = Qemu::Dead,
            // Whoever speaks of this migration with its secret is a Ferry, whatever the cookies brought.
            Input::Told(_) => self.peer = Peer::Ferry,
            Input::Qemu(
                Report::Listening
                | Report::Complete
                | Report::Resumed
                | Report::StartRefused
                | Report::Failed
                | Report::Unconnected,
            )
            | Input::Journaled(_)
            | Input::Finish { .. }
            | Input::ClientGone
            | Input::Destroy
            | Input::Deadline
            | Input::Retry
            | Input::Resolve(_) => {}
        }
        match self.phase {
            Phase::ExpectPrepared => self.expect_prepared(input),
            Phase::Launching => self.launching(input),
            Phase::Incoming { granted, asks, alone } => self.incoming(granted, asks, alone, input),
            Phase::Complete { .. } => self.complete(input),
            Phase::ExpectStarting { recorded, first } => self.expect_starting(recorded, first, input),
            Phase::Starting { first } => self.starting(first, input),
            Phase::CannotStart { recorded, first } => self.cannot_start(recorded, first, input),
            Phase::ExpectRunning => self.expect_running(input),
            Phase::Running { recorded, settled } => self.running(recorded, settled, input),
            Phase::MaybeRan => self.maybe_ran(input),
            Phase::ExpectDeclined { why, tail } => self.expect_declined(why, tail, input),
            Phase::Ending { why } => self.ending(why, input),
            Phase::Declined { why, recorded, settled } => self.declined(why, recorded, settled, input),
        }
    }

    /// The machine of a restarted daemon: what the journal says, and what QEMU is found doing. A grant that had
    /// been received and not acted on is forgotten: the source is asked afresh. `None` when nothing is left to do.
    pub fn recover(
        id: MigrationId,
        plan: Plan,
        peer: Peer,
        status: DestinationStatus,
        seen: Seen,
    ) -> Option<(Self, Vec<Effect>)> {
        let qemu = if seen == Seen::Gone { Qemu::Dead } else { Qemu::Alive };
        let destination = Self {
            id,
            plan,
            peer,
            qemu,
            phase: Phase::Incoming { granted: false, asks: true, alone: false },
        };
        let step = match recovery::destination(status, seen, &plan, peer) {
            DestinationAction::Nothing => return None,
            DestinationAction::Decline if status == DestinationStatus::Starting => {
                destination.decline(Why::QemuDied, Tail::Starting { first: true })
            }
            DestinationAction::Decline => destination.decline(Why::QemuDied, Tail::Prepared),
            DestinationAction::EndThenDecline => destination.decline(Why::ClientGone, Tail::Prepared),
            DestinationAction::AskOn => destination
                .go(Phase::Incoming { granted: false, asks: true, alone: false }, [Effect::Tell(Word::Ask)]),
            DestinationAction::TellComplete => {
                destination.go(Phase::Complete { doubt: false }, [Effect::Tell(Word::Complete)])
            }
            DestinationAction::Claim => destination.runs(),
            DestinationAction::StartAgain => {
                destination.go(Phase::Starting { first: false }, [Effect::StartCpus])
            }
            DestinationAction::TellMaybeRan => {
                let tell = destination.tell(Word::MaybeRan);
                destination.go(Phase::MaybeRan, tell)
            }
            DestinationAction::TellRunning => {
                let tell = destination.tell(destination.ran_word());
                destination.go(Phase::Running { recorded: true, settled: false }, tell)
            }
            DestinationAction::TellDeclined => {
                let end = (seen != Seen::Gone).then_some(Effect::EndQemu);
                let tell = destination.tell(Word::Declined);
                destination.go(
                    Phase::Declined { why: Why::Declined, recorded: true, settled: false },
                    end.into_iter().chain(tell),
                )
            }
            DestinationAction::EndQemu => destination
                .go(Phase::Declined { why: Why::Declined, recorded: true, settled: true }, [Effect::EndQemu]),
        };
        step.ok()
    }

    /// The machine of an earlier migration of a guest that has begun another since, after a restart: it had ended
    /// here, whatever could not be written of that, and the source may not know it. `lives`: the QEMU into which the
    /// guest came still runs. Nothing is asked of it. `None` when nothing is left to do.
    pub fn settle(
        id: MigrationId,
        plan: Plan,
        peer: Peer,
        status: DestinationStatus,
        lives: bool,
    ) -> Option<(Self, Vec<Effect>)> {
        let qemu = if lives { Qemu::Alive } else { Qemu::Dead };
        let why = Why::Declined;
        let destination =
            Self { id, plan, peer, qemu, phase: Phase::Declined { why, recorded: true, settled: false } };
        let step = match status {
            // Without a start there was nothing left when the later one began.
            DestinationStatus::Prepared => destination.decline(why, Tail::Gone),
            DestinationStatus::Declined => {
                let tell = destination.tell(Word::Declined);
                destination.go(Phase::Declined { why, recorded: true, settled: false }, tell)
            }
            // A start that had not come to an end would not have let a later one begin.
            DestinationStatus::Starting | DestinationStatus::Running => {
                let tell = destination.tell(destination.ran_word());
                let recorded = status == DestinationStatus::Running;
                destination.go(Phase::Running { recorded, settled: false }, tell)
            }
            DestinationStatus::SettledRunning | DestinationStatus::SettledDeclined => return None,
        };
        step.ok()
    }

    fn expect_prepared(mut self, input: Input) -> Step {
        match input {
            Input::Journaled(Written::Yes) => {
                self.qemu = Qemu::Alive;
                self.go(Phase::Launching, [Effect::Launch])
            }
            Input::Journaled(Written::No) => self.go(
                Phase::Declined { why: Why::JournalFull, recorded: true, settled: true },
                [
                    Effect::Answer(Answer::Failed(Call::Prepare, Why::JournalFull)),
                    Effect::Finished(Ended::Declined(Why::JournalFull)),
                ],
            ),
            _ => self.out_of_turn(),
        }
    }

    fn launching(self, input: Input) -> Step {
        match input {
            Input::Qemu(Report::Listening) => self.go(
                Phase::Incoming { granted: false, asks: false, alone: false },
                [Effect::Answer(Answer::Ok(Call::Prepare))],
            ),
            Input::Qemu(Report::Died | Report::Failed) => self.decline(Why::LaunchFailed, Tail::Prepared),
            Input::ClientGone => self.decline(Why::ClientGone, Tail::Prepared),
            Input::Told(Word::Kept | Word::TakeBack) => self.decline(Why::SourceKept, Tail::Prepared),
            Input::Destroy => self.decline(Why::Destroyed, Tail::Prepared),
            Input::Finish { .. } => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(Report::Complete | Report::Resumed | Report::StartRefused | Report::Unconnected)
            | Input::Told(_)
            | Input::Deadline
            | Input::Retry => self.stay(),
            Input::Journaled(_) => self.out_of_turn(),
        }
    }

    fn incoming(self, granted: bool, asks: bool, alone: bool, input: Input) -> Step {
        let same = Phase::Incoming { granted, asks, alone };
        let asking = Phase::Incoming { granted, asks: true, alone };
        let may_be_past = self.may_be_past_the_switch() && !alone;
        match input {
            Input::Qemu(Report::Complete) if granted => self.start(),
            Input::Qemu(Report::Complete) => {
                // Pre-copy, the source's grant is on its way; post-copy, it waits for this word.
                let tell = self.plan.postcopy.then(|| self.tell(Word::Complete)).flatten();
                self.go(Phase::Complete { doubt: false }, tell)
            }
            Input::Qemu(Report::Died) => self.decline(Why::QemuDied, Tail::Prepared),
            Input::Qemu(Report::Failed) => self.decline(Why::CopyFailed, Tail::Prepared),
            // Nothing has come, so there is nothing to lose; a source that begins now finds nobody.
            Input::Qemu(Report::Unconnected) if asks && !granted => {
                self.decline(Why::Cancelled, Tail::Prepared)
            }
            Input::Told(Word::Granted) => self.go(Phase::Incoming { granted: true, asks: false, alone }, []),
            Input::Told(Word::Gone) => self.go(Phase::Incoming { granted, asks, alone: true }, []),
            // For the source it is over: what has not come soon never will.
            Input::Told(Word::Settled) => self.go(Phase::Incoming { granted, asks: true, alone: true }, []),
            Input::Told(Word::GoingOn) => self.go(Phase::Incoming { granted, asks, alone: false }, []),
            Input::Told(Word::Kept | Word::TakeBack) => self.decline(Why::SourceKept, Tail::Prepared),
            Input::Finish { cancelled: false, evidence } => {
                if evidence == Evidence::Granted || !self.is_ferry() {
                    self.go(Phase::Incoming { granted: true, asks: false, alone }, [])
                } else {
                    self.go(asking, [Effect::Tell(Word::Ask)])
                }
            }
            // Granted: it will start when it is whole, and the call is answered then.
            Input::Finish { cancelled: true, .. } if granted => self.stay(),
            // What is missing may be in QEMU's socket, and the source's QEMU dead: only the source knows.
            Input::Finish { cancelled: true, .. } if self.is_ferry() => {
                self.go(asking, [Effect::Tell(Word::Ask)])
            }
            Input::Finish { cancelled: true, .. } => self.decline(Why::Cancelled, Tail::Prepared),
            Input::ClientGone if !granted && !self.is_ferry() => {
                self.decline(Why::ClientGone, Tail::Prepared)
            }
            Input::ClientGone if !granted => self.go(asking, [Effect::Tell(Word::Ask)]),
            // The source has not answered for long, and what is still incomplete then never will be whole.
            Input::Deadline if asks && !may_be_past => self.decline(Why::Silence, Tail::Prepared),
            Input::Deadline => self.go(same, [Effect::Answer(Answer::InDoubt(Call::Finish, Doubt::NoGrant))]),
            Input::Destroy if granted || may_be_past => self.deny(Refusal::HandingOver),
            Input::Destroy => self.decline(Why::Destroyed, Tail::Prepared),
            Input::Retry if asks => {
                let ask = self.tell(Word::Ask);
                self.go(same, ask)
            }
            // Granted and stalled: the last of the state is stuck on its way, and the guest runs nowhere. The source
            // may take it back, if it knows of no switch to post-copy; should the rest come first, the guest starts
            // here all the same.
            Input::Retry if granted => {
                let tell = self.tell(Word::CannotStart);
                self.go(same, tell)
            }
            Input::Resolve(GuestIs::There) => self.decline(Why::Operator, Tail::Prepared),
            Input::Resolve(GuestIs::Here) => self.deny(Refusal::OutOfOrder),
            Input::Qemu(Report::Listening | Report::Resumed | Report::StartRefused | Report::Unconnected)
            | Input::Told(_)
            | Input::ClientGone
            | Input::Retry => self.stay(),
            Input::Journaled(_) => self.out_of_turn(),
        }
    }

    fn complete(self, input: Input) -> Step {
        match input {
            Input::Told(Word::Granted) => self.start(),
            Input::Finish { cancelled: false, evidence }
                if evidence == Evidence::Granted || !self.is_ferry() =>
            {
                self.start()
            }
            Input::Finish { cancelled: true, .. } if !self.is_ferry() => {
                self.decline(Why::Cancelled, Tail::Prepared)
            }
            // A source that cannot be asked ends its QEMU only after Finish: it has the guest.
            Input::ClientGone if !self.is_ferry() => self.decline(Why::ClientGone, Tail::Prepared),
            // Whole, it may be the last copy: only the source's word lets it go.
            Input::Finish { .. } | Input::ClientGone | Input::Retry | Input::Told(Word::Ask) => {
                let tell = self.tell(Word::Complete);
                let phase = self.phase;
                self.go(phase, tell)
            }
            Input::Deadline => self.go(
                Phase::Complete { doubt: true },
                [Effect::Answer(Answer::InDoubt(Call::Finish, Doubt::NoGrant))],
            ),
            Input::Told(Word::Kept | Word::TakeBack) => self.decline(Why::SourceKept, Tail::Prepared),
            Input::Qemu(Report::Died) => self.decline(Why::QemuDied, Tail::Prepared),
            Input::Destroy => self.deny(Refusal::HandingOver),
            Input::Resolve(GuestIs::Here) => self.start(),
            Input::Resolve(GuestIs::There) => self.decline(Why::Operator, Tail::Prepared),
            Input::Qemu(_) | Input::Told(_) => self.stay(),
            Input::Journaled(_) => self.out_of_turn(),
        }
    }

    fn expect_starting(self, recorded: bool, first: bool, input: Input) -> Step {
        match input {
            Input::Journaled(Written::Yes) => self.try_to_start(first),
            Input::Journaled(Written::No) => self.cannot_start_now(Why::JournalFull, recorded, first),
            _ => self.out_of_turn(),
        }
    }

    fn starting(self, first: bool, input: Input) -> Step {
        match input {
            Input::Qemu(Report::Resumed) => self.runs(),
            Input::Qemu(Report::Complete) if self.plan.leave_paused => self.runs(),
            Input::Qemu(Report::Died) if self.plan.leave_paused => {
                self.decline(Why::QemuDied, Tail::Starting { first: true })
            }
            Input::Qemu(Report::StartRefused) => self.cannot_start_now(Why::StartRefused, true, first),
            Input::Qemu(Report::Died) => {
                let tell = self.tell(Word::MaybeRan);
                self.go(
                    Phase::MaybeRan,
                    tell.into_iter().chain([Effect::Answer(Answer::InDoubt(Call::Finish, Doubt::MaybeRan))]),
                )
            }
            Input::Deadline => self.go(
                Phase::Starting { first },
                [Effect::Answer(Answer::InDoubt(Call::Finish, Doubt::NoWord))],
            ),
            Input::Destroy => self.deny(Refusal::HandingOver),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(Report::Listening | Report::Complete | Report::Failed | Report::Unconnected)
            | Input::Finish { .. }
            | Input::ClientGone
            | Input::Retry
            | Input::Told(_) => self.stay(),
            Input::Journaled(_) => self.out_of_turn(),
        }
    }

    fn cannot_start(self, recorded: bool, first: bool, input: Input) -> Step {
        let same = Phase::CannotStart { recorded, first };
        let tail = if recorded { Tail::Starting { first } } else { Tail::Prepared };
        match input {
            // Only if no CPU can have run, and the source's QEMU lives to take the guest back.
            Input::Told(Word::TakeBack) if first => self.decline(Why::StartRefused, tail),
            // The operator's word on the source.
            Input::Told(Word::Kept) => self.decline(Why::SourceKept, tail),
            Input::Told(Word::Granted | Word::Ask) => {
                let tell = self.tell(Word::CannotStart);
                self.go(same, tell)
            }
            // A Declined that could not be written may be there all the same: what is done now is recorded anew.
            Input::Retry | Input::Resolve(GuestIs::Here) => self.go(
                Phase::ExpectStarting { recorded, first },
                [Effect::Journal(DestinationRecord::Starting)],
            ),
            Input::Qemu(Report::Died) if first => self.decline(Why::QemuDied, tail),
            Input::Qemu(Report::Died) => {
                let tell = self.tell(Word::MaybeRan);
                self.go(Phase::MaybeRan, tell)
            }
            Input::Qemu(Report::Resumed) => self.runs(),
            Input::Deadline => {
                self.go(same, [Effect::Answer(Answer::InDoubt(Call::Finish, Doubt::CannotStart))])
            }
            Input::Resolve(GuestIs::There) => self.decline(Why::Operator, tail),
            Input::Destroy => self.deny(Refusal::HandingOver),
            Input::Qemu(
                Report::Listening
                | Report::Complete
                | Report::Failed
                | Report::StartRefused
                | Report::Unconnected,
            )
            | Input::Finish { .. }
            | Input::ClientGone
            | Input::Told(_) => self.stay(),
            Input::Journaled(_) => self.out_of_turn(),
        }
    }

    fn expect_running(self, input: Input) -> Step {
        match input {
            // Unwritten, Starting and a running QEMU mean the same; it is written later.
            Input::Journaled(written) => {
                let tell = self.tell(self.ran_word());
                let phase = Phase::Running { recorded: written == Written::Yes, settled: false };
                self.go(
                    phase,
                    tell.into_iter().chain([
                        Effect::Answer(Answer::Finish(Fate::Arrived)),
                        Effect::Answer(Answer::Ok(Call::Resolve)),
                        Effect::Finished(Ended::Arrived),
                    ]),
                )
            }
            _ => self.out_of_turn(),
        }
    }

    fn running(self, recorded: bool, settled: bool, input: Input) -> Step {
        let same = Phase::Running { recorded, settled };
        match input {
            Input::Told(Word::Settled) => self.go(
                Phase::Running { recorded, settled: true },
                (recorded && !settled).then_some(Effect::Journal(DestinationRecord::Acknowledged)),
            ),
            Input::Told(Word::Kept) => {
                let tell = Effect::Tell(self.ran_word());
                self.go(same, [tell, Effect::Alarm])
            }
            Input::Told(Word::Granted | Word::Ask | Word::TakeBack) => {
                let tell = Effect::Tell(self.ran_word());
                self.go(same, [tell])
            }
            // In post-copy the source waits for a guest that will never be whole.
            Input::Qemu(Report::Died) if !settled => {
                let tell = self.tell(Word::Ended);
                self.go(same, tell)
            }
            Input::Retry => {
                let write = (!recorded).then_some(Effect::Journal(DestinationRecord::Running));
                let tell = if settled { None } else { self.tell(self.ran_word()) };
                self.go(same, tell.into_iter().chain(write))
            }
            Input::Journaled(written) => {
                self.go(Phase::Running { recorded: recorded || written == Written::Yes, settled }, [])
            }
            Input::Finish { .. } => self.go(same, [Effect::Answer(Answer::Finish(Fate::Arrived))]),
            Input::Destroy => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(_) | Input::Told(_) | Input::ClientGone | Input::Deadline => self.stay(),
        }
    }

    fn maybe_ran(self, input: Input) -> Step {
        match input {
            // Both are an operator's word, given on the source.
            Input::Told(Word::Kept) => self.decline(Why::SourceKept, Tail::MaybeRan),
            Input::Told(Word::Settled) => self.go(Phase::Running { recorded: false, settled: true }, []),
            Input::Told(Word::Granted | Word::Ask | Word::TakeBack) | Input::Retry => {
                let tell = self.tell(Word::MaybeRan);
                self.go(Phase::MaybeRan, tell)
            }
            Input::Finish { .. } | Input::Deadline => {
                self.go(Phase::MaybeRan, [Effect::Answer(Answer::InDoubt(Call::Finish, Doubt::MaybeRan))])
            }
            Input::Resolve(GuestIs::There) => self.decline(Why::Operator, Tail::MaybeRan),
            Input::Resolve(GuestIs::Here) => self.runs(),
            Input::Destroy => self.deny(Refusal::HandingOver),
            Input::Qemu(_) | Input::Told(_) | Input::ClientGone => self.stay(),
            Input::Journaled(_) => self.out_of_turn(),
        }
    }

    fn expect_declined(self, why: Why, tail: Tail, input: Input) -> Step {
        match (input, tail) {
            (Input::Journaled(Written::Yes), Tail::Gone) => {
                let tell = self.tell(Word::Declined);
                self.go(Phase::Declined { why, recorded: true, settled: false }, tell)
            }
            (Input::Journaled(Written::Yes), Tail::Prepared | Tail::Starting { .. } | Tail::MaybeRan) => {
                self.gives_up(why, true)
            }
            // Prepared and a dead QEMU mean the same; it is written later.
            (Input::Journaled(Written::No), Tail::Prepared) => self.gives_up(why, false),
            // Starting on record with a dead QEMU would read as "may have run": nothing is given up unwritten.
            (Input::Journaled(Written::No), Tail::Starting { first }) if self.qemu == Qemu::Alive => self.go(
                Phase::CannotStart { recorded: true, first },
                [Effect::Answer(Answer::Failed(Call::Resolve, Why::JournalFull))],
            ),
            (Input::Journaled(Written::No), Tail::Starting { .. } | Tail::MaybeRan) => {
                self.go(Phase::MaybeRan, [Effect::Answer(Answer::Failed(Call::Resolve, Why::JournalFull))])
            }
            (Input::Journaled(Written::No), Tail::Gone) => {
                self.go(Phase::Declined { why, recorded: false, settled: false }, [])
            }
            _ => self.out_of_turn(),
        }
    }

    fn ending(self, why: Why, input: Input) -> Step {
        match input {
            Input::Qemu(Report::Died) => self.decline(why, Tail::Prepared),
            Input::Destroy | Input::Finish { .. } => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(_) | Input::Told(_) | Input::ClientGone | Input::Deadline | Input::Retry => {
                self.stay()
            }
            Input::Journaled(_) => self.out_of_turn(),
        }
    }

    fn declined(self, why: Why, recorded: bool, settled: bool, input: Input) -> Step {
        let same = Phase::Declined { why, recorded, settled };
        match input {
            Input::Told(word @ (Word::Kept | Word::Settled)) => {
                let tell = (word == Word::Kept).then_some(Effect::Tell(Word::Declined));
                let write =
                    (recorded && !settled).then_some(Effect::Journal(DestinationRecord::Acknowledged));
                self.go(Phase::Declined { why, recorded, settled: true }, tell.into_iter().chain(write))
            }
            Input::Told(Word::Granted | Word::Ask | Word::TakeBack) => {
                self.go(same, [Effect::Tell(Word::Declined)])
            }
            Input::Retry if !recorded => self.decline(why, Tail::Gone),
            Input::Retry if !settled => {
                let tell = self.tell(Word::Declined);
                self.go(same, tell)
            }
            Input::Journaled(_) => self.go(same, []),
            Input::Finish { .. } => self.go(same, [Effect::Answer(Answer::Finish(Fate::Declined(why)))]),
            Input::Destroy => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(_) | Input::Told(_) | Input::ClientGone | Input::Deadline | Input::Retry => {
                self.stay()
            }
        }
    }

    const fn is_ferry(&self) -> bool {
        matches!(self.peer, Peer::Ferry)
    }

    /// With post-copy allowed, the switch may have been made although nothing of it was seen here yet.
    const fn may_be_past_the_switch(&self) -> bool {
        self.plan.postcopy && self.is_ferry()
    }

    /// A word to the source, if there is somebody to hear it.
    fn tell(&self, word: Word) -> Option<Effect> {
        self.is_ferry().then_some(Effect::Tell(word))
    }

    fn stay(self) -> Step {
        Ok((self, Vec::new()))
    }

    fn go(mut self, phase: Phase, effects: impl IntoIterator<Item = Effect>) -> Step {
        self.phase = phase;
        Ok((self, effects.into_iter().collect()))
    }

    fn deny(self, refusal: Refusal) -> Step {
        Err(Denied { phase: self.phase_name(), refusal })
    }

    fn out_of_turn(self) -> Step {
        self.deny(Refusal::Driver)
    }

    /// Granted and whole: the record goes first, for after a restart it says that the CPUs may have run here.
    fn start(self) -> Step {
        self.go(
            Phase::ExpectStarting { recorded: false, first: true },
            [Effect::Journal(DestinationRecord::Starting)],
        )
    }

    /// Starting is on record. Where nothing is to run, the record and a fresh sign of life are ownership.
    fn try_to_start(self, first: bool) -> Step {
        let start = if self.plan.leave_paused { Effect::ProveAlive } else { Effect::StartCpus };
        self.go(Phase::Starting { first }, [start])
    }

    fn cannot_start_now(self, why: Why, recorded: bool, first: bool) -> Step {
        let tell = self.tell(Word::CannotStart);
        let answer = Effect::Answer(Answer::Failed(Call::Resolve, why));
        self.go(Phase::CannotStart { recorded, first }, tell.into_iter().chain([answer]))
    }

    fn runs(self) -> Step {
        self.go(Phase::ExpectRunning, [Effect::Journal(DestinationRecord::Running)])
    }

    /// It will not run here. What was never started ends before that is written, so that it cannot become whole in
    /// between; what may have been started is ended after.
    fn decline(self, why: Why, tail: Tail) -> Step {
        if tail == Tail::Prepared && self.qemu == Qemu::Alive {
            return self.go(Phase::Ending { why }, [Effect::EndQemu]);
        }
        self.go(Phase::ExpectDeclined { why, tail }, [Effect::Journal(DestinationRecord::Declined)])
    }

    fn gives_up(self, why: Why, recorded: bool) -> Step {
        let end = (self.qemu == Qemu::Alive).then_some(Effect::EndQemu);
        let tell = self.tell(Word::Declined);
        self.go(
            Phase::Declined { why, recorded, settled: false },
            end.into_iter().chain(tell).chain([
                Effect::Answer(Answer::Failed(Call::Prepare, why)),
                Effect::Answer(Answer::Finish(Fate::Declined(why))),
                Effect::Answer(Answer::Ok(Call::Destroy)),
                Effect::Answer(Answer::Ok(Call::Resolve)),
                Effect::Finished(Ended::Declined(why)),
            ]),
        )
    }
}
