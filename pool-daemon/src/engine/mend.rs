//! Recovering what was held in slots that nobody has any more, and all else that is due in domains.
//!
//! Slots that were left are recovered by the world, a domain at a time, and are free then. Where a
//! recovery meets words that change all the time it is tried again after a pause; where it meets
//! words that are none, the slots are stuck. See `domain.rs` for the way of a slot.

use coherence::recover::RecoverError;
use pool_core::{Nanos, SegmentId};
use pool_proto::common::v1::OnDeath;

use super::command::{Recovered, Unrecovered};
use super::domain::Domain;
use super::effect::{Action, Recovery};
use super::segment::Stage;
use super::{Engine, recall};

/// Before a recovery is tried again that others were in the way of.
pub(super) const RETRY_PAUSE: Nanos = Nanos::from_millis(200);

/// A recovery that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recovering {
    /// Slots that are free when it is done.
    pub(super) slots: u32,
    /// Of those that an eviction has left, these.
    pub(super) ended_eviction: u32,
    /// Slots that no member has, from which something is taken back.
    pub(super) taken_back: u32,
}

impl Recovering {
    /// Every slot from which it takes what is held.
    pub(super) const fn all(self) -> u32 {
        self.slots | self.ended_eviction | self.taken_back
    }

    /// Whoever it takes from has left in order: those at the slots `gone` did not, and members that
    /// were evicted, and whoever forges words, may leave sleepers and units handed to nobody.
    const fn is_in_order(self, gone: u32) -> bool {
        (self.ended_eviction | self.taken_back | gone & self.slots) == 0
    }
}

impl Engine {
    /// What every life begins with: no domain is answered of before it is recovered.
    pub(super) fn begin_domains(&mut self) {
        let domains = self.segments.values().filter(|s| s.domain.is_some());
        self.domains = domains.map(|segment| segment.id).collect();
        for &segment in &self.domains {
            let domain = self.domain(segment).into_iter();
            let departed = domain.flat_map(|domain| &domain.departed);
            let awaited = departed.map(|(&slot, departed)| Action::AwaitEnd {
                segment,
                slot,
                process: departed.process,
            });
            let awaited: Vec<_> = awaited.collect();
            self.actions.extend(awaited);
        }
        self.tended.clone_from(&self.domains);
        self.to_recover.clone_from(&self.domains);
        self.recover_slots();
    }

    /// Has slots recovered that were left (invariant 3).
    pub(super) fn recover_slots(&mut self) {
        let now = self.now;
        for id in std::mem::take(&mut self.to_recover) {
            let live = |s: &&super::Segment| s.stage == Stage::Live;
            let directory = self.segments.get(&id).filter(live);
            let directory = directory.and_then(|s| s.backings.first().copied());
            let directory = directory.filter(|file| self.is_present(*file));
            // What is judged by its contents has to be there.
            let reads = self.domain(id).is_some_and(|d| d.terms.checksums);
            let directory = directory.filter(|_| !reads || self.all_present(id).is_ok());
            let incarnation = self.segments.get(&id).map(|s| s.incarnation);
            let place = directory.zip(incarnation);
            let Some((domain, (directory, incarnation))) = self.domain_mut(id).zip(place) else {
                continue; // Looked at again when the descriptor is brought back.
            };
            let (slots, ended_eviction) = (domain.recoverable(), domain.ended_eviction);
            let anyway = slots | ended_eviction != 0 || !domain.ready;
            let taken_back = domain.taken_back(anyway);
            let nothing = !anyway && taken_back == 0;
            if nothing || !domain.is_at_rest() || domain.retry_at.is_some() {
                continue;
            }
            let recovering = Recovering {
                slots,
                ended_eviction,
                taken_back,
            };
            domain.recovering = Some(recovering);
            if taken_back != 0 {
                let pause = recall::time_of(&domain.terms);
                domain.takes_back_at = Some(now.saturating_add(pause));
            }
            let recovery = Recovery {
                segment: id,
                directory,
                layout: domain.layout,
                checks: domain.terms.checksums,
                keeps: domain.terms.on_death() == OnDeath::Keep,
                slots: recovering.all(),
                cut_off: domain.cut_off,
                members: domain.members(),
                contents_in: (ended_eviction != 0).then_some(incarnation),
                settles: domain.eviction.is_none(),
                in_order: domain.ready && recovering.is_in_order(domain.gone),
            };
            self.actions.push(Action::Recover(recovery));
            if taken_back != 0 {
                self.tended.insert(id);
            }
        }
    }

    /// All that was held in the slots of a recovery is held no more, or some of it cannot be told.
    pub(super) fn recovered(&mut self, id: SegmentId, result: Result<Recovered, Unrecovered>) {
        let again = self.now.saturating_add(RETRY_PAUSE);
        let Some(domain) = self.domain_mut(id) else {
            return;
        };
        let Some(recovering) = domain.recovering.take() else {
            return;
        };
        let Recovering {
            slots,
            ended_eviction,
            taken_back,
        } = recovering;
        domain.ready = true;
        let found = match result {
            Err(Unrecovered {
                reason: RecoverError::Contended | RecoverError::Undecided,
                ..
            }) => {
                domain.retry_at = Some(again);
                self.tended.insert(id);
                self.to_recover.insert(id);
                return;
            }
            found => found,
        };
        let mut is_forgotten = false;
        match &found {
            Ok(_) => {
                is_forgotten = domain.forget_ended(slots);
                domain.left &= !slots;
                domain.gone &= !slots;
                domain.cut_off &= !slots;
                // What was to be taken back here is, whenever that was found: the slot is free, and
                // what is held in it from now on is the next one's.
                domain.to_take_back &= !slots;
            }
            Err(_) => domain.stuck |= slots,
        }
        domain.ended_eviction &= !ended_eviction;
        domain.to_take_back &= !taken_back;
        self.to_recover.insert(id);
        if ended_eviction != 0 || is_forgotten {
            self.touch_segment(id);
        }
        match found {
            Ok(found) if found == Recovered::default() => {}
            Ok(found) => self.publish_segment("domain-recovered", id, found.to_string()),
            Err(stuck) => self.publish_segment("domain-corrupt", id, stuck.to_string()),
        }
    }

    /// Does in domains what time has brought.
    pub(super) fn tend_domains(&mut self) {
        for id in self.tended.clone() {
            let now = self.now;
            if let Some(domain) = self.domain_mut(id)
                && (domain.retry_at.take_if(|at| *at <= now).is_some() | domain.may_take_back(now))
            {
                self.to_recover.insert(id);
            }
            self.look_at_recalled(id);
            self.tend_eviction(id);
            let rests = |domain: &Domain| {
                let waits = domain.retry_at.is_some() || domain.takes_back_at.is_some();
                domain.eviction.is_none() && domain.recalls.is_empty() && !waits
            };
            if self.domain(id).is_none_or(rests) {
                self.tended.remove(&id);
            }
        }
    }
}
