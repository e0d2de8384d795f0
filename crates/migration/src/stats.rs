//! Job statistics: what QEMU's `query-migrate` and the clock add up to, and the three forms in which clients see
//! it (typed parameters of procedure 298 and event 363, the twelve fields of 163, the cookie).
//!
//! Called by the driver. The clock is an argument: milliseconds since 1970, this host's. Sizes are bytes.

use ferry_qmp::commands::progress::MigrationInfo;
use ferry_rpc::proto::DomainGetJobInfoReply;
use ferry_rpc::values::{JobOperation, JobType};
use ferry_rpc::{ParamValue, TypedParam};

/// What QEMU knows about a copy; the part of `query-migrate` that is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Memory; nothing before the copy has begun to count.
    pub memory: Option<Memory>,
    /// XBZRLE, when it is on.
    pub xbzrle: Option<Xbzrle>,
    /// Time that QEMU took for setting up, ms.
    pub setup_ms: Option<u64>,
    /// The pause: expected while it runs, the real one afterwards, ms.
    pub downtime_ms: Option<u64>,
    /// The whole copy by QEMU's own clock, ms.
    pub total_ms: Option<u64>,
    /// Percent of CPU time that auto-converge takes away; 0 when it takes none.
    pub throttle_percent: u64,
}

/// Memory of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Guest memory.
    pub total: u64,
    /// Sent.
    pub processed: u64,
    /// Still different.
    pub remaining: u64,
    /// Bytes per second.
    pub bps: u64,
    /// Pages of zeroes.
    pub constant: u64,
    /// Pages sent whole.
    pub normal: u64,
    /// The same in bytes.
    pub normal_bytes: u64,
    /// Pages that the guest dirties per second.
    pub dirty_rate: u64,
    /// Passes so far.
    pub iteration: u64,
    /// Pages that the destination asked for.
    pub postcopy_requests: u64,
    /// Bytes of a page.
    pub page_size: u64,
}

/// What XBZRLE achieves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Xbzrle {
    /// Bytes of the cache.
    pub cache: u64,
    /// Bytes sent in this form.
    pub bytes: u64,
    /// Pages sent in this form.
    pub pages: u64,
    /// Pages that were not in the cache.
    pub cache_misses: u64,
    /// Pages that did not get smaller.
    pub overflow: u64,
}

impl From<&MigrationInfo> for Progress {
    fn from(info: &MigrationInfo) -> Self {
        Self {
            memory: info.ram.as_ref().map(|ram| Memory {
                total: ram.total,
                processed: ram.transferred,
                remaining: ram.remaining,
                bps: bits_to_bytes(ram.mbps),
                constant: ram.duplicate,
                normal: ram.normal,
                normal_bytes: ram.normal_bytes,
                dirty_rate: ram.dirty_pages_rate,
                iteration: ram.dirty_sync_count,
                postcopy_requests: ram.postcopy_requests,
                page_size: ram.page_size,
            }),
            xbzrle: info.xbzrle_cache.as_ref().map(|cache| Xbzrle {
                cache: cache.cache_size,
                bytes: cache.bytes,
                pages: cache.pages,
                cache_misses: cache.cache_miss,
                overflow: cache.overflow,
            }),
            setup_ms: info.setup_time,
            downtime_ms: info.downtime.or(info.expected_downtime),
            total_ms: info.total_time,
            throttle_percent: info.cpu_throttle_percentage.map_or(0, u64::from),
        }
    }
}

/// QEMU counts megabits per second; a value that is none counts as nothing.
fn bits_to_bytes(mbps: f64) -> u64 {
    // A float to integer cast saturates, and turns what is not a number into 0.
    (mbps * 1_000_000.0 / 8.0) as u64
}

/// When the steps of a copy happened: ms since 1970, by the source's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The copy was started.
    pub started: u64,
    /// The guest was stopped for the last pass.
    pub stopped: Option<u64>,
    /// Perform's cookie was written.
    pub sent: Option<u64>,
}

