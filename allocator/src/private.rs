//! The private heap: malloc and its family, for blocks that only this process has.
//!
//! Addresses are numbers here; the faces make pointers of them. Nothing here allocates but from
//! the heap itself, or panics.

use pool_core::sync::atomic::Ordering::Relaxed;

use crate::elsewhere::{self, Freed};
use crate::frame::Frame;
use crate::heap::{Block, Heap};
use crate::layout::{CHUNK_BYTES, FRAME_BYTES, PAGE_BYTES};
use crate::place::{self, Place};
use crate::report::{Misuse, misuse};
use crate::run::{self, RUN_BYTES};
use crate::size_class::{self, MIN_BLOCK, SLAB_BYTES, SMALL, SMALL_BYTES, block_bytes};
use crate::window::WINDOW;
use crate::{outside, purge, system, thread, tls};

/// The most bytes that a block may have: what fits a difference of pointers.
const MOST_BYTES: usize = isize::MAX as usize;
/// What every block is at a multiple of.
pub(crate) const ALIGN: usize = MIN_BLOCK;

/// A block of `bytes`, at a multiple of 16, if one is ready; see [`allocate_slowly`] else.
#[inline(always)]
pub(crate) fn allocate_fast(bytes: usize) -> Option<usize> {
    if bytes > SMALL_BYTES {
        return None;
    }
    let mut heap = tls::heap()?;
    // SAFETY: the heap of this thread, which nothing else uses meanwhile.
    unsafe { heap.as_mut() }.pop(size_class::of_small(bytes))
}

/// A block of `bytes`, at a multiple of 16. None where there is no memory.
#[cold]
#[inline(never)]
pub(crate) fn allocate_slowly(bytes: usize) -> Option<Block> {
    if bytes <= SLAB_BYTES {
        return thread::with_heap(|heap| heap.allocate(size_class::of(bytes)))?;
    }
    allocate_large(bytes, MIN_BLOCK)
}

/// The one or the other.
pub(crate) fn allocate(bytes: usize) -> Option<usize> {
    allocate_fast(bytes).or_else(|| allocate_slowly(bytes).map(|block| block.address))
}

/// A block larger than any class has, or at a multiple of more than a frame.
fn allocate_large(bytes: usize, align: usize) -> Option<Block> {
    if bytes > MOST_BYTES {
        return None;
    }
    let owner = thread::with_heap(|heap| heap.owner)?;
    let block = if align >= CHUNK_BYTES {
        None
    } else if bytes <= RUN_BYTES && align <= RUN_BYTES {
        run::allocate(owner, bytes, align)
    } else {
        run::allocate_huge(bytes, align)
    };
    block.or_else(|| outside::allocate(bytes, align))
}

/// A block of `bytes` zeros.
pub(crate) fn allocate_zeroed(bytes: usize) -> Option<usize> {
    let block = allocate_slowly(bytes)?;
    if !block.is_zero {
        // SAFETY: the block is the caller's, and has as many bytes.
        unsafe { system::zero(block.address, bytes) };
    }
    Some(block.address)
}

/// A block of `bytes` at a multiple of `align`, a power of two.
pub(crate) fn allocate_aligned(bytes: usize, align: usize) -> Option<usize> {
    if align <= MIN_BLOCK {
        return allocate(bytes);
    }
    if align <= FRAME_BYTES
        && let Some(class) = size_class::aligned(bytes, align)
    {
        let block = thread::with_heap(|heap| heap.allocate(class))??;
        return Some(block.address);
    }
    allocate_large(bytes, align).map(|block| block.address)
}

/// Frees the block at `address`; nothing at address 0.
///
/// A block that is free already, and an address where none begins, end the process.
///
/// # Safety
/// Nobody uses the block any more.
#[inline(always)]
pub(crate) unsafe fn free(address: usize) {
    let Some(mut heap) = tls::heap() else {
        return free_slowly(address);
    };
    // SAFETY: the heap of this thread, which nothing else uses meanwhile.
    let heap = unsafe { heap.as_mut() };
    if !heap.window.contains(address) {
        return free_slowly(address);
    }
    // SAFETY: an address in the window that the caller got from here is in the data of a chunk.
    let frame = unsafe { Frame::of(address) };
    let class = frame.owner().0 ^ heap.owner.0;
    if class > SMALL as u64 {
        return free_slowly(address);
    }
    #[expect(clippy::cast_possible_truncation, reason = "compared just now")]
    heap.free_small(frame, class as usize, address);
}

