//! The two drivers, in small: they feed the machines and do what these say. A daemon may die between any two
//! effects; what QEMU does is in [`crate::world`].

use ferry_migration::destination;
use ferry_migration::journal::{DestinationRecord, DestinationStatus, SourceRecord, SourceStatus};
use ferry_migration::message::Word;
use ferry_migration::source::{self, Source};
use ferry_migration::{Peer, Standing, Written};

use crate::act::{Kind, Next};
use crate::client::{
    answer_from_destination, answer_from_source, client_over, crash_destination, crash_source, finish_failed,
};
use crate::world::{At, Broken, Copy, Setup, Violation, World, bit};

impl Next<'_> {
    // The source's driver.

    pub(crate) fn feed_source(&mut self, world: World, input: source::Input) {
        self.step_source(world, input, false);
    }

    fn step_source(&mut self, mut world: World, input: source::Input, after_write: bool) {
        let Some(machine) = world.source.machine.clone() else { return };
        if self.setup.broken == Some(Broken::PostcopyEndsEarly) && input == source::Input::Told(Word::Running)
        {
            // The machine believes that the copy is complete, and so that QEMU is not needed any more.
            if let Ok((machine, _)) = machine.clone().step(source::Input::Qemu(source::Report::Completed)) {
                world.source.machine = Some(machine.clone());
                return self.step_told_running(world, machine);
            }
        }
        match machine.step(input) {
            Ok((machine, effects)) => {
                world.source.machine = Some(machine);
                self.do_source(world, &effects, after_write);
            }
            Err(denied) => {
                if denied.refusal == source::Refusal::Driver {
                    world.violate(Violation::Contract("input out of turn on the source"));
                }
                self.refuse_client(&mut world, input);
                self.push(world);
            }
        }
    }

    pub(crate) fn do_source(&mut self, mut world: World, effects: &[source::Effect], after_write: bool) {
        use source::Effect as E;
        for (at, effect) in effects.iter().enumerate() {
            if world.faults > 0 && (at > 0 || after_write) {
                let mut crashed = world.clone();
                crashed.faults -= 1;
                crash_source(self.setup, &mut crashed);
                self.push_crashed("source daemon dies", crashed);
            }
            let is_last = at + 1 == effects.len();
            match *effect {
                E::Journal(record) => {
                    if !is_last {
                        world.violate(Violation::Contract("a journal effect is not the last"));
                    }
                    let written = write_source(self.setup, &mut world, record);
                    return self.step_source(world, source::Input::Journaled(written), true);
                }
                E::Probe => {
                    let written = if world.source.full { Written::No } else { Written::Yes };
                    return self.step_source(world, source::Input::Probed(written), false);
                }
                E::StopCpus => world.source.qemu.runs = false,
                E::StartCopy => {
                    let alive = world.destination.qemu.alive;
                    if world.source.qemu.alive {
                        world.source.qemu.copy = if alive { Copy::Active } else { Copy::Failed };
                    }
                }
                E::Continue if world.source.qemu.copy == Copy::PreSwitchover => {
                    let postcopy = world.source.qemu.postcopy;
                    world.source.qemu.copy = if postcopy { Copy::PostcopyStarting } else { Copy::Device };
                }
                E::Continue => {}
                E::SwitchToPostcopy => {
                    if world.source.qemu.copy == Copy::Active {
                        world.source.qemu.postcopy = true;
                    }
                    if self.setup.broken == Some(Broken::GrantedBeforeSwitch) {
                        world.to_destination |= bit(Word::Granted);
                    }
                }
                E::CancelCopy => {
                    if matches!(world.source.qemu.copy, Copy::Active | Copy::PreSwitchover | Copy::Device) {
                        world.source.qemu.copy = Copy::Cancelled;
                        world.source.qemu.runs |= self.setup.plan.live && world.source.qemu.alive;
                    }
                    // Whatever came of it, the driver feeds the state that it finds afterwards.
                    world.source.qemu.reported = Copy::None;
                }
                E::QueryCopy => {
                    if !is_last {
                        world.violate(Violation::Contract("a query is not the last"));
                    }
                    return self.query_source(world);
                }
                E::Resume => world.source.resuming = true,
                E::EndQemu => end_source_qemu(&mut world),
                E::Tell(Word::Granted)
                    if self.setup.broken == Some(Broken::DeadDoesNotGrant) && !world.source.qemu.alive => {}
                E::Tell(word) => {
                    if self.setup.peer == Peer::Ferry {
                        world.to_destination |= bit(word);
                        world.source.qemu.vouched |= word == Word::TakeBack && world.source.qemu.alive;
                    }
                }
                E::Answer(answer) => answer_from_source(self.setup, &mut world, answer),
                E::Finished(_) => {}
                E::Alarm => world.violate(Violation::Contract("the source raised the alarm")),
            }
        }
        self.push(world);
    }

    fn step_told_running(&mut self, mut world: World, machine: Source) {
        if let Ok((machine, effects)) = machine.step(source::Input::Told(Word::Running)) {
            world.source.machine = Some(machine);
            self.do_source(world, &effects, false);
        }
    }

    /// QEMU answers only after the switch that it is making: it has succeeded, or the stream broke.
    fn query_source(&mut self, mut world: World) {
        if world.source.qemu.alive && world.source.qemu.copy == Copy::PostcopyStarting {
            if world.faults > 0 {
                let mut failed = world.clone();
                failed.faults -= 1;
                fail_copy(self.setup, &mut failed);
                let kind = std::mem::replace(&mut self.kind, Kind::Fault);
                self.step_source(failed, source::Input::QemuNow(source::Report::Failed), false);
                self.kind = kind;
            }
            world.source.qemu.copy = Copy::Postcopy;
        }
        let report = if world.source.qemu.alive { source_report(&world) } else { Some(source::Report::Died) };
        match report {
            Some(report) => self.step_source(world, source::Input::QemuNow(report), false),
            None => self.push(world),
        }
    }

    // The destination's driver.

    pub(crate) fn feed_destination(&mut self, world: World, input: destination::Input) {
        self.step_destination(world, input, false);
    }

    fn step_destination(&mut self, mut world: World, input: destination::Input, after_write: bool) {
        let Some(machine) = world.destination.machine.clone() else { return };
        match machine.step(input) {
            Ok((machine, effects)) => {
                world.destination.machine = Some(machine);
                self.do_destination(world, &effects, after_write);
            }
            Err(denied) => {
                if denied.refusal == destination::Refusal::Driver {
                    world.violate(Violation::Contract("input out of turn on the destination"));
                }
                if let (destination::Input::Finish { .. }, At::Finish { cancelled, .. }) =
                    (input, world.client.at)
                {
                    finish_failed(&mut world, cancelled);
                }
                self.push(world);
            }
        }
    }

    pub(crate) fn do_destination(
        &mut self,
        mut world: World,
        effects: &[destination::Effect],
        after_write: bool,
    ) {
        use destination::Effect as E;
        for (at, effect) in effects.iter().enumerate() {
            if world.faults > 0 && (at > 0 || after_write) {
                let mut crashed = world.clone();
                crashed.faults -= 1;
                crash_destination(&mut crashed);
                self.push_crashed("destination daemon dies", crashed);
            }
            match *effect {
                E::Journal(record) => {
                    if at + 1 != effects.len() {
                        world.violate(Violation::Contract("a journal effect is not the last"));
                    }
                    let written = write_destination(&mut world, record);
                    return self.step_destination(world, destination::Input::Journaled(written), true);
                }
                E::Launch => {
                    world.destination.qemu.alive = true;
                    world.destination.qemu.listening_reported = false;
                }
                E::StartCpus => {
                    if !world.destination.qemu.complete {
                        world.violate(Violation::Contract("cont before the state is whole"));
                    }
                    world.destination.qemu.starting = world.destination.qemu.alive;
                    if self.setup.broken == Some(Broken::RunningBeforeRun) {
                        world.destination.qemu.run_reported = true;
                        let resumed = destination::Input::Qemu(destination::Report::Resumed);
                        return self.step_destination(world, resumed, false);
                    }
                }
                E::ProveAlive => {
                    let qemu = &mut world.destination.qemu;
                    // A whole guest that is to stay paused is this host's from here on.
                    qemu.ran |= qemu.alive;
                    let is_believed = qemu.alive || self.setup.broken == Some(Broken::RecordIsEnough);
                    let report =
                        if is_believed { destination::Report::Complete } else { destination::Report::Died };
                    return self.step_destination(world, destination::Input::Qemu(report), false);
                }
                E::EndQemu => end_destination_qemu(self.setup, &mut world),
                E::Tell(word) => {
                    if self.setup.peer == Peer::Ferry {
                        world.to_source |= bit(word);
                    }
                }
                E::Answer(answer) => answer_from_destination(&mut world, answer),
                E::Finished(_) => {}
                E::Alarm => world.violate(Violation::Contract("the destination raised the alarm")),
            }
        }
        self.push(world);
    }

    fn refuse_client(&self, world: &mut World, input: source::Input) {
        match (input, world.client.at) {
            (source::Input::Perform(_), At::Perform { called: true }) => {
                world.client.at = At::Finish { called: false, cancelled: true };
            }
            (source::Input::Confirm { .. }, At::Confirm { called: true, .. }) => client_over(world),
            _ => {}
        }
    }
}

