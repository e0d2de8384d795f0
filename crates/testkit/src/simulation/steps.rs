//! Everything that can happen next, and its happening. Called by the random schedules and by their replay.

use std::fmt;

use ferry_migration::coordinator::Next;
use ferry_migration::{Coordination, GuestIs, MigrationId, Plan};
use serde::{Deserialize, Serialize};

use super::people::Wish;
use super::qemu::{Motion, News};
use super::world::{At, Copy, Launch, Letter, World};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A coordinator makes its next call.
    Call(usize),
    /// A daemon notices that a coordinator is gone.
    LostClient(At),
    /// A QEMU goes on by itself.
    Motion(usize, Launch, Motion),
    /// A driver is told what its QEMU has done.
    News(At, News),
    /// A driver's `cont` is taken.
    Cont(At),
    /// A word arrives.
    Letter(Letter),
    Retry(At, MigrationId),
    Deadline(At),
    /// A daemon starts.
    Daemon(usize),
    /// A disk has room.
    Room(usize),
    /// The hosts reach each other again.
    Link,
    /// A user interferes.
    Wish(At, Wish),
    /// Somebody wants the guest on the other host.
    Migrate(At, Plan),
    /// An operator says whether a guest in doubt is on this host.
    Operator(At, bool),
    Fault(Fault),
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// A daemon dies: now, or after so many more effects.
    Daemon(usize),
    DaemonAfter(u8),
    Qemu(usize, Launch),
    /// The daemon and every QEMU of a host.
    Power(usize),
    ClientDies(usize),
    /// One connection of a client breaks; `true`: that to the source.
    ClientLoses(usize, bool),
    Stream(usize, Launch),
    Link,
    /// `lies`: what is refused is written all the same.
    Full {
        host: usize,
        lies: bool,
    },
    /// `cont` is refused.
    Refused(At),
    /// The next question to a monitor is not answered.
    Silence,
}