#[cold]
#[inline(never)]
fn free_slowly(address: usize) {
    if address == 0 {
        return;
    }
    match place::of(address) {
        Some(Place::Slab { slab, class, index }) => {
            let done = thread::with_heap(|heap| {
                if slab.owner() == heap.owner.slab(class) {
                    heap.free_block(slab, class, index, address);
                } else {
                    heap.free_away(slab, class, index, address);
                }
            });
            if done.is_none() {
                // There is a common heap wherever there is a block.
                misuse(Misuse::InvalidFree, address);
            }
        }
        Some(Place::Run(head)) => {
            run::free(head);
            purge::after_release();
        }
        Some(Place::Huge(head)) => run::free_huge(head),
        None => free_outside(address),
    }
}

/// Frees what is not in the window.
fn free_outside(address: usize) {
    match elsewhere::free(address) {
        Some(Freed::Now) => {}
        Some(Freed::Before) => misuse(Misuse::DoubleFree, address),
        None if outside::free(address) => {}
        None => misuse(Misuse::InvalidFree, address),
    }
}

/// How many bytes the block at `address` has; 0 at address 0.
///
/// An address where no block begins ends the process.
pub(crate) fn usable_bytes(address: usize) -> usize {
    if address == 0 {
        return 0;
    }
    match place::of(address) {
        Some(Place::Slab { class, .. }) => block_bytes(class),
        Some(Place::Run(head)) => run::run_bytes(head),
        Some(Place::Huge(head)) => run::huge_bytes(head),
        None => elsewhere::usable_bytes(address)
            .or_else(|| outside::bytes(address))
            .unwrap_or_else(|| misuse(Misuse::InvalidPointer, address)),
    }
}

/// Makes the block at `address` have `bytes`, here or elsewhere; what it held is kept as far as it
/// fits. None where there is no memory; the block is as it was then.
///
/// # Safety
/// Nobody else uses the block.
pub(crate) unsafe fn reallocate(address: usize, bytes: usize) -> Option<usize> {
    if bytes > MOST_BYTES {
        return None;
    }
    if address == 0 {
        return allocate(bytes);
    }
    let old = usable_bytes(address);
    if fits(old, bytes) {
        return Some(address);
    }
    if let Some(same) = resize(address, bytes) {
        return Some(same);
    }
    let new = allocate(bytes)?;
    // SAFETY: the caller has the old block, and now the new one.
    unsafe { system::copy(address, new, old.min(bytes)) };
    // SAFETY: the caller gives the old block up.
    unsafe { free(address) };
    Some(new)
}

/// Whether a block of `old` bytes is what a block of `bytes` may be: large enough, and not more
/// than twice as large.
fn fits(old: usize, bytes: usize) -> bool {
    if old <= SLAB_BYTES {
        return bytes <= old && (bytes >= old / 2 || old <= MIN_BLOCK);
    }
    bytes.next_multiple_of(PAGE_BYTES) == old
}

/// Makes a large block have `bytes`, where it stays large.
fn resize(address: usize, bytes: usize) -> Option<usize> {
    if bytes <= SLAB_BYTES || bytes > MOST_BYTES {
        return None;
    }
    match place::of(address)? {
        Place::Run(head) if bytes <= RUN_BYTES => {
            let is_smaller = bytes < run::run_bytes(head);
            let is_done = run::resize(head, bytes);
            if is_smaller {
                purge::after_release();
            }
            is_done.then_some(address)
        }
        Place::Huge(head) if bytes > RUN_BYTES => run::resize_huge(head, bytes),
        _ => None,
    }
}

/// Gives all idle memory back to the system, with what this thread keeps ready and what others
/// freed of its slabs. Whether there was any.
pub(crate) fn trim() -> bool {
    thread::with_heap(Heap::rest);
    let idle = WINDOW.idle.load(Relaxed);
    WINDOW.purge(idle);
    idle != 0
}
