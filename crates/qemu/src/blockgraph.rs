//! The block graph of a disk: which nodes QEMU gets, what they are called, and what stands in each.
//!
//! A start goes through three steps. [`read_chain`] follows an image's own metadata down to its base;
//! [`attach`] writes what was found into the live definition; [`number`] hands out node numbers. After
//! that the live definition alone says everything, and [`nodes`] turns it into `-blockdev` properties,
//! for a start as for a hot plug. A format is never guessed: an overlay that does not name the format of
//! its backing file is an error, because a guest could otherwise write a header and read the host.
//!
//! Two layers an image: `libvirt-N-storage` is the file, device or server, `libvirt-N-format` reads the format or
//! the encryption on top of it. A raw image has the storage layer alone. Nothing here opens a file: the caller
//! brings the bytes.

mod nodes;
mod protocol;
mod secrets;

use std::collections::BTreeSet;

use ferry_domxml::Rest;
use ferry_domxml::disk::Disk;
use ferry_domxml::storage::{BackingImage, BackingStore, DataStore, ImageFormat, Location, Source};

use crate::qcow2::{HEADER_BYTES, HEADER_BYTES_MAX, Header, HeaderError};

pub(crate) use nodes::throttle_group;
pub use nodes::{
    GraphError, Nodes, cache_mode, format_node, image_node, images, nodes, number, number_disk, storage_node,
    top_of_image,
};
pub use secrets::{MASTER_KEY, NeededSecret, SecretSource, needed};

/// Images in a chain; a longer one is taken for a loop. Stock's bound.
pub const CHAIN_IMAGES_MAX: usize = 200;

/// One image as its file and its overlay describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The file or device.
    pub location: Location,
    /// What is in it.
    pub format: ImageFormat,
    /// Where the guest's data is, when the image holds metadata only.
    pub data_file: Option<Location>,
}

/// An image and everything below it, top first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageChain(pub Vec<Image>);

/// What the caller found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The first bytes, as many as `wanted`, or fewer at the end of the file.
    pub bytes: Vec<u8>,
    /// A block device rather than a regular file.
    pub is_block: bool,
}

/// Why a chain could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum ChainError<E: std::error::Error> {
    /// The caller could not read the image.
    #[error("Cannot access storage file '{path}'")]
    Read {
        /// Path of the image.
        path: String,
        /// The caller's reason.
        #[source]
        source: E,
    },
    /// The image is not what the definition or its overlay says it is.
    #[error("image '{path}' is not usable as qcow2")]
    Header {
        /// Path of the image.
        path: String,
        /// What is wrong with it.
        #[source]
        source: HeaderError,
    },
    /// The overlay names a backing file without its format. The text is stock's.
    #[error(
        "format of backing image '{backing}' of image '{image}' was not specified in the image metadata (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)"
    )]
    FormatNotRecorded {
        /// The overlay.
        image: String,
        /// Its backing file.
        backing: String,
    },
    /// A format that is not supported.
    #[error("unsupported configuration: format '{format}' of backing image '{backing}' is not supported")]
    Format {
        /// The backing file.
        backing: String,
        /// The recorded format.
        format: String,
    },
    /// A reference that is not a path on this host (`json:…`, `nbd:…`).
    #[error("unsupported configuration: image '{image}' refers to '{reference}', which is not a local path")]
    Reference {
        /// The image that has the reference.
        image: String,
        /// The reference as written.
        reference: String,
    },
    /// The image says that its data is elsewhere and not where.
    #[error("unsupported configuration: image '{0}' has a data file without a name")]
    DataFileName(String),
    /// An image is its own base.
    #[error("backing store of image '{0}' is self-referential")]
    Loop(String),
    /// More images than [`CHAIN_IMAGES_MAX`].
    #[error("backing chain of image '{0}' is too long")]
    TooLong(String),
}

