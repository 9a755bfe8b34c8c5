//! The calls of a heap about its blocks, and about all of it.
//!
//! # Safety
//! Every function asks of its caller what `tierpool.h` says, and that pointers are null or valid.

use core::alloc::Layout;
use core::ffi::c_int;
use core::ptr::NonNull;

use allocator::pool::Audit;

use crate::code::{Code, Failure, answer};
use crate::handle::HeapHandle;
use crate::input::{put, put_if_wanted, seen, there};

/// What every block is at a multiple of.
const ALIGN: usize = 16;

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_alloc(
    heap: *const HeapHandle,
    bytes: usize,
    align: usize,
    place: *mut *mut u8,
) -> c_int {
    answer(|| {
        let place = there(place, "the block's place")?;
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?;
        let block = if align <= ALIGN && (align == 0 || align.is_power_of_two()) {
            heap.with_thread(|mine| mine.allocate(bytes))?
        } else {
            let layout = layout(bytes, align)?;
            heap.with_thread(|mine| mine.allocate_layout(layout))?
        };
        // SAFETY: see the module.
        unsafe { put(place, block.as_ptr()) };
        Ok(())
    })
}

fn layout(bytes: usize, align: usize) -> Result<Layout, Failure> {
    if !align.is_power_of_two() {
        let what = format!("an alignment of {align}, which is no power of two");
        return Err(Failure::new(Code::Invalid, what));
    }
    let large = |_| {
        let what = format!("a block of {bytes} bytes at a multiple of {align}");
        Failure::new(Code::TooLarge, what)
    };
    Layout::from_size_align(bytes, align).map_err(large)
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_publish(heap: *const HeapHandle, block: *mut u8) -> c_int {
    answer(|| {
        let block = there(block, "the block")?;
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?;
        heap.with_thread(|mine| mine.publish(block))
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_free(heap: *const HeapHandle, block: *mut u8) -> c_int {
    answer(|| {
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?;
        let Some(block) = NonNull::new(block) else {
            return heap.check();
        };
        // SAFETY: the caller says that nobody uses the block, and does not trim meanwhile.
        heap.with_thread(|mine| unsafe { mine.free(block) })
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_resolve(heap: *const HeapHandle, block: *mut u8) -> c_int {
    answer(|| {
        let block = there(block, "the block")?;
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?.heap()?;
        Ok(heap.resolve(block)?)
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_usable_bytes(
    heap: *const HeapHandle,
    block: *mut u8,
    place: *mut usize,
) -> c_int {
    answer(|| {
        let block = there(block, "the block")?;
        let place = there(place, "the number's place")?;
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?.heap()?;
        let bytes = heap.usable_bytes(block)?;
        // SAFETY: see the module.
        unsafe { put(place, bytes) };
        Ok(())
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_recover(
    heap: *const HeapHandle,
    place: *mut usize,
) -> c_int {
    answer(|| {
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?.heap()?;
        let threads = heap.recover()?;
        // SAFETY: see the module.
        unsafe { put_if_wanted(place, threads) };
        Ok(())
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_trim(heap: *const HeapHandle, place: *mut usize) -> c_int {
    answer(|| {
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?;
        heap.rest_if_known()?;
        let chunks = heap.heap()?.trim()?;
        // SAFETY: see the module.
        unsafe { put_if_wanted(place, chunks) };
        Ok(())
    })
}

/// `struct tierpool_heap_stats` of `tierpool.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct HeapStats {
    chunks: usize,
    metadata_bytes: u64,
    frames: usize,
    free_frames: usize,
    published: usize,
    pending: usize,
    runs: usize,
    run_bytes: u64,
    threads: usize,
    dead_threads: usize,
    recovered_blocks: u64,
    freed_twice: u64,
    fallbacks: u64,
    findings: usize,
}

impl From<Audit> for HeapStats {
    fn from(audit: Audit) -> Self {
        Self {
            chunks: audit.chunks,
            metadata_bytes: audit.metadata_bytes,
            frames: audit.frames,
            free_frames: audit.free_frames,
            published: audit.classes.iter().map(|class| class.published).sum(),
            pending: audit.classes.iter().map(|class| class.pending).sum(),
            runs: audit.runs,
            run_bytes: audit.run_bytes,
            threads: audit.threads,
            dead_threads: audit.dead_threads,
            recovered_blocks: audit.recovered_blocks,
            freed_twice: audit.freed_twice,
            fallbacks: audit.fallbacks,
            findings: audit.findings.len(),
        }
    }
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_heap_stats(
    heap: *const HeapHandle,
    place: *mut u8,
    bytes: usize,
) -> c_int {
    answer(|| {
        let place = there(place, "the figures' place")?;
        // SAFETY: see the module.
        let heap = unsafe { seen(heap, "the heap") }?.heap()?;
        let stats = HeapStats::from(heap.audit()?);
        let from = core::ptr::from_ref(&stats).cast::<u8>();
        let bytes = bytes.min(size_of::<HeapStats>());
        // SAFETY: the caller has room for so many bytes, and they are of whole numbers.
        unsafe { from.copy_to(place.as_ptr(), bytes) };
        Ok(())
    })
}
