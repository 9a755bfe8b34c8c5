//! What a member of a domain does to a unit: acquire it, and let go.
//!
//! # Protocol
//! Each change of the ownership word is one compare-exchange of a word that was judged to a word
//! that [`crate::own`] computed. Nothing else is taken for a right to the contents.
//!
//! *Acquire.* The compare-exchange acquires; it pairs with the release of whoever held the unit
//! before. Only then are version and backing read, so they are those of the grant: they change only
//! while somebody holds the unit, or the daemon has fenced it. The caller compares them with what
//! it saw last, and maps anew or drops cached lines before it looks at the contents.
//!
//! *Release after a write.* What was written is written back first, then the version is raised,
//! then the word is released: see `publish.rs`. A holder that was fenced meanwhile finds that the
//! version has moved, or the word, and publishes nothing.
//!
//! *Several threads of one process* share its bit. The first to read sets it, with no note anywhere
//! else. A second one that finds it set marks the word as crowded, under this process's lock, and
//! counts itself; the word has changed, so the first can no longer release without looking, and
//! sees the mark. While the word is crowded, releases of it go through the lock and the count, and
//! the last one clears the bit. The mark goes when the last holder of all processes goes. So a
//! reader that is alone in its process pays two compare-exchanges and nothing else.
//!
//! *Waiting*: see [`crate::wait`], and `member/turn.rs` for whose turn it is. Who gives up takes
//! its recall back; where it died the daemon does, and of a free unit anybody does after one cap.
//!
//! *What is not so simple* is never inlined: beside it the loop of a caller would have no registers
//! left for the simple way, and store them before each compare-exchange, which waits for stores.
//!
//! # Why each death is survived
//! Between any two instructions the word says who holds the unit, and that is all the daemon needs:
//! a dead reader's bit is cleared, a dead writer is fenced. The count of a crowded unit is the
//! process's own and dies with it.

use std::collections::BTreeMap;

use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::sync::{Mutex, lock};
use pool_core::{crash_point, planted};

use crate::base;
use crate::error::LeaseError;
use crate::grant::{Grant, granted, take, take_exclusive};
use crate::own::{Own, Refused, State};
use crate::publish::{publish, set_sum};
use crate::slot::Slot;
use crate::sum::Digest;
use crate::wait::Wait;
use crate::word::{exchange, exchange_or_see, judged, refusal, wake};

pub(crate) mod hand;
mod turn;

use turn::Turn;

/// One member of a domain: a process, whatever the number of its threads.
#[derive(Debug)]
pub struct Member<W> {
    slot: Slot,
    wait: W,
    /// How many threads hold a crowded unit since an epoch, where they are more than one.
    crowds: Mutex<BTreeMap<(u32, u32), u32>>,
}

impl<W: Wait> Member<W> {
    /// The member at `slot`, of which there must be no other.
    pub fn new(slot: Slot, wait: W) -> Self {
        Self {
            slot,
            wait,
            crowds: Mutex::new(BTreeMap::new()),
        }
    }

    /// Its place in the domain.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// Leases the unit number `unit`, whose descriptor is `line`, for reading, now or not at all.
    ///
    /// # Errors
    /// [`LeaseError`].
    #[inline]
    pub fn try_shared(&self, unit: u32, line: &Descriptor) -> Result<Grant, LeaseError> {
        let grant = match self.shared_at_once(line) {
            Some(grant) => grant,
            None => self.try_shared_beside_others(unit, line)?,
        };
        Ok(grant)
    }

    #[inline]
    fn shared_at_once(&self, line: &Descriptor) -> Option<Grant> {
        let own = Own::at_rest(line.own.load(Acquire))?;
        take(line, own, own.grant_shared(self.slot).ok()?)
    }

    #[cold]
    #[inline(never)]
    fn try_shared_beside_others(&self, unit: u32, line: &Descriptor) -> Result<Grant, LeaseError> {
        self.read(unit, line, |own| {
            if planted!("member.ignores_the_recall") {
                return own.recall_ended().grant_shared(self.slot);
            }
            own.grant_shared(self.slot)
        })
    }

