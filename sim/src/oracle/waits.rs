//! How long the daemon of a host waits for what time brings, by the clock of that host.
//!
//! The time is the daemon's own: the latest that it was told in its life, for where the clock steps
//! back it goes on from there.
//!
//! # Rules
//! - *a wait is as long as it was to be*: what it waits for is due within what the constants of its
//!   kind say, counted from the latest that its clock has said in this boot; and not before:
//!   - descriptors that are missed after a start are awaited for the whole grace;
//!   - burst memory is revoked when its holders have had the whole deadline since they were asked;
//!   - who waits for memory is refused for want of it no earlier than it said;
//!   - a member is evicted who has held a unit at every look for the recall time, or written one at
//!     every pass for as long; or where members have written it by turns for three times that.

use std::collections::BTreeMap;

use coherence::Slot;
use pool_core::{Nanos, SegmentId};
use pool_daemon::engine::command::{Command, Written};
use pool_proto::journal::v1::SegmentRow;

use crate::broken::{Checked, holds};

const RULE: &str = "a wait is as long as it was to be";
/// Recall times for which members may write a unit by turns.
const TURNS: u64 = 3;

/// A request that waits for memory.
#[derive(Debug, Clone, Copy)]
struct Asked {
    request: u64,
    until: Nanos,
    /// It was not answered at once.
    waits: bool,
}

/// Since when a unit is seen to be held, by whom, without an end in between.
type Since = BTreeMap<Slot, Nanos>;

/// See the module. Of one life of a daemon.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// The latest that the daemon was told.
    now: Nanos,
    /// Since when descriptors are awaited.
    grace_from: Option<Nanos>,
    /// When holders of burst memory of a tier were asked for it last, and the time before.
    asked_back: BTreeMap<String, (Nanos, Option<Nanos>)>,
    asked: BTreeMap<u64, Asked>,
    looks: BTreeMap<(SegmentId, u32), Since>,
    passes: BTreeMap<(SegmentId, u32), (Nanos, Since)>,
}

impl Waits {
    /// The daemon's time, where the clock of its host says `now`.
    pub(crate) fn time(&mut self, now: Nanos) -> Nanos {
        self.now = self.now.max(now);
        self.now
    }

