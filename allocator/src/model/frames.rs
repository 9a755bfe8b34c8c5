//! Frames that are taken and given back, and their memory.

use core::ops::Range;

use pool_core::sync::Arc;
use pool_core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

use super::with_frames;
use crate::bits;
use crate::frame::Frame;
use crate::layout::META_FRAMES;
use crate::owner::{Kind, Owner};
use crate::run;
use crate::window::{Claim, WINDOW};

/// What `number` frames of a heap are to be, and what becomes of their memory.
///
/// Whoever has them writes to them, and to all of them before it gives them back.
fn claim(heap: Owner, number: usize) -> Option<Claim> {
    let claim = WINDOW.claim(heap, number, 1)?;
    for index in 0..number {
        let frame = Frame::of_model(claim.head.index() - META_FRAMES + index);
        assert!(
            !claim.is_zero || frame.content() == 0,
            "zero, and holds what another one wrote"
        );
        frame.write_content(1);
    }
    let owner = &claim.head.descriptor().owner;
    owner.store(Owner::RUN.0, Release);
    Some(claim)
}

/// The frame is of a run of `frames`.
fn assert_is_run(head: Frame, frames: usize) {
    assert_eq!(head.owner().kind(), Kind::Run);
    for distance in 1..frames {
        let tail = Frame::of_model(head.index() - META_FRAMES + distance);
        assert_eq!(tail.owner().kind(), Kind::Tail(distance));
    }
}

/// Which bits of a few are reserved, after each of two threads reserved a range if it could.
fn reserve_two(start: super::Start, ranges: [Range<usize>; 2]) {
    let taken: Arc<[AtomicU64; 2]> = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let [mine, theirs] = ranges;
    let other = {
        let (taken, theirs) = (Arc::clone(&taken), theirs.clone());
        start.spawn(move || bits::reserve(&taken[..], &theirs))
    };
    let has = [bits::reserve(&taken[..], &mine), other.join().unwrap()];
    assert_ne!(has, [true, true], "both have what is of both");
    let of = |range: &Range<usize>, has: bool| if has { range.len() } else { 0 };
    let expected = of(&mine, has[0]) + of(&theirs, has[1]);
    assert_eq!(bits::count(&taken[..], &(0..128)), expected);
    for (range, has) in [(&mine, has[0]), (&theirs, has[1])] {
        assert!(!has || bits::count(&taken[..], range) == range.len());
    }
}

/// Catches: bits.keeps_what_it_gives_up, bits.clears_what_others_have
#[test]
fn of_two_that_reserve_the_same_bits_one_has_all_of_them() {
    with_frames(0).model(|start| {
        // Across words, and such that neither begins where the other does.
        reserve_two(start, [62..66, 65..67]);
    });
}

/// Catches: bits.clears_what_others_have
#[test]
fn of_two_that_reserve_bits_of_a_word_none_gives_back_those_of_the_other() {
    with_frames(0).model(|start| reserve_two(start, [4..7, 6..9]));
}

#[test]
fn of_two_that_claim_the_same_frames_one_gets_them() {
    with_frames(3).model(|start| {
        let other = start.spawn(|| claim(Owner::heap(1, 0), 2));
        let claims = [claim(Owner::heap(0, 0), 2), other.join().unwrap()];
        let mut had = claims.iter().flatten();
        let claim = had.next().expect("one of them");
        assert!(had.next().is_none(), "three frames are not four");
        assert!(claim.is_zero);
        assert_is_run(claim.head, 2);
        assert_eq!(WINDOW.used.load(Relaxed), 2);
    });
}

/// Catches: window.frees_what_it_let_go, window.is_dirty_late
#[test]
fn who_claims_what_another_one_gave_back_has_it_alone() {
    with_frames(2).model(|start| {
        let first = claim(Owner::heap(0, 0), 2).expect("both frames");
        let releaser = start.spawn(move || run::free(first.head));
        let early = claim(Owner::heap(1, 0), 2);
        // Frames that are idle are counted before somebody can take them.
        assert!(WINDOW.idle.load(Relaxed) <= 2);
        releaser.join().unwrap();
        let second = early.or_else(|| claim(Owner::heap(1, 0), 2));
        let second = second.expect("nobody has them");
        assert_eq!(second.head, first.head);
        assert!(!second.is_zero, "they were written to");
        assert_is_run(second.head, 2);
        assert_eq!(
            (WINDOW.used.load(Relaxed), WINDOW.idle.load(Relaxed)),
            (2, 0)
        );
    });
}

/// Catches: purge.is_clean_late
#[test]
fn memory_that_goes_back_is_nobodys_and_is_zero_then() {
    with_frames(1).model(|start| {
        run::free(claim(Owner::heap(0, 0), 1).expect("the frame").head);
        let purger = start.spawn(|| WINDOW.purge(1));
        if let Some(claim) = claim(Owner::heap(1, 0), 1) {
            run::free(claim.head);
        }
        purger.join().unwrap();
        let last = claim(Owner::heap(1, 0), 1).expect("nobody has it");
        assert_is_run(last.head, 1);
        assert_eq!(
            (WINDOW.used.load(Relaxed), WINDOW.idle.load(Relaxed)),
            (1, 0)
        );
    });
}

/// A run that grows beside another thread that takes what follows.
#[test]
fn a_run_grows_into_what_nobody_has() {
    with_frames(3).model(|start| {
        let first = claim(Owner::heap(0, 0), 1).expect("the first frame");
        let other = start.spawn(|| claim(Owner::heap(1, 0), 2));
        let has_grown = WINDOW.extend(first.head, 2).is_some();
        let other = other.join().unwrap();
        assert!(has_grown || other.is_some(), "neither has the frame");
        assert!(!has_grown || other.is_none(), "both have the frame");
        assert_is_run(first.head, if has_grown { 2 } else { 1 });
        if let Some(other) = other {
            assert_is_run(other.head, 2);
        }
    });
}
