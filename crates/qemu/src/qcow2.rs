//! The header of a qcow2 image, read without running a program.
//!
//! The daemon hands over the first bytes of an image at start and learns where the chain goes on. The
//! bytes were written by a guest's owner, so every offset and length is held against the buffer and
//! against the bounds of the format. Nothing here opens a file, follows a chain, or guesses: an image
//! that names its backing file but not that file's format says exactly that.
//!
//! Layout after QEMU's `docs/interop/qcow2.txt`: a fixed header of 72 bytes (version 2) or of its own
//! stated length (version 3), then extensions of type, length and padded data up to a zero type, then,
//! anywhere within the first cluster, the name of the backing file. All numbers are big endian.

/// As many bytes as a header can reach: the largest cluster, 2 MiB.
pub const HEADER_BYTES_MAX: usize = 1 << CLUSTER_BITS_MAX;

/// As many as nearly every header has. [`HeaderError::Truncated`] says when more are needed; then all that a header can
/// reach should be read, since it tells of no more than the next step.
pub const HEADER_BYTES: usize = 64 * 1024;

const MAGIC: [u8; 4] = *b"QFI\xfb";
const CLUSTER_BITS_MIN: u32 = 9;
const CLUSTER_BITS_MAX: u32 = 21;
const BACKING_NAME_MAX: usize = 1023;
const HEADER_V2: usize = 72;
const HEADER_V3_MIN: usize = 104;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;

/// The refcounts may be stale; QEMU repairs them when it opens the image.
pub const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
/// The image is known to be corrupt; QEMU opens it for reading only.
pub const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
/// The guest's data lives in another file.
pub const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
/// Another compression than zlib.
pub const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
/// Subclusters.
pub const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
const AUTOCLEAR_DATA_FILE_RAW: u64 = 1 << 1;

/// What a qcow2 header says about its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Size of the guest's disk in bytes.
    pub virtual_size_bytes: u64,
    /// Size of a cluster in bytes, 512 to 2 MiB.
    pub cluster_bytes: u64,
    /// Not zero: the payload is encrypted (1 AES, 2 LUKS).
    pub encryption: u32,
    /// Features without which the image must not be opened (`INCOMPATIBLE_*`); zero in version 2.
    pub incompatible_features: u64,
    /// The image below this one.
    pub backing: Option<Backing>,
    /// The file that holds the guest's data.
    pub data_file: Option<DataFile>,
}

/// The reference to the image below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// As written: an absolute path, one relative to this image's folder, `json:…` or `protocol:…`.
    pub name: String,
    /// The recorded format (`raw`, `qcow2`, …); none was recorded when absent.
    pub format: Option<String>,
}

/// The reference to the file that holds the guest's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// As written in the header; absent when the feature is on and no name was recorded.
    pub name: Option<String>,
    /// The data file can be read as a raw image on its own (`data_file_raw`).
    pub raw: bool,
}

