//! The matrix of faults, all of it or a part, as a table: `cargo run -p ferry-tests --bin fault-matrix -- --help`.
//!
//! Exit code 0 when every cell is as it must be.

use std::num::ParseIntError;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use ferry_tests::Pair;
use ferry_tests::faults::{Fault, Mode, Moment, cells, run, run_all, shoot, shots, table};

const USAGE: &str = "\
usage: fault-matrix [--mode M,...] [--moment M,...] [--fault F,...] [--times N] [--shots N [--seed N]] [--newer] [--workers N]

Runs every combination of migration, moment and fault on two private hosts (as root), and prints a table.
  modes    direct, p2p, postcopy-direct, postcopy-p2p
  moments  prepare, mid, preswitch, gap, handoff, finishing, postrun
  faults   source-daemon, destination-daemon, source-qemu, destination-qemu, client, network
  --times  each cell so often
  --shots  instead of cells: so many hits at times that the seed chooses, on ordinary daemons
  --newer  QEMU and virsh of backports instead of the distribution's own";

struct Wanted {
    modes: Vec<Mode>,
    moments: Vec<Moment>,
    faults: Vec<Fault>,
    times: usize,
    shots: usize,
    seed: u64,
    newer: bool,
    workers: usize,
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() -> ExitCode {
    let wanted = match Wanted::read(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let tools = if wanted.newer { Pair::newer() } else { Pair::distribution() };
    let (reports, table) = if wanted.shots > 0 {
        let shots = shots(wanted.seed, wanted.shots, &wanted.modes, &wanted.faults);
        let reports = run_all(&shots, wanted.workers, |shot| shoot(*shot, &tools));
        (reports.clone(), table(&shots, &reports))
    } else {
        let cells = cells(&wanted.modes, &wanted.moments, &wanted.faults).repeat(wanted.times);
        let reports = run_all(&cells, wanted.workers, |cell| run(*cell, &tools));
        (reports.clone(), table(&cells, &reports))
    };
    let (all, good) = (reports.len(), reports.iter().filter(|report| report.is_good()).count());
    println!("{table}\n{good} of {all} are as they must be; {:.0} s", began.elapsed().as_secs_f64());
    if good == all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Wanted {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wanted = Self {
            modes: Mode::ALL.into(),
            moments: Moment::ALL.into(),
            faults: Fault::ALL.into(),
            times: 1,
            shots: 0,
            seed: 1,
            newer: false,
            workers: 4,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--mode" => wanted.modes = list(&value()?)?,
                "--moment" => wanted.moments = list(&value()?)?,
                "--fault" => wanted.faults = list(&value()?)?,
                "--workers" => wanted.workers = number(&value()?)?,
                "--times" => wanted.times = number(&value()?)?,
                "--shots" => wanted.shots = number(&value()?)?,
                "--seed" => wanted.seed = number(&value()?)?,
                "--newer" => wanted.newer = true,
                "--help" => return Err(String::new()),
                _ => return Err(format!("{word}: no such option")),
            }
        }
        Ok(wanted)
    }
}

fn list<T: FromStr<Err = String>>(text: &str) -> Result<Vec<T>, String> {
    text.split(',').map(str::parse).collect()
}

fn number<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}
