//! The daemons' hands, in small: they feed the machines and do what these say, as `ferry_migration`'s contract with the
//! driver demands, and as ferryd's driver does it. Called for whatever happens; a daemon may die between any two effects.
//!
//! ```text
//! present <── bring_forward / send_back ──> settling        one machine is at work at a time
//!    │
//!    └── run ── turn ── effects ── results ── turn ── … ── after_steps (timers, or over)
//! ```

mod destination;
mod recover;
mod source;

pub(crate) use source::report;

use ferry_migration::journal::{DestinationRecord, Record, SourceRecord, SourceStatus, Status};
use ferry_migration::message::Word;
use ferry_migration::{Doubt, MigrationId, Peer, Standing, Written, destination as to, source as from};

use super::world::{At, Broken, Launch, Letter, Machine, Migration, Pending, Records, Violation, World};

/// The driver's own times, in milliseconds.
const RETRY_FIRST: u64 = 50;
const RETRY_LAST: u64 = 1_000;
const DOUBT_AFTER: u64 = 3_000;
pub(crate) const PATIENCE: u64 = 30_000;
const STALL: u64 = 2_000;

impl Migration {
    pub(crate) fn new(machine: Machine, epoch: ferry_migration::Epoch, launch: Launch) -> Self {
        Self {
            machine,
            epoch,
            launch,
            target: None,
            open: true,
            client: None,
            suspended: false,
            pending: Pending::default(),
            retry_at: None,
            deadline_at: None,
            pause: 0,
        }
    }

    /// Whether the contract has the driver feed `Deadline` some time.
    pub(crate) fn waits(&self) -> bool {
        match &self.machine {
            Machine::Out(machine) => {
                machine.standing() == Standing::HandedOver || self.pending.confirm.is_some()
            }
            Machine::In(machine) => {
                let complete = machine.outstanding() == Some(Word::Complete);
                self.pending.finish.is_some()
                    || (self.client.is_none() && self.open)
                    || (complete && machine.standing() == Standing::Arriving)
            }
        }
    }
}

impl World {
    /// What QEMU, a peer, a timer or a call brings to the present migration of a place.
    pub(crate) fn feed_source(&mut self, at: At, input: from::Input) -> Result<(), from::Denied> {
        let effects = self.turn_source(at, input)?;
        let follow = self.perform_source_effects(at, effects);
        self.run_source(at, follow);
        Ok(())
    }

    pub(crate) fn feed_destination(&mut self, at: At, input: to::Input) -> Result<(), to::Denied> {
        let effects = self.turn_destination(at, input)?;
        let follow = self.perform_destination_effects(at, effects);
        self.run_destination(at, follow);
        Ok(())
    }

    /// A machine that was just made does what it wants done first.
    pub(crate) fn start_source(&mut self, at: At, effects: Vec<from::Effect>) {
        let follow = self.perform_source_effects(at, effects);
        self.run_source(at, follow);
    }

    pub(crate) fn start_destination(&mut self, at: At, effects: Vec<to::Effect>) {
        let follow = self.perform_destination_effects(at, effects);
        self.run_destination(at, follow);
    }

    fn feed_told(&mut self, at: At, word: Word) {
        // Events are never refused.
        let refused = match self.side(at).present.as_ref().map(|migration| &migration.machine) {
            Some(Machine::Out(_)) => self.feed_source(at, from::Input::Told(word)).is_err(),
            Some(Machine::In(_)) => self.feed_destination(at, to::Input::Told(word)).is_err(),
            None => false,
        };
        if refused {
            self.violate(Violation::Contract("a word was refused"));
        }
    }

    /// `Retry` of the migration with this id, present or settling.
    pub(crate) fn retry(&mut self, at: At, id: MigrationId) {
        let side = self.side_mut(at);
        let all = side.present.iter_mut().chain(&mut side.settling);
        all.filter(|migration| migration.machine.id() == id).for_each(|each| each.retry_at = None);
        self.with(at, id, |world| match world.machine(at) {
            Some(Machine::Out(_)) => world.feed_source(at, from::Input::Retry).is_ok(),
            Some(Machine::In(_)) => world.feed_destination(at, to::Input::Retry).is_ok(),
            None => true,
        });
    }

