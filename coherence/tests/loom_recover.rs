//! The daemon against holders that died, and against those that come late, under every schedule.
//! Plain `cargo test` runs each body once.
//!
//! A holder that lives on when it is fenced never touches the contents here: the others have them
//! in other memory by then. What it still does is to the descriptor.

mod models;

use coherence::recover::{self, Fenced, Recovered, Verdict};
use coherence::{Epoch, Grant, LeaseError, Own, Refused, Slot};
use models::{A, B, Unit, explore, spawn};
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

/// What a writer that dies leaves.
const HALF: u64 = 99;

fn good(_: Fenced) -> Verdict {
    Verdict::Good
}

fn lost(_: Fenced) -> Verdict {
    Verdict::Lost
}

/// Changes the word and does no more, as one that dies at once.
fn exchange(unit: &Unit, change: impl Fn(Own) -> Result<Own, Refused>) {
    loop {
        let own = unit.own();
        let (from, to) = (own.word(), change(own).expect("the change is due").word());
        let word = &unit.line.own;
        if word.compare_exchange(from, to, AcqRel, Relaxed).is_ok() {
            return;
        }
    }
}

/// Publishes the next version.
fn write(unit: &Unit, slot: Slot) -> u64 {
    let member = unit.member(slot);
    let grant = member.try_exclusive(&unit.line).expect("it is free");
    unit.page.write(grant.version + 1);
    let published = member.release_exclusive(&unit.line, &grant, true);
    assert_eq!(published, Ok(grant.version + 1), "nobody else may write");
    grant.version + 1
}

/// Dies when it has raised the version and not let go.
fn dies_while_it_publishes(unit: &Unit, slot: Slot, grant: &Grant) -> u64 {
    let held = unit.line.own.load(Relaxed);
    let raised = unit.member(slot).release_exclusive(&unit.line, grant, true);
    // As if it had not: nobody else has had the unit.
    unit.line.own.store(held, Release);
    raised.expect("it holds it")
}

/// A holder comes late with its release, while the daemon fences it, and the one after it.
fn late_holder(turned: bool, judge: fn(Fenced) -> Verdict) {
    let unit = Unit::new(turned);
    let before = write(&unit, A);
    let grant = unit
        .member(A)
        .try_exclusive(&unit.line)
        .expect("it is free");
    let late = spawn(&unit, move |unit| {
        unit.member(A).release_exclusive(&unit.line, &grant, true)
    });
    let recovered = recover::recover(&unit.line, A, &unit.wait, judge);
    let next = unit.member(B);
    let held = match recovered {
        Ok(Recovered::Lost { last_good }) => {
            assert_eq!(last_good, before);
            next.try_restore(&unit.line)
        }
        _ => next.try_exclusive(&unit.line),
    };
    let held = held.expect("nobody else wants it");
    let raised = dies_while_it_publishes(&unit, B, &held);
    let again = recover::recover(&unit.line, B, &unit.wait, lost);
    let published = late.join().expect("it ends");
    assert!(unit.line.version.load(Relaxed) > raised, "the version fell");
    let last_good = match recovered {
        Ok(Recovered::Untouched) => {
            assert_eq!(published, Ok(before + 1), "it came first");
            before + 1
        }
        Ok(Recovered::Repaired) => {
            assert_eq!(published, Err(LeaseError::Revoked));
            held.version
        }
        _ => {
            assert_eq!(published, Err(LeaseError::Revoked));
            before
        }
    };
    assert_eq!(again, Ok(Recovered::Lost { last_good }));
}

/// Catches: publish.stores_version, member.notes_late, publish.notes_unheld
/// Catches: recover.reads_note_first
#[test]
fn a_holder_that_comes_late_publishes_nothing_of_a_unit_that_is_lost() {
    explore(|turned| late_holder(turned, lost));
}

/// Catches: publish.stores_version, member.notes_late, publish.notes_unheld
#[test]
fn a_holder_that_comes_late_publishes_nothing_of_a_unit_that_was_repaired() {
    explore(|turned| late_holder(turned, good));
}

