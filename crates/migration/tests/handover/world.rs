//! Two hosts, their QEMUs, a network and a coordinator: everything around the machines, as small as it can be and
//! still be unkind. The machines are the daemon's own; nothing here knows the rule.
//!
//! The network keeps every word that was ever sent and may deliver each at any time, any number of times, or never:
//! loss, repetition, delay and reordering in one. A daemon may crash after every single effect.

use ferry_migration::destination::{self, Destination};
use ferry_migration::journal::{DestinationStatus, SourceStatus};
use ferry_migration::message::Word;
use ferry_migration::source::{self, Source};
use ferry_migration::{MigrationId, Peer, Plan};

/// The one migration of the world.
pub(crate) const ID: MigrationId = MigrationId::from_bytes([1; 16]);

/// What is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    /// What the two hosts can prove to each other.
    pub(crate) peer: Peer,
    /// How much may go wrong.
    pub(crate) faults: u8,
    /// How often a user may interfere.
    pub(crate) users: u8,
    /// A source that ran on after its copy had completed, and was stopped, looks as if it never had.
    pub(crate) blind: bool,
    /// A rule that is left out.
    pub(crate) broken: Option<Broken>,
}

/// Rules left out, after the holes that they leave: each by lying to a machine, or by not doing what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// H1: Kept is not recorded.
    KeptUnrecorded,
    /// H2: Running is written before the CPUs run.
    RunningBeforeRun,
    /// H3: a cancelled Finish makes a complete destination decline.
    CompleteDeclines,
    /// H3: a cancelled Finish makes any destination decline that has not seen its end, though a source has connected.
    ConnectedDeclines,
    /// H4: the source ends its QEMU on Running although post-copy still needs it.
    PostcopyEndsEarly,
    /// H5: Granted is told before the switch is certain.
    GrantedBeforeSwitch,
    /// H6: a Confirm that says "cancelled" is obeyed.
    ConfirmObeyed,
    /// H7: a source whose QEMU died after `completed` does not grant.
    DeadDoesNotGrant,
    /// H8: words of an earlier migration are taken for this one's.
    Untagged,
    /// H9: a destination without a record answers that it did not start.
    AbsenceDeclines,
    /// H11: with a full journal the source resumes without asking.
    ResumesUnwritten,
    /// H16: a guest that is to stay paused is claimed on its record alone, without a sign of life.
    RecordIsEnough,
    /// H12: toward a peer that proves nothing, absence of the guest is proof.
    AbsenceProves,
}

