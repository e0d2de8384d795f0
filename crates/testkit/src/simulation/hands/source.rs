//! The source's effects.

use std::collections::VecDeque;

use ferry_migration::journal::Record;
use ferry_migration::source::{Denied, Effect, Ended, Input, Refusal, Report};
use ferry_migration::{Standing, Written};

use super::super::world::{At, Copy, Machine, Migration, Qemu, Violation, World};

impl World {
    pub(super) fn turn_source(&mut self, at: At, input: Input) -> Result<Vec<Effect>, Denied> {
        let Some(Migration { machine: Machine::Out(machine), pause, .. }) = &mut self.side_mut(at).present
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

    pub(super) fn run_source(&mut self, at: At, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            match self.turn_source(at, input) {
                Ok(effects) => {
                    let mut follow = self.perform_source_effects(at, effects);
                    follow.append(&mut inputs);
                    inputs = follow;
                }
                Err(_) => self.violate(Violation::Contract("the source refuses the result of its effect")),
            }
        }
        self.after_steps(at);
    }

    pub(super) fn perform_source_effects(&mut self, at: At, effects: Vec<Effect>) -> VecDeque<Input> {
        let mut follow = VecDeque::new();
        let count = effects.len();
        for (number, effect) in effects.into_iter().enumerate() {
            if self.is_cut(at) {
                return VecDeque::new();
            }
            let asks = matches!(effect, Effect::Journal(_) | Effect::Probe | Effect::QueryCopy);
            if asks && number + 1 != count {
                self.violate(Violation::Contract("an effect that asks is not the last"));
            }
            let result = self.perform_source_effect(at, effect);
            if !self.hosts[at.host].up {
                return VecDeque::new();
            }
            follow.extend(result);
        }
        follow
    }

    fn perform_source_effect(&mut self, at: At, effect: Effect) -> Option<Input> {
        let holds = self.holds_its_guest(at);
        match effect {
            Effect::StopCpus
            | Effect::StartCopy
            | Effect::Continue
            | Effect::SwitchToPostcopy
            | Effect::CancelCopy
            | Effect::QueryCopy
            | Effect::Resume
            | Effect::EndQemu
                if !holds =>
            {
                None
            }
            Effect::Journal(record) => Some(Input::Journaled(self.write(at, Record::Source(record)))),
            Effect::Probe => {
                let full = self.hosts[at.host].full;
                Some(Input::Probed(if full { Written::No } else { Written::Yes }))
            }
            Effect::StopCpus => {
                if let Some(qemu) = self.held_mut(at) {
                    qemu.runs = false;
                }
                None
            }
            Effect::StartCopy => {
                self.start_copy(at);
                None
            }
            Effect::Continue => {
                let qemu = self.held_mut(at)?;
                if qemu.alive && qemu.copy == Copy::PreSwitchover {
                    qemu.copy = if qemu.postcopy { Copy::PostcopyStarting } else { Copy::Device };
                    return None;
                }
                report(qemu).map(Input::Qemu)
            }
            Effect::SwitchToPostcopy => {
                if let Some(qemu) = self.held_mut(at).filter(|qemu| qemu.copy == Copy::Active) {
                    qemu.postcopy = true;
                }
                None
            }
            Effect::CancelCopy => {
                let qemu = self.held(at)?;
                let (launch, copy) = (qemu.launch, qemu.copy);
                if qemu.alive && copy.can_fail() && copy != Copy::PostcopyStarting {
                    self.break_copy(at.guest, launch, Copy::Cancelled);
                }
                self.held(at).and_then(report).map(Input::Qemu)
            }
            Effect::QueryCopy => self.query_copy(at).map(Input::QemuNow),
            Effect::Resume => {
                let alive = self.held(at).is_some_and(|qemu| qemu.alive);
                let side = self.side_mut(at);
                side.resuming = alive;
                let suspended = side.present.as_ref().is_some_and(|migration| migration.suspended);
                if suspended {
                    side.resuming = false;
                    side.stopped = true;
                    return alive.then_some(Input::Qemu(Report::Resumed));
                }
                None
            }
            Effect::EndQemu => {
                let by_user = self.machine(at).is_some_and(|machine| machine.standing() == Standing::Here);
                if let Some(launch) = self.side(at).guest {
                    self.end_qemu(at.guest, launch, by_user);
                    self.settle_end(at);
                }
                None
            }
            Effect::Tell(word) => {
                self.tell(at, word);
                None
            }
            Effect::Answer(answer) => {
                self.answer_from_source(at, answer);
                None
            }
            Effect::Finished(ended) => {
                let side = self.side_mut(at);
                side.moved |= ended == Ended::Moved;
                if let Some(migration) = &mut side.present {
                    migration.open = false;
                }
                None
            }
            Effect::Alarm => {
                self.violate(Violation::Contract("the source raised the alarm"));
                None
            }
        }
    }

