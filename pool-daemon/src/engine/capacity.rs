//! Memory that comes and goes while the daemon runs: the extents of dynamic devices.
//!
//! Who speaks for such a device says which of its extents are there, all of them each time. So a
//! word that is lost, late or said twice does no harm, and neither does a restart: the next one
//! says how things are.
//!
//! # What becomes of what leaves
//! Free extents go out of service. A segment that has one that left is lost as a whole: its holders
//! are told, and its files are in quarantine, until nobody maps them. Their extents go out of
//! service then. A change that waits for the world, and has carved one of them, fails when the
//! world has answered. Nothing of this can be refused: it has happened already.
//!
//! What is to leave by itself is free before: [`Capacity::Withdraw`] takes it out of service, which
//! is durable before it is said to be the fabric's again. Where it is not taken there after all,
//! the next word has it be there again.
//!
//! An extent with a line that was lost is bad from then on: its holders are told where, once in a
//! life of the daemon, may keep the rest of the segment, and nobody is granted it again.

use std::collections::BTreeSet;

use pool_core::{BackingId, Bytes, ClientId, DeviceId, EXTENT_BYTES, Extents, SegmentId, planted};
use pool_proto::session::v1::{self as session, event};

use super::command::{Capacity, WorldError};
use super::device::Device;
use super::effect::Action;
use super::job::Purpose;
use super::runs::RunSet;
use super::segment::Backing;
use super::{Engine, Refusal, sum};

/// What a dynamic device has, and what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// In service.
    pub total: Extents,
    /// Free.
    pub free: Extents,
    /// The most it may ever have.
    pub most: Extents,
    /// Its part of what requests wait for, or tenants are guaranteed, that the whole tier has not.
    pub wanted: Extents,
    /// It is to grant nothing more.
    pub draining: bool,
    /// An operator has taken it out of the pool: nothing of it is in use.
    pub removed: bool,
}

impl Engine {
    /// What a dynamic device has, and what is wanted of it; nothing of any other device.
    #[must_use]
    pub fn demand(&self, device: DeviceId) -> Option<Demand> {
        let device = self.devices.get(&device)?;
        let draining = device.draining || device.removed;
        let wanted = self.share_of(device);
        device.plan.dynamic.then(|| Demand {
            total: device.total(),
            free: device.free(),
            most: device.most(),
            wanted,
            draining,
            removed: device.removed,
        })
    }

    /// The part that a device is to get of what its tier lacks: what it may still become, of what
    /// those before it may not. One that is out of reach, or that something is in the way of, gets
    /// nothing of it before all others have what they may become; and then whatever is left, for
    /// nobody knows which of them will be given something first.
    fn share_of(&self, device: &Device) -> Extents {
        let is_able = |it: &Device| it.plan.dynamic && !it.draining && !it.removed;
        let is_ready = |it: &Device| is_able(it) && it.reached && it.note.is_empty();
        if !is_able(device) {
            return Extents::ZERO; // It grants nothing, whoever waits.
        }
        let lacking = self.lacking(device.tier);
        let before = self.devices_of(device.tier).filter(|it| is_ready(it));
        let before = before.take_while(|it| !is_ready(device) || it.id < device.id);
        let theirs = sum(before.map(|it| it.most().saturating_sub(it.total())));
        let left = lacking.saturating_sub(theirs);
        if is_ready(device) {
            left.min(device.most().saturating_sub(device.total()))
        } else {
            left
        }
    }

    /// What a tier lacks: what requests wait for and it cannot grant, or what its tenants are
    /// guaranteed and is not in service, whichever is more.
    fn lacking(&self, tier: usize) -> Extents {
        let waits = self.wanted_of(tier);
        let waits = waits.saturating_sub(self.tier_grantable(tier));
        let total = self.tier_total(tier);
        // Parts of the tier are parts of what is there, so nothing is lacking for them.
        let guaranteed = self.tenants.guaranteed(self.tier_name(tier), total);
        waits.max(guaranteed.saturating_sub(total))
    }

    /// What the tier could still grant beyond what it can now, when all of it is there and reached.
    pub(super) fn tier_to_come(&self, tier: usize) -> Extents {
        let usable = self.devices_of(tier).filter(|device| !device.draining);
        sum(usable.map(|device| {
            let used = device.total().saturating_sub(device.free());
            let most = device.most().saturating_sub(used);
            most.saturating_sub(device.grantable())
        }))
    }

