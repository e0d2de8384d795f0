//! What a domain says about itself: one fact a call, all from its view.

use ferry_domxml::{Domain, FormatOptions};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::AffectFlags;
use ferry_rpc::proto::{
    DomainGetControlInfo, DomainGetControlInfoReply, DomainGetInfo, DomainGetInfoReply, DomainGetMaxMemory,
    DomainGetMessages, DomainGetMessagesReply, DomainGetOsType, DomainGetSecurityLabel,
    DomainGetSecurityLabelReply, DomainGetState, DomainGetStateReply, DomainHasManagedSaveImage,
    DomainIsActive, DomainIsPersistent, DomainIsUpdated, DomainManagedSaveGetXmlDesc,
    DomainManagedSaveRemove,
};

use super::{Context, accept_flags, definition, running};

/// Every kind of message about a domain: deprecation, tainting, I/O errors.
const MESSAGE_KINDS: u32 = 0x7;

/// How busy the control interface is (`VIR_DOMAIN_CONTROL_*`).
const CONTROL_OK: u32 = 0;
const CONTROL_JOB: u32 = 1;

pub(super) fn state(context: &Context, call: DomainGetState) -> Result<DomainGetStateReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainGetState")?;
    let view = context.view(&call.domain)?;
    Ok(DomainGetStateReply { state: view.state, reason: view.reason })
}

/// State, memory in KiB, processors, CPU time in nanoseconds.
pub(super) fn info(context: &Context, call: DomainGetInfo) -> Result<DomainGetInfoReply, Error> {
    let view = context.view(&call.domain)?;
    let domain = definition(&view, AffectFlags::NONE)?;
    let max_memory = domain.memory.kib;
    Ok(DomainGetInfoReply {
        state: u8::try_from(view.state.0).unwrap_or(0),
        max_memory,
        memory: domain.current_memory.map_or(max_memory, |current| current.kib),
        vcpus: u16::try_from(domain.vcpus.current()).unwrap_or(u16::MAX),
        cpu_time: view.live.as_ref().map_or(0, |live| live.process.cpu_time_ns()),
    })
}

/// KiB.
pub(super) fn memory_max(context: &Context, call: DomainGetMaxMemory) -> Result<u64, Error> {
    let view = context.view(&call.domain)?;
    definition(&view, AffectFlags::NONE).map(|domain| domain.memory.kib)
}

/// Fully virtualised; there is no other type.
pub(super) fn os_type(context: &Context, call: DomainGetOsType) -> Result<String, Error> {
    context.view(&call.domain).map(|_| "hvm".to_owned())
}

pub(super) fn is_active(context: &Context, call: DomainIsActive) -> Result<bool, Error> {
    context.view(&call.domain).map(|view| view.live.is_some())
}

pub(super) fn is_persistent(context: &Context, call: DomainIsPersistent) -> Result<bool, Error> {
    context.view(&call.domain).map(|view| view.config.is_some())
}

/// Whether the stored definition is no longer the one that runs.
pub(super) fn is_updated(context: &Context, call: DomainIsUpdated) -> Result<bool, Error> {
    let view = context.view(&call.domain)?;
    let (Some(config), Some(live)) = (&view.config, &view.live) else { return Ok(false) };
    let form = FormatOptions { secure: true, ..FormatOptions::INACTIVE };
    // Where the balloon is at the moment is no other definition.
    let running = Domain { current_memory: config.current_memory, ..Domain::clone(&live.domain) };
    Ok(config.format(form) != running.format(form))
}

pub(super) fn control(
    context: &Context,
    call: DomainGetControlInfo,
) -> Result<DomainGetControlInfoReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainGetControlInfo")?;
    let view = context.view(&call.domain)?;
    running(&view)?;
    let state = if view.busy { CONTROL_JOB } else { CONTROL_OK };
    Ok(DomainGetControlInfoReply { state, details: 0, state_time: 0 })
}

/// No labelling driver, no label.
pub(super) fn security_label(
    context: &Context,
    call: DomainGetSecurityLabel,
) -> Result<DomainGetSecurityLabelReply, Error> {
    context.view(&call.domain)?;
    Ok(DomainGetSecurityLabelReply { label: String::new(), enforcing: 0 })
}

/// Why it is not known who runs the guest, when that is so.
pub(super) fn messages(context: &Context, call: DomainGetMessages) -> Result<DomainGetMessagesReply, Error> {
    accept_flags(call.flags, MESSAGE_KINDS, "qemuDomainGetMessages")?;
    let view = context.view(&call.domain)?;
    let msgs = view.doubt.iter().map(|(reason, _)| format!("in doubt: {reason}")).collect();
    Ok(DomainGetMessagesReply { msgs })
}

/// Managed save is not built, so no domain has one.
pub(super) fn has_managed_save(context: &Context, call: DomainHasManagedSaveImage) -> Result<i32, Error> {
    accept_flags(call.flags, 0, "qemuDomainHasManagedSaveImage")?;
    context.view(&call.domain).map(|_| 0)
}

/// What is not there need not be removed.
pub(super) fn remove_managed_save(context: &Context, call: DomainManagedSaveRemove) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainManagedSaveRemove")?;
    context.view(&call.domain).map(drop)
}

pub(super) fn managed_save_xml(
    context: &Context,
    call: DomainManagedSaveGetXmlDesc,
) -> Result<String, Error> {
    const SECURE: u32 = 1;
    accept_flags(call.flags, SECURE, "qemuDomainManagedSaveGetXMLDesc")?;
    context.view(&call.domain)?;
    let text = "domain does not have managed save image";
    Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text))
}
