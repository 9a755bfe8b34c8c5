//! Slabs that threads left when they ended, by class.
//!
//! A stack for each class, linked through the slabs' lines for others. It is a hint: a slab may be
//! adopted past it, by whoever frees a block of it, and is found in it later by somebody who then
//! passes it over.
//!
//! # Protocol
//! Whoever leaves a slab makes it abandoned first, and then sets `stacked` of it; if that was not
//! set, it pushes the slab. Whoever looks for a slab pops one, clears `stacked`, and then tries to
//! adopt it.
//!
//! 1. *A slab is in a stack once at most*: only who set `stacked` from clear pushes it.
//! 2. *No abandoned slab is forgotten.* Who finds `stacked` set leaves the slab to whoever popped
//!    it or will. That one clears it by a swap, which reads from the swap of the one that left the
//!    slab: so it sees the slab abandoned, or adopted since.
//! 3. *A slab that was popped and pushed again meanwhile is not taken for what it was*: the head
//!    of a stack counts its changes, 22 bits of them.

use pool_core::planted;
use pool_core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use crate::frame::Frame;
use crate::size_class::CLASSES;

/// Where an address has no bits: below 64, and above 2^48.
const LOW_BITS: u32 = 6;
const LOW: u64 = (1 << LOW_BITS) - 1;
const HIGH_SHIFT: u32 = 48;
const ADDRESS: u64 = !LOW & ((1 << HIGH_SHIFT) - 1);

#[cfg(not(loom))]
static HEADS: [AtomicU64; CLASSES] = [const { AtomicU64::new(0) }; CLASSES];

#[cfg(loom)]
pool_core::sync::lazy_static! {
    static ref HEADS: [AtomicU64; CLASSES] = core::array::from_fn(|_| AtomicU64::new(0));
}

/// A head after `before` that points to `address`.
fn successor(before: u64, address: u64) -> u64 {
    let count = (before & LOW) | (before >> HIGH_SHIFT) << LOW_BITS;
    let count = if planted!("left.counts_nothing") {
        count
    } else {
        count.wrapping_add(1)
    };
    (address & ADDRESS) | (count & LOW) | (count >> LOW_BITS) << HIGH_SHIFT
}

/// Lets others find a slab of `class`, which is abandoned.
pub(crate) fn push(slab: Frame, class: usize) {
    let line = slab.queue();
    // Release pairs with the swap in `pop`: rule 2.
    if line.stacked.swap(1, AcqRel) != 0 {
        return;
    }
    let mut head = HEADS[class].load(Relaxed);
    loop {
        line.below.store(head & ADDRESS, Relaxed);
        let new = successor(head, slab.address());
        // Release pairs with the load in `pop`: who finds the slab sees what is below it.
        match HEADS[class].compare_exchange_weak(head, new, AcqRel, Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// A slab of `class` that was abandoned, if there is one; somebody may have it by now.
pub(crate) fn pop(class: usize) -> Option<Frame> {
    let mut head = HEADS[class].load(Acquire);
    loop {
        // SAFETY: stacks hold addresses of descriptors of slabs, and 0.
        let slab = unsafe { Frame::from_list(head & ADDRESS) }?;
        let new = successor(head, slab.queue().below.load(Relaxed));
        match HEADS[class].compare_exchange_weak(head, new, AcqRel, Acquire) {
            Ok(_) => {
                if !planted!("left.clears_after_the_look") {
                    slab.queue().stacked.swap(0, AcqRel);
                }
                return Some(slab);
            }
            Err(now) => head = now,
        }
    }
}

/// Empties all stacks, whose slabs are pushed anew. Only while no other thread runs.
pub(crate) fn forget() {
    for head in &HEADS[..] {
        head.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_counts_and_keeps_the_address() {
        let mut head = 0;
        let mut seen = std::collections::HashSet::new();
        for step in 0..(1_u64 << 16) {
            let address = (step << 6) & ADDRESS;
            head = successor(head, address);
            assert_eq!(head & ADDRESS, address);
            assert!(seen.insert(head & !ADDRESS), "{step}");
        }
    }
}
