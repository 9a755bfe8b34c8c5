//! Typed elements of units that are leased.
//!
//! Every access checks before and after that the lease stands. An element is read and written as a
//! whole; of a lease for reading all elements are of one version.

use std::fmt;
use std::ops::Deref;

use pool_core::Bytes;
use pool_core::mem::{self, BoundsError};
use pool_core::sync::atomic::{Ordering, fence};

use super::dirty::Dirty;
use super::error::LeaseError;
use super::{Kind, Lease};
use crate::caches::Simulated;
use crate::error::AccessError;
use crate::view::{Element, bytes_of};

/// Elements to read under a lease.
pub struct LeasedView<'g, T> {
    lease: &'g Lease<'g>,
    kind: Kind,
    /// Of the first element in the payload.
    offset: u64,
    elements: mem::View<'g, T>,
}

impl<'g, T: Element> LeasedView<'g, T> {
    #[inline(always)]
    pub(super) fn new(
        lease: &'g Lease<'g>,
        kind: Kind,
        offset: Bytes,
        count: usize,
    ) -> Result<Self, LeaseError> {
        let units = &lease.units;
        let len = Bytes::new(bytes_of::<T>(count));
        let size = units.bytes();
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(AccessError::Outside { offset, len, size }.into());
        }
        let start = units.start.saturating_add(offset.get());
        let view = Self {
            lease,
            kind,
            offset: start,
            elements: units
                .held
                .mapped()
                .view(Self::in_segment(lease, start), count)
                .map_err(AccessError::from)?,
        };
        view.lease.check(kind, start, len.get())?;
        Ok(view)
    }

    #[inline]
    fn in_segment(lease: &Lease<'_>, offset: u64) -> Bytes {
        let directory = lease.units.domain.layout().directory().get();
        Bytes::new(directory.saturating_add(offset))
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

    /// The element at `index`.
    ///
    /// # Errors
    /// [`LeaseError`].
    #[inline(always)]
    pub fn get(&self, index: usize) -> Result<T, LeaseError> {
        if index >= self.len() {
            return Err(self.outside(index, 1));
        }
        self.checked(index, 1, || match self.simulated() {
            None => self.elements.get(index).ok_or(self.bounds(index, 1)),
            Some(cache) => Ok(cache.load(self.place(index))),
        })
    }

    /// The elements one after the other, each read when it is asked for.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<T, LeaseError>> + use<'g, T> {
        let view = *self;
        (0..self.len()).map(move |index| view.get(index))
    }

    /// Copies the elements from `start` into `to`, until it is full.
    ///
    /// # Errors
    /// [`LeaseError`]; what is in `to` then is of no use.
    pub fn read_into(&self, start: usize, to: &mut [T]) -> Result<(), LeaseError> {
        self.check_inside(start, to.len())?;
        self.checked(start, to.len(), || match self.simulated() {
            None => self.elements.read_into(start, to),
            Some(cache) => {
                for (to, index) in to.iter_mut().zip(start..) {
                    *to = cache.load(self.place(index));
                }
                Ok(())
            }
        })
    }

    /// Accesses `count` elements from `start` between two checks.
    #[inline(always)]
    fn checked<R>(
        &self,
        start: usize,
        count: usize,
        access: impl FnOnce() -> Result<R, BoundsError>,
    ) -> Result<R, LeaseError> {
        let (first, len) = (self.place(start), bytes_of::<T>(count));
        self.lease.check(self.kind, first, len)?;
        let result = access().map_err(AccessError::from)?;
        // What was accessed is accessed before the word is looked at again.
        fence(Ordering::Acquire);
        self.lease.check(self.kind, first, len)?;
        Ok(result)
    }

    #[inline]
    fn simulated(&self) -> Option<&'g Simulated> {
        self.lease.units.membership.caches.simulated()
    }

    /// Where in the payload an element is.
    #[inline]
    fn place(&self, index: usize) -> u64 {
        self.offset.saturating_add(bytes_of::<T>(index))
    }

    #[inline(always)]
    fn check_inside(&self, start: usize, count: usize) -> Result<(), LeaseError> {
        let end = start.checked_add(count);
        if end.is_some_and(|end| end <= self.len()) {
            Ok(())
        } else {
            Err(self.outside(start, count))
        }
    }

    #[inline]
    fn outside(&self, start: usize, count: usize) -> LeaseError {
        AccessError::from(self.bounds(start, count)).into()
    }

    #[inline]
    fn bounds(&self, start: usize, count: usize) -> BoundsError {
        bounds::<T>(start, count, self.len())
    }
}

