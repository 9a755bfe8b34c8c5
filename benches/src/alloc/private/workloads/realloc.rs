//! Buffers that grow by half of what they have, as vectors do, until they are large; then they
//! begin anew, zeroed. One in a while is cut down instead.

use super::{Calls, Done, Random, Task, together};

const BUFFERS: usize = 500;
const LEAST: usize = 16;
const MOST: usize = 32 << 10;
/// One of so many is cut down.
const CUT: usize = 16;

pub(super) fn run<C: Calls>(task: Task) -> Done {
    together::<C, _>(
        task,
        |thread| (super::places(BUFFERS), Random::of(thread)),
        |calls, (places, random)| {
            for _ in 0..task.share(task.threads) {
                let place = &mut places[random.below(BUFFERS)];
                *place = Some(match place.take() {
                    None => calls.calloc(LEAST),
                    Some(block) if block.bytes() > MOST => {
                        calls.free(block);
                        calls.calloc(LEAST)
                    }
                    Some(block) => {
                        let bytes = block.bytes();
                        let cut = random.below(CUT) == 0;
                        let bytes = if cut { bytes / 2 } else { bytes + bytes / 2 };
                        calls.realloc(block, bytes)
                    }
                });
            }
            calls.free_all(places);
        },
    )
}
