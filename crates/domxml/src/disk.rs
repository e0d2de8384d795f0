//! `<disk>`: what the guest sees of a drive, and how QEMU is to handle it. The bytes are [`crate::storage`]'s.

use crate::address::{Address, DeviceInfo};
use crate::memory::ByteSize;
use crate::model::{OnOff, element, values};
use crate::secret::{Auth, Encryption};
use crate::storage::{BackingStore, ImageFormat, Source};
use crate::throttle::{Limits, ThrottleFilters};
use crate::virtio::VirtioOptions;

element! {
    /// A drive.
    pub struct Disk {
        /// How QEMU is to handle it.
        driver: Option<DiskDriver> => Child("driver"),
        /// As whom a server is asked, when it stands here and not in the source.
        auth: Option<Auth> => Child("auth"),
        /// The top image, or the medium.
        source: Source => Flatten(),
        /// Hard disk, CD-ROM, …
        device: DiskDevice => AttrOr("device", DiskDevice::Disk),
        /// Which virtio generation.
        model: Option<VirtioModel> => Attr("model"),
        /// Whether snapshots of the guest include it.
        snapshot: Option<SnapshotMode> => Attr("snapshot"),
        /// What the top image is based on. `None`: not given; found at start.
        backing_store: Option<BackingStore> => Child("backingStore"),
        /// The chain was found in the images' metadata at start: the inactive XML leaves it out.
        backing_detected: bool => Unwritten(),
        /// Name and bus in the guest.
        target: DiskTarget => Child("target"),
        /// The shape that old systems are shown.
        geometry: Option<Geometry> => Child("geometry"),
        /// Sector sizes shown to the guest.
        block_io: Option<BlockIo> => Child("blockio"),
        /// How fast it is at most.
        iotune: Option<Limits> => Child("iotune"),
        /// Limits that it shares with others.
        throttle_filters: Option<ThrottleFilters> => Child("throttlefilters"),
        /// The guest cannot write.
        readonly: bool => Flag("readonly"),
        /// Several guests may have it open.
        shareable: bool => Flag("shareable"),
        /// What is written is thrown away when the guest ends.
        transient: bool => Flag("transient"),
        /// Serial number shown to the guest.
        serial: Option<String> => TextChild("serial"),
        /// World wide name, 16 hexadecimal digits.
        wwn: Option<String> => TextChild("wwn"),
        /// SCSI vendor, at most 8 characters.
        vendor: Option<String> => TextChild("vendor"),
        /// SCSI product, at most 16 characters.
        product: Option<String> => TextChild("product"),
        /// How the top image is encrypted, when it stands here and not in the source.
        encryption: Option<Encryption> => Child("encryption"),
        /// Place in the boot order, from 1.
        boot_order: Option<u32> => ChildAttr("boot", "order"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    attributes ["type", "device", "model", "rawio", "sgio", "snapshot"]
    order [
        "driver", "auth", "source", "mirror", "backingStore", "backenddomain", "geometry", "blockio", "target", "iotune",
        "throttlefilters", "readonly", "shareable", "transient", "serial", "wwn", "vendor", "product", "encryption",
        "boot", "alias", "address",
    ]
}

impl Disk {
    /// The name of the bus in the XML, or the one that the target's name implies.
    pub fn bus(&self) -> DiskBus {
        self.target.bus.unwrap_or_else(|| DiskBus::of_target(&self.target.dev, self.device))
    }

    /// The drive address, when it is on a drive controller and the address is known.
    pub fn drive_address(&self) -> Option<crate::address::DriveAddress> {
        match self.info.address {
            Some(Address::Drive(drive)) => Some(drive),
            _ => None,
        }
    }

    /// As whom the top image's server is asked.
    pub fn auth(&self) -> Option<&Auth> {
        self.source.auth.as_deref().or(self.auth.as_ref())
    }

    /// How the top image is encrypted.
    pub fn encryption(&self) -> Option<&Encryption> {
        self.source.encryption.as_deref().or(self.encryption.as_ref())
    }

    /// Whether what is read from the images below is kept in the top one.
    pub fn copies_on_read(&self) -> bool {
        self.driver.as_ref().and_then(|driver| driver.copy_on_read).is_some_and(OnOff::is_on)
    }

    /// The image format; raw when none is given, because guessing it from the content would let the guest
    /// choose.
    pub fn format(&self) -> ImageFormat {
        self.driver.as_ref().and_then(|driver| driver.format).unwrap_or(ImageFormat::Raw)
    }
}

values! {
    /// What kind of drive it is.
    pub enum DiskDevice {
        /// hard disk
        Disk = "disk",
        /// CD-ROM
        Cdrom = "cdrom",
        /// floppy
        Floppy = "floppy",
        /// a host SCSI device with commands passed through
        Lun = "lun",
    }
}

values! {
    /// Which virtio generation a device speaks.
    pub enum VirtioModel {
        /// both, by QEMU's rules
        Virtio = "virtio",
        /// both
        Transitional = "virtio-transitional",
        /// 1.0 only
        NonTransitional = "virtio-non-transitional",
    }
}

values! {
    /// How snapshots treat a disk.
    pub enum SnapshotMode {
        /// left out
        No = "no",
        /// inside the image
        Internal = "internal",
        /// as a new image on top
        External = "external",
    }
}

element! {
    /// `<target>`
    pub struct DiskTarget {
        /// Logical name: `vda`, `sdb`, `hdc`, `fda`. Unique in the domain.
        dev: String => Attr("dev"),
        /// Bus; `None`: implied by the name.
        bus: Option<DiskBus> => Attr("bus"),
        /// Whether the tray is open (removable media).
        tray: Option<Tray> => Attr("tray"),
        /// Whether the guest sees removable media (usb).
        removable: Option<OnOff> => Attr("removable"),
        /// Rotations per minute shown to the guest, 1 for solid state.
        rotation_rate: Option<u32> => Attr("rotation_rate"),
    }
}

impl DiskTarget {
    /// The number that the letters stand for: `vda` 0, `vdz` 25, `vdaa` 26. `None`: not such a name.
    pub fn index(&self) -> Option<u32> {
        let letters = PREFIXES.iter().find_map(|prefix| self.dev.strip_prefix(prefix))?;
        let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
        if letters.is_empty() || letters.len() > 5 || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
            return None;
        }
        Some(letters.bytes().fold(0, |index, letter| index * 26 + u32::from(letter - b'a') + 1) - 1)
    }
}

values! {
    /// Bus of a drive.
    pub enum DiskBus {
        /// ide
        Ide = "ide",
        /// floppy controller
        Fdc = "fdc",
        /// scsi
        Scsi = "scsi",
        /// virtio-blk
        Virtio = "virtio",
        /// usb
        Usb = "usb",
        /// sata
        Sata = "sata",
    }
}

impl DiskBus {
    /// The bus that a name without one implies.
    pub fn of_target(dev: &str, device: DiskDevice) -> Self {
        match dev.get(..2) {
            _ if device == DiskDevice::Floppy => Self::Fdc,
            Some("sd") => Self::Scsi,
            Some("vd") => Self::Virtio,
            _ => Self::Ide,
        }
    }
}

values! {
    /// State of a tray.
    pub enum Tray {
        /// open
        Open = "open",
        /// closed
        Closed = "closed",
    }
}

element! {
    /// `<driver>` of a disk.
    #[derive(Default)]
    pub struct DiskDriver {
        /// Back end, `qemu`.
        name: Option<String> => Attr("name"),
        /// Format of the top image.
        format: Option<ImageFormat> => Attr("type"),
        /// Host cache.
        cache: Option<CacheMode> => Attr("cache"),
        /// On a write error (and a read error, unless the next says otherwise).
        error_policy: Option<ErrorPolicy> => Attr("error_policy"),
        /// On a read error.
        rerror_policy: Option<ErrorPolicy> => Attr("rerror_policy"),
        /// How QEMU submits requests.
        io: Option<IoMode> => Attr("io"),
        /// Whether a thread of its own waits for the guest's requests.
        ioeventfd: Option<OnOff> => Attr("ioeventfd"),
        /// Whether guest and QEMU spare each other notifications.
        event_idx: Option<OnOff> => Attr("event_idx"),
        /// Whether discard requests reach the image.
        discard: Option<Discard> => Attr("discard"),
        /// The thread that serves it.
        iothread: Option<u32> => Attr("iothread"),
        /// What becomes of written zeroes.
        detect_zeroes: Option<DetectZeroes> => Attr("detect_zeroes"),
        /// Whether what is read from the images below is kept in the top one.
        copy_on_read: Option<OnOff> => Attr("copy_on_read"),
        /// Whether discarded clusters stay allocated to their place (qcow2).
        discard_no_unref: Option<OnOff> => Attr("discard_no_unref"),
        /// Number of virtio queues.
        queues: Option<u32> => Attr("queues"),
        /// Length of a virtio queue, a power of two.
        queue_size: Option<u32> => Attr("queue_size"),
        /// What all virtio devices take.
        virtio: VirtioOptions => Flatten(),
        /// The threads that serve it, instead of one.
        iothreads: Option<DiskIoThreads> => Child("iothreads"),
        /// Memory for the image's own tables.
        metadata_cache: Option<MetadataCache> => Child("metadata_cache"),
    }
}

element! {
    /// `<metadata_cache>`
    #[derive(Default)]
    pub struct MetadataCache {
        /// At most so much.
        max_size: Option<ByteSize> => Child("max_size"),
    }
}

element! {
    /// `<geometry>`
    pub struct Geometry {
        /// Cylinders.
        cylinders: u32 => Attr("cyls"),
        /// Heads.
        heads: u32 => Attr("heads"),
        /// Sectors of a track.
        sectors: u32 => Attr("secs"),
        /// How the firmware translates it.
        translation: Option<Translation> => Attr("trans"),
    }
}

values! {
    /// How the firmware translates a disk's shape.
    pub enum Translation {
        /// as it likes
        Auto = "auto",
        /// not
        None = "none",
        /// to logical blocks
        Lba = "lba",
    }
}

element! {
    /// `<iothreads>` of a disk.
    #[derive(Default)]
    pub struct DiskIoThreads {
        /// The threads.
        threads: Vec<DiskIoThread> => Child("iothread"),
    }
}

element! {
    /// One thread that serves a disk.
    pub struct DiskIoThread {
        /// Its number.
        id: u32 => Attr("id"),
        /// Queues of the disk that it serves. None anywhere: they are spread over the threads.
        queues: Vec<u32> => ChildAttr("queue", "id"),
    }
}

values! {
    /// `cache`
    pub enum CacheMode {
        /// QEMU's own choice
        Default = "default",
        /// no host cache
        None = "none",
        /// host cache, guest sees written through
        Writethrough = "writethrough",
        /// host cache
        Writeback = "writeback",
        /// no host cache, every write synced
        Directsync = "directsync",
        /// host cache, never synced
        Unsafe = "unsafe",
    }
}

values! {
    /// `error_policy`
    pub enum ErrorPolicy {
        /// pause the guest
        Stop = "stop",
        /// tell the guest
        Report = "report",
        /// go on
        Ignore = "ignore",
        /// pause the guest when the host is out of space, else tell it
        Enospace = "enospace",
    }
}

values! {
    /// `io`
    pub enum IoMode {
        /// kernel asynchronous I/O
        Native = "native",
        /// thread pool
        Threads = "threads",
        /// io_uring
        IoUring = "io_uring",
    }
}

values! {
    /// `discard`
    pub enum Discard {
        /// freed in the image
        Unmap = "unmap",
        /// dropped
        Ignore = "ignore",
    }
}

values! {
    /// `detect_zeroes`
    pub enum DetectZeroes {
        /// written as they are
        Off = "off",
        /// written efficiently
        On = "on",
        /// freed in the image
        Unmap = "unmap",
    }
}

element! {
    /// `<blockio>`
    pub struct BlockIo {
        /// Bytes.
        logical_block_size: Option<u32> => Attr("logical_block_size"),
        /// Bytes.
        physical_block_size: Option<u32> => Attr("physical_block_size"),
        /// Bytes.
        discard_granularity: Option<u32> => Attr("discard_granularity"),
    }
}

const PREFIXES: [&str; 7] = ["fd", "hd", "vd", "sd", "xvd", "ubd", "nvme"];
