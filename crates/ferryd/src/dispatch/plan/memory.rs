//! How much of a guest's memory holds data: what is still zero hardly takes part in a copy.
//!
//! Called for a plan, from a thread that may block. Two ways, and the lesser answer of the two:
//!
//! - the kernel's own account of the guest's mapping ([`Account`]). Exact, but a large page counts whole for one byte in
//!   it, and so does memory that was filled with zeroes;
//! - a sample of the pages themselves ([`Sample`]): how many are there and hold anything else than zeroes. Nothing of them is
//!   kept. A page that is not there is not looked at, so that looking makes none. Shared memory that is swapped out looks as
//!   if it had never been there: then the account alone counts.

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

/// Fewer pages with data than this tell their number too vaguely, by one over the root of it; that there are no more is certain
/// enough.
const HITS_MIN: u64 = 100;

/// What of the guest's memory of `total` bytes holds data, bytes. `None`: the process cannot be looked at.
pub(super) fn used(pid: i32, total: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let filled = resident(&status);
    let account = (filled < ACCOUNTED_MAX)
        .then(|| fs::read_to_string(format!("/proc/{pid}/smaps")).ok())
        .flatten()
        .and_then(|map| Account::of(&map, total));
    let held = account.map_or(filled.saturating_sub(QEMU_ITSELF), |account| account.held).min(total);
    if account.is_some_and(|account| account.hides_pages) {
        return Some(held);
    }
    // The kernel may not let us look at the pages.
    let sampled = sample(pid, total).ok().flatten();
    Some(sampled.map_or(held, |sample| sample.bytes(total).min(held)))
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

/// The kernel's account of the mapping that is the guest's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Account {
    /// In memory and in swap, bytes.
    held: u64,
    /// Part of it is where the page map does not show it.
    hides_pages: bool,
}

impl Account {
    /// From the text of /proc/PID/smaps. What else is as large is address space that QEMU keeps free. Several memory cells are
    /// several mappings: then it is not known which.
    fn of(smaps: &str, total: u64) -> Option<Self> {
        // The kernel counts large pages of their own pool apart, and what is swapped out.
        let kib = |line: &str, key: &str| {
            line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        let (mut one, mut most): (Option<(Mapping, Self)>, Option<Self>) = (None, None);
        for line in smaps.lines() {
            if let Some(mapping) = Mapping::parse(line) {
                one = mapping.holds(total).then(|| (mapping, Self::default()));
            } else if let Some((mapping, account)) = &mut one {
                let swapped = kib(line, "Swap:");
                let keys = ["Rss:", "Shared_Hugetlb:", "Private_Hugetlb:"];
                let bytes = keys.into_iter().find_map(|key| kib(line, key)).or(swapped);
                account.held = account.held.saturating_add(bytes.unwrap_or(0));
                account.hides_pages |= mapping.is_shared && swapped.is_some_and(|bytes| bytes > 0);
            }
            let here = one.map(|(_, account)| account);
            most = std::cmp::max_by_key(most, here, |account| account.map(|account| account.held));
        }
        most
    }
}

/// One mapping of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    is_writable: bool,
    is_shared: bool,
}

impl Mapping {
    /// From its line in /proc/PID/maps: `7f12c0000000-7f12d0000000 rw-p …`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (start, end) = words.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        let may = words.next()?.as_bytes();
        let (is_writable, is_shared) = (may.get(1) == Some(&b'w'), may.get(3) == Some(&b's'));
        (start < end).then_some(Self { start, end, is_writable, is_shared })
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
    /// What it says of the whole; when it says little, no less than there is.
    fn bytes(self, total: u64) -> u64 {
        let hits = self.hits.max(HITS_MIN).min(self.of);
        let share = u128::from(total) * u128::from(hits) / u128::from(self.of.max(1));
        u64::try_from(share).unwrap_or(total)
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
        match self.whereabouts(number)? {
            Whereabouts::Nowhere => Ok(false),
            Whereabouts::Swapped => Ok(true),
            Whereabouts::There => {
                let mut page = vec![0; usize::try_from(self.size).unwrap_or(4096)];
                self.memory.read_exact_at(&mut page, self.address(number))?;
                Ok(page.iter().any(|byte| *byte != 0))
            }
        }
    }

    /// From the kernel's page map: a word for each page.
    fn whereabouts(&self, number: u64) -> io::Result<Whereabouts> {
        let mut entry = [0; 8];
        self.map.read_exact_at(&mut entry, self.address(number) / self.size * 8)?;
        let entry = u64::from_ne_bytes(entry);
        Ok(match (entry >> 63 & 1, entry >> 62 & 1) {
            (_, 1) => Whereabouts::Swapped,
            (1, _) => Whereabouts::There,
            _ => Whereabouts::Nowhere,
        })
    }

    fn address(&self, number: u64) -> u64 {
        self.start + number * self.size
    }
}

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    Nowhere,
    Swapped,
    There,
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
        let held = |smaps, total| Account::of(smaps, total).map(|account| account.held);
        assert_eq!(held(smaps, 256 * MIB), Some(20 * MIB));
        assert_eq!(held(smaps, 512 * MIB), None);
        assert_eq!(held("nonsense\n-\n", 0), None);
        let large = "7f0000000000-7f0010000000 rw-s 00000000 00:10 7 /dev/hugepages/guest\nRss:                   0 kB\n\
                     Shared_Hugetlb:     8192 kB\nPrivate_Hugetlb:    2048 kB\n";
        assert_eq!(held(large, 256 * MIB), Some(10 * MIB));
        assert!(
            !Account::of(smaps, 256 * MIB).unwrap().hides_pages,
            "its own: the page map shows what is in swap"
        );
        let shared = smaps.replace("rw-p", "rw-s");
        assert!(Account::of(&shared, 256 * MIB).unwrap().hides_pages);
        assert!(!Account::of(&shared.replace("2048 kB", "0 kB"), 256 * MIB).unwrap().hides_pages);
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
    fn pages_are_taken_from_everywhere_and_few_tell_little() {
        let count = 1 << 18;
        for tenth in 0..10 {
            let within = |page: &u64| page * 10 / count == tenth;
            let found = (0..SAMPLES).map(|number| spread(number, count)).filter(within).count();
            assert!(found.abs_diff(819) < 20, "{found} in tenth {tenth}");
        }
        assert!((0..SAMPLES).all(|number| spread(number, 3) < 3 && spread(number, 0) == 0));
        assert_eq!(Sample { hits: 150, of: 200 }.bytes(1000), 750);
        assert_eq!(Sample { hits: 3, of: 200 }.bytes(1000), 500, "no more than that for certain");
        assert_eq!(Sample { hits: 0, of: 50 }.bytes(1000), 1000);
        assert_eq!(Sample { hits: 0, of: 0 }.bytes(u64::MAX), 0);
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
        assert_eq!(pages.whereabouts(5).unwrap(), Whereabouts::There);
        assert_eq!(pages.whereabouts(2048).unwrap(), Whereabouts::Nowhere);
        // Beyond what a process can have.
        let far = Pages { start: 1 << 62, ..pages };
        assert!(!far.has_data(0).unwrap_or(false));
    }
}
