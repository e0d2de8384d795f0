//! Who calls what, in which order: the coordinator of one migration.
//!
//! `ferryd` runs it for peer-to-peer (the source's calls are then local), `ferry` and the tests for direct. A foreign
//! client is a coordinator that we do not control; this is the one that we do. It decides nothing about the guest:
//! the two hosts do. It refuses to know cookies and addresses; [`Carry`] has what goes from call to call.
//!
//! ```text
//! Begin ──> Prepare ──> Perform ──> Finish ─────> Confirm(ran) ──> Moved
//!   │          │           │          ├ error ──> Confirm(did not run) ──> Stayed
//!   │          │           │          └ lost ───> Look ──> one of the two, or InDoubt
//!   │          │           └ error ─> Finish(cancelled) ──> Stayed (the source has cleaned up by itself)
//!   │          └ error ─> Confirm(did not run) ──> Stayed
//!   └ error ─> Stayed                              (offline: the same without Perform)
//! ```

use ferry_rpc::TypedParam;
use ferry_rpc::flags::MigrateFlags;

use crate::params::names;

/// One coordination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    kind: Kind,
    phase: Phase,
}

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A running guest.
    Live,
    /// A definition: there is no Perform.
    Offline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Begin,
    Prepare,
    Perform,
    Finish { cancelled: bool },
    Look,
    Confirm { outcome: FinishOutcome },
    Over(Outcome),
}

/// What the coordinator may believe about the destination once Finish has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishOutcome {
    /// The destination says that it has the guest.
    Running,
    /// The destination says that it does not.
    NotRunning,
    /// The answer was lost. The destination may be running, so nobody restarts the source on this alone.
    Unknown,
}

/// A call to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Source.
    Begin,
    /// Destination.
    Prepare,
    /// Source.
    Perform,
    /// Destination.
    Finish {
        /// The copy failed or was called off.
        cancelled: bool,
    },
    /// Source. `Running` goes out as "not cancelled", the other two as "cancelled": to a Ferry source that is a question,
    /// which it settles with the destination; peer to peer it is told the three apart.
    Confirm(FinishOutcome),
    /// Look at the destination by a fresh connection: does the guest run there? To be given up after a while.
    Look,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It was answered with success. To `Look`: the guest runs there.
    Ok,
    /// It was answered with an error. To `Look`: the destination says that it does not have the guest.
    Failed,
    /// No answer: the connection broke, or time ran out.
    Lost,
}

/// How the migration ended, as far as the coordinator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The guest is on the destination.
    Moved,
    /// The guest is on the source.
    Stayed,
    /// The two hosts have to settle it, or are doing so.
    InDoubt,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Make this call; feed its reply.
    Call(Call),
    /// The migration is over for the coordinator. The error to show is that of the first call that failed.
    Over(Outcome),
}

impl Coordinator {
    /// Starts a coordination; the first call is Begin.
    pub const fn new(kind: Kind) -> (Self, Next) {
        (Self { kind, phase: Phase::Begin }, Next::Call(Call::Begin))
    }

