//! The promise, many times over: a working Linux guest goes there and back fifty times in a row and stays whole.

use std::time::Duration;

use ferry_testkit::guest::Work;
use ferry_testkit::tools::Tools;
use ferry_tests::{Pair, SOON};

/// Journeys there and back.
const ROUNDS: u32 = 50;

fn goes_there_and_back_fifty_times(tools: &Tools) {
    let pair = Pair::new(tools).expect("two hosts");
    let serial = pair.linux("vm", Work { memory_rate: 10, ..Work::default() }).expect("a guest that works");
    let uris = [0, 1].map(|number| pair.uri(number));
    for round in 0..ROUNDS {
        let mode = if round % 2 == 0 { "--p2p" } else { "--verbose" };
        for (from, to) in [(0, 1), (1, 0)] {
            let virsh = pair.virsh(from);
            virsh.ok(["migrate", "vm", &uris[to], "--live", "--unsafe", mode]).expect("a migration");
            serial.wait_beats_on(pair.ear(to), 20, SOON).expect("beats on the destination");
            pair.nothing_runs(from);
        }
        serial.verdict().whole().expect("a whole guest");
    }
    if pair.is_asked_there() {
        let check = pair.ask(0, "vm", &serial, "check").expect("an answer");
        assert_eq!(check["damaged"], "0", "{check:?}");
    }
    let verdict = serial.verdict();
    verdict.whole().expect("a whole guest");
    let mut pauses: Vec<Duration> = verdict.moves.iter().map(|pause| pause.length).collect();
    pauses.sort_unstable();
    assert!(!pair.host(0).is_isolated() || pauses.len() == 2 * ROUNDS as usize, "{} moves", pauses.len());
    if let (Some(middle), Some(longest)) = (pauses.get(pauses.len() / 2), pauses.last()) {
        eprintln!("pauses: median {middle:?}, longest {longest:?}");
    }
}

#[test]
fn on_the_distributions_qemu() {
    goes_there_and_back_fifty_times(&Pair::distribution());
}

#[test]
fn on_backports_qemu() {
    goes_there_and_back_fifty_times(&Pair::newer());
}
