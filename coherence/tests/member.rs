//! Members as plain threads: deadlines, caps, and what is told of a unit that is lost.

#![cfg(not(loom))]

use coherence::recover::{self, Recovered, Verdict};
use coherence::{FutexWait, LeaseError, Member, Own, Refused, Slot, State};
use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, thread};

const A: Slot = slot(1);
const B: Slot = slot(2);

const fn slot(index: u8) -> Slot {
    match Slot::new(index) {
        Some(slot) => slot,
        None => Slot::DAEMON,
    }
}

fn member(slot: Slot) -> Member<FutexWait> {
    Member::new(slot, FutexWait)
}

fn own(line: &Descriptor) -> Own {
    Own::judge(line.own.load(Relaxed)).expect("nobody here writes a word that is none")
}

/// A deadline that a waiting thread lives to see.
fn soon() -> Deadline {
    Deadline::after(Nanos::from_millis(5))
}

#[test]
fn a_reader_is_told_by_the_deadline_that_another_writes() {
    let line = Descriptor::default();
    member(A).try_exclusive(&line).unwrap();
    let refused = member(B).shared(0, &line, soon());
    assert_eq!(refused, Err(LeaseError::TimedOut(Refused::Held)));
    assert_eq!(own(&line).holders(), A.bit());
}

#[test]
fn a_writer_is_told_by_the_deadline_that_others_read_and_lets_readers_in_again() {
    let line = Descriptor::default();
    member(A).try_shared(0, &line).unwrap();
    let refused = member(B).exclusive(&line, soon());
    assert_eq!(refused, Err(LeaseError::TimedOut(Refused::Held)));
    assert!(!own(&line).is_recalled());
    assert!(member(B).try_shared(0, &line).is_ok());
}

#[test]
fn a_reader_is_told_by_the_deadline_that_a_writer_waits() {
    let line = Descriptor::default();
    member(A).try_shared(0, &line).unwrap();
    line.own.store(own(&line).recalled().word(), Relaxed);
    let refused = member(B).shared(0, &line, soon());
    assert_eq!(refused, Err(LeaseError::TimedOut(Refused::Recalled)));
}

#[test]
fn one_who_did_not_wait_leaves_the_recall_of_those_who_do() {
    let line = Descriptor::default();
    member(A).try_shared(0, &line).unwrap();
    line.own.store(own(&line).recalled().word(), Relaxed);
    let refused = member(B).exclusive(&line, Deadline::after(Nanos::ZERO));
    assert_eq!(refused, Err(LeaseError::TimedOut(Refused::Held)));
    assert!(own(&line).is_recalled());
}

#[test]
fn a_fenced_unit_is_waited_for_until_the_deadline() {
    let line = Descriptor::default();
    member(A).try_exclusive(&line).unwrap();
    line.own.store(own(&line).fence().unwrap().word(), Relaxed);
    for refused in [
        member(B).shared(0, &line, soon()),
        member(B).exclusive(&line, soon()),
    ] {
        assert_eq!(refused, Err(LeaseError::TimedOut(Refused::Fenced)));
    }
}

#[test]
fn a_reader_comes_in_where_the_writer_that_asked_is_dead() {
    let line = Descriptor::default();
    line.own.store(own(&line).recalled().word(), Relaxed);
    let busy = LeaseError::Busy(Refused::Recalled);
    assert_eq!(member(B).try_shared(0, &line), Err(busy));
    let before = pool_core::clock::now();
    let grant = member(B).shared(0, &line, Deadline::NEVER);
    assert!(grant.is_ok(), "{grant:?}");
    let waited = pool_core::clock::now().saturating_since(before);
    assert!(
        waited >= coherence::WAIT_CAP,
        "it minded the recall for {waited:?}"
    );
    assert!(!own(&line).is_recalled());
}

#[test]
fn a_lost_unit_is_refused_with_the_version_that_was_good_until_it_is_written_anew() {
    let line = Descriptor::default();
    let (writer, other) = (member(A), member(B));
    for _ in 0..3 {
        let grant = writer.try_exclusive(&line).unwrap();
        writer.release_exclusive(&line, &grant, true).unwrap();
    }
    assert_eq!(other.try_restore(&line), Err(LeaseError::Revoked));
    writer.try_exclusive(&line).unwrap();
    let recovered = recover::recover(&line, A, &FutexWait, |_| Verdict::Lost).unwrap();
    assert_eq!(recovered, Recovered::Lost { last_good: 3 });
    let lost = LeaseError::Lost { last_good: 3 };
    assert_eq!(other.try_shared(0, &line), Err(lost));
    assert_eq!(other.shared(0, &line, Deadline::NEVER), Err(lost));
    assert_eq!(other.exclusive(&line, Deadline::NEVER), Err(lost));
    let grant = other.try_restore(&line).unwrap();
    assert!(grant.version > 3);
    let version = other.release_exclusive(&line, &grant, true).unwrap();
    let read = writer.try_shared(0, &line).unwrap();
    assert_eq!(read.version, version);
}

