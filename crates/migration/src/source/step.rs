//! The source's transitions, one function per phase. Every pair of phase and input is answered for: a call is
//! taken or denied, an event is acted on or passed over. Called through [`Source::step`] alone.

use super::moves::Step;
use super::types::{Answer, Call, Effect, Ended, Fate, Input, Refusal, Report, Seen};
use super::{Grant, Handed, Phase, Qemu, Sight, Source, Stage};
use crate::journal::{SourceRecord, SourceStatus};
use crate::message::Word;
use crate::recovery::{self, SourceAction};
use crate::{Doubt, Evidence, GuestIs, MigrationId, Peer, Plan, Why, Written};

impl Source {
    /// One step. Events never fail; a call that the phase does not take is denied and changes nothing (the
    /// driver keeps its copy of the state).
    pub fn step(mut self, input: Input) -> Step {
        if matches!(input, Input::Qemu(Report::Died) | Input::QemuNow(Report::Died)) {
            self.qemu = Qemu::Dead;
        }
        // Whoever speaks of this migration with its secret is a Ferry, whatever the cookies brought.
        if matches!(input, Input::Told(_)) {
            self.peer = Some(Peer::Ferry);
        }
        match self.phase {
            Phase::ExpectBegun => self.expect_begun(input),
            Phase::Begun { aborted } => self.begun(aborted, input),
            Phase::ExpectPeer => self.expect_peer(input),
            Phase::Copying => self.copying(input),
            Phase::ExpectProbe => self.expect_probe(input),
            Phase::Switching => self.switching(input),
            Phase::ExpectGranted(grant) => self.expect_granted(grant, input),
            Phase::Crossing { loaded } => self.crossing(loaded, input),
            Phase::Granted(handed) => self.granted(handed, input),
            Phase::ExpectKept { why, stage } => self.expect_kept(why, stage, input),
            Phase::CallingOff { why, recorded } => self.calling_off(why, recorded, input),
            Phase::Unwritten { why } => self.unwritten(why, input),
            Phase::Resuming { why, recorded } => self.resuming(why, recorded, input),
            Phase::Unsure(sight) => self.unsure(sight, input),
            Phase::Kept { why, recorded, settled } => self.kept(why, recorded, settled, input),
            Phase::ExpectDone(handed) => self.expect_done(handed, input),
            Phase::Done => self.done(input),
        }
    }

    /// The machine of a restarted daemon: what the journal says, and what QEMU is found doing. The client of a
    /// direct migration is gone, for its connection broke with the daemon. `None` when nothing is left to do.
    pub fn recover(
        id: MigrationId,
        plan: Plan,
        peer: Option<Peer>,
        status: SourceStatus,
        seen: Seen,
    ) -> Option<(Self, Vec<Effect>)> {
        let qemu = if seen == Seen::Gone { Qemu::Dead } else { Qemu::Alive };
        let source = Self { id, plan, peer, qemu, phase: Phase::Copying };
        // The switch had been made, or is still wanted.
        let ahead = status == SourceStatus::GrantedAhead;
        let step = match recovery::source(status, seen, &plan, peer) {
            SourceAction::Nothing => return None,
            SourceAction::GoOn if seen == Seen::Switching => source.go(Phase::Switching, []),
            SourceAction::GoOn => source.go(Phase::Copying, []),
            SourceAction::LetGo => source.go(Phase::ExpectProbe, [Effect::Probe]),
            SourceAction::Grant => source.grant(Grant::Complete),
            SourceAction::GrantAhead => source.grant(Grant::Postcopy),
            SourceAction::TellGranted => source.handed(Handed {
                postcopy: ahead || seen == Seen::Postcopy,
                completed: seen == Seen::Completed,
                ..Handed::default()
            }),
            SourceAction::AskBeforeTelling => {
                source.go(Phase::Crossing { loaded: false }, [Effect::Tell(Word::Ask)])
            }
            // Where QEMU waits already, the switch comes with its going on.
            SourceAction::SwitchAgain => {
                let on = (seen == Seen::PreSwitchover).then_some(Effect::Continue);
                source.go(Phase::Crossing { loaded: false }, [Effect::SwitchToPostcopy].into_iter().chain(on))
            }
            SourceAction::CallOff => source.keep(Why::ClientGone, Stage::Underway),
            SourceAction::KeepComplete => source.keep(Why::ClientGone, Stage::Complete),
            SourceAction::Keep => source.keep(Why::CopyFailed, Stage::Idle),
            SourceAction::Cancel => {
                source.go(Phase::CallingOff { why: Why::Cancelled, recorded: true }, [Effect::CancelCopy])
            }
            SourceAction::ResumeThenTell => source.resume(Why::Cancelled, true),
            SourceAction::TellKept => source.stays(Why::Cancelled, true),
            SourceAction::Resume => source
                .go(Phase::Kept { why: Why::Cancelled, recorded: true, settled: true }, [Effect::Resume]),
            SourceAction::AskBegun => source.unsure_now(Sight::Begun),
            SourceAction::AskAhead => source.unsure_now(Sight::Ahead),
            SourceAction::AskKept => source.unsure_now(Sight::Kept),
            SourceAction::EndQemu => {
                source.go(Phase::Done, [Effect::EndQemu, Effect::Finished(Ended::Moved)])
            }
            SourceAction::Answer => source.go(Phase::Done, []),
        };
        step.ok()
    }

