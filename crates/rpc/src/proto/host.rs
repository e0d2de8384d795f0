//! Host devices, interfaces, network filters and secrets.
//!
//! Layouts only; the daemon and the client say what they do with them.

use std::fmt;

use ferry_xdr::{Array, Codec, DecodeError, EncodeError, Opaque, Reader, Writer};
use uuid::Uuid;

use super::{FilterRef, InterfaceRef, NodeDeviceRef, RawUuid, SecretRef};

/// The longest value of a secret, bytes.
pub const SECRET_VALUE_MAX: usize = 65_536;

/// The value of a secret: any bytes. It is not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(pub Vec<u8>);

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

/// A [`SecretValue`] on the wire.
pub enum SecretBytes {}

impl Codec<SecretValue> for SecretBytes {
    fn encode(value: &SecretValue, writer: &mut Writer) -> Result<(), EncodeError> {
        <Opaque<SECRET_VALUE_MAX> as Codec<Vec<u8>>>::encode(&value.0, writer)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<SecretValue, DecodeError> {
        <Opaque<SECRET_VALUE_MAX> as Codec<Vec<u8>>>::decode(reader).map(SecretValue)
    }
}

calls! {
    NodeDeviceLookupByName {
        name: String,
    } -> NodeDeviceRef;

    NodeDeviceGetXmlDesc {
        name: String,
        flags: u32,
    } -> String;

    ConnectNumOfInterfaces {} -> i32;

    ConnectNumOfSecrets {} -> i32;

    ConnectListSecrets {
        maxuuids: i32,
    } -> ConnectListSecretsReply;

    SecretLookupByUuid {
        uuid: Uuid as RawUuid,
    } -> SecretRef;

    SecretDefineXml {
        xml: String,
        flags: u32,
    } -> SecretRef;

    SecretGetXmlDesc {
        secret: SecretRef,
        flags: u32,
    } -> String;

    SecretSetValue {
        secret: SecretRef,
        value: SecretValue as SecretBytes,
        flags: u32,
    } -> ();

    SecretGetValue {
        secret: SecretRef,
        flags: u32,
    } -> SecretGetValueReply;

    SecretUndefine {
        secret: SecretRef,
    } -> ();

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

    pub struct ConnectListSecretsReply {
        pub uuids: Vec<String> as Array<16384>,
    }

    pub struct SecretGetValueReply {
        pub value: SecretValue as SecretBytes,
    }

    pub struct ConnectListAllSecretsReply {
        pub secrets: Vec<SecretRef> as Array<16384>,
        pub count: u32,
    }
}
