//! Disks: limits on how fast they are, their size, jobs on them (there are none), and what lies in an image.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use ferry_domxml::throttle::Limits;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{AffectFlags, BlockJobAbortFlags, BlockJobInfoFlags, BlockResizeFlags, Flags as _};
use ferry_rpc::proto::{
    DomainBlockJobAbort, DomainBlockPeek, DomainBlockPeekReply, DomainBlockResize, DomainGetBlockIoTune,
    DomainGetBlockIoTuneReply, DomainGetBlockJobInfo, DomainGetBlockJobInfoReply, DomainSetBlockIoTune,
};
use ferry_rpc::typed_param::{ParamValue, TypedParam};
use ferry_rpc::values::BlockJobType;

use super::change::make;
use super::stats::find;
use super::{Context, accept_flags, definition, int, running};
use crate::driver::blocks::WantedLimits;
use crate::driver::change::Change;
use crate::perform::throttle;
use crate::refuse;

/// `VIR_TYPED_PARAM_STRING_OKAY`
const STRING_OKAY: u32 = ferry_rpc::flags::TYPED_PARAM_STRING_OKAY;

/// Limits a disk.
pub(super) async fn set_limits(context: Context, call: DomainSetBlockIoTune) -> Result<(), Error> {
    accept_flags(call.flags, AffectFlags::ALL.bits(), "qemuDomainSetBlockIoTune")?;
    let wanted = wanted(call.disk, call.params)?;
    let affect = AffectFlags::from_bits(call.flags);
    make(context, &call.domain, Change::IoTune(Box::new(wanted)), affect).await
}

fn wanted(disk: String, params: Vec<TypedParam>) -> Result<WantedLimits, Error> {
    let known = Limits::default().numbers();
    let (mut numbers, mut group): (Vec<(String, u64)>, _) = (Vec::new(), None);
    for TypedParam { name, value } in params {
        let is_number = known.iter().any(|(known, _)| *known == name);
        if is_number && numbers.iter().any(|(other, _)| *other == name) {
            return Err(invalid(format!("parameter '{name}' occurs multiple times")));
        }
        match value {
            ParamValue::ULLong(value) if is_number => numbers.push((name, value)),
            ParamValue::String(value) if name == "group_name" => group = Some(value),
            _ if is_number || name == "group_name" => {
                let wanted = if is_number { "ullong" } else { "string" };
                return Err(invalid(format!("invalid type for parameter '{name}', expected '{wanted}'")));
            }
            _ => {
                let text = format!("parameter '{name}' not supported");
                return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::NONE, text));
            }
        }
    }
    Ok(WantedLimits { disk, numbers, group })
}

/// The limits of a disk: those in force, or those of a definition.
pub(super) async fn limits(
    context: Context,
    call: DomainGetBlockIoTune,
) -> Result<DomainGetBlockIoTuneReply, Error> {
    accept_flags(call.flags, AffectFlags::ALL.bits() | STRING_OKAY, "qemuDomainGetBlockIoTune")?;
    let which = AffectFlags::from_bits(call.flags & AffectFlags::ALL.bits());
    let view = context.view(&call.domain)?;
    let domain = definition(&view, which)?;
    let dev = call.disk.as_deref().unwrap_or_default();
    let live = view.live.as_ref().filter(|_| which != AffectFlags::CONFIG);
    let disk = find(&domain.devices.disks, dev);
    let limits = match (disk, live) {
        // Only how many there are is asked.
        (None, _) if call.disk.is_none() && call.nparams == 0 => Limits::default(),
        (None, Some(_)) => return Err(invalid(format!("disk '{dev}' not found in domain"))),
        (None, None) => return Err(invalid(format!("disk '{dev}' was not found in the domain config"))),
        (Some(disk), Some(live)) => {
            let alias = disk.info.alias.as_deref().unwrap_or_default();
            let found = throttle::in_force(&live.monitor, alias).await.map_err(refuse::monitor)?;
            found.or_else(|| disk.iotune.clone()).unwrap_or_default()
        }
        (Some(disk), None) => disk.iotune.clone().unwrap_or_default(),
    };
    let mut params: Vec<TypedParam> = Vec::new();
    for (name, value) in limits.numbers() {
        params.push(TypedParam::new(name, value.unwrap_or(0)));
        if name == "size_iops_sec" {
            params.push(TypedParam::new("group_name", limits.group_name.clone().unwrap_or_default()));
        }
    }
    let nparams = int(params.len());
    let asked = usize::try_from(call.nparams).unwrap_or(0);
    params.truncate(asked);
    Ok(DomainGetBlockIoTuneReply { params, nparams })
}

