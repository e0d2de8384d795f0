//! Those who call: coordinators, users, operators. They know of a guest what its daemons tell them.

use ferry_domain::job::Holder;
use ferry_domain::{Admission, JobSlot, Operation, State};
use ferry_migration::coordinator::{Call, Coordinator, FinishOutcome, Kind, Next, Outcome, Reply};
use ferry_migration::destination::{self as to, Destination};
use ferry_migration::journal::{SourceStatus, Status};
use ferry_migration::source::{self as from, Source};
use ferry_migration::{Coordination, Epoch, Evidence, GuestIs, MigrationId, Peer, Plan};
use ferry_rpc::values::{PausedReason, RunningReason, ShutoffReason};
use serde::{Deserialize, Serialize};

use super::hands::PATIENCE;
use super::world::{At, Broken, Launch, Machine, Migration, Pending, Qemu, Told, World};

/// Who coordinates one migration: a client of both hosts, or the source's daemon.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The guest on the host that it leaves.
    pub(crate) from: At,
    pub(crate) plan: Plan,
    coordinator: Coordinator,
    pub(crate) next: Next,
    /// The call was made and not answered.
    pub(crate) waits: bool,
    /// The connections stand.
    pub(crate) source: bool,
    pub(crate) destination: bool,
    names: Option<(MigrationId, Epoch)>,
    target: Option<Launch>,
    /// Perform's cookie carries the grant.
    granted: bool,
    /// Finish's cookie carries the destination's word.
    running: bool,
}

/// What a user does to a guest on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    Suspend,
    Resume,
    Destroy,
    Abort,
    StartPostcopy,
    Start,
    /// The guest powers itself off.
    PowerOff,
}

impl Wish {
    pub(crate) const ALL: [Self; 7] = [
        Self::Suspend,
        Self::Resume,
        Self::Destroy,
        Self::Abort,
        Self::StartPostcopy,
        Self::Start,
        Self::PowerOff,
    ];
}

impl Client {
    /// Whether it has been told that the guest moved.
    pub(crate) fn has_moved(&self) -> bool {
        self.next == Next::Over(Outcome::Moved)
    }
}

impl World {
    /// Somebody begins to migrate a guest away from this place.
    pub(crate) fn migrate(&mut self, from: At, plan: Plan) {
        let (coordinator, next) = Coordinator::new(Kind::Live);
        self.clients.push(Client {
            from,
            plan,
            coordinator,
            next,
            waits: false,
            source: true,
            destination: true,
            names: None,
            target: None,
            granted: false,
            running: false,
        });
    }

    /// A coordinator makes its next call.
    pub(crate) fn call(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Next::Call(call) = client.next else { return };
        client.waits = true;
        let (from, to) = (client.from, client.from.other());
        let at_source = matches!(call, Call::Begin | Call::Perform | Call::Confirm(_));
        let reachable = if at_source {
            client.source && self.hosts[from.host].up
        } else {
            client.destination && self.hosts[to.host].up && self.reaches(number, to.host)
        };
        if !reachable {
            return self.reply(number, Reply::Lost);
        }
        let made = match call {
            Call::Begin => self.begin(number, from),
            Call::Prepare => self.prepare(number, to),
            Call::Perform => self.perform(number, from),
            Call::Finish { cancelled } => self.finish(number, to, cancelled),
            Call::Confirm(outcome) => self.confirm(number, from, outcome),
            Call::Look => {
                let runs = self.held(to).is_some_and(|qemu| qemu.told.runs);
                self.reply(number, if runs { Reply::Ok } else { Reply::Failed });
                Some(())
            }
        };
        if made.is_none() {
            self.reply(number, Reply::Failed);
        }
    }

    /// The source's daemon needs the network for the destination; a client has its own way.
    fn reaches(&self, number: usize, host: usize) -> bool {
        let client = &self.clients[number];
        client.plan.coordination == Coordination::Direct || client.from.host == host || self.link
    }

