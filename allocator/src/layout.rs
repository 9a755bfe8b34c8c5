//! How addresses are cut up, and where what is known of each part lies.
//!
//! ```text
//! window   1 TiB by default: what a process reserves once
//!   chunk    64 MiB, aligned: metadata of its frames, then 960 frames of data
//!     frame    64 KiB: what is given to slabs and runs
//! ```
//!
//! # The metadata of a chunk
//! The first 4 MiB of addresses of a chunk belong to the frames that they would be, 64 of them,
//! and hold arrays of 64 bytes for each frame of the chunk. An array is as large as a frame, and
//! begins with the lines of the metadata frames, which nobody has: the end of the array before it
//! lies on the first of them. So the lines of one frame are in different sets of a cache, and a
//! load of one does not wait for a store to another with the same place in its page:
//!
//! | array | of each frame |
//! |---|---|
//! | 0 | its descriptor |
//! | 1 | its line for others: whether its owner is to look at it |
//! | 2 + 3k | line k of its bitmap of allocated blocks: 512 blocks |
//! | 3 + 3k | line k of its bitmap of blocks that others freed |
//! | 4 + 3k | line k of its bitmap of pending blocks (a private heap has none) |
//!
//! for k from 0 to 7, which is what 4,096 blocks of 16 bytes take. Line k of all frames lie
//! together, so that memory is touched for the lines that are used alone: a slab of blocks of 128
//! bytes and more uses line 0, of 64 bytes 0 and 1.
//!
//! The head of the chunk is where the lines for others of the metadata frames would be, but for
//! the first of them.
//!
//! The first page of a chunk would be descriptors of the metadata itself. It is never mapped, and
//! neither is what follows the arrays: nothing that runs over the end of a block reaches metadata.
//!
//! # Chunks of a pool heap
//! They are the same, but all of a segment is there, so that data follows the arrays at once: see
//! [`Cut`].

/// What slabs and runs are made of.
pub(crate) const FRAME_BYTES: usize = 64 << 10;
pub(crate) const FRAME_SHIFT: u32 = 16;
/// What is committed at once.
#[cfg(not(loom))]
pub(crate) const CHUNK_BYTES: usize = 64 << 20;
/// In a model: two words of frames.
#[cfg(loom)]
pub(crate) const CHUNK_BYTES: usize = 8 << 20;
pub(crate) const FRAMES: usize = CHUNK_BYTES / FRAME_BYTES;
/// Frames at the start of a chunk whose addresses are the metadata.
#[cfg(not(loom))]
pub(crate) const META_FRAMES: usize = 64;
/// In a model: so many that the first frames of data are of both words.
#[cfg(loom)]
pub(crate) const META_FRAMES: usize = 62;
pub(crate) const META_BYTES: usize = META_FRAMES * FRAME_BYTES;
/// The same in the chunk of a pool heap that has the fewest.
#[cfg(not(loom))]
pub(crate) const FEWEST_META_FRAMES: usize = Cut::Ordinary.meta_frames();
#[cfg(loom)]
pub(crate) const FEWEST_META_FRAMES: usize = META_FRAMES;
/// The end of the frames of data in a chunk.
#[cfg(not(loom))]
pub(crate) const DATA_END: usize = FRAMES;
/// In a model there is no metadata of later ones.
#[cfg(loom)]
pub(crate) const DATA_END: usize = META_FRAMES + 4;
/// Frames of data in a chunk.
pub(crate) const DATA_FRAMES: usize = FRAMES - META_FRAMES;
/// A huge page, and how many frames it has.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;
pub(crate) const HUGE_PAGE_FRAMES: usize = HUGE_PAGE_BYTES / FRAME_BYTES;
/// The operating system's page.
pub(crate) const PAGE_BYTES: usize = 4 << 10;

/// What each array has of one frame.
pub(crate) const LINE_BYTES: usize = 64;
pub(crate) const LINE_SHIFT: u32 = 6;
/// How long an array is.
pub(crate) const ARRAY_BYTES: usize = FRAMES * LINE_BYTES;
/// From where an array begins to where the next one does.
#[cfg(not(loom))]
pub(crate) const ARRAY_STEP: usize = ARRAY_BYTES - LINE_BYTES;
/// Where the arrays are.
pub(crate) const QUEUE_ARRAY: usize = 1;
pub(crate) const ALLOC_ARRAY: usize = 2;
pub(crate) const REMOTE_ARRAY: usize = 3;
#[cfg(not(loom))]
pub(crate) const PENDING_ARRAY: usize = 4;
/// From line k of a bitmap to line k + 1, in arrays.
pub(crate) const LINE_ARRAYS: usize = 3;
pub(crate) const LINES: usize = 8;
/// How many words a line has.
pub(crate) const LINE_WORDS: usize = LINE_BYTES / 8;
const ARRAYS: usize = 2 + LINE_ARRAYS * LINES;
/// What of the metadata may be mapped.
pub(crate) const MAPPED_META: core::ops::Range<usize> = PAGE_BYTES..ARRAYS * ARRAY_BYTES;

/// How a chunk of a pool heap is cut: where its data begins. A chunk of 64 MiB has 0.8 % of
/// metadata, or 2.5 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// For blocks of 64 bytes and more, of which a frame has at most two lines.
    Ordinary,
    /// For blocks of all sizes.
    Tiny,
}

impl Cut {
    /// The smallest block of ordinary chunks.
    const ORDINARY_BYTES: usize = 64;

    /// The one for blocks of this size.
    pub(crate) const fn of(block_bytes: usize) -> Self {
        if block_bytes < Self::ORDINARY_BYTES {
            Self::Tiny
        } else {
            Self::Ordinary
        }
    }

    /// How many frames the metadata takes: one an array.
    #[cfg(not(loom))]
    pub(crate) const fn meta_frames(self) -> usize {
        match self {
            Self::Ordinary => {
                let blocks = FRAME_BYTES / Self::ORDINARY_BYTES;
                2 + LINE_ARRAYS * blocks.div_ceil(LINE_WORDS * 64)
            }
            Self::Tiny => ARRAYS,
        }
    }

    #[cfg(loom)]
    pub(crate) const fn meta_frames(self) -> usize {
        META_FRAMES
    }
}

#[cfg(not(loom))]
const _: () = {
    // The descriptors of the metadata frames are exactly the page that is not mapped.
    assert!(META_FRAMES * LINE_BYTES == PAGE_BYTES);
    // An array is a frame, so that the index of a frame is its place in the array and in the chunk.
    assert!(ARRAY_BYTES == FRAME_BYTES);
    // A guard follows the arrays.
    assert!(MAPPED_META.end < META_BYTES);
    // Data begins where a huge page may.
    assert!(META_BYTES.is_multiple_of(HUGE_PAGE_BYTES));
};
