//! The word of each thread that says which heap is its own.
//!
//! The standard library's thread-locals cost a call in a shared library, and may allocate at first
//! use. This one is a word of the *static* part of thread-local storage: one load of its offset,
//! one of its value. A library that is loaded late has room there for a few such words.
//!
//! The word is 0 before a thread has a heap, and [`LEFT`] once its heap was given up.

use core::ptr::NonNull;

use crate::heap::Heap;

/// What the word holds of a thread that has given its heap up.
pub(crate) const LEFT: usize = 1;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod word {
    use core::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .tbss.tierpool_heap_of_thread,\"awT\",@nobits",
        ".globl tierpool_heap_of_thread",
        ".hidden tierpool_heap_of_thread",
        ".type tierpool_heap_of_thread,@object",
        ".size tierpool_heap_of_thread,8",
        ".p2align 3",
        "tierpool_heap_of_thread:",
        ".zero 8",
        ".popsection",
    );

    #[inline(always)]
    pub(super) fn get() -> usize {
        let value: usize;
        // SAFETY: reads a word of this thread's own storage.
        unsafe {
            asm!(
                "mov {value}, qword ptr [rip + tierpool_heap_of_thread@GOTTPOFF]",
                "mov {value}, qword ptr fs:[{value}]",
                value = out(reg) value,
                options(nostack, preserves_flags, readonly, pure),
            );
        }
        value
    }

    pub(super) fn set(value: usize) {
        // SAFETY: writes a word of this thread's own storage, which only `get` reads.
        unsafe {
            asm!(
                "mov {place}, qword ptr [rip + tierpool_heap_of_thread@GOTTPOFF]",
                "mov qword ptr fs:[{place}], {value}",
                place = out(reg) _,
                value = in(reg) value,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod word {
    use core::cell::Cell;

    std::thread_local! {
        static WORD: Cell<usize> = const { Cell::new(0) };
    }

    #[inline(always)]
    pub(super) fn get() -> usize {
        WORD.try_with(Cell::get).unwrap_or(super::LEFT)
    }

    pub(super) fn set(value: usize) {
        // A thread whose storage is gone has no heap any more.
        let _ = WORD.try_with(|word| word.set(value));
    }
}

/// The heap of this thread, if it has one.
#[inline(always)]
pub(crate) fn heap() -> Option<NonNull<Heap>> {
    let word = word::get();
    if word <= LEFT {
        return None;
    }
    NonNull::new(core::ptr::with_exposed_provenance_mut(word))
}

/// Whether this thread has given its heap up.
pub(crate) fn has_left() -> bool {
    word::get() == LEFT
}

/// Gives this thread a heap.
pub(crate) fn set_heap(heap: NonNull<Heap>) {
    word::set(heap.as_ptr().expose_provenance());
}

/// Notes that this thread has no heap any more, and is not to have one.
pub(crate) fn set_left() {
    word::set(LEFT);
}
