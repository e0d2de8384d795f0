//! Where a disk's bytes come from: sources, backing chains, data files. Used by [`crate::disk`].

use crate::model::{Flatten, Input, Model, Output, Refusal, Rest, element, read, values};
use crate::network_source::NetworkSource;
use crate::secret::{Auth, Encryption};

values! {
    /// Format of an image.
    pub enum ImageFormat {
        /// plain bytes
        Raw = "raw",
        /// QEMU's copy-on-write format
        Qcow2 = "qcow2",
    }
}

/// The `type` attribute and the `<source>` element, which only mean something together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where the bytes are.
    pub location: Location,
    /// Node index in the running guest, as shown in `target[index]`.
    pub index: Option<u32>,
    /// What to do when the source is missing at start.
    pub startup_policy: Option<StartupPolicy>,
    /// The external data file of a qcow2 image.
    pub data_store: Option<Box<DataStore>>,
    /// The part of the file that is the image.
    pub slices: Option<Box<Slices>>,
    /// As whom a server is asked, when it stands here and not beside.
    pub auth: Option<Box<Auth>>,
    /// How the image is encrypted, when it stands here and not beside.
    pub encryption: Option<Box<Encryption>>,
    /// What else stands in `<source>`.
    pub rest: Rest,
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `type='file'`: an absolute path; `None` is an empty drive.
    File(Option<String>),
    /// `type='block'`: a device node; `None` is an empty drive.
    Block(Option<String>),
    /// `type='volume'`: a storage pool's volume. Ferry has no pools, so this is refused.
    Volume {
        /// Name of the pool.
        pool: String,
        /// Name of the volume.
        volume: String,
    },
    /// `type='network'`: an image on a server.
    Network(Box<NetworkSource>),
}

values! {
    /// The `type` of a source.
    pub enum SourceKind {
        /// a file
        File = "file",
        /// a block device
        Block = "block",
        /// a volume of a pool
        Volume = "volume",
        /// an image on a server
        Network = "network",
    }
}

element! {
    /// `<slices>`
    #[derive(Default)]
    pub struct Slices {
        /// The slices; at most one is understood.
        slices: Vec<Slice> => Child("slice"),
    }
}

element! {
    /// One part of a file.
    pub struct Slice {
        /// Which layer it is a part of.
        kind: SliceKind => Attr("type"),
        /// Where it begins, bytes.
        offset: u64 => Attr("offset"),
        /// How long it is, bytes.
        size: u64 => Attr("size"),
    }
}

values! {
    /// What a slice is a part of.
    pub enum SliceKind {
        /// the file or device
        Storage = "storage",
    }
}

values! {
    /// `startupPolicy`: what a missing source means.
    pub enum StartupPolicy {
        /// fail
        Mandatory = "mandatory",
        /// fail at boot, drop the medium when migrating or restoring
        Requisite = "requisite",
        /// drop the medium
        Optional = "optional",
    }
}

impl Source {
    /// A source with nothing but a location.
    pub fn new(location: Location) -> Self {
        Self {
            location,
            index: None,
            startup_policy: None,
            data_store: None,
            slices: None,
            auth: None,
            encryption: None,
            rest: Rest::default(),
        }
    }

    /// The `type` attribute.
    pub fn kind(&self) -> SourceKind {
        match self.location {
            Location::File(_) => SourceKind::File,
            Location::Block(_) => SourceKind::Block,
            Location::Volume { .. } => SourceKind::Volume,
            Location::Network(_) => SourceKind::Network,
        }
    }

    /// The path on this host, when the source is a file or a device.
    pub fn path(&self) -> Option<&str> {
        match &self.location {
            Location::File(path) | Location::Block(path) => path.as_deref(),
            Location::Volume { .. } | Location::Network(_) => None,
        }
    }

    /// The image on a server, when it is one.
    pub fn network(&self) -> Option<&NetworkSource> {
        match &self.location {
            Location::Network(network) => Some(network),
            Location::File(_) | Location::Block(_) | Location::Volume { .. } => None,
        }
    }

    /// The part of the file that is the image. `None`: all of it.
    pub fn slice(&self) -> Option<&Slice> {
        self.slices.as_ref().and_then(|slices| slices.slices.first())
    }

    /// How a reader finds it: a path, or what the network calls it. Empty for an empty drive.
    pub fn label(&self) -> String {
        match &self.location {
            Location::File(path) | Location::Block(path) => path.clone().unwrap_or_default(),
            Location::Volume { pool, volume } => format!("{pool}/{volume}"),
            Location::Network(network) => {
                let host = network.hosts.first();
                let place = host.and_then(|host| host.name.as_deref().or(host.socket.as_deref()));
                let name = network.name.as_deref().unwrap_or_default();
                format!("{}:{}/{name}", network.protocol, place.unwrap_or_default())
            }
        }
    }