/// How the two clocks and the way between them stand: now here, less what the cookie says was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(pub i64);

/// The statistics of one job, as they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobStats {
    /// Unbounded while it runs, completed afterwards.
    pub kind: JobType,
    /// Which job.
    pub operation: JobOperation,
    /// When its steps happened.
    pub timeline: Timeline,
    /// Since the start, ms.
    pub time_elapsed_ms: u64,
    /// The pause: expected or real, ms.
    pub downtime_ms: Option<u64>,
    /// Difference of clocks, contained in the two times above once the destination has computed them.
    pub delta: Option<Delta>,
    /// What QEMU knows.
    pub progress: Progress,
}

impl JobStats {
    /// A migration that has begun on the source at `now_ms`.
    pub fn started(now_ms: u64) -> Self {
        Self {
            kind: JobType::UNBOUNDED,
            operation: JobOperation::MIGRATION_OUT,
            timeline: Timeline { started: now_ms, stopped: None, sent: None },
            time_elapsed_ms: 0,
            downtime_ms: None,
            delta: None,
            progress: Progress::default(),
        }
    }

    /// The source's figures while the copy runs.
    #[must_use]
    pub fn running(mut self, progress: Progress, now_ms: u64) -> Self {
        self.time_elapsed_ms = now_ms.saturating_sub(self.timeline.started);
        self.downtime_ms = progress.downtime_ms;
        self.progress = progress;
        self
    }

    /// Notes that the guest was stopped for the last pass.
    #[must_use]
    pub fn stopped(mut self, now_ms: u64) -> Self {
        self.timeline.stopped = self.timeline.stopped.or(Some(now_ms));
        self
    }

    /// The source's figures when its copy has completed and Perform's cookie is written.
    #[must_use]
    pub fn sent(mut self, progress: Progress, now_ms: u64) -> Self {
        self = self.running(progress, now_ms);
        self.kind = JobType::COMPLETED;
        self.timeline.sent = Some(now_ms);
        if let Some(stopped) = self.timeline.stopped {
            self.downtime_ms = Some(now_ms.saturating_sub(stopped));
        }
        self
    }

    /// The destination's figures when it reads the source's cookie at `now_ms`: the difference of clocks.
    #[must_use]
    pub fn received(mut self, now_ms: u64) -> Self {
        self.operation = JobOperation::MIGRATION_IN;
        if let Some(sent) = self.timeline.sent {
            self.delta = Some(Delta(signed(now_ms).saturating_sub(signed(sent))));
        }
        self
    }

    /// The destination's figures once the guest runs: the whole time and the whole pause.
    #[must_use]
    pub fn arrived(mut self, now_ms: u64) -> Self {
        self.kind = JobType::COMPLETED;
        self.operation = JobOperation::MIGRATION_IN;
        self.time_elapsed_ms = now_ms.saturating_sub(self.timeline.started);
        if let Some(stopped) = self.timeline.stopped {
            self.downtime_ms = Some(now_ms.saturating_sub(stopped));
        }
        self
    }

    /// The source's figures completed by what the destination answered to Finish.
    #[must_use]
    pub fn completed_by(mut self, destination: &Self) -> Self {
        self.kind = JobType::COMPLETED;
        self.time_elapsed_ms = destination.time_elapsed_ms;
        self.downtime_ms = destination.downtime_ms;
        self.delta = destination.delta;
        self
    }

    /// The times less the difference of clocks: what really passed. Nothing while no difference is known, or when
    /// it is larger than the time.
    fn net(&self, time_ms: u64) -> Option<u64> {
        let delta = self.delta?.0;
        signed(time_ms).checked_sub(delta).filter(|net| *net >= 0).map(i64::unsigned_abs)
    }

