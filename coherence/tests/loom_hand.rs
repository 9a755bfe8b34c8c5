//! A unit that one member hands to another, under every schedule. Plain `cargo test` runs each body
//! once.

mod models;

use coherence::era::Era;
use coherence::pass::Pass;
use coherence::recover::{self, Verdict};
use coherence::{NotHanded, Receiver, Slot};
use models::{A, B, Unit, explore, spawn};
use pool_core::clock::Deadline;
use pool_core::sync::Arc;
use pool_core::sync::atomic::AtomicU64;

/// Catches: wait.without_second_look, wait.event_not_moved
#[test]
fn whoever_is_handed_a_unit_finds_what_the_giver_wrote() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let giver = unit.member(A);
        let held = giver.try_exclusive(&unit.line).unwrap();
        let receiver = spawn(&unit, |unit| {
            let member = unit.member(B);
            let grant = member.receive(&unit.line, 1, Deadline::NEVER)?;
            assert_eq!((grant.version, unit.page.read()), (1, 1));
            unit.page.write(2);
            member.release_exclusive(&unit.line, &grant, true)
        });
        unit.page.write(1);
        let to = Receiver { slot: B, era: 1 };
        let given = giver.hand_over(&unit.line, &held, true, to, || true);
        assert_eq!(given, Ok(1));
        assert_eq!(receiver.join().unwrap(), Ok(2));
        unit.assert_at_rest();
    });
}

/// Catches: hand.without_second_look, hand.takes_the_note_first
#[test]
fn a_unit_that_is_handed_to_one_who_dies_is_left_to_nobody() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let word = Arc::new(AtomicU64::new(0));
        let era = Era::new(&word).enter();
        let giver = unit.member(A);
        let held = giver.try_exclusive(&unit.line).unwrap();
        let daemon = {
            let word = Arc::clone(&word);
            spawn(&unit, move |unit| {
                Era::new(&word).leave();
                recover::recover(&unit.line, B, &unit.wait, |fenced| fenced.by_terms(false))
            })
        };
        let to = Receiver { slot: B, era };
        let lives = || Era::new(&word).lives(era);
        let given = giver.hand_over(&unit.line, &held, false, to, lives);
        let recovered = daemon.join().unwrap().unwrap();
        // Nobody has touched it since it was published.
        let lost = matches!(recovered, recover::Recovered::Lost { .. });
        assert!(!lost, "{recovered:?}");
        match given {
            // The daemon has taken it from the dead, who wrote nothing.
            Ok(_) => unit.assert_at_rest(),
            Err(NotHanded::Gone(back)) => {
                assert_eq!(giver.check_exclusive(&unit.line, &back), Ok(()));
            }
            Err(error) => {
                assert!(unit.own().holders() == 0, "{error}: {:?}", unit.own());
            }
        }
    });
}

/// Catches: hand.takes_twice
#[test]
fn of_two_threads_of_the_receiver_one_takes_what_was_handed() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let giver = unit.member(A);
        let held = giver.try_exclusive(&unit.line).unwrap();
        let to = Receiver { slot: B, era: 1 };
        let take = |unit: &Unit, slot: Slot| {
            let taken = unit.member(slot).try_receive(&unit.line, 1);
            if let Ok(grant) = taken {
                unit.page.write(grant.version + 1);
            }
            taken.is_ok()
        };
        let other = spawn(&unit, move |unit| take(unit, B));
        let given = giver.hand_over(&unit.line, &held, false, to, || true);
        assert_eq!(given, Ok(0));
        let here = take(&unit, B);
        assert!(here != other.join().unwrap());
    });
}

/// Catches: hand.notes_over_the_giver
#[test]
fn what_was_taken_late_is_handed_over_or_taken_back() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let giver = unit.member(A);
        let held = giver.try_exclusive(&unit.line).unwrap();
        let daemon = spawn(&unit, |unit| {
            let pass = Pass {
                slots: A.bit(),
                cut_off: A.bit(),
                moved: None,
                settles: true,
                in_order: true,
            };
            pass.go_on(&unit.line, &unit.wait, |_, _| Verdict::Good, |_, _| ())
        });
        let to = Receiver { slot: B, era: 1 };
        let given = giver.hand_over(&unit.line, &held, false, to, || true);
        assert_eq!(daemon.join().unwrap(), Ok(()));
        match given {
            Ok(_) => {
                let taken = unit.member(B).try_receive(&unit.line, 1);
                assert_eq!(taken.map(|grant| grant.version), Ok(0));
            }
            Err(_) => unit.assert_at_rest(),
        }
    });
}
