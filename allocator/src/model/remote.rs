//! Blocks that other threads free, while their owner lives.

use pool_core::sync::atomic::Ordering::{Acquire, Relaxed};

use super::{Found, free, heap, of_eight, of_two_words, take, take_all, with_frames};
use crate::place::{self, Place};

#[test]
fn a_block_that_another_thread_frees_is_given_out_again_once() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (heap(), heap());
        let mut blocks = take_all(&mut owner, class);
        let block = blocks.swap_remove(3);
        let freer = start.spawn(move || {
            free(&mut other, block);
            other
        });
        let early = take(&mut owner, class);
        let mut other = freer.join().unwrap();
        Found::default()
            .and(blocks)
            .and(early)
            .and_of(&mut owner, class)
            .and_of(&mut other, class)
            .are_all(1, class);
    });
}

/// Catches: mailbox.clears_after_the_look, mailbox.clears_by_a_store, remote.tells_relaxed
#[test]
fn no_bit_of_two_freers_is_overlooked() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let mut owner = heap();
        let mut blocks = take_all(&mut owner, class);
        let freers = [3, 4].map(|place| {
            let (block, mut other) = (blocks.swap_remove(place), heap());
            start.spawn(move || {
                free(&mut other, block);
                other
            })
        });
        let early = take(&mut owner, class);
        let mut found = Found::default().and(blocks).and(early);
        let others = freers.map(|freer| freer.join().unwrap());
        found = found.and_of(&mut owner, class);
        for mut other in others {
            found = found.and_of(&mut other, class);
        }
        found.are_all(1, class);
    });
}

/// Catches: mailbox.clears_after_the_look
#[test]
fn no_word_of_two_is_overlooked() {
    with_frames(1).model(|start| {
        let class = of_two_words();
        let (mut owner, mut other) = (heap(), heap());
        let mut blocks = take_all(&mut owner, class);
        // Of both words: the first one is gathered, and told of when the second one comes.
        let (second, first) = (blocks.swap_remove(100), blocks.swap_remove(5));
        let freer = start.spawn(move || {
            free(&mut other, first);
            free(&mut other, second);
            other.end();
        });
        let early = take(&mut owner, class);
        freer.join().unwrap();
        Found::default()
            .and(blocks)
            .and(early)
            .and_of(&mut owner, class)
            .are_all(1, class);
    });
}

/// A child of a fork sees what an instant sees: of a block that was freed, the bit of the others or
/// that it is not allocated.
///
/// Catches: remote.drains_in_the_wrong_order
#[test]
fn at_no_instant_is_a_freed_block_of_nobody() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (heap(), heap());
        let blocks = take_all(&mut owner, class);
        let (block, own) = (blocks[3], blocks[5]);
        let Some(Place::Slab { slab, index, .. }) = place::of(block) else {
            unreachable!("a block of a slab");
        };
        free(&mut other, block);
        let drainer = start.spawn(move || {
            // What somebody frees who adopts the slab before it tells: that drains, and holds
            // nothing.
            owner.free_away(slab, class, index + 2, own);
            owner
        });
        // As `make_whole` reads them.
        let freed = slab.remote(0).load(Acquire) >> index & 1;
        let taken = slab.allocated(0).load(Relaxed) >> index & 1;
        drainer.join().unwrap();
        assert!(freed == 1 || taken == 0, "it is lost in the child");
    });
}