    fn begin(&mut self, number: usize, at: At) -> Option<()> {
        let running = self.held(at)?.told.runs;
        self.admits(at, Operation::MigrateOut)?;
        self.guests[at.guest].migrations += 1;
        let (guest, count) = (u8::try_from(at.guest).ok()?, self.guests[at.guest].migrations);
        let id = MigrationId::from_bytes([guest, count, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let epoch = self.side(at).epoch.next();
        let client = &mut self.clients[number];
        client.plan.was_running = running;
        client.plan.leave_paused |= !running;
        client.plan.postcopy &= !client.plan.leave_paused;
        client.names = Some((id, epoch));
        let plan = client.plan;
        self.make_room(at);
        let launch = self.side(at).guest?;
        let (machine, effects) = Source::begin(id, plan);
        let pending = Pending { begin: true, ..Pending::default() };
        let migration = Migration {
            client: Some(number),
            pending,
            ..Migration::new(Machine::Out(machine), epoch, launch)
        };
        self.side_mut(at).present = Some(migration);
        self.start_source(at, effects);
        Some(())
    }

    fn prepare(&mut self, number: usize, at: At) -> Option<()> {
        let client = &self.clients[number];
        let ((id, epoch), plan) = (client.names?, client.plan);
        // A newer migration from the host that the guest was sent to: so it ran there.
        let earlier = self.side(at).present.as_ref();
        if earlier
            .is_some_and(|migration| matches!(migration.machine, Machine::Out(_)) && epoch > migration.epoch)
        {
            let _ = self.feed_source(at, from::Input::ComesBack);
        }
        if !self.hosts[at.host].up {
            return Some(());
        }
        let side = self.side(at);
        let busy = side.guest.is_some() || side.present.as_ref().is_some_and(|migration| migration.open);
        let known = side.journal.iter().any(|records| records.id == id);
        if busy || known {
            return None;
        }
        self.admits(at, Operation::MigrateIn)?;
        self.make_room(at);
        self.guests[at.guest].launches += 1;
        let launch = self.guests[at.guest].launches;
        self.clients[number].target = Some(launch);
        let (machine, effects) = Destination::prepare(id, plan, Peer::Ferry);
        let pending = Pending { prepare: true, ..Pending::default() };
        let migration = Migration {
            client: Some(number),
            pending,
            ..Migration::new(Machine::In(machine), epoch, launch)
        };
        self.side_mut(at).present = Some(migration);
        self.start_destination(at, effects);
        Some(())
    }

    fn perform(&mut self, number: usize, at: At) -> Option<()> {
        let target = self.clients[number].target;
        let id = self.clients[number].names?.0;
        let migration =
            self.side_mut(at).present.as_mut().filter(|migration| migration.machine.id() == id)?;
        migration.target = target;
        migration.pending.perform = true;
        self.feed_source(at, from::Input::Perform(Peer::Ferry)).ok()
    }

    fn finish(&mut self, number: usize, at: At, cancelled: bool) -> Option<()> {
        let client = &self.clients[number];
        let (id, granted) = (client.names?.0, client.granted);
        let now = self.now;
        let migration = self.side_mut(at).present.as_mut()?;
        if !matches!(migration.machine, Machine::In(_)) {
            return None;
        }
        let proven = granted && !cancelled && migration.machine.id() == id;
        migration.pending.finish = Some(cancelled);
        migration.deadline_at = Some(now + PATIENCE);
        let evidence = if proven { Evidence::Granted } else { Evidence::None };
        let fed = self.feed_destination(at, to::Input::Finish { cancelled, evidence });
        if fed.is_err() {
            self.note_pending(at, |pending| pending.finish = None);
        }
        fed.ok()
    }

    fn confirm(&mut self, number: usize, at: At, outcome: FinishOutcome) -> Option<()> {
        let client = &self.clients[number];
        let (id, running) = (client.names?.0, client.running);
        let cancelled = outcome != FinishOutcome::Running;
        let obeyed = self.broken == Some(Broken::ConfirmObeyed) && cancelled;
        let migration = self.side_mut(at).present.as_mut()?;
        if !matches!(migration.machine, Machine::Out(_)) {
            return None;
        }
        let evidence = match () {
            () if obeyed => Evidence::Declined,
            () if running && !cancelled && migration.machine.id() == id => Evidence::Running,
            () => Evidence::None,
        };
        migration.pending.confirm = Some(cancelled);
        let fed = self.feed_source(at, from::Input::Confirm { cancelled, evidence });
        if fed.is_err() {
            self.note_pending(at, |pending| pending.confirm = None);
        }
        fed.ok()
    }

    fn note_pending(&mut self, at: At, note: impl FnOnce(&mut Pending)) {
        if let Some(migration) = &mut self.side_mut(at).present {
            note(&mut migration.pending);
        }
    }

    /// What the policy says; nothing when it refuses, or when there is nothing to do.
    fn admits(&self, at: At, operation: Operation) -> Option<()> {
        let side = self.side(at);
        let slot = match &side.present {
            Some(migration) if migration.open => match migration.machine {
                Machine::Out(_) => {
                    JobSlot::MigratingOut { holder: Holder::Perform, connection: migration.client.map(|_| 1) }
                }
                Machine::In(_) => JobSlot::MigratingIn,
            },
            Some(_) | None => JobSlot::Idle,
        };
        let state = match self.held(at) {
            None => State::ShutOff(ShutoffReason::UNKNOWN),
            Some(qemu) if qemu.told.runs => State::Running(RunningReason::UNKNOWN),
            Some(_) => State::Paused(PausedReason::UNKNOWN),
        };
        (slot.admit(operation, state, self.standing(at)) == Admission::Accept).then_some(())
    }

    /// A user's wish; what is refused changes nothing.
    pub(crate) fn wish(&mut self, at: At, wish: Wish) -> Option<()> {
        match wish {
            Wish::Suspend => {
                self.admits(at, Operation::Suspend)?;
                let open = self.side(at).present.as_ref().is_some_and(|migration| migration.open);
                let qemu = self.held_mut(at).filter(|qemu| qemu.alive)?;
                qemu.runs = false;
                qemu.told.runs = false;
                let side = self.side_mut(at);
                match &mut side.present {
                    Some(migration) if open => migration.suspended = true,
                    Some(_) | None => side.stopped = true,
                }
                Some(())
            }
            Wish::Resume => {
                self.admits(at, Operation::Resume)?;
                self.continues(at);
                let runs = self.held(at)?.runs;
                let side = self.side_mut(at);
                side.stopped &= !runs;
                Some(())
            }
            Wish::Destroy => {
                self.admits(at, Operation::Destroy)?;
                let open = self.side(at).present.as_ref().is_some_and(|migration| migration.open);
                match self.machine(at) {
                    Some(Machine::Out(_)) if open => self.feed_source(at, from::Input::Destroy).ok(),
                    Some(Machine::In(machine)) if open => {
                        machine.clone().step(to::Input::Destroy).ok()?;
                        self.held_mut(at)?.unwanted = true;
                        self.feed_destination(at, to::Input::Destroy).ok()
                    }
                    Some(_) | None => {
                        let launch = self.side(at).guest?;
                        self.end_qemu(at.guest, launch, true);
                        self.hear_of_death(at);
                        Some(())
                    }
                }
            }
            Wish::Abort => {
                self.admits(at, Operation::Abort)?;
                matches!(self.machine(at), Some(Machine::Out(_))).then_some(())?;
                self.feed_source(at, from::Input::Abort).ok()
            }
            Wish::StartPostcopy => {
                self.admits(at, Operation::StartPostcopy)?;
                matches!(self.machine(at), Some(Machine::Out(_))).then_some(())?;
                self.feed_source(at, from::Input::StartPostcopy).ok()
            }
            Wish::Start => self.start(at),
            Wish::PowerOff => {
                let qemu = self.held(at).copied().filter(|qemu| qemu.alive && qemu.runs)?;
                self.end_qemu(at.guest, qemu.launch, true);
                Some(())
            }
        }
    }

    /// Starts a definition: where the guest was last, or where it left and the other host says that it is not there.
    fn start(&mut self, at: At) -> Option<()> {
        self.admits(at, Operation::Start)?;
        let other = at.other();
        let home = !self.guests[at.guest].qemus.iter().any(|qemu| qemu.alive);
        if self.side(at).moved {
            let says_no = self.link && self.hosts[other.host].up && self.side(other).guest.is_none();
            says_no.then_some(())?;
            self.forget_departures(at);
        } else {
            // Whoever starts a guest anew sees to it that it is not on its way between the two hosts.
            let mut records = self.side(other).journal.iter();
            let at_rest = records.all(|records| records.status == Status::Source(SourceStatus::Done));
            (home && at_rest).then_some(())?;
        }
        let guest = &mut self.guests[at.guest];
        guest.launches += 1;
        (guest.given_up, guest.struck) = (false, false);
        let launch = guest.launches;
        let told = Told { runs: true, ..Told::default() };
        guest.qemus.push(Qemu { whole: true, told, ..Qemu::new(launch, at.host) });
        let side = self.side_mut(at);
        (side.guest, side.recorded, side.stopped) = (Some(launch), Some(launch), false);
        self.runs(at.guest, launch);
        Some(())
    }

    /// An operator says where the guest is.
    pub(crate) fn resolve(&mut self, at: At, guest_is: GuestIs) {
        self.note_pending(at, |pending| pending.resolve = true);
        let taken = match self.machine(at) {
            Some(Machine::Out(_)) => self.feed_source(at, from::Input::Resolve(guest_is)).is_ok(),
            Some(Machine::In(_)) => self.feed_destination(at, to::Input::Resolve(guest_is)).is_ok(),
            None => false,
        };
        if !taken {
            self.note_pending(at, |pending| pending.resolve = false);
        }
    }

    // Connections.

    /// A daemon has died: its own coordinations with it, and every connection to it.
    pub(crate) fn lose_clients_of(&mut self, host: usize) {
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            if client.from.host == host {
                if client.plan.coordination == Coordination::PeerToPeer {
                    self.client_dies(number);
                } else {
                    self.lose(number, true);
                }
            } else {
                self.lose(number, false);
            }
        }
    }

    /// One connection of a coordinator breaks.
    pub(crate) fn lose(&mut self, number: usize, to_source: bool) {
        let client = &mut self.clients[number];
        if to_source {
            client.source = false;
        } else {
            client.destination = false;
        }
        let Next::Call(call) = client.next else { return };
        let at_source = matches!(call, Call::Begin | Call::Perform | Call::Confirm(_));
        if client.waits && at_source == to_source {
            self.reply(number, Reply::Lost);
        }
    }

    pub(crate) fn client_dies(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if matches!(client.next, Next::Call(_)) {
            client.next = Next::Over(Outcome::InDoubt);
        }
        (client.source, client.destination, client.waits) = (false, false, false);
    }

    /// Whether a daemon holds a migration for a coordinator whose connection has closed.
    pub(crate) fn has_lost_client(&self, at: At) -> bool {
        let number = self.side(at).present.as_ref().and_then(|migration| migration.client);
        let closed =
            |client: &Client| if client.from.host == at.host { !client.source } else { !client.destination };
        self.hosts[at.host].up && number.is_some_and(|number| closed(&self.clients[number]))
    }

    /// It notices that.
    pub(crate) fn notice_lost_client(&mut self, at: At) {
        if let Some(migration) = &mut self.side_mut(at).present {
            migration.client = None;
        }
        let _ = match self.machine(at) {
            Some(Machine::Out(_)) => self.feed_source(at, from::Input::ClientGone).map_err(drop),
            Some(Machine::In(_)) => self.feed_destination(at, to::Input::ClientGone).map_err(drop),
            None => Ok(()),
        };
    }

    fn reply(&mut self, number: usize, reply: Reply) {
        let client = &mut self.clients[number];
        if !client.waits {
            return;
        }
        client.waits = false;
        if let (Next::Call(call), Reply::Ok) = (client.next, reply) {
            client.granted |= call == Call::Perform;
            client.running |= call == Call::Finish { cancelled: false };
        }
        let (coordinator, next) = client.coordinator.clone().step(reply);
        (client.coordinator, client.next) = (coordinator, next);
        if matches!(next, Next::Over(_)) {
            (client.source, client.destination) = (false, false);
        }
    }

    fn answer(&mut self, at: At, call: Call, reply: Reply) {
        let Some(number) = self.side(at).present.as_ref().and_then(|migration| migration.client) else {
            return;
        };
        let client = &self.clients[number];
        let asked = match (client.next, call) {
            (Next::Call(Call::Finish { .. }), Call::Finish { .. }) => true,
            (Next::Call(Call::Confirm(_)), Call::Confirm(_)) => true,
            (Next::Call(asked), call) => asked == call,
            (Next::Over(_), _) => false,
        };
        let stands = if client.from.host == at.host { client.source } else { client.destination };
        if asked && stands {
            self.reply(number, reply);
        }
    }

    pub(crate) fn answer_from_source(&mut self, at: At, answer: from::Answer) {
        use from::{Answer, Call as Asked, Fate};
        let Some(Migration { pending, .. }) = &mut self.side_mut(at).present else { return };
        let confirm = Call::Confirm(FinishOutcome::Running);
        let (call, reply) = match answer {
            Answer::Ok(Asked::Begin) if std::mem::take(&mut pending.begin) => (Call::Begin, Reply::Ok),
            Answer::Failed(Asked::Begin, _) if std::mem::take(&mut pending.begin) => {
                (Call::Begin, Reply::Failed)
            }
            Answer::Ok(Asked::Perform) if std::mem::take(&mut pending.perform) => (Call::Perform, Reply::Ok),
            Answer::Failed(Asked::Perform, _) if std::mem::take(&mut pending.perform) => {
                (Call::Perform, Reply::Failed)
            }
            Answer::Confirm(fate) => {
                let Some(cancelled) = pending.confirm.take() else { return };
                let as_claimed = cancelled == (fate == Fate::Stayed);
                (confirm, if as_claimed { Reply::Ok } else { Reply::Failed })
            }
            Answer::InDoubt(Asked::Confirm, _) | Answer::Failed(Asked::Confirm, _) => {
                if pending.confirm.take().is_none() {
                    return;
                }
                (confirm, Reply::Failed)
            }
            Answer::Ok(Asked::Resolve) | Answer::Failed(Asked::Resolve, _) => {
                pending.resolve = false;
                return;
            }
            Answer::Ok(_) | Answer::Failed(..) | Answer::InDoubt(..) => return,
        };
        self.answer(at, call, reply);
    }

    pub(crate) fn answer_from_destination(&mut self, at: At, answer: to::Answer) {
        use to::{Answer, Call as Asked, Fate};
        let Some(Migration { pending, .. }) = &mut self.side_mut(at).present else { return };
        let (call, reply) = match answer {
            Answer::Ok(Asked::Prepare) if std::mem::take(&mut pending.prepare) => (Call::Prepare, Reply::Ok),
            Answer::Failed(Asked::Prepare, _) if std::mem::take(&mut pending.prepare) => {
                (Call::Prepare, Reply::Failed)
            }
            Answer::Finish(_) | Answer::InDoubt(Asked::Finish, _) | Answer::Failed(Asked::Finish, _) => {
                let Some(cancelled) = pending.finish.take() else { return };
                let ok = answer == Answer::Finish(Fate::Arrived) && !cancelled;
                (Call::Finish { cancelled }, if ok { Reply::Ok } else { Reply::Failed })
            }
            Answer::Ok(Asked::Resolve) | Answer::Failed(Asked::Resolve, _) => {
                pending.resolve = false;
                return;
            }
            Answer::Ok(_) | Answer::Failed(..) | Answer::InDoubt(..) => return,
        };
        self.answer(at, call, reply);
    }
}
