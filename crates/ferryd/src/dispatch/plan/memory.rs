//! How much of a guest's memory holds data: what is still zero hardly takes part in a copy.
//!
//! Called for a plan, from a thread that may block. Two ways, and the lesser answer of the two:
//!
//! - the host's own account of the pages that the guest's mapping holds ([`resident`], [`of_mapping`]). Exact, but a
//!   large page counts whole for one byte in it, and so does memory that was filled with zeroes;
//! - a sample of the pages themselves ([`Sample`]): how many are there and hold anything else than zeroes. Nothing of them is
//!   kept. A page that is not there is not looked at, so that looking makes none.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

/// Above this much resident memory the kernel takes too long over the account of it, bytes.
const ACCOUNTED_MAX: u64 = 16 << 30;

/// QEMU's own memory beside the guest's, bytes: only where the account is not read.
const QEMU_ITSELF: u64 = 40 << 20;

/// What else may be in the mapping of a guest's memory, bytes: less than.
const JOINED_MAX: u64 = 1 << 20;

/// Pages that are looked at: 10 to 20 ms of one processor.
const SAMPLES: u64 = 8192;

/// Fewer pages with data than this tell their number too vaguely: one over the root of it is the error.
const HITS_MIN: u64 = 100;

/// What of the guest's memory of `total` bytes holds data, bytes. `None`: the process cannot be looked at.
pub(super) fn used(pid: i32, total: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let filled = resident(&status);
    let accounted = (filled < ACCOUNTED_MAX)
        .then(|| fs::read_to_string(format!("/proc/{pid}/smaps")).ok())
        .flatten()
        .and_then(|map| of_mapping(&map, total));
    let held = accounted.unwrap_or_else(|| filled.saturating_sub(QEMU_ITSELF)).min(total);
    // The kernel may not let us look at the pages.
    let sampled = sample(pid, total).ok().flatten().and_then(|sample| sample.bytes(total));
    Some(sampled.map_or(held, |sampled| sampled.min(held)))
}

/// Memory that the process fills, in swap as well, from the text of /proc/PID/status.
fn resident(status: &str) -> u64 {
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let parts = ["RssAnon:", "RssShmem:", "HugetlbPages:", "VmSwap:"].map(|key| kib(key).unwrap_or(0));
    parts.into_iter().fold(0, u64::saturating_add).saturating_mul(1024)
}

/// What is held of the mapping that is the guest's memory, from the text of /proc/PID/smaps. What else is as large is
/// address space that QEMU keeps free. Several memory cells are several mappings: then it is not known which.
fn of_mapping(smaps: &str, total: u64) -> Option<u64> {
    // The kernel counts large pages of their own pool apart, and what is swapped out.
    let held = |line: &str| {
        let keys = ["Rss:", "Shared_Hugetlb:", "Private_Hugetlb:", "Swap:"];
        let kib = keys.into_iter().find_map(|key| line.strip_prefix(key))?;
        kib.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let (mut one, mut most) = (None, None);
    for line in smaps.lines() {
        if let Some(mapping) = Mapping::parse(line) {
            one = mapping.holds(total).then_some(0_u64);
        } else if let (Some(sum), Some(bytes)) = (one, held(line)) {
            one = Some(sum.saturating_add(bytes));
        }
        most = most.max(one);
    }
    most
}

/// One mapping of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    is_writable: bool,
}

impl Mapping {
    /// From its line in /proc/PID/maps: `7f12c0000000-7f12d0000000 rw-p …`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (start, end) = words.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        let is_writable = words.next()?.as_bytes().get(1) == Some(&b'w');
        (start < end).then_some(Self { start, end, is_writable })
    }

    /// Whether it is the guest's memory of `total` bytes, by its size: the kernel may have joined something small to it.
    fn holds(&self, total: u64) -> bool {
        (total..total.saturating_add(JOINED_MAX)).contains(&(self.end - self.start))
    }
}

/// Pages that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    /// Those with data.
    hits: u64,
    of: u64,
}

impl Sample {
    /// What it says of the whole; nothing when it says too little.
    fn bytes(self, total: u64) -> Option<u64> {
        let share = u128::from(total) * u128::from(self.hits) / u128::from(self.of.max(1));
        (self.hits >= HITS_MIN).then_some(u64::try_from(share).ok()?)
    }
}

/// Looks at pages of the guest's memory. `None` when it is not known which mapping that is.
fn sample(pid: i32, total: u64) -> io::Result<Option<Sample>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut found = maps.lines().filter_map(Mapping::parse);
    let Some(guest) = found.find(|mapping| mapping.is_writable && mapping.holds(total)) else {
        return Ok(None);
    };
    let pages = Pages::open(pid, guest.start)?;
    let count = total / pages.size;
    let of = SAMPLES.min(count);
    let mut hits = 0;
    for number in 0..of {
        hits += u64::from(pages.has_data(spread(number, count))?);
    }
    Ok(Some(Sample { hits, of }))
}

/// The page that comes as the `number`th, of `count`: multiples of the golden ratio fall evenly everywhere, and into no step
/// with larger pages.
fn spread(number: u64, count: u64) -> u64 {
    let place = u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * u128::from(count);
    u64::try_from(place >> 64).unwrap_or(0)
}