#[test]
fn a_withdrawn_unit_is_refused_to_all() {
    let line = Descriptor::default();
    line.own.store(own(&line).retire().unwrap().word(), Relaxed);
    let member = member(A);
    let retired = Err(LeaseError::Retired);
    assert_eq!(member.shared(0, &line, Deadline::NEVER), retired);
    assert_eq!(member.exclusive(&line, Deadline::NEVER), retired);
    assert!(member.try_restore(&line).is_err());
}

#[test]
fn a_recovery_that_is_taken_up_after_any_step_says_the_same() {
    let line = Descriptor::default();
    let grant = member(A).try_exclusive(&line).unwrap();
    member(A).release_exclusive(&line, &grant, true).unwrap();
    member(A).try_exclusive(&line).unwrap();
    for _ in 0..3 {
        // The daemon dies when it has judged, again and again.
        let fenced = own(&line).state() == State::Fenced;
        let before = if fenced {
            own(&line)
        } else {
            own(&line).fence().unwrap()
        };
        let recovered = recover::recover(&line, A, &FutexWait, |fenced| {
            assert_eq!(fenced.last_good, 1);
            Verdict::Lost
        });
        assert_eq!(recovered, Ok(Recovered::Lost { last_good: 1 }));
        line.own.store(before.word(), Relaxed);
    }
}

/// What a thread of the stress does in one turn; returns how often it wrote.
fn turn(member: &Member<FutexWait>, line: &Descriptor, count: &AtomicU64, number: u64) -> u64 {
    if number.is_multiple_of(4) {
        let grant = member
            .exclusive(line, Deadline::NEVER)
            .expect("nobody dies");
        // Not an addition: one that another's comes between is lost.
        let seen = count.load(Relaxed);
        assert_eq!(seen, grant.version);
        count.store(seen + 1, Relaxed);
        let version = member.release_exclusive(line, &grant, true);
        assert_eq!(version, Ok(seen + 1));
        return 1;
    }
    let grant = member
        .shared(0, line, Deadline::NEVER)
        .expect("nobody dies");
    assert_eq!(count.load(Relaxed), grant.version);
    assert_eq!(count.load(Relaxed), grant.version);
    assert_eq!(member.release_shared(0, line, &grant), Ok(()));
    0
}

#[test]
fn a_million_leases_by_threads_of_three_members_lose_no_write_and_hang_nowhere() {
    let line = Arc::new(Descriptor::default());
    let count = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = [slot(1), slot(2), slot(3)]
        .into_iter()
        .flat_map(|slot| {
            let member = Arc::new(member(slot));
            [Arc::clone(&member), member]
        })
        .zip(0_u64..)
        .map(|(member, thread)| {
            let (line, count) = (Arc::clone(&line), Arc::clone(&count));
            thread::spawn(move || {
                (0..170_000)
                    .map(|number| turn(&member, &line, &count, number + thread))
                    .sum::<u64>()
            })
        })
        .collect();
    let written: u64 = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert_eq!(count.load(Relaxed), written);
    assert_eq!(line.version.load(Relaxed), written);
    let rest = own(&line);
    assert_eq!((rest.state(), rest.is_recalled()), (State::Free, false));
}

#[test]
fn threads_that_sleep_are_woken_by_a_release_and_not_by_the_cap_alone() {
    let line = Arc::new(Descriptor::default());
    let writer = member(A);
    let grant = writer.try_exclusive(&line).unwrap();
    let reader = {
        let line = Arc::clone(&line);
        thread::spawn(move || member(B).shared(0, &line, Deadline::NEVER))
    };
    eventually(Deadline::NEVER, || own(&line).has_waiters().then_some(())).unwrap();
    let event = line.event.load(Relaxed);
    writer.release_exclusive(&line, &grant, true).unwrap();
    assert_ne!(line.event.load(Relaxed), event);
    assert_eq!(reader.join().unwrap().unwrap().version, 1);
}
