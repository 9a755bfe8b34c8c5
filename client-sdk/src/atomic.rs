//! Words of a segment that several processes change at once.
//!
//! The orderings are those of the language, across processes as across threads. Every operation
//! checks before and after that the segment still is what it was (see [`crate::held`]): one that
//! fails may have been carried out, on memory that nobody else sees.

use std::time::Duration;

use pool_core::clock::Deadline;
use pool_core::futex;
use pool_core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use pool_core::{Bytes, Nanos};

use crate::error::{AccessError, Error};
use crate::held::Held;

/// How a wait for a word ended.
pub use pool_core::futex::Waited;

/// The longest the kernel is waited for at once. A segment that is taken away wakes nobody, because
/// its words are not the kernel's any more.
const LOOK_AGAIN: Nanos = Nanos::from_millis(50);

macro_rules! shared_word {
    ($(#[$doc:meta])* $name:ident, $number:ty, $atomic:ty, $at:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name<'s> {
            held: &'s Held,
            offset: u64,
            word: &'s $atomic,
        }

        impl<'s> $name<'s> {
            const BYTES: u64 = size_of::<$number>() as u64;

            pub(crate) fn new(held: &'s Held, offset: Bytes) -> Result<Self, AccessError> {
                held.check(offset.get(), Self::BYTES)?;
                let word = held.mapped().$at(offset)?;
                Ok(Self { held, offset: offset.get(), word })
            }

            /// The value.
            ///
            /// # Errors
            /// [`AccessError`].
            #[inline]
            pub fn load(&self, order: Ordering) -> Result<$number, AccessError> {
                self.checked(|word| word.load(order))
            }

            /// Sets the value.
            ///
            /// # Errors
            /// [`AccessError`].
            #[inline]
            pub fn store(&self, value: $number, order: Ordering) -> Result<(), AccessError> {
                self.checked(|word| word.store(value, order))
            }

            /// Sets the value and gives back the one before.
            ///
            /// # Errors
            /// [`AccessError`].
            #[inline]
            pub fn swap(&self, value: $number, order: Ordering) -> Result<$number, AccessError> {
                self.checked(|word| word.swap(value, order))
            }

            /// Adds, around the end of the numbers, and gives back the value before.
            ///
            /// # Errors
            /// [`AccessError`].
            #[inline]
            pub fn fetch_add(
                &self,
                more: $number,
                order: Ordering,
            ) -> Result<$number, AccessError> {
                self.checked(|word| word.fetch_add(more, order))
            }

            /// Sets the value to `new` if it is `current`. The inner result has the value before,
            /// as an error where it was another one.
            ///
            /// # Errors
            /// [`AccessError`].
            #[inline]
            pub fn compare_exchange(
                &self,
                current: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<Result<$number, $number>, AccessError> {
                self.checked(|word| word.compare_exchange(current, new, success, failure))
            }

            #[inline]
            fn checked<R>(&self, access: impl FnOnce(&$atomic) -> R) -> Result<R, AccessError> {
                self.held.check(self.offset, Self::BYTES)?;
                let result = access(self.word);
                fence(Ordering::Acquire);
                self.held.check(self.offset, Self::BYTES)?;
                Ok(result)
            }
        }
    };
}

shared_word!(
    /// A 32-bit word, which can be waited for.
    SharedU32, u32, AtomicU32, atomic_u32
);
shared_word!(
    /// A 64-bit word.
    SharedU64, u64, AtomicU64, atomic_u64
);

impl SharedU32<'_> {
    /// Waits until somebody wakes the word, in whatever process, unless it is another one than
    /// `expected` already.
    ///
    /// # Errors
    /// [`Error::Access`], also where the segment is taken away during the wait; [`Error::System`].
    pub fn wait(&self, expected: u32, timeout: Duration) -> Result<Waited, Error> {
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let deadline = Deadline::after(Nanos::new(nanos));
        loop {
            self.held.check(self.offset, Self::BYTES)?;
            let look = deadline.min(Deadline::after(LOOK_AGAIN));
            let waited = futex::wait(self.word, expected, look)?;
            self.held.check(self.offset, Self::BYTES)?;
            if waited != Waited::TimedOut || deadline.expired() {
                return Ok(waited);
            }
        }
    }

    /// Wakes at most `count` of those who wait for the word, and says how many it woke.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::System`].
    pub fn wake(&self, count: u32) -> Result<u32, Error> {
        self.held.check(self.offset, Self::BYTES)?;
        let woken = futex::wake(self.word, count)?;
        self.held.check(self.offset, Self::BYTES)?;
        Ok(woken)
    }
}
