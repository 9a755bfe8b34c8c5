//! Groups: segments that several hosts share, one writing before all others read.
//!
//! A group is memory of a fabric under a tag. One host makes it, as a segment like others; when it
//! is sealed it is published, and other hosts join it by its tag, read-only, at the same address
//! ([`pool_core::tag`]). Nobody writes it from then on, so no host has to hear of another's writes.
//! It stays as long as it is published or some host has it: its maker may die, or let go of it.
//!
//! # Protocol
//! A segment on a device of groups is begun without files. The device's steward is asked for the
//! group ([`GroupAsk`]), and says which groups the host has, all of them each time. Where the
//! segment's is among them its extents are claimed and its one file is built, and from there on it
//! is a grant like others. A group of which nothing is claimed any more is left: the segment was
//! proven gone, or nobody wants it, or it is one of before a crash that the journal does not know.
//!
//! What was sealed is published after the commit, and again at each start of the daemon, for it may
//! have died in between. What was published and is forgotten is in the row of its device, by the
//! same commit, until the steward has said that nobody joins it any more; each start asks for it.
//!
//! # Invariants
//! 1. The extents of a group are a backing's, all of them, or nobody's and about to be left.
//! 2. What is not sealed is not published: no host can join it.
//! 3. The addresses of groups are apart from all others, and each host makes its groups in its own
//!    part of them: so no two hosts take the same.
//! 4. What is published is ended for nobody but its maker, and the journal alone says who that is:
//!    a host that begins with a new one may have the device, the address and the groups of before,
//!    and others rely on what was published then. It lets go of what is there, and of nothing else.

use std::collections::BTreeSet;

use fabric_emu::serve::wire::SPANS_MAX;
use pool_core::{ClientId, DeviceId, Extents, GroupTag, NoTag, SegmentId, TenantId, planted};
use pool_proto::common::v1::{Access, Lifetime};
use pool_proto::session::v1 as session;

use super::command::{HadGroup, NoGroup, WorldError};
use super::effect::{Action, GroupAsk};
use super::grant::Wanted;
use super::job::{Job, Purpose};
use super::runs::{Run, RunSet};
use super::segment::{Backing, Segment, Stage};
use super::{Engine, Refusal, sum, take_id};

/// What is refused of a group, and why.
const IS_FIXED: &str = "the segment is a group that hosts share: it keeps its size, its tier and \
                        its files for as long as it lives, and so does a share that was used";

impl Engine {
    /// The device of a tier of groups.
    pub(super) fn device_of_groups(&self, tier: usize) -> Option<DeviceId> {
        let mut devices = self.devices_of(tier);
        let device = devices.find(|device| device.plan.shared.is_some());
        device.map(|device| device.id)
    }

    /// # Errors
    /// [`Refusal::NotPermitted`] where the segment is a group.
    pub(super) fn not_a_group(&self, id: SegmentId) -> Result<(), Refusal> {
        if self.segment(id)?.is_group {
            return Err(Refusal::NotPermitted(IS_FIXED));
        }
        Ok(())
    }

    /// Begins a segment that other hosts may join once it is sealed.
    pub(super) fn make_group(
        &mut self,
        asker: (ClientId, u64),
        on: DeviceId,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        if !wanted.has_one_file() {
            return Err(Refusal::Malformed(
                "a group that hosts share keeps its size and is no domain: leave out \
                 capacity_bytes, piece_bytes and coherence, or use another tier",
            ));
        }
        self.may_begin(wanted)?;
        self.within_quota_with_awaited(wanted)?;
        self.device_gives(on, wanted)?;
        let (id, incarnation) = (take_id!(self, segment), self.next_incarnation()?);
        let range = self.take_group_place(on, wanted.extents, wanted.align)?;
        self.begin_segment(id, incarnation, range, wanted, &[]);
        let (addr, extents) = (self.addr_of(range.first), wanted.extents);
        let make = GroupAsk::Make {
            segment: id,
            addr,
            extents,
        };
        self.await_group(asker, on, id, make);
        Ok(())
    }

