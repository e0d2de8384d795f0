//! Definitions: the XML, and what is kept beside it.

use ferry_domxml::{Element, FormatOptions, Node};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{AffectFlags, DefineFlags, Flags as _, UndefineFlags, XmlFlags};
use ferry_rpc::proto::{
    DomainDefineXml, DomainDefineXmlFlags, DomainGetAutostart, DomainGetAutostartOnce, DomainGetMetadata,
    DomainGetXmlDesc, DomainRef, DomainSetAutostart, DomainUndefineFlags,
};
use ferry_rpc::values::MetadataKind;

use super::{Context, definition, refuse_both};
use crate::driver::Request;
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

/// Forgets a definition. NVRAM, TPM state, snapshots and saved states that it asks to forget too do not
/// exist.
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

/// Title, description, or another program's data.
pub(super) fn metadata(context: &Context, call: DomainGetMetadata) -> Result<String, Error> {
    const URI: &str = "uri in virDomainGetMetadata must";
    let invalid = |text: String| Err(Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text));
    match (call.kind, &call.uri) {
        (MetadataKind::TITLE | MetadataKind::DESCRIPTION, Some(_)) => {
            return invalid(format!("{URI} be NULL"));
        }
        (MetadataKind::ELEMENT, None) => return invalid(format!("{URI} not be NULL")),
        _ => {}
    }
    let accepted = call.flags.accept(AffectFlags::ALL, "virDomainObjGetMetadata");
    let flags = accepted.map_err(|error| Error { origin: Origin::DOMAIN, ..error })?;
    let view = context.view(&call.domain)?;
    let domain = definition(&view, flags)?;
    let missing = || {
        let text = "Requested metadata element is not present";
        Error::of(ErrorCode::NO_DOMAIN_METADATA, Origin::DOMAIN, text)
    };
    match call.kind {
        MetadataKind::TITLE => domain.title.clone().ok_or_else(missing),
        MetadataKind::DESCRIPTION => domain.description.clone().ok_or_else(missing),
        MetadataKind::ELEMENT => {
            let uri = call.uri.unwrap_or_default();
            let entries = domain.metadata.iter().flat_map(|metadata| metadata.entries());
            let found = entries
                .map(|entry| (entry, namespace(entry)))
                .find(|(_, namespace)| namespace.is_some_and(|(_, declared)| declared == uri));
            let (entry, namespace) = found.ok_or_else(missing)?;
            let mut entry = entry.clone();
            if let Some((prefix, _)) = namespace {
                strip(&mut entry, prefix);
            }
            Ok(entry.format().trim_end().to_owned())
        }
        MetadataKind(other) => {
            let text = format!("unknown metadata type '{other}'");
            Err(Error::of(ErrorCode::INVALID_ARG, Origin::DOMAIN, text))
        }
    }
}

/// The prefix of an element's name, empty when there is none, and the namespace that the element declares for
/// it.
fn namespace(element: &Element) -> Option<(&str, &str)> {
    match element.name.split_once(':') {
        Some((prefix, _)) => Some((prefix, element.attribute(&format!("xmlns:{prefix}"))?)),
        None => Some(("", element.attribute("xmlns")?)),
    }
}

/// Takes a namespace away: its declaration, and its prefix from names. Who asked for it knows it.
fn strip(element: &mut Element, prefix: &str) {
    let (declaration, before) = match prefix {
        "" => ("xmlns".to_owned(), String::new()),
        _ => (format!("xmlns:{prefix}"), format!("{prefix}:")),
    };
    let bare = |name: &mut String| {
        if let Some(rest) = name.strip_prefix(&before) {
            *name = rest.to_owned();
        }
    };
    element.attributes.retain(|(name, _)| *name != declaration);
    element.attributes.iter_mut().for_each(|(name, _)| bare(name));
    bare(&mut element.name);
    for node in &mut element.children {
        if let Node::Element(child) = node {
            strip(child, prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::Domain;

    #[test]
    fn a_namespace_is_found_and_taken_away() {
        let xml = "<domain type='qemu'><name>a</name><metadata><p:owner xmlns:p='http://p'><p:id p:k='v'>7</p:id></p:owner>\
                   </metadata><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>";
        let domain = Domain::parse(xml).unwrap();
        let mut entry = domain.metadata.unwrap().entries().next().unwrap().clone();
        assert_eq!(namespace(&entry), Some(("p", "http://p")));
        strip(&mut entry, "p");
        assert_eq!(entry.format().trim_end(), "<owner>\n  <id k='v'>7</id>\n</owner>");
        assert_eq!(namespace(&entry), None);
    }
}
