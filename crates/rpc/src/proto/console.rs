//! Serial console and screenshot; both open a stream.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::DomainRef;
use crate::flags::ConsoleFlags;

calls! {
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
