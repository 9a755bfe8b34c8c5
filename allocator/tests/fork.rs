//! The private heap in a child of a process that had several threads: they are gone there, and
//! what they had is the child's.

#[expect(dead_code, unused_macros, reason = "other tests use the rest of it")]
mod laws;

use std::panic::catch_unwind;
use std::sync::mpsc;

use allocator::{PrivateHeap, malloc};
use pool_core::rng::Rng;
use pool_core::sync::thread;

#[global_allocator]
static HEAP: PrivateHeap = PrivateHeap;

/// Whether `child` ends as it should, in a child of this process.
fn is_good_in_child(child: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    // SAFETY: the child calls what the C library lets a child call, and the heap, which is what is
    // tested. It ends here.
    let id = unsafe { libc::fork() };
    assert!(id >= 0);
    if id == 0 {
        let code = i32::from(catch_unwind(child).is_err());
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: waits for a child of this process.
    assert_eq!(unsafe { libc::waitpid(id, &raw mut status, 0) }, id);
    status == 0
}

/// Blocks of many sizes, some of which were freed.
fn some_blocks(seed: u64) -> Vec<(usize, u8)> {
    let mut random = Rng::new(seed);
    let mut blocks = Vec::new();
    for _ in 0..20_000 {
        let bytes = 1 + usize::try_from(random.below(9_000)).expect("it was a size");
        let block = malloc::malloc(bytes);
        let value = random.number().to_le_bytes()[0];
        // SAFETY: within the block.
        unsafe { block.write(value) };
        blocks.push((block.expose_provenance(), value));
        if random.below(3) != 0 {
            let index = usize::try_from(random.below(blocks.len() as u64)).unwrap_or(0);
            free(blocks.swap_remove(index));
        }
    }
    blocks
}

fn free((place, value): (usize, u8)) {
    let block: *mut u8 = core::ptr::with_exposed_provenance_mut(place);
    // SAFETY: within the block.
    assert_eq!(unsafe { block.read() }, value);
    // SAFETY: nobody uses it any more.
    unsafe { malloc::free(block) };
}

#[test]
fn what_threads_had_that_are_gone_is_had_again_in_the_child() {
    let threads: Vec<_> = (0..3)
        .map(|seed| {
            let (told, blocks) = mpsc::channel();
            let (release, released) = mpsc::channel::<()>();
            let thread = thread::spawn(move || {
                let (own, others) = (some_blocks(seed), some_blocks(seed + 10));
                told.send(others).expect("somebody waits for it");
                // Until there was a fork, and nobody is left to say so.
                assert!(released.recv().is_err());
                own.into_iter().for_each(free);
            });
            (blocks.recv().expect("it sends some"), release, thread)
        })
        .collect();
    for round in 0..3 {
        let blocks: Vec<_> = threads.iter().map(|(blocks, ..)| blocks.clone()).collect();
        let is_good = is_good_in_child(move || {
            if round != 0 {
                blocks.into_iter().flatten().for_each(free);
            }
            // Threads of the child have the heaps of those that are gone.
            laws::hand_round();
            laws::free_out_of_order();
        });
        assert!(is_good, "in round {round}");
    }
    for (blocks, release, thread) in threads {
        drop(release);
        thread.join().expect("it works here");
        blocks.into_iter().for_each(free);
    }
}
