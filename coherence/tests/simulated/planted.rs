//! The harness catches bugs: those planted in the crate, and members that forget a duty.

use std::fmt;

use pool_core::fault::plant;

use crate::OPERATIONS;
use crate::report::Violation;
use crate::run::{run, turn};

/// Seeds within which each bug is caught.
const SEEDS: u64 = 100;

/// Bugs of the crate.
const CRATES: [&str; 10] = [
    "judge.forgets_the_last_version",
    "member.ignores_the_crowd",
    "member.notes_late",
    "member.trusts_a_late_place",
    "recover.forgets_who_restores",
    "recover.frees_without_fence",
    "recover.raises_what_was_good_only",
    "recover.version_not_raised",
    "wait.event_not_moved",
    "wait.without_second_look",
];

/// Duties of who uses it, which the members here leave out, and a domain without the guarantee.
const CALLERS: [&str; 8] = [
    "caller.does_not_raise_the_version",
    "caller.publishes_before_write_back",
    "caller.reuses_the_slot_at_once",
    "caller.skips_fence_all",
    "caller.skips_fence_stores",
    "caller.skips_invalidate",
    "caller.skips_write_back",
    "caller.without_guarantee",
];

/// How a bug was caught.
struct Catch {
    bug: &'static str,
    seed: u64,
    /// Of all worlds until then.
    operations: u64,
    violation: Violation,
}

impl fmt::Display for Catch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bug,
            seed,
            operations,
            violation,
        } = self;
        write!(
            f,
            "{bug:<36} seed {seed:<4}{operations:>9}  {}",
            violation.law
        )
    }
}

fn catch(bug: &'static str) -> Option<Catch> {
    plant(Some(bug));
    let mut operations = 0;
    let caught = (0..SEEDS).find_map(|seed| {
        let story = run(seed, OPERATIONS);
        operations += story.tally.operations;
        story.violation.map(|violation| Catch {
            bug,
            seed,
            operations,
            violation,
        })
    });
    plant(None);
    caught
}

/// Catches: judge.forgets_the_last_version
/// Catches: member.ignores_the_crowd, member.notes_late, member.trusts_a_late_place
/// Catches: recover.forgets_who_restores, recover.frees_without_fence
/// Catches: recover.raises_what_was_good_only, recover.version_not_raised
/// Catches: wait.event_not_moved, wait.without_second_look
/// Catches: caller.does_not_raise_the_version, caller.publishes_before_write_back
/// Catches: caller.reuses_the_slot_at_once, caller.skips_fence_all, caller.skips_fence_stores
/// Catches: caller.skips_invalidate, caller.skips_write_back, caller.without_guarantee
#[test]
fn each_planted_bug_is_caught() {
    let _turn = turn();
    let caught = CRATES
        .into_iter()
        .chain(CALLERS)
        .map(|bug| (bug, catch(bug)));
    let caught: Vec<_> = caught.collect();
    println!(
        "planted bug                          seed, operations until it is caught, broken law"
    );
    let mut missed = Vec::new();
    for (bug, catch) in &caught {
        match catch {
            Some(catch) => println!("{catch}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not within {SEEDS} seeds: {missed:?}");
}
