//! A random schedule: who does what when, drawn from a seed, on a clock that is simulated.
//! Called by the tests and by the program `simulation`.
//!
//! While the unkind time lasts, faults strike, users interfere and guests are sent there and back. Then everything
//! works again, operators say what is so where a case is left to them, and all must come to an end. Invariants are
//! judged after every event.

use std::ops::Range;
use std::thread;

use ferry_migration::{Coordination, Doubt, Plan};

use super::people::Wish;
use super::qemu::Motion;
use super::steps::{Fault, Step};
use super::story::Story;
use super::world::{At, Broken, Letter, Violation, World};

/// What is drawn, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Guests that share the two hosts.
    pub guests: usize,
    /// Milliseconds for which things go wrong.
    pub unkind_ms: u64,
    /// A rule that is left out.
    pub broken: Option<Broken>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { guests: 2, unkind_ms: 20_000, broken: None }
    }
}

/// How a schedule came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Events that happened.
    pub events: u64,
    /// Migrations that were begun.
    pub migrations: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Migrations that moved their guest.
    pub moved: u64,
    /// Cases that were left to an operator, though both hosts were up and reached each other.
    pub operators: u64,
    /// Guests of which nothing is left, by a fault or a user's wish.
    pub lost: u64,
}

impl Ended {
    /// With another schedule's figures added.
    pub const fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            migrations: self.migrations + other.migrations,
            faults: self.faults + other.faults,
            moved: self.moved + other.moved,
            operators: self.operators + other.operators,
            lost: self.lost + other.lost,
        }
    }
}

/// A schedule that broke the promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What happened.
    pub violation: Violation,
    /// All that led to it.
    pub story: Story,
}

/// Milliseconds after which, with everything working again, all must have come to an end.
const HEALED_MS: u64 = 600_000;

/// Runs the schedule of a seed.
///
/// # Errors
/// The promise was broken.
pub fn run(seed: u64, rules: &Rules) -> Result<Ended, Box<Failure>> {
    let mut schedule = Schedule {
        world: World::new(rules.guests, rules.broken),
        random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d),
        now: 0,
        letters: Vec::new(),
        ended: Ended::default(),
        story: Story::new(seed, rules),
        deadly: false,
    };
    match schedule.unkind(rules).and_then(|()| schedule.healed()) {
        Ok(()) => Ok(schedule.ended),
        Err(violation) => Err(Box::new(Failure { violation, story: schedule.story })),
    }
}

/// What came of many schedules.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of those that kept the promise, all together.
    pub ended: Ended,
    /// How many did not.
    pub failed: u64,
    /// The shortest of these, if there is one.
    pub failure: Option<Box<Failure>>,
}

impl Tally {
    fn note(&mut self, outcome: Result<Ended, Box<Failure>>) {
        match outcome {
            Ok(ended) => self.ended = self.ended.and(ended),
            Err(failure) => {
                self.failed += 1;
                let shorter = |known: &Failure| failure.story.len() < known.story.len();
                if self.failure.as_deref().is_none_or(shorter) {
                    self.failure = Some(failure);
                }
            }
        }
    }

    fn and(mut self, other: Self) -> Self {
        let failed = self.failed + other.failed;
        if let Some(failure) = other.failure {
            self.note(Err(failure));
        }
        Self { ended: self.ended.and(other.ended), failed, ..self }
    }
}

/// Runs the schedules of many seeds, on all processors.
pub fn run_many(seeds: Range<u64>, rules: &Rules) -> Tally {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let all: Vec<_> = (0..workers)
            .map(|worker| {
                let seeds = seeds.clone().skip(worker).step_by(workers);
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    seeds.for_each(|seed| tally.note(run(seed, rules)));
                    tally
                })
            })
            .collect();
        let joined = |worker: thread::ScopedJoinHandle<'_, Tally>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        all.into_iter().map(joined).fold(Tally::default(), Tally::and)
    })
}

struct Schedule {
    world: World,
    random: Random,
    now: u64,
    /// What is on its way, and when it arrives.
    letters: Vec<(u64, Letter)>,
    ended: Ended,
    story: Story,
    /// QEMUs and whole hosts die too, not only daemons.
    deadly: bool,
}

