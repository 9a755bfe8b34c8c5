//! Groups, as a steward has them: asked for by their tags, one by one, and had as a whole.
//!
//! A group is made by an offer under a tag of ours, joined by one under a tag that another host has
//! published, and left by giving all of it back. *Published* is what the manager holds a reference
//! to (5606h): it keeps the group when no host has it, and says that its maker has sealed it. So a
//! group is looked for among the tags (5608h) before it is joined, and one without a reference is
//! not there for anybody.
//!
//! What ends a reference is a wish of the engine, whose journal knows what this host has published,
//! and the engine is told when it is done. What is published here that the engine does not wish to
//! end may be of an earlier pool of this host, and others rely on it: it is left alone.
//!
//! A device that was reset holds zeros, and may hold its references still. So those of what was
//! published before are ended, and what was there before is not published, however late the wish
//! for it comes.
//!
//! What the host has of groups is read from the same list, log and poison list as all else of its
//! logical device; here is what is different of it: an offer is taken as a whole or not at all, and
//! the engine is told of groups, not of extents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fabric_emu::cci::dcd::UpdatedExtentList;
use fabric_emu::cci::dcd_management::{
    InitiateAddRequest, ListTagsRequest, ListTagsResponse, ReferenceRequest, SelectionPolicy,
    TagInformation,
};
use fabric_emu::cci::{DpaExtent, Request, Response, ReturnCode, Tag};
use fabric_emu::span::Span;
use pool_core::{EXTENT_BYTES, Extents, GroupTag, Nanos, SegmentId, planted};

use super::awaited::Waits;
use super::offers::list_of;
use super::region::piece_of;
use super::{MOST_PARTS, Region, Step, Steward, Unanswered, Whose};
use crate::engine::command::{Capacity, HadGroup, NoGroup};
use crate::engine::{Run, RunSet};

/// Tags in one answer: a list that is longer is asked for in parts.
const TAGS_AT_ONCE: u32 = 256;

/// What is to be done about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupWish {
    /// Make it, for a segment.
    Make(SegmentId, GroupTag),
    /// Have it, for a segment, if it is published.
    Join(SegmentId, GroupTag),
    /// Other hosts may join it.
    Publish(GroupTag),
    /// It is not wanted any more: the tag, and whether this host may have published it.
    Leave(GroupTag, bool),
    /// What was in it is lost: no other host joins it any more.
    Unpublish(GroupTag),
}

impl GroupWish {
    const fn tag(self) -> GroupTag {
        match self {
            Self::Make(_, tag)
            | Self::Join(_, tag)
            | Self::Publish(tag)
            | Self::Unpublish(tag)
            | Self::Leave(tag, _) => tag,
        }
    }
}

/// How far a wish has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupStep {
    /// Looked for among the tags, from this one on, of a list of this generation, in so many parts
    /// so far.
    Look(GroupTag, Looked),
    Add(GroupTag, SelectionPolicy),
    Publish(GroupTag),
    /// And whether it is given back then.
    Unpublish(GroupTag, bool),
    GiveBack(GroupTag),
}

/// How far a list of tags is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Looked {
    next: u32,
    generation: Option<u32>,
    parts: u32,
}

impl Looked {
    /// After one more part of the list, and whether there are others.
    fn read(self, list: &ListTagsResponse) -> (Self, bool) {
        let (read, generation) = (list.tags.len(), Some(list.generation_number));
        let is_other = self.generation.is_some() && self.generation != generation;
        let read_on = u32::try_from(read).unwrap_or(u32::MAX);
        let looked = Self {
            // Where it has changed in between, it is read from its beginning.
            next: if is_other {
                0
            } else {
                self.next.saturating_add(read_on)
            },
            generation: generation.filter(|_| !is_other),
            parts: self.parts + 1,
        };
        let has_more = is_other || (read > 0 && looked.next < list.total_tags);
        (looked, has_more)
    }
}

