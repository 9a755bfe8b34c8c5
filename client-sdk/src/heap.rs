//! Heaps in the pool: objects that processes allocate, reach and free at the same addresses.
//!
//! A heap is a domain, which says who lives, and segments of 64 MiB that are its chunks. Of the
//! heap `jobs` the domain has the name `jobs`, and its chunks `jobs/0`, `jobs/1` and so on, and no
//! heap may have a name that ends so. Who adds a chunk has claimed its number in the heap. At most
//! 31 processes of one machine have a heap at a time, and it has at most 60 GiB. What a heap is,
//! and what it promises, is in [`allocator::pool`].

mod ground;

use std::time::Duration;

use allocator::pool::{CONTROL_BYTES, HeapError, MOST_TIERS, NAME_BYTES, PoolHeap};
use pool_core::mem::Access;
use pool_core::{Bytes, EXTENT_BYTES};

use crate::domain::DomainOptions;
use crate::error::{Error, Reason};
use crate::info::Mode;
use crate::pool::{Create, Pool};
use crate::segment::Force;
use ground::Segments;

/// What stands between the name of a heap and the number of a chunk.
const SEPARATOR: char = '/';

/// How long somebody may keep a unit of the domain before it is recalled: nobody is to lease one.
const RECALL: Duration = Duration::from_secs(3_600);

/// A heap to be made.
#[derive(Debug, Clone)]
pub struct HeapOptions {
    name: String,
    tiers: Vec<(String, u32)>,
    is_leased: bool,
    mode: Mode,
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
            mode: Mode::Hardware,
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

    /// How members see what others wrote into blocks: by the hardware, which is the default, or by
    /// instructions, where devices of this machine read blocks past its caches. All members are of
    /// this machine either way: the words of the heap itself are kept the same by its hardware.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// It is this process's, which alone adds memory to it, and ends with it, however that ends.
    /// Others may open it while it lasts.
    #[must_use]
    pub const fn leased(mut self) -> Self {
        self.is_leased = true;
        self
    }
}

impl Pool {
    /// Makes a heap. Its first chunk is made with the first block.
    ///
    /// ```no_run
    /// # use client_sdk::{AttachOptions, HeapOptions, Pool};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::attach(&AttachOptions::new())?;
    /// let heap = pool.create_heap(&HeapOptions::new("jobs").tier("pooled").tier("ddr"))?;
    /// let mut mine = heap.thread()?; // one for each thread
    /// let root = heap.root("newest")?; // a word that others find by its name
    ///
    /// let block = mine.allocate(1000)?; // pending: gone if this process dies now
    /// mine.link(root, 0, block)?; // in the root, and published: both or neither
    /// // In this or any other process, once nobody uses the block any more:
    /// unsafe { mine.retire(root, block, 0)? }; // out of the root, and freed: both or neither
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error`]; [`Reason::NameTaken`] where there is a segment of that name,
    /// [`HeapError::NoTier`] where the pool has not all of the tiers; where the mode is
    /// [`Mode::Simulated`], [`HeapError::Simulated`].
    pub fn create_heap(&self, options: &HeapOptions) -> Result<PoolHeap, Error> {
        if options.mode == Mode::Simulated {
            return Err(HeapError::Simulated.into());
        }
        let default = [("ddr".to_owned(), 1)];
        let tiers = if options.tiers.is_empty() {
            &default[..]
        } else {
            &options.tiers[..]
        };
        check(&options.name, tiers)?;
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
        let options_of_domain = DomainOptions::new().mode(options.mode).recall_time(RECALL);
        let domain = self.create_domain(&create, &options_of_domain)?;
        let ground = Segments::new(self, domain, &options.name, (!options.is_leased, true))?;
        let tiers = tiers.iter().map(|(name, share)| (name.as_str(), *share));
        let made = PoolHeap::create(Box::new(ground), &tiers.collect::<Vec<_>>());
        made.map_err(Error::from).inspect_err(|_| {
            // So that the name is free again. What keeps it is told by the next call for it.
            let domain = self.open_domain(&options.name, Access::ReadWrite);
            let _ = domain.and_then(|domain| domain.free(Force::Yes));
        })
    }

    /// Opens a heap by its name.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotADomain`] and [`HeapError::NotSetUp`] where it is no heap.
    pub fn open_heap(&self, name: &str) -> Result<PoolHeap, Error> {
        let domain = self.open_domain(name, Access::ReadWrite)?;
        if domain.mode() == Mode::Simulated {
            return Err(HeapError::Simulated.into());
        }
        let may_add = domain.is_persistent();
        let ground = Segments::new(self, domain, name, (true, may_add))?;
        Ok(PoolHeap::open(Box::new(ground))?)
    }

    /// Ends a heap for everybody, and gives its memory back: what others have of it is revoked.
    ///
    /// # Errors
    /// [`Error`]; what was not given back by then is so by the next call.
    pub fn remove_heap(&self, name: &str) -> Result<(), Error> {
        // First, so that nobody takes more for it. What is no heap any more has nobody.
        match self.open_heap(name) {
            Ok(heap) => heap.end()?,
            Err(Error::Heap(_)) => {}
            Err(error) => return Err(error),
        }
        let domain = self.open_domain(name, Access::ReadWrite)?;
        self.free_chunks(name)?;
        domain.free(Force::Yes)?;
        // Somebody may have been about to add one.
        self.free_chunks(name)
    }

    /// Frees all segments that are chunks of the heap.
    fn free_chunks(&self, name: &str) -> Result<(), Error> {
        let chunks = format!("{name}{SEPARATOR}");
        let is_chunk = |segment: &str| {
            let number = segment.strip_prefix(&chunks);
            number.is_some_and(is_number)
        };
        loop {
            let listed = self.segments()?;
            let mut is_any = false;
            for segment in listed.segments.iter().filter(|it| is_chunk(&it.name)) {
                let opened = self.open(&segment.name, Access::ReadWrite);
                match opened.and_then(|segment| segment.free(Force::Yes)) {
                    Ok(()) => is_any = true,
                    Err(error) if error.reason() == Some(Reason::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            // The list is cut where it is long.
            if !listed.truncated || !is_any {
                return Ok(());
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a heap may have this name and these tiers.
fn check(name: &str, tiers: &[(String, u32)]) -> Result<(), HeapError> {
    // It would be that of a chunk of another heap.
    if name
        .rsplit_once(SEPARATOR)
        .is_some_and(|(_, last)| is_number(last))
    {
        return Err(HeapError::Name(name.to_owned()));
    }
    let is_twice = |(index, (name, _)): (usize, &(String, u32))| {
        tiers.iter().take(index).any(|(other, _)| other == name)
    };
    if tiers.len() > MOST_TIERS || tiers.iter().enumerate().any(is_twice) {
        return Err(HeapError::Tiers(tiers.len()));
    }
    let long = tiers.iter().find(|(name, _)| name.len() > NAME_BYTES);
    long.map_or(Ok(()), |(name, _)| Err(HeapError::Name(name.clone())))
}
