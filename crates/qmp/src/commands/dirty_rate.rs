//! Measuring how fast a guest writes to its memory, without a migration.

use crate::Nothing;
use serde::{Deserialize, Serialize};

lenient_enum! {
    /// How to measure. Only page sampling works without KVM.
    pub enum DirtyRateMode { PageSampling = "page-sampling", DirtyRing = "dirty-ring", DirtyBitmap = "dirty-bitmap", }
}

lenient_enum! {
    /// Whether a measurement is there.
    pub enum DirtyRateStatus { Unstarted = "unstarted", Measuring = "measuring", Measured = "measured", }
}

/// `calc-dirty-rate`: starts a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CalcDirtyRate {
    /// Seconds, 1 to 60.
    pub calc_time: u32,
    /// Pages to sample of each GiB, 128 to 4096.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_pages: Option<u32>,
    /// How; page sampling if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<DirtyRateMode>,
}
command! { CalcDirtyRate = "calc-dirty-rate" -> Nothing }

plain_commands! {
    /// The last measurement.
    QueryDirtyRate = "query-dirty-rate" -> DirtyRate;
}

/// A measurement.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DirtyRate {
    /// Whether it is there.
    pub status: DirtyRateStatus,
    /// MiB per second; `None` while there is no result.
    pub dirty_rate: Option<u64>,
    /// Seconds on QEMU's own clock when it started.
    pub start_time: i64,
    /// Seconds that it takes.
    pub calc_time: i64,
    /// How it is made.
    pub mode: DirtyRateMode,
    /// For each CPU, where the mode can tell.
    #[serde(default)]
    pub vcpu_dirty_rate: Vec<VcpuDirtyRate>,
}

/// One CPU's part.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VcpuDirtyRate {
    /// CPU number.
    pub id: u32,
    /// MiB per second.
    pub dirty_rate: u64,
}
