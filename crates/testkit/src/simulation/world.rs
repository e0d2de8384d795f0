//! Two hosts and everything on them, as small as it can be and still be unkind: what lives on disks, what lives in
//! daemons, and what the QEMUs really do. Called by the hands, the people and the schedule.
//!
//! It refuses to know the rule: a violation is judged by what guests do, not by what the machines believe.

use ferry_migration::destination::Destination;
use ferry_migration::journal::Status;
use ferry_migration::message::Word;
use ferry_migration::source::Source;
use ferry_migration::{Epoch, MigrationId, Peer, Plan, Standing};
use serde::{Deserialize, Serialize};

use super::people::Client;

/// A guest's place on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct At {
    pub(crate) guest: usize,
    pub(crate) host: usize,
}

impl At {
    /// The same guest on the other host.
    pub(crate) const fn other(self) -> Self {
        Self { guest: self.guest, host: 1 - self.host }
    }
}

/// One start of one QEMU. Never used twice for a guest.
pub(crate) type Launch = u8;

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) hosts: [Host; 2],
    /// The two hosts reach each other.
    pub(crate) link: bool,
    pub(crate) guests: Vec<Guest>,
    pub(crate) clients: Vec<Client>,
    /// What the daemons have sent and nobody has carried yet.
    pub(crate) outbox: Vec<Letter>,
    /// What went wrong for good, if anything.
    pub(crate) violation: Option<Violation>,
    /// How many effects are performed until the daemon that performs them dies.
    pub(crate) cut: Option<u8>,
    /// QEMU's monitors do not answer the next question.
    pub(crate) silent: bool,
    /// Simulated milliseconds.
    pub(crate) now: u64,
    /// A rule that is left out.
    pub(crate) broken: Option<Broken>,
}

/// One host, apart from its guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The daemon lives.
    pub(crate) up: bool,
    /// The journal takes no record.
    pub(crate) full: bool,
    /// And yet what is refused is there after a restart: the disk failed after the bytes.
    pub(crate) lies: bool,
}

/// A word on its way between the two daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    /// Who hears it.
    pub(crate) to: At,
    pub(crate) id: MigrationId,
    pub(crate) word: Word,
    /// The word that this one answers, if it is an answer.
    pub(crate) answers: Option<Word>,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The guest runs twice.
    Two,
    /// The guest runs on memory older than what has run elsewhere.
    OldMemory,
    /// We ended the last QEMU that held the guest.
    Zero,
    /// A contract between the rooms was broken; the text says which.
    Contract(&'static str),
    /// When everything works again, this is left.
    Left(&'static str),
}

/// Rules left out on purpose: whoever searches must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Broken {
    /// A Confirm that says "cancelled" is obeyed.
    ConfirmObeyed,
    /// A restarted daemon recovers every unsettled migration over what QEMU is doing now, not the last alone.
    AllRecovered,
    /// Whom to ask is not on record when the copy begins.
    PeerUnrecorded,
    /// A destination without a record says that it declined.
    AbsenceDeclines,
}

/// One guest, on both hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) sides: [Side; 2],
    /// Those that live, and those that somebody still has to hear of.
    pub(crate) qemus: Vec<Qemu>,
    pub(crate) launches: Launch,
    pub(crate) migrations: u8,
    /// A user wanted its end, or it powered itself off: that nothing of it is left is nobody's fault.
    pub(crate) given_up: bool,
    /// A fault has ended a QEMU that was needed.
    pub(crate) struck: bool,
}

/// What one host has of one guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    /// On disk: the migrations, in the order in which they began here.
    pub(crate) journal: Vec<Records>,
    /// On disk: of the last migration.
    pub(crate) epoch: Epoch,
    /// On disk: the QEMU of this host's guest.
    pub(crate) recorded: Option<Launch>,
    /// On disk: a user has stopped it.
    pub(crate) stopped: bool,
    /// In the daemon: the same QEMU.
    pub(crate) guest: Option<Launch>,
    /// In the daemon: the migration that this host is in, or that ended last.
    pub(crate) present: Option<Migration>,
    /// In the daemon: earlier ones whose end the other side does not know.
    pub(crate) settling: Vec<Migration>,
    /// In the daemon: `cont` was sent and QEMU has not taken it yet.
    pub(crate) resuming: bool,
    /// In the daemon: the guest went to the other host.
    pub(crate) moved: bool,
}

