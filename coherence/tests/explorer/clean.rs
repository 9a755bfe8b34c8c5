//! Scopes in which nothing must break, and how many states each has.

use crate::scope::{Caches, Scope};
use crate::search::explore;
use crate::state::Broken;
use crate::waiting::Waiting;

/// Explores each scope, and fails where anything breaks or there are fewer states in all than
/// `states_min`: a bound that cuts too much off shows there.
fn clean(scopes: &[(&str, Scope)], states_min: usize) {
    let mut states = 0;
    for (name, scope) in scopes {
        let report = explore(scope, scope.limit);
        println!("{name:<48} {report}");
        report.assert_clean(name);
        states += report.states;
    }
    assert!(states >= states_min, "only {states} states");
}

const SOFTWARE: Scope = Scope::QUIET;
const HARDWARE: Scope = Scope {
    caches: Caches::Coherent,
    ..Scope::QUIET
};

#[test]
fn two_members_survive_deaths_evictions_and_a_daemon_that_starts_again() {
    let dies = Scope {
        deaths: 1,
        ..SOFTWARE
    };
    let scopes = [
        (
            "software: a death and an eviction",
            Scope {
                evictions: 1,
                ..dies
            },
        ),
        (
            "software: a death, copies, the daemon dies",
            Scope {
                restarts: 1,
                copies: true,
                ..dies
            },
        ),
        (
            "software: a death, readers that write",
            Scope {
                changes_of_mode: true,
                ..dies
            },
        ),
    ];
    clean(&scopes, 500_000);
}

#[test]
fn two_members_survive_moves_under_their_hands() {
    let moved = Scope {
        moves: 1,
        ..SOFTWARE
    };
    let scopes = [
        ("software: a move", moved),
        (
            "software: a move, a death",
            Scope {
                writes: 1,
                deaths: 1,
                ..moved
            },
        ),
        (
            "hardware: a move, a death, an eviction",
            Scope {
                deaths: 1,
                evictions: 1,
                caches: Caches::Coherent,
                ..moved
            },
        ),
    ];
    clean(&scopes, 500_000);
}

#[test]
fn three_members_are_no_other_than_two() {
    let three = Scope {
        members: 3,
        ..HARDWARE
    };
    let scopes = [
        (
            "software: three members",
            Scope {
                members: 3,
                writes: 1,
                ..SOFTWARE
            },
        ),
        (
            "hardware: three members, a death, an eviction",
            Scope {
                deaths: 1,
                evictions: 1,
                ..three
            },
        ),
    ];
    clean(&scopes, 500_000);
}

#[test]
fn two_units_may_have_a_frame_one_after_the_other() {
    let two = Scope {
        units: 2,
        moves: 2,
        ..SOFTWARE
    };
    let scopes = [(
        "software: two units, a frame that both had",
        Scope { members: 1, ..two },
    )];
    clean(&scopes, 300_000);
}

#[test]
fn one_memory_survives_more_of_all_that_goes_wrong() {
    let dies = Scope {
        deaths: 1,
        ..HARDWARE
    };
    let cut = Scope {
        evictions: 1,
        ..dies
    };
    let scopes = [
        (
            "hardware: each once, readers that write",
            Scope {
                restarts: 1,
                changes_of_mode: true,
                ..cut
            },
        ),
        (
            "hardware: lost again and again, an eviction",
            Scope { writes: 3, ..cut },
        ),
        (
            "hardware: two die, the daemon dies twice",
            Scope {
                writes: 3,
                deaths: 2,
                restarts: 2,
                copies: true,
                ..dies
            },
        ),
        (
            "hardware: late again and again, the daemon dies",
            Scope {
                deaths: 0,
                evictions: 2,
                restarts: 1,
                ..HARDWARE
            },
        ),
    ];
    clean(&scopes, 1_500_000);
}

#[test]
fn turns_are_sound_where_clean_lines_are_written_back() {
    let turns = Scope {
        caches: Caches::Any,
        temporal: true,
        deaths: 1,
        evictions: 1,
        ..SOFTWARE
    };
    clean(&[("temporal: a death and an eviction", turns)], 200_000);
}

#[test]
fn what_is_forgotten_hides_nothing() {
    let dies = Scope {
        deaths: 1,
        ..SOFTWARE
    };
    let scopes = [
        (
            "software: a death, nothing forgotten",
            Scope {
                remembers: true,
                ..dies
            },
        ),
        ("software: a death", dies),
    ];
    clean(&scopes, 100_000);
    // What is found is found either way, and after as many steps.
    let bug = Scope {
        bug: crate::scope::Bug::GoodUnseen,
        ..dies
    };
    let found = |scope: &Scope| {
        let report = explore(scope, scope.limit);
        report.violation.map(|(broken, way)| (broken, way.len()))
    };
    let all = found(&bug);
    assert_eq!(all.map(|(broken, _)| broken), Some(Broken::LostUpdate));
    assert_eq!(
        found(&Scope {
            forgets_with_bug: true,
            ..bug
        }),
        all
    );
}

/// A scope of sleepers in which nobody sleeps for ever.
fn nobody_sleeps(name: &str, waiting: &Waiting) {
    let report = explore(waiting, 2_000_000);
    println!("{name:<48} {report}");
    report.assert_clean(name);
}

#[test]
fn no_wake_up_is_lost_while_nobody_dies() {
    nobody_sleeps("sleepers, no cap, nobody dies", &Waiting::QUIET);
    let again = Waiting {
        members: 2,
        turns: 3,
        ..Waiting::QUIET
    };
    nobody_sleeps("two sleepers, again and again", &again);
}

#[test]
fn a_dead_waker_or_recaller_is_made_up_for_by_the_cap_alone() {
    let capped = Waiting {
        deaths: 1,
        capped: true,
        ..Waiting::QUIET
    };
    nobody_sleeps("sleepers with a cap, one dies", &capped);
}

#[test]
fn a_dead_waker_or_recaller_is_made_up_for_by_the_daemon_alone() {
    let roused = Waiting {
        deaths: 1,
        roused: true,
        ..Waiting::QUIET
    };
    nobody_sleeps("sleepers that are roused, one dies", &roused);
}
