//! Memory of a guest as its balloon reports it, and of its QEMU.

use ferry_domxml::BalloonModel;
use ferry_qmp::commands::device::QomGet;
use ferry_qmp::commands::guest::QueryBalloon;
use serde_json::Value;

use super::{Values, is_refusal};
use crate::driver::{Live, View};
use crate::perform::monitor::MonitorError;
use crate::usage::ProcessUsage;

/// One kind of memory statistics.
pub(super) struct Kind {
    /// The number on the wire (`VIR_DOMAIN_MEMORY_STAT_*`).
    pub(super) tag: i32,
    /// The name among bulk statistics, behind `balloon.`.
    name: &'static str,
    /// The balloon's name of it; `None` for what does not come from the guest.
    property: Option<&'static str>,
    /// How many of the balloon's units make one of ours.
    unit: u64,
}

const fn guest(tag: i32, name: &'static str, property: &'static str, unit: u64) -> Kind {
    Kind { tag, name, property: Some(property), unit }
}

/// What the guest counts for the balloon, in the order in which stock lists it. Sizes are KiB on the wire.
const OF_GUEST: &[Kind] = &[
    guest(0, "swap_in", "stat-swap-in", 1024),
    guest(1, "swap_out", "stat-swap-out", 1024),
    guest(2, "major_fault", "stat-major-faults", 1),
    guest(3, "minor_fault", "stat-minor-faults", 1),
    guest(4, "unused", "stat-free-memory", 1024),
    guest(5, "available", "stat-total-memory", 1024),
    guest(8, "usable", "stat-available-memory", 1024),
    guest(9, "last-update", LAST_UPDATE, 1),
    guest(10, "disk_caches", "stat-disk-caches", 1024),
    guest(11, "hugetlb_pgalloc", "stat-htlb-pgalloc", 1),
    guest(12, "hugetlb_pgfail", "stat-htlb-pgfail", 1),
];

/// When the guest counted, seconds since 1970; not one of the counters themselves.
const LAST_UPDATE: &str = "last-update";

/// What the balloon leaves the guest.
pub(super) const ACTUAL: Kind = Kind { tag: 6, name: "current", property: None, unit: 1 };

/// What QEMU holds of the host's memory.
pub(super) const RSS: Kind = Kind { tag: 7, name: "rss", property: None, unit: 1 };

/// The balloon group of the bulk statistics.
pub(super) async fn balloon(view: &View, values: &mut Values) {
    let Some(domain) = view.current() else { return };
    let maximum = domain.memory.kib;
    values.put("balloon.current", domain.current_memory.map_or(maximum, |current| current.kib));
    values.put("balloon.maximum", maximum);
    let Some(live) = &view.live else { return };
    for (kind, value) in of_guest(live).await.unwrap_or_default() {
        values.put(format!("balloon.{}", kind.name), value);
    }
    let usage = ProcessUsage::of(live.process.identity().pid);
    values.put_some("balloon.rss", usage.map(|usage| usage.rss_kib));
}

/// What the balloon leaves the guest, in KiB; `None` without a balloon.
///
/// # Errors
/// QEMU does not answer.
pub(super) async fn actual_kib(live: &Live) -> Result<Option<u64>, MonitorError> {
    if alias(live).is_none() {
        return Ok(None);
    }
    match live.monitor.execute(&QueryBalloon).await {
        Ok(info) => Ok(Some(info.actual / 1024)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the guest has counted; nothing without a balloon, or from a guest that does not serve it.
///
/// # Errors
/// QEMU does not answer.
pub(super) async fn of_guest(live: &Live) -> Result<Vec<(&'static Kind, u64)>, MonitorError> {
    let Some(alias) = alias(live) else { return Ok(Vec::new()) };
    let ask = QomGet { path: format!("/machine/peripheral/{alias}"), property: "guest-stats".to_owned() };
    match live.monitor.execute(&ask).await {
        Ok(counters) => Ok(read(&counters)),
        Err(error) if is_refusal(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn alias(live: &Live) -> Option<&str> {
    let balloon = live.domain.devices.memballoon.as_ref()?;
    balloon.info.alias.as_deref().filter(|_| balloon.model != BalloonModel::None)
}

fn read(counters: &Value) -> Vec<(&'static Kind, u64)> {
    let value = |kind: &Kind| {
        let value = match kind.property? {
            LAST_UPDATE => counters.get(LAST_UPDATE)?,
            property => counters.get("stats")?.get(property)?,
        };
        // All bits set: the guest does not count this.
        value.as_u64().filter(|value| *value != u64::MAX).map(|value| value / kind.unit)
    };
    OF_GUEST.iter().filter_map(|kind| Some((kind, value(kind)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counters_that_the_guest_does_not_keep_are_left_out() {
        let counters = json!({
            "stats": {"stat-swap-in": 0, "stat-free-memory": 4096, "stat-major-faults": 7,
                      "stat-swap-out": u64::MAX, "stat-available-memory": -1},
            "last-update": 1_700_000_000
        });
        let read: Vec<_> = read(&counters).into_iter().map(|(kind, value)| (kind.name, value)).collect();
        assert_eq!(read, [("swap_in", 0), ("major_fault", 7), ("unused", 4), ("last-update", 1_700_000_000)]);
        assert!(super::read(&json!({})).is_empty());
    }
}
