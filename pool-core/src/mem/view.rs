//! Typed elements in mapped memory.
//!
//! An element is loaded or stored by one instruction, alone or with its neighbours, so accesses of
//! elements as large never tear it; what is read from two elements may stem from two moments.
//! Within one process, too, nobody is alone: a [`WriteView`] may be copied, and its stores are
//! ordered with nothing. Order them with an atomic word beside them ([`Mapped::atomic_u32`]):
//! release after the stores, acquire before the loads. Without that, what is stored by one size of
//! access while it is read by another is the platform's to define, not the language's (see
//! [`crate::mem`]).

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use super::plain::{Plain, Word};
use super::{Access, BoundsError, Mapped};
use crate::addr::PoolAddr;
use crate::units::Bytes;

/// Bytes that one access of a bulk copy moves.
const WORD: usize = size_of::<u64>();

/// Elements to read.
pub struct View<'a, T> {
    bytes: Mapped<'a>,
    count: usize,
    element: PhantomData<fn() -> T>,
}

impl<'a, T: Plain> View<'a, T> {
    #[inline]
    pub(super) fn new(
        mapped: Mapped<'a>,
        offset: Bytes,
        count: usize,
    ) -> Result<Self, BoundsError> {
        let len = count
            .checked_mul(size_of::<T>())
            .and_then(|len| u64::try_from(len).ok());
        let bytes = mapped.part(offset, Bytes::new(len.unwrap_or(u64::MAX)))?;
        if !bytes.as_ptr().cast::<T>().is_aligned() {
            let align = align_of::<T>();
            return Err(BoundsError::Misaligned {
                addr: bytes.addr(),
                align,
            });
        }
        Ok(Self {
            bytes,
            count,
            element: PhantomData,
        })
    }

    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where the first element is.
    #[must_use]
    pub fn addr(&self) -> PoolAddr {
        self.bytes.addr()
    }

    /// The first element's address as a pointer, for code that takes one: see [`Mapped::as_ptr`].
    #[must_use]
    pub const fn as_ptr(&self) -> *const T {
        self.bytes.as_ptr().cast::<T>()
    }

    /// The element at `index`, or `None` past the end.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        // SAFETY: the element is inside (invariants 1 and 2).
        (index < self.count).then(|| unsafe { T::load(self.place(index)) })
    }

    /// The elements one after the other, each read when it is asked for.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + use<'a, T> {
        let view = *self;
        // SAFETY: every index is inside (invariants 1 and 2).
        (0..self.count).map(move |index| unsafe { T::load(view.place(index)) })
    }

    /// Copies the elements from `start` into the private memory `to`, until it is full.
    ///
    /// # Errors
    /// [`BoundsError::Outside`], and nothing was copied.
    pub fn read_into(&self, start: usize, to: &mut [T]) -> Result<(), BoundsError> {
        self.check(start, to.len())?;
        let (head, words) = self.split(start, to.len());
        let (to_head, rest) = to.split_at_mut(head);
        let (to_words, to_tail) = rest.split_at_mut(words * Self::PER_WORD);
        let mut place = self.place(start);
        for to in to_head {
            // SAFETY: checked above to be inside (invariants 1 and 2).
            *to = unsafe { T::load(place) };
            place = place.wrapping_add(size_of::<T>());
        }
        for to in to_words.chunks_exact_mut(Self::PER_WORD) {
            // SAFETY: inside, and `split` begins the words at their alignment.
            let word = unsafe { u64::load(place) };
            // SAFETY: `to` is private and as long as a word, whose every bit pattern is PER_WORD
            // values of `T` in the order in which they lay.
            unsafe { to.as_mut_ptr().cast::<u64>().write_unaligned(word) };
            place = place.wrapping_add(WORD);
        }
        for to in to_tail {
            // SAFETY: checked above to be inside (invariants 1 and 2).
            *to = unsafe { T::load(place) };
            place = place.wrapping_add(size_of::<T>());
        }
        Ok(())
    }

    /// Elements in one word.
    const PER_WORD: usize = WORD / size_of::<T>();

    /// How a bulk access to `count` elements from `start` is cut: elements up to the alignment of a
    /// word, then whole words. What is left of `count` follows element by element.
    fn split(&self, start: usize, count: usize) -> (usize, usize) {
        let to_aligned = self.place(start).align_offset(WORD) / size_of::<T>();
        let head = to_aligned.min(count);
        (head, (count - head) / Self::PER_WORD)
    }

    fn place(&self, index: usize) -> *mut u8 {
        self.bytes.span.start().wrapping_add(index * size_of::<T>())
    }

    fn check(&self, start: usize, count: usize) -> Result<(), BoundsError> {
        match start.checked_add(count) {
            Some(end) if end <= self.count => Ok(()),
            _ => Err(BoundsError::Outside {
                offset: bytes_of::<T>(start),
                len: bytes_of::<T>(count),
                size: self.bytes.bytes(),
            }),
        }
    }
}

