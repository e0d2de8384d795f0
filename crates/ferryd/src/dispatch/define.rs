//! Definitions: the XML, and what is kept beside it.

use ferry_domxml::FormatOptions;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{DefineFlags, Flags as _, UndefineFlags, XmlFlags};
use ferry_rpc::proto::{
    ConnectDomainXmlToNative, DomainDefineXml, DomainDefineXmlFlags, DomainGetAutostart,
    DomainGetAutostartOnce, DomainGetXmlDesc, DomainRef, DomainSetAutostart, DomainUndefine,
    DomainUndefineFlags,
};

use super::{Context, accept_flags, refuse_both};
use crate::driver::Request;
use crate::perform::launch::command_line_of;
use crate::refuse;

/// Keeps a definition.
pub(super) async fn define(context: Context, call: DomainDefineXml) -> Result<DomainRef, Error> {
    keep(context, &call.xml).await
}

/// Keeps a definition. One that is to be validated needs nothing more: what is not known is refused in any
/// case.
pub(super) async fn define_with_flags(
    context: Context,
    call: DomainDefineXmlFlags,
) -> Result<DomainRef, Error> {
    call.flags.accept(DefineFlags::VALIDATE, "qemuDomainDefineXMLFlags")?;
    keep(context, &call.xml).await
}

async fn keep(context: Context, xml: &str) -> Result<DomainRef, Error> {
    let domain = Box::new(context.host.complete(xml).await?);
    let uuid = super::uuid_of(&domain)?;
    let claim = context.host.claim(uuid, &domain.name)?;
    claim.handle().ask(|reply| Request::Define { domain, reply }).await
}

/// As below, without flags.
pub(super) async fn undefine_plain(context: Context, call: DomainUndefine) -> Result<(), Error> {
    let flags = UndefineFlags::NONE;
    context.domain(&call.domain)?.ask(|reply| Request::Undefine { flags, reply }).await
}

/// Forgets a definition, and the variables of its firmware and the state of its TPM as it says. Snapshots and saved
/// states that it asks to forget too do not exist.
pub(super) async fn undefine(context: Context, call: DomainUndefineFlags) -> Result<(), Error> {
    let flags = call.flags.accept(UndefineFlags::ALL, "qemuDomainUndefineFlags")?;
    refuse_both(
        flags,
        UndefineFlags::NVRAM | UndefineFlags::KEEP_NVRAM,
        "cannot both keep and delete nvram",
    )?;
    refuse_both(flags, UndefineFlags::TPM | UndefineFlags::KEEP_TPM, "cannot both keep and delete TPM")?;
    context.domain(&call.domain)?.ask(|reply| Request::Undefine { flags, reply }).await
}

/// The definition as text: of the running guest unless the stored one is asked for.
pub(super) fn xml(context: &Context, call: DomainGetXmlDesc) -> Result<String, Error> {
    context.gate.check_xml(call.flags)?;
    let flags = call.flags.accept(XmlFlags::ALL, "qemuDomainGetXMLDesc")?;
    let view = context.view(&call.domain)?;
    let wanted = if flags.contains(XmlFlags::INACTIVE) { view.config.as_ref() } else { None };
    let domain = wanted.or(view.current()).ok_or_else(|| refuse::no_such_domain(view.uuid, &view.name))?;
    // What travels is a definition: what belongs to this run of the guest is left out, as by stock.
    let inactive = flags.intersects(XmlFlags::INACTIVE | XmlFlags::MIGRATABLE);
    Ok(domain.format(FormatOptions {
        inactive: inactive || view.live.is_none(),
        secure: flags.contains(XmlFlags::SECURE),
        migratable: flags.contains(XmlFlags::MIGRATABLE),
    }))
}

pub(super) fn autostart(context: &Context, call: DomainGetAutostart) -> Result<bool, Error> {
    context.view(&call.domain).map(|view| view.autostart)
}

/// A start at the host's next boot only: not built, so never set.
pub(super) fn autostart_once(context: &Context, call: DomainGetAutostartOnce) -> Result<bool, Error> {
    context.view(&call.domain).map(|_| false)
}

pub(super) async fn set_autostart(context: Context, call: DomainSetAutostart) -> Result<(), Error> {
    let autostart = call.autostart;
    context.domain(&call.domain)?.ask(|reply| Request::SetAutostart { autostart, reply }).await
}

/// The command line that a definition stands for, for people to read. There is no way back.
pub(super) async fn to_native(context: Context, call: ConnectDomainXmlToNative) -> Result<String, Error> {
    const FORMAT: &str = "qemu-argv";
    accept_flags(call.flags, 0, "qemuConnectDomainXMLToNative")?;
    if call.format != FORMAT {
        let text = format!("unsupported config type {}", call.format);
        return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
    }
    let domain = context.host.complete(&call.xml).await?;
    let line = command_line_of(&context.host, domain).await?;
    Ok(format!("{line}\n"))
}
