//! What the host allows a guest: processor time, memory, disk bandwidth; what it counts of it; how it protects it.
//!
//! Nothing here is set: a guest has no control group. Parts of a definition that set it for one host are kept, so a definition's
//! values are told as they stand there, and of a running guest what stock says where control groups are not mounted.

use ferry_domxml::memory::Size;
use ferry_domxml::{Domain, Element, PlaceMode};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::AffectFlags;
use ferry_rpc::proto::{
    DomainGetBlkioParameters, DomainGetBlkioParametersReply, DomainGetLaunchSecurityInfo,
    DomainGetLaunchSecurityInfoReply, DomainGetMemoryParameters, DomainGetMemoryParametersReply,
    DomainGetNumaParameters, DomainGetNumaParametersReply, DomainGetPerfEvents, DomainGetPerfEventsReply,
    DomainGetSchedulerParameters, DomainGetSchedulerParametersFlags, DomainGetSchedulerParametersReply,
    DomainGetSchedulerType, DomainGetSchedulerTypeReply, NodeGetSevInfo, NodeGetSevInfoReply,
};
use ferry_rpc::typed_param::{ParamValue, TypedParam};

use super::stats::{affect, as_asked, check_room, no_cgroup};
use super::{Context, accept_flags, definition, int};
use crate::driver::View;

/// No limit, in KiB: the largest size in bytes that is a whole number of KiB.
const UNLIMITED_KIB: u64 = 9_007_199_254_740_991;

/// Processor time: the parameter and its element in `<cputune>`; a quota may be negative, which is without limit.
const SCHEDULING: [(&str, &str); 9] = [
    ("cpu_shares", "shares"),
    ("vcpu_period", "period"),
    ("vcpu_quota", "quota"),
    ("emulator_period", "emulator_period"),
    ("emulator_quota", "emulator_quota"),
    ("global_period", "global_period"),
    ("global_quota", "global_quota"),
    ("iothread_period", "iothread_period"),
    ("iothread_quota", "iothread_quota"),
];

/// Disk bandwidth by device of the host: the parameter and the element of each `<device>` in `<blkiotune>`.
const BY_DEVICE: [(&str, &str); 5] = [
    ("device_weight", "weight"),
    ("device_read_iops_sec", "read_iops_sec"),
    ("device_write_iops_sec", "write_iops_sec"),
    ("device_read_bytes_sec", "read_bytes_sec"),
    ("device_write_bytes_sec", "write_bytes_sec"),
];

/// What the host's processor could count of a guest, in stock's order.
const PERF_EVENTS: [&str; 22] = [
    "cmt",
    "mbmt",
    "mbml",
    "cpu_cycles",
    "instructions",
    "cache_references",
    "cache_misses",
    "branch_instructions",
    "branch_misses",
    "bus_cycles",
    "stalled_cycles_frontend",
    "stalled_cycles_backend",
    "ref_cpu_cycles",
    "cpu_clock",
    "task_clock",
    "page_faults",
    "context_switches",
    "cpu_migrations",
    "page_faults_min",
    "page_faults_maj",
    "alignment_faults",
    "emulation_faults",
];

/// The definition whose limits are asked for, when no running guest is: that has no control group.
///
/// # Errors
/// 55/10 with `text` for a running guest.
fn kept<'a>(view: &'a View, affect: AffectFlags, text: &str) -> Result<&'a Domain, Error> {
    let domain = definition(view, affect)?;
    if view.live.is_some() && affect != AffectFlags::CONFIG {
        return Err(no_cgroup(text));
    }
    Ok(domain)
}

/// Who shares the host's processors out, and how many parameters that has.
pub(super) fn scheduler(
    context: &Context,
    call: DomainGetSchedulerType,
) -> Result<DomainGetSchedulerTypeReply, Error> {
    let view = context.view(&call.domain)?;
    if view.live.is_some() {
        return Err(no_cgroup("cgroup CPU controller is not mounted"));
    }
    Ok(DomainGetSchedulerTypeReply { kind: "posix".to_owned(), nparams: int(SCHEDULING.len()) })
}

