//! A writer that waits against readers that come, under every schedule. Plain `cargo test` runs
//! each body once.

mod models;

use coherence::{Grant, LeaseError, Slot, State};
use models::{A, B, Unit, explore, spawn};
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::sync::model;

/// A third member.
const C: Slot = Slot::DAEMON;

/// Waits to write, and publishes the next version.
fn write(unit: &Unit) -> Result<(), LeaseError> {
    let member = unit.member(B);
    let grant = member.exclusive(&unit.line, Deadline::NEVER)?;
    unit.page.write(grant.version + 1);
    member.release_exclusive(&unit.line, &grant, true).map(drop)
}

/// Catches: member.ignores_the_recall
#[test]
fn no_reader_is_let_in_before_the_writer_that_waits() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let reader = unit.member(A);
        let reading = reader.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, write);
        let seen = unit.own();
        let late = unit.member(C);
        if let Ok(grant) = late.try_shared(0, &unit.line) {
            let had_its_turn = grant.epoch() != seen.epoch();
            assert!(
                had_its_turn || !seen.is_recalled(),
                "{grant:?} after {seen:?}"
            );
            late.release_shared(0, &unit.line, &grant).unwrap();
        }
        reader.release_shared(0, &unit.line, &reading).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// Catches: member.ignores_the_recall
#[test]
fn the_writer_keeps_its_turn_of_a_unit_that_has_become_free() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let reader = unit.member(A);
        let reading = reader.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, write);
        reader.release_shared(0, &unit.line, &reading).unwrap();
        let seen = unit.own();
        let recalled = seen.state() == State::Free && seen.is_recalled();
        if let Ok(grant) = reader.try_shared(0, &unit.line) {
            assert!(
                !recalled || grant.epoch() != seen.epoch(),
                "{grant:?} after {seen:?}"
            );
            reader.release_shared(0, &unit.line, &grant).unwrap();
        }
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// Catches: member.jumps_the_queue
#[test]
fn the_writer_keeps_its_turn_from_another_that_comes_later() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let other = unit.member(A);
        let reading = other.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, write);
        other.release_shared(0, &unit.line, &reading).unwrap();
        let seen = unit.own();
        let recalled = seen.state() == State::Free && seen.is_recalled();
        if let Ok(grant) = other.try_exclusive(&unit.line) {
            assert!(!recalled || grant.version == 1, "{grant:?} after {seen:?}");
            other.release_exclusive(&unit.line, &grant, false).unwrap();
        }
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// Catches: member.takes_the_marks, wait.event_not_moved
#[test]
fn a_reader_that_waits_behind_a_writer_has_its_turn_after_it() {
    // From one schedule: those of three threads are many.
    model(|| {
        let unit = Unit::new(false);
        let holder = unit.member(A);
        let held = holder.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, write);
        let reader = spawn(&unit, |unit| {
            let member = unit.member(C);
            let grant = member.shared(0, &unit.line, Deadline::NEVER).unwrap();
            assert_eq!(unit.page.read(), grant.version);
            member.release_shared(0, &unit.line, &grant).unwrap();
        });
        holder.release_shared(0, &unit.line, &held).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        reader.join().unwrap();
        unit.assert_at_rest();
    });
}

/// Catches: wait.without_second_look, wait.event_not_moved
#[test]
fn a_writer_asks_again_where_the_one_before_it_goes_on_reading() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let holder = unit.member(A);
        let held = holder.try_exclusive(&unit.line).unwrap();
        let writer = spawn(&unit, write);
        let held = holder.downgrade(&unit.line, &held, false).unwrap();
        holder.release_shared(0, &unit.line, &held).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// A reader is woken by the release of a unit that somebody else has asked for, which this model
/// plays.
///
/// Catches: member.impatient
#[test]
fn a_reader_that_is_woken_in_vain_has_its_turn_in_the_end() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let holder = unit.member(A);
        let held = holder.try_exclusive(&unit.line).unwrap();
        let asked = unit.own().recalled();
        unit.line.own.store(asked.word(), Release);
        let reader = spawn(&unit, |unit| {
            let member = unit.member(C);
            let grant = member.shared(0, &unit.line, Deadline::NEVER)?;
            assert_eq!(grant.version, 1, "it came before the writer that asked");
            member.release_shared(0, &unit.line, &grant)
        });
        holder.release_exclusive(&unit.line, &held, false).unwrap();
        let held = take_in_turn(&unit, B);
        let asking = unit.member(B);
        asking.release_exclusive(&unit.line, &held, true).unwrap();
        assert_eq!(reader.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// What the member at `slot` does that has asked before.
fn take_in_turn(unit: &Unit, slot: Slot) -> Grant {
    loop {
        let own = unit.own();
        let taken = own.grant_exclusive_in_turn(slot).expect("it is free");
        let line = &unit.line;
        let done = line
            .own
            .compare_exchange(own.word(), taken.word(), AcqRel, Relaxed);
        if done.is_ok() {
            return Grant {
                own: taken,
                version: line.version.load(Acquire),
                backing: 0,
            };
        }
    }
}
