//! What can happen next in a world, and what it does: the drivers, QEMU, the client, users and faults.

use ferry_migration::destination::{self, Destination};
use ferry_migration::journal::{DestinationRecord, DestinationStatus, SourceRecord, SourceStatus};
use ferry_migration::message::Word;
use ferry_migration::source::{self, Source};
use ferry_migration::{Coordination, Evidence, Standing};

use crate::client::{
    client_over, crash_destination, crash_source, finish_failed, lose_destination, lose_source,
};
use crate::drivers::{fail_copy, source_report};
use crate::world::{At, Broken, Copy, ID, Setup, World, bit};

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
    pub(crate) kind: Kind,
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
    pub(crate) fn begin(&mut self, kind: Kind, story: &'static str) {
        self.begin_with(kind, story, "");
    }

    fn begin_with(&mut self, kind: Kind, story: &'static str, detail: &'static str) {
        self.kind = kind;
        self.story = (story, detail);
    }

    pub(crate) fn push(&mut self, world: World) {
        self.worlds.push((self.kind, self.story, world));
    }

    /// The same step, cut short by a crash.
    pub(crate) fn push_crashed(&mut self, story: &'static str, world: World) {
        self.worlds.push((Kind::Fault, (self.story.0, story), world));
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
                if !w.client.source || !w.source.up || w.source.machine.is_none() {
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
                        finish_failed(&mut w, cancelled);
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
                    client_over(&mut w);
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
        let broken = self.setup.broken == Some(Broken::ConnectedDeclines);
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
        // The stream may be opened just after it was looked for.
        let unconnected = matches!(world.source.qemu.copy, Copy::None | Copy::Active) || broken;
        let called_off = world.client.at == (At::Finish { called: true, cancelled: true });
        report(
            !(qemu.alive && qemu.listening_reported && !qemu.complete_reported && called_off && unconnected),
            "destination is told: no source has connected",
            |_| {},
            R::Unconnected,
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
            let peer = w.source.peer_on_record.then_some(self.setup.peer);
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
                || machine.is_switching()
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
        if world.client.at == (At::Perform { called: false }) {
            self.begin(Kind::User, "client calls it off before Perform");
            let mut w = spent.clone();
            w.client.at = At::Finish { called: false, cancelled: true };
            self.push(w);
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
        fault("destination daemon dies", world.destination.up, &|w| crash_destination(w));
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
        fault("client dies", direct && world.client.at != At::Over, &|w| client_over(w));
        fault(
            "client loses the destination",
            world.client.at != At::Over && world.client.destination,
            &|w| {
                lose_destination(w);
                w.destination.client_gone = true;
            },
        );
        fault(
            "client loses the source",
            direct && world.client.at != At::Over && world.client.source,
            &|w| {
                lose_source(w);
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
        Word::GoingOn => "going-on",
        Word::Reconnect => "reconnect",
        Word::Gone => "gone",
        Word::Held => "held",
    }
}
