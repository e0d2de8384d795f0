//! What can happen next in a world, and what it does: the drivers, QEMU, the client, users and faults.

use ferry_migration::destination::{self, Destination};
use ferry_migration::journal::{DestinationRecord, DestinationStatus, SourceRecord, SourceStatus};
use ferry_migration::message::Word;
use ferry_migration::source::{self, Source};
use ferry_migration::{Coordination, Evidence, Peer, Standing, Written};

use crate::world::{At, Broken, Copy, ID, Setup, Violation, World, bit};

/// What kind of step leads to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It happens by itself once everything works: hosts restart, words arrive, disks have room.
    Heals,
    /// Something goes wrong.
    Fault,
    /// A user interferes.
    User,
}

/// A step in words: what happens, and what to or how it ends.
pub(crate) type Story = (&'static str, &'static str);

/// Collects the worlds that can come next.
pub(crate) struct Next<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) worlds: Vec<(Kind, Story, World)>,
    kind: Kind,
    story: Story,
}

pub(crate) fn successors(setup: &Setup, world: &World) -> Vec<(Kind, Story, World)> {
    let mut next = Next { setup, worlds: Vec::new(), kind: Kind::Heals, story: ("", "") };
    next.client(world);
    next.source_qemu(world);
    next.destination_qemu(world);
    next.daemons(world);
    next.network(world);
    next.timers(world);
    if world.users > 0 {
        next.users(world);
    }
    if world.faults > 0 {
        next.faults(world);
    }
    for (_, _, world) in &mut next.worlds {
        world.drop_machines_that_are_over();
        *world = world.clone().judge();
    }
    next.worlds
}

