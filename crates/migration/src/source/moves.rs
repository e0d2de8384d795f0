//! The source's moves that several phases share: keeping, granting, going on, being in doubt.
//! Called by the transitions alone.

use super::types::{Answer, Call, Denied, Effect, Ended, Fate, Refusal};
use super::{Grant, Handed, Phase, Qemu, Sight, Source, Stage};
use crate::journal::SourceRecord;
use crate::message::Word;
use crate::{Coordination, Doubt, Peer, Why};

/// The next state and what is to be done, in this order.
pub(super) type Step = Result<(Source, Vec<Effect>), Denied>;

impl Source {
    pub(super) fn with(mut self, peer: Peer) -> Self {
        self.peer = Some(peer);
        self
    }

    pub(super) const fn is_ferry(&self) -> bool {
        matches!(self.peer, Some(Peer::Ferry))
    }

    /// A word to the destination, if there is somebody to hear it.
    pub(super) fn tell(&self, word: Word) -> Option<Effect> {
        self.is_ferry().then_some(Effect::Tell(word))
    }

    pub(super) fn stay(self) -> Step {
        Ok((self, Vec::new()))
    }

    pub(super) fn go(mut self, phase: Phase, effects: impl IntoIterator<Item = Effect>) -> Step {
        self.phase = phase;
        Ok((self, effects.into_iter().collect()))
    }

    pub(super) fn deny(self, refusal: Refusal) -> Step {
        Err(Denied { phase: self.phase_name(), refusal })
    }

    pub(super) fn out_of_turn(self) -> Step {
        self.deny(Refusal::Driver)
    }

    pub(super) fn grant(self, grant: Grant) -> Step {
        let record = match grant {
            Grant::Complete | Grant::Operator => SourceRecord::Granted,
            Grant::Postcopy => SourceRecord::GrantedAhead,
        };
        self.go(Phase::ExpectGranted(grant), [Effect::Journal(record)])
    }

    pub(super) fn keep(self, why: Why, stage: Stage) -> Step {
        self.go(Phase::ExpectKept { why, stage }, [Effect::Journal(SourceRecord::Kept)])
    }

    /// The destination asks while nothing is decided: this daemon lives, and so does the copy.
    pub(super) fn going_on(self) -> Step {
        let tell = self.tell(Word::GoingOn);
        let phase = self.phase;
        self.go(phase, tell)
    }

    pub(super) fn abort(self) -> Step {
        let (source, mut effects) = self.keep(Why::Aborted, Stage::Underway)?;
        effects.insert(0, Effect::Answer(Answer::Ok(Call::Abort)));
        Ok((source, effects))
    }

    /// A direct migration has lost its coordinator; a peer-to-peer one has none to lose.
    pub(super) fn client_gone(self, stage: Stage) -> Step {
        match self.plan.coordination {
            Coordination::Direct => self.keep(Why::ClientGone, stage),
            Coordination::PeerToPeer => self.stay(),
        }
    }

    /// The grant is on record and may be told: from here on the guest is the destination's until it declines.
    pub(super) fn handed(self, handed: Handed) -> Step {
        let tell = self.tell(Word::Granted);
        self.go(
            Phase::Granted(handed),
            tell.into_iter().chain([
                Effect::Answer(Answer::Ok(Call::Perform)),
                Effect::Answer(Answer::Ok(Call::Resolve)),
            ]),
        )
    }

    /// The destination runs the guest. In post-copy it still needs this QEMU, until that has completed or died.
    pub(super) fn ran(self, handed: Handed) -> Step {
        let handed = Handed { ran: true, doubt: None, ..handed };
        if handed.postcopy && !handed.completed && self.qemu == Qemu::Alive {
            return self.go(Phase::Granted(handed), []);
        }
        self.go(Phase::ExpectDone(handed), [Effect::Journal(SourceRecord::Done)])
    }

    pub(super) fn doubt(self, handed: Handed, doubt: Doubt) -> Step {
        // The first reason stays, unless the destination itself gives a better one.
        let doubt = match (handed.doubt, doubt) {
            (_, Doubt::MaybeRan | Doubt::CannotStart) | (None, _) => doubt,
            (Some(known), _) => known,
        };
        self.go(
            Phase::Granted(Handed { doubt: Some(doubt), ..handed }),
            [Effect::Answer(Answer::InDoubt(Call::Confirm, doubt))],
        )
    }

    pub(super) fn unsure_now(self, sight: Sight) -> Step {
        // Nobody to ask. A destination that proves nothing starts only after Perform has succeeded.
        match (self.is_ferry(), sight) {
            (true, _) => {}
            (false, Sight::Kept) => return self.stays(Why::QemuDied, true),
            (false, Sight::Begun | Sight::Ahead) => return self.keep(Why::QemuDied, Stage::Idle),
        }
        let ask = self.tell(Word::Ask);
        self.go(
            Phase::Unsure(sight),
            ask.into_iter().chain([Effect::Answer(Answer::Failed(Call::Perform, Why::QemuDied))]),
        )
    }

    pub(super) fn unwritten_now(self, why: Why) -> Step {
        let query = self.is_ferry().then_some(Effect::QueryCopy);
        let answers = [
            Effect::Answer(Answer::Failed(Call::Perform, why)),
            Effect::Answer(Answer::Failed(Call::Resolve, Why::JournalFull)),
        ];
        self.go(Phase::Unwritten { why }, answers.into_iter().chain(query))
    }

    /// The guest stays, and its whole state was sent: the destination hears of it only once the CPUs ran here.
    pub(super) fn resume(self, why: Why, recorded: bool) -> Step {
        if self.qemu == Qemu::Dead {
            return self.unsure_now(if recorded { Sight::Kept } else { Sight::Begun });
        }
        if !self.plan.was_running {
            return self.stays(why, recorded);
        }
        self.go(
            Phase::Resuming { why, recorded },
            [
                Effect::Resume,
                Effect::Answer(Answer::Failed(Call::Perform, why)),
                Effect::Answer(Answer::Confirm(Fate::Stayed)),
                Effect::Answer(Answer::Ok(Call::Resolve)),
            ],
        )
    }

    pub(super) fn gone_on(self, why: Why, recorded: bool) -> Step {
        let tell = if recorded { self.tell(Word::Kept) } else { None };
        self.go(
            Phase::Kept { why, recorded, settled: false },
            tell.into_iter().chain([Effect::Finished(Ended::Stayed(why))]),
        )
    }

    /// The guest stays here. `recorded`: Kept is on disk; otherwise it is written later, and told only then.
    pub(super) fn stays(self, why: Why, recorded: bool) -> Step {
        let mut effects = Vec::new();
        if why == Why::Destroyed {
            effects.extend([Effect::EndQemu, Effect::Answer(Answer::Ok(Call::Destroy))]);
        } else if self.qemu == Qemu::Alive && self.plan.was_running {
            effects.push(Effect::Resume);
        }
        if recorded {
            effects.extend(self.tell(Word::Kept));
        }
        effects.extend([
            Effect::Answer(Answer::Failed(Call::Perform, why)),
            Effect::Answer(Answer::Confirm(Fate::Stayed)),
            Effect::Answer(Answer::Ok(Call::Resolve)),
            Effect::Finished(Ended::Stayed(why)),
        ]);
        self.go(Phase::Kept { why, recorded, settled: false }, effects)
    }
}
