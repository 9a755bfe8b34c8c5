//! Groups, over all hosts: what each host's journal says of them, and what was stored in them.
//!
//! # Rules
//! - *a group is where its tag says*, on every host, and each maker makes its own in addresses that
//!   are no other maker's.
//! - *no one joins before the seal*: another host has a row of a group only after its maker's row
//!   was sealed.
//! - *what has ended is joined by nobody*: whoever asks for a group that the fabric has no more, or
//!   never had, or whose contents were lost, gets none; nor does who asked before that and is
//!   answered after it, once its daemon could know. But for one that its maker, who has not heard
//!   of the reset yet, has published since: nobody else can know that it is empty.
//! - *a host takes what it asked for*: memory of a group comes to a host only while a segment of it
//!   waits for just that group.
//! - *what is not sealed is not published*, and a reference ends after its maker's segment, or when
//!   what was in it is lost; *by its maker's hand*, or the manager's.
//! - *what was reset is read by nobody who was told*: a daemon has told of a reset before it sets
//!   the device's clock anew. Until then a reader finds zeros, or what was sealed.
//! - *a group stays while somebody has it*: it ends in the fabric only when no host has a row of it
//!   that lives, but for those from which it was taken.
//! - What a reader finds is what [`Contents`] says: the last store before the seal, on every host.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{GroupTag, SegmentId};
use pool_daemon::journal::{Record, Table};
use pool_proto::journal::v1::SegmentRow;

use super::contents::{Contents, Spot};
use crate::broken::{Checked, broken, holds};
use crate::world::machine::Durable;

/// A group that was ever made.
#[derive(Debug)]
struct Group {
    /// What its lines are known by.
    number: SegmentId,
    maker: usize,
    /// Its memory was zeroed for its maker.
    is_built: bool,
    is_sealed: bool,
    /// The fabric has had it, and has it no more.
    was_there: bool,
    is_ended: bool,
    /// What was in it is lost, for everybody.
    is_lost: bool,
    /// Since then its maker has published it, before it could know.
    is_late: bool,
    /// Hosts from which it was taken, until they have it again.
    taken: BTreeSet<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    all: BTreeMap<GroupTag, Group>,
    /// Who asked for what was not there any more: the host and its segment.
    hopeless: BTreeSet<(usize, u64)>,
    /// What hosts have asked for, until their stewards have said what came of it, and for which
    /// segment.
    awaited: BTreeMap<(usize, GroupTag), u64>,
    /// Hosts whose daemons have heard that the device was lost, since it was lost last.
    heard: BTreeSet<usize>,
    pub(crate) contents: Contents,
    /// Whose line a host stored at an address last.
    stored: BTreeMap<(usize, u64), Spot>,
}

fn tag_of(row: &SegmentRow) -> Option<GroupTag> {
    GroupTag::from_bytes(row.tag.as_slice().try_into().ok()?).ok()
}

/// Whether a host has a segment that is a group.
pub(crate) fn has(durable: &Durable, tag: GroupTag) -> bool {
    let all = durable.range((Table::Segments, 0)..=(Table::Segments, u64::MAX));
    let rows = all.filter_map(|(_, record)| match record {
        Record::Segment(row) if !row.freed => tag_of(row),
        _ => None,
    });
    rows.into_iter().any(|it| it == tag)
}

impl Groups {
    /// A host is about to make a group.
    pub(crate) fn made(&mut self, h: usize, tag: GroupTag) -> Checked {
        let (start, count) = (tag.addr().get(), tag.extents().bytes().get());
        let meets = |it: &GroupTag| {
            it.addr().get() < start + count && start < it.addr().get() + it.extents().bytes().get()
        };
        let other = self
            .all
            .iter()
            .find(|(it, group)| group.maker != h && meets(it));
        holds(other.is_none(), "a group is where its tag says", || {
            format!("host {h} makes {tag:?}, and there was {other:?}")
        })?;
        let number = self.all.len() as u64 + 1;
        let Some(number) = SegmentId::new(number) else {
            return broken("groups are counted", number);
        };
        let group = Group {
            number,
            maker: h,
            is_built: false,
            is_sealed: false,
            was_there: false,
            is_ended: false,
            is_lost: false,
            is_late: false,
            taken: BTreeSet::new(),
        };
        self.all.insert(tag, group);
        Ok(())
    }

    /// Whether there is such a group, and its contents.
    pub(crate) fn stands(&self, tag: GroupTag) -> bool {
        let group = self.all.get(&tag);
        group.is_some_and(|group| !group.is_ended && !group.is_lost)
    }