    /// Something is said about a dynamic device. Of any other one nothing is believed.
    pub(super) fn capacity(&mut self, id: DeviceId, change: Capacity) {
        let is_dynamic = |device: &Device| device.plan.dynamic;
        if !self.devices.get(&id).is_some_and(is_dynamic) {
            return self.publish("capacity-refused", |event| {
                event.detail = format!("{id} has a size of its own");
            });
        }
        match change {
            Capacity::Present(runs) => self.present(id, runs.into_iter().collect()),
            Capacity::Withdraw { unit, most, within } => {
                self.withdraw(id, (unit, most), &within.into_iter().collect());
            }
            Capacity::Poisoned(runs) => self.poisoned(id, runs.into_iter().collect()),
            Capacity::Groups(groups) => self.groups_are(id, groups),
            Capacity::NoGroup { segment, why } => self.no_group(segment, why),
            Capacity::Unpublished(tag) => self.unpublished(id, tag),
            Capacity::Reached(reached) => self.reach(id, reached),
            Capacity::Noted(note) => self.noted(id, note),
        }
    }

    pub(super) fn present(&mut self, id: DeviceId, runs: RunSet) {
        let Some(Ok(come)) = self.devices.get_mut(&id).map(|device| device.come(&runs)) else {
            debug_assert!(false, "engine invariant 1");
            return;
        };
        if come.fresh > Extents::ZERO || come.left > Extents::ZERO || come.lost.count() > 0 {
            self.touch_device(id);
            self.publish_device("device-resized", id);
        }
        if come.lost.count() > 0 && !planted!("capacity.loses_nothing") {
            self.lose_extents(id, &come.lost);
        }
    }

    /// Ends what lies on extents that are not there any more.
    fn lose_extents(&mut self, id: DeviceId, lost: &RunSet) {
        for segment in self.whose(id, lost) {
            self.lose(segment);
        }
    }

    /// The live segments that have one of these extents. What has one and is still to become a part
    /// of its segment never does: whoever builds, copies or formats it comes back, and finds that
    /// it was for nothing.
    fn whose(&mut self, id: DeviceId, runs: &RunSet) -> BTreeSet<SegmentId> {
        let hit = self.hit(id, runs).filter(|backing| !backing.quarantined);
        let hit: Vec<(BackingId, SegmentId)> = hit.map(|it| (it.id, it.segment)).collect();
        let mut whose = BTreeSet::new();
        for (backing, segment) in hit {
            match self.jobs.get_mut(&segment) {
                Some(job) if job.fresh.contains(&backing) => {
                    job.failure = job.failure.take().or(Some(WorldError::Withdrawn));
                }
                _ => _ = whose.insert(segment),
            }
        }
        whose
    }

    /// The backings on a device that have one of these extents.
    fn hit(&self, id: DeviceId, runs: &RunSet) -> impl Iterator<Item = &Backing> {
        let segments = self.devices.get(&id).into_iter();
        let segments = segments.flat_map(|device| device.segments.keys());
        let files = segments
            .filter_map(|segment| self.segments.get(segment))
            .flat_map(|segment| &segment.files);
        let backings = files.filter_map(|file| self.backings.get(file));
        backings.filter(move |backing| {
            let theirs = || backing.runs.iter().copied().collect::<RunSet>();
            backing.device == id && theirs().common(runs).count() > 0
        })
    }

    fn withdraw(&mut self, id: DeviceId, (unit, most): (u32, u32), within: &RunSet) {
        let spare = self.spare_units(id, unit);
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let most = most.min(spare.saturating_add(device.spoiled()));
        let runs = device.withdraw(unit, most, within);
        if !runs.is_empty() {
            self.touch_device(id);
            self.publish_device("device-resized", id);
        }
        self.actions.push(Action::Withdrawn { device: id, runs });
    }

    /// So many units may leave without that somebody has less than it is guaranteed, or waits for
    /// them.
    fn spare_units(&self, id: DeviceId, unit: u32) -> u32 {
        let Some(device) = self.devices.get(&id) else {
            return 0;
        };
        if device.draining || device.removed {
            return device.free().get() / unit.max(1); // Nobody is granted it.
        }
        let waits = self.wanted_of(device.tier);
        let free = device.free().saturating_sub(waits).get();
        let total = self.tier_total(device.tier);
        // Guarantees in hundredths shrink along, so the most that may leave is looked for.
        let keeps = |units: u32| {
            let less = Extents::new(units.saturating_mul(unit));
            self.keeps_guarantees(device.tier, less).is_ok() && less <= total
        };
        let (mut least, mut above) = (0, free / unit.max(1) + 1);
        while above - least > 1 {
            let middle = least + (above - least) / 2;
            if keeps(middle) {
                least = middle;
            } else {
                above = middle;
            }
        }
        least
    }

