//! What this process is in one domain: its place, and what it keeps about the units.
//!
//! There is one for each segment this process holds, whatever the number of its handles, because
//! the protocol takes a place for one member.
//!
//! # What a member has seen
//! A host may have lines of a unit cached that are older than what others have published. The
//! version and the incarnation at which this process last made sure of the opposite are kept for
//! each unit. They are written by whoever holds the unit or has just let go of it, and compared by
//! the next to hold it:
//! neither ever falls, so a pair that fits was stored by somebody who had just made sure. Where the
//! hardware keeps all caches the same nothing is kept.

use coherence::cache::Mode;
use coherence::{Grant, Layout, Member, Slot};
use pool_core::SegmentId;
use pool_core::mem::{Access, Mapped};
use pool_core::sync::Arc;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::{Acquire, Release};

use crate::caches::Caches;
use crate::info::{DomainInfo, OnDeath};
use crate::lease::patience::{AskingWait, Awaited};
use crate::lease::request::Requests;

#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) info: DomainInfo,
    pub(crate) member: Member<AskingWait>,
    /// Which of the members that were in this place it is.
    pub(crate) era: u64,
    pub(crate) caches: Caches,
    /// Where the process holds the domain read-only, and cannot change its words.
    pub(crate) requests: Option<Requests>,
    /// How often the daemon said that somebody waits for what this process holds of it.
    pub(crate) recalls: Arc<AtomicU64>,
    /// What was waited for in vain.
    pub(crate) awaited: Awaited,
    /// Empty in hardware mode.
    seen: Box<[Seen]>,
}

/// Of no version, until it is stored: no memory has the incarnation 0.
#[derive(Debug, Default)]
struct Seen {
    version: AtomicU64,
    backing: AtomicU64,
}

impl Membership {
    pub(crate) fn new(
        info: DomainInfo,
        slot: Slot,
        access: Access,
        segment: SegmentId,
        mapped: Mapped<'_>,
    ) -> Self {
        let units = match info.mode {
            Mode::Hardware => 0,
            Mode::Software | Mode::Simulated => info.layout.units(),
        };
        // A word outside of what is mapped cannot be: the directory is part of the segment.
        let word = mapped.view::<u64>(Layout::member_at(slot), 1);
        let era = word.ok().and_then(|word| word.get(0)).unwrap_or(0) >> 1;
        Self {
            info,
            member: Member::new(slot, AskingWait),
            era,
            caches: Caches::new(info.mode, slot, segment, info.layout),
            recalls: Arc::default(),
            awaited: Awaited::default(),
            requests: (access == Access::ReadOnly).then(Requests::default),
            seen: (0..units).map(|_| Seen::default()).collect(),
        }
    }

    pub(crate) const fn slot(&self) -> Slot {
        self.member.slot()
    }

    /// Whether half of a change passes for the contents, of whoever dies. Where there are checksums
    /// it would have that of neither, and a new one would make it pass for whole.
    pub(crate) const fn keeps_on_death(&self) -> bool {
        matches!(self.info.on_death, OnDeath::Keep) && !self.info.checksums
    }

    /// Whether there is nothing to be done for what was written but to publish it: the hardware
    /// keeps the caches the same, and there are no checksums.
    #[inline]
    pub(crate) const fn publishes_by_the_word(&self) -> bool {
        matches!(self.caches, Caches::Hardware) && !self.info.checksums
    }

    /// Whether lines of the unit may be cached that are older than what was granted.
    #[inline]
    pub(crate) fn is_stale(&self, unit: u32, grant: &Grant) -> bool {
        let seen = usize::try_from(unit)
            .ok()
            .and_then(|unit| self.seen.get(unit));
        seen.is_some_and(|seen| {
            // Acquire pairs with the release in `saw`: another thread of this process may have
            // dropped the lines, and then they are dropped for this one.
            let version = seen.version.load(Acquire);
            (version, seen.backing.load(Acquire)) != (grant.version, grant.backing)
        })
    }

    /// Takes note that nothing older is cached. The caller holds the unit.
    #[inline]
    pub(crate) fn saw(&self, unit: u32, version: u64, backing: u64) {
        let seen = usize::try_from(unit)
            .ok()
            .and_then(|unit| self.seen.get(unit));
        if let Some(seen) = seen {
            seen.version.store(version, Release);
            seen.backing.store(backing, Release);
        }
    }
}