/// Follows an image down to its base. `read` returns the first `wanted` bytes of a path.
///
/// # Errors
/// An image cannot be read, or its metadata cannot be followed; see [`ChainError`].
pub fn read_chain<E: std::error::Error>(
    top: &str,
    format: ImageFormat,
    mut read: impl FnMut(&str, usize) -> Result<Found, E>,
) -> Result<ImageChain, ChainError<E>> {
    let mut images = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some((top.to_owned(), format));
    while let Some((path, format)) = next.take() {
        if images.len() == CHAIN_IMAGES_MAX {
            return Err(ChainError::TooLong(top.to_owned()));
        }
        if !seen.insert(path.clone()) {
            return Err(ChainError::Loop(path));
        }
        let (found, header) = look(&path, format, &mut read)?;
        let mut data_file = None;
        if let Some(header) = header {
            if let Some(stored) = header.data_file {
                let name = stored.name.ok_or_else(|| ChainError::DataFileName(path.clone()))?;
                let name = resolve(&path, &name)?;
                let found = fetch(&name, 0, &mut read)?;
                data_file = Some(location(name, found.is_block));
            }
            if let Some(backing) = header.backing {
                let below = resolve(&path, &backing.name)?;
                let Some(format) = backing.format else {
                    return Err(ChainError::FormatNotRecorded { image: path, backing: below });
                };
                let known = ImageFormat::ALL.iter().copied().find(|known| known.as_str() == format);
                let format = known.ok_or_else(|| ChainError::Format { backing: below.clone(), format })?;
                next = Some((below, format));
            }
        }
        images.push(Image { location: location(path, found.is_block), format, data_file });
    }
    Ok(ImageChain(images))
}

fn look<E: std::error::Error>(
    path: &str,
    format: ImageFormat,
    read: &mut impl FnMut(&str, usize) -> Result<Found, E>,
) -> Result<(Found, Option<Header>), ChainError<E>> {
    match format {
        ImageFormat::Raw => Ok((fetch(path, 0, read)?, None)),
        ImageFormat::Qcow2 => {
            let (found, header) = read_header(|wanted| fetch(path, wanted, read))?;
            let header = header.map_err(|source| ChainError::Header { path: path.to_owned(), source })?;
            Ok((found, Some(header)))
        }
    }
}

/// The header of a qcow2 image whose first bytes `read` gives, as many as it is asked for or all there are. It is asked twice
/// at most.
///
/// # Errors
/// Those of `read`; what is wrong with the header is told beside what was read.
pub fn read_header<E>(
    mut read: impl FnMut(usize) -> Result<Found, E>,
) -> Result<(Found, Result<Header, HeaderError>), E> {
    let mut found = read(HEADER_BYTES)?;
    let mut header = Header::parse(&found.bytes);
    if matches!(header, Err(HeaderError::Truncated { .. })) && found.bytes.len() == HEADER_BYTES {
        found = read(HEADER_BYTES_MAX)?;
        header = Header::parse(&found.bytes);
    }
    Ok((found, header))
}

fn fetch<E: std::error::Error>(
    path: &str,
    wanted: usize,
    read: &mut impl FnMut(&str, usize) -> Result<Found, E>,
) -> Result<Found, ChainError<E>> {
    read(path, wanted).map_err(|source| ChainError::Read { path: path.to_owned(), source })
}

/// A reference as QEMU reads it: an absolute path, or one relative to the folder of the image.
fn resolve<E: std::error::Error>(image: &str, reference: &str) -> Result<String, ChainError<E>> {
    let path = reference.strip_prefix("file:").unwrap_or(reference);
    let protocol = path.find(':').is_some_and(|colon| !path[..colon].contains('/'));
    if protocol || path.is_empty() {
        return Err(ChainError::Reference { image: image.to_owned(), reference: reference.to_owned() });
    }
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let folder = image.rfind('/').map_or("", |slash| &image[..=slash]);
    Ok(format!("{folder}{path}"))
}

fn location(path: String, is_block: bool) -> Location {
    if is_block { Location::Block(Some(path)) } else { Location::File(Some(path)) }
}

/// Writes a chain into the live definition of a disk, behind the last image that the definition itself names: the chain
/// begins with that one. What the definition says stays.
pub fn attach(disk: &mut Disk, chain: &ImageChain) {
    let Some((top, below)) = chain.0.split_first() else { return };
    let found = below.iter().rev().fold(BackingStore::End, |below, image| {
        let mut source = Source::new(image.location.clone());
        source.data_store = data_store(image);
        BackingStore::Image(Box::new(BackingImage {
            index: None,
            format: Some(image.format),
            source,
            backing_store: Some(below),
            detected: true,
            rest: Rest::default(),
        }))
    });
    disk.backing_detected |= disk.backing_store.is_none();
    let (mut source, mut end) = (&mut disk.source, &mut disk.backing_store);
    while let Some(BackingStore::Image(image)) = end {
        (source, end) = (&mut image.source, &mut image.backing_store);
    }
    if source.data_store.is_none() {
        source.data_store = data_store(top);
    }
    end.get_or_insert(found);
}