impl Next<'_> {
    fn begin(&mut self, kind: Kind, story: &'static str) {
        self.begin_with(kind, story, "");
    }

    fn begin_with(&mut self, kind: Kind, story: &'static str, detail: &'static str) {
        self.kind = kind;
        self.story = (story, detail);
    }

    fn push(&mut self, world: World) {
        self.worlds.push((self.kind, self.story, world));
    }

    /// The same step, cut short by a crash.
    fn push_crashed(&mut self, story: &'static str, world: World) {
        self.worlds.push((Kind::Fault, (self.story.0, story), world));
    }

    // The source's driver.

    fn feed_source(&mut self, world: World, input: source::Input) {
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

    fn do_source(&mut self, mut world: World, effects: &[source::Effect], after_write: bool) {
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

    fn feed_destination(&mut self, world: World, input: destination::Input) {
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
                    finish_failed(self.setup, &mut world, cancelled);
                }
                self.push(world);
            }
        }
    }

    fn do_destination(&mut self, mut world: World, effects: &[destination::Effect], after_write: bool) {
        use destination::Effect as E;
        for (at, effect) in effects.iter().enumerate() {
            if world.faults > 0 && (at > 0 || after_write) {
                let mut crashed = world.clone();
                crashed.faults -= 1;
                crash_destination(self.setup, &mut crashed);
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
                    let report =
                        if qemu.alive { destination::Report::Complete } else { destination::Report::Died };
                    return self.step_destination(world, destination::Input::Qemu(report), false);
                }
                E::EndQemu => end_destination_qemu(self.setup, &mut world),
                E::Tell(word) => {
                    if self.setup.peer == Peer::Ferry {
                        world.to_source |= bit(word);
                    }
                }
                E::Answer(answer) => answer_from_destination(self.setup, &mut world, answer),
                E::Finished(_) => {}
                E::Alarm => world.violate(Violation::Contract("the destination raised the alarm")),
            }
        }
        self.push(world);
    }

    // What happens by itself.

    fn client(&mut self, world: &World) {
        let mut w = world.clone();
        match world.client.at {
            At::Begin if world.source.up && world.source.record.is_none() => {
                self.begin(Kind::Heals, "client calls Begin");
                let (machine, effects) = Source::begin(ID, self.setup.plan);
                w.source.machine = Some(machine);
                self.do_source(w, &effects, false);
            }
            At::Prepare { called: false } => {
                self.begin(Kind::Heals, "client calls Prepare");
                if !w.client.destination || !w.destination.up {
                    w.client.at = At::Confirm { called: false, cancelled: true };
                    return self.push(w);
                }
                w.client.at = At::Prepare { called: true };
                let (machine, effects) = Destination::prepare(ID, self.setup.plan, self.setup.peer);
                w.destination.machine = Some(machine);
                self.do_destination(w, &effects, false);
            }
            At::Perform { called: false } => {
                self.begin(Kind::Heals, "client calls Perform");
                if !w.client.source || !w.source.up {
                    w.client.at = At::Finish { called: false, cancelled: true };
                    return self.push(w);
                }
                w.client.at = At::Perform { called: true };
                self.feed_source(w, source::Input::Perform(self.setup.peer));
            }
            At::Finish { called: false, cancelled } => {
                self.begin(
                    Kind::Heals,
                    if cancelled { "client calls Finish(cancelled)" } else { "client calls Finish" },
                );
                if !w.client.destination || !w.destination.up || w.destination.machine.is_none() {
                    // Without a machine the record answers: the guest is here, or it is not.
                    let arrived = w.client.destination
                        && w.destination.up
                        && matches!(
                            w.destination.record,
                            Some(DestinationStatus::Running | DestinationStatus::SettledRunning)
                        );
                    if arrived && !cancelled {
                        w.client.running = true;
                        w.client.at = At::Confirm { called: false, cancelled: false };
                    } else {
                        finish_failed(self.setup, &mut w, cancelled);
                    }
                    return self.push(w);
                }
                w.client.at = At::Finish { called: true, cancelled };
                let evidence =
                    if w.client.granted && !cancelled { Evidence::Granted } else { Evidence::None };
                let complete = w.destination.qemu.complete && w.destination.qemu.complete_reported;
                if self.setup.broken == Some(Broken::CompleteDeclines) && cancelled && complete {
                    return self.feed_destination(w, destination::Input::Told(Word::Kept));
                }
                self.feed_destination(w, destination::Input::Finish { cancelled, evidence });
            }
            At::Confirm { called: false, cancelled } => {
                self.begin(
                    Kind::Heals,
                    if cancelled { "client calls Confirm(cancelled)" } else { "client calls Confirm" },
                );
                if !w.client.source || !w.source.up || w.source.machine.is_none() {
                    client_over(self.setup, &mut w);
                    return self.push(w);
                }
                w.client.at = At::Confirm { called: true, cancelled };
                let absent = !w.destination.qemu.alive;
                let evidence = match self.setup.broken {
                    Some(Broken::ConfirmObeyed) if cancelled => Evidence::Declined,
                    Some(Broken::AbsenceProves) if cancelled && absent => Evidence::NeverStarted,
                    _ if w.client.running && !cancelled => Evidence::Running,
                    _ => Evidence::None,
                };
                self.feed_source(w, source::Input::Confirm { cancelled, evidence });
            }
            At::Begin
            | At::Prepare { called: true }
            | At::Perform { called: true }
            | At::Finish { called: true, .. }
            | At::Confirm { called: true, .. }
            | At::Over => {}
        }
    }

    fn source_qemu(&mut self, world: &World) {
        let qemu = world.source.qemu;
        let receiver = world.destination.qemu.alive;
        if qemu.alive {
            let to = match qemu.copy {
                Copy::Active if receiver => Some(Copy::PreSwitchover),
                Copy::Device if receiver => Some(Copy::Completed),
                Copy::PostcopyStarting if receiver => Some(Copy::Postcopy),
                Copy::Postcopy if receiver && world.destination.qemu.complete => Some(Copy::Completed),
                _ => None,
            };
            if let Some(to) = to {
                self.begin_with(Kind::Heals, "source QEMU:", to.name());
                let mut w = world.clone();
                w.source.qemu.copy = to;
                if to == Copy::PreSwitchover {
                    w.source.qemu.runs = false;
                }
                self.push(w);
            }
            if !receiver
                && matches!(
                    qemu.copy,
                    Copy::Active | Copy::PreSwitchover | Copy::Device | Copy::PostcopyStarting
                )
            {
                self.begin(Kind::Heals, "source QEMU: its stream has no reader");
                let mut w = world.clone();
                fail_copy(self.setup, &mut w);
                self.push(w);
            }
        }
        // The driver repeats `cont` until QEMU takes it; the user's stop is respected.
        if world.source.resuming && world.source.up {
            self.begin(Kind::Heals, "source QEMU: cont");
            let mut w = world.clone();
            w.source.resuming = false;
            // Past the switch QEMU refuses for good.
            if !matches!(qemu.copy, Copy::PostcopyStarting | Copy::Postcopy) {
                w.source.qemu.runs |= qemu.alive && !qemu.suspended;
                w.source.qemu.run_reported = !w.source.qemu.runs;
            }
            self.push(w);
        }
        if !world.source.up || world.source.machine.is_none() {
            return;
        }
        if qemu.alive && qemu.copy != qemu.reported {
            self.begin_with(Kind::Heals, "source is told:", qemu.copy.name());
            let mut w = world.clone();
            w.source.qemu.reported = qemu.copy;
            match source_report(&w) {
                Some(report) => self.feed_source(w, source::Input::Qemu(report)),
                None => self.push(w),
            }
        }
        if qemu.alive && qemu.runs != qemu.run_reported {
            self.begin(Kind::Heals, "source is told whether the CPUs run");
            let mut w = world.clone();
            w.source.qemu.run_reported = qemu.runs;
            if qemu.runs {
                self.feed_source(w, source::Input::Qemu(source::Report::Resumed));
            } else {
                self.push(w);
            }
        }
        if !qemu.alive && !qemu.death_reported {
            self.begin(Kind::Heals, "source is told that QEMU died");
            let mut w = world.clone();
            w.source.qemu.death_reported = true;
            self.feed_source(w, source::Input::Qemu(source::Report::Died));
        }
    }

    fn destination_qemu(&mut self, world: &World) {
        let qemu = world.destination.qemu;
        let from = world.source.qemu;
        if qemu.alive && !qemu.complete {
            let mut w = world.clone();
            match from.copy {
                Copy::Completed => {
                    self.begin(Kind::Heals, "destination QEMU: complete");
                    w.destination.qemu.complete = true;
                    self.push(w);
                }
                Copy::PostcopyStarting | Copy::Postcopy => {
                    self.begin(Kind::Heals, "destination QEMU: package loaded");
                    w.destination.qemu.complete = true;
                    self.push(w);
                }
                Copy::Failed | Copy::Cancelled => {
                    self.begin(Kind::Heals, "destination QEMU: the stream broke, it exits");
                    w.destination.qemu.alive = false;
                    self.push(w);
                }
                Copy::None | Copy::Active | Copy::PreSwitchover | Copy::Device if !from.alive => {
                    self.begin(Kind::Heals, "destination QEMU: the stream ended, it exits");
                    w.destination.qemu.alive = false;
                    self.push(w);
                }
                Copy::None | Copy::Active | Copy::PreSwitchover | Copy::Device => {}
            }
        }
        if qemu.alive && qemu.starting {
            self.begin(Kind::Heals, "destination QEMU: runs");
            let mut w = world.clone();
            w.destination.qemu.starting = false;
            w.destination.qemu.runs = true;
            w.destination.qemu.ran = true;
            self.push(w);
        }
        if !world.destination.up || world.destination.machine.is_none() {
            return;
        }
        let mut report = |told: bool, story: &'static str, note: fn(&mut World), report| {
            if !told {
                self.begin(Kind::Heals, story);
                let mut w = world.clone();
                note(&mut w);
                self.feed_destination(w, destination::Input::Qemu(report));
            }
        };
        use destination::Report as R;
        report(
            !qemu.alive || qemu.listening_reported,
            "destination is told: listening",
            |w| {
                w.destination.qemu.listening_reported = true;
            },
            R::Listening,
        );
        let complete = qemu.alive && qemu.complete && qemu.listening_reported;
        report(
            !complete || qemu.complete_reported,
            "destination is told: complete",
            |w| {
                w.destination.qemu.complete_reported = true;
            },
            R::Complete,
        );
        report(
            !(qemu.alive && qemu.runs) || qemu.run_reported,
            "destination is told: runs",
            |w| {
                w.destination.qemu.run_reported = true;
            },
            R::Resumed,
        );
        let launched = world.destination.record.is_some() && !qemu.alive;
        report(
            !launched || qemu.death_reported,
            "destination is told that QEMU died",
            |w| {
                w.destination.qemu.death_reported = true;
            },
            R::Died,
        );
    }

    fn daemons(&mut self, world: &World) {
        if !world.source.up {
            self.begin(Kind::Heals, "source daemon starts");
            let mut w = world.clone();
            w.source.up = true;
            let seen = w.source_seen(self.setup);
            let qemu = &mut w.source.qemu;
            qemu.death_reported = !qemu.alive;
            qemu.reported = Copy::None;
            qemu.run_reported = qemu.runs;
            let peer = Some(self.setup.peer);
            match w.source.record.and_then(|status| Source::recover(ID, self.setup.plan, peer, status, seen))
            {
                Some((machine, effects)) => {
                    w.source.machine = Some(machine);
                    self.do_source(w, &effects, false);
                }
                None => self.push(w),
            }
        }
        if !world.destination.up {
            self.begin(Kind::Heals, "destination daemon starts");
            let mut w = world.clone();
            w.destination.up = true;
            let seen = w.destination_seen();
            let owned = matches!(w.destination.record, Some(DestinationStatus::Starting));
            let qemu = &mut w.destination.qemu;
            qemu.ran |= self.setup.plan.leave_paused && owned && qemu.alive;
            qemu.death_reported = !qemu.alive;
            qemu.listening_reported = true;
            qemu.complete_reported = qemu.complete;
            qemu.run_reported = qemu.runs;
            let (plan, peer) = (self.setup.plan, self.setup.peer);
            let recover = |status| Destination::recover(ID, plan, peer, status, seen);
            match w.destination.record.and_then(recover) {
                Some((machine, effects)) => {
                    w.destination.machine = Some(machine);
                    self.do_destination(w, &effects, false);
                }
                None => self.push(w),
            }
        }
        if world.source.full {
            self.begin(Kind::Heals, "source disk has room");
            let mut w = world.clone();
            w.source.full = false;
            self.push(w);
        }
        if world.destination.full {
            self.begin(Kind::Heals, "destination disk has room");
            let mut w = world.clone();
            w.destination.full = false;
            self.push(w);
        }
        if world.source.up && world.source.client_gone {
            self.begin(Kind::Heals, "source sees the client gone");
            let mut w = world.clone();
            w.source.client_gone = false;
            match w.source.machine {
                Some(_) => self.feed_source(w, source::Input::ClientGone),
                None => self.push(w),
            }
        }
        if world.destination.up && world.destination.client_gone {
            self.begin(Kind::Heals, "destination sees the client gone");
            let mut w = world.clone();
            w.destination.client_gone = false;
            match w.destination.machine {
                Some(_) => self.feed_destination(w, destination::Input::ClientGone),
                None => self.push(w),
            }
        }
    }

    fn network(&mut self, world: &World) {
        for word in Word::ALL {
            if world.source.up && world.to_source & bit(word) != 0 {
                self.begin_with(Kind::Heals, "source hears", name(word));
                let mut w = world.clone();
                if w.source.machine.is_some() {
                    self.feed_source(w, source::Input::Told(word));
                } else if let Some(status) = w.source.record {
                    let answer = status.answer(word);
                    if answer.settled && !w.source.full {
                        w.source.record = SourceStatus::after(Some(status), SourceRecord::Acknowledged).ok();
                    }
                    w.to_destination |= answer.say.map_or(0, bit);
                    self.push(w);
                } else {
                    w.to_destination |= word.of_stranger().map_or(0, bit);
                    self.push(w);
                }
            }
            if world.destination.up && world.to_destination & bit(word) != 0 {
                self.begin_with(Kind::Heals, "destination hears", name(word));
                let mut w = world.clone();
                let absent = !w.destination.qemu.alive
                    && matches!(
                        w.destination.record,
                        Some(DestinationStatus::Running | DestinationStatus::Starting)
                    );
                if self.setup.broken == Some(Broken::AbsenceDeclines) && absent && word == Word::Granted {
                    w.to_source |= bit(Word::Declined);
                    self.push(w);
                } else if w.destination.machine.is_some() {
                    self.feed_destination(w, destination::Input::Told(word));
                } else if let Some(status) = w.destination.record {
                    let answer = status.answer(word);
                    if answer.settled && !w.destination.full {
                        w.destination.record =
                            DestinationStatus::after(Some(status), DestinationRecord::Acknowledged).ok();
                    }
                    w.to_source |= answer.say.map_or(0, bit);
                    self.push(w);
                } else {
                    w.to_source |= word.of_stranger().map_or(0, bit);
                    self.push(w);
                }
            }
        }
    }

    fn timers(&mut self, world: &World) {
        if world.source.up
            && let Some(machine) = &world.source.machine
        {
            if machine.wants_retry() {
                self.begin(Kind::Heals, "source tries again");
                self.feed_source(world.clone(), source::Input::Retry);
            }
            if matches!(world.client.at, At::Confirm { called: true, .. })
                || machine.standing() == Standing::HandedOver
            {
                self.begin(Kind::Heals, "source: deadline");
                self.feed_source(world.clone(), source::Input::Deadline);
            }
            let unwritten = machine.standing() == Standing::InDoubt(ferry_migration::Doubt::JournalFull);
            if self.setup.broken == Some(Broken::ResumesUnwritten) && unwritten {
                self.begin(Kind::Heals, "source resumes unwritten");
                self.feed_source(world.clone(), source::Input::Told(Word::Declined));
            }
        }
        if world.destination.up
            && let Some(machine) = &world.destination.machine
        {
            if machine.wants_retry() {
                self.begin(Kind::Heals, "destination tries again");
                self.feed_destination(world.clone(), destination::Input::Retry);
            }
            // What is in QEMU's socket is loaded long before a deadline.
            let in_flight = world.source.qemu.copy == Copy::Completed
                && world.destination.qemu.alive
                && !(world.destination.qemu.complete && world.destination.qemu.complete_reported);
            let waited = matches!(world.client.at, At::Finish { called: true, .. } | At::Over);
            if waited && !in_flight {
                self.begin(Kind::Heals, "destination: deadline");
                self.feed_destination(world.clone(), destination::Input::Deadline);
            }
        }
    }

    fn users(&mut self, world: &World) {
        let mut spent = world.clone();
        spent.users -= 1;
        if world.source.up && world.source.machine.is_some() {
            for (story, input) in [
                ("user aborts", source::Input::Abort),
                ("user destroys the source", source::Input::Destroy),
                ("user switches to post-copy", source::Input::StartPostcopy),
            ] {
                if input != source::Input::StartPostcopy || self.setup.plan.postcopy {
                    self.begin(Kind::User, story);
                    self.feed_source(spent.clone(), input);
                }
            }
        }
        if world.destination.up
            && let Some(machine) = &world.destination.machine
            && machine.clone().step(destination::Input::Destroy).is_ok()
        {
            self.begin(Kind::User, "user destroys the destination");
            let mut w = spent.clone();
            w.destination.qemu.destroyed = true;
            self.feed_destination(w, destination::Input::Destroy);
        }
        let back = matches!(world.source.record, Some(SourceStatus::Kept | SourceStatus::Settled))
            || (world.source.record.is_some() && world.source.qemu.copy == Copy::Completed);
        let mine = world.source.machine.as_ref().is_none_or(|machine| machine.standing() == Standing::Here);
        if back && mine && world.source.up && world.source.qemu.alive && world.source.qemu.runs {
            self.begin(Kind::User, "user suspends the guest that stayed");
            let mut w = spent;
            w.source.qemu.runs = false;
            w.source.qemu.run_reported = false;
            w.source.qemu.suspended = true;
            self.push(w);
        }
    }

    fn faults(&mut self, world: &World) {
        let mut spent = world.clone();
        spent.faults -= 1;
        let setup = self.setup;
        let mut fault = |story: &'static str, happens: bool, act: &dyn Fn(&mut World)| {
            if happens {
                self.begin(Kind::Fault, story);
                let mut w = spent.clone();
                act(&mut w);
                self.push(w);
            }
        };
        fault("source daemon dies", world.source.up, &|w| crash_source(setup, w));
        fault("destination daemon dies", world.destination.up, &|w| crash_destination(setup, w));
        fault("source QEMU dies", world.source.qemu.alive, &|w| {
            w.source.qemu.alive = false;
            w.source.qemu.runs = false;
        });
        fault("destination QEMU dies", world.destination.qemu.alive, &|w| {
            w.destination.qemu.alive = false;
            w.destination.qemu.runs = false;
            w.destination.qemu.starting = false;
        });
        let direct = setup.plan.coordination == Coordination::Direct;
        fault("client dies", direct && world.client.at != At::Over, &|w| client_over(setup, w));
        fault(
            "client loses the destination",
            world.client.at != At::Over && world.client.destination,
            &|w| {
                lose_destination(setup, w);
                w.destination.client_gone = true;
            },
        );
        fault(
            "client loses the source",
            direct && world.client.at != At::Over && world.client.source,
            &|w| {
                lose_source(setup, w);
                w.source.client_gone = true;
            },
        );
        fault("source disk is full", !world.source.full, &|w| w.source.full = true);
        fault("destination disk is full", !world.destination.full, &|w| w.destination.full = true);
        let streaming = matches!(
            world.source.qemu.copy,
            Copy::Active | Copy::PreSwitchover | Copy::Device | Copy::PostcopyStarting
        );
        fault("the stream breaks", world.source.qemu.alive && streaming, &|w| fail_copy(setup, w));
        if world.destination.qemu.starting && world.destination.up && world.destination.machine.is_some() {
            self.begin(Kind::Fault, "destination QEMU refuses cont");
            let mut w = spent.clone();
            w.destination.qemu.starting = false;
            self.feed_destination(w, destination::Input::Qemu(destination::Report::StartRefused));
        }
        if world.destination.qemu.starting && !world.destination.up {
            self.begin(Kind::Fault, "destination QEMU refuses cont, and nobody hears it");
            let mut w = spent;
            w.destination.qemu.starting = false;
            self.push(w);
        }
    }

    fn refuse_client(&self, world: &mut World, input: source::Input) {
        match (input, world.client.at) {
            (source::Input::Perform(_), At::Perform { called: true }) => {
                world.client.at = At::Finish { called: false, cancelled: true };
            }
            (source::Input::Confirm { .. }, At::Confirm { called: true, .. }) => {
                client_over(self.setup, world)
            }
            _ => {}
        }
    }
}

