//! What the operator is told when something did not work: what, why, where the guest is, what to do next.
//!
//! Every command ends in it; `main` prints it once and turns it into the exit status. Codes of the wire are kept, since
//! operators search for them.

use std::fmt;
use std::process::ExitCode;

use ferry_client::{CallError, OpenError, Transport, Uri};
use ferry_rpc::{Error, ErrorCode, Origin};

/// What a failure means for the guest; the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It failed, and the guest is where it was.
    Failed = 1,
    /// It was refused before anything was started.
    Refused = 2,
    /// Nobody knows yet on which host the guest runs.
    InDoubt = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Failure {
    /// What it means.
    pub(crate) exit: Exit,
    /// What was to be done: `cannot start 'vm'`.
    pub(crate) doing: String,
    /// The host's error, or what went wrong here.
    pub(crate) cause: Cause,
    /// Where the guest is now, when that is a question.
    pub(crate) guest: Option<String>,
    /// What the operator can do.
    pub(crate) next: Option<String>,
}

/// Why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A host's word, or that of the connection to it.
    Wire(Error),
    /// Something here.
    Here(String),
}

impl Failure {
    /// Refused before anything was started.
    pub(crate) fn refused(doing: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::new(Exit::Refused, doing, cause)
    }

    /// Failed; the guest is where it was.
    pub(crate) fn failed(doing: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::new(Exit::Failed, doing, cause)
    }

    /// A failure, with the advice that its code calls for.
    pub(crate) fn new(exit: Exit, doing: impl Into<String>, cause: impl Into<Cause>) -> Self {
        let cause = cause.into();
        let next = match &cause {
            Cause::Wire(error) => advice(error).map(str::to_owned),
            Cause::Here(_) => None,
        };
        Self { exit, doing: doing.into(), cause, guest: None, next }
    }

    /// Says where the guest is.
    pub(crate) fn guest(mut self, guest: impl Into<String>) -> Self {
        self.guest = Some(guest.into());
        self
    }

    /// Says what to do next, instead of what the code calls for.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// No connection to the host at `uri`.
    pub(crate) fn no_connection(uri: &Uri, error: &OpenError) -> Self {
        let failure = Self::refused(format!("cannot connect to {uri}"), error.to_wire());
        match (error, uri.transport()) {
            (OpenError::Dial(_), Transport::Unix { .. }) => failure.next(
                "see whether ferryd runs there (`ferryd --root DIR` for a private host), or name another host with -c",
            ),
            (OpenError::Dial(_), Transport::Tcp { .. }) => failure.next(
                "see whether ferryd listens there: it does only with --listen-tcp, and firewalls have a say too",
            ),
            _ => failure,
        }
    }
}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Self::Wire(error)
    }
}

impl From<CallError> for Cause {
    fn from(error: CallError) -> Self {
        Self::Wire(error.to_wire())
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self::Here(text)
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        Self::Here(text.to_owned())
    }
}

/// The text, with code and origin behind it.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(Error { code, origin, message }) => {
                write!(f, "{message} [{}/{}]", code.0, origin.0)
            }
            Self::Here(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.cause)?;
        if let Some(guest) = &self.guest {
            write!(f, "\n  guest: {guest}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next:  {next}")?;
        }
        Ok(())
    }
}

/// What a code calls for.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    Some(match (error.code, error.origin) {
        (ErrorCode::NO_DOMAIN, _) => "`ferry list --all` shows which guests the host knows",
        (ErrorCode::MIGRATE_UNSAFE, _) => {
            "put the disks on storage that both hosts share; if they are, name their tree in `shared_filesystems` of ferryd.toml; or say --unsafe and answer for it"
        }
        (ErrorCode::CPU_INCOMPATIBLE, _) => {
            "the destination's CPU lacks something the guest has: choose a CPU model that both hosts have"
        }
        (ErrorCode::CONFIG_UNSUPPORTED, _) => "change what the text names in the domain XML",
        (ErrorCode::XML_ERROR | ErrorCode::XML_DETAIL, _) => "correct the domain XML where the text points",
        (ErrorCode::OPERATION_DENIED | ErrorCode::AUTH_FAILED | ErrorCode::ACCESS_DENIED, _) => {
            "use an account that may change guests, and the socket that is not read-only"
        }
        (ErrorCode::OPERATION_TIMEOUT, _) => {
            "another job holds the guest: `virsh domjobinfo` shows it; try again later"
        }
        (ErrorCode::SYSTEM_ERROR | ErrorCode::INTERNAL_ERROR, Origin::RPC) => {
            "the daemon or the network went away: see whether ferryd runs, then `ferry list --all`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_why_where_and_what_next() {
        let error = Error::of(ErrorCode::NO_DOMAIN, Origin::QEMU, "no domain with matching name 'vm'");
        let failure = Failure::refused("cannot start 'vm'", error).guest("unknown");
        assert_eq!(
            failure.to_string(),
            "cannot start 'vm': Domain not found: no domain with matching name 'vm' [42/10]\n  guest: unknown\n  \
             next:  `ferry list --all` shows which guests the host knows"
        );
        assert_eq!(failure.exit, Exit::Refused);
    }

    #[test]
    fn nothing_is_made_up_where_nothing_is_known() {
        let error = Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, "no");
        assert_eq!(
            Failure::failed("cannot define", error).to_string(),
            "cannot define: operation failed: no [9/10]"
        );
    }
}