fn data_store(image: &Image) -> Option<Box<DataStore>> {
    image.data_file.clone().map(|location| {
        Box::new(DataStore {
            format: Some(ImageFormat::Raw),
            source: Source::new(location),
            detected: true,
            rest: Rest::default(),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ferry_domxml::Domain;

    use super::*;

    /// A version 3 header with a backing file and a data file.
    fn qcow2(backing: Option<(&str, Option<&str>)>, data_file: Option<&str>) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        bytes[23] = 16;
        bytes[79] = if data_file.is_some() { 4 } else { 0 };
        bytes[103] = 104;
        let mut extensions = Vec::new();
        let mut add = |kind: u32, text: &str| {
            extensions.extend(kind.to_be_bytes());
            extensions.extend((text.len() as u32).to_be_bytes());
            extensions.extend(text.bytes());
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        };
        if let Some((_, Some(format))) = backing {
            add(0xe279_2aca, format);
        }
        if let Some(name) = data_file {
            add(0x4441_5441, name);
        }
        bytes[104..104 + extensions.len()].copy_from_slice(&extensions);
        if let Some((name, _)) = backing {
            bytes[14..16].copy_from_slice(&400_u16.to_be_bytes());
            bytes[19] = u8::try_from(name.len()).unwrap();
            bytes[400..400 + name.len()].copy_from_slice(name.as_bytes());
        }
        bytes
    }

    fn chain(top: &str, files: &[(&str, Vec<u8>)]) -> Result<ImageChain, ChainError<std::io::Error>> {
        let files: BTreeMap<&str, &Vec<u8>> = files.iter().map(|(path, bytes)| (*path, bytes)).collect();
        read_chain(top, ImageFormat::Qcow2, |path, wanted| match files.get(path) {
            Some(bytes) => Ok(Found {
                bytes: bytes[..wanted.min(bytes.len())].to_vec(),
                is_block: path.starts_with("/dev/"),
            }),
            None => Err(std::io::ErrorKind::NotFound.into()),
        })
    }

    #[test]
    fn a_chain_is_followed_by_what_the_images_say() {
        let files = [
            ("/vm/top", qcow2(Some(("sub/middle", Some("qcow2"))), None)),
            ("/vm/sub/middle", qcow2(Some(("/dev/base", Some("raw"))), Some("middle.data"))),
            ("/vm/sub/middle.data", Vec::new()),
            ("/dev/base", b"QFI\xfb looks like an overlay and is none".to_vec()),
        ];
        let file = |path: &str| Location::File(Some(path.to_owned()));
        let chain = chain("/vm/top", &files).unwrap();
        assert_eq!(
            chain.0,
            [
                Image { location: file("/vm/top"), format: ImageFormat::Qcow2, data_file: None },
                Image {
                    location: file("/vm/sub/middle"),
                    format: ImageFormat::Qcow2,
                    data_file: Some(file("/vm/sub/middle.data")),
                },
                Image {
                    location: Location::Block(Some("/dev/base".into())),
                    format: ImageFormat::Raw,
                    data_file: None
                },
            ]
        );
    }

    #[test]
    fn a_format_that_is_not_recorded_is_not_guessed() {
        let error = chain("/vm/top", &[("/vm/top", qcow2(Some(("base", None)), None))]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "format of backing image '/vm/base' of image '/vm/top' was not specified in the image metadata (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)"
        );
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let text = |files: &[(&str, Vec<u8>)]| chain("/vm/top", files).unwrap_err().to_string();
        let looped = [("/vm/top", qcow2(Some(("top", Some("qcow2"))), None))];
        assert_eq!(text(&looped), "backing store of image '/vm/top' is self-referential");
        let remote = [("/vm/top", qcow2(Some(("nbd:host:10809", Some("raw"))), None))];
        assert!(text(&remote).ends_with("'nbd:host:10809', which is not a local path"), "{}", text(&remote));
        let other = [("/vm/top", qcow2(Some(("base", Some("vmdk"))), None))];
        assert!(text(&other).contains("format 'vmdk' of backing image '/vm/base'"), "{}", text(&other));
        assert_eq!(text(&[]), "Cannot access storage file '/vm/top'");
        assert_eq!(text(&[("/vm/top", b"not an image".to_vec())]), "image '/vm/top' is not usable as qcow2");
    }

    #[test]
    fn a_chain_without_end_is_given_up() {
        let mut at = 0;
        let endless = read_chain::<std::io::Error>("/0", ImageFormat::Qcow2, |_, _| {
            at += 1;
            Ok(Found { bytes: qcow2(Some((&format!("/{at}"), Some("qcow2"))), None), is_block: false })
        });
        assert!(matches!(endless, Err(ChainError::TooLong(_))));
        assert_eq!(at, CHAIN_IMAGES_MAX);
    }

    fn disks(xml: &str) -> Vec<Disk> {
        let text = format!(
            "<domain type='qemu'><name>d</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os>
             <devices>{xml}</devices></domain>"
        );
        Domain::parse(&text).unwrap().devices.disks
    }

    fn shown(nodes: &Nodes) -> Vec<String> {
        nodes.blockdevs.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_run_from_the_last_disk_to_the_first() {
        let mut disks = disks(
            "<disk><driver type='qcow2'/><source file='/a'/><target dev='vda'/></disk>
             <disk device='cdrom'><target dev='vdb'/></disk>
             <disk><source file='/c'/><target dev='vdc'/></disk>",
        );
        let file = |path: &str| Location::File(Some(path.to_owned()));
        let image = |path, format| Image { location: file(path), format, data_file: None };
        let below = Image { data_file: Some(file("/b.data")), ..image("/b", ImageFormat::Qcow2) };
        attach(
            &mut disks[0],
            &ImageChain(vec![image("/a", ImageFormat::Qcow2), below, image("/base", ImageFormat::Raw)]),
        );
        assert_eq!(number(&mut disks), 7);
        assert_eq!(nodes(&disks[2]).unwrap().top.as_deref(), Some("libvirt-1-storage"));
        assert_eq!(nodes(&disks[1]), Ok(Nodes::default()), "an empty drive has a number and no node");
        let graph = nodes(&disks[0]).unwrap();
        assert_eq!(graph.top.as_deref(), Some("libvirt-3-format"));
        assert_eq!(
            shown(&graph),
            [
                r#"{"driver":"file","filename":"/base","node-name":"libvirt-6-storage","read-only":true}"#,
                r#"{"driver":"file","filename":"/b.data","node-name":"libvirt-5-storage","read-only":true}"#,
                r#"{"driver":"file","filename":"/b","node-name":"libvirt-4-storage","auto-read-only":true,"discard":"unmap"}"#,
                r#"{"node-name":"libvirt-4-format","read-only":true,"driver":"qcow2","data-file":"libvirt-5-storage","file":"libvirt-4-storage","backing":"libvirt-6-storage"}"#,
                r#"{"driver":"file","filename":"/a","node-name":"libvirt-3-storage","auto-read-only":true,"discard":"unmap"}"#,
                r#"{"node-name":"libvirt-3-format","read-only":false,"driver":"qcow2","file":"libvirt-3-storage","backing":"libvirt-4-format"}"#,
            ]
        );
    }

    #[test]
    fn driver_options_reach_the_layers_they_are_for() {
        let mut disks = disks(
            "<disk type='block'><driver type='raw' cache='none' io='native' discard='unmap' detect_zeroes='unmap'/>
             <source dev='/dev/a'/><target dev='vda'/></disk>
             <disk><driver type='qcow2' cache='unsafe' io='io_uring' detect_zeroes='unmap'/><source file='/b'/>
             <target dev='vdb'/></disk>
             <disk><source file='/c'/><target dev='vdc'/><shareable/></disk>",
        );
        number(&mut disks);
        let all: Vec<String> = disks.iter().flat_map(|disk| shown(&nodes(disk).unwrap())).collect();
        assert_eq!(
            all,
            [
                r#"{"driver":"host_device","filename":"/dev/a","aio":"native","node-name":"libvirt-3-storage","read-only":false,"discard":"unmap","detect-zeroes":"unmap","cache":{"direct":true,"no-flush":false}}"#,
                r#"{"driver":"file","filename":"/b","aio":"io_uring","node-name":"libvirt-2-storage","auto-read-only":true,"discard":"unmap","cache":{"direct":false,"no-flush":true}}"#,
                r#"{"node-name":"libvirt-2-format","read-only":false,"detect-zeroes":"on","cache":{"direct":false,"no-flush":true},"driver":"qcow2","file":"libvirt-2-storage"}"#,
                r#"{"driver":"file","filename":"/c","node-name":"libvirt-1-storage","read-only":false,"cache":{"direct":true,"no-flush":false}}"#,
            ]
        );
    }

    #[test]
    fn a_disk_without_number_has_no_graph() {
        let disks = disks("<disk><source file='/a'/><target dev='vda'/></disk>");
        assert_eq!(nodes(&disks[0]), Err(GraphError::NotNumbered("vda".to_owned())));
    }
}