/// What the journal says of one migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) id: MigrationId,
    pub(crate) epoch: Epoch,
    pub(crate) status: Status,
    pub(crate) plan: Plan,
    pub(crate) peer: Option<Peer>,
    pub(crate) launch: Launch,
}

/// A machine and what its driver keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migration {
    pub(crate) machine: Machine,
    pub(crate) epoch: Epoch,
    /// The start of QEMU that it is about.
    pub(crate) launch: Launch,
    /// Where the copy goes.
    pub(crate) target: Option<Launch>,
    /// The job is taken.
    pub(crate) open: bool,
    /// Who coordinates it, as long as the connection is thought to stand.
    pub(crate) client: Option<usize>,
    /// The user stopped the guest meanwhile.
    pub(crate) suspended: bool,
    /// The calls that wait for an answer.
    pub(crate) pending: Pending,
    pub(crate) retry_at: Option<u64>,
    pub(crate) deadline_at: Option<u64>,
    pub(crate) pause: u64,
}

/// Calls that wait, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) begin: bool,
    pub(crate) prepare: bool,
    pub(crate) perform: bool,
    pub(crate) finish: Option<Cancelled>,
    pub(crate) confirm: Option<Cancelled>,
    pub(crate) resolve: bool,
}

/// Whether a call says that the migration was called off.
pub(crate) type Cancelled = bool;

/// Either half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    Out(Source),
    In(Destination),
}

impl Machine {
    pub(crate) const fn id(&self) -> MigrationId {
        match self {
            Self::Out(machine) => machine.id(),
            Self::In(machine) => machine.id(),
        }
    }

    pub(crate) const fn is_over(&self) -> bool {
        match self {
            Self::Out(machine) => machine.is_over(),
            Self::In(machine) => machine.is_over(),
        }
    }

    pub(crate) const fn standing(&self) -> Standing {
        match self {
            Self::Out(machine) => machine.standing(),
            Self::In(machine) => machine.standing(),
        }
    }

    pub(crate) const fn outstanding(&self) -> Option<Word> {
        match self {
            Self::Out(machine) => machine.outstanding(),
            Self::In(machine) => machine.outstanding(),
        }
    }

    pub(crate) const fn wants_retry(&self) -> bool {
        match self {
            Self::Out(machine) => machine.wants_retry(),
            Self::In(machine) => machine.wants_retry(),
        }
    }

    pub(crate) const fn phase_name(&self) -> &'static str {
        match self {
            Self::Out(machine) => machine.phase_name(),
            Self::In(machine) => machine.phase_name(),
        }
    }

    pub(crate) const fn peer(&self) -> Option<Peer> {
        match self {
            Self::Out(machine) => machine.peer(),
            Self::In(machine) => Some(machine.peer()),
        }
    }

    pub(crate) const fn plan(&self) -> &Plan {
        match self {
            Self::Out(machine) => machine.plan(),
            Self::In(machine) => machine.plan(),
        }
    }
}

/// A QEMU as it really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Qemu {
    pub(crate) launch: Launch,
    pub(crate) host: usize,
    pub(crate) alive: bool,
    pub(crate) runs: bool,
    /// The CPUs have run here, or the guest has become this host's and stays paused.
    pub(crate) ran: bool,
    /// It has all of the guest (post-copy: the package), or was booted.
    pub(crate) whole: bool,
    /// All of the guest is on its way here, or here.
    pub(crate) sent: bool,
    /// What was sent has come as far as this host.
    pub(crate) arrived: bool,
    /// The guest has run elsewhere since.
    pub(crate) stale: bool,
    /// It waits for a guest, or has got one so.
    pub(crate) incoming: bool,
    /// A source has connected to it.
    pub(crate) connected: bool,
    /// The source's host went away without a farewell: the stream never ends.
    pub(crate) half_open: bool,
    /// `cont` was sent to it and has not been answered.
    pub(crate) starting: bool,
    /// The guest ran before this QEMU stopped it to send it away.
    pub(crate) ran_before: bool,
    /// The guest has run on since its copy was complete.
    pub(crate) ran_on: bool,
    pub(crate) copy: Copy,
    /// Where its copy goes.
    pub(crate) to: Option<Launch>,
    /// A switch to post-copy is wanted.
    pub(crate) postcopy: bool,
    /// The source has told the other side that it lives and would go on.
    pub(crate) vouched: bool,
    /// A user ended what was to come.
    pub(crate) unwanted: bool,
    pub(crate) told: Told,
}

