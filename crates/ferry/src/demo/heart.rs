//! The guest's heartbeat as somebody outside hears it.
//!
//! Called by the reader of the serial log with each line and the time at which it came; asked by the display and for the
//! verdict. Pure. A guest's own clock stands still while it is stopped, so only the arrival of its beats shows a pause.
//!
//! Beats are numbered without a gap: a number that is missing was lost, one that comes again (or after a later one)
//! means that the guest was set back, or that two of them run.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ferry_guest::{Fields, Line};

/// Length of one column of the pulse.
const COLUMN: Duration = Duration::from_millis(100);

/// Columns that are kept.
const COLUMNS: usize = 25;

/// Beats whose times are kept: more than a migration's end can be told late by.
const TIMES_KEPT: usize = 4096;

/// Bars of the pulse, from no beat to all that can be.
const BARS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Anomalies that are kept as text; all are counted.
const ANOMALIES_KEPT: usize = 5;

/// What was heard.
#[derive(Debug)]
pub(crate) struct Heart {
    began: Instant,
    /// The highest number heard, and when the last beat came.
    last: Option<(u64, Instant)>,
    beats: u64,
    lost: u64,
    repeated: u64,
    anomalies: u64,
    anomaly_texts: Vec<String>,
    /// The longest silence since the last mark.
    gap: Duration,
    /// When the latest beats came.
    times: VecDeque<Instant>,
    ready: bool,
    /// The last reply.
    reply: Option<Fields>,
    /// Beats of each column; the last one is number `column`.
    pulse: VecDeque<u32>,
    column: u64,
}

impl Heart {
    /// Nothing heard yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            last: None,
            beats: 0,
            lost: 0,
            repeated: 0,
            anomalies: 0,
            anomaly_texts: Vec::new(),
            gap: Duration::ZERO,
            times: VecDeque::with_capacity(TIMES_KEPT),
            ready: false,
            reply: None,
            pulse: VecDeque::from(vec![0; COLUMNS]),
            column: 0,
        }
    }

    /// A line came at `at`.
    pub(crate) fn hear(&mut self, at: Instant, line: &str) {
        match Line::parse(line) {
            Line::Beat { seq } => self.beat(at, seq),
            Line::Ready(_) => self.ready = true,
            Line::Reply(fields) => self.reply = Some(fields),
            Line::Anomaly(text) => {
                self.anomalies += 1;
                if self.anomaly_texts.len() < ANOMALIES_KEPT {
                    self.anomaly_texts.push(text);
                }
            }
            Line::End(_) | Line::Note(_) | Line::Foreign => {}
        }
    }

    fn beat(&mut self, at: Instant, seq: u64) {
        self.beats += 1;
        if self.times.len() == TIMES_KEPT {
            self.times.pop_front();
        }
        self.times.push_back(at);
        self.turn_to(at);
        if let Some(column) = self.pulse.back_mut() {
            *column += 1;
        }
        let highest = match self.last {
            None => seq,
            Some((highest, before)) => {
                self.gap = self.gap.max(at.saturating_duration_since(before));
                if seq <= highest {
                    self.repeated += 1;
                } else {
                    self.lost += seq - highest - 1;
                }
                highest.max(seq)
            }
        };
        self.last = Some((highest, at));
    }

    /// Moves the pulse on, so that its last column is that of `now`.
    fn turn_to(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.began).as_millis() / COLUMN.as_millis();
        let column = u64::try_from(elapsed).unwrap_or(u64::MAX);
        for _ in 0..column.saturating_sub(self.column).min(COLUMNS as u64) {
            self.pulse.pop_front();
            self.pulse.push_back(0);
        }
        self.column = self.column.max(column);
    }

    /// Begins a new chapter for [`gap`](Self::gap).
    pub(crate) fn mark(&mut self) {
        self.gap = Duration::ZERO;
        self.reply = None;
    }

    /// The longest time between two beats since the mark; the one under way at the mark counts.
    pub(crate) const fn gap(&self) -> Duration {
        self.gap
    }

    /// The longest silence that overlaps the time between two moments. Nothing when no beat was heard after it (yet).
    pub(crate) fn gap_between(&self, from: Instant, to: Instant) -> Option<Duration> {
        let (first, end) =
            (self.times.partition_point(|at| *at <= from), self.times.partition_point(|at| *at <= to));
        let gaps = (first.max(1)..=end).map(|after| {
            let (before, after) = (self.times.get(after - 1)?, self.times.get(after)?);
            Some(after.saturating_duration_since(*before))
        });
        gaps.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Beats heard.
    pub(crate) const fn beats(&self) -> u64 {
        self.beats
    }

    /// The highest number heard.
    pub(crate) fn highest(&self) -> u64 {
        self.last.map_or(0, |(highest, _)| highest)
    }

    /// The guest has started everything.
    pub(crate) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// The last answer to a command since the mark.
    pub(crate) const fn reply(&self) -> Option<&Fields> {
        self.reply.as_ref()
    }

    /// What the beats prove so far.
    pub(crate) fn proof(&self) -> Proof {
        Proof {
            beats: self.beats,
            lost: self.lost,
            repeated: self.repeated,
            anomalies: self.anomalies,
            anomaly_texts: self.anomaly_texts.clone(),
        }
    }

    /// The last seconds as bars; `full` is how many beats fill a column.
    pub(crate) fn pulse(&mut self, now: Instant, full: u32) -> String {
        self.turn_to(now);
        let top = BARS.len() - 1;
        // The column under way is not full yet, so it is not shown.
        let whole = self.pulse.iter().take(COLUMNS - 1);
        whole
            .map(|beats| match *beats {
                0 => BARS[0],
                beats => BARS[(beats as usize * top / full.max(1) as usize).clamp(1, top)],
            })
            .collect()
    }
}

