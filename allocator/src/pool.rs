//! The heap of a pool: objects that several processes allocate, reach and free, and that no death
//! loses or keeps.
//!
//! [`PoolHeap`] is what a process has of it, [`ThreadHeap`] what a thread has, through which it
//! allocates and frees. It stands on a [`Ground`]: shared memory, and who lives. The client
//! library has one of segments of a pool.
//!
//! # Words
//! Those of the crate, and: **pending**: of a block that was allocated and that no other process
//! can reach yet. **Published**: of one that outlives the thread that allocated it. **Cell**: a
//! word in which the address of a block is kept for others. **Root**: a cell with a name. **To
//! link**: to put a pending block into a cell and publish it. **To retire**: to take a block out
//! of a cell and free it. **Slot**: the place of a thread among all threads of all processes.
//!
//! # What is promised
//! 1. Any thread of any process frees any published block, and the block is given out again, by
//!    itself, without waiting for others of its slab. A pending one is its thread's.
//! 2. A process that is killed at any instruction makes nobody wait. Whoever comes past next frees
//!    what it had not published, and has the rest.
//! 3. `link` and `retire` happen as a whole or not at all, whoever dies.
//! 4. Freeing what is free, and what no block is, is an error for whoever did it, and changes
//!    nothing. Two that free one block in the same moment are counted.
//! 5. Metadata lies apart from blocks: who writes over the end of one changes blocks, never what
//!    the heap believes of them.
//! 6. A value that another process wrote where it should not is an error, or memory that is lost
//!    or given out twice within this heap: never an access outside of it.
//! 7. A forked child has nothing of the heap: it is told so, and opens it anew.
//!
//! # Pointers
//! Who takes a pointer from a block instead of from a cell asks [`PoolHeap::resolve`] first, which
//! maps what another process added. Blocks are reached through pointers, as in any heap: who frees
//! one that another thread uses breaks that thread.
//!
//! # Caches
//! Where a ground says that no hardware keeps the caches of blocks the same, a block is written
//! back before it is published or linked, and [`PoolHeap::acquire`] drops what a reader has of it.
//! What is written into it after that is its writer's to write back. The words of the heap itself,
//! which are 0.8 % of a chunk for blocks of 64 bytes and more and 2.5 % of one for smaller blocks,
//! have to be the same for all members.
//!
//! # From outside to inside
//! `heap` and `thread` are the faces, `collection` one for collections. `local` gives out blocks
//! and frees a thread's own; `slabs` is from where it has them; `remote` is freeing what others
//! own; `runs` is what is larger. `cell` links and retires; `recover` is what becomes of the dead;
//! `audit` looks at all of it. `process` is what threads of one process share, `chunks` what is
//! mapped, `frames` who has which frames, `control` what all processes share. What frames and
//! owner words are is in `layout` and `owner`.

#[cfg(not(loom))]
mod audit;
mod cell;
mod chunks;
#[cfg(not(loom))]
mod collection;
mod control;
mod error;
mod frames;
mod front;
mod ground;
#[cfg(not(loom))]
mod heap;
mod local;
#[cfg(loom)]
mod model;
mod process;
mod recover;
mod remote;
mod runs;
mod slabs;
#[cfg(not(loom))]
mod thread;

#[cfg(not(loom))]
pub use audit::{Audit, BlockInfo, ClassCount, Finding};
#[cfg(not(loom))]
pub use collection::CollectionHeap;
pub use control::{CONTROL_BYTES, MEMBER_THREADS, MOST_CHUNKS, MOST_ROOTS, MOST_TIERS, NAME_BYTES};
pub use error::HeapError;
pub use ground::{Ground, GroundError};
#[cfg(not(loom))]
pub use heap::{Cell, Placement, PoolHeap, Root};
#[cfg(not(loom))]
pub use thread::ThreadHeap;

/// How large a chunk is, and what it is at a multiple of: 64 MiB.
pub const CHUNK_BYTES: usize = crate::layout::CHUNK_BYTES;