/// Everything. Hashed by the explorer, so it holds nothing that it does not need.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) source: SourceHost,
    pub(crate) destination: DestinationHost,
    pub(crate) client: Client,
    /// Words from the source to the destination, one bit each.
    pub(crate) to_destination: u16,
    /// Words from the destination to the source.
    pub(crate) to_source: u16,
    pub(crate) faults: u8,
    pub(crate) users: u8,
    /// What went wrong for good, if anything: the explorer stops there.
    pub(crate) violation: Option<Violation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    /// Both guests run.
    Two,
    /// A guest runs whose memory is older than what ran elsewhere.
    OldMemory,
    /// We ended the last QEMU that held the guest.
    Zero,
    /// A contract was broken; the text says which.
    Contract(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceHost {
    pub(crate) up: bool,
    pub(crate) machine: Option<Source>,
    pub(crate) record: Option<SourceStatus>,
    /// Whom to ask stands beside the record.
    pub(crate) peer_on_record: bool,
    pub(crate) full: bool,
    pub(crate) qemu: SourceQemu,
    /// The daemon has been asked to make the CPUs run, and has not seen them run yet.
    pub(crate) resuming: bool,
    /// The client's connection has closed and the daemon has not noticed.
    pub(crate) client_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceQemu {
    pub(crate) alive: bool,
    pub(crate) runs: bool,
    pub(crate) copy: Copy,
    /// What the daemon has been told last.
    pub(crate) reported: Copy,
    pub(crate) death_reported: bool,
    pub(crate) run_reported: bool,
    /// The CPUs ran after the destination's state was taken.
    pub(crate) ran_on: bool,
    /// Post-copy was asked for.
    pub(crate) postcopy: bool,
    /// A user stopped the guest after it had been given back; that is on record.
    pub(crate) suspended: bool,
    /// A user destroyed it.
    pub(crate) destroyed: bool,
    /// The source said that it lives and would go on: its death after that is what loses the guest.
    pub(crate) vouched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Copy {
    None,
    Active,
    PreSwitchover,
    Device,
    /// The package is on its way, or there; an error may still bring the guest back.
    PostcopyStarting,
    /// Past the switch.
    Postcopy,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DestinationHost {
    pub(crate) up: bool,
    pub(crate) machine: Option<Destination>,
    pub(crate) record: Option<DestinationStatus>,
    pub(crate) full: bool,
    pub(crate) qemu: DestinationQemu,
    pub(crate) client_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DestinationQemu {
    pub(crate) alive: bool,
    /// Every byte is loaded (post-copy: the package).
    pub(crate) complete: bool,
    pub(crate) runs: bool,
    /// The CPUs ran at some time; or, for a guest that stays paused, it became the host's own.
    pub(crate) ran: bool,
    /// `cont` was sent and not answered.
    pub(crate) starting: bool,
    pub(crate) listening_reported: bool,
    pub(crate) complete_reported: bool,
    pub(crate) run_reported: bool,
    pub(crate) death_reported: bool,
    /// A user destroyed it.
    pub(crate) destroyed: bool,
}

/// The coordinator: a client of both hosts, or the source's own (peer to peer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) at: At,
    /// The connections stand.
    pub(crate) source: bool,
    pub(crate) destination: bool,
    /// Perform's cookie carries the grant.
    pub(crate) granted: bool,
    /// The cookie for Confirm carries the destination's word.
    pub(crate) running: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    Begin,
    /// About to call, or waiting for the answer.
    Prepare {
        called: bool,
    },
    Perform {
        called: bool,
    },
    Finish {
        called: bool,
        cancelled: bool,
    },
    Confirm {
        called: bool,
        cancelled: bool,
    },
    Over,
}

impl World {
    pub(crate) fn new(setup: &Setup) -> Self {
        // Words of an earlier attempt that are still on their way.
        let late = |words: &[Word]| words.iter().fold(0, |bits, word| bits | bit(*word));
        let untagged = setup.broken == Some(Broken::Untagged);
        Self {
            source: SourceHost {
                up: true,
                machine: None,
                record: None,
                peer_on_record: false,
                full: false,
                qemu: SourceQemu {
                    alive: true,
                    runs: true,
                    copy: Copy::None,
                    reported: Copy::None,
                    death_reported: false,
                    run_reported: true,
                    ran_on: false,
                    postcopy: false,
                    suspended: false,
                    destroyed: false,
                    vouched: false,
                },
                resuming: false,
                client_gone: false,
            },
            destination: DestinationHost {
                up: true,
                machine: None,
                record: None,
                full: false,
                qemu: DestinationQemu {
                    alive: false,
                    complete: false,
                    runs: false,
                    ran: false,
                    starting: false,
                    listening_reported: false,
                    complete_reported: false,
                    run_reported: false,
                    death_reported: false,
                    destroyed: false,
                },
                client_gone: false,
            },
            client: Client { at: At::Begin, source: true, destination: true, granted: false, running: false },
            to_destination: 0,
            to_source: if untagged { late(&[Word::Declined]) } else { 0 },
            faults: setup.faults,
            users: setup.users,
            violation: None,
        }
    }

    /// Checks what must hold in every state.
    pub(crate) fn judge(mut self) -> Self {
        let to = self.destination.qemu;
        let from = &mut self.source.qemu;
        from.ran_on |= from.alive && from.runs && (to.complete || from.copy == Copy::Completed);
        let violation = if from.alive && to.alive && from.runs && to.runs {
            Some(Violation::Two)
        } else if to.runs && from.ran_on {
            Some(Violation::OldMemory)
        } else if from.alive && from.runs && to.ran {
            // The destination's guest ran, whether or not it still does.
            Some(Violation::OldMemory)
        } else {
            None
        };
        self.violation = self.violation.or(violation);
        self
    }

    pub(crate) fn violate(&mut self, violation: Violation) {
        self.violation = self.violation.or(Some(violation));
    }

    /// The machine is over and only its record speaks.
    pub(crate) fn drop_machines_that_are_over(&mut self) {
        if self.source.machine.as_ref().is_some_and(Source::is_over) && !self.source.resuming {
            self.source.machine = None;
        }
        if self.destination.machine.as_ref().is_some_and(Destination::is_over) {
            self.destination.machine = None;
        }
    }

    /// What a restarted source daemon finds.
    pub(crate) fn source_seen(&self, setup: &Setup) -> source::Seen {
        use source::Seen;
        let qemu = &self.source.qemu;
        if !qemu.alive {
            return Seen::Gone;
        }
        match qemu.copy {
            Copy::None | Copy::Failed | Copy::Cancelled => Seen::Idle,
            Copy::Active => Seen::Copying,
            Copy::Device => Seen::Switching,
            Copy::PreSwitchover => Seen::PreSwitchover,
            Copy::PostcopyStarting | Copy::Postcopy => Seen::Postcopy,
            Copy::Completed if qemu.runs => Seen::Running,
            Copy::Completed if qemu.ran_on && !setup.blind => Seen::Stopped,
            Copy::Completed => Seen::Completed,
        }
    }

    /// What a restarted destination daemon finds.
    pub(crate) fn destination_seen(&self) -> destination::Seen {
        use destination::Seen;
        let qemu = &self.destination.qemu;
        if !qemu.alive {
            Seen::Gone
        } else if qemu.runs {
            Seen::Running
        } else if qemu.complete {
            Seen::Complete
        } else {
            Seen::Incomplete
        }
    }
}

pub(crate) const fn bit(word: Word) -> u16 {
    1 << word.number()
}

impl Copy {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "no copy",
            Self::Active => "active",
            Self::PreSwitchover => "pre-switchover",
            Self::Device => "device",
            Self::PostcopyStarting => "post-copy starting",
            Self::Postcopy => "post-copy",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