/// A guest's share of the host's processors; times in microseconds.
pub(super) fn scheduling(
    context: &Context,
    call: DomainGetSchedulerParametersFlags,
) -> Result<DomainGetSchedulerParametersReply, Error> {
    let affect = affect(call.flags, "qemuDomainGetSchedulerParametersFlags")?;
    check_room(call.nparams)?;
    let view = context.view(&call.domain)?;
    let domain = kept(&view, affect, "cgroup CPU controller is not mounted")?;
    let tune = domain.cpu_tune.as_ref();
    let params = SCHEDULING.map(|(name, element)| {
        let text = tune.and_then(|tune| tune.rest.child(element)).map(|value| value.text().trim().to_owned());
        let value = match name.ends_with("_quota") {
            true => ParamValue::LLong(number(text.as_deref())),
            false => ParamValue::ULLong(number(text.as_deref())),
        };
        TypedParam::new(name, value)
    });
    let room = usize::try_from(call.nparams).unwrap_or(0);
    Ok(DomainGetSchedulerParametersReply { params: params.into_iter().take(room).collect() })
}

/// The same, as older clients ask.
pub(super) fn scheduling_plain(
    context: &Context,
    call: DomainGetSchedulerParameters,
) -> Result<DomainGetSchedulerParametersReply, Error> {
    let DomainGetSchedulerParameters { domain, nparams } = call;
    scheduling(context, DomainGetSchedulerParametersFlags { domain, nparams, flags: 0 })
}

/// A guest's share of the host's disks.
pub(super) fn disk_bandwidth(
    context: &Context,
    call: DomainGetBlkioParameters,
) -> Result<DomainGetBlkioParametersReply, Error> {
    let affect = affect(call.flags, "qemuDomainGetBlkioParameters")?;
    check_room(call.nparams)?;
    let view = context.view(&call.domain)?;
    definition(&view, affect)?;
    if call.nparams == 0 {
        return Ok(DomainGetBlkioParametersReply { params: Vec::new(), nparams: int(1 + BY_DEVICE.len()) });
    }
    let tune = kept(&view, affect, "blkio cgroup isn't mounted")?.rest.child("blkiotune");
    let mut params = vec![TypedParam::new("weight", number::<u32>(text_of(tune, "weight").as_deref()))];
    params.extend(BY_DEVICE.map(|(name, element)| TypedParam::new(name, by_device(tune, element))));
    let (params, nparams) = as_asked(params, call.nparams);
    Ok(DomainGetBlkioParametersReply { params, nparams })
}

/// `/dev/sda,500,/dev/sdb,600`, as clients read it.
fn by_device(tune: Option<&Element>, element: &str) -> String {
    let devices = tune.into_iter().flat_map(Element::elements).filter(|child| child.name == "device");
    let pair = |device: &Element| {
        Some(format!("{},{}", text_of(Some(device), "path")?, text_of(Some(device), element)?))
    };
    devices.filter_map(pair).collect::<Vec<_>>().join(",")
}

/// Limits of the host on a guest's memory, KiB.
pub(super) fn memory(
    context: &Context,
    call: DomainGetMemoryParameters,
) -> Result<DomainGetMemoryParametersReply, Error> {
    let affect = affect(call.flags, "qemuDomainGetMemoryParameters")?;
    check_room(call.nparams)?;
    let view = context.view(&call.domain)?;
    definition(&view, affect)?;
    let names = ["hard_limit", "soft_limit", "swap_hard_limit"];
    if call.nparams == 0 {
        return Ok(DomainGetMemoryParametersReply { params: Vec::new(), nparams: int(names.len()) });
    }
    let tune = kept(&view, affect, "cgroup memory controller is not mounted")?.rest.child("memtune");
    let limit = |name: &str| tune.and_then(|tune| tune.child(name)).and_then(Size::of).map(|size| size.kib);
    let params = names.map(|name| TypedParam::new(name, limit(name).unwrap_or(UNLIMITED_KIB)));
    let (params, nparams) = as_asked(params.into(), call.nparams);
    Ok(DomainGetMemoryParametersReply { params, nparams })
}

