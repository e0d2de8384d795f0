//! Snapshots and checkpoints. There are none: lists are empty, look-ups miss, and what would make one is not
//! built.
//!
//! Clients ask before they undefine or show a domain, so the questions have answers.

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    DomainHasCurrentSnapshot, DomainListAllCheckpoints, DomainListAllCheckpointsReply,
    DomainListAllSnapshots, DomainListAllSnapshotsReply, DomainSnapshotCurrent, DomainSnapshotLookupByName,
    DomainSnapshotNum, SnapshotRef,
};

use super::{Context, accept_flags};

/// Every filter of a list of snapshots.
const SNAPSHOT_FILTERS: u32 = 0x7ff;

/// Every filter of a list of checkpoints.
const CHECKPOINT_FILTERS: u32 = 0xf;

pub(super) fn number(context: &Context, call: DomainSnapshotNum) -> Result<i32, Error> {
    accept_flags(call.flags, SNAPSHOT_FILTERS, "qemuDomainSnapshotNum")?;
    context.view(&call.domain).map(|_| 0)
}

pub(super) fn list(
    context: &Context,
    call: DomainListAllSnapshots,
) -> Result<DomainListAllSnapshotsReply, Error> {
    accept_flags(call.flags, SNAPSHOT_FILTERS, "qemuDomainListAllSnapshots")?;
    context.view(&call.domain).map(|_| DomainListAllSnapshotsReply { snapshots: Vec::new(), count: 0 })
}

pub(super) fn has_current(context: &Context, call: DomainHasCurrentSnapshot) -> Result<i32, Error> {
    accept_flags(call.flags, 0, "qemuDomainHasCurrentSnapshot")?;
    context.view(&call.domain).map(|_| 0)
}

pub(super) fn current(context: &Context, call: DomainSnapshotCurrent) -> Result<SnapshotRef, Error> {
    accept_flags(call.flags, 0, "qemuDomainSnapshotCurrent")?;
    context.view(&call.domain)?;
    let text = "the domain does not have a current snapshot";
    Err(Error::of(ErrorCode::NO_DOMAIN_SNAPSHOT, Origin::QEMU, text))
}

pub(super) fn by_name(context: &Context, call: DomainSnapshotLookupByName) -> Result<SnapshotRef, Error> {
    accept_flags(call.flags, 0, "qemuDomainSnapshotLookupByName")?;
    context.view(&call.domain)?;
    let text = format!("no domain snapshot with matching name '{}'", call.name);
    Err(Error::of(ErrorCode::NO_DOMAIN_SNAPSHOT, Origin::QEMU, text))
}

pub(super) fn list_checkpoints(
    context: &Context,
    call: DomainListAllCheckpoints,
) -> Result<DomainListAllCheckpointsReply, Error> {
    accept_flags(call.flags, CHECKPOINT_FILTERS, "qemuDomainListAllCheckpoints")?;
    context.view(&call.domain).map(|_| DomainListAllCheckpointsReply { checkpoints: Vec::new(), count: 0 })
}
