//! The heap that is measured: the C library's functions, or those of the library that was
//! preloaded.
//!
//! A worker calls them by their names, as any program does, so that the dynamic linker decides
//! whose they are ([`library_of_calls`] tells).
//!
//! # Layout of a block
//! Its first word holds how many bytes were asked for. It is written when the block is made, as a
//! program writes what it has asked for; with it a block knows how far it may be written.
//!
//! # Invariants
//! 1. A [`Block`] is one allocation of this heap, of at least one word, and nobody else's: it is no
//!    `Clone`, and [`Block::free`] takes it.
//! 2. Its first word is at most the number of bytes that it has.
//!
//! Reads and writes of blocks are volatile. A compiler knows what `malloc` and `free` do, and would
//! leave out a pair of calls between which nothing happens that can be seen.

#![expect(unsafe_code, reason = "the C library's functions")]

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::ptr::{self, NonNull};

use anyhow::{Context as _, ensure};
use nix::libc;
use pool_core::sync::atomic::AtomicPtr;
use pool_core::sync::atomic::Ordering::AcqRel;

/// What the smallest block has room for.
const WORD: usize = size_of::<usize>();
/// The least that the kernel gives.
const PAGE: usize = 4 << 10;

/// One allocation.
#[derive(Debug)]
#[must_use = "a block that is dropped is never freed"]
#[repr(transparent)]
pub(super) struct Block(NonNull<usize>);

// SAFETY: memory of the heap may be used and freed by any thread, and one at a time has the block
// (invariant 1).
unsafe impl Send for Block {}

impl Block {
    /// Room for `bytes`, or for one word where that is more.
    #[inline]
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes.max(WORD);
        // SAFETY: takes any size.
        Self::made(unsafe { libc::malloc(bytes) }, bytes)
    }

    /// The same, zeroed. Looks at the last word, so that one that is not is found.
    #[inline]
    pub(super) fn zeroed(bytes: usize) -> Self {
        let bytes = bytes.max(WORD);
        // SAFETY: takes any size.
        let block = Self::made(unsafe { libc::calloc(1, bytes) }, bytes);
        let last = bytes / WORD - 1;
        assert!(last == 0 || block.word(last) == 0, "calloc left old bytes");
        block
    }

    /// Room for `bytes`, with what it held as far as that fits.
    #[inline]
    pub(super) fn resized(self, bytes: usize) -> Self {
        let bytes = bytes.max(WORD);
        // SAFETY: a block of this heap that is given up here (invariant 1).
        Self::made(
            unsafe { libc::realloc(self.0.as_ptr().cast(), bytes) },
            bytes,
        )
    }

    #[inline]
    fn made(at: *mut c_void, bytes: usize) -> Self {
        let Some(at) = NonNull::new(at.cast::<usize>()) else {
            exhausted(bytes)
        };
        // SAFETY: it has room for one word at least, aligned as `malloc` aligns that.
        unsafe { at.write_volatile(bytes) };
        Self(at)
    }

    /// Gives it back.
    #[inline]
    pub(super) fn free(self) {
        // SAFETY: a block of this heap that is given up here (invariant 1).
        unsafe { libc::free(self.0.as_ptr().cast()) }
    }

    /// How many bytes were asked for.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.word(0)
    }

    /// The word with this index, which is within the block.
    #[inline]
    fn word(&self, index: usize) -> usize {
        // SAFETY: callers stay within the block.
        let at = unsafe { self.0.add(index) };
        // SAFETY: as above; whoever made the block has its bytes to itself (invariant 1).
        unsafe { at.read_volatile() }
    }

    /// Writes the first word so many times.
    #[inline]
    pub(super) fn rewrite(&mut self, times: usize) {
        let bytes = self.bytes();
        for _ in 0..times {
            // SAFETY: the first word is there (invariant 1), and stays what it was (invariant 2).
            unsafe { self.0.write_volatile(bytes) };
        }
    }

    /// Writes each whole word behind the first.
    #[inline]
    pub(super) fn fill(&mut self) {
        self.write_each(1);
    }

    /// Writes one word of each page behind the first.
    pub(super) fn touch_pages(&mut self) {
        self.write_each(PAGE / WORD);
    }

    #[inline]
    fn write_each(&mut self, step: usize) {
        let words = self.bytes() / WORD;
        for index in (step..words).step_by(step) {
            // SAFETY: `index` is below the words that the block has (invariant 2).
            let at = unsafe { self.0.add(index) };
            // SAFETY: as above.
            unsafe { at.write_volatile(index ^ words) };
        }
    }

    /// Whether it still holds what [`Self::fill`] wrote: nobody else was given its bytes.
    #[inline]
    pub(super) fn is_filled(&self) -> bool {
        let words = self.bytes() / WORD;
        (1..words).all(|index| self.word(index) == index ^ words)
    }
}