/// The pages of a mapping of another process.
struct Pages {
    start: u64,
    size: u64,
    map: File,
    memory: File,
}

impl Pages {
    fn open(pid: i32, start: u64) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/{name}"));
        let size = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Ok(Self { start, size, map: open("pagemap")?, memory: open("mem")? })
    }

    fn has_data(&self, number: u64) -> io::Result<bool> {
        let address = self.start + number * self.size;
        let mut entry = [0; 8];
        self.map.read_exact_at(&mut entry, address / self.size * 8)?;
        let entry = u64::from_ne_bytes(entry);
        let (is_there, is_swapped) = (entry >> 63 & 1 == 1, entry >> 62 & 1 == 1);
        if is_swapped || !is_there {
            return Ok(is_swapped);
        }
        let mut page = vec![0; usize::try_from(self.size).unwrap_or(4096)];
        self.memory.read_exact_at(&mut page, address)?;
        Ok(page.iter().any(|byte| *byte != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_guests_mapping_is_found_by_its_size() {
        let smaps = "55d0c0000000-55d0c0400000 r-xp 00000000 fe:00 1 /usr/bin/qemu\n\
                     Size:               4096 kB\nRss:                4000 kB\nPss:                4000 kB\n\
                     7f0000000000-7f0010000000 rw-p 00000000 00:00 0\n\
                     Size:             262144 kB\nKernelPageSize:        4 kB\nRss:               18432 kB\nSwap:               2048 kB\nSwapPss:            2048 kB\n\
                     7f1000000000-7f1010000000 ---p 00000000 00:00 0\n\
                     Size:             262144 kB\nRss:                   0 kB\n\
                     7f0010000000-7f0010001000 ---p 00000000 00:00 0\nSize: 4 kB\nRss: 0 kB\n";
        assert_eq!(of_mapping(smaps, 256 * MIB), Some(20 * MIB));
        assert_eq!(of_mapping(smaps, 512 * MIB), None);
        assert_eq!(of_mapping("nonsense\n-\n", 0), None);
        let large = "7f0000000000-7f0010000000 rw-s 00000000 00:10 7 /dev/hugepages/guest\nRss:                   0 kB\n\
                     Shared_Hugetlb:     8192 kB\nPrivate_Hugetlb:    2048 kB\n";
        assert_eq!(of_mapping(large, 256 * MIB), Some(10 * MIB));
        let status = "VmRSS:\t 900 kB\nRssAnon:\t  2048 kB\nRssFile:\t 5 kB\nRssShmem:\t 1024 kB\nHugetlbPages:\t 2048 kB\nVmSwap:\t 1024 kB\n";
        assert_eq!(resident(status), 6 * MIB);
    }

    #[test]
    fn only_what_can_be_written_is_memory() {
        let mapping = Mapping::parse("7f0000000000-7f0000002000 rw-p 00000000 00:00 0").unwrap();
        assert!(mapping.is_writable && mapping.holds(0x2000) && mapping.holds(0x1000));
        assert!(!mapping.holds(0x2001));
        assert!(!Mapping::parse("1000-2000 ---p 00000000 00:00 0").unwrap().is_writable);
        for line in ["", "x", "1000", "2000-1000 rw-p", "1000-1000 rw-p", "1000-2000", "Size: 4 kB"] {
            assert_eq!(Mapping::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn pages_are_taken_from_everywhere_and_few_tell_nothing() {
        let count = 1 << 18;
        for tenth in 0..10 {
            let within = |page: &u64| page * 10 / count == tenth;
            let found = (0..SAMPLES).map(|number| spread(number, count)).filter(within).count();
            assert!(found.abs_diff(819) < 20, "{found} in tenth {tenth}");
        }
        assert!((0..SAMPLES).all(|number| spread(number, 3) < 3 && spread(number, 0) == 0));
        assert_eq!(Sample { hits: HITS_MIN, of: 200 }.bytes(1000), Some(500));
        assert_eq!(Sample { hits: HITS_MIN - 1, of: 200 }.bytes(1000), None);
        assert_eq!(Sample { hits: 0, of: 0 }.bytes(u64::MAX), None);
    }

    /// Memory of this very process: one page has data, one zeroes, and the others are not there.
    #[test]
    fn zeroes_are_no_data_and_looking_makes_none() {
        let mut memory = vec![0_u8; 37 << 20];
        let start = (memory.as_ptr().addr() as u64).next_multiple_of(4096);
        let offset = usize::try_from(start).unwrap() - memory.as_ptr().addr();
        let pages = Pages::open(std::process::id().cast_signed(), start).unwrap();
        let size = usize::try_from(pages.size).unwrap();
        memory[offset + 3 * size + 17] = 1;
        memory[offset + 5 * size] = 1;
        memory[offset + 5 * size] = 0;
        let found: Vec<u64> = (0..4096).filter(|page| pages.has_data(*page).unwrap()).collect();
        assert_eq!(found, [3]);
        // Beyond what a process can have.
        let far = Pages { start: 1 << 62, ..pages };
        assert!(!far.has_data(0).unwrap_or(false));
    }
}