/// What the beats prove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Beats heard.
    pub(crate) beats: u64,
    /// Numbers that never came.
    pub(crate) lost: u64,
    /// Numbers that came again, or too late.
    pub(crate) repeated: u64,
    /// Things that must not be: what the guest found wrong, torn lines, a kernel's panic.
    pub(crate) anomalies: u64,
    /// The first of them.
    pub(crate) anomaly_texts: Vec<String>,
}

impl Proof {
    /// The guest was heard, and nothing was lost, repeated or wrong.
    pub(crate) const fn is_whole(&self) -> bool {
        self.beats > 0 && self.lost == 0 && self.repeated == 0 && self.anomalies == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears beats of (milliseconds, number).
    fn heard(beats: &[(u64, u64)]) -> (Heart, Instant) {
        let began = Instant::now();
        let mut heart = Heart::new(began);
        for (ms, seq) in beats {
            heart.hear(began + Duration::from_millis(*ms), &format!("ferry-guest beat seq={seq} t=1"));
        }
        (heart, began)
    }

    #[test]
    fn an_unbroken_count_is_whole_and_silence_is_not() {
        let (heart, _) = heard(&[(0, 7), (5, 8), (90, 9)]);
        assert!(heart.proof().is_whole());
        assert_eq!((heart.gap(), heart.highest(), heart.beats()), (Duration::from_millis(85), 9, 3));
        assert!(!heard(&[]).0.proof().is_whole());
    }

    #[test]
    fn lost_and_repeated_beats_are_counted() {
        let (heart, _) = heard(&[(0, 1), (1, 5), (2, 4), (3, 6)]);
        let proof = heart.proof();
        assert_eq!((proof.lost, proof.repeated), (3, 1));
        assert!(!proof.is_whole());
    }

    #[test]
    fn a_mark_begins_a_new_chapter_with_the_silence_under_way() {
        let (mut heart, began) = heard(&[(0, 1), (500, 2)]);
        heart.mark();
        assert_eq!(heart.gap(), Duration::ZERO);
        heart.hear(began + Duration::from_millis(530), "ferry-guest beat seq=3");
        assert_eq!(heart.gap(), Duration::from_millis(30));
    }

    #[test]
    fn the_gap_around_a_moment_is_found() {
        let (heart, began) = heard(&[(0, 1), (5, 2), (36, 3), (40, 4), (300, 5)]);
        let at = |ms| began + Duration::from_millis(ms);
        let gap = |from, to| heart.gap_between(at(from), at(to)).map(|gap| gap.as_millis());
        assert_eq!((gap(20, 20), gap(30, 38), gap(2, 4)), (Some(31), Some(31), Some(5)));
        assert_eq!((gap(38, 290), gap(290, 310), gap(400, 500)), (Some(260), None, None));
    }

    #[test]
    fn what_is_wrong_counts_and_is_kept_within_bounds() {
        let (mut heart, began) = heard(&[(0, 1)]);
        for _ in 0..100 {
            heart.hear(began, "ferry-guest anomaly kind=page");
        }
        let proof = heart.proof();
        assert_eq!((proof.anomalies, proof.anomaly_texts.len()), (100, ANOMALIES_KEPT));
        assert!(!proof.is_whole());
    }

    #[test]
    fn the_pulse_shows_beats_and_pauses() {
        let beats: Vec<(u64, u64)> = (0..30).map(|n| (n * 10, n + 1)).chain([(510, 31)]).collect();
        let (mut heart, began) = heard(&beats);
        let pulse = heart.pulse(began + Duration::from_millis(600), 10);
        assert!(pulse.ends_with("███··▁"), "{pulse}");
        assert_eq!(pulse.chars().count(), COLUMNS - 1);
        let later = heart.pulse(began + Duration::from_secs(3600), 10);
        assert!(later.chars().all(|bar| bar == '·'), "{later}");
    }
}
