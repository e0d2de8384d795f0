//! Effects on the world: processes, monitors, images, interfaces. Called by drivers, `probe` and `restart`.

pub(crate) mod activate;
pub(crate) mod agent;
pub(crate) mod discard;
pub(crate) mod firmware;
pub(crate) mod fit;
pub(crate) mod hook;
pub(crate) mod images;
pub(crate) mod launch;
pub(crate) mod memory;
pub(crate) mod monitor;
pub(crate) mod network;
pub(crate) mod ownership;
pub(crate) mod rundir;
pub(crate) mod seal;
pub(crate) mod settings;
pub(crate) mod storage;
pub(crate) mod throttle;
pub(crate) mod tpm;
pub(crate) mod vcpus;
pub(crate) mod virtiofs;
pub(crate) mod vnc;
pub(crate) mod words;

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes sure that the name of a file or folder, or that it has none any more, survives a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
