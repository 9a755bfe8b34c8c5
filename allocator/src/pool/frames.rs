//! Who has which frames of the chunks of a pool heap.
//!
//! # Protocol
//! A frame is had by whoever changed its owner word from free, by a compare-exchange; nothing else
//! counts. The bitmap `taken` of a chunk says where it is worth trying. Of several frames the
//! first one is had first and marked as being claimed, with the slot of whoever does it; then the
//! others become its tails, one after the other. They become free in the reverse order, the first
//! one last. So at any time the frames of one that is being claimed or made free are it and the
//! tails that follow it without a gap, and whoever finds it finds them: a death in between is made
//! good by freeing those.
//!
//! # Invariants
//! 1. A frame that is a tail belongs to the nearest frame before it that is none.
//! 2. A bit of `taken` that is clear may be of a frame that somebody has: who tries fails, and the
//!    bit stays set. One that is set may be of a free frame where somebody died; it is cleared by
//!    [`mend`], when the dead are recovered and before a chunk is added.
//! 3. A bit of `dirty` is set before its frame is used, and never cleared.
//! 4. A [`Seen`] is used while its chunk is mapped: during a [`Scan`](super::chunks::Scan), or by
//!    whoever has one of its frames.

use core::ops::Range;

use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::{crash_point, planted};

use super::control::{Control, Entry};
use crate::bits;
use crate::frame::{ChunkHead, Frame};
use crate::layout::{Cut, DATA_END, FRAME_BYTES, FRAMES};
use crate::owner::{Kind, Owner};
use crate::window::Claim;

/// How often a place is looked for in one chunk that others take from at the same time.
const TRIES: usize = 4;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) frames: usize,
    /// In frames.
    pub(crate) align: usize,
    pub(crate) cut: Cut,
    /// Only in chunks of this tier.
    pub(crate) tier: Option<usize>,
}

/// A chunk that is mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) number: usize,
    pub(crate) entry: Entry,
}

impl Seen {
    pub(crate) fn head(self) -> &'static ChunkHead {
        // SAFETY: by invariant 4 of the module its metadata is mapped.
        unsafe { ChunkHead::at(self.entry.chunk()) }
    }

    /// The indices of its frames of data.
    pub(crate) fn data(self) -> Range<usize> {
        self.entry.cut().meta_frames()..DATA_END
    }

    /// Its frames of data.
    pub(crate) fn frames(self) -> impl Iterator<Item = Frame> {
        self.data().map(move |index| self.frame(index))
    }

    /// Its frame of data `index`.
    pub(crate) fn frame(self, index: usize) -> Frame {
        debug_assert!(self.data().contains(&index));
        // SAFETY: the address is in the data of a chunk that is mapped, by invariant 4.
        unsafe { Frame::of(self.entry.chunk() + index * FRAME_BYTES) }
    }
}

/// Clears the bits of `range`, in the chunk of `frame`, of frames that are free.
pub(super) fn clear_free(frame: Frame, range: Range<usize>) {
    let taken = &frame.head().taken;
    for index in range {
        let is_free = || {
            frame
                .sibling(index)
                .is_some_and(|it| it.owner() == Owner::FREE)
        };
        if bits::has(taken, index) && is_free() {
            bits::clear(taken, &(index..index + 1));
        }
    }
}

/// Has the hints of its chunk say of a frame what its owner word does: that it is free, or that a
/// slab which nobody owns begins there.
pub(super) fn mend(frame: Frame) {
    let (owner, index) = (frame.owner(), frame.index());
    if owner == Owner::FREE {
        clear_free(frame, index..index + 1);
    } else if owner.is_abandoned() && !bits::has(&frame.head().left, index) {
        bits::set(&frame.head().left, &(index..index + 1));
    }
}

/// Takes frames of a chunk. None where it has none, or others take them at the same time.
pub(super) fn claim_in(
    control: &Control,
    seen: Seen,
    heap: Owner,
    wanted: &Wanted,
) -> Option<Claim> {
    let taken = &seen.head().taken;
    for _ in 0..TRIES {
        let first = seen.data().start;
        let start = bits::find(taken, wanted.frames, wanted.align, first)?;
        let claim = take_frames(control, seen, heap, start, wanted.frames);
        if claim.is_some() {
            return claim;
        }
    }
    None
}