    /// Leases the unit for reading where somebody holds it so already, now or not at all: for a
    /// unit whose contents end with their last holder.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where nobody reads it; [`LeaseError`].
    pub fn try_shared_beside(&self, unit: u32, line: &Descriptor) -> Result<Grant, LeaseError> {
        self.read(unit, line, |own| own.grant_shared_beside(self.slot))
    }

    /// Takes the unit for reading by `change`.
    fn read(
        &self,
        unit: u32,
        line: &Descriptor,
        change: impl Fn(Own) -> Result<Own, Refused>,
    ) -> Result<Grant, LeaseError> {
        loop {
            let own = judged(line)?;
            let changed = match change(own) {
                Ok(changed) => changed,
                Err(Refused::HeldHere) => match self.join(unit, line)? {
                    Some(grant) => return Ok(grant),
                    None => continue,
                },
                Err(refused) => return Err(refusal(refused, line)),
            };
            if let Some(grant) = take(line, own, changed) {
                return Ok(grant);
            }
        }
    }

    /// Leases the unit for reading, waiting for it until `until`.
    ///
    /// # Errors
    /// [`LeaseError`].
    #[inline]
    pub fn shared(
        &self,
        unit: u32,
        line: &Descriptor,
        until: Deadline,
    ) -> Result<Grant, LeaseError> {
        let grant = match self.shared_at_once(line) {
            Some(grant) => grant,
            None => self.wait_shared(unit, line, until)?,
        };
        Ok(grant)
    }

    #[cold]
    #[inline(never)]
    fn wait_shared(
        &self,
        unit: u32,
        line: &Descriptor,
        until: Deadline,
    ) -> Result<Grant, LeaseError> {
        let mut turn = Turn::new(self.slot);
        loop {
            let own = judged(line)?;
            let refused = match turn.shared(own) {
                Ok(_) | Err(Refused::HeldHere) => {
                    match self.read(unit, line, |own| turn.shared(own)) {
                        Err(LeaseError::Busy(_)) => continue,
                        done => return done,
                    }
                }
                Err(refused) => refused,
            };
            self.await_turn(line, own, refused, &mut turn, until)?;
        }
    }

    /// Joins the threads of this process that read the unit. `None` where none does by now.
    #[cold]
    fn join(&self, unit: u32, line: &Descriptor) -> Result<Option<Grant>, LeaseError> {
        let mut crowds = lock(&self.crowds);
        loop {
            let own = judged(line)?;
            let joined = match own.join(self.slot) {
                Ok(joined) => joined,
                Err(Refused::NotHeld) => return Ok(None),
                Err(refused) => return Err(refusal(refused, line)),
            };
            // Where it is crowded already, this process's bit is cleared under its lock only.
            let marked = joined == own || exchange(line, own, joined);
            if marked || planted!("member.joins_without_mark") {
                let count = crowds.entry((unit, own.epoch().number())).or_insert(1);
                *count = count.saturating_add(1);
                return Ok(Some(granted(line, joined)));
            }
        }
    }

    /// Lets go of a unit that was leased for reading.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where it was taken away meanwhile: what was read since the last
    /// check may be of any version.
    #[inline]
    pub fn release_shared(
        &self,
        unit: u32,
        line: &Descriptor,
        grant: &Grant,
    ) -> Result<(), LeaseError> {
        // Mostly it is the word that made the grant.
        if !grant.own.is_crowded()
            && let Ok(changed) = grant.own.release_shared(self.slot, grant.epoch())
            && exchange(line, grant.own, changed)
        {
            self.after_release(line, grant.own, changed);
            return Ok(());
        }
        self.release_shared_beside_others(unit, line, *grant)
    }

    #[cold]
    #[inline(never)]
    fn release_shared_beside_others(
        &self,
        unit: u32,
        line: &Descriptor,
        grant: Grant,
    ) -> Result<(), LeaseError> {
        loop {
            let own = judged(line)?;
            if own.is_crowded() && !planted!("member.ignores_the_crowd") {
                return self.leave_crowd(unit, line, &grant);
            }
            let changed = own
                .release_shared(self.slot, grant.epoch())
                .map_err(|refused| refusal(refused, line))?;
            if exchange(line, own, changed) {
                self.after_release(line, own, changed);
                return Ok(());
            }
        }
    }

