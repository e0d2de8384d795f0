//! Starting, stopping and pausing guests: every call here is a request to the domain's driver.

use ferry_rpc::error::Error;
use ferry_rpc::flags::{DestroyFlags, Flags as _, ShutdownFlags, StartFlags};
use ferry_rpc::proto::{
    DomainCreate, DomainCreateWithFlags, DomainCreateXml, DomainDestroy, DomainDestroyFlags, DomainReboot,
    DomainRef, DomainReset, DomainResume, DomainShutdown, DomainShutdownFlags, DomainSuspend,
};

use super::{Context, accept_flags, agent, uuid_of};
use crate::driver::{DomainHandle, Request};

/// What a start of a kept definition knows. Validation is for definitions that come along.
const START: StartFlags = StartFlags::ALL.without(StartFlags::VALIDATE);

/// What a start of a definition that comes along knows: no saved state can be in its way.
const CREATE: StartFlags = StartFlags::ALL.without(StartFlags::BYPASS_CACHE.with(StartFlags::FORCE_BOOT));

/// The ways to ask a guest that exist for QEMU.
const ASKING: ShutdownFlags = ShutdownFlags::ACPI_POWER_BTN.with(ShutdownFlags::GUEST_AGENT);

/// Starts a kept definition.
pub(super) async fn start(context: Context, call: DomainCreate) -> Result<(), Error> {
    start_kept(context, &call.domain, StartFlags::NONE).await.map(drop)
}

/// Starts a kept definition; the answer has the guest's id.
pub(super) async fn start_with_flags(
    context: Context,
    call: DomainCreateWithFlags,
) -> Result<DomainRef, Error> {
    let flags = call.flags.accept(START, "qemuDomainCreateWithFlags")?;
    start_kept(context, &call.domain, flags).await
}

async fn start_kept(context: Context, domain: &DomainRef, flags: StartFlags) -> Result<DomainRef, Error> {
    let client = context.client.clone();
    context.domain(domain)?.ask(|reply| Request::Start { flags, client, reply }).await
}

/// Starts a guest that need not be kept.
pub(super) async fn create(context: Context, call: DomainCreateXml) -> Result<DomainRef, Error> {
    let flags = call.flags.accept(CREATE, "qemuDomainCreateXML")?;
    let domain = Box::new(context.host.complete(&call.xml).await?);
    let uuid = uuid_of(&domain)?;
    let claim = context.host.claim(uuid, &domain.name)?;
    let client = context.client.clone();
    claim.handle().ask(|reply| Request::Create { domain, flags, client, reply }).await
}

/// Ends the guest now.
pub(super) async fn destroy(context: Context, call: DomainDestroy) -> Result<(), Error> {
    end(&context, &call.domain, DestroyFlags::NONE).await
}

/// Ends the guest now, or as gently as SIGTERM is.
pub(super) async fn destroy_with_flags(context: Context, call: DomainDestroyFlags) -> Result<(), Error> {
    let flags = call.flags.accept(DestroyFlags::ALL, "qemuDomainDestroyFlags")?;
    end(&context, &call.domain, flags).await
}

async fn end(context: &Context, domain: &DomainRef, flags: DestroyFlags) -> Result<(), Error> {
    context.domain(domain)?.ask(|reply| Request::Destroy { flags, reply }).await
}

/// Asks the guest to power off.
pub(super) async fn shutdown(context: Context, call: DomainShutdown) -> Result<(), Error> {
    ask_to_power_off(&context, &call.domain, ShutdownFlags::NONE).await
}

/// Asks the guest to power off in one of the given ways.
pub(super) async fn shutdown_with_flags(context: Context, call: DomainShutdownFlags) -> Result<(), Error> {
    let flags = call.flags.accept(ASKING, "qemuDomainShutdownFlags")?;
    ask_to_power_off(&context, &call.domain, flags).await
}

async fn ask_to_power_off(context: &Context, domain: &DomainRef, flags: ShutdownFlags) -> Result<(), Error> {
    let handle = context.domain(domain)?;
    if by_agent(&handle, flags, false).await? {
        return Ok(());
    }
    let flags = flags.without(ShutdownFlags::GUEST_AGENT);
    handle.ask(|reply| Request::Shutdown { flags, reply }).await
}

/// Asks the guest to reboot in one of the given ways.
pub(super) async fn reboot(context: Context, call: DomainReboot) -> Result<(), Error> {
    let flags = call.flags.accept(ASKING, "qemuDomainReboot")?;
    let handle = context.domain(&call.domain)?;
    if by_agent(&handle, flags, true).await? {
        return Ok(());
    }
    let flags = flags.without(ShutdownFlags::GUEST_AGENT);
    handle.ask(|reply| Request::Reboot { flags, reply }).await
}

/// The agent's way, which is the first choice of those that are asked for, and without a wish. `false` leaves it to the button.
///
/// # Errors
/// The agent is the only way asked for, and it is not there or refuses.
async fn by_agent(handle: &DomainHandle, flags: ShutdownFlags, reboot: bool) -> Result<bool, Error> {
    if flags != ShutdownFlags::NONE && !flags.contains(ShutdownFlags::GUEST_AGENT) {
        return Ok(false);
    }
    match agent::switch_off(handle, reboot).await {
        Ok(()) => Ok(true),
        Err(error) if flags == ShutdownFlags::GUEST_AGENT => Err(error),
        Err(_) => Ok(false),
    }
}

/// Presses the reset button.
pub(super) async fn reset(context: Context, call: DomainReset) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainReset")?;
    context.domain(&call.domain)?.ask(|reply| Request::Reset { reply }).await
}

/// Stops the CPUs.
pub(super) async fn suspend(context: Context, call: DomainSuspend) -> Result<(), Error> {
    context.domain(&call.domain)?.ask(|reply| Request::Suspend { reply }).await
}

/// Lets the CPUs run.
pub(super) async fn resume(context: Context, call: DomainResume) -> Result<(), Error> {
    context.domain(&call.domain)?.ask(|reply| Request::Resume { reply }).await
}
