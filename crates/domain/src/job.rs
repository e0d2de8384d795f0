//! Which operation may run beside which: the job slot of a domain and its admission policy.
//!
//! Called by the driver before it acts on a request; the driver runs one modifying request after the other, so that
//! the only job that others meet is a migration. A request is accepted, ignored as a duplicate, or refused at once
//! with the reason and stock's code (stock lets callers wait 30 s for the same refusal).
//!
//! The slot of a protected migration belongs to the connection that began it, until the end or until it closes.

use ferry_migration::{Doubt, Standing};
use ferry_rpc::{Error, ErrorCode, Origin};

use crate::state::State;

/// What a client wants of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// To know something. Never waits, never refused.
    Query,
    /// To read statistics of the present job.
    JobStats,
    /// To change the guest or its definition, in a way that a migration does not bear.
    Modify,
    /// To bring the guest to life or change its past: start, create, restore, revert.
    Start,
    /// To let the CPUs run.
    Resume,
    /// To stop the CPUs.
    Suspend,
    /// To end QEMU.
    Destroy,
    /// To reset, reboot or power off the guest.
    Power,
    /// To set the longest pause or the bandwidth of migrations.
    TuneMigration,
    /// To begin a migration out of this host.
    MigrateOut,
    /// To begin one into this host.
    MigrateIn,
    /// To abort the job.
    Abort,
    /// To switch the migration to post-copy.
    StartPostcopy,
}

/// What the driver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It is carried out.
    Accept,
    /// The guest is so already: answered with success.
    Ignore,
    /// Refused, for this reason.
    Refuse(Refusal),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// There is no QEMU.
    #[error("domain is not running")]
    NotRunning,
    /// There is one.
    #[error("domain is already running")]
    AlreadyRunning,
    /// A migration holds the slot; this call does not go beside it.
    #[error("cannot acquire state change lock (held by monitor={0})")]
    Held(Holder),
    /// A migration is under way, and a second one is wanted.
    #[error("another migration job is already running for this domain")]
    SecondMigration,
    /// Nothing to abort.
    #[error("no job is active on the domain")]
    NoJob,
    /// No outgoing migration to switch.
    #[error("post-copy can only be started while outgoing migration is in progress")]
    NoOutgoingMigration,
    /// Only the source counts.
    #[error("migration statistics are available only on the source host")]
    OnlyOnSource,
    /// The guest was handed over, and the outcome is expected.
    #[error("the guest is being handed over to another host")]
    HandedOver,
    /// It is not known where the guest runs.
    #[error("it is in doubt on which host the guest runs: {0}")]
    InDoubt(Doubt),
    /// A migration took the guest to another host, which has not said that it let it go. The driver asks that host
    /// before it refuses.
    #[error("the guest was migrated to another host")]
    MovedAway,
}

/// The call that holds the slot, by the name under which stock shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Begin.
    Begin,
    /// Perform.
    Perform,
    /// Prepare.
    Prepare,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin => "remoteDispatchDomainMigrateBegin3Params",
            Self::Perform => "remoteDispatchDomainMigratePerform3Params",
            Self::Prepare => "remoteDispatchDomainMigratePrepare3Params",
        })
    }
}

impl Refusal {
    /// The error that the caller gets. `name` is the domain's.
    pub fn to_error(self, name: &str) -> Error {
        match self {
            Self::NotRunning => Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN, self.to_string()),
            Self::AlreadyRunning | Self::NoJob | Self::NoOutgoingMigration => {
                Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, self.to_string())
            }
            Self::SecondMigration => {
                let text = format!("another migration job is already running for domain '{name}'");
                Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)
            }
            Self::Held(_) => Error::of(ErrorCode::OPERATION_TIMEOUT, Origin::NONE, self.to_string()),
            Self::OnlyOnSource => Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, self.to_string()),
            Self::HandedOver | Self::InDoubt(_) | Self::MovedAway => {
                Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, format!("domain '{name}': {self}"))
            }
        }
    }
}

/// What occupies a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum JobSlot {
    /// Nothing.
    #[default]
    Idle,
    /// The guest is leaving.
    MigratingOut {
        /// The call that holds it.
        holder: Holder,
        /// With CHANGE_PROTECTION: the connection whose end releases it. Ids are the driver's.
        connection: Option<u64>,
    },
    /// The guest is arriving.
    MigratingIn,
}

impl JobSlot {
    /// Whether the end of this connection ends the job.
    pub fn ends_with(self, closed: u64) -> bool {
        match self {
            Self::MigratingOut { connection, .. } => connection == Some(closed),
            Self::Idle | Self::MigratingIn => false,
        }
    }

