//! Moving a machine: capabilities, parameters, addresses, and the commands that drive it.
//!
//! [`super::progress`] has what `query-migrate` answers.

use crate::Nothing;
use serde::{Deserialize, Serialize};
use serde_json::Value;

plain_commands! {
    /// Ends a migration and resumes the machine where that is still possible.
    MigrateCancel = "migrate_cancel" -> Nothing;
    /// Switches from pre-copy to post-copy. Needs capability `postcopy-ram` set before the start.
    MigrateStartPostcopy = "migrate-start-postcopy" -> Nothing;
    /// Breaks a post-copy connection that hangs, so that it can be recovered.
    MigratePause = "migrate-pause" -> Nothing, out_of_band;
    /// The capabilities and whether they are on.
    QueryMigrateCapabilities = "query-migrate-capabilities" -> Vec<CapabilityState>;
    /// The parameters as they stand.
    QueryMigrateParameters = "query-migrate-parameters" -> MigrationParameters;
}

lenient_enum! {
    /// What a migration can be told to do.
    pub enum MigrationCapability {
        Xbzrle = "xbzrle",
        RdmaPinAll = "rdma-pin-all",
        AutoConverge = "auto-converge",
        /// Gone in 11.
        ZeroBlocks = "zero-blocks",
        /// Gone in 9.1.
        Compress = "compress",
        Events = "events",
        PostcopyRam = "postcopy-ram",
        XColo = "x-colo",
        ReleaseRam = "release-ram",
        /// Gone in 9.1.
        Block = "block",
        ReturnPath = "return-path",
        PauseBeforeSwitchover = "pause-before-switchover",
        Multifd = "multifd",
        DirtyBitmaps = "dirty-bitmaps",
        PostcopyBlocktime = "postcopy-blocktime",
        LateBlockActivate = "late-block-activate",
        XIgnoreShared = "x-ignore-shared",
        ValidateUuid = "validate-uuid",
        BackgroundSnapshot = "background-snapshot",
        ZeroCopySend = "zero-copy-send",
        PostcopyPreempt = "postcopy-preempt",
        SwitchoverAck = "switchover-ack",
        DirtyLimit = "dirty-limit",
        MappedRam = "mapped-ram",
    }
}

/// A capability and whether it is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityState {
    /// Which.
    pub capability: MigrationCapability,
    /// It is on.
    pub state: bool,
}

/// `migrate-set-capabilities`. All or none are set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MigrateSetCapabilities {
    /// What to turn on or off; what is not named stays.
    pub capabilities: Vec<CapabilityState>,
}
command! { MigrateSetCapabilities = "migrate-set-capabilities" -> Nothing }

lenient_enum! {
    /// How a migration stands.
    pub enum MigrationStatus {
        None = "none",
        Setup = "setup",
        Cancelling = "cancelling",
        Cancelled = "cancelled",
        Active = "active",
        PostcopyActive = "postcopy-active",
        PostcopyPaused = "postcopy-paused",
        /// Since 9.1.
        PostcopyRecoverSetup = "postcopy-recover-setup",
        PostcopyRecover = "postcopy-recover",
        Completed = "completed",
        Failed = "failed",
        Colo = "colo",
        /// Paused with all but the last pass done; goes on with `migrate-continue`.
        PreSwitchover = "pre-switchover",
        /// Device state is on its way.
        Device = "device",
        WaitUnplug = "wait-unplug",
    }
}

lenient_enum! {
    /// How multifd channels compress.
    pub enum MultifdCompression { None = "none", Zlib = "zlib", Zstd = "zstd", }
}

lenient_enum! {
    /// Who finds pages of zeroes.
    pub enum ZeroPageDetection { None = "none", Legacy = "legacy", Multifd = "multifd", }
}

lenient_enum! {
    /// What kind of migration `migrate` makes.
    pub enum MigrationMode { Normal = "normal", CprReboot = "cpr-reboot", CprTransfer = "cpr-transfer", CprExec = "cpr-exec", }
}

