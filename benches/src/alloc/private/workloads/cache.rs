//! After Hoard's cache-scratch and cache-thrash: an allocator that gives objects of one line to two
//! threads makes both of them slow, for as long as they write to them.

use super::{Calls, Done, Task, together};

const BYTES: usize = 8;
/// Writes to an object before it goes back.
const WRITES: usize = 300;

/// Each thread takes its own objects.
pub(super) fn thrash<C: Calls>(task: Task) -> Done {
    together::<C, _>(task, |_| (), |calls, ()| work(calls, task))
}

/// Each thread begins by giving back an object that one thread took for all of them: objects that
/// lie side by side.
pub(super) fn scratch<C: Calls>(task: Task) -> Done {
    let desk = super::desk(task.threads);
    let mut first = C::default();
    for slot in &desk {
        let block = first.malloc(BYTES);
        assert!(slot.swap(Some(block)).is_none(), "a new desk is empty");
    }
    together::<C, _>(
        task,
        |thread| thread,
        |calls, thread| {
            if let Some(block) = desk[*thread].swap(None) {
                calls.free(block);
            }
            work(calls, task);
        },
    )
}

fn work<C: Calls>(calls: &mut C, task: Task) {
    for _ in 0..task.share(task.threads) {
        let mut block = calls.malloc(BYTES);
        block.rewrite(WRITES);
        calls.free(block);
    }
}
