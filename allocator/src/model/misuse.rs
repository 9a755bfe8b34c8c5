//! Blocks that are freed twice: somebody is told.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{free, free_unwatched, heap, of_eight, take, take_all, with_frames};
use crate::owner::Owner;
use crate::run;
use crate::system::{self, Ended};
use crate::window::WINDOW;

/// Whether `act` would have ended the process.
fn is_told(act: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(()) => false,
        Err(cause) if cause.is::<Ended>() => true,
        Err(cause) => std::panic::resume_unwind(cause),
    }
}

/// Catches: remote.tells_of_no_second_free
#[test]
fn of_two_threads_that_free_one_block_one_is_told_or_its_owner() {
    with_frames(1).model(|start| {
        system::expect_an_end();
        let class = of_eight();
        let (mut owner, mut third) = (heap(), heap());
        let blocks = take_all(&mut owner, class);
        let (block, early) = (blocks[3], blocks[4]);
        // Something for the owner to hear of while the others free.
        free(&mut third, early);
        let freers = [(); 2].map(|()| {
            let mut other = heap();
            start.spawn(move || is_told(|| free_unwatched(&mut other, block)))
        });
        let mut given = None;
        let mut is_owner_told = is_told(|| given = take(&mut owner, class));
        let told = freers.map(|freer| freer.join().unwrap());
        is_owner_told |= is_told(|| drop(take_all(&mut owner, class)));
        // A block that was given out again is a block: freeing it is no mistake that one can see.
        let was_given = given == Some(block);
        assert!(is_owner_told || told.contains(&true) || was_given);
    });
}

/// Catches: run.takes_by_a_store
#[test]
fn of_two_threads_that_free_one_run_one_is_told() {
    with_frames(2).model(|start| {
        system::expect_an_end();
        let run = run::allocate(Owner::heap(0, 0), 2 << 16, 16).expect("both frames");
        let head = crate::frame::Frame::of_model(0);
        assert_eq!(run.address, head.start());
        let other = start.spawn(move || is_told(|| run::free(head)));
        let told = [is_told(|| run::free(head)), other.join().unwrap()];
        assert!(told == [true, false] || told == [false, true], "{told:?}");
        let again = WINDOW.claim(Owner::heap(0, 0), 2, 1);
        assert!(again.is_some_and(|claim| !claim.is_zero));
    });
}
