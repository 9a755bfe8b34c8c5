//! The malloc engine of Tierpool.
//!
//! [`PrivateHeap`] is for blocks that one process has: it needs no daemon. [`malloc`] is the same
//! for faces in other languages. [`pool`] is for blocks that several processes share, and that
//! outlive those that die.
//!
//! # Words
//! **Block**: what a caller gets. **Class**: blocks of one size. **Slab**: frames that are cut
//! into blocks of one class. **Run**: frames that are one block. **Frame**: 64 KiB. **Chunk**:
//! 64 MiB of addresses, with the metadata of its frames. **Word**: 64 blocks of a slab, and the
//! bits that say which of them are allocated. **Held**: of a word, taken by a thread, which gives
//! out its blocks without asking anybody. **Heap**: what a thread has of slabs. **Slot**: the
//! number of a heap among all. **Abandoned**: of a slab, left by a thread that ended.
//!
//! # What is promised
//! 1. A block is nobody else's until it is freed, and holds what was written into it.
//! 2. It is at a multiple of 16 or of what was asked for. Up to 512 KiB it is at most an eighth, or
//!    15 bytes, larger than what was asked for.
//! 3. A block that was freed by any thread is given out again, whatever becomes of that thread.
//! 4. Metadata lies apart from blocks: who writes over the end of a block, or into one that is
//!    free, changes blocks, never what the heap believes of them.
//! 5. Freeing what is free, or what no block is, ends the process with a message that says so, but
//!    for what `docs/allocator.md` names.
//! 6. Where there is no memory the answer is null, and nothing panics. Threads wait for each other
//!    at the first allocation of the process, for blocks outside of the window, and where they have
//!    no heap: at their end, and beyond 65,535 of them.
//!
//! # From outside to inside
//! [`global`] and the C library are the faces of `private`; it picks a class, a run or chunks.
//! `heap` has blocks of classes, `run` what is larger, both of frames that `window` has. `frame`
//! reaches the metadata that `layout` places; `owner` says what its first word means. `thread` is
//! who has which heap; `purge` gives memory back; `options` is what the environment says.
//! [`elsewhere`] is where the C library says which blocks another heap gives.

#![cfg_attr(
    loom,
    expect(
        dead_code,
        reason = "models reach what threads share, and not the faces of it"
    )
)]

#[cfg(not(loom))]
pub mod elsewhere;
#[cfg(not(loom))]
pub mod global;
#[cfg(not(loom))]
pub mod malloc;
#[cfg(not(loom))]
pub mod stats;

mod bits;
mod frame;
mod heap;
mod layout;
mod left;
mod list;
#[cfg(not(loom))]
mod lock;
#[cfg(loom)]
mod model;
#[cfg_attr(loom, path = "model/options.rs")]
mod options;
#[cfg(not(loom))]
mod outside;
mod owner;
mod place;
pub mod pool;
#[cfg(not(loom))]
mod private;
mod purge;
mod report;
mod run;
mod size_class;
mod slot;
#[cfg_attr(loom, path = "model/system.rs")]
mod system;
#[cfg(not(loom))]
mod thread;
#[cfg(not(loom))]
mod tls;
mod window;

#[cfg(not(loom))]
pub use global::PrivateHeap;
