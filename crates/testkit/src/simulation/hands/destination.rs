//! The destination's effects.

use std::collections::VecDeque;

use ferry_migration::destination::{Denied, Effect, Ended, Input, Refusal, Report};
use ferry_migration::journal::Record;

use super::super::world::{At, Machine, Migration, Qemu, Violation, World};

impl World {
    pub(super) fn turn_destination(&mut self, at: At, input: Input) -> Result<Vec<Effect>, Denied> {
        let Some(Migration { machine: Machine::In(machine), pause, .. }) = &mut self.side_mut(at).present
        else {
            return Ok(Vec::new());
        };
        let before = machine.phase_name();
        let (next, effects) = machine.clone().step(input).inspect_err(|denied| {
            debug_assert_ne!(denied.refusal, Refusal::Driver, "{input:?} when {before}");
        })?;
        if next.phase_name() != before {
            *pause = 0;
        }
        *machine = next;
        Ok(effects)
    }

    pub(super) fn run_destination(&mut self, at: At, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            match self.turn_destination(at, input) {
                Ok(effects) => {
                    let mut follow = self.perform_destination_effects(at, effects);
                    follow.append(&mut inputs);
                    inputs = follow;
                }
                Err(_) => {
                    self.violate(Violation::Contract("the destination refuses the result of its effect"))
                }
            }
        }
        self.after_steps(at);
    }

    pub(super) fn perform_destination_effects(&mut self, at: At, effects: Vec<Effect>) -> VecDeque<Input> {
        let mut follow = VecDeque::new();
        let count = effects.len();
        for (number, effect) in effects.into_iter().enumerate() {
            if self.is_cut(at) {
                return VecDeque::new();
            }
            let asks = matches!(effect, Effect::Journal(_) | Effect::ProveAlive);
            if asks && number + 1 != count {
                self.violate(Violation::Contract("an effect that asks is not the last"));
            }
            let result = self.perform_destination_effect(at, effect);
            if !self.hosts[at.host].up {
                return VecDeque::new();
            }
            follow.extend(result);
        }
        follow
    }

    fn perform_destination_effect(&mut self, at: At, effect: Effect) -> Option<Input> {
        let holds = self.holds_its_guest(at);
        match effect {
            Effect::StartCpus | Effect::ProveAlive | Effect::EndQemu if !holds => {
                Some(Input::Qemu(Report::Died))
            }
            Effect::Journal(record) => Some(Input::Journaled(self.write(at, Record::Destination(record)))),
            Effect::Launch => {
                let launch = self.side(at).present.as_ref()?.launch;
                let incoming = Qemu { incoming: true, ..Qemu::new(launch, at.host) };
                self.guests[at.guest].qemus.push(incoming);
                let side = self.side_mut(at);
                side.guest = Some(launch);
                side.recorded = Some(launch);
                side.stopped = false;
                Some(Input::Qemu(Report::Listening))
            }
            Effect::StartCpus => {
                let qemu = self.held_mut(at)?;
                if !qemu.alive {
                    return Some(Input::Qemu(Report::StartRefused));
                }
                qemu.starting = true;
                if !qemu.whole {
                    self.violate(Violation::Contract("cont before the state is whole"));
                }
                None
            }
            Effect::ProveAlive => {
                let silent = std::mem::take(&mut self.silent);
                let qemu = self.held(at)?;
                if !qemu.alive {
                    return Some(Input::Qemu(Report::Died));
                }
                if silent || !qemu.whole {
                    return Some(Input::Qemu(Report::StartRefused));
                }
                Some(Input::Qemu(Report::Complete))
            }
            Effect::EndQemu => {
                if let Some(launch) = self.side(at).guest {
                    self.end_qemu(at.guest, launch, false);
                    self.settle_end(at);
                }
                Some(Input::Qemu(Report::Died))
            }
            Effect::Tell(word) => {
                self.tell(at, word);
                None
            }
            Effect::Answer(answer) => {
                self.answer_from_destination(at, answer);
                None
            }
            Effect::Finished(ended) => {
                if ended == Ended::Arrived {
                    self.forget_departures(at);
                    self.owns(at);
                }
                let side = self.side_mut(at);
                if let Some(migration) = &mut side.present {
                    migration.open = false;
                    if ended == Ended::Arrived && migration.machine.plan().leave_paused {
                        side.stopped = true;
                    }
                }
                None
            }
            Effect::Alarm => {
                self.violate(Violation::Contract("the destination raised the alarm"));
                None
            }
        }
    }
}
