//! The caches between this process and the payload of a domain, by the mode of the domain.
//!
//! Offsets are those of the payload. Ranges are those of guards, which lie inside of it.

use std::fmt;
use std::sync::{OnceLock, Weak};

use coherence::Slot;
use coherence::cache::{Caches as _, Mode, Software};
use coherence::simulated::{Backing, Faults, SimCache};
use pool_core::flush::Flusher;
use pool_core::mem::{Mapped, Plain};
use pool_core::{Bytes, SegmentId};

use crate::held::Held;

/// What this process has to do to its caches.
pub(crate) enum Caches {
    /// Nothing.
    Hardware,
    /// Instructions.
    Software(Flusher),
    /// What a cache in software wants, which is made with the first handle.
    Simulated(Box<Simulated>),
}

pub(crate) struct Simulated {
    cache: OnceLock<SimCache<Payload>>,
    seed: u64,
    faults: Faults,
}

impl Caches {
    pub(crate) fn new(mode: Mode, slot: Slot, segment: SegmentId) -> Self {
        match mode {
            Mode::Hardware => Self::Hardware,
            Mode::Software => Self::Software(Flusher::detect()),
            Mode::Simulated => Self::Simulated(Box::new(Simulated {
                cache: OnceLock::new(),
                // Another one for each host, and the same in each run.
                seed: segment.number() << 8 | u64::from(slot.index()),
                // Whoever maps it read-only can write nothing back: no clean line ever is.
                faults: Faults::often(true),
            })),
        }
    }

    /// The simulated cache, where there is one.
    #[inline]
    pub(crate) fn simulated(&self) -> Option<&Simulated> {
        match self {
            Self::Simulated(simulated) => Some(simulated),
            _ => None,
        }
    }

    /// Writes ranges back to memory, and waits until they are there.
    #[inline]
    pub(crate) fn write_back(&self, held: &Held, ranges: impl Iterator<Item = (u64, u64)>) {
        match self {
            Self::Hardware => {}
            Self::Software(flusher) => {
                let software = Software::new(payload(held), *flusher);
                for (start, end) in ranges {
                    software.write_back(start, end.saturating_sub(start));
                }
                software.fence_stores();
            }
            Self::Simulated(simulated) => {
                if let Some(cache) = simulated.cache.get() {
                    for (start, end) in ranges {
                        cache.write_back(start, end.saturating_sub(start));
                    }
                    cache.fence_stores();
                }
            }
        }
    }

    /// Drops what may be stale.
    #[cold]
    pub(crate) fn invalidate(&self, held: &Held, start: u64, end: u64) {
        let len = end.saturating_sub(start);
        match self {
            Self::Hardware => {}
            Self::Software(flusher) => {
                let software = Software::new(payload(held), *flusher);
                software.invalidate(start, len);
                software.fence_all();
            }
            Self::Simulated(simulated) => {
                if let Some(cache) = simulated.cache.get() {
                    cache.invalidate(start, len);
                    cache.fence_all();
                }
            }
        }
    }
}

impl Simulated {
    /// Puts the cache over the payload of a segment. The first one stays.
    pub(crate) fn over(&self, held: Weak<Held>, words: u64) {
        let make = || SimCache::new(Payload { held, words }, self.seed, self.faults);
        let _cache = self.cache.get_or_init(make);
    }

    pub(crate) fn load<T: Plain>(&self, offset: u64) -> T {
        let mut bytes = [0; 8];
        if let Some(cache) = self.cache.get() {
            cache.read(offset, &mut bytes[..size_of::<T>()]);
        }
        T::from_memory(bytes)
    }

    pub(crate) fn store<T: Plain>(&self, offset: u64, value: T) {
        if let Some(cache) = self.cache.get() {
            cache.write(offset, &value.to_memory()[..size_of::<T>()]);
        }
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hardware => f.write_str("Hardware"),
            Self::Software(flusher) => write!(f, "Software({flusher:?})"),
            Self::Simulated(simulated) => write!(f, "Simulated({:?})", simulated.cache),
        }
    }
}

/// The payload as it is mapped; nothing of a segment that is no domain.
fn payload(held: &Held) -> Mapped<'_> {
    let all = held.mapped();
    let layout = held.membership().map(|membership| membership.layout());
    let part = layout.map(|layout| all.part(layout.directory(), layout.payload()));
    // It was mapped with the segment, and stays so.
    part.and_then(Result::ok).unwrap_or(all)
}

/// The memory below a simulated cache, wherever it is mapped by now.
struct Payload {
    held: Weak<Held>,
    words: u64,
}

impl Backing for Payload {
    fn words(&self) -> u64 {
        self.words
    }

    fn load_word(&self, index: u64) -> u64 {
        // Whoever uses the cache holds the segment.
        let held = self.held.upgrade();
        let word = held.and_then(|held| {
            let view = payload(&held).view::<u64>(Bytes::new(index.checked_mul(8)?), 1);
            view.ok()?.get(0)
        });
        word.expect("a word of a payload that is held")
    }

    fn store_word(&self, index: u64, value: u64) {
        let held = self.held.upgrade();
        let stored = held.and_then(|held| {
            let offset = Bytes::new(index.checked_mul(8)?);
            let view = payload(&held).write_view::<u64>(offset, 1);
            view.ok()?.set(0, value).ok()
        });
        stored.expect("a word of a payload that is held for writing");
    }
}
