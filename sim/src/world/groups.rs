//! Groups that hosts share: what a daemon wants done about them, what its steward asks for, and who
//! is told a tag.
//!
//! The world carries tags from host to host: whoever made a group is told its tag, and others ask
//! for it before it is sealed, while it is there, and when it has ended; some mistype it. What the
//! driver of a device does for a host is done here: memory that comes is cached by nobody, that of
//! a new group is zero, and a file goes when the daemon says so.

use std::collections::BTreeSet;

use fabric_emu::cci::{Request, Response};
use pool_core::{BackingId, ClientId, DeviceId, GroupTag, planted};
use pool_daemon::engine::command::{Capacity, Command};
use pool_daemon::engine::effect::{Action, GroupAsk};
use pool_daemon::steward::{GroupWish, Unanswered};
use pool_proto::common::v1::Lifetime;
use pool_proto::session::v1 as session;

use super::World;
use super::lines::{GROUPS, address};
use super::machine::{Held, Loss, Process};
use super::memory::LINES;
use super::plans::{GROUP_NAMES, GROUP_TIER, bytes};
use crate::broken::{Checked, broken, holds};
use crate::op::{Kind, Op};
use crate::oracle::groups::has;
use crate::world::machine::row_of_backing;

/// Tags that are remembered.
const TOLD_MOST: usize = 8;

impl World {
    /// The daemon of a host wants something done about a group.
    pub(super) fn group_asked(&mut self, h: usize, ask: GroupAsk) -> Checked {
        let now = self.time(h);
        let wish = match ask {
            GroupAsk::Make {
                segment,
                addr,
                extents,
            } => {
                let drawn = self.rng.number().to_be_bytes();
                let Some(tag) = GroupTag::new(drawn, addr, extents) else {
                    return broken("a group has a place", format_args!("{addr:?} {extents:?}"));
                };
                self.groups.made(h, tag)?;
                self.groups.waits(h, tag, segment.number());
                GroupWish::Make(segment, tag)
            }
            GroupAsk::Join { segment, tag } => {
                if !self.groups.asked(h, segment.number(), tag) {
                    self.trace.reached("a group is asked for that is not there");
                }
                self.groups.waits(h, tag, segment.number());
                GroupWish::Join(segment, tag)
            }
            GroupAsk::Publish(tag) => GroupWish::Publish(tag),
            GroupAsk::Leave { tag, is_ours } => GroupWish::Leave(tag, is_ours),
        };
        if let Some(voice) = &mut self.machines[h].steward {
            voice.steward.wish(now, wish);
        }
        Ok(())
    }

