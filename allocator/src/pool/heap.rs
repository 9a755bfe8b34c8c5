//! What a process has of a pool heap.

use std::ptr::NonNull;

use pool_core::sync::Arc;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use pool_core::{crash_point, planted};
use xxhash_rust::xxh3::xxh3_64;

use super::audit::{self, Audit, BlockInfo};
use super::control::{self, Control, MOST_TIERS, NAME_BYTES};
use super::error::HeapError;
use super::ground::Ground;
use super::local::Local;
use super::process::Process;
use super::thread::ThreadHeap;
use crate::layout::CHUNK_BYTES;

/// What a process has of a pool heap. Clones are the same; all of them may be used by any thread.
///
/// Threads allocate and free through a [`ThreadHeap`] each: see [`PoolHeap::thread`].
#[derive(Debug, Clone)]
pub struct PoolHeap {
    process: Arc<Process>,
}

/// A word in which the address of a block is kept for others: a root, or one in a block.
///
/// It holds an even number, at most 64 bits, most often a pointer or 0. Read it by
/// [`PoolHeap::load`]: while a block is linked or retired it holds a mark, which is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub(super) address: usize,
}

/// A cell that is found by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub cell: Cell,
    /// What it holds.
    pub value: u64,
}

/// How much of a heap lies in a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The tier.
    pub tier: String,
    /// Its share of new chunks, beside those of the others; 0 is what the others have no room for.
    pub share: u32,
    /// How many chunks of the heap are there.
    pub chunks: usize,
    /// How many bytes that is.
    pub bytes: u64,
}

impl Cell {
    /// The cell at `place`, in a block of the heap.
    ///
    /// # Safety
    /// For as long as the cell is used, the block is allocated and the word is reached as a cell
    /// alone.
    #[must_use]
    pub unsafe fn at(place: NonNull<u64>) -> Self {
        Self {
            address: place.as_ptr().expose_provenance(),
        }
    }

    /// Where it is. Its value is read by [`PoolHeap::load`] alone.
    #[must_use]
    pub fn place(self) -> *mut u64 {
        core::ptr::with_exposed_provenance_mut(self.address)
    }
}

impl PoolHeap {
    /// Sets a new heap up, or one whose maker died before it was set up, whose chunks are of
    /// `tiers`, each with its share of them. One with the share 0 has chunks where the others have
    /// no room.
    ///
    /// # Errors
    /// [`HeapError::Tiers`], [`HeapError::Name`], [`HeapError::SetUp`].
    pub fn create(ground: Box<dyn Ground>, tiers: &[(&str, u32)]) -> Result<Self, HeapError> {
        let is_twice = |(index, (name, _)): (usize, &(&str, u32))| {
            tiers.iter().take(index).any(|(other, _)| other == name)
        };
        if tiers.is_empty() || tiers.len() > MOST_TIERS || tiers.iter().enumerate().any(is_twice) {
            return Err(HeapError::Tiers(tiers.len()));
        }
        for (name, _) in tiers {
            check_name(name)?;
        }
        let control = control_of(&*ground);
        if control.check() != Err(HeapError::NotSetUp) {
            return Err(HeapError::SetUp);
        }
        control.id.store(ground.id(), Relaxed);
        crash_point!("heap.id_stored");
        if planted!("heap.is_set_up_before_its_tiers") {
            control.set_up();
        }
        for (tier, (name, share)) in control.tiers.iter().zip(tiers) {
            tier.name.write(name);
            crash_point!("heap.tier_named");
            tier.share.store(u64::from(*share) + 1, Relaxed);
        }
        control.set_up();
        crash_point!("heap.set_up");
        Self::open(ground)
    }

    /// Opens a heap that was set up. It changes nothing in it.
    ///
    /// # Errors
    /// [`HeapError::NotSetUp`], [`HeapError::Ended`], [`HeapError::OtherFormat`],
    /// [`HeapError::Map`].
    pub fn open(ground: Box<dyn Ground>) -> Result<Self, HeapError> {
        let control = control_of(&*ground);
        control.check()?;
        let process = Process::new(control, ground);
        process.refresh()?;
        Ok(Self {
            process: Arc::new(process),
        })
    }

    /// The heap for the calling thread, or another one that it is given to.
    ///
    /// # Errors
    /// [`HeapError::TooManyThreads`], [`HeapError::Forked`].
    pub fn thread(&self) -> Result<ThreadHeap, HeapError> {
        ThreadHeap::new(Arc::clone(&self.process), None)
    }

