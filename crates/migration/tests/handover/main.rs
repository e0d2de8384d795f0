//! The handover, explored: every order of events, with faults, between two hosts that run the daemon's own machines.
//!
//! Safety: never two, no rollback to old memory, and no last copy ended by us. Progress: from every state there is a
//! way to an end once everything works again. Each rule that is left out must make an exploration fail.
//!
//! `cargo test -p ferry-migration --test handover -- --nocapture` prints the number of states; with `--ignored` more
//! faults are allowed, which takes minutes.

// Tests speak, and fail, outside of the test functions too.
#![allow(clippy::panic, clippy::print_stdout, clippy::expect_used)]

mod act;
mod client;
mod drivers;
mod explore;
mod world;

use explore::{Explored, explore};
use ferry_migration::plan::BestEffort;
use ferry_migration::{Coordination, Peer, Plan};
use world::{Broken, Setup};

const DIRECT: Plan = Plan {
    coordination: Coordination::Direct,
    live: true,
    postcopy: false,
    leave_paused: false,
    was_running: true,
};
const PEER_TO_PEER: Plan = Plan { coordination: Coordination::PeerToPeer, ..DIRECT };

fn setup(plan: Plan, faults: u8, users: u8) -> Setup {
    Setup { plan, peer: Peer::Ferry, faults, users, blind: false, broken: None }
}

/// As if QEMU's run state could not tell a guest that has run on from one that has not.
fn blind(setup: Setup) -> Setup {
    Setup { blind: true, ..setup }
}

/// Explores, and gives the number of states.
#[track_caller]
fn holds(name: &str, setup: &Setup) -> usize {
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
    states
}

/// As many states as when somebody last looked at them: what changes the machines, or the world around them, shows here, and
/// a world that has shrunk by mistake proves less.
#[track_caller]
fn holds_as_ever(name: &str, setup: &Setup, states: usize) {
    assert_eq!(
        holds(name, setup),
        states,
        "{name}: the number of states has changed; is that as it should be?"
    );
}

/// Without this rule the exploration must find a violation or a dead end.
#[track_caller]
fn fails(broken: Broken, setup: Setup) {
    let Explored { states, violation, dead_end, .. } = explore(&Setup { broken: Some(broken), ..setup });
    match (violation, dead_end) {
        (Some((violation, story)), _) => {
            println!("{broken:?}: {violation:?} among {states} states, after\n  {}", story.join("\n  "));
        }
        (None, Some(story)) => {
            println!("{broken:?}: a dead end among {states} states, after {} steps", story.len())
        }
        (None, None) => panic!("{broken:?}: {states} states, and nothing goes wrong without the rule"),
    }
}

#[test]
fn direct() {
    holds_as_ever("direct", &setup(DIRECT, 2, 1), 1_814_120);
}

#[test]
fn peer_to_peer() {
    holds_as_ever("peer to peer", &setup(PEER_TO_PEER, 2, 1), 1_630_291);
}

#[test]
fn post_copy_direct() {
    holds_as_ever("post-copy, direct", &setup(Plan { postcopy: true, ..DIRECT }, 2, 1), 2_406_246);
}

#[test]
fn post_copy_peer_to_peer() {
    holds_as_ever(
        "post-copy, peer to peer",
        &setup(Plan { postcopy: true, ..PEER_TO_PEER }, 2, 1),
        1_990_262,
    );
}

#[test]
fn a_guest_that_is_to_stay_paused() {
    holds_as_ever("left paused", &setup(Plan { leave_paused: true, ..DIRECT }, 2, 1), 1_717_152);
}

#[test]
fn not_live() {
    holds_as_ever("not live", &setup(Plan { live: false, ..PEER_TO_PEER }, 2, 1), 1_614_685);
}

#[test]
fn toward_a_peer_that_proves_nothing() {
    let mute = Setup { peer: Peer::Mute(BestEffort::Stock), ..setup(PEER_TO_PEER, 1, 0) };
    holds_as_ever("toward stock", &mute, 2_794);
}

#[test]
fn h1_kept_is_recorded() {
    fails(Broken::KeptUnrecorded, blind(setup(PEER_TO_PEER, 1, 2)));
}

#[test]
fn h2_running_follows_the_run() {
    fails(Broken::RunningBeforeRun, setup(DIRECT, 1, 0));
}

#[test]
fn h3_a_complete_destination_does_not_decline() {
    fails(Broken::CompleteDeclines, setup(DIRECT, 2, 0));
}

#[test]
fn h3_what_has_connected_may_be_whole_unseen() {
    fails(Broken::ConnectedDeclines, setup(DIRECT, 2, 0));
}

#[test]
fn h4_post_copy_needs_the_source() {
    fails(Broken::PostcopyEndsEarly, setup(Plan { postcopy: true, ..DIRECT }, 0, 1));
}

#[test]
fn h5_the_grant_is_told_past_the_switch() {
    fails(Broken::GrantedBeforeSwitch, setup(Plan { postcopy: true, ..DIRECT }, 1, 1));
}

#[test]
fn h6_a_cancelled_confirm_is_a_question() {
    fails(Broken::ConfirmObeyed, setup(DIRECT, 1, 0));
}

#[test]
fn h7_a_source_whose_qemu_died_grants() {
    fails(Broken::DeadDoesNotGrant, setup(PEER_TO_PEER, 2, 0));
}

#[test]
fn h8_ids_tell_migrations_apart() {
    fails(Broken::Untagged, setup(DIRECT, 0, 0));
}

#[test]
fn h9_absence_is_no_answer() {
    fails(Broken::AbsenceDeclines, setup(DIRECT, 2, 0));
}

#[test]
fn h11_unwritten_the_destination_is_asked() {
    fails(Broken::ResumesUnwritten, blind(setup(PEER_TO_PEER, 2, 1)));
}

#[test]
fn h12_absence_on_a_stock_host_is_no_proof() {
    let mute = Setup { peer: Peer::Mute(BestEffort::Stock), ..setup(DIRECT, 2, 0) };
    fails(Broken::AbsenceProves, mute);
}

#[test]
fn h16_a_paused_guest_is_owned_while_it_lives() {
    fails(Broken::RecordIsEnough, setup(Plan { leave_paused: true, ..DIRECT }, 1, 0));
}

#[test]
#[ignore = "minutes"]
fn three_faults() {
    for (name, plan) in [
        ("direct", DIRECT),
        ("peer to peer", PEER_TO_PEER),
        ("post-copy, direct", Plan { postcopy: true, ..DIRECT }),
        ("post-copy, peer to peer", Plan { postcopy: true, ..PEER_TO_PEER }),
        ("left paused", Plan { leave_paused: true, ..PEER_TO_PEER }),
        ("not live", Plan { live: false, ..DIRECT }),
    ] {
        holds(name, &setup(plan, 3, 1));
    }
}

#[test]
#[ignore = "minutes"]
fn four_faults() {
    holds("direct", &setup(DIRECT, 4, 0));
    holds("peer to peer", &setup(PEER_TO_PEER, 4, 0));
}
