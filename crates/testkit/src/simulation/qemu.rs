//! What QEMUs do by themselves, and what their monitors report of it.
//!
//! ```text
//! Active ──> PreSwitchover ══continue══> Device ──> Completed
//!                              ╚═══════> PostcopyStarting ──> Postcopy <──> PostcopyPaused
//!                                                                 └──> Completed
//! ```

use ferry_migration::{destination as to, source as from};
use serde::{Deserialize, Serialize};

use super::hands::report;
use super::world::{At, Copy, Launch, Machine, World};

/// What one QEMU can do next without anybody's help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Motion {
    /// Its copy goes a step further.
    Copies,
    /// The channel of a post-copy is made anew.
    Reconnects,
    /// Nobody reads its stream any more.
    FindsNoReader,
    /// What was sent arrives.
    Receives,
    /// All that has arrived is loaded.
    Loads,
    /// Its stream ended before all had come: it exits.
    Exits,
    /// It obeys `cont`.
    Starts,
}

/// What a driver can be told next of the QEMU that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum News {
    /// The copy went over to another state.
    Copy,
    /// The CPUs have started, or stopped.
    Runs,
    /// All of an incoming guest is loaded.
    Whole,
    /// The process is gone.
    Death,
}

impl World {
    /// What the QEMUs of a guest can do.
    pub(crate) fn motions(&self, guest: usize) -> Vec<(Launch, Motion)> {
        let mut motions = Vec::new();
        let both_up = self.hosts.iter().all(|host| host.up);
        for qemu in self.guests[guest].qemus.iter().filter(|qemu| qemu.alive) {
            let reader = self.receiver_of(guest, qemu).filter(|to| to.alive);
            let whole = reader.is_some_and(|to| to.whole);
            let copies = self.link
                && reader.is_some()
                && match qemu.copy {
                    Copy::Active | Copy::PostcopyStarting => true,
                    Copy::Postcopy => whole,
                    Copy::Device
                    | Copy::None
                    | Copy::PreSwitchover
                    | Copy::PostcopyPaused
                    | Copy::Completed
                    | Copy::Failed
                    | Copy::Cancelled => false,
                };
            // The last of it fits into the socket, whether or not the network takes it.
            let copies = copies || (qemu.copy == Copy::Device && reader.is_some());
            if copies {
                motions.push((qemu.launch, Motion::Copies));
            }
            if qemu.copy == Copy::PostcopyPaused && self.link && reader.is_some() && both_up {
                motions.push((qemu.launch, Motion::Reconnects));
            }
            if reader.is_none() && qemu.copy.can_fail() {
                motions.push((qemu.launch, Motion::FindsNoReader));
            }
            if qemu.starting {
                motions.push((qemu.launch, Motion::Starts));
            }
            if !qemu.incoming || qemu.whole {
                continue;
            }
            let sender = self.guests[guest].qemus.iter().find(|from| from.to == Some(qemu.launch));
            let package =
                sender.is_some_and(|from| matches!(from.copy, Copy::PostcopyStarting | Copy::Postcopy));
            let ended = qemu.connected
                && !qemu.half_open
                && sender.is_none_or(|from| {
                    matches!(from.copy, Copy::Failed | Copy::Cancelled) || (!from.alive && !qemu.sent)
                });
            if qemu.arrived || (package && self.link) {
                motions.push((qemu.launch, Motion::Loads));
            } else if qemu.sent && self.link {
                motions.push((qemu.launch, Motion::Receives));
            } else if ended {
                motions.push((qemu.launch, Motion::Exits));
            }
        }
        motions
    }

    pub(crate) fn moves(&mut self, guest: usize, launch: Launch, motion: Motion) {
        match motion {
            Motion::Copies => self.copies(guest, launch),
            Motion::Reconnects => self.set_copy(guest, launch, Copy::Postcopy),
            Motion::FindsNoReader => self.break_copy(guest, launch, Copy::Failed),
            Motion::Receives => {
                if let Some(qemu) = self.qemu_mut(guest, launch) {
                    qemu.arrived = true;
                }
            }
            Motion::Loads => {
                if let Some(qemu) = self.qemu_mut(guest, launch) {
                    qemu.whole = true;
                    qemu.sent = true;
                    qemu.arrived = true;
                }
            }
            Motion::Exits => {
                if let Some(qemu) = self.qemu_mut(guest, launch) {
                    qemu.alive = false;
                }
            }
            Motion::Starts => {
                if let Some(qemu) = self.qemu_mut(guest, launch) {
                    qemu.starting = false;
                }
                self.runs(guest, launch);
            }
        }
    }

