//! The one door to mapped bytes: whoever reads or writes memory that other processes map does it
//! through here.
//!
//! Such memory is hostile: any process that maps it may change any byte at any time. So there is
//! never a `&T` or `&mut T` into it, and every access is an atomic one, relaxed where the caller
//! does not ask for more. What was read is a private copy and changes no more; it is still to be
//! *judged* before use.
//!
//! # What is defined, and by whom
//! Accesses of one size to the same aligned bytes, by any number of threads, are defined by the
//! language, and so are loads of any sizes. A store that runs at the same time as an access of
//! another size to the same bytes is not: the memory model of Rust has no answer for it. It happens
//! where a bulk copy, which moves eight bytes with each access, meets single elements, where views
//! of two types lie on the same bytes, and where another process stores as it likes.
//!
//! There we rely on the platforms we support, `x86_64` and `aarch64`. A relaxed access of at most
//! eight aligned bytes is one plain instruction there, and one that meets others, whatever their
//! size, finds in each byte what some store put there: an element that is no larger than either
//! access is never torn. And we rely on the compiler to take an atomic access for no promise that
//! nobody else stores there. Where an order is needed, order it by a word that all access as a word
//! ([`Mapped::atomic_u32`]): then nothing runs at the same time, and all is defined.
//!
//! # Who keeps it mapped
//! A [`Mapped`] borrows from what holds the mapping: a [`FileMap`], or a [`Region`] of a
//! [`Window`]. Neither can take the mapping away while it is borrowed; a region can only put other
//! memory in its place. The borrow checker is the proof, and no reader can meet a hole.
//!
//! # Invariants
//! 1. While a [`Mapped`] lives, its bytes are mapped by the pool with at least its access, and no
//!    Rust object lies there.
//! 2. A [`View`] lies inside the [`Mapped`] it was made from, at the alignment of its elements.
//! 3. Bytes that are mapped read-only are touched by relaxed loads of at most eight bytes only: the
//!    one kind of atomic access that is defined there.
//! 4. A reservation is made by `MAP_FIXED_NOREPLACE`, and `MAP_FIXED` is used only inside one, by
//!    the process that made it: nothing but pool memory is ever mapped over.
//! 5. Regions of a window do not overlap. A region's bytes from its start to `readable` are
//!    accessible until it is dropped or cleared, neither of which happens while it is borrowed, and
//!    only those are handed out; those to `writable` may be written as long.
//!
//! A file shorter than its mapping would raise `SIGBUS`. The length is checked when it is mapped;
//! that it stays is for the daemon to see to (sealed files, [`FileMap`]s of its own files). Where
//! hardware is pulled it does not stay: see [`survive_pulled`].

use core::fmt;
use core::marker::PhantomData;

use crate::addr::PoolAddr;
use crate::descriptor::Descriptor;
use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::units::Bytes;

mod error;
mod file_map;
mod own_word;
mod plain;
mod pulled;
mod sys;
#[cfg(test)]
mod tests;
mod view;
mod window;

pub use error::{BoundsError, MapError};
pub use file_map::FileMap;
pub use own_word::OwnWord;
pub use plain::Plain;
pub use pulled::{PULLED, survive_pulled};
pub use view::{View, WriteView};
pub use window::{Region, Window};

use sys::Span;

/// What a mapping allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Loads; a store would end the process.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        })
    }
}

/// Bytes that are mapped for as long as `'a`.
#[derive(Clone, Copy)]
pub struct Mapped<'a> {
    span: Span,
    access: Access,
    holder: PhantomData<&'a ()>,
}

impl<'a> Mapped<'a> {
    /// # Safety
    /// Invariant 1 holds for `span` and `access` during `'a`.
    const unsafe fn new(span: Span, access: Access) -> Self {
        Self {
            span,
            access,
            holder: PhantomData,
        }
    }

    /// Where the bytes are. For a [`FileMap`] that is an address of this process only.
    #[must_use]
    pub fn addr(&self) -> PoolAddr {
        self.span.addr()
    }

