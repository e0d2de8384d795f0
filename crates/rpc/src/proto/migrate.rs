//! Migration with typed parameters, protocol version 3, and its tuning.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::{Cookie, DomainRef};
use crate::flags::{MaxSpeedFlags, MigrateFlags};
use crate::typed_param::TypedParam;

calls! {
    /// How long the guest may be paused at the end, in ms.
    DomainMigrateSetMaxDowntime {
        domain: DomainRef,
        downtime: u64,
        flags: u32,
    } -> ();

    /// The limit of the bandwidth, in MiB/s.
    DomainMigrateSetMaxSpeed {
        domain: DomainRef,
        bandwidth: u64,
        flags: MaxSpeedFlags,
    } -> ();

    /// The limit of the bandwidth, in MiB/s.
    DomainMigrateGetMaxSpeed {
        domain: DomainRef,
        flags: MaxSpeedFlags,
    } -> u64;

    /// The size of the compression cache, in bytes.
    DomainMigrateGetCompressionCache {
        domain: DomainRef,
        flags: u32,
    } -> u64;

    /// The size of the compression cache, in bytes.
    DomainMigrateSetCompressionCache {
        domain: DomainRef,
        cache_size: u64,
        flags: u32,
    } -> ();

    /// Phase 1, source: admits the migration and says what moves. With CHANGE_PROTECTION a job is held from
    /// here to Confirm, or until the connection closes.
    DomainMigrateBegin3Params {
        domain: DomainRef,
        params: Vec<TypedParam> as Array<64>,
        flags: MigrateFlags,
    } -> MigrateBeginReply;

    /// Phase 2, destination: starts a paused QEMU that listens. `uri` of the answer is where, unless the
    /// caller gave an address with a port.
    DomainMigratePrepare3Params {
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
    } -> MigratePrepareReply;

    /// Phase 2, destination, for memory that follows as a stream of this call.
    DomainMigratePrepareTunnel3Params {
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
    } -> Cookie;

    /// Phase 3, source: copies the memory, for minutes. With a destination URI it is the whole migration,
    /// peer to peer.
    DomainMigratePerform3Params {
        domain: DomainRef,
        destination_uri: Option<String>,
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
    } -> Cookie;

    /// Phase 4, destination: lets the guest run, or cleans up when `cancelled`, and then an error is the good
    /// answer: 93/10.
    DomainMigrateFinish3Params {
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    } -> MigrateFinishReply;

    /// Phase 5, source: ends its guest, or lets it go on when `cancelled`.
    DomainMigrateConfirm3Params {
        domain: DomainRef,
        params: Vec<TypedParam> as Array<64>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    } -> ();

    /// Switches a migration under way to post-copy. 55/10 when there is none.
    DomainMigrateStartPostCopy {
        domain: DomainRef,
        flags: u32,
    } -> ();

    /// How long the guest may be paused at the end, in ms.
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