/// Where a guest's memory may lie.
pub(super) fn memory_places(
    context: &Context,
    call: DomainGetNumaParameters,
) -> Result<DomainGetNumaParametersReply, Error> {
    let affect = affect(call.flags, "qemuDomainGetNumaParameters")?;
    check_room(call.nparams)?;
    let view = context.view(&call.domain)?;
    let domain = definition(&view, affect)?;
    let place = domain.numa_tune.as_ref().and_then(|tune| tune.memory.as_ref());
    // `VIR_DOMAIN_NUMATUNE_MEM_*`.
    let mode = match place.and_then(|place| place.mode).unwrap_or(PlaceMode::Strict) {
        PlaceMode::Strict => 0,
        PlaceMode::Preferred => 1,
        PlaceMode::Interleave => 2,
        PlaceMode::Restrictive => 3,
    };
    let nodes = place.and_then(|place| place.nodes.as_ref()).map(ferry_domxml::model::Value::to_text);
    let params =
        vec![TypedParam::new("numa_mode", mode), TypedParam::new("numa_nodeset", nodes.unwrap_or_default())];
    let (params, nparams) = as_asked(params, call.nparams);
    Ok(DomainGetNumaParametersReply { params, nparams })
}

/// What is counted of a guest: nothing.
pub(super) fn perf_events(
    context: &Context,
    call: DomainGetPerfEvents,
) -> Result<DomainGetPerfEventsReply, Error> {
    let affect = affect(call.flags, "qemuDomainGetPerfEvents")?;
    let view = context.view(&call.domain)?;
    definition(&view, affect)?;
    let params = PERF_EVENTS.map(|name| TypedParam::new(name, ParamValue::Boolean(false)));
    Ok(DomainGetPerfEventsReply { params: params.into() })
}

/// How a guest is protected from its host. A definition that asks for it is refused, so there is nothing to tell.
pub(super) fn launch_security(
    context: &Context,
    call: DomainGetLaunchSecurityInfo,
) -> Result<DomainGetLaunchSecurityInfoReply, Error> {
    affect(call.flags, "qemuDomainGetLaunchSecurityInfo")?;
    context.view(&call.domain)?;
    Ok(DomainGetLaunchSecurityInfoReply { params: Vec::new() })
}

/// What the host could protect guests by.
pub(super) fn host_security(_: &Context, call: NodeGetSevInfo) -> Result<NodeGetSevInfoReply, Error> {
    accept_flags(call.flags, ferry_rpc::flags::TYPED_PARAM_STRING_OKAY, "qemuNodeGetSEVInfo")?;
    let text = "QEMU does not support SEV guest";
    Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text))
}

fn text_of(parent: Option<&Element>, name: &str) -> Option<String> {
    parent?.child(name).map(|child| child.text().trim().to_owned())
}

/// What is not a number in a part that nobody checks is none.
fn number<T: std::str::FromStr + Default>(text: Option<&str>) -> T {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_definition_says_is_told_and_what_it_does_not_is_nothing() {
        let text = "<t><shares>2048</shares><quota>-1</quota><weight>x</weight>\
                    <hard unit='MiB'>2</hard><soft>3</soft><odd unit='ell'>3</odd>\
                    <device><path>/dev/sda</path><weight>500</weight></device>\
                    <device><path>/dev/sdb</path></device>\
                    <device><path>/dev/sdc</path><weight>600</weight></device></t>";
        let element = Element::parse(text).unwrap();
        let tune = Some(&element);
        assert_eq!(number::<u64>(text_of(tune, "shares").as_deref()), 2048);
        assert_eq!(number::<i64>(text_of(tune, "quota").as_deref()), -1);
        assert_eq!(number::<u32>(text_of(tune, "weight").as_deref()), 0);
        assert_eq!(number::<u32>(text_of(None, "weight").as_deref()), 0);
        let size = |name: &str| element.child(name).and_then(Size::of).map(|size| size.kib);
        assert_eq!(
            (size("hard"), size("soft"), size("odd"), size("none")),
            (Some(2048), Some(3), None, None)
        );
        assert_eq!(by_device(tune, "weight"), "/dev/sda,500,/dev/sdc,600");
        assert_eq!(by_device(tune, "read_iops_sec"), "");
    }
}
