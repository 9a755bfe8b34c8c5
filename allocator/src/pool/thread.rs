//! What a thread has of a pool heap: through this it allocates and frees.

use core::alloc::Layout;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use pool_core::sync::{Arc, lock};

use super::error::HeapError;
use super::heap::Cell;
use super::local::{Given, Local};
use super::process::Process;
use super::runs::RUN_BYTES;
use crate::layout::FRAME_BYTES;
use crate::place::Place;
use crate::size_class::{self, MIN_BLOCK, SLAB_BYTES, SMALL_BYTES};

/// What a thread has of a pool heap. It may be given to another thread, and used by one at a time.
///
/// A block is pending from when it is allocated. Where the process dies before it is published, by
/// [`ThreadHeap::publish`] or [`ThreadHeap::link`], whoever comes next frees it. Where the thread
/// heap is dropped, its blocks stay: those that are pending until its process ends.
#[derive(Debug)]
pub struct ThreadHeap {
    // Before the process, which it needs for its end.
    local: ManuallyDrop<Local>,
    process: Arc<Process>,
}

impl ThreadHeap {
    pub(super) fn new(process: Arc<Process>, tier: Option<usize>) -> Result<Self, HeapError> {
        process.check()?;
        let (slot, owner) = process.take_slot()?;
        Ok(Self {
            local: ManuallyDrop::new(Local::new(slot, owner, tier)),
            process,
        })
    }

    /// A block of `bytes` at a multiple of 16, pending. It holds anything.
    ///
    /// # Errors
    /// [`HeapError::Exhausted`], [`HeapError::TooManyChunks`], [`HeapError::TooLarge`],
    /// [`HeapError::Forked`].
    #[inline(always)]
    pub fn allocate(&mut self, bytes: usize) -> Result<NonNull<u8>, HeapError> {
        if bytes <= SMALL_BYTES
            && self.process.is_well()
            && let Some(address) = self.local.pop(size_class::of_small(bytes))
            && let Some(block) = NonNull::new(core::ptr::with_exposed_provenance_mut(address))
        {
            return Ok(block);
        }
        self.allocate_slowly(bytes)
    }

    #[cold]
    #[inline(never)]
    fn allocate_slowly(&mut self, bytes: usize) -> Result<NonNull<u8>, HeapError> {
        pointer(self.give(bytes, MIN_BLOCK)?.address)
    }

    /// A block for `layout`, pending. It holds anything. Alignments up to 32 MiB.
    ///
    /// # Errors
    /// As [`ThreadHeap::allocate`].
    pub fn allocate_layout(&mut self, layout: Layout) -> Result<NonNull<u8>, HeapError> {
        pointer(self.give(layout.size(), layout.align())?.address)
    }

    /// A block for `layout`, pending, of zeros.
    ///
    /// # Errors
    /// As [`ThreadHeap::allocate`].
    pub fn allocate_zeroed(&mut self, layout: Layout) -> Result<NonNull<u8>, HeapError> {
        let given = self.give(layout.size(), layout.align())?;
        if !given.is_zero {
            // SAFETY: the block was just given to the caller, and has as many bytes.
            unsafe { crate::system::zero(given.address, layout.size()) };
        }
        pointer(given.address)
    }

    fn give(&mut self, bytes: usize, align: usize) -> Result<Given, HeapError> {
        self.process.check()?;
        if align <= MIN_BLOCK && bytes <= SLAB_BYTES {
            return self.local.allocate(&self.process, size_class::of(bytes));
        }
        if align <= FRAME_BYTES
            && let Some(class) = size_class::aligned(bytes, align)
        {
            return self.local.allocate(&self.process, class);
        }
        self.local.allocate_run(&self.process, bytes, align)
    }

    /// Publishes the block at `address`: from now on it outlives this process.
    ///
    /// # Errors
    /// [`HeapError::NotPending`], [`HeapError::NotOwner`], [`HeapError::NoBlock`],
    /// [`HeapError::Forked`].
    #[inline(always)]
    pub fn publish(&mut self, address: NonNull<u8>) -> Result<(), HeapError> {
        if self.process.is_well()
            && !self.process.is_software
            && self.local.publish_last(address.as_ptr().addr())
        {
            return Ok(());
        }
        self.publish_slowly(address)
    }

    #[inline(never)]
    fn publish_slowly(&mut self, address: NonNull<u8>) -> Result<(), HeapError> {
        self.process.check()?;
        if self.process.is_software {
            self.write_back(address)?;
        }
        match self.local.publish(&self.process, address.as_ptr().addr()) {
            Err(HeapError::NotOwner { address }) => {
                self.by_keeper(address, |keeper, on| keeper.publish(on, address))
            }
            done => done,
        }
    }

    /// Has a block be in memory before others can reach it, where no hardware sees to that.
    #[cold]
    #[inline(never)]
    fn write_back(&self, address: NonNull<u8>) -> Result<(), HeapError> {
        let start = address.as_ptr().addr();
        let bytes = Local::usable_bytes(&self.process, start)?;
        self.process.ground.write_back(start..start + bytes);
        Ok(())
    }

