use pool_core::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::recover::{Recovered, recover};
use crate::{FutexWait, Grant, LeaseError, Member, Slot};

const PAGE: Bytes = Bytes::new(4096);

fn of(byte: u8) -> Digest {
    let mut hashing = Hashing::default();
    hashing.add(&[byte; 4096]);
    hashing.digest()
}

fn member(slot: u8) -> Member<FutexWait> {
    Member::new(Slot::new(slot).unwrap(), FutexWait)
}

/// A new unit of a domain that has checksums.
fn unit() -> Descriptor {
    let line = Descriptor::default();
    line.sum.store(Digest::of_zeroes(PAGE).word(0), Relaxed);
    line
}

fn publish(line: &Descriptor, byte: u8) -> u64 {
    let (writer, grant) = held(line);
    writer.set_sum(line, &grant, of(byte)).unwrap();
    writer.release_exclusive(line, &grant, true).unwrap()
}

fn held(line: &Descriptor) -> (Member<FutexWait>, Grant) {
    let writer = member(1);
    let grant = writer.try_exclusive(line).unwrap();
    (writer, grant)
}

/// The writer is gone, and left this byte everywhere.
fn dies(line: &Descriptor, left: u8) -> Recovered {
    let slot = Slot::new(1).unwrap();
    let judged = recover(line, slot, &FutexWait, |fenced| {
        judge(line, &fenced, of(left))
    });
    judged.unwrap()
}

/// What is granted next has the word of its version.
fn is_of_its_version(line: &Descriptor, byte: u8) -> bool {
    let version = line.version.load(Relaxed);
    line.sum.load(Relaxed) == of(byte).word(version)
}

#[test]
fn the_same_contents_have_another_word_in_each_version() {
    let words: std::collections::BTreeSet<_> =
        (0..1_000).map(|version| of(1).word(version)).collect();
    assert_eq!(words.len(), 1_000);
    assert_ne!(of(1), of(2));
    assert_eq!(of(0), Digest::of_zeroes(PAGE));
    let odd = Bytes::new(2 * 4096 + 7);
    let mut hashing = Hashing::default();
    hashing.add(&[0; 2 * 4096 + 7]);
    assert_eq!(hashing.digest(), Digest::of_zeroes(odd));
}

#[test]
fn what_is_published_has_the_word_of_its_version() {
    let line = unit();
    assert!(is_of_its_version(&line, 0));
    assert_eq!(publish(&line, 1), 1);
    assert!(is_of_its_version(&line, 1));
    assert_eq!(publish(&line, 1), 2);
    assert!(is_of_its_version(&line, 1));
}

#[test]
fn a_writer_that_died_before_its_first_store_loses_nothing() {
    let line = unit();
    publish(&line, 1);
    held(&line);
    assert_eq!(dies(&line, 1), Recovered::Repaired);
    assert!(is_of_its_version(&line, 1));
    assert_eq!(publish(&line, 2), 3);
}

#[test]
fn a_writer_that_died_in_the_middle_of_a_change_loses_it() {
    let line = unit();
    publish(&line, 1);
    held(&line);
    assert_eq!(dies(&line, 9), Recovered::Lost { last_good: 1 });
    let lost = Err(LeaseError::Lost { last_good: 1 });
    assert_eq!(member(2).try_shared(0, &line), lost);
}

#[test]
fn a_writer_that_died_after_it_stored_the_word_has_written_all() {
    let line = unit();
    publish(&line, 1);
    let (writer, grant) = held(&line);
    writer.set_sum(&line, &grant, of(2)).unwrap();
    assert_eq!(dies(&line, 2), Recovered::Repaired);
    assert!(is_of_its_version(&line, 2));
    // The word is of the next contents, and these are none of them.
    let (writer, grant) = held(&line);
    let last_good = grant.version;
    writer.set_sum(&line, &grant, of(3)).unwrap();
    assert_eq!(dies(&line, 2), Recovered::Lost { last_good });
}

#[test]
fn what_was_lost_stays_so_whatever_fits() {
    let line = unit();
    let (writer, grant) = held(&line);
    writer.abandon(&line, &grant).unwrap();
    let grant = writer.try_restore(&line).unwrap();
    writer.set_sum(&line, &grant, of(3)).unwrap();
    assert_eq!(dies(&line, 3), Recovered::Lost { last_good: 0 });
    let grant = writer.try_restore(&line).unwrap();
    writer.set_sum(&line, &grant, of(4)).unwrap();
    writer.release_exclusive(&line, &grant, true).unwrap();
    assert!(is_of_its_version(&line, 4));
}

#[test]
fn a_verdict_that_was_not_said_is_the_same_in_the_next_life() {
    let line = unit();
    publish(&line, 1);
    held(&line);
    let slot = Slot::new(1).unwrap();
    // Dies after it swapped the word: the unit is fenced still.
    let died = recover(&line, slot, &FutexWait, |fenced| {
        assert_eq!(judge(&line, &fenced, of(1)), Verdict::Good);
        Verdict::Undecided
    });
    assert_eq!(died, Err(crate::recover::RecoverError::Undecided));
    assert_eq!(dies(&line, 1), Recovered::Repaired);
    assert!(is_of_its_version(&line, 1));
}

#[test]
fn a_writer_that_was_fenced_stores_no_word() {
    let line = unit();
    let (writer, grant) = held(&line);
    assert_eq!(dies(&line, 0), Recovered::Repaired);
    let before = line.sum.load(Relaxed);
    let late = writer.set_sum(&line, &grant, of(5));
    assert_eq!(late, Err(LeaseError::Revoked));
    assert_eq!(line.sum.load(Relaxed), before);
}

#[test]
fn who_was_handed_a_unit_and_never_took_it_loses_nothing_that_fits() {
    for (left, expected) in [
        (1, Recovered::Repaired),
        (9, Recovered::Lost { last_good: 1 }),
    ] {
        let line = unit();
        let giver = member(2);
        let grant = giver.try_exclusive(&line).unwrap();
        giver.set_sum(&line, &grant, of(1)).unwrap();
        let to = crate::Receiver {
            slot: Slot::new(1).unwrap(),
            era: 1,
        };
        giver.hand_over(&line, &grant, true, to, || true).unwrap();
        assert_eq!(dies(&line, left), expected);
    }
}