    /// A steward is about to ask the device.
    pub(super) fn asks_device(&mut self, h: usize, request: &Request) -> Checked {
        match request {
            Request::ReleaseDc(list) => {
                let first = self.lines.first_of_groups();
                let machine = &self.machines[h];
                let Some(voice) = &machine.steward else {
                    return Ok(());
                };
                for piece in list.extents.iter() {
                    let theirs = first.filter(|first| piece.start_dpa >= *first);
                    let (device, start) = match (theirs, voice.groups) {
                        (Some(first), Some(groups)) => (groups, piece.start_dpa - first),
                        _ => (voice.own, piece.start_dpa),
                    };
                    machine.books.gives_back(device, (start, piece.length))?;
                }
                Ok(())
            }
            // It has said before whatever was to be said of a device that was reset.
            Request::SetTimestamp(_) => {
                self.groups.has_heard(h);
                self.who_lost_a_group_is_told(h)
            }
            // What it cached of what was there before is nothing of what comes.
            Request::AddDcResponse(list) if !planted!("sim.keeps_lines_of_before") => {
                for start in self.lines.group_lines(list) {
                    for line in 0..LINES {
                        self.flush_line(h, address(start, 0, line));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A steward is about to ask the manager.
    pub(super) fn asks_manager(&mut self, h: usize, request: &Request) -> Checked {
        let tag = |tag: [u8; 16]| GroupTag::from_bytes(tag).ok();
        match request {
            Request::AddReference(asked) => {
                tag(asked.tag.0).map_or(Ok(()), |tag| self.groups.publishes(h, tag))
            }
            Request::RemoveReference(asked) => {
                tag(asked.tag.0).map_or(Ok(()), |tag| self.groups.unpublishes(h, tag))?;
                let has = |tag| has(&self.machines[h].durable, tag);
                let theirs = tag(asked.tag.0).filter(|tag| has(*tag));
                let theirs = theirs.filter(|tag| self.groups.stands(*tag));
                holds(
                    theirs.is_none(),
                    "a reference ends after its segment",
                    || format!("host {h} has {theirs:?}"),
                )
            }
            _ => Ok(()),
        }
    }

    /// A steward says to its daemon how groups are.
    pub(super) fn says_of_groups(&mut self, h: usize, change: &Capacity) {
        match change {
            Capacity::Groups(groups) => {
                let answered = groups.iter().filter_map(|group| group.asked_for);
                answered.for_each(|id| self.groups.said_of(h, id.number()));
            }
            Capacity::NoGroup { segment, .. } => self.groups.said_of(h, segment.number()),
            _ => {}
        }
    }

    /// What the fabric answered a host may have ended a group, or brought it one.
    pub(super) fn asked_about_groups(
        &mut self,
        h: usize,
        request: &Request,
        answer: &Result<Response, Unanswered>,
    ) -> Checked {
        if let (Request::AddDcResponse(list), Ok(_)) = (request, answer) {
            let came = self.lines.group_lines(list);
            let tags = came.iter().filter_map(|at| self.lines.group_at(h, *at));
            for tag in tags.collect::<BTreeSet<_>>() {
                self.groups.came(h, tag)?;
            }
        }
        let may_change = matches!(
            request,
            Request::ReleaseDc(_)
                | Request::AddDcResponse(_)
                | Request::AddReference(_)
                | Request::RemoveReference(_)
        );
        if may_change && answer.is_ok() {
            return self.look_at_groups();
        }
        Ok(())
    }

    pub(super) fn look_at_groups(&mut self) -> Checked {
        if self.mix.group_extents == 0 {
            return Ok(());
        }
        let journals: Vec<_> = self
            .machines
            .iter()
            .map(|machine| &machine.durable)
            .collect();
        if self.groups.are(&self.lines.all_groups(), &journals)? > 0 {
            self.trace.reached("a group ends");
        }
        Ok(())
    }

    /// The file of a group that a host has, in these extents: which group, and only where all of
    /// it is there, and zero where it is new.
    pub(super) fn build_group(&mut self, h: usize, extents: &[u32]) -> Option<GroupTag> {
        let at = |extent: &u32| address(GROUPS, *extent, 0);
        let tag = extents
            .first()
            .and_then(|extent| self.lines.group_at(h, at(extent)))?;
        let is_whole = extents
            .iter()
            .all(|extent| self.lines.is_of_group(h, at(extent), tag));
        if !is_whole {
            return None;
        }
        if self.groups.is_new(tag) {
            if !self.zero(h, (GROUPS, extents)) {
                return None;
            }
            self.groups.is_built(tag);
        }
        Some(tag)
    }

    /// Before a group is sealed its lines leave the caches of the host.
    pub(super) fn before_the_seal(&mut self, h: usize, pid: u32, segment: u64) {
        let machine = &self.machines[h];
        let process = machine.processes.get(&pid);
        let mut held = process.into_iter().flat_map(|process| &process.held);
        let held = held.find(|(id, held)| id.number() == segment && held.tag.is_some());
        let Some((_, held)) = held else {
            return;
        };
        let files = held.pieces.iter().filter_map(|id| machine.files.get(id));
        let files: Vec<_> = files
            .map(|file| (file.group, file.extents.clone()))
            .collect();
        for (tag, extents) in files {
            for (number, extent) in (0..).zip(extents) {
                for line in 0..LINES {
                    if !planted!("sim.seals_what_is_in_its_caches") {
                        self.flush_line(h, address(GROUPS, extent, line));
                    }
                    let spot = tag.and_then(|tag| self.groups.spot(tag, number, line));
                    let contents = &mut self.groups.contents;
                    spot.into_iter()
                        .for_each(|spot| contents.written_back(spot));
                }
            }
        }
    }

    /// The daemon wants the file of a group to go: nobody here has it, and the journal says so.
    pub(super) fn is_to_go(&mut self, h: usize, backing: BackingId) -> Checked {
        let machine = &mut self.machines[h];
        let is_freed =
            row_of_backing(&machine.durable, backing).is_some_and(|row| row.charged_tenant_id != 0);
        holds(is_freed, "what is destroyed was freed before", || {
            backing.to_string()
        })?;
        let known = |client: ClientId| {
            let engine = machine.engine.as_ref();
            engine.is_some_and(|it| it.processes().any(|(known, _)| known == client))
        };
        let has = |process: &&Process| {
            let maps = process.tidy && process.mapped.contains_key(&backing);
            let mut held = process.held.values();
            maps || held.any(|held| held.pieces.contains(&backing))
        };
        let mut processes = machine.processes.values().filter(has);
        let holder = processes.find_map(|process| process.client().filter(|it| known(*it)));
        holds(holder.is_none(), "nobody has what is destroyed", || {
            format!("{holder:?} has {backing}")
        })?;
        if !machine.leaving_files.contains(&backing) {
            machine.leaving_files.push_back(backing);
        }
        Ok(())
    }

    /// The file of a group goes.
    pub(super) fn destroy(&mut self, h: usize) -> Checked {
        let Some(backing) = self.machines[h].leaving_files.pop_front() else {
            return Ok(());
        };
        self.machines[h].files.remove(&backing);
        self.tell(h, Command::Released { backing })
    }

    /// The manager takes a group from a host by force, and now and then ends that it is published,
    /// or the daemon dies as it forgets the group. Or it offers a host one that nobody asked for.
    pub(super) fn take_group(&mut self, h: usize, (pick, how): (u16, u16)) -> Checked {
        if how % 4 == 3 {
            self.offer_group(h, pick);
            return Ok(());
        }
        let tags = self.lines.groups_of(h);
        let place = usize::from(pick).checked_rem(tags.len());
        let Some(&tag) = place.and_then(|place| tags.get(place)) else {
            return Ok(());
        };
        if self.lines.take_group(h, tag) {
            self.groups.taken(h, tag);
            self.trace.fault("group-taken", [h as u64, 0, 0, 0]);
            self.trace.reached("a group is taken by force");
        }
        if how.is_multiple_of(4) && self.lines.end_reference(tag) {
            self.trace.fault("reference-ended", [h as u64, 0, 0, 0]);
        }
        self.machines[h].dies_leaving |= how % 4 == 1;
        self.hear_of_lost();
        self.look_at_groups()
    }

    /// The manager offers a host a group that there is.
    fn offer_group(&mut self, h: usize, pick: u16) {
        let tags: Vec<_> = self.lines.all_groups().into_iter().collect();
        let place = usize::from(pick).checked_rem(tags.len());
        let tag = place.and_then(|place| tags.get(place));
        if tag.is_some_and(|tag| self.lines.offer_group(h, *tag)) {
            self.trace.fault("group-offered", [h as u64, 0, 0, 0]);
            self.trace
                .reached("a group is offered that nobody asked for");
        }
    }

    /// A daemon that is to die when it leaves a group does so before it has told anybody.
    pub(super) fn dies_as_it_leaves(&mut self, h: usize, actions: &[Action]) -> Option<Loss> {
        let leaves = |action: &Action| {
            let ask = match action {
                Action::Group { ask, .. } => Some(ask),
                _ => None,
            };
            matches!(ask, Some(GroupAsk::Leave { .. }))
        };
        let machine = &mut self.machines[h];
        if !machine.dies_leaving || self.heals || !actions.iter().any(leaves) {
            return None;
        }
        machine.dies_leaving = false;
        self.trace.reached("the daemon dies as it leaves a group");
        Some(Loss::AfterCommit)
    }

    /// A process writes or reads a line of a group that it has.
    pub(super) fn use_group(&mut self, h: usize, pid: u32, op: &Op) -> Checked {
        let ([_, _, c, d], writes) = (op.picks, op.kind == Kind::WriteGroup);
        let process = self.machines[h].processes.get(&pid);
        let held = process
            .into_iter()
            .flat_map(|process| process.held.values());
        let fits = |held: &Held| held.tag.is_some() && (!writes || held.may_be_sealed());
        let groups = (0_u16..).zip(held).filter(|(_, held)| fits(held));
        let groups: Vec<_> = groups.map(|(place, _)| place).collect();
        let place = usize::from(c).checked_rem(groups.len());
        match place.and_then(|place| groups.get(place)) {
            Some(&place) if writes => self.write(h, pid, place, d),
            Some(&place) => self.read(h, pid, place, d),
            None => Ok(()),
        }
    }

    /// A line of a group of a host is lost, for all: mostly of one of which nothing else is left.
    pub(super) fn poison_group(&mut self, h: usize, pick: u16) {
        let files = self.machines[h].files.values();
        let files = files.filter_map(|file| Some((file.group?, file.extents.clone())));
        let (short, long): (Vec<_>, Vec<_>) = files.partition(|(_, extents)| extents.len() == 1);
        let theirs = if short.is_empty() || pick.is_multiple_of(4) {
            long
        } else {
            short
        };
        let spots: Vec<_> = theirs
            .into_iter()
            .flat_map(|(tag, extents)| (0..).zip(extents).map(move |it| (tag, it)))
            .collect();
        let place = usize::from(pick).checked_rem(spots.len());
        let Some(&(tag, (number, extent))) = place.and_then(|place| spots.get(place)) else {
            return;
        };
        let line = u32::from(pick / 64) % LINES;
        let at = address(GROUPS, extent, line);
        if self.lines.is_of_group(h, at, tag) && self.lines.poison(h, at) {
            self.trace.fault("line-poisoned", [h as u64, at, 0, 0]);
            self.damaged_tag = Some(tag);
            let spot = self.groups.spot(tag, number, line);
            let contents = &mut self.groups.contents;
            spot.into_iter()
                .for_each(|spot| contents.poisoned(line_key(spot)));
        }
    }

    /// Whoever is told a tag tells others. Another tenant than its own is told none.
    pub(super) fn told_tag(&mut self, digits: &str, foreign: bool) -> Checked {
        let Ok(tag) = digits.parse() else {
            return Ok(());
        };
        holds(!foreign, "a tag is a secret", || digits.to_owned())?;
        if !self.told_tags.contains(&tag) {
            if self.told_tags.len() == TOLD_MOST {
                self.told_tags.pop_front();
            }
            self.told_tags.push_back(tag);
        }
        Ok(())
    }

    /// A request to make a group.
    pub(super) fn make_group(&mut self, c: u16, d: u16) -> Option<session::Create> {
        if self.mix.group_extents == 0 {
            return None;
        }
        let name = GROUP_NAMES[usize::from(c / 8) % GROUP_NAMES.len()];
        Some(session::Create {
            tier: GROUP_TIER.to_owned(),
            bytes: bytes(u32::from(c % 3) + 1),
            name: name.to_owned(),
            lifetime: lifetime(name, d),
            ..session::Create::default()
        })
    }

    /// A group that a host has still although its journal knows it no more.
    fn is_being_left(&self, h: usize) -> Option<GroupTag> {
        let mut there = self.lines.groups_of(h).into_iter();
        there.find(|tag| !has(&self.machines[h].durable, *tag))
    }

    /// A request to join one: mostly of one that is or was, sometimes mistyped.
    pub(super) fn join_group(&self, h: usize, c: u16, d: u16) -> Option<session::Join> {
        // Mostly one of another host.
        let is_other = |tag: &&GroupTag| self.groups.maker(**tag) != Some(h) || d % 8 == 3;
        let tags = || self.told_tags.iter().filter(is_other);
        let place = usize::from(c).checked_rem(tags().count())?;
        let drawn = *tags().nth(place)?;
        // Now and then one that the host is about to leave, or that was damaged last.
        let tag = match d % 8 {
            1 => self.is_being_left(h).unwrap_or(drawn),
            5 => self.damaged_tag.unwrap_or(drawn),
            _ => drawn,
        };
        let mut bytes = tag.bytes();
        if d.is_multiple_of(16) {
            // Mostly in what was drawn, else in where it lies.
            let at = usize::from(d / 16) % if d.is_multiple_of(64) { 16 } else { 8 };
            bytes[at] ^= 1 << (d % 7);
        }
        let mut digits = bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        digits.truncate(if d.is_multiple_of(128) { 31 } else { 32 });
        let name = GROUP_NAMES[usize::from(d / 8) % GROUP_NAMES.len()];
        Some(session::Join {
            tier: GROUP_TIER.to_owned(),
            tag: digits,
            name: name.to_owned(),
            lifetime: lifetime(name, d),
        })
    }
}

fn lifetime(name: &str, d: u16) -> i32 {
    if !name.is_empty() && d.is_multiple_of(2) {
        Lifetime::Persistent
    } else {
        Lifetime::Held
    }
    .into()
}

/// A line of a group as a number.
pub(super) fn line_key((number, extent, line): crate::oracle::contents::Spot) -> u64 {
    number.number() << 24 | u64::from(extent) << 8 | u64::from(line)
}

/// The devices for which the steward of a host speaks.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(crate) steward: pool_daemon::steward::Steward,
    pub(crate) own: DeviceId,
    pub(crate) groups: Option<DeviceId>,
}
