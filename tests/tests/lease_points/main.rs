//! Members are killed at every named point of a lease, of handing over and of an object, and at
//! random; the daemon lives, or is dead at that moment and comes back later. Who survives is
//! granted what was published last, or is told what the domain promises, and never waits in vain.
//!
//! | what | where |
//! |---|---|
//! | every death of a member, and what it leaves | `cases` |
//! | one death: who waits, who comes after | `trial` |
//! | the daemon, the domain, and what its words say | `scene` |
//! | deaths of who publishes and who looks up | `objects` |
//! | deaths at random, round after round | `rounds` |
//!
//! What the daemon does when it recovers the dead is died at in `domains` and `crash_points`.

use std::collections::BTreeSet;

use client_sdk::{LeaseError, OnDeath};
use tierpool_tests::points;

mod cases;
mod objects;
mod rounds;
mod scene;
mod trial;

use cases::{CASES, Case, OF_SUMS};
use scene::Scene;

/// A member dies in each way of `cases`, one after the other, in one domain.
fn sweep(cases: impl Iterator<Item = &'static Case>, on_death: OnDeath, daemon_dies: bool) {
    sweep_in(Scene::new(on_death), cases, daemon_dies);
}

fn sweep_in(mut scene: Scene, cases: impl Iterator<Item = &'static Case>, daemon_dies: bool) {
    for case in cases {
        trial::run(&mut scene, case, daemon_dies);
    }
    scene.tell_waits();
}

#[test]
fn who_waits_for_a_member_that_dies_at_any_point_is_granted_or_told() {
    sweep(CASES.iter(), OnDeath::Lose, false);
}

#[test]
fn what_a_member_leaves_at_any_point_is_kept_where_the_domain_keeps() {
    let kept = CASES.iter().filter(|case| !case.gives_contents_up());
    sweep(kept, OnDeath::Keep, false);
}

#[test]
fn who_waits_for_a_member_that_dies_while_the_daemon_is_dead_is_granted_once_it_is_back() {
    sweep(CASES.iter(), OnDeath::Lose, true);
}

#[test]
fn what_a_member_leaves_at_any_point_is_judged_by_its_checksum_whatever_the_domain_keeps() {
    for on_death in [OnDeath::Lose, OnDeath::Keep] {
        sweep_in(Scene::summed(on_death), CASES.iter().chain(OF_SUMS), false);
    }
}

#[test]
fn what_a_member_leaves_while_the_daemon_is_dead_is_judged_by_its_checksum() {
    let scene = Scene::summed(OnDeath::Keep);
    sweep_in(scene, CASES.iter().chain(OF_SUMS), true);
}

#[test]
fn who_waits_is_granted_or_told_although_the_daemon_dies_before_it_wakes_anybody() {
    let mut scene = Scene::new(OnDeath::Lose);
    let (number, version) = (scene.number, scene.version);
    // The end of the reader; the fence comes before the verdict.
    let granted = trial::is_never_woken(&mut scene, "lets-go", 1);
    assert_eq!(granted, Ok((number, version)));
    let told = trial::is_never_woken(&mut scene, "releases", 2);
    let last_good = version;
    assert_eq!(told, Err(LeaseError::Lost { unit: 0, last_good }));
    scene.restore();
    scene.is_succeeded();
}

#[test]
fn every_point_of_a_member_is_died_at() {
    let sources = [
        points::in_sources_of("coherence"),
        points::in_sources_of("client-sdk"),
    ];
    // Those of a recovery and of an eviction are the daemon's, see `domains` and `evictions`.
    let daemons = ["recover.", "evict."];
    let is_daemons = |name: &String| daemons.iter().any(|prefix| name.starts_with(prefix));
    let defined = sources.concat().into_iter();
    let defined: BTreeSet<_> = defined.filter(|name| !is_daemons(name)).collect();
    let died_at = CASES.iter().chain(OF_SUMS).map(|case| case.point);
    let died_at = died_at.chain(objects::points());
    let died_at: BTreeSet<_> = died_at.map(str::to_owned).collect();
    assert_eq!(died_at, defined);
}
