//! Where a segment begins: taking the addresses of a new one out of the window.
//!
//! Addresses are kept in extents from the base of the window, and an alignment is one of the
//! address itself. A window may begin at any extent, so what the base is past a multiple of the
//! alignment is part of the sum.
//!
//! A segment keeps its address for as long as it lives: it grows behind itself, moves by having
//! other files there, and is found there after a restart by its row in the journal. So what it was
//! aligned to is remembered nowhere.

use pool_core::{Bytes, EXTENT_BYTES, Extents, planted};

use super::runs::Run;
use super::{Engine, Refusal};

impl Engine {
    /// What the address of a segment is to be a multiple of. One extent where a request says 0.
    ///
    /// # Errors
    /// [`Refusal::Unaligned`] where it is no power of two, less than an extent, or more than the
    /// window.
    pub(super) fn alignment(&self, bytes: u64) -> Result<Extents, Refusal> {
        let one = Bytes::new(EXTENT_BYTES);
        let asked = match bytes {
            0 => one,
            bytes => Bytes::new(bytes),
        };
        // The window has an extent at least.
        let most = self.plan.window.len().get().max(EXTENT_BYTES);
        let most = Bytes::new(1 << most.ilog2());
        let fits = asked.get().is_power_of_two() && (one..=most).contains(&asked);
        let align = Extents::holding(asked).filter(|_| fits);
        align.ok_or(Refusal::Unaligned {
            asked,
            least: one,
            most,
        })
    }

    /// Takes so many addresses, beginning at a multiple of `align`.
    ///
    /// # Errors
    /// [`Refusal::WindowFull`], and nothing is taken.
    pub(super) fn take_place(&mut self, count: Extents, align: Extents) -> Result<Run, Refusal> {
        let base = self.plan.window.base().get() / EXTENT_BYTES;
        let past = base % u64::from(align.get().max(1));
        // It is less than the alignment, which is a u32.
        let phase = match u32::try_from(past) {
            Ok(_) if planted!("place.aligns_the_offset") => 0,
            Ok(phase) => phase,
            Err(_) => return Err(Refusal::Broken("an alignment is more than the window")),
        };
        let taken = self.window.take_aligned(count.get(), align.get(), phase);
        taken.ok_or(Refusal::WindowFull {
            asked: count.bytes(),
            align: align.bytes(),
        })
    }
}