    /// Judges a request. `standing` is where the guest stands by the records of its last migration; `Here` when there
    /// was none.
    pub fn admit(self, operation: Operation, state: State, standing: Standing) -> Admission {
        use Operation as O;
        let refuse = Admission::Refuse;
        match operation {
            O::Query | O::TuneMigration => return Admission::Accept,
            O::JobStats if self == Self::MigratingIn => return refuse(Refusal::OnlyOnSource),
            O::JobStats => return Admission::Accept,
            O::Modify
            | O::Start
            | O::Resume
            | O::Suspend
            | O::Destroy
            | O::Power
            | O::MigrateOut
            | O::MigrateIn
            | O::Abort
            | O::StartPostcopy => {}
        }
        if let Some(refusal) = by_standing(operation, standing) {
            return refuse(refusal);
        }
        match self {
            Self::Idle => when_idle(operation, state),
            Self::MigratingOut { holder, .. } => match operation {
                O::Suspend if matches!(state, State::Paused(_)) => Admission::Ignore,
                O::Suspend | O::Destroy | O::Abort | O::StartPostcopy => Admission::Accept,
                O::MigrateOut => refuse(Refusal::SecondMigration),
                O::Start | O::MigrateIn => refuse(Refusal::AlreadyRunning),
                O::Modify | O::Resume | O::Power => refuse(Refusal::Held(holder)),
                O::Query | O::JobStats | O::TuneMigration => Admission::Accept,
            },
            Self::MigratingIn => match operation {
                O::Destroy => Admission::Accept,
                O::StartPostcopy => refuse(Refusal::NoOutgoingMigration),
                O::Start | O::MigrateIn => refuse(Refusal::AlreadyRunning),
                O::Modify | O::Resume | O::Suspend | O::Power | O::Abort | O::MigrateOut => {
                    refuse(Refusal::Held(Holder::Prepare))
                }
                O::Query | O::JobStats | O::TuneMigration => Admission::Accept,
            },
        }
    }
}

/// What no operation may do to a guest that may be another host's.
fn by_standing(operation: Operation, standing: Standing) -> Option<Refusal> {
    use Operation as O;
    let touches = match operation {
        O::Start | O::Resume | O::Power | O::Modify | O::MigrateOut | O::Destroy | O::Suspend => true,
        // A guest that comes back in a newer epoch proves that it was there: the machine settles it.
        O::MigrateIn => false,
        // The machine itself says why these come too late.
        O::Abort | O::StartPostcopy => false,
        O::Query | O::JobStats | O::TuneMigration => false,
    };
    match standing {
        Standing::HandedOver if touches => Some(Refusal::HandedOver),
        Standing::InDoubt(doubt) if touches => Some(Refusal::InDoubt(doubt)),
        Standing::Away if operation == O::Start => Some(Refusal::MovedAway),
        Standing::HandedOver
        | Standing::InDoubt(_)
        | Standing::Away
        | Standing::Here
        | Standing::Leaving
        | Standing::Arriving => None,
    }
}

