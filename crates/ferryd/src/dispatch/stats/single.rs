//! Statistics of one domain, one thing a call: what clients used before there were bulk statistics, and still do.

use ferry_domxml::disk::Disk;
use ferry_qmp::commands::block::{BlockCounters, QueryBlock};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{AffectFlags, TYPED_PARAM_STRING_OKAY};
use ferry_rpc::proto::{
    DomainBlockStats, DomainBlockStatsFlags, DomainBlockStatsFlagsReply, DomainBlockStatsReply,
    DomainDiskError, DomainGetCpuStats, DomainGetCpuStatsReply, DomainGetDiskErrors,
    DomainGetDiskErrorsReply, DomainInterfaceStats, DomainInterfaceStatsReply, DomainMemoryStat,
    DomainMemoryStats, DomainMemoryStatsReply,
};
use ferry_rpc::typed_param::TypedParam;

use super::super::{Context, accept_flags, int, running};
use super::block::{Counters, find};
use super::memory as balloon;
use crate::driver::Live;
use crate::refuse;
use crate::usage::{self, ProcessUsage};

/// The most values of one answer to the calls with typed parameters.
const PARAMS_MAX: i32 = 16;

/// QEMU does not count failed requests for these calls.
const NO_COUNT: i64 = -1;

/// Requests and bytes of one disk, or of all together when no disk is named.
pub(in crate::dispatch) async fn block(
    context: Context,
    call: DomainBlockStats,
) -> Result<DomainBlockStatsReply, Error> {
    let view = context.view(&call.domain)?;
    let sum = gather(running(&view)?, &call.path).await?;
    Ok(DomainBlockStatsReply {
        rd_req: long(sum.rd_operations),
        rd_bytes: long(sum.rd_bytes),
        wr_req: long(sum.wr_operations),
        wr_bytes: long(sum.wr_bytes),
        errs: NO_COUNT,
    })
}

/// The same with flushes and times.
pub(in crate::dispatch) async fn block_flags(
    context: Context,
    call: DomainBlockStatsFlags,
) -> Result<DomainBlockStatsFlagsReply, Error> {
    accept_flags(call.flags, TYPED_PARAM_STRING_OKAY, "qemuDomainBlockStatsFlags")?;
    check_room(call.nparams)?;
    let view = context.view(&call.domain)?;
    let sum = gather(running(&view)?, &call.path).await?;
    let params = [
        ("wr_bytes", sum.wr_bytes),
        ("wr_operations", sum.wr_operations),
        ("rd_bytes", sum.rd_bytes),
        ("rd_operations", sum.rd_operations),
        ("flush_operations", sum.flush_operations),
        ("wr_total_times", sum.wr_total_time_ns),
        ("rd_total_times", sum.rd_total_time_ns),
        ("flush_total_times", sum.flush_total_time_ns),
    ];
    let params = params.map(|(name, value)| TypedParam::new(name, long(value)));
    let (params, nparams) = as_asked(params.into(), call.nparams);
    Ok(DomainBlockStatsFlagsReply { params, nparams })
}

async fn gather(live: &Live, path: &str) -> Result<BlockCounters, Error> {
    let disks = &live.domain.devices.disks;
    let chosen: Vec<&Disk> = match path {
        "" => disks.iter().collect(),
        _ => {
            let missing = || Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, format!("invalid path: {path}"));
            vec![find(disks, path).ok_or_else(missing)?]
        }
    };
    let counters = Counters::of(live).await.map_err(refuse::monitor)?;
    let mut sum = BlockCounters::default();
    for disk in chosen {
        let alias = disk.info.alias.as_deref().unwrap_or_default();
        let one = counters.of_device(alias).ok_or_else(|| {
            Error::of(
                ErrorCode::INTERNAL_ERROR,
                Origin::QEMU,
                format!("cannot find statistics for device '{alias}'"),
            )
        })?;
        for (total, part) in [
            (&mut sum.rd_operations, one.rd_operations),
            (&mut sum.rd_bytes, one.rd_bytes),
            (&mut sum.rd_total_time_ns, one.rd_total_time_ns),
            (&mut sum.wr_operations, one.wr_operations),
            (&mut sum.wr_bytes, one.wr_bytes),
            (&mut sum.wr_total_time_ns, one.wr_total_time_ns),
            (&mut sum.flush_operations, one.flush_operations),
            (&mut sum.flush_total_time_ns, one.flush_total_time_ns),
        ] {
            *total = total.saturating_add(part);
        }
    }
    Ok(sum)
}

/// What a network card has received and sent, as the guest sees it.
pub(in crate::dispatch) fn interface(
    context: &Context,
    call: DomainInterfaceStats,
) -> Result<DomainInterfaceStatsReply, Error> {
    let view = context.view(&call.domain)?;
    let cards = &running(&view)?.domain.devices.interfaces;
    // A device of the host, or the guest's hardware address.
    let named = |card: &&ferry_domxml::Interface| {
        card.target_dev.as_deref() == Some(call.device.as_str())
            || card.mac.is_some_and(|mac| mac.to_string().eq_ignore_ascii_case(&call.device))
    };
    let card = cards.iter().find(named).ok_or_else(|| {
        let text = format!("'{}' is not a known interface", call.device);
        Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text)
    })?;
    let internal = |text: String| Error::of(ErrorCode::INTERNAL_ERROR, Origin::NONE, text);
    let name =
        card.target_dev.as_deref().ok_or_else(|| internal("Interface name not provided".to_owned()))?;
    let (received, sent) =
        usage::traffic(name).ok_or_else(|| internal("/proc/net/dev: Interface not found".to_owned()))?;
    Ok(DomainInterfaceStatsReply {
        rx_bytes: long(sent.bytes),
        rx_packets: long(sent.packets),
        rx_errs: long(sent.errors),
        rx_drop: long(sent.dropped),
        tx_bytes: long(received.bytes),
        tx_packets: long(received.packets),
        tx_errs: long(received.errors),
        tx_drop: long(received.dropped),
    })
}

