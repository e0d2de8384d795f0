//! Random schedules over two simulated hosts: many of them, one of them, or one that was saved.
//!
//! Exit code 0 when the promise is kept.

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use ferry_testkit::simulation::{Failure, Rules, Story, run, run_many};

const USAGE: &str = "\
usage: simulation [--schedules N] [--first SEED] | --seed SEED | --replay FILE

  --schedules  so many, from the seed --first on; the shortest that fails is saved in simulation-SEED.jsonl
  --seed       one of them, told event by event when it fails
  --replay     one that was saved, told event by event";

#[expect(clippy::print_stdout, reason = "what it finds is what this program is for")]
fn main() -> ExitCode {
    let told = match act(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(told) => told,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("{}", told.text);
    if told.is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Told {
    text: String,
    is_kept: bool,
}

fn act(words: &[String]) -> Result<Told, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let rules = Rules::default();
    let broke = |failure: &Failure| {
        let text = format!("{}{:?}", failure.story.tell().0, failure.violation);
        Told { text, is_kept: false }
    };
    match words[..] {
        ["--replay", file] => {
            let story = Story::load(Path::new(file)).map_err(|error| error.to_string())?;
            let (text, violation) = story.tell();
            Ok(Told { text: format!("{text}{violation:?}"), is_kept: violation.is_none() })
        }
        ["--seed", seed] => Ok(match run(number(seed)?, &rules) {
            Ok(ended) => Told { text: format!("{ended:?}"), is_kept: true },
            Err(failure) => broke(&failure),
        }),
        ["--schedules", count] => many(0, number(count)?, &rules, broke),
        ["--schedules", count, "--first", first] => many(number(first)?, number(count)?, &rules, broke),
        _ => Err(String::new()),
    }
}

fn many(first: u64, count: u64, rules: &Rules, broke: impl Fn(&Failure) -> Told) -> Result<Told, String> {
    let began = Instant::now();
    let tally = run_many(first..first.saturating_add(count), rules);
    let figures = format!(
        "{count} schedules from seed {first} on, {:.0} s: {:?}",
        began.elapsed().as_secs_f64(),
        tally.ended
    );
    let Some(failure) = tally.failure else { return Ok(Told { text: figures, is_kept: true }) };
    let place = format!("simulation-{}.jsonl", failure.story.seed());
    failure.story.save(Path::new(&place)).map_err(|error| error.to_string())?;
    let Told { text, is_kept } = broke(&failure);
    Ok(Told {
        text: format!("{text}\n{figures}\n{} fail; this one is saved in {place}", tally.failed),
        is_kept,
    })
}

fn number<T: FromStr<Err = std::num::ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}
