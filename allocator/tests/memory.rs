//! How much memory the private heap has: the only test of its process, which it measures.

mod resident;

use allocator::{PrivateHeap, malloc};
use pool_core::sync::thread;
use resident::resident_bytes;

#[global_allocator]
static HEAP: PrivateHeap = PrivateHeap;

const MIB: usize = 1 << 20;

fn touched(bytes: usize) -> usize {
    let block = malloc::malloc(bytes);
    for page in (0..bytes).step_by(4_096) {
        // SAFETY: within the block.
        unsafe { block.wrapping_add(page).write(1) };
    }
    block.expose_provenance()
}

fn free(blocks: impl IntoIterator<Item = usize>) {
    for block in blocks {
        // SAFETY: a block that nobody uses any more.
        unsafe { malloc::free(core::ptr::with_exposed_provenance_mut(block)) };
    }
}

/// Threads that come and go, and leave every other block to the one that waits for them.
fn grows_by_threads() -> usize {
    let mut after = Vec::new();
    for _ in 0..60 {
        let thread = thread::spawn(|| {
            let (mine, theirs): (Vec<_>, Vec<_>) = (0..20_000)
                .map(|_| touched(100))
                .enumerate()
                .partition(|(index, _)| index % 2 == 0);
            free(mine.into_iter().map(|(_, block)| block));
            theirs
        });
        let left = thread.join().expect("a thread that only allocates");
        free(left.into_iter().map(|(_, block)| block));
        after.push(resident_bytes());
    }
    after[59].saturating_sub(after[9])
}

/// What a thread keeps ready of large sizes goes back when it is asked for.
fn stays_ready_until_it_is_asked_for(before: usize) {
    for bytes in (66..512).step_by(8).map(|kib| kib << 10) {
        let blocks: Vec<_> = (0..8).map(|_| touched(bytes)).collect();
        free(blocks);
    }
    malloc::trim();
    let left = resident_bytes();
    assert!(
        left < before + 24 * MIB,
        "{before} before, {left} after large blocks"
    );
}

#[test]
fn memory_comes_back_as_the_load_falls() {
    let before = resident_bytes();
    for bytes in [48, 900, 5_000, 30_000, 200_000, 3 * MIB, 100 * MIB] {
        let count = (400 * MIB).div_ceil(bytes);
        let blocks: Vec<_> = (0..count).map(|_| touched(bytes)).collect();
        let most = resident_bytes();
        assert!(
            most > before + 350 * MIB || bytes < 4_096,
            "{bytes}: {most}"
        );
        free(blocks);
        let left = resident_bytes();
        assert!(
            left < before + 160 * MIB,
            "{bytes}: {before} before, {left} after"
        );
    }
    let grown = grows_by_threads();
    assert!(grown < 4 * MIB, "by {grown} bytes in 50 threads");
    malloc::trim();
    let left = resident_bytes();
    assert!(
        left < before + 24 * MIB,
        "{before} before, {left} after all"
    );
    stays_ready_until_it_is_asked_for(left);
}