/// What the daemon has been told last of a QEMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) copy: Copy,
    pub(crate) runs: bool,
    pub(crate) whole: bool,
}

/// The state of an outgoing copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Copy {
    #[default]
    None,
    Active,
    PreSwitchover,
    Device,
    /// The package is on its way, or there; an error may still bring the guest back.
    PostcopyStarting,
    /// Past the switch.
    Postcopy,
    /// Past the switch, and the channel is broken.
    PostcopyPaused,
    Completed,
    Failed,
    Cancelled,
}

impl Copy {
    /// The guest's memory is on two hosts for good.
    pub(crate) const fn is_past(self) -> bool {
        matches!(self, Self::Postcopy | Self::PostcopyPaused)
    }

    /// The stream is open, and its end would bring the guest back.
    pub(crate) const fn can_fail(self) -> bool {
        matches!(self, Self::Active | Self::PreSwitchover | Self::Device | Self::PostcopyStarting)
    }
}

impl World {
    /// Two hosts, and guests that run on the first.
    pub(crate) fn new(guests: usize, broken: Option<Broken>) -> Self {
        let host = Host { up: true, full: false, lies: false };
        let booted = Qemu {
            runs: true,
            ran: true,
            whole: true,
            told: Told { runs: true, ..Told::default() },
            ..Qemu::new(0, 0)
        };
        let side = Side { recorded: Some(0), guest: Some(0), ..Side::default() };
        let guest = Guest {
            sides: [side, Side::default()],
            qemus: vec![booted],
            launches: 0,
            migrations: 0,
            given_up: false,
            struck: false,
        };
        Self {
            hosts: [host; 2],
            link: true,
            guests: vec![guest; guests],
            clients: Vec::new(),
            outbox: Vec::new(),
            violation: None,
            cut: None,
            silent: false,
            now: 0,
            broken,
        }
    }

    pub(crate) fn side(&self, at: At) -> &Side {
        &self.guests[at.guest].sides[at.host]
    }

    pub(crate) fn side_mut(&mut self, at: At) -> &mut Side {
        &mut self.guests[at.guest].sides[at.host]
    }

    pub(crate) fn qemu(&self, guest: usize, launch: Launch) -> Option<&Qemu> {
        self.guests[guest].qemus.iter().find(|qemu| qemu.launch == launch)
    }

    pub(crate) fn qemu_mut(&mut self, guest: usize, launch: Launch) -> Option<&mut Qemu> {
        self.guests[guest].qemus.iter_mut().find(|qemu| qemu.launch == launch)
    }

    /// The QEMU that this host's driver holds.
    pub(crate) fn held(&self, at: At) -> Option<&Qemu> {
        self.side(at).guest.and_then(|launch| self.qemu(at.guest, launch))
    }

    pub(crate) fn held_mut(&mut self, at: At) -> Option<&mut Qemu> {
        let launch = self.side(at).guest?;
        self.qemu_mut(at.guest, launch)
    }

    pub(crate) fn violate(&mut self, violation: Violation) {
        self.violation = self.violation.or(Some(violation));
    }

    /// All places.
    pub(crate) fn places(&self) -> impl Iterator<Item = At> + use<> {
        (0..self.guests.len()).flat_map(|guest| (0..2).map(move |host| At { guest, host }))
    }

