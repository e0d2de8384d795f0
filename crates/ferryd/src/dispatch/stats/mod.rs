//! Statistics: of many domains in one call, and the older calls that ask one domain for one thing.
//!
//! The bulk call has a group for each bit of [`StatsGroups`]; names, types and order of the values are stock's, since
//! clients pick them by name and people read them in order. A group that a domain cannot give, because its QEMU is gone or
//! does not answer, is left out of that domain's record. Nothing here waits for a job or asks a driver.

mod block;
mod memory;
mod single;

use std::sync::Arc;

use ferry_qemu::capabilities::Accelerator;
use ferry_qmp::commands::device::QueryIothreads;
use ferry_qmp::commands::dirty_rate::{
    CalcDirtyRate, DirtyRateMode, DirtyRateStatus, QueryDirtyRate, VcpuDirtyRate,
};
use ferry_qmp::commands::run::QueryCpusFast;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{Flags as _, ListFlags, StatsFlags, StatsGroups};
use ferry_rpc::proto::{
    ConnectGetAllDomainStats, ConnectGetAllDomainStatsReply, DomainStartDirtyRateCalc, DomainStatsRecord,
};
use ferry_rpc::typed_param::{ParamValue, TypedParam};

use super::{Context, accept_flags, int, lookup, running};
use crate::driver::{Live, View};
use crate::perform::monitor::MonitorError;
use crate::refuse;
use crate::usage::{self, ProcessUsage, ThreadUsage};

pub(super) use block::{find, info as block_info};
pub(super) use single::{
    affect, as_asked, block, block_flags, check_room, cpu, disk_errors, interface, memory, no_cgroup,
};

/// A processor that runs; QEMU knows no other state.
const VCPU_RUNNING: i32 = 1;

/// Modes of a dirty rate measurement in the flags of its call.
const MODE_PAGE_SAMPLING: u32 = 0;
const MODE_DIRTY_BITMAP: u32 = 1 << 0;
const MODE_DIRTY_RING: u32 = 1 << 1;

/// The values of one domain, in order.
#[derive(Debug, Default)]
struct Values(Vec<TypedParam>);

impl Values {
    fn put(&mut self, name: impl Into<String>, value: impl Into<ParamValue>) {
        self.0.push(TypedParam::new(name, value));
    }

