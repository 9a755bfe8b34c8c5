//! The scopes of [`super::Domain`]: clean ones, and one for each bug that is planted in the crate.

use pool_core::sync::{Mutex, lock};

use super::real::Calls;
use super::{Broken, Domain, Mistake, Terms};
use crate::search::explore;

/// Held while calls of the crate are made: planted bugs are the process's.
static TURN: Mutex<()> = Mutex::new(());

/// Bugs are planted by nobody else while this is held.
pub(crate) fn turn() -> impl Drop {
    lock(&TURN)
}

const LIMIT: usize = 3_000_000;
/// Of each domain; where nobody dies within a call there are fewer.
const STATES_MIN: usize = if cfg!(feature = "fault") {
    900_000
} else {
    500_000
};

fn quiet(terms: Terms) -> Domain {
    Domain {
        terms,
        lost: false,
        reads: 0,
        writes: 2,
        deaths: 0,
        evictions: 0,
        restarts: 0,
        failures: 0,
        late: 0,
        mistake: Mistake::None,
        calls: Calls::default(),
    }
}

fn evicts(terms: Terms) -> Domain {
    Domain {
        evictions: 1,
        ..quiet(terms)
    }
}

/// What must be survived.
fn scopes(terms: Terms) -> [(&'static str, Domain); 6] {
    [
        (
            "a death, a lost unit, the daemon dies twice",
            Domain {
                lost: true,
                reads: 1,
                deaths: 1,
                restarts: 2,
                ..quiet(terms)
            },
        ),
        (
            "an eviction that fails, a lost unit, the daemon dies",
            Domain {
                lost: true,
                restarts: 1,
                failures: 1,
                ..evicts(terms)
            },
        ),
        (
            "an eviction, a death",
            Domain {
                // A million states with readers, of whom the terms say nothing.
                reads: u8::from(terms == Terms::Lose),
                deaths: 1,
                ..evicts(terms)
            },
        ),
        (
            "an eviction, words taken late, the daemon dies",
            Domain {
                // With a death as well where the terms alone would lose what is taken back.
                deaths: u8::from(terms == Terms::Lose),
                restarts: 1,
                late: 1,
                ..evicts(terms)
            },
        ),
        (
            "an eviction, words taken late, a death",
            Domain {
                deaths: 1,
                late: 1,
                ..evicts(terms)
            },
        ),
        (
            "an eviction of both, readers, the daemon dies",
            Domain {
                reads: 1,
                evictions: 2,
                restarts: 1,
                ..evicts(terms)
            },
        ),
    ]
}

#[test]
fn a_whole_domain_survives_its_recoveries_and_evictions() {
    let _turn = turn();
    for terms in [Terms::Lose, Terms::Keep, Terms::Checks] {
        let mut states = 0;
        for (name, scope) in scopes(terms) {
            let report = explore(&scope, LIMIT);
            println!("domain: {:<62} {report}", format!("{terms:?}, {name}"));
            report.assert_clean(name);
            states += report.states;
        }
        assert!(states >= STATES_MIN, "{terms:?}: only {states} states");
    }
}

/// What is found first.
fn found(name: &str, scope: &Domain) -> Option<Broken> {
    let report = explore(scope, LIMIT);
    let found = report.violation.as_ref().map(|(broken, _)| *broken);
    println!("domain: {name:<40} {found:?} {report}");
    found
}

#[test]
fn every_mistake_of_the_daemon_is_found() {
    let _turn = turn();
    let resumes = Domain {
        deaths: 1,
        restarts: 1,
        mistake: Mistake::GoesOnWhereItWas,
        ..quiet(Terms::Lose)
    };
    let takes = Domain {
        // A grant in whose midst its member dies is none.
        writes: if cfg!(feature = "fault") { 2 } else { 3 },
        deaths: 1,
        late: 1,
        mistake: Mistake::TakesFromTheNext,
        ..evicts(Terms::Lose)
    };
    let resumed = found("GoesOnWhereItWas", &resumes);
    assert_eq!(resumed, Some(Broken::HeldByTheGone));
    let taken = found("TakesFromTheNext", &takes);
    assert_eq!(taken, Some(Broken::HeldByTheGone));
}

/// Each bug is planted in the crate, and the calls are made anew.
///
/// Catches: evict.judges_before_the_copy, evict.leaves_what_is_lost, pass.skips_what_is_placed
/// Catches: pass.places_after_giving_back, pass.takes_from_one_holder, pass.keeps_what_is_set_aside
/// Catches: pass.forgets_who_was_cut_off
#[cfg(feature = "fault")]
#[test]
fn every_planted_bug_of_a_pass_is_found() {
    let _turn = turn();
    let [_, (_, fails), (_, dies), (_, late), ..] = scopes(Terms::Lose);
    let [_, _, _, (_, sums), ..] = scopes(Terms::Checks);
    let rows = [
        ("evict.judges_before_the_copy", Broken::LostUpdate, &sums),
        ("evict.leaves_what_is_lost", Broken::LostUpdate, &fails),
        ("pass.places_after_giving_back", Broken::LostUpdate, &late),
        ("pass.skips_what_is_placed", Broken::HeldByTheGone, &late),
        ("pass.takes_from_one_holder", Broken::SecondPass, &dies),
        ("pass.keeps_what_is_set_aside", Broken::LeftAside, &fails),
        ("pass.forgets_who_was_cut_off", Broken::LostInVain, &late),
    ];
    let mut failed = Vec::new();
    for (bug, expected, scope) in rows {
        scope.calls.forget();
        pool_core::fault::plant(Some(bug));
        let found = found(bug, scope);
        pool_core::fault::plant(None);
        if found != Some(expected) {
            failed.push((bug, expected, found));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
