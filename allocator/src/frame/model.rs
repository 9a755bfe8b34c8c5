//! The metadata of a model: one chunk, with a few frames of data.
//!
//! # Invariants
//! 1. [`FRAMES_OF_MODEL`] frames of data have metadata, from frame [`META_FRAMES`] on, so that two
//!    of them are of the first word of the bitmaps of the chunk and the rest of the second. All
//!    frames after them are taken from the start, and never let go.
//! 2. A bitmap has [`WORDS`] words. A model uses classes whose slabs are one frame and have no
//!    more: of blocks of 512 bytes and more.
//! 3. All of it is new in each schedule of a model.

use pool_core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{ChunkHead, Descriptor, Frame, Queue};
use crate::bits;
use crate::layout::{CHUNK_BYTES, DATA_END, FRAMES, META_FRAMES};
use crate::model::Watch;
use crate::owner::Owner;

/// How many frames of data there are.
pub(crate) const FRAMES_OF_MODEL: usize = DATA_END - META_FRAMES;
/// How many words the bitmap of a slab has.
const WORDS: usize = 2;
/// Where the chunk would begin.
pub(crate) const CHUNK: usize = CHUNK_BYTES;

/// All metadata of one frame.
struct Metadata {
    descriptor: Descriptor,
    queue: Queue,
    allocated: [AtomicU64; WORDS],
    remote: [AtomicU64; WORDS],
    pending: [AtomicU64; WORDS],
    /// Stands for the data: 0, or something else.
    content: AtomicU64,
    /// Tells of two accesses to the data of which neither comes before the other.
    watch: Watch,
}

pool_core::sync::lazy_static! {
    static ref METADATA: [Metadata; FRAMES_OF_MODEL] = core::array::from_fn(|_| Metadata::zeroed());
    static ref HEAD: ChunkHead = ChunkHead::of_model();
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    core::array::from_fn(|_| AtomicU64::new(0))
}

impl Metadata {
    fn zeroed() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            descriptor: Descriptor {
                owner: zero(),
                summary: zero(),
                next: zero(),
                previous: zero(),
                bytes: zero(),
                frames: AtomicU32::new(0),
                list: AtomicU32::new(0),
                opened: AtomicU32::new(0),
                is_zero: AtomicU32::new(0),
            },
            queue: Queue {
                queued: AtomicU32::new(0),
                next: zero(),
                stacked: AtomicU32::new(0),
                below: zero(),
            },
            allocated: zeros(),
            remote: zeros(),
            pending: zeros(),
            content: zero(),
            watch: Watch::default(),
        }
    }
}

impl Frame {
    fn metadata(self) -> &'static Metadata {
        &METADATA[self.index() - META_FRAMES]
    }

    pub(crate) fn descriptor(self) -> &'static Descriptor {
        &self.metadata().descriptor
    }

    pub(crate) fn queue(self) -> &'static Queue {
        &self.metadata().queue
    }

    pub(crate) fn allocated(self, word: usize) -> &'static AtomicU64 {
        &self.metadata().allocated[word]
    }

    pub(crate) fn remote(self, word: usize) -> &'static AtomicU64 {
        &self.metadata().remote[word]
    }

    pub(crate) fn pending(self, word: usize) -> &'static AtomicU64 {
        &self.metadata().pending[word]
    }

    /// # Safety
    /// None is needed: the word is looked for.
    pub(crate) unsafe fn pending_at(address: usize) -> &'static AtomicU64 {
        let mut words = METADATA.iter().flat_map(|it| &it.pending);
        let word = words.find(|word| core::ptr::from_ref(*word).addr() == address);
        word.map_or_else(|| unreachable!(), |word| word)
    }

    /// # Safety
    /// None is needed: the word is looked for.
    pub(crate) unsafe fn remote_beside(address: usize) -> &'static AtomicU64 {
        let words = METADATA
            .iter()
            .flat_map(|it| it.pending.iter().zip(&it.remote));
        let mut found = words.filter(|(word, _)| core::ptr::from_ref(*word).addr() == address);
        found
            .next()
            .map_or_else(|| unreachable!(), |(_, remote)| remote)
    }

    /// What its data is, for whoever has it.
    pub(crate) fn content(self) -> u64 {
        self.metadata().watch.touch();
        self.metadata().content.load(Relaxed)
    }

    /// Changes its data, for whoever has it.
    pub(crate) fn write_content(self, content: u64) {
        self.metadata().watch.touch();
        self.metadata().content.store(content, Relaxed);
    }

    /// Data frame `number` of the model, from 0.
    pub(crate) fn of_model(number: usize) -> Self {
        let place = CHUNK | (META_FRAMES + number) << crate::layout::LINE_SHIFT;
        core::num::NonZeroUsize::new(place).map_or_else(|| unreachable!(), Self)
    }
}

impl ChunkHead {
    fn of_model() -> Self {
        let head = Self {
            taken: zeros(),
            dirty: zeros(),
            left: zeros(),
            doomed: AtomicU32::new(0),
            stamp: AtomicU64::new(0),
            free: AtomicU32::new(0),
        };
        bits::set(&head.taken, &(0..FRAMES));
        head
    }

    /// # Safety
    /// None is needed: there is one chunk.
    pub(crate) unsafe fn at(chunk: usize) -> &'static Self {
        assert_eq!(chunk, CHUNK);
        &HEAD
    }
}

/// Lets the first `frames` frames be had; the rest are somebody's, for ever. To be called once,
/// before there is a second thread.
pub(crate) fn begin(frames: usize) {
    assert!(frames <= FRAMES_OF_MODEL);
    bits::clear(&HEAD.taken, &(META_FRAMES..META_FRAMES + frames));
    for rest in &METADATA[frames..] {
        rest.descriptor.owner.store(Owner::RUN.0, Relaxed);
    }
    let count = u32::try_from(frames).unwrap_or(0);
    HEAD.free.store(count, Relaxed);
}
