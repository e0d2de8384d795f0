//! Loads the kernel modules that the ramdisk brings, in the order of their names: whoever packed them numbered them
//! so that each comes after what it needs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::finit_module;

/// Where the ramdisk has them.
const DIRECTORY: &str = "/modules";

/// Loads all. Gives what went wrong, one line each; a module that is already there is no problem.
pub(crate) fn load_all() -> Vec<String> {
    let mut paths: Vec<PathBuf> = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => return vec![format!("{DIRECTORY}: {error}")],
    };
    paths.sort();
    paths.iter().filter_map(|path| load(path).err().map(|why| format!("{}: {why}", path.display()))).collect()
}

fn load(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    match finit_module(&file, c"", 0) {
        // No such device: the driver found nothing to drive and left again, as ata_piix does on a q35 board.
        Ok(()) | Err(Errno::EXIST | Errno::NODEV) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