fn source_report(world: &World) -> Option<source::Report> {
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
fn fail_copy(setup: &Setup, world: &mut World) {
    world.source.qemu.copy = Copy::Failed;
    world.source.qemu.runs |= setup.plan.live;
}

fn write_source(setup: &Setup, world: &mut World, record: SourceRecord) -> Written {
    if world.source.full {
        return Written::No;
    }
    if setup.broken == Some(Broken::KeptUnrecorded) && record == SourceRecord::Kept {
        return Written::Yes;
    }
    match SourceStatus::after(world.source.record, record) {
        Ok(status) => world.source.record = Some(status),
        // With Kept unrecorded, its acknowledgement has nothing to stand on.
        Err(_) if setup.broken == Some(Broken::KeptUnrecorded) => {}
        Err(_) => world.violate(Violation::Contract("impossible records on the source")),
    }
    Written::Yes
}

fn write_destination(world: &mut World, record: DestinationRecord) -> Written {
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
fn end_source_qemu(world: &mut World) {
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
fn end_destination_qemu(setup: &Setup, world: &mut World) {
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

fn crash_source(setup: &Setup, world: &mut World) {
    world.source.up = false;
    world.source.machine = None;
    world.source.resuming = false;
    world.source.client_gone = false;
    if setup.plan.coordination == Coordination::PeerToPeer {
        world.destination.client_gone |= world.client.at != At::Over && world.client.destination;
        world.client.at = At::Over;
        world.client.destination = false;
    } else {
        lose_source(setup, world);
    }
}

fn crash_destination(setup: &Setup, world: &mut World) {
    world.destination.up = false;
    world.destination.machine = None;
    world.destination.client_gone = false;
    lose_destination(setup, world);
    world.destination.client_gone = false;
}

fn lose_source(setup: &Setup, world: &mut World) {
    world.client.source = false;
    match world.client.at {
        At::Begin => client_over(setup, world),
        At::Perform { called: true } => world.client.at = At::Finish { called: false, cancelled: true },
        At::Confirm { called: true, .. } => client_over(setup, world),
        At::Prepare { .. }
        | At::Perform { called: false }
        | At::Finish { .. }
        | At::Confirm { called: false, .. }
        | At::Over => {}
    }
}

fn lose_destination(setup: &Setup, world: &mut World) {
    world.client.destination = false;
    match world.client.at {
        At::Prepare { called: true } => world.client.at = At::Confirm { called: false, cancelled: true },
        At::Finish { called: true, cancelled } => finish_failed(setup, world, cancelled),
        At::Begin
        | At::Prepare { called: false }
        | At::Perform { .. }
        | At::Finish { called: false, .. }
        | At::Confirm { .. }
        | At::Over => {}
    }
}

/// Finish was answered with an error, or not at all.
fn finish_failed(setup: &Setup, world: &mut World, cancelled: bool) {
    if cancelled {
        client_over(setup, world);
    } else {
        world.client.at = At::Confirm { called: false, cancelled: true };
    }
}

/// The client has nothing more to do, or is dead: its connections close.
fn client_over(setup: &Setup, world: &mut World) {
    world.client.at = At::Over;
    world.destination.client_gone |= world.client.destination && world.destination.up;
    if setup.plan.coordination == Coordination::Direct {
        world.source.client_gone |= world.client.source && world.source.up;
    }
    world.client.source = false;
    world.client.destination = false;
}

fn answer_from_source(setup: &Setup, world: &mut World, answer: source::Answer) {
    use source::{Answer, Call};
    let at = world.client.at;
    match answer {
        Answer::Ok(Call::Begin) if at == At::Begin => world.client.at = At::Prepare { called: false },
        Answer::Failed(Call::Begin, _) if at == At::Begin => client_over(setup, world),
        Answer::Ok(Call::Perform) if at == (At::Perform { called: true }) => {
            world.client.granted = setup.peer == Peer::Ferry;
            world.client.at = At::Finish { called: false, cancelled: false };
        }
        Answer::Failed(Call::Perform, _) if at == (At::Perform { called: true }) => {
            world.client.at = At::Finish { called: false, cancelled: true };
        }
        Answer::Confirm(_) | Answer::InDoubt(Call::Confirm, _) | Answer::Failed(Call::Confirm, _)
            if matches!(at, At::Confirm { called: true, .. }) =>
        {
            client_over(setup, world);
        }
        Answer::Ok(_) | Answer::Failed(..) | Answer::InDoubt(..) | Answer::Confirm(_) => {}
    }
}

fn answer_from_destination(setup: &Setup, world: &mut World, answer: destination::Answer) {
    use destination::{Answer, Call, Fate};
    match (answer, world.client.at) {
        (Answer::Ok(Call::Prepare), At::Prepare { called: true }) => {
            world.client.at = At::Perform { called: false };
        }
        (Answer::Failed(Call::Prepare, _), At::Prepare { called: true }) => {
            world.client.at = At::Confirm { called: false, cancelled: true };
        }
        (Answer::Finish(Fate::Arrived), At::Finish { called: true, cancelled: false }) => {
            world.client.running = true;
            world.client.at = At::Confirm { called: false, cancelled: false };
        }
        (
            Answer::Finish(_) | Answer::InDoubt(Call::Finish, _) | Answer::Failed(Call::Finish, _),
            At::Finish { called: true, cancelled },
        ) => finish_failed(setup, world, cancelled),
        _ => {}
    }
}

fn name(word: Word) -> &'static str {
    match word {
        Word::Granted => "granted",
        Word::Kept => "kept",
        Word::TakeBack => "take-back",
        Word::Ask => "ask",
        Word::Running => "running",
        Word::Declined => "declined",
        Word::MaybeRan => "maybe-ran",
        Word::Complete => "complete",
        Word::CannotStart => "cannot-start",
        Word::Settled => "settled",
        Word::Ended => "ended",
    }
}
