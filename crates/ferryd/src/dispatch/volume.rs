//! Files of this host, as the volumes that clients look for: virt-install asks about each disk before it makes a domain of it.
//!
//! There are no storage pools. A file is found by its path, its folder stands in for its pool, and nothing is kept: every
//! answer is what the file is now. Nothing is written, and what is removed is a file that no domain names. What a client is told decides what it writes into a definition, so
//! it is told only about files and block devices, and only when it may define domains.

use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use ferry_domxml::{Element, Node};
use ferry_qemu::blockgraph;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    PoolRef, StoragePoolGetAutostart, StoragePoolGetInfo, StoragePoolGetInfoReply, StoragePoolGetXmlDesc,
    StoragePoolIsActive, StoragePoolIsPersistent, StoragePoolLookupByVolume, StoragePoolRefresh,
    StorageVolDelete, StorageVolGetInfo, StorageVolGetInfoReply, StorageVolGetPath, StorageVolGetXmlDesc,
    StorageVolLookupByPath, VolumeRef,
};
use uuid::Uuid;

use super::{Context, accept_flags};
use crate::refuse;

/// What a pool that works is (`VIR_STORAGE_POOL_RUNNING`).
const RUNNING: u8 = 2;

/// What stands at the beginning of a qcow2 image, and where its size stands.
const QCOW2: &[u8] = b"QFI\xfb";
const QCOW2_SIZE: std::ops::Range<usize> = 24..32;

/// Bytes of a block that `stat` counts.
const BLOCK: u64 = 512;

/// What a file is.
struct Volume {
    path: String,
    is_block: bool,
    is_qcow2: bool,
    /// What a guest sees, bytes.
    capacity: u64,
    /// What it takes of the host, bytes.
    allocation: u64,
}

impl Volume {
    fn at(path: &str) -> Result<Self, Error> {
        let missing = || {
            let text = format!("no storage vol with matching path '{path}'");
            Error::of(ErrorCode::NO_STORAGE_VOL, Origin::STORAGE, text)
        };
        if !path.starts_with('/') {
            return Err(missing());
        }
        let known = fs::metadata(path).map_err(|_| missing())?;
        let is_block = known.file_type().is_block_device();
        if !is_block && !known.is_file() {
            return Err(missing());
        }
        let (head, end) = read_head(path).map_err(|_| missing())?;
        let is_qcow2 = head.starts_with(QCOW2);
        let inside = head.get(QCOW2_SIZE).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let capacity = inside.filter(|_| is_qcow2).unwrap_or(end);
        let allocation = if is_block { end } else { allocated(&known) };
        Ok(Self { path: path.to_owned(), is_block, is_qcow2, capacity, allocation })
    }

    fn xml(&self) -> String {
        let format = if self.is_qcow2 { "qcow2" } else { "raw" };
        let kind = if self.is_block { "block" } else { "file" };
        let target =
            with(Element::new("target"), [text("path", &self.path), attribute("format", "type", format)]);
        let size = |name: &str, bytes: u64| {
            let mut element = text(name, &bytes.to_string());
            element.attributes.push(("unit".to_owned(), "bytes".to_owned()));
            element
        };
        let parts = [
            text("name", name_of(&self.path)),
            text("key", &self.path),
            size("capacity", self.capacity),
            size("allocation", self.allocation),
            target,
        ];
        with(attribute("volume", "type", kind), parts).format()
    }
}

/// The first bytes of a file, and how long it is. A device that would have to be waited for is not.
fn read_head(path: &str) -> std::io::Result<(Vec<u8>, u64)> {
    let mut file = File::options().read(true).custom_flags(nonblocking()).open(path)?;
    let mut head = Vec::new();
    file.by_ref().take(QCOW2_SIZE.end as u64).read_to_end(&mut head)?;
    let end = file.seek(SeekFrom::End(0))?;
    Ok((head, end))
}

