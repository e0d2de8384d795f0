//! Threads of QEMU that serve disks, and its main loop.

use super::Builder;
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
    }
}

/// The name of a thread in QEMU.
pub(super) fn iothread_name(number: u32) -> String {
    format!("iothread{number}")
}
