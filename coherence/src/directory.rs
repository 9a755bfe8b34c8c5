//! Where the descriptors of a domain lie: at the beginning of its segment, before the payload.
//!
//! ```text
//! byte    0 magic      u64   "TPCOHER" and the format
//!         8 unit_bytes u64   a power of two, at least a page
//!        16 units      u64
//!        24 mode       u64
//!        32 zero, to 256
//!       256 members    32 x u64   era and whether it lives, a word a slot
//!       512 zero, to 4,096
//!     4,096 descriptors, 64 bytes each
//! ```
//!
//! The payload begins at the next whole extent, so that it lies in files of its own: it can move
//! while the descriptors stay. So a directory is one extent (2 MiB) for up to 32,704 units, and its
//! tenant is charged for it besides the payload: a quota has to have room for both.
//!
//! The daemon writes the header once, before anybody has it, and the member words as members come
//! and go. A member believes none of it: the daemon told it the same by message, and what lies here
//! is for tools and for tests of the death of a peer. Member words are those of [`crate::era`].

use pool_core::descriptor::{DESCRIPTOR_BYTES, Descriptor};
use pool_core::mem::{BoundsError, Mapped};
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::{Bytes, EXTENT_BYTES};

use crate::era::Era;
use crate::slot::Slot;

/// The format of this page, and that it is one.
const MAGIC: u64 = u64::from_le_bytes(*b"TPCOHER\x01");
const UNIT_BYTES_AT: Bytes = Bytes::new(8);
const UNITS_AT: Bytes = Bytes::new(16);
const MODE_AT: Bytes = Bytes::new(24);
const MEMBERS_AT: u64 = 256;
const DESCRIPTORS_AT: Bytes = Bytes::new(4096);

/// The smallest unit: a page.
pub const UNIT_BYTES_MIN: u64 = 4096;
/// The most units of one domain: their descriptors take 64 MiB.
pub const UNITS_MAX: u32 = 1 << 20;

/// How a domain is cut into units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    unit: Bytes,
    units: u32,
}

/// A domain cannot be cut so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Give the size of a unit as a power of two, at least 4 KiB.
    #[error("a unit of {} bytes is no power of two of at least {UNIT_BYTES_MIN}", unit.get())]
    Unit {
        /// What was given.
        unit: Bytes,
    },
    /// Make the payload a whole number of units, and at least one.
    #[error("{} bytes are no whole number of units of {} bytes", payload.get(), unit.get())]
    Payload {
        /// The payload that was given.
        payload: Bytes,
        /// The unit that was given.
        unit: Bytes,
    },
    /// Make the units larger, or the payload smaller.
    #[error("{units} units where a domain has at most {UNITS_MAX}")]
    TooMany {
        /// How many there would be.
        units: u64,
    },
}

impl Layout {
    /// `payload` bytes in units of `unit` bytes.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn new(payload: Bytes, unit: Bytes) -> Result<Self, LayoutError> {
        if !unit.get().is_power_of_two() || unit.get() < UNIT_BYTES_MIN {
            return Err(LayoutError::Unit { unit });
        }
        if payload == Bytes::ZERO || !payload.get().is_multiple_of(unit.get()) {
            return Err(LayoutError::Payload { payload, unit });
        }
        let units = payload.get() / unit.get();
        match u32::try_from(units) {
            Ok(count) if count <= UNITS_MAX => Ok(Self { unit, units: count }),
            _ => Err(LayoutError::TooMany { units }),
        }
    }

    /// Bytes of a unit.
    #[must_use]
    pub const fn unit(self) -> Bytes {
        self.unit
    }

    /// How many units there are.
    #[must_use]
    pub const fn units(self) -> u32 {
        self.units
    }

    /// Bytes of the payload.
    #[must_use]
    pub const fn payload(self) -> Bytes {
        // At most 2^20 units of a payload that was a number of bytes.
        Bytes::new(self.unit.get() * self.units as u64)
    }

    /// Bytes before the payload: whole extents.
    #[must_use]
    pub const fn directory(self) -> Bytes {
        let used = DESCRIPTORS_AT.get() + DESCRIPTOR_BYTES * self.units as u64;
        Bytes::new(used.next_multiple_of(EXTENT_BYTES))
    }

    /// Where unit number `unit` begins in the segment, or `None` where there is none.
    #[must_use]
    pub fn place(self, unit: u32) -> Option<Bytes> {
        let start = self.unit.get().checked_mul(u64::from(unit))?;
        (unit < self.units).then_some(Bytes::new(self.directory().get().checked_add(start)?))
    }

    /// Where in the segment the descriptor of unit number `unit` lies, or `None` where there is
    /// none.
    #[must_use]
    pub fn line_at(self, unit: u32) -> Option<Bytes> {
        let start = DESCRIPTOR_BYTES.checked_mul(u64::from(unit))?;
        (unit < self.units).then_some(Bytes::new(DESCRIPTORS_AT.get().checked_add(start)?))
    }

    /// Where in the segment the member word of `slot` lies.
    #[must_use]
    pub fn member_at(slot: Slot) -> Bytes {
        Bytes::new(MEMBERS_AT + 8 * u64::from(slot.index()))
    }

    /// The unit that the byte at `offset` of the payload is in.
    #[must_use]
    pub fn unit_at(self, offset: Bytes) -> Option<u32> {
        let unit = offset.get() / self.unit.get();
        u32::try_from(unit).ok().filter(|unit| *unit < self.units)
    }
}