/// Why bytes are not a qcow2 header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first four bytes are not qcow2's.
    #[error("not a qcow2 image")]
    NotQcow2,
    /// Not version 2 or 3.
    #[error("qcow2 version {0} is not known")]
    Version(u32),
    /// The header goes on beyond the bytes given. Read at least `needed` bytes of the file; when the
    /// file is shorter than that, it is damaged.
    #[error("qcow2 header goes on to byte {needed}, {given} were given")]
    Truncated {
        /// Bytes needed from the beginning of the file, at most [`HEADER_BYTES_MAX`].
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// A field is outside what the format allows.
    #[error("qcow2 header is damaged: {field} is {value}")]
    Damaged {
        /// Name of the field in the format's description.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// A name is not UTF-8, or contains a zero byte.
    #[error("qcow2 header is damaged: the {0} is not text")]
    NotText(&'static str),
}

impl Header {
    /// Reads the header from the first bytes of an image.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] asks for more bytes; every other error is final.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = Fields { bytes };
        if bytes.get(..4).is_some_and(|magic| magic != MAGIC) {
            return Err(HeaderError::NotQcow2);
        }
        let version = match header.u32(4)? {
            version @ (2 | 3) => version,
            version => return Err(HeaderError::Version(version)),
        };
        let backing_offset = header.u64(8)?;
        let backing_length = header.u32(16)?;
        let cluster_bits = header.u32(20)?;
        if !(CLUSTER_BITS_MIN..=CLUSTER_BITS_MAX).contains(&cluster_bits) {
            return Err(HeaderError::Damaged { field: "cluster_bits", value: cluster_bits.into() });
        }
        let cluster_bytes = 1_u64 << cluster_bits;
        let virtual_size_bytes = header.u64(24)?;
        let encryption = header.u32(32)?;

        let (incompatible_features, autoclear_features, header_length) = if version == 2 {
            (0, 0, HEADER_V2)
        } else {
            let length = header.u32(100)?;
            let usable = usize::try_from(length).unwrap_or(usize::MAX);
            if usable < HEADER_V3_MIN || u64::from(length) > cluster_bytes || usable % 8 != 0 {
                return Err(HeaderError::Damaged { field: "header_length", value: length.into() });
            }
            (header.u64(72)?, header.u64(88)?, usable)
        };

        // Everything that follows lies in the first cluster.
        let cluster_end = 1_usize << cluster_bits;
        let (format, data_name) = header.extensions(header_length, cluster_end, backing_offset)?;
        let backing = header.backing_name(backing_offset, backing_length, cluster_end)?;
        Ok(Self {
            version,
            virtual_size_bytes,
            cluster_bytes,
            encryption,
            incompatible_features,
            backing: backing.map(|name| Backing { name, format }),
            data_file: (incompatible_features & INCOMPATIBLE_DATA_FILE != 0).then_some(DataFile {
                name: data_name,
                raw: autoclear_features & AUTOCLEAR_DATA_FILE_RAW != 0,
            }),
        })
    }
}

/// The bytes given, read with every reach checked.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn slice(&self, offset: usize, length: usize) -> Result<&'a [u8], HeaderError> {
        let needed = offset.saturating_add(length);
        self.bytes.get(offset..needed).ok_or(HeaderError::Truncated { needed, given: self.bytes.len() })
    }

    fn u32(&self, offset: usize) -> Result<u32, HeaderError> {
        let bytes = self.slice(offset, 4)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn u64(&self, offset: usize) -> Result<u64, HeaderError> {
        Ok(u64::from(self.u32(offset)?) << 32 | u64::from(self.u32(offset + 4)?))
    }

    /// The recorded backing format and data file name. The list ends at a zero type, at the backing
    /// name, or with the first cluster.
    fn extensions(
        &self,
        start: usize,
        cluster_end: usize,
        backing_offset: u64,
    ) -> Result<(Option<String>, Option<String>), HeaderError> {
        let (mut format, mut data_name) = (None, None);
        let end = match usize::try_from(backing_offset) {
            Ok(offset) if offset > start => offset.min(cluster_end),
            _ => cluster_end,
        };
        let mut at = start;
        while at.saturating_add(8) <= end {
            let kind = self.u32(at)?;
            if kind == EXTENSION_END {
                break;
            }
            let stated = self.u32(at + 4)?;
            let length = usize::try_from(stated).unwrap_or(usize::MAX);
            let data = at + 8;
            if data.saturating_add(length) > end {
                return Err(HeaderError::Damaged { field: "extension length", value: stated.into() });
            }
            match kind {
                EXTENSION_BACKING_FORMAT => format = Some(text(self.slice(data, length)?, "backing format")?),
                EXTENSION_DATA_FILE => data_name = Some(text(self.slice(data, length)?, "data file name")?),
                // Feature names, bitmaps, encryption and what comes later do not change the chain.
                _ => {}
            }
            at = data + length.next_multiple_of(8);
        }
        Ok((format, data_name))
    }

    fn backing_name(
        &self,
        offset: u64,
        length: u32,
        cluster_end: usize,
    ) -> Result<Option<String>, HeaderError> {
        if offset == 0 || length == 0 {
            return Ok(None);
        }
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > BACKING_NAME_MAX {
            return Err(HeaderError::Damaged { field: "backing_file_size", value: length.into() });
        }
        match usize::try_from(offset) {
            Ok(start) if start >= HEADER_V2 && start.saturating_add(size) <= cluster_end => {
                text(self.slice(start, size)?, "backing file name").map(Some)
            }
            _ => Err(HeaderError::Damaged { field: "backing_file_offset", value: offset }),
        }
    }
}

