//! Ten thousand blocks of one size are taken, then all are given back: in the order in which they
//! were taken, or in one that has nothing to do with it.

use super::{Calls, Done, Random, Task, together};

pub(super) const BLOCKS: usize = 10_000;
const BYTES: usize = 64;

pub(super) fn in_order<C: Calls>(task: Task) -> Done {
    run::<C>(task, |_| (0..BLOCKS).collect())
}

pub(super) fn shuffled<C: Calls>(task: Task) -> Done {
    run::<C>(task, |thread| Random::of(thread).order(BLOCKS))
}

fn run<C: Calls>(task: Task, order: impl Fn(usize) -> Vec<usize> + Sync) -> Done {
    together::<C, _>(
        task,
        |thread| (super::places(BLOCKS), order(thread)),
        |calls, (places, order)| {
            for _ in 0..task.rounds(BLOCKS) {
                for place in places.iter_mut() {
                    *place = Some(calls.malloc(BYTES));
                }
                for block in order.iter().filter_map(|place| places[*place].take()) {
                    calls.free(block);
                }
            }
        },
    )
}
