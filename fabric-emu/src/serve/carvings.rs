//! Which memory of which host is carved, and which file holds it.
//!
//! A pure part of the shell: it looks at a fabric, changes no byte and opens no file. A *carving*
//! is a list of ranges of a logical device that its host had when it was carved; a *backing* is
//! the number of the file that holds them end to end.
//!
//! # Invariants, looked after by [`Carvings::check`]
//! 1. What is carved is memory that the host of the carving has, and was when it was carved: once
//!    [`Carvings::follow`] has seen what became of the fabric, no carving of what left is there.
//! 2. No byte of a device has two backings.
//! 3. A backing is of one group that is shared, and then of all of it and the same for all of its
//!    hosts as long as the group is there; or of one carving.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::planted;
use pool_core::units::PAGE_BYTES;

use super::wire::{Outcome, SPANS_MAX};
use crate::capacity::{GroupId, Had};
use crate::fabric::Fabric;
use crate::id::{HostId, LdId, MemdevId};
use crate::span::{Span, SpanSet};

/// Carvings of one host.
pub(super) const OF_HOST_MAX: usize = 1_024;

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backing(u64);

/// Memory that a host has carved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carving {
    /// Whose it is.
    pub host: HostId,
    /// The device.
    pub memdev: MemdevId,
    /// The logical device.
    pub ld: LdId,
    /// Its addresses, in the order of the file.
    pub spans: Vec<Span>,
    /// The file.
    pub backing: Backing,
    /// Whether the host only reads it.
    pub is_read_only: bool,
    groups: BTreeSet<GroupId>,
}

impl Carving {
    /// How long the file is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.spans.iter().map(|span| span.bytes).sum()
    }

    /// Where it is: a logical device, as its host sees it.
    fn is_at(&self, host: HostId, memdev: MemdevId, ld: LdId) -> bool {
        (self.host, self.memdev, self.ld) == (host, memdev, ld)
    }
}

/// An invariant does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Invariant 1.
    #[error("carving {0} is of memory that its host has not")]
    NotHad(u64),
    /// Invariant 2.
    #[error("carving {0} has bytes that another backing holds as well")]
    TwoBackings(u64),
    /// Invariant 3.
    #[error("carving {0} shares its backing with one of other memory")]
    OneBacking(u64),
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carvings {
    all: BTreeMap<u64, Carving>,
    /// The backings of what is shared.
    shared: BTreeMap<(MemdevId, GroupId), Backing>,
    carved: u64,
    backings: u64,
}

impl Carvings {
    /// Carves ranges of a logical device for a host that has them. Its number.
    ///
    /// # Errors
    /// The [`Outcome`] that says why not; nothing is carved then.
    pub fn carve(
        &mut self,
        fabric: &Fabric,
        (host, memdev, ld): (HostId, MemdevId, LdId),
        spans: Vec<Span>,
    ) -> Result<u64, Outcome> {
        if !fabric.is_alive(host) {
            return Err(Outcome::HostDead);
        }
        if !fabric.has_way(host, memdev, ld) {
            return Err(Outcome::Unreachable);
        }
        let had = had(fabric, memdev, ld);
        let asked = set_of(&spans)?;
        let groups = groups_of(&had, &asked)?;
        let of_host = || self.all.values().filter(|it| it.host == host);
        let is_carved = of_host()
            .filter(|it| it.is_at(host, memdev, ld))
            .any(|it| it.spans.iter().any(|&span| asked.overlaps(span)));
        if is_carved && !planted!("serve.carves_twice") {
            return Err(Outcome::Carved);
        }
        if of_host().count() >= OF_HOST_MAX {
            return Err(Outcome::TooMany);
        }
        let shared = shared_of(&groups, &spans)?.map(|group| (memdev, group));
        let backing = self.backing_for(shared);
        self.carved += 1;
        let carving = Carving {
            host,
            memdev,
            ld,
            spans,
            backing,
            is_read_only: groups.iter().any(|group| group.is_read_only),
            groups: groups.iter().map(|group| group.group).collect(),
        };
        self.all.insert(self.carved, carving);
        Ok(self.carved)
    }

    /// The backing of what is shared, or a fresh one.
    fn backing_for(&mut self, shared: Option<(MemdevId, GroupId)>) -> Backing {
        let known = shared.and_then(|group| self.shared.get(&group).copied());
        if let Some(known) = known.filter(|_| !planted!("serve.file_for_each_host")) {
            return known;
        }
        self.backings += 1;
        let fresh = Backing(self.backings);
        if let Some(group) = shared {
            self.shared.insert(group, fresh);
        }
        fresh
    }

    /// Ends a carving of a host.
    ///
    /// # Errors
    /// [`Outcome::NoCarving`] where the host has none of this number.
    pub fn give_back(&mut self, host: HostId, number: u64) -> Result<(), Outcome> {
        self.of(host, number).ok_or(Outcome::NoCarving)?;
        self.all.remove(&number);
        Ok(())
    }

    /// Ends all carvings that use a backing: its file could not be made.
    pub(super) fn give_up(&mut self, backing: Backing) {
        self.all.retain(|_, carving| carving.backing != backing);
        self.shared.retain(|_, shared| *shared != backing);
    }

    /// A carving of a host.
    #[must_use]
    pub fn of(&self, host: HostId, number: u64) -> Option<&Carving> {
        self.all.get(&number).filter(|it| it.host == host)
    }

