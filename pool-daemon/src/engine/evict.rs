//! Evicting members that live and do not let go of what others wait for.
//!
//! What such a member has mapped cannot be taken from it. So the contents move to files that it
//! never had, as where a share is taken back (`relocate.rs`), but under the hands of the other
//! members: the daemon takes every unit first, see [`coherence::evict`]. The directory stays where
//! it is.
//!
//! # Protocol
//! 1. Files for the payload are built. Where there is no room for them nothing has been changed.
//! 2. Every unit is held, in as many passes as it takes. Who writes one is told to let go; who
//!    writes the same one in the same epoch a recall time later is evicted as well, and so is who
//!    writes it where it was found written, by whomever, for three recall times.
//! 3. The eviction is journaled, with who is evicted. From then on there is no way back for those.
//! 4. What they write is fenced, in a further pass, which may find new writers as well.
//! 5. The contents are copied.
//! 6. The new files become the segment, those who are evicted are no members any more, and the old
//!    files are in quarantine, all in one commit. The others are told to map the new files.
//! 7. Each unit is said to have its contents there, what the evicted held is recovered, and the
//!    daemon lets go. When that is done the eviction is journaled no more.
//!
//! # Why the daemon may die between any two
//! Before 3 nothing but its own holds is left, which every life takes away first. From 3 to 6 the
//! segment is the old one: units that are fenced are not judged, for their writers may live, and
//! the eviction begins anew. After 6 it is the new one, and 7 is done again: each of its steps does
//! nothing where it was done.
//!
//! # Whose files and slots
//! The old files are charged to a tenant that loses its hold on them, where it has room, until they
//! are proven gone. The slot of who is evicted is left, and given to nobody before its process has
//! ended: until then it could let go, late, of what the next one in its slot holds.
//!
//! # Whoever is evicted and goes on
//! The directory is still mapped there, so it can take words until its process ends: by mischief,
//! or because it has not heard yet. It never had the files where the contents are by now. So what
//! is held in its slot is taken back where somebody waits for it, in place, and is as whole as it
//! was.
//!
//! # Invariants
//! 1. A domain has at most one eviction, and a job for as long as the new files are not the
//!    segment.
//! 2. Nobody gets a slot that is to be evicted, or whose units are not recovered yet.
//! 3. There is at most one of a recovery, a pass and a copy at a time.
//! 4. A unit that is fenced because its writer is evicted is judged only after the copy.

use std::collections::BTreeMap;

use coherence::Slot;
use pool_core::{Extents, Incarnation, Nanos, SegmentId, TenantId, planted};
use pool_proto::common::v1::Lifetime;
use pool_proto::journal::v1 as row;
use pool_proto::session::v1::{self as session, event};

use super::carve::Spread;
use super::command::Written;
use super::domain::Domain;
use super::effect::{Action, Hold};
use super::job::{Job, Purpose};
use super::{Engine, Refusal, recall};

/// Recall times for which members may write a unit by turns before one of them is cut off.
const TURNS_MAX: u64 = 3;
/// Between two passes over the units of a domain.
const PASS_PAUSE: Nanos = Nanos::from_millis(20);
/// Before what failed is tried again.
pub(super) const FAILURE_PAUSE: Nanos = Nanos::from_millis(1_000);

/// Members that are to be no members any more.
#[derive(Debug, Clone)]
pub(super) struct Eviction {
    /// Which: a bit a slot.
    pub(super) slots: u32,
    /// What they write may be fenced: it is journaled.
    pub(super) fences: bool,
    stage: Stage,
    /// Units that others write, by their numbers.
    written: BTreeMap<u32, Writing>,
}

/// A unit that one writes who is not to be evicted.
#[derive(Debug, Clone, Copy)]
struct Writing {
    by: Written,
    /// How long that one may.
    until: Nanos,
    /// How long others may after it. Members that hand a unit to each other could go on for ever.
    last: Nanos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next step is due: a pass where the files are there, else these.
    Due(Nanos),
    Building,
    Passing,
    Copying,
}

impl Eviction {
    const fn new(slots: u32, fences: bool) -> Self {
        Self {
            slots,
            fences,
            stage: Stage::Due(Nanos::ZERO),
            written: BTreeMap::new(),
        }
    }