/// That `count` elements from `start` are not all among the first `len`.
#[cold]
#[inline(never)]
fn bounds<T>(start: usize, count: usize, len: usize) -> BoundsError {
    BoundsError::Outside {
        offset: Bytes::new(bytes_of::<T>(start)),
        len: Bytes::new(bytes_of::<T>(count)),
        size: Bytes::new(bytes_of::<T>(len)),
    }
}

impl<T> Clone for LeasedView<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for LeasedView<'_, T> {}

impl<T> fmt::Debug for LeasedView<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.elements, self.lease.units)
    }
}

/// Elements to read and write under a lease.
pub struct LeasedViewMut<'g, T> {
    view: LeasedView<'g, T>,
    elements: mem::WriteView<'g, T>,
    dirty: &'g mut Dirty,
}

impl<'g, T: Element> LeasedViewMut<'g, T> {
    #[inline(always)]
    pub(super) fn new(
        lease: &'g Lease<'g>,
        dirty: &'g mut Dirty,
        offset: Bytes,
        count: usize,
    ) -> Result<Self, LeaseError> {
        let view = LeasedView::new(lease, Kind::Write, offset, count)?;
        let at = LeasedView::<T>::in_segment(lease, view.offset);
        let elements = lease.units.held.mapped().write_view(at, count);
        Ok(Self {
            view,
            elements: elements.map_err(AccessError::from)?,
            dirty,
        })
    }

    /// Writes the element at `index`.
    ///
    /// # Errors
    /// [`LeaseError`]. Where the unit was taken away meanwhile what was written is published
    /// nowhere.
    #[inline(always)]
    pub fn set(&mut self, index: usize, value: T) -> Result<(), LeaseError> {
        self.written(index, 1)?;
        let (view, elements) = (&self.view, &self.elements);
        view.checked(index, 1, || match view.simulated() {
            None => elements.set(index, value),
            Some(cache) => {
                cache.store(view.place(index), value);
                Ok(())
            }
        })
    }

    /// Copies all of `from` to the elements from `start`.
    ///
    /// # Errors
    /// As [`LeasedViewMut::set`].
    pub fn write_from(&mut self, start: usize, from: &[T]) -> Result<(), LeaseError> {
        self.written(start, from.len())?;
        let (view, elements) = (&self.view, &self.elements);
        view.checked(start, from.len(), || match view.simulated() {
            None => elements.write_from(start, from),
            Some(cache) => {
                for (value, index) in from.iter().zip(start..) {
                    cache.store(view.place(index), *value);
                }
                Ok(())
            }
        })
    }

    /// Writes `value` to every element.
    ///
    /// # Errors
    /// As [`LeasedViewMut::set`].
    pub fn fill(&mut self, value: T) -> Result<(), LeaseError> {
        self.written(0, self.len())?;
        let (view, elements) = (&self.view, &self.elements);
        view.checked(0, view.len(), || {
            match view.simulated() {
                None => elements.fill(value),
                Some(cache) => {
                    (0..view.len()).for_each(|index| cache.store(view.place(index), value));
                }
            }
            Ok(())
        })
    }

    /// Records what is about to be written: what is written in part counts as well.
    #[inline(always)]
    fn written(&mut self, start: usize, count: usize) -> Result<(), LeaseError> {
        self.view.check_inside(start, count)?;
        self.dirty.add(self.view.place(start), bytes_of::<T>(count));
        Ok(())
    }
}

impl<'g, T> Deref for LeasedViewMut<'g, T> {
    type Target = LeasedView<'g, T>;

    fn deref(&self) -> &LeasedView<'g, T> {
        &self.view
    }
}

impl<T> fmt::Debug for LeasedViewMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.view, f)
    }
}
