//! Definitions: the XML, and what is kept beside it.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::DomainRef;
use crate::flags::{AffectFlags, DefineFlags, UndefineFlags, XmlFlags};
use crate::values::MetadataKind;

calls! {
    /// Defines a domain, or redefines the one with the same name and UUID.
    DomainDefineXml {
        xml: String,
    } -> DomainRef;

    /// The XML of a domain. Secrets only where the connection may write.
    DomainGetXmlDesc {
        domain: DomainRef,
        flags: XmlFlags,
    } -> String;

    DomainGetAutostart {
        domain: DomainRef,
    } -> bool;

    DomainSetAutostart {
        domain: DomainRef,
        autostart: bool,
    } -> ();

    /// As [`DomainUndefineFlags`], without flags.
    DomainUndefine {
        domain: DomainRef,
    } -> ();

    /// Forgets a definition. A running guest goes on without one.
    DomainUndefineFlags {
        domain: DomainRef,
        flags: UndefineFlags,
    } -> ();

    DomainSetMetadata {
        domain: DomainRef,
        kind: MetadataKind,
        metadata: Option<String>,
        key: Option<String>,
        uri: Option<String>,
        flags: AffectFlags,
    } -> ();

    DomainGetMetadata {
        domain: DomainRef,
        kind: MetadataKind,
        uri: Option<String>,
        flags: AffectFlags,
    } -> String;

    /// As [`DomainDefineXml`], with flags.
    DomainDefineXmlFlags {
        xml: String,
        flags: DefineFlags,
    } -> DomainRef;

    DomainRename {
        domain: DomainRef,
        new_name: Option<String>,
        flags: u32,
    } -> i32;

    DomainSetLifecycleAction {
        domain: DomainRef,
        kind: u32,
        action: u32,
        flags: u32,
    } -> ();

    DomainGetAutostartOnce {
        domain: DomainRef,
    } -> bool;
}
