//! What can go wrong around a test. One enum for the whole crate: its reader is a person looking at a failed test, who
//! wants to know what was tried and what came back.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// A test's surroundings failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, directory, socket or process did not do what was asked.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A command ended badly.
    #[error("{command}: {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Exit code or signal, in words.
        status: String,
        /// What it printed, standard output first.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("{what}: not within {limit:?}{detail}")]
    Late {
        /// The condition.
        what: String,
        /// How long it was waited for.
        limit: Duration,
        /// What was seen instead; empty or begins with a line break.
        detail: String,
    },
    /// Something that the machine must bring is not there.
    #[error("{what} is missing: {needed_for}")]
    Missing {
        /// The thing.
        what: String,
        /// What it is needed for, or how to get it.
        needed_for: String,
    },
    /// A peer said something that cannot be understood.
    #[error("{what}: {detail}")]
    Unexpected {
        /// Who or what.
        what: String,
        /// What it said.
        detail: String,
    },
    /// A file of a known format is not of that format.
    #[error("{path:?}: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// Turns an IO error into one that says what was tried; for `map_err`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what: format!("{what}: {source}"), source }
    }
}