    /// The reply to the call that was to be made. After the end every reply is passed over.
    pub fn step(self, reply: Reply) -> (Self, Next) {
        let phase = match (self.phase, reply) {
            (Phase::Begin, Reply::Ok) => Phase::Prepare,
            // No call was made that would need undoing; a job that was opened ends with the connection.
            (Phase::Begin, Reply::Failed | Reply::Lost) => Phase::Over(Outcome::Stayed),
            (Phase::Prepare, Reply::Ok) => match self.kind {
                Kind::Live => Phase::Perform,
                Kind::Offline => Phase::Finish { cancelled: false },
            },
            (Phase::Prepare, Reply::Failed | Reply::Lost) => {
                Phase::Confirm { outcome: FinishOutcome::NotRunning }
            }
            (Phase::Perform, Reply::Ok) => Phase::Finish { cancelled: false },
            (Phase::Perform, Reply::Failed) => Phase::Finish { cancelled: true },
            // The source may have granted, its answer lost: a cancelled Finish is only a question to the destination.
            (Phase::Perform, Reply::Lost) => Phase::Finish { cancelled: true },
            (Phase::Finish { cancelled: false }, Reply::Ok) => {
                Phase::Confirm { outcome: FinishOutcome::Running }
            }
            (Phase::Finish { cancelled: false }, Reply::Failed) => {
                Phase::Confirm { outcome: FinishOutcome::NotRunning }
            }
            (Phase::Finish { cancelled: false }, Reply::Lost) => Phase::Look,
            // A cancelled Finish is answered by an error when all is well.
            (Phase::Finish { cancelled: true }, Reply::Failed) => Phase::Over(Outcome::Stayed),
            (Phase::Finish { cancelled: true }, Reply::Ok | Reply::Lost) => Phase::Over(Outcome::InDoubt),
            (Phase::Look, Reply::Ok) => Phase::Confirm { outcome: FinishOutcome::Running },
            (Phase::Look, Reply::Failed) => Phase::Confirm { outcome: FinishOutcome::NotRunning },
            (Phase::Look, Reply::Lost) => Phase::Confirm { outcome: FinishOutcome::Unknown },
            (Phase::Confirm { outcome }, reply) => Phase::Over(match (outcome, reply) {
                // The destination has said so itself.
                (FinishOutcome::Running, Reply::Ok | Reply::Failed | Reply::Lost) => Outcome::Moved,
                (FinishOutcome::NotRunning, Reply::Ok) => Outcome::Stayed,
                (FinishOutcome::NotRunning, Reply::Failed | Reply::Lost) => Outcome::InDoubt,
                (FinishOutcome::Unknown, Reply::Ok | Reply::Failed | Reply::Lost) => Outcome::InDoubt,
            }),
            (Phase::Over(outcome), Reply::Ok | Reply::Failed | Reply::Lost) => Phase::Over(outcome),
        };
        let next = match phase {
            Phase::Begin => Next::Call(Call::Begin),
            Phase::Prepare => Next::Call(Call::Prepare),
            Phase::Perform => Next::Call(Call::Perform),
            Phase::Finish { cancelled } => Next::Call(Call::Finish { cancelled }),
            Phase::Look => Next::Call(Call::Look),
            Phase::Confirm { outcome } => Next::Call(Call::Confirm(outcome)),
            Phase::Over(outcome) => Next::Over(outcome),
        };
        (Self { phase, ..self }, next)
    }
}

/// What goes from call to call: each phase's cookie is the next one's, and two parameters are added on the way.
#[derive(Clone, Debug)]
pub struct Carry {
    flags: MigrateFlags,
    params: Vec<TypedParam>,
    cookie: Vec<u8>,
}

impl Carry {
    /// The user's flags and parameters.
    pub const fn new(flags: MigrateFlags, params: Vec<TypedParam>) -> Self {
        Self { flags, params, cookie: Vec::new() }
    }

    /// Begin was answered: its XML goes to the destination and into every later call.
    pub fn begun(&mut self, xml: &str, cookie: Vec<u8>) {
        self.set(names::DESTINATION_XML, xml);
        self.cookie = cookie;
    }

    /// Prepare was answered: where the source is to connect, unless the user's own URI says it.
    pub fn prepared(&mut self, uri_out: Option<&str>, cookie: Vec<u8>) {
        if let Some(uri) = uri_out {
            self.set(names::MIGRATE_URI, uri);
        }
        self.cookie = cookie;
    }

    /// Perform, or Finish, was answered.
    pub fn carried(&mut self, cookie: Vec<u8>) {
        self.cookie = cookie;
    }

    /// The cookie of the next call; nothing for a call that calls off.
    pub fn cookie(&self, call: Call) -> &[u8] {
        match call {
            Call::Finish { cancelled: true }
            | Call::Confirm(FinishOutcome::NotRunning | FinishOutcome::Unknown)
            | Call::Look
            | Call::Begin => &[],
            Call::Prepare
            | Call::Perform
            | Call::Finish { cancelled: false }
            | Call::Confirm(FinishOutcome::Running) => &self.cookie,
        }
    }

    /// The flags of a call: the destination never sees those that concern the source alone.
    pub fn flags(&self, call: Call) -> MigrateFlags {
        let source_only =
            MigrateFlags::CHANGE_PROTECTION | MigrateFlags::ABORT_ON_ERROR | MigrateFlags::AUTO_CONVERGE;
        match call {
            Call::Prepare | Call::Finish { .. } | Call::Look => self.flags.without(source_only),
            Call::Begin | Call::Perform | Call::Confirm(_) => self.flags,
        }
    }

    /// The parameters of a call. `name` is the guest's name on the destination, which Finish needs.
    pub fn params(&self, call: Call, name: &str) -> Vec<TypedParam> {
        let mut params = self.params.clone();
        let has_name = params.iter().any(|param| param.name == names::DESTINATION_NAME);
        match call {
            Call::Finish { .. } if !has_name => params.push(TypedParam::new(names::DESTINATION_NAME, name)),
            // The destination would take its throttling parameters without the flag for a mistake.
            Call::Prepare => params.retain(|param| !param.name.starts_with("auto_converge.")),
            Call::Finish { .. } | Call::Begin | Call::Perform | Call::Confirm(_) | Call::Look => {}
        }
        params
    }