#[cold]
fn exhausted(bytes: usize) -> ! {
    panic!("the heap has no {bytes} bytes");
}

/// A place where threads leave blocks for each other.
#[derive(Debug, Default)]
pub(super) struct Slot(AtomicPtr<usize>);

impl Slot {
    /// Leaves `block` and takes what was there.
    #[inline]
    pub(super) fn swap(&self, block: Option<Block>) -> Option<Block> {
        let left = block.map_or(ptr::null_mut(), |block| block.0.as_ptr());
        // Release what was written to the block that is left; acquire what another wrote to the one
        // that is taken.
        NonNull::new(self.0.swap(left, AcqRel)).map(Block)
    }
}

/// The file whose `malloc`, `calloc`, `realloc` and `free` this process calls. Fails where they are
/// not of one file.
pub(super) fn library_of_calls() -> anyhow::Result<PathBuf> {
    let calls = [
        libc::malloc as *const c_void,
        libc::calloc as *const c_void,
        libc::realloc as *const c_void,
        libc::free as *const c_void,
    ];
    let mut files = Vec::new();
    for call in calls {
        files.push(file_of(call)?);
    }
    files.dedup();
    ensure!(
        files.len() == 1,
        "the calls are of several files: {files:?}"
    );
    files.pop().context("no call was looked up")
}

fn file_of(call: *const c_void) -> anyhow::Result<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is room for the answer; the address is only compared.
    let found = unsafe { libc::dladdr(call, info.as_mut_ptr()) };
    ensure!(found != 0, "a call is of no file");
    // SAFETY: zeroes are a valid value, and the call has filled them in.
    let info = unsafe { info.assume_init() };
    ensure!(!info.dli_fname.is_null(), "the file of a call has no name");
    // SAFETY: a text that ends with a zero and is there as long as the file is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Ok(PathBuf::from(name.to_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_wrote_to_a_block_is_noticed() {
        let mut block = Block::new(100);
        block.fill();
        assert!(block.is_filled());
        block.write_each(3);
        assert!(block.is_filled(), "the same is written to each word");
        // SAFETY: the block has twelve words.
        let last = unsafe { block.0.add(11) };
        // SAFETY: as above.
        unsafe { last.write_volatile(0) };
        assert!(!block.is_filled());
        block.free();
    }

    #[test]
    fn a_block_knows_what_was_asked_for() {
        for (asked, bytes) in [(0, WORD), (1, WORD), (WORD, WORD), (100, 100)] {
            let mut block = Block::new(asked);
            assert_eq!(block.bytes(), bytes);
            block.rewrite(2);
            assert_eq!(block.bytes(), bytes);
            let block = block.resized(5 * PAGE);
            assert_eq!(block.bytes(), 5 * PAGE);
            block.free();
        }
        let mut block = Block::zeroed(3 * PAGE);
        block.touch_pages();
        let words = [1, PAGE / WORD, 2 * PAGE / WORD].map(|index| block.word(index) != 0);
        assert_eq!(words, [false, true, true]);
        block.free();
    }

    #[test]
    fn a_slot_gives_each_block_once() {
        let slot = Slot::default();
        assert!(slot.swap(Some(Block::new(1))).is_none());
        let first = slot.swap(Some(Block::new(20))).unwrap();
        let second = slot.swap(None).unwrap();
        assert_eq!((first.bytes(), second.bytes()), (WORD, 20));
        assert!(slot.swap(None).is_none());
        first.free();
        second.free();
    }
}
