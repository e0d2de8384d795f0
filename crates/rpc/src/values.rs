//! Enumerations that travel as plain words: states, reasons, jobs, events, features.
//!
//! Each is a number with names, not a Rust enum: a newer peer may send a number that has no name here, and a
//! client passes it on. The numbers are those of libvirt 11.3.0's public headers.

use crate::numbers::numbers;
use crate::procedure::Procedure;

numbers! {
    /// What a domain is doing (`VIR_DOMAIN_*`).
    DomainState {
        NOSTATE = 0,
        RUNNING = 1,
        BLOCKED = 2,
        PAUSED = 3,
        SHUTDOWN = 4,
        SHUTOFF = 5,
        CRASHED = 6,
        PMSUSPENDED = 7,
    }
}

numbers! {
    /// Why a guest runs.
    RunningReason {
        UNKNOWN = 0,
        BOOTED = 1,
        MIGRATED = 2,
        RESTORED = 3,
        FROM_SNAPSHOT = 4,
        UNPAUSED = 5,
        MIGRATION_CANCELED = 6,
        SAVE_CANCELED = 7,
        WAKEUP = 8,
        CRASHED = 9,
        POSTCOPY = 10,
        POSTCOPY_FAILED = 11,
    }
}

numbers! {
    /// Why a guest is paused.
    PausedReason {
        UNKNOWN = 0,
        USER = 1,
        MIGRATION = 2,
        SAVE = 3,
        DUMP = 4,
        IOERROR = 5,
        WATCHDOG = 6,
        FROM_SNAPSHOT = 7,
        SHUTTING_DOWN = 8,
        SNAPSHOT = 9,
        CRASHED = 10,
        STARTING_UP = 11,
        POSTCOPY = 12,
        POSTCOPY_FAILED = 13,
        API_ERROR = 14,
    }
}

numbers! {
    /// Why a guest is shutting down.
    ShutdownReason {
        UNKNOWN = 0,
        USER = 1,
    }
}

numbers! {
    /// Why a domain is shut off.
    ShutoffReason {
        UNKNOWN = 0,
        SHUTDOWN = 1,
        DESTROYED = 2,
        CRASHED = 3,
        MIGRATED = 4,
        SAVED = 5,
        FAILED = 6,
        FROM_SNAPSHOT = 7,
        DAEMON = 8,
    }
}

numbers! {
    /// Why a guest counts as crashed.
    CrashedReason {
        UNKNOWN = 0,
        PANICKED = 1,
    }
}

numbers! {
    /// What kind of job occupies a domain (`VIR_DOMAIN_JOB_*`).
    JobType {
        NONE = 0,
        BOUNDED = 1,
        UNBOUNDED = 2,
        COMPLETED = 3,
        FAILED = 4,
        CANCELLED = 5,
    }
}

numbers! {
    /// What a job does (`VIR_DOMAIN_JOB_OPERATION_*`).
    JobOperation {
        UNKNOWN = 0,
        START = 1,
        SAVE = 2,
        RESTORE = 3,
        MIGRATION_IN = 4,
        MIGRATION_OUT = 5,
        SNAPSHOT = 6,
        SNAPSHOT_REVERT = 7,
        DUMP = 8,
        BACKUP = 9,
        SNAPSHOT_DELETE = 10,
    }
}

numbers! {
    /// What a block job does (`VIR_DOMAIN_BLOCK_JOB_TYPE_*`).
    BlockJobType {
        UNKNOWN = 0,
        PULL = 1,
        COPY = 2,
        COMMIT = 3,
        ACTIVE_COMMIT = 4,
        BACKUP = 5,
    }
}

numbers! {
    /// How a block job stands (`VIR_DOMAIN_BLOCK_JOB_*`).
    BlockJobStatus {
        COMPLETED = 0,
        FAILED = 1,
        CANCELED = 2,
        READY = 3,
    }
}

numbers! {
    /// What procedure 316 registers for (`VIR_DOMAIN_EVENT_ID_*`).
    EventId {
        LIFECYCLE = 0,
        REBOOT = 1,
        RTC_CHANGE = 2,
        WATCHDOG = 3,
        IO_ERROR = 4,
        GRAPHICS = 5,
        IO_ERROR_REASON = 6,
        CONTROL_ERROR = 7,
        BLOCK_JOB = 8,
        DISK_CHANGE = 9,
        TRAY_CHANGE = 10,
        PMWAKEUP = 11,
        PMSUSPEND = 12,
        BALLOON_CHANGE = 13,
        PMSUSPEND_DISK = 14,
        DEVICE_REMOVED = 15,
        BLOCK_JOB_2 = 16,
        TUNABLE = 17,
        AGENT_LIFECYCLE = 18,
        DEVICE_ADDED = 19,
        MIGRATION_ITERATION = 20,
        JOB_COMPLETED = 21,
        DEVICE_REMOVAL_FAILED = 22,
        METADATA_CHANGE = 23,
        BLOCK_THRESHOLD = 24,
        MEMORY_FAILURE = 25,
        MEMORY_DEVICE_SIZE_CHANGE = 26,
        NIC_MAC_CHANGE = 27,
    }
}