    /// How many bytes there are.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.span.bytes()
    }

    /// Whether the bytes may be written.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// The address as a pointer, for code that takes one. To read through it is to give up all that
    /// this module promises.
    #[must_use]
    pub const fn as_ptr(&self) -> *const u8 {
        self.span.start().cast_const()
    }

    /// The `len` bytes from `offset`.
    ///
    /// # Errors
    /// [`BoundsError::Outside`].
    #[inline]
    pub fn part(&self, offset: Bytes, len: Bytes) -> Result<Self, BoundsError> {
        let span = self.span.part(offset, len).ok_or(BoundsError::Outside {
            offset,
            len,
            size: self.bytes(),
        })?;
        Ok(Self { span, ..*self })
    }

    /// The `count` elements from `offset`, to read.
    ///
    /// # Errors
    /// [`BoundsError::Outside`], [`BoundsError::Misaligned`].
    #[inline]
    pub fn view<T: Plain>(&self, offset: Bytes, count: usize) -> Result<View<'a, T>, BoundsError> {
        View::new(*self, offset, count)
    }

    /// The `count` elements from `offset`, to read and write.
    ///
    /// # Errors
    /// [`BoundsError::ReadOnly`], [`BoundsError::Outside`], [`BoundsError::Misaligned`].
    #[inline]
    pub fn write_view<T: Plain>(
        &self,
        offset: Bytes,
        count: usize,
    ) -> Result<WriteView<'a, T>, BoundsError> {
        WriteView::new(self.view(offset, count)?)
    }

    /// The word at `offset`, for orderings stronger than relaxed and for [`crate::futex`].
    ///
    /// # Errors
    /// [`BoundsError::ReadOnly`] (invariant 3), [`BoundsError::Outside`],
    /// [`BoundsError::Misaligned`].
    pub fn atomic_u32(&self, offset: Bytes) -> Result<&'a AtomicU32, BoundsError> {
        let word = self.write_view::<u32>(offset, 1)?.as_ptr().cast_mut();
        // SAFETY: mapped read-write during 'a (invariant 1), inside and aligned (invariant 2); all
        // access in this process is atomic, and who else stores there is the platform's to define.
        Ok(unsafe { AtomicU32::from_ptr(word) })
    }

    /// The word at `offset`, for orderings stronger than relaxed.
    ///
    /// # Errors
    /// [`BoundsError::ReadOnly`] (invariant 3), [`BoundsError::Outside`],
    /// [`BoundsError::Misaligned`].
    pub fn atomic_u64(&self, offset: Bytes) -> Result<&'a AtomicU64, BoundsError> {
        let word = self.write_view::<u64>(offset, 1)?.as_ptr().cast_mut();
        // SAFETY: as for `atomic_u32`.
        Ok(unsafe { AtomicU64::from_ptr(word) })
    }

    /// The `count` words from `offset`, for what takes many: one check for all of them.
    ///
    /// # Errors
    /// [`BoundsError::ReadOnly`] (invariant 3), [`BoundsError::Outside`],
    /// [`BoundsError::Misaligned`].
    pub fn atomics_u64(&self, offset: Bytes, count: usize) -> Result<&'a [AtomicU64], BoundsError> {
        const { assert!(size_of::<AtomicU64>() == size_of::<u64>()) };
        const { assert!(align_of::<AtomicU64>() == align_of::<u64>()) };
        let words = self.write_view::<u64>(offset, count)?.as_ptr();
        // SAFETY: as for `atomic_u32`, of each of the `count` words, which lie in one mapping.
        Ok(unsafe { core::slice::from_raw_parts(words.cast::<AtomicU64>(), count) })
    }

    /// The `count` ownership descriptors from `offset`.
    ///
    /// # Errors
    /// [`BoundsError::ReadOnly`] (invariant 3), [`BoundsError::Outside`],
    /// [`BoundsError::Misaligned`].
    pub fn descriptors(
        &self,
        offset: Bytes,
        count: usize,
    ) -> Result<&'a [Descriptor], BoundsError> {
        const WORDS: usize = size_of::<Descriptor>() / size_of::<u64>();
        let words = self.write_view::<u64>(offset, count.saturating_mul(WORDS))?;
        let first = words.as_ptr().cast::<Descriptor>();
        if !first.is_aligned() {
            let (addr, align) = (words.addr(), align_of::<Descriptor>());
            return Err(BoundsError::Misaligned { addr, align });
        }
        // SAFETY: mapped read-write during 'a (invariant 1), inside (invariant 2) and aligned; a
        // descriptor is nothing but atomics, all of whose bit patterns are values.
        Ok(unsafe { core::slice::from_raw_parts(first, count) })
    }
}

impl fmt::Debug for Mapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Mapped({} at {}, {})",
            self.bytes(),
            self.addr(),
            self.access
        )
    }
}