/// The directory of a domain, in memory that may be written.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    mapped: Mapped<'a>,
    layout: Layout,
    lines: &'a [Descriptor],
}

impl<'a> Directory<'a> {
    /// The directory at the beginning of `mapped`.
    ///
    /// # Errors
    /// [`BoundsError`]: it is mapped read-only, or is shorter than the layout says.
    pub fn new(mapped: Mapped<'a>, layout: Layout) -> Result<Self, BoundsError> {
        let count = usize::try_from(layout.units()).unwrap_or(usize::MAX);
        let lines = mapped.descriptors(DESCRIPTORS_AT, count)?;
        Ok(Self {
            mapped,
            layout,
            lines,
        })
    }

    /// Writes the header of a new domain, whose memory is zero and which nobody else has yet.
    ///
    /// # Errors
    /// [`BoundsError`], as [`Directory::new`]; nothing was written.
    pub fn format(&self, mode: u8) -> Result<(), BoundsError> {
        let words = [
            (UNIT_BYTES_AT, self.layout.unit().get()),
            (UNITS_AT, u64::from(self.layout.units())),
            (MODE_AT, u64::from(mode)),
            (Bytes::ZERO, MAGIC),
        ];
        for (at, value) in words {
            // Relaxed: handing the memory out orders it.
            self.mapped.atomic_u64(at)?.store(value, Relaxed);
        }
        Ok(())
    }

    /// Whether the header is the one that [`Directory::format`] writes for this layout.
    ///
    /// # Errors
    /// [`BoundsError`], as [`Directory::new`].
    pub fn is_formatted(&self) -> Result<bool, BoundsError> {
        let word = |at| Ok(self.mapped.atomic_u64(at)?.load(Relaxed));
        Ok(word(Bytes::ZERO)? == MAGIC
            && word(UNIT_BYTES_AT)? == self.layout.unit().get()
            && word(UNITS_AT)? == u64::from(self.layout.units()))
    }

    /// How it is cut.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Every descriptor, in the order of the units.
    #[must_use]
    pub const fn lines(&self) -> &'a [Descriptor] {
        self.lines
    }

    /// The descriptor of unit number `unit`.
    #[inline]
    #[must_use]
    pub fn line(&self, unit: u32) -> Option<&'a Descriptor> {
        self.lines.get(usize::try_from(unit).ok()?)
    }

    /// A member comes to `slot`: returns its era.
    ///
    /// # Errors
    /// [`BoundsError`], as [`Directory::new`].
    pub fn enter(&self, slot: Slot) -> Result<u64, BoundsError> {
        Ok(self.member(slot)?.enter())
    }

    /// The member at `slot` is gone.
    ///
    /// # Errors
    /// [`BoundsError`], as [`Directory::new`].
    pub fn leave(&self, slot: Slot) -> Result<(), BoundsError> {
        self.member(slot)?.leave();
        Ok(())
    }

    /// Whether the member of `era` at `slot` lives. A member may forge this: it is good enough for
    /// the contents of a ring among members, and for nothing that the daemon decides.
    ///
    /// # Errors
    /// [`BoundsError`], as [`Directory::new`].
    pub fn lives(&self, slot: Slot, era: u64) -> Result<bool, BoundsError> {
        Ok(self.member(slot)?.lives(era))
    }

    /// The era of the member at `slot`, or of the last one.
    ///
    /// # Errors
    /// [`BoundsError`], as [`Directory::new`].
    pub fn era(&self, slot: Slot) -> Result<u64, BoundsError> {
        Ok(self.member(slot)?.number())
    }

    fn member(&self, slot: Slot) -> Result<Era<'a>, BoundsError> {
        self.mapped
            .atomic_u64(Layout::member_at(slot))
            .map(Era::new)
    }
}
