//! The heap leaves a block alone from the moment it is freed until it is given out again.
//!
//! Each block is filled before it is freed: who gets it finds all of that, or zeros where its
//! memory went back meanwhile. Under AddressSanitizer (`cargo xtask sanitize`) it is poisoned as
//! well, so that who reads it is found, and at once. Blocks of zeros and blocks that grow are left
//! out: the heap writes those for their new owner.

use allocator::malloc;
use pool_core::rng::Rng;
use pool_core::sync::thread;

const FILLING: u8 = 0xde;

#[cfg(asan)]
mod poison {
    use core::ffi::c_void;

    unsafe extern "C" {
        fn __asan_poison_memory_region(start: *const c_void, bytes: usize);
        fn __asan_unpoison_memory_region(start: *const c_void, bytes: usize);
    }

    pub(super) fn poison(block: *mut u8, bytes: usize) {
        // SAFETY: changes what the sanitizer knows of a block that is the caller's.
        unsafe { __asan_poison_memory_region(block.cast(), bytes) };
    }

    pub(super) fn unpoison(block: *mut u8, bytes: usize) {
        // SAFETY: as above.
        unsafe { __asan_unpoison_memory_region(block.cast(), bytes) };
    }
}

#[cfg(not(asan))]
mod poison {
    pub(super) fn poison(_: *mut u8, _: usize) {}
    pub(super) fn unpoison(_: *mut u8, _: usize) {}
}

/// The address of a block of this thread, or of the one that it was handed to.
#[derive(Debug)]
struct Block(usize);

impl Block {
    /// A block of `bytes`, which holds what the one before it left, or zeros.
    fn new(bytes: usize) -> Self {
        let place = malloc::malloc(bytes);
        assert!(!place.is_null());
        let block = Self(place.expose_provenance());
        poison::unpoison(place, block.bytes());
        let first = block.read(0);
        for at in block.places() {
            let found = block.read(at);
            // Memory goes back by pages, and a block may be of several.
            let is_left = found == FILLING || found == 0;
            assert!(
                is_left,
                "{found:#x} at {at} of {bytes} bytes, {first:#x} at 0"
            );
        }
        block
    }

    fn pointer(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.0)
    }

    fn bytes(&self) -> usize {
        // SAFETY: it is a block.
        unsafe { malloc::usable_size(self.pointer()) }
    }

    /// All of a small block, and some of a large one.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let bytes = self.bytes();
        (0..bytes)
            .step_by(1 + bytes / 4_099)
            .chain(bytes.checked_sub(1))
    }

    fn read(&self, at: usize) -> u8 {
        // SAFETY: within the block.
        unsafe { self.pointer().wrapping_add(at).read() }
    }

    fn free(self) {
        for at in self.places() {
            // SAFETY: within the block.
            unsafe { self.pointer().wrapping_add(at).write(FILLING) };
        }
        poison::poison(self.pointer(), self.bytes());
        // SAFETY: nobody uses it any more.
        unsafe { malloc::free(self.pointer()) };
    }
}

/// Takes and frees blocks of all sizes that slabs and runs have. What is left at the end.
fn churn(seed: u64, mut blocks: Vec<Block>) -> Vec<Block> {
    let mut random = Rng::new(seed);
    let mut below =
        |most: usize| usize::try_from(random.below(most as u64)).expect("it was less than a size");
    for _ in 0..30_000 {
        if blocks.len() < 300 || (blocks.len() < 900 && below(2) == 0) {
            let most = 16_usize << below(17);
            blocks.push(Block::new(1 + below(most)));
        } else {
            blocks.swap_remove(below(blocks.len())).free();
        }
    }
    blocks
}

#[test]
fn a_free_block_is_left_alone() {
    let mut left = Vec::new();
    for round in 0..4 {
        // What a thread leaves is freed by the one that comes after its neighbour.
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let blocks = left.pop().unwrap_or_default();
                thread::spawn(move || churn(round * 3 + number, blocks))
            })
            .collect();
        left = threads
            .into_iter()
            .map(|thread| thread.join().expect("it works here"))
            .collect();
    }
    left.into_iter().flatten().for_each(Block::free);
    malloc::trim();
}
