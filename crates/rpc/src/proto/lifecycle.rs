//! Starting, stopping, pausing a guest, and keys and interrupts sent to it.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::DomainRef;
use crate::flags::{DestroyFlags, ShutdownFlags, StartFlags};

calls! {
    /// Starts a defined domain. Clients look it up again to learn its id.
    DomainCreate {
        domain: DomainRef,
    } -> ();

    /// Starts a guest that has no definition.
    DomainCreateXml {
        xml: String,
        flags: StartFlags,
    } -> DomainRef;

    /// Ends a guest at once.
    DomainDestroy {
        domain: DomainRef,
    } -> ();

    /// Asks a guest to reboot; answered when it was asked.
    DomainReboot {
        domain: DomainRef,
        flags: ShutdownFlags,
    } -> ();

    /// Lets a paused guest go on.
    DomainResume {
        domain: DomainRef,
    } -> ();

    /// Asks a guest to shut down; answered when it was asked.
    DomainShutdown {
        domain: DomainRef,
    } -> ();

    /// Pauses a guest.
    DomainSuspend {
        domain: DomainRef,
    } -> ();

    /// Starts a defined domain; the answer carries its new id.
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

    /// As [`DomainDestroy`]; graceful means without SIGKILL.
    DomainDestroyFlags {
        domain: DomainRef,
        flags: DestroyFlags,
    } -> ();

    /// Resets a guest, as the button does.
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