/// The parameters of a migration: what `query-migrate-parameters` answers, and, as
/// `migrate-set-parameters`, what to change; `None` leaves a parameter alone. A version that does not have a
/// parameter refuses the whole command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct MigrationParameters {
    /// Milliseconds before the first self-announcement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce_initial: Option<u64>,
    /// Milliseconds between self-announcements, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce_max: Option<u64>,
    /// How many self-announcements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce_rounds: Option<u64>,
    /// Milliseconds by which the pause between them grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce_step: Option<u64>,
    /// Percent of a pass that must have been dirtied again before auto-converge throttles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_trigger_threshold: Option<u8>,
    /// Percent of CPU time that auto-converge takes away first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttle_initial: Option<u8>,
    /// Percent that it adds each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttle_increment: Option<u8>,
    /// Add smaller steps near the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttle_tailslow: Option<bool>,
    /// Percent that it takes away at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cpu_throttle: Option<u8>,
    /// The id of a `tls-creds-*` object; empty is without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_creds: Option<String>,
    /// The name that the other end's certificate must bear; empty takes it from the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_hostname: Option<String>,
    /// The id of an `authz-*` object that judges the client's name; empty lets everyone in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_authz: Option<String>,
    /// Bytes per second, at most; 0 is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bandwidth: Option<u64>,
    /// Bytes per second to reckon with for the last pass; 0 is by measurement. Since 8.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avail_switchover_bandwidth: Option<u64>,
    /// Milliseconds of pause to aim for, 0 to 2,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_limit: Option<u64>,
    /// Bytes per second of background transfer in post-copy; 0 is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_postcopy_bandwidth: Option<u64>,
    /// Channels, 1 to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multifd_channels: Option<u8>,
    /// How they compress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multifd_compression: Option<MultifdCompression>,
    /// 0 to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multifd_zlib_level: Option<u8>,
    /// 0 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multifd_zstd_level: Option<u8>,
    /// Bytes; a power of two, at least a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xbzrle_cache_size: Option<u64>,
    /// 0 to 9. Gone in 9.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress_level: Option<u8>,
    /// Gone in 9.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress_threads: Option<u8>,
    /// Gone in 9.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decompress_threads: Option<u8>,
    /// Which bitmaps move under which names, as QAPI's `BitmapMigrationNodeAlias` list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_bitmap_mapping: Option<Vec<Value>>,
    /// MiB per second and CPU. Since 8.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu_dirty_limit: Option<u64>,
    /// What kind of migration. Since 8.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<MigrationMode>,
    /// Since 9.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_page_detection: Option<ZeroPageDetection>,
    /// Open the file of a `file:` migration with O_DIRECT. Since 9.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_io: Option<bool>,
}

/// `migrate-set-parameters`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MigrateSetParameters(pub MigrationParameters);
command! { MigrateSetParameters = "migrate-set-parameters" -> Nothing }

/// Where a socket is or listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SocketAddress {
    /// TCP.
    Inet {
        /// Name or address.
        host: String,
        /// Number as text; `0` to listen lets the host choose.
        port: String,
    },
    /// A path, or an abstract name when `abstract_name` is set.
    Unix {
        /// The path.
        path: String,
        /// The path is a name in Linux's abstract namespace.
        #[serde(rename = "abstract", skip_serializing_if = "Option::is_none")]
        abstract_name: Option<bool>,
    },
    /// A guest or host by its vsock id.
    Vsock {
        /// Context id as text.
        cid: String,
        /// Port as text.
        port: String,
    },
    /// A descriptor that `getfd` named, or an inherited one by its number.
    Fd {
        /// The name or number.
        #[serde(rename = "str")]
        name: String,
    },
    /// Another kind, as it came.
    #[serde(untagged)]
    Other(Value),
}

/// What a migration stream goes through. Since QEMU 8.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "transport", rename_all = "lowercase")]
pub enum MigrationAddress {
    /// A socket.
    Socket(SocketAddress),
    /// The standard input or output of a program, run by QEMU.
    Exec {
        /// Program and arguments.
        args: Vec<String>,
    },
    /// A file.
    File {
        /// Its path, or `/dev/fdset/N`.
        filename: String,
        /// Where the stream starts, in bytes.
        offset: u64,
    },
}

lenient_enum! {
    /// What a channel carries.
    pub enum ChannelType { Main = "main", Cpr = "cpr", }
}

/// One channel of a migration. Since QEMU 8.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationChannel {
    /// What it carries.
    pub channel_type: ChannelType,
    /// Where it goes.
    pub addr: MigrationAddress,
}

/// `migrate`. Answers once the connection is being made; success is told by status and events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Migrate {
    /// `tcp:HOST:PORT`, `unix:PATH`, `fd:NAME`, `exec:COMMAND`, …; either this or `channels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The same in structured form, and more than one. Since QEMU 8.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<MigrationChannel>>,
    /// Take up a post-copy migration that was interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<bool>,
}
command! { Migrate = "migrate" -> Nothing }

impl Migrate {
    /// A fresh migration to `uri`.
    pub fn to(uri: impl Into<String>) -> Self {
        Self { uri: Some(uri.into()), ..Self::default() }
    }
}

/// `migrate-incoming`, for a QEMU that was started with `-incoming defer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrateIncoming {
    /// Where to listen; either this or `channels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The same in structured form. Since QEMU 8.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<MigrationChannel>>,
    /// Exit when the migration fails, which is also what QEMU does without the argument. Since 9.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_on_error: Option<bool>,
}
command! { MigrateIncoming = "migrate-incoming" -> Nothing }

impl MigrateIncoming {
    /// Listens at `uri`.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: Some(uri.into()), ..Self::default() }
    }
}

/// `migrate-continue`: goes on from a pause that a capability asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MigrateContinue {
    /// The status that it pauses in; refused in any other.
    pub state: MigrationStatus,
}
command! { MigrateContinue = "migrate-continue" -> Nothing }

/// `migrate-recover`: the destination listens again after a post-copy connection broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MigrateRecover {
    /// Where to listen.
    pub uri: String,
}
command! { MigrateRecover = "migrate-recover" -> Nothing, out_of_band }
