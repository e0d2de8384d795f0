//! The images of a guest as they lie on this host: read, followed to their bases, made QEMU's own.
//!
//! Called by [`super::launch`], when a disk is plugged in, for a plan, and for what clients ask about disks. What a header
//! means is `ferry_qemu::blockgraph`'s; this room opens files.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use ferry_domxml::disk::{Disk, DiskDevice};
use ferry_domxml::storage::{BackingStore, ImageFormat, Location, Source, StartupPolicy};
use ferry_qemu::blockgraph::{self, ChainError, Found};
use ferry_qemu::qcow2::Header;
use rustix::fs::{Mode, OFlags};

use super::ownership::Account;

/// Follows each disk's image to its base and writes what was found into the live definition.
///
/// # Errors
/// An image is missing, unreadable, or its metadata cannot be followed.
pub(crate) fn follow(disks: &mut [Disk]) -> Result<(), ChainError<io::Error>> {
    for disk in disks {
        follow_disk(disk)?;
    }
    Ok(())
}

fn follow_disk(disk: &mut Disk) -> Result<(), ChainError<io::Error>> {
    let (mut source, mut format) = (&disk.source, disk.format());
    let mut below = disk.backing_store.as_ref();
    // What the definition spells out is the user's and not looked up again; behind its last image the search begins.
    while let Some(BackingStore::Image(image)) = below {
        (source, format) = (&image.source, image.format.unwrap_or(ImageFormat::Raw));
        below = image.backing_store.as_ref();
    }
    let is_terminated = matches!(below, Some(BackingStore::End));
    // Only what lies on this host can be looked at; a part of a file has its header elsewhere.
    let Some(path) = source.path().filter(|_| !is_terminated && source.slices.is_none()) else {
        return Ok(());
    };
    let chain = blockgraph::read_chain(path, format, read_start)?;
    blockgraph::attach(disk, &chain);
    Ok(())
}

/// Disks whose image is missing and whose definition says what that means (`startupPolicy`): a medium is left out of
/// its drive, a disk is left out of a guest that boots. What is to fail is left to be found missing. Tells the disks
/// that are left out.
pub(crate) fn leave_out_missing(disks: &mut Vec<Disk>, boots: bool) -> Vec<String> {
    let mut left_out = Vec::new();
    disks.retain_mut(|disk| {
        let is_missing = disk.source.path().is_some_and(|path| {
            fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        });
        let removable = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
        match disk.source.startup_policy {
            Some(StartupPolicy::Optional) if is_missing && removable => {}
            Some(StartupPolicy::Requisite) if is_missing && removable && !boots => {}
            Some(StartupPolicy::Optional) if is_missing && boots => {
                left_out.push(disk.target.dev.clone());
                return false;
            }
            Some(StartupPolicy::Mandatory | StartupPolicy::Requisite | StartupPolicy::Optional) | None => {
                return true;
            }
        }
        left_out.push(disk.target.dev.clone());
        let policy = disk.source.startup_policy;
        disk.source = Source { startup_policy: policy, ..Source::new(Location::File(None)) };
        disk.backing_store = None;
        true
    });
    left_out
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

/// An image as it lies on the host, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// What it takes of its file system.
    pub(crate) allocation: u64,
    /// How large the guest's disk is.
    pub(crate) capacity: u64,
    /// How long the file or device is.
    pub(crate) physical: u64,
}

/// Measures the image at `path`.
///
/// # Errors
/// It cannot be read, or is not what `format` says.
pub(crate) async fn measure(path: &str, format: ImageFormat) -> io::Result<Measured> {
    let path = path.to_owned();
    let measured = tokio::task::spawn_blocking(move || measure_now(&path, format)).await;
    measured.unwrap_or_else(|_| Err(io::Error::other("the daemon is stopping")))
}

fn measure_now(path: &str, format: ImageFormat) -> io::Result<Measured> {
    let (mut file, found) = open(path)?;
    let is_block = found.file_type().is_block_device();
    // A device has no length of its own: its end has to be looked for.
    let physical = if is_block { file.seek(SeekFrom::End(0))? } else { found.len() };
    let capacity = match format {
        ImageFormat::Raw => physical,
        ImageFormat::Qcow2 => header(path)?.virtual_size_bytes,
    };
    let allocation = if is_block { physical } else { found.blocks().saturating_mul(512) };
    Ok(Measured { allocation, capacity, physical })
}

/// The first `wanted` bytes of an image.
fn read_start(path: &str, wanted: usize) -> io::Result<Found> {
    let (file, found) = open(path)?;
    let mut bytes = Vec::new();
    file.take(u64::try_from(wanted).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(Found { bytes, is_block: found.file_type().is_block_device() })
}

/// The header of the qcow2 image at `path`.
///
/// # Errors
/// It cannot be read, or is none.
pub(crate) fn header(path: &str) -> io::Result<Header> {
    let (_, header) = blockgraph::read_header(|wanted| read_start(path, wanted))?;
    header.map_err(io::Error::other)
}

/// Opens an image to be read. The name of a base comes out of another image, so it may be anything, and with some things
/// to be opened is to be used: a pipe holds whoever opens it, a watchdog starts. So it is looked at first.
fn open(path: &str) -> io::Result<(File, Metadata)> {
    let place = File::from(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    let found = place.metadata()?;
    let kind = found.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a block device"));
    }
    // The same one, whatever has its name by now.
    let file = File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
    Ok((file, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sparse_file_is_long_and_takes_little() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        let path = file.path().to_str().unwrap();
        let measured = measure(path, ImageFormat::Raw).await.unwrap();
        assert_eq!(measured, Measured { allocation: 0, capacity: 8 << 20, physical: 8 << 20 });
        assert!(measure(path, ImageFormat::Qcow2).await.is_err(), "not what it is said to be");
        assert!(measure("/no/such/image", ImageFormat::Raw).await.is_err());
    }

    #[test]
    fn a_pipe_is_no_image_and_holds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let path = pipe.to_str().unwrap();
        assert_eq!(read_start(path, 512).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(measure_now(path, ImageFormat::Raw).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(read_start(folder.path().to_str().unwrap(), 512).is_err(), "nor is a folder");
    }
}
