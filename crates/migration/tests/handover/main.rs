//! The handover, explored: every order of events, with faults, between two hosts that run the daemon's own machines.
//!
//! Safety: never two, no rollback to old memory, and no last copy ended by us. Progress: from every state there is a
//! way to an end once everything works again. Each rule that is left out must make an exploration fail.

mod act;
mod explore;
mod world;

use explore::{Explored, explore};
use ferry_migration::plan::BestEffort;
use ferry_migration::{Coordination, Peer, Plan};
use world::{Broken, Setup};

const PRECOPY: Plan = Plan {
    coordination: Coordination::Direct,
    live: true,
    postcopy: false,
    leave_paused: false,
    was_running: true,
};

fn setup(plan: Plan, faults: u8, users: u8) -> Setup {
    Setup { plan, peer: Peer::Ferry, faults, users, broken: None }
}

#[track_caller]
fn holds(name: &str, setup: &Setup) {
    let Explored { states, steps, violation, dead_end, ends } = explore(setup);
    println!(
        "{name}: {states} states, {steps} steps, {ends} ends ({} faults, {} users)",
        setup.faults, setup.users
    );
    if let Some((violation, story)) = violation {
        panic!("{name}: {violation:?} after\n  {}", story.join("\n  "));
    }
    if let Some(story) = dead_end {
        panic!("{name}: no way on after\n  {}", story.join("\n  "));
    }
    assert!(ends > 0, "{name}: nothing ever ends");
}

#[test]
fn direct() {
    holds("direct", &setup(PRECOPY, 2, 1));
}

#[test]
fn peer_to_peer() {
    holds("peer to peer", &setup(Plan { coordination: Coordination::PeerToPeer, ..PRECOPY }, 2, 1));
}