pub(crate) fn source_report(world: &World) -> Option<source::Report> {
    use source::Report as R;
    match world.source.qemu.copy {
        Copy::None => None,
        Copy::Active => Some(R::Active),
        Copy::PreSwitchover => Some(R::PreSwitchover),
        Copy::Device => Some(R::Device),
        Copy::PostcopyStarting | Copy::Postcopy => Some(R::PostcopyActive),
        Copy::Completed => Some(R::Completed),
        Copy::Failed => Some(R::Failed),
        Copy::Cancelled => Some(R::Cancelled),
    }
}

/// A failed copy: QEMU lets the guest run on if it had stopped it.
pub(crate) fn fail_copy(setup: &Setup, world: &mut World) {
    world.source.qemu.copy = Copy::Failed;
    world.source.qemu.runs |= setup.plan.live;
}

pub(crate) fn write_source(setup: &Setup, world: &mut World, record: SourceRecord) -> Written {
    if world.source.full {
        return Written::No;
    }
    if setup.broken == Some(Broken::KeptUnrecorded) && record == SourceRecord::Kept {
        return Written::Yes;
    }
    world.source.peer_on_record =
        world.source.machine.as_ref().is_some_and(|machine| machine.peer().is_some());
    match SourceStatus::after(world.source.record, record) {
        Ok(status) => world.source.record = Some(status),
        // With Kept unrecorded, its acknowledgement has nothing to stand on.
        Err(_) if setup.broken == Some(Broken::KeptUnrecorded) => {}
        Err(_) => world.violate(Violation::Contract("impossible records on the source")),
    }
    Written::Yes
}