    /// Opens a group that is here, or begins to have one that another host has sealed.
    pub(super) fn join_group(
        &mut self,
        client: ClientId,
        request_id: u64,
        ask: &session::Join,
    ) -> Result<(), Refusal> {
        let tier = self.tier_named(&ask.tier)?;
        let on = self.device_of_groups(tier).ok_or(Refusal::Malformed(
            "the tier has no memory that hosts share: join the group in a tier that has",
        ))?;
        let tag: GroupTag = ask.tag.parse().map_err(|_| {
            Refusal::Malformed("tag is none of a group: 32 hexadecimal digits, copied as a whole")
        })?;
        if let Some(id) = self.segment_of(tag) {
            return self.open_group(client, request_id, id, ask);
        }
        let wanted = self.wanted_group(client, tier, tag, ask)?;
        let range = self.group_range(tag)?;
        self.may_begin(&wanted)?;
        self.within_quota_with_awaited(&wanted)?;
        self.device_gives(on, &wanted)?;
        let (id, incarnation) = (take_id!(self, segment), self.next_incarnation()?);
        self.group_window.clone().remove(range).map_err(|_| {
            let there = self
                .lying_in(range)
                .map_or_else(String::new, |it| format!(" {it}"));
            Refusal::Held(format!(
                "where the group belongs lies segment{there}: look whether the tag is right, and \
                 if it is, free that segment on this host first"
            ))
        })?;
        self.take_range(range)
            .map_err(|_| Refusal::Broken("addresses that were free are not"))?;
        self.begin_segment(id, incarnation, range, &wanted, &[]);
        if let Some(segment) = self.segments.get_mut(&id) {
            (segment.tag, segment.sealed) = (Some(tag), true);
            segment.is_joined = !planted!("group.takes_what_it_joined_for_its_own");
        }
        let join = GroupAsk::Join { segment: id, tag };
        self.await_group((client, request_id), on, id, join);
        Ok(())
    }

    /// Has the steward of the device asked for what a segment is to be.
    fn await_group(&mut self, asker: (ClientId, u64), on: DeviceId, id: SegmentId, ask: GroupAsk) {
        let job = Job {
            asker: Some(asker),
            purpose: Purpose::Create,
            fresh: Vec::new(),
            unbuilt: 1, // Its one file, when the group is there.
            failure: None,
        };
        self.jobs.insert(id, job);
        self.actions.push(Action::Group { device: on, ask });
    }

    /// # Errors
    /// [`Refusal::TierFull`] where the device can have no group of that length now.
    fn device_gives(&self, on: DeviceId, wanted: &Wanted) -> Result<(), Refusal> {
        let device = self.devices.get(&on);
        if let Some(silent) = device.filter(|device| !device.reached) {
            return Err(Refusal::Busy(format!(
                "device {} is out of reach: `poolctl devices` says why; retry when it is back",
                silent.plan.name
            )));
        }
        let device = device.filter(|device| !device.draining && !device.removed);
        let room = device.map_or(Extents::ZERO, |it| it.most().saturating_sub(it.total()));
        let room = room.saturating_sub(self.awaited(wanted.tier, None));
        if room >= wanted.extents {
            return Ok(());
        }
        Err(self.no_room_for(wanted.tier, wanted.extents, room))
    }

    /// # Errors
    /// [`Refusal::OverQuota`] where the tenant would pass its limit with what it waits for.
    fn within_quota_with_awaited(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let awaited = self.awaited(wanted.tier, Some(wanted.tenant));
        let more = Extents::new(wanted.extents.get().saturating_add(awaited.get()));
        self.within_quota(wanted.tenant, wanted.tier, more)
    }

    /// Extents of groups that are asked for and not there yet, which nobody pays for so far.
    fn awaited(&self, tier: usize, tenant: Option<TenantId>) -> Extents {
        let segments = self.segments.values().filter(|it| {
            let is_awaited = it.is_group && it.stage == Stage::Building && it.files.is_empty();
            is_awaited && it.tier == tier && tenant.is_none_or(|tenant| it.tenant == tenant)
        });
        sum(segments.map(|it| it.extents))
    }

    fn no_room_for(&self, tier: usize, asked: Extents, room: Extents) -> Refusal {
        Refusal::TierFull {
            tier: self.tier_name(tier).to_owned(),
            total: self.tier_most(tier).bytes(),
            free: room.bytes(),
            draining: Extents::ZERO.bytes(),
            asked: asked.bytes(),
        }
    }

    /// The segment of a group that is here, or is about to be.
    fn segment_of(&self, tag: GroupTag) -> Option<SegmentId> {
        let mut all = self.segments.values();
        let found = all.find(|segment| segment.tag == Some(tag));
        found.map(|segment| segment.id)
    }