    pub(super) fn is_passing(&self) -> bool {
        self.stage == Stage::Passing
    }

    /// The words are gone through, or are to stay as they are: what a pass has set aside must not
    /// be given back beside the copy.
    pub(super) fn needs_the_words(&self) -> bool {
        matches!(self.stage, Stage::Passing | Stage::Copying)
    }

    /// When its next step is due.
    pub(super) const fn due_at(&self) -> Option<Nanos> {
        match self.stage {
            Stage::Due(at) => Some(at),
            _ => None,
        }
    }

    /// Takes the outcome of a pass: the units that are found written for the first time. Who has
    /// written one for too long is to be evicted as well.
    fn take(&mut self, found: &[Written], now: Nanos, patience: Nanos) -> Vec<Written> {
        let before = std::mem::take(&mut self.written);
        let mut fresh = Vec::new();
        for &written in found {
            let known = before.get(&written.unit);
            let same = known.filter(|known| known.by == written);
            let until = same.map_or_else(|| now.saturating_add(patience), |known| known.until);
            let all = Nanos::new(patience.get().saturating_mul(TURNS_MAX));
            let last = known.map_or_else(|| now.saturating_add(all), |known| known.last);
            if until.min(last) <= now {
                self.slots |= written.slot.bit();
                continue;
            }
            if same.is_none() {
                fresh.push(written);
            }
            let by = written;
            self.written.insert(by.unit, Writing { by, until, last });
        }
        fresh
    }
}

impl Domain {
    /// What the journal keeps of an eviction.
    pub(super) fn eviction_row(&self) -> Option<row::EvictionRow> {
        let begun = self.eviction.as_ref().filter(|eviction| eviction.fences);
        let begun = begun.map(|eviction| (eviction.slots, false));
        let over = (self.ended_eviction != 0).then_some((self.ended_eviction, true));
        let (slots, ended) = begun.or(over)?;
        Some(row::EvictionRow { slots, ended })
    }

    /// Takes an eviction up that an earlier life has begun.
    pub(super) fn resume_eviction(&mut self, begun: row::EvictionRow) {
        if begun.ended {
            self.ended_eviction = begun.slots;
        } else {
            self.eviction = Some(Eviction::new(begun.slots, true));
        }
    }

    /// Nobody of those is left who are to be evicted, and so nobody who could still write.
    fn has_nobody_to_evict(&self, eviction: &Eviction) -> bool {
        eviction.slots & self.evictable() == 0
    }
}

impl Engine {
    /// Whether members are being evicted from a domain.
    #[must_use]
    pub fn evicts_from(&self, segment: SegmentId) -> bool {
        let domain = self.segments.get(&segment).and_then(|s| s.domain.as_ref());
        domain.is_some_and(|domain| domain.eviction.is_some())
    }

    /// Begins to evict who is at some slots, or evicts them along with others.
    pub(super) fn begin_eviction(&mut self, id: SegmentId, slots: u32) {
        let now = self.now;
        let Some(domain) = self.domain_mut(id) else {
            return;
        };
        match &mut domain.eviction {
            Some(eviction) if eviction.fences => {}
            Some(eviction) => eviction.slots |= slots,
            None if now < domain.rests_until => {}
            None => domain.eviction = Some(Eviction::new(slots, false)),
        }
        self.tended.insert(id);
    }

    /// Takes the next step of an eviction, where it is due and nothing else is under way.
    pub(super) fn tend_eviction(&mut self, id: SegmentId) {
        let (now, has_job) = (self.now, self.jobs.contains_key(&id));
        let Some(domain) = self.domain_mut(id).filter(|domain| domain.may_pass()) else {
            return;
        };
        let Some(eviction) = &domain.eviction else {
            return;
        };
        if eviction.due_at().is_none_or(|at| now < at) {
            return;
        }
        if domain.has_nobody_to_evict(eviction) {
            return self.end_eviction(id);
        }
        if has_job {
            return self.pass(id);
        }
        if let Err(refusal) = self.build_for_eviction(id) {
            self.eviction_failed(id, &refusal);
        }
    }

    /// Gives every unit back: there is nobody to evict any more.
    fn end_eviction(&mut self, id: SegmentId) {
        if let Some(job) = self.jobs.remove(&id) {
            self.discard(&job.fresh);
        }
        self.let_units_go(id, |domain| domain.eviction = None);
    }

