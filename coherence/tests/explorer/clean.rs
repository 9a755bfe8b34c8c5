//! Scopes in which nothing must break.

use crate::scope::{Caches, Scope};
use crate::search::{Report, explore};
use crate::state::Broken;

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
