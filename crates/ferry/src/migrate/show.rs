//! How a migration is watched: a bar on a terminal, lines elsewhere, nothing when it is to be quiet.
//!
//! Called by whoever carries a migration out. Progress goes to standard error, so that the result stands alone on
//! standard output.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use ferry_migration::coordinator::Call;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::figures::Figures;

/// Somebody who watches.
pub(crate) trait Watcher: Send {
    /// How often the figures are wanted.
    fn period(&self) -> Duration;
    /// A phase begins.
    fn phase(&mut self, call: Call);
    /// The copy has got this far.
    fn figures(&mut self, figures: &Figures);
    /// Something that the operator should know at once.
    fn note(&mut self, text: &str);
}

/// What suits the place that standard error goes to.
pub(crate) fn watcher(guest: &str, quiet: bool) -> Box<dyn Watcher> {
    if quiet {
        Box::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Box::new(Bar::new(guest))
    } else {
        Box::new(Lines { guest: guest.to_owned() })
    }
}

/// What the operator reads while a phase goes on.
const fn words(call: Call) -> &'static str {
    match call {
        Call::Begin => "asking the source",
        Call::Prepare => "preparing the destination",
        Call::Perform => "starting the copy",
        Call::Finish { cancelled: false } => "starting the guest on the destination",
        Call::Finish { cancelled: true } => "cleaning up the destination",
        Call::Look => "the destination's answer was lost: looking where the guest is",
        Call::Confirm(_) => "telling the source",
    }
}

/// Nothing is shown.
struct Silent;

impl Watcher for Silent {
    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn phase(&mut self, _: Call) {}

    fn figures(&mut self, _: &Figures) {}

    fn note(&mut self, text: &str) {
        line(text);
    }
}

/// A bar that is drawn anew.
struct Bar(ProgressBar);

impl Bar {
    fn new(guest: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
        let template = "{prefix} [{bar:10}] {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(guest.to_owned());
        Self(bar)
    }
}

impl Watcher for Bar {
    fn period(&self) -> Duration {
        Duration::from_millis(250)
    }

    fn phase(&mut self, call: Call) {
        self.0.set_message(words(call));
        self.0.tick();
    }

    fn figures(&mut self, figures: &Figures) {
        self.0.set_position(figures.done_permille());
        self.0.set_message(figures.to_string());
    }

    fn note(&mut self, text: &str) {
        self.0.suspend(|| line(text));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line each second.
struct Lines {
    guest: String,
}

impl Watcher for Lines {
    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn phase(&mut self, call: Call) {
        line(&format!("{}: {}", self.guest, words(call)));
    }

    fn figures(&mut self, figures: &Figures) {
        line(&format!("{}: {figures}", self.guest));
    }

    fn note(&mut self, text: &str) {
        line(&format!("{}: {text}", self.guest));
    }
}

/// A line about a migration, whoever watches it.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
