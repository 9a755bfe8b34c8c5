//! What is taken back in place, without an eviction: units that are held in slots whose holders
//! have no say any more.
//!
//! Those are the slots of members that were evicted and whose processes live, and slots that
//! nobody has: whoever may write the directory can write any slot into a word, the daemon's own as
//! well. Nobody of these is a member that could be evicted, so one pass over the units takes from
//! all of them what the slot holds.
//!
//! A pass costs a look at every unit, and who writes such words can do so again and again. So
//! after one that had to take back and nothing else, the next such waits for a recall time. What is
//! to be taken back goes along with any other pass.
//!
//! # Invariants
//! 1. Nobody gets a slot from which something is to be taken back: what the next one holds in it
//!    is its own.
//! 2. The daemon's own holds are not taken back as long as an eviction needs them.

use coherence::Slot;
use pool_core::Nanos;

use super::domain::Domain;

impl Domain {
    /// Slots of whoever an eviction can cut off: members, and processes that may live.
    pub(super) fn evictable(&self) -> u32 {
        self.members() | self.awaited()
    }

    /// The daemon's slot, where the daemon may hold units in it.
    pub(super) fn held_by_the_daemon(&self) -> u32 {
        let holds = self.eviction.is_some() || self.ended_eviction & Slot::DAEMON.bit() != 0;
        if holds { Slot::DAEMON.bit() } else { 0 }
    }

    /// Notes that something is held in these slots that is to be let go, and says which of them
    /// are to be evicted for it. From the others it is taken back.
    pub(super) fn take_back(&mut self, held: u32) -> u32 {
        let evicted = held & self.evictable() & !self.cut_off;
        self.to_take_back |= held & !evicted;
        evicted
    }

    /// The slots from which the next pass takes back: all that are noted where there is a pass
    /// `anyway`, else those that have waited long enough.
    pub(super) fn taken_back(&self, anyway: bool) -> u32 {
        if anyway || self.takes_back_at.is_none() {
            self.to_take_back & !self.evicted()
        } else {
            0
        }
    }

    /// Whether time has brought that something may be taken back again.
    pub(super) fn may_take_back(&mut self, now: Nanos) -> bool {
        self.takes_back_at.take_if(|at| *at <= now).is_some()
    }

    /// What is known of a slot is not true of the next one in it.
    pub(super) fn forget_before(&mut self, slot: Slot) {
        self.cut_off &= !slot.bit();
        self.to_take_back &= !slot.bit();
        for recall in self.recalls.values_mut() {
            recall.forget(slot);
        }
    }
}
