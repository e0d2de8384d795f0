//! The `<statistics>` element: which figure has which name. Called by the two halves of the cookie codec.

use ferry_rpc::values::{JobOperation, JobType};

use crate::stats::{Delta, JobStats, Memory, Progress, Timeline, Xbzrle};

/// Name and value of every figure, in stock's order.
pub(super) fn fields(stats: &JobStats) -> Vec<(&'static str, i128)> {
    let memory = stats.progress.memory.unwrap_or_default();
    let mut fields = vec![("started", i128::from(stats.timeline.started))];
    let mut put = |name, value: Option<u64>| fields.extend(value.map(|value| (name, i128::from(value))));
    put("stopped", stats.timeline.stopped);
    put("sent", stats.timeline.sent);
    fields.extend(stats.delta.map(|delta| ("delta", i128::from(delta.0))));
    let mut put = |name, value: Option<u64>| fields.extend(value.map(|value| (name, i128::from(value))));
    put("time_elapsed", Some(stats.time_elapsed_ms));
    put("downtime", stats.downtime_ms);
    put("setup_time", stats.progress.setup_ms);
    put("memory_total", Some(memory.total));
    put("memory_processed", Some(memory.processed));
    put("memory_remaining", Some(memory.remaining));
    put("memory_bps", Some(memory.bps));
    put("memory_constant", Some(memory.constant));
    put("memory_normal", Some(memory.normal));
    put("memory_normal_bytes", Some(memory.normal_bytes));
    put("memory_dirty_rate", Some(memory.dirty_rate));
    put("memory_iteration", Some(memory.iteration));
    put("memory_postcopy_requests", Some(memory.postcopy_requests));
    put("memory_page_size", Some(memory.page_size));
    for name in ["disk_total", "disk_processed", "disk_remaining", "disk_bps"] {
        put(name, Some(0));
    }
    if let Some(xbzrle) = stats.progress.xbzrle {
        put("compression_cache", Some(xbzrle.cache));
        put("compression_bytes", Some(xbzrle.bytes));
        put("compression_pages", Some(xbzrle.pages));
        put("compression_cache_misses", Some(xbzrle.cache_misses));
        put("compression_overflow", Some(xbzrle.overflow));
    }
    put("auto_converge_throttle", Some(stats.progress.throttle_percent));
    fields
}

/// The statistics whose figures `value` yields by name. What is missing or no number counts as not given.
pub(super) fn from_fields(value: impl Fn(&str) -> Option<i64>) -> JobStats {
    let number = |name: &str| value(name).and_then(|value| u64::try_from(value).ok());
    let or_zero = |name: &str| number(name).unwrap_or(0);
    JobStats {
        kind: JobType::COMPLETED,
        operation: JobOperation::MIGRATION_OUT,
        timeline: Timeline {
            started: or_zero("started"),
            stopped: number("stopped").filter(|ms| *ms > 0),
            sent: number("sent").filter(|ms| *ms > 0),
        },
        time_elapsed_ms: or_zero("time_elapsed"),
        downtime_ms: number("downtime"),
        delta: value("delta").map(Delta),
        progress: Progress {
            memory: number("memory_total").map(|total| Memory {
                total,
                processed: or_zero("memory_processed"),
                remaining: or_zero("memory_remaining"),
                bps: or_zero("memory_bps"),
                constant: or_zero("memory_constant"),
                normal: or_zero("memory_normal"),
                normal_bytes: or_zero("memory_normal_bytes"),
                dirty_rate: or_zero("memory_dirty_rate"),
                iteration: or_zero("memory_iteration"),
                postcopy_requests: or_zero("memory_postcopy_requests"),
                page_size: or_zero("memory_page_size"),
            }),
            xbzrle: number("compression_cache").map(|cache| Xbzrle {
                cache,
                bytes: or_zero("compression_bytes"),
                pages: or_zero("compression_pages"),
                cache_misses: or_zero("compression_cache_misses"),
                overflow: or_zero("compression_overflow"),
            }),
            setup_ms: number("setup_time"),
            downtime_ms: number("downtime"),
            total_ms: None,
            throttle_percent: or_zero("auto_converge_throttle"),
        },
    }
}
