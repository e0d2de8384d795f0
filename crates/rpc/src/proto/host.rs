//! Host devices, interfaces, network filters and secrets.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::{FilterRef, InterfaceRef, NodeDeviceRef, SecretRef};

calls! {
    NodeDeviceLookupByName {
        name: String,
    } -> NodeDeviceRef;

    NodeDeviceGetXmlDesc {
        name: String,
        flags: u32,
    } -> String;

    ConnectNumOfInterfaces {} -> i32;

    SecretLookupByUsage {
        usage_type: i32,
        usage_id: String,
    } -> SecretRef;

    ConnectListAllInterfaces {
        need_results: bool,
        flags: u32,
    } -> ConnectListAllInterfacesReply;

    ConnectListAllNodeDevices {
        need_results: bool,
        flags: u32,
    } -> ConnectListAllNodeDevicesReply;

    ConnectListAllNwfilters {
        need_results: bool,
        flags: u32,
    } -> ConnectListAllNwfiltersReply;

    ConnectListAllSecrets {
        need_results: bool,
        flags: u32,
    } -> ConnectListAllSecretsReply;

    NodeDeviceDetachFlags {
        name: String,
        driver_name: Option<String>,
        flags: u32,
    } -> ();

    ConnectNodeDeviceEventRegisterAny {
        event_id: i32,
        device: Option<NodeDeviceRef>,
    } -> i32;

    ConnectNodeDeviceEventDeregisterAny {
        callback_id: i32,
    } -> ();

    ConnectSecretEventRegisterAny {
        event_id: i32,
        secret: Option<SecretRef>,
    } -> i32;

    ConnectSecretEventDeregisterAny {
        callback_id: i32,
    } -> ();
}

events! {
    NodeDeviceEventLifecycle {
        callback_id: i32,
        device: NodeDeviceRef,
        event: i32,
        detail: i32,
    }
}

parts! {
    pub struct ConnectListAllInterfacesReply {
        pub interfaces: Vec<InterfaceRef> as Array<16384>,
        pub count: u32,
    }

    pub struct ConnectListAllNodeDevicesReply {
        pub devices: Vec<NodeDeviceRef> as Array<65536>,
        pub count: u32,
    }

    pub struct ConnectListAllNwfiltersReply {
        pub filters: Vec<FilterRef> as Array<16384>,
        pub count: u32,
    }

    pub struct ConnectListAllSecretsReply {
        pub secrets: Vec<SecretRef> as Array<16384>,
        pub count: u32,
    }
}