    /// The parameters of procedure 298 and event 363, in stock's order.
    pub fn params(&self) -> Vec<TypedParam> {
        let memory = self.progress.memory.unwrap_or_default();
        let mut params = vec![TypedParam::new("operation", ParamValue::Int(self.operation.0))];
        let mut put = |name: &str, value: u64| params.push(TypedParam::new(name, ParamValue::ULLong(value)));
        put("time_elapsed", self.time_elapsed_ms);
        if self.kind == JobType::COMPLETED
            && let Some(net) = self.net(self.time_elapsed_ms)
        {
            put("time_elapsed_net", net);
        }
        if let Some(downtime) = self.downtime_ms {
            put("downtime", downtime);
            if self.kind == JobType::COMPLETED
                && let Some(net) = self.net(downtime)
            {
                put("downtime_net", net);
            }
        }
        if let Some(setup) = self.progress.setup_ms {
            put("setup_time", setup);
        }
        // Without storage copy the totals are those of memory.
        put("data_total", memory.total);
        put("data_processed", memory.processed);
        put("data_remaining", memory.remaining);
        put("memory_total", memory.total);
        put("memory_processed", memory.processed);
        put("memory_remaining", memory.remaining);
        if memory.bps > 0 {
            put("memory_bps", memory.bps);
        }
        if self.progress.memory.is_some() {
            put("memory_constant", memory.constant);
            put("memory_normal", memory.normal);
            put("memory_normal_bytes", memory.normal_bytes);
        }
        put("memory_dirty_rate", memory.dirty_rate);
        put("memory_iteration", memory.iteration);
        put("memory_postcopy_requests", memory.postcopy_requests);
        if memory.page_size > 0 {
            put("memory_page_size", memory.page_size);
        }
        put("disk_total", 0);
        put("disk_processed", 0);
        put("disk_remaining", 0);
        if let Some(xbzrle) = self.progress.xbzrle {
            put("compression_cache", xbzrle.cache);
            put("compression_bytes", xbzrle.bytes);
            put("compression_pages", xbzrle.pages);
            put("compression_cache_misses", xbzrle.cache_misses);
            put("compression_overflow", xbzrle.overflow);
        }
        if self.progress.throttle_percent > 0 {
            let percent = i32::try_from(self.progress.throttle_percent).unwrap_or(i32::MAX);
            params.push(TypedParam::new("auto_converge_throttle", ParamValue::Int(percent)));
        }
        params
    }

    /// The fields of procedure 163.
    pub fn info(&self) -> DomainGetJobInfoReply {
        let memory = self.progress.memory.unwrap_or_default();
        DomainGetJobInfoReply {
            kind: self.kind,
            time_elapsed: self.time_elapsed_ms,
            time_remaining: 0,
            data_total: memory.total,
            data_processed: memory.processed,
            data_remaining: memory.remaining,
            mem_total: memory.total,
            mem_processed: memory.processed,
            mem_remaining: memory.remaining,
            file_total: 0,
            file_processed: 0,
            file_remaining: 0,
        }
    }
}

/// What 163 answers when there is no job: all zero.
pub fn no_job() -> DomainGetJobInfoReply {
    DomainGetJobInfoReply {
        kind: JobType::NONE,
        time_elapsed: 0,
        time_remaining: 0,
        data_total: 0,
        data_processed: 0,
        data_remaining: 0,
        mem_total: 0,
        mem_processed: 0,
        mem_remaining: 0,
        file_total: 0,
        file_processed: 0,
        file_remaining: 0,
    }
}

