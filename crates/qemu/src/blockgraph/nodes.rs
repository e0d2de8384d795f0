//! Nodes of a numbered disk: base first, each with its properties, filters last.
//!
//! ```text
//!   device
//!   libvirt-N-filter     throttle groups, in their order
//!   libvirt-CoR-vda      copy on read
//!   libvirt-N-format     qcow2, or the encryption of a raw image
//!   libvirt-N-slice-sto  a part of the file
//!   libvirt-N-storage    file, device or server
//! ```
//!
//! Whatever stands on top of an image takes the guest's requests and so has their switches; what is below is opened
//! for what comes.

use ferry_domxml::disk::{CacheMode, DetectZeroes, Discard, Disk, DiskDevice};
use ferry_domxml::storage::{BackingStore, ImageFormat, Location, Slice, Source};

use super::protocol;
use super::secrets;
use crate::props::{Props, Value};

/// Hands out node numbers at start: from the last disk to the first, within a disk from the top image
/// down, its filters last. An empty drive uses up a number, so that a medium that is inserted later finds its name
/// free. Returns the next number; the daemon keeps it with the running domain.
pub fn number(disks: &mut [Disk]) -> u32 {
    let mut next = 1;
    for disk in disks.iter_mut().rev() {
        next = number_disk(disk, next);
    }
    next
}

/// The same for one disk that is added to a running domain.
pub fn number_disk(disk: &mut Disk, next: u32) -> u32 {
    let mut counter = next;
    let mut take = || {
        let number = counter;
        counter += 1;
        Some(number)
    };
    disk.source.index = take();
    number_data(&mut disk.source, &mut take);
    let mut below = &mut disk.backing_store;
    while let Some(BackingStore::Image(image)) = below {
        image.index = take();
        number_data(&mut image.source, &mut take);
        below = &mut image.backing_store;
    }
    counter.saturating_add(u32::try_from(filters(disk).len()).unwrap_or(u32::MAX))
}

fn number_data(source: &mut Source, take: &mut impl FnMut() -> Option<u32>) {
    if let Some(data) = &mut source.data_store {
        data.source.index = take();
    }
}

fn filters(disk: &Disk) -> &[String] {
    disk.throttle_filters.as_ref().map_or(&[][..], |filters| &filters.groups)
}

/// The first number that a disk's images leave free: that of its first filter.
fn after_images(disk: &Disk) -> Option<u32> {
    let data = |source: &Source| source.data_store.as_ref().and_then(|data| data.source.index);
    let mut last = data(&disk.source).max(disk.source.index);
    let mut below = disk.backing_store.as_ref();
    while let Some(BackingStore::Image(image)) = below {
        last = last.max(image.index).max(data(&image.source));
        below = image.backing_store.as_ref();
    }
    last.map(|last| last.saturating_add(1))
}

/// Name of the layer that is the file, device or server.
#[must_use]
pub fn storage_node(number: u32) -> String {
    format!("libvirt-{number}-storage")
}

/// The images of a disk with their numbers, top first; none of an empty drive.
#[must_use]
pub fn images(disk: &Disk) -> Vec<(&Source, Option<u32>)> {
    if disk.source.is_empty() {
        return Vec::new();
    }
    let mut images = vec![(&disk.source, disk.source.index)];
    let mut below = disk.backing_store.as_ref();
    while let Some(BackingStore::Image(image)) = below {
        images.push((&image.source, image.index));
        below = image.backing_store.as_ref();
    }
    images
}

/// Name of the layer that reads the format.
#[must_use]
pub fn format_node(number: u32) -> String {
    format!("libvirt-{number}-format")
}

/// Name of the layer that is a part of a file.
fn slice_node(number: u32) -> String {
    format!("libvirt-{number}-slice-sto")
}

/// Why a disk has no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// [`number`] was not called.
    #[error("internal error: image of disk '{0}' has no node number")]
    NotNumbered(String),
    /// Pools are not ours.
    #[error("unsupported configuration: disk '{target}' of type 'volume': there are no storage pools")]
    Volume {
        /// Name of the disk in the guest.
        target: String,
    },
    /// A source on a server that does not say what its protocol needs.
    #[error("XML error: {0}")]
    Network(String),
}

/// The nodes of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    /// In the order in which QEMU must get them: base first.
    pub blockdevs: Vec<Props>,
    /// The node that the device uses; `None` for an empty drive.
    pub top: Option<String>,
}

