//! Heaps in the pool: objects that processes allocate, reach and free at the same addresses.
//!
//! A heap is a domain, which says who lives, and segments of 64 MiB that are its chunks. Of the
//! heap `jobs` the domain has the name `jobs`, and its chunks `jobs/0`, `jobs/1` and so on: names
//! arbitrate which of several processes that add a chunk makes it. What a heap is, and what it
//! promises, is in [`allocator::pool`].

mod ground;

use allocator::pool::{CONTROL_BYTES, HeapError, PoolHeap};
use pool_core::mem::Access;
use pool_core::{Bytes, EXTENT_BYTES};

use crate::domain::DomainOptions;
use crate::error::{Error, Reason};
use crate::pool::{Create, Pool};
use crate::segment::Force;
use ground::Segments;

/// What stands between the name of a heap and the number of a chunk.
const SEPARATOR: char = '/';

/// A heap to be made.
#[derive(Debug, Clone)]
pub struct HeapOptions {
    name: String,
    tiers: Vec<(String, u32)>,
    is_leased: bool,
}

impl HeapOptions {
    /// A heap of this name, in the tier `ddr` where no other one is named, that stays until it is
    /// removed.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tiers: Vec::new(),
            is_leased: false,
        }
    }

    /// Its chunks are of this tier; where several are named, of the first one that has room. With
    /// one tier there is no other: where it has no room, allocating fails.
    #[must_use]
    pub fn tier(mut self, tier: &str) -> Self {
        let share = u32::from(self.tiers.is_empty());
        self.tiers.push((tier.to_owned(), share));
        self
    }

    /// So many of its chunks are of this tier, beside the shares of the others.
    #[must_use]
    pub fn share(mut self, tier: &str, share: u32) -> Self {
        self.tiers.push((tier.to_owned(), share));
        self
    }

    /// It lasts as long as somebody has it: its memory goes back when the last process that has it
    /// ends, however it does.
    #[must_use]
    pub const fn leased(mut self) -> Self {
        self.is_leased = true;
        self
    }
}

impl Pool {
    /// Makes a heap. Its first chunk is made with the first block.
    ///
    /// # Errors
    /// [`Error`]; [`Reason::NameTaken`] where there is a segment of that name,
    /// [`HeapError::NoTier`] where the pool has not all of the tiers.
    pub fn create_heap(&self, options: &HeapOptions) -> Result<PoolHeap, Error> {
        let default = [("ddr".to_owned(), 1)];
        let tiers = if options.tiers.is_empty() {
            &default[..]
        } else {
            &options.tiers[..]
        };
        let there = self.tiers()?;
        for (name, _) in tiers {
            if !there.iter().any(|tier| tier.name == *name) {
                return Err(HeapError::NoTier(name.clone()).into());
            }
        }
        let control = Bytes::new((CONTROL_BYTES as u64).next_multiple_of(EXTENT_BYTES));
        let mut create = Create::new(&tiers[0].0, control).name(&options.name);
        if !options.is_leased {
            create = create.persistent();
        }
        let domain = self.create_domain(&create, &DomainOptions::new())?;
        let ground = Segments::new(self, domain, &options.name, !options.is_leased)?;
        let tiers: Vec<_> = tiers
            .iter()
            .map(|(name, share)| (name.as_str(), *share))
            .collect();
        Ok(PoolHeap::create(Box::new(ground), &tiers)?)
    }

    /// Opens a heap by its name.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotADomain`] and [`HeapError::NotSetUp`] where it is no heap.
    pub fn open_heap(&self, name: &str) -> Result<PoolHeap, Error> {
        let domain = self.open_domain(name, Access::ReadWrite)?;
        let is_persistent = domain.is_persistent();
        let ground = Segments::new(self, domain, name, is_persistent)?;
        Ok(PoolHeap::open(Box::new(ground))?)
    }

    /// Ends a heap for everybody, and gives its memory back: what others have of it is revoked.
    ///
    /// # Errors
    /// [`Error`]; what was not given back by then is so by the next call.
    pub fn remove_heap(&self, name: &str) -> Result<(), Error> {
        let chunks = format!("{name}{SEPARATOR}");
        let is_chunk = |segment: &str| {
            let number = segment.strip_prefix(&chunks);
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let domain = self.open_domain(name, Access::ReadWrite)?;
        for segment in self.segments()?.segments {
            if is_chunk(&segment.name) {
                match self.open(&segment.name, Access::ReadWrite) {
                    Ok(segment) => segment.free(Force::Yes)?,
                    Err(error) if error.reason() == Some(Reason::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        domain.free(Force::Yes)
    }
}