    fn put_some(&mut self, name: impl Into<String>, value: Option<impl Into<ParamValue>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

/// Statistics of the domains that are named, or of all; of them those that the flags let pass.
pub(super) async fn all(
    context: Context,
    call: ConnectGetAllDomainStats,
) -> Result<ConnectGetAllDomainStatsReply, Error> {
    let flags = call.flags.accept(StatsFlags::ALL, "qemuConnectGetAllDomainStats")?;
    let unknown = call.stats.without(StatsGroups::ALL).bits();
    if flags.contains(StatsFlags::ENFORCE_STATS) && unknown != 0 {
        let text = format!("Stats types bits 0x{unknown:x} are not supported by this daemon or QEMU");
        return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
    }
    let groups = if call.stats == StatsGroups::NONE { StatsGroups::ALL } else { call.stats };
    let registry = &context.host.registry;
    let views: Vec<Arc<View>> = if call.domains.is_empty() {
        registry.all().into_iter().map(|(_, view)| view).collect()
    } else {
        // One that has gone since the client looked is passed over.
        let found = call.domains.iter().filter_map(|domain| registry.by_uuid(domain.uuid, None).ok());
        found.map(|handle| handle.view()).collect()
    };
    let listed = ListFlags::from_bits(flags.bits() & LISTED);
    let mut records = Vec::new();
    for view in views.iter().filter(|view| lookup::is_listed(view, listed)) {
        let params = of_domain(view, groups, flags.contains(StatsFlags::BACKING)).await;
        records.push(DomainStatsRecord { domain: view.reference(), params });
    }
    Ok(ConnectGetAllDomainStatsReply { records })
}

/// The bits that choose domains are those of a list of domains.
const LISTED: u32 = 0xff;

async fn of_domain(view: &View, groups: StatsGroups, backing: bool) -> Vec<TypedParam> {
    let mut values = Values::default();
    if groups.contains(StatsGroups::STATE) {
        values.put("state.state", view.state.0);
        values.put("state.reason", view.reason);
    }
    let live = view.live.as_ref();
    if let Some(live) = live.filter(|_| groups.contains(StatsGroups::CPU_TOTAL)) {
        cpu_total(live, &mut values);
    }
    if groups.contains(StatsGroups::BALLOON) {
        memory::balloon(view, &mut values).await;
    }
    if groups.contains(StatsGroups::VCPU) {
        vcpus(view, &mut values).await;
    }
    if let Some(live) = live.filter(|_| groups.contains(StatsGroups::INTERFACE)) {
        interfaces(live, &mut values);
    }
    if groups.contains(StatsGroups::BLOCK) {
        block::disks(view, backing, &mut values).await;
    }
    if let Some(live) = live.filter(|_| groups.contains(StatsGroups::IOTHREAD)) {
        iothreads(live, &mut values).await;
    }
    if let Some(live) = live.filter(|_| groups.contains(StatsGroups::DIRTYRATE)) {
        dirty_rate(live, &mut values).await;
    }
    values.0
}

fn cpu_total(live: &Live, values: &mut Values) {
    let pid = live.process.identity().pid;
    let Some(usage) = ProcessUsage::of(pid) else { return };
    values.put("cpu.time", usage.user_ns.saturating_add(usage.system_ns));
    values.put("cpu.user", usage.user_ns);
    values.put("cpu.system", usage.system_ns);
    // Cache monitors belong to a part of the definition that is refused.
    values.put("cpu.cache.monitor.count", 0_u32);
    let (success, fail) = usage::halt_poll_ns(pid);
    values.put("cpu.haltpoll.success.time", success);
    values.put("cpu.haltpoll.fail.time", fail);
}

async fn vcpus(view: &View, values: &mut Values) {
    let Some(domain) = view.current() else { return };
    values.put("vcpu.current", domain.vcpus.current());
    values.put("vcpu.maximum", domain.vcpus.max);
    let Some(live) = &view.live else { return };
    let Ok(mut cpus) = live.monitor.execute(&QueryCpusFast).await else { return };
    cpus.sort_by_key(|cpu| cpu.cpu_index);
    let pid = live.process.identity().pid;
    for cpu in cpus {
        let prefix = format!("vcpu.{}", cpu.cpu_index);
        let usage = ThreadUsage::of(pid, cpu.thread_id);
        values.put(format!("{prefix}.state"), VCPU_RUNNING);
        values.put_some(format!("{prefix}.time"), usage.map(|usage| usage.time_ns));
        values.put_some(format!("{prefix}.wait"), usage.map(|usage| usage.wait_ns));
        values.put_some(format!("{prefix}.delay"), usage.map(|usage| usage.delay_ns));
    }
}

fn interfaces(live: &Live, values: &mut Values) {
    let cards = &live.domain.devices.interfaces;
    if cards.is_empty() {
        return;
    }
    values.put("net.count", u32::try_from(cards.len()).unwrap_or(u32::MAX));
    for (at, card) in cards.iter().enumerate() {
        // A card that has no device of the host has no counters either.
        let Some(name) = &card.target_dev else { continue };
        values.put(format!("net.{at}.name"), name.as_str());
        let Some((received, sent)) = usage::traffic(name) else { continue };
        // What the host's end sends is what the guest receives.
        for (way, traffic) in [("rx", sent), ("tx", received)] {
            values.put(format!("net.{at}.{way}.bytes"), traffic.bytes);
            values.put(format!("net.{at}.{way}.pkts"), traffic.packets);
            values.put(format!("net.{at}.{way}.errs"), traffic.errors);
            values.put(format!("net.{at}.{way}.drop"), traffic.dropped);
        }
    }
}

async fn iothreads(live: &Live, values: &mut Values) {
    let Ok(threads) = live.monitor.execute(&QueryIothreads).await else { return };
    if threads.is_empty() {
        return;
    }
    values.put("iothread.count", u32::try_from(threads.len()).unwrap_or(u32::MAX));
    for thread in threads {
        // `iothread3` is the definition's number 3.
        let Some(number) = thread.id.strip_prefix("iothread") else { continue };
        values.put(format!("iothread.{number}.poll-max-ns"), thread.poll_max_ns);
        values.put(format!("iothread.{number}.poll-grow"), thread.poll_grow);
        values.put(format!("iothread.{number}.poll-shrink"), thread.poll_shrink);
    }
}

async fn dirty_rate(live: &Live, values: &mut Values) {
    let Ok(rate) = live.monitor.execute(&QueryDirtyRate).await else { return };
    let status = match rate.status {
        DirtyRateStatus::Unstarted | DirtyRateStatus::Other(_) => 0,
        DirtyRateStatus::Measuring => 1,
        DirtyRateStatus::Measured => 2,
    };
    values.put("dirtyrate.calc_status", status);
    values.put("dirtyrate.calc_start_time", rate.start_time);
    values.put("dirtyrate.calc_period", int(rate.calc_time));
    values.put("dirtyrate.calc_mode", rate.mode.as_str());
    if rate.status == DirtyRateStatus::Measured {
        let whole = rate.dirty_rate.and_then(|rate| i64::try_from(rate).ok());
        values.put_some("dirtyrate.megabytes_per_second", whole);
        for VcpuDirtyRate { id, dirty_rate } in rate.vcpu_dirty_rate {
            values.put(format!("dirtyrate.vcpu.{id}.megabytes_per_second"), dirty_rate);
        }
    }
}

/// Starts a measurement of how fast the guest writes to its memory. The bulk statistics tell the outcome.
pub(super) async fn start_dirty_rate(context: Context, call: DomainStartDirtyRateCalc) -> Result<(), Error> {
    accept_flags(call.flags, MODE_DIRTY_BITMAP | MODE_DIRTY_RING, "qemuDomainStartDirtyRateCalc")?;
    let seconds = u32::try_from(call.seconds).ok().filter(|seconds| (1..=60).contains(seconds));
    let seconds = seconds.ok_or_else(|| {
        let text = format!("seconds={} is invalid, please choose value within [1, 60].", call.seconds);
        Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text)
    })?;
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    let mode = match call.flags {
        MODE_PAGE_SAMPLING => DirtyRateMode::PageSampling,
        MODE_DIRTY_BITMAP => DirtyRateMode::DirtyBitmap,
        MODE_DIRTY_RING => DirtyRateMode::DirtyRing,
        _ => {
            let text = "page-sampling, dirty-bitmap and dirty-ring modes exclude each other";
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
        }
    };
    if mode != DirtyRateMode::PageSampling {
        // An emulated machine's QEMU takes the other modes and ends on an assertion, and the guest with it.
        let capabilities = context.host.capabilities(live.domain.devices.emulator.as_deref()).await?;
        let emulated = live.domain.kind == ferry_domxml::DomainKind::Qemu;
        if emulated || !capabilities.has_accelerator(Accelerator::Kvm) {
            let text = format!("the {mode} mode of dirty rate measurement needs KVM");
            return Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text));
        }
    }
    let measure = CalcDirtyRate { calc_time: seconds, sample_pages: None, mode: Some(mode) };
    live.monitor.execute(&measure).await.map_err(refuse::monitor).map(drop)
}

/// Whether QEMU merely lacks what was asked for, as opposed to not answering.
fn is_refusal(error: &MonitorError) -> bool {
    error.refusal().is_some()
}
