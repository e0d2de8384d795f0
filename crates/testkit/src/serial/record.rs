//! What was heard of a guest, and the verdict on it. Pure: instants come in with the lines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Lines that are kept as text, for messages.
const LINES_MAX: usize = 50;

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A heartbeat.
    Beat {
        /// Its number, from 1.
        seq: u64,
        /// The guest's monotonic clock, microseconds; the boot sector has none.
        t_us: Option<u64>,
    },
    /// The Linux guest has started everything.
    Ready(BTreeMap<String, String>),
    /// The answer to a command.
    Reply(BTreeMap<String, String>),
    /// Something that must not be; the whole line.
    Anomaly(String),
    /// The guest powers itself off.
    End(BTreeMap<String, String>),
    /// Anything else, such as the kernel's messages. The text is kept for the last lines only.
    Other,
}

impl Event {
    /// Reads one line.
    pub fn parse(line: &str) -> Self {
        let Some(rest) = line.strip_prefix("ferry-guest ") else {
            // A kernel in trouble says so in its own words.
            let trouble = ["Kernel panic", "BUG: ", "Oops: "].iter().any(|words| line.contains(words));
            return if trouble { Self::Anomaly(line.to_owned()) } else { Self::Other };
        };
        let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match kind {
            "beat" => {
                let fields = fields(rest);
                let number = |key: &str| fields.get(key).and_then(|value| value.parse().ok());
                match number("seq") {
                    Some(seq) => Self::Beat { seq, t_us: number("t") },
                    // The boot sector's way to say that its memory is not what it was; or a line that was torn.
                    None => Self::Anomaly(line.to_owned()),
                }
            }
            "ready" => Self::Ready(fields(rest)),
            "reply" => Self::Reply(fields(rest)),
            "end" => Self::End(fields(rest)),
            "note" => Self::Other,
            _ => Self::Anomaly(line.to_owned()),
        }
    }
}

/// `key=value` pairs; a value in quotes may hold blanks.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        fields.insert(key.to_owned(), value.to_owned());
        rest = after.trim_start();
    }
    fields
}

/// An event with its place and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Number of the log that it stood in, or ended in.
    pub port: usize,
    /// When it was read.
    pub at: Instant,
    /// What it was.
    pub event: Event,
}

/// Everything heard, in order.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// All events but [`Event::Other`].
    pub heard: Vec<Heard>,
    last: Vec<String>,
    /// Beats of each port.
    beats: BTreeMap<usize, usize>,
}

impl Record {
    /// Adds a line that was read at `at`; `began` is when the reading began, for messages.
    pub fn hear(&mut self, port: usize, at: Instant, began: Instant, line: &str) {
        if self.last.len() == LINES_MAX {
            self.last.remove(0);
        }
        self.last.push(format!("[{:9.4} port {port}] {line}", (at - began).as_secs_f64()));
        let event = Event::parse(line);
        if matches!(event, Event::Beat { .. }) {
            *self.beats.entry(port).or_default() += 1;
        }
        if event != Event::Other {
            self.heard.push(Heard { port, at, event });
        }
    }

    /// Beats heard.
    pub fn beats(&self) -> usize {
        self.beats.values().sum()
    }

    /// Beats heard from one port.
    pub fn beats_on(&self, port: usize) -> usize {
        self.beats.get(&port).copied().unwrap_or(0)
    }

    /// The last lines, for a message.
    pub fn last_lines(&self, count: usize) -> String {
        self.last[self.last.len().saturating_sub(count)..].join("\n")
    }

    /// The part from event `mark` on, and the last beat before it.
    pub fn since(&self, mark: usize) -> Self {
        let mark = mark.min(self.heard.len());
        let before = self.heard[..mark].iter().rev().find(|heard| matches!(heard.event, Event::Beat { .. }));
        let heard: Vec<Heard> = before.into_iter().chain(&self.heard[mark..]).cloned().collect();
        let mut beats = BTreeMap::new();
        for beat in heard.iter().filter(|heard| matches!(heard.event, Event::Beat { .. })) {
            *beats.entry(beat.port).or_default() += 1;
        }
        Self { heard, last: self.last.clone(), beats }
    }

    /// Judges all that was heard.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let mut last: Option<(u64, Instant, usize)> = None;
        for Heard { port, at, event } in &self.heard {
            match event {
                Event::Anomaly(line) => verdict.anomalies.push(line.clone()),
                Event::Beat { seq, .. } => {
                    verdict.beats += 1;
                    if let Some((last_seq, last_at, last_port)) = last {
                        verdict.follow((last_seq, last_at, last_port), (*seq, *at, *port));
                    }
                    last = Some((last.map_or(*seq, |(last_seq, ..)| last_seq.max(*seq)), *at, *port));
                }
                _ => {}
            }
        }
        verdict
    }
}

