//! What a QEMU has said: the part of the domain's log that is its own.
//!
//! Called where a QEMU has ended, or failed, and its caller is to be told why. QEMU says that nowhere else.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// The most of it that a caller is shown, in bytes.
const MOST: u64 = 4096;

/// One QEMU's part of a log.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    log: PathBuf,
    /// Where what counts begins, in bytes.
    start: u64,
}

impl Words {
    /// What is written to `log` from byte `start` on.
    pub(crate) fn from(log: PathBuf, start: u64) -> Words {
        Words { log, start }
    }

    /// Only what is said from now on counts: warnings at the start are no reason for a later end.
    pub(crate) fn pass_by(&mut self) {
        if let Ok(metadata) = self.log.metadata() {
            self.start = metadata.len();
        }
    }

    /// What was said, its end when that is much. Nothing when nothing was said, or the log is gone.
    pub(crate) fn last(&self) -> Option<String> {
        self.read().ok().filter(|words| !words.is_empty())
    }

    fn read(&self) -> io::Result<String> {
        let mut file = File::open(&self.log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.start.max(end.saturating_sub(MOST))))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

/// Whether QEMU says no more than that nothing came any more: where it was in the stream, and what follows from it.
pub(crate) fn is_end_of_stream(said: &str) -> bool {
    let is_end = |line: &str| {
        ["Input/output error", "Unable to read from socket", "failed: -5"]
            .iter()
            .any(|end| line.contains(end))
    };
    let follows = |line: &str| line.ends_with("load of migration failed: Invalid argument");
    said.lines().any(is_end) && said.lines().all(|line| is_end(line) || follows(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn only_the_end_of_what_is_its_own_is_shown() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        writeln!(log, "an earlier one").unwrap();
        let mut words = Words::from(log.path().to_owned(), 15);
        assert_eq!(words.last(), None);
        writeln!(log, "a warning").unwrap();
        assert_eq!(words.last().unwrap(), "a warning");
        words.pass_by();
        assert_eq!(words.last(), None);
        writeln!(log, "{}the reason", "x".repeat(10_000)).unwrap();
        let last = words.last().unwrap();
        assert!(last.ends_with("the reason") && last.len() < 4096, "{last}");
        drop(log);
        assert_eq!(words.last(), None);
    }

    #[test]
    fn that_the_stream_ended_is_no_reason_of_its_own() {
        for (said, ended) in [
            ("qemu: load of migration failed: Input/output error", true),
            (
                "qemu: check_section_footer: Read section footer failed: -5\nqemu: load of migration failed: Invalid argument",
                true,
            ),
            ("qemu: load of migration failed: Invalid argument", false),
            ("qemu: Unknown savevm section\nqemu: load of migration failed: Input/output error", false),
            ("", false),
        ] {
            assert_eq!(is_end_of_stream(said), ended, "{said}");
        }
    }
}
