//! Sleeping and waking under every schedule. Sleep has no cap here: a wake-up that is lost leaves a
//! thread that sleeps for ever, which fails the model. Plain `cargo test` runs each body once.

mod models;

use coherence::{LeaseError, Slot, recover};
use models::{A, B, Unit, explore, spawn};
use pool_core::clock::Deadline;
use pool_core::sync::model;

/// A third member.
const C: Slot = Slot::DAEMON;

/// Waits to write, and publishes the next version.
fn write(unit: &Unit, slot: Slot) -> Result<(), LeaseError> {
    let member = unit.member(slot);
    let grant = member.exclusive(&unit.line, Deadline::NEVER)?;
    assert_eq!(unit.page.read(), grant.version);
    unit.page.write(grant.version + 1);
    member.release_exclusive(&unit.line, &grant, true).map(drop)
}

/// Waits to read.
fn read(unit: &Unit, slot: Slot) -> Result<(), LeaseError> {
    let member = unit.member(slot);
    let grant = member.shared(0, &unit.line, Deadline::NEVER)?;
    assert_eq!(unit.page.read(), grant.version);
    member.release_shared(0, &unit.line, &grant)
}

/// Catches: wait.unannounced, wait.without_second_look, wait.event_read_late
/// Catches: wait.event_not_moved
#[test]
fn a_writer_that_waits_is_woken_by_the_reader_that_leaves() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let reader = unit.member(A);
        let grant = reader.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, |unit| write(unit, B));
        reader.release_shared(0, &unit.line, &grant).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// Catches: wait.unannounced, wait.without_second_look, wait.event_read_late
/// Catches: wait.event_not_moved
#[test]
fn a_reader_that_waits_is_woken_by_the_writer_that_leaves() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let writer = unit.member(A);
        let grant = writer.try_exclusive(&unit.line).unwrap();
        let reader = spawn(&unit, |unit| read(unit, B));
        unit.page.write(1);
        writer.release_exclusive(&unit.line, &grant, true).unwrap();
        assert_eq!(reader.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// Catches: member.downgrades_silently, wait.event_not_moved
#[test]
fn a_reader_that_waits_is_woken_by_the_writer_that_goes_on_reading() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let writer = unit.member(A);
        let grant = writer.try_exclusive(&unit.line).unwrap();
        let reader = spawn(&unit, |unit| read(unit, B));
        unit.page.write(1);
        let grant = writer.downgrade(&unit.line, &grant, true).unwrap();
        // It is done although the other never lets go.
        assert_eq!(reader.join().unwrap(), Ok(()));
        writer.release_shared(0, &unit.line, &grant).unwrap();
        unit.assert_at_rest();
    });
}

/// Catches: wait.without_second_look, wait.event_not_moved
#[test]
fn a_writer_that_waits_for_two_readers_is_woken_by_the_last() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let (first, last) = (unit.member(A), unit.member(C));
        let early = first.try_shared(0, &unit.line).unwrap();
        let late = last.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, |unit| write(unit, B));
        first.release_shared(0, &unit.line, &early).unwrap();
        last.release_shared(0, &unit.line, &late).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// Catches: member.takes_the_marks
#[test]
fn a_writer_that_waits_for_a_reader_is_woken_though_that_one_writes_first() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let reader = unit.member(A);
        let grant = reader.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, |unit| write(unit, B));
        // It reads alone: whoever waits holds nothing.
        let grant = reader.try_upgrade(&unit.line, &grant).unwrap();
        unit.page.write(1);
        reader.release_exclusive(&unit.line, &grant, true).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        assert_eq!(unit.page.read(), 2);
        unit.assert_at_rest();
    });
}

/// Catches: wait.without_second_look, wait.event_not_moved
#[test]
fn two_writers_that_wait_both_have_their_turn() {
    // From one schedule: those of three threads are many.
    model(|| {
        let unit = Unit::new(false);
        let holder = unit.member(A);
        let grant = holder.try_shared(0, &unit.line).unwrap();
        let first = spawn(&unit, |unit| write(unit, B));
        let second = spawn(&unit, |unit| write(unit, C));
        holder.release_shared(0, &unit.line, &grant).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        assert_eq!(second.join().unwrap(), Ok(()));
        assert_eq!(unit.page.read(), 2);
        unit.assert_at_rest();
    });
}

/// Giving up takes the recall and the mark of all back, as [`recover::rouse`] does.
///
/// Catches: wait.without_second_look, wait.event_not_moved
#[test]
fn a_writer_still_has_its_turn_where_another_has_given_up() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let holder = unit.member(A);
        let grant = holder.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, |unit| write(unit, B));
        recover::rouse(&unit.line, &unit.wait).unwrap();
        holder.release_shared(0, &unit.line, &grant).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}