pub(crate) fn write_destination(world: &mut World, record: DestinationRecord) -> Written {
    if world.destination.full {
        return Written::No;
    }
    match DestinationStatus::after(world.destination.record, record) {
        Ok(status) => world.destination.record = Some(status),
        Err(_) => world.violate(Violation::Contract("impossible records on the destination")),
    }
    Written::Yes
}

/// Our own ending of the source's QEMU: only once the destination has the guest, and needs nothing from here.
pub(crate) fn end_source_qemu(world: &mut World) {
    let asked = world.source.machine.as_ref().is_some_and(|machine| machine.standing() == Standing::Here);
    let (from, to) = (&world.source.qemu, &world.destination.qemu);
    let needed = matches!(from.copy, Copy::PostcopyStarting | Copy::Postcopy) && to.alive;
    if from.alive && !asked && (!to.ran || needed) {
        world.violate(Violation::Zero);
    }
    world.source.qemu.destroyed |= asked;
    world.source.qemu.alive = false;
    world.source.qemu.runs = false;
}

/// Our own ending of the destination's QEMU: never one that ran, nor one that holds what nobody else does.
pub(crate) fn end_destination_qemu(setup: &Setup, world: &mut World) {
    let (from, to) = (&world.source.qemu, &world.destination.qemu);
    let past = matches!(from.copy, Copy::Postcopy);
    let alone = (!from.alive && !from.destroyed && !from.vouched) || past;
    let whole = to.complete || from.copy == Copy::Completed;
    // A peer that proves nothing is not ours to answer for.
    let ours = setup.peer == Peer::Ferry && !to.destroyed;
    if to.alive && ours && (to.ran || (whole && alone && !from.ran_on)) {
        world.violate(Violation::Zero);
    }
    world.destination.qemu.alive = false;
    world.destination.qemu.runs = false;
    world.destination.qemu.starting = false;
}
