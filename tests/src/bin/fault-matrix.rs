//! The matrix of faults, all of it or a part, as a table: `cargo run -p ferry-tests --bin fault-matrix -- --help`.
//!
//! Exit code 0 when every cell is as it must be.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use ferry_tests::Pair;
use ferry_tests::faults::{Fault, Mode, Moment, cells, run_all, table};

const USAGE: &str = "\
usage: fault-matrix [--mode M,...] [--moment M,...] [--fault F,...] [--workers N] [--newer] [--times N]

Runs every combination of migration, moment and fault on two private hosts (as root), and prints a table.
  modes    direct, p2p, postcopy-direct, postcopy-p2p
  moments  prepare, mid, preswitch, gap, handoff, finishing, postrun
  faults   source-daemon, destination-daemon, source-qemu, destination-qemu, client, network
  --newer  QEMU and virsh of backports instead of the distribution's own
  --times  each cell so often";

struct Wanted {
    modes: Vec<Mode>,
    moments: Vec<Moment>,
    faults: Vec<Fault>,
    workers: usize,
    newer: bool,
    times: usize,
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
    let cells = cells(&wanted.modes, &wanted.moments, &wanted.faults).repeat(wanted.times);
    let reports = run_all(&cells, &tools, wanted.workers, |cell, report| {
        eprintln!("{:>6.1} s  {cell}: {}", began.elapsed().as_secs_f64(), report);
    });
    println!("{}", table(&cells, &reports));
    let good = reports.iter().filter(|report| report.is_good()).count();
    println!("{good} of {} cells are as they must be; {:.0} s", cells.len(), began.elapsed().as_secs_f64());
    if good == cells.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Wanted {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wanted = Self {
            modes: Mode::ALL.into(),
            moments: Moment::ALL.into(),
            faults: Fault::ALL.into(),
            workers: 3,
            newer: false,
            times: 1,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--mode" => wanted.modes = list(&value()?)?,
                "--moment" => wanted.moments = list(&value()?)?,
                "--fault" => wanted.faults = list(&value()?)?,
                "--workers" => wanted.workers = number(&value()?)?,
                "--times" => wanted.times = number(&value()?)?,
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

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}
