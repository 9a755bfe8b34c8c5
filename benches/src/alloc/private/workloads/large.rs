//! Blocks of 1 to 25 MiB replace each other at random; each of their pages is written once. Most of
//! the time goes into memory that the kernel gives and takes, where it is given back.

use super::{Calls, Done, Random, Task, together};

const MIB: usize = 1 << 20;
/// Blocks of all threads together.
const BLOCKS: usize = 8;

pub(super) fn run<C: Calls>(task: Task) -> Done {
    let blocks = BLOCKS / task.threads;
    together::<C, _>(
        task,
        |thread| (super::places(blocks), Random::of(thread)),
        |calls, (places, random)| {
            for _ in 0..task.share(task.threads) {
                let place = &mut places[random.below(blocks)];
                calls.replace(place, random.between(MIB, 25 * MIB));
                if let Some(block) = place {
                    block.touch_pages();
                }
            }
            calls.free_all(places);
        },
    )
}
