//! What the spectator sees: the steps of the story, and below them the guest's heartbeat as it is.
//!
//! On a terminal the heartbeat is one line that is drawn anew ten times a second; elsewhere a line comes every two
//! seconds. Steps go to standard output, the heartbeat to standard error.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferry_migration::coordinator::Call;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::ear::lock;
use super::guest::BEATS_PER_S;
use super::heart::Heart;
use crate::migrate::figures::{Bytes, Figures, Span};
use crate::migrate::show::Watcher;

/// How often the line is drawn on a terminal.
const DRAWN: Duration = Duration::from_millis(100);

/// How often a line is written elsewhere.
const WRITTEN: Duration = Duration::from_secs(2);

/// Beats that fill a column of the pulse, each a tenth of a second.
const FULL: u32 = BEATS_PER_S / 10;

/// The display.
pub(crate) struct Show {
    bar: ProgressBar,
    doing: Arc<Mutex<String>>,
    task: Option<JoinHandle<()>>,
}

impl Show {
    /// An empty stage.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, doing: Arc::default(), task: None }
    }

    /// Shows this heart from now on.
    pub(crate) fn follow(&mut self, heart: Arc<Mutex<Heart>>) {
        let (bar, doing) = (self.bar.clone(), Arc::clone(&self.doing));
        self.task = Some(tokio::spawn(async move {
            let mut ticks = interval(if bar.is_hidden() { WRITTEN } else { DRAWN });
            loop {
                ticks.tick().await;
                let doing = doing.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let line = line(&mut lock(&heart), &doing);
                if bar.is_hidden() {
                    let _ = writeln!(std::io::stderr(), "{line}");
                } else {
                    bar.set_message(line);
                    bar.tick();
                }
            }
        }));
    }

    /// A step of the story.
    pub(crate) fn step(&self, text: &str) {
        self.bar.suspend(|| crate::say(text));
    }

    /// What stands beside the heartbeat.
    pub(crate) fn doing(&self, text: impl Into<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// The heartbeat, in one line: the last seconds, the number, the longest gap since the last step.
fn line(heart: &mut Heart, doing: &str) -> String {
    let (pulse, beat) = (heart.pulse(Instant::now(), FULL), heart.highest());
    format!("   {pulse}  beat {beat:<5} gap {:>6}  {doing}", Span(heart.gap()).to_string())
}

/// A migration is watched beside the heartbeat.
pub(crate) struct Beside<'a> {
    /// The display.
    pub(crate) show: &'a Show,
    /// The migration in words: `a → b`.
    pub(crate) title: String,
}

impl Watcher for Beside<'_> {
    fn period(&self) -> Duration {
        DRAWN
    }

    fn phase(&mut self, call: Call) {
        let words = match call {
            Call::Begin | Call::Prepare => "preparing",
            Call::Perform => "copying",
            Call::Finish { .. } | Call::Look | Call::Confirm(_) => "handing over",
        };
        self.show.doing(format!("{}: {words}", self.title));
    }

    fn figures(&mut self, figures: &Figures) {
        // Short, so that it fits beside the heartbeat.
        let left = Bytes(figures.remaining);
        self.show.doing(format!("{}: {left} left, pass {}", self.title, figures.passes));
    }

    fn note(&mut self, text: &str) {
        self.show.step(&format!("   {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_pulse_beat_gap_and_what_goes_on() {
        let began = Instant::now();
        let mut heart = Heart::new(began);
        heart.hear(began, "ferry-guest beat seq=41");
        heart.hear(began + Duration::from_millis(12), "ferry-guest beat seq=42");
        let line = line(&mut heart, "running on a");
        assert!(line.ends_with("beat 42    gap  12 ms  running on a"), "{line}");
    }
}