    /// A host asks for a group, for a segment. Whether there is one.
    pub(crate) fn asked(&mut self, h: usize, segment: u64, tag: GroupTag) -> bool {
        let is_there = self.stands(tag);
        if !is_there {
            self.hopeless.insert((h, segment));
        }
        is_there
    }

    /// The daemon of a host died: a segment that has no row yet never will, and its id is free.
    pub(crate) fn daemon_dies(&mut self, h: usize) {
        self.hopeless.retain(|(of, _)| *of != h);
        self.awaited.retain(|(of, _), _| *of != h);
    }

    /// A host waits for a group from now on, for a segment.
    pub(crate) fn waits(&mut self, h: usize, tag: GroupTag, segment: u64) {
        self.awaited.insert((h, tag), segment);
    }

    /// Whether a host waits for a group of another one.
    pub(crate) fn waits_for_others(&self, h: usize) -> bool {
        let mut awaited = self.awaited.keys().filter(|(of, _)| *of == h);
        awaited.any(|(_, tag)| self.maker(*tag).is_some_and(|maker| maker != h))
    }

    /// A steward says that the group of a segment is there, or is not to be had.
    pub(crate) fn said_of(&mut self, h: usize, segment: u64) {
        self.awaited
            .retain(|(of, _), its| (*of, *its) != (h, segment));
    }

    /// Memory of a group has come to a host.
    pub(crate) fn came(&self, h: usize, tag: GroupTag) -> Checked {
        let is_awaited = self.awaited.contains_key(&(h, tag));
        holds(is_awaited, "a host takes what it asked for", || {
            format!("host {h} takes {tag:?} and waits for {:?}", self.awaited)
        })
    }

    /// A host is about to end that a group is published.
    pub(crate) fn unpublishes(&self, h: usize, tag: GroupTag) -> Checked {
        let maker = self.maker(tag);
        let is_its = maker.is_none_or(|maker| maker == h);
        holds(is_its, "a reference is its maker's to end", || {
            format!("host {h} ends that of {tag:?}, and {maker:?} has made it")
        })
    }

    /// The steward of a host has said all that there is to say of what the device has lost.
    pub(crate) fn has_heard(&mut self, h: usize) {
        self.heard.insert(h);
    }

    /// Whether nothing of a group was built yet: its memory is to be zero.
    pub(crate) fn is_new(&self, tag: GroupTag) -> bool {
        self.all.get(&tag).is_some_and(|group| !group.is_built)
    }

    /// Its memory is zero.
    pub(crate) fn is_built(&mut self, tag: GroupTag) {
        if let Some(group) = self.all.get_mut(&tag) {
            group.is_built = true;
        }
    }

    /// Before a host commits `records`. Whether another host's group is among them.
    pub(crate) fn commit(
        &mut self,
        h: usize,
        durable: &Durable,
        records: &[Record],
    ) -> Checked<bool> {
        let mut joins = false;
        for record in records {
            let Record::Segment(row) = record else {
                continue;
            };
            let Some(tag) = tag_of(row) else {
                continue;
            };
            let is_new = !durable.contains_key(&record.place());
            let rule = "a group is where its tag says";
            let fits = row.addr == tag.addr().get() && row.bytes == tag.extents().bytes().get();
            holds(fits, rule, || format!("{row:?}"))?;
            let Some(group) = self.all.get_mut(&tag) else {
                return broken(
                    "what has ended is joined by nobody",
                    format_args!("{row:?}"),
                );
            };
            if is_new && row.sealed {
                let rule = "no one joins before the seal";
                holds(group.is_sealed, rule, || format!("host {h} has {row:?}"))?;
                let rule = "what has ended is joined by nobody";
                let is_over = group.is_lost && self.heard.contains(&h);
                let is_over = is_over || self.hopeless.contains(&(h, row.segment_id));
                let hopeless = group.is_ended || is_over && !group.is_late;
                holds(!hopeless, rule, || format!("host {h} has {row:?}"))?;
                group.taken.remove(&h);
                joins |= group.maker != h;
            }
            holds(
                row.sealed || group.maker == h,
                "no one joins before the seal",
                || format!("host {h} has {row:?}, and it is not sealed"),
            )?;
            group.is_sealed |= row.sealed && group.maker == h;
        }
        Ok(joins)
    }

