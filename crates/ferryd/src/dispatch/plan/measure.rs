//! What a prediction is made of: how much of its memory a guest uses, how fast it writes to it, and what copies to the
//! same host took before.
//!
//! Called for a plan alone, never while a migration runs. QEMU samples some pages of the guest twice, a second apart
//! (`calc-dirty-rate`): it works with every accelerator, and the guest does not notice.

use std::fs;
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

/// Above this much resident memory the kernel takes too long over the map of it, bytes.
const MAPPED_MAX: u64 = 16 << 30;

/// QEMU's own memory beside the guest's, bytes: only where the map is not read.
const QEMU_ITSELF: u64 = 40 << 20;

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
    let looked = tokio::task::spawn_blocking(move || used(pid, total));
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
    // Somebody else may be measuring: then theirs is waited for, and told.
    let _ = monitor.execute(&command).await;
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

/// What of the guest's memory the host holds pages for, bytes. Memory that the guest has not touched has none.
fn used(pid: i32, total: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = resident(&status);
    let mapped = (resident < MAPPED_MAX)
        .then(|| fs::read_to_string(format!("/proc/{pid}/smaps")).ok())
        .flatten()
        .and_then(|map| of_blocks(&map, total));
    Some(mapped.unwrap_or_else(|| resident.saturating_sub(QEMU_ITSELF)).min(total))
}

/// Memory that the process fills, from the text of /proc/PID/status.
fn resident(status: &str) -> u64 {
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let parts = ["RssAnon:", "RssShmem:", "HugetlbPages:"].map(|key| kib(key).unwrap_or(0));
    parts.into_iter().fold(0, u64::saturating_add).saturating_mul(1024)
}

/// The resident part of the mapping that is the guest's memory, from the text of /proc/PID/smaps. What else is as large is
/// address space that QEMU keeps free. Several memory cells are several mappings: then it is not known which.
fn of_blocks(smaps: &str, total: u64) -> Option<u64> {
    // The kernel counts large pages of their own pool apart.
    let resident = |line: &str| {
        let keys = ["Rss:", "Shared_Hugetlb:", "Private_Hugetlb:"];
        let kib = keys.into_iter().find_map(|key| line.strip_prefix(key))?;
        kib.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let (mut one, mut most) = (None, None);
    for line in smaps.lines() {
        if let Some(size) = size_of_mapping(line) {
            one = (size == total).then_some(0_u64);
        } else if let (Some(sum), Some(bytes)) = (one, resident(line)) {
            one = Some(sum.saturating_add(bytes));
        }
        most = most.max(one);
    }
    most
}

/// Of a mapping's first line: `7f12c0000000-7f12d0000000 rw-p …`.
fn size_of_mapping(line: &str) -> Option<u64> {
    let (range, _) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    hex(end)?.checked_sub(hex(start)?)
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

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_guests_mapping_is_found_by_its_size() {
        let smaps = "55d0c0000000-55d0c0400000 r-xp 00000000 fe:00 1 /usr/bin/qemu\n\
                     Size:               4096 kB\nRss:                4000 kB\nPss:                4000 kB\n\
                     7f0000000000-7f0010000000 rw-p 00000000 00:00 0\n\
                     Size:             262144 kB\nKernelPageSize:        4 kB\nRss:               20480 kB\n\
                     7f1000000000-7f1010000000 ---p 00000000 00:00 0\n\
                     Size:             262144 kB\nRss:                   0 kB\n\
                     7f0010000000-7f0010001000 ---p 00000000 00:00 0\nSize: 4 kB\nRss: 0 kB\n";
        assert_eq!(of_blocks(smaps, 256 * MIB), Some(20 * MIB));
        assert_eq!(of_blocks(smaps, 512 * MIB), None);
        assert_eq!(of_blocks("nonsense\n-\n", 0), None);
        let large = "7f0000000000-7f0010000000 rw-s 00000000 00:10 7 /dev/hugepages/guest\nRss:                   0 kB\n\
                     Shared_Hugetlb:     8192 kB\nPrivate_Hugetlb:    2048 kB\n";
        assert_eq!(of_blocks(large, 256 * MIB), Some(10 * MIB));
        let status = "VmRSS:\t 900 kB\nRssAnon:\t  2048 kB\nRssFile:\t 5 kB\nRssShmem:\t 1024 kB\nHugetlbPages:\t 2048 kB\n";
        assert_eq!(resident(status), 5 * MIB);
    }

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
