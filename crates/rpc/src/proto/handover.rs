//! The program of our own: two daemons tell each other where the guest of one migration is.
//!
//! A stock daemon refuses the program as unknown. Words are numbers of `ferry_migration::message`; 0 to 15 travel.

use std::fmt;

use ferry_xdr::{Array, Codec, DecodeError, EncodeError, Reader, Writer};
use uuid::Uuid;

use super::{Cookie, RawUuid};

/// The secret of a migration: 16 raw bytes, never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawSecret(pub [u8; 16]);

impl fmt::Debug for RawSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawSecret(..)")
    }
}

/// 16 raw bytes, no length.
#[derive(Debug)]
pub enum Sixteen {}

impl Codec<[u8; 16]> for Sixteen {
    fn encode(value: &[u8; 16], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.fixed(value);
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<[u8; 16], DecodeError> {
        let mut value = [0; 16];
        value.copy_from_slice(reader.fixed(16)?);
        Ok(value)
    }
}

impl Codec<RawSecret> for Sixteen {
    fn encode(value: &RawSecret, writer: &mut Writer) -> Result<(), EncodeError> {
        <Sixteen as Codec<[u8; 16]>>::encode(&value.0, writer)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<RawSecret, DecodeError> {
        <Sixteen as Codec<[u8; 16]>>::decode(reader).map(RawSecret)
    }
}

calls! {
    HandoverTell {
        migration: [u8; 16] as Sixteen,
        secret: RawSecret as Sixteen,
        host: Uuid as RawUuid,
        word: u32,
        cookie: Cookie,
    } -> HandoverTellReply;
}

parts! {
    pub struct HandoverTellReply {
        pub host: Uuid as RawUuid,
        pub words: Vec<u32> as Array<16>,
    }
}