    /// All carvings of a host, the oldest first.
    pub fn of_host(&self, host: HostId) -> impl Iterator<Item = (u64, &Carving)> + '_ {
        let all = self.all.iter().map(|(&number, carving)| (number, carving));
        all.filter(move |(_, carving)| carving.host == host)
    }

    /// The backings that are needed.
    #[must_use]
    pub fn backings(&self) -> BTreeSet<Backing> {
        let carved = self.all.values().map(|it| it.backing);
        carved.chain(self.shared.values().copied()).collect()
    }

    /// Has what became of the fabric become of the carvings. One ends where its host died, its
    /// device vanished, some of its memory left, or another host has the logical device now. A
    /// link that is down ends none: the host has its memory, and does not reach it.
    pub fn follow(&mut self, fabric: &Fabric) {
        if planted!("serve.keeps_what_left") {
            return;
        }
        self.all.retain(|_, carving| holds(fabric, carving));
        self.shared.retain(|&(memdev, group), _| {
            let device = fabric.memdev(memdev).filter(|_| fabric.is_there(memdev));
            device.is_some_and(|device| device.capacity().has_group(group))
        });
    }

    /// Looks whether the invariants hold.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn check(&self, fabric: &Fabric) -> Result<(), Broken> {
        let mut holders: BTreeMap<(MemdevId, u64), (u64, Backing)> = BTreeMap::new();
        let mut contents: BTreeMap<Backing, Vec<Span>> = BTreeMap::new();
        for (&number, carving) in &self.all {
            if !holds(fabric, carving) {
                return Err(Broken::NotHad(number));
            }
            let physical = physical(fabric, carving).ok_or(Broken::NotHad(number))?;
            for page in physical.iter().flat_map(|&span| pages(span)) {
                let holder = (carving.memdev, page);
                let (_, backing) = *holders.entry(holder).or_insert((number, carving.backing));
                if backing != carving.backing {
                    return Err(Broken::TwoBackings(number));
                }
            }
            let content = contents.entry(carving.backing);
            if *content.or_insert_with(|| physical.clone()) != physical {
                return Err(Broken::OneBacking(number));
            }
        }
        Ok(())
    }
}

/// Whether the memory of a carving is its host's still.
fn holds(fabric: &Fabric, carving: &Carving) -> bool {
    let &Carving {
        host, memdev, ld, ..
    } = carving;
    let is_there = fabric.is_alive(host) && fabric.is_there(memdev);
    let is_taken = || {
        let mut others = fabric.hosts().filter(|&other| other != host);
        others.any(|other| fabric.has_way(other, memdev, ld))
    };
    if !is_there || is_taken() {
        return false;
    }
    // A group that is added anew is another group.
    let had = had(fabric, memdev, ld).into_iter();
    let had: Vec<Had> = had
        .filter(|group| carving.groups.contains(&group.group))
        .collect();
    set_of(&carving.spans).is_ok_and(|spans| groups_of(&had, &spans).is_ok())
}

fn had(fabric: &Fabric, memdev: MemdevId, ld: LdId) -> Vec<Had> {
    let device = fabric.memdev(memdev);
    let had = device.and_then(|device| device.capacity().had(ld).ok());
    had.unwrap_or_default()
}

/// Ranges as a set: whole pages, none of them twice.
fn set_of(spans: &[Span]) -> Result<SpanSet, Outcome> {
    let is_sound = !spans.is_empty()
        && spans.len() <= SPANS_MAX
        && spans.iter().all(|span| span.is_of(PAGE_BYTES));
    let set = SpanSet::of_all(spans.iter().copied()).filter(|_| is_sound);
    set.ok_or(Outcome::BadSpans)
}

/// The groups that ranges are of, all of which are among those.
fn groups_of<'a>(had: &'a [Had], asked: &SpanSet) -> Result<Vec<&'a Had>, Outcome> {
    let extents = had.iter().flat_map(|group| group.extents.iter().copied());
    let all = SpanSet::of_all(extents).ok_or(Outcome::NotHad)?;
    if asked.iter().any(|span| !all.contains(span)) {
        return Err(Outcome::NotHad);
    }
    let is_asked = |group: &&Had| group.extents.iter().any(|&extent| asked.overlaps(extent));
    let groups: Vec<&Had> = had.iter().filter(is_asked).collect();
    match groups.first() {
        Some(first)
            if groups
                .iter()
                .all(|it| it.is_read_only == first.is_read_only) =>
        {
            Ok(groups)
        }
        Some(_) => Err(Outcome::BadSpans),
        None => Err(Outcome::NotHad),
    }
}

/// The shared group that ranges are, if they are one: whole, and in its order.
fn shared_of(groups: &[&Had], spans: &[Span]) -> Result<Option<GroupId>, Outcome> {
    if groups.iter().all(|group| !group.is_sharable) {
        return Ok(None);
    }
    match groups {
        [group] if group.extents == spans => Ok(Some(group.group)),
        _ => Err(Outcome::NotWhole),
    }
}

/// Where in its device the bytes of a carving are, in the order of its file, as pieces that do not
/// touch.
fn physical(fabric: &Fabric, carving: &Carving) -> Option<Vec<Span>> {
    let capacity = fabric.memdev(carving.memdev)?.capacity();
    let mut pieces: Vec<Span> = Vec::new();
    for span in &carving.spans {
        let mut at = span.start;
        while at < span.end() {
            let place = capacity.place(carving.ld, at)?;
            let bytes = place.bytes.min(span.end() - at);
            match pieces.last_mut() {
                Some(last) if last.end() == place.physical => last.bytes += bytes,
                _ => pieces.push(Span::new(place.physical, bytes)?),
            }
            at += bytes;
        }
    }
    Some(pieces)
}

/// The pages of a piece, each by its number.
fn pages(span: Span) -> impl Iterator<Item = u64> {
    span.start / PAGE_BYTES..span.end().div_ceil(PAGE_BYTES)
}
