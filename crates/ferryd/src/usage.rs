//! What a QEMU has used of its host, as /proc shows it.
//!
//! [`crate::dispatch`] asks, for statistics; nothing is remembered between two questions. What is not there is
//! `None`, what a kernel does not count is 0, and neither is an error: statistics with a gap are better than none.

use std::fs;
use std::path::Path;

/// What a process has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    /// CPU time in nanoseconds, in user mode and in the kernel.
    pub(crate) user_ns: u64,
    pub(crate) system_ns: u64,
    /// Memory that it holds now, in KiB.
    pub(crate) rss_kib: u64,
}

/// What a thread has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ThreadUsage {
    /// CPU time in nanoseconds.
    pub(crate) time_ns: u64,
    /// The host's processor that it was on last.
    pub(crate) cpu: i32,
    /// Nanoseconds for which it could have run and no processor was free, as two parts of the kernel count them; 0 from a
    /// kernel that does not.
    pub(crate) wait_ns: u64,
    pub(crate) delay_ns: u64,
}

/// What a network device has carried, in the order of /proc/net/dev.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

impl ProcessUsage {
    /// Of process `pid`; `None` when it has gone.
    pub(crate) fn of(pid: i32) -> Option<ProcessUsage> {
        let stat = Stat::read(Path::new(&format!("/proc/{pid}/stat")))?;
        let page_kib = u64::try_from(rustix::param::page_size() / 1024).unwrap_or(4);
        Some(ProcessUsage {
            user_ns: stat.ticks_ns(14)?,
            system_ns: stat.ticks_ns(15)?,
            rss_kib: stat.number(24)?.saturating_mul(page_kib),
        })
    }
}

impl ThreadUsage {
    /// Of one thread of process `pid`; `None` when it has gone.
    pub(crate) fn of(pid: i32, thread: i32) -> Option<ThreadUsage> {
        let folder = format!("/proc/{pid}/task/{thread}");
        let stat = Stat::read(Path::new(&format!("{folder}/stat")))?;
        Some(ThreadUsage {
            time_ns: stat.ticks_ns(14)?.saturating_add(stat.ticks_ns(15)?),
            cpu: i32::try_from(stat.number(39)?).ok()?,
            wait_ns: wait_ns(&fs::read_to_string(format!("{folder}/sched")).unwrap_or_default()).unwrap_or(0),
            delay_ns: delay_ns(&fs::read_to_string(format!("{folder}/schedstat")).unwrap_or_default())
                .unwrap_or(0),
        })
    }
}

/// Nanoseconds for which KVM has polled for process `pid` instead of putting a processor to sleep: those in which something
/// came, and those in which nothing did. 0 where the kernel's debug files do not show it.
pub(crate) fn halt_poll_ns(pid: i32) -> (u64, u64) {
    let guests = fs::read_dir("/sys/kernel/debug/kvm").into_iter().flatten().flatten();
    let own = format!("{pid}-");
    let folder = guests.map(|entry| entry.path()).find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&own))
    });
    let read = |name: &str| {
        let text = fs::read_to_string(folder.as_ref()?.join(name)).ok()?;
        text.trim().parse().ok()
    };
    (read("halt_poll_success_ns").unwrap_or(0), read("halt_poll_fail_ns").unwrap_or(0))
}

/// What network device `name` has received and sent; `None` when there is no such device.
pub(crate) fn traffic(name: &str) -> Option<(Traffic, Traffic)> {
    traffic_in(&fs::read_to_string("/proc/net/dev").ok()?, name)
}

/// A line of proc(5)'s stat, its fields counted from 1. The name, field 2, may hold blanks and brackets.
struct Stat {
    after_name: String,
}

impl Stat {
    fn read(path: &Path) -> Option<Stat> {
        let text = fs::read_to_string(path).ok()?;
        let (_, after_name) = text.rsplit_once(')')?;
        Some(Stat { after_name: after_name.to_owned() })
    }

    fn number(&self, field: usize) -> Option<u64> {
        self.after_name.split_ascii_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
    }

    fn ticks_ns(&self, field: usize) -> Option<u64> {
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Some(self.number(field)?.saturating_mul(tick_ns))
    }
}

/// `wait_sum` of a thread's sched file, milliseconds with six decimals; its name was longer once.
fn wait_ns(sched: &str) -> Option<u64> {
    let (_, value) = sched.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        ["wait_sum", "se.statistics.wait_sum"].contains(&name.trim()).then_some((name, value))
    })?;
    let (whole, part) = value.trim().split_once('.').unwrap_or((value.trim(), "0"));
    let part = format!("{part:0<6}");
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part.get(..6)?.parse().ok()?)
}

/// The second of three: time on a processor, time waiting for one, slices.
fn delay_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn traffic_in(table: &str, name: &str) -> Option<(Traffic, Traffic)> {
    let line = table.lines().find_map(|line| {
        let (device, counters) = line.split_once(':')?;
        (device.trim() == name).then_some(counters)
    })?;
    let counters: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let way = |at: usize| {
        let [bytes, packets, errors, dropped] = *counters.get(at..at + 4)? else { return None };
        Some(Traffic { bytes, packets, errors, dropped })
    };
    Some((way(0)?, way(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_threads_are_found_and_missing_ones_are_not() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(ProcessUsage::of(pid).unwrap().rss_kib > 0);
        assert!(ThreadUsage::of(pid, pid).unwrap().cpu >= 0);
        assert_eq!(ThreadUsage::of(pid, 1), None);
        assert_eq!(ProcessUsage::of(-1), None);
    }

    #[test]
    fn waiting_is_read_from_old_and_new_kernels() {
        let new = "qemu (1, #threads: 3)\n----\nnr_switches    :   5\nwait_sum        :        212.000692\n";
        assert_eq!(wait_ns(new), Some(212_000_692));
        assert_eq!(wait_ns("se.statistics.wait_sum : 1.5\n"), Some(1_500_000));
        assert_eq!(wait_ns("wait_max : 1.5\n"), None);
        assert_eq!((delay_ns("5 213000692 7\n"), delay_ns("")), (Some(213_000_692), None));
    }

    #[test]
    fn a_device_has_its_own_line() {
        let table = "Inter-|   Receive                     |  Transmit\n face |bytes    packets errs ...\n\
                     lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  vnet1:  90 1 0 0 0 0 0 0 70 2 3 4 0 0 0 0\n";
        let (received, sent) = traffic_in(table, "vnet1").unwrap();
        assert_eq!(received, Traffic { bytes: 90, packets: 1, errors: 0, dropped: 0 });
        assert_eq!(sent, Traffic { bytes: 70, packets: 2, errors: 3, dropped: 4 });
        assert_eq!(traffic_in(table, "vnet"), None);
    }
}
