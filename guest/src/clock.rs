//! The guest's clocks, in microseconds. Every part asks here; nothing here waits except [`sleep_until_us`].

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Microseconds since the guest booted. Stands still while the guest is stopped.
pub(crate) fn monotonic_us() -> u64 {
    read(ClockId::Monotonic)
}

/// Microseconds since 1970, by the guest's own idea of the time.
pub(crate) fn real_us() -> u64 {
    read(ClockId::Realtime)
}

/// Sleeps until [`monotonic_us`] has reached `at`.
pub(crate) fn sleep_until_us(at: u64) {
    let request = Timespec { tv_sec: (at / 1_000_000) as i64, tv_nsec: (at % 1_000_000 * 1000) as i64 };
    while clock_nanosleep_absolute(ClockId::Monotonic, &request) == Err(rustix::io::Errno::INTR) {}
}

fn read(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}
