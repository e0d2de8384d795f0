//! Somebody is killed in the middle of a handover: one whole guest is left, and nobody has to help.
//!
//! The fixed part of the matrix, with daemons that are held at the moment; and ordinary daemons, killed at a time that
//! nobody chose. `cargo run -p ferry-tests --bin fault-matrix` runs the whole matrix.

use std::time::{SystemTime, UNIX_EPOCH};

use ferry_tests::Pair;
use ferry_tests::faults::{Fault, Mode, Moment, cells, run, run_all, shoot, shots, table};

/// At a time: most of theirs they wait for a restart.
const WORKERS: usize = 4;

const MODES: [Mode; 2] = [Mode::Direct, Mode::P2p];
const FAULTS: [Fault; 3] = [Fault::SourceDaemon, Fault::DestinationDaemon, Fault::Client];

#[test]
fn whoever_is_killed_in_the_handover() {
    let moments = [Moment::Gap, Moment::Handoff, Moment::Finishing, Moment::Postrun];
    let (cells, tools) = (cells(&MODES, &moments, &FAULTS), Pair::distribution());
    let reports = run_all(&cells, WORKERS, |cell| run(*cell, &tools));
    assert!(reports.iter().all(|report| report.is_good()), "{}", table(&cells, &reports));
}

/// `FERRY_TEST_SEED` repeats a run that has failed, as far as time can be repeated.
#[test]
fn whoever_is_killed_at_any_time() {
    let given = std::env::var("FERRY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = given.unwrap_or_else(now);
    let (shots, tools) = (shots(seed, 8, &MODES, &FAULTS), Pair::distribution());
    let reports = run_all(&shots, WORKERS, |shot| shoot(*shot, &tools));
    let table = table(&shots, &reports);
    assert!(reports.iter().all(|report| report.is_good()), "FERRY_TEST_SEED={seed}\n{table}");
}
