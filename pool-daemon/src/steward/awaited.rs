//! Groups that were asked for and are not there yet.
//!
//! While a group is waited for, the engine may let go of what this host had of it before: of an
//! earlier segment whose files are gone by now. That is not left at once, for what is asked for may
//! be about to come, and would be given back under the segment that has waited for it. It is left
//! when the wait ends without the group; where it comes, the engine has it, and lets go of it once
//! more.

use std::collections::BTreeMap;

use pool_core::{GroupTag, Nanos, SegmentId, planted};

use super::groups::GroupWish;
use super::{Steward, Whose};
use crate::engine::command::NoGroup;

/// How long a group is looked for that is not published.
const LOOKS_FOR: Nanos = Nanos::from_millis(300);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Awaited {
    segment: SegmentId,
    until: Nanos,
    /// Until then it is looked for again where it is not there: it may just have been sealed.
    looks_until: Nanos,
    /// It is made here: its tag is known to nobody else.
    is_own: bool,
    /// It is another host's, was found to be published, and the manager is asked for it. Whether
    /// that was heard may not be known: it may come from then on, and not before.
    is_shared: bool,
    /// What there is of it is left if it does not come; and whether this host may have published
    /// it.
    leaves: Option<bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waits {
    all: BTreeMap<GroupTag, Awaited>,
}

/// What a wait that has ended leaves behind.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) segment: SegmentId,
    /// What is to be left now.
    pub(super) leaves: Option<GroupWish>,
}

impl Waits {
    /// From now on a group is waited for, for so long.
    pub(super) fn begin(&mut self, now: Nanos, patience: Nanos, wish: GroupWish) {
        let (GroupWish::Make(segment, tag) | GroupWish::Join(segment, tag)) = wish else {
            return;
        };
        let leaves = self.all.get(&tag).and_then(|it| it.leaves);
        let awaited = Awaited {
            segment,
            until: now.saturating_add(patience),
            looks_until: now.saturating_add(LOOKS_FOR),
            is_own: matches!(wish, GroupWish::Make(..)),
            is_shared: false,
            leaves,
        };
        self.all.insert(tag, awaited);
    }

    pub(super) fn has(&self, tag: GroupTag) -> bool {
        self.all.contains_key(&tag)
    }

    pub(super) fn segment(&self, tag: GroupTag) -> Option<SegmentId> {
        self.all.get(&tag).map(|it| it.segment)
    }

    /// Whether a group is waited for that may come: one of another host was found to be published.
    /// What this host has of it still may be of before a reset.
    pub(super) fn comes(&self, tag: GroupTag) -> bool {
        self.all.get(&tag).is_some_and(|it| {
            it.is_own || it.is_shared || planted!("group.takes_what_was_not_published")
        })
    }

    /// It was found to be published.
    pub(super) fn say_shared(&mut self, tag: GroupTag) {
        let awaited = self.all.get_mut(&tag);
        awaited.into_iter().for_each(|it| it.is_shared = true);
    }

    /// Whether a group that is not there is looked for once more.
    pub(super) fn looks_on(&self, now: Nanos, tag: GroupTag) -> bool {
        let awaited = self.all.get(&tag);
        awaited.is_some_and(|it| now < it.looks_until)
    }

    /// What there is of a group is to be left. Whether that has to wait.
    pub(super) fn leaves(&mut self, tag: GroupTag, is_ours: bool) -> bool {
        let Some(awaited) = self.all.get_mut(&tag) else {
            return false;
        };
        let before = awaited.leaves.unwrap_or(false);
        awaited.leaves = Some(before || is_ours);
        true
    }

    /// Of a group that may come: it is there.
    pub(super) fn came(&mut self, tag: GroupTag) -> Option<SegmentId> {
        let comes = self.comes(tag);
        let awaited = comes.then(|| self.all.remove(&tag)).flatten();
        awaited.map(|it| it.segment)
    }

    /// A group does not come.
    pub(super) fn end(&mut self, tag: GroupTag) -> Option<Ended> {
        let awaited = self.all.remove(&tag)?;
        let leaves = awaited.leaves;
        let leaves = leaves.filter(|_| !planted!("group.keeps_what_it_waited_for"));
        Some(Ended {
            segment: awaited.segment,
            leaves: leaves.map(|is_ours| GroupWish::Leave(tag, is_ours)),
        })
    }

    /// What has not come in time.
    pub(super) fn overdue(&self, now: Nanos) -> Vec<GroupTag> {
        let late = self.all.iter().filter(|(_, it)| now >= it.until);
        late.map(|(&tag, _)| tag).collect()
    }

    /// What the manager was asked for that another host has sealed.
    pub(super) fn shared(&self) -> Vec<GroupTag> {
        let shared = self.all.iter().filter(|(_, it)| it.is_shared);
        shared.map(|(&tag, _)| tag).collect()
    }

    /// When the first of them is overdue, if that is before `until`.
    pub(super) fn first_overdue(&self, until: Nanos) -> Nanos {
        self.all.values().map(|it| it.until).fold(until, Nanos::min)
    }
}

impl Steward {
    /// Says of groups that have not come in time that they are not to be had.
    pub(super) fn give_up_overdue(&mut self, now: Nanos) {
        let overdue = self.groups.iter().flat_map(|it| it.waits.overdue(now));
        for tag in overdue.collect::<Vec<_>>() {
            self.does_not_come(tag, NoGroup::Unreached);
        }
    }

    /// Says of a group that somebody waits for that it is not to be had.
    pub(super) fn does_not_come(&mut self, tag: GroupTag, why: NoGroup) {
        let word = self
            .groups
            .as_mut()
            .and_then(|groups| groups.give_up(tag, why));
        word.into_iter()
            .for_each(|word| self.say(Whose::Groups, word));
    }

    /// The end of a rest: no later than a group is overdue.
    pub(super) fn next_overdue(&self, until: Nanos) -> Nanos {
        let groups = self.groups.iter();
        groups.fold(until, |until, groups| groups.waits.first_overdue(until))
    }
}
