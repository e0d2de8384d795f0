//! Where a host keeps its things: one struct of paths, for a private root or for the packaged places.
//!
//! Called once at start; everybody else borrows the paths. It creates folders and takes the lock that keeps a
//! second daemon out; it knows nothing of what is kept inside.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use thiserror::Error;

/// The longest path that a UNIX socket address can hold, without the closing NUL (unix(7), `sun_path`).
const SOCKET_PATH_MAX: usize = 107;

/// The longest socket that a usual guest has below the root; longer names of channels are refused at start.
const LONGEST_SOCKET: &str = "/channel/99999-01234567/org.qemu.guest_agent.0";

/// The places of one host.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Socket with full access.
    pub(crate) socket: PathBuf,
    /// Socket for read-only clients.
    pub(crate) socket_read_only: PathBuf,
    /// One folder for each running QEMU: monitor and channel sockets. Called `channel`, as with stock, because
    /// that is how a socket that a daemon named is told from one that the user named.
    pub(crate) run: PathBuf,
    /// The SQLite database.
    pub(crate) database: PathBuf,
    /// Capability caches, one file for each build of QEMU.
    pub(crate) cache: PathBuf,
    /// QEMU's output, one file for each domain.
    pub(crate) logs: PathBuf,
    /// Variables of guests' firmware, one file for each domain that the daemon chose a place for.
    pub(crate) nvram: PathBuf,
    /// Memory of guests that is to lie in files; QEMU's files there have no names.
    pub(crate) ram: PathBuf,
    /// States of guests' TPMs, one folder for each domain.
    pub(crate) tpm: PathBuf,
    /// The configuration file that is read when none is named.
    pub(crate) config: PathBuf,
    lock: PathBuf,
}

/// Why a host cannot live where it was told to.
#[derive(Debug, Error)]
pub(crate) enum LayoutError {
    #[error(
        "the root {root:?} is too long for UNIX sockets below it: {len} bytes, at most {max}; choose a shorter folder"
    )]
    TooLong { root: PathBuf, len: usize, max: usize },
    #[error("cannot create {path:?}")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another ferryd runs with {path:?}")]
    Taken { path: PathBuf },
    #[error("cannot lock {path:?}")]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Held as long as this daemon owns the host; the kernel lets go of it however the daemon ends.
#[derive(Debug)]
pub(crate) struct HostLock(#[expect(dead_code, reason = "held, not read")] fs::File);

impl Layout {
    /// A complete private host below `root`. The folder is made when it is missing.
    pub(crate) fn private(root: &Path) -> Result<Layout, LayoutError> {
        make_dir(root, 0o711)?;
        let root =
            fs::canonicalize(root).map_err(|source| LayoutError::Create { path: root.to_owned(), source })?;
        let max = SOCKET_PATH_MAX - LONGEST_SOCKET.len();
        let len = root.as_os_str().len();
        if len > max {
            return Err(LayoutError::TooLong { root, len, max });
        }
        Ok(Layout {
            socket: root.join("sock"),
            socket_read_only: root.join("sock-ro"),
            run: root.join("channel"),
            database: root.join("ferry.sqlite"),
            cache: root.join("cache"),
            logs: root.join("log"),
            nvram: root.join("nvram"),
            ram: root.join("ram"),
            tpm: root.join("swtpm"),
            config: root.join("ferryd.toml"),
            lock: root.join("lock"),
        })
    }

    /// The packaged places of a machine-wide daemon.
    pub(crate) fn packaged() -> Layout {
        Layout {
            socket: "/run/ferry/sock".into(),
            socket_read_only: "/run/ferry/sock-ro".into(),
            run: "/run/ferry/channel".into(),
            database: "/var/lib/ferry/ferry.sqlite".into(),
            cache: "/var/cache/ferry".into(),
            logs: "/var/log/ferry".into(),
            nvram: "/var/lib/ferry/nvram".into(),
            ram: "/var/lib/ferry/ram".into(),
            tpm: "/var/lib/ferry/swtpm".into(),
            config: "/etc/ferry/ferryd.toml".into(),
            lock: "/run/ferry/lock".into(),
        }
    }

    /// Makes the folders and takes the host's lock.
    ///
    /// QEMU may run as another user, so the way to its run folder is open for passing (not for reading).
    pub(crate) fn occupy(&self) -> Result<HostLock, LayoutError> {
        for (dir, mode) in [
            (self.lock.parent(), 0o711),
            (self.database.parent(), 0o711),
            (Some(self.run.as_path()), 0o711),
            (Some(self.cache.as_path()), 0o700),
            (Some(self.logs.as_path()), 0o700),
            (Some(self.nvram.as_path()), 0o711),
            (Some(self.tpm.as_path()), 0o711),
        ] {
            if let Some(dir) = dir {
                make_dir(dir, mode)?;
            }
        }
        let lock_error = |source| LayoutError::Lock { path: self.lock.clone(), source };
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)
            .map_err(lock_error)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(HostLock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LayoutError::Taken { path: self.lock.clone() }),
            Err(errno) => Err(lock_error(errno.into())),
        }
    }
}

fn make_dir(dir: &Path, mode: u32) -> Result<(), LayoutError> {
    let error = |source| LayoutError::Create { path: dir.to_owned(), source };
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(error)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_too_long_for_sockets_is_refused_with_the_limit() {
        let base = std::env::temp_dir().join("x".repeat(90));
        let refused = Layout::private(&base);
        let _ = fs::remove_dir(&base);
        assert!(matches!(refused, Err(LayoutError::TooLong { max, .. }) if max == 61), "{refused:?}");
    }

    #[test]
    fn a_second_daemon_is_kept_out_until_the_first_has_gone() {
        let dir = std::env::temp_dir().join(format!("fl{}", std::process::id()));
        let layout = Layout::private(&dir).unwrap();
        let first = layout.occupy().unwrap();
        assert!(matches!(layout.occupy(), Err(LayoutError::Taken { .. })));
        drop(first);
        layout.occupy().unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