    /// It is to be published.
    pub(crate) fn publishes(&mut self, h: usize, tag: GroupTag) -> Checked {
        let has_heard = self.heard.contains(&h);
        let group = self.all.get_mut(&tag);
        let is_sealed = group.is_some_and(|group| {
            group.is_late |= group.is_lost && !has_heard;
            group.is_sealed
        });
        let rule = "what is not sealed is not published";
        holds(is_sealed, rule, || format!("{tag:?}"))
    }

    /// Their device is gone, or has returned empty: all that was in it is lost, on each host.
    pub(crate) fn device_is_lost(&mut self, hosts: usize) {
        self.heard.clear();
        for group in self.all.values_mut() {
            group.taken.extend(0..hosts);
            if group.is_built && !group.is_ended {
                group.is_lost = true;
                self.contents.emptied(vec![(group.number, Vec::new())]);
            }
        }
    }

    /// It is taken from a host.
    pub(crate) fn taken(&mut self, h: usize, tag: GroupTag) {
        if let Some(group) = self.all.get_mut(&tag) {
            group.taken.insert(h);
        }
    }

    /// A reader on a host found a mark, or that the line is torn. It `is_told` of what happens.
    pub(crate) fn read(
        &mut self,
        (h, is_told): (usize, bool),
        (tag, spot): (GroupTag, Spot),
        found: Option<u64>,
    ) -> Checked {
        let is_lost = self.is_lost(tag);
        if !is_lost {
            return self.contents.read(spot, found).map(drop);
        }
        let is_late = self.all.get(&tag).is_some_and(|group| group.is_late);
        let knows = is_told && !is_late && self.heard.contains(&h);
        holds(
            !knows,
            "what was reset is read by nobody who was told",
            || format!("host {h} reads {spot:?} of {tag:?}"),
        )?;
        self.contents.read_of_lost(spot, found)
    }

    /// Whether what was in a group is lost for all.
    pub(crate) fn is_lost(&self, tag: GroupTag) -> bool {
        self.all.get(&tag).is_some_and(|group| group.is_lost)
    }

    /// Whether it is, and whoever has it has to know.
    pub(crate) fn is_known_to_be_lost(&self, tag: GroupTag) -> bool {
        let group = self.all.get(&tag);
        group.is_some_and(|group| group.is_lost && !group.is_late)
    }

    /// The fabric has just these. How many have ended since they were looked at.
    pub(crate) fn are(&mut self, there: &BTreeSet<GroupTag>, hosts: &[&Durable]) -> Checked<usize> {
        let mut ended = 0;
        for (tag, group) in &mut self.all {
            let is_there = there.contains(tag);
            group.was_there |= is_there;
            if is_there || group.is_ended || !group.was_there {
                continue;
            }
            (group.is_ended, ended) = (true, ended + 1);
            let has =
                |(h, durable): &(usize, &&Durable)| !group.taken.contains(h) && has(durable, *tag);
            let host = hosts.iter().enumerate().find(has).map(|(h, _)| h);
            let rule = "a group stays while somebody has it";
            holds(host.is_none(), rule, || format!("{tag:?} of host {host:?}"))?;
        }
        Ok(ended)
    }

    /// The maker of a group, where there was one.
    pub(crate) fn maker(&self, tag: GroupTag) -> Option<usize> {
        self.all.get(&tag).map(|group| group.maker)
    }

    pub(crate) fn spot(&self, tag: GroupTag, extent: u32, line: u32) -> Option<Spot> {
        let number = self.all.get(&tag)?.number;
        Some((number, extent, line))
    }

    /// A host stored a line of a group at an address.
    pub(crate) fn stored(
        &mut self,
        (h, at): (usize, u64),
        tag: GroupTag,
        spot: Spot,
        mark: u64,
    ) -> Checked {
        let is_open = self
            .all
            .get(&tag)
            .is_some_and(|it| !it.is_sealed && it.maker == h);
        holds(is_open, "a seal is for ever", || {
            format!("host {h} stores {mark} in {tag:?}")
        })?;
        self.contents.stored(spot, mark);
        self.stored.insert((h, at), spot);
        Ok(())
    }

    /// A line that a host stored did not reach memory.
    pub(crate) fn lost(&mut self, h: usize, at: u64) {
        if let Some(spot) = self.stored.get(&(h, at)) {
            self.contents.unsettled(*spot);
        }
    }

    /// The caches of a host died.
    pub(crate) fn host_dies(&mut self, h: usize) {
        let stored = self.stored.range((h, 0)..=(h, u64::MAX));
        for (_, spot) in stored {
            self.contents.unsettled(*spot);
        }
    }
}