/// The longest time without a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The beat after which it was silent.
    pub after: u64,
    /// For how long, beat to beat; the guest's period is part of it.
    pub length: Duration,
}

/// What the beats prove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Beats heard.
    pub beats: usize,
    /// Beats that were never heard, as `(first, last)` of each gap in the numbers.
    pub lost: Vec<(u64, u64)>,
    /// Beats heard again, or after a later one: a guest that was set back, or two that run.
    pub repeated: Vec<u64>,
    /// What the guest itself found wrong, and lines that were torn.
    pub anomalies: Vec<String>,
    /// The longest time between two beats.
    pub longest: Option<Pause>,
    /// The time between the last beat of one log and the first of the next, for each change.
    pub moves: Vec<Pause>,
}

impl Verdict {
    /// Nothing lost, nothing repeated, nothing wrong, and at least one beat.
    ///
    /// # Errors
    /// What is not so, in words.
    pub fn whole(&self) -> Result<(), String> {
        if self.beats > 0 && self.lost.is_empty() && self.repeated.is_empty() && self.anomalies.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} beats; lost {:?}; repeated {:?}; anomalies {:#?}",
            self.beats, self.lost, self.repeated, self.anomalies
        ))
    }

    /// The longest time between two beats; zero when there were not two.
    pub fn longest_pause(&self) -> Duration {
        self.longest.map_or(Duration::ZERO, |pause| pause.length)
    }

    fn follow(
        &mut self,
        (last, last_at, last_port): (u64, Instant, usize),
        (seq, at, port): (u64, Instant, usize),
    ) {
        if seq <= last {
            self.repeated.push(seq);
        } else if seq > last + 1 {
            self.lost.push((last + 1, seq - 1));
        }
        let pause = Pause { after: last, length: at.saturating_duration_since(last_at) };
        if self.longest.is_none_or(|longest| pause.length > longest.length) {
            self.longest = Some(pause);
        }
        if port != last_port {
            self.moves.push(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears `lines` of (milliseconds, port, line).
    fn heard(lines: &[(u64, usize, &str)]) -> Record {
        let began = Instant::now();
        let mut record = Record::default();
        for (ms, port, line) in lines {
            record.hear(*port, began + Duration::from_millis(*ms), began, line);
        }
        record
    }

    #[test]
    fn a_clean_move_is_whole_and_its_pause_is_measured() {
        let verdict = heard(&[
            (0, 0, "ferry-guest beat seq=1 t=5"),
            (10, 0, "ferry-guest beat seq=2 t=6"),
            (95, 1, "ferry-guest beat seq=3 t=7"),
            (105, 1, "ferry-guest beat seq=4 t=8"),
        ])
        .verdict();
        verdict.whole().unwrap();
        let pause = Pause { after: 2, length: Duration::from_millis(85) };
        assert_eq!((verdict.longest, verdict.moves), (Some(pause), vec![pause]));
    }

    #[test]
    fn lost_and_repeated_beats_are_named() {
        let record = heard(&[
            (0, 0, "ferry-guest beat seq=1"),
            (1, 0, "ferry-guest beat seq=4"),
            (2, 1, "ferry-guest beat seq=3"),
            (3, 0, "ferry-guest beat seq=5"),
        ]);
        let verdict = record.verdict();
        assert_eq!(verdict.lost, [(2, 3)]);
        assert_eq!(verdict.repeated, [3]);
        assert!(verdict.whole().unwrap_err().contains("repeated [3]"));
        assert_eq!(record.since(3).verdict().beats, 2);
    }

    #[test]
    fn anomalies_count_in_every_form() {
        for line in [
            "ferry-guest anomaly kind=memory index=3",
            "ferry-guest beat seqx70",
            "Kernel panic - not syncing",
        ] {
            let verdict = heard(&[(0, 0, "ferry-guest beat seq=1"), (1, 0, line)]).verdict();
            assert_eq!(verdict.anomalies, [line]);
        }
    }

    #[test]
    fn silence_proves_nothing() {
        assert!(heard(&[]).verdict().whole().is_err());
    }

    #[test]
    fn fields_may_be_quoted() {
        let Event::Reply(fields) = Event::parse(r#"ferry-guest reply cmd=ping ok=1 word="two words" x=1"#)
        else {
            panic!("not a reply")
        };
        assert_eq!((fields["word"].as_str(), fields["x"].as_str()), ("two words", "1"));
    }
}