/// The `-blockdev` properties of a numbered disk.
///
/// # Errors
/// The disk was not numbered, or its source is nothing that QEMU opens.
pub fn nodes(disk: &Disk) -> Result<Nodes, GraphError> {
    let mut layers: Vec<(&Source, Option<u32>, ImageFormat)> = Vec::new();
    if disk.source.is_empty() {
        return Ok(Nodes::default());
    }
    layers.push((&disk.source, disk.source.index, disk.format()));
    let mut below = disk.backing_store.as_ref();
    while let Some(BackingStore::Image(image)) = below {
        layers.push((&image.source, image.index, image.format.unwrap_or(ImageFormat::Raw)));
        below = image.backing_store.as_ref();
    }

    // Below the last layer: known to be nothing, or not known.
    let mut backing = matches!(below, Some(BackingStore::End)).then_some(Value::Null);
    let mut blockdevs = Vec::new();
    let mut top = None;
    for (depth, (source, index, format)) in layers.iter().enumerate().rev() {
        let layer = Layer { disk, readonly: depth > 0 || is_readonly(disk), is_top: depth == 0 };
        let name = layer.blockdevs(source, *index, *format, backing.take(), &mut blockdevs)?;
        backing = Some(Value::from(&name));
        top = Some(name);
    }
    let top = top.map(|top| filter(disk, top, &mut blockdevs)).transpose()?;
    Ok(Nodes { blockdevs, top })
}

/// The node that is the top image of a numbered disk, below what stands between it and the device. `None`: an empty
/// drive.
#[must_use]
pub fn image_node(disk: &Disk) -> Option<String> {
    let number = disk.source.index.filter(|_| !disk.source.is_empty())?;
    let has_format = disk.format() != ImageFormat::Raw || disk.encryption().is_some();
    Some(top_of_image(&disk.source, number, has_format))
}

/// The node that is an image. `has_format`: it is read through a format or an encryption.
#[must_use]
pub fn top_of_image(source: &Source, number: u32, has_format: bool) -> String {
    match () {
        () if has_format => format_node(number),
        () if source.slice().is_some() => slice_node(number),
        () => storage_node(number),
    }
}

/// What stands between the top image and the device.
fn filter(disk: &Disk, mut top: String, out: &mut Vec<Props>) -> Result<String, GraphError> {
    if disk.copies_on_read() {
        let name = format!("libvirt-CoR-{}", disk.target.dev);
        let node = Props::driver("copy-on-read").with("node-name", &name).with("file", top);
        out.push(node.with("discard", "unmap"));
        top = name;
    }
    let mut number = after_images(disk).ok_or_else(|| GraphError::NotNumbered(disk.target.dev.clone()))?;
    for group in filters(disk) {
        let name = format!("libvirt-{number}-filter");
        let node = Props::driver("throttle").with("node-name", &name);
        out.push(node.with("throttle-group", throttle_group(group)).with("file", top));
        top = name;
        number = number.saturating_add(1);
    }
    Ok(top)
}

/// Name of the object that is a throttle group.
pub(crate) fn throttle_group(name: &str) -> String {
    format!("throttle-{name}")
}

/// A CD-ROM cannot be written whether the definition says so or not.
fn is_readonly(disk: &Disk) -> bool {
    disk.readonly || disk.device == DiskDevice::Cdrom
}

/// The cache mode in force. Shared disks must not be cached by either host.
#[must_use]
pub fn cache_mode(disk: &Disk) -> Option<CacheMode> {
    let stated =
        disk.driver.as_ref().and_then(|driver| driver.cache).filter(|mode| *mode != CacheMode::Default);
    match stated {
        None if disk.shareable && !is_readonly(disk) => Some(CacheMode::None),
        stated => stated,
    }
}

/// What one image of a disk inherits from the disk.
struct Layer<'a> {
    disk: &'a Disk,
    readonly: bool,
    is_top: bool,
}

