//! `ferry-bench`: the same guest migrated by Ferry, by stock libvirt, and by nobody (two bare QEMUs driven by raw QMP, the
//! floor), interleaved in shuffled order on the same kind of hosts; medians, minima, maxima, and ratios to the floor.
//!
//! `--help` teaches how to run it, `bench/README.md` what the figures mean and how they stay honest. It refuses to know
//! how any of them migrates: wall time is that of an unmodified `virsh migrate`, the rest is told by the guest and by
//! the two QEMUs.
//!
//! | in reading order | |
//! |---|---|
//! | [`cli`] | what can be asked for |
//! | [`contender`], [`order`] | who migrates, and in which order |
//! | [`arena`] | hosts, daemons, a fresh guest for each run, and the run itself |
//! | [`tap`] | what QEMU itself says of a migration, by the stamps of its events |
//! | [`machine`] | load, disk and versions |
//! | [`statistics`], [`report`] | what comes of it |
//! | [`restart`] | another thing: how soon a restarted daemon has found its guests |
//! | [`foresee`] | and another: what a plan predicts, beside what comes |

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

mod arena;
mod cli;
mod contender;
mod foresee;
mod machine;
mod order;
mod report;
mod restart;
mod statistics;
mod tap;

use arena::Arena;
use cli::Cli;
use order::Shuffle;
use report::Report;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("ferry-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs all rounds and prints a report for each guest. A run that fails ends the guest's rounds; what was measured until
/// then is printed all the same.
fn run(cli: &Cli) -> ferry_testkit::Result<()> {
    if let Some(guests) = cli.restart {
        let report = restart::run(guests, cli.rounds, note)?;
        let _ = writeln!(io::stdout(), "{report}");
        return Ok(());
    }
    if cli.predict {
        let report = foresee::run(cli.markdown, note)?;
        let _ = writeln!(io::stdout(), "{report}");
        return Ok(());
    }
    let mut shuffle = Shuffle::new(cli.seed());
    let mut arena = Arena::open(cli)?;
    for why in arena.missing() {
        note(why);
    }
    for guest in cli.guests() {
        let mut report = Report::new(cli, guest, &arena, shuffle.seed());
        let ended = rounds(cli, guest, &mut arena, &mut shuffle, &mut report);
        // Nobody is left to tell when standard output is closed.
        let _ = writeln!(io::stdout(), "{}", report.text(cli.markdown));
        ended?;
    }
    Ok(())
}

fn rounds(
    cli: &Cli,
    guest: cli::Guest,
    arena: &mut Arena,
    shuffle: &mut Shuffle,
    report: &mut Report,
) -> ferry_testkit::Result<()> {
    let mut contenders = arena.contenders();
    for round in 0..cli.warm_up + cli.rounds {
        shuffle.apply(&mut contenders);
        for &contender in &contenders {
            let run = arena.run(contender, guest)?;
            let counted = round.checked_sub(cli.warm_up);
            let what = counted.map_or_else(|| "warm-up".to_owned(), |round| format!("round {}", round + 1));
            note(&format!("{what}: {contender}: {run}"));
            if let Some(round) = counted {
                report.add(round, contender, run);
            }
        }
    }
    Ok(())
}

/// Progress goes to standard error, so that standard output is the report and nothing else.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