    /// Opens a group that this host has, as it is: whoever wants another name for it, or that it
    /// outlives its holders where it does not, is refused.
    fn open_group(
        &mut self,
        client: ClientId,
        request_id: u64,
        id: SegmentId,
        ask: &session::Join,
    ) -> Result<(), Refusal> {
        let own = self.clients.get(&client).map(|client| client.tenant);
        let segment = self.segment(id)?;
        match segment.stage {
            Stage::Live => {}
            Stage::Building => return self.not_busy(id),
            Stage::Freed => {
                return Err(Refusal::Busy(format!(
                    "the group was {id}, which is freed and not proven gone yet: close it \
                     everywhere and retry"
                )));
            }
        }
        if own != Some(segment.tenant) {
            let tenant = self.tenants.name(segment.tenant);
            return Err(Refusal::Held(format!(
                "this host has the group for tenant {tenant}: ask it for a share"
            )));
        }
        if !segment.sealed {
            return Err(Refusal::Held(format!(
                "{id} is not sealed yet: a group is joined after that"
            )));
        }
        let (name, lifetime) = (&segment.name, segment.lifetime);
        let is_other_name = !ask.name.is_empty() && ask.name != *name;
        let is_shorter = ask.lifetime() == Lifetime::Persistent && lifetime == Lifetime::Held;
        if (is_other_name || is_shorter) && !planted!("group.joins_by_any_name") {
            let ends = match lifetime {
                Lifetime::Persistent => "outlives its holders",
                _ => "ends with its holders",
            };
            return Err(Refusal::Held(format!(
                "this host has the group as {id}, whose name is \"{name}\" and which {ends}: join \
                 it without a name, or with that one, and not to be kept for longer"
            )));
        }
        self.open_as(client, request_id, id, Access::ReadOnly)
    }

    /// A request to join, with everything checked.
    fn wanted_group(
        &self,
        client: ClientId,
        tier: usize,
        tag: GroupTag,
        ask: &session::Join,
    ) -> Result<Wanted, Refusal> {
        self.may_hold_more(client)?;
        let tenant = self.clients.get(&client).map(|client| client.tenant);
        let tenant = tenant.ok_or(Refusal::UnknownClient)?;
        let lifetime = super::grant::lifetime_of(ask.lifetime, &ask.name)?;
        Ok(Wanted::group(
            tenant,
            tier,
            tag.extents(),
            &ask.name,
            lifetime,
        ))
    }

    /// A segment that has some of these addresses.
    fn lying_in(&self, range: Run) -> Option<SegmentId> {
        let meets = |it: &&Segment| it.range.first < range.end() && range.first < it.range.end();
        self.segments.values().find(meets).map(|segment| segment.id)
    }

    /// Where a group lies in the window.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`] where that is no place of groups here.
    fn group_range(&self, tag: GroupTag) -> Result<Run, Refusal> {
        let offset = tag.addr().checked_offset_from(self.plan.window.base());
        let first = offset.and_then(Extents::holding).map(Extents::get);
        let places = self.group_places();
        let range = first.map(|first| Run {
            first,
            count: tag.extents().get(),
        });
        let lies_in = |range: &Run| {
            let end = range.first.checked_add(range.count);
            range.first >= places.first && end.is_some_and(|end| end <= places.end())
        };
        range.filter(lies_in).ok_or(Refusal::NotPermitted(
            "the group has addresses that are none of groups here: all hosts of a fabric need the \
             same [window]",
        ))
    }

    /// A steward has said which groups this host has.
    pub(super) fn groups_are(&mut self, on: DeviceId, groups: Vec<HadGroup>) {
        let runs = groups.iter().flat_map(|group| &group.runs);
        let present: RunSet = runs.copied().collect();
        let had = groups.iter().map(|group| (group.tag, group.runs.clone()));
        self.groups.insert(on, had.collect());
        self.groups_may_end = true;
        self.present(on, present);
        for group in groups {
            let waits = |job: &&Job| job.purpose == Purpose::Create && job.fresh.is_empty();
            let segment = group.asked_for;
            if let Some(id) = segment.filter(|id| self.jobs.get(id).filter(waits).is_some()) {
                self.group_came(on, id, &group);
            }
        }
    }

    /// The group that a segment waits for is there: its extents are the segment's, and its file is
    /// built.
    fn group_came(&mut self, on: DeviceId, id: SegmentId, group: &HadGroup) {
        if let Err(refusal) = self.claim_group(on, id, group) {
            self.fail_job(id, &refusal);
        }
    }