    fn start_copy(&mut self, at: At) {
        let target = self.side(at).present.as_ref().and_then(|migration| migration.target);
        let taken = self.guests[at.guest].qemus.iter().any(|qemu| qemu.to == target && qemu.copy.can_fail());
        let listens = target
            .and_then(|target| self.qemu(at.guest, target))
            .is_some_and(|to| to.alive && to.incoming && !to.whole && !to.sent);
        let open = self.link && listens && !taken;
        if let Some(qemu) = self.held_mut(at).filter(|qemu| qemu.alive) {
            qemu.ran_before = qemu.runs;
            qemu.postcopy = false;
            qemu.ran_on = false;
            qemu.to = target;
            qemu.copy = if open { Copy::Active } else { Copy::Failed };
            qemu.told.copy = Copy::None;
        }
        if let Some(to) = target.and_then(|target| self.qemu_mut(at.guest, target)) {
            to.connected |= open;
        }
    }

    /// QEMU answers only after the switch that it is making: it has succeeded, or the stream broke.
    fn query_copy(&mut self, at: At) -> Option<Report> {
        if std::mem::take(&mut self.silent) {
            return None;
        }
        let qemu = *self.held(at)?;
        if qemu.alive && qemu.copy == Copy::PostcopyStarting {
            if self.link && self.receiver_of(at.guest, &qemu).is_some_and(|to| to.alive) {
                self.held_mut(at)?.copy = Copy::Postcopy;
            } else {
                self.break_copy(at.guest, qemu.launch, Copy::Failed);
            }
        }
        self.held(at).filter(|qemu| qemu.alive).and_then(report)
    }

    pub(crate) fn receiver_of(&self, guest: usize, qemu: &Qemu) -> Option<&Qemu> {
        qemu.to.and_then(|to| self.qemu(guest, to))
    }

    /// A copy ends without having got there: QEMU lets the guest go on if it ran, and the receiver has no more to come.
    pub(crate) fn break_copy(&mut self, guest: usize, launch: u8, copy: Copy) {
        let Some(qemu) = self.qemu_mut(guest, launch) else { return };
        let stopped = matches!(qemu.copy, Copy::PreSwitchover | Copy::Device | Copy::PostcopyStarting);
        qemu.copy = copy;
        let goes_on = qemu.alive && stopped && qemu.ran_before && !qemu.runs;
        if goes_on {
            self.runs(guest, launch);
        }
    }
}

/// What QEMU says of its copy.
pub(crate) fn report(qemu: &Qemu) -> Option<Report> {
    match qemu.copy {
        Copy::None => None,
        Copy::Active => Some(Report::Active),
        Copy::PreSwitchover => Some(Report::PreSwitchover),
        Copy::Device => Some(Report::Device),
        Copy::PostcopyStarting | Copy::Postcopy => Some(Report::PostcopyActive),
        Copy::PostcopyPaused => Some(Report::PostcopyPaused),
        Copy::Completed => Some(Report::Completed),
        Copy::Failed => Some(Report::Failed),
        Copy::Cancelled => Some(Report::Cancelled),
    }
}