/// Catches: recover.version_not_raised, recover.raises_what_was_good_only
#[test]
fn who_writes_a_lost_unit_anew_is_not_disturbed_by_one_who_tried_before() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let before = write(&unit, A);
        unit.member(A).try_exclusive(&unit.line).unwrap();
        recover::recover(&unit.line, A, &unit.wait, lost).unwrap();
        let tried = unit.member(A).try_restore(&unit.line).unwrap();
        let late = spawn(&unit, move |unit| {
            unit.member(A).release_exclusive(&unit.line, &tried, true)
        });
        let recovered = recover::recover(&unit.line, A, &unit.wait, lost).unwrap();
        if let Recovered::Lost { last_good } = recovered {
            assert_eq!(last_good, before);
            let next = unit.member(B);
            let grant = next.try_restore(&unit.line).unwrap();
            next.release_exclusive(&unit.line, &grant, true).unwrap();
            assert_eq!(late.join().unwrap(), Err(LeaseError::Revoked));
        } else {
            assert!(late.join().unwrap().is_ok());
        }
        unit.assert_at_rest();
    });
}

/// Catches: recover.forgets_who_restores
#[test]
fn the_last_good_version_outlives_those_who_died_while_they_wrote_it_anew() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let before = write(&unit, A);
        unit.member(A).try_exclusive(&unit.line).unwrap();
        recover::recover(&unit.line, A, &unit.wait, lost).unwrap();
        let tried = unit.member(A).try_restore(&unit.line).unwrap();
        dies_while_it_publishes(&unit, A, &tried);
        let recovered = recover::recover(&unit.line, A, &unit.wait, lost).unwrap();
        assert_eq!(recovered, Recovered::Lost { last_good: before });
        unit.member(A).try_restore(&unit.line).unwrap();
        let recovered = recover::recover(&unit.line, A, &unit.wait, lost).unwrap();
        assert_eq!(recovered, Recovered::Lost { last_good: before });
    });
}

/// Catches: own.read_relaxed
#[test]
fn whoever_is_told_that_it_is_lost_is_told_the_last_good_version() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let before = write(&unit, A);
        unit.member(A).try_exclusive(&unit.line).unwrap();
        let reader = spawn(&unit, move |unit| {
            if let Err(LeaseError::Lost { last_good }) = unit.member(B).try_shared(0, &unit.line) {
                assert_eq!(last_good, before);
            }
        });
        recover::recover(&unit.line, A, &unit.wait, lost).unwrap();
        reader.join().unwrap();
    });
}

/// Catches: recover.frees_without_fence
#[test]
fn half_of_a_change_is_never_served() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let before = write(&unit, A);
        unit.member(A).try_exclusive(&unit.line).unwrap();
        unit.page.write(HALF);
        let reader = spawn(&unit, move |unit| {
            let member = unit.member(B);
            if let Ok(grant) = member.try_shared(0, &unit.line) {
                assert_eq!(unit.page.read(), before);
                member.release_shared(0, &unit.line, &grant).unwrap();
            }
        });
        // The daemon has the contents that were published last from elsewhere.
        let recovered = recover::recover(&unit.line, A, &unit.wait, |_| {
            unit.page.write(before);
            Verdict::Good
        });
        reader.join().unwrap();
        assert_eq!(recovered, Ok(Recovered::Repaired));
        unit.assert_at_rest();
    });
}

/// Catches: recover.version_not_raised
#[test]
fn whoever_cached_lines_of_a_dead_writer_drops_them() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let before = write(&unit, A);
        unit.member(A).try_exclusive(&unit.line).unwrap();
        unit.page.write(HALF);
        // It kept lines under the version that was published last.
        let reader = spawn(&unit, move |unit| {
            let member = unit.member(B);
            if let Ok(grant) = member.try_shared(0, &unit.line) {
                assert!(
                    grant.version > before,
                    "the lines pass for those of {grant:?}"
                );
                member.release_shared(0, &unit.line, &grant).unwrap();
            }
        });
        recover::recover(&unit.line, A, &unit.wait, good).unwrap();
        reader.join().unwrap();
    });
}

/// Catches: member.releases_any_epoch
#[test]
fn a_thread_that_comes_late_lets_go_of_nothing_that_another_of_its_process_holds() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let grant = unit.member(A).try_exclusive(&unit.line).unwrap();
        let late = spawn(&unit, move |unit| {
            unit.member(A).release_exclusive(&unit.line, &grant, false)
        });
        let recovered = recover::recover(&unit.line, A, &unit.wait, good).unwrap();
        let member = unit.member(A);
        let held = member.try_exclusive(&unit.line).unwrap();
        let late = late.join().unwrap();
        assert_eq!(late.is_err(), recovered == Recovered::Repaired, "{late:?}");
        assert_eq!(member.check_exclusive(&unit.line, &held), Ok(()));
        member.release_exclusive(&unit.line, &held, true).unwrap();
        unit.assert_at_rest();
    });
}