    /// `Deadline` of the present migration.
    pub(crate) fn deadline(&mut self, at: At) {
        if let Some(migration) = &mut self.side_mut(at).present {
            migration.deadline_at = None;
        }
        let fed = match self.machine(at) {
            Some(Machine::Out(_)) => self.feed_source(at, from::Input::Deadline).is_ok(),
            Some(Machine::In(_)) => self.feed_destination(at, to::Input::Deadline).is_ok(),
            None => true,
        };
        if !fed {
            self.violate(Violation::Contract("a deadline was refused"));
        }
    }

    /// A word arrives. What this side says to it is the answer.
    pub(crate) fn hear(&mut self, letter: Letter) {
        let Letter { to: at, id, word, answers } = letter;
        if !self.hosts[at.host].up {
            return;
        }
        if self.place_of(at, id).is_none() {
            return self.answer_from_journal(at, id, word, answers);
        }
        let before = self.outbox.len();
        self.with(at, id, |world| {
            world.feed_told(at, word);
            true
        });
        if !self.hosts[at.host].up {
            return;
        }
        match answers {
            // What was said and answered is not said again to its own answer.
            Some(said) => {
                let mut at_letter = 0;
                self.outbox.retain(|letter| {
                    at_letter += 1;
                    at_letter <= before || letter.word != said || letter.id != id
                });
            }
            None => {
                for letter in &mut self.outbox[before..] {
                    letter.answers = Some(word);
                }
                let place = self.place_of(at, id);
                let outstanding = place.and_then(|place| self.kept_at(at, place).machine.outstanding());
                if self.outbox.len() == before
                    && let Some(word_back) = outstanding
                {
                    self.outbox.push(Letter { to: at.other(), id, word: word_back, answers: Some(word) });
                }
            }
        }
    }

    fn answer_from_journal(&mut self, at: At, id: MigrationId, word: Word, answers: Option<Word>) {
        let records = self.side(at).journal.iter().find(|records| records.id == id).copied();
        let say = match records.map(|records| records.status) {
            None if self.broken == Some(Broken::AbsenceDeclines) && word == Word::Granted => {
                Some(Word::Declined)
            }
            None => word.of_stranger(),
            Some(status) => {
                let answer = match status {
                    Status::Source(status) => status.answer(word),
                    Status::Destination(status) => status.answer(word),
                };
                if answer.settled && !self.hosts[at.host].full {
                    self.side_mut(at).journal.retain(|records| records.id != id);
                }
                answer.say
            }
        };
        if let (Some(say), None) = (say, answers) {
            self.outbox.push(Letter { to: at.other(), id, word: say, answers: Some(word) });
        }
    }

    fn tell(&mut self, at: At, word: Word) {
        let Some(id) = self.machine(at).map(Machine::id) else { return };
        if let Some(qemu) = self.held_mut(at)
            && matches!(word, Word::TakeBack | Word::Kept)
        {
            qemu.vouched = qemu.alive;
        }
        self.outbox.push(Letter { to: at.other(), id, word, answers: None });
    }

    // The journal.

    fn write(&mut self, at: At, record: Record) -> Written {
        let host = self.hosts[at.host];
        if host.full && !host.lies {
            return Written::No;
        }
        let Some(migration) = &self.side(at).present else { return Written::No };
        let (id, epoch, launch) = (migration.machine.id(), migration.epoch, migration.launch);
        let (plan, mut peer) = (*migration.machine.plan(), migration.machine.peer());
        if self.broken == Some(Broken::PeerUnrecorded) && record == Record::Source(SourceRecord::Begun) {
            peer = None;
        }
        let journal = &mut self.side_mut(at).journal;
        let place = journal.iter().position(|records| records.id == id);
        let before = place.map(|place| journal[place].status);
        match after(before, record) {
            None => self.violate(Violation::Contract("impossible records")),
            Some(status) => {
                let records = Records { id, epoch, status, plan, peer, launch };
                match place {
                    Some(place) => journal[place] = records,
                    None => journal.push(records),
                }
                let side = self.side_mut(at);
                side.epoch = side.epoch.max(epoch);
                if record == Record::Destination(DestinationRecord::Running) {
                    self.owns(at);
                }
            }
        }
        if host.full {
            // The disk failed after the bytes: nobody may count on them, nor on their absence.
            return Written::No;
        }
        let acknowledged = [
            Record::Source(SourceRecord::Acknowledged),
            Record::Destination(DestinationRecord::Acknowledged),
        ];
        if acknowledged.contains(&record) {
            self.side_mut(at).journal.retain(|records| records.id != id);
        }
        Written::Yes
    }

