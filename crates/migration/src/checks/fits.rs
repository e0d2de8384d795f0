//! Whether the guest finds on the other host what it needs there: the same devices and processor, memory, room for copied
//! disks, a way for its memory, a clock that agrees.
//!
//! Called through [`super`]: by the destination at Prepare and for a plan, and by the tool for the clocks, which only
//! whoever speaks with both hosts can compare. What would fail on the way in any case is a refusal; what may well go,
//! and what the operator should know all the same, is a warning.

use std::collections::BTreeMap;

use ferry_rpc::error::ErrorCode;

use super::{Finding, Severity};

/// Stock's words for a processor that is not the one that was promised.
pub const PROCESSOR: &str = "guest CPU doesn't match specification";

/// Difference of two hosts' clocks from which on it is told, microseconds.
pub const SKEW_MAX_US: u64 = 1_000_000;

fn refusal(code: ErrorCode, text: String, remedy: &'static str) -> Finding {
    Finding { severity: Severity::Refusal, code, text, remedy }
}

fn warning(code: ErrorCode, text: String, remedy: &'static str) -> Finding {
    Finding { severity: Severity::Warning, code, text, remedy }
}

/// Devices, each as its model and its place, of the guest as it runs and as the destination would build it. QEMU loads
/// a guest into a machine with one device more without a word, and the guest then meets a device that nobody gave it.
pub fn devices(source: &[String], destination: &[String]) -> Vec<Finding> {
    let mut surplus: BTreeMap<&str, i64> = BTreeMap::new();
    for device in destination {
        *surplus.entry(device).or_default() += 1;
    }
    for device in source {
        *surplus.entry(device).or_default() -= 1;
    }
    let find = |(device, surplus): (&str, i64)| {
        let text = if surplus > 0 {
            format!("the destination would build a device that the guest does not have: {device}")
        } else if surplus < 0 {
            format!("the destination would not build a device that the guest has: {device}")
        } else {
            return None;
        };
        let remedy = "give both hosts the same definition of the guest; if no --xml was given, this is a fault of Ferry's: report it";
        Some(refusal(ErrorCode::CONFIG_UNSUPPORTED, text, remedy))
    };
    surplus.into_iter().filter_map(find).collect()
}

/// Features of the guest's processor that this host cannot give it. `missing`: what this host lacks for the processor
/// that the definition asks for; `lacked`: what the source lacks as well, which the guest therefore never had.
pub fn processor(missing: &[String], lacked: &[String]) -> Option<Finding> {
    let lost: Vec<&str> =
        missing.iter().filter(|feature| !lacked.contains(feature)).map(String::as_str).collect();
    (!lost.is_empty()).then(|| {
        refusal(
            ErrorCode::OPERATION_FAILED,
            format!("{PROCESSOR}: missing features: {}", lost.join(",")),
            "give the guest a CPU model that both hosts have (`virsh hypervisor-cpu-baseline`), and start it anew",
        )
    })
}

/// How the kernel judges a large mapping (`vm.overcommit_memory`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overcommit {
    /// 0: what is obviously too much is refused.
    Heuristic,
    /// 1: never refused.
    Always,
    /// 2: refused beyond a limit; bytes that are left of it.
    Never {
        /// Bytes.
        left: u64,
    },
}

/// Memory of a host, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What a new program can have without swapping.
    pub available: u64,
    /// Swap, all of it.
    pub swap: u64,
    /// How much may be promised.
    pub overcommit: Overcommit,
}

/// Whether a guest of `guest` bytes finds memory. The kernel's refusal would be QEMU's at its start.
pub fn memory(guest: u64, host: &Memory) -> Option<Finding> {
    let mib = |bytes: u64| bytes >> 20;
    let most = match host.overcommit {
        Overcommit::Heuristic => host.total.saturating_add(host.swap),
        Overcommit::Always => u64::MAX,
        Overcommit::Never { left } => left,
    };
    if guest > most {
        let text = format!(
            "cannot set up guest memory: Cannot allocate memory (the guest has {} MiB, and this host has {} MiB to give)",
            mib(guest),
            mib(most)
        );
        let remedy = "choose a host with more memory, or give the guest less";
        return Some(refusal(ErrorCode::INTERNAL_ERROR, text, remedy));
    }
    (guest > host.available).then(|| {
        warning(
            ErrorCode::OPERATION_FAILED,
            format!(
                "the guest has {} MiB of memory, and {} MiB are free on the destination",
                mib(guest),
                mib(host.available)
            ),
            "make room on the destination: when the guest uses all of its memory, the host swaps or kills",
        )
    })
}

/// A file system of the destination, and what a migration would copy to it. Bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Where it is mounted.
    pub place: String,
    /// Free for the account that writes.
    pub free: u64,
    /// What the copied disks may come to take.
    pub needed: u64,
}