fn when_idle(operation: Operation, state: State) -> Admission {
    use Operation as O;
    let refuse = Admission::Refuse;
    match operation {
        O::Start | O::MigrateIn if state.is_active() => refuse(Refusal::AlreadyRunning),
        O::Start | O::MigrateIn | O::Modify => Admission::Accept,
        O::Resume | O::Suspend | O::Destroy | O::Power | O::Abort if !state.is_active() => {
            refuse(Refusal::NotRunning)
        }
        O::Resume if matches!(state, State::Running(_)) => refuse(Refusal::AlreadyRunning),
        O::Suspend if matches!(state, State::Paused(_)) => Admission::Ignore,
        O::Resume | O::Suspend | O::Destroy | O::Power => Admission::Accept,
        // An offline migration needs no running guest: Begin itself judges.
        O::MigrateOut => Admission::Accept,
        O::Abort => refuse(Refusal::NoJob),
        O::StartPostcopy if state.is_active() => refuse(Refusal::NoOutgoingMigration),
        O::StartPostcopy => refuse(Refusal::NotRunning),
        O::Query | O::JobStats | O::TuneMigration => Admission::Accept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_rpc::values::{PausedReason, RunningReason, ShutoffReason};

    const RUNNING: State = State::Running(RunningReason::BOOTED);
    const PAUSED: State = State::Paused(PausedReason::USER);
    const OFF: State = State::ShutOff(ShutoffReason::SHUTDOWN);
    const OUT: JobSlot = JobSlot::MigratingOut { holder: Holder::Perform, connection: Some(7) };

    use Admission::{Accept, Ignore, Refuse};
    use Operation as O;

    #[test]
    fn beside_a_migration_only_what_it_bears() {
        let admit = |operation| OUT.admit(operation, RUNNING, Standing::Leaving);
        for operation in
            [O::Query, O::JobStats, O::TuneMigration, O::Suspend, O::Destroy, O::Abort, O::StartPostcopy]
        {
            assert_eq!(admit(operation), Accept, "{operation:?}");
        }
        for operation in [O::Modify, O::Resume, O::Power] {
            assert_eq!(admit(operation), Refuse(Refusal::Held(Holder::Perform)), "{operation:?}");
        }
        assert_eq!(admit(O::MigrateOut), Refuse(Refusal::SecondMigration));
    }

    #[test]
    fn refusals_have_the_codes_and_texts_of_stock() {
        let pair = |refusal: Refusal| {
            let error = refusal.to_error("vm");
            (error.code.0, error.origin.0, error.message)
        };
        assert_eq!(
            pair(Refusal::Held(Holder::Perform)),
            (
                68,
                0,
                "Timed out during operation: cannot acquire state change lock (held by \
                     monitor=remoteDispatchDomainMigratePerform3Params)"
                    .into()
            )
        );
        assert_eq!(
            pair(Refusal::SecondMigration),
            (
                55,
                10,
                "Requested operation is not valid: another migration job is already running for domain 'vm'"
                    .into()
            )
        );
        assert_eq!(pair(Refusal::NoJob).1, 10);
        assert_eq!(
            pair(Refusal::NotRunning),
            (55, 20, "Requested operation is not valid: domain is not running".into())
        );
        assert_eq!(pair(Refusal::OnlyOnSource).0, 84);
    }

    #[test]
    fn a_guest_in_doubt_is_not_touched_by_anything() {
        let standing = Standing::InDoubt(Doubt::NoWord);
        for slot in [JobSlot::Idle, OUT] {
            for operation in [O::Start, O::Resume, O::Power, O::Modify, O::MigrateOut, O::Destroy, O::Suspend]
            {
                for state in [PAUSED, OFF] {
                    let admission = slot.admit(operation, state, standing);
                    assert_eq!(admission, Refuse(Refusal::InDoubt(Doubt::NoWord)), "{operation:?} {state:?}");
                }
            }
            assert_eq!(slot.admit(O::Query, PAUSED, standing), Accept);
        }
        assert_eq!(JobSlot::Idle.admit(O::Resume, PAUSED, Standing::HandedOver), Refuse(Refusal::HandedOver));
    }

    #[test]
    fn a_definition_whose_guest_has_moved_is_not_started() {
        assert_eq!(JobSlot::Idle.admit(O::Start, OFF, Standing::Away), Refuse(Refusal::MovedAway));
        assert_eq!(JobSlot::Idle.admit(O::MigrateIn, OFF, Standing::Away), Accept);
        assert_eq!(JobSlot::Idle.admit(O::Start, OFF, Standing::Here), Accept);
    }

    #[test]
    fn without_a_job_the_state_decides() {
        let admit = |operation, state| JobSlot::Idle.admit(operation, state, Standing::Here);
        assert_eq!(admit(O::Start, RUNNING), Refuse(Refusal::AlreadyRunning));
        assert_eq!(admit(O::Resume, RUNNING), Refuse(Refusal::AlreadyRunning));
        assert_eq!(admit(O::Resume, PAUSED), Accept);
        assert_eq!(admit(O::Suspend, PAUSED), Ignore);
        assert_eq!(admit(O::Destroy, OFF), Refuse(Refusal::NotRunning));
        assert_eq!(admit(O::Abort, RUNNING), Refuse(Refusal::NoJob));
        assert_eq!(admit(O::Abort, OFF), Refuse(Refusal::NotRunning));
        assert_eq!(admit(O::StartPostcopy, RUNNING), Refuse(Refusal::NoOutgoingMigration));
    }

    #[test]
    fn an_arriving_guest_is_the_sources_matter() {
        let admit = |operation| JobSlot::MigratingIn.admit(operation, PAUSED, Standing::Arriving);
        assert_eq!(admit(O::JobStats), Refuse(Refusal::OnlyOnSource));
        assert_eq!(admit(O::Abort), Refuse(Refusal::Held(Holder::Prepare)));
        assert_eq!(admit(O::Destroy), Accept);
    }

    #[test]
    fn a_protected_job_ends_with_its_connection_alone() {
        assert!(OUT.ends_with(7));
        assert!(!OUT.ends_with(8));
        let unprotected = JobSlot::MigratingOut { holder: Holder::Perform, connection: None };
        assert!(!unprotected.ends_with(7) && !JobSlot::Idle.ends_with(7));
    }
}
