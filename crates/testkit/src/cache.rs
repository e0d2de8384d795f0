//! A folder of things that are made once and used by every test process: unpacked packages, initial ramdisks.
//!
//! An entry is a directory that appears whole or not at all: it is made under another name, behind a lock, and renamed.
//! Its key names its content, so an entry never changes; a stale one is simply not asked for again.

use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::{Error, Result};

/// The folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$FERRY_TEST_CACHE`, else `$XDG_CACHE_HOME/ferry-test`, else `~/.cache/ferry-test`.
    ///
    /// # Errors
    /// [`Error::Missing`] when none of the variables is set, [`Error::Io`] when the folder cannot be made.
    pub fn open() -> Result<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("FERRY_TEST_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|home| home.join("ferry-test")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/ferry-test")))
            .ok_or_else(|| Error::Missing {
                what: "a folder for the tests' cache".into(),
                needed_for: "set FERRY_TEST_CACHE".into(),
            })?;
        Self::at(root)
    }

    /// A cache in a folder of the caller's choice.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be made.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(Error::io(format!("making {root:?}")))?;
        let root = root.canonicalize().map_err(Error::io(format!("{root:?}")))?;
        Ok(Self { root })
    }

    /// Where it is; absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of entry `key` (a file name); `make` fills it when it is not there. One process makes it, the
    /// others wait.
    ///
    /// # Errors
    /// What `make` gives, or [`Error::Io`]; nothing is left under the key then.
    pub fn entry(&self, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.root.join(key);
        if path.is_dir() {
            return Ok(path);
        }
        let _held = self.lock(key)?;
        if path.is_dir() {
            return Ok(path);
        }
        // Behind the lock nobody else works in it: what lies there was left by a process that died.
        let draft = self.root.join(format!(".{key}.new"));
        let fresh = || -> std::io::Result<()> {
            if draft.exists() {
                fs::remove_dir_all(&draft)?;
            }
            fs::create_dir(&draft)
        };
        fresh().map_err(Error::io(format!("making {draft:?}")))?;
        let made = make(&draft);
        if made.is_err() {
            let _ = fs::remove_dir_all(&draft);
        }
        made?;
        fs::rename(&draft, &path).map_err(Error::io(format!("renaming {draft:?}")))?;
        Ok(path)
    }

    /// Holds the lock `key` until the result is dropped. A process that dies lets go of it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lock(&self, key: &str) -> Result<Lock> {
        let path = self.root.join(format!(".{key}.lock"));
        let file = File::create(&path).map_err(Error::io(format!("{path:?}")))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| Error::io(format!("locking {path:?}"))(errno.into()))?;
        Ok(Lock { _file: file })
    }
}

/// A lock that is held; see [`Cache::lock`].
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A short name for content, for use in a key. Not for anything that must resist an attacker.
pub fn digest(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_made_once_and_a_failed_one_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let failed = cache.entry("thing", |path| {
            fs::write(path.join("half"), "x").unwrap();
            Err(Error::Missing { what: "all".into(), needed_for: "this".into() })
        });
        assert!(failed.is_err());
        assert!(!folder.path().join("thing").exists() && !folder.path().join(".thing.new").exists());

        let made = cache.entry("thing", |path| {
            fs::write(path.join("whole"), "x").map_err(Error::io("writing"))?;
            Ok(())
        });
        assert!(made.unwrap().join("whole").exists());
        cache.entry("thing", |_| unreachable!("it is there")).unwrap();
    }

    #[test]
    fn two_threads_that_want_an_entry_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let made = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let entry = cache.entry("thing", |_| {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        Ok(())
                    });
                    assert!(entry.unwrap().is_dir());
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }
}
