//! Folders of the host that the guest mounts: what each kind of server does not know.

use std::collections::BTreeSet;

use super::{contradiction, unsupported};
use crate::{
    AccessMode, Domain, FileSystem, FileSystemDriver, FileSystemServer, FileSystemSource, MemoryAccess,
    ParseError,
};

/// Length of a name that a guest can mount, by the room that the device has for it.
const TAG_MAX: usize = 36;

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    let mut seen = BTreeSet::new();
    for file_system in &domain.devices.filesystems {
        one(file_system)?;
        let tag = &file_system.target.dir;
        if !seen.insert(tag) {
            return contradiction(format!("filesystem target '{tag}' specified twice"));
        }
        if file_system.served_by() == FileSystemServer::Virtiofs && !shares_memory(domain) {
            return unsupported("'virtiofs' requires shared memory");
        }
    }
    Ok(())
}

fn one(file_system: &FileSystem) -> Result<(), ParseError> {
    let tag = &file_system.target.dir;
    let (dir, socket) = match &file_system.source {
        Some(FileSystemSource { dir, socket, .. }) => (dir.as_deref(), socket.as_deref()),
        None => (None, None),
    };
    if dir.is_none() && socket.is_none() {
        return Err(ParseError::MissingSource { target: tag.clone() });
    }
    if let Some(path) = dir.or(socket).filter(|path| !path.starts_with('/')) {
        return unsupported(format!("source '{path}' of filesystem '{tag}' is not an absolute path"));
    }
    if tag.is_empty() || tag.len() > TAG_MAX {
        return unsupported(format!("target '{tag}' of a filesystem must have 1 to {TAG_MAX} bytes"));
    }
    let has_modes = file_system.fmode.is_some() || file_system.dmode.is_some();
    if has_modes && file_system.access_mode != Some(AccessMode::Mapped) {
        return unsupported("fmode and dmode must be used with accessmode=mapped");
    }
    match file_system.served_by() {
        FileSystemServer::Path => served_by_qemu(file_system, socket.is_some()),
        FileSystemServer::Virtiofs => served_by_itself(file_system, socket.is_some()),
    }
}

fn served_by_qemu(file_system: &FileSystem, by_socket: bool) -> Result<(), ParseError> {
    let queue = file_system.driver.as_ref().and_then(|driver| driver.queue);
    if by_socket || file_system.binary.is_some() || queue.is_some() {
        return unsupported("socket, binary and queue are only supported with driver type 'virtiofs'");
    }
    Ok(())
}

fn served_by_itself(file_system: &FileSystem, is_external: bool) -> Result<(), ParseError> {
    let writes = file_system.driver.as_ref().and_then(|driver| driver.write_policy);
    match () {
        () if file_system.access_mode.is_some_and(|mode| mode != AccessMode::Passthrough) => {
            unsupported("virtiofs only supports passthrough accessmode")
        }
        () if writes.is_some() => unsupported("virtiofs does not support wrpolicy"),
        () if file_system.model.is_some() => unsupported("virtiofs does not support model"),
        () if file_system.multidevs.is_some() => unsupported("virtiofs does not support multidevs"),
        // Stock forgets it and lets the guest write.
        () if file_system.readonly => unsupported("virtiofs does not support readonly"),
        () if is_external && file_system.binary.is_some() => {
            unsupported("a virtiofs server that somebody else started cannot be given a binary")
        }
        () => queue(file_system.driver.as_ref()),
    }
}

fn queue(driver: Option<&FileSystemDriver>) -> Result<(), ParseError> {
    match driver.and_then(|driver| driver.queue) {
        Some(length) if !length.is_power_of_two() || length > 1024 => {
            unsupported(format!("virtiofs queue '{length}' is not a power of two of at most 1024"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A server outside QEMU sees the guest's memory.
fn shares_memory(domain: &Domain) -> bool {
    let backing = domain.memory_backing.as_ref().and_then(|backing| backing.access);
    let cells = domain.cells();
    backing == Some(MemoryAccess::Shared)
        || !cells.is_empty() && cells.iter().all(|cell| cell.mem_access == Some(MemoryAccess::Shared))
}