    /// A guest that stays paused has become this host's, whether or not its CPUs ever run.
    fn owns(&mut self, at: At) {
        let Some(migration) = self.side(at).present.as_ref().filter(|_| self.holds_its_guest(at)) else {
            return;
        };
        let launch = migration.launch;
        let known = self.qemu(at.guest, launch).is_some_and(|qemu| qemu.ran);
        if migration.machine.plan().leave_paused && !known {
            self.lives_in(at.guest, launch);
        }
    }

    // The machines of one place.

    pub(crate) fn machine(&self, at: At) -> Option<&Machine> {
        self.side(at).present.as_ref().map(|migration| &migration.machine)
    }

    /// Whether the QEMU that this host holds is the one that the present migration is about.
    fn holds_its_guest(&self, at: At) -> bool {
        let side = self.side(at);
        side.present.as_ref().is_some_and(|migration| side.guest == Some(migration.launch))
    }

    fn place_of(&self, at: At, id: MigrationId) -> Option<Option<usize>> {
        let side = self.side(at);
        if side.present.as_ref().is_some_and(|migration| migration.machine.id() == id) {
            return Some(None);
        }
        side.settling.iter().position(|migration| migration.machine.id() == id).map(Some)
    }

    fn kept_at(&self, at: At, place: Option<usize>) -> &Migration {
        let side = self.side(at);
        match place {
            Some(place) => &side.settling[place],
            None => side.present.as_ref().expect("it is there"),
        }
    }

    /// Does something with a migration in the place of the present one.
    fn with(&mut self, at: At, id: MigrationId, work: impl FnOnce(&mut Self) -> bool) {
        let Some(place) = self.place_of(at, id) else { return };
        let waiting = place.map(|place| {
            let side = self.side_mut(at);
            let settling = side.settling.remove(place);
            side.present.replace(settling)
        });
        if !work(self) {
            self.violate(Violation::Contract("an event was refused"));
        }
        // A daemon that has died has forgotten all of them.
        if let Some(waiting) = waiting
            && self.hosts[at.host].up
        {
            let side = self.side_mut(at);
            let settled = side.present.take();
            side.settling.extend(settled);
            side.present = waiting;
        }
    }

    /// One that has ended here and is not acknowledged makes room for the next.
    pub(crate) fn make_room(&mut self, at: At) {
        let side = self.side_mut(at);
        if let Some(mut ended) = side.present.take_if(|ended| !ended.machine.is_over()) {
            ended.client = None;
            side.settling.push(ended);
        }
        side.present = None;
    }

    /// Sets the timers, and lets go of a machine that is over.
    fn after_steps(&mut self, at: At) {
        let now = self.now;
        let place = at;
        let Some(migration) = &mut self.side_mut(at).present else { return };
        let machine = &migration.machine;
        if machine.is_over() && migration.client.is_none() {
            let id = machine.id();
            let stayed = machine.standing() == Standing::Here || matches!(machine, Machine::In(_));
            let mute = matches!(machine.peer(), Some(Peer::Mute(_)));
            self.side_mut(place).present = None;
            if mute && stayed {
                self.side_mut(place).journal.retain(|records| records.id != id);
            }
            return;
        }
        if !machine.wants_retry() {
            migration.retry_at = None;
        } else if migration.retry_at.is_none() {
            migration.pause =
                if migration.pause == 0 { RETRY_FIRST } else { (migration.pause * 2).min(RETRY_LAST) };
            let stalled = matches!(machine, Machine::In(_)) && machine.outstanding().is_none();
            migration.retry_at = Some(now + if stalled { STALL } else { migration.pause });
        }
        if !migration.waits() {
            migration.deadline_at = None;
        } else if migration.deadline_at.is_none() {
            let complete = migration.machine.outstanding() == Some(Word::Complete);
            let soon = matches!(migration.machine, Machine::Out(_)) || complete;
            migration.deadline_at = Some(now + if soon { DOUBT_AFTER } else { PATIENCE });
        }
    }