/// Milliseconds since 1970 fit; a peer's nonsense saturates.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn copy() -> Progress {
        let info: MigrationInfo = serde_json::from_str(
            r#"{"status":"active","total-time":900,"setup-time":2,"expected-downtime":300,
                "ram":{"transferred":95447181,"remaining":4096,"total":206381056,"duplicate":27307,"normal":23127,
                "normal-bytes":94728192,"dirty-pages-rate":7,"mbps":1978.18,"dirty-sync-count":3,
                "postcopy-requests":0,"page-size":4096}}"#,
        )
        .unwrap();
        Progress::from(&info)
    }

    fn named(stats: &JobStats) -> BTreeMap<String, u64> {
        let number = |value: &ParamValue| match value {
            ParamValue::Int(value) => u64::try_from(*value).unwrap(),
            ParamValue::ULLong(value) => *value,
            other => panic!("{other:?}"),
        };
        stats.params().iter().map(|param| (param.name.clone(), number(&param.value))).collect()
    }

    #[test]
    fn just_started_shows_only_what_is_known() {
        let stats = JobStats::started(1_000).running(Progress::default(), 1_005);
        let names: Vec<_> = stats.params().into_iter().map(|param| param.name).collect();
        assert_eq!(
            names,
            [
                "operation",
                "time_elapsed",
                "data_total",
                "data_processed",
                "data_remaining",
                "memory_total",
                "memory_processed",
                "memory_remaining",
                "memory_dirty_rate",
                "memory_iteration",
                "memory_postcopy_requests",
                "disk_total",
                "disk_processed",
                "disk_remaining",
            ]
        );
    }

    #[test]
    fn running_shows_qemus_figures_and_the_expected_pause() {
        let stats = JobStats::started(1_000).running(copy(), 1_900);
        let params = named(&stats);
        assert_eq!(params["operation"], 5);
        assert_eq!((params["time_elapsed"], params["downtime"], params["setup_time"]), (900, 300, 2));
        assert_eq!(params["memory_bps"], 247_272_500);
        assert_eq!(params["data_total"], params["memory_total"]);
        assert!(!params.contains_key("downtime_net") && !params.contains_key("auto_converge_throttle"));
        let info = stats.info();
        assert_eq!((info.kind, info.mem_remaining, info.file_total), (JobType::UNBOUNDED, 4096, 0));
    }

    #[test]
    fn completed_has_the_real_pause_and_the_times_less_the_clocks_difference() {
        let source = JobStats::started(10_000).running(copy(), 10_100).stopped(10_100).sent(copy(), 10_115);
        assert_eq!((source.time_elapsed_ms, source.downtime_ms), (115, Some(15)));
        // The destination's clock is 8 ms ahead, the guest runs 7 ms later.
        let destination = source.received(10_123).arrived(10_130);
        assert_eq!((destination.time_elapsed_ms, destination.downtime_ms), (130, Some(30)));
        assert_eq!(destination.delta, Some(Delta(8)));
        let params = named(&destination);
        assert_eq!((params["operation"], params["time_elapsed_net"], params["downtime_net"]), (4, 122, 22));
        let source = source.completed_by(&destination);
        assert_eq!(named(&source)["downtime"], 30);
        assert_eq!(source.operation, JobOperation::MIGRATION_OUT);
    }

    #[test]
    fn clocks_that_are_far_apart_do_no_harm() {
        let mut source = JobStats::started(u64::MAX).sent(Progress::default(), 0);
        source.timeline.stopped = Some(u64::MAX);
        let destination = source.received(0).arrived(0);
        assert_eq!((destination.time_elapsed_ms, destination.downtime_ms), (0, Some(0)));
        assert!(!destination.params().is_empty());
        let behind = JobStats::started(5_000).sent(copy(), 5_100).received(4_000).arrived(4_010);
        assert_eq!((behind.delta, behind.time_elapsed_ms), (Some(Delta(-1_100)), 0));
        assert_eq!(named(&behind)["time_elapsed_net"], 1_100);
    }

    #[test]
    fn a_rate_that_is_no_number_counts_as_nothing() {
        assert_eq!(bits_to_bytes(f64::NAN), 0);
        assert_eq!(bits_to_bytes(-1.0), 0);
        assert_eq!(bits_to_bytes(f64::INFINITY), u64::MAX);
    }
}
