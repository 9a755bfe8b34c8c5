//! What may go wrong in a pool heap.

use super::ground::GroundError;

/// Why a call of a pool heap did nothing. Each one says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeapError {
    /// Free something, raise the quota, or let the heap have another tier.
    #[error("no tier of the heap has memory for another chunk: {0}")]
    Exhausted(#[source] GroundError),
    /// Free something: the heap has as many chunks as it may.
    #[error(
        "the heap has {} chunks of 64 MiB, which is the most",
        super::MOST_CHUNKS
    )]
    TooManyChunks,
    /// Make a segment of its own for it.
    #[error(
        "a block of {bytes} bytes at a multiple of {align}: a heap gives 32 MiB at most, at a \
         multiple of 32 MiB at most; make a segment for it"
    )]
    TooLarge {
        /// What was asked for.
        bytes: usize,
        /// What the address was to be a multiple of.
        align: usize,
    },
    /// Give an alignment that is a power of two.
    #[error("an alignment of {0}, which is no power of two")]
    Align(usize),
    /// Do not free it again: whoever freed it first had it.
    #[error("the block at {address:#x} is free already: free it once")]
    DoubleFree {
        /// The block.
        address: usize,
    },
    /// Pass an address that the heap gave out.
    #[error("no block of this heap begins at {address:#x}: pass what it gave out")]
    NoBlock {
        /// What was passed.
        address: usize,
    },
    /// Publish a block once, and before anybody frees it.
    #[error("the block at {address:#x} is not pending: publish a block once, before it is freed")]
    NotPending {
        /// The block.
        address: usize,
    },
    /// Publish or free a pending block by the thread that allocated it; what it freed is free.
    #[error(
        "the block at {address:#x} is pending: the thread that allocated it has to publish or \
         free it, or has freed it"
    )]
    NotOwner {
        /// The block.
        address: usize,
    },
    /// Give the address of a root or of a word in a block of this heap, at a multiple of 8.
    #[error("no cell of this heap is at {address:#x}")]
    NoCell {
        /// What was given.
        address: usize,
    },
    /// Keep even values in cells: odd ones are marks of operations that are under way.
    #[error("a cell cannot hold {value:#x}, which is odd")]
    OddValue {
        /// What was given.
        value: u64,
    },
    /// Take the value that the cell has, decide anew, and try again.
    #[error("the cell has {value:#x}: decide anew with that, and try again")]
    Changed {
        /// What it has.
        value: u64,
    },
    /// Ask the operator which process writes where it should not: what the heap knows is damaged.
    #[error("what is known of the heap is damaged: {what} at {address:#x}")]
    Damaged {
        /// What has an impossible value.
        what: &'static str,
        /// Where.
        address: usize,
    },
    /// Close the heap in some thread first.
    #[error(
        "{} threads of this process have the heap, which is the most",
        super::MEMBER_THREADS
    )]
    TooManyThreads,
    /// Open the heap again in this process: a child inherits none.
    #[error("this process was forked from the one that opened the heap: open it anew")]
    Forked,
    /// Open another heap: this one was removed, with all that was in it.
    #[error("the heap was removed, with all that was in it: open or make another one")]
    Ended,
    /// Open the heap, or make one of another name.
    #[error("the heap is set up already")]
    SetUp,
    /// Wait for whoever makes the heap, or remove it and make it anew if nobody does.
    #[error("the heap is not set up yet")]
    NotSetUp,
    /// Use the version of the library that made it.
    #[error("the heap is of another format")]
    OtherFormat,
    /// Give a name of 1 to 48 bytes; of a heap, one that does not end as that of a chunk.
    #[error("{0:?} is no name of 1 to 48 bytes, or ends in a slash and a number")]
    Name(String),
    /// Use a root that there is: they are never removed.
    #[error("the heap has {} roots, which is the most", super::MOST_ROOTS)]
    TooManyRoots,
    /// Choose another name.
    #[error("the name {name:?} has the hash of the root {other:?}")]
    SameHash {
        /// What was asked for.
        name: String,
        /// The root that there is.
        other: String,
    },
    /// Make the heap in hardware or in software mode.
    #[error(
        "blocks are reached through pointers, which no simulated cache sees: choose another mode"
    )]
    Simulated,
    /// Name tiers that the heap was made with.
    #[error("there is no tier {0:?}: name one that the heap was made for, and the pool has")]
    NoTier(String),
    /// Give 1 to 8 tiers, each once.
    #[error("{0} tiers, where a heap has 1 to 8, each once")]
    Tiers(usize),
    /// Trim the heap again: the memory of a chunk without blocks could not be given back.
    #[error("a chunk of the heap could not be given back: {0}")]
    Remove(#[source] GroundError),
    /// Do it again once what the cause names is mended: the limits of the process on mappings and
    /// descriptors, or the way to the daemon.
    #[error("a chunk of the heap could not be had: {0}")]
    Map(#[source] GroundError),
}
