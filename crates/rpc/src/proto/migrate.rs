//! Migration with typed parameters, protocol version 3, and its tuning.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::{Cookie, DomainRef};
use crate::flags::{MaxSpeedFlags, MigrateFlags};
use crate::typed_param::TypedParam;

calls! {
    DomainMigrateSetMaxDowntime {
        domain: DomainRef,
        downtime: u64,
        flags: u32,
    } -> ();

    DomainMigrateSetMaxSpeed {
        domain: DomainRef,
        bandwidth: u64,
        flags: MaxSpeedFlags,
    } -> ();

    DomainMigrateGetMaxSpeed {
        domain: DomainRef,
        flags: MaxSpeedFlags,
    } -> u64;

    DomainMigrateGetCompressionCache {
        domain: DomainRef,
        flags: u32,
    } -> u64;

    DomainMigrateSetCompressionCache {
        domain: DomainRef,
        cache_size: u64,
        flags: u32,
    } -> ();

    DomainMigrateBegin3Params {
        domain: DomainRef,
        params: Vec<TypedParam> as Array<64>,
        flags: MigrateFlags,
    } -> MigrateBeginReply;

    DomainMigratePrepare3Params {
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
    } -> MigratePrepareReply;

    DomainMigratePrepareTunnel3Params {
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
    } -> Cookie;

    DomainMigratePerform3Params {
        domain: DomainRef,
        destination_uri: Option<String>,
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
    } -> Cookie;

    DomainMigrateFinish3Params {
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    } -> MigrateFinishReply;

    DomainMigrateConfirm3Params {
        domain: DomainRef,
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    } -> ();

    DomainMigrateStartPostCopy {
        domain: DomainRef,
        flags: u32,
    } -> ();

    DomainMigrateGetMaxDowntime {
        domain: DomainRef,
        flags: u32,
    } -> u64;
}

parts! {
    pub struct MigrateBeginReply {
        pub cookie: Cookie,
        pub xml: String,
    }

    pub struct MigratePrepareReply {
        pub cookie: Cookie,
        pub uri: Option<String>,
    }

    pub struct MigrateFinishReply {
        pub domain: DomainRef,
        pub cookie: Cookie,
    }
}
