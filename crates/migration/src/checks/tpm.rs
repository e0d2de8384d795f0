//! Whether the state of the guest's TPM can go along.
//!
//! Called through [`super`]. It travels in QEMU's stream, and the other host's program writes it to a file of its own. Were that
//! the same file, on storage that both hosts share, each would write over the other's, and a migration that fails would
//! leave the source with a state that is not its guest's.

use ferry_rpc::error::ErrorCode;

use super::file_system::{FileSystem, Sharing};
use super::{Ask, Finding, Severity};

/// Stock's text.
const SHARED: &str = "the running swtpm does not support migration with shared storage";

/// What forbids it. `state`: where a guest's TPM keeps its state on this host; none for a guest without TPM.
pub fn findings(state: Option<&FileSystem>, ask: Ask) -> Vec<Finding> {
    // A definition alone takes no TPM along, and a guest that stays keeps its own.
    let Some(FileSystem { kind, sharing }) = state.filter(|_| ask.remote && !ask.offline) else {
        return Vec::new();
    };
    match sharing {
        Sharing::Local => Vec::new(),
        Sharing::Shared | Sharing::Clustered => vec![Finding {
            severity: Severity::Refusal,
            code: ErrorCode::NO_SUPPORT,
            text: format!("{SHARED} (its state is on {kind})"),
            remedy: "keep the hosts' own state (`swtpm` in the daemon's folder) on storage that no other host sees",
        }],
    }
}

#[cfg(test)]
mod tests {
    use ferry_rpc::flags::MigrateFlags;

    use super::*;

    #[test]
    fn a_state_that_both_hosts_would_write_does_not_move() {
        let on = |kind: &str, sharing| FileSystem { kind: kind.to_owned(), sharing };
        let live = Ask::of(MigrateFlags::LIVE | MigrateFlags::UNSAFE);
        for place in [on("nfs4", Sharing::Shared), on("gfs2", Sharing::Clustered)] {
            let found = findings(Some(&place), live);
            let [finding] = &found[..] else { panic!("one finding: {found:?}") };
            assert_eq!(finding.text, format!("{SHARED} (its state is on {})", place.kind));
            assert_eq!(
                finding.error().message,
                format!("this function is not supported by the connection driver: {}", finding.text)
            );
            assert!(findings(Some(&place), Ask::of(MigrateFlags::OFFLINE)).is_empty());
            assert!(findings(Some(&place), Ask { remote: false, ..live }).is_empty());
        }
        assert!(findings(Some(&on("ext4", Sharing::Local)), live).is_empty());
        assert!(findings(None, live).is_empty());
    }
}
