//! Slabs that their owner leaves, and what others free of them meanwhile.

use pool_core::sync::atomic::Ordering::Relaxed;

use super::{Client, leaves_none, place_of};
use crate::frame::Frame;
use crate::model::{Found, of_eight, with_frames};
use crate::pool::slabs::leave;

/// Whoever looks for slabs that nobody owns finds the one frame, if it is such a slab.
fn is_found(slab: Frame) {
    let (word, bit) = (slab.index() / 64, slab.index() % 64);
    let is_left = slab.head().left[word].load(Relaxed) >> bit & 1 != 0;
    assert!(!slab.owner().is_abandoned() || is_left, "it is hidden");
}

/// Catches: pool.leaves_relaxed
#[test]
fn a_block_that_is_freed_while_its_owner_leaves_is_given_out_again() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let mut blocks = owner.take_all(class);
        let (block, early) = (blocks.swap_remove(3), blocks.swap_remove(3));
        let freer = start.spawn(move || {
            other.free(block);
            other
        });
        owner.free(early);
        let _process = owner.end();
        let mut other = freer.join().unwrap();
        let mut later = Client::new(3);
        is_found(Frame::of_model(0));
        Found::default()
            .and(blocks)
            .and(other.take_all(class))
            .and(later.take_all(class))
            .are_all(1, class);
    });
}

/// Catches: pool.adopts_by_a_store
#[test]
fn a_slab_that_a_process_left_is_adopted_by_one() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let mut blocks = owner.take_all(class);
        let block = blocks.swap_remove(3);
        let _process = owner.end();
        let freer = start.spawn(move || {
            other.free(block);
            other
        });
        let mut third = Client::new(3);
        let early = third.take(class);
        let mut other = freer.join().unwrap();
        Found::default()
            .and(blocks)
            .and(early)
            .and(other.take_all(class))
            .and(third.take_all(class))
            .are_all(1, class);
    });
}

/// Catches: pool.adopts_and_only_reads
#[test]
fn whoever_adopts_a_slab_hears_of_what_is_freed_meanwhile() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other, mut third) = (Client::new(1), Client::new(2), Client::new(3));
        let blocks = owner.take_all(class);
        let block = blocks[3];
        let _process = owner.end();
        let freer = start.spawn(move || {
            other.free(block);
            other
        });
        third.local.adopt(&third.process, Frame::of_model(0), class);
        let mut other = freer.join().unwrap();
        other.hear();
        third.hear();
        leaves_none(&third, block);
    });
}

/// Catches: pool.adopts_by_a_store, pool.adopts_and_only_reads
#[test]
fn nothing_is_overlooked_where_one_leaves_one_frees_and_one_adopts() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other, mut third) = (Client::new(1), Client::new(2), Client::new(3));
        let mut blocks = owner.take_all(class);
        let (slab, block) = (Frame::of_model(0), blocks.swap_remove(3));
        // As whoever frees a block tells of it, once it has looked at it.
        let (_, word, bit) = place_of(&other, block);
        let freer = start.spawn(move || {
            let (local, process) = (&mut other.local, &other.process);
            local.tell(process, slab, (class, word), bit);
            other
        });
        let adopter = start.spawn(move || {
            third.local.adopt(&third.process, slab, class);
            third
        });
        leave(slab, class);
        let mut other = freer.join().unwrap();
        let mut third = adopter.join().unwrap();
        is_found(slab);
        other.hear();
        third.hear();
        if !slab.owner().is_abandoned() {
            leaves_none(&third, block);
        }
        Found::default()
            .and(blocks)
            .and(other.take_all(class))
            .and(third.take_all(class))
            .are_all(1, class);
    });
}

/// Catches: pool.hides_what_was_left_meanwhile
#[test]
fn a_slab_that_is_left_while_another_looks_for_one_is_not_hidden() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (Client::new(1), Client::new(2));
        let blocks = owner.take_all(class);
        let slab = Frame::of_model(0);
        // As it is where somebody adopted it and has not said so yet.
        let bit = slab.index()..slab.index() + 1;
        crate::bits::set(&slab.head().left, &bit);
        let looker = start.spawn(move || {
            other.local.adopt_any(&other.process, class, usize::MAX);
            other
        });
        let _process = owner.end();
        let other = looker.join().unwrap();
        is_found(slab);
        drop((blocks, other));
    });
}