    /// The same, with blocks of `tier` alone.
    ///
    /// # Errors
    /// As [`PoolHeap::thread`]; [`HeapError::NoTier`].
    pub fn thread_in(&self, tier: &str) -> Result<ThreadHeap, HeapError> {
        let tiers = &self.process.control.tiers[..self.process.control.tier_count()];
        let found = tiers.iter().position(|known| known.name.read() == tier);
        let found = found.ok_or_else(|| HeapError::NoTier(tier.to_owned()))?;
        ThreadHeap::new(Arc::clone(&self.process), Some(found))
    }

    /// The root of this name, which is made, with 0 in it, where there is none.
    ///
    /// # Errors
    /// [`HeapError::Name`], [`HeapError::TooManyRoots`], [`HeapError::SameHash`],
    /// [`HeapError::Forked`].
    pub fn root(&self, name: &str) -> Result<Cell, HeapError> {
        self.process.check()?;
        check_name(name)?;
        let hash = xxh3_64(name.as_bytes()).max(1);
        for root in &self.process.control.roots {
            let mut found = root.hash.load(Acquire);
            if found == 0 {
                // It is this one's from here on, or somebody's who was faster.
                let free = root.hash.compare_exchange(0, hash, AcqRel, Acquire);
                found = free.err().unwrap_or(hash);
                crash_point!("heap.root_placed");
            }
            if found == hash {
                return named(root, name);
            }
        }
        Err(HeapError::TooManyRoots)
    }

    /// All roots.
    ///
    /// # Errors
    /// [`HeapError::Forked`], [`HeapError::Damaged`].
    pub fn roots(&self) -> Result<Vec<Root>, HeapError> {
        self.process.check()?;
        let roots = self.process.control.roots.iter();
        let known = roots.take_while(|root| root.hash.load(Acquire) != 0);
        let told = known.map(|root| {
            let cell = cell_of(root);
            Ok(Root {
                name: root.name.read(),
                cell,
                value: self.load(cell)?,
            })
        });
        told.collect()
    }

    /// What a cell holds. What it points to is mapped.
    ///
    /// # Errors
    /// [`HeapError::NoCell`], [`HeapError::Damaged`], [`HeapError::Map`], [`HeapError::Forked`].
    pub fn load(&self, cell: Cell) -> Result<u64, HeapError> {
        self.process.check()?;
        let value = self.process.load(cell.address)?;
        let refreshed = self.process.refresh();
        let address = usize::try_from(value).unwrap_or(0);
        // A chunk that cannot be mapped matters where it is pointed to.
        if value != 0 && self.process.chunks.frame_of(address).is_none() {
            refreshed?;
        }
        Ok(value)
    }

    /// Changes a cell from `old` to `new`, which is no block of its own, or one that is published.
    ///
    /// # Errors
    /// [`HeapError::Changed`], [`HeapError::NoCell`], [`HeapError::OddValue`],
    /// [`HeapError::Damaged`], [`HeapError::Forked`].
    pub fn exchange(&self, cell: Cell, old: u64, new: u64) -> Result<(), HeapError> {
        self.process.check()?;
        self.process.exchange(cell.address, old, new)
    }

    /// Maps what other processes added, so that any block of the heap may be read and written by
    /// its address. That a block is at `address` is not looked at, only that it is in a chunk.
    ///
    /// # Errors
    /// [`HeapError::NoBlock`] where it is in no chunk of the heap, [`HeapError::Map`],
    /// [`HeapError::Forked`].
    pub fn resolve(&self, address: NonNull<u8>) -> Result<(), HeapError> {
        self.process.check()?;
        self.process.frame_of(address.as_ptr().addr()).map(|_| ())
    }

    /// Has this process read of the block at `address` what was published, and not what it has in
    /// its caches. To be called by whoever was told of a block, before it reads it; it costs
    /// nothing where the hardware keeps all caches the same.
    ///
    /// # Errors
    /// As [`PoolHeap::usable_bytes`].
    #[inline]
    pub fn acquire(&self, address: NonNull<u8>) -> Result<(), HeapError> {
        if self.process.is_software {
            let bytes = self.usable_bytes(address)?;
            let start = address.as_ptr().addr();
            self.process.ground.invalidate(start..start + bytes);
        }
        self.process.check()
    }

    /// How many bytes the block at `address` has.
    ///
    /// # Errors
    /// [`HeapError::NoBlock`] where none is allocated there, [`HeapError::Forked`].
    pub fn usable_bytes(&self, address: NonNull<u8>) -> Result<usize, HeapError> {
        self.process.check()?;
        let _scan = self.process.chunks.scan();
        Local::usable_bytes(&self.process, address.as_ptr().addr())
    }

