//! Why the store did not do what it was asked.

use rusqlite::ffi::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use uuid::Uuid;

/// Why the store did not do what it was asked. Every text names the file.
///
/// **After a failed write nothing may be done that relied on it, nor anything that relies on its absence**: when
/// the disk failed in the middle of a sync, the change may still be found after a restart. The next write that
/// succeeds ends the doubt, because it overwrites what the failed one left.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file is not there and cannot be made, or may not be written.
    #[error("cannot open {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// SQLite cannot open the file.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process has the file open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer daemon wrote the file.
    #[error("{} has schema version {found}, and this daemon knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// The file belongs to another program.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no room left for a change.
    #[error("no space left to write {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The disk failed, or the file may not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: rusqlite::Error,
    },
    /// The disk failed to give something back.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: rusqlite::Error,
    },
    /// Another domain has the name.
    #[error("domain name {name} is taken by domain {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// The domain that has it.
        holder: Uuid,
    },
}

/// What was being done when SQLite failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum During {
    Open,
    Read,
    Write,
}

impl StoreError {
    /// Sorts an error of SQLite by what can be done about it.
    pub(crate) fn new(path: &Path, during: During, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if let rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::IntegralValueOutOfRange(..) =
            source
        {
            return Self::Damaged { path, detail: source.to_string() };
        }
        match (source.sqlite_error_code(), during) {
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _) => {
                Self::Damaged { path, detail: source.to_string() }
            }
            (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => Self::InUse { path },
            (Some(ErrorCode::DiskFull), _) => Self::Full { path },
            (_, During::Open) => Self::Open { path, source },
            (_, During::Read) => Self::Read { path, source },
            (_, During::Write) => Self::Write { path, source },
        }
    }
}
