//! A host on the line: connecting to it, finding a guest on it, saying how a guest stands.
//!
//! Called by every command. It changes nothing on the host.

use ferry_client::{CallError, Connection, OpenOptions, Uri};
use ferry_rpc::ErrorCode;
use ferry_rpc::proto::{DomainGetMessages, DomainRef};
use ferry_rpc::values::{
    CrashedReason, DomainState, PausedReason, RunningReason, ShutdownReason, ShutoffReason,
};
use uuid::Uuid;

use crate::failure::Failure;

/// What a ferryd's message begins with when it is not known on which host a guest runs.
const IN_DOUBT: &str = "in doubt: ";

/// Connects.
pub(crate) async fn open(uri: &Uri) -> Result<Connection, Failure> {
    // Nobody waits here to be told that the daemon's own backend went away.
    let options = OpenOptions { close_callback: false, ..OpenOptions::default() };
    Connection::open(uri, options).await.map_err(|error| Failure::no_connection(uri, &error))
}

/// Finds a guest by name or, when there is none of that name, by UUID.
pub(crate) async fn find(connection: &Connection, guest: &str) -> Result<DomainRef, Failure> {
    let by_name = connection.domain_lookup_by_name(guest).await;
    let found = match (&by_name, Uuid::parse_str(guest)) {
        (Err(CallError::Remote(error)), Ok(uuid)) if error.code == ErrorCode::NO_DOMAIN => {
            connection.domain_lookup_by_uuid(uuid).await
        }
        _ => by_name,
    };
    found.map_err(|error| Failure::refused(format!("cannot find '{guest}'"), error))
}

/// How a guest stands on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What it does.
    pub(crate) state: DomainState,
    /// Why; the number's meaning depends on the state.
    pub(crate) reason: i32,
    /// Why it is not known on which host it runs, when it is not.
    pub(crate) doubt: Option<String>,
}

impl Standing {
    /// Asks the host; `None` when it does not know the guest (any more).
    pub(crate) async fn ask(connection: &Connection, domain: &DomainRef) -> Result<Option<Self>, CallError> {
        let (state, reason) = match connection.domain_state(domain).await {
            Ok(found) => found,
            Err(CallError::Remote(error)) if error.code == ErrorCode::NO_DOMAIN => return Ok(None),
            Err(error) => return Err(error),
        };
        let doubt = if state == DomainState::PAUSED { in_doubt(connection, domain).await } else { None };
        Ok(Some(Self { state, reason, doubt }))
    }

    /// The guest has a process, running or paused.
    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.state, DomainState::SHUTOFF | DomainState::NOSTATE)
    }

    /// It is stopped in the middle of a migration.
    pub(crate) fn waits_for_migration(&self) -> bool {
        let reason = PausedReason(self.reason);
        self.doubt.is_some()
            || self.state == DomainState::PAUSED
                && matches!(
                    reason,
                    PausedReason::MIGRATION | PausedReason::POSTCOPY | PausedReason::POSTCOPY_FAILED
                )
    }
}

/// `running (migrated)`, as clients of libvirt say it.
impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = self.reason;
        let (state, reason) = match self.state {
            DomainState::RUNNING => ("running", RunningReason(reason).name()),
            DomainState::PAUSED => ("paused", PausedReason(reason).name()),
            DomainState::SHUTDOWN => ("in shutdown", ShutdownReason(reason).name()),
            DomainState::SHUTOFF => ("shut off", ShutoffReason(reason).name()),
            DomainState::CRASHED => ("crashed", CrashedReason(reason).name()),
            DomainState::BLOCKED => ("idle", None),
            DomainState::PMSUSPENDED => ("asleep", None),
            _ => ("no state", None),
        };
        match (&self.doubt, reason) {
            (Some(doubt), _) => write!(f, "{state} (in doubt: {doubt})"),
            (None, Some("UNKNOWN") | None) => f.write_str(state),
            (None, Some(reason)) => write!(f, "{state} ({})", reason.to_lowercase().replace('_', " ")),
        }
    }
}

/// A ferryd says among a guest's messages that it is in doubt; a host that has no messages has no doubts.
async fn in_doubt(connection: &Connection, domain: &DomainRef) -> Option<String> {
    let call = DomainGetMessages { domain: domain.clone(), flags: 0 };
    let messages = connection.call(&call).await.ok()?.msgs;
    messages.iter().find_map(|message| message.strip_prefix(IN_DOUBT)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(state: DomainState, reason: i32) -> Standing {
        Standing { state, reason, doubt: None }
    }

    #[test]
    fn states_read_as_operators_know_them() {
        assert_eq!(standing(DomainState::RUNNING, 6).to_string(), "running (migration canceled)");
        assert_eq!(standing(DomainState::SHUTOFF, 0).to_string(), "shut off");
        assert_eq!(standing(DomainState::PAUSED, 77).to_string(), "paused");
        let doubt = Some("no word".to_owned());
        let paused = Standing { doubt, ..standing(DomainState::PAUSED, 2) };
        assert_eq!(paused.to_string(), "paused (in doubt: no word)");
    }

    #[test]
    fn only_a_migration_makes_a_guest_wait_for_it() {
        assert!(standing(DomainState::PAUSED, PausedReason::MIGRATION.0).waits_for_migration());
        assert!(!standing(DomainState::PAUSED, PausedReason::USER.0).waits_for_migration());
        assert!(!standing(DomainState::RUNNING, PausedReason::MIGRATION.0).waits_for_migration());
    }
}
