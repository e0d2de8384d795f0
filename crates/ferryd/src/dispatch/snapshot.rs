//! Snapshots and checkpoints: what the store knows of a domain's snapshots is shown and can be forgotten. What would make
//! one, go back to one or remove one from an image is not built, and there are no checkpoints.

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    DomainHasCurrentSnapshot, DomainListAllCheckpoints, DomainListAllCheckpointsReply,
    DomainListAllSnapshots, DomainListAllSnapshotsReply, DomainRef, DomainSnapshotCurrent,
    DomainSnapshotDelete, DomainSnapshotGetXmlDesc, DomainSnapshotLookupByName, DomainSnapshotNum,
    SnapshotRef,
};
use ferry_store::Snapshot;

use super::{Context, accept_flags, int};
use crate::driver::{Request, unknown_snapshot};

/// Every filter of a list of snapshots (`VIR_DOMAIN_SNAPSHOT_LIST_*`).
const SNAPSHOT_FILTERS: u32 = 0x7ff;

const LIST_ROOTS: u32 = 0x1;
const LIST_LEAVES: u32 = 0x4;
const LIST_NO_LEAVES: u32 = 0x8;
const LIST_NO_METADATA: u32 = 0x10;

/// Filters by the guest's state at the time and by where the snapshot lies.
const LIST_KINDS: u32 = 0x3e0;

/// Every filter of a list of checkpoints.
const CHECKPOINT_FILTERS: u32 = 0xf;

/// `VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY`.
const METADATA_ONLY: u32 = 0x2;

pub(super) async fn number(context: Context, call: DomainSnapshotNum) -> Result<i32, Error> {
    accept_flags(call.flags, SNAPSHOT_FILTERS, "qemuDomainSnapshotNum")?;
    listed(&context, &call.domain, call.flags).await.map(|listed| int(listed.len()))
}

pub(super) async fn list(
    context: Context,
    call: DomainListAllSnapshots,
) -> Result<DomainListAllSnapshotsReply, Error> {
    accept_flags(call.flags, SNAPSHOT_FILTERS, "qemuDomainListAllSnapshots")?;
    let listed = listed(&context, &call.domain, call.flags).await?;
    let count = int(listed.len());
    let reference = |snapshot: Snapshot| SnapshotRef { name: snapshot.name, domain: call.domain.clone() };
    let snapshots = if call.need_results { listed.into_iter().map(reference).collect() } else { Vec::new() };
    Ok(DomainListAllSnapshotsReply { snapshots, count })
}

pub(super) async fn has_current(context: Context, call: DomainHasCurrentSnapshot) -> Result<i32, Error> {
    accept_flags(call.flags, 0, "qemuDomainHasCurrentSnapshot")?;
    let known = known(&context, &call.domain).await?;
    Ok(i32::from(known.iter().any(|snapshot| snapshot.is_current)))
}

pub(super) async fn current(context: Context, call: DomainSnapshotCurrent) -> Result<SnapshotRef, Error> {
    accept_flags(call.flags, 0, "qemuDomainSnapshotCurrent")?;
    let current = known(&context, &call.domain).await?.into_iter().find(|snapshot| snapshot.is_current);
    let none = || {
        let text = "the domain does not have a current snapshot";
        Error::of(ErrorCode::NO_DOMAIN_SNAPSHOT, Origin::QEMU, text)
    };
    current.map(|current| SnapshotRef { name: current.name, domain: call.domain }).ok_or_else(none)
}

pub(super) async fn by_name(
    context: Context,
    call: DomainSnapshotLookupByName,
) -> Result<SnapshotRef, Error> {
    accept_flags(call.flags, 0, "qemuDomainSnapshotLookupByName")?;
    let snapshot = SnapshotRef { name: call.name, domain: call.domain };
    find(&context, &snapshot).await.map(|_| snapshot)
}

/// The XML as it is kept.
pub(super) async fn xml(context: Context, call: DomainSnapshotGetXmlDesc) -> Result<String, Error> {
    const SECURE: u32 = 1;
    accept_flags(call.flags, SECURE, "qemuDomainSnapshotGetXMLDesc")?;
    find(&context, &call.snapshot).await.map(|snapshot| snapshot.xml)
}

/// Forgets what is known of a snapshot.
pub(super) async fn delete(context: Context, call: DomainSnapshotDelete) -> Result<(), Error> {
    if call.flags != METADATA_ONLY {
        let text = "removing a snapshot from its images is not supported; metadata alone can be forgotten";
        return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
    }
    let name = call.snapshot.name;
    context.domain(&call.snapshot.domain)?.ask(|reply| Request::ForgetSnapshot { name, reply }).await
}

pub(super) fn list_checkpoints(
    context: &Context,
    call: DomainListAllCheckpoints,
) -> Result<DomainListAllCheckpointsReply, Error> {
    accept_flags(call.flags, CHECKPOINT_FILTERS, "qemuDomainListAllCheckpoints")?;
    context.view(&call.domain).map(|_| DomainListAllCheckpointsReply { checkpoints: Vec::new(), count: 0 })
}

async fn known(context: &Context, domain: &DomainRef) -> Result<Vec<Snapshot>, Error> {
    // One that is not there is an error, not an empty list.
    let uuid = context.view(domain)?.uuid;
    context.host.store(move |store| store.snapshots(uuid)).await
}

async fn find(context: &Context, wanted: &SnapshotRef) -> Result<Snapshot, Error> {
    let known = known(context, &wanted.domain).await?;
    let found = known.into_iter().find(|snapshot| snapshot.name == wanted.name);
    found.ok_or_else(|| unknown_snapshot(&wanted.name))
}

/// Those that pass the filters, parents before their children.
async fn listed(context: &Context, domain: &DomainRef, filters: u32) -> Result<Vec<Snapshot>, Error> {
    let known = known(context, domain).await?;
    if !known.is_empty() && filters & LIST_KINDS != 0 {
        let text = "snapshots cannot be filtered by state or place";
        return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
    }
    let is_leaf =
        |snapshot: &Snapshot| !known.iter().any(|other| other.parent.as_deref() == Some(&*snapshot.name));
    let passes = |snapshot: &&Snapshot| {
        let leaves = filters & (LIST_LEAVES | LIST_NO_LEAVES);
        let by_leaf = leaves == 0
            || leaves == LIST_LEAVES | LIST_NO_LEAVES
            || is_leaf(snapshot) == (leaves == LIST_LEAVES);
        by_leaf && (filters & LIST_ROOTS == 0 || snapshot.parent.is_none()) && filters & LIST_NO_METADATA == 0
    };
    Ok(known.iter().filter(passes).cloned().collect())
}
