//! The faces for Rust: `#[global_allocator]`, and the allocator of a collection.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::private;

/// The private heap, as the allocator of a Rust program.
///
/// Needs no daemon, and no set-up.
///
/// ```
/// use allocator::PrivateHeap;
///
/// #[global_allocator]
/// static HEAP: PrivateHeap = PrivateHeap;
///
/// let squares: Vec<u64> = (0..1_000).map(|n| n * n).collect();
/// assert_eq!(squares.iter().sum::<u64>(), 332_833_500);
/// ```
///
/// Or of single collections, beside another allocator of the program:
///
/// ```
/// use allocator::PrivateHeap;
///
/// let mut squares = allocator_api2::vec::Vec::new_in(PrivateHeap);
/// squares.extend((0..1_000_u64).map(|n| n * n));
/// assert_eq!(squares.iter().sum::<u64>(), 332_833_500);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct PrivateHeap;

fn pointer(address: Option<usize>) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(address.unwrap_or(0))
}

#[cold]
#[inline(never)]
fn allocate_slowly(layout: Layout) -> *mut u8 {
    pointer(private::allocate_aligned(layout.size(), layout.align()))
}

// SAFETY: blocks are at multiples of what was asked for, have as many bytes, are of nobody else
// until they are freed, and stay where they are. It never unwinds.
unsafe impl GlobalAlloc for PrivateHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= private::ALIGN
            && let Some(address) = private::allocate_fast(layout.size())
        {
            return pointer(Some(address));
        }
        allocate_slowly(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
        // SAFETY: the caller says that nobody uses it.
        unsafe { private::free(pointer.expose_provenance()) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= private::ALIGN {
            return pointer(private::allocate_zeroed(layout.size()));
        }
        // SAFETY: as the caller of this function says.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it has as many bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if layout.align() <= private::ALIGN {
            // SAFETY: the caller says that nobody else uses it.
            return pointer(unsafe { private::reallocate(block.expose_provenance(), bytes) });
        }
        // SAFETY: the caller says that the new layout is a valid one.
        let new = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        // SAFETY: as above.
        let place = unsafe { self.alloc(new) };
        if !place.is_null() {
            // SAFETY: both have as many bytes, and are not the same.
            unsafe { place.copy_from_nonoverlapping(block, layout.size().min(bytes)) };
            // SAFETY: the caller says that nobody else uses it.
            unsafe { self.dealloc(block, layout) };
        }
        place
    }
}

/// A block of the global allocator as one of a collection.
fn slice(block: *mut u8, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
    let place = NonNull::new(block).ok_or(AllocError)?;
    Ok(NonNull::slice_from_raw_parts(place, layout.size()))
}

// SAFETY: as for `GlobalAlloc`; all values of this type are the same heap. A block of no bytes is
// one like any other.
unsafe impl Allocator for PrivateHeap {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: this heap has blocks of no bytes as well.
        slice(unsafe { self.alloc(layout) }, layout)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: as above.
        slice(unsafe { self.alloc_zeroed(layout) }, layout)
    }

    unsafe fn deallocate(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { self.dealloc(place.as_ptr(), layout) };
    }

    unsafe fn grow(
        &self,
        place: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.align() == new.align() {
            // SAFETY: as the caller says.
            return slice(
                unsafe { self.realloc(place.as_ptr(), old, new.size()) },
                new,
            );
        }
        // SAFETY: as the caller says.
        unsafe { grow_elsewhere(self, place, old, new) }
    }
}

/// A larger block in place of the one at `place`, with what that holds.
///
/// # Safety
/// As of [`Allocator::grow`].
pub(crate) unsafe fn grow_elsewhere<A: Allocator>(
    heap: &A,
    place: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    let moved = heap.allocate(new)?;
    // SAFETY: both have as many bytes, and are not the same.
    unsafe {
        moved
            .cast::<u8>()
            .copy_from_nonoverlapping(place, old.size())
    };
    // SAFETY: the caller gives the old one up.
    unsafe { heap.deallocate(place, old) };
    Ok(moved)
}