/// What the balloon knows of the guest's memory, and what QEMU holds.
pub(in crate::dispatch) async fn memory(
    context: Context,
    call: DomainMemoryStats,
) -> Result<DomainMemoryStatsReply, Error> {
    /// The most values of one answer.
    const STATS_MAX: u32 = 1024;
    accept_flags(call.flags, 0, "qemuDomainMemoryStats")?;
    if call.max_stats > STATS_MAX {
        return Err(Error::of(
            ErrorCode::INTERNAL_ERROR,
            Origin::RPC,
            "maxStats > REMOTE_DOMAIN_MEMORY_STATS_MAX",
        ));
    }
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    let mut stats = Vec::new();
    let mut put = |tag, val| stats.push(DomainMemoryStat { tag, val });
    if let Some(kib) = balloon::actual_kib(live).await.map_err(refuse::monitor)? {
        put(balloon::ACTUAL.tag, kib);
    }
    for (kind, value) in balloon::of_guest(live).await.map_err(refuse::monitor)? {
        put(kind.tag, value);
    }
    if let Some(usage) = ProcessUsage::of(live.process.identity().pid) {
        put(balloon::RSS.tag, usage.rss_kib);
    }
    stats.truncate(usize::try_from(call.max_stats).unwrap_or(usize::MAX));
    Ok(DomainMemoryStatsReply { stats })
}

/// Disks on which a request has failed and stopped the guest.
pub(in crate::dispatch) async fn disk_errors(
    context: Context,
    call: DomainGetDiskErrors,
) -> Result<DomainGetDiskErrorsReply, Error> {
    /// Why a disk is in error (`VIR_DOMAIN_DISK_ERROR_*`).
    const UNSPECIFIED: i32 = 1;
    const NO_SPACE: i32 = 2;
    accept_flags(call.flags, 0, "qemuDomainGetDiskErrors")?;
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    let disks = &live.domain.devices.disks;
    if call.maxerrors == 0 {
        return Ok(DomainGetDiskErrorsReply { errors: Vec::new(), nerrors: int(disks.len()) });
    }
    let devices = live.monitor.execute(&QueryBlock).await.map_err(refuse::monitor)?;
    let error_of = |alias: &str| {
        let below = format!("/machine/peripheral/{alias}/");
        let is = |qdev: &str| qdev == alias || qdev.starts_with(&below);
        let device = devices.iter().find(|device| device.qdev.as_deref().is_some_and(is))?;
        match device.io_status.as_deref()? {
            "failed" => Some(UNSPECIFIED),
            "nospace" => Some(NO_SPACE),
            _ => None,
        }
    };
    let errors = disks.iter().filter_map(|disk| {
        let error = error_of(disk.info.alias.as_deref()?)?;
        Some(DomainDiskError { disk: disk.target.dev.clone(), error })
    });
    let errors: Vec<_> = errors.take(usize::try_from(call.maxerrors).unwrap_or(usize::MAX)).collect();
    Ok(DomainGetDiskErrorsReply { nerrors: int(errors.len()), errors })
}

/// CPU time by processor of the host: only a cgroup could tell, and guests have none.
pub(in crate::dispatch) fn cpu(
    context: &Context,
    call: DomainGetCpuStats,
) -> Result<DomainGetCpuStatsReply, Error> {
    accept_flags(call.flags, TYPED_PARAM_STRING_OKAY, "qemuDomainGetCPUStats")?;
    let view = context.view(&call.domain)?;
    running(&view)?;
    Err(no_cgroup("cgroup CPUACCT controller is not mounted"))
}

/// The flags of calls that read limits.
pub(in crate::dispatch) fn affect(flags: u32, function: &str) -> Result<AffectFlags, Error> {
    accept_flags(flags, AffectFlags::ALL.bits() | TYPED_PARAM_STRING_OKAY, function)?;
    Ok(AffectFlags::from_bits(flags & AffectFlags::ALL.bits()))
}

/// Refuses a client that has room for more values than an answer can hold.
pub(in crate::dispatch) fn check_room(nparams: i32) -> Result<(), Error> {
    if (0..=PARAMS_MAX).contains(&nparams) {
        return Ok(());
    }
    Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, "nparams too large"))
}

/// These calls are made twice: for the number of values, and then for the values.
pub(in crate::dispatch) fn as_asked(mut params: Vec<TypedParam>, nparams: i32) -> (Vec<TypedParam>, i32) {
    if nparams == 0 {
        return (Vec::new(), int(params.len()));
    }
    params.truncate(usize::try_from(nparams).unwrap_or(0));
    (params, 0)
}

pub(in crate::dispatch) fn no_cgroup(text: &str) -> Error {
    Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)
}

fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_first_and_then_handed_out() {
        let params = || vec![TypedParam::new("a", 1), TypedParam::new("b", 2)];
        assert_eq!(as_asked(params(), 0), (Vec::new(), 2));
        assert_eq!(as_asked(params(), 2), (params(), 0));
        assert_eq!(as_asked(params(), 1).0.len(), 1);
        assert!(check_room(16).is_ok() && check_room(17).is_err() && check_room(-1).is_err());
    }
}