    /// Frees what threads that died had not published, and says of how many threads. It happens by
    /// itself whenever somebody needs more memory.
    ///
    /// # Errors
    /// [`HeapError::Map`], [`HeapError::Forked`].
    pub fn recover(&self) -> Result<usize, HeapError> {
        self.process.check()?;
        self.process.refresh()?;
        let recovered = self.process.recover_dead();
        self.process.tend_keeper();
        Ok(recovered)
    }

    /// Ends the heap: whoever has it takes no more memory for it. For who removes it, and gives its
    /// memory back.
    ///
    /// # Errors
    /// [`HeapError::Forked`].
    pub fn end(&self) -> Result<(), HeapError> {
        self.process.check()?;
        self.process.control.end();
        Ok(())
    }

    /// Gives chunks without a block back to the pool, and says how many. Threads that keep blocks
    /// ready have blocks: see [`ThreadHeap::rest`].
    ///
    /// # Errors
    /// [`HeapError::TooManyThreads`], [`HeapError::Map`], [`HeapError::Remove`],
    /// [`HeapError::Forked`].
    pub fn trim(&self) -> Result<usize, HeapError> {
        self.recover()?;
        self.process.collect();
        let (chunks, control) = (&self.process.chunks, self.process.control);
        chunks.remove_unfinished(control, &*self.process.ground)?;
        let (slot, owner) = self.process.take_slot()?;
        let mapped: Vec<_> = chunks.all().collect();
        let removed = mapped.into_iter().try_fold(0, |removed, seen| {
            let gone = chunks.remove(control, &*self.process.ground, seen, owner)?;
            Ok(removed + usize::from(gone))
        });
        self.process.free_slot(slot);
        removed
    }

    /// Has this process be as one that was killed, for simulations of several in one: whatever it
    /// has of the heap answers [`HeapError::Forked`], and does nothing where it is dropped.
    #[cfg(feature = "fault")]
    pub fn die(&self) {
        self.process.die();
    }

    /// Where the heap lies.
    ///
    /// # Errors
    /// [`HeapError::Map`], [`HeapError::Forked`].
    pub fn placement(&self) -> Result<Vec<Placement>, HeapError> {
        self.process.check()?;
        self.process.refresh()?;
        let tiers = &self.process.control.tiers[..self.process.control.tier_count()];
        let placement = tiers.iter().enumerate().map(|(index, tier)| {
            let chunks = self.process.chunks.all();
            let chunks = chunks.filter(|seen| seen.entry.tier() == index).count();
            let share = tier.share.load(Relaxed).saturating_sub(1);
            Placement {
                tier: tier.name.read(),
                share: u32::try_from(share).unwrap_or(u32::MAX),
                chunks,
                bytes: (chunks * CHUNK_BYTES) as u64,
            }
        });
        Ok(placement.collect())
    }

    /// Looks at all that is known of the heap, and tells what does not fit. Exact while nobody
    /// changes it.
    ///
    /// # Errors
    /// [`HeapError::Map`], [`HeapError::Forked`].
    pub fn audit(&self) -> Result<Audit, HeapError> {
        self.process.check()?;
        self.process.refresh()?;
        Ok(audit::audit(&self.process))
    }

    /// All blocks that are allocated, with those that a thread keeps ready.
    ///
    /// # Errors
    /// As [`PoolHeap::audit`].
    pub fn blocks(&self) -> Result<Vec<BlockInfo>, HeapError> {
        self.process.check()?;
        self.process.refresh()?;
        Ok(audit::blocks(&self.process))
    }
}

fn control_of(ground: &dyn Ground) -> &'static Control {
    // SAFETY: by the first promise of a ground; whoever has the answer has the ground as well.
    unsafe { Control::at(ground.control()) }
}

fn check_name(name: &str) -> Result<(), HeapError> {
    let is_one = (1..=NAME_BYTES).contains(&name.len()) && !name.contains('\0');
    is_one
        .then_some(())
        .ok_or_else(|| HeapError::Name(name.to_owned()))
}

fn cell_of(root: &control::Root) -> Cell {
    Cell {
        address: core::ptr::from_ref(&root.cell).expose_provenance(),
    }
}

/// The cell of a root with the hash of `name`, which is given its name where it has none yet.
fn named(root: &control::Root, name: &str) -> Result<Cell, HeapError> {
    let mut known = root.name.read();
    if known.is_empty() {
        // Whoever does so at the same time writes the same, but for names with the same hash.
        root.name.write(name);
        crash_point!("heap.root_named");
        known = root.name.read();
    }
    if known != name {
        return Err(HeapError::SameHash {
            name: name.to_owned(),
            other: known,
        });
    }
    Ok(cell_of(root))
}
