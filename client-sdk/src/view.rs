//! Typed elements of a segment.
//!
//! Every access checks before and after that the segment still is what it was (see
//! [`crate::held`]): a byte that was read from memory that had been taken away is never given out.
//! An element is read and written as a whole; what is read from two elements may stem from two
//! moments.

use std::fmt;
use std::ops::Deref;

use pool_core::mem::{self, BoundsError};
use pool_core::sync::atomic::{Ordering, fence};
use pool_core::{Bytes, PoolAddr};

use crate::error::AccessError;
use crate::held::Held;

/// The numbers a segment can be viewed as: integers of 8 to 64 bits, `f32` and `f64`.
pub use pool_core::mem::Plain as Element;

/// Elements to read.
pub struct View<'s, T> {
    held: &'s Held,
    /// Of the first element in the segment.
    offset: u64,
    elements: mem::View<'s, T>,
}

impl<'s, T: Element> View<'s, T> {
    pub(crate) fn new(held: &'s Held, offset: Bytes, count: usize) -> Result<Self, AccessError> {
        held.check(offset.get(), bytes_of::<T>(count))?;
        let elements = held.mapped().view(offset, count)?;
        Ok(Self {
            held,
            offset: offset.get(),
            elements,
        })
    }

    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Where the first element is.
    #[must_use]
    pub fn addr(&self) -> PoolAddr {
        self.elements.addr()
    }

    /// The element at `index`.
    ///
    /// # Errors
    /// [`AccessError`].
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, AccessError> {
        self.checked(index, 1, || {
            self.elements.get(index).ok_or(self.outside(index))
        })
    }

    /// The elements one after the other, each read when it is asked for.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<T, AccessError>> + use<'s, T> {
        let view = *self;
        (0..self.len()).map(move |index| view.get(index))
    }

    /// Copies the elements from `start` into `to`, until it is full.
    ///
    /// # Errors
    /// [`AccessError`]; what is in `to` then is of no use.
    pub fn read_into(&self, start: usize, to: &mut [T]) -> Result<(), AccessError> {
        self.checked(start, to.len(), || self.elements.read_into(start, to))
    }

    /// Accesses `count` elements from `start` between two checks.
    #[inline]
    fn checked<R>(
        &self,
        start: usize,
        count: usize,
        access: impl FnOnce() -> Result<R, BoundsError>,
    ) -> Result<R, AccessError> {
        let first = self.offset.saturating_add(bytes_of::<T>(start));
        let len = bytes_of::<T>(count);
        self.held.check(first, len)?;
        let result = access()?;
        // What was accessed is accessed before the limit is looked at again.
        fence(Ordering::Acquire);
        self.held.check(first, len)?;
        Ok(result)
    }

    #[cold]
    fn outside(&self, index: usize) -> BoundsError {
        BoundsError::Outside {
            offset: Bytes::new(bytes_of::<T>(index)),
            len: Bytes::new(bytes_of::<T>(1)),
            size: Bytes::new(bytes_of::<T>(self.len())),
        }
    }
}

/// Bytes of so many elements; the end of the numbers where they have no length.
#[inline]
pub(crate) fn bytes_of<T>(count: usize) -> u64 {
    u64::try_from(count.saturating_mul(size_of::<T>())).unwrap_or(u64::MAX)
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<T> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}", self.elements, self.held.id())
    }
}

/// Elements to read and write. Whoever else has a view may write as well.
pub struct ViewMut<'s, T> {
    view: View<'s, T>,
    elements: mem::WriteView<'s, T>,
}

impl<'s, T: Element> ViewMut<'s, T> {
    pub(crate) fn new(held: &'s Held, offset: Bytes, count: usize) -> Result<Self, AccessError> {
        let view = View::new(held, offset, count)?;
        Ok(Self {
            view,
            elements: held.mapped().write_view(offset, count)?,
        })
    }

    /// Writes the element at `index`.
    ///
    /// # Errors
    /// [`AccessError`]. Where the segment was taken away meanwhile nobody will see what was
    /// written.
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), AccessError> {
        self.view
            .checked(index, 1, || self.elements.set(index, value))
    }

    /// Copies all of `from` to the elements from `start`.
    ///
    /// # Errors
    /// As [`ViewMut::set`].
    pub fn write_from(&self, start: usize, from: &[T]) -> Result<(), AccessError> {
        self.view
            .checked(start, from.len(), || self.elements.write_from(start, from))
    }

    /// Writes `value` to every element.
    ///
    /// # Errors
    /// As [`ViewMut::set`].
    pub fn fill(&self, value: T) -> Result<(), AccessError> {
        self.view.checked(0, self.view.len(), || {
            self.elements.fill(value);
            Ok(())
        })
    }
}

impl<'s, T> Deref for ViewMut<'s, T> {
    type Target = View<'s, T>;

    fn deref(&self) -> &View<'s, T> {
        &self.view
    }
}

impl<T> Clone for ViewMut<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ViewMut<'_, T> {}

impl<T> fmt::Debug for ViewMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.view, f)
    }
}