/// Makes a running guest's disk larger or smaller. KiB unless it says bytes.
pub(super) async fn resize(context: Context, call: DomainBlockResize) -> Result<(), Error> {
    call.flags.accept(BlockResizeFlags::BYTES, "qemuDomainBlockResize")?;
    let unit = if call.flags.contains(BlockResizeFlags::BYTES) { 1 } else { 1024 };
    let bytes = call.size.checked_mul(unit).ok_or_else(|| {
        let text = format!("size must be less than {}", u64::MAX / 1024);
        Error::of(ErrorCode::OVERFLOW, Origin::QEMU, text)
    })?;
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    // A path means the disk that has the image.
    let disk = find(&live.domain.devices.disks, &call.disk).map(|disk| disk.target.dev.clone());
    let disk = disk.unwrap_or(call.disk);
    make(context, &call.domain, Change::BlockResize { disk, bytes }, AffectFlags::LIVE).await
}

/// The job on a disk: none is ever begun here.
pub(super) fn job(
    context: &Context,
    call: DomainGetBlockJobInfo,
) -> Result<DomainGetBlockJobInfoReply, Error> {
    call.flags.accept(BlockJobInfoFlags::BANDWIDTH_BYTES, "qemuDomainGetBlockJobInfo")?;
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    if find(&live.domain.devices.disks, &call.path).is_none() {
        return Err(invalid(format!("disk '{}' not found in domain", call.path)));
    }
    Ok(DomainGetBlockJobInfoReply { found: false, kind: BlockJobType::UNKNOWN, bandwidth: 0, cur: 0, end: 0 })
}

/// Ends the job on a disk: there is none.
pub(super) fn abort_job(context: &Context, call: DomainBlockJobAbort) -> Result<(), Error> {
    let all =
        BlockJobAbortFlags::from_bits(BlockJobAbortFlags::ASYNC.bits() | BlockJobAbortFlags::PIVOT.bits());
    call.flags.accept(all, "qemuDomainBlockJobAbort")?;
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    let disk = find(&live.domain.devices.disks, &call.path)
        .ok_or_else(|| invalid(format!("disk '{}' not found in domain", call.path)))?;
    Err(invalid(format!("disk {} does not have an active block job", disk.target.dev)))
}

/// Bytes of an image as they lie on the host.
pub(super) async fn peek(context: Context, call: DomainBlockPeek) -> Result<DomainBlockPeekReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainBlockPeek")?;
    let view = context.view(&call.domain)?;
    let disk = view.current().and_then(|domain| find(&domain.devices.disks, &call.path));
    let path = disk.and_then(|disk| disk.source.path()).map(str::to_owned);
    let path = path.ok_or_else(|| invalid(format!("invalid disk or path '{}'", call.path)))?;
    let length = usize::try_from(call.size).unwrap_or(usize::MAX);
    if length > PEEK_MAX {
        return Err(invalid(format!("size {length} is larger than {PEEK_MAX}")));
    }
    let offset = call.offset;
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; length];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut buffer, offset));
        read.map(|()| buffer)
            .map_err(|error| refuse::system(&format!("{path}: failed to seek or read"), &error))
    });
    let buffer = read.await.map_err(|_| refuse::internal("the daemon is stopping"))??;
    Ok(DomainBlockPeekReply { buffer })
}

/// What one answer may carry, bytes.
const PEEK_MAX: usize = 4_194_304;

fn invalid(text: String) -> Error {
    Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_of_one_type_and_each_is_named_once() {
        let wanted = |params| wanted("vda".to_owned(), params);
        let refusal = |params: Vec<TypedParam>| wanted(params).unwrap_err().message;
        let number = || TypedParam::new("total_bytes_sec", 5_u64);
        assert_eq!(
            wanted(vec![number(), TypedParam::new("group_name", "g")]).unwrap(),
            WantedLimits {
                disk: "vda".to_owned(),
                numbers: vec![("total_bytes_sec".to_owned(), 5)],
                group: Some("g".to_owned())
            }
        );
        assert_eq!(
            refusal(vec![number(), number()]),
            "invalid argument: parameter 'total_bytes_sec' occurs multiple times"
        );
        assert!(refusal(vec![TypedParam::new("total_bytes_sec", 5_i32)]).contains("expected 'ullong'"));
        assert_eq!(
            refusal(vec![TypedParam::new("x", 5_u64)]),
            "argument unsupported: parameter 'x' not supported"
        );
    }
}