    fn copies(&mut self, guest: usize, launch: Launch) {
        let Some(qemu) = self.qemu_mut(guest, launch) else { return };
        let to = qemu.to;
        match qemu.copy {
            Copy::Active => {
                qemu.copy = Copy::PreSwitchover;
                qemu.ran_before = qemu.runs;
                qemu.runs = false;
            }
            Copy::PostcopyStarting => qemu.copy = Copy::Postcopy,
            Copy::Device | Copy::Postcopy => {
                qemu.copy = Copy::Completed;
                let stale = qemu.stale;
                let link = self.link;
                if let Some(to) = to.and_then(|to| self.qemu_mut(guest, to)).filter(|to| !to.whole) {
                    to.sent = true;
                    to.stale = stale;
                    // With the network away it lies in this host's socket.
                    to.arrived = link;
                }
            }
            Copy::None
            | Copy::PreSwitchover
            | Copy::PostcopyPaused
            | Copy::Completed
            | Copy::Failed
            | Copy::Cancelled => {}
        }
    }

    fn set_copy(&mut self, guest: usize, launch: Launch, copy: Copy) {
        if let Some(qemu) = self.qemu_mut(guest, launch) {
            qemu.copy = copy;
        }
    }

    /// The channel between two QEMUs breaks.
    pub(crate) fn cut_stream(&mut self, guest: usize, launch: Launch) {
        match self.qemu(guest, launch).map(|qemu| qemu.copy) {
            Some(Copy::Postcopy) => self.set_copy(guest, launch, Copy::PostcopyPaused),
            Some(copy) if copy.can_fail() => self.break_copy(guest, launch, Copy::Failed),
            Some(_) | None => {}
        }
    }

    /// What the driver of a place has not heard yet. Events of one QEMU come in its order, but states that it only
    /// passed through may be left out.
    pub(crate) fn news(&self, at: At) -> Option<News> {
        if !self.hosts[at.host].up {
            return None;
        }
        let qemu = self.held(at)?;
        if !qemu.alive {
            return Some(News::Death);
        }
        let told = qemu.told;
        if told.copy != qemu.copy {
            Some(News::Copy)
        } else if told.whole != qemu.whole {
            Some(News::Whole)
        } else if told.runs != qemu.runs {
            Some(News::Runs)
        } else {
            None
        }
    }

    pub(crate) fn hear_news(&mut self, at: At, news: News) {
        let is_present = self
            .side(at)
            .present
            .as_ref()
            .is_some_and(|migration| self.side(at).guest == Some(migration.launch));
        let is_open = self.side(at).present.as_ref().is_some_and(|migration| migration.open);
        let Some(qemu) = self.held_mut(at) else { return };
        let report = report(qemu);
        match news {
            News::Copy => qemu.told.copy = qemu.copy,
            News::Runs => qemu.told.runs = qemu.runs,
            News::Whole => qemu.told.whole = true,
            News::Death => return self.hear_of_death(at),
        }
        let runs = qemu.runs;
        match (self.machine(at), news) {
            (Some(Machine::Out(_)), News::Copy) if is_present => {
                if let Some(report) = report {
                    let _ = self.feed_source(at, from::Input::Qemu(report));
                }
            }
            (Some(Machine::Out(_)), News::Runs) if is_open && runs => {
                let _ = self.feed_source(at, from::Input::Qemu(from::Report::Resumed));
            }
            (Some(Machine::In(_)), News::Whole) if is_present => {
                let _ = self.feed_destination(at, to::Input::Qemu(to::Report::Complete));
            }
            (Some(Machine::In(_)), News::Runs) if is_open && runs => {
                let _ = self.feed_destination(at, to::Input::Qemu(to::Report::Resumed));
            }
            _ => {}
        }
    }

    /// `cont` was refused to a guest that has arrived, and its driver hears of it.
    pub(crate) fn refuse_start(&mut self, at: At) {
        let holds = self
            .side(at)
            .present
            .as_ref()
            .is_some_and(|migration| self.side(at).guest == Some(migration.launch));
        if holds && self.hosts[at.host].up && matches!(self.machine(at), Some(Machine::In(_))) {
            let _ = self.feed_destination(at, to::Input::Qemu(to::Report::StartRefused));
        }
    }

    /// The driver's `cont`, after a migration that did not happen.
    pub(crate) fn continues(&mut self, at: At) {
        self.side_mut(at).resuming = false;
        let Some(qemu) = self.held(at).copied().filter(|qemu| qemu.alive) else { return };
        let refused = matches!(qemu.copy, Copy::Device | Copy::PostcopyStarting) || qemu.copy.is_past();
        if !refused && !qemu.runs {
            self.runs(at.guest, qemu.launch);
        }
        // It says so whether or not it had been running already.
        if let Some(qemu) = self.held_mut(at) {
            qemu.told.runs = !qemu.runs;
        }
    }
}
