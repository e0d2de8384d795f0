//! Finding domains.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;
use uuid::Uuid;

use super::{DomainRef, RawUuid};
use crate::flags::ListFlags;

calls! {
    /// The running domain with this id; 42/10 when there is none.
    DomainLookupById {
        id: i32,
    } -> DomainRef;

    /// The domain with this name; 42/10 when there is none.
    DomainLookupByName {
        name: String,
    } -> DomainRef;

    /// The domain with this UUID; 42/10 when there is none.
    DomainLookupByUuid {
        uuid: Uuid as RawUuid,
    } -> DomainRef;

    ConnectNumOfDefinedDomains {} -> i32;

    ConnectListDefinedDomains {
        maxnames: i32,
    } -> ConnectListDefinedDomainsReply;

    ConnectListDomains {
        maxids: i32,
    } -> ConnectListDomainsReply;

    ConnectNumOfDomains {} -> i32;

    /// The domains that the flags select. Without `need_results` only the count is wanted.
    ConnectListAllDomains {
        need_results: bool,
        flags: ListFlags,
    } -> ConnectListAllDomainsReply;
}

parts! {
    pub struct ConnectListDomainsReply {
        pub ids: Vec<i32> as Array<16384>,
    }

    pub struct ConnectListDefinedDomainsReply {
        pub names: Vec<String> as Array<16384>,
    }

    pub struct ConnectListAllDomainsReply {
        pub domains: Vec<DomainRef> as Array<16384>,
        pub count: u32,
    }
}
