//! Publication under every schedule: whoever is granted a unit finds the contents that belong to
//! the version it is told. Plain `cargo test` runs each body once.

mod models;

use coherence::{Slot, State};
use models::{A, B, Unit, explore, spawn};
use pool_core::sync::atomic::Ordering::Release;

/// Catches: own.relaxed, member.releases_before_version
#[test]
fn a_reader_finds_the_contents_of_the_version_it_was_granted() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let writer = spawn(&unit, |unit| {
            let member = unit.member(B);
            if let Ok(grant) = member.try_exclusive(&unit.line) {
                unit.page.write(grant.version + 1);
                assert_eq!(member.release_exclusive(&unit.line, &grant, true), Ok(1));
            }
        });
        let member = unit.member(A);
        if let Ok(grant) = member.try_shared(0, &unit.line) {
            assert_eq!(unit.page.read(), grant.version);
            member.release_shared(0, &unit.line, &grant).unwrap();
        }
        writer.join().unwrap();
        unit.assert_at_rest();
    });
}

/// Catches: own.relaxed
#[test]
fn a_writer_finds_the_contents_of_the_version_it_was_granted() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let write = |unit: &Unit, slot| {
            let member = unit.member(slot);
            if let Ok(grant) = member.try_exclusive(&unit.line) {
                assert_eq!(unit.page.read(), grant.version);
                unit.page.write(grant.version + 1);
                member.release_exclusive(&unit.line, &grant, true).unwrap();
            }
        };
        let other = spawn(&unit, move |unit| write(unit, B));
        write(&unit, A);
        other.join().unwrap();
    });
}

/// Catches: own.relaxed
#[test]
fn what_a_writer_goes_on_reading_is_published() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let writer = spawn(&unit, |unit| {
            let member = unit.member(B);
            if let Ok(grant) = member.try_exclusive(&unit.line) {
                unit.page.write(grant.version + 1);
                member.downgrade(&unit.line, &grant, true).unwrap();
            }
        });
        let member = unit.member(A);
        if let Ok(grant) = member.try_shared(0, &unit.line) {
            assert_eq!(unit.page.read(), grant.version);
        }
        writer.join().unwrap();
    });
}

/// Catches: own.relaxed
#[test]
fn a_reader_that_let_go_is_done_before_the_next_writer_begins() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let reader = unit.member(A);
        let reading = reader.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, |unit| {
            let member = unit.member(B);
            if let Ok(grant) = member.try_exclusive(&unit.line) {
                unit.page.write(grant.version + 1);
            }
        });
        assert_eq!(unit.page.read(), reading.version);
        reader.release_shared(0, &unit.line, &reading).unwrap();
        writer.join().unwrap();
    });
}

/// The daemon moves the contents beside readers, which changes the word and changes it back: the
/// page here is the memory that they lay in before.
///
/// Catches: member.reads_before_grant
#[test]
fn nobody_is_told_of_memory_that_the_contents_have_left() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let reader = spawn(&unit, |unit| {
            let member = unit.member(B);
            let grant = member.try_shared(0, &unit.line).unwrap();
            if grant.backing == 0 {
                assert_eq!(unit.page.read(), 0);
            }
            member.release_shared(0, &unit.line, &grant).unwrap();
        });
        let daemon = unit.member(Slot::DAEMON);
        let moving = daemon.try_shared(0, &unit.line).unwrap();
        unit.line.backing.store(1, Release);
        daemon.release_shared(0, &unit.line, &moving).unwrap();
        if unit.own().state() == State::Free {
            // Whoever comes by now is told of the new memory, so the old one gets another use.
            unit.page.write(1);
        }
        reader.join().unwrap();
    });
}
