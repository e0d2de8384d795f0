//! The heartbeat: a numbered line every period, from a thread that goes before all others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use rustix::process::setpriority_process;

use crate::clock;
use crate::console::Console;

/// How far the real and the monotonic clock may drift apart between two beats, microseconds.
const CLOCK_JUMP_US: u64 = 100_000;

/// What other threads may ask or set.
pub(crate) struct Beat {
    period_us: AtomicU64,
    sequence: AtomicU64,
    gap_us_max: AtomicU64,
}

impl Beat {
    /// Sets the period, microseconds; less than 200 is taken as 200.
    pub(crate) fn set_period_us(&self, period_us: u64) {
        self.period_us.store(period_us.max(200), Relaxed);
    }

    /// The number of the last beat.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.load(Relaxed)
    }

    /// The longest time between two beats by the guest's own clock, microseconds.
    pub(crate) fn gap_us_max(&self) -> u64 {
        self.gap_us_max.load(Relaxed)
    }
}

/// Starts the thread.
pub(crate) fn start(console: Arc<Console>, period_us: u64) -> io::Result<Arc<Beat>> {
    let beat = Arc::new(Beat {
        period_us: AtomicU64::new(period_us),
        sequence: AtomicU64::new(0),
        gap_us_max: AtomicU64::new(0),
    });
    let shared = Arc::clone(&beat);
    thread::Builder::new().name("beat".into()).spawn(move || run(&console, &shared))?;
    Ok(beat)
}

fn run(console: &Console, beat: &Beat) {
    let _ = setpriority_process(None, -20);
    let mut due = clock::monotonic_us();
    let mut last = due;
    let mut offset = clock::real_us().wrapping_sub(due);
    loop {
        clock::sleep_until_us(due);
        let now = clock::monotonic_us();
        let sequence = beat.sequence.load(Relaxed) + 1;
        beat.sequence.store(sequence, Relaxed);
        console.say(format_args!("beat seq={sequence} t={now}"));
        beat.gap_us_max.fetch_max(now - last, Relaxed);

        let new_offset = clock::real_us().wrapping_sub(clock::monotonic_us());
        let jump = new_offset.wrapping_sub(offset) as i64;
        if jump.unsigned_abs() > CLOCK_JUMP_US {
            console.say(format_args!("anomaly kind=clock jump_us={jump} t={now}"));
        }
        offset = new_offset;
        last = now;
        // Late is late: beats that were due meanwhile are not made up for.
        let period = beat.period_us.load(Relaxed);
        due = if now > due + period { now + period } else { due + period };
    }
}
