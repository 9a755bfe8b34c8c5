//! Members on real threads, each a simulated host with a cache of its own that loses and delays
//! lines, die, are cut off and are recovered, and nobody reads what was not published last.
//!
//! | what | where |
//! |---|---|
//! | what a seed draws | `mix` |
//! | one thread at a time, in an order that follows from the seed | `scheduler` |
//! | hosts, descriptors, memory; what a step does | `world`, `memory` |
//! | what members and the daemon do | `member`, `daemon` |
//! | what must be | `oracle` |
//! | what is told | `report` |
//!
//! A seed whose world breaks a law says by which command it is seen again.

#![cfg(not(loom))]

mod daemon;
mod member;
mod memory;
mod mix;
mod oracle;
mod planted;
mod report;
mod run;
mod scheduler;
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use report::{Story, Tally};
use run::{run, turn};

/// Of one world: each lease call, load, store, write-back, drop and fence is one.
const OPERATIONS: u64 = 20_000;
const SEEDS: u64 = 300;
/// Of all worlds.
const OPERATIONS_MIN: u64 = 5_000_000;

#[test]
fn nobody_reads_what_was_not_published_last() {
    let _turn = turn();
    let mut all = Tally::default();
    for seed in 0..SEEDS {
        let story = run(seed, OPERATIONS);
        demand_no_violation(&story);
        print!("{story}");
        all.add(&story.tally);
    }
    println!("{all}");
    assert!(all.operations >= OPERATIONS_MIN, "{}", all.operations);
    let reached: BTreeSet<_> = all.kills.keys().map(ToString::to_string).collect();
    assert_eq!(reached, points_of_the_crate());
    assert!(all.lines_lost > 0 && all.words_spurious > 0 && all.cut_off > 0);
}

#[test]
fn one_seed_has_one_result() {
    let _turn = turn();
    let tell = |seed| {
        let story = run(seed, OPERATIONS);
        (story.trace.hash, story.tally.to_string())
    };
    let results: Vec<_> = (0..16).map(tell).collect();
    for (seed, result) in (0..).zip(&results) {
        assert_eq!(tell(seed), *result, "seed {seed}");
    }
    let hashes: BTreeSet<_> = results.iter().map(|(hash, _)| hash).collect();
    assert_eq!(hashes.len(), results.len());
}

#[test]
fn replay_of_one_seed() {
    let _turn = turn();
    let seed = std::env::var("TIERPOOL_SEED").map_or(Ok(1), |text| text.parse());
    let story = run(seed.expect("TIERPOOL_SEED is a number"), OPERATIONS);
    demand_no_violation(&story);
    println!("{story}{}", story.tally);
}

fn demand_no_violation(story: &Story) {
    assert!(story.violation.is_none(), "a law is broken\n{story}");
}

/// The crash points that the source of the crate names, of leases and of recovery.
fn points_of_the_crate() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_points(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    found.retain(|name| name.starts_with("lease.") || name.starts_with("recover."));
    assert!(!found.is_empty());
    found
}

fn collect_points(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the source of the crate") {
        let path = entry.expect("the source of the crate").path();
        if path.is_dir() {
            collect_points(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path).expect("the source of the crate");
            let uses = text.split("crash_point!(\"").skip(1);
            found.extend(uses.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
}
