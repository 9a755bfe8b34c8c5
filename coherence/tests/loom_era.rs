//! The era of a slot under every schedule: whether a member lives, and which of those that had its
//! place. Plain `cargo test` runs each body once.

mod models;

use coherence::era::Era;
use coherence::recover::{self, Verdict};
use models::{A, B, Unit, explore, spawn};
use pool_core::sync::Arc;
use pool_core::sync::atomic::AtomicU64;

/// Catches: era.reused
#[test]
fn who_is_gone_is_never_taken_for_the_one_who_came() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let word = Arc::new(AtomicU64::new(0));
        let first = Era::new(&word).enter();
        let daemon = {
            let word = Arc::clone(&word);
            spawn(&unit, move |_| {
                Era::new(&word).leave();
                Era::new(&word).enter()
            })
        };
        let era = Era::new(&word);
        let seen = [era.lives(first), era.lives(first), era.lives(first)];
        assert!(
            seen.is_sorted_by(|before, after| before >= after),
            "{seen:?}"
        );
        let second = daemon.join().unwrap();
        assert!(second > first);
        assert!(era.lives(second) && !era.lives(first));
    });
}

/// Catches: era.enters_relaxed
#[test]
fn whoever_sees_the_next_member_sees_what_was_recovered_of_the_last() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let word = Arc::new(AtomicU64::new(0));
        let first = Era::new(&word).enter();
        unit.member(A).try_exclusive(&unit.line).unwrap();
        let daemon = {
            let word = Arc::clone(&word);
            spawn(&unit, move |unit| {
                let era = Era::new(&word);
                era.leave();
                recover::recover(&unit.line, A, &unit.wait, |_| Verdict::Good).unwrap();
                era.enter()
            })
        };
        if Era::new(&word).number() > first {
            unit.assert_at_rest();
            assert!(unit.member(B).try_exclusive(&unit.line).is_ok());
        }
        assert!(Era::new(&word).lives(daemon.join().unwrap()));
    });
}

/// Catches: era.leaves_relaxed
#[test]
fn whoever_sees_a_member_gone_sees_all_that_it_wrote() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let word = Arc::new(AtomicU64::new(0));
        let first = Era::new(&word).enter();
        let member = spawn(&unit, |unit| unit.page.write(7));
        let daemon = {
            let word = Arc::clone(&word);
            spawn(&unit, move |_| {
                member.join().unwrap();
                Era::new(&word).leave();
            })
        };
        if !Era::new(&word).lives(first) {
            assert_eq!(unit.page.read(), 7);
        }
        daemon.join().unwrap();
    });
}
