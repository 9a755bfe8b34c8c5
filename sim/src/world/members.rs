//! The words that say which members of a domain live: the real ones of `coherence`, written as the
//! daemon's reactor writes them. A member enters when it is granted its slot; it is said to be gone
//! when its slot is recovered, and not before its process has ended; and one who was granted a slot
//! and not announced is announced in the recovery of the daemon's next life.

use std::fmt;

use coherence::era::Era;
use coherence::{Slot, Slots};
use pool_core::planted;
use pool_core::sync::Arc;
use pool_core::sync::atomic::AtomicU64;
use pool_daemon::engine::effect::Recovery;

/// Of one domain, the word of each slot. Clones are the same words.
#[derive(Clone, Default)]
pub(crate) struct Members {
    words: Arc<[AtomicU64; 32]>,
}

impl Members {
    fn era(&self, slot: Slot) -> Option<Era<'_>> {
        self.words.get(usize::from(slot.index())).map(Era::new)
    }

    /// A member has come to a slot.
    pub(crate) fn enter(&self, slot: Slot) {
        // Who is announced is known by its era, which it reads for itself.
        let _its = self.era(slot).map(Era::enter);
    }

    /// The era of whoever lives in a slot.
    pub(crate) fn living(&self, slot: Slot) -> Option<u64> {
        let era = self.era(slot)?;
        let number = era.number();
        era.lives(number).then_some(number)
    }

    /// Whether the member of that era lives.
    pub(crate) fn lives(&self, slot: Slot, era: u64) -> bool {
        self.era(slot).is_some_and(|word| word.lives(era))
    }

    /// Those whose slots are recovered are gone.
    pub(crate) fn leave(&self, recovery: &Recovery) {
        if planted!("sim.says_of_nobody_that_it_is_gone") {
            return;
        }
        for slot in Slots::from_bits(recovery.slots).iter() {
            self.era(slot).into_iter().for_each(Era::leave);
        }
    }

    /// Those are announced who have a slot and were not when the daemon died.
    pub(crate) fn announce(&self, recovery: &Recovery) {
        if planted!("sim.announces_nobody_again") {
            return;
        }
        for slot in Slots::from_bits(recovery.members).iter() {
            if self.living(slot).is_none() {
                self.enter(slot);
            }
        }
    }
}

impl fmt::Debug for Members {
    /// The words of slots that somebody has or had.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let eras = self.words.iter().map(Era::new).enumerate();
        let had = eras.filter(|(_, era)| era.number() > 0);
        f.debug_map().entries(had).finish()
    }
}
