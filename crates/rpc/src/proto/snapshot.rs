//! Snapshots, checkpoints and backups.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::{CheckpointRef, DomainRef, SnapshotRef};
use crate::flags::SnapshotCreateFlags;

calls! {
    DomainSnapshotCreateXml {
        domain: DomainRef,
        xml: String,
        flags: SnapshotCreateFlags,
    } -> SnapshotRef;

    DomainSnapshotGetXmlDesc {
        snapshot: SnapshotRef,
        flags: u32,
    } -> String;

    DomainSnapshotNum {
        domain: DomainRef,
        flags: u32,
    } -> i32;

    DomainSnapshotLookupByName {
        domain: DomainRef,
        name: String,
        flags: u32,
    } -> SnapshotRef;

    DomainHasCurrentSnapshot {
        domain: DomainRef,
        flags: u32,
    } -> i32;

    DomainSnapshotCurrent {
        domain: DomainRef,
        flags: u32,
    } -> SnapshotRef;

    DomainRevertToSnapshot {
        snapshot: SnapshotRef,
        flags: u32,
    } -> ();

    DomainSnapshotDelete {
        snapshot: SnapshotRef,
        flags: u32,
    } -> ();

    DomainSnapshotNumChildren {
        snapshot: SnapshotRef,
        flags: u32,
    } -> i32;

    DomainSnapshotIsCurrent {
        snapshot: SnapshotRef,
        flags: u32,
    } -> bool;

    DomainSnapshotHasMetadata {
        snapshot: SnapshotRef,
        flags: u32,
    } -> i32;

    DomainListAllSnapshots {
        domain: DomainRef,
        need_results: bool,
        flags: u32,
    } -> DomainListAllSnapshotsReply;

    DomainCheckpointCreateXml {
        domain: DomainRef,
        xml: String,
        flags: u32,
    } -> CheckpointRef;

    DomainCheckpointGetXmlDesc {
        checkpoint: CheckpointRef,
        flags: u32,
    } -> String;

    DomainListAllCheckpoints {
        domain: DomainRef,
        need_results: bool,
        flags: u32,
    } -> DomainListAllCheckpointsReply;

    DomainBackupBegin {
        domain: DomainRef,
        backup_xml: String,
        checkpoint_xml: Option<String>,
        flags: u32,
    } -> ();

    DomainBackupGetXmlDesc {
        domain: DomainRef,
        flags: u32,
    } -> String;
}

parts! {
    pub struct DomainListAllSnapshotsReply {
        pub snapshots: Vec<SnapshotRef> as Array<16384>,
        pub count: i32,
    }

    pub struct DomainListAllCheckpointsReply {
        pub checkpoints: Vec<CheckpointRef> as Array<16384>,
        pub count: i32,
    }
}
