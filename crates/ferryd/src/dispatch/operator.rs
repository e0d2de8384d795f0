//! What only Ferry's own tool asks: the history, and the operator's word in a doubt.

use ferry_migration::GuestIs;
use ferry_rpc::error::Error;
use ferry_rpc::proto::{History, HistoryEntry, HistoryReply, Resolve};
use ferry_store::Direction;

use super::Context;
use crate::driver::Request;

/// Most entries of one answer.
const ENTRIES_MAX: u32 = 1024;

/// The last migrations, newest first.
pub(super) async fn history(context: Context, call: History) -> Result<HistoryReply, Error> {
    let limit = call.limit.min(ENTRIES_MAX);
    let wanted = call.domain.map(|domain| domain.uuid);
    // Of one domain, the answer is picked out of all.
    let read = if wanted.is_some() { u32::MAX } else { limit };
    let entries = context.host.store(move |store| store.history(read)).await?;
    let picked = entries.into_iter().filter(|entry| wanted.is_none_or(|uuid| uuid == entry.domain));
    let entries = picked.take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|entry| HistoryEntry {
        migration: entry.migration.to_be_bytes(),
        domain: entry.domain,
        name: entry.name,
        outgoing: entry.direction == Direction::Out,
        peer: entry.peer,
        started_ms: entry.started_ms,
        ended_ms: entry.ended_ms,
        result: entry.result,
        guarantee: entry.guarantee,
        statistics: entry.statistics.to_string(),
    });
    Ok(HistoryReply { entries: entries.collect() })
}

/// The operator says who has the guest. Only a migration in doubt can be told.
pub(super) async fn resolve(context: Context, call: Resolve) -> Result<(), Error> {
    let guest_is = if call.guest_is_here { GuestIs::Here } else { GuestIs::There };
    let handle = context.host.registry.by_uuid_or_gone(call.domain.uuid, &call.domain.name)?;
    tracing::warn!(domain = %call.domain.uuid, ?guest_is, "the operator resolves a doubt");
    handle.ask(|reply| Request::Resolve { guest_is, reply }).await
}
