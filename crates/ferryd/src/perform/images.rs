//! The images of a guest as they lie on this host: read, followed to their bases, made QEMU's own.
//!
//! Called by [`super::launch`]. What a header means is `ferry_qemu::blockgraph`'s; this room opens files.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use ferry_domxml::disk::Disk;
use ferry_domxml::storage::Source;
use ferry_qemu::blockgraph::{self, ChainError, Found};

use super::ownership::Account;

/// Follows each disk's image to its base and writes what was found into the live definition.
///
/// # Errors
/// An image is missing, unreadable, or its metadata cannot be followed.
pub(crate) fn follow(disks: &mut [Disk]) -> Result<(), ChainError<io::Error>> {
    for disk in disks {
        let Some(path) = disk.source.path().map(str::to_owned) else { continue };
        // A chain that the definition spells out is the user's; it is not looked up again.
        if disk.backing_store.is_some() {
            continue;
        }
        let chain = blockgraph::read_chain(&path, disk.format(), read_start)?;
        blockgraph::attach(disk, &chain);
    }
    Ok(())
}

/// Makes the images belong to the account that QEMU runs as. A base that others may share stays theirs.
///
/// # Errors
/// An image is missing, or is not ours to give.
pub(crate) fn own(disks: &[Disk], account: &Account) -> io::Result<()> {
    for disk in disks {
        own_source(&disk.source, account)?;
    }
    Ok(())
}

fn own_source(source: &Source, account: &Account) -> io::Result<()> {
    if let Some(path) = source.path() {
        account.own(Path::new(path))?;
    }
    match &source.data_store {
        Some(data) => own_source(&data.source, account),
        None => Ok(()),
    }
}

/// The first `wanted` bytes of an image.
fn read_start(path: &str, wanted: usize) -> io::Result<Found> {
    let file = File::open(path)?;
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a block device"));
    }
    let mut bytes = Vec::new();
    file.take(u64::try_from(wanted).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(Found { bytes, is_block: kind.is_block_device() })
}