impl EventId {
    /// The message that this event is sent as; `None` for an id that does not exist.
    #[must_use]
    pub const fn message(self) -> Option<Procedure> {
        match self {
            Self::LIFECYCLE => Some(Procedure::DomainEventCallbackLifecycle),
            Self::REBOOT => Some(Procedure::DomainEventCallbackReboot),
            Self::RTC_CHANGE => Some(Procedure::DomainEventCallbackRtcChange),
            Self::WATCHDOG => Some(Procedure::DomainEventCallbackWatchdog),
            Self::IO_ERROR => Some(Procedure::DomainEventCallbackIoError),
            Self::GRAPHICS => Some(Procedure::DomainEventCallbackGraphics),
            Self::IO_ERROR_REASON => Some(Procedure::DomainEventCallbackIoErrorReason),
            Self::CONTROL_ERROR => Some(Procedure::DomainEventCallbackControlError),
            Self::BLOCK_JOB => Some(Procedure::DomainEventCallbackBlockJob),
            Self::DISK_CHANGE => Some(Procedure::DomainEventCallbackDiskChange),
            Self::TRAY_CHANGE => Some(Procedure::DomainEventCallbackTrayChange),
            Self::PMWAKEUP => Some(Procedure::DomainEventCallbackPmwakeup),
            Self::PMSUSPEND => Some(Procedure::DomainEventCallbackPmsuspend),
            Self::BALLOON_CHANGE => Some(Procedure::DomainEventCallbackBalloonChange),
            Self::PMSUSPEND_DISK => Some(Procedure::DomainEventCallbackPmsuspendDisk),
            Self::DEVICE_REMOVED => Some(Procedure::DomainEventCallbackDeviceRemoved),
            Self::BLOCK_JOB_2 => Some(Procedure::DomainEventBlockJob2),
            Self::TUNABLE => Some(Procedure::DomainEventCallbackTunable),
            Self::AGENT_LIFECYCLE => Some(Procedure::DomainEventCallbackAgentLifecycle),
            Self::DEVICE_ADDED => Some(Procedure::DomainEventCallbackDeviceAdded),
            Self::MIGRATION_ITERATION => Some(Procedure::DomainEventCallbackMigrationIteration),
            Self::JOB_COMPLETED => Some(Procedure::DomainEventCallbackJobCompleted),
            Self::DEVICE_REMOVAL_FAILED => Some(Procedure::DomainEventCallbackDeviceRemovalFailed),
            Self::METADATA_CHANGE => Some(Procedure::DomainEventCallbackMetadataChange),
            Self::BLOCK_THRESHOLD => Some(Procedure::DomainEventBlockThreshold),
            Self::MEMORY_FAILURE => Some(Procedure::DomainEventMemoryFailure),
            Self::MEMORY_DEVICE_SIZE_CHANGE => Some(Procedure::DomainEventMemoryDeviceSizeChange),
            Self::NIC_MAC_CHANGE => Some(Procedure::DomainEventNicMacChange),
            _ => None,
        }
    }
}

numbers! {
    /// What happened to a domain (`VIR_DOMAIN_EVENT_*`).
    LifecycleEvent {
        DEFINED = 0,
        UNDEFINED = 1,
        STARTED = 2,
        SUSPENDED = 3,
        RESUMED = 4,
        STOPPED = 5,
        SHUTDOWN = 6,
        PMSUSPENDED = 7,
        CRASHED = 8,
    }
}

numbers! {
    /// Details of the lifecycle event 0.
    DefinedDetail {
        ADDED = 0,
        UPDATED = 1,
        RENAMED = 2,
        FROM_SNAPSHOT = 3,
    }
}

numbers! {
    /// Details of the lifecycle event 1.
    UndefinedDetail {
        REMOVED = 0,
        RENAMED = 1,
    }
}

numbers! {
    /// Details of the lifecycle event 2.
    StartedDetail {
        BOOTED = 0,
        MIGRATED = 1,
        RESTORED = 2,
        FROM_SNAPSHOT = 3,
        WAKEUP = 4,
    }
}