    #[cold]
    fn leave_crowd(&self, unit: u32, line: &Descriptor, grant: &Grant) -> Result<(), LeaseError> {
        let mut crowds = lock(&self.crowds);
        let key = (unit, grant.epoch().number());
        match crowds.get_mut(&key) {
            Some(count) if *count > 2 => *count -= 1,
            // The one that is left needs no count.
            Some(_) => drop(crowds.remove(&key)),
            // Under the lock: another thread must not join a bit that is being cleared.
            None => {
                let release = |own: Own| own.release_shared(self.slot, grant.epoch());
                return self.give_back(line, grant, release).map(drop);
            }
        }
        let own = judged(line)?;
        if own.is_shared_by(self.slot, grant.epoch()) {
            Ok(())
        } else {
            Err(LeaseError::Revoked)
        }
    }

    /// Leases the unit for writing, now or not at all.
    ///
    /// # Errors
    /// [`LeaseError`].
    #[inline]
    pub fn try_exclusive(&self, line: &Descriptor) -> Result<Grant, LeaseError> {
        let grant = match self.exclusive_at_once(line) {
            Some(grant) => grant,
            None => self.try_exclusive_after_others(line)?,
        };
        Ok(grant)
    }

    #[inline]
    fn exclusive_at_once(&self, line: &Descriptor) -> Option<Grant> {
        let own = Own::at_rest(line.own.load(Acquire))?;
        take_exclusive(line, own, own.grant_exclusive(self.slot).ok()?)
    }

    #[cold]
    #[inline(never)]
    fn try_exclusive_after_others(&self, line: &Descriptor) -> Result<Grant, LeaseError> {
        self.write(line, |own| {
            if planted!("member.jumps_the_queue") {
                return own.grant_exclusive_in_turn(self.slot);
            }
            own.grant_exclusive(self.slot)
        })
    }

    /// Leases the unit for writing, waiting for it until `until`.
    ///
    /// # Errors
    /// [`LeaseError`].
    #[inline]
    pub fn exclusive(&self, line: &Descriptor, until: Deadline) -> Result<Grant, LeaseError> {
        let grant = match self.exclusive_at_once(line) {
            Some(grant) => grant,
            None => self.wait_exclusive(line, until)?,
        };
        Ok(grant)
    }

    #[cold]
    #[inline(never)]
    fn wait_exclusive(&self, line: &Descriptor, until: Deadline) -> Result<Grant, LeaseError> {
        let mut turn = Turn::new(self.slot);
        loop {
            let own = judged(line)?;
            let refused = match turn.exclusive(own) {
                Ok(changed) => match take_exclusive(line, own, changed) {
                    Some(grant) => return Ok(grant),
                    None => continue,
                },
                Err(refused) => refused,
            };
            self.await_turn(line, own, refused, &mut turn, until)?;
        }
    }

    /// Sleeps, where the unit was refused while the word was `own`, and may be had later.
    fn await_turn(
        &self,
        line: &Descriptor,
        own: Own,
        refused: Refused,
        turn: &mut Turn,
        until: Deadline,
    ) -> Result<(), LeaseError> {
        if !refused.passes() {
            return Err(refusal(refused, line));
        }
        if until.expired() || self.wait.is_over() {
            // Not the recall of others, of one that never asked.
            if turn.has_asked() {
                self.end_recall(line)?;
            }
            return Err(LeaseError::TimedOut(refused));
        }
        let asks = turn.asks(own, refused);
        let asking = if asks { own.recalled() } else { own.awaited() };
        if self.sleep(line, own, asking, turn.sleeps_until(until)) {
            turn.announced(asking, asks);
        }
        Ok(())
    }

    /// Writes all of a unit anew whose contents are lost.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where it is not lost; [`LeaseError`].
    pub fn try_restore(&self, line: &Descriptor) -> Result<Grant, LeaseError> {
        // The daemon has noted which version was good, for this grant.
        self.write(line, |own| own.restore(self.slot))
    }

