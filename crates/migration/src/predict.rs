//! What a copy will take: time, pause and bytes, with a range, and whether it ends at all.
//!
//! Called by the source for a plan, with what it has measured before the migration ([`Guest`], [`Link`]) and what the
//! user wishes ([`Wish`]). The model is the copy itself, pass by pass: all that is in use, then what was dirtied
//! meanwhile, until what is left fits the pause that [`policy`] allows at that pass. It refuses to know how anything
//! was measured.
//!
//! Three runs give the range: the expected one, and one each with all that is uncertain for and against it.

use serde::{Deserialize, Serialize};

use crate::policy;

/// Bytes per second at which one stream of QEMU goes when nothing holds it up and nothing of it is known.
const STREAM: u64 = 600 << 20;

/// Bytes per second at which QEMU finds out that memory is zero; a page of it then takes 9 bytes of the stream.
const ZERO_SCAN: u64 = 6 << 30;

/// One byte is sent for so many of zeroes: 9 for a page of 4096.
const ZERO_RATIO: u64 = 455;

/// Setting up, and the two words across before and after the switch, ms.
const SETUP_MS: u64 = 12;

/// What the last pass takes beside its data: state of the devices, and the other host's start, ms.
const SWITCH_MS: u64 = 12;

/// QEMU measures its own speed every 100 ms; before it has, a copy ends only with a pass that sent all it knew of.
const MEASURE_MS: u64 = 100;

/// Passes after which a copy that has not ended is not expected to.
const PASSES_MAX: u64 = 40;

/// Past copies of this pair of hosts that count, the newest ones.
const PAST_MAX: usize = 12;

/// Bytes that a past copy must have sent for its speed to say anything.
const TELLING: u64 = 32 << 20;

/// What is known of the guest. Sizes are bytes, rates bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its memory.
    pub total: u64,
    /// What of it holds anything but zeroes.
    pub used: u64,
    /// How fast it writes to memory that it had not written to in the same second; `None`: not known.
    pub dirty: Option<u64>,
    /// Its processors run now.
    pub runs: bool,
}

/// What is known of the way to the other host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// What a short probe got across, bytes per second.
    pub probed: Option<u64>,
    /// What copies between these two hosts took, newest first.
    pub past: Vec<Past>,
}

/// A copy that was, from the history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// By QEMU's clock, ms.
    pub copy_ms: u64,
    /// The guest's pause, ms.
    pub pause_ms: Option<u64>,
    /// The guest's memory, bytes.
    pub total: u64,
    /// Sent, bytes.
    pub sent: u64,
    /// It was held to a bandwidth: its speed tells nothing of the way.
    pub limited: bool,
}

/// What the user wishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// The guest runs while it is copied.
    pub live: bool,
    /// A switch to post-copy is allowed.
    pub postcopy: bool,
    /// The guest is slowed down when it does not converge.
    pub auto_converge: bool,
    /// Bytes per second; `None`: as fast as it goes.
    pub bandwidth: Option<u64>,
    /// The user's own limit of the pause, ms.
    pub downtime_ms: Option<u64>,
}

/// An expectation with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// If all that is uncertain is for it.
    pub low: u64,
    /// To be expected.
    pub expected: u64,
    /// If all that is uncertain is against it; `None`: then it may not end at all.
    pub high: Option<u64>,
}

/// How the copy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// With a pass that fits the pause.
    Converges,
    /// With a switch to post-copy, when somebody asks for it.
    Postcopy,
    /// The guest stands still for all of it.
    Stopped,
    /// It is not expected to: the guest dirties memory about as fast as it is sent.
    DoesNotConverge,
}

/// What a migration will take, as far as it can be known beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// How it ends.
    pub end: End,
    /// The copy, by QEMU's clock, ms. Without an end: one pass over the memory.
    pub copy_ms: Range,
    /// The guest's pause, ms; `None` for a guest that does not run.
    pub pause_ms: Option<Range>,
    /// Bytes across.
    pub bytes: Range,
    /// Expected passes over the memory.
    pub passes: u64,
    /// The speed that was reckoned with, bytes per second.
    pub rate: u64,
    /// What the short probe got across, bytes per second.
    pub probed: Option<u64>,
    /// Past copies that were taken into account.
    pub past: usize,
    /// The guest as it was found.
    pub guest: Guest,
    /// What the operator can do about it.
    pub advice: Vec<String>,
}

