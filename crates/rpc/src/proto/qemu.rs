//! The QEMU program: monitor and guest agent, raw.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::DomainRef;

calls! {
    QemuDomainMonitorCommand {
        domain: DomainRef,
        cmd: String,
        flags: u32,
    } -> String;

    QemuDomainAgentCommand {
        domain: DomainRef,
        cmd: String,
        timeout: i32,
        flags: u32,
    } -> Option<String>;

    QemuConnectDomainMonitorEventRegister {
        domain: Option<DomainRef>,
        event: Option<String>,
        flags: u32,
    } -> i32;

    QemuConnectDomainMonitorEventDeregister {
        callback_id: i32,
    } -> ();
}