fn text(bytes: &[u8], what: &'static str) -> Result<String, HeaderError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(HeaderError::NotText(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 3 header with the given extensions and backing name.
    fn image(
        extensions: &[(u32, &[u8])],
        backing: Option<&str>,
        incompatible: u64,
        autoclear: u64,
    ) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&16_u32.to_be_bytes());
        bytes[24..32].copy_from_slice(&(10_u64 << 30).to_be_bytes());
        bytes[72..80].copy_from_slice(&incompatible.to_be_bytes());
        bytes[88..96].copy_from_slice(&autoclear.to_be_bytes());
        bytes[100..104].copy_from_slice(&104_u32.to_be_bytes());
        let mut at = 104;
        for (kind, data) in extensions {
            bytes[at..at + 4].copy_from_slice(&kind.to_be_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
            bytes[at + 8..at + 8 + data.len()].copy_from_slice(data);
            at += 8 + data.len().next_multiple_of(8);
        }
        if let Some(name) = backing {
            let offset = at + 8;
            bytes[8..16].copy_from_slice(&(offset as u64).to_be_bytes());
            bytes[16..20].copy_from_slice(&u32::try_from(name.len()).unwrap().to_be_bytes());
            bytes[offset..offset + name.len()].copy_from_slice(name.as_bytes());
        }
        bytes
    }

    #[test]
    fn an_overlay_names_its_backing_file_and_that_files_format() {
        let bytes =
            image(&[(EXTENSION_BACKING_FORMAT, b"qcow2"), (0x6803_f857, b"names")], Some("base.qcow2"), 0, 0);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.virtual_size_bytes, 10 << 30);
        assert_eq!(header.cluster_bytes, 65536);
        assert_eq!(header.backing, Some(Backing { name: "base.qcow2".into(), format: Some("qcow2".into()) }));
        assert_eq!(header.data_file, None);
    }

    #[test]
    fn a_missing_backing_format_stays_missing() {
        let header = Header::parse(&image(&[], Some("/images/base"), 0, 0)).unwrap();
        assert_eq!(header.backing.unwrap().format, None);
    }

    #[test]
    fn a_data_file_is_named_only_with_its_feature() {
        let extensions: &[(u32, &[u8])] = &[(EXTENSION_DATA_FILE, b"disk.data")];
        let header =
            Header::parse(&image(extensions, None, INCOMPATIBLE_DATA_FILE, AUTOCLEAR_DATA_FILE_RAW)).unwrap();
        assert_eq!(header.data_file, Some(DataFile { name: Some("disk.data".into()), raw: true }));
        assert_eq!(Header::parse(&image(extensions, None, 0, 0)).unwrap().data_file, None);
    }

    #[test]
    fn version_2_has_no_features_and_its_extensions_begin_at_72() {
        let mut bytes = image(&[], None, 0, 0);
        bytes[4..8].copy_from_slice(&2_u32.to_be_bytes());
        bytes[72..].fill(0);
        bytes[72..76].copy_from_slice(&EXTENSION_BACKING_FORMAT.to_be_bytes());
        bytes[76..80].copy_from_slice(&3_u32.to_be_bytes());
        bytes[80..83].copy_from_slice(b"raw");
        bytes[8..16].copy_from_slice(&96_u64.to_be_bytes());
        bytes[16..20].copy_from_slice(&2_u32.to_be_bytes());
        bytes[96..98].copy_from_slice(b"/b");
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.backing, Some(Backing { name: "/b".into(), format: Some("raw".into()) }));
        assert_eq!(header.incompatible_features, 0);
    }

    #[test]
    fn every_cut_of_a_header_is_answered_without_a_panic() {
        let bytes = image(&[(EXTENSION_BACKING_FORMAT, b"qcow2")], Some("base"), 0, 0);
        for length in 0..104 {
            let error = Header::parse(&bytes[..length]).unwrap_err();
            assert!(
                matches!(error, HeaderError::Truncated { needed, given } if needed > length && given == length),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn every_byte_changed_is_answered_without_a_panic() {
        let good =
            image(&[(EXTENSION_BACKING_FORMAT, b"qcow2"), (EXTENSION_DATA_FILE, b"d")], Some("base"), 4, 0);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                if let Err(HeaderError::Truncated { needed, .. }) = Header::parse(&bytes) {
                    assert!(needed <= HEADER_BYTES_MAX);
                }
            }
        }
    }

    #[test]
    fn lengths_beyond_the_first_cluster_are_refused() {
        let mut bytes = image(&[], Some("base"), 0, 0);
        bytes[8..16].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(
            Header::parse(&bytes),
            Err(HeaderError::Damaged { field: "backing_file_offset", value: u64::MAX })
        );
        let mut bytes = image(&[], Some("base"), 0, 0);
        bytes[16..20].copy_from_slice(&1024_u32.to_be_bytes());
        assert_eq!(
            Header::parse(&bytes),
            Err(HeaderError::Damaged { field: "backing_file_size", value: 1024 })
        );
        let mut bytes = image(&[(EXTENSION_DATA_FILE, b"x")], None, 4, 0);
        bytes[108..112].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            Header::parse(&bytes),
            Err(HeaderError::Damaged { field: "extension length", value: u32::MAX.into() })
        );
    }

    #[test]
    fn what_is_not_qcow2_is_said_to_be_none() {
        assert_eq!(Header::parse(b"\x7fELF and more"), Err(HeaderError::NotQcow2));
        assert_eq!(Header::parse(b"QFI\xfb\0\0\0\x01"), Err(HeaderError::Version(1)));
    }
}
