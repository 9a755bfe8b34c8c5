//! The ownership word under every schedule: who may read and write when. Plain `cargo test` runs
//! each body once.

mod models;

use coherence::{LeaseError, Member, Refused, Wait};
use models::{A, B, Unit, explore, spawn};
use pool_core::sync::atomic::Ordering::Relaxed;

/// Publishes the next version where the unit is free now, and says whether it was.
fn write<W: Wait>(unit: &Unit, member: &Member<W>) -> bool {
    let Ok(grant) = member.try_exclusive(&unit.line) else {
        return false;
    };
    assert_eq!(unit.page.read(), grant.version);
    unit.page.write(grant.version + 1);
    let published = member.release_exclusive(&unit.line, &grant, true);
    assert_eq!(published, Ok(grant.version + 1));
    true
}

/// Reads where that is granted now.
fn read<W: Wait>(unit: &Unit, member: &Member<W>) {
    if let Ok(grant) = member.try_shared(0, &unit.line) {
        assert_eq!(unit.page.read(), grant.version);
        assert_eq!(member.release_shared(0, &unit.line, &grant), Ok(()));
    }
}

/// Catches: own.load_and_store
#[test]
fn two_writers_are_never_in_at_once_and_no_write_is_lost() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let other = spawn(&unit, |unit| write(unit, &unit.member(B)));
        let here = write(&unit, &unit.member(A));
        let there = other.join().unwrap();
        assert!(
            here || there,
            "both were refused a unit that somebody must have had"
        );
        let written = u64::from(here) + u64::from(there);
        assert_eq!(unit.page.read(), written);
        assert_eq!(unit.line.version.load(Relaxed), written);
        unit.assert_at_rest();
    });
}

/// Catches: own.load_and_store
#[test]
fn a_reader_never_meets_a_writer() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let other = spawn(&unit, |unit| read(unit, &unit.member(B)));
        write(&unit, &unit.member(A));
        other.join().unwrap();
        unit.assert_at_rest();
    });
}

/// Reads, and goes on to write where nobody else reads.
fn read_then_write(unit: &Unit, member: &Member<impl Wait>) -> bool {
    let Ok(grant) = member.try_shared(0, &unit.line) else {
        return false;
    };
    assert_eq!(unit.page.read(), grant.version);
    match member.try_upgrade(&unit.line, &grant) {
        Ok(grant) => {
            unit.page.write(grant.version + 1);
            let published = member.release_exclusive(&unit.line, &grant, true);
            assert_eq!(published, Ok(grant.version + 1));
            true
        }
        Err(error) => {
            assert_eq!(error, LeaseError::Busy(Refused::Held));
            assert_eq!(unit.page.read(), grant.version, "the lease stands");
            assert_eq!(member.release_shared(0, &unit.line, &grant), Ok(()));
            false
        }
    }
}

/// Catches: own.load_and_store
#[test]
fn of_two_readers_that_want_to_write_none_writes_beside_the_other() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let other = spawn(&unit, |unit| read_then_write(unit, &unit.member(B)));
        let here = read_then_write(&unit, &unit.member(A));
        let written = u64::from(here) + u64::from(other.join().unwrap());
        assert_eq!(unit.page.read(), written);
        unit.assert_at_rest();
    });
}

/// Catches: own.load_and_store
#[test]
fn nobody_writes_between_a_write_and_the_reading_that_it_becomes() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let other = spawn(&unit, |unit| {
            let member = unit.member(B);
            read(unit, &member);
            write(unit, &member)
        });
        let member = unit.member(A);
        if let Ok(grant) = member.try_exclusive(&unit.line) {
            unit.page.write(grant.version + 1);
            let grant = member.downgrade(&unit.line, &grant, true).unwrap();
            assert_eq!(unit.page.read(), grant.version);
            assert_eq!(unit.line.version.load(Relaxed), grant.version);
            assert_eq!(member.release_shared(0, &unit.line, &grant), Ok(()));
        }
        other.join().unwrap();
        unit.assert_at_rest();
    });
}
