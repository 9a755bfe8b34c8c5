//! Units that somebody waits for, and whose holders are watched.
//!
//! A member that has waited for a unit for the recall time of its domain says so. Nothing of that
//! is believed: the world looks at the unit's word. Who holds it is told, and the word is looked
//! at again, a few times within the recall time. What the same holder holds in the same epoch at
//! each look, and at the end, it does not let go: it is evicted, see `evict.rs`.
//!
//! Of a unit that is read the epoch says little: who lets go and comes again is in the same one.
//! It counts only while the unit is recalled, when nobody new is let in. Between two looks the
//! recall may have been taken back and made anew, so a reader may have been away for a moment: it
//! was there at each of the looks, and was told at the first.
//!
//! Who waits says so in the word, unless it can only ask the daemon: what nobody is said to wait
//! for at a look is recalled by nobody.
//!
//! A unit that is free and recalled, by somebody that does not come, keeps out whoever leases by
//! requests: members that change the word themselves mind a recall for one cap of their wait, and
//! the daemon does not wait. So where a second look, more than a cap later, finds it left so, the
//! recall is ended for all. One that has asked and lives asks again.
//!
//! What is held in a slot of nobody who could be evicted is taken back, see `take_back.rs`. Slots
//! are had by one after the other: what is known of a slot is forgotten when somebody gets it.
//!
//! # Invariants
//! 1. A domain has at most [`DOMAIN_RECALLS_MAX`] recalls, one a unit; who asks for one that is
//!    there adds nothing.
//! 2. A recall ends with the first look that finds the unit let go, or with an eviction. So each
//!    ends by itself, at the latest a recall time after its first look.
//! 3. Nobody is evicted whom no look but the first has found.

use std::collections::BTreeMap;

use coherence::{Slot, WAIT_CAP};
use pool_core::limits::{DOMAIN_RECALLS_MAX, RECALL_MS_DEFAULT};
use pool_core::{ClientId, Nanos, SegmentId, planted};
use pool_proto::common::v1::{Access, Coherence};
use pool_proto::session::v1::{self as session, event};

use super::command::Seen;
use super::domain::Domain;
use super::effect::Action;
use super::{Engine, Refusal};

/// Looks at a unit within a recall time, after the first.
const LOOKS: u64 = 4;

/// A unit that somebody waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recall {
    /// Who held it at each look, and since when; `None` before the first.
    seen: Option<Seen>,
    /// The look that is next, unless it is under way.
    look_at: Option<Nanos>,
    /// Whoever holds it then is evicted.
    until: Nanos,
    /// None that asked may write: whoever else reads is not in its way.
    reads_only: bool,
    /// The slot of who asked, where there is one such: a process that waits for itself has to mend
    /// that itself.
    asker: u32,
}

/// The recalls of a domain, by their units.
pub(super) type Recalls = BTreeMap<u32, Recall>;

/// The recall time of a domain. A row of before there was any has none.
pub(super) fn time_of(terms: &Coherence) -> Nanos {
    let millis = match terms.recall_ms {
        0 => RECALL_MS_DEFAULT,
        millis => millis,
    };
    Nanos::from_millis(u64::from(millis))
}

/// From one look at a unit to the next, at most.
pub(super) fn longest_pause(recall_time: Nanos) -> Nanos {
    pause(recall_time).max(WAIT_CAP.saturating_add(WAIT_CAP))
}

/// From one look to the next at who holds a unit.
fn pause(recall_time: Nanos) -> Nanos {
    Nanos::new(recall_time.get() / LOOKS)
}

/// When the next look of a domain is due.
pub(super) fn next_look(recalls: &Recalls) -> Option<Nanos> {
    recalls.values().filter_map(|recall| recall.look_at).min()
}

impl Recall {
    /// Somebody asks who asked before, or somebody else does.
    const fn join(&mut self, asker: u32, reads_only: bool) {
        self.asker &= asker;
        self.reads_only &= reads_only;
    }

    /// Somebody else has the slot from now on.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.asker &= !slot.bit();
        if let Some(seen) = &mut self.seen {
            seen.holders &= !slot.bit();
        }
    }

    /// Takes a look into account: who has held the unit since the first one, and is in the way,
    /// but for the slots that are `excused`.
    fn held_since(&self, now: Seen, excused: u32) -> u32 {
        let is_waited_for = self.reads_only || now.is_recalled || now.is_awaited;
        let in_the_way = is_waited_for && (now.writes || (now.is_recalled && !self.reads_only));
        let others = now.holders & !(excused | self.asker);
        let holders = if in_the_way { others } else { 0 };
        match self.seen {
            None => holders,
            Some(then) if (then.epoch, then.writes) == (now.epoch, now.writes) => {
                then.holders & holders
            }
            Some(_) => 0,
        }
    }
}

impl Engine {
    /// A member has waited for a unit.
    pub(super) fn recall(
        &mut self,
        client: ClientId,
        request_id: u64,
        ask: &session::Recall,
    ) -> Result<(), Refusal> {
        let id = self.held(client, ask.segment_id)?;
        let segment = self.segment(id)?;
        let domain = segment.domain.as_ref();
        let domain = domain.ok_or_else(|| Refusal::not_found("domain", ask.segment_id))?;
        if ask.unit >= domain.layout.units() {
            return Err(Refusal::not_found("unit", ask.unit));
        }
        let reads_only = segment.holders.get(&client) == Some(&Access::ReadOnly);
        let asker = domain.slots.get(&client).map_or(0, |slot| slot.bit());
        if self.may_recall(id, domain, ask.unit)? {
            self.begin_recall(id, ask.unit, asker, reads_only);
        }
        self.done(client, request_id);
        Ok(())
    }

