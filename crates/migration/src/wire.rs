//! What the machines answer, as errors on the wire: codes and texts that stock's clients know.
//!
//! Called by the dispatcher for every call that a machine answers or denies. One exhaustive match per kind.

use ferry_rpc::{Error, ErrorCode, Origin};

use crate::{Doubt, Why, destination, source};

/// The texts that the machines do not keep: they are small, and these are for people.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The domain's name.
    pub domain: &'a str,
    /// QEMU's last words on the copy, when they say why it failed.
    pub qemu_error: Option<&'a str>,
    /// An I/O error of the guest has called the migration off, not a client.
    pub io_error: bool,
}

/// Which of the two hosts speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The source.
    Out,
    /// The destination.
    In,
}

/// What a caller is told whose migration stops between two hosts: 9/10, stock's text. The guest runs on the destination,
/// and waits for the rest of its memory.
pub fn broken_off(direction: Direction) -> Error {
    let direction = match direction {
        Direction::Out => "out",
        Direction::In => "in",
    };
    let text = format!("job 'migration {direction}' failed in post-copy phase");
    Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text)
}

/// Why there is nothing to go on with by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotResumable {
    /// The guest is not leaving this host.
    NotLeaving,
    /// The guest is not arriving here.
    NotArriving,
    /// It is, and not switched to post-copy.
    NotPostcopy,
    /// The channel is whole.
    NotBroken,
    /// Somebody else goes on with it.
    UnderWay,
    /// The source speaks of another migration.
    Another,
}

