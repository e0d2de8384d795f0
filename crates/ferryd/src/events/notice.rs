//! One event to one connection: from what a driver tells to the message that its registration understands.

use std::sync::Arc;

use ferry_qmp::Event;
use ferry_rpc::proto::{
    DomainEventBlockThreshold, DomainEventCallbackAgentLifecycle, DomainEventCallbackBalloonChange,
    DomainEventCallbackDeviceAdded, DomainEventCallbackDeviceRemovalFailed, DomainEventCallbackDeviceRemoved,
    DomainEventCallbackGraphics, DomainEventCallbackIoError, DomainEventCallbackIoErrorReason,
    DomainEventCallbackJobCompleted, DomainEventCallbackLifecycle, DomainEventCallbackMetadataChange,
    DomainEventCallbackMigrationIteration, DomainEventCallbackPmsuspend, DomainEventCallbackPmsuspendDisk,
    DomainEventCallbackPmwakeup, DomainEventCallbackReboot, DomainEventCallbackRtcChange,
    DomainEventCallbackTrayChange, DomainEventCallbackTunable, DomainEventCallbackWatchdog,
    DomainEventLifecycle, DomainEventMemoryDeviceSizeChange, DomainRef, QemuDomainMonitorEvent,
};
use ferry_rpc::server::Session;
use ferry_rpc::values::{AgentState, EventId};

use super::DomainEvent;

/// What happened to whom; shared by all who hear of it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(super) domain: DomainRef,
    pub(super) event: DomainEvent,
}

/// What a QEMU has said unasked; shared by all who hear of it.
#[derive(Debug)]
pub(crate) struct Overheard {
    pub(super) domain: DomainRef,
    pub(super) event: Event,
}

/// One message to one connection.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Something happened to a domain.
    Domain {
        /// `None` for a client that registered in the old style.
        callback: Option<i32>,
        id: EventId,
        told: Arc<Told>,
    },
    /// A QEMU said something.
    Monitor { callback: i32, overheard: Arc<Overheard> },
}

impl Notice {
    /// Puts the message into its connection's session.
    pub(crate) fn send(&self, session: &mut Session) {
        match self {
            Self::Domain { callback: Some(callback), id, told } => told.send(*callback, *id, session),
            Self::Domain { callback: None, told, .. } => {
                if let DomainEvent::Lifecycle { event, detail } = told.event {
                    session.event(&DomainEventLifecycle { domain: told.domain.clone(), event, detail });
                }
            }
            Self::Monitor { callback, overheard } => overheard.send(*callback, session),
        }
    }
}

impl Overheard {
    fn send(&self, callback_id: i32, session: &mut Session) {
        let Event { at, said, .. } = &self.event;
        session.event(&QemuDomainMonitorEvent {
            callback_id,
            domain: self.domain.clone(),
            event: said.name.clone(),
            seconds: at.seconds,
            micros: u32::try_from(at.microseconds).unwrap_or(0),
            details: said.data.clone(),
        });
    }
}

impl Told {
    fn send(&self, callback_id: i32, id: EventId, session: &mut Session) {
        let domain = self.domain.clone();
        match self.event.clone() {
            DomainEvent::Lifecycle { event, detail } => {
                session.event(&DomainEventCallbackLifecycle { callback_id, domain, event, detail });
            }
            DomainEvent::Reboot => session.event(&DomainEventCallbackReboot { callback_id, domain }),
            DomainEvent::RtcChange { offset } => {
                session.event(&DomainEventCallbackRtcChange { callback_id, domain, offset });
            }
            DomainEvent::IoError { path: src_path, alias: dev_alias, action, reason } => {
                if id == EventId::IO_ERROR {
                    let message =
                        DomainEventCallbackIoError { callback_id, domain, src_path, dev_alias, action };
                    session.event(&message);
                } else {
                    session.event(&DomainEventCallbackIoErrorReason {
                        callback_id,
                        domain,
                        src_path,
                        dev_alias,
                        action,
                        reason,
                    });
                }
            }
            DomainEvent::Watchdog { action } => {
                session.event(&DomainEventCallbackWatchdog { callback_id, domain, action });
            }
            DomainEvent::Graphics { phase, local, remote, auth_scheme, subject } => {
                session.event(&DomainEventCallbackGraphics {
                    callback_id,
                    domain,
                    phase,
                    local,
                    remote,
                    auth_scheme,
                    subject,
                });
            }
            DomainEvent::Slept { to_disk: false } => {
                session.event(&DomainEventCallbackPmsuspend { callback_id, reason: 0, domain });
            }
            DomainEvent::Slept { to_disk: true } => {
                session.event(&DomainEventCallbackPmsuspendDisk { callback_id, reason: 0, domain });
            }
            DomainEvent::Woke => {
                session.event(&DomainEventCallbackPmwakeup { callback_id, reason: 0, domain });
            }
            DomainEvent::BlockThreshold { device, path, threshold, excess } => {
                session.event(&DomainEventBlockThreshold {
                    callback_id,
                    domain,
                    device,
                    path,
                    threshold,
                    excess,
                });
            }
            DomainEvent::BalloonChange { actual_kib: actual } => {
                session.event(&DomainEventCallbackBalloonChange { callback_id, domain, actual });
            }
            DomainEvent::DeviceAdded { alias: dev_alias } => {
                session.event(&DomainEventCallbackDeviceAdded { callback_id, domain, dev_alias });
            }
            DomainEvent::DeviceRemoved { alias: dev_alias } => {
                session.event(&DomainEventCallbackDeviceRemoved { callback_id, domain, dev_alias });
            }
            DomainEvent::DeviceRemovalFailed { alias: dev_alias } => {
                session.event(&DomainEventCallbackDeviceRemovalFailed { callback_id, domain, dev_alias });
            }
            DomainEvent::MemoryDeviceSizeChange { alias, bytes: size } => {
                session.event(&DomainEventMemoryDeviceSizeChange { callback_id, domain, alias, size });
            }
            DomainEvent::TrayChange { alias: dev_alias, open } => {
                // `VIR_DOMAIN_EVENT_TRAY_CHANGE_*`.
                let reason = i32::from(!open);
                session.event(&DomainEventCallbackTrayChange { callback_id, domain, dev_alias, reason });
            }
            DomainEvent::AgentLifecycle { connected, reason } => {
                let state = if connected { AgentState::CONNECTED } else { AgentState::DISCONNECTED };
                session.event(&DomainEventCallbackAgentLifecycle { callback_id, domain, state, reason });
            }
            DomainEvent::MetadataChange { kind, uri: nsuri } => {
                session.event(&DomainEventCallbackMetadataChange { callback_id, domain, kind, nsuri });
            }
            DomainEvent::MigrationIteration { iteration } => {
                session.event(&DomainEventCallbackMigrationIteration { callback_id, domain, iteration });
            }
            DomainEvent::JobCompleted { params } => {
                session.event(&DomainEventCallbackJobCompleted { callback_id, domain, params });
            }
            DomainEvent::Tunable { params } => {
                session.event(&DomainEventCallbackTunable { callback_id, domain, params });
            }
        }
    }
}
