//! After Hoard's threadtest: a fixed number of small objects, divided among the threads; each
//! takes its part, then gives all of it back, again and again. More than a cache holds.

use super::{Calls, Done, Task, together};

/// A number of threads divides it.
pub(super) const OBJECTS: usize = 200_000;
const BYTES: usize = 8;

pub(super) fn run<C: Calls>(task: Task) -> Done {
    let objects = OBJECTS / task.threads;
    together::<C, _>(
        task,
        |_| super::places(objects),
        |calls, places| {
            for _ in 0..task.rounds(objects) {
                for place in places.iter_mut() {
                    *place = Some(calls.malloc(BYTES));
                }
                calls.free_all(places);
            }
        },
    )
}