/// Catches: member.trusts_a_late_place
#[test]
fn a_holder_that_was_fenced_is_not_told_where_the_contents_went() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let late = spawn(&unit, |unit| unit.member(A).try_exclusive(&unit.line));
        let recovered = recover::recover(&unit.line, A, &unit.wait, |_| {
            unit.line.backing.store(1, Release);
            Verdict::Good
        });
        let fenced = unit.own().epoch();
        if let Ok(grant) = late.join().unwrap() {
            let before = recovered == Ok(Recovered::Repaired) && grant.epoch().after() == fenced;
            assert!(!before || grant.backing == 0, "{grant:?}");
        }
    });
}

/// Catches: grant.keeps_an_old_note
#[test]
fn a_unit_that_was_never_changed_is_judged_however_often_it_was_leased() {
    explore(|turned| {
        let all = 1 << Epoch::BITS;
        // What is noted last would be taken for a note of the fence, of whoever restores the unit,
        // or of a later epoch than the grant.
        for leases in [all / 2 + 1, all - 3, all - 2, all - 1] {
            let unit = Unit::new(turned);
            let before = write(&unit, A);
            let epoch = Epoch::new(unit.own().epoch().number().wrapping_add(leases - 1));
            let free = u64::from(epoch.number()) << 32;
            assert_eq!(Own::judge(free).map(Own::epoch), Ok(epoch));
            unit.line.own.store(free, Release);
            unit.member(A).try_exclusive(&unit.line).unwrap();
            let recovered = recover::recover(&unit.line, A, &unit.wait, |fenced| {
                assert_eq!((fenced.last_good, fenced.was_lost), (before, false));
                assert_ne!(fenced.present, before, "whoever cached lines drops them");
                Verdict::Good
            });
            assert_eq!(recovered, Ok(Recovered::Repaired));
        }
    });
}

/// Waits to write, and lets go.
fn wait_to_write(unit: &Unit) -> Result<(), LeaseError> {
    let member = unit.member(B);
    let grant = member.exclusive(&unit.line, Deadline::NEVER)?;
    member.release_exclusive(&unit.line, &grant, true).map(drop)
}

/// Catches: recover.wakes_nobody
#[test]
fn a_writer_that_waits_for_a_dead_reader_is_woken() {
    explore(|turned| {
        let unit = Unit::new(turned);
        unit.member(A).try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, wait_to_write);
        let recovered = recover::recover(&unit.line, A, &unit.wait, lost).unwrap();
        assert_eq!(recovered, Recovered::Cleared);
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// Catches: recover.wakes_nobody
#[test]
fn a_writer_that_waits_for_a_dead_writer_is_woken_by_the_repair() {
    explore(|turned| {
        let unit = Unit::new(turned);
        unit.member(A).try_exclusive(&unit.line).unwrap();
        let writer = spawn(&unit, wait_to_write);
        recover::recover(&unit.line, A, &unit.wait, good).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}

/// Catches: recover.wakes_nobody
#[test]
fn a_reader_that_waits_for_a_dead_writer_learns_of_the_loss() {
    explore(|turned| {
        let unit = Unit::new(turned);
        unit.member(A).try_exclusive(&unit.line).unwrap();
        let reader = spawn(&unit, |unit| {
            unit.member(B).shared(0, &unit.line, Deadline::NEVER)
        });
        recover::recover(&unit.line, A, &unit.wait, lost).unwrap();
        let lost = Err(LeaseError::Lost { last_good: 0 });
        assert_eq!(reader.join().unwrap(), lost);
    });
}

/// Catches: recover.trusts_the_mark
#[test]
fn whoever_sleeps_is_roused_where_the_waker_died() {
    explore(|turned| {
        let unit = Unit::new(turned);
        unit.member(A).try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, wait_to_write);
        // It lets go, and dies before it wakes anybody.
        exchange(&unit, |own| own.release_shared(A, own.epoch()));
        recover::rouse(&unit.line, &unit.wait).unwrap();
        assert_eq!(writer.join().unwrap(), Ok(()));
        unit.assert_at_rest();
    });
}
