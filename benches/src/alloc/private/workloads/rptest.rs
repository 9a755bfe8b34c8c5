//! After rpmalloc's benchmark: each thread takes blocks of random sizes up to 16,000 bytes in
//! loops, gives back a random part of them, keeps some over many loops, and passes some to another
//! thread, which gives them back.

use super::{Calls, Done, Random, Task, together};

/// Blocks that a thread takes in one loop.
pub(super) const LOOP: usize = 1_000;
/// Places of a thread: what is not given back in a loop stays for a number of them.
const PLACES: usize = 5_000;
const DESK: usize = 2_000;
/// One of so many blocks is passed on.
const PASSED_STEP: usize = 8;
const LEAST: usize = 16;
const MOST: usize = 16_000;

pub(super) fn run<C: Calls>(task: Task) -> Done {
    let desk = super::desk(DESK);
    let done = together::<C, _>(
        task,
        |thread| (super::places(PLACES), Random::of(thread)),
        |calls, (places, random)| {
            for _ in 0..task.rounds(LOOP) {
                let start = random.below(PLACES - LOOP);
                let step = random.between(1, PLACES / LOOP);
                for turn in 0..LOOP {
                    let block = calls.malloc(random.size(LEAST, MOST));
                    let old = if turn % PASSED_STEP == 0 {
                        desk[random.below(DESK)].swap(Some(block))
                    } else {
                        places[(start + turn * step) % PLACES].replace(block)
                    };
                    if let Some(old) = old {
                        calls.free(old);
                    }
                }
                for _ in 0..LOOP / 2 {
                    if let Some(block) = places[random.below(PLACES)].take() {
                        calls.free(block);
                    }
                }
            }
            calls.free_all(places);
        },
    );
    for block in desk.iter().filter_map(|slot| slot.swap(None)) {
        block.free();
    }
    done
}