/// Whether copied disks find room. One finding for each file system, however many disks go there.
pub fn space(rooms: &[Room]) -> Vec<Finding> {
    let short = rooms.iter().filter(|room| room.needed > room.free);
    let find = |room: &Room| {
        refusal(
            ErrorCode::OPERATION_FAILED,
            format!(
                "No space left on device: the disks to be copied to {} may take {} MiB, and {} MiB are free",
                room.place,
                room.needed >> 20,
                room.free >> 20
            ),
            "make room there, or name other places for the disks with --xml",
        )
    };
    short.map(find).collect()
}

/// The memory's way: why the source does not reach the place at which the destination would receive it.
pub fn unreachable(uri: &str, why: &str) -> Finding {
    refusal(
        ErrorCode::OPERATION_FAILED,
        format!("the source cannot connect to {uri}, where the destination would receive the guest: {why}"),
        "open the destination's migration ports in its firewall, set `migration_host` of its ferryd.toml to a name that \
         the source knows, or name the way with --migrateuri",
    )
}

/// One question to a host and its answer, microseconds since 1970: the two ends by the asker's clock, the two between by
/// the host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The question left.
    pub asked: u64,
    /// The host had it.
    pub received: u64,
    /// The host's answer left.
    pub answered: u64,
    /// It was here.
    pub heard: u64,
}

/// How far one clock is ahead of another, and how well that is known. Microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offset {
    /// Negative when it is behind.
    pub ahead: i64,
    /// The most that this can be wrong: half the time on the way.
    pub within: u64,
}

impl Exchange {
    /// The host's clock against the asker's; as NTP reckons (RFC 5905, section 8).
    pub fn offset(&self) -> Offset {
        let [asked, received, answered, heard] =
            [self.asked, self.received, self.answered, self.heard].map(i128::from);
        let ahead = ((received - asked) + (answered - heard)) / 2;
        let way = ((heard - asked) - (answered - received)).max(0) / 2;
        let bounded = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
        Offset { ahead: bounded(ahead), within: bounded(way).unsigned_abs() }
    }
}

impl Offset {
    /// This clock against a third, when both are known against the same one.
    #[must_use]
    pub const fn against(self, other: Self) -> Self {
        Self {
            ahead: self.ahead.saturating_sub(other.ahead),
            within: self.within.saturating_add(other.within),
        }
    }
}

/// The destination's clock against the source's. Told when it differs for certain by more than [`SKEW_MAX_US`]; never a
/// reason to refuse, for the guest's own time goes on.
pub fn clock(skew: Offset) -> Option<Finding> {
    let differs = skew.ahead.unsigned_abs();
    (differs.saturating_sub(skew.within) > SKEW_MAX_US).then(|| {
        let way = if skew.ahead > 0 { "ahead of" } else { "behind" };
        warning(
            ErrorCode::OPERATION_FAILED,
            format!(
                "the destination's clock is {} {way} the source's (within {})",
                Seconds(differs),
                Seconds(skew.within)
            ),
            "have both hosts follow the same time server: what the guest asks the host's clock for jumps, and logs and \
             history of the two hosts cannot be laid side by side",
        )
    })
}

/// Microseconds as seconds, to the millisecond.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03} s", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

/// Nothing could be said within `seconds` of the images that the destination needs. Called for a plan.
pub fn silent(seconds: u64) -> Finding {
    refusal(
        ErrorCode::OPERATION_TIMEOUT,
        format!("the file systems of the guest's images do not answer within {seconds} s"),
        "see on the destination to the file server and to the network that leads there, and ask again",
    )
}