impl Context<'_> {
    /// A try to go on with post-copy that finds nothing to go on with: 55/10, stock's texts but for the last.
    pub fn not_resumable(&self, why: NotResumable) -> Error {
        let name = self.domain;
        let text = match why {
            NotResumable::NotLeaving => format!("domain '{name}' is not being migrated"),
            NotResumable::NotArriving => format!("domain '{name}' is not processing incoming migration"),
            NotResumable::NotPostcopy => format!("migration of domain {name} is not in post-copy phase"),
            NotResumable::NotBroken => format!("post-copy migration of domain {name} has not failed"),
            NotResumable::UnderWay => {
                format!("resuming failed post-copy migration of domain {name} already in progress")
            }
            NotResumable::Another => format!("domain '{name}' is in another migration here"),
        };
        Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)
    }

    /// Perform's (or Begin's, Prepare's) failure, and that of any other call that has not done its work.
    pub fn failed(&self, why: Why) -> Error {
        let qemu = |code, text: String| Error::of(code, Origin::QEMU, text);
        match why {
            Why::Aborted if self.io_error => {
                qemu(ErrorCode::OPERATION_FAILED, "job 'migration out' failed due to I/O error".into())
            }
            Why::Aborted => {
                qemu(ErrorCode::OPERATION_ABORTED, "job 'migration out' canceled by client".into())
            }
            Why::CopyFailed | Why::Declined => {
                let text = self.qemu_error.map_or_else(
                    || format!("job 'migration out' failed: {why}"),
                    |error| format!("job 'migration out' failed: {error}"),
                );
                qemu(ErrorCode::OPERATION_FAILED, text)
            }
            Why::QemuDied | Why::Destroyed => {
                qemu(ErrorCode::OPERATION_FAILED, "domain is not running".into())
            }
            Why::LaunchFailed => {
                let text = self.qemu_error.map_or_else(|| why.to_string(), str::to_owned);
                qemu(ErrorCode::INTERNAL_ERROR, text)
            }
            Why::Cancelled
            | Why::ClientGone
            | Why::SourceKept
            | Why::StartRefused
            | Why::Silence
            | Why::Operator => {
                qemu(ErrorCode::OPERATION_FAILED, format!("migration of '{}': {why}", self.domain))
            }
            Why::JournalFull => qemu(ErrorCode::OPERATION_FAILED, why.to_string()),
        }
    }

    /// An answer that nobody can give yet.
    pub fn in_doubt(&self, doubt: Doubt) -> Error {
        let text = format!("it is in doubt on which host domain '{}' runs: {doubt}", self.domain);
        Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text)
    }

    /// Finish's answer. `cancelled` is what the call had said.
    ///
    /// # Errors
    /// 93/10 when a cancelled migration left nothing here, 9/10 when its QEMU has said why it took nothing or when
    /// the guest runs here all the same; 42/0 when the guest was to run and is not here.
    pub fn finish(&self, cancelled: bool, fate: destination::Fate) -> Result<(), Error> {
        use destination::Fate;
        match (cancelled, fate) {
            (false, Fate::Arrived) => Ok(()),
            (true, Fate::Arrived) => {
                let text = format!(
                    "domain '{}' had been handed over before it was called off, and runs here",
                    self.domain
                );
                Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text))
            }
            (false, Fate::Declined(why)) => {
                let words = self.qemu_error.map(|words| format!(": {words}")).unwrap_or_default();
                let text = format!("no domain with matching name '{}': {why}{words}", self.domain);
                Err(Error::of(ErrorCode::NO_DOMAIN, Origin::NONE, text))
            }
            (true, Fate::Declined(_)) => match self.qemu_error {
                // Clients show this in place of Perform's error, or with it: only when it says more.
                Some(words) => {
                    let text = format!("job 'migration in' failed: {words}");
                    Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text))
                }
                None => Err(self.cleaned_up()),
            },
        }
    }

    /// A cancelled Finish, done as asked: 93/10.
    pub fn cleaned_up(&self) -> Error {
        let text = format!("domain '{}' is not processing incoming migration any more", self.domain);
        Error::of(ErrorCode::MIGRATE_FINISH_OK, Origin::QEMU, text)
    }

    /// Confirm's answer. `cancelled` is what the call had said.
    ///
    /// # Errors
    /// 9/10 when the guest is where the coordinator believes it is not.
    pub fn confirm(&self, cancelled: bool, fate: source::Fate) -> Result<(), Error> {
        use source::Fate;
        let wrong = |place: &str| {
            let text = format!("domain '{}' runs on {place} after all", self.domain);
            Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text))
        };
        match (cancelled, fate) {
            (false, Fate::Moved) | (true, Fate::Stayed) => Ok(()),
            (true, Fate::Moved) => wrong("the destination"),
            (false, Fate::Stayed) => wrong("the source"),
        }
    }

    /// A call that the source's phase does not take.
    pub fn denied_by_source(&self, refusal: source::Refusal) -> Error {
        use source::Refusal as R;
        let invalid = |text: String| Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text);
        match refusal {
            R::OutOfOrder => {
                invalid(format!("another migration job is already running for domain '{}'", self.domain))
            }
            R::NotPostcopy | R::NotCopying | R::Over | R::InPostcopy => invalid(refusal.to_string()),
            R::HandedOver => {
                invalid(format!("domain '{}' has been handed over to the destination", self.domain))
            }
            R::NotInDoubt => invalid(refusal.to_string()),
            R::Driver => Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, refusal.to_string()),
        }
    }

    /// A call that the destination's phase does not take.
    pub fn denied_by_destination(&self, refusal: destination::Refusal) -> Error {
        use destination::Refusal as R;
        let invalid = |text: String| Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text);
        match refusal {
            R::OutOfOrder => invalid(format!("domain '{}' is not being migrated", self.domain)),
            R::HandingOver => invalid(format!("domain '{}' is being handed over to this host", self.domain)),
            R::NotInDoubt => invalid(refusal.to_string()),
            R::Driver => Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, refusal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context<'_> = Context { domain: "vm", qemu_error: None, io_error: false };

    #[test]
    fn abort_is_what_clients_look_for() {
        let error = CONTEXT.failed(Why::Aborted);
        assert_eq!((error.code, error.origin), (ErrorCode::OPERATION_ABORTED, Origin::QEMU));
        assert_eq!(error.message, "operation aborted: job 'migration out' canceled by client");
        let error = Context { io_error: true, ..CONTEXT }.failed(Why::Aborted);
        assert_eq!((error.code, error.origin), (ErrorCode::OPERATION_FAILED, Origin::QEMU));
        assert_eq!(error.message, "operation failed: job 'migration out' failed due to I/O error");
    }

    #[test]
    fn a_cancelled_finish_always_answers_an_error() {
        use destination::Fate;
        for fate in [Fate::Arrived, Fate::Declined(Why::Cancelled), Fate::Declined(Why::QemuDied)] {
            assert!(CONTEXT.finish(true, fate).is_err(), "{fate:?}");
        }
        let code = |fate| CONTEXT.finish(true, fate).unwrap_err().code;
        assert_eq!(code(Fate::Declined(Why::Cancelled)), ErrorCode::MIGRATE_FINISH_OK);
        assert_eq!(code(Fate::Declined(Why::SourceKept)), ErrorCode::MIGRATE_FINISH_OK);
        assert_eq!(code(Fate::Declined(Why::QemuDied)), ErrorCode::MIGRATE_FINISH_OK);
        assert_eq!(code(Fate::Arrived), ErrorCode::OPERATION_FAILED);
        let told = Context { qemu_error: Some("load of migration failed"), ..CONTEXT };
        let error = told.finish(true, Fate::Declined(Why::CopyFailed)).unwrap_err();
        assert_eq!(error.code, ErrorCode::OPERATION_FAILED);
        assert!(error.message.ends_with("job 'migration in' failed: load of migration failed"), "{error}");
    }

    #[test]
    fn a_guest_that_died_before_finish_is_no_domain() {
        let told = Context { qemu_error: Some("section mismatch"), ..CONTEXT };
        let error = told.finish(false, destination::Fate::Declined(Why::QemuDied)).unwrap_err();
        assert!(error.message.ends_with(": section mismatch"), "{error}");
        let error = CONTEXT.finish(false, destination::Fate::Declined(Why::QemuDied)).unwrap_err();
        assert_eq!((error.code, error.origin), (ErrorCode::NO_DOMAIN, Origin::NONE));
    }

    #[test]
    fn confirm_succeeds_only_when_both_mean_the_same_host() {
        use source::Fate;
        assert!(CONTEXT.confirm(false, Fate::Moved).is_ok() && CONTEXT.confirm(true, Fate::Stayed).is_ok());
        assert!(CONTEXT.confirm(true, Fate::Moved).is_err() && CONTEXT.confirm(false, Fate::Stayed).is_err());
    }
}