    /// An empty drive.
    pub fn is_empty(&self) -> bool {
        matches!(self.location, Location::File(None) | Location::Block(None))
    }
}

impl Flatten for Source {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let kind = input.attribute_or("type", SourceKind::File)?;
        let source = input.first("source", |element| {
            let mut inner = Input::new(element);
            let location = match kind {
                SourceKind::File => Location::File(inner.attribute("file")?),
                SourceKind::Block => Location::Block(inner.attribute("dev")?),
                SourceKind::Volume => {
                    Location::Volume { pool: inner.required("pool")?, volume: inner.required("volume")? }
                }
                SourceKind::Network => Location::Network(Box::new(NetworkSource::take(&mut inner)?)),
            };
            Ok(Self {
                location,
                startup_policy: inner.attribute("startupPolicy")?,
                index: inner.attribute("index")?,
                data_store: inner.first("dataStore", read)?.map(Box::new),
                slices: inner.first("slices", read)?.map(Box::new),
                auth: inner.first("auth", read)?.map(Box::new),
                encryption: inner.first("encryption", read)?.map(Box::new),
                rest: inner.rest(),
            })
        })?;
        match (source, kind) {
            (Some(source), _) => Ok(source),
            (None, SourceKind::File) => Ok(Self::new(Location::File(None))),
            (None, SourceKind::Block) => Ok(Self::new(Location::Block(None))),
            (None, SourceKind::Volume | SourceKind::Network) => Err(Refusal::Unmodelled),
        }
    }

    fn put(&self, out: &mut Output) {
        out.attribute("type", &self.kind());
        let mut source = Output::new("source", out.options());
        match &self.location {
            Location::File(path) => source.optional("file", path),
            Location::Block(path) => source.optional("dev", path),
            Location::Volume { pool, volume } => {
                source.attribute("pool", pool);
                source.attribute("volume", volume);
            }
            Location::Network(network) => network.put(&mut source),
        }
        source.optional("startupPolicy", &self.startup_policy);
        // An empty drive has a number that waits for a medium, and nothing that could be shown with it.
        if !self.is_empty() {
            source.optional("index", &self.index);
        }
        if let Some(data_store) = &self.data_store {
            source.model("dataStore", data_store.as_ref());
        }
        self.slices.iter().for_each(|slices| source.model("slices", slices.as_ref()));
        self.auth.iter().for_each(|auth| source.model("auth", auth.as_ref()));
        self.encryption.iter().for_each(|encryption| source.model("encryption", encryption.as_ref()));
        source.rest(&self.rest);
        source.sort_children(CHILDREN);
        if !source.is_empty() {
            out.push(source);
        }
    }
}

/// The children of `<source>` in stock's order.
const CHILDREN: &[&str] = &[
    "host",
    "snapshot",
    "config",
    "initiator",
    "ssl",
    "cookies",
    "readahead",
    "timeout",
    "reconnect",
    "knownHosts",
    "identity",
    "slices",
    "seclabel",
    "auth",
    "encryption",
    "reservations",
    "dataStore",
];

element! {
    /// `<dataStore>`: the file that holds the guest's data when the image itself has only metadata.
    pub struct DataStore {
        /// Its format, always raw.
        format: Option<ImageFormat> => ChildAttr("format", "type"),
        /// Where it is.
        source: Source => Flatten(),
        /// Found in the image's metadata at start, not written by the user: the inactive XML leaves it out.
        detected: bool => Unwritten(),
    }
}

/// What an image is based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackingStore {
    /// `<backingStore/>`: nothing, and nobody needs to look.
    End,
    /// Another image.
    Image(Box<BackingImage>),
}

element! {
    /// An image below another one.
    pub struct BackingImage {
        /// Its format.
        format: Option<ImageFormat> => ChildAttr("format", "type"),
        /// Where it is.
        source: Source => Flatten(),
        /// Node index in the running guest.
        index: Option<u32> => Attr("index"),
        /// What it is based on itself; `None`: not known, QEMU follows the image.
        backing_store: Option<BackingStore> => Child("backingStore"),
        /// Found in the image's metadata at start, not written by the user: the inactive XML leaves it out.
        detected: bool => Unwritten(),
    }
}

impl Model for BackingStore {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        if input.finish().is_ok() {
            return Ok(Self::End);
        }
        Ok(Self::Image(Box::new(BackingImage::read(input)?)))
    }

    fn write(&self, out: &mut Output) {
        match self {
            Self::End => {}
            Self::Image(image) => image.write(out),
        }
    }
}
