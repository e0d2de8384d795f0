//! Migration version 3 with plain fields, for clients and daemons without feature 13.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::{Cookie, DomainRef, MigrateBeginReply, MigrateFinishReply, MigratePrepareReply};

calls! {
    /// Phase 1, source. `bandwidth` in MiB/s, here and below; flags take a 64-bit word, here and below.
    DomainMigrateBegin3 {
        domain: DomainRef,
        xml: Option<String>,
        flags: u64,
        destination_name: Option<String>,
        bandwidth: u64,
    } -> MigrateBeginReply;

    /// Phase 2, destination.
    DomainMigratePrepare3 {
        cookie: Cookie,
        uri: Option<String>,
        flags: u64,
        destination_name: Option<String>,
        bandwidth: u64,
        xml: String,
    } -> MigratePrepareReply;

    /// Phase 2, destination, for memory that follows as a stream of this call.
    DomainMigratePrepareTunnel3 {
        cookie: Cookie,
        flags: u64,
        destination_name: Option<String>,
        bandwidth: u64,
        xml: String,
    } -> Cookie;

    /// Phase 3, source.
    DomainMigratePerform3 {
        domain: DomainRef,
        xml: Option<String>,
        cookie: Cookie,
        destination_uri: Option<String>,
        uri: Option<String>,
        flags: u64,
        destination_name: Option<String>,
        bandwidth: u64,
    } -> Cookie;

    /// Phase 4, destination.
    DomainMigrateFinish3 {
        destination_name: String,
        cookie: Cookie,
        destination_uri: Option<String>,
        uri: Option<String>,
        flags: u64,
        cancelled: bool,
    } -> MigrateFinishReply;

    /// Phase 5, source.
    DomainMigrateConfirm3 {
        domain: DomainRef,
        cookie: Cookie,
        flags: u64,
        cancelled: bool,
    } -> ();
}
