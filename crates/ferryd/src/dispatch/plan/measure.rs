//! What a prediction is made of: how much of its memory a guest uses, how fast it writes to it, and what copies to the
//! same host took before.
//!
//! Called for a plan alone, never while a migration runs. QEMU samples some pages of the guest twice, a second apart
//! (`calc-dirty-rate`): it works with every accelerator, and the guest does not notice.

use std::time::Duration;

use ferry_migration::params::Request as Parameters;
use ferry_migration::policy::{DOWNTIME_MS_LAST, UNLIMITED_MIB};
use ferry_migration::predict::{Guest, Past, Wish};
use ferry_qmp::commands::dirty_rate::{CalcDirtyRate, DirtyRateStatus, QueryDirtyRate};
use ferry_rpc::error::Error;
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::values::DomainState;
use ferry_store::{Direction, HistoryEntry};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::memory;
use crate::driver::{Live, View};
use crate::host::Host;
use crate::perform::monitor::Monitor;

/// How long QEMU watches the guest, s: the least that every version takes.
const WATCH_S: u32 = 1;

/// How much longer it may take.
const WATCH_SLACK: Duration = Duration::from_secs(3);

/// Between two questions whether it is done.
const ASK_PAUSE: Duration = Duration::from_millis(10);

/// A block of memory below this is not sampled by QEMU.
const SAMPLED_MIN: u64 = 128 << 20;

/// Guests up to this size are sampled closely, bytes; QEMU reads 16 MiB of each GiB then.
const CLOSELY: u64 = 4 << 30;

/// Pages of each GiB that are sampled closely; the most that QEMU takes.
const CLOSE_PAGES: u32 = 4096;

/// Entries of the history that are looked through.
const HISTORY_MAX: u32 = 256;

/// The guest's processors run now.
pub(super) fn runs(view: &View) -> bool {
    matches!(view.state, DomainState::RUNNING | DomainState::BLOCKED)
}

/// The bandwidth that the copy is held to, bytes per second.
pub(super) fn bandwidth(parameters: &Parameters, view: &View) -> Option<u64> {
    let stored = Some(view.speed_mib_max).filter(|mib| *mib > 0 && *mib < UNLIMITED_MIB);
    parameters.bandwidth_mib.or(stored).map(|mib| mib.saturating_mul(1 << 20))
}

/// What the user wishes.
pub(super) fn wish(parameters: &Parameters, view: &View, bandwidth: Option<u64>) -> Wish {
    let has = |flag| parameters.flags.contains(flag);
    Wish {
        live: has(MigrateFlags::LIVE),
        postcopy: has(MigrateFlags::POSTCOPY),
        auto_converge: has(MigrateFlags::AUTO_CONVERGE),
        bandwidth,
        downtime_ms: Some(view.downtime_ms_max).filter(|ms| *ms != DOWNTIME_MS_LAST),
    }
}

/// Measures a guest. Takes a second while it runs.
///
/// # Errors
/// Why it cannot be measured, for people.
pub(super) async fn guest(live: &Live, runs: bool) -> Result<Guest, String> {
    let total = live.domain.memory.kib.saturating_mul(1024);
    let pid = live.process.identity().pid;
    let measured = async { if runs { dirty_rate(&live.monitor, total).await } else { Some(0) } };
    let looked = tokio::task::spawn_blocking(move || memory::used(pid, total));
    let (dirty, used) = tokio::join!(measured, looked);
    let used = used.ok().flatten().ok_or("the guest's memory cannot be looked at")?;
    Ok(Guest { total, used, dirty, runs })
}

/// Bytes per second; `None` when QEMU does not say.
async fn dirty_rate(monitor: &Monitor, total: u64) -> Option<u64> {
    if total < SAMPLED_MIN {
        return None;
    }
    let sample_pages = (total <= CLOSELY).then_some(CLOSE_PAGES);
    let command = CalcDirtyRate { calc_time: WATCH_S, sample_pages, mode: None };
    if monitor.execute(&command).await.is_err() {
        // Somebody else may be measuring: then theirs is waited for, and told. An older one tells nothing of now.
        let found = monitor.execute(&QueryDirtyRate).await.ok()?;
        (found.status == DirtyRateStatus::Measuring).then_some(())?;
    }
    let patience = Instant::now() + Duration::from_secs(WATCH_S.into()) + WATCH_SLACK;
    sleep(Duration::from_secs(WATCH_S.into())).await;
    loop {
        let found = monitor.execute(&QueryDirtyRate).await.ok()?;
        match found.status {
            DirtyRateStatus::Measured => return found.dirty_rate.map(|mib| mib.saturating_mul(1 << 20)),
            DirtyRateStatus::Unstarted => return None,
            _ if Instant::now() > patience => return None,
            _ => sleep(ASK_PAUSE).await,
        }
    }
}

/// Past copies from this host to the host `destination`, newest first.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn past(host: &Host, destination: Uuid) -> Result<Vec<Past>, Error> {
    let entries = host.store(|store| store.history(HISTORY_MAX)).await?;
    Ok(entries.iter().filter_map(|entry| copy(entry, destination)).collect())
}

fn copy(entry: &HistoryEntry, destination: Uuid) -> Option<Past> {
    let figures = &entry.statistics;
    let number = |name: &str| figures.get(name).and_then(Value::as_u64);
    let there = figures.get("peer_host").and_then(Value::as_str) == Some(&destination.to_string());
    (there && entry.direction == Direction::Out && entry.result == "moved").then_some(())?;
    Some(Past {
        copy_ms: number("copy_ms")?,
        pause_ms: number("downtime_ms"),
        total: number("memory_total")?,
        sent: number("memory_processed")?,
        limited: figures.get("limited").and_then(Value::as_bool).unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_copies_to_that_host_that_came_to_their_end_count() {
        let there = Uuid::from_u128(7);
        let entry = HistoryEntry {
            migration: 1,
            domain: Uuid::from_u128(1),
            name: "vm".to_owned(),
            direction: Direction::Out,
            peer: "tcp:h2:49152".to_owned(),
            started_ms: 1,
            ended_ms: Some(2),
            result: "moved".to_owned(),
            guarantee: "proven".to_owned(),
            statistics: json!({
                "copy_ms": 100, "downtime_ms": 9, "memory_total": 5, "memory_processed": 4,
                "peer_host": there.to_string(), "limited": true,
            }),
        };
        let expected = Past { copy_ms: 100, pause_ms: Some(9), total: 5, sent: 4, limited: true };
        assert_eq!(copy(&entry, there), Some(expected));
        assert_eq!(copy(&entry, Uuid::from_u128(8)), None);
        assert_eq!(copy(&HistoryEntry { direction: Direction::In, ..entry.clone() }, there), None);
        assert_eq!(copy(&HistoryEntry { result: "stayed: x".to_owned(), ..entry.clone() }, there), None);
        assert_eq!(copy(&HistoryEntry { statistics: json!({}), ..entry }, there), None, "of an older daemon");
    }
}
