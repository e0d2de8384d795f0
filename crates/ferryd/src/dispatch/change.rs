//! Calls that change how large a domain is and what becomes of it: arguments to a [`Change`].

use ferry_domxml::{OnCrash, OnEvent};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::AffectFlags;
use ferry_rpc::proto::{
    DomainRef, DomainSetLifecycleAction, DomainSetMaxMemory, DomainSetMemory, DomainSetMemoryFlags,
    DomainSetMemoryStatsPeriod, DomainSetVcpus, DomainSetVcpusFlags,
};

use super::{Context, accept_flags};
use crate::driver::Request;
use crate::driver::change::{Change, LifecycleAction};

/// Flags beside those that choose the definition.
const MEMORY_MAXIMUM: u32 = 0x4;
const VCPU_MAXIMUM: u32 = 0x4;
const VCPU_GUEST: u32 = 0x8;
const VCPU_HOTPLUGGABLE: u32 = 0x10;

/// KiB of memory: what the guest has at boot, or what the balloon leaves it.
pub(super) async fn memory(context: Context, call: DomainSetMemoryFlags) -> Result<(), Error> {
    let flags = call.flags.bits();
    let affect = affect(flags, MEMORY_MAXIMUM, "qemuDomainSetMemoryFlags")?;
    if call.memory == 0 {
        return Err(invalid("memory in virDomainSetMemoryFlags must not be zero"));
    }
    let kib = call.memory;
    let most = flags & MEMORY_MAXIMUM != 0;
    make(context, &call.domain, if most { Change::MemoryMax { kib } } else { Change::Memory { kib } }, affect)
        .await
}

/// KiB of memory that the balloon leaves a running guest.
pub(super) async fn memory_plain(context: Context, call: DomainSetMemory) -> Result<(), Error> {
    let flags = AffectFlags::LIVE;
    memory(context, DomainSetMemoryFlags { domain: call.domain, memory: call.memory, flags }).await
}

/// KiB of memory that the guest has at boot.
pub(super) async fn memory_max(context: Context, call: DomainSetMaxMemory) -> Result<(), Error> {
    let flags = AffectFlags::from_bits(MEMORY_MAXIMUM);
    memory(context, DomainSetMemoryFlags { domain: call.domain, memory: call.memory, flags }).await
}

/// Seconds between two statistics of the guest's memory.
pub(super) async fn stats_period(context: Context, call: DomainSetMemoryStatsPeriod) -> Result<(), Error> {
    let affect = affect(call.flags, 0, "qemuDomainSetMemoryStatsPeriod")?;
    let seconds = u32::try_from(call.period)
        .map_err(|_| invalid("period in virDomainSetMemoryStatsPeriod must be zero or greater"))?;
    make(context, &call.domain, Change::StatsPeriod { seconds }, affect).await
}

/// How many processors there are, or can be. Those that are there always can be plugged, so the flag that asks for that
/// changes nothing.
pub(super) async fn vcpus(context: Context, call: DomainSetVcpusFlags) -> Result<(), Error> {
    let flags = call.flags.bits();
    let affect = affect(flags, VCPU_MAXIMUM | VCPU_GUEST | VCPU_HOTPLUGGABLE, "qemuDomainSetVcpusFlags")?;
    let count = call.nvcpus;
    if count == 0 {
        return Err(invalid("nvcpus in virDomainSetVcpusFlags must not be zero"));
    }
    if flags & VCPU_GUEST != 0 {
        return super::agent::set_vcpus(&context, &call.domain, count, affect).await;
    }
    let most = flags & VCPU_MAXIMUM != 0;
    make(
        context,
        &call.domain,
        if most { Change::VcpusMax { count } } else { Change::Vcpus { count } },
        affect,
    )
    .await
}

/// How many processors a running guest has.
pub(super) async fn vcpus_plain(context: Context, call: DomainSetVcpus) -> Result<(), Error> {
    let flags = AffectFlags::LIVE;
    vcpus(context, DomainSetVcpusFlags { domain: call.domain, nvcpus: call.nvcpus, flags }).await
}

/// What happens when the guest powers off, reboots or crashes.
pub(super) async fn lifecycle(context: Context, call: DomainSetLifecycleAction) -> Result<(), Error> {
    let affect = affect(call.flags, 0, "qemuDomainSetLifecycleAction")?;
    let action = lifecycle_action(call.kind, call.action)?;
    make(context, &call.domain, Change::Lifecycle(action), affect).await
}

/// The numbers of `VIR_DOMAIN_LIFECYCLE_*` and `VIR_DOMAIN_LIFECYCLE_ACTION_*`.
fn lifecycle_action(kind: u32, action: u32) -> Result<LifecycleAction, Error> {
    let crash = match action {
        0 => OnCrash::Destroy,
        1 => OnCrash::Restart,
        2 => OnCrash::RenameRestart,
        3 => OnCrash::Preserve,
        4 => OnCrash::CoredumpDestroy,
        5 => OnCrash::CoredumpRestart,
        _ => return Err(invalid("action in virDomainSetLifecycleAction is unknown")),
    };
    let event = OnEvent::ALL.iter().copied().find(|event| event.as_str() == crash.as_str());
    let of_crash_only = |name: &str| {
        let text = format!("Lifecycle event '{name}' doesn't support '{crash}' action");
        Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::DOMAIN, text)
    };
    match kind {
        0 => event.map(LifecycleAction::Poweroff).ok_or_else(|| of_crash_only("poweroff")),
        1 => event.map(LifecycleAction::Reboot).ok_or_else(|| of_crash_only("reboot")),
        2 => Ok(LifecycleAction::Crash(crash)),
        _ => Err(invalid("type in virDomainSetLifecycleAction is unknown")),
    }
}

/// The flags that choose the definition, when there are no others but those of `besides`.
pub(super) fn affect(flags: u32, besides: u32, function: &str) -> Result<AffectFlags, Error> {
    accept_flags(flags, AffectFlags::ALL.bits() | besides, function)?;
    Ok(AffectFlags::from_bits(flags & AffectFlags::ALL.bits()))
}

/// Has the domain's driver make a change.
pub(super) async fn make(
    context: Context,
    domain: &DomainRef,
    change: Change,
    affect: AffectFlags,
) -> Result<(), Error> {
    context.domain(domain)?.ask(|reply| Request::Change { change, affect, reply }).await
}

fn invalid(text: &str) -> Error {
    Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_crash_can_be_dumped() {
        assert!(matches!(lifecycle_action(0, 1), Ok(LifecycleAction::Poweroff(OnEvent::Restart))));
        assert!(matches!(lifecycle_action(2, 4), Ok(LifecycleAction::Crash(OnCrash::CoredumpDestroy))));
        let refused = lifecycle_action(0, 5).unwrap_err();
        assert_eq!(
            refused.message,
            "unsupported configuration: Lifecycle event 'poweroff' doesn't support 'coredump-restart' action"
        );
        assert!(lifecycle_action(3, 0).is_err() && lifecycle_action(0, 6).is_err());
    }
}
