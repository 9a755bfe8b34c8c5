//! Threads that end, and what others free meanwhile.

use super::{Found, free, heap, of_eight, take, take_all, with_frames};

/// Catches: refill.adopts_without_draining
#[test]
fn a_block_that_is_freed_while_its_owner_ends_is_given_out_again() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other) = (heap(), heap());
        let mut blocks = take_all(&mut owner, class);
        let block = blocks.swap_remove(3);
        let freer = start.spawn(move || {
            free(&mut other, block);
            other
        });
        owner.end();
        let mut other = freer.join().unwrap();
        // The slot that was given back is had again.
        let mut later = heap();
        Found::default()
            .and(blocks)
            .and_of(&mut other, class)
            .and_of(&mut later, class)
            .are_all(1, class);
    });
}

/// Catches: leave.leaves_the_mailbox_open, refill.adopts_by_a_store
/// Catches: leave.abandons_relaxed, leave.abandons_before_it_unlinks
#[test]
fn a_slab_that_is_left_is_adopted_by_one() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other, mut third) = (heap(), heap(), heap());
        let mut blocks = take_all(&mut owner, class);
        let block = blocks.swap_remove(3);
        let freer = start.spawn(move || {
            free(&mut other, block);
            other
        });
        let adopter = start.spawn(move || {
            let early = take(&mut third, class);
            (third, early)
        });
        owner.end();
        let mut other = freer.join().unwrap();
        let (mut third, early) = adopter.join().unwrap();
        Found::default()
            .and(blocks)
            .and(early)
            .and_of(&mut other, class)
            .and_of(&mut third, class)
            .are_all(1, class);
    });
}

/// Catches: remote.leaves_what_came_meanwhile
#[test]
fn no_bit_of_two_freers_is_overlooked_by_who_adopts() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let mut owner = heap();
        let mut blocks = take_all(&mut owner, class);
        let blocks_of_freers = [3, 4].map(|place| blocks.swap_remove(place));
        owner.end();
        let freers = blocks_of_freers.map(|block| {
            let mut other = heap();
            start.spawn(move || {
                free(&mut other, block);
                other
            })
        });
        let mut found = Found::default().and(blocks);
        for mut other in freers.map(|freer| freer.join().unwrap()) {
            found = found.and_of(&mut other, class);
        }
        found.and_of(&mut heap(), class).are_all(1, class);
    });
}

/// The mail of a slot whose thread ended comes to the thread that has it next, which is told of a
/// slab that a third one has.
///
/// Catches: remote.drops_the_mail_of_others
#[test]
fn mail_for_who_had_the_slot_before_reaches_the_owner() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other, mut third) = (heap(), heap(), heap());
        let mut blocks = take_all(&mut owner, class);
        let (block, early) = (blocks.swap_remove(3), blocks.swap_remove(3));
        // With a block to be had at once, `third` adopts the slab for sure, unless `other` has.
        free(&mut owner, early);
        let freer = start.spawn(move || {
            free(&mut other, block);
            other
        });
        owner.end();
        let early = take(&mut third, class);
        let mut next = heap();
        let mut other = freer.join().unwrap();
        let found = Found::default().and(blocks).and(early);
        // `next` has no blocks, and hears what was posted to its slot.
        found
            .and_of(&mut next, class)
            .and_of(&mut third, class)
            .and_of(&mut other, class)
            .are_all(1, class);
    });
}

/// A frame becomes another slab while somebody is late to tell of the slab that it was.
///
/// Catches: remote.leaves_what_came_meanwhile
#[test]
fn who_is_late_about_a_slab_that_is_gone_hides_nothing_of_the_next_one() {
    with_frames(1).model(|start| {
        let class = of_eight();
        let (mut owner, mut other, mut third) = (heap(), heap(), heap());
        let mut blocks = take_all(&mut owner, class);
        let (late, early) = (blocks.swap_remove(3), blocks.swap_remove(3));
        for block in blocks {
            free(&mut owner, block);
        }
        let freer = start.spawn(move || {
            free(&mut other, late);
            other
        });
        free(&mut third, early);
        // The owner hears of `early`, of `late` perhaps, and the slab is gone if it had both.
        owner.end();
        let mut next = heap();
        let taken = take(&mut next, class);
        if let Some(block) = taken {
            free(&mut third, block);
        }
        let mut other = freer.join().unwrap();
        Found::default()
            .and_of(&mut next, class)
            .and_of(&mut other, class)
            .and_of(&mut third, class)
            .are_all(1, class);
    });
}

#[test]
fn two_that_end_at_once_lose_nothing_of_each_other() {
    with_frames(2).model(|start| {
        let class = of_eight();
        let mut heaps = [heap(), heap()];
        // A slab each: who asks first would take both.
        let mut blocks = heaps.each_mut().map(|heap| {
            let first = take(heap, class).expect("a frame each");
            let rest = core::iter::repeat_with(|| take(heap, class)).take(7);
            rest.flatten().chain([first]).collect::<Vec<_>>()
        });
        let [mut first, mut second] = heaps;
        let [of_first, of_second] = blocks.each_mut().map(|blocks| blocks.swap_remove(3));
        let other = start.spawn(move || {
            free(&mut second, of_first);
            second.end();
        });
        free(&mut first, of_second);
        first.end();
        other.join().unwrap();
        Found::default()
            .and(blocks.into_iter().flatten())
            .and_of(&mut heap(), class)
            .are_all(2, class);
    });
}
