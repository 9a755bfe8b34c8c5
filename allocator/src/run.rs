//! Blocks that are larger than any slab has: runs of frames in a chunk, and blocks that have
//! chunks of their own.
//!
//! They have no owner. Whoever frees one takes it by exchanging its owner word, so that of two
//! threads that free it one is told that it is free already.

use pool_core::planted;
use pool_core::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use crate::frame::Frame;
use crate::heap::Block;
use crate::layout::{CHUNK_BYTES, FRAME_BYTES, HUGE_PAGE_BYTES, META_BYTES, PAGE_BYTES};
use crate::owner::Owner;
use crate::report::{Misuse, misuse};
use crate::window::WINDOW;
use crate::{options, system};

/// The largest run: half a chunk. Larger blocks have chunks of their own.
pub(crate) const RUN_BYTES: usize = 32 << 20;

/// A run of `bytes`, which is at most [`RUN_BYTES`], at a multiple of `align`.
pub(crate) fn allocate(heap: Owner, bytes: usize, align: usize) -> Option<Block> {
    let frames = bytes.div_ceil(FRAME_BYTES).max(1);
    let claim = WINDOW.claim(heap, frames, align.div_ceil(FRAME_BYTES).max(1))?;
    let data = claim.head.start()..claim.head.start() + frames * FRAME_BYTES;
    // A page that is there already stays what it is.
    if claim.is_zero && data.len() >= HUGE_PAGE_BYTES && options::huge_pages() {
        system::advise_huge(&data);
    }
    claim.head.descriptor().owner.store(Owner::RUN.0, Release);
    Some(Block {
        address: claim.head.start(),
        is_zero: claim.is_zero,
    })
}

/// How many bytes a run has.
pub(crate) fn run_bytes(head: Frame) -> usize {
    head.descriptor().frames.load(Relaxed) as usize * FRAME_BYTES
}

/// Frees the run that begins at `head`.
pub(crate) fn free(head: Frame) {
    take(head, Owner::RUN);
    WINDOW.release(head);
}

/// Makes a run have `bytes`, where it is. False where it cannot have so many there.
pub(crate) fn resize(head: Frame, bytes: usize) -> bool {
    let (old, new) = (
        run_bytes(head) / FRAME_BYTES,
        bytes.div_ceil(FRAME_BYTES).max(1),
    );
    if new < old {
        WINDOW.release_end(head, new);
    }
    new <= old || WINDOW.extend(head, new).is_some()
}

/// A block of `bytes` with chunks of its own, at a multiple of `align`. It is zero.
pub(crate) fn allocate_huge(bytes: usize, align: usize) -> Option<Block> {
    let bytes = bytes.checked_next_multiple_of(PAGE_BYTES)?;
    let head = WINDOW.commit_huge(bytes, bytes, align)?;
    Some(Block {
        address: head.start(),
        is_zero: true,
    })
}

/// How many bytes a block with chunks of its own has.
pub(crate) fn huge_bytes(head: Frame) -> usize {
    usize::try_from(head.descriptor().bytes.load(Relaxed)).unwrap_or(0)
}

/// Frees the block that begins at `head` and has chunks of its own.
pub(crate) fn free_huge(head: Frame) {
    take(head, Owner::HUGE);
    WINDOW.drop_huge(head);
}

/// Makes a block with chunks of its own have `bytes`, where it is or elsewhere without copying.
///
/// None where there is no memory; then nothing has changed.
pub(crate) fn resize_huge(head: Frame, bytes: usize) -> Option<usize> {
    let (old, start) = (huge_bytes(head), head.start());
    let new = bytes.checked_next_multiple_of(PAGE_BYTES)?;
    let chunks = head.descriptor().frames.load(Relaxed) as usize;
    if start + new <= head.chunk() + chunks * CHUNK_BYTES {
        let is_done = if new > old {
            let more = start + old..start + new;
            if options::huge_pages() {
                // As what is before it: one mapping can be moved, two cannot.
                system::advise_huge(&more);
            }
            system::commit(&more)
        } else {
            let less = start + new..start + old;
            // SAFETY: the end of a block that the caller has, who gives it up.
            new == old || unsafe { system::decommit(&less) } && options::place(&less)
        };
        head.descriptor()
            .bytes
            .store(if is_done { new } else { old } as u64, Relaxed);
        return is_done.then_some(start);
    }
    // Addresses are cheap: who grows once, grows again.
    let target = WINDOW.commit_huge(new, new.saturating_mul(2), META_BYTES)?;
    // SAFETY: both are of the window; nobody has the target yet, and the caller has the block.
    if !unsafe { system::relocate(&(start..start + old), target.start()) } {
        WINDOW.drop_huge(target);
        return None;
    }
    free_huge(head);
    Some(target.start())
}

/// Takes what begins at `head`, to free it.
fn take(head: Frame, kind: Owner) {
    let owner = &head.descriptor().owner;
    if planted!("run.takes_by_a_store") && owner.load(Relaxed) == kind.0 {
        return owner.store(Owner::FREEING.0, Release);
    }
    let taken = owner.compare_exchange(kind.0, Owner::FREEING.0, AcqRel, Relaxed);
    if taken.is_err() {
        misuse(Misuse::DoubleFree, head.start());
    }
}