    /// Makes a lease for reading one for writing, where nobody else reads; else it stays as it is.
    ///
    /// # Errors
    /// [`LeaseError::Busy`] at once where others read: two that waited for each other would wait
    /// for ever. Let go, and lease it for writing.
    pub fn try_upgrade(&self, line: &Descriptor, grant: &Grant) -> Result<Grant, LeaseError> {
        self.write(line, |own| own.upgrade(self.slot, grant.epoch()))
    }

    /// Takes the unit for writing by `change`.
    fn write(
        &self,
        line: &Descriptor,
        change: impl Fn(Own) -> Result<Own, Refused>,
    ) -> Result<Grant, LeaseError> {
        loop {
            let own = judged(line)?;
            let changed = change(own).map_err(|refused| refusal(refused, line))?;
            if let Some(grant) = take_exclusive(line, own, changed) {
                return Ok(grant);
            }
        }
    }

    /// Stores the checksum of what this member has written, as the version that it is about to
    /// publish: by [`release_exclusive`](Self::release_exclusive), [`downgrade`](Self::downgrade)
    /// or [`hand_over`](Self::hand_over), and nothing is written in between. For domains that have
    /// checksums, where each change needs it; what was written is written back before.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where the unit was taken away meanwhile: publish nothing.
    pub fn set_sum(
        &self,
        line: &Descriptor,
        grant: &Grant,
        contents: Digest,
    ) -> Result<(), LeaseError> {
        let version = grant.version.wrapping_add(1);
        set_sum(line, self.slot, grant, contents.word(version))
    }

    /// Lets go of a unit that was leased for writing. Where `changed`, the caller has written back
    /// what it wrote, and the contents are published as the version this returns.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where it was taken away meanwhile: nothing was published.
    #[inline]
    pub fn release_exclusive(
        &self,
        line: &Descriptor,
        grant: &Grant,
        changed: bool,
    ) -> Result<u64, LeaseError> {
        // Mostly it is the word that made the grant.
        if !changed
            && let Ok(free) = grant.own.release_exclusive(self.slot, grant.epoch())
            && exchange(line, grant.own, free)
        {
            self.after_release(line, grant.own, free);
            return Ok(grant.version);
        }
        self.publish_and_release(line, *grant, changed)
    }

    #[inline(never)]
    fn publish_and_release(
        &self,
        line: &Descriptor,
        grant: Grant,
        changed: bool,
    ) -> Result<u64, LeaseError> {
        let grant = &grant;
        let release = |own: Own| {
            if planted!("member.releases_any_epoch") {
                return own.release_exclusive(self.slot, own.epoch());
            }
            own.release_exclusive(self.slot, grant.epoch())
        };
        if planted!("member.releases_before_version") {
            self.give_back(line, grant, release)?;
            return publish(line, self.slot, grant, changed);
        }
        let version = publish(line, self.slot, grant, changed)?;
        self.give_back(line, grant, release)?;
        Ok(version)
    }

    /// Makes a lease for writing one for reading, and publishes what was changed. Nobody else can
    /// write in between.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where it was taken away meanwhile: nothing was published.
    pub fn downgrade(
        &self,
        line: &Descriptor,
        grant: &Grant,
        changed: bool,
    ) -> Result<Grant, LeaseError> {
        let version = publish(line, self.slot, grant, changed)?;
        let downgrade = |own: Own| own.downgrade(self.slot, grant.epoch());
        let own = self.give_back(line, grant, downgrade)?;
        let backing = grant.backing;
        Ok(Grant {
            own,
            version,
            backing,
        })
    }

    /// Changes the word of a unit that is held by `grant`, and returns what it is then.
    #[inline]
    fn give_back(
        &self,
        line: &Descriptor,
        grant: &Grant,
        change: impl Fn(Own) -> Result<Own, Refused>,
    ) -> Result<Own, LeaseError> {
        // Mostly it is the word that made the grant.
        let mut own = grant.own;
        loop {
            let changed = change(own).map_err(|refused| refusal(refused, line))?;
            match exchange_or_see(line, own, changed) {
                Ok(()) => {
                    self.after_release(line, own, changed);
                    return Ok(changed);
                }
                Err(now) => own = Own::judge(now)?,
            }
        }
    }

