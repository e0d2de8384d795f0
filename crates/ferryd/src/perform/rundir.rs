//! The run folder of one QEMU: its monitor and channel sockets, gone with it.
//!
//! Its name is the guest's number and the launch id, random for each start, so that a guest that comes back to a
//! host finds nothing of its former self in the way. Called by [`super::launch`] and [`crate::restart`].

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::ownership::Account;

/// One folder below the host's run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the folder for a new launch, owned by the account that QEMU will run as.
    pub(crate) fn create(run: &Path, id: i32, launch_id: &str, account: &Account) -> io::Result<RunDir> {
        let path = run.join(format!("{id}-{launch_id}"));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        account.own(&path)?;
        Ok(RunDir { path })
    }

    /// The folder of a launch that went before this daemon.
    pub(crate) fn existing(path: PathBuf) -> RunDir {
        RunDir { path }
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The monitor's socket. QEMU is given the listening descriptor, so that it can be connected to at once and
    /// again after a restart of the daemon.
    pub(crate) fn monitor(&self) -> PathBuf {
        self.path.join("mon.sock")
    }

    /// Who plays the guest's TPM: a note for a later daemon.
    pub(crate) fn tpm(&self) -> PathBuf {
        self.path.join("swtpm.pid")
    }

    /// The socket of a channel whose definition names no path.
    pub(crate) fn channel(&self, target: &str) -> PathBuf {
        self.path.join(target)
    }

    /// Listens at `path`; the socket belongs to the account that QEMU runs as.
    pub(crate) fn listen(path: &Path, account: &Account) -> io::Result<UnixListener> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.mode() & 0o170_000 == 0o140_000 => fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("{} exists and is no socket", path.display()),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        account.own(path)?;
        Ok(listener)
    }

    /// Removes the folder and all in it. A folder that is gone already is no error.
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the run folder");
        }
    }
}
