//! After the C library's own benchmarks. `simple`: for a few sizes, a number of blocks is taken and
//! given back in order, a few first and then more and more. `thread`: blocks of random sizes, small
//! ones mostly, replace each other at random in a working set.

use super::{Calls, Done, Random, Task, together};

const SIZES: [usize; 5] = [8, 32, 128, 512, 2_048];
const COUNTS: [usize; 4] = [25, 100, 400, 1_600];
/// Blocks of one pass over all sizes and counts: each count is repeated until it comes to the
/// largest.
pub(super) const PASS: usize = SIZES.len() * COUNTS.len() * MOST_BLOCKS;
const MOST_BLOCKS: usize = 1_600;

const WORKING_SET: usize = 1_024;
const LEAST: usize = 4;
const MOST: usize = 32 << 10;

pub(super) fn simple<C: Calls>(task: Task) -> Done {
    together::<C, _>(
        task,
        |_| super::places(MOST_BLOCKS),
        |calls, places| {
            for _ in 0..task.rounds(PASS) {
                for bytes in SIZES {
                    for count in COUNTS {
                        for _ in 0..MOST_BLOCKS / count {
                            for place in &mut places[..count] {
                                *place = Some(calls.malloc(bytes));
                            }
                            calls.free_all(&mut places[..count]);
                        }
                    }
                }
            }
        },
    )
}

pub(super) fn thread<C: Calls>(task: Task) -> Done {
    together::<C, _>(
        task,
        |thread| (super::places(WORKING_SET), Random::of(thread)),
        |calls, (places, random)| {
            for _ in 0..task.share(task.threads) {
                let place = random.below(WORKING_SET);
                // Twice, so that the sizes fall off faster than their powers of two.
                let most = random.size(LEAST, MOST);
                calls.replace(&mut places[place], random.size(LEAST, most));
            }
            calls.free_all(places);
        },
    )
}
