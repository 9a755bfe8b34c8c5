//! The face for collections: a thread heap as an allocator of `allocator-api2`.

use core::alloc::Layout;
use core::cell::{RefCell, RefMut};
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use super::error::HeapError;
use super::thread::ThreadHeap;
use crate::global::grow_elsewhere;
use crate::report::{Misuse, misuse};

/// A thread heap for collections: `Vec::new_in(&heap)`.
///
/// Their memory is pending, so it is gone with the process; what is to outlive it is published
/// through [`CollectionHeap::thread`]. Growing needs a copy only where the memory after a large
/// block is taken.
///
/// ```no_run
/// use allocator::pool::{CollectionHeap, PoolHeap};
/// use allocator_api2::vec::Vec;
///
/// fn squares(heap: &PoolHeap) -> Result<u64, allocator::pool::HeapError> {
///     let heap = CollectionHeap::new(heap.thread_in("pooled")?);
///     let mut squares = Vec::new_in(&heap);
///     squares.extend((0..1_000_u64).map(|n| n * n));
///     Ok(squares.iter().sum())
/// }
/// ```
#[derive(Debug)]
pub struct CollectionHeap(RefCell<ThreadHeap>);

impl CollectionHeap {
    /// The face of `heap`.
    #[must_use]
    pub fn new(heap: ThreadHeap) -> Self {
        Self(RefCell::new(heap))
    }

    /// The heap behind it, between two changes of collections.
    ///
    /// # Panics
    /// While what this gave before is still there.
    pub fn thread(&self) -> RefMut<'_, ThreadHeap> {
        self.0.borrow_mut()
    }

    fn give(
        &self,
        layout: Layout,
        how: impl FnOnce(&mut ThreadHeap, Layout) -> Result<NonNull<u8>, HeapError>,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let place = match layout.size() {
            0 => NonNull::without_provenance(layout_align(layout)),
            _ => how(&mut self.0.borrow_mut(), layout).map_err(|_| AllocError)?,
        };
        Ok(NonNull::slice_from_raw_parts(place, layout.size()))
    }

    /// Has a block have room for `new` where it is.
    fn resized(&self, place: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<[u8]>> {
        if old.size() == 0 || new.size() == 0 || !is_multiple(place, new.align()) {
            return None;
        }
        // SAFETY: the collection has the block, and gives up what is beyond the new size.
        let resized = unsafe { self.0.borrow_mut().resize(place, new.size()) };
        (resized == Ok(true)).then(|| NonNull::slice_from_raw_parts(place, new.size()))
    }
}

fn layout_align(layout: Layout) -> core::num::NonZeroUsize {
    core::num::NonZeroUsize::new(layout.align()).unwrap_or(core::num::NonZeroUsize::MIN)
}

fn is_multiple(place: NonNull<u8>, align: usize) -> bool {
    place.as_ptr().addr().is_multiple_of(align)
}

// SAFETY: blocks are at multiples of what was asked for, have as many bytes, are of nobody else
// until they are freed, and stay where they are, wherever this is: it lends itself by reference.
unsafe impl Allocator for &CollectionHeap {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.give(layout, ThreadHeap::allocate_layout)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.give(layout, ThreadHeap::allocate_zeroed)
    }

    unsafe fn deallocate(&self, place: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        // SAFETY: the caller says that nobody uses it.
        match unsafe { self.0.borrow_mut().free(place) } {
            // A forked child has nothing of the heap to free.
            Ok(()) | Err(HeapError::Forked) => {}
            Err(_) => misuse(Misuse::InvalidFree, place.as_ptr().addr()),
        }
    }

    unsafe fn grow(
        &self,
        place: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if let Some(same) = self.resized(place, old, new) {
            return Ok(same);
        }
        // SAFETY: as the caller says.
        unsafe { grow_elsewhere(self, place, old, new) }
    }
}
