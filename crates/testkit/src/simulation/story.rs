//! What happened in a schedule, event by event: saved, read, and told again by letting it happen once more.
//! Called by the tests and by the program `simulation`.
//!
//! Seeds mean something else as soon as anything is drawn differently; a story stays what it is.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::schedule::Rules;
use super::steps::Step;
use super::world::{Broken, Side, Violation, World};
use crate::{Error, Result};

/// One schedule as it happened. As a file: a line for its beginning, and one for each event, in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    beginning: Beginning,
    events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Beginning {
    seed: u64,
    guests: usize,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Event {
    ms: u64,
    step: Step,
}

impl Story {
    pub(crate) fn new(seed: u64, rules: &Rules) -> Self {
        let beginning = Beginning { seed, guests: rules.guests, broken: rules.broken };
        Self { beginning, events: Vec::new() }
    }

    pub(crate) fn add(&mut self, ms: u64, step: Step) {
        self.events.push(Event { ms, step });
    }

    /// The seed that it was drawn from.
    pub const fn seed(&self) -> u64 {
        self.beginning.seed
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Writes it into a file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let lines = serde_json::to_string(&self.beginning).into_iter();
        let lines = lines.chain(self.events.iter().flat_map(serde_json::to_string));
        let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
        fs::write(path, text).map_err(Error::io(format!("writing {path:?}")))
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unexpected`] when the file is none of ours.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(format!("reading {path:?}")))?;
        let foreign = |detail: String| Error::Unexpected { what: format!("story in {path:?}"), detail };
        let (beginning, events) = text.split_once('\n').ok_or_else(|| foreign("it is empty".into()))?;
        let beginning = serde_json::from_str(beginning).map_err(|error| foreign(error.to_string()))?;
        let events: std::result::Result<_, _> = events.lines().map(serde_json::from_str).collect();
        Ok(Self { beginning, events: events.map_err(|error| foreign(error.to_string()))? })
    }

    /// Lets all of it happen again: what there is to tell, and what was broken.
    pub fn tell(&self) -> (String, Option<Violation>) {
        let mut world = World::new(self.beginning.guests, self.beginning.broken);
        let mut told = format!("seed {}\n", self.beginning.seed);
        for Event { ms, step } in &self.events {
            let before = world.clone();
            world.outbox.clear();
            world.happen(*ms, *step);
            for line in std::iter::once(step.to_string()).chain(changes(&before, &world)) {
                // Writing into a string does not fail.
                let _ = writeln!(told, "{ms:>9} ms  {line}");
            }
            if world.violation.is_some() {
                return (told, world.violation);
            }
        }
        let left = if world.is_at_rest() { world.judge_end().err() } else { Some(world.left()) };
        (told, left)
    }
}

/// What a step has changed, as its reader needs it.
fn changes(before: &World, after: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for at in after.places() {
        let place = format!("    guest {} on host {}:", at.guest, at.host);
        let (was, is) = (before.side(at), after.side(at));
        if phases(was) != phases(is) {
            lines.push(format!("{place} {} -> {}", phases(was), phases(is)));
        }
        if was.journal != is.journal {
            lines.push(format!("{place} on record: {}", records(is)));
        }
    }
    for letter in &after.outbox {
        let (word, id, host) = (letter.word, letter.id.as_bytes()[1], letter.to.host);
        lines.push(format!("    says {word} of {id} to host {host}"));
    }
    lines
}

fn phases(side: &Side) -> String {
    let all = side.present.iter().chain(&side.settling);
    let all = all.map(|each| format!("{} {}", each.machine.id().as_bytes()[1], each.machine.phase_name()));
    all.collect::<Vec<_>>().join(", ")
}

fn records(side: &Side) -> String {
    let all = side.journal.iter().map(|each| format!("{} {:?}", each.id.as_bytes()[1], each.status));
    all.collect::<Vec<_>>().join(", ")
}
