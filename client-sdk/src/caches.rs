//! The caches between this process and the payload of a domain, by the mode of the domain.
//!
//! Offsets are those of the payload. Ranges are those of guards, which lie inside of it.

use std::fmt;
use std::sync::{OnceLock, Weak};

use coherence::cache::{Caches as _, Mode, Software};
use coherence::simulated::{Backing, Faults, SimCache};
use coherence::{Layout, Slot};
use pool_core::flush::Flusher;
use pool_core::mem::{Mapped, Plain};
use pool_core::{Bytes, SegmentId};

use crate::error::AccessError;
use crate::held::Held;

/// What this process has to do to its caches.
pub(crate) enum Caches {
    /// Nothing.
    Hardware,
    /// Instructions.
    Software(Flusher, Layout),
    /// What a cache in software wants, which is made with the first handle.
    Simulated(Box<Simulated>),
}

pub(crate) struct Simulated {
    cache: OnceLock<SimCache<Payload>>,
    layout: Layout,
    seed: u64,
    faults: Faults,
}

impl Caches {
    pub(crate) fn new(mode: Mode, slot: Slot, segment: SegmentId, layout: Layout) -> Self {
        match mode {
            Mode::Hardware => Self::Hardware,
            Mode::Software => Self::Software(Flusher::detect(), layout),
            Mode::Simulated => Self::Simulated(Box::new(Simulated {
                cache: OnceLock::new(),
                layout,
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
    ///
    /// # Errors
    /// [`AccessError::Outside`] where the payload is not mapped. Nothing was written back.
    #[inline]
    pub(crate) fn write_back(
        &self,
        held: &Held,
        ranges: impl Iterator<Item = (u64, u64)>,
    ) -> Result<(), AccessError> {
        match self {
            Self::Hardware => {}
            Self::Software(flusher, layout) => {
                let software = Software::new(payload(held.mapped(), *layout)?, *flusher);
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
        Ok(())
    }

    /// Drops what may be stale.
    ///
    /// # Errors
    /// [`AccessError::Outside`] where the payload is not mapped. Nothing was dropped.
    #[cold]
    pub(crate) fn invalidate(&self, held: &Held, start: u64, end: u64) -> Result<(), AccessError> {
        let len = end.saturating_sub(start);
        match self {
            Self::Hardware => {}
            Self::Software(flusher, layout) => {
                let software = Software::new(payload(held.mapped(), *layout)?, *flusher);
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
        Ok(())
    }
}

impl Simulated {
    /// Puts the cache over the payload of a segment. The first one stays.
    pub(crate) fn over(&self, held: Weak<Held>, words: u64) {
        let layout = self.layout;
        let payload = Payload {
            held,
            layout,
            words,
        };
        let make = || SimCache::new(payload, self.seed, self.faults);
        let _cache = self.cache.get_or_init(make);
    }

    pub(crate) fn load<T: Plain>(&self, offset: u64) -> T {
        let mut bytes = [0; 8];
        if let Some(cache) = self.cache.get() {
            cache.read(offset, &mut bytes[..size_of::<T>()]);
        }
        T::from_memory(bytes)
    }

    /// Copies bytes out, as this process sees them.
    pub(crate) fn read(&self, offset: u64, to: &mut [u8]) {
        if let Some(cache) = self.cache.get() {
            cache.read(offset, to);
        }
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
            Self::Software(flusher, _) => write!(f, "Software({flusher:?})"),
            Self::Simulated(simulated) => write!(f, "Simulated({:?})", simulated.cache),
        }
    }
}

/// The payload as it is mapped. Never all of the segment: offsets would be those of other bytes.
fn payload(all: Mapped<'_>, layout: Layout) -> Result<Mapped<'_>, AccessError> {
    let part = all.part(layout.directory(), layout.payload());
    part.map_err(AccessError::from)
}

/// The memory below a simulated cache, wherever it is mapped by now.
struct Payload {
    held: Weak<Held>,
    layout: Layout,
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
            let payload = payload(held.mapped(), self.layout).ok()?;
            let view = payload.view::<u64>(Bytes::new(index.checked_mul(8)?), 1);
            view.ok()?.get(0)
        });
        word.expect("a word of a payload that is held")
    }

    fn store_word(&self, index: u64, value: u64) {
        let held = self.held.upgrade();
        let stored = held.and_then(|held| {
            let offset = Bytes::new(index.checked_mul(8)?);
            let payload = payload(held.mapped(), self.layout).ok()?;
            let view = payload.write_view::<u64>(offset, 1);
            view.ok()?.set(0, value).ok()
        });
        stored.expect("a word of a payload that is held for writing");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use pool_core::mem::{Access, FileMap};

    use super::*;

    #[test]
    fn a_payload_that_is_not_mapped_is_an_error_and_no_other_memory() {
        let page = Bytes::new(4096);
        let layout = Layout::new(page, page).unwrap();
        let whole = layout.directory().checked_add(layout.payload()).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(whole.get()).unwrap();
        let map = |len| FileMap::new(file.as_fd(), Bytes::ZERO, len, Access::ReadWrite).unwrap();
        let (all, less) = (map(whole), map(layout.directory()));
        let payload_of_all = payload(all.mapped(), layout).unwrap();
        assert_eq!(payload_of_all.bytes(), layout.payload());
        let missing = payload(less.mapped(), layout).map(|_| ());
        let outside = matches!(missing, Err(AccessError::Outside { .. }));
        assert!(outside, "{missing:?}");
    }
}
