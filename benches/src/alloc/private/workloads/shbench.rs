//! After what is told of MicroQuill's shbench 6 and 8: rounds of blocks of a few sizes, small ones
//! mostly; some go back in the order in which they came, some in the reverse order, and some stay
//! for a number of rounds. In the second, some are given back by another thread.

use super::super::heap::Slot;
use super::{Calls, Done, Random, Task, together};

/// Blocks of one size that are taken one after the other.
const RUN: usize = 50;
const RUNS: usize = 40;
pub(super) const ROUND: usize = RUN * RUNS;
/// One of so many blocks of a round stays for [`KEPT_ROUNDS`], or goes to another thread.
const KEPT_STEP: usize = 10;
const KEPT: usize = ROUND / KEPT_STEP;
const KEPT_ROUNDS: usize = 8;
const LEAST: usize = 8;
const MOST: usize = 1_000;

pub(super) fn sh6<C: Calls>(task: Task) -> Done {
    rounds::<C>(task, None)
}

pub(super) fn sh8<C: Calls>(task: Task) -> Done {
    let desk = super::desk(KEPT * KEPT_ROUNDS);
    let done = rounds::<C>(task, Some(&desk));
    for block in desk.iter().filter_map(|slot| slot.swap(None)) {
        block.free();
    }
    done
}

/// Blocks to be kept go onto the `desk`, where there is one: what lay there, mostly another
/// thread's, goes back.
fn rounds<C: Calls>(task: Task, desk: Option<&[Slot]>) -> Done {
    together::<C, _>(
        task,
        |thread| {
            let kept = super::places(KEPT * KEPT_ROUNDS);
            (super::places(ROUND), kept, Random::of(thread))
        },
        |calls, (places, kept, random)| {
            let mut shelf = 0;
            for _ in 0..task.rounds(ROUND) {
                for run in places.chunks_mut(RUN) {
                    let bytes = random.size(LEAST, MOST);
                    for place in run {
                        *place = Some(calls.malloc(bytes));
                    }
                }
                for place in places.iter_mut().step_by(KEPT_STEP) {
                    let old = match desk {
                        Some(desk) => desk[shelf].swap(place.take()),
                        None => std::mem::replace(&mut kept[shelf], place.take()),
                    };
                    shelf = (shelf + 1) % (KEPT * KEPT_ROUNDS);
                    if let Some(old) = old {
                        calls.free(old);
                    }
                }
                let (forward, backward) = places.split_at_mut(ROUND / 2);
                calls.free_all(forward);
                for block in backward.iter_mut().rev().filter_map(Option::take) {
                    calls.free(block);
                }
            }
            calls.free_all(kept);
        },
    )
}