/// Takes the frames from `start` on: all of them, or none.
pub(super) fn take_frames(
    control: &Control,
    seen: Seen,
    heap: Owner,
    start: usize,
    frames: usize,
) -> Option<Claim> {
    let (chunk, range) = (seen.head(), start..start + frames);
    bits::set(&chunk.taken, &range);
    crash_point!("heap.frames_marked");
    for index in range.clone() {
        let new = if index == start {
            heap.claimed()
        } else {
            Owner::tail(index - start)
        };
        if !take(seen.frame(index), new) {
            // Its own bit stays set, for somebody has it.
            if !planted!("frames.keeps_what_it_gives_up") {
                give_back(seen, start..index);
            }
            if !planted!("frames.hides_what_it_gives_up") {
                clear_free(seen.frame(start), start..start + frames);
            }
            return None;
        }
        crash_point!("heap.frame_taken");
    }
    let dirty = bits::count(&chunk.dirty, &range);
    bits::set(&chunk.dirty, &range);
    // Acquire pairs with `remove`: where the chunk went, what was claimed is not its memory.
    if !planted!("chunks.claims_what_went")
        && control.chunks[seen.number].load(Acquire) != seen.entry.0
    {
        return None;
    }
    Some(Claim {
        head: seen.frame(start),
        is_zero: dirty == 0,
    })
}

/// Has a free frame be `new`.
fn take(frame: Frame, new: Owner) -> bool {
    let owner = &frame.descriptor().owner;
    if planted!("frames.taken_by_a_store") && owner.load(Acquire) == Owner::FREE.0 {
        owner.store(new.0, Relaxed);
        return true;
    }
    // Acquire pairs with the release of whoever made it free.
    owner
        .compare_exchange(Owner::FREE.0, new.0, AcqRel, Relaxed)
        .is_ok()
}

/// Makes frames free that the caller has, the last one first.
fn give_back(seen: Seen, range: Range<usize>) {
    for index in range.clone().rev() {
        let owner = &seen.frame(index).descriptor().owner;
        owner.store(Owner::FREE.0, Release);
    }
    bits::clear(&seen.head().taken, &range);
}

/// How many frames begin at `head`: it, and the tails that follow.
pub(crate) fn extent(head: Frame) -> usize {
    let is_tail = |distance: &usize| {
        let next = head.sibling(head.index() + distance);
        next.is_some_and(|next| next.owner() == Owner::tail(*distance))
    };
    1 + (1..FRAMES).take_while(is_tail).count()
}

/// Makes the frames free that begin at `head`. Its word says that the caller does so.
pub(crate) fn release(head: Frame) {
    let frames = extent(head);
    if planted!("frames.frees_the_head_first") {
        head.descriptor().owner.store(Owner::FREE.0, Release);
        crash_point!("heap.frame_released");
    }
    release_end(head, 1);
    crash_point!("heap.tails_released");
    head.descriptor().owner.store(Owner::FREE.0, Release);
    crash_point!("heap.frame_released");
    bits::clear(&head.head().taken, &(head.index()..head.index() + frames));
}

/// Makes the frames free that begin at `head`, all but the first `keep`, which is at least one.
pub(crate) fn release_end(head: Frame, keep: usize) {
    let frames = extent(head);
    for distance in (keep..frames).rev() {
        if let Some(tail) = head.sibling(head.index() + distance) {
            tail.descriptor().owner.store(Owner::FREE.0, Release);
            crash_point!("heap.tail_released");
        }
    }
    bits::clear(
        &head.head().taken,
        &(head.index() + keep..head.index() + frames),
    );
}

/// Has what begins at `head` have `frames` frames, more than it has. Whether it could: where not,
/// it has as many as before.
pub(crate) fn extend(head: Frame, frames: usize) -> bool {
    let (old, chunk) = (extent(head), head.head());
    let range = head.index() + old..head.index() + frames;
    if range.end > FRAMES {
        return false;
    }
    bits::set(&chunk.taken, &range);
    for distance in old..frames {
        let next = head.sibling(head.index() + distance);
        if !next.is_some_and(|next| take(next, Owner::tail(distance))) {
            release_end(head, old);
            clear_free(head, range);
            return false;
        }
        crash_point!("heap.frame_taken");
    }
    bits::set(&chunk.dirty, &range);
    true
}

/// What begins at a frame, and how many frames it has: for whoever goes through a chunk.
pub(crate) fn kind_at(frame: Frame) -> (Kind, usize) {
    let kind = frame.owner().kind();
    let frames = if kind == Kind::Free { 1 } else { extent(frame) };
    (kind, frames)
}
