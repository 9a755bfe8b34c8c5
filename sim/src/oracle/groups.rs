//! Groups, over all hosts: what each host's journal says of them, and what was stored in them.
//!
//! # Rules
//! - *a group is where its tag says*, on every host, and each maker makes its own in addresses that
//!   are no other maker's.
//! - *no one joins before the seal*: another host has a row of a group only after its maker's row
//!   was sealed.
//! - *what has ended is joined by nobody*: whoever asks for a group that the fabric has no more, or
//!   never had, or whose contents were lost, gets none.
//! - *what is not sealed is not published*, and a reference ends after its maker's segment, or when
//!   what was in it is lost.
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
    /// Hosts from which it was taken, until they have it again.
    taken: BTreeSet<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    all: BTreeMap<GroupTag, Group>,
    /// Who asked for what was not there any more: the host and its segment.
    hopeless: BTreeSet<(usize, u64)>,
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
                let hopeless = self.hopeless.contains(&(h, row.segment_id));
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
    pub(crate) fn publishes(&self, tag: GroupTag) -> Checked {
        let is_sealed = self.all.get(&tag).is_some_and(|group| group.is_sealed);
        let rule = "what is not sealed is not published";
        holds(is_sealed, rule, || format!("{tag:?}"))
    }

    /// Their device is gone, or has returned empty: all that was in it is lost, on each host.
    pub(crate) fn device_is_lost(&mut self, hosts: usize) {
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