    /// Gives up the contents of a unit that was leased for writing: they have half of a change, and
    /// nobody writes the other half. As if this member had died, those who ask are told the version
    /// that was published last.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`] where it was taken away meanwhile.
    pub fn abandon(&self, line: &Descriptor, grant: &Grant) -> Result<(), LeaseError> {
        // Whoever has lines of the contents cached is to drop them. That it is no publication says
        // `base`, which has the version of before.
        let version = publish(line, self.slot, grant, true)?;
        let own = line.base.load(Relaxed);
        if base::epoch(own) != grant.epoch() {
            return Err(LeaseError::Revoked);
        }
        // As the daemon notes it, for whoever restores the unit. A compare-exchange from the note
        // of this member's grant: the daemon has written another one where it fenced this member.
        let next = base::pack_lost(grant.epoch().after(), base::version(own, version));
        let left = line.base.compare_exchange(own, next, Release, Relaxed);
        left.map_err(|_| LeaseError::Revoked)?;
        let abandon = |own: Own| own.abandon(self.slot, grant.epoch());
        self.give_back(line, grant, abandon).map(drop)
    }

    /// Whether the lease stands: asked before and after each access to the contents.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`], [`LeaseError::Corrupt`].
    #[inline]
    pub fn check_shared(&self, line: &Descriptor, grant: &Grant) -> Result<(), LeaseError> {
        self.check(line, grant, |own| {
            own.is_shared_by(self.slot, grant.epoch())
        })
    }

    /// Whether the lease stands: asked before and after each access to the contents.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`], [`LeaseError::Corrupt`].
    #[inline]
    pub fn check_exclusive(&self, line: &Descriptor, grant: &Grant) -> Result<(), LeaseError> {
        self.check(line, grant, |own| {
            own.is_exclusive_of(self.slot, grant.epoch())
        })
    }

    #[inline]
    fn check(
        &self,
        line: &Descriptor,
        grant: &Grant,
        stands: impl Fn(Own) -> bool,
    ) -> Result<(), LeaseError> {
        // Acquire, as in `judged`. Mostly it is the word that made the grant.
        let word = line.own.load(Acquire);
        if word == grant.own.word() || stands(Own::judge(word)?) {
            Ok(())
        } else {
            Err(LeaseError::Revoked)
        }
    }

    /// Says by the word `asking` that it sleeps, looks once more, and sleeps where the word is the
    /// same. It may return early; false where it could not say so, for the word was another.
    fn sleep(&self, line: &Descriptor, own: Own, asking: Own, until: Deadline) -> bool {
        if planted!("wait.unannounced") {
            let seen = line.event.load(Acquire);
            self.wait.wait(&line.event, seen, until);
            return true;
        }
        if own != asking && !exchange(line, own, asking) {
            return false;
        }
        crash_point!("lease.wait_announced");
        // Acquire pairs with the release in `wake`: whoever sees the event moved sees the word that
        // it was moved for. The word is read after the event, and not before.
        let mut seen = line.event.load(Acquire);
        if line.own.load(Acquire) != asking.word() && !planted!("wait.without_second_look") {
            return true;
        }
        if planted!("wait.event_read_late") {
            seen = line.event.load(Acquire);
        }
        self.wait.wait(&line.event, seen, until);
        true
    }

    /// Who has asked and gives up lets others in again; those who have asked as well ask anew when
    /// they are woken.
    #[cold]
    fn end_recall(&self, line: &Descriptor) -> Result<(), LeaseError> {
        loop {
            let own = judged(line)?;
            if !own.is_recalled() {
                return Ok(());
            }
            if exchange(line, own, own.recall_ended()) {
                self.after_release(line, own, own.recall_ended());
                return Ok(());
            }
        }
    }

    /// Wakes those who slept, where the change took their mark away.
    #[inline]
    fn after_release(&self, line: &Descriptor, before: Own, after: Own) {
        if before.has_waiters() && !after.has_waiters() {
            if planted!("member.downgrades_silently") && after.state() == State::Shared {
                return;
            }
            crash_point!("lease.released_not_woken");
            wake(line, &self.wait);
        }
    }
}
