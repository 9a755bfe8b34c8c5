//! The memory below simulated caches: words that all hosts load and store.
//!
//! All accesses are relaxed, as those of caches are: what orders them is the protocol's own words.

#[cfg(not(loom))]
use pool_core::mem::WriteView;
use pool_core::sync::Arc;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;

/// Memory in words of eight bytes, little-endian. A word is loaded and stored whole.
pub trait Backing {
    /// How many words there are. Always the same number.
    fn words(&self) -> u64;

    /// The word at `index`.
    ///
    /// # Panics
    /// Where there is none.
    fn load_word(&self, index: u64) -> u64;

    /// Stores `value` to the word at `index`.
    ///
    /// # Panics
    /// Where there is none.
    fn store_word(&self, index: u64, value: u64);
}

impl Backing for [AtomicU64] {
    fn words(&self) -> u64 {
        self.len() as u64
    }

    fn load_word(&self, index: u64) -> u64 {
        self[place(index)].load(Relaxed)
    }

    fn store_word(&self, index: u64, value: u64) {
        self[place(index)].store(value, Relaxed);
    }
}

/// Mapped memory, as words that are aligned and may be written, which to make the view has shown.
#[cfg(not(loom))]
impl Backing for WriteView<'_, u64> {
    fn words(&self) -> u64 {
        self.len() as u64
    }

    fn load_word(&self, index: u64) -> u64 {
        self.get(place(index)).expect("a word of the memory")
    }

    fn store_word(&self, index: u64, value: u64) {
        self.set(place(index), value).expect("a word of the memory");
    }
}

/// Past the end of any memory where the index is past the end of the address space.
fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

macro_rules! through {
    ($($pointer:ty),*) => {$(
        impl<B: Backing + ?Sized> Backing for $pointer {
            fn words(&self) -> u64 {
                (**self).words()
            }

            fn load_word(&self, index: u64) -> u64 {
                (**self).load_word(index)
            }

            fn store_word(&self, index: u64, value: u64) {
                (**self).store_word(index, value);
            }
        }
    )*};
}

through!(&B, Arc<B>);
