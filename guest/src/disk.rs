//! Writes numbered blocks to the first disk, past the page cache, reads each back, and keeps verifying what was
//! written before.
//!
//! The disk is written raw from its first block on: this guest is for throw-away images.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::OFlags;

use crate::clock;
use crate::console::Console;
use crate::memory::{Pace, report};
use crate::page::{self, Damage, PAGE_SIZE, WORDS};

/// Disks that are looked for, best first.
const CANDIDATES: [&str; 2] = ["/dev/vda", "/dev/sda"];

/// How long the disk's driver may take to find it, microseconds.
const APPEAR_US: u64 = 1_000_000;

/// How often a share of the work is done, microseconds.
const TICK_US: u64 = 20_000;

/// Held while a block is written.
static WRITING: Mutex<()> = Mutex::new(());

/// Lets the write in hand finish and no other begin: a kernel that powers off fails them, which would look like damage.
pub(crate) fn stop() {
    std::mem::forget(WRITING.lock());
}

/// A block in memory, aligned as a direct write wants it.
#[repr(align(4096))]
struct Block([u8; PAGE_SIZE]);

/// What other threads may ask or set.
pub(crate) struct Disk {
    path: &'static str,
    file: File,
    rate: AtomicU64,
    written: AtomicU64,
    damaged: AtomicU64,
    region: Mutex<Region>,
}

struct Region {
    /// Generation of each block; 0 means never written by this boot.
    generations: Vec<u64>,
    next: usize,
    buffer: Box<Block>,
}

impl Disk {
    /// The device.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    /// Sets the rate, MiB/s.
    pub(crate) fn set_rate(&self, mib_per_s: u64) {
        self.rate.store(mib_per_s, Relaxed);
    }

    /// Blocks written and read back since the start.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Blocks found not to be what was written, each time they were looked at; errors count too.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Relaxed)
    }

    /// Verifies every block written so far. Gives how many there are and how many are damaged.
    pub(crate) fn check(&self, console: &Console) -> (usize, usize) {
        let mut region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        let mut bad = 0;
        for index in 0..region.generations.len() {
            if region.generations[index] > 0 {
                seen += 1;
                bad += usize::from(!self.whole(console, &mut region, index));
            }
        }
        (seen, bad)
    }

    fn write_next(&self, console: &Console) {
        let mut guard = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        let region = &mut *guard;
        let index = region.next;
        region.next = (index + 1) % region.generations.len();
        if region.generations[index] > 0 {
            self.whole(console, region, index);
        }
        let generation = region.generations[index] + 1;
        let mut page = [0; WORDS];
        page::fill(&mut page, index as u64, generation);
        for (bytes, word) in region.buffer.0.chunks_exact_mut(8).zip(page) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        match self.file.write_all_at(&region.buffer.0, (index * PAGE_SIZE) as u64) {
            Ok(()) => {
                region.generations[index] = generation;
                self.written.fetch_add(1, Relaxed);
                self.whole(console, region, index);
            }
            Err(error) => self.failed(console, "write", index, &error),
        }
    }

    fn whole(&self, console: &Console, region: &mut Region, index: usize) -> bool {
        if let Err(error) = self.file.read_exact_at(&mut region.buffer.0, (index * PAGE_SIZE) as u64) {
            self.failed(console, "read", index, &error);
            return false;
        }
        let generation = region.generations[index];
        match decode(&region.buffer.0, index, generation) {
            Ok(()) => true,
            Err(damage) => {
                if self.damaged.fetch_add(1, Relaxed) < 20 {
                    report(console, "disk", index, generation, damage);
                }
                false
            }
        }
    }

    fn failed(&self, console: &Console, what: &str, index: usize, error: &io::Error) {
        if self.damaged.fetch_add(1, Relaxed) < 20 {
            console.say(format_args!("anomaly kind=disk-{what} index={index} error={:?}", error.to_string()));
        }
    }
}

fn decode(bytes: &[u8; PAGE_SIZE], index: usize, generation: u64) -> Result<(), Damage> {
    let mut page = [0; WORDS];
    for (word, chunk) in page.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    page::verify(&page, index as u64, generation)
}

/// Starts the thread on the first `mib` MiB of the first disk; `None` when there is none or `mib` is 0.
pub(crate) fn start(console: Arc<Console>, mib: usize, rate: u64) -> io::Result<Option<Arc<Disk>>> {
    if mib == 0 {
        return Ok(None);
    }
    let Some(path) = appear() else {
        console.say(format_args!("note disk=none"));
        return Ok(None);
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlags::DIRECT | OFlags::DSYNC).bits() as i32)
        .open(path)?;
    let size = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?;
    let count = (mib * 1024 * 1024 / PAGE_SIZE).min(size as usize / PAGE_SIZE);
    if count == 0 {
        console.say(format_args!("note disk=too-small bytes={size}"));
        return Ok(None);
    }
    let region = Region { generations: vec![0; count], next: 0, buffer: Box::new(Block([0; PAGE_SIZE])) };
    let disk = Arc::new(Disk {
        path,
        file,
        rate: AtomicU64::new(rate),
        written: AtomicU64::new(0),
        damaged: AtomicU64::new(0),
        region: Mutex::new(region),
    });
    let shared = Arc::clone(&disk);
    thread::Builder::new().name("disk".into()).spawn(move || run(&console, &shared))?;
    Ok(Some(disk))
}

fn run(console: &Console, disk: &Disk) {
    let mut pace = Pace::new(clock::monotonic_us());
    loop {
        clock::sleep_until_us(clock::monotonic_us() + TICK_US);
        for _ in 0..pace.pages_due(clock::monotonic_us(), disk.rate.load(Relaxed)) {
            let _writing = WRITING.lock();
            disk.write_next(console);
        }
    }
}

/// The drivers probe at their own pace, so a disk that is not there yet gets a moment when a driver is there for it.
fn appear() -> Option<&'static str> {
    let until = clock::monotonic_us() + APPEAR_US;
    loop {
        if let Some(path) = CANDIDATES.into_iter().find(|path| Path::new(path).exists()) {
            return Some(path);
        }
        if clock::monotonic_us() >= until || !disk_expected() {
            return None;
        }
        clock::sleep_until_us(clock::monotonic_us() + 10_000);
    }
}

/// A virtio block device (type 2) or a SCSI host is there, so a disk may still come.
fn disk_expected() -> bool {
    let host = |path: &str| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let block = std::fs::read_dir("/sys/bus/virtio/devices").is_ok_and(|devices| {
        devices.flatten().any(|device| {
            std::fs::read_to_string(device.path().join("device")).is_ok_and(|id| id.trim() == "0x0002")
        })
    });
    block || host("/sys/class/scsi_host")
}