numbers! {
    /// Details of the lifecycle event 3.
    SuspendedDetail {
        PAUSED = 0,
        MIGRATED = 1,
        IOERROR = 2,
        WATCHDOG = 3,
        RESTORED = 4,
        FROM_SNAPSHOT = 5,
        API_ERROR = 6,
        POSTCOPY = 7,
        POSTCOPY_FAILED = 8,
    }
}

numbers! {
    /// Details of the lifecycle event 4.
    ResumedDetail {
        UNPAUSED = 0,
        MIGRATED = 1,
        FROM_SNAPSHOT = 2,
        POSTCOPY = 3,
        POSTCOPY_FAILED = 4,
    }
}

numbers! {
    /// Details of the lifecycle event 5.
    StoppedDetail {
        SHUTDOWN = 0,
        DESTROYED = 1,
        CRASHED = 2,
        MIGRATED = 3,
        SAVED = 4,
        FAILED = 5,
        FROM_SNAPSHOT = 6,
    }
}

numbers! {
    /// Details of the lifecycle event 6.
    ShutdownDetail {
        FINISHED = 0,
        GUEST = 1,
        HOST = 2,
    }
}

numbers! {
    /// Details of the lifecycle event 7.
    PmSuspendedDetail {
        MEMORY = 0,
        DISK = 1,
    }
}

numbers! {
    /// Details of the lifecycle event 8.
    CrashedDetail {
        PANICKED = 0,
        CRASHLOADED = 1,
    }
}

numbers! {
    /// Why a connection ended (`VIR_CONNECT_CLOSE_REASON_*`).
    CloseReason {
        ERROR = 0,
        EOF = 1,
        KEEPALIVE = 2,
        CLIENT = 3,
    }
}

numbers! {
    /// Which metadata (`VIR_DOMAIN_METADATA_*`).
    MetadataKind {
        DESCRIPTION = 0,
        TITLE = 1,
        ELEMENT = 2,
    }
}

numbers! {
    /// What a watchdog did (`VIR_DOMAIN_EVENT_WATCHDOG_*`).
    WatchdogAction {
        NONE = 0,
        PAUSE = 1,
        RESET = 2,
        POWEROFF = 3,
        SHUTDOWN = 4,
        DEBUG = 5,
        INJECTNMI = 6,
    }
}

numbers! {
    /// What an I/O error led to (`VIR_DOMAIN_EVENT_IO_ERROR_*`).
    IoErrorAction {
        NONE = 0,
        PAUSE = 1,
        REPORT = 2,
    }
}

numbers! {
    /// How far a viewer has come (`VIR_DOMAIN_EVENT_GRAPHICS_*`).
    GraphicsPhase {
        CONNECT = 0,
        INITIALIZE = 1,
        DISCONNECT = 2,
    }
}

numbers! {
    /// Whether the guest agent is there.
    AgentState {
        CONNECTED = 1,
        DISCONNECTED = 2,
    }
}

numbers! {
    /// How a client authenticates; elements of the answer to procedure 66.
    AuthType {
        NONE = 0,
        SASL = 1,
        POLKIT = 2,
    }
}

numbers! {
    /// What a client asks with procedure 60. The answer to any other number is no.
    Feature {
        MIGRATION_V1 = 1,
        REMOTE = 2,
        MIGRATION_V2 = 3,
        MIGRATION_P2P = 4,
        MIGRATION_DIRECT = 5,
        MIGRATION_V3 = 6,
        MIGRATE_CHANGE_PROTECTION = 7,
        FD_PASSING = 8,
        TYPED_PARAM_STRING = 9,
        KEEPALIVE = 10,
        XML_MIGRATABLE = 11,
        MIGRATION_OFFLINE = 12,
        MIGRATION_PARAMS = 13,
        EVENT_CALLBACK = 14,
        CLOSE_CALLBACK = 15,
        NETWORK_UPDATE_ORDER = 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procedure::Access;

    #[test]
    fn every_event_id_has_a_message() {
        for id in 0..28 {
            let message = EventId(id).message().unwrap();
            assert_eq!(message.access(), Access::Event, "{message:?}");
        }
        assert_eq!(EventId(28).message(), None);
        assert_eq!(EventId::JOB_COMPLETED.message().map(Procedure::number), Some(363));
    }

    #[test]
    fn numbers_show_their_names() {
        assert_eq!(format!("{:?} {:?}", DomainState::PAUSED, DomainState(99)), "PAUSED=3 ?=99");
    }
}
