//! A daemon that starts again: it takes over what it finds on disk and of QEMUs, as ferryd's `restart` does.

use ferry_migration::Standing;
use ferry_migration::destination::{self, Destination};
use ferry_migration::journal::{SourceStatus, Status};
use ferry_migration::plan::{BestEffort, Peer};
use ferry_migration::source::{self, Source};

use super::super::world::{At, Broken, Copy, Machine, Migration, Qemu, Records, World};

impl World {
    /// The daemon of a host starts.
    pub(crate) fn start_daemon(&mut self, host: usize) {
        self.hosts[host].up = true;
        for guest in 0..self.guests.len() {
            // A daemon may die again over one guest: the next start looks at all.
            if self.hosts[host].up {
                self.adopt(At { guest, host });
            }
        }
    }

    fn adopt(&mut self, at: At) {
        let recorded = self.side(at).recorded;
        let alive = recorded.and_then(|launch| self.qemu(at.guest, launch)).is_some_and(|qemu| qemu.alive);
        let side = self.side_mut(at);
        if alive {
            side.guest = recorded;
        } else {
            side.recorded = None;
            side.stopped = false;
        }
        if let Some(qemu) = self.held_mut(at) {
            // Connected anew: the state as it is now, and events from here on.
            qemu.told.copy = qemu.copy;
            qemu.told.runs = qemu.runs;
            qemu.told.whole = qemu.whole;
        }
        let settled = |records: &Records| {
            let idle = records.status == Status::Source(SourceStatus::Kept) && records.peer.is_none();
            records.status.is_settled() || idle
        };
        self.side_mut(at).journal.retain(|records| !settled(records));
        let mut left = self.side(at).journal.clone();
        let newest = left.pop();
        for records in left {
            if self.broken == Some(Broken::AllRecovered) {
                self.recover(at, records, true);
                self.make_room(at);
            } else {
                self.settle(at, records);
            }
        }
        if let Some(records) = newest {
            self.recover(at, records, false);
        }
    }

    /// The last migration of the guest, over what QEMU is doing.
    fn recover(&mut self, at: At, records: Records, all: bool) {
        if !self.hosts[at.host].up {
            return;
        }
        let Records { id, epoch, status, plan, peer, launch } = records;
        let side = self.side(at);
        let (its_guest, stopped) = (side.guest == Some(launch), side.stopped);
        let is_past = (epoch < side.epoch || (side.guest.is_some() && !its_guest)) && !all;
        let qemu = self.held(at).copied().filter(|_| its_guest);
        match status {
            Status::Source(SourceStatus::Done) if !its_guest => {
                let side = self.side_mut(at);
                side.moved = side.guest.is_none();
            }
            Status::Source(_) if is_past => self.settle(at, records),
            Status::Source(status) => {
                let seen = seen_by_source(qemu.as_ref());
                if let Some((machine, effects)) = Source::recover(id, plan, peer, status, seen) {
                    let mut migration = found(Machine::Out(machine), records);
                    migration.target = qemu.and_then(|qemu| qemu.to);
                    migration.suspended = stopped;
                    self.side_mut(at).present = Some(migration);
                    let follow = self.perform_source_effects(at, effects);
                    self.run_source(at, follow);
                }
            }
            Status::Destination(status) => {
                let seen = seen_by_destination(qemu.as_ref());
                let peer = peer.unwrap_or(Peer::Mute(BestEffort::CookieLost));
                if let Some((machine, effects)) = Destination::recover(id, plan, peer, status, seen) {
                    self.side_mut(at).present = Some(found(Machine::In(machine), records));
                    let follow = self.perform_destination_effects(at, effects);
                    self.run_destination(at, follow);
                }
            }
        }
    }

    /// An earlier migration: only its end is told.
    fn settle(&mut self, at: At, records: Records) {
        if !self.hosts[at.host].up {
            return;
        }
        let Records { id, status, plan, peer, launch, .. } = records;
        match status {
            Status::Source(status) => {
                let Some((machine, effects)) = Source::settle(id, plan, peer, status) else { return };
                self.side_mut(at).present =
                    Some(Migration { open: false, ..found(Machine::Out(machine), records) });
                let follow = self.perform_source_effects(at, effects);
                self.run_source(at, follow);
            }
            Status::Destination(status) => {
                let lives = self.side(at).guest == Some(launch);
                let peer = peer.unwrap_or(Peer::Mute(BestEffort::CookieLost));
                let Some((machine, effects)) = Destination::settle(id, plan, peer, status, lives) else {
                    return;
                };
                self.side_mut(at).present =
                    Some(Migration { open: false, ..found(Machine::In(machine), records) });
                let follow = self.perform_destination_effects(at, effects);
                self.run_destination(at, follow);
            }
        }
        if self.hosts[at.host].up {
            self.make_room(at);
        }
    }
}

fn found(machine: Machine, records: Records) -> Migration {
    let open = match machine.standing() {
        Standing::Leaving | Standing::HandedOver | Standing::InDoubt(_) | Standing::Arriving => true,
        Standing::Here | Standing::Away => false,
    };
    Migration { open, ..Migration::new(machine, records.epoch, records.launch) }
}

fn seen_by_source(qemu: Option<&Qemu>) -> source::Seen {
    use source::Seen;
    let Some(qemu) = qemu else { return Seen::Gone };
    match qemu.copy {
        Copy::None | Copy::Failed | Copy::Cancelled => Seen::Idle,
        Copy::Active => Seen::Copying,
        Copy::PreSwitchover => Seen::PreSwitchover,
        Copy::Device => Seen::Switching,
        Copy::PostcopyStarting | Copy::Postcopy | Copy::PostcopyPaused => Seen::Postcopy,
        Copy::Completed if qemu.runs => Seen::Running,
        Copy::Completed if qemu.ran_on => Seen::Stopped,
        Copy::Completed => Seen::Completed,
    }
}

fn seen_by_destination(qemu: Option<&Qemu>) -> destination::Seen {
    use destination::Seen;
    match qemu {
        None => Seen::Gone,
        Some(qemu) if qemu.runs => Seen::Running,
        Some(qemu) if qemu.whole => Seen::Complete,
        Some(_) => Seen::Incomplete,
    }
}