    /// The machine of an earlier migration of a guest that has begun another since, after a restart: it had ended with
    /// the guest here, whatever could not be written of that, and the destination may not know it. What QEMU is
    /// doing belongs to the later one, so nothing is asked of it. `None` when nothing is left to do.
    pub fn settle(
        id: MigrationId,
        plan: Plan,
        peer: Option<Peer>,
        status: SourceStatus,
    ) -> Option<(Self, Vec<Effect>)> {
        let why = Why::Cancelled;
        let kept = Phase::Kept { why, recorded: true, settled: false };
        let source = Self { id, plan, peer, qemu: Qemu::Alive, phase: kept };
        let step = match status {
            SourceStatus::Begun | SourceStatus::Granted | SourceStatus::GrantedAhead => {
                source.keep(why, Stage::GoesOn)
            }
            SourceStatus::Kept => {
                let tell = source.tell(Word::Kept);
                source.go(kept, tell)
            }
            // A question about a guest that left is answered from its record.
            SourceStatus::Done | SourceStatus::Settled => return None,
        };
        step.ok()
    }

    fn expect_begun(self, input: Input) -> Step {
        match input {
            Input::Journaled(Written::Yes) => {
                self.go(Phase::Begun { aborted: false }, [Effect::Answer(Answer::Ok(Call::Begin))])
            }
            Input::Journaled(Written::No) => self.go(
                Phase::Kept { why: Why::JournalFull, recorded: true, settled: true },
                [
                    Effect::Answer(Answer::Failed(Call::Begin, Why::JournalFull)),
                    Effect::Finished(Ended::Stayed(Why::JournalFull)),
                ],
            ),
            _ => self.out_of_turn(),
        }
    }

