//! Domain events as they are sent. Each begins with the id of the registration that it answers.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::DomainRef;
use crate::typed_param::TypedParam;
use crate::values::{
    AgentState, BlockJobStatus, BlockJobType, CloseReason, GraphicsPhase, IoErrorAction, LifecycleEvent,
    MetadataKind, WatchdogAction,
};

events! {
    /// The oldest form, for clients that registered without a callback id.
    DomainEventLifecycle {
        domain: DomainRef,
        event: LifecycleEvent,
        detail: i32,
    }

    /// What happened to a domain; the meaning of the detail depends on the event.
    DomainEventCallbackLifecycle {
        callback_id: i32,
        domain: DomainRef,
        event: LifecycleEvent,
        detail: i32,
    }

    DomainEventCallbackReboot {
        callback_id: i32,
        domain: DomainRef,
    }

    DomainEventCallbackRtcChange {
        callback_id: i32,
        domain: DomainRef,
        offset: i64,
    }

    DomainEventCallbackWatchdog {
        callback_id: i32,
        domain: DomainRef,
        action: WatchdogAction,
    }

    DomainEventCallbackIoError {
        callback_id: i32,
        domain: DomainRef,
        src_path: String,
        dev_alias: String,
        action: IoErrorAction,
    }

    DomainEventCallbackGraphics {
        callback_id: i32,
        domain: DomainRef,
        phase: GraphicsPhase,
        local: DomainEventGraphicsAddress,
        remote: DomainEventGraphicsAddress,
        auth_scheme: String,
        subject: Vec<DomainEventGraphicsIdentity> as Array<20>,
    }

    DomainEventCallbackIoErrorReason {
        callback_id: i32,
        domain: DomainRef,
        src_path: String,
        dev_alias: String,
        action: IoErrorAction,
        reason: String,
    }

    DomainEventCallbackControlError {
        callback_id: i32,
        domain: DomainRef,
    }

    DomainEventCallbackBlockJob {
        callback_id: i32,
        domain: DomainRef,
        path: String,
        kind: BlockJobType,
        status: BlockJobStatus,
    }

    DomainEventCallbackDiskChange {
        callback_id: i32,
        domain: DomainRef,
        old_src_path: Option<String>,
        new_src_path: Option<String>,
        dev_alias: String,
        reason: i32,
    }

    DomainEventCallbackTrayChange {
        callback_id: i32,
        domain: DomainRef,
        dev_alias: String,
        reason: i32,
    }

    DomainEventCallbackPmwakeup {
        callback_id: i32,
        reason: i32,
        domain: DomainRef,
    }

    DomainEventCallbackPmsuspend {
        callback_id: i32,
        reason: i32,
        domain: DomainRef,
    }

    DomainEventCallbackBalloonChange {
        callback_id: i32,
        domain: DomainRef,
        actual: u64,
    }

    DomainEventCallbackPmsuspendDisk {
        callback_id: i32,
        reason: i32,
        domain: DomainRef,
    }

    DomainEventCallbackDeviceRemoved {
        callback_id: i32,
        domain: DomainRef,
        dev_alias: String,
    }

    DomainEventBlockJob2 {
        callback_id: i32,
        domain: DomainRef,
        dst: String,
        kind: BlockJobType,
        status: BlockJobStatus,
    }

    DomainEventCallbackTunable {
        callback_id: i32,
        domain: DomainRef,
        params: Vec<TypedParam> as Array<2048>,
    }

    DomainEventCallbackAgentLifecycle {
        callback_id: i32,
        domain: DomainRef,
        state: AgentState,
        reason: i32,
    }

    DomainEventCallbackDeviceAdded {
        callback_id: i32,
        domain: DomainRef,
        dev_alias: String,
    }

    /// A pass over the guest memory begins; the first is 1.
    DomainEventCallbackMigrationIteration {
        callback_id: i32,
        domain: DomainRef,
        iteration: i32,
    }

    /// The daemon's own backend has gone away.
    ConnectEventConnectionClosed {
        reason: CloseReason,
    }

    /// A job ended well; its final statistics.
    DomainEventCallbackJobCompleted {
        callback_id: i32,
        domain: DomainRef,
        params: Vec<TypedParam> as Array<64>,
    }

    DomainEventCallbackDeviceRemovalFailed {
        callback_id: i32,
        domain: DomainRef,
        dev_alias: String,
    }

    DomainEventCallbackMetadataChange {
        callback_id: i32,
        domain: DomainRef,
        kind: MetadataKind,
        nsuri: Option<String>,
    }

    DomainEventBlockThreshold {
        callback_id: i32,
        domain: DomainRef,
        device: String,
        path: Option<String>,
        threshold: u64,
        excess: u64,
    }

    DomainEventMemoryFailure {
        callback_id: i32,
        domain: DomainRef,
        recipient: i32,
        action: i32,
        flags: u32,
    }

    DomainEventMemoryDeviceSizeChange {
        callback_id: i32,
        domain: DomainRef,
        alias: String,
        size: u64,
    }

    DomainEventNicMacChange {
        callback_id: i32,
        domain: DomainRef,
        alias: String,
        old_mac: String,
        new_mac: String,
    }
}

parts! {
    pub struct DomainEventGraphicsAddress {
        pub family: i32,
        pub node: String,
        pub service: String,
    }

    pub struct DomainEventGraphicsIdentity {
        pub kind: String,
        pub name: String,
    }
}