    /// The guest's CPUs run in this QEMU, or it has become the host's own: whatever else holds the guest is old now.
    pub(crate) fn lives_in(&mut self, guest: usize, launch: Launch) {
        let qemus = &mut self.guests[guest].qemus;
        let Some(at) = qemus.iter().position(|qemu| qemu.launch == launch) else { return };
        let two = qemus.iter().any(|qemu| qemu.launch != launch && qemu.alive && qemu.runs);
        let old = qemus[at].stale;
        qemus[at].ran = true;
        for qemu in qemus.iter_mut().filter(|qemu| qemu.launch != launch && (qemu.whole || qemu.sent)) {
            qemu.stale = true;
        }
        if two {
            self.violate(Violation::Two);
        } else if old {
            self.violate(Violation::OldMemory);
        }
    }

    /// The CPUs of this QEMU run.
    pub(crate) fn runs(&mut self, guest: usize, launch: Launch) {
        if let Some(qemu) = self.qemu_mut(guest, launch) {
            qemu.runs = true;
            qemu.ran_on |= qemu.copy == Copy::Completed;
            self.lives_in(guest, launch);
        }
    }

    /// Whether this QEMU holds what no other does.
    fn is_last(&self, guest: usize, launch: Launch) -> bool {
        let holds = |qemu: &Qemu| qemu.alive && !qemu.stale && (qemu.whole || qemu.arrived);
        let qemus = &self.guests[guest].qemus;
        qemus.iter().any(|qemu| qemu.launch == launch && holds(qemu))
            && !qemus.iter().any(|qemu| qemu.launch != launch && holds(qemu))
    }

    /// Whether another QEMU lacks pages that only this one has, or this one pages that another has.
    fn is_split(&self, guest: usize, launch: Launch) -> bool {
        let qemus = &self.guests[guest].qemus;
        qemus.iter().any(|from| {
            let partner = qemus.iter().find(|qemu| Some(qemu.launch) == from.to);
            from.alive
                && from.copy.is_past()
                && partner.is_some_and(|to| to.alive && (from.launch == launch || to.launch == launch))
        })
    }

    /// We end a QEMU: never the last that holds the guest, unless a user wants that.
    pub(crate) fn end_qemu(&mut self, guest: usize, launch: Launch, by_user: bool) {
        let needed = self.is_last(guest, launch) || self.is_split(guest, launch);
        let own = self.qemu(guest, launch).is_some_and(|qemu| qemu.whole && !qemu.stale);
        self.guests[guest].given_up |= by_user && own;
        let all = &self.guests[guest];
        // Once it is known here, the death of one that had said that it lives is a fault's.
        let vouched = all.qemus.iter().any(|qemu| !qemu.alive && qemu.vouched && !qemu.stale);
        let unwanted = all.qemus.iter().any(|qemu| qemu.launch == launch && qemu.unwanted);
        if needed && vouched {
            self.guests[guest].struck = true;
        } else if needed && !by_user && !unwanted && !all.given_up {
            self.violate(Violation::Zero);
        }
        self.dies(guest, launch);
    }

    /// A fault ends a QEMU.
    pub(crate) fn strike(&mut self, guest: usize, launch: Launch) {
        let needed = self.is_last(guest, launch) || self.is_split(guest, launch);
        self.guests[guest].struck |= needed;
        self.dies(guest, launch);
    }

    fn dies(&mut self, guest: usize, launch: Launch) {
        if let Some(qemu) = self.qemu_mut(guest, launch) {
            qemu.alive = false;
            qemu.runs = false;
            qemu.starting = false;
        }
    }

    /// Forgets the dead of whom nobody has to hear any more.
    pub(crate) fn bury(&mut self) {
        for guest in &mut self.guests {
            let sides = &guest.sides;
            guest.qemus.retain(|qemu| {
                let side = &sides[qemu.host];
                let known = side.guest == Some(qemu.launch) || side.recorded == Some(qemu.launch);
                qemu.alive || known || qemu.vouched
            });
        }
    }
}

impl Qemu {
    /// A QEMU that waits.
    pub(crate) fn new(launch: Launch, host: usize) -> Self {
        Self {
            launch,
            host,
            alive: true,
            runs: false,
            ran: false,
            whole: false,
            sent: false,
            arrived: false,
            stale: false,
            incoming: false,
            connected: false,
            half_open: false,
            starting: false,
            ran_before: false,
            ran_on: false,
            copy: Copy::None,
            to: None,
            postcopy: false,
            vouched: false,
            unwanted: false,
            told: Told::default(),
        }
    }
}
