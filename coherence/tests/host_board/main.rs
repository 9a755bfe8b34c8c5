//! The board between hosts: two of them exchange extents through it, one dies at each single store
//! in turn, and the other goes on; with memory that is coherent, and with caches that lose lines.

#[cfg(all(test, feature = "fault"))]
mod bugs;
#[cfg(test)]
mod making;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod world;

use memory::Kind;
use world::{Tally, World};

/// Grants to write before the death is looked for, and after each change.
const EXCHANGES: u64 = 12;

/// Two hosts, of which the one in slot `dies` does after so many stores; the other one goes on, the
/// first one comes back, and in the end nobody has anything.
fn live_and_die(kind: Kind, dies: u8, left: u64) -> Tally {
    let mut world = World::new(kind);
    for slot in [0, 1] {
        world.start(slot, if slot == dies { left } else { u64::MAX });
    }
    let enough = |grants: u64| move |it: &World| it.tally.exclusive >= grants;
    let until_death = move |it: &World| !it.is_alive(dies) || it.tally.exclusive >= EXCHANGES;
    assert!(world.run(4_000, until_death), "nothing goes on");
    if !world.is_alive(dies) || !world.ends_at_rest() {
        // For a while nobody knows: who waits is told, and gets nothing.
        let _never = world.run(200, |_| false);
        world.fence(dies);
        let more = enough(world.tally.exclusive + EXCHANGES);
        assert!(world.run(4_000, more), "the other one does not go on");
        world.start(dies, u64::MAX);
        assert!(world.run(4_000, World::all_joined), "it does not join");
        let more = enough(world.tally.exclusive + EXCHANGES);
        assert!(world.run(4_000, more), "both do not go on");
        assert!(world.ends_at_rest());
    }
    world.tally
}

/// The deaths of a run, each so many stores after the one before.
fn dies_anywhere(kind: Kind, dies: u8, step: usize) {
    let whole = live_and_die(kind, dies, u64::MAX);
    assert_eq!((whole.losses, whole.homes), (0, 1));
    let (mut losses, mut denials, mut none, mut moved) = (0, 0, 0, 0);
    for left in (1..whole.stores).step_by(step) {
        let tally = live_and_die(kind, dies, left);
        losses += tally.losses;
        denials += tally.denials;
        none += u64::from(tally.losses == 0);
        // A host may die before it has begun to be the home.
        assert!(
            tally.homes == 1 || dies == 0 && tally.homes == 2,
            "{tally:?}"
        );
        moved += u64::from(tally.homes == 2);
    }
    println!("{kind:?}, {dies} dies: {whole:?}; {losses} lost, {denials} denied, {none} without");
    assert!(losses > 0 && denials > 0 && none > 0 && (moved > 0) == (dies == 0));
}

/// The tests that a search for planted bugs runs.
#[cfg(feature = "fault")]
const DEATHS: &str = "a_host_may_die_at_any_store_and_the_other_one_goes_on";
#[cfg(feature = "fault")]
const MAKING: &str =
    "making::a_board_that_is_made_over_another_is_that_one_or_none_until_it_is_whole";

#[test]
fn a_host_may_die_at_any_store_and_the_other_one_goes_on() {
    for dies in [0, 1] {
        dies_anywhere(Kind::Coherent, dies, 1);
    }
    dies_anywhere(Kind::Still, 0, 7);
    for seed in 1..5 {
        dies_anywhere(Kind::Cached(seed), u8::from(seed % 2 == 0), 7);
    }
}
