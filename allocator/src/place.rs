//! What begins at an address.

use pool_core::sync::atomic::Ordering::Acquire;

use crate::frame::Frame;
use crate::owner::{Kind, Owner};
use crate::size_class::{block_bytes, slab_blocks};
use crate::window::WINDOW;

/// A block of the window, by what it is part of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Block `index` of a slab of `class`.
    Slab {
        slab: Frame,
        class: usize,
        index: usize,
    },
    /// All of a run.
    Run(Frame),
    /// All of its own chunks.
    Huge(Frame),
}

/// The block that begins at `address`; none where none does, in the window.
///
/// Of a slab it is not said whether the block is allocated.
pub(crate) fn of(address: usize) -> Option<Place> {
    in_frame(WINDOW.frame_of(address)?, address)
}

/// The block of any heap that begins at `address`, which lies in `frame`.
pub(crate) fn in_frame(frame: Frame, address: usize) -> Option<Place> {
    // Acquire pairs with whoever made the slab or the run.
    let owner = Owner(frame.descriptor().owner.load(Acquire));
    match owner.kind() {
        Kind::Slab(class) => in_slab(frame, class, address),
        Kind::Tail(distance) => {
            let head = frame.sibling(frame.index().checked_sub(distance)?)?;
            let Kind::Slab(class) = head.owner().kind() else {
                return None;
            };
            in_slab(head, class, address)
        }
        Kind::Run | Kind::PendingRun if frame.start() == address => Some(Place::Run(frame)),
        Kind::Huge if frame.start() == address => Some(Place::Huge(frame)),
        _ => None,
    }
}

fn in_slab(slab: Frame, class: usize, address: usize) -> Option<Place> {
    let offset = address.checked_sub(slab.start())?;
    let (index, rest) = (offset / block_bytes(class), offset % block_bytes(class));
    let is_block = rest == 0 && index < slab_blocks(class);
    is_block.then_some(Place::Slab { slab, class, index })
}