/// One way that it can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    ends: bool,
    copy_ms: u64,
    pause_ms: u64,
    bytes: u64,
    passes: u64,
}

/// What is reckoned with in one run.
#[derive(Debug, Clone, Copy)]
struct Case {
    rate: u64,
    dirty: u64,
    /// Pause beside its data, ms.
    switch_ms: u64,
}

/// Predicts one migration.
pub fn predict(guest: &Guest, link: &Link, wish: &Wish) -> Prediction {
    let past: Vec<Past> = link.past.iter().take(PAST_MAX).copied().collect();
    let speed = Speed::of(link.probed, &past).limited(wish.bandwidth);
    let dirty = if guest.runs && wish.live { guest.dirty.unwrap_or(0) } else { 0 };
    let switch = Switch::of(&past);
    // Of a guest that stands still nothing is left to follow it.
    let wish = &Wish { postcopy: wish.postcopy && guest.runs, ..*wish };
    let run = |rate, dirty, switch_ms| pass_by_pass(guest, wish, Case { rate, dirty, switch_ms });
    // A guest whose writing is not known may write as it likes.
    let worst = if guest.dirty.is_none() && guest.runs && wish.live {
        guest.used
    } else {
        dirty.saturating_add(dirty / 2)
    };
    let runs = [
        run(speed.high, dirty / 2, switch.low),
        run(speed.expected, dirty, switch.expected),
        run(speed.low, worst, switch.high),
    ];
    let [best, expected, last] = runs;
    let end = match (guest.runs && !wish.live, expected.ends, wish.postcopy) {
        (true, _, _) => End::Stopped,
        (false, _, true) => End::Postcopy,
        (false, true, false) => End::Converges,
        (false, false, false) => End::DoesNotConverge,
    };
    let range = |of: fn(&Run) -> u64| {
        let values = runs.map(|run| of(&run));
        let [low, high] = [values.iter().min(), values.iter().max()].map(|value| value.copied().unwrap_or(0));
        Range { low, expected: of(&expected), high: (last.ends && expected.ends).then_some(high) }
    };
    let mut pause = range(|run| run.pause_ms);
    if end == End::Converges {
        // The last pass may come just when next to nothing is dirty.
        pause.low = pause.low.min(switch.low);
    }
    Prediction {
        end,
        copy_ms: range(|run| run.copy_ms),
        pause_ms: guest.runs.then_some(pause),
        bytes: range(|run| run.bytes),
        passes: expected.passes,
        rate: speed.expected,
        probed: link.probed,
        past: past.len(),
        guest: *guest,
        advice: advice(end, best.ends && !expected.ends, guest, wish),
    }
}

fn pass_by_pass(guest: &Guest, wish: &Wish, case: Case) -> Run {
    let rate = case.rate.max(1);
    let ms = |bytes: u64| millis(bytes, rate);
    let zeroes = guest.total.saturating_sub(guest.used);
    let first = guest.used.saturating_add(zeroes / ZERO_RATIO);
    let first_ms = ms(first) + millis(zeroes, ZERO_SCAN);
    let mut run =
        Run { ends: true, copy_ms: SETUP_MS + first_ms, pause_ms: case.switch_ms, bytes: first, passes: 1 };
    if guest.runs && !wish.live {
        run.copy_ms += case.switch_ms;
        run.pause_ms = run.copy_ms;
        return run;
    }
    // What a guest dirties is at most all that it uses.
    let dirtied = |span_ms: u64| {
        let bytes = u128::from(case.dirty) * u128::from(span_ms) / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX).min(guest.used)
    };
    let mut left = dirtied(first_ms);
    if wish.postcopy {
        // The switch can be asked for after the first pass; what is dirty follows the guest.
        run.copy_ms += ms(left) + case.switch_ms;
        run.bytes = run.bytes.saturating_add(left);
        run.passes = 2;
        return run;
    }
    while run.copy_ms >= MEASURE_MS && ms(left) > policy::downtime_limit_ms(wish.downtime_ms, run.passes + 1)
    {
        if run.passes == PASSES_MAX {
            // One pass over the memory is all that can be told.
            let alone = SETUP_MS + first_ms;
            return Run { ends: false, copy_ms: alone, bytes: first, ..run };
        }
        let span = ms(left);
        run.copy_ms += span;
        run.bytes = run.bytes.saturating_add(left);
        run.passes += 1;
        left = dirtied(span);
    }
    run.pause_ms += ms(left);
    run.bytes = run.bytes.saturating_add(left);
    run.copy_ms += run.pause_ms;
    run.passes += u64::from(left > 0);
    run
}

