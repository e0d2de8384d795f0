//! Migration cookies: what source and destination tell each other through the coordinator, phase by phase.
//!
//! Called by the driver. What comes from a peer is bounded and checked here; texts inside (definitions, CPUs) are
//! handed on unread. An empty cookie is "no information". Toward every peer the common part and the capabilities
//! are sent: a stock destination does not survive an empty cookie.
//!
//! | cookie | from | has, beside the common part |
//! |---|---|---|
//! | begin | source | feature `lockstate`, cpu, capabilities |
//! | prepare | destination | capabilities |
//! | perform | source | with PERSIST_DEST: feature `persistent`, domain; statistics |
//! | finish | destination | statistics |
//!
//! Each also has our own element, in a namespace of its own that other readers pass over:
//! ```xml
//! <ferry:handover xmlns:ferry='https://github.com/ferry-vm/ferry/ns/handover/1' id='…' epoch='…' secret='…'>
//!   <ferry:address>…</ferry:address>
//!   <ferry:says>granted</ferry:says>
//!   <ferry:overlay disk='vda' size='…' data='…' node='…'><ferry:bitmap>…</ferry:bitmap></ferry:overlay>
//! </ferry:handover>
//! ```
//! and begin what the guest's machine is made of, so that the destination builds neither more nor less:
//! ```xml
//! <ferry:machine xmlns:ferry='…'>
//!   <ferry:device>virtio-blk-pci at bus=pci.0 addr=0x4</ferry:device>
//!   <ferry:lacks>avx512f</ferry:lacks>
//! </ferry:machine>
//! ```

mod read;
mod statistics;
mod write;

pub use read::{CookieError, Expected, Reader};

use ferry_domxml::Uuid;

use crate::overlay::Overlay;
use crate::stats::JobStats;
use crate::{Epoch, Evidence, MigrationId, Secret};

/// Largest cookie, bytes; the wire's own limit.
pub const BYTES_MAX: usize = 4_194_304;

/// Most control addresses that a daemon tells.
pub const ADDRESSES_MAX: usize = 8;

/// Most devices, and most features that a processor lacks, that a source tells.
pub const MACHINE_MAX: usize = 4096;

/// The namespace of our elements.
pub(crate) const NAMESPACE: &str = "https://github.com/ferry-vm/ferry/ns/handover/1";

/// A cookie, read or to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Who sends it, about which guest.
    pub common: Common,
    /// What the reader must understand.
    pub features: Vec<Feature>,
    /// What only a Ferry reads.
    pub handover: Option<Handover>,
    /// What the guest's machine is made of; only a Ferry tells.
    pub machine: Option<Machine>,
    /// The guest's CPU as it runs: a `<cpu>` element's text.
    pub cpu: Option<String>,
    /// What this side's hypervisor can do; absent is "no information".
    pub capabilities: Option<Vec<Capability>>,
    /// The definition to keep: a `<domain>` element's text.
    pub persistent: Option<String>,
    /// Statistics of the copy.
    pub statistics: Option<JobStats>,
    /// Graphics servers of the destination that clients can be sent to (SPICE).
    pub graphics: Option<Graphics>,
}

/// The part that every cookie has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The domain's name on the source, also when it is renamed on the way.
    pub name: String,
    /// The domain's UUID.
    pub uuid: Uuid,
    /// The sender's host name.
    pub hostname: String,
    /// The sender's host UUID: how a migration to the same host is recognised.
    pub host_uuid: Uuid,
}

/// Which hypervisor capability a side has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// QEMU's name of it.
    pub name: String,
    /// This side switches it on by itself.
    pub auto: bool,
}

/// A graphics server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graphics {
    /// `spice` or `vnc`.
    pub kind: String,
    /// The port.
    pub port: u16,
    /// Where it listens.
    pub listen: String,
    /// The port with TLS, if any.
    pub tls_port: Option<u16>,
}

