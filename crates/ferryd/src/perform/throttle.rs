//! Limits on how fast disks are, told to QEMU over its monitor: it has no words for them on its command line.
//!
//! Called when a guest starts, when a disk is plugged in, and when a client changes a limit.

use ferry_domxml::disk::Disk;
use ferry_domxml::throttle::Limits;
use ferry_qmp::Command;
use ferry_qmp::commands::block::QueryBlock;
use ferry_qmp::commands::media::BlockSetIoThrottle;
use serde::{Deserialize, Serialize};

use super::monitor::{Monitor, MonitorError};

/// Sets the limits of the disks that have some.
///
/// # Errors
/// QEMU refuses.
pub(crate) async fn apply(monitor: &Monitor, disks: &[Disk]) -> Result<(), MonitorError> {
    for disk in disks {
        if let Some((limits, alias)) = disk.iotune.as_ref().zip(disk.info.alias.as_deref()) {
            set(monitor, alias, limits).await?;
        }
    }
    Ok(())
}

/// Sets all limits of one disk; what is not limited is without.
///
/// # Errors
/// QEMU refuses.
pub(crate) async fn set(monitor: &Monitor, alias: &str, limits: &Limits) -> Result<(), MonitorError> {
    let id = backend(monitor, alias).await?;
    monitor.execute(&command(id, limits)).await.map(drop)
}

/// The object in front of a disk's nodes: the device itself, or a part of it.
async fn backend(monitor: &Monitor, alias: &str) -> Result<String, MonitorError> {
    let below = format!("/machine/peripheral/{alias}/");
    let is = |qdev: &String| *qdev == alias || qdev.starts_with(&below);
    let devices = monitor.execute(&QueryBlock).await?;
    let found = devices.into_iter().filter_map(|device| device.qdev).find(is);
    // QEMU will say that there is no such device.
    Ok(found.unwrap_or_else(|| alias.to_owned()))
}

/// The limits in force on one disk, as QEMU tells them. `None`: it has no such disk, or the disk has no medium.
///
/// # Errors
/// QEMU does not answer.
pub(crate) async fn in_force(monitor: &Monitor, alias: &str) -> Result<Option<Limits>, MonitorError> {
    let below = format!("/machine/peripheral/{alias}/");
    let devices = monitor.execute(&QueryLimits {}).await?;
    let is =
        |device: &Limited| device.qdev.as_ref().is_some_and(|qdev| qdev == alias || qdev.starts_with(&below));
    Ok(devices.into_iter().find(is).and_then(|device| device.inserted).map(Numbers::limits))
}

/// `query-block`, for the limits in its answer.
#[derive(Serialize)]
struct QueryLimits {}

impl Command for QueryLimits {
    const NAME: &'static str = "query-block";
    type Reply = Vec<Limited>;
}

#[derive(Deserialize)]
struct Limited {
    qdev: Option<String>,
    inserted: Option<Numbers>,
}

/// QEMU's words for the limits; 0 is without.
#[derive(Deserialize)]
struct Numbers {
    bps: u64,
    bps_rd: u64,
    bps_wr: u64,
    iops: u64,
    iops_rd: u64,
    iops_wr: u64,
    bps_max: Option<u64>,
    bps_rd_max: Option<u64>,
    bps_wr_max: Option<u64>,
    iops_max: Option<u64>,
    iops_rd_max: Option<u64>,
    iops_wr_max: Option<u64>,
    iops_size: Option<u64>,
    bps_max_length: Option<u64>,
    bps_rd_max_length: Option<u64>,
    bps_wr_max_length: Option<u64>,
    iops_max_length: Option<u64>,
    iops_rd_max_length: Option<u64>,
    iops_wr_max_length: Option<u64>,
    group: Option<String>,
}

impl Numbers {
    fn limits(self) -> Limits {
        Limits {
            total_bytes_sec: Some(self.bps),
            read_bytes_sec: Some(self.bps_rd),
            write_bytes_sec: Some(self.bps_wr),
            total_iops_sec: Some(self.iops),
            read_iops_sec: Some(self.iops_rd),
            write_iops_sec: Some(self.iops_wr),
            total_bytes_sec_max: self.bps_max,
            read_bytes_sec_max: self.bps_rd_max,
            write_bytes_sec_max: self.bps_wr_max,
            total_iops_sec_max: self.iops_max,
            read_iops_sec_max: self.iops_rd_max,
            write_iops_sec_max: self.iops_wr_max,
            size_iops_sec: self.iops_size,
            total_bytes_sec_max_length: self.bps_max_length,
            read_bytes_sec_max_length: self.bps_rd_max_length,
            write_bytes_sec_max_length: self.bps_wr_max_length,
            total_iops_sec_max_length: self.iops_max_length,
            read_iops_sec_max_length: self.iops_rd_max_length,
            write_iops_sec_max_length: self.iops_wr_max_length,
            group_name: self.group,
            ..Limits::default()
        }
    }
}

fn command(id: String, limits: &Limits) -> BlockSetIoThrottle {
    let number = |number: Option<u64>| number.unwrap_or(0);
    // A burst's length is taken back with its height.
    let length = |number: Option<u64>| number.filter(|seconds| *seconds > 0);
    BlockSetIoThrottle {
        id,
        bps: number(limits.total_bytes_sec),
        bps_rd: number(limits.read_bytes_sec),
        bps_wr: number(limits.write_bytes_sec),
        iops: number(limits.total_iops_sec),
        iops_rd: number(limits.read_iops_sec),
        iops_wr: number(limits.write_iops_sec),
        bps_max: Some(number(limits.total_bytes_sec_max)),
        bps_rd_max: Some(number(limits.read_bytes_sec_max)),
        bps_wr_max: Some(number(limits.write_bytes_sec_max)),
        iops_max: Some(number(limits.total_iops_sec_max)),
        iops_rd_max: Some(number(limits.read_iops_sec_max)),
        iops_wr_max: Some(number(limits.write_iops_sec_max)),
        bps_max_length: length(limits.total_bytes_sec_max_length),
        bps_rd_max_length: length(limits.read_bytes_sec_max_length),
        bps_wr_max_length: length(limits.write_bytes_sec_max_length),
        iops_max_length: length(limits.total_iops_sec_max_length),
        iops_rd_max_length: length(limits.read_iops_sec_max_length),
        iops_wr_max_length: length(limits.write_iops_sec_max_length),
        iops_size: Some(number(limits.size_iops_sec)),
        group: limits.group_name.clone(),
    }
}