    /// Whether there is something to be done.
    fn may_recall(&self, id: SegmentId, domain: &Domain, unit: u32) -> Result<bool, Refusal> {
        let rests = domain.eviction.is_some() || self.now < domain.rests_until;
        if rests || !domain.is_ready() || self.all_present(id).is_err() {
            return Ok(false); // It asks again, where it still waits.
        }
        if domain.recalls.contains_key(&unit) || domain.recalls.len() < DOMAIN_RECALLS_MAX {
            return Ok(true);
        }
        Err(Refusal::Limit {
            what: "units of one domain that are recalled at once",
            limit: DOMAIN_RECALLS_MAX as u64,
        })
    }

    fn begin_recall(&mut self, id: SegmentId, unit: u32, asker: u32, reads_only: bool) {
        let now = self.now;
        let Some(domain) = self.domain_mut(id) else {
            return;
        };
        let fresh = Recall {
            seen: None,
            look_at: Some(now),
            until: now,
            reads_only,
            asker,
        };
        let recall = domain.recalls.entry(unit).or_insert(fresh);
        recall.join(asker, reads_only);
        self.tended.insert(id);
    }

    /// Has the units looked at that are due.
    pub(super) fn look_at_recalled(&mut self, id: SegmentId) {
        let now = self.now;
        let segment = self.segments.get_mut(&id);
        let segment = segment.and_then(|s| Some((s.backings.first().copied()?, &mut s.domain)));
        let Some((directory, Some(domain))) = segment else {
            return;
        };
        let due = domain.recalls.iter_mut();
        let due = due.filter(|(_, recall)| recall.look_at.is_some_and(|at| at <= now));
        for (&unit, recall) in due {
            recall.look_at = None;
            self.actions.push(Action::Look {
                segment: id,
                directory,
                unit,
            });
        }
    }

    /// The world has looked at a unit.
    pub(super) fn looked(&mut self, id: SegmentId, unit: u32, seen: Option<Seen>) {
        let now = self.now;
        let Some(domain) = self.domain_mut(id) else {
            return;
        };
        let (time, excused) = (time_of(&domain.terms), domain.held_by_the_daemon());
        let Some(recall) = domain.recalls.get_mut(&unit) else {
            return;
        };
        if let Some(seen) = seen.filter(|seen| seen.holders == 0) {
            return self.left_free(id, unit, seen);
        }
        let is_first = recall.seen.is_none();
        let held = seen.map_or(0, |seen| recall.held_since(seen, excused));
        let Some(seen) = seen.filter(|_| held != 0) else {
            domain.recalls.remove(&unit);
            return;
        };
        if is_first {
            let time = match planted!("recall.evicts_at_the_second_look") {
                true => pause(time),
                false => time,
            };
            recall.until = now.saturating_add(time);
        }
        recall.seen = Some(Seen {
            holders: held,
            ..seen
        });
        if now < recall.until {
            recall.look_at = Some(now.saturating_add(pause(time)).min(recall.until));
            if is_first {
                self.tell_recalled(id, unit, held, time);
            }
            return;
        }
        domain.recalls.remove(&unit);
        let evicted = domain.take_back(held);
        if evicted != held {
            self.to_recover.insert(id);
        }
        if evicted != 0 {
            self.begin_eviction(id, evicted);
        }
    }

    /// Whoever has recalled a unit leaves it free.
    fn left_free(&mut self, id: SegmentId, unit: u32, seen: Seen) {
        let look_at = self.now.saturating_add(WAIT_CAP).saturating_add(WAIT_CAP);
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        let directory = segment.backings.first().copied();
        let Some((domain, directory)) = segment.domain.as_mut().zip(directory) else {
            return;
        };
        let Some(recall) = domain.recalls.get_mut(&unit) else {
            return;
        };
        if recall.seen.is_none() {
            (recall.seen, recall.look_at) = (Some(seen), Some(look_at));
        } else if domain
            .recalls
            .remove(&unit)
            .is_some_and(|recall| recall.seen == Some(seen))
        {
            self.actions.push(Action::EndRecall { directory, unit });
        }
    }

    /// Tells the clients at some slots that a unit is to be let go of.
    pub(super) fn tell_recalled(&mut self, id: SegmentId, unit: u32, slots: u32, within: Nanos) {
        let recalled = session::Recalled {
            segment_id: id.number(),
            unit,
            within_ms: within.get() / 1_000_000,
        };
        for client in self.clients_at(id, slots) {
            self.tell(client, event::Body::Recalled(recalled));
        }
    }

    /// Who has these slots of a domain.
    pub(super) fn clients_at(&self, id: SegmentId, slots: u32) -> Vec<ClientId> {
        let domain = self.segments.get(&id).and_then(|s| s.domain.as_ref());
        let members = domain.into_iter().flat_map(|domain| &domain.slots);
        let meant = members.filter(|(_, slot)| slots & slot.bit() != 0);
        meant.map(|(client, _)| *client).collect()
    }
}
