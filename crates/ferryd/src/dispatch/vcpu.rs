//! Processors of a guest: how many, where they run, where they may run.
//!
//! Where they may run is what the definition says: of a single one, else of all.

use ferry_domxml::memory::CpuSet;
use ferry_qmp::commands::run::QueryCpusFast;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::AffectFlags;
use ferry_rpc::proto::{
    DomainGetEmulatorPinInfo, DomainGetEmulatorPinInfoReply, DomainGetIothreadInfo,
    DomainGetIothreadInfoReply, DomainGetMaxVcpus, DomainGetVcpuPinInfo, DomainGetVcpuPinInfoReply,
    DomainGetVcpus, DomainGetVcpusFlags, DomainGetVcpusReply, DomainIothreadInfo, VcpuInfo,
};

use super::machine::{Machine, cpu_map};
use super::{Context, accept_flags, definition, int, running};
use crate::usage::ThreadUsage;

/// Flags of procedure 200 beside those that choose the definition.
const MAXIMUM: u32 = 0x4;
const GUEST: u32 = 0x8;

/// The most processors of one answer.
const VCPUS_MAX: i32 = 16_384;

/// The longest CPU maps of one answer, in bytes.
const CPUMAPS_MAX: i32 = 8_388_608;

/// A processor that runs (`VIR_VCPU_RUNNING`); QEMU knows no other state.
const VCPU_RUNNING: i32 = 1;

/// The most processors that the running guest can have.
pub(super) fn most(context: &Context, call: DomainGetMaxVcpus) -> Result<i32, Error> {
    let view = context.view(&call.domain)?;
    Ok(int(running(&view)?.domain.vcpus.max))
}

/// How many processors are there, or could be.
pub(super) async fn number(context: Context, call: DomainGetVcpusFlags) -> Result<i32, Error> {
    const FUNCTION: &str = "qemuDomainGetVcpusFlags";
    accept_flags(call.flags, AffectFlags::ALL.bits() | MAXIMUM | GUEST, FUNCTION)?;
    let view = context.view(&call.domain)?;
    let affect = AffectFlags::from_bits(call.flags & AffectFlags::ALL.bits());
    let domain = definition(&view, affect)?;
    if call.flags & GUEST != 0 {
        if view.live.is_none() || affect == AffectFlags::CONFIG {
            let text = "vCPU count provided by the guest agent can only be requested for live domains";
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
        }
        return super::agent::number_of_vcpus(&view).await;
    }
    let vcpus = &domain.vcpus;
    Ok(int(if call.flags & MAXIMUM != 0 { vcpus.max } else { vcpus.current() }))
}

/// Each processor of the running guest: its time in nanoseconds and the host's processor that it was on last.
pub(super) async fn each(context: Context, call: DomainGetVcpus) -> Result<DomainGetVcpusReply, Error> {
    let (infos, map_len) = check_maps("maxinfo", call.maxinfo, call.maplen)?;
    if infos == 0 {
        let text = "info in virDomainGetVcpus must not be NULL";
        return Err(Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text));
    }
    let view = context.view(&call.domain)?;
    let Some(live) = &view.live else {
        let text = "cannot retrieve vcpu information for inactive domain";
        return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
    };
    let mut cpus = live.monitor.execute(&QueryCpusFast).await.map_err(crate::refuse::monitor)?;
    cpus.sort_by_key(|cpu| cpu.cpu_index);
    cpus.truncate(infos);
    let pid = live.process.identity().pid;
    let info = cpus.iter().map(|cpu| {
        let usage = ThreadUsage::of(pid, cpu.thread_id).unwrap_or_default();
        VcpuInfo { number: cpu.cpu_index, state: VCPU_RUNNING, cpu_time: usage.time_ns, cpu: usage.cpu }
    });
    let info: Vec<_> = info.collect();
    let maps = cpus.iter().map(|cpu| allowed(live.domain.cpus_of_vcpu(cpu.cpu_index), map_len));
    let mut cpumaps: Vec<u8> = maps.flatten().collect();
    cpumaps.resize(infos * map_len, 0);
    Ok(DomainGetVcpusReply { info, cpumaps })
}

