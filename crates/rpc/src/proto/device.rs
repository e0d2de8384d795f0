//! Hot plug.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::DomainRef;
use crate::flags::AffectFlags;

calls! {
    DomainAttachDevice {
        domain: DomainRef,
        xml: String,
    } -> ();

    DomainDetachDevice {
        domain: DomainRef,
        xml: String,
    } -> ();

    DomainAttachDeviceFlags {
        domain: DomainRef,
        xml: String,
        flags: AffectFlags,
    } -> ();

    DomainDetachDeviceFlags {
        domain: DomainRef,
        xml: String,
        flags: AffectFlags,
    } -> ();

    DomainDetachDeviceAlias {
        domain: DomainRef,
        alias: String,
        flags: AffectFlags,
    } -> ();

    DomainUpdateDeviceFlags {
        domain: DomainRef,
        xml: String,
        flags: AffectFlags,
    } -> ();
}