impl Layer<'_> {
    fn blockdevs(
        &self,
        source: &Source,
        index: Option<u32>,
        format: ImageFormat,
        backing: Option<Value>,
        out: &mut Vec<Props>,
    ) -> Result<String, GraphError> {
        let number = self.numbered(index)?;
        let storage = storage_node(number);
        let encryption = self.disk.encryption().filter(|_| self.is_top);
        let has_format = format != ImageFormat::Raw || encryption.is_some();
        if !has_format && source.slice().is_none() {
            out.push(self.effective(self.protocol(source, &storage)?));
            return Ok(storage);
        }
        let data_file = match &source.data_store {
            Some(data) if format != ImageFormat::Raw => {
                let name = storage_node(self.numbered(data.source.index)?);
                out.push(self.effective(self.protocol(&data.source, &name)?));
                Some(name)
            }
            Some(_) | None => None,
        };
        out.push(self.hidden(self.protocol(source, &storage)?));
        let file = match source.slice() {
            Some(slice) => {
                let name = slice_node(number);
                let node = slice_props(slice, storage, &name);
                if !has_format {
                    out.push(self.effective(node));
                    return Ok(name);
                }
                out.push(self.hidden(node));
                name
            }
            None => storage,
        };
        let name = format_node(number);
        let props = self.effective(Props::new().with("node-name", &name));
        out.push(match format {
            // A raw image that is encrypted: the encryption is the format.
            ImageFormat::Raw => props
                .with("driver", "luks")
                .with("key-secret", secrets::encryption_object(number))
                .with("file", file),
            ImageFormat::Qcow2 => self
                .qcow2(props, encryption.map(|_| number))
                .with_some("data-file", data_file)
                .with("file", file)
                .with_some("backing", backing),
        });
        Ok(name)
    }

    fn qcow2(&self, props: Props, encrypted: Option<u32>) -> Props {
        let driver = self.disk.driver.as_ref().filter(|_| self.is_top);
        let cache = driver.and_then(|driver| driver.metadata_cache.as_ref()).and_then(|cache| cache.max_size);
        let keeps_place = driver.and_then(|driver| driver.discard_no_unref).map(|on| on.is_on());
        let encryption = encrypted.map(|number| {
            Props::new().with("format", "luks").with("key-secret", secrets::encryption_object(number))
        });
        props
            .with("driver", "qcow2")
            .with_some("cache-size", cache.map(|size| size.0))
            .with_some("discard-no-unref", keeps_place)
            .with_some("encrypt", encryption)
    }

    fn numbered(&self, index: Option<u32>) -> Result<u32, GraphError> {
        index.ok_or_else(|| GraphError::NotNumbered(self.disk.target.dev.clone()))
    }

    fn protocol(&self, source: &Source, node: &str) -> Result<Props, GraphError> {
        let (driver, path) = match &source.location {
            Location::File(path) => ("file", path),
            Location::Block(path) => ("host_device", path),
            Location::Network(network) => {
                let auth = if self.is_top { self.disk.auth() } else { source.auth.as_deref() };
                return Ok(protocol::props(network, auth, node)?.with("node-name", node));
            }
            Location::Volume { .. } => {
                return Err(GraphError::Volume { target: self.disk.target.dev.clone() });
            }
        };
        let io = self.disk.driver.as_ref().and_then(|driver| driver.io);
        Ok(Props::driver(driver)
            .with("filename", path.as_deref().unwrap_or_default())
            .with_some("aio", io.map(|io| io.as_str()))
            .with("node-name", node))
    }

    /// What stands below something else.
    fn hidden(&self, props: Props) -> Props {
        props.with("auto-read-only", true).with("discard", "unmap").with_some("cache", self.cache())
    }

    /// What the guest's requests meet first.
    fn effective(&self, props: Props) -> Props {
        let driver = self.disk.driver.as_ref();
        let discard = driver.and_then(|driver| driver.discard);
        let zeroes = driver.and_then(|driver| driver.detect_zeroes).filter(|_| self.is_top);
        let zeroes = match zeroes {
            // Without discard there is nothing to unmap to.
            Some(DetectZeroes::Unmap) if discard != Some(Discard::Unmap) => Some(DetectZeroes::On),
            other => other,
        };
        props
            .with("read-only", self.readonly)
            .with_some("discard", discard.map(Discard::as_str))
            .with_some("detect-zeroes", zeroes.map(DetectZeroes::as_str))
            .with_some("cache", self.cache())
    }

    fn cache(&self) -> Option<Props> {
        let mode = cache_mode(self.disk)?;
        let direct = matches!(mode, CacheMode::None | CacheMode::Directsync);
        Some(Props::new().with("direct", direct).with("no-flush", mode == CacheMode::Unsafe))
    }
}

fn slice_props(slice: &Slice, file: String, node: &str) -> Props {
    Props::driver("raw")
        .with("file", file)
        .with("offset", slice.offset)
        .with("size", slice.size)
        .with("node-name", node)
}
