//! Seeded random ladders: real user agents, a bad network, a moody API and journal around one core, and what must hold whatever
//! happens (house.md §6). `BACKCHANNEL_WALKS=N` walks N seeds, `BACKCHANNEL_WALK=SEED` one, with its story.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "walks/agent.rs"]
mod agent;
#[path = "walks/watch.rs"]
mod watch;
#[path = "walks/world.rs"]
mod world;

use std::collections::BTreeMap;

use crate::world::Dice;
use crate::world::Habits;
use crate::world::World;

const QUICK: u64 = 300;

fn walk(seed: u64, habits: fn(&mut Dice) -> Habits) -> World {
    let mut world = World::new(seed, habits);
    world.run();
    world
}

/// The story of a seed whose walk went wrong.
fn failure(world: &World) -> Option<String> {
    let faults = world.watch.faults.join("\n");
    (!faults.is_empty()).then(|| format!("{}\n\n{faults}", world.story.join("\n")))
}

fn sound(seed: u64, habits: fn(&mut Dice) -> Habits) {
    if let Some(story) = failure(&walk(seed, habits)) {
        panic!("{story}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Walks all of them; the first failing one prints its story, the others what went wrong.
fn all_sound(seeds: std::ops::Range<u64>, habits: fn(&mut Dice) -> Habits) -> (u64, BTreeMap<&'static str, u64>) {
    let (mut failed, mut answered, mut settled) = (Vec::new(), 0, BTreeMap::new());
    for seed in seeds {
        let world = walk(seed, habits);
        answered += world.watch.answered;
        for (outcome, n) in &world.watch.settled {
            *settled.entry(*outcome).or_default() += n;
        }
        if let Some(story) = failure(&world) {
            failed.push((seed, story, world.watch.faults[0].lines().next().unwrap_or_default().to_owned()));
        }
    }
    if let Some((seed, story, _)) = failed.first() {
        let list: Vec<String> = failed.iter().map(|(seed, _, fault)| format!("seed {seed}: {fault}")).collect();
        panic!("{story}\n\nthis was seed {seed}; {} failed:\n{}", failed.len(), list.join("\n"));
    }
    (answered, settled)
}

#[test]
fn whatever_happens_the_invariants_hold() {
    if let Some(seed) = number("BACKCHANNEL_WALK") {
        return sound(seed, Habits::of);
    }
    let (answered, settled) = all_sound(0..number("BACKCHANNEL_WALKS").unwrap_or(QUICK), Habits::of);
    // The walks must go somewhere.
    assert!(answered > 200, "{answered} calls were answered");
    assert!(settled.len() >= 4, "escalations settled as {settled:?} only");
}

#[test]
fn cancel_200_and_bye_may_cross_in_any_order() {
    all_sound(0..2_000, Habits::race);
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 0..20 {
        let (first, second) = (walk(seed, Habits::of), walk(seed, Habits::of));
        assert_eq!(first.story, second.story);
        assert_eq!(first.digest, second.digest);
    }
}
