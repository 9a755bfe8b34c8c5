//! The model with a bug each: every one must be found, and by which rule it is broken is told.
//!
//! One mistake of the protocol's list is no mistake: that the epoch does not rise once more when a
//! fenced unit is repaired. The fence has raised it, so the holder that was fenced is refused
//! whatever comes after, and nobody else holds an epoch in between. The real table does not raise
//! it there, and the clean scopes show that nothing is missed.

use crate::scope::{Bug, Caches, Scope};
use crate::search::{Model, Report, explore};
use crate::state::Broken;
use crate::waiting::{self, Waiting};

/// Explores `model`, which has a bug, and prints the row.
fn row<M: Model>(name: &str, model: &M) -> Report<M::Violation> {
    let report = explore(model, 3_000_000);
    match &report.violation {
        Some((broken, way)) => {
            let broken = format!("{broken:?}");
            println!("{name:<24} {broken:<20} {:>3} steps {report}", way.len());
            if std::env::var_os("EXPLORER_TRACE").is_some() {
                println!("    {}", way.join("\n    "));
            }
        }
        None => println!("{name:<24} NOT CAUGHT {report}"),
    }
    report
}

fn all() -> Vec<(Broken, Scope)> {
    use Bug as B;
    let quiet = Scope::QUIET;
    let dies = Scope { deaths: 1, ..quiet };
    let cut = Scope { evictions: 1, ..quiet };
    let moved = Scope { moves: 1, ..quiet };
    let hardware = Scope { caches: Caches::Coherent, ..cut };
    let alone = Scope { members: 1, frames: 2, writes: 1, moves: 2, ..quiet };
    let with = |bug, scope| Scope { bug, ..scope };
    vec![
        (Broken::LostUpdate, Scope { caches: Caches::Any, ..quiet }),
        (Broken::LostUpdate, with(B::SkipFlush, quiet)),
        (Broken::LostUpdate, with(B::PublishBeforeFlush, quiet)),
        (Broken::StaleRead, with(B::NeverInvalidate, quiet)),
        (Broken::VersionTwice, with(B::VersionNotRaised, quiet)),
        (Broken::UnpublishedSeen, with(B::FenceRaisesNoVersion, Scope { copies: true, ..dies })),
        (Broken::LostUpdate, with(B::FreedWithoutFence, dies)),
        (Broken::LostUpdate, with(B::GoodUnseen, dies)),
        (Broken::OneWriterOrReaders, with(B::EvictedInPlace, cut)),
        (Broken::LostUpdate, with(B::JudgedBeforeCopied, hardware)),
        (Broken::LostUpdate, with(B::MovedUnheld, moved)),
        (Broken::FrameReused, with(B::FrameFreedEarly, Scope { moves: 2, ..quiet })),
        (Broken::StaleRead, with(B::RemapKeepsVersion, alone)),
        (Broken::FrameReused, with(B::BackingBeforeGrant, Scope { moves: 2, ..quiet })),
        (Broken::OneWriterOrReaders, with(B::NoSecondLook, hardware)),
        (Broken::LateStore, with(B::DirtyLinesKept, Scope { moves: 1, evictions: 1, ..alone })),
        (Broken::Fell, with(B::VersionStored, hardware)),
        (Broken::Fell, with(B::ReleaseStored, hardware)),
        (Broken::LastGood, with(B::NotNoted, dies)),
        (Broken::LastGood, with(B::NotedLate, Scope { deaths: 2, evictions: 0, ..hardware })),
        (Broken::LastGood, with(B::NotedLate, Scope { deaths: 1, ..hardware })),
        (Broken::LastGood, with(B::FailedNoteIgnored, Scope { deaths: 1, evictions: 0, ..hardware })),
        (Broken::LastGood, with(B::RedoNotesAnew, Scope { restarts: 1, ..dies })),
        (Broken::Stuck, with(B::RedoForgets, Scope { restarts: 1, ..dies })),
        (Broken::OneWriterOrReaders, with(B::RedoInPlace, Scope { restarts: 1, ..cut })),
        (Broken::LostUpdate, with(B::JudgedTooEarly, dies)),
        (Broken::OneWriterOrReaders, with(B::SlotReusedEarly, dies)),
    ]
}

#[test]
fn every_planted_bug_is_found() {
    let mut failed = Vec::new();
    for (expected, scope) in all() {
        let name = match scope.caches {
            Caches::Any => "CleanWriteBacks".to_owned(),
            _ => format!("{:?}", scope.bug),
        };
        let report = row(&name, &scope);
        if report.violation.is_none_or(|(broken, _)| broken != expected) {
            failed.push((name, expected));
        }
    }
    assert!(failed.is_empty(), "not found, or another rule broken than: {failed:?}");
}

#[test]
fn every_planted_bug_of_waking_is_found() {
    use waiting::Bug as B;
    let quiet = Waiting::QUIET;
    let dies = Waiting { deaths: 1, ..quiet };
    let rows = [
        ("NoCapAndNobodyRoused", dies),
        ("NoSecondLook", Waiting { bug: B::NoSecondLook, ..quiet }),
        ("EventReadLate", Waiting { bug: B::EventReadLate, ..quiet }),
        ("EventNotMoved", Waiting { bug: B::EventNotMoved, ..quiet }),
        ("RecallLeft", Waiting { bug: B::RecallLeft, ..quiet }),
        ("NobodyWoken", Waiting { bug: B::NobodyWoken, ..quiet }),
    ];
    for (name, waiting) in rows {
        let report = row(name, &waiting);
        assert!(report.violation.is_some(), "{name} is not found");
    }
}