fn millis(bytes: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / u128::from(rate.max(1))).unwrap_or(u64::MAX / 1024)
}

/// The speed of the stream, bytes per second.
#[derive(Debug, Clone, Copy)]
struct Speed {
    low: u64,
    expected: u64,
    high: u64,
}

impl Speed {
    /// Past copies tell best what QEMU gets across; a probe tells that the way is slower now.
    fn of(probed: Option<u64>, past: &[Past]) -> Self {
        let mut speeds: Vec<u64> = past.iter().filter_map(Past::rate).collect();
        speeds.sort_unstable();
        let middle = speeds.get(speeds.len() / 2).copied();
        let ceiling = probed.unwrap_or(u64::MAX);
        match (middle, speeds.first(), speeds.last()) {
            (Some(middle), Some(lowest), Some(highest)) => {
                let expected = middle.min(ceiling);
                Self {
                    low: (*lowest).min(expected / 10 * 8),
                    expected,
                    high: (*highest).max(expected / 10 * 12).min(ceiling.max(expected)),
                }
            }
            _ => {
                let expected = STREAM.min(ceiling);
                let high = (expected * 2).min(ceiling.max(expected));
                Self { low: expected / 2, expected, high }
            }
        }
    }

    fn limited(self, bandwidth: Option<u64>) -> Self {
        let most = bandwidth.unwrap_or(u64::MAX).max(1);
        Self { low: self.low.min(most), expected: self.expected.min(most), high: self.high.min(most) }
    }
}

/// What the switch takes beside its data, ms.
#[derive(Debug, Clone, Copy)]
struct Switch {
    low: u64,
    expected: u64,
    high: u64,
}

impl Switch {
    fn of(past: &[Past]) -> Self {
        let mut pauses: Vec<u64> = past.iter().filter_map(|past| past.pause_ms).collect();
        pauses.sort_unstable();
        // A past pause may have had data in it: a short one says what is the least.
        let least = pauses.get(pauses.len() / 4).copied();
        let expected = least.map_or(SWITCH_MS, |least| least.clamp(SWITCH_MS / 2, 4 * SWITCH_MS));
        Self { low: expected / 2, expected, high: expected * 3 }
    }
}

impl Past {
    /// Bytes per second of the data alone; nothing for a copy that says nothing of it.
    fn rate(&self) -> Option<u64> {
        let zeroes = self.total.saturating_sub(self.sent);
        let beside = SETUP_MS + SWITCH_MS + millis(zeroes, ZERO_SCAN);
        let data_ms = self.copy_ms.saturating_sub(beside);
        let telling = !self.limited && self.sent >= TELLING && data_ms > 0;
        telling.then(|| self.sent.saturating_mul(1000) / data_ms)
    }
}