/// `O_NONBLOCK`, as `open` takes it.
fn nonblocking() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}

fn allocated(known: &Metadata) -> u64 {
    known.blocks().saturating_mul(BLOCK)
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn folder_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        None | Some(("", _)) => "/",
        Some((folder, _)) => folder,
    }
}

fn text(name: &str, text: &str) -> Element {
    let mut element = Element::new(name);
    element.children.push(Node::Text(text.to_owned()));
    element
}

fn attribute(name: &str, key: &str, value: &str) -> Element {
    let mut element = Element::new(name);
    element.attributes.push((key.to_owned(), value.to_owned()));
    element
}

fn with(mut element: Element, children: impl IntoIterator<Item = Element>) -> Element {
    element.children.extend(children.into_iter().map(Node::Element));
    element
}

/// A file by its path.
pub(super) fn by_path(context: &Context, call: StorageVolLookupByPath) -> Result<VolumeRef, Error> {
    if context.gate.is_read_only() {
        // What files there are is nothing for those who may only look at guests.
        let text = format!("no storage vol with matching path '{}'", call.path);
        return Err(Error::of(ErrorCode::NO_STORAGE_VOL, Origin::STORAGE, text));
    }
    let Volume { path, .. } = Volume::at(&call.path)?;
    Ok(VolumeRef { pool: folder_of(&path).to_owned(), name: name_of(&path).to_owned(), key: path })
}

/// The file that a client holds.
fn held(context: &Context, volume: &VolumeRef) -> Result<Volume, Error> {
    by_path(context, StorageVolLookupByPath { path: volume.key.clone() })
        .and_then(|found| Volume::at(&found.key))
}

pub(super) fn info(context: &Context, call: StorageVolGetInfo) -> Result<StorageVolGetInfoReply, Error> {
    let volume = held(context, &call.vol)?;
    let kind = i8::from(volume.is_block);
    Ok(StorageVolGetInfoReply { kind, capacity: volume.capacity, allocation: volume.allocation })
}

pub(super) fn xml(context: &Context, call: StorageVolGetXmlDesc) -> Result<String, Error> {
    accept_flags(call.flags, 0, "storageVolGetXMLDesc")?;
    held(context, &call.vol).map(|volume| volume.xml())
}

pub(super) fn path(context: &Context, call: StorageVolGetPath) -> Result<String, Error> {
    held(context, &call.vol).map(|volume| volume.path)
}

/// Removes a file, as `undefine --storage` and `--remove-all-storage` ask. One that any domain here has for an image stays, and
/// so does a device.
pub(super) fn delete(context: &Context, call: StorageVolDelete) -> Result<(), Error> {
    accept_flags(call.flags, 0, "storageVolDelete")?;
    let volume = held(context, &call.vol)?;
    let refused = |text: String| Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::STORAGE, text));
    if volume.is_block {
        return refused(format!("storage volume '{}' is a device of the host", volume.path));
    }
    let meant = fs::canonicalize(&volume.path).ok();
    for (_, view) in context.host.registry.all() {
        let definitions = view.config.iter().chain(view.live.as_ref().map(|live| &live.domain));
        let disks = definitions.flat_map(|domain| &domain.devices.disks);
        let mut images = disks.flat_map(blockgraph::images).filter_map(|(source, _)| source.path());
        if images.any(|path| path == volume.path || fs::canonicalize(path).ok() == meant) {
            return refused(format!("storage volume '{}' is in use by domain '{}'", volume.path, view.name));
        }
    }
    fs::remove_file(&volume.path)
        .map_err(|error| refuse::system(&format!("cannot unlink file '{}'", volume.path), &error))
}

/// The folder that a file lies in.
pub(super) fn pool(context: &Context, call: StoragePoolLookupByVolume) -> Result<PoolRef, Error> {
    let volume = held(context, &call.vol)?;
    let name = folder_of(&volume.path).to_owned();
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, &name).hash(&mut hasher);
        hasher.finish()
    };
    Ok(PoolRef { uuid: Uuid::from_u64_pair(half(0), half(1)), name })
}