/// Where each processor may run.
pub(super) fn pinning(
    context: &Context,
    call: DomainGetVcpuPinInfo,
) -> Result<DomainGetVcpuPinInfoReply, Error> {
    accept_flags(call.flags, AffectFlags::ALL.bits(), "qemuDomainGetVcpuPinInfo")?;
    let (maps, map_len) = check_maps("ncpumaps", call.ncpumaps, call.maplen)?;
    if maps == 0 {
        let text = "ncpumaps in virDomainGetVcpuPinInfo must be greater than zero";
        return Err(Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text));
    }
    let view = context.view(&call.domain)?;
    let domain = definition(&view, AffectFlags::from_bits(call.flags))?;
    let maps = maps.min(usize::try_from(domain.vcpus.max).unwrap_or(usize::MAX));
    let numbers = (0..domain.vcpus.max).take(maps);
    let cpumaps = numbers.flat_map(|number| allowed(domain.cpus_of_vcpu(number), map_len)).collect();
    Ok(DomainGetVcpuPinInfoReply { cpumaps, num: int(maps) })
}

/// Where QEMU's other threads may run.
pub(super) fn emulator_pinning(
    context: &Context,
    call: DomainGetEmulatorPinInfo,
) -> Result<DomainGetEmulatorPinInfoReply, Error> {
    accept_flags(call.flags, AffectFlags::ALL.bits(), "qemuDomainGetEmulatorPinInfo")?;
    let (_, map_len) = check_maps("maplen", 1, call.maplen)?;
    if map_len == 0 {
        let text = "cpumap in virDomainGetEmulatorPinInfo must not be NULL";
        return Err(Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text));
    }
    let view = context.view(&call.domain)?;
    let domain = definition(&view, AffectFlags::from_bits(call.flags))?;
    Ok(DomainGetEmulatorPinInfoReply { cpumaps: allowed(domain.cpus_of_emulator(), map_len), count: 1 })
}

/// The threads for disks, and where they may run.
pub(super) fn iothreads(
    context: &Context,
    call: DomainGetIothreadInfo,
) -> Result<DomainGetIothreadInfoReply, Error> {
    accept_flags(call.flags, AffectFlags::ALL.bits(), "qemuDomainGetIOThreadInfo")?;
    let view = context.view(&call.domain)?;
    let domain = definition(&view, AffectFlags::from_bits(call.flags))?;
    let map_len = cpus_here().div_ceil(8);
    let numbers = domain.iothread_numbers().into_iter();
    let info: Vec<_> = numbers
        .map(|number| DomainIothreadInfo {
            iothread_id: number,
            cpumap: allowed(domain.cpus_of_iothread(number), map_len as usize),
        })
        .collect();
    let count = u32::try_from(info.len()).unwrap_or(u32::MAX);
    Ok(DomainGetIothreadInfoReply { info, count })
}

/// How many maps of how many bytes a client has room for.
fn check_maps(what: &str, maps: i32, map_len: i32) -> Result<(usize, usize), Error> {
    let refused = |text: String| Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, text));
    let (Ok(number), Ok(len)) = (usize::try_from(maps), usize::try_from(map_len)) else {
        return refused(format!("{what} must be non-negative"));
    };
    if maps > VCPUS_MAX {
        return refused(format!("{what} > REMOTE_VCPUINFO_MAX"));
    }
    if maps.checked_mul(map_len).is_none_or(|bytes| bytes > CPUMAPS_MAX) {
        return refused("maxinfo * maplen > REMOTE_CPUMAPS_MAX".to_owned());
    }
    Ok((number, len))
}

/// The host's processors out of a set, or all, as a map of exactly `len` bytes.
fn allowed(cpus: Option<&CpuSet>, len: usize) -> Vec<u8> {
    let count = cpus_here();
    let is_allowed = |cpu: &u32| cpus.is_none_or(|set| set.contains(*cpu));
    let mut map = cpu_map(&(0..count).filter(is_allowed).collect(), count);
    map.resize(len, 0);
    map
}

/// How many processors the host has.
fn cpus_here() -> u32 {
    Machine::here().cpus("present").last().map_or(1, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_maps_is_bounded_as_by_stock() {
        assert_eq!(check_maps("maxinfo", 2, 1), Ok((2, 1)));
        let refusal = |maps, len| check_maps("ncpumaps", maps, len).unwrap_err().message;
        assert_eq!(refusal(-1, 1), "internal error: ncpumaps must be non-negative");
        assert_eq!(refusal(1, -1), "internal error: ncpumaps must be non-negative");
        assert_eq!(refusal(20_000, 1), "internal error: ncpumaps > REMOTE_VCPUINFO_MAX");
        for len in [8192, i32::MAX] {
            assert_eq!(refusal(16_384, len), "internal error: maxinfo * maplen > REMOTE_CPUMAPS_MAX");
        }
    }
}
