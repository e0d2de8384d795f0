//! Dirties memory at the commanded rate, and never stops verifying it.
//!
//! The generation of each page is kept twice, in the page and in a table elsewhere, so that a page that a migration
//! brought in an older state does not agree with the table.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::setpriority_process;

use crate::clock;
use crate::console::Console;
use crate::page::{self, Damage, PAGE_SIZE, Page, WORDS};

/// How often a share of the work is done, microseconds.
const TICK_US: u64 = 5_000;

/// Pages that each tick verifies whatever the rate is.
const SWEEP: usize = 16;

/// Damaged pages that are reported one by one; the rest only count.
const REPORTS_MAX: u64 = 20;

/// What other threads may ask or set.
pub(crate) struct Memory {
    rate: AtomicU64,
    dirtied: AtomicU64,
    damaged: AtomicU64,
    set: Mutex<WorkingSet>,
}

struct WorkingSet {
    pages: Vec<Page>,
    generations: Vec<u64>,
    next_dirty: usize,
    next_sweep: usize,
}

impl Memory {
    /// Sets the rate, MiB/s.
    pub(crate) fn set_rate(&self, mib_per_s: u64) {
        self.rate.store(mib_per_s, Relaxed);
    }

    /// The rate that is asked for, MiB/s.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.load(Relaxed)
    }

    /// Pages written since the start.
    pub(crate) fn dirtied(&self) -> u64 {
        self.dirtied.load(Relaxed)
    }

    /// Pages that were found not to be what was written, each time they were looked at.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Relaxed)
    }

    /// Verifies every page. Gives how many there are and how many are damaged.
    pub(crate) fn check(&self, console: &Console) -> (usize, usize) {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let bad = (0..set.pages.len()).filter(|&index| !self.whole(console, &set, index)).count();
        (set.pages.len(), bad)
    }

    fn tick(&self, console: &Console, pages: usize) {
        let mut guard = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let set = &mut *guard;
        let count = set.pages.len();
        for _ in 0..pages {
            let index = set.next_dirty;
            set.next_dirty = (index + 1) % count;
            self.whole(console, set, index);
            set.generations[index] += 1;
            page::fill(&mut set.pages[index], index as u64, set.generations[index]);
        }
        for _ in 0..SWEEP.min(count) {
            let index = set.next_sweep;
            set.next_sweep = (index + 1) % count;
            self.whole(console, set, index);
        }
        self.dirtied.fetch_add(pages as u64, Relaxed);
    }

    fn whole(&self, console: &Console, set: &WorkingSet, index: usize) -> bool {
        let generation = set.generations[index];
        let Err(damage) = page::verify(&set.pages[index], index as u64, generation) else { return true };
        if self.damaged.fetch_add(1, Relaxed) < REPORTS_MAX {
            report(console, "memory", index, generation, damage);
        }
        false
    }
}

/// Says what is wrong with a page or a block.
pub(crate) fn report(console: &Console, kind: &str, index: usize, generation: u64, damage: Damage) {
    console.say(format_args!(
        "anomaly kind={kind} index={index} generation={generation} damage={:?}",
        format!("{damage:?}")
    ));
}

/// Fills the working set of `mib` MiB (at least one page) and starts the thread.
pub(crate) fn start(console: Arc<Console>, mib: usize, rate: u64) -> io::Result<Arc<Memory>> {
    let count = (mib * 1024 * 1024 / PAGE_SIZE).max(1);
    let mut pages = vec![[0; WORDS]; count];
    for (index, page) in pages.iter_mut().enumerate() {
        page::fill(page, index as u64, 1);
    }
    let memory = Arc::new(Memory {
        rate: AtomicU64::new(rate),
        dirtied: AtomicU64::new(0),
        damaged: AtomicU64::new(0),
        set: Mutex::new(WorkingSet { pages, generations: vec![1; count], next_dirty: 0, next_sweep: 0 }),
    });
    let shared = Arc::clone(&memory);
    thread::Builder::new().name("memory".into()).spawn(move || run(&console, &shared))?;
    Ok(memory)
}

fn run(console: &Console, memory: &Memory) {
    let _ = setpriority_process(None, 10);
    let mut pace = Pace::new(clock::monotonic_us());
    loop {
        clock::sleep_until_us(clock::monotonic_us() + TICK_US);
        memory.tick(console, pace.pages_due(clock::monotonic_us(), memory.rate()));
    }
}

/// Turns a rate into a number of pages per tick, carrying the remainder over.
pub(crate) struct Pace {
    last_us: u64,
    /// Bytes owed times 10^6, less than a page's worth after each step.
    owed: u64,
}

impl Pace {
    pub(crate) fn new(now_us: u64) -> Self {
        Self { last_us: now_us, owed: 0 }
    }

    /// Pages to write now. At most a tenth of a second's worth: a guest that was kept from running does not make up.
    pub(crate) fn pages_due(&mut self, now_us: u64, mib_per_s: u64) -> usize {
        let elapsed = now_us.saturating_sub(self.last_us).min(100_000);
        self.last_us = now_us;
        self.owed += elapsed * mib_per_s * 1024 * 1024;
        let page = PAGE_SIZE as u64 * 1_000_000;
        let pages = self.owed / page;
        self.owed %= page;
        pages as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_keeps_the_rate_over_many_ticks() {
        let mut pace = Pace::new(0);
        let pages: usize = (1..=1000).map(|tick| pace.pages_due(tick * 5_003, 3)).sum();
        // 5.003 s of 3 MiB/s.
        assert_eq!(pages, (5_003_000u64 * 3 * 256 / 1_000_000) as usize);
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut pace = Pace::new(0);
        assert_eq!(pace.pages_due(60_000_000, 10), 256);
    }
}