fn bytes_of<T>(count: usize) -> Bytes {
    let bytes = count.saturating_mul(size_of::<T>());
    Bytes::new(u64::try_from(bytes).unwrap_or(u64::MAX))
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<T> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} x {} in {:?}",
            self.count,
            core::any::type_name::<T>(),
            self.bytes
        )
    }
}

/// Elements to read and write.
pub struct WriteView<'a, T>(View<'a, T>);

impl<'a, T: Plain> WriteView<'a, T> {
    pub(super) fn new(view: View<'a, T>) -> Result<Self, BoundsError> {
        match view.bytes.access() {
            Access::ReadOnly => Err(BoundsError::ReadOnly),
            Access::ReadWrite => Ok(Self(view)),
        }
    }

    /// Writes the element at `index`.
    ///
    /// # Errors
    /// [`BoundsError::Outside`], and nothing was written.
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), BoundsError> {
        self.check(index, 1)?;
        // SAFETY: inside (invariants 1 and 2), and `new` saw that it may be written.
        unsafe { T::store(self.place(index), value) };
        Ok(())
    }

    /// Copies all of the private memory `from` to the elements from `start`.
    ///
    /// # Errors
    /// [`BoundsError::Outside`], and nothing was written.
    pub fn write_from(&self, start: usize, from: &[T]) -> Result<(), BoundsError> {
        self.check(start, from.len())?;
        // SAFETY: just checked.
        unsafe { self.store(start, from) };
        Ok(())
    }

    /// Writes `value` to every element.
    pub fn fill(&self, value: T) {
        // Written from a private block, which stays in the nearest cache.
        let block = [value; 256];
        for start in (0..self.len()).step_by(block.len()) {
            let count = block.len().min(self.len() - start);
            // SAFETY: `start` is inside, and `count` is at most what follows.
            unsafe { self.store(start, &block[..count]) };
        }
    }

    /// # Safety
    /// The elements from `start`, as many as `from` has, are inside.
    unsafe fn store(&self, start: usize, from: &[T]) {
        let (head, words) = self.split(start, from.len());
        let (from_head, rest) = from.split_at(head);
        let (from_words, from_tail) = rest.split_at(words * View::<T>::PER_WORD);
        let mut place = self.place(start);
        for from in from_head {
            // SAFETY: inside, as the caller vouches, and `new` saw that it may be written.
            unsafe { T::store(place, *from) };
            place = place.wrapping_add(size_of::<T>());
        }
        for from in from_words.chunks_exact(View::<T>::PER_WORD) {
            // SAFETY: `from` is as long as a word and has no padding.
            let word = unsafe { from.as_ptr().cast::<u64>().read_unaligned() };
            // SAFETY: as for the head, and `split` begins the words at their alignment.
            unsafe { u64::store(place, word) };
            place = place.wrapping_add(WORD);
        }
        for from in from_tail {
            // SAFETY: as for the head.
            unsafe { T::store(place, *from) };
            place = place.wrapping_add(size_of::<T>());
        }
    }
}

impl<'a, T> Deref for WriteView<'a, T> {
    type Target = View<'a, T>;

    fn deref(&self) -> &View<'a, T> {
        &self.0
    }
}

impl<T> Clone for WriteView<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for WriteView<'_, T> {}

impl<T> fmt::Debug for WriteView<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
