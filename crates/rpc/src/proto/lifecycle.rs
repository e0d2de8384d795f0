//! Starting, stopping, pausing a guest, and keys and interrupts sent to it.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::DomainRef;
use crate::flags::{DestroyFlags, ShutdownFlags, StartFlags};

calls! {
    DomainCreate {
        domain: DomainRef,
    } -> ();

    DomainCreateXml {
        xml: String,
        flags: StartFlags,
    } -> DomainRef;

    DomainDestroy {
        domain: DomainRef,
    } -> ();

    DomainReboot {
        domain: DomainRef,
        flags: ShutdownFlags,
    } -> ();

    DomainResume {
        domain: DomainRef,
    } -> ();

    DomainShutdown {
        domain: DomainRef,
    } -> ();

    DomainSuspend {
        domain: DomainRef,
    } -> ();

    DomainCreateWithFlags {
        domain: DomainRef,
        flags: StartFlags,
    } -> DomainRef;

    DomainInjectNmi {
        domain: DomainRef,
        flags: u32,
    } -> ();

    DomainSendKey {
        domain: DomainRef,
        codeset: u32,
        holdtime: u32,
        keycodes: Vec<u32> as Array<16>,
        flags: u32,
    } -> ();

    DomainDestroyFlags {
        domain: DomainRef,
        flags: DestroyFlags,
    } -> ();

    DomainReset {
        domain: DomainRef,
        flags: u32,
    } -> ();

    DomainShutdownFlags {
        domain: DomainRef,
        flags: ShutdownFlags,
    } -> ();

    DomainCreateWithFiles {
        domain: DomainRef,
        flags: StartFlags,
    } -> DomainRef;

    DomainFdAssociate {
        domain: DomainRef,
        name: String,
        flags: u32,
    } -> ();
}
