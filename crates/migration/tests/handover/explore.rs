//! Breadth first through every reachable world; then backwards from the ends, along the steps that heal, to see
//! whether each world has a way on.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};

use ferry_migration::journal::{DestinationStatus, SourceStatus};
use ferry_migration::{Doubt, Peer, Standing};

use crate::act::{Kind, successors};
use crate::world::{Copy, Setup, Violation, World};

/// What an exploration found.
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// The first violation, with the story that leads to it.
    pub(crate) violation: Option<(Violation, Vec<String>)>,
    /// A world from which nothing leads to an end once everything works, with its story.
    pub(crate) dead_end: Option<Vec<String>>,
    /// How many worlds are an accepted end.
    pub(crate) ends: usize,
}

/// A fast hash of small keys. Worlds are told apart by two of them, 128 bits: among ten million worlds two meet with
/// a chance of one in 10^24.
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

fn fingerprint(world: &World) -> u128 {
    let half = |seed| {
        let mut mix = Mix(seed);
        world.hash(&mut mix);
        u128::from(mix.finish())
    };
    half(0x243f_6a88_85a3_08d3) << 64 | half(0x1319_8a2e_0370_7344)
}

pub(crate) fn explore(setup: &Setup) -> Explored {
    let first = World::new(setup);
    let mut known: HashMap<u128, u32> = HashMap::from([(fingerprint(&first), 0)]);
    let mut frontier = VecDeque::from([first]);
    // For each world the one that led to it first, and which of its successors it was.
    let mut parents: Vec<(u32, u16)> = vec![(0, 0)];
    // Steps that heal, from and to.
    let mut healing: Vec<(u32, u32)> = Vec::new();
    let mut ends: Vec<u32> = Vec::new();
    let mut steps = 0;
    let mut here = 0;
    while let Some(world) = frontier.pop_front() {
        if is_end(setup, &world) {
            ends.push(here);
        }
        for (at, (kind, _, next)) in successors(setup, &world).into_iter().enumerate() {
            steps += 1;
            let violation = next.violation;
            let fresh = u32::try_from(parents.len()).expect("fewer than 2^32 worlds");
            let to = *known.entry(fingerprint(&next)).or_insert(fresh);
            if to == fresh {
                parents.push((here, u16::try_from(at).expect("few successors")));
                frontier.push_back(next);
            }
            if kind == Kind::Heals && to != here {
                healing.push((to, here));
            }
            if let Some(violation) = violation {
                let (story, _) = story_of(setup, &parents, to);
                let states = parents.len();
                return Explored {
                    states,
                    steps,
                    violation: Some((violation, story)),
                    dead_end: None,
                    ends: 0,
                };
            }
        }
        here += 1;
    }
    drop(known);
    let dead_end = unreached(parents.len(), &ends, healing).map(|at| {
        let (mut story, world) = story_of(setup, &parents, at);
        story.push(format!("{world:#?}"));
        story
    });
    Explored { states: parents.len(), steps, violation: None, dead_end, ends: ends.len() }
}

/// The first world from which no healing step leads towards an end. `healing` has each step as (to, from).
fn unreached(worlds: usize, ends: &[u32], mut healing: Vec<(u32, u32)>) -> Option<u32> {
    healing.sort_unstable();
    let mut reaches = vec![false; worlds];
    let mut queue = ends.to_vec();
    for end in ends {
        reaches[*end as usize] = true;
    }
    while let Some(at) = queue.pop() {
        let into = healing.partition_point(|(to, _)| *to < at);
        for (_, from) in healing[into..].iter().take_while(|(to, _)| *to == at) {
            if !std::mem::replace(&mut reaches[*from as usize], true) {
                queue.push(*from);
            }
        }
    }
    reaches.iter().position(|reaches| !reaches).map(|at| u32::try_from(at).expect("fewer than 2^32 worlds"))
}

/// How a world came about, by walking there again.
fn story_of(setup: &Setup, parents: &[(u32, u16)], mut at: u32) -> (Vec<String>, World) {
    let mut path = Vec::new();
    while at != 0 {
        let (parent, step) = parents[at as usize];
        path.push(step);
        at = parent;
    }
    let mut world = World::new(setup);
    let mut story = Vec::new();
    for step in path.into_iter().rev() {
        let (_, (what, detail), next) = successors(setup, &world).swap_remove(usize::from(step));
        story.push(format!("{what} {detail}").trim_end().to_owned());
        world = next;
    }
    (story, world)
}

/// Whether nothing more is to come: the guest is on one host and both know it, or it is lost to a fault, or it is one
/// of the cases that are left to an operator.
fn is_end(setup: &Setup, world: &World) -> bool {
    let (source, destination) = (&world.source, &world.destination);
    if !(source.up && destination.up) {
        return false;
    }
    let (from, to) = (&source.qemu, &destination.qemu);
    let stayed = matches!(source.record, None | Some(SourceStatus::Kept | SourceStatus::Settled));
    // Past the switch, a destination that died has taken the guest with it.
    let lost = matches!(from.copy, Copy::Postcopy | Copy::PostcopyStarting) && !to.alive;
    let goes_on = from.runs || from.suspended || !from.alive || !setup.plan.was_running || lost;
    if source.machine.is_none() && stayed && goes_on && destination.machine.is_none() && !to.alive {
        return true;
    }
    let moved =
        matches!(destination.record, Some(DestinationStatus::Running | DestinationStatus::SettledRunning));
    let done = matches!(source.record, Some(SourceStatus::Done | SourceStatus::Settled));
    let ended = source.machine.is_none() && !from.alive && done;
    if moved && ended && destination.machine.is_none() && (to.ran || !to.alive) {
        return true;
    }
    match source.machine.as_ref().map(ferry_migration::source::Source::standing) {
        // (a) the destination may hold the whole guest, and the source's died unseen.
        Some(Standing::InDoubt(Doubt::SourceDied)) => to.alive && to.complete,
        // (b) the destination's QEMU died between the start and its proof.
        Some(Standing::InDoubt(Doubt::MaybeRan)) => !to.alive,
        // Nobody to ask.
        Some(Standing::InDoubt(Doubt::NoEvidence | Doubt::NoWord)) => setup.peer != Peer::Ferry,
        _ => false,
    }
}
