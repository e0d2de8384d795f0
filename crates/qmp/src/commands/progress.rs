//! `query-migrate`: how a migration stands, on either side.

use super::migration::{MigrationStatus, SocketAddress};
use serde::Deserialize;

plain_commands! {
    /// How the migration stands. An empty answer says that there has been none.
    QueryMigrate = "query-migrate" -> MigrationInfo;
}

/// How a migration stands. Times are in milliseconds, sizes in bytes, of the side that was asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationInfo {
    /// Its status; `None` when there has been none.
    pub status: Option<MigrationStatus>,
    /// Memory; on the destination only once complete, if at all.
    pub ram: Option<RamProgress>,
    /// Assigned devices.
    pub vfio: Option<VfioProgress>,
    /// XBZRLE, when it is on.
    pub xbzrle_cache: Option<XbzrleCache>,
    /// Since the start; once complete, in all.
    pub total_time: Option<u64>,
    /// The pause to expect if the switch came now.
    pub expected_downtime: Option<u64>,
    /// The pause that there was, by QEMU's estimate.
    pub downtime: Option<u64>,
    /// Setting up the migration took this long.
    pub setup_time: Option<u64>,
    /// Percent of CPU time that auto-converge takes away now.
    pub cpu_throttle_percentage: Option<u8>,
    /// Microseconds of a dirty-limit round that a CPU was held back. Since 8.1.
    pub dirty_limit_throttle_time_per_round: Option<u64>,
    /// Microseconds that dirty-limit expects a CPU's ring to fill in. Since 8.1.
    pub dirty_limit_ring_full_time: Option<u64>,
    /// Why it failed.
    pub error_desc: Option<String>,
    /// Why the machine cannot be migrated now.
    #[serde(default)]
    pub blocked_reasons: Vec<String>,
    /// Time in post-copy during which all CPUs waited for pages.
    pub postcopy_blocktime: Option<u64>,
    /// The same for each CPU.
    #[serde(default)]
    pub postcopy_vcpu_blocktime: Vec<u64>,
    /// Where the destination listens.
    #[serde(default)]
    pub socket_address: Vec<SocketAddress>,
}

/// Memory under way. Counters run over the whole migration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RamProgress {
    /// Bytes sent.
    pub transferred: u64,
    /// Bytes that still differ.
    pub remaining: u64,
    /// Bytes of guest memory.
    pub total: u64,
    /// Pages of zeroes.
    pub duplicate: u64,
    /// Pages sent whole.
    pub normal: u64,
    /// The same in bytes.
    pub normal_bytes: u64,
    /// Pages that the guest dirties per second.
    pub dirty_pages_rate: u64,
    /// Megabits per second.
    pub mbps: f64,
    /// Passes so far.
    pub dirty_sync_count: u64,
    /// Pages that the destination asked for.
    pub postcopy_requests: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// Bytes sent through multifd channels.
    pub multifd_bytes: u64,
    /// Pages sent per second.
    pub pages_per_second: u64,
    /// Bytes sent before the pause.
    pub precopy_bytes: u64,
    /// Bytes sent in the pause.
    pub downtime_bytes: u64,
    /// Bytes sent after the switch to post-copy.
    pub postcopy_bytes: u64,
    /// How often zero copy fell back to copying.
    pub dirty_sync_missed_zero_copy: u64,
}

/// Assigned devices under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct VfioProgress {
    /// Bytes sent.
    pub transferred: u64,
}

/// What XBZRLE achieves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct XbzrleCache {
    /// Bytes of the cache.
    pub cache_size: u64,
    /// Bytes sent in this form.
    pub bytes: u64,
    /// Pages sent in this form.
    pub pages: u64,
    /// Pages that were not in the cache.
    pub cache_miss: u64,
    /// Their share, 0 to 1.
    pub cache_miss_rate: f64,
    /// How well it encodes: bytes in for bytes out.
    pub encoding_rate: f64,
    /// Pages that did not get smaller.
    pub overflow: u64,
}
