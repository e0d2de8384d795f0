//! How hard a copy tries: bandwidth and the pause that it aims for.
//!
//! Called by the driver before the copy and at each pass. Pure arithmetic; what the user set always wins.

/// Bytes per second that stand for "no limit": QEMU takes a signed 64-bit number.
const UNLIMITED: u64 = i64::MAX.unsigned_abs();

/// MiB/s that stand for "no limit", as clients read it: the same number in MiB.
pub const UNLIMITED_MIB: u64 = UNLIMITED >> 20;

/// QEMU's own downtime limit, ms: what a copy that does not converge is allowed in the end.
pub const DOWNTIME_MS_LAST: u64 = 300;

/// The pauses to aim for, ms: each for two passes. QEMU ends the copy with the first pass that fits, so a small
/// limit costs a guest that converges nothing, and one that does not is soon allowed more.
const DOWNTIME_MS: [u64; 4] = [20, 50, 100, DOWNTIME_MS_LAST];

/// Passes for which each aim is kept.
const PASSES_EACH: u64 = 2;

/// The downtime limit of a pass, ms. `user_ms` is what a client set; passes count from 1.
pub fn downtime_limit_ms(user_ms: Option<u64>, pass: u64) -> u64 {
    user_ms.unwrap_or_else(|| {
        let step = usize::try_from(pass.saturating_sub(1) / PASSES_EACH).unwrap_or(usize::MAX);
        DOWNTIME_MS.get(step).copied().unwrap_or(DOWNTIME_MS_LAST)
    })
}

/// QEMU's `max-bandwidth`, bytes per second: the call's own limit, else the one stored for the domain, else none.
pub fn max_bandwidth_bytes(call_mib: Option<u64>, stored_mib: Option<u64>) -> u64 {
    call_mib
        .filter(|mib| *mib > 0)
        .or(stored_mib)
        .map_or(UNLIMITED, |mib| mib.checked_mul(1 << 20).map_or(UNLIMITED, |bytes| bytes.min(UNLIMITED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_starts_small_and_ends_at_qemus_own() {
        let limits: Vec<_> = (1..=9).map(|pass| downtime_limit_ms(None, pass)).collect();
        assert_eq!(limits, [20, 20, 50, 50, 100, 100, 300, 300, 300]);
        assert_eq!(downtime_limit_ms(None, 0), 20);
        assert_eq!(downtime_limit_ms(None, u64::MAX), 300);
    }

    #[test]
    fn what_the_user_set_wins() {
        assert_eq!(downtime_limit_ms(Some(7), 9), 7);
        assert_eq!(max_bandwidth_bytes(Some(12), Some(3)), 12 << 20);
        assert_eq!(max_bandwidth_bytes(Some(0), Some(3)), 3 << 20);
    }

    #[test]
    fn no_limit_is_the_number_that_clients_know() {
        assert_eq!(UNLIMITED_MIB, 8_796_093_022_207);
        assert_eq!(max_bandwidth_bytes(None, None), UNLIMITED);
        assert_eq!(max_bandwidth_bytes(Some(u64::MAX), None), UNLIMITED);
    }
}