    fn poisoned(&mut self, id: DeviceId, runs: RunSet) {
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let before = device.total();
        let Ok(held) = device.spoil(&runs) else {
            debug_assert!(false, "device invariant 1");
            return;
        };
        if device.total() == before && held.count() == 0 {
            return; // It is known, or out of service.
        }
        self.touch_device(id);
        self.publish_device("device-poisoned", id);
        for segment in self.whose(id, &held) {
            // What is copied of it meanwhile would pass for whole.
            if let Some(job) = self.jobs.get_mut(&segment)
                && matches!(job.purpose, Purpose::Move { .. })
            {
                job.failure = job.failure.take().or(Some(WorldError::Withdrawn));
            }
            self.damaged(segment, (id, &held));
        }
    }

    /// A segment has lost these extents of a device: its holders are told where, and of nothing
    /// that was lost before. A domain is lost, for the words that its units are copied by may be
    /// what is lost.
    fn damaged(&mut self, id: SegmentId, fresh: (DeviceId, &RunSet)) {
        let Some(segment) = self.live_segment(id) else {
            return;
        };
        if segment.domain.is_some() {
            return self.lose(id);
        }
        let holders: Vec<ClientId> = segment.holders.keys().copied().collect();
        let none = RunSet::default();
        let parts = self.parts_of(
            id,
            |device| {
                if device.id == fresh.0 { fresh.1 } else { &none }
            },
        );
        for (offset, bytes) in parts {
            let detail = format!("{bytes} at {offset}");
            self.publish_segment("segment-damaged", id, detail);
            for &holder in &holders {
                self.tell_damaged(holder, id, (offset, bytes));
            }
        }
    }

    /// Tells a holder which parts of a segment hold nothing any more.
    pub(super) fn tell_of_damage(&mut self, holder: ClientId, id: SegmentId) {
        for part in self.damage_of(id) {
            self.tell_damaged(holder, id, part);
        }
    }

    fn tell_damaged(&mut self, holder: ClientId, id: SegmentId, (offset, bytes): (Bytes, Bytes)) {
        let damaged = session::Damaged {
            segment_id: id.number(),
            offset: offset.get(),
            bytes: bytes.get(),
        };
        self.tell(holder, event::Body::Damaged(damaged));
    }

    /// # Errors
    /// [`Refusal::Lost`] where a part of the segment is lost: what is copied of it would pass for
    /// whole.
    pub(super) fn not_damaged(&self, id: SegmentId) -> Result<(), Refusal> {
        if self.damage_of(id).is_empty() {
            return Ok(());
        }
        Err(Refusal::Lost(id.number()))
    }

    /// The bad parts of a segment: where each begins in it, and how long it is.
    fn damage_of(&self, id: SegmentId) -> Vec<(Bytes, Bytes)> {
        self.parts_of(id, Device::bad)
    }

    /// The parts of a segment that lie on those extents of each device: where each begins in it,
    /// and how long it is.
    fn parts_of<'a>(
        &'a self,
        id: SegmentId,
        meant: impl Fn(&'a Device) -> &'a RunSet,
    ) -> Vec<(Bytes, Bytes)> {
        let (mut at, mut found) = (0_u64, Vec::<(u64, u64)>::new());
        let segment = self.live_segment(id).into_iter();
        let files = segment.flat_map(|segment| &segment.backings);
        for file in files.filter_map(|file| self.backings.get(file)) {
            let meant = self.devices.get(&file.device).map(&meant);
            for &run in &file.runs {
                let hit = meant.map(|meant| meant.within(run)).unwrap_or_default();
                for part in hit {
                    let begins = at + u64::from(part.first - run.first) * EXTENT_BYTES;
                    let bytes = u64::from(part.count) * EXTENT_BYTES;
                    match found.last_mut() {
                        Some((first, length)) if *first + *length == begins => *length += bytes,
                        _ => found.push((begins, bytes)),
                    }
                }
                at += u64::from(run.count) * EXTENT_BYTES;
            }
        }
        let parts = found.into_iter();
        parts
            .map(|(at, bytes)| (Bytes::new(at), Bytes::new(bytes)))
            .collect()
    }

    /// What is in the way of a device is told once, until it is something else.
    fn noted(&mut self, id: DeviceId, note: String) {
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut device.note, note.clone());
        if before != note && !note.is_empty() {
            let name = device.plan.name.clone();
            self.publish("device-refused", |event| {
                (event.device, event.detail) = (name, note);
            });
        }
    }

    fn reach(&mut self, id: DeviceId, reached: bool) {
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut device.reached, reached) != reached {
            let kind = if reached {
                "device-reached"
            } else {
                "device-unreached"
            };
            self.publish_device(kind, id);
        }
    }
}