impl World {
    /// What happens by itself, without a clock's help, once everything works.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            if matches!(client.next, Next::Call(_)) && !client.waits {
                steps.push(Step::Call(number));
            }
        }
        for at in self.places() {
            if self.has_lost_client(at) {
                steps.push(Step::LostClient(at));
            }
            if let Some(news) = self.news(at) {
                steps.push(Step::News(at, news));
            }
            if self.side(at).resuming && self.hosts[at.host].up {
                steps.push(Step::Cont(at));
            }
        }
        for guest in 0..self.guests.len() {
            let motions = self.motions(guest);
            steps.extend(motions.into_iter().map(|(launch, motion)| Step::Motion(guest, launch, motion)));
        }
        for (number, host) in self.hosts.iter().enumerate() {
            if !host.up {
                steps.push(Step::Daemon(number));
            }
            if host.full {
                steps.push(Step::Room(number));
            }
        }
        if !self.link {
            steps.push(Step::Link);
        }
        steps
    }

    pub(crate) fn happen(&mut self, now: u64, step: Step) {
        self.now = now;
        match step {
            Step::Call(number) => self.call(number),
            Step::LostClient(at) => self.notice_lost_client(at),
            Step::Motion(guest, launch, motion) => self.moves(guest, launch, motion),
            Step::News(at, news) => self.hear_news(at, news),
            Step::Cont(at) => self.continues(at),
            Step::Letter(letter) => self.hear(letter),
            Step::Retry(at, id) => self.retry(at, id),
            Step::Deadline(at) => self.deadline(at),
            Step::Daemon(host) => self.start_daemon(host),
            Step::Room(host) => {
                self.hosts[host].full = false;
                self.hosts[host].lies = false;
            }
            Step::Link => self.link = true,
            Step::Wish(at, wish) => {
                self.wish(at, wish);
            }
            Step::Migrate(at, plan) => self.migrate(at, plan),
            Step::Operator(at, here) => {
                self.resolve(at, if here { GuestIs::Here } else { GuestIs::There });
            }
            Step::Fault(fault) => self.fault(fault),
        }
        // A power cut in one step does not wait for the next.
        if !matches!(step, Step::Fault(Fault::DaemonAfter(_))) {
            self.cut = None;
        }
        self.bury();
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Daemon(host) => self.crash(host),
            Fault::DaemonAfter(effects) => self.cut = Some(effects),
            Fault::Qemu(guest, launch) => self.strike(guest, launch),
            Fault::Power(host) => {
                for guest in 0..self.guests.len() {
                    let launches: Vec<_> = self.guests[guest]
                        .qemus
                        .iter()
                        .filter(|qemu| qemu.host == host && qemu.alive)
                        .map(|qemu| qemu.launch)
                        .collect();
                    for launch in launches {
                        self.strike(guest, launch);
                        self.lose_in_flight(guest, launch);
                    }
                }
                self.crash(host);
            }
            Fault::ClientDies(number) => self.client_dies(number),
            Fault::ClientLoses(number, source) => self.lose(number, source),
            Fault::Stream(guest, launch) => self.cut_stream(guest, launch),
            Fault::Link => {
                self.link = false;
                for guest in 0..self.guests.len() {
                    // A channel past the switch pauses; others live through a cut until somebody gives up.
                    let past: Vec<_> = self.guests[guest]
                        .qemus
                        .iter()
                        .filter(|qemu| qemu.copy == Copy::Postcopy)
                        .map(|qemu| qemu.launch)
                        .collect();
                    past.into_iter().for_each(|launch| self.cut_stream(guest, launch));
                }
                for number in 0..self.clients.len() {
                    if self.clients[number].plan.coordination == Coordination::PeerToPeer {
                        self.lose(number, false);
                    }
                }
            }
            Fault::Full { host, lies } => {
                self.hosts[host].full = true;
                self.hosts[host].lies = lies;
            }
            Fault::Refused(at) => {
                if let Some(qemu) = self.held_mut(at) {
                    qemu.starting = false;
                }
                self.refuse_start(at);
            }
            Fault::Silence => self.silent = true,
        }
    }

    /// What a host that lost its power had sent and the network had not taken is gone, and nobody says farewell.
    fn lose_in_flight(&mut self, guest: usize, launch: Launch) {
        let to = self.qemu(guest, launch).and_then(|qemu| qemu.to);
        if let Some(to) = to.and_then(|to| self.qemu_mut(guest, to)).filter(|to| !to.arrived) {
            to.sent = false;
            to.half_open = true;
        }
    }

    /// Faults that can strike now, apart from those of hosts and links.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (guest, each) in self.guests.iter().enumerate() {
            for qemu in each.qemus.iter().filter(|qemu| qemu.alive) {
                faults.push(Fault::Qemu(guest, qemu.launch));
                if qemu.copy.can_fail() || qemu.copy == Copy::Postcopy {
                    faults.push(Fault::Stream(guest, qemu.launch));
                }
                if qemu.starting {
                    faults.push(Fault::Refused(At { guest, host: qemu.host }));
                }
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            let direct = client.plan.coordination == Coordination::Direct;
            if matches!(client.next, Next::Over(_)) {
                continue;
            }
            if direct {
                faults.push(Fault::ClientDies(number));
            }
            if direct && client.source {
                faults.push(Fault::ClientLoses(number, true));
            }
            if client.destination {
                faults.push(Fault::ClientLoses(number, false));
            }
        }
        faults
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |at: &At| format!("guest {} on host {}", at.guest, at.host);
        match self {
            Self::Call(number) => write!(f, "client {number} calls"),
            Self::LostClient(at) => write!(f, "{}: its client is seen to be gone", place(at)),
            Self::Motion(guest, launch, motion) => write!(f, "guest {guest}: QEMU {launch}: {motion:?}"),
            Self::News(at, news) => write!(f, "{}: QEMU reports {news:?}", place(at)),
            Self::Cont(at) => write!(f, "{}: QEMU takes cont", place(at)),
            Self::Letter(Letter { to, id, word, answers }) => {
                write!(f, "{} hears {word} of {}", place(to), id.as_bytes()[1])?;
                answers.map_or(Ok(()), |said| write!(f, ", the answer to {said}"))
            }
            Self::Retry(at, id) => write!(f, "{}: retry of {}", place(at), id.as_bytes()[1]),
            Self::Deadline(at) => write!(f, "{}: deadline", place(at)),
            Self::Daemon(host) => write!(f, "the daemon of host {host} starts"),
            Self::Room(host) => write!(f, "the disk of host {host} has room"),
            Self::Link => f.write_str("the hosts reach each other again"),
            Self::Wish(at, wish) => write!(f, "{}: a user: {wish:?}", place(at)),
            Self::Migrate(at, plan) => write!(f, "{}: is to leave, {plan:?}", place(at)),
            Self::Operator(at, here) => {
                write!(f, "{}: an operator: it is {}", place(at), if *here { "here" } else { "there" })
            }
            Self::Fault(fault) => write!(f, "FAULT {fault:?}"),
        }
    }
}
