//! Serial console and screenshot; both open a stream.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::DomainRef;
use crate::flags::ConsoleFlags;

calls! {
    /// Opens a serial console, the first one or the device with this alias, as a stream both ways. 9/10 when
    /// it is in use, unless forced.
    DomainOpenConsole {
        domain: DomainRef,
        dev_name: Option<String>,
        flags: ConsoleFlags,
    } -> ();

    DomainScreenshot {
        domain: DomainRef,
        screen: u32,
        flags: u32,
    } -> Option<String>;
}