    /// The daemon awaits descriptors after a step, or does not.
    pub(crate) fn awaits(&mut self, now: Nanos, is_awaiting: bool, grace: Nanos) -> Checked {
        match (self.grace_from, is_awaiting) {
            (None, true) => self.grace_from = Some(now),
            (Some(from), false) => {
                self.grace_from = None;
                let due = from.saturating_add(grace);
                return holds(now >= due, RULE, || {
                    format!("descriptors are awaited from {from:?} to {now:?}, not to {due:?}")
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Holders of burst memory of a tier are asked to give some back.
    pub(crate) fn asks_back(&mut self, now: Nanos, tier: &str) {
        let before = self.asked_back.get(tier).map(|(last, _)| *last);
        self.asked_back.insert(tier.to_owned(), (now, before));
    }

    /// Burst memory of a tier is revoked.
    pub(crate) fn revokes(&self, now: Nanos, tier: &str, deadline: Nanos) -> Checked {
        let asked = self.asked_back.get(tier).copied();
        // A step that revokes for some may have asked for others just before.
        let told = asked.and_then(|(last, before)| if last == now { before } else { Some(last) });
        let is_due = told.is_some_and(|at| at.saturating_add(deadline) <= now);
        holds(is_due, RULE, || {
            format!("memory of {tier} is revoked at {now:?}, and was asked back at {asked:?}")
        })
    }

    /// A client asks for memory, for which it waits so long; one that repeats what it waits for has
    /// asked before.
    pub(crate) fn asks(&mut self, now: Nanos, (client, request): (u64, u64), millis: u64) {
        let until = now.saturating_add(Nanos::from_millis(millis));
        let asked = self.asked.entry(client).or_insert(Asked {
            request,
            until,
            waits: false,
        });
        if asked.request != request {
            *asked = Asked {
                request,
                until,
                waits: false,
            };
        }
    }

    /// The step in which a client asked is over.
    pub(crate) fn has_asked(&mut self, client: u64) {
        if let Some(asked) = self.asked.get_mut(&client) {
            asked.waits = true;
        }
    }

    /// A client is answered; for want of memory or not.
    pub(crate) fn answered(
        &mut self,
        now: Nanos,
        (client, request): (u64, u64),
        is_full: bool,
    ) -> Checked {
        let asked = self.asked.remove(&client);
        let early =
            asked.filter(|it| it.request == request && it.waits && is_full && now < it.until);
        holds(early.is_none(), RULE, || {
            format!("client {client} is refused at {now:?}: {early:?}")
        })
    }

    /// What the daemon is told of the units of domains.
    pub(crate) fn hears(&mut self, now: Nanos, command: &Command) {
        match command {
            Command::Looked {
                segment,
                unit,
                seen,
            } => {
                let holders = seen.map_or(0, |seen| seen.holders);
                let before = self.looks.remove(&(*segment, *unit)).unwrap_or_default();
                let held = Slot::members().filter(|slot| holders & slot.bit() != 0);
                let since = held.map(|slot| (slot, before.get(&slot).copied().unwrap_or(now)));
                self.looks.insert((*segment, *unit), since.collect());
            }
            Command::Held {
                segment, written, ..
            } => self.passed(now, *segment, written),
            _ => {}
        }
    }

    fn passed(&mut self, now: Nanos, segment: SegmentId, written: &[Written]) {
        let all = (segment, 0)..=(segment, u32::MAX);
        let before: BTreeMap<_, _> = self
            .passes
            .range(all)
            .map(|(key, passes)| (*key, passes.clone()))
            .collect();
        self.passes.retain(|(of, _), _| *of != segment);
        for found in written {
            let key = (segment, found.unit);
            let known = before.get(&key);
            let from = known.map_or(now, |(from, _)| *from);
            let since = known.and_then(|(_, since)| since.get(&found.slot).copied());
            let (_, slots) = self.passes.entry(key).or_insert((from, Since::new()));
            slots.insert(found.slot, since.unwrap_or(now));
        }
    }

    /// A look at a unit has somebody evicted from a domain.
    pub(crate) fn evicts_at_a_look(
        &self,
        now: Nanos,
        unit: (SegmentId, u32),
        recall: Nanos,
    ) -> Checked {
        let since = self.looks.get(&unit);
        let mut held = since.into_iter().flat_map(BTreeMap::values);
        let is_due = held.any(|since| since.saturating_add(recall) <= now);
        holds(is_due, RULE, || {
            format!("somebody is evicted for {unit:?} at {now:?}: {since:?}")
        })
    }

    /// Members in some slots are evicted from a domain: those that are new among them.
    pub(crate) fn evicts(
        &self,
        now: Nanos,
        (segment, row): (SegmentId, &SegmentRow),
        recall: Nanos,
    ) -> Checked {
        let slots = row.eviction.as_ref().map_or(0, |eviction| eviction.slots);
        let holders = row.holders.iter().filter_map(|holder| {
            let slot = u8::try_from(holder.slot).ok().and_then(Slot::new);
            slot.filter(|slot| slots & slot.bit() != 0)
        });
        let is_long = |since: &Nanos, times: u64| {
            since.saturating_add(Nanos::new(recall.get() * times)) <= now
        };
        let all = || (segment, 0)..=(segment, u32::MAX);
        for slot in holders {
            let mut looks = self.looks.range(all()).map(|(_, since)| since);
            let held = looks.any(|since| since.get(&slot).is_some_and(|since| is_long(since, 1)));
            let mut passes = self.passes.range(all()).map(|(_, passes)| passes);
            let wrote = passes.any(|(from, since)| {
                let its = since.get(&slot);
                its.is_some_and(|its| is_long(its, 1) || is_long(from, TURNS))
            });
            holds(held || wrote, RULE, || {
                format!("{slot} of {segment} is evicted at {now:?}: {self:?}")
            })?;
        }
        Ok(())
    }
}