    /// Whether the daemon dies instead of performing its next effect.
    fn is_cut(&mut self, at: At) -> bool {
        match &mut self.cut {
            Some(0) => {
                self.cut = None;
                self.crash(at.host);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// The daemon dies: what it had not written is gone, and its connections close.
    pub(crate) fn crash(&mut self, host: usize) {
        self.hosts[host].up = false;
        for guest in 0..self.guests.len() {
            let side = self.side_mut(At { guest, host });
            side.guest = None;
            side.present = None;
            side.settling.clear();
            side.resuming = false;
            side.moved = false;
        }
        self.lose_clients_of(host);
    }

    /// The QEMU of this place is gone, and its driver hears of it.
    pub(crate) fn hear_of_death(&mut self, at: At) {
        let Some(launch) = self.side(at).guest else { return };
        let holds = self.holds_its_guest(at);
        match self.machine(at) {
            Some(Machine::Out(_)) if holds => {
                let _ = self.feed_source(at, from::Input::Qemu(from::Report::Died));
                self.settle_end(at);
            }
            Some(Machine::In(_)) if holds => {
                self.settle_end(at);
                let _ = self.feed_destination(at, to::Input::Qemu(to::Report::Died));
            }
            Some(_) | None => self.settle_end(at),
        }
        let settling = self.side(at).settling.iter().filter(|migration| migration.launch == launch);
        let concerned: Vec<_> = settling.map(|migration| migration.machine.id()).collect();
        for id in concerned {
            self.with(at, id, |world| match world.machine(at) {
                Some(Machine::Out(_)) => world.feed_source(at, from::Input::Qemu(from::Report::Died)).is_ok(),
                Some(Machine::In(_)) => world.feed_destination(at, to::Input::Qemu(to::Report::Died)).is_ok(),
                None => true,
            });
        }
    }

    /// The driver lets go of a QEMU that has ended.
    fn settle_end(&mut self, at: At) {
        if !self.hosts[at.host].up {
            return;
        }
        let side = self.side_mut(at);
        side.guest = None;
        side.recorded = None;
        side.stopped = false;
        side.resuming = false;
    }

    /// Where the guest stands by all that this host's driver knows.
    pub(crate) fn standing(&self, at: At) -> Standing {
        let side = self.side(at);
        let migrations = side.present.iter().chain(&side.settling);
        migrations.map(|migration| migration.machine.standing()).fold(
            Standing::Here,
            |worst, standing| match (worst, standing) {
                (doubt @ Standing::InDoubt(_), _) | (_, doubt @ Standing::InDoubt(_)) => doubt,
                (Standing::HandedOver, _) | (_, Standing::HandedOver) => Standing::HandedOver,
                (worst, Standing::Here | Standing::Away) => worst,
                (_, standing @ (Standing::Leaving | Standing::Arriving)) => standing,
            },
        )
    }

    /// The doubt that this host shows.
    pub(crate) fn doubt(&self, at: At) -> Option<Doubt> {
        match self.standing(at) {
            Standing::InDoubt(doubt) => Some(doubt),
            Standing::Here
            | Standing::Leaving
            | Standing::HandedOver
            | Standing::Arriving
            | Standing::Away => None,
        }
    }

    /// The guest is here again: that it once left is nobody's matter any more.
    pub(crate) fn forget_departures(&mut self, at: At) {
        let side = self.side_mut(at);
        side.moved = false;
        side.journal.retain(|records| records.status != Status::Source(SourceStatus::Done));
    }
}

fn after(before: Option<Status>, record: Record) -> Option<Status> {
    let source = |before, record| SourceStatus::after(before, record).ok().map(Status::Source);
    let destination = |before, record| {
        ferry_migration::journal::DestinationStatus::after(before, record).ok().map(Status::Destination)
    };
    match (before, record) {
        (None, Record::Source(record)) => source(None, record),
        (Some(Status::Source(before)), Record::Source(record)) => source(Some(before), record),
        (None, Record::Destination(record)) => destination(None, record),
        (Some(Status::Destination(before)), Record::Destination(record)) => destination(Some(before), record),
        (Some(Status::Source(_)), Record::Destination(_))
        | (Some(Status::Destination(_)), Record::Source(_)) => None,
    }
}
