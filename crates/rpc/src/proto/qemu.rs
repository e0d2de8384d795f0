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

events! {
    /// Something that QEMU said unasked: its name, when (`(0, 0)` when QEMU could not tell), and its data as JSON.
    QemuDomainMonitorEvent {
        callback_id: i32,
        domain: DomainRef,
        event: String,
        seconds: i64,
        micros: u32,
        details: Option<String>,
    }
}
