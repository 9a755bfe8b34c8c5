//! Scopes in which nothing must break.

use crate::scope::{Caches, Scope};
use crate::search::{Report, explore};
use crate::state::Broken;
use crate::waiting::Waiting;

fn clean(name: &str, scope: &Scope) -> Report<Broken> {
    let report = explore(scope, scope.limit);
    println!("{name:<60} {report}");
    report.assert_clean(name);
    report
}

#[test]
fn probe() {
    let n = |k: &str, d: u8| std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d);
    let scope = Scope {
        members: usize::from(n("M", 2)),
        units: usize::from(n("U", 1)),
        frames: usize::from(n("F", 3)),
        caches: match n("C", 1) { 0 => Caches::Coherent, 1 => Caches::NoCleanWriteBacks, _ => Caches::Any },
        temporal: n("T", 0) == 1,
        copies: n("COPY", 0) == 1,
        changes_of_mode: n("UP", 0) == 1,
        writes: n("W", 2),
        deaths: n("D", 0),
        evictions: n("E", 0),
        moves: n("MV", 0),
        restarts: n("R", 0),
        remembers: n("REM", 0) == 1,
        fine_notes: n("FINE", 0) == 1,
        limit: 6_000_000,
        ..Scope::QUIET
    };
    clean("probe", &scope);
}

/// A scope of sleepers in which nobody sleeps for ever.
fn nobody_sleeps(name: &str, waiting: &Waiting) {
    let report = explore(waiting, 2_000_000);
    println!("{name:<60} {report}");
    report.assert_clean(name);
}

#[test]
fn no_wake_up_is_lost_while_nobody_dies() {
    nobody_sleeps("sleepers, no cap, nobody dies", &Waiting::QUIET);
    let one_more = Waiting { members: 2, turns: 3, ..Waiting::QUIET };
    nobody_sleeps("two sleepers, again and again", &one_more);
}

#[test]
fn a_dead_waker_or_recaller_is_made_up_for_by_the_cap_alone() {
    let capped = Waiting { deaths: 1, capped: true, ..Waiting::QUIET };
    nobody_sleeps("sleepers with a cap, one dies", &capped);
}

#[test]
fn a_dead_waker_or_recaller_is_made_up_for_by_the_daemon_alone() {
    let roused = Waiting { deaths: 1, roused: true, ..Waiting::QUIET };
    nobody_sleeps("sleepers that are roused, one dies", &roused);
}
