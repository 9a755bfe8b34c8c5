//! Models of what processes of a pool heap share: its code under every schedule.
//!
//! What runs is the code that a program runs, as in [`crate::model`], and frames are the same. The
//! control area is [`super::control`]'s of a model; a thread is a process of its own, a member
//! with one slot. A member that dies stops at a crash point: see [`Client::dies_at`]. Whoever
//! looks after that whether it lives finds it gone, and all that it wrote.
//!
//! # What every model of blocks asks at its end
//! Those that live, with the dead recovered, give out blocks until there are none. Those and the
//! blocks that were kept are all blocks of the frames there are, each of them once: see [`Found`].
//!
//! # Files
//! [`chunks`]: a chunk that is removed. [`frames`]: frames that are claimed and released.
//! [`remote`]: blocks that others free. [`adopt`]: the same with slabs that are left. [`cells`]:
//! linking and retiring. [`recover`]: the dead.

#[cfg(test)]
mod adopt;
#[cfg(test)]
mod cells;
#[cfg(test)]
mod chunks;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod recover;
#[cfg(test)]
mod remote;

use core::ops::Range;

use pool_core::fault;
use pool_core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use super::control::{Control, MEMBERS};
use super::error::HeapError;
use super::ground::{Ground, GroundError};
use super::local::Local;
use super::process::Process;
use crate::frame::Frame;
use crate::frame::model::{CHUNK, FRAMES_OF_MODEL};
use crate::layout::CHUNK_BYTES;
use crate::model::{Watch, touch};
use crate::owner::Owner;
use crate::place::{self, Place};

pool_core::sync::lazy_static! {
    /// The era of each member that lives.
    static ref ERAS: [AtomicU64; MEMBERS] = core::array::from_fn(|_| AtomicU64::new(0));
    /// What one process has mapped as the chunk: is touched where it is looked at and unmapped.
    static ref MAPPING: Watch = Watch::default();
}

/// What a member of a model stands on.
#[derive(Debug)]
struct Stage {
    member: usize,
    era: u64,
}

// SAFETY: there is no memory; the one chunk is always there.
unsafe impl Ground for Stage {
    fn control(&self) -> usize {
        0
    }

    fn id(&self) -> u64 {
        1
    }

    fn window(&self) -> Range<usize> {
        CHUNK..CHUNK + CHUNK_BYTES
    }

    fn member(&self) -> (usize, u64) {
        (self.member, self.era)
    }

    fn lives(&self, member: usize, era: u64) -> bool {
        // Acquire pairs with the last store of who dies.
        ERAS.get(member).is_some_and(|now| now.load(Acquire) == era)
    }

    fn add(&self, _: usize, _: &str) -> Result<usize, GroundError> {
        Err(GroundError::new("there is one chunk"))
    }

    fn map(&self, number: usize) -> Result<usize, GroundError> {
        assert_eq!(number, 0);
        Ok(CHUNK)
    }

    fn unmap(&self, _: usize) {
        MAPPING.touch();
    }

    /// The chunk is zeros from then on, of free frames, for those that have it mapped yet.
    fn remove(&self, _: usize, _: usize) -> Result<(), GroundError> {
        for index in 0..FRAMES_OF_MODEL {
            // Release: the kernel has one come after the other.
            let owner = &Frame::of_model(index).descriptor().owner;
            owner.store(Owner::FREE.0, Release);
        }
        Ok(())
    }
}

/// The process that `member` is in `era`.
fn process(member: usize, era: u64) -> Process {
    ERAS[member].store(era, Release);
    let process = Process::new(Control::of_model(), Box::new(Stage { member, era }));
    process.refresh().expect("the chunk is there");
    process
}

/// A member with its one thread.
#[derive(Debug)]
struct Client {
    process: Process,
    local: Local,
}

impl Client {
    /// Member `member`, from 1 to 3.
    fn new(member: usize) -> Self {
        let process = process(member, 1);
        let (slot, owner) = process.take_slot().expect("a slot for each");
        Self::of(process, slot, owner)
    }

    /// The thread of `process` that has `slot`.
    fn of(process: Process, slot: usize, owner: Owner) -> Self {
        Self {
            local: Local::new(slot, owner, None),
            process,
        }
    }

    /// A block of `class`, pending, which is written to.
    fn take_pending(&mut self, class: usize) -> Option<usize> {
        match self.local.allocate(&self.process, class) {
            Ok(given) => {
                touch(given.address, class);
                Some(given.address)
            }
            // There are no more frames.
            Err(HeapError::NoTier(_) | HeapError::TooManyChunks) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same, published.
    fn take(&mut self, class: usize) -> Option<usize> {
        let block = self.take_pending(class)?;
        let published = self.local.publish(&self.process, block);
        published.expect("it was given out just now");
        Some(block)
    }

    /// Every block that there is to be had of `class`.
    fn take_all(&mut self, class: usize) -> Vec<usize> {
        core::iter::from_fn(|| self.take(class)).collect()
    }

    /// Writes to a block a last time, and frees it.
    fn free(&mut self, address: usize) {
        let frame = self.process.frame_of(address).expect("a frame");
        if let Some(Place::Slab { class, .. }) = place::in_frame(frame, address) {
            touch(address, class);
        }
        let freed = self.local.free(&self.process, address);
        freed.expect("it is free once");
    }

    fn hear(&mut self) {
        self.local.hear(&self.process);
    }

    /// Ends the thread; its process goes on.
    fn end(self) -> Process {
        self.local.end(&self.process);
        self.process
    }

    /// Does `act` up to the crash point `point`, and dies there; at its end where it does not come
    /// there. What is answered is for the end of the model: a destructor would free.
    fn dies_at(mut self, point: &'static str, act: impl FnOnce(&mut Self)) -> Self {
        fault::stopping_at(point, || act(&mut self));
        ERAS[self.process.member].store(0, Release);
        self
    }
}

/// Where the block at `address` is.
fn place_of(client: &Client, address: usize) -> (Frame, usize, u64) {
    let frame = client.process.frame_of(address).expect("a frame");
    let Some(Place::Slab { slab, index, .. }) = place::in_frame(frame, address) else {
        panic!("no block begins at {address:#x}");
    };
    (slab, index / 64, 1 << (index % 64))
}

/// The owner has heard that the block at `address` is free.
fn leaves_none(client: &Client, address: usize) {
    let (slab, word, bit) = place_of(client, address);
    let told = slab.remote(word).load(Acquire) & bit;
    let taken = slab.allocated(word).load(Acquire) & bit;
    assert_eq!((told, taken), (0, 0), "it was overlooked");
}

/// The block at `address` is allocated and published, and nobody freed it.
fn is_there(client: &Client, address: usize) {
    let (slab, word, bit) = place_of(client, address);
    let told = slab.remote(word).load(Acquire) & bit;
    let taken = slab.allocated(word).load(Acquire) & bit;
    let pending = slab.pending(word).load(Acquire) & bit;
    assert_eq!((told, taken, pending), (0, bit, 0), "it is not there");
}