const fn is_published(tag: &TagInformation) -> bool {
    tag.flags & TagInformation::FM_HOLDS_REFERENCE != 0
}

type Had = BTreeMap<GroupTag, Vec<Run>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) number: u8,
    pub(super) region: Option<Region>,
    wishes: VecDeque<GroupWish>,
    pub(super) waits: Waits,
    /// What the engine was told is there; nothing before it was told.
    held: Option<Had>,
    /// What the list says is there, until the engine is told.
    there: Had,
    /// What the engine was told is bad.
    bad: RunSet,
    pub(super) found_bad: Vec<Run>,
    retry_at: Nanos,
    /// What was wished to be published, and not to be published no more.
    published: BTreeSet<GroupTag>,
    /// What the engine was told to be lost with all else, and has not said that it leaves.
    lost: BTreeSet<GroupTag>,
}

fn runs_of(groups: &Had) -> RunSet {
    groups.values().flatten().copied().collect()
}

impl Groups {
    pub(super) fn new(number: u8) -> Self {
        Self {
            number,
            region: None,
            wishes: VecDeque::new(),
            waits: Waits::default(),
            held: None,
            there: Had::new(),
            bad: RunSet::default(),
            found_bad: Vec::new(),
            retry_at: Nanos::ZERO,
            published: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    /// Something is to be done now.
    pub(super) fn are_wanted(&self, now: Nanos) -> bool {
        !self.wishes.is_empty() && now >= self.retry_at
    }

    /// What is still to be done now is not tried again before that.
    pub(super) fn rest(&mut self, until: Nanos) {
        if !self.wishes.is_empty() {
            self.retry_at = self.retry_at.max(until);
        }
    }

    /// What the engine is told of groups; those that a segment waits for are named once. Of what is
    /// still to be left it hears no more: it has nothing more to say of it.
    fn word(&mut self, groups: &Had) -> Capacity {
        let leaves = |tag: &GroupTag| {
            let mut wishes = self.wishes.iter();
            wishes.any(|wish| matches!(wish, GroupWish::Leave(left, _) if left == tag))
        };
        let stay: Vec<_> = groups.iter().filter(|(tag, _)| !leaves(tag)).collect();
        let had = stay.into_iter().map(|(&tag, runs)| HadGroup {
            tag,
            runs: runs.clone(),
            asked_for: self.waits.came(tag),
        });
        Capacity::Groups(had.collect())
    }

    /// A group does not come: what is said of it, where somebody waits for it. What was to be left
    /// of it is left now.
    pub(super) fn give_up(&mut self, tag: GroupTag, why: NoGroup) -> Option<Capacity> {
        let ended = self.waits.end(tag)?;
        self.wishes.extend(ended.leaves);
        let segment = ended.segment;
        Some(Capacity::NoGroup { segment, why })
    }

    /// Groups of which nothing is among these extents.
    fn without(&self, left: &RunSet) -> Had {
        let held = self.held.clone().unwrap_or_default();
        let stays = |runs: &Vec<Run>| runs.iter().all(|&run| left.within(run).is_empty());
        held.into_iter().filter(|(_, runs)| stays(runs)).collect()
    }

    /// A piece was taken by force: its group is there no more.
    pub(super) fn was_taken(&mut self, piece: Span) -> Option<Capacity> {
        let taken = self.region?.runs(&[piece]);
        let rest = self.without(&taken);
        let is_less = self.held.as_ref().is_some_and(|held| *held != rest);
        is_less.then(|| {
            self.held = Some(rest.clone());
            self.word(&rest)
        })
    }

    /// What was there is there no more.
    pub(super) fn forget_all(&mut self) -> Option<Capacity> {
        self.bad = RunSet::default();
        if planted!("group.keeps_what_was_reset") {
            return None;
        }
        let before = self.held.replace(Had::new());
        self.lost.extend(before.iter().flat_map(BTreeMap::keys));
        let told = before.is_some_and(|held| held.is_empty());
        (!told).then(|| Capacity::Groups(Vec::new()))
    }

    /// The device was reset: what others sealed is of zeros now. What of it was to be had is not,
    /// and what this host has sealed is published no more, even where the device has kept that.
    pub(super) fn was_reset(&mut self) -> Vec<Capacity> {
        if planted!("group.serves_what_was_reset") {
            return Vec::new();
        }
        let is_publishing = |wish: &GroupWish| matches!(wish, GroupWish::Publish(_));
        self.wishes.retain(|wish| !is_publishing(wish));
        let ends = std::mem::take(&mut self.published).into_iter();
        let ends = ends.filter(|_| !planted!("group.stays_published_after_a_reset"));
        self.wishes.extend(ends.map(GroupWish::Unpublish));
        let shared = self.waits.shared().into_iter();
        let words = shared.filter_map(|tag| self.give_up(tag, NoGroup::NotThere));
        words.collect()
    }

    /// Whether a wish is one still. What the engine was told is lost, or is about to be, is
    /// published by no wish of before: there may be zeros in it.
    fn heeds(&mut self, wish: GroupWish) -> bool {
        match wish {
            GroupWish::Publish(tag) => {
                if self.lost.contains(&tag) && !planted!("group.publishes_what_it_has_lost") {
                    return false;
                }
                self.published.insert(tag);
            }
            GroupWish::Leave(tag, is_ours) => {
                self.lost.remove(&tag);
                if is_ours {
                    self.published.remove(&tag);
                }
            }
            GroupWish::Make(..) | GroupWish::Join(..) | GroupWish::Unpublish(_) => {}
        }
        true
    }

    /// Whether an offer under this tag is taken: all of a group that the manager was asked for. One
    /// that is waited for and was not found to be published may be offered by somebody's hand.
    pub(super) fn takes(&self, tag: Tag, pieces: &[Span]) -> bool {
        let tag = GroupTag::from_bytes(tag.0).ok();
        let Some((tag, region)) = tag.zip(self.region) else {
            return false;
        };
        let whole = pieces.iter().map(|&piece| u64::from(region.whole(piece)));
        let is_whole = whole.sum::<u64>() == u64::from(tag.extents().get());
        is_whole && (self.waits.comes(tag) || planted!("group.takes_any_offer"))
    }

    /// What the list says of groups. What is to be said before anything else, if anything is.
    pub(super) fn listed(&mut self, pieces: &[DpaExtent], is_first: bool) -> Option<Capacity> {
        let region = self.region?;
        let mut there = BTreeMap::<GroupTag, Vec<(u16, Run)>>::new();
        for it in pieces {
            let piece = piece_of(it);
            let tag = GroupTag::from_bytes(it.tag.0).ok();
            let (count, first) = (region.whole(piece), region.first(piece));
            if let Some((tag, first)) = tag.zip(first).filter(|_| count > 0) {
                let run = Run { first, count };
                let runs = there.entry(tag).or_default();
                runs.push((it.shared_extent_sequence, run));
            }
        }
        // One that is not as long as its tag says, or has something twice, is none.
        let is_whole = |tag: &GroupTag, runs: &[(u16, Run)]| {
            let sum: u64 = runs.iter().map(|(_, run)| u64::from(run.count)).sum();
            let all: RunSet = runs.iter().map(|(_, run)| *run).collect();
            let due = tag.extents().get();
            sum == u64::from(due) && all.count() == due
        };
        let in_order = there.into_iter().filter_map(|(tag, mut runs)| {
            runs.sort_by_key(|(sequence, _)| *sequence);
            let whole = is_whole(&tag, &runs);
            whole.then(|| (tag, runs.into_iter().map(|(_, run)| run).collect()))
        });
        self.there = in_order.collect();
        self.bad = self.bad.common(&runs_of(&self.there));
        self.found_bad.clear();
        if is_first {
            let there = std::mem::take(&mut self.there);
            self.held = Some(there.clone());
            return Some(self.word(&there));
        }
        let held = self.held.take()?;
        let stays = |(tag, runs): &(GroupTag, Vec<Run>)| self.there.get(tag) == Some(runs);
        let rest: Had = held.clone().into_iter().filter(stays).collect();
        let has_left = rest != held;
        self.held = Some(rest.clone());
        has_left.then(|| self.word(&rest))
    }

    /// What is bad, and then what is there.
    pub(super) fn settled(&mut self) -> Vec<Capacity> {
        let mut words = Vec::new();
        let there = std::mem::take(&mut self.there);
        let bad: RunSet = self.found_bad.drain(..).collect();
        let fresh = bad.common(&runs_of(&there)).minus(&self.bad);
        if fresh.count() > 0 {
            words.push(Capacity::Poisoned(fresh.iter().collect()));
            // It is disjoint from what was bad before.
            let added = self.bad.add(&fresh);
            debug_assert!(added.is_ok(), "what is new is not there");
        }
        let is_awaited = there.keys().any(|tag| self.waits.comes(*tag));
        if self.held.as_ref() != Some(&there) || is_awaited {
            words.push(self.word(&there));
        }
        self.held = Some(there);
        words
    }

    fn spans(&self, tag: GroupTag) -> Vec<Span> {
        let runs = self.held.as_ref().and_then(|held| held.get(&tag));
        let region = self.region.zip(runs);
        region.map_or_else(Vec::new, |(region, runs)| region.spans(runs))
    }
}

impl Steward {
    /// Has something done about a group. Where the device has none, nobody hears of it.
    pub fn wish(&mut self, now: Nanos, wish: GroupWish) {
        let patience = self.terms.patience;
        let Some(groups) = &mut self.groups else {
            return;
        };
        groups.waits.begin(now, patience, wish);
        if !groups.heeds(wish) {
            return;
        }
        let waits = match wish {
            GroupWish::Leave(tag, is_ours) => groups.waits.leaves(tag, is_ours),
            _ => false,
        };
        if !waits {
            groups.wishes.push_back(wish);
        }
    }

    /// Begins what is to be done about groups, if anything is. Whether something was begun.
    pub(super) fn begin_wish(&mut self, now: Nanos) -> bool {
        let Some(groups) = &mut self.groups else {
            return false;
        };
        let unit = groups.region.map_or(1, |region| region.unit);
        let wish = (now >= groups.retry_at).then(|| groups.wishes.pop_front());
        let step = match wish.flatten() {
            None => None,
            Some(GroupWish::Make(_, tag)) => {
                if tag.extents().get().is_multiple_of(unit) {
                    Some(GroupStep::Add(tag, SelectionPolicy::Free))
                } else {
                    self.does_not_come(tag, NoGroup::Blocks(Extents::new(unit)));
                    None
                }
            }
            Some(GroupWish::Join(_, tag)) => Some(GroupStep::Look(tag, Looked::default())),
            Some(GroupWish::Publish(tag)) => Some(GroupStep::Publish(tag)),
            Some(GroupWish::Leave(tag, true)) => Some(GroupStep::Unpublish(tag, true)),
            Some(GroupWish::Unpublish(tag)) => Some(GroupStep::Unpublish(tag, false)),
            Some(GroupWish::Leave(tag, false)) => Some(GroupStep::GiveBack(tag)),
        };
        if let Some(step) = step.filter(|step| self.is_to_be_done(*step)) {
            self.step = Step::Group(step);
            return true;
        }
        false
    }

    /// Nothing is given back that has left already, and nothing added that nobody waits for.
    fn is_to_be_done(&self, step: GroupStep) -> bool {
        let Some(groups) = &self.groups else {
            return false;
        };
        match step {
            GroupStep::Add(tag, _) | GroupStep::Look(tag, _) => groups.waits.has(tag),
            GroupStep::GiveBack(tag) => !groups.spans(tag).is_empty(),
            GroupStep::Publish(_) | GroupStep::Unpublish(..) => true,
        }
    }

    /// The command of a step, and whether it is the manager's.
    pub(super) fn group_request(&self, step: GroupStep) -> (Request, bool) {
        let tag = |tag: GroupTag| Tag(tag.bytes());
        match step {
            GroupStep::Look(_, looked) => {
                let asked = ListTagsRequest {
                    starting_index: looked.next,
                    max_tags: TAGS_AT_ONCE,
                };
                (Request::ListTags(asked), true)
            }
            GroupStep::Add(group, selection_policy) => {
                let asked = InitiateAddRequest {
                    host_id: self.terms.ld,
                    selection_policy,
                    region_number: self.groups.as_ref().map_or(0, |groups| groups.number),
                    length: u64::from(group.extents().get()) * EXTENT_BYTES,
                    tag: tag(group),
                    extents: None,
                };
                (Request::InitiateAdd(asked), true)
            }
            GroupStep::Publish(group) => {
                let asked = ReferenceRequest { tag: tag(group) };
                (Request::AddReference(asked), true)
            }
            GroupStep::Unpublish(group, _) => {
                let asked = ReferenceRequest { tag: tag(group) };
                (Request::RemoveReference(asked), true)
            }
            GroupStep::GiveBack(group) => {
                let spans = self.groups.as_ref().map(|groups| groups.spans(group));
                let list = list_of(spans.into_iter().flatten());
                (Request::ReleaseDc(list), false)
            }
        }
    }

    /// What came of a command about a group.
    pub(super) fn group_answered(
        &mut self,
        now: Nanos,
        step: GroupStep,
        answer: Result<&Response, Unanswered>,
    ) {
        match (step, answer) {
            (GroupStep::Look(tag, looked), Ok(Response::ListTags(list))) => {
                self.looked(now, (tag, looked), list);
            }
            // The offer is in the log by now.
            (GroupStep::Add(..), Ok(_)) => self.step = Step::Events,
            // It is published no more, or never was.
            (
                GroupStep::Unpublish(tag, gives_back),
                Ok(_) | Err(Unanswered::Refused(ReturnCode::InvalidInput)),
            ) => {
                self.step = Step::Decide;
                self.say(Whose::Groups, Capacity::Unpublished(tag));
                if gives_back {
                    self.go_on(GroupStep::GiveBack(tag));
                }
            }
            // It is published, or was already, or is gone.
            (GroupStep::Publish(_), Ok(_) | Err(Unanswered::Refused(ReturnCode::InvalidInput))) => {
                self.step = Step::Decide
            }
            (GroupStep::GiveBack(tag), Ok(_)) => {
                if let Some(held) = self.groups.as_mut().and_then(|it| it.held.as_mut()) {
                    held.remove(&tag);
                }
                if let Some(groups) = &mut self.groups {
                    // A device that goes on listing it is not asked at once again.
                    groups.retry_at = now.saturating_add(self.terms.poll);
                }
                self.read_list();
            }
            (GroupStep::Look(tag, _) | GroupStep::Add(tag, _), Err(Unanswered::Refused(code))) => {
                self.group_refused(now, (tag, step), code);
            }
            (step, _) => self.try_again(now, step),
        }
    }

    fn go_on(&mut self, step: GroupStep) {
        self.step = if self.is_to_be_done(step) {
            Step::Group(step)
        } else {
            Step::Decide
        };
    }

    /// A group is joined if it is among the tags, and published.
    fn looked(&mut self, now: Nanos, (tag, was): (GroupTag, Looked), list: &ListTagsResponse) {
        let found = list.tags.iter().find(|it| it.tag.0 == tag.bytes());
        let (looked, has_more) = was.read(list);
        match found {
            Some(_) if planted!("group.is_joined_by_nobody") => self.is_not_there(now, tag),
            Some(it) if is_published(it) || planted!("group.joins_what_is_not_published") => {
                if let Some(groups) = &mut self.groups {
                    groups.waits.say_shared(tag);
                }
                self.go_on(GroupStep::Add(tag, SelectionPolicy::EnableSharedAccess));
            }
            None if has_more && looked.parts < MOST_PARTS => {
                self.go_on(GroupStep::Look(tag, looked));
            }
            None if has_more => self.try_again(now, GroupStep::Look(tag, looked)),
            _ => self.is_not_there(now, tag),
        }
    }

    /// It is looked for once more, or is none.
    fn is_not_there(&mut self, now: Nanos, tag: GroupTag) {
        let pause = now.saturating_add(self.terms.poll);
        let groups = self.groups.as_ref();
        if !groups.is_some_and(|it| it.waits.looks_on(now, tag)) {
            return self.no_group(tag, NoGroup::NotThere);
        }
        self.try_again(now, GroupStep::Look(tag, Looked::default()));
        if let Some(groups) = &mut self.groups {
            groups.retry_at = pause;
        }
    }

    fn group_refused(&mut self, now: Nanos, (tag, step): (GroupTag, GroupStep), code: ReturnCode) {
        match code {
            ReturnCode::RetryRequired | ReturnCode::Busy => self.try_again(now, step),
            ReturnCode::ResourcesExhausted => self.no_group(tag, NoGroup::NoRoom),
            // The host has it already: the list says so.
            _ if matches!(step, GroupStep::Add(_, SelectionPolicy::EnableSharedAccess))
                && self.has(tag) =>
            {
                self.read_list();
            }
            _ => self.no_group(tag, NoGroup::Refused),
        }
    }

    fn has(&self, tag: GroupTag) -> bool {
        let held = self.groups.as_ref().and_then(|groups| groups.held.as_ref());
        held.is_some_and(|held| held.contains_key(&tag))
    }

    fn no_group(&mut self, tag: GroupTag, why: NoGroup) {
        self.step = Step::Decide;
        self.does_not_come(tag, why);
    }

    /// The manager or the device does not answer, or cannot now: once more, after a while.
    fn try_again(&mut self, now: Nanos, step: GroupStep) {
        let Some(groups) = &mut self.groups else {
            return;
        };
        groups.retry_at = now.saturating_add(self.terms.retry);
        let segment = |tag| groups.waits.segment(tag);
        let wish = match step {
            GroupStep::Add(tag, SelectionPolicy::EnableSharedAccess) | GroupStep::Look(tag, _) => {
                segment(tag).map(|segment| GroupWish::Join(segment, tag))
            }
            GroupStep::Add(tag, _) => segment(tag).map(|segment| GroupWish::Make(segment, tag)),
            GroupStep::Publish(tag) => Some(GroupWish::Publish(tag)),
            GroupStep::Unpublish(tag, true) => Some(GroupWish::Leave(tag, true)),
            GroupStep::Unpublish(tag, false) => Some(GroupWish::Unpublish(tag)),
            GroupStep::GiveBack(tag) => Some(GroupWish::Leave(tag, false)),
        };
        // Others have their turn before it, but for those of the same group, which come after it.
        let (same, others): (Vec<_>, Vec<_>) = groups
            .wishes
            .drain(..)
            .partition(|other| wish.is_some_and(|wish| wish.tag() == other.tag()));
        groups.wishes = others.into_iter().chain(wish).chain(same).collect();
        self.step = Step::Decide;
    }

    /// What is offered under a tag is of a region that is no other host's: it is declined.
    pub(super) fn is_not_sharable(&mut self, tag: Tag) {
        if let Ok(tag) = GroupTag::from_bytes(tag.0) {
            self.does_not_come(tag, NoGroup::NotSharable);
        }
    }

    /// An offer of a group, answered: all of it, or nothing.
    pub(super) fn group_answer(&self, tag: Tag, pieces: &[Span]) -> Option<UpdatedExtentList> {
        let groups = self.groups.as_ref()?;
        let is_taken = groups.takes(tag, pieces);
        is_taken.then(|| list_of(pieces.iter().copied()))
    }
}