impl Schedule {
    fn unkind(&mut self, rules: &Rules) -> Result<(), Violation> {
        // Each schedule has its own weather.
        let fault_ms = [100, 300, 1_000, 5_000][self.random.below(4)];
        let user_ms = [500, 2_000, 10_000][self.random.below(3)];
        self.deadly = self.random.below(3) == 0;
        while self.now < rules.unkind_ms {
            let (mut at, mut step) = self.next();
            for (mean, kind) in [(fault_ms, 0), (user_ms, 1), (400, 2)] {
                let when = self.now + 1 + self.random.up_to(2 * mean);
                if when < at {
                    let drawn = match kind {
                        0 => self.fault(),
                        1 => self.wish(),
                        _ => self.migration(),
                    };
                    if let Some(drawn) = drawn {
                        (at, step) = (when, Some(drawn));
                    }
                }
            }
            let Some(step) = step else { break };
            self.happen(at, step, true)?;
        }
        Ok(())
    }

    /// Everything works again: all must come to an end.
    fn healed(&mut self) -> Result<(), Violation> {
        for number in 0..self.world.clients.len() {
            if self.world.clients[number].plan.coordination == Coordination::Direct {
                self.happen(self.now, Step::Fault(Fault::ClientDies(number)), false)?;
            }
        }
        for host in 0..2 {
            self.happen(self.now, Step::Room(host), false)?;
            if !self.world.hosts[host].up {
                self.happen(self.now, Step::Daemon(host), false)?;
            }
        }
        self.happen(self.now, Step::Link, false)?;
        let until = self.now + HEALED_MS;
        let mut restarted = false;
        let mut resolved_at = self.now + 60_000;
        while self.now < until {
            let is_settled = self.letters.is_empty() && self.world.is_at_rest();
            if is_settled && restarted {
                self.ended.lost += self.world.judge_end()?;
                let moved = self.world.clients.iter().filter(|client| client.has_moved());
                self.ended.moved += moved.map(|_| 1).sum::<u64>();
                return Ok(());
            }
            if is_settled {
                // What is over stays so, whoever looks at the records anew.
                restarted = true;
                for host in 0..2 {
                    self.happen(self.now, Step::Fault(Fault::Daemon(host)), false)?;
                }
            }
            // What is in doubt for so long now is left to an operator.
            if self.now > resolved_at {
                resolved_at = self.now + 30_000;
                self.operate()?;
            }
            let (at, step) = self.next();
            match step {
                Some(step) if at <= until => self.happen(at, step, false)?,
                Some(_) | None => self.now = resolved_at.max(self.now) + 1,
            }
        }
        Err(self.world.left())
    }

    /// What comes next by itself, and when.
    fn next(&mut self) -> (u64, Option<Step>) {
        let mut next = (u64::MAX, None);
        let mut consider = |at: u64, step: Step| {
            if at < next.0 {
                next = (at, Some(step));
            }
        };
        for (at, letter) in &self.letters {
            consider(*at, Step::Letter(*letter));
        }
        for at in self.world.places() {
            let side = self.world.side(at);
            for migration in side.present.iter().chain(&side.settling) {
                if let Some(due) = migration.retry_at {
                    consider(due.max(self.now), Step::Retry(at, migration.machine.id()));
                }
            }
            if let Some(due) = side.present.as_ref().and_then(|migration| migration.deadline_at) {
                consider(due.max(self.now), Step::Deadline(at));
            }
        }
        for step in self.world.steps() {
            let mean = match step {
                Step::Call(_) | Step::News(..) | Step::Cont(_) => 1,
                Step::Motion(_, _, Motion::Copies) => 100,
                Step::Motion(_, _, Motion::Reconnects) => 1_000,
                Step::Motion(..) => 5,
                Step::LostClient(_) => 50,
                Step::Daemon(_) | Step::Room(_) | Step::Link => 3_000,
                Step::Letter(_)
                | Step::Retry(..)
                | Step::Deadline(_)
                | Step::Wish(..)
                | Step::Migrate(..)
                | Step::Operator(..)
                | Step::Fault(_) => 1,
            };
            let delay = 1 + self.random.up_to(2 * mean);
            consider(self.now + delay, step);
        }
        next
    }

