//! The daemon, which takes a unit to copy it away from those who do not let go, against members
//! that do, under every schedule. Plain `cargo test` runs each body once.

mod models;

use coherence::evict::{Held, hold};
use coherence::recover::{self, Recovered, Verdict};
use coherence::{LeaseError, Slot, State};
use models::{A, B, Unit, explore, spawn};
use pool_core::sync::atomic::Ordering::Release;

/// The contents that are copied once the unit is still, and the version that they are of. `None`
/// where it is written to the end: the daemon would come back.
fn copy(unit: &Unit) -> Option<u64> {
    match hold(&unit.line, 0, false) {
        Ok(Held::Still) => Some(unit.page.read()),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Gives the unit back. `Good` stands for terms that keep what a dead writer has left.
fn give_back(unit: &Unit) -> Recovered {
    let good = |_| Verdict::Good;
    let done = recover::recover(&unit.line, Slot::DAEMON, &unit.wait, good);
    recover::rouse(&unit.line, &unit.wait).expect("nobody overwrites words");
    done.expect("nobody overwrites words")
}

fn write(unit: &Unit, slot: Slot) -> Result<u64, LeaseError> {
    let member = unit.member(slot);
    let grant = member.try_exclusive(&unit.line)?;
    unit.page.write(grant.version + 1);
    member.release_exclusive(&unit.line, &grant, true)
}

#[test]
fn what_is_copied_is_what_was_published_last() {
    explore(|turned| {
        let unit = Unit::new(turned);
        write(&unit, A).unwrap();
        let writer = spawn(&unit, |unit| write(unit, B));
        let copied = copy(&unit);
        if copied.is_some() {
            give_back(&unit);
        }
        match (copied, writer.join().unwrap()) {
            (Some(copied), Ok(_)) => assert!((1..=2).contains(&copied)),
            (Some(copied), Err(LeaseError::Busy(_))) => assert_eq!(copied, 1),
            (Some(_), refused) => panic!("{refused:?}"),
            (None, written) => assert_eq!(written, Ok(2)),
        }
        if copied.is_some() {
            unit.assert_at_rest();
        }
    });
}

/// Catches: evict.leaves_what_is_lost, recover.judges_what_was_lost
#[test]
fn a_lost_unit_is_restored_before_it_is_copied_or_after() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let member = unit.member(A);
        let grant = member.try_exclusive(&unit.line).unwrap();
        unit.page.write(99);
        member.abandon(&unit.line, &grant).unwrap();
        let restorer = spawn(&unit, |unit| {
            let member = unit.member(B);
            let grant = member.try_restore(&unit.line)?;
            unit.page.write(grant.version + 1);
            member.release_exclusive(&unit.line, &grant, true)
        });
        let copied = copy(&unit);
        if copied.is_some() {
            give_back(&unit);
        }
        let restored = restorer.join().unwrap();
        if copied == Some(99) {
            // It was set aside, and is as lost as it was.
            let refused = Err(LeaseError::Lost { last_good: 0 });
            let again = unit.member(A).try_shared(0, &unit.line);
            match restored {
                // After the copy: what is there now is what it wrote.
                Ok(version) => assert_eq!(again.map(|grant| grant.version), Ok(version)),
                Err(_) => assert_eq!(again, refused),
            }
        } else {
            assert!(restored.is_ok(), "{copied:?}, {restored:?}");
        }
    });
}

#[test]
fn one_that_is_evicted_publishes_nothing_and_the_copy_is_judged() {
    explore(|turned| {
        let unit = Unit::new(turned);
        write(&unit, A).unwrap();
        let grant = unit.member(A).try_exclusive(&unit.line).unwrap();
        let late = spawn(&unit, move |unit| {
            unit.member(A).release_exclusive(&unit.line, &grant, true)
        });
        assert!(hold(&unit.line, A.bit(), true).is_ok());
        let recovered = give_back(&unit);
        match (recovered, late.join().unwrap()) {
            (Recovered::Cleared, Ok(version)) => assert_eq!(version, 2),
            (Recovered::Repaired, Err(LeaseError::Revoked)) => {}
            other => panic!("{other:?}"),
        }
    });
}

/// Catches: evict.notes_no_fence, member.trusts_a_late_place
#[test]
fn one_that_was_fenced_while_it_was_granted_is_not_told_where_the_copy_lies() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let late = spawn(&unit, |unit| unit.member(A).try_exclusive(&unit.line));
        assert_eq!(hold(&unit.line, A.bit(), true), Ok(Held::Still));
        let held = unit.own();
        unit.line.backing.store(1, Release);
        give_back(&unit);
        if let Ok(grant) = late.join().unwrap() {
            let fenced = held.state() == State::Fenced && grant.epoch().after() == held.epoch();
            assert!(!fenced || grant.backing == 0, "{grant:?}");
        }
    });
}
