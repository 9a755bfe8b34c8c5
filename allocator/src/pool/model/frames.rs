//! Frames that two processes claim and release.

use super::Client;
use crate::frame::Frame;
use crate::layout::{Cut, META_FRAMES};
use crate::model::with_frames;
use crate::owner::{Kind, Owner};
use crate::pool::frames::{Wanted, extend, extent};

use pool_core::sync::atomic::Ordering::Release;

/// A run of `frames`, which are written to.
fn claim(client: &Client, frames: usize) -> Option<Frame> {
    let wanted = Wanted {
        frames,
        align: 1,
        cut: Cut::Ordinary,
        tier: None,
    };
    let (process, owner) = (&client.process, client.local.owner);
    let claim = process.chunks.claim(process.control, owner, &wanted)?;
    let head = claim.head;
    assert_eq!(extent(head), frames);
    for frame in of_run(head, frames) {
        assert!(
            !claim.is_zero || frame.content() == 0,
            "zero, and holds what another one wrote"
        );
        frame.write_content(1);
    }
    head.descriptor().owner.store(Owner::RUN.0, Release);
    Some(head)
}

fn of_run(head: Frame, frames: usize) -> impl Iterator<Item = Frame> {
    let first = head.index() - META_FRAMES;
    (first..first + frames).map(Frame::of_model)
}

/// Writes to a run a last time, and frees it.
fn release(client: &Client, head: Frame, frames: usize) {
    assert_eq!(head.owner().kind(), Kind::Run);
    assert_eq!(extent(head), frames, "it is as long as it was");
    for frame in of_run(head, frames) {
        frame.write_content(2);
    }
    let freed = client.local.free_run(&client.process, head);
    freed.expect("it is free once");
}

/// Catches: frames.taken_by_a_store
#[test]
fn of_two_that_claim_the_same_frames_each_has_its_own() {
    with_frames(2).model(|start| {
        let (mine, theirs) = (Client::new(1), Client::new(2));
        let other = start.spawn(move || {
            let had = claim(&theirs, 2);
            (theirs, had)
        });
        let had = claim(&mine, 1);
        let (_theirs, other) = other.join().unwrap();
        assert!(had.is_some() || other.is_some(), "neither has a frame");
        assert!(had.is_none() || other.is_none(), "two frames are not three");
    });
}

/// Catches: frames.taken_by_a_store, frames.keeps_what_it_gives_up, frames.hides_what_it_gives_up
#[test]
fn of_frames_that_two_claim_and_release_none_is_lost() {
    with_frames(2).model(|start| {
        let (mine, theirs) = (Client::new(1), Client::new(2));
        let other = start.spawn(move || {
            if let Some(head) = claim(&theirs, 2) {
                release(&theirs, head, 2);
            }
            theirs
        });
        if let Some(head) = claim(&mine, 1) {
            release(&mine, head, 1);
        }
        other.join().unwrap();
        // All bits fit again, without that anybody mends them.
        claim(&mine, 2).expect("nobody has a frame");
    });
}

/// Catches: frames.frees_the_head_first
#[test]
fn frames_that_the_dead_was_about_to_release_are_free_and_nobodys() {
    for point in ["heap.run_freeing", "heap.tail_released"] {
        with_frames(3).model(move |start| {
            let (mine, theirs) = (Client::new(1), Client::new(2));
            let head = claim(&theirs, 3).expect("all frames");
            let other =
                start.spawn(move || theirs.dies_at(point, |theirs| release(theirs, head, 3)));
            mine.process.recover_dead();
            if let Some(head) = claim(&mine, 1) {
                release(&mine, head, 1);
            }
            let _dead = other.join().unwrap();
            mine.process.recover_dead();
            claim(&mine, 3).expect("nobody has a frame");
        });
    }
}

#[test]
fn a_run_of_a_process_grows_into_what_nobody_has() {
    with_frames(3).model(|start| {
        let (mine, theirs) = (Client::new(1), Client::new(2));
        let head = claim(&mine, 1).expect("the first frame");
        let other = start.spawn(move || {
            let had = claim(&theirs, 2);
            (theirs, had)
        });
        let has_grown = extend(head, 2);
        let (theirs, other) = other.join().unwrap();
        assert!(has_grown || other.is_some(), "neither has the frame");
        assert!(!has_grown || other.is_none(), "both have the frame");
        release(&mine, head, if has_grown { 2 } else { 1 });
        if let Some(other) = other {
            release(&theirs, other, 2);
        }
        claim(&mine, 3).expect("nobody has a frame");
    });
}