fn advice(end: End, may_end: bool, guest: &Guest, wish: &Wish) -> Vec<String> {
    let mut advice = Vec::new();
    let mut say = |text: &str| advice.push(text.to_owned());
    if end == End::DoesNotConverge {
        if may_end {
            say("it may just end if all goes well");
        }
        if wish.bandwidth.is_some() {
            say("allow more bandwidth (--bandwidth)");
        }
        if !wish.auto_converge {
            say("have the guest slowed down until it fits (--auto-converge)");
        }
        say("have the guest paused when the copy has not ended in time (--timeout SECONDS)");
        say("or allow the switch to post-copy: `virsh migrate --live --postcopy --postcopy-after-precopy`");
    }
    if end == End::Stopped {
        say("leave --no-live out, and the guest runs while it is copied");
    }
    if guest.runs && wish.live && guest.dirty.is_none() {
        say("how fast the guest writes to its memory is not known, so the range is wide");
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn guest(total_mib: u64, used_mib: u64, dirty_mib: u64) -> Guest {
        Guest { total: total_mib * MIB, used: used_mib * MIB, dirty: Some(dirty_mib * MIB), runs: true }
    }

    fn link(mib_per_s: u64) -> Link {
        Link { probed: Some(mib_per_s * MIB), past: Vec::new() }
    }

    const LIVE: Wish =
        Wish { live: true, postcopy: false, auto_converge: false, bandwidth: None, downtime_ms: None };

    fn is_about(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) * 10 <= expected
    }

    #[test]
    fn memory_that_is_still_zero_counts_little() {
        let idle = predict(&guest(8192, 100, 0), &link(100), &LIVE);
        let full = predict(&guest(8192, 8192, 0), &link(100), &LIVE);
        assert!(idle.copy_ms.expected < 3000, "{idle:?}");
        assert!(is_about(full.copy_ms.expected, 82_000), "{full:?}");
        assert!(is_about(full.bytes.expected, 8192 * MIB));
        assert_eq!((idle.end, idle.passes), (End::Converges, 1));
    }

    #[test]
    fn what_is_dirtied_is_sent_again_until_it_fits_the_pause() {
        let quiet = predict(&guest(2048, 1000, 0), &link(100), &LIVE);
        let busy = predict(&guest(2048, 1000, 50), &link(100), &LIVE);
        assert_eq!((quiet.end, busy.end), (End::Converges, End::Converges));
        assert!(is_about(quiet.copy_ms.expected, 10_250), "{quiet:?}");
        // A geometric row with a ratio of one half: twice the first pass.
        assert!(is_about(busy.copy_ms.expected, 20_000), "{busy:?}");
        assert!(busy.passes > quiet.passes && busy.bytes.expected > quiet.bytes.expected);
        let pause = busy.pause_ms.unwrap();
        assert!(pause.low <= SWITCH_MS && SWITCH_MS < pause.expected && pause.expected < 330, "{pause:?}");
        assert_eq!(pause.high, None, "at half the speed it would not end");
    }

    #[test]
    fn a_guest_that_dirties_faster_than_the_link_is_told_what_to_do() {
        let lost = predict(&guest(2048, 1000, 150), &link(100), &LIVE);
        assert_eq!(lost.end, End::DoesNotConverge);
        assert!(is_about(lost.copy_ms.expected, 10_250), "one pass: {lost:?}");
        assert_eq!(lost.copy_ms.high, None);
        let all = lost.advice.join("; ");
        assert!(
            all.contains("--auto-converge") && all.contains("--timeout") && all.contains("postcopy"),
            "{all}"
        );
        assert!(!all.contains("--bandwidth"), "none was set: {all}");
        let held = Wish { bandwidth: Some(40 * MIB), auto_converge: true, ..LIVE };
        let all = predict(&guest(2048, 1000, 50), &link(1000), &held).advice.join("; ");
        assert!(all.contains("--bandwidth") && !all.contains("--auto-converge"), "{all}");
    }

    #[test]
    fn a_small_busy_working_set_still_fits_the_longest_pause() {
        // It writes faster than the link, but all of its memory goes across in 0.2 s.
        let small = predict(&guest(256, 20, 500), &link(100), &LIVE);
        assert_eq!(small.end, End::Converges);
        assert!(small.pause_ms.unwrap().expected <= 300 + SWITCH_MS);
    }

    #[test]
    fn a_bandwidth_limit_is_the_speed_and_no_more() {
        let limit = Wish { bandwidth: Some(10 * MIB), ..LIVE };
        let held = predict(&guest(1024, 200, 0), &link(1000), &limit);
        assert_eq!(held.rate, 10 * MIB);
        assert!(is_about(held.copy_ms.expected, 20_200), "{held:?}");
        let wide = Wish { bandwidth: Some(5000 * MIB), ..LIVE };
        assert_eq!(predict(&guest(1024, 200, 0), &link(100), &wide).rate, 100 * MIB);
    }

    #[test]
    fn post_copy_ends_whatever_the_guest_does() {
        let wish = Wish { postcopy: true, ..LIVE };
        let moved = predict(&guest(2048, 1000, 5000), &link(100), &wish);
        assert_eq!((moved.end, moved.passes), (End::Postcopy, 2));
        assert!(is_about(moved.copy_ms.expected, 20_250), "each byte twice at most: {moved:?}");
        assert!(moved.pause_ms.unwrap().expected <= SWITCH_MS && moved.advice.is_empty());
    }

    #[test]
    fn a_guest_that_stands_still_dirties_nothing() {
        let paused = predict(&Guest { runs: false, ..guest(1024, 500, 900) }, &link(100), &LIVE);
        assert_eq!((paused.end, paused.pause_ms, paused.passes), (End::Converges, None, 1));
        assert!(is_about(paused.copy_ms.expected, 5100));
        let allowed = Wish { postcopy: true, ..LIVE };
        assert_eq!(predict(&Guest { runs: false, ..guest(1024, 500, 900) }, &link(100), &allowed), paused);
        let stopped = predict(&guest(1024, 500, 900), &link(100), &Wish { live: false, ..LIVE });
        assert_eq!(stopped.end, End::Stopped);
        assert_eq!(stopped.pause_ms.unwrap().expected, stopped.copy_ms.expected);
        assert!(stopped.advice[0].contains("--no-live"));
    }

    #[test]
    fn past_copies_tell_the_speed_and_a_slower_probe_corrects_them() {
        let past = |rate_mib: u64| Past {
            copy_ms: 1000 + SETUP_MS + SWITCH_MS,
            pause_ms: Some(20),
            total: rate_mib * MIB,
            sent: rate_mib * MIB,
            limited: false,
        };
        let link = Link { probed: Some(2000 * MIB), past: [300, 310, 290].map(past).to_vec() };
        let told = predict(&guest(1024, 600, 0), &link, &LIVE);
        assert_eq!((told.rate, told.past), (300 * MIB, 3));
        let range = told.copy_ms;
        assert!(range.low < range.expected && Some(range.expected) < range.high);
        let without = predict(&guest(1024, 600, 0), &Link { past: Vec::new(), ..link.clone() }, &LIVE);
        let width = |range: Range| range.high.unwrap() - range.low;
        assert!(width(without.copy_ms) > width(range), "less is known");
        let slower = Link { probed: Some(100 * MIB), ..link.clone() };
        assert_eq!(predict(&guest(1024, 600, 0), &slower, &LIVE).rate, 100 * MIB);
        let limited = Past { limited: true, ..past(10) };
        let small = Past { sent: MIB, ..past(10) };
        let link = Link { past: vec![limited, small, past(300)], ..link };
        assert_eq!(
            predict(&guest(1024, 600, 0), &link, &LIVE).rate,
            300 * MIB,
            "those say nothing of the way"
        );
    }

    #[test]
    fn what_is_not_known_widens_the_range() {
        let unknown = Guest { dirty: None, ..guest(1024, 500, 0) };
        let told = predict(&unknown, &Link::default(), &LIVE);
        assert_eq!(told.end, End::Converges);
        assert!(told.advice[0].contains("not known"), "{told:?}");
        assert_eq!(told.copy_ms.high, None, "it may write as fast as it likes");
        let known = predict(&guest(1024, 500, 0), &Link::default(), &LIVE);
        assert!(known.copy_ms.high > Some(known.copy_ms.expected), "{known:?}");
    }

    #[test]
    fn nonsense_does_no_harm() {
        let wild = Guest { total: 1, used: u64::MAX, dirty: Some(u64::MAX), runs: true };
        for probed in [None, Some(0), Some(u64::MAX)] {
            let told = predict(&wild, &Link { probed, past: vec![Past::default()] }, &LIVE);
            assert!(told.copy_ms.low <= told.copy_ms.expected, "{told:?}");
        }
        let empty = Guest { total: 0, used: 0, dirty: Some(0), runs: true };
        assert_eq!(predict(&empty, &link(1), &LIVE).end, End::Converges);
    }

    #[test]
    fn it_is_kept_as_json() {
        let told = predict(&guest(1024, 500, 10), &link(100), &LIVE);
        let text = serde_json::to_string(&told).unwrap();
        assert!(text.contains(r#""end":"converges""#), "{text}");
        assert_eq!(serde_json::from_str::<Prediction>(&text).unwrap(), told);
    }
}
