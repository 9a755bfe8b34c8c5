//! The memory below the simulated hosts: frames of one unit each.
//!
//! A unit lies in one frame. The backing word of its descriptor names it, and the incarnation, so
//! that no two lives of a frame have one name. Where a writer is cut off that may still store to
//! its frame, the unit moves to another one.

use coherence::simulated::Backing;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;

use crate::scheduler;

const FRAME_BITS: u32 = 16;

/// All frames.
#[derive(Debug)]
pub(crate) struct Memory {
    words: Vec<AtomicU64>,
    unit_bytes: u64,
    stops_in_lines: bool,
    spurious: AtomicU64,
}

impl Memory {
    /// Zero.
    pub(crate) fn new(frames: u64, unit_bytes: u64, stops_in_lines: bool) -> Self {
        let words = frames * unit_bytes / 8;
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            unit_bytes,
            stops_in_lines,
            spurious: AtomicU64::new(0),
        }
    }

    /// Where the frame of `backing` begins, in bytes.
    pub(crate) const fn place(&self, backing: u64) -> u64 {
        (backing & ((1 << FRAME_BITS) - 1)) * self.unit_bytes
    }

    /// The name of the next life, in `frame`, of what lived by the name `before`.
    pub(crate) const fn after(before: u64, frame: u64) -> u64 {
        ((before >> FRAME_BITS) + 1) << FRAME_BITS | frame
    }

    /// The frame in a name.
    pub(crate) const fn frame(backing: u64) -> u64 {
        backing & ((1 << FRAME_BITS) - 1)
    }

    /// The contents that memory has, whatever is in caches.
    pub(crate) fn unit(&self, backing: u64) -> Vec<u8> {
        let words = self.frame_words(backing);
        let bytes = words.map(|index| self.words[index].load(Relaxed).to_le_bytes());
        bytes.flatten().collect()
    }

    /// Copies a unit, past all caches.
    pub(crate) fn copy(&self, from: u64, to: u64) {
        for (from, to) in self.frame_words(from).zip(self.frame_words(to)) {
            self.words[to].store(self.words[from].load(Relaxed), Relaxed);
        }
    }

    /// Words that a cache stored by itself.
    pub(crate) fn spurious(&self) -> u64 {
        self.spurious.load(Relaxed)
    }

    fn frame_words(&self, backing: u64) -> core::ops::Range<usize> {
        let first = small(self.place(backing) / 8);
        first..first + small(self.unit_bytes / 8)
    }
}

impl Backing for Memory {
    fn words(&self) -> u64 {
        self.words.len() as u64
    }

    fn load_word(&self, index: u64) -> u64 {
        self.words[small(index)].load(Relaxed)
    }

    fn store_word(&self, index: u64, value: u64) {
        if self.stops_in_lines {
            scheduler::pass_in_line();
        }
        if !scheduler::is_ordered() {
            self.spurious.fetch_add(1, Relaxed);
        }
        self.words[small(index)].store(value, Relaxed);
    }
}

pub(crate) fn small(number: u64) -> usize {
    usize::try_from(number).expect("no more than the memory has bytes")
}
