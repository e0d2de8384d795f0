//! Files that go with a definition: variables of firmware, the state of a TPM.
//!
//! The definition is forgotten in the store, the files in their folders, and no power cut may leave one without the other.
//! So what is to go is first set aside under another name; it is removed when the definition is forgotten, and is back
//! when that failed. What a daemon that died left aside is settled at the next start, or when the guest starts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sync_folder_of;

/// The end of a name that is set aside.
const ASIDE: &str = ".gone";

/// A file or a folder that is set aside.
#[derive(Debug)]
pub(crate) struct Discarded {
    path: PathBuf,
}

impl Discarded {
    /// Sets `path` aside; nothing when it is not there.
    pub(crate) fn set_aside(path: PathBuf) -> io::Result<Option<Discarded>> {
        if !path.exists() {
            return Ok(None);
        }
        remove(&aside(&path))?;
        fs::rename(&path, aside(&path))?;
        sync_folder_of(&path)?;
        Ok(Some(Discarded { path }))
    }

    /// The definition stays, and so does this.
    pub(crate) fn put_back(self) -> io::Result<()> {
        put_back(&self.path)
    }

    /// The definition is forgotten.
    pub(crate) fn remove(self) -> io::Result<()> {
        remove(&aside(&self.path))?;
        sync_folder_of(&self.path)
    }
}

/// Puts `path`, which belongs to a definition that is kept, back in its place when it was set aside.
pub(crate) fn put_back(path: &Path) -> io::Result<()> {
    let aside = aside(path);
    if path.exists() || !aside.exists() {
        return Ok(());
    }
    fs::rename(aside, path)?;
    sync_folder_of(path)
}

/// Removes what is still aside in `folder` after every kept definition has had its own back.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(ASIDE) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ASIDE);
    PathBuf::from(name)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_goes_or_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (file, tree) = (folder.path().join("a_VARS.fd"), folder.path().join("tree"));
        fs::write(&file, "variables").unwrap();
        fs::create_dir_all(tree.join("tpm2")).unwrap();
        assert!(Discarded::set_aside(folder.path().join("none")).unwrap().is_none());

        let discarded = Discarded::set_aside(file.clone()).unwrap().unwrap();
        assert!(!file.exists());
        discarded.put_back().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "variables");

        for path in [&file, &tree] {
            let discarded = Discarded::set_aside(path.clone()).unwrap().unwrap();
            discarded.remove().unwrap();
            assert!(!path.exists());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_daemon_left_aside_is_settled_by_the_definitions_that_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, forgotten) = (folder.path().join("kept"), folder.path().join("forgotten"));
        for path in [&kept, &forgotten] {
            fs::write(path, "x").unwrap();
            Discarded::set_aside(path.clone()).unwrap();
        }
        put_back(&kept).unwrap();
        sweep(folder.path()).unwrap();
        assert!(kept.exists() && !forgotten.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_newer_file_is_not_replaced_by_what_was_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "old").unwrap();
        Discarded::set_aside(file.clone()).unwrap();
        fs::write(&file, "new").unwrap();
        put_back(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }
}