/// The folder that a client holds.
fn folder<'a>(context: &Context, pool: &'a PoolRef) -> Result<&'a Path, Error> {
    let path = Path::new(&pool.name);
    if !context.gate.is_read_only() && path.is_absolute() && path.is_dir() {
        return Ok(path);
    }
    let text = format!("no storage pool with matching name '{}'", pool.name);
    Err(Error::of(ErrorCode::NO_STORAGE_POOL, Origin::STORAGE, text))
}

pub(super) fn pool_info(
    context: &Context,
    call: StoragePoolGetInfo,
) -> Result<StoragePoolGetInfoReply, Error> {
    let path = folder(context, &call.pool)?;
    let (capacity, available) = room(path);
    Ok(StoragePoolGetInfoReply {
        state: RUNNING,
        capacity,
        allocation: capacity.saturating_sub(available),
        available,
    })
}

/// Bytes of a folder's file system: all, and those that are free.
fn room(path: &Path) -> (u64, u64) {
    let known = rustix::fs::statvfs(path);
    known.map_or((0, 0), |known| {
        (known.f_blocks.saturating_mul(known.f_frsize), known.f_bavail.saturating_mul(known.f_frsize))
    })
}

pub(super) fn pool_xml(context: &Context, call: StoragePoolGetXmlDesc) -> Result<String, Error> {
    accept_flags(call.flags, 1, "storagePoolGetXMLDesc")?;
    folder(context, &call.pool)?;
    let PoolRef { name, uuid } = &call.pool;
    let target = with(Element::new("target"), [text("path", name)]);
    let parts = [text("name", name), text("uuid", &uuid.to_string()), target];
    Ok(with(attribute("pool", "type", "dir"), parts).format())
}

pub(super) fn pool_is_active(context: &Context, call: StoragePoolIsActive) -> Result<bool, Error> {
    folder(context, &call.pool).map(|_| true)
}

pub(super) fn pool_is_persistent(context: &Context, call: StoragePoolIsPersistent) -> Result<bool, Error> {
    folder(context, &call.pool).map(|_| false)
}

pub(super) fn pool_autostart(context: &Context, call: StoragePoolGetAutostart) -> Result<bool, Error> {
    folder(context, &call.pool).map(|_| false)
}

pub(super) fn pool_refresh(context: &Context, call: StoragePoolRefresh) -> Result<(), Error> {
    accept_flags(call.flags, 0, "storagePoolRefresh")?;
    folder(context, &call.pool).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_first_bytes_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("a"), [0; 700]).unwrap();
        let raw = Volume::at(&path("a")).unwrap();
        assert_eq!((raw.capacity, raw.is_qcow2, raw.is_block), (700, false, false));
        let mut head = QCOW2.to_vec();
        head.resize(24, 0);
        head.extend(4096_u64.to_be_bytes());
        fs::write(path("b"), &head).unwrap();
        let image = Volume::at(&path("b")).unwrap();
        assert_eq!((image.capacity, image.is_qcow2), (4096, true));
        assert!(image.xml().contains("<format type='qcow2'/>"), "{}", image.xml());
        // Cut off before its size.
        fs::write(path("c"), QCOW2).unwrap();
        assert_eq!(Volume::at(&path("c")).unwrap().capacity, 4);
        for nothing in [path("d"), path(""), "a".to_owned(), String::new()] {
            assert_eq!(Volume::at(&nothing).map(|found| found.path).unwrap_err().code.0, 50, "{nothing}");
        }
    }

    #[test]
    fn a_path_has_a_folder_and_a_name() {
        assert_eq!((folder_of("/a/b"), name_of("/a/b")), ("/a", "b"));
        assert_eq!((folder_of("/a"), name_of("/a")), ("/", "a"));
    }
}