    /// It could not be done. What was fenced stays so until it can be.
    pub(super) fn eviction_failed(&mut self, id: SegmentId, why: &Refusal) {
        let again = self.now.saturating_add(FAILURE_PAUSE);
        let Some(domain) = self.domain_mut(id) else {
            return;
        };
        let Some(eviction) = domain.eviction.take() else {
            return;
        };
        domain.rests_until = again;
        if eviction.fences {
            let mut eviction = Eviction::new(eviction.slots, true);
            eviction.stage = Stage::Due(again);
            domain.eviction = Some(eviction);
        }
        self.publish_segment("eviction-failed", id, why.to_string());
        self.let_units_go(id, |_| {});
    }

    /// Has the daemon's own holds given back.
    fn let_units_go(&mut self, id: SegmentId, change: impl FnOnce(&mut Domain)) {
        if let Some(domain) = self.domain_mut(id) {
            domain.ended_eviction |= Slot::DAEMON.bit();
            change(domain);
            self.to_recover.insert(id);
            self.tended.insert(id);
            self.touch_segment(id);
        }
    }

    /// Asks for files of the size of the payload.
    fn build_for_eviction(&mut self, id: SegmentId) -> Result<(), Refusal> {
        self.not_busy(id)?;
        self.all_present(id)?;
        let segment = self.segment(id)?;
        let domain = segment.domain.as_ref();
        let payload = domain.and_then(|domain| Extents::holding(domain.layout.payload()));
        let extents = payload.ok_or(Refusal::Broken("a domain has no payload"))?;
        let (tier, piece_max) = (segment.tier, segment.piece_max);
        let payer = self.payer_of_eviction(id, extents)?;
        let layout = self.layout(&Spread {
            tenant: payer,
            tier,
            extents,
            piece_max,
            pieces_before: 1,
            apart: Extents::ZERO,
        })?;
        self.all_sealed(&layout)?;
        let fresh = self.carve(id, payer, layout)?;
        let job = Job {
            asker: None,
            purpose: Purpose::Evict,
            unbuilt: fresh.len(),
            fresh,
            failure: None,
        };
        self.set_stage(id, Stage::Building);
        self.start_job(id, job, true);
        Ok(())
    }

    /// Who pays for the new files while they are filled, and then for the old ones: a tenant that
    /// is evicted, where it has room. Otherwise the owner must have.
    fn payer_of_eviction(&self, id: SegmentId, extents: Extents) -> Result<TenantId, Refusal> {
        let segment = self.segment(id)?;
        let (owner, tier) = (segment.tenant, segment.tier);
        let eviction = segment.domain.as_ref().and_then(|d| d.eviction.as_ref());
        let slots = eviction.map_or(0, |eviction| eviction.slots);
        let evicted = self.clients_at(id, slots).into_iter();
        let tenants = evicted.filter_map(|client| Some(self.clients.get(&client)?.tenant));
        let has_room = |tenant: &TenantId| self.within_quota(*tenant, tier, extents).is_ok();
        let foreign = tenants.filter(|tenant| *tenant != owner && has_room(tenant));
        match foreign.min() {
            Some(tenant) => Ok(tenant),
            None => self.within_quota(owner, tier, extents).map(|()| owner),
        }
    }

    fn set_stage(&mut self, id: SegmentId, stage: Stage) {
        let domain = self.domain_mut(id);
        if let Some(eviction) = domain.and_then(|domain| domain.eviction.as_mut()) {
            eviction.stage = stage;
        }
        self.tended.insert(id);
    }

    /// The files are there: the units are to be held.
    pub(super) fn built_for_eviction(&mut self, id: SegmentId) {
        self.set_stage(id, Stage::Due(self.now));
    }

    fn pass(&mut self, id: SegmentId) {
        let segment = self.segments.get(&id);
        let hold = segment.and_then(|segment| {
            let domain = segment.domain.as_ref()?;
            let eviction = domain.eviction.as_ref()?;
            Some(Hold {
                segment: id,
                directory: segment.backings.first().copied()?,
                layout: domain.layout,
                evicted: eviction.slots,
                fences: eviction.fences,
            })
        });
        if let Some(hold) = hold {
            self.set_stage(id, Stage::Passing);
            self.actions.push(Action::Hold(hold));
        }
    }

