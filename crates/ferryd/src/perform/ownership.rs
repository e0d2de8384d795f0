//! Whom QEMU runs as, and the images that are made its own when a guest starts.
//!
//! When a guest leaves, nothing is given back: the same image may already be in use on the destination, and an
//! owner taken away under a running guest is an I/O error in it. Called by [`super::launch`].

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use thiserror::Error;

/// The user and group of guest processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Unset: the daemon's own.
    pub(crate) uid: Option<u32>,
    /// Unset: the daemon's own.
    pub(crate) gid: Option<u32>,
}

/// Why a configured account cannot be used.
#[derive(Debug, Error)]
pub(crate) enum AccountError {
    #[error("no user {0:?} in /etc/passwd")]
    NoUser(String),
    #[error("no group {0:?} in /etc/group")]
    NoGroup(String),
    #[error("only root can run QEMU as another user; leave `user` and `group` out of the configuration")]
    NotRoot,
    #[error("cannot read {path}")]
    Read {
        path: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Account {
    /// Looks the configured names up. Numbers are taken as they are.
    pub(crate) fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Account, AccountError> {
        if user.is_none() && group.is_none() {
            return Ok(Account::default());
        }
        if !rustix::process::geteuid().is_root() {
            return Err(AccountError::NotRoot);
        }
        let mut account = Account::default();
        if let Some(user) = user {
            let (uid, gid) = match user.parse() {
                Ok(uid) => (uid, None),
                Err(_) => {
                    let fields = entry("/etc/passwd", user)?.ok_or(AccountError::NoUser(user.into()))?;
                    (fields[0], fields.get(1).copied())
                }
            };
            account = Account { uid: Some(uid), gid };
        }
        if let Some(group) = group {
            account.gid = Some(match group.parse() {
                Ok(gid) => gid,
                Err(_) => entry("/etc/group", group)?.ok_or(AccountError::NoGroup(group.into()))?[0],
            });
        }
        Ok(account)
    }

    /// Has a program run as the account.
    pub(crate) fn run_as(&self, command: &mut Command) {
        if let Some(gid) = self.gid {
            command.gid(gid);
        }
        if let Some(uid) = self.uid {
            command.uid(uid);
        }
    }

    /// Makes `path` the account's own, when it is not.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        let found = fs::metadata(path)?;
        let differs =
            self.uid.is_some_and(|uid| uid != found.uid()) || self.gid.is_some_and(|gid| gid != found.gid());
        if differs { chown(path, self.uid, self.gid) } else { Ok(()) }
    }
}

/// The numbers behind the password field of `name`'s line: uid and gid, or gid.
fn entry(path: &'static str, name: &str) -> Result<Option<Vec<u32>>, AccountError> {
    let text = fs::read_to_string(path).map_err(|source| AccountError::Read { path, source })?;
    Ok(text
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name))
                .then(|| fields.skip(1).map_while(|f| f.parse().ok()).collect::<Vec<u32>>())
        })
        .filter(|numbers| !numbers.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_resolve() {
        if !rustix::process::geteuid().is_root() {
            assert!(matches!(Account::resolve(Some("root"), None), Err(AccountError::NotRoot)));
            return;
        }
        assert_eq!(Account::resolve(None, None).unwrap(), Account::default());
        assert_eq!(Account::resolve(Some("root"), None).unwrap(), Account { uid: Some(0), gid: Some(0) });
        assert_eq!(
            Account::resolve(Some("12"), Some("34")).unwrap(),
            Account { uid: Some(12), gid: Some(34) }
        );
        assert!(matches!(Account::resolve(Some("no such"), None), Err(AccountError::NoUser(_))));
    }
}