    fn set(&mut self, name: &str, value: &str) {
        self.params.retain(|param| param.name != name);
        self.params.push(TypedParam::new(name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calls that these replies lead through, and the end.
    fn road(kind: Kind, replies: &[Reply]) -> (Vec<Call>, Option<Outcome>) {
        let (mut coordinator, mut next) = Coordinator::new(kind);
        let mut calls = Vec::new();
        for reply in replies {
            if let Next::Call(call) = next {
                calls.push(call);
            }
            (coordinator, next) = coordinator.step(*reply);
        }
        match next {
            Next::Call(_) => (calls, None),
            Next::Over(outcome) => (calls, Some(outcome)),
        }
    }

    use Call::{Begin, Confirm, Finish, Look, Perform, Prepare};
    use FinishOutcome::{NotRunning, Running, Unknown};
    use Reply::{Failed, Lost, Ok};

    #[test]
    fn the_road_of_a_success() {
        let calls = vec![Begin, Prepare, Perform, Finish { cancelled: false }, Confirm(Running)];
        assert_eq!(road(Kind::Live, &[Ok; 5]), (calls, Some(Outcome::Moved)));
        let calls = vec![Begin, Prepare, Finish { cancelled: false }, Confirm(Running)];
        assert_eq!(road(Kind::Offline, &[Ok; 4]), (calls, Some(Outcome::Moved)));
    }

    #[test]
    fn every_failure_takes_the_road_that_stock_takes() {
        assert_eq!(road(Kind::Live, &[Failed]), (vec![Begin], Some(Outcome::Stayed)));
        assert_eq!(
            road(Kind::Live, &[Ok, Failed, Ok]),
            (vec![Begin, Prepare, Confirm(NotRunning)], Some(Outcome::Stayed))
        );
        assert_eq!(
            road(Kind::Live, &[Ok, Ok, Failed, Failed]),
            (vec![Begin, Prepare, Perform, Finish { cancelled: true }], Some(Outcome::Stayed))
        );
        assert_eq!(
            road(Kind::Live, &[Ok, Ok, Ok, Failed, Ok]),
            (
                vec![Begin, Prepare, Perform, Finish { cancelled: false }, Confirm(NotRunning)],
                Some(Outcome::Stayed)
            )
        );
    }

    #[test]
    fn a_lost_answer_to_finish_is_never_taken_for_a_failure() {
        let lost = [Ok, Ok, Ok, Lost];
        let after = |rest: &[Reply]| road(Kind::Live, &[&lost, rest].concat());
        let calls =
            |confirm| vec![Begin, Prepare, Perform, Finish { cancelled: false }, Look, Confirm(confirm)];
        assert_eq!(after(&[Ok, Ok]), (calls(Running), Some(Outcome::Moved)));
        assert_eq!(after(&[Failed, Ok]), (calls(NotRunning), Some(Outcome::Stayed)));
        assert_eq!(after(&[Lost, Ok]), (calls(Unknown), Some(Outcome::InDoubt)));
    }

    #[test]
    fn every_road_ends() {
        for bits in 0..3_u32.pow(7) {
            let replies: Vec<_> =
                (0..7).map(|at| [Ok, Failed, Lost][(bits / 3_u32.pow(at) % 3) as usize]).collect();
            for kind in [Kind::Live, Kind::Offline] {
                assert!(road(kind, &replies).1.is_some(), "{replies:?}");
            }
        }
    }

    #[test]
    fn each_call_gets_what_it_needs() {
        let flags = MigrateFlags::LIVE | MigrateFlags::CHANGE_PROTECTION | MigrateFlags::AUTO_CONVERGE;
        let mut carry = Carry::new(
            flags,
            vec![TypedParam::new("migrate_uri", "tcp://h2"), TypedParam::new("auto_converge.initial", 10)],
        );
        carry.begun("<domain/>", vec![1]);
        let names = |carry: &Carry, call| -> Vec<String> {
            carry.params(call, "vm").into_iter().map(|param| param.name).collect()
        };
        assert_eq!(names(&carry, Prepare), ["migrate_uri", "destination_xml"]);
        assert_eq!(carry.flags(Prepare), MigrateFlags::LIVE);
        assert_eq!(carry.cookie(Prepare), [1]);
        carry.prepared(Some("tcp:h2:49152"), vec![2]);
        assert_eq!(names(&carry, Perform), ["auto_converge.initial", "destination_xml", "migrate_uri"]);
        assert_eq!((carry.flags(Perform), carry.cookie(Perform)), (flags, [2].as_slice()));
        carry.carried(vec![3]);
        assert!(names(&carry, Finish { cancelled: false }).contains(&"destination_name".to_owned()));
        assert_eq!(carry.cookie(Finish { cancelled: true }), [0_u8; 0]);
        assert_eq!(carry.cookie(Confirm(Running)), [3]);
    }
}