    fn claim_group(
        &mut self,
        on: DeviceId,
        id: SegmentId,
        group: &HadGroup,
    ) -> Result<(), Refusal> {
        let segment = self.segment(id)?;
        let (tenant, extents) = (segment.tenant, segment.extents);
        let is_joined = segment.sealed;
        let count = sum(group.runs.iter().map(|run| Extents::new(run.count)));
        if extents != count || segment.range.first != self.group_range(group.tag)?.first {
            return Err(unfit());
        }
        self.fits_the_device(on, segment.tier, &group.runs)?;
        let backing = take_id!(self, backing);
        let device = self.devices.get_mut(&on);
        let device = device.ok_or(Refusal::Broken("the device of a group is gone"))?;
        // A new one of which something is bad is given back; of one that others have the rest is
        // good.
        let whole = device.claim_all(&group.runs, is_joined);
        whole.map_err(|_| Refusal::World(WorldError::Withdrawn))?;
        device.tie(id);
        self.tenants.charge(tenant, device.tier, extents);
        // What is bad of it was out of service until now, and the row of the device says so.
        if !planted!("group.claims_in_memory_alone") {
            self.touch_device(on);
        }
        let made = Backing {
            id: backing,
            segment: id,
            device: on,
            runs: group.runs.clone(),
            built: None,
            charged: tenant,
            quarantined: false,
            present: false,
        };
        self.backings.insert(backing, made);
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.tag = Some(group.tag);
            segment.files.insert(backing);
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.fresh.push(backing);
        }
        self.actions.push(Action::Build {
            backing,
            device: on,
            bytes: extents.bytes(),
            runs: group.runs.clone(),
            shareable: true,
        });
        Ok(())
    }

    /// # Errors
    /// [`Refusal::TierFull`] where the engine has no numbers for some of it, and
    /// [`Refusal::Scattered`] where a file of so many runs cannot be made.
    fn fits_the_device(&self, on: DeviceId, tier: usize, runs: &[Run]) -> Result<(), Refusal> {
        let asked = sum(runs.iter().map(|run| Extents::new(run.count)));
        let device = self.devices.get(&on);
        let device = device.ok_or(Refusal::Broken("the device of a group is gone"))?;
        let most = device.index_space();
        if runs
            .iter()
            .any(|run| run.first >= most || run.count > most - run.first)
        {
            return Err(self.no_room_for(tier, asked, Extents::ZERO));
        }
        if runs.len() > SPANS_MAX {
            return Err(Refusal::Scattered {
                device: device.plan.name.clone(),
                asked: asked.bytes(),
                runs: runs.len(),
                most: SPANS_MAX,
            });
        }
        Ok(())
    }

    /// The group that a segment waits for is not to be had.
    pub(super) fn no_group(&mut self, id: SegmentId, why: NoGroup) {
        let waits = |job: &&Job| job.purpose == Purpose::Create && job.fresh.is_empty();
        let segment = self.segments.get(&id);
        let segment = segment.filter(|_| self.jobs.get(&id).filter(waits).is_some());
        let Some(segment) = segment else {
            return;
        };
        let (tier, asked) = (segment.tier, segment.extents);
        let refusal = match why {
            NoGroup::NoRoom => self.no_room_for(tier, asked, Extents::ZERO),
            NoGroup::NotThere => {
                // As much of the secret as tells it from others.
                let name = segment.tag.map(|tag| tag.to_string().split_off(16));
                Refusal::not_found("group", format!("...{}", name.unwrap_or_default()))
            }
            NoGroup::Unreached => Refusal::Busy(
                "the fabric does not answer, or not in time: retry when it does".to_owned(),
            ),
            NoGroup::Refused => Refusal::Busy(
                "the fabric's manager refuses: the daemon's log says what, and docs/fabric.md what \
                 a region of groups has to be"
                    .to_owned(),
            ),
            NoGroup::NotSharable => Refusal::NotPermitted(
                "the region of the tier's device is not sharable: name one that is in the daemon's \
                 configuration",
            ),
            NoGroup::Blocks(block) => Refusal::PartOfBlock {
                asked: asked.bytes(),
                block: block.bytes(),
            },
        };
        self.fail_job(id, &refusal);
    }

    /// Leaves the groups of which nothing is claimed any more.
    pub(super) fn leave_groups(&mut self) {
        if !std::mem::take(&mut self.groups_may_end) {
            return;
        }
        let mut idle = Vec::new();
        for (&on, groups) in &self.groups {
            let Some(device) = self.devices.get(&on) else {
                continue;
            };
            let is_idle = |runs: &[Run]| device.is_idle(runs) || planted!("group.is_left_in_use");
            let theirs = groups.iter().filter(|(_, runs)| is_idle(runs));
            idle.extend(theirs.map(|(&tag, runs)| (on, tag, runs.clone())));
        }
        for (on, tag, runs) in idle {
            self.groups.entry(on).or_default().remove(&tag);
            if let Some(device) = self.devices.get_mut(&on) {
                device.leave(&runs);
            }
            self.touch_device(on);
            self.publish_device("device-resized", on);
            let ending = self.devices.get(&on).map(|device| &device.ending);
            let is_ours = ending.is_some_and(|tags| tags.contains(&tag))
                && !planted!("group.stays_published")
                || planted!("group.ends_what_it_does_not_know");
            let ask = GroupAsk::Leave { tag, is_ours };
            self.actions.push(Action::Group { device: on, ask });
        }
    }

    /// What every life begins with: what is sealed is published, or was already, and what was
    /// forgotten is joined by nobody any more.
    pub(super) fn begin_groups(&mut self) {
        for (&device, it) in &self.devices {
            let is_ours = true;
            let asks = it.ending.iter().map(|&tag| Action::Group {
                device,
                ask: GroupAsk::Leave { tag, is_ours },
            });
            self.actions.extend(asks);
        }
        let live = self.segments.values().filter(|s| s.stage == Stage::Live);
        let groups: Vec<_> = live.filter(|s| s.tag.is_some()).map(|s| s.id).collect();
        groups.into_iter().for_each(|id| self.publish_group(id));
    }

    /// A segment is forgotten. Where it was a group of ours that may be published, the row of its
    /// device says so from the same commit on; where it has left already, nobody else would end it.
    pub(super) fn end_of_group(&mut self, segment: &Segment) {
        let Some((tag, on)) = segment.tag.zip(self.device_of_groups(segment.tier)) else {
            return;
        };
        if segment.is_joined || !segment.sealed {
            return;
        }
        if let Some(device) = self.devices.get_mut(&on) {
            device.ending.insert(tag);
            self.touch_device(on);
        }
        let is_here = self
            .groups
            .get(&on)
            .is_some_and(|all| all.contains_key(&tag));
        if !is_here {
            let is_ours = true;
            let ask = GroupAsk::Leave { tag, is_ours };
            self.actions.push(Action::Group { device: on, ask });
        }
    }

    /// Nobody joins a group of ours any more.
    pub(super) fn unpublished(&mut self, on: DeviceId, tag: GroupTag) {
        let device = self.devices.get_mut(&on);
        if device.is_some_and(|device| device.ending.remove(&tag)) {
            self.touch_device(on);
        }
    }

    /// The groups that this host has made and sealed, or has forgotten since.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn published_groups(&self) -> BTreeSet<GroupTag> {
        let own = self.segments.values().filter(|s| s.sealed && !s.is_joined);
        let ending = self.devices.values().flat_map(|device| &device.ending);
        own.filter_map(|s| s.tag).chain(ending.copied()).collect()
    }

    /// Groups that are freed, and not gone yet.
    pub(super) fn freed_groups(&self) -> BTreeSet<SegmentId> {
        let freed = |s: &&Segment| s.is_group && s.stage == Stage::Freed;
        let groups = self.segments.values().filter(freed);
        groups.map(|segment| segment.id).collect()
    }

    /// Publishes a group that is sealed and ours.
    pub(super) fn publish_group(&mut self, id: SegmentId) {
        let segment = self.segments.get(&id);
        let segment = segment.filter(|s| s.sealed || planted!("group.is_published_unsealed"));
        let segment = segment.filter(|s| !s.is_joined);
        let group = segment.and_then(|s| Some((s.tag?, self.device_of_groups(s.tier)?)));
        let Some((tag, on)) = group else {
            return;
        };
        let ask = GroupAsk::Publish(tag);
        self.actions.push(Action::Group { device: on, ask });
    }
}

/// The group that is there is not the one of the tag.
fn unfit() -> Refusal {
    Refusal::NotPermitted(
        "the group is not as its tag says: make it again, on a host with the same [window]",
    )
}

/// The tag of a row; none where it is empty.
pub(super) fn tag_of(bytes: &[u8]) -> Result<Option<GroupTag>, NoTag> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let bytes = bytes.try_into().map_err(|_| NoTag)?;
    GroupTag::from_bytes(bytes).map(Some)
}

/// The tags of a device's row.
pub(super) fn ending_of(rows: &[Vec<u8>]) -> Result<BTreeSet<GroupTag>, NoTag> {
    let tags = rows.iter().map(|bytes| tag_of(bytes));
    tags.map(|tag| tag?.ok_or(NoTag)).collect()
}
