//! Somebody is killed in the middle of a handover: one whole guest is left, and nobody has to help.
//!
//! The fixed part of the matrix, with daemons that are held at the moment; and ordinary daemons, killed at a time that
//! nobody chose. `cargo run -p ferry-tests --bin fault-matrix` runs the whole matrix.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferry_tests::Pair;
use ferry_tests::faults::{Fault, Mode, Moment, cells, run_all, run_blind, table};

/// Cells at a time: most of their time they wait for a restart.
const WORKERS: usize = 4;

/// Blind kills.
const SHOTS: u64 = 8;

#[test]
fn whoever_is_killed_in_the_handover() {
    let cells = cells(
        &[Mode::Direct, Mode::P2p],
        &[Moment::Gap, Moment::Handoff, Moment::Finishing, Moment::Postrun],
        &[Fault::SourceDaemon, Fault::DestinationDaemon, Fault::Client],
    );
    let reports = run_all(&cells, &Pair::distribution(), WORKERS, |_, _| {});
    let table = table(&cells, &reports);
    eprintln!("{table}");
    assert!(reports.iter().all(|report| report.is_good()), "{table}");
}

/// `FERRY_TEST_SEED` repeats a run that has failed, as far as time can be repeated.
#[test]
fn whoever_is_killed_at_any_time() {
    let given = std::env::var("FERRY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut random = given.unwrap_or_else(now);
    eprintln!("FERRY_TEST_SEED={random}");
    for _ in 0..SHOTS {
        let mut draw = |choices: u64| {
            // The high bits of a linear congruential generator.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % choices
        };
        let fault = [Fault::SourceDaemon, Fault::DestinationDaemon, Fault::Client][draw(3) as usize];
        let mode = [Mode::Direct, Mode::P2p][draw(2) as usize];
        let after = Duration::from_millis(draw(400));
        let report = run_blind(mode, fault, after, &Pair::distribution()).expect("a hit");
        eprintln!("{mode} x {fault} after {after:?}: {report}");
        assert!(report.is_good(), "{mode} x {fault} after {after:?}: {report}");
    }
}