/// The images that the destination needs were not looked at, because earlier looks are still out. Called for a plan.
pub fn not_looked_at() -> Finding {
    warning(
        ErrorCode::OPERATION_TIMEOUT,
        "the guest's images were not looked at: too many looks at file systems that do not answer are still out"
            .to_owned(),
        "see on the destination which file server does not answer",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_device_more_or_less_is_named_with_its_place() {
        let has = names(&["virtio-blk-pci at pci.0 0x4", "virtio-rng-pci at pci.0 0x5"]);
        assert_eq!(devices(&has, &has), []);
        let turned: Vec<String> = has.iter().rev().cloned().collect();
        assert_eq!(devices(&has, &turned), [], "the order is nobody's matter");
        let more =
            names(&["usb-tablet at usb.0 1", "virtio-blk-pci at pci.0 0x4", "virtio-rng-pci at pci.0 0x5"]);
        let found = devices(&has, &more);
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .text
                .contains("would build a device that the guest does not have: usb-tablet at usb.0 1")
        );
        assert!(
            devices(&more, &has)[0].text.contains("would not build a device that the guest has: usb-tablet")
        );
        let moved = names(&["virtio-blk-pci at pci.0 0x4", "virtio-rng-pci at pci.0 0x6"]);
        assert_eq!(devices(&has, &moved).len(), 2, "another place is another device");
        let twice = names(&["virtio-blk-pci at pci.0 0x4"; 2]);
        assert_eq!(devices(&twice[..1], &twice).len(), 1);
        assert!(devices(&has, &moved).iter().all(|finding| finding.severity == Severity::Refusal));
    }

    #[test]
    fn a_processor_may_lack_what_the_guest_never_had() {
        let missing = names(&["avx2", "sha-ni"]);
        assert_eq!(processor(&missing, &missing), None);
        assert_eq!(processor(&[], &missing), None);
        let found = processor(&missing, &missing[..1]).unwrap();
        assert_eq!(found.text, "guest CPU doesn't match specification: missing features: sha-ni");
        assert_eq!(found.severity, Severity::Refusal);
    }

    fn host(overcommit: Overcommit) -> Memory {
        Memory { total: 16 * GIB, available: 4 * GIB, swap: 2 * GIB, overcommit }
    }

    #[test]
    fn what_the_kernel_would_not_map_refuses_and_what_is_not_free_warns() {
        let judged = |guest: u64, overcommit| memory(guest, &host(overcommit)).map(|found| found.severity);
        for (guest, overcommit, severity) in [
            (4 * GIB, Overcommit::Heuristic, None),
            (5 * GIB, Overcommit::Heuristic, Some(Severity::Warning)),
            (18 * GIB, Overcommit::Heuristic, Some(Severity::Warning)),
            (18 * GIB + 1, Overcommit::Heuristic, Some(Severity::Refusal)),
            (40 * GIB, Overcommit::Always, Some(Severity::Warning)),
            (3 * GIB, Overcommit::Never { left: 3 * GIB }, None),
            (4 * GIB, Overcommit::Never { left: 3 * GIB }, Some(Severity::Refusal)),
        ] {
            assert_eq!(judged(guest, overcommit), severity, "{guest} {overcommit:?}");
        }
        let text = memory(40 * GIB, &host(Overcommit::Heuristic)).unwrap().text;
        assert!(text.starts_with("cannot set up guest memory: Cannot allocate memory"), "{text}");
    }

    #[test]
    fn disks_that_are_copied_need_room_on_each_file_system() {
        let room = |place: &str, free, needed| Room { place: place.to_owned(), free, needed };
        assert_eq!(space(&[room("/a", GIB, GIB), room("/b", 0, 0)]), []);
        let found = space(&[room("/a", GIB, GIB + 1), room("/b", GIB, 1), room("/c", 0, GIB)]);
        let texts: Vec<_> = found.iter().map(|finding| finding.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "No space left on device: the disks to be copied to /a may take 1024 MiB, and 1024 MiB are free",
                "No space left on device: the disks to be copied to /c may take 1024 MiB, and 0 MiB are free"
            ]
        );
    }

    #[test]
    fn clocks_are_compared_as_well_as_the_way_allows() {
        // 3 ms there, 1 ms in the host, 5 ms back, and its clock 10 s ahead.
        let exchange = Exchange { asked: 0, received: 10_003_000, answered: 10_004_000, heard: 9000 };
        let offset = exchange.offset();
        assert_eq!(offset, Offset { ahead: 9_999_000, within: 4000 });
        let own = Offset { ahead: -500_000, within: 1000 };
        assert_eq!(offset.against(own), Offset { ahead: 10_499_000, within: 5000 });
        let wild = Exchange { asked: u64::MAX, received: 0, answered: u64::MAX, heard: 0 };
        assert_eq!(wild.offset().within, 0, "a clock that was set meanwhile does no harm");
    }

    #[test]
    fn only_a_skew_that_is_certain_is_told_and_it_never_refuses() {
        let told = |ahead, within| clock(Offset { ahead, within });
        assert_eq!(told(1_000_000, 0), None);
        assert_eq!(told(1_500_000, 500_000), None, "it may be less");
        assert_eq!(told(-900_000, 0), None);
        let found = told(-2_500_000, 1500).unwrap();
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(found.text, "the destination's clock is 2.500 s behind the source's (within 0.001 s)");
        assert!(told(86_400_000_000, 10).unwrap().text.contains("86400.000 s ahead of"));
        assert!(told(i64::MIN, u64::MAX).is_none());
    }

    #[test]
    fn a_way_that_is_closed_is_told_with_its_reason() {
        let found = unreachable("tcp:h2:49152", "Connection refused");
        assert!(found.text.contains("tcp:h2:49152") && found.text.ends_with(": Connection refused"));
        assert_eq!(found.severity, Severity::Refusal);
    }
}
