//! Threads of QEMU that serve disks, its main loop, and limits that disks share.

use ferry_domxml::throttle::Limits;

use super::Builder;
use crate::blockgraph::throttle_group;
use crate::props::Props;

impl Builder<'_> {
    pub(super) fn iothreads(&mut self) {
        let listed = self.domain.iothread_ids.as_ref().map_or(&[][..], |ids| &ids.threads);
        for number in self.domain.iothread_numbers() {
            let thread = listed.iter().find(|thread| thread.id == number);
            let poll = thread.and_then(|thread| thread.poll.as_ref());
            let props = Props::object("iothread", iothread_name(number))
                .with_some("thread-pool-min", thread.and_then(|thread| thread.pool_min))
                .with_some("thread-pool-max", thread.and_then(|thread| thread.pool_max))
                .with_some("poll-max-ns", poll.and_then(|poll| poll.max_ns))
                .with_some("poll-grow", poll.and_then(|poll| poll.grow))
                .with_some("poll-shrink", poll.and_then(|poll| poll.shrink));
            self.option("-object", props);
        }
        if let Some(main_loop) = &self.domain.default_iothread {
            let props = Props::object("main-loop", "main-loop")
                .with_some("thread-pool-min", main_loop.pool_min)
                .with_some("thread-pool-max", main_loop.pool_max);
            self.option("-object", props);
        }
        for group in self.domain.throttle_groups.iter().flat_map(|groups| &groups.groups) {
            self.option("-object", throttle_group_object(group));
        }
    }
}

/// A throttle group as an object: what is not limited is 0.
fn throttle_group_object(group: &Limits) -> Props {
    let name = group.group_name.as_deref().unwrap_or_default();
    Props::object("throttle-group", throttle_group(name)).with("limits", throttle_limits(group))
}

/// The numbers of a throttle group, in QEMU's words. The length of a burst is said only when it is given.
fn throttle_limits(group: &Limits) -> Props {
    let number = |number: Option<u64>| number.unwrap_or(0);
    Props::new()
        .with("bps-total", number(group.total_bytes_sec))
        .with("bps-read", number(group.read_bytes_sec))
        .with("bps-write", number(group.write_bytes_sec))
        .with("iops-total", number(group.total_iops_sec))
        .with("iops-read", number(group.read_iops_sec))
        .with("iops-write", number(group.write_iops_sec))
        .with("bps-total-max", number(group.total_bytes_sec_max))
        .with("bps-read-max", number(group.read_bytes_sec_max))
        .with("bps-write-max", number(group.write_bytes_sec_max))
        .with("iops-total-max", number(group.total_iops_sec_max))
        .with("iops-read-max", number(group.read_iops_sec_max))
        .with("iops-write-max", number(group.write_iops_sec_max))
        .with("iops-size", number(group.size_iops_sec))
        .with_some("bps-total-max-length", group.total_bytes_sec_max_length)
        .with_some("bps-read-max-length", group.read_bytes_sec_max_length)
        .with_some("bps-write-max-length", group.write_bytes_sec_max_length)
        .with_some("iops-total-max-length", group.total_iops_sec_max_length)
        .with_some("iops-read-max-length", group.read_iops_sec_max_length)
        .with_some("iops-write-max-length", group.write_iops_sec_max_length)
}

/// The name of a thread in QEMU.
pub(super) fn iothread_name(number: u32) -> String {
    format!("iothread{number}")
}
