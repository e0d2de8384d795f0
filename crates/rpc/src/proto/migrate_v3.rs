//! Migration version 3 with plain fields, for clients and daemons without feature 13.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::{Cookie, DomainRef, MigrateBeginReply, MigrateFinishReply, MigratePrepareReply};

calls! {
    DomainMigrateBegin3 {
        domain: DomainRef,
        xml: Option<String>,
        flags: u64,
        destination_name: Option<String>,
        bandwidth: u64,
    } -> MigrateBeginReply;

    DomainMigratePrepare3 {
        cookie: Cookie,
        uri: Option<String>,
        flags: u64,
        destination_name: Option<String>,
        bandwidth: u64,
        xml: String,
    } -> MigratePrepareReply;

    DomainMigratePrepareTunnel3 {
        cookie: Cookie,
        flags: u64,
        destination_name: Option<String>,
        bandwidth: u64,
        xml: String,
    } -> Cookie;

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

    DomainMigrateFinish3 {
        destination_name: String,
        cookie: Cookie,
        destination_uri: Option<String>,
        uri: Option<String>,
        flags: u64,
        cancelled: bool,
    } -> MigrateFinishReply;

    DomainMigrateConfirm3 {
        domain: DomainRef,
        cookie: Cookie,
        flags: u64,
        cancelled: bool,
    } -> ();
}
