//! After Lever and Boreham's malloc test: half of the threads only take blocks, the other half only
//! gives them back. Blocks go from one to the other in batches.

use std::collections::VecDeque;

use pool_core::sync::{Condvar, Mutex, lock};

use super::super::heap::Block;
use super::{Calls, Done, Random, Task, together};

pub(super) const BATCH: usize = 512;
/// Batches under way at most.
const BATCHES: usize = 32;
const LEAST: usize = 8;
const MOST: usize = 768;

type Batch = Vec<Block>;

pub(super) fn run<C: Calls>(task: Task) -> Done {
    let (full, empty) = (Queue::default(), Queue::default());
    for _ in 0..BATCHES {
        empty.put(Vec::with_capacity(BATCH));
    }
    full.reserve();
    let pairs = task.threads / 2;
    let batches = task.share(pairs) / BATCH as u64;
    together::<C, _>(
        task,
        |thread| (thread < pairs, Random::of(thread)),
        |calls, (takes, random)| {
            for _ in 0..batches {
                if *takes {
                    let mut batch = empty.take();
                    for _ in 0..BATCH {
                        batch.push(calls.malloc(random.between(LEAST, MOST)));
                    }
                    full.put(batch);
                } else {
                    let mut batch = full.take();
                    for block in batch.drain(..) {
                        calls.free(block);
                    }
                    empty.put(batch);
                }
            }
        },
    )
}

/// Batches in the order in which they came.
#[derive(Debug, Default)]
struct Queue {
    batches: Mutex<VecDeque<Batch>>,
    came: Condvar,
}

impl Queue {
    /// Makes room, so that nothing is allocated later on.
    fn reserve(&self) {
        lock(&self.batches).reserve(BATCHES);
    }

    fn put(&self, batch: Batch) {
        lock(&self.batches).push_back(batch);
        self.came.notify_one();
    }

    fn take(&self) -> Batch {
        let mut batches = lock(&self.batches);
        loop {
            if let Some(batch) = batches.pop_front() {
                return batch;
            }
            batches = self
                .came
                .wait(batches)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}
