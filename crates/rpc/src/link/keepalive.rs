//! When to ping, and when to give up.
//!
//! ```text
//!   heard ──interval──▶ ping 1 ──interval──▶ … ping count ──interval──▶ dead
//!     ▲───────────────── any frame ────────────────│
//! ```

use std::time::{Duration, Instant};

/// How silence is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How long nothing may come before a ping is sent.
    pub interval: Duration,
    /// How many pings may stay unanswered. The end comes after interval x (count + 1).
    pub count: u32,
}

impl Keepalive {
    /// What stock daemons use, towards their clients and as source of a peer-to-peer migration.
    pub const DAEMON: Self = Self { interval: Duration::from_secs(5), count: 5 };
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wait,
    Ping,
    Dead,
}

/// The state of one side.
#[derive(Debug)]
pub(crate) struct Timer {
    keepalive: Keepalive,
    deadline: Instant,
    unanswered: u32,
}

impl Timer {
    pub(crate) fn new(now: Instant, keepalive: Keepalive) -> Self {
        Self { keepalive, deadline: now + keepalive.interval, unanswered: 0 }
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.deadline = now + self.keepalive.interval;
        self.unanswered = 0;
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Verdict {
        if now < self.deadline {
            Verdict::Wait
        } else if self.unanswered < self.keepalive.count {
            self.unanswered += 1;
            self.deadline = now + self.keepalive.interval;
            Verdict::Ping
        } else {
            Verdict::Dead
        }
    }
}
