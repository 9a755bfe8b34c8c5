//! What a host has of the memory that all share: at hand, or through a cache of its own that loses
//! lines; and a planned death after so many stores.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use coherence::cache::Caches;
use coherence::simulated::{Backing, Faults, SimCache};
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;

/// The memory itself.
pub(crate) type Words = Arc<[AtomicU64]>;

/// Whether the hardware keeps the caches of hosts the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Coherent,
    /// It does not: each host has a cache whose faults follow from this seed.
    Cached(u64),
    /// Nor does a cache do anything by itself.
    Still,
}

/// One life's part of it.
#[derive(Clone)]
pub(crate) struct Memory(Rc<Inside>);

struct Inside {
    words: Words,
    cache: Option<SimCache<Words>>,
    /// Stores and write-backs that the host still does before it dies.
    left: Cell<u64>,
    done: Cell<u64>,
    seed: u64,
}

impl Memory {
    /// For a life that dies after so many stores.
    pub(crate) fn new(words: &Words, kind: Kind, salt: u64, left: u64) -> Self {
        let seed = match kind {
            Kind::Coherent | Kind::Still => salt,
            Kind::Cached(seed) => seed << 8 | salt,
        };
        let faults = if kind == Kind::Still {
            Faults::NONE
        } else {
            Faults::often(true)
        };
        let cache = SimCache::new(Arc::clone(words), seed, faults);
        Self(Rc::new(Inside {
            words: Arc::clone(words),
            cache: (kind != Kind::Coherent).then_some(cache),
            left: Cell::new(left),
            done: Cell::new(0),
            seed,
        }))
    }

    /// How many stores and write-backs it has done.
    pub(crate) fn done(&self) -> u64 {
        self.0.done.get()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.left.get() == 0
    }

    /// One store less; false where the host is dead.
    fn acts(&self) -> bool {
        let inside = &self.0;
        let Some(left) = inside.left.get().checked_sub(1) else {
            return false;
        };
        inside.left.set(left);
        inside.done.set(inside.done.get() + 1);
        if let Some(cache) = inside.cache.as_ref().filter(|_| left == 0) {
            let _lines_lost = cache.kill(inside.seed ^ inside.done.get());
        }
        left > 0
    }
}

impl Backing for Memory {
    fn words(&self) -> u64 {
        self.0.words.words()
    }

    fn load_word(&self, index: u64) -> u64 {
        let Some(cache) = &self.0.cache else {
            return self.0.words.load_word(index);
        };
        let mut bytes = [0; 8];
        cache.read(8 * index, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn store_word(&self, index: u64, value: u64) {
        if !self.acts() {
            return;
        }
        match &self.0.cache {
            None => self.0.words.store_word(index, value),
            Some(cache) => cache.write(8 * index, &value.to_le_bytes()),
        }
    }
}

impl Caches for Memory {
    fn write_back(&self, offset: u64, len: u64) -> u64 {
        match &self.0.cache {
            Some(cache) if self.acts() => cache.write_back(offset, len),
            _ => 0,
        }
    }

    fn invalidate(&self, offset: u64, len: u64) -> u64 {
        let cache = self.0.cache.as_ref();
        cache.map_or(0, |cache| cache.invalidate(offset, len))
    }

    fn fence_stores(&self) {
        if let Some(cache) = &self.0.cache {
            cache.fence_stores();
        }
    }

    fn fence_all(&self) {
        if let Some(cache) = &self.0.cache {
            cache.fence_all();
        }
    }
}

pub(crate) fn zeroes(words: u64) -> Words {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// What the memory has, past all caches.
pub(crate) fn raw(words: &Words, index: u64) -> u64 {
    words[usize::try_from(index).unwrap()].load(Relaxed)
}
