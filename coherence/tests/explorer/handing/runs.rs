//! The scopes of [`super::Handing`]: clean ones, and one with each bug.

use super::{Broken, Bug, Handing};
use crate::search::explore;

const LIMIT: usize = 3_000_000;
const QUIET: Handing = Handing {
    members: 2,
    grants: 2,
    hands: 2,
    deaths: 0,
    evictions: 0,
    restarts: 0,
    keeps: false,
    bug: Bug::None,
};
const DIES: Handing = Handing { deaths: 1, ..QUIET };
const DIE: Handing = Handing { deaths: 2, ..QUIET };
const CUT: Handing = Handing {
    evictions: 1,
    ..QUIET
};
const KEEPS: Handing = Handing {
    deaths: 1,
    keeps: true,
    grants: 3,
    ..QUIET
};

#[test]
fn what_is_handed_over_or_given_up_is_nobodys_by_mistake() {
    let three = Handing {
        members: 3,
        grants: 1,
        ..DIES
    };
    for (name, scope) in [
        ("quiet", QUIET),
        (
            "dies, daemon too",
            Handing {
                restarts: 1,
                ..DIES
            },
        ),
        ("cut off and dies", Handing { deaths: 1, ..CUT }),
        (
            "keeps",
            Handing {
                restarts: 1,
                ..KEEPS
            },
        ),
        ("two die, daemon too", Handing { restarts: 1, ..DIE }),
        ("three members", Handing { hands: 3, ..three }),
    ] {
        let report = explore(&scope, LIMIT);
        println!("handing: {name:<24} {report}");
        report.assert_clean(name);
        assert!(report.states > 1_000, "{name}: {report}");
    }
}

#[test]
fn every_planted_bug_of_handing_is_found() {
    let mut failed = Vec::new();
    for (expected, bug, scope) in [
        (Broken::Stranded, Bug::NoSecondLook, DIES),
        (Broken::Stranded, Bug::GivesBeforeNote, DIES),
        (Broken::UnpublishedSeen, Bug::NoteLeft, DIES),
        (Broken::TwoWriters, Bug::NoLookAgain, CUT),
        (Broken::LostInVain, Bug::NoteIgnored, DIES),
        (Broken::LostInVain, Bug::NoteTakenFirst, DIES),
        (Broken::Stranded, Bug::StrandedLeft, DIE),
        (Broken::LastGood, Bug::AbandonNotNoted, DIES),
        (Broken::LostServed, Bug::RestorerKept, KEEPS),
    ] {
        let report = explore(&Handing { bug, ..scope }, LIMIT);
        let found = report.violation.as_ref().map(|(broken, _)| *broken);
        println!("handing: {:<24} {found:?} {report}", format!("{bug:?}"));
        if found != Some(expected) {
            failed.push((bug, expected, report));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
