//! Lists of slabs of one heap: circular, linked both ways through the descriptors.
//!
//! # Invariants
//! 1. A slab is in one list at most, which its descriptor names; only its owner changes it.
//! 2. What `next` and `previous` hold is 0 or the address of the descriptor of a slab.

use pool_core::sync::atomic::Ordering::Relaxed;

use crate::frame::Frame;

/// Which list a slab is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Membership {
    /// In none: it is the one that its heap takes blocks from, or new.
    None = 0,
    /// Among those with free blocks.
    Partial = 1,
    /// Among those without.
    Full = 2,
}

/// The first slab of a list.
#[derive(Debug, Default)]
pub(crate) struct List(Option<Frame>);

impl List {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it has one slab and no more.
    pub(crate) fn is_single(&self) -> bool {
        self.0.is_some_and(|first| following(first) == Some(first))
    }

    /// Puts a slab at the end, and notes in its descriptor that it is there.
    pub(crate) fn push(&mut self, slab: Frame, membership: Membership) {
        let (before, after) = match self.0 {
            None => (slab, slab),
            Some(first) => (preceding(first).unwrap_or(first), first),
        };
        link(before, slab);
        link(slab, after);
        self.0.get_or_insert(slab);
        slab.descriptor().list.store(membership as u32, Relaxed);
    }

    /// Takes a slab out that is in it.
    pub(crate) fn remove(&mut self, slab: Frame) {
        let (before, after) = (preceding(slab), following(slab));
        if let (Some(before), Some(after)) = (before, after) {
            link(before, after);
        }
        if self.0 == Some(slab) {
            self.0 = after.filter(|&after| after != slab);
        }
        slab.descriptor()
            .list
            .store(Membership::None as u32, Relaxed);
    }

    /// Takes the first slab out.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        let first = self.0?;
        self.remove(first);
        Some(first)
    }
}

/// Whether the slab is in the list of that kind of its heap.
pub(crate) fn is_in(slab: Frame, membership: Membership) -> bool {
    slab.descriptor().list.load(Relaxed) == membership as u32
}

fn link(before: Frame, after: Frame) {
    before.descriptor().next.store(after.address(), Relaxed);
    after.descriptor().previous.store(before.address(), Relaxed);
}

fn following(slab: Frame) -> Option<Frame> {
    // SAFETY: by invariant 2.
    unsafe { Frame::from_list(slab.descriptor().next.load(Relaxed)) }
}

fn preceding(slab: Frame) -> Option<Frame> {
    // SAFETY: by invariant 2.
    unsafe { Frame::from_list(slab.descriptor().previous.load(Relaxed)) }
}
