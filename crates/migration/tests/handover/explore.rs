//! Breadth first through every reachable world; then backwards from the ends, along the steps that heal, to see
//! whether each world has a way on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use ferry_migration::journal::{DestinationStatus, SourceStatus};
use ferry_migration::{Doubt, Peer, Standing};

use crate::act::{Kind, Story, successors};
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

/// A fast hash for small keys; nobody chooses them to collide.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
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
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

pub(crate) fn explore(setup: &Setup) -> Explored {
    let mut index: HashMap<World, u32, BuildHasherDefault<Mix>> = HashMap::default();
    let mut worlds: Vec<World> = vec![World::new(setup)];
    let mut parents: Vec<(u32, Story)> = vec![(0, ("", ""))];
    let mut healed_from: Vec<Vec<u32>> = vec![Vec::new()];
    index.insert(worlds[0].clone(), 0);
    let mut steps = 0;
    let mut at = 0;
    while at < worlds.len() {
        let here = u32::try_from(at).unwrap();
        for (kind, story, next) in successors(setup, &worlds[at]) {
            steps += 1;
            let violation = next.violation;
            let fresh = u32::try_from(worlds.len()).unwrap();
            let to = match index.entry(next) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(vacant) => {
                    worlds.push(vacant.key().clone());
                    vacant.insert(fresh);
                    parents.push((here, story));
                    healed_from.push(Vec::new());
                    fresh
                }
            };
            if kind == Kind::Heals && to != here {
                healed_from[to as usize].push(here);
            }
            if let Some(violation) = violation {
                let story = story_of(&parents, to);
                return Explored {
                    states: worlds.len(),
                    steps,
                    violation: Some((violation, story)),
                    dead_end: None,
                    ends: 0,
                };
            }
        }
        at += 1;
    }

    let mut reaches = vec![false; worlds.len()];
    let mut queue: Vec<u32> = Vec::new();
    for (at, world) in worlds.iter().enumerate() {
        if is_end(setup, world) {
            reaches[at] = true;
            queue.push(u32::try_from(at).unwrap());
        }
    }
    let ends = queue.len();
    while let Some(at) = queue.pop() {
        for from in &healed_from[at as usize] {
            if !std::mem::replace(&mut reaches[*from as usize], true) {
                queue.push(*from);
            }
        }
    }
    let dead_end = reaches.iter().position(|reaches| !reaches).map(|at| {
        let mut story = story_of(&parents, u32::try_from(at).unwrap());
        story.push(format!("{:#?}", worlds[at]));
        story
    });
    Explored { states: worlds.len(), steps, violation: None, dead_end, ends }
}

fn story_of(parents: &[(u32, Story)], mut at: u32) -> Vec<String> {
    let mut story = Vec::new();
    while at != 0 {
        let (parent, step) = &parents[at as usize];
        story.push(format!("{} {}", step.0, step.1));
        at = *parent;
    }
    story.reverse();
    story
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