    /// Does something to a pending block of a thread of this process that ended.
    #[cold]
    fn by_keeper(
        &self,
        address: usize,
        act: impl FnOnce(&mut Local, &Process) -> Result<(), HeapError>,
    ) -> Result<(), HeapError> {
        let mut keeper = lock(&self.process.keeper);
        let keeper = keeper.as_mut().ok_or(HeapError::NotOwner { address })?;
        act(keeper, &self.process)
    }

    /// Frees the block at `address`, whoever allocated it.
    ///
    /// # Errors
    /// [`HeapError::DoubleFree`], [`HeapError::NoBlock`], [`HeapError::Forked`]: nothing has
    /// changed then.
    ///
    /// # Safety
    /// Nobody uses the block any more; and where none begins there, no other thread of this
    /// process may [trim](super::PoolHeap::trim) the heap at the same time.
    #[inline(always)]
    pub unsafe fn free(&mut self, address: NonNull<u8>) -> Result<(), HeapError> {
        let place = address.as_ptr().addr();
        if self.process.is_well() && self.local.free_quickly(&self.process, place) {
            return Ok(());
        }
        self.free_slowly(address)
    }

    #[inline(never)]
    fn free_slowly(&mut self, address: NonNull<u8>) -> Result<(), HeapError> {
        self.process.check()?;
        match self.local.free_any(&self.process, address.as_ptr().addr()) {
            Err(HeapError::NotOwner { address }) => {
                self.by_keeper(address, |keeper, on| keeper.free(on, address))
            }
            done => done,
        }
    }

    /// Puts the pending block at `block` into `cell`, which has `expected`, and publishes it:
    /// both, or neither where this process dies.
    ///
    /// # Errors
    /// [`HeapError::Changed`] where the cell has another value; the block is pending then.
    /// [`HeapError::NotPending`], [`HeapError::NotOwner`], [`HeapError::NoBlock`],
    /// [`HeapError::NoCell`], [`HeapError::OddValue`], [`HeapError::Damaged`],
    /// [`HeapError::Forked`].
    pub fn link(&mut self, cell: Cell, expected: u64, block: NonNull<u8>) -> Result<(), HeapError> {
        self.process.check()?;
        if self.process.is_software {
            self.write_back(block)?;
        }
        let (block, at) = (block.as_ptr().expose_provenance(), (cell.address, expected));
        match self.local.link(&self.process, at, block) {
            Err(HeapError::NotOwner { address }) => {
                self.by_keeper(address, |keeper, on| keeper.link(on, at, block))
            }
            done => done,
        }
    }

    /// Takes the block at `block` out of `cell`, which has `value` then, and frees it: both, or
    /// neither where this process dies.
    ///
    /// # Errors
    /// [`HeapError::Changed`] where the cell has another value than the block. As
    /// [`ThreadHeap::link`] else, and [`HeapError::DoubleFree`] where the block was freed although
    /// the cell had it: then it is out of the cell.
    ///
    /// # Safety
    /// Nobody uses the block any more, or reaches it but through the cell. Nor has anybody retired
    /// it and linked it again since `value` was read from it: cells are compared by their values.
    pub unsafe fn retire(
        &mut self,
        cell: Cell,
        block: NonNull<u8>,
        value: u64,
    ) -> Result<(), HeapError> {
        self.process.check()?;
        let block = block.as_ptr().addr();
        self.local
            .retire(&self.process, (cell.address, value), block)
    }

    /// Has the block at `address` have room for `bytes` where it is, and says whether it has.
    ///
    /// # Errors
    /// [`HeapError::NoBlock`], [`HeapError::Forked`].
    ///
    /// # Safety
    /// Nobody else frees the block meanwhile, or uses what is given up of it.
    pub unsafe fn resize(&mut self, address: NonNull<u8>, bytes: usize) -> Result<bool, HeapError> {
        self.process.check()?;
        let address = address.as_ptr().addr();
        match self.process.place_at(address)? {
            Place::Slab { class, .. } => Ok(bytes <= size_class::block_bytes(class)),
            Place::Run(head) => Ok(bytes <= RUN_BYTES && Local::resize_run(head, bytes)),
            Place::Huge(_) => Err(HeapError::NoBlock { address }),
        }
    }

    /// Keeps nothing ready: what is free is free for others, and slabs without blocks are given
    /// up.
    ///
    /// # Errors
    /// [`HeapError::Forked`].
    pub fn rest(&mut self) -> Result<(), HeapError> {
        self.process.check()?;
        self.local.rest(&self.process);
        Ok(())
    }
}

fn pointer(address: usize) -> Result<NonNull<u8>, HeapError> {
    let place = core::ptr::with_exposed_provenance_mut(address);
    NonNull::new(place).ok_or(HeapError::NoBlock { address })
}

impl Drop for ThreadHeap {
    /// Leaves what it has to others; what is pending stays this process's.
    fn drop(&mut self) {
        // SAFETY: it is taken once, here, and not used afterwards.
        let local = unsafe { ManuallyDrop::take(&mut self.local) };
        if self.process.is_forked() {
            return;
        }
        local.end(&self.process);
    }
}