    fn begun(self, aborted: bool, input: Input) -> Step {
        match input {
            Input::Perform(peer) if aborted => self.with(peer).keep(Why::Aborted, Stage::Idle),
            Input::Perform(peer) => {
                self.with(peer).go(Phase::ExpectPeer, [Effect::Journal(SourceRecord::Begun)])
            }
            Input::Confirm { cancelled: true, .. } => self.keep(Why::Cancelled, Stage::Idle),
            Input::Abort => {
                self.go(Phase::Begun { aborted: true }, [Effect::Answer(Answer::Ok(Call::Abort))])
            }
            // Peer to peer too: nobody is left to call Perform.
            Input::ClientGone => self.keep(Why::ClientGone, Stage::Idle),
            Input::Destroy => self.keep(Why::Destroyed, Stage::Idle),
            Input::Qemu(Report::Died) => self.keep(Why::QemuDied, Stage::Idle),
            Input::Told(Word::Declined) => self.keep(Why::Declined, Stage::Idle),
            Input::Told(Word::Ask) => self.going_on(),
            Input::StartPostcopy => self.deny(Refusal::NotCopying),
            Input::Confirm { cancelled: false, .. } | Input::ComesBack => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(_) | Input::QemuNow(_) | Input::Told(_) | Input::Deadline | Input::Retry => {
                self.stay()
            }
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn expect_peer(self, input: Input) -> Step {
        match input {
            Input::Journaled(Written::Yes) => {
                let stop = (!self.plan.live && self.plan.was_running).then_some(Effect::StopCpus);
                self.go(Phase::Copying, stop.into_iter().chain([Effect::StartCopy]))
            }
            Input::Journaled(Written::No) => self.keep(Why::JournalFull, Stage::Idle),
            _ => self.out_of_turn(),
        }
    }

    fn copying(self, input: Input) -> Step {
        match input {
            Input::Qemu(Report::PreSwitchover) => self.go(Phase::ExpectProbe, [Effect::Probe]),
            Input::Qemu(Report::Completed) => self.grant(Grant::Complete),
            Input::Qemu(Report::Failed) => self.keep(Why::CopyFailed, Stage::Idle),
            Input::Qemu(Report::Cancelled) => self.keep(Why::Cancelled, Stage::Idle),
            // The switchover was not let go, so the destination cannot be whole.
            Input::Qemu(Report::Died) => self.keep(Why::QemuDied, Stage::Idle),
            Input::Told(Word::Declined) => self.keep(Why::Declined, Stage::Underway),
            Input::Told(Word::Ask) => self.going_on(),
            Input::StartPostcopy if self.plan.postcopy => self.grant(Grant::Postcopy),
            Input::StartPostcopy => self.deny(Refusal::NotPostcopy),
            Input::Abort => self.abort(),
            Input::ClientGone => self.client_gone(Stage::Underway),
            Input::Destroy => self.keep(Why::Destroyed, Stage::Underway),
            Input::Perform(_) | Input::Confirm { .. } | Input::ComesBack => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(
                Report::Active
                | Report::Device
                | Report::PostcopyActive
                | Report::PostcopyPaused
                | Report::Resumed,
            )
            | Input::QemuNow(_)
            | Input::Told(_)
            | Input::Deadline
            | Input::Retry => self.stay(),
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn expect_probe(self, input: Input) -> Step {
        match input {
            Input::Probed(Written::Yes) => self.go(Phase::Switching, [Effect::Continue]),
            // While it is cheap: QEMU waits, nothing has left that cannot be called back.
            Input::Probed(Written::No) => self.keep(Why::JournalFull, Stage::Underway),
            _ => self.out_of_turn(),
        }
    }

    fn switching(self, input: Input) -> Step {
        match input {
            Input::Qemu(Report::Completed) => self.grant(Grant::Complete),
            Input::Qemu(Report::Failed) => self.keep(Why::CopyFailed, Stage::Idle),
            Input::Qemu(Report::Cancelled) => self.keep(Why::Cancelled, Stage::Idle),
            // It may have completed unseen: a destination that is whole would hold the last copy.
            Input::Qemu(Report::Died) => self.unsure_now(Sight::Begun),
            Input::Told(Word::Declined) => self.keep(Why::Declined, Stage::Underway),
            Input::Told(Word::Ask) => self.going_on(),
            Input::Abort => self.abort(),
            // The last of the state is stuck on its way, and QEMU can still be called back.
            Input::Deadline => self.keep(Why::CopyFailed, Stage::Underway),
            Input::ClientGone => self.client_gone(Stage::Underway),
            Input::Destroy => self.keep(Why::Destroyed, Stage::Underway),
            Input::StartPostcopy if self.plan.postcopy => self.deny(Refusal::NotCopying),
            Input::StartPostcopy => self.deny(Refusal::NotPostcopy),
            Input::Perform(_) | Input::Confirm { .. } | Input::ComesBack => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(
                Report::Active
                | Report::PreSwitchover
                | Report::Device
                | Report::PostcopyActive
                | Report::PostcopyPaused
                | Report::Resumed,
            )
            | Input::QemuNow(_)
            | Input::Told(_)
            | Input::Retry => self.stay(),
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn expect_granted(self, grant: Grant, input: Input) -> Step {
        match (input, grant) {
            (Input::Journaled(Written::Yes), Grant::Complete) => {
                self.handed(Handed { completed: true, ..Handed::default() })
            }
            (Input::Journaled(Written::Yes), Grant::Operator) => self.handed(Handed::default()),
            (Input::Journaled(Written::Yes), Grant::Postcopy) => self.go(
                Phase::Crossing { loaded: false },
                [Effect::SwitchToPostcopy, Effect::Answer(Answer::Ok(Call::StartPostcopy))],
            ),
            (Input::Journaled(Written::No), Grant::Complete) => self.keep(Why::JournalFull, Stage::Complete),
            (Input::Journaled(Written::No), Grant::Postcopy) => self
                .go(Phase::Copying, [Effect::Answer(Answer::Failed(Call::StartPostcopy, Why::JournalFull))]),
            (Input::Journaled(Written::No), Grant::Operator) => self.go(
                Phase::Unsure(Sight::Begun),
                [Effect::Answer(Answer::Failed(Call::Resolve, Why::JournalFull))],
            ),
            (_, Grant::Complete | Grant::Postcopy | Grant::Operator) => self.out_of_turn(),
        }
    }

    fn crossing(self, loaded: bool, input: Input) -> Step {
        let postcopy = Handed { postcopy: true, ..Handed::default() };
        match input {
            // The switch passes through here too; nothing is asked of the journal, the record is written.
            Input::Qemu(Report::PreSwitchover) => self.go(Phase::Crossing { loaded }, [Effect::Continue]),
            Input::Told(Word::Complete) => self.go(Phase::Crossing { loaded: true }, [Effect::QueryCopy]),
            Input::Qemu(Report::PostcopyActive) if !self.is_ferry() => self.handed(postcopy),
            Input::Qemu(Report::PostcopyActive) if loaded => {
                self.go(Phase::Crossing { loaded }, [Effect::QueryCopy])
            }
            Input::QemuNow(Report::PostcopyActive | Report::PostcopyPaused) if loaded => {
                self.handed(postcopy)
            }
            Input::Qemu(Report::Completed) | Input::QemuNow(Report::Completed) => {
                self.handed(Handed { completed: true, ..postcopy })
            }
            // A restarted daemon learns that the grant had been told before.
            Input::Told(Word::Running) => self.ran(postcopy),
            Input::Told(Word::Ended) => self.ran(Handed { completed: true, ..postcopy }),
            // It may have come back from a failed switch, and run on, before it died.
            Input::Qemu(Report::Died) | Input::QemuNow(Report::Died) => self.unsure_now(Sight::Ahead),
            // Never told, and QEMU has the guest back.
            Input::Qemu(Report::Failed | Report::Cancelled | Report::Resumed)
            | Input::QemuNow(Report::Failed | Report::Cancelled | Report::Resumed) => {
                self.keep(Why::CopyFailed, Stage::Idle)
            }
            Input::Told(Word::Declined) => self.keep(Why::Declined, Stage::Underway),
            Input::Told(Word::Ask) => self.going_on(),
            Input::Retry if loaded => self.go(Phase::Crossing { loaded }, [Effect::QueryCopy]),
            Input::Retry => {
                let ask = self.tell(Word::Ask);
                self.go(Phase::Crossing { loaded }, ask)
            }
            Input::StartPostcopy => {
                self.go(Phase::Crossing { loaded }, [Effect::Answer(Answer::Ok(Call::StartPostcopy))])
            }
            Input::ComesBack => self.ran(postcopy),
            Input::Abort => self.deny(Refusal::InPostcopy),
            Input::Destroy => self.deny(Refusal::HandedOver),
            Input::Perform(_) | Input::Confirm { .. } => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(
                Report::Active | Report::Device | Report::PostcopyActive | Report::PostcopyPaused,
            )
            | Input::QemuNow(_)
            | Input::Told(_)
            | Input::ClientGone
            | Input::Deadline => self.stay(),
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn granted(self, handed: Handed, input: Input) -> Step {
        let again = |source: Self| {
            let tell = source.tell(Word::Granted);
            source.go(Phase::Granted(handed), tell)
        };
        match input {
            Input::Told(Word::Running) => self.ran(handed),
            Input::Told(Word::Ended) => self.ran(Handed { completed: true, ..handed }),
            // What it still lacks in post-copy it can get nowhere else.
            Input::ComesBack => self.ran(handed),
            // Not what it said before: then the guest has been in other hands since.
            Input::Told(Word::Declined) if handed.ran => self.stay(),
            Input::Told(Word::Declined) => self.keep(Why::Declined, Stage::Idle),
            // Both QEMUs are gone: there is nothing left that could be resumed by mistake.
            Input::Told(Word::MaybeRan) if self.qemu == Qemu::Dead => {
                self.ran(Handed { completed: true, ..handed })
            }
            Input::Told(Word::MaybeRan) => self.doubt(handed, Doubt::MaybeRan),
            Input::Told(Word::CannotStart) if self.qemu == Qemu::Alive && !handed.postcopy => {
                self.go(Phase::Granted(Handed { asked_back: true, ..handed }), [Effect::QueryCopy])
            }
            Input::Told(Word::CannotStart) => self.doubt(handed, Doubt::CannotStart),
            Input::Told(Word::Complete | Word::Ask) => again(self),
            Input::Confirm { cancelled: false, evidence } => match (evidence, self.peer) {
                (Evidence::Running, _) | (_, Some(Peer::Mute(_)) | None) => self.ran(handed),
                (_, Some(Peer::Ferry)) => again(self),
            },
            Input::Confirm { cancelled: true, evidence } => match (evidence, self.peer) {
                (Evidence::Declined | Evidence::NeverStarted, _) => self.keep(Why::Declined, Stage::Idle),
                (Evidence::Running, _) => self.ran(handed),
                (Evidence::None | Evidence::Granted, Some(Peer::Ferry)) => again(self),
                // The client's word alone is no proof: the guest may run there, its answer lost.
                (Evidence::None | Evidence::Granted, Some(Peer::Mute(_)) | None) => {
                    self.doubt(handed, Doubt::NoEvidence)
                }
            },
            // Said only on a fresh sign of life: on this word the destination lets its copy go.
            Input::QemuNow(Report::Died) if handed.asked_back => {
                self.doubt(Handed { asked_back: false, ..handed }, Doubt::CannotStart)
            }
            Input::QemuNow(_) if handed.asked_back => {
                let tell = self.tell(Word::TakeBack);
                self.go(Phase::Granted(Handed { asked_back: false, ..handed }), tell)
            }
            Input::Qemu(Report::Completed) => {
                let handed = Handed { completed: true, ..handed };
                if handed.ran { self.ran(handed) } else { self.go(Phase::Granted(handed), []) }
            }
            Input::Qemu(Report::Died) if handed.ran => self.ran(handed),
            // It must not, and QEMU is not believed able to: whatever made it run, it stops.
            Input::Qemu(Report::Resumed) => self.go(Phase::Granted(handed), [Effect::StopCpus]),
            Input::Retry if handed.ran => self.ran(handed),
            Input::Retry => again(self),
            // Post-copy goes on for as long as it takes.
            Input::Deadline if handed.ran && handed.postcopy && !handed.completed => self.stay(),
            Input::Deadline if handed.ran => self.go(
                Phase::Granted(handed),
                [Effect::Answer(Answer::Failed(Call::Confirm, Why::JournalFull))],
            ),
            Input::Deadline => self.doubt(handed, Doubt::NoWord),
            Input::ClientGone if !self.is_ferry() => self.doubt(handed, Doubt::NoWord),
            Input::Resolve(_) if handed.doubt.is_none() => self.deny(Refusal::NotInDoubt),
            Input::Resolve(GuestIs::Here) => self.keep(Why::Operator, Stage::Granted(handed)),
            Input::Resolve(GuestIs::There) => self.ran(Handed { completed: true, ..handed }),
            Input::Abort if handed.postcopy => self.deny(Refusal::InPostcopy),
            Input::Abort | Input::Destroy => self.deny(Refusal::HandedOver),
            Input::StartPostcopy if handed.postcopy => {
                self.go(Phase::Granted(handed), [Effect::Answer(Answer::Ok(Call::StartPostcopy))])
            }
            Input::StartPostcopy => self.deny(Refusal::NotCopying),
            Input::Perform(_) => self.deny(Refusal::OutOfOrder),
            Input::Qemu(_) | Input::QemuNow(_) | Input::Told(_) | Input::ClientGone => self.stay(),
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn expect_kept(self, why: Why, stage: Stage, input: Input) -> Step {
        let recorded = match input {
            Input::Journaled(Written::Yes) => true,
            Input::Journaled(Written::No) => false,
            _ => return self.out_of_turn(),
        };
        match (stage, recorded) {
            // A user's destroy needs no cancelling: QEMU ends.
            (Stage::Underway, true) if why == Why::Destroyed => self.stays(why, true),
            (_, false) if why == Why::Destroyed => {
                let (source, mut effects) = self.without_record(Why::JournalFull, stage)?;
                effects.push(Effect::Answer(Answer::Failed(Call::Destroy, Why::JournalFull)));
                Ok((source, effects))
            }
            (Stage::Underway, true) => self.go(Phase::CallingOff { why, recorded }, [Effect::CancelCopy]),
            (Stage::Complete, true) => self.resume(why, true),
            (Stage::Idle | Stage::Granted(_), true) => self.stays(why, true),
            (Stage::GoesOn, true) => {
                let tell = self.tell(Word::Kept);
                self.go(Phase::Kept { why, recorded, settled: false }, tell)
            }
            (_, false) => self.without_record(why, stage),
        }
    }

    /// Kept could not be written: only what stays right after a crash without the record is done.
    fn without_record(self, why: Why, stage: Stage) -> Step {
        match stage {
            Stage::Idle => self.stays(why, false),
            Stage::Underway => self.go(Phase::CallingOff { why, recorded: false }, [Effect::CancelCopy]),
            Stage::Complete => self.unwritten_now(why),
            Stage::Granted(handed) => self.go(
                Phase::Granted(handed),
                [Effect::Answer(Answer::Failed(Call::Resolve, Why::JournalFull))],
            ),
            Stage::GoesOn => self.go(Phase::Kept { why, recorded: false, settled: false }, []),
        }
    }

    fn calling_off(self, why: Why, recorded: bool, input: Input) -> Step {
        match input {
            Input::Qemu(Report::Cancelled | Report::Failed) => self.stays(why, recorded),
            Input::Qemu(Report::Completed) if recorded => self.resume(why, true),
            Input::Qemu(Report::Completed) => self.unwritten_now(why),
            Input::Qemu(Report::Died) => self.unsure_now(if recorded { Sight::Kept } else { Sight::Begun }),
            // Past the switch there is nothing to cancel, and QEMU will not let the guest run: it stays as it is.
            Input::Qemu(Report::PostcopyActive | Report::PostcopyPaused) => self.stays(why, recorded),
            Input::Abort => {
                self.go(Phase::CallingOff { why, recorded }, [Effect::Answer(Answer::Ok(Call::Abort))])
            }
            Input::StartPostcopy => self.deny(Refusal::NotCopying),
            Input::Destroy if recorded => self.stays(Why::Destroyed, true),
            Input::Destroy | Input::Perform(_) | Input::Confirm { .. } | Input::ComesBack => {
                self.deny(Refusal::OutOfOrder)
            }
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Qemu(_)
            | Input::QemuNow(_)
            | Input::Told(_)
            | Input::ClientGone
            | Input::Deadline
            | Input::Retry => self.stay(),
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn unwritten(self, why: Why, input: Input) -> Step {
        match input {
            // Its record is as good as ours: after it, no grant of ours can start the guest there.
            Input::Told(Word::Declined)
            | Input::Confirm { cancelled: true, evidence: Evidence::Declined | Evidence::NeverStarted } => {
                self.stays(why, false)
            }
            Input::Retry => self.keep(why, Stage::Complete),
            Input::Told(Word::Complete | Word::Ask) => self.go(Phase::Unwritten { why }, [Effect::QueryCopy]),
            // Said only on a fresh sign of life: on this word the destination lets its copy go.
            Input::QemuNow(Report::Completed) => {
                let tell = self.tell(Word::TakeBack);
                self.go(Phase::Unwritten { why }, tell)
            }
            Input::Resolve(GuestIs::Here) => self.keep(Why::Operator, Stage::Complete),
            Input::Resolve(GuestIs::There) => self.grant(Grant::Complete),
            Input::Confirm { .. } | Input::Deadline => self.go(
                Phase::Unwritten { why },
                [Effect::Answer(Answer::InDoubt(Call::Confirm, Doubt::JournalFull))],
            ),
            Input::Qemu(Report::Died) | Input::QemuNow(Report::Died) => self.unsure_now(Sight::Begun),
            Input::Abort => self.go(Phase::Unwritten { why }, [Effect::Answer(Answer::Ok(Call::Abort))]),
            Input::StartPostcopy => self.deny(Refusal::NotCopying),
            Input::Destroy | Input::Perform(_) | Input::ComesBack => self.deny(Refusal::OutOfOrder),
            Input::Qemu(_) | Input::QemuNow(_) | Input::Told(_) | Input::ClientGone => self.stay(),
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn resuming(self, why: Why, recorded: bool, input: Input) -> Step {
        let same = Phase::Resuming { why, recorded };
        match input {
            Input::Qemu(Report::Resumed) | Input::Told(Word::Declined) => self.gone_on(why, recorded),
            Input::Retry => self.go(same, [Effect::Resume]),
            // `cont` may have reached it: nobody knows whether it went on.
            Input::Qemu(Report::Died) => self.unsure_now(if recorded { Sight::Kept } else { Sight::Begun }),
            Input::Confirm { .. } => self.go(same, [Effect::Answer(Answer::Confirm(Fate::Stayed))]),
            Input::Abort => self.go(same, [Effect::Answer(Answer::Ok(Call::Abort))]),
            Input::StartPostcopy => self.deny(Refusal::NotCopying),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::Destroy | Input::Perform(_) | Input::ComesBack => self.deny(Refusal::OutOfOrder),
            Input::Qemu(_) | Input::QemuNow(_) | Input::Told(_) | Input::ClientGone | Input::Deadline => {
                self.stay()
            }
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn unsure(self, sight: Sight, input: Input) -> Step {
        let same = Phase::Unsure(sight);
        match input {
            // Ahead, the grant had been told past the switch; else it is by an operator's word that it started there.
            Input::Told(Word::Running | Word::Ended | Word::MaybeRan) => match sight {
                Sight::Ahead => self.ran(Handed { postcopy: true, ..Handed::default() }),
                Sight::Begun => self.grant(Grant::Operator),
                Sight::Kept => self.ran(Handed { completed: true, ..Handed::default() }),
            },
            // Never told a grant that it could have acted on and forgotten: its absence starts nothing.
            Input::Told(Word::Settled) if sight == Sight::Ahead => self.stay(),
            Input::Told(Word::Declined | Word::Settled)
            | Input::Confirm { cancelled: true, evidence: Evidence::Declined | Evidence::NeverStarted } => {
                self.keep(Why::QemuDied, Stage::Idle)
            }
            // Who asks is not whole; with no switch behind it, it need not wait for more than is on its way.
            Input::Told(Word::Ask) if sight != Sight::Ahead => {
                let tell = self.tell(Word::Gone);
                self.go(same, tell)
            }
            Input::Resolve(GuestIs::Here) => self.keep(Why::Operator, Stage::Idle),
            Input::Resolve(GuestIs::There) if sight == Sight::Kept => self.deny(Refusal::OutOfOrder),
            Input::Resolve(GuestIs::There) => self.grant(Grant::Operator),
            Input::Retry => {
                let ask = self.tell(Word::Ask);
                self.go(same, ask)
            }
            Input::Confirm { .. } | Input::Deadline => {
                self.go(same, [Effect::Answer(Answer::InDoubt(Call::Confirm, Doubt::SourceDied))])
            }
            Input::Abort | Input::Destroy | Input::Perform(_) | Input::ComesBack => {
                self.deny(Refusal::OutOfOrder)
            }
            Input::StartPostcopy => self.deny(Refusal::NotCopying),
            Input::Qemu(_) | Input::QemuNow(_) | Input::Told(_) | Input::ClientGone => self.stay(),
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn kept(self, why: Why, recorded: bool, settled: bool, input: Input) -> Step {
        let same = Phase::Kept { why, recorded, settled };
        match input {
            // The record is told only once it is written: what is told lets the destination forget.
            Input::Told(Word::Declined | Word::Settled) if recorded => {
                let tell = self.tell(Word::Kept);
                let first = (!settled).then_some(Effect::Journal(SourceRecord::Acknowledged));
                self.go(Phase::Kept { why, recorded, settled: true }, tell.into_iter().chain(first))
            }
            // Whether this record was written matters to nobody: it only lets the journal be tidied.
            Input::Journaled(_) => self.go(same, []),
            Input::Told(Word::Running | Word::Ended) => {
                let tell = self.tell(Word::Kept);
                self.go(same, tell.into_iter().chain([Effect::Alarm]))
            }
            Input::Told(Word::Ask | Word::Complete | Word::CannotStart | Word::MaybeRan) if recorded => {
                let tell = self.tell(Word::Kept);
                self.go(same, tell)
            }
            Input::Retry if !recorded => self
                .go(Phase::ExpectKept { why, stage: Stage::GoesOn }, [Effect::Journal(SourceRecord::Kept)]),
            Input::Retry if !settled => {
                let tell = self.tell(Word::Kept);
                self.go(same, tell)
            }
            Input::Confirm { .. } => self.go(same, [Effect::Answer(Answer::Confirm(Fate::Stayed))]),
            Input::Perform(_) => self.go(same, [Effect::Answer(Answer::Failed(Call::Perform, why))]),
            Input::Abort | Input::StartPostcopy | Input::Destroy => self.deny(Refusal::Over),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::ComesBack => self.deny(Refusal::OutOfOrder),
            Input::Qemu(_)
            | Input::QemuNow(_)
            | Input::Told(_)
            | Input::ClientGone
            | Input::Deadline
            | Input::Retry => self.stay(),
            Input::Probed(_) => self.out_of_turn(),
        }
    }

    fn expect_done(self, handed: Handed, input: Input) -> Step {
        match input {
            Input::Journaled(Written::Yes) => {
                let tell = self.tell(Word::Settled);
                let end = (self.qemu == Qemu::Alive).then_some(Effect::EndQemu);
                self.go(
                    Phase::Done,
                    end.into_iter().chain(tell).chain([
                        Effect::Answer(Answer::Ok(Call::Perform)),
                        Effect::Answer(Answer::Confirm(Fate::Moved)),
                        Effect::Answer(Answer::Ok(Call::Resolve)),
                        Effect::Finished(Ended::Moved),
                    ]),
                )
            }
            // Without the record QEMU is not ended; it is tried again.
            Input::Journaled(Written::No) => self.go(
                Phase::Granted(Handed { ran: true, ..handed }),
                [Effect::Answer(Answer::Failed(Call::Resolve, Why::JournalFull))],
            ),
            _ => self.out_of_turn(),
        }
    }

    fn done(self, input: Input) -> Step {
        match input {
            Input::Told(Word::Declined) => {
                let tell = self.tell(Word::Settled);
                self.go(Phase::Done, tell.into_iter().chain([Effect::Alarm]))
            }
            Input::Told(
                Word::Running | Word::Ended | Word::MaybeRan | Word::Ask | Word::Complete | Word::CannotStart,
            ) => {
                let tell = self.tell(Word::Settled);
                self.go(Phase::Done, tell)
            }
            Input::Confirm { .. } => self.go(Phase::Done, [Effect::Answer(Answer::Confirm(Fate::Moved))]),
            Input::Abort | Input::StartPostcopy | Input::Destroy => self.deny(Refusal::Over),
            Input::Perform(_) => self.deny(Refusal::OutOfOrder),
            Input::Resolve(_) => self.deny(Refusal::NotInDoubt),
            Input::ComesBack
            | Input::Qemu(_)
            | Input::QemuNow(_)
            | Input::Told(_)
            | Input::ClientGone
            | Input::Deadline
            | Input::Retry => self.stay(),
            Input::Journaled(_) | Input::Probed(_) => self.out_of_turn(),
        }
    }
}