    fn happen(&mut self, at: u64, step: Step, unkind: bool) -> Result<(), Violation> {
        self.now = self.now.max(at);
        if let Step::Letter(letter) = step {
            let place = self.letters.iter().position(|(when, known)| *when == at && *known == letter);
            if let Some(place) = place {
                self.letters.swap_remove(place);
            }
        }
        self.ended.events += 1;
        self.ended.faults += u64::from(matches!(step, Step::Fault(_)));
        self.story.add(self.now, step);
        self.world.happen(self.now, step);
        for letter in std::mem::take(&mut self.world.outbox) {
            self.send(letter, unkind);
        }
        self.world.violation.map_or(Ok(()), Err)
    }

    /// The network: it loses, repeats, delays and reorders.
    fn send(&mut self, letter: Letter, unkind: bool) {
        if !self.world.link || (unkind && self.random.below(8) == 0) {
            return;
        }
        let copies = if unkind && self.random.below(16) == 0 { 2 } else { 1 };
        for _ in 0..copies {
            let late = unkind && self.random.below(8) == 0;
            let delay = if late { self.random.up_to(10_000) } else { self.random.up_to(4) };
            self.letters.push((self.now + 1 + delay, letter));
        }
    }

    fn fault(&mut self) -> Option<Step> {
        let host = self.random.below(2);
        let up = self.world.hosts[host].up;
        Some(Step::Fault(match self.random.below(16) {
            0 | 1 if up => Fault::Daemon(host),
            2 | 3 if up => return self.cut(),
            4 if self.deadly => Fault::Power(host),
            5 | 6 if self.world.link => Fault::Link,
            7 if !self.world.hosts[host].full => Fault::Full { host, lies: false },
            8 if !self.world.hosts[host].full => Fault::Full { host, lies: true },
            9 => Fault::Silence,
            _ => {
                let mut faults = self.world.faults();
                faults.retain(|fault| self.deadly || !matches!(fault, Fault::Qemu(..)));
                let number = self.random.below(faults.len().max(1));
                *faults.get(number)?
            }
        }))
    }

    /// The daemon dies in the middle of what it does next.
    fn cut(&mut self) -> Option<Step> {
        let effects = self.random.below(5);
        Some(Step::Fault(Fault::DaemonAfter(u8::try_from(effects).ok()?)))
    }

    fn wish(&mut self) -> Option<Step> {
        let at = self.anywhere();
        let is_off = !self.world.guests[at.guest].qemus.iter().any(|qemu| qemu.alive);
        let wish = if is_off { Wish::Start } else { Wish::ALL[self.random.below(Wish::ALL.len())] };
        // What ends a guest ends its story; most are to be long.
        let ends = matches!(wish, Wish::Destroy | Wish::PowerOff);
        (self.world.hosts[at.host].up && (!ends || self.random.below(4) == 0)).then_some(Step::Wish(at, wish))
    }

    fn migration(&mut self) -> Option<Step> {
        let at = self.anywhere();
        self.world.held(at)?;
        let coordination =
            if self.random.below(2) == 0 { Coordination::Direct } else { Coordination::PeerToPeer };
        let live = self.random.below(4) != 0;
        let postcopy = live && self.random.below(3) == 0;
        let leave_paused = !postcopy && self.random.below(8) == 0;
        self.ended.migrations += 1;
        Some(Step::Migrate(at, Plan { coordination, live, postcopy, leave_paused, was_running: true }))
    }

    fn anywhere(&mut self) -> At {
        At { guest: self.random.below(self.world.guests.len()), host: self.random.below(2) }
    }

    /// An operator says of every case that is left what is so.
    fn operate(&mut self) -> Result<(), Violation> {
        for at in self.world.places().collect::<Vec<_>>() {
            let Some(doubt) = self.world.doubt(at) else { continue };
            self.ended.operators += 1;
            self.happen(self.now, Step::Operator(at, self.world.is_here(at)), false)?;
            if matches!(doubt, Doubt::NoWord | Doubt::NoEvidence) {
                return Err(Violation::Left("a doubt that contact should have settled"));
            }
        }
        Ok(())
    }
}

/// A small, fast and well-mixed sequence (SplitMix64): the same everywhere for the same seed.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, which is left out.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.draw() % end).unwrap_or(0)
    }

    /// From 0 to `last`, which is included.
    fn up_to(&mut self, last: u64) -> u64 {
        self.draw() % last.saturating_add(1)
    }
}
