//! How calls name the things they are about.
//!
//! Only the key counts: a domain is its UUID, whatever name and id come along.

use ferry_xdr::{Codec, Decode, DecodeError, Encode, EncodeError, Reader, Writer, xdr_struct};
use uuid::Uuid;

/// A UUID: 16 raw bytes, no length.
#[derive(Debug)]
pub enum RawUuid {}

impl Codec<Uuid> for RawUuid {
    fn encode(value: &Uuid, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.fixed(value.as_bytes());
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Uuid, DecodeError> {
        let bytes = reader.fixed(16)?;
        Uuid::from_slice(bytes).map_err(|_| DecodeError::Truncated { needed: 16, left: bytes.len() })
    }
}

xdr_struct! {
    /// A domain.
    #[derive(Eq, Hash)]
    pub struct DomainRef {
        /// Its name; not looked at in calls.
        pub name: String,
        /// What selects it.
        pub uuid: Uuid as RawUuid,
        /// Its id while it runs, else -1; not looked at in calls.
        pub id: i32,
    }
}

xdr_struct! {
    /// A virtual network.
    #[derive(Eq, Hash)]
    pub struct NetworkRef {
        /// Its name.
        pub name: String,
        /// What selects it.
        pub uuid: Uuid as RawUuid,
    }
}

xdr_struct! {
    /// A storage pool.
    #[derive(Eq, Hash)]
    pub struct PoolRef {
        /// Its name.
        pub name: String,
        /// What selects it.
        pub uuid: Uuid as RawUuid,
    }
}

xdr_struct! {
    /// A storage volume.
    #[derive(Eq, Hash)]
    pub struct VolumeRef {
        /// The pool that holds it.
        pub pool: String,
        /// Its name in the pool.
        pub name: String,
        /// Its key, unique on the host.
        pub key: String,
    }
}

xdr_struct! {
    /// A snapshot of a domain.
    #[derive(Eq, Hash)]
    pub struct SnapshotRef {
        /// Its name among the domain's snapshots.
        pub name: String,
        /// The domain.
        pub domain: DomainRef,
    }
}

xdr_struct! {
    /// A checkpoint of a domain.
    #[derive(Eq, Hash)]
    pub struct CheckpointRef {
        /// Its name among the domain's checkpoints.
        pub name: String,
        /// The domain.
        pub domain: DomainRef,
    }
}

xdr_struct! {
    /// A host device.
    #[derive(Eq, Hash)]
    pub struct NodeDeviceRef {
        /// Its name.
        pub name: String,
    }
}

xdr_struct! {
    /// A host network interface.
    #[derive(Eq, Hash)]
    pub struct InterfaceRef {
        /// Its name.
        pub name: String,
        /// Its MAC address.
        pub mac: String,
    }
}

xdr_struct! {
    /// A network filter.
    #[derive(Eq, Hash)]
    pub struct FilterRef {
        /// Its name.
        pub name: String,
        /// What selects it.
        pub uuid: Uuid as RawUuid,
    }
}

xdr_struct! {
    /// A secret.
    #[derive(Eq, Hash)]
    pub struct SecretRef {
        /// What selects it.
        pub uuid: Uuid as RawUuid,
        /// What it is for, as a number.
        pub usage_type: i32,
        /// What it is for, as text.
        pub usage_id: String,
    }
}

/// The longest migration cookie in bytes.
pub const COOKIE_MAX: usize = 4_194_304;

/// A migration cookie as it travels: XML with one NUL behind it that is counted, or nothing.
///
/// It may hold secrets, so its content does not show in logs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Cookie(pub Vec<u8>);

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cookie({} bytes)", self.0.len())
    }
}

impl Encode for Cookie {
    fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.opaque(&self.0, COOKIE_MAX)
    }
}

impl Decode for Cookie {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(reader.opaque(COOKIE_MAX)?.to_vec()))
    }
}
