//! The job of a domain: progress, abort, limits.

use ferry_migration::stats::no_job;
use ferry_qmp::commands::migration::QueryMigrateParameters;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{AbortJobFlags, Flags as _, JobStatsFlags, MaxSpeedFlags};
use ferry_rpc::proto::{
    DomainAbortJob, DomainAbortJobFlags, DomainGetJobInfo, DomainGetJobInfoReply, DomainGetJobStats,
    DomainGetJobStatsReply, DomainMigrateGetCompressionCache, DomainMigrateGetMaxDowntime,
    DomainMigrateGetMaxSpeed, DomainMigrateSetCompressionCache, DomainMigrateSetMaxDowntime,
    DomainMigrateSetMaxSpeed, DomainRef,
};
use ferry_rpc::values::JobType;

use super::{Context, accept_flags, running};
use crate::driver::{Request, WhichJob};

/// Bandwidths from here on do not fit into bytes per second, in MiB/s.
const SPEED_MIB_BOUND: u64 = 8_796_093_022_208;

/// The job that is under way.
pub(super) async fn info(context: Context, call: DomainGetJobInfo) -> Result<DomainGetJobInfoReply, Error> {
    let handle = context.domain(&call.domain)?;
    running(&handle.view())?;
    let stats = handle.ask(|reply| Request::JobStats { which: WhichJob::Present, reply }).await?;
    // Asked in silence by clients that show progress: no job is no error.
    Ok(stats.map_or_else(no_job, |stats| stats.info()))
}

/// The job that is under way, or the one that ended last.
pub(super) async fn stats(
    context: Context,
    call: DomainGetJobStats,
) -> Result<DomainGetJobStatsReply, Error> {
    let flags = call.flags.accept(JobStatsFlags::ALL, "qemuDomainGetJobStats")?;
    let keep = flags.contains(JobStatsFlags::KEEP_COMPLETED);
    let completed = flags.contains(JobStatsFlags::COMPLETED);
    if keep && !completed {
        let text = "Flag 'VIR_DOMAIN_JOB_STATS_COMPLETED' is required by flag \
                    'VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED'";
        return Err(Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text));
    }
    let handle = context.domain(&call.domain)?;
    let which = if completed {
        WhichJob::Completed { keep }
    } else {
        running(&handle.view())?;
        WhichJob::Present
    };
    let stats = handle.ask(|reply| Request::JobStats { which, reply }).await?;
    Ok(match stats {
        Some(stats) => DomainGetJobStatsReply { kind: stats.kind, params: stats.params() },
        None => DomainGetJobStatsReply { kind: JobType::NONE, params: Vec::new() },
    })
}

/// Gives up the job that is under way.
pub(super) async fn abort(context: Context, call: DomainAbortJob) -> Result<(), Error> {
    give_up(&context, &call.domain, false).await
}

/// Gives up the job that is under way, or interrupts its post-copy.
pub(super) async fn abort_with_flags(context: Context, call: DomainAbortJobFlags) -> Result<(), Error> {
    let flags = call.flags.accept(AbortJobFlags::ALL, "qemuDomainAbortJobFlags")?;
    give_up(&context, &call.domain, flags.contains(AbortJobFlags::POSTCOPY)).await
}

async fn give_up(context: &Context, domain: &DomainRef, postcopy: bool) -> Result<(), Error> {
    let handle = context.domain(domain)?;
    running(&handle.view())?;
    handle.ask(|reply| Request::AbortJob { postcopy, reply }).await
}

/// Milliseconds.
pub(super) fn max_downtime(context: &Context, call: DomainMigrateGetMaxDowntime) -> Result<u64, Error> {
    accept_flags(call.flags, 0, "qemuDomainMigrateGetMaxDowntime")?;
    let view = context.view(&call.domain)?;
    running(&view)?;
    Ok(view.downtime_ms_max)
}

/// Milliseconds.
pub(super) async fn set_max_downtime(
    context: Context,
    call: DomainMigrateSetMaxDowntime,
) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainMigrateSetMaxDowntime")?;
    let handle = context.domain(&call.domain)?;
    running(&handle.view())?;
    handle.ask(|reply| Request::SetMaxDowntime { downtime_ms: call.downtime, reply }).await
}

/// MiB/s.
pub(super) fn max_speed(context: &Context, call: DomainMigrateGetMaxSpeed) -> Result<u64, Error> {
    let flags = call.flags.accept(MaxSpeedFlags::ALL, "qemuDomainMigrateGetMaxSpeed")?;
    let view = context.view(&call.domain)?;
    if flags.contains(MaxSpeedFlags::POSTCOPY) {
        running(&view)?;
        return Ok(view.postcopy_speed_mib_max);
    }
    Ok(view.speed_mib_max)
}

/// MiB/s. The limit of pre-copy may be set before the guest runs.
pub(super) async fn set_max_speed(context: Context, call: DomainMigrateSetMaxSpeed) -> Result<(), Error> {
    let flags = call.flags.accept(MaxSpeedFlags::ALL, "qemuDomainMigrateSetMaxSpeed")?;
    if call.bandwidth >= SPEED_MIB_BOUND {
        let text = format!("bandwidth must be less than {SPEED_MIB_BOUND}");
        return Err(Error::of(ErrorCode::OVERFLOW, Origin::QEMU, text));
    }
    let handle = context.domain(&call.domain)?;
    let postcopy = flags.contains(MaxSpeedFlags::POSTCOPY);
    if postcopy {
        running(&handle.view())?;
    }
    handle.ask(|reply| Request::SetMaxSpeed { mib_per_s: call.bandwidth, postcopy, reply }).await
}

/// Bytes, as QEMU has it now.
pub(super) async fn compression_cache(
    context: Context,
    call: DomainMigrateGetCompressionCache,
) -> Result<u64, Error> {
    accept_flags(call.flags, 0, "qemuDomainMigrateGetCompressionCache")?;
    let view = context.view(&call.domain)?;
    let parameters = running(&view)?.monitor.execute(&QueryMigrateParameters).await;
    let size = parameters.map_err(crate::refuse::monitor)?.xbzrle_cache_size;
    size.ok_or_else(|| {
        let text = "Compressed migration is not supported by QEMU binary";
        Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text)
    })
}

/// Belongs to a migration's own parameters, so that it cannot outlive the migration that it was meant for.
pub(super) async fn set_compression_cache(
    context: Context,
    call: DomainMigrateSetCompressionCache,
) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainMigrateSetCompressionCache")?;
    let view = context.view(&call.domain)?;
    running(&view)?;
    let text = "the size of the compression cache is a parameter of the migration: compression.xbzrle.cache";
    Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text))
}
