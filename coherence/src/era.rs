//! Whether the member at a slot lives, and which of those that had the slot it is.
//!
//! ```text
//! bit 63..1 era: rises with each new member in the slot    0 lives: 1 while it does
//! ```
//!
//! # Protocol
//! Only the daemon writes the word. When a member dies it says so first; then it recovers all that
//! the member held, and only then it lets the next one in, under the next era.
//!
//! # Invariants
//! 1. No era comes twice, so one who has gone is never taken for the one who came.
//! 2. Whoever sees an era sees all that was recovered before it began.
//! 3. Whoever sees a member gone sees all that it wrote.
//!
//! A member may forge the word. It is good enough for the contents of a ring among members, and
//! for nothing that the daemon decides.

use core::fmt;

use pool_core::planted;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use pool_core::sync::atomic::{AtomicU64, fence};

/// The word of one slot.
#[derive(Clone, Copy)]
pub struct Era<'a>(&'a AtomicU64);

impl<'a> Era<'a> {
    /// The one in `word`. A word of zero is one of a slot that nobody has had.
    #[must_use]
    pub const fn new(word: &'a AtomicU64) -> Self {
        Self(word)
    }

    /// A member comes: returns its era.
    #[must_use = "the member is known by it"]
    pub fn enter(self) -> u64 {
        let before = self.0.load(Relaxed) >> 1;
        let era = if planted!("era.reused") {
            before.max(1)
        } else {
            before.wrapping_add(1) & u64::MAX >> 1
        };
        // Release pairs with the acquire of those who read it: invariant 2.
        let order = if planted!("era.enters_relaxed") {
            Relaxed
        } else {
            Release
        };
        self.0.store(era << 1 | 1, order);
        era
    }

    /// The member is gone.
    pub fn leave(self) {
        // Release pairs with the acquire of those who read it: invariant 3.
        let order = if planted!("era.leaves_relaxed") {
            Relaxed
        } else {
            Release
        };
        self.0.fetch_and(!1, order);
        // Pairs with the fence of a giver that looks whether its receiver lives.
        fence(SeqCst);
    }

    /// Whether the member of `era` lives.
    #[must_use]
    pub fn lives(self, era: u64) -> bool {
        let word = self.0.load(Acquire);
        word >> 1 == era && word & 1 == 1
    }

    /// The era of the member, or of the last one.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.load(Acquire) >> 1
    }
}

impl fmt::Debug for Era<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0.load(Relaxed);
        let lives = if word & 1 == 1 { "lives" } else { "gone" };
        write!(f, "era {}, {lives}", word >> 1)
    }
}
