//! What other daemons than this one look after: networks, storage pools, interfaces and devices of the host, network
//! filters. There are none here: lists are empty, look-ups miss with stock's words, and who registers for their events hears
//! nothing.
//!
//! Clients ask on every connection, and take a refusal for an error to be shown. What would make one is refused with code 3.

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    ConnectListAllInterfaces, ConnectListAllInterfacesReply, ConnectListAllNetworks,
    ConnectListAllNetworksReply, ConnectListAllNodeDevices, ConnectListAllNodeDevicesReply,
    ConnectListAllNwfilters, ConnectListAllNwfiltersReply, ConnectListAllStoragePools,
    ConnectListAllStoragePoolsReply, ConnectListStoragePools, ConnectListStoragePoolsReply,
    ConnectNetworkEventDeregisterAny, ConnectNetworkEventRegisterAny, ConnectNodeDeviceEventDeregisterAny,
    ConnectNodeDeviceEventRegisterAny, ConnectNumOfInterfaces, ConnectNumOfStoragePools,
    ConnectSecretEventDeregisterAny, ConnectSecretEventRegisterAny, ConnectStoragePoolEventDeregisterAny,
    ConnectStoragePoolEventRegisterAny, NetworkLookupByName, NetworkRef, NodeDeviceGetXmlDesc,
    NodeDeviceLookupByName, NodeDeviceRef, PoolRef, StoragePoolLookupByName,
};

use super::Context;
use crate::events::Subject;

/// Pairs a list with its empty answer.
macro_rules! empty {
    ($($name:ident: $call:ident -> $reply:ident { $list:ident };)*) => {
        $(pub(super) fn $name(_: &Context, _: $call) -> Result<$reply, Error> {
            Ok($reply { $list: Vec::new(), count: 0 })
        })*
    };
}

// Filters are not looked at: nothing passes none of them.
empty! {
    networks: ConnectListAllNetworks -> ConnectListAllNetworksReply { networks };
    pools: ConnectListAllStoragePools -> ConnectListAllStoragePoolsReply { pools };
    interfaces: ConnectListAllInterfaces -> ConnectListAllInterfacesReply { interfaces };
    devices: ConnectListAllNodeDevices -> ConnectListAllNodeDevicesReply { devices };
    filters: ConnectListAllNwfilters -> ConnectListAllNwfiltersReply { filters };
}

pub(super) fn number_of_pools(_: &Context, _: ConnectNumOfStoragePools) -> Result<i32, Error> {
    Ok(0)
}

pub(super) fn pool_names(
    _: &Context,
    _: ConnectListStoragePools,
) -> Result<ConnectListStoragePoolsReply, Error> {
    Ok(ConnectListStoragePoolsReply { names: Vec::new() })
}

pub(super) fn number_of_interfaces(_: &Context, _: ConnectNumOfInterfaces) -> Result<i32, Error> {
    Ok(0)
}

pub(super) fn network(_: &Context, call: NetworkLookupByName) -> Result<NetworkRef, Error> {
    let text = format!("no network with matching name '{}'", call.name);
    Err(Error::of(ErrorCode::NO_NETWORK, Origin::NETWORK, text))
}

pub(super) fn pool(_: &Context, call: StoragePoolLookupByName) -> Result<PoolRef, Error> {
    let text = format!("no storage pool with matching name '{}'", call.name);
    Err(Error::of(ErrorCode::NO_STORAGE_POOL, Origin::STORAGE, text))
}

pub(super) fn device(_: &Context, call: NodeDeviceLookupByName) -> Result<NodeDeviceRef, Error> {
    Err(no_device(&call.name))
}

pub(super) fn device_xml(_: &Context, call: NodeDeviceGetXmlDesc) -> Result<String, Error> {
    Err(no_device(&call.name))
}

fn no_device(name: &str) -> Error {
    let text = format!("no node device with matching name '{name}'");
    Error::of(ErrorCode::NO_NODE_DEVICE, Origin::NODEDEV, text)
}

/// Pairs the registration for events with what they are about, and its taking back.
macro_rules! events {
    ($($register:ident, $deregister:ident: $call:ident, $back:ident => $subject:ident;)*) => {
        $(
            pub(super) fn $register(context: &Context, call: $call) -> Result<i32, Error> {
                let events = &context.host.events;
                events.register_idle(&context.client, &context.outbound, Subject::$subject, call.event_id)
            }

            pub(super) fn $deregister(context: &Context, call: $back) -> Result<(), Error> {
                context.host.events.deregister_idle(&context.client, Subject::$subject, call.callback_id)
            }
        )*
    };
}

events! {
    hear_networks, ignore_networks:
        ConnectNetworkEventRegisterAny, ConnectNetworkEventDeregisterAny => Network;
    hear_pools, ignore_pools:
        ConnectStoragePoolEventRegisterAny, ConnectStoragePoolEventDeregisterAny => StoragePool;
    hear_devices, ignore_devices:
        ConnectNodeDeviceEventRegisterAny, ConnectNodeDeviceEventDeregisterAny => NodeDevice;
    hear_secrets, ignore_secrets:
        ConnectSecretEventRegisterAny, ConnectSecretEventDeregisterAny => Secret;
}
