//! Size after size, one thread fills memory with blocks, and another gives back all but one of each
//! 64 KiB. What survives pins the memory of its size, unless an allocator can give back, or give to
//! other sizes, the pages around it. What counts is the memory at the peak and at the end.

use super::super::crew::Gate;
use super::super::heap::{Block, Slot};
use super::{Calls, Done, Task, together};

/// Bytes of the blocks of one size.
const FILL: usize = 16 << 20;
/// One block survives of so many bytes.
const SLAB: usize = 64 << 10;
const SIZES: [usize; 8] = [64, 96, 160, 256, 448, 768, 1_280, 2_048];
const BLOCKS_MOST: usize = FILL / SIZES[0];

/// Half of the blocks of one pass over the sizes: one thread of the two takes them all.
pub(super) const UNIT: usize = {
    let (mut blocks, mut index) = (0, 0);
    while index < SIZES.len() {
        blocks += FILL / SIZES[index];
        index += 1;
    }
    blocks / 2
};

pub(super) fn run<C: Calls>(task: Task) -> Done {
    let desk = super::desk(BLOCKS_MOST);
    let gate = Gate::new(task.threads);
    together::<C, _>(
        task,
        |thread| {
            let survivors = Vec::with_capacity(SIZES.len() * (FILL / SLAB + 1));
            (thread == 0, survivors)
        },
        |calls, (takes, survivors)| {
            for _ in 0..task.rounds(UNIT) {
                for block in survivors.drain(..) {
                    calls.free(block);
                }
                for bytes in SIZES {
                    let desk = &desk[..FILL / bytes];
                    if *takes {
                        fill(calls, desk, bytes);
                    }
                    gate.meet();
                    if !*takes {
                        give_back(calls, desk, SLAB / bytes, survivors);
                    }
                    gate.meet();
                }
            }
        },
    )
}

fn fill<C: Calls>(calls: &mut C, desk: &[Slot], bytes: usize) {
    for slot in desk {
        let mut block = calls.malloc(bytes);
        block.fill();
        if let Some(old) = slot.swap(Some(block)) {
            calls.free(old);
        }
    }
}

fn give_back<C: Calls>(calls: &mut C, desk: &[Slot], step: usize, survivors: &mut Vec<Block>) {
    for (index, slot) in desk.iter().enumerate() {
        match slot.swap(None) {
            Some(block) if index % step == 0 => survivors.push(block),
            Some(block) => calls.free(block),
            None => {}
        }
    }
}
