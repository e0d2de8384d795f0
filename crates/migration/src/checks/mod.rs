//! What stands in the way of a migration: every problem, not the first.
//!
//! ```text
//!   facts about the guest ───> allowed ─┐
//!   facts about its storage ─> safe ────┼──> Vec<Finding> ──> refusal: one error that names them all
//!   where its TPM's state is ─> tpm ────┤
//!   facts about the other host > fits ──┤                └──> a plan: the warnings too
//!   user's flags ────────────> Ask ─────┘
//! ```
//!
//! Called by the source's driver at Begin and again at Perform, and by the destination's at Prepare for what the
//! definition shows, since a source may be older or foreign. Whoever calls gathers the facts; nothing here looks at a
//! host. Codes and texts are those that stock's clients know (seen with libvirt 9.0 and 11.3).

pub mod allowed;
mod devices;
pub mod disks;
pub mod file_system;
pub mod fits;
pub mod safe;
pub mod stock;
pub mod tpm;

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::MigrateFlags;

pub use file_system::{FileSystem, Sharing};

/// What the user asked for, as far as checks depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The guest goes to another host. Saving it on this one needs fewer checks.
    pub remote: bool,
    /// Only the definition goes.
    pub offline: bool,
    /// An I/O error of the guest is to call the migration off.
    pub abort_on_error: bool,
    /// The user answers for the disks.
    pub trust_disks: bool,
}

impl Ask {
    /// What the flags of a migration ask for.
    pub const fn of(flags: MigrateFlags) -> Self {
        Self {
            remote: true,
            offline: flags.contains(MigrateFlags::OFFLINE),
            abort_on_error: flags.contains(MigrateFlags::ABORT_ON_ERROR),
            trust_disks: flags.contains(MigrateFlags::UNSAFE),
        }
    }
}

/// What a finding means for the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does not begin, or would fail on the way.
    Refusal,
    /// It goes, and the operator should know.
    Warning,
}

/// One problem, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it keeps the guest where it is.
    pub severity: Severity,
    /// Stock's code for it.
    pub code: ErrorCode,
    /// What is wrong, beginning with stock's text, without the code's own words in front.
    pub text: String,
    /// What would help.
    pub remedy: &'static str,
}

impl Finding {
    /// As a client is shown it.
    pub fn error(&self) -> Error {
        Error::of(self.code, Origin::QEMU, &self.text)
    }
}

/// The refusal for what was found; nothing when nothing was, or only warnings. The first problem gives the code and the beginning of
/// the text, by which clients recognise it; the others follow, so that nobody mends one only to meet the next.
pub fn refusal(findings: &[Finding]) -> Option<Error> {
    let mut refusals = findings.iter().filter(|finding| finding.severity == Severity::Refusal);
    let first = refusals.next()?;
    let mut error = first.error();
    for other in refusals {
        error.message.push_str("; also: ");
        error.message.push_str(&if other.code == first.code {
            other.text.clone()
        } else {
            other.error().message
        });
    }
    Some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_names_all() {
        let finding = |code, text: &str| Finding {
            severity: Severity::Refusal,
            code,
            text: text.to_owned(),
            remedy: "",
        };
        let warning =
            Finding { severity: Severity::Warning, ..finding(ErrorCode::OPERATION_INVALID, "odd clocks") };
        assert_eq!(refusal(std::slice::from_ref(&warning)), None);
        let found = [
            warning,
            finding(ErrorCode::OPERATION_INVALID, "domain has active block job"),
            finding(ErrorCode::OPERATION_INVALID, "domain is marked for auto destroy"),
            finding(ErrorCode::MIGRATE_UNSAFE, safe::NOT_SHARED),
        ];
        let error = refusal(&found).unwrap();
        assert_eq!((error.code, error.origin), (ErrorCode::OPERATION_INVALID, Origin::QEMU));
        assert_eq!(
            error.message,
            "Requested operation is not valid: domain has active block job; also: domain is marked for auto destroy; \
             also: Unsafe migration: Migration without shared storage is unsafe"
        );
        assert_eq!(refusal(&[]), None);
    }

    #[test]
    fn flags_say_what_is_asked() {
        let ask = Ask::of(MigrateFlags::LIVE | MigrateFlags::UNSAFE | MigrateFlags::ABORT_ON_ERROR);
        assert_eq!(ask, Ask { remote: true, offline: false, abort_on_error: true, trust_disks: true });
        assert!(Ask::of(MigrateFlags::OFFLINE).offline);
    }
}
