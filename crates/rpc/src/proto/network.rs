//! Virtual networks.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::NetworkRef;

calls! {
    NetworkGetXmlDesc {
        network: NetworkRef,
        flags: u32,
    } -> String;

    NetworkGetAutostart {
        network: NetworkRef,
    } -> bool;

    NetworkGetBridgeName {
        network: NetworkRef,
    } -> String;

    NetworkLookupByName {
        name: String,
    } -> NetworkRef;

    NetworkIsActive {
        network: NetworkRef,
    } -> bool;

    NetworkIsPersistent {
        network: NetworkRef,
    } -> bool;

    ConnectListAllNetworks {
        need_results: bool,
        flags: u32,
    } -> ConnectListAllNetworksReply;

    ConnectNetworkEventRegisterAny {
        event_id: i32,
        network: Option<NetworkRef>,
    } -> i32;

    ConnectNetworkEventDeregisterAny {
        callback_id: i32,
    } -> ();
}

events! {
    NetworkEventLifecycle {
        callback_id: i32,
        network: NetworkRef,
        event: i32,
        detail: i32,
    }
}

parts! {
    pub struct ConnectListAllNetworksReply {
        pub networks: Vec<NetworkRef> as Array<16384>,
        pub count: u32,
    }
}
