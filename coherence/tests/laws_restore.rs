//! What a lost unit is to those who write it anew, where they are gone before they have.

use std::panic::{AssertUnwindSafe, catch_unwind};

use coherence::recover::{Recovered, Verdict, recover};
use coherence::{Grant, LeaseError, Member, Slot, Wait};
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::Relaxed;

/// Nobody waits here.
#[derive(Debug)]
struct NoWait;

impl Wait for NoWait {
    fn wait(&self, _word: &AtomicU32, _seen: u32, _until: Deadline) {}

    fn wake_all(&self, _word: &AtomicU32) {}
}

fn member(index: u8) -> Member<NoWait> {
    Member::new(Slot::new(index).expect("a slot"), NoWait)
}

/// Takes the unit away from `member`, its contents lost.
fn lose(line: &Descriptor, member: &Member<NoWait>) -> Recovered {
    recover(line, member.slot(), &NoWait, |_| Verdict::Lost).expect("a sound word")
}

/// A unit that was lost under its second writer: version 1 is the last that was published.
fn lost_unit() -> Descriptor {
    let line = Descriptor::default();
    let first = member(1);
    let grant = first.try_exclusive(&line).expect("it is free");
    assert_eq!(first.release_exclusive(&line, &grant, true), Ok(1));
    first.try_exclusive(&line).expect("it is free");
    assert_eq!(lose(&line, &first), Recovered::Lost { last_good: 1 });
    line
}

fn restored(line: &Descriptor, member: &Member<NoWait>) -> Grant {
    member.try_restore(line).expect("it is lost")
}

#[test]
fn however_many_fail_to_restore_a_unit_its_last_good_version_is_told() {
    let line = lost_unit();
    for _ in 0..200 {
        let failing = member(2);
        let _ = restored(&line, &failing);
        assert_eq!(lose(&line, &failing), Recovered::Lost { last_good: 1 });
        let refused = failing.try_shared(0, &line);
        assert_eq!(refused, Err(LeaseError::Lost { last_good: 1 }));
    }
}

#[test]
fn a_restorer_that_was_cut_off_publishes_nothing_and_stops_nobody() {
    let line = lost_unit();
    let (late, later) = (member(2), member(3));
    let cut = restored(&line, &late);
    assert_eq!(lose(&line, &late), Recovered::Lost { last_good: 1 });
    let grant = restored(&line, &later);
    let refused = late.release_exclusive(&line, &cut, true);
    assert_eq!(refused, Err(LeaseError::Revoked));
    let version = later.release_exclusive(&line, &grant, true);
    assert_eq!(version, Ok(grant.version + 1));
    let read = late.try_shared(0, &line).expect("it is restored");
    assert_eq!(Ok(read.version), version);
}

/// Buries `member` as a daemon does whose domain keeps what the dead have written; says what the
/// unit is then, and what the judge was told.
fn keep(line: &Descriptor, member: &Member<NoWait>) -> (Recovered, Option<bool>) {
    let mut told = None;
    let recovered = recover(line, member.slot(), &NoWait, |fenced| {
        told = Some(fenced.was_lost);
        if fenced.was_lost {
            Verdict::Lost
        } else {
            Verdict::Good
        }
    });
    (recovered.expect("a sound word"), told)
}

#[test]
fn the_judge_is_told_of_a_writer_that_there_were_contents_and_of_a_restorer_that_there_were_none() {
    let line = lost_unit();
    let (restorer, writer) = (member(2), member(3));
    let lost = (Recovered::Lost { last_good: 1 }, Some(true));
    for _ in 0..3 {
        let _ = restored(&line, &restorer);
        assert_eq!(keep(&line, &restorer), lost);
    }
    // The same of one that gives up what it restores.
    let grant = restored(&line, &restorer);
    restorer.abandon(&line, &grant).expect("it is held");
    let refused = restorer.try_shared(0, &line);
    assert_eq!(refused, Err(LeaseError::Lost { last_good: 1 }));
    let _ = restored(&line, &restorer);
    assert_eq!(keep(&line, &restorer), lost);
    // Once it is restored it is a unit like others.
    let grant = restored(&line, &restorer);
    restorer
        .release_exclusive(&line, &grant, true)
        .expect("it is held");
    for _ in 0..2 {
        writer.try_exclusive(&line).expect("it is free");
        assert_eq!(keep(&line, &writer), (Recovered::Repaired, Some(false)));
    }
}

#[test]
fn a_daemon_that_dies_at_the_judgement_tells_the_next_judge_the_same() {
    let line = lost_unit();
    let restorer = member(2);
    let _ = restored(&line, &restorer);
    for _ in 0..3 {
        let died = catch_unwind(AssertUnwindSafe(|| {
            recover(&line, restorer.slot(), &NoWait, |fenced| {
                assert!(fenced.was_lost);
                panic!("the daemon dies");
            })
        }));
        assert!(died.is_err());
    }
    let lost = (Recovered::Lost { last_good: 1 }, Some(true));
    assert_eq!(keep(&line, &restorer), lost);
}

#[test]
fn a_member_that_dies_while_it_gives_contents_up_has_given_them_up() {
    let line = Descriptor::default();
    let giver = member(1);
    let grant = giver.try_exclusive(&line).expect("it is free");
    let before = line.own.load(Relaxed);
    giver.abandon(&line, &grant).expect("it is held");
    // As if it had died before the word said so.
    line.own.store(before, Relaxed);
    let lost = (Recovered::Lost { last_good: 0 }, Some(true));
    assert_eq!(keep(&line, &giver), lost);
}