    /// All units were gone through.
    pub(super) fn passed(&mut self, id: SegmentId, (written, missed): (&[Written], bool)) {
        let now = self.now;
        let Some(domain) = self.domain_mut(id) else {
            return;
        };
        let patience = recall::time_of(&domain.terms);
        let Some(eviction) = domain.eviction.as_mut().filter(|e| e.is_passing()) else {
            return;
        };
        let before = eviction.slots;
        let fresh = eviction.take(written, now, patience);
        let others_write = missed || !eviction.written.is_empty();
        let fences = eviction.fences;
        let more = eviction.slots != before;
        let stage = match (others_write, fences) {
            _ if more => Stage::Due(now),
            (true, _) => Stage::Due(now.saturating_add(PASS_PAUSE)),
            (false, false) => Stage::Due(now),
            (false, true) => Stage::Copying,
        };
        eviction.stage = stage;
        eviction.fences |= !others_write;
        if fences != eviction.fences || (fences && more) {
            self.touch_segment(id);
        }
        for written in fresh {
            self.tell_recalled(id, written.unit, written.slot.bit(), patience);
        }
        // A recovery may have waited for the end of the pass.
        self.to_recover.insert(id);
        self.tended.insert(id);
        if stage == Stage::Copying {
            self.copy_for_eviction(id);
        }
    }

    fn copy_for_eviction(&mut self, id: SegmentId) {
        let segment = self.segments.get(&id);
        let from = segment.and_then(|s| s.backings.get(1..)).map(<[_]>::to_vec);
        let Some((job, from)) = self.jobs.get(&id).zip(from) else {
            return;
        };
        let to = job.fresh.clone();
        if planted!("evict.in_place") {
            return self.moved_for_eviction(id);
        }
        self.actions.push(Action::Copy {
            segment: id,
            from,
            to,
        });
    }

    /// The contents are in the new files, which become the segment.
    pub(super) fn moved_for_eviction(&mut self, id: SegmentId) {
        let incarnation = match self.next_incarnation() {
            Ok(incarnation) => incarnation,
            Err(refusal) => return self.fail_job(id, &refusal),
        };
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        let owner = segment.tenant;
        let held = std::mem::replace(&mut segment.incarnation, incarnation);
        let directory = segment.backings.len().min(1);
        let mut old = segment.backings.split_off(directory);
        if planted!("evict.in_place") {
            segment.backings.append(&mut old);
            self.discard(&job.fresh);
        } else {
            segment.backings.extend(&job.fresh);
        }
        let payer = self.settle_charges(owner, &job.fresh);
        self.cut_off(id, held);
        self.commit_move(id, &old, &job.fresh, payer);
        self.tell_changed(id, None);
        self.tell_if_leaving(id);
        self.to_recover.insert(id);
        let ends = |s: &super::Segment| s.is_idle() && s.lifetime == Lifetime::Held;
        if self.segments.get(&id).is_some_and(ends) {
            self.end_segment(id);
        }
    }

    /// Those who are evicted are no members any more.
    fn cut_off(&mut self, id: SegmentId, held: Incarnation) {
        let domain = self.domain_mut(id);
        let Some(slots) = domain.and_then(|domain| {
            let eviction = domain.eviction.take()?;
            // A slot that is free, or that of one whose process has ended, may be evicted along:
            // some word named it. The next one in it is not cut off.
            let may_live = domain.evictable();
            domain.ended_eviction |= eviction.slots | Slot::DAEMON.bit();
            domain.cut_off |= eviction.slots & may_live;
            Some(eviction.slots)
        }) else {
            return;
        };
        let clients = self.clients_at(id, slots);
        let mut names = Vec::with_capacity(clients.len());
        for client in clients {
            let pid = self
                .clients
                .get(&client)
                .map_or(0, |client| client.peer.pid);
            names.push(format!("{client} (pid {pid})"));
            let revoked = session::Revoked {
                segment_id: id.number(),
                incarnation: held.number(),
            };
            self.evict(client, id, event::Body::Revoked(revoked));
        }
        self.publish_segment("member-evicted", id, names.join(", "));
    }
}
