//! The program of our own: two daemons tell each other where the guest of one migration is, and `ferry` asks what only
//! Ferry knows. A stock daemon refuses the program as unknown.

use ferry_xdr::{Array, Codec, DecodeError, EncodeError, Reader, Writer};
use uuid::Uuid;

use super::{Cookie, DomainRef, RawUuid};

/// So many raw bytes, no length.
#[derive(Debug)]
pub enum Raw<const N: usize> {}

impl<const N: usize> Codec<[u8; N]> for Raw<N> {
    fn encode(value: &[u8; N], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.fixed(value);
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
        let mut value = [0; N];
        value.copy_from_slice(reader.fixed(N)?);
        Ok(value)
    }
}

calls! {
    /// `nonce` is fresh: the answer is for this call. `proof` shows that the caller knows the migration's secret.
    HandoverTell {
        migration: [u8; 16] as Raw<16>,
        host: Uuid as RawUuid,
        word: u32,
        nonce: [u8; 16] as Raw<16>,
        proof: [u8; 32] as Raw<32>,
        cookie: Cookie,
    } -> HandoverTellReply;

    /// The last migrations, newest first; of one domain, or of all.
    History {
        domain: Option<DomainRef>,
        limit: u32,
    } -> HistoryReply;

    /// The operator's word on who has the guest of a migration that is in doubt.
    Resolve {
        domain: DomainRef,
        guest_is_here: bool,
    } -> ();
}

parts! {
    /// `statistics` is a JSON object.
    pub struct HistoryEntry {
        pub migration: [u8; 16] as Raw<16>,
        pub domain: Uuid as RawUuid,
        pub name: String,
        pub outgoing: bool,
        pub peer: String,
        pub started_ms: u64,
        pub ended_ms: Option<u64>,
        pub result: String,
        pub guarantee: String,
        pub statistics: String,
    }

    pub struct HistoryReply {
        pub entries: Vec<HistoryEntry> as Array<1024>,
    }

    /// Words are numbers of `ferry_migration::message`; the cookie is Perform's, beside a grant. `proof` is zero from a
    /// daemon that does not know the migration.
    pub struct HandoverTellReply {
        pub host: Uuid as RawUuid,
        pub words: Vec<u32> as Array<16>,
        pub proof: [u8; 32] as Raw<32>,
        pub cookie: Cookie,
    }
}