/// What two Ferry daemons tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Which migration.
    pub id: MigrationId,
    /// Its place among the migrations of the guest.
    pub epoch: Epoch,
    /// By which the two daemons know each other. Made by the source, repeated by the destination.
    pub secret: Secret,
    /// Where the sender's daemon can be asked; none when it has no address.
    pub addresses: Vec<String>,
    /// What the sender states.
    pub says: Option<Says>,
    /// In Begin's: images that need not be shared. In Prepare's: those of them that have their like there.
    pub overlays: Vec<Overlay>,
}

/// What the guest's machine is made of, on the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its devices, each as its model and its place.
    pub devices: Vec<String>,
    /// Features that its definition asks for and that its processor lacks there.
    pub lacks: Vec<String>,
}

/// A statement in a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Says {
    /// Source, in Perform's cookie: the right is the destination's, on record.
    Granted,
    /// Destination, in Finish's cookie: the guest is there, on record.
    Running,
    /// Destination: no CPU ran and none will, on record.
    Declined,
    /// It is not known yet.
    InDoubt,
}

impl Says {
    const ALL: [Self; 4] = [Self::Granted, Self::Running, Self::Declined, Self::InDoubt];

    const fn text(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Running => "running",
            Self::Declined => "declined",
            Self::InDoubt => "in-doubt",
        }
    }
}

impl Handover {
    /// What it proves about the migration `id`, if it is about that one and has its secret.
    pub fn evidence(&self, id: MigrationId, secret: &Secret) -> Evidence {
        if self.id != id || !self.secret.matches(secret) {
            return Evidence::None;
        }
        match self.says {
            Some(Says::Granted) => Evidence::Granted,
            Some(Says::Running) => Evidence::Running,
            Some(Says::Declined) => Evidence::Declined,
            Some(Says::InDoubt) | None => Evidence::None,
        }
    }
}

/// Names that a cookie's `feature` elements may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// `graphics`.
    Graphics,
    /// `lockstate`: always there in begin.
    Lockstate,
    /// `persistent`: a definition to keep.
    Persistent,
    /// `network`.
    Network,
    /// `nbd`.
    Nbd,
    /// `statistics`.
    Statistics,
    /// `memory-hotplug`.
    MemoryHotplug,
    /// `cpu-hotplug`.
    CpuHotplug,
    /// `cpu`.
    Cpu,
    /// `allowReboot`.
    AllowReboot,
    /// `capabilities`.
    Capabilities,
    /// `block-dirty-bitmaps`.
    BlockDirtyBitmaps,
}

impl Feature {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 12] = [
        Self::Graphics,
        Self::Lockstate,
        Self::Persistent,
        Self::Network,
        Self::Nbd,
        Self::Statistics,
        Self::MemoryHotplug,
        Self::CpuHotplug,
        Self::Cpu,
        Self::AllowReboot,
        Self::Capabilities,
        Self::BlockDirtyBitmaps,
    ];

    /// The name in the XML.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Graphics => "graphics",
            Self::Lockstate => "lockstate",
            Self::Persistent => "persistent",
            Self::Network => "network",
            Self::Nbd => "nbd",
            Self::Statistics => "statistics",
            Self::MemoryHotplug => "memory-hotplug",
            Self::CpuHotplug => "cpu-hotplug",
            Self::Cpu => "cpu",
            Self::AllowReboot => "allowReboot",
            Self::Capabilities => "capabilities",
            Self::BlockDirtyBitmaps => "block-dirty-bitmaps",
        }
    }
}

impl Cookie {
    /// A cookie with the common part alone.
    pub const fn new(common: Common) -> Self {
        Self {
            common,
            features: Vec::new(),
            handover: None,
            machine: None,
            cpu: None,
            capabilities: None,
            persistent: None,
            statistics: None,
            graphics: None,
        }
    }
}

#[cfg(test)]
mod tests;
