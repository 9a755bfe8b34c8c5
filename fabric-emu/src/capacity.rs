//! Dynamic capacity of a memory device: which of its memory is at which addresses of which logical
//! device.
//!
//! # Words
//! A *group* is memory that was added together; where it has a tag, all of it has. A *view* is a
//! group as one logical device has it: the same bytes, at device physical addresses (DPA) of its
//! own. A group of a sharable region may have several views, each of all of it; any other has one.
//!
//! # The life of a view
//! ```text
//!            the host takes all or some
//! offered ------------------------------> added ----> leaving (the manager asked for some of it)
//!    |  \                                   |            |
//!    |   \ forced                           | host releases, or forced
//!    |    `-> dead                          v            v
//!    |         |  the host answers       +------------------+
//!    +---------+-----------------------> |       gone       |
//!      host takes nothing, or is reset   +------------------+
//! ```
//! A group whose last view is gone, and that nobody has a reference to, is no more: its memory is
//! free, at once or, where its region says so, after it was zeroed.
//!
//! # Invariants
//! 1. Each byte is free, of one group, or being zeroed: of one of them, and one time.
//! 2. A group has a view, or a tag that is referenced. It has several views only where it is
//!    sharable, and then each of them is of all of it.
//! 3. Extents of one logical device do not overlap, are within the region that they were added in,
//!    and begin and end at multiples of its block.
//! 4. A tag other than zero is of one group.
//! 5. The generation of a logical device's list rises whenever the list changes.
//! 6. What is refused changes nothing.
//! 7. A host can answer what it was offered, also once that is dead.
//!
//! # Files
//! `group`: groups and views. `lists`: what is sent. `add`: offering, and the answers of hosts.
//! `remove`: asking, releasing, forcing, zeroing. `had`: what hosts have, by groups. `check`: the
//! invariants.

use std::collections::{BTreeMap, VecDeque};

use crate::cci::Tag;
use crate::id::LdId;
use crate::refusal::Refusal;
use crate::span::{Span, SpanSet};

mod add;
mod check;
mod group;
mod had;
mod lists;
mod remove;
#[cfg(test)]
mod tests;

pub use add::{Answered, Selection};
pub use check::Broken;
pub use group::{Extent, GroupId, NO_TAG, ViewState};
pub use had::Had;
pub use remove::{Freed, Removal, Removed};

use group::Group;

/// Extents of a logical device that a device keeps track of.
pub const MOST_EXTENTS: usize = 512;
/// Groups of a device that have a tag.
pub const MOST_TAGS: usize = 1_024;
/// The smallest block: a line.
const LEAST_BLOCK: u64 = 64;

/// A region of one logical device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its addresses.
    pub span: Span,
    /// The unit in which memory is added.
    pub block: u64,
    /// Whether several logical devices may have the same memory.
    pub is_sharable: bool,
    /// Whether hosts only read it.
    pub is_read_only: bool,
    /// Whether memory is zeroed after its last view.
    pub sanitizes: bool,
    /// Whether hardware keeps the caches of its hosts the same.
    pub is_hardware_coherent: bool,
}

/// What is at an address of a logical device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where in the memory of the device.
    pub physical: u64,
    /// How many bytes follow there in one piece, from that one on.
    pub bytes: u64,
    /// Which group it is of.
    pub group: GroupId,
    /// Whether hosts only read it.
    pub is_read_only: bool,
    /// Whether hardware keeps the caches of its hosts the same.
    pub is_hardware_coherent: bool,
}

/// A part of a view: bytes that are next to each other in both numberings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    physical: u64,
    bytes: u64,
    group: GroupId,
}

/// What one logical device has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ld {
    regions: Vec<Region>,
    /// Addresses of each region at which nothing is.
    free: Vec<SpanSet>,
    /// What its host can reach, by address.
    parts: BTreeMap<u64, Part>,
    /// What was offered to its host and not answered, the oldest first.
    offers: VecDeque<GroupId>,
    /// Which of those were taken away since: the regions and addresses that they keep until then.
    dead: BTreeMap<GroupId, (usize, Vec<Span>)>,
    generation: u32,
    extents: usize,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    all: Span,
    free: SpanSet,
    lds: Vec<Ld>,
    groups: BTreeMap<GroupId, Group>,
    tags: BTreeMap<Tag, GroupId>,
    /// What is zeroed before it is free.
    zeroed: BTreeMap<GroupId, Vec<Span>>,
    created: u32,
    tag_changes: u32,
}

impl Capacity {
    /// The memory `all`, of which logical devices have regions as given.
    #[must_use]
    pub fn new(all: Span, lds: &[Vec<Region>]) -> Self {
        let ld = |regions: &Vec<Region>| Ld {
            free: regions.iter().map(|it| SpanSet::of(it.span)).collect(),
            regions: regions.clone(),
            parts: BTreeMap::new(),
            offers: VecDeque::new(),
            dead: BTreeMap::new(),
            generation: 0,
            extents: 0,
        };
        Self {
            all,
            free: SpanSet::of(all),
            lds: lds.iter().map(ld).collect(),
            groups: BTreeMap::new(),
            tags: BTreeMap::new(),
            zeroed: BTreeMap::new(),
            created: 0,
            tag_changes: 0,
        }
    }

    /// How much is free.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free.bytes()
    }

    /// How much there is.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.all.bytes
    }

    /// The regions of a logical device.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn regions(&self, ld: LdId) -> Result<&[Region], Refusal> {
        Ok(&self.ld(ld)?.regions)
    }

    /// How often the list of a logical device has changed.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn generation(&self, ld: LdId) -> Result<u32, Refusal> {
        Ok(self.ld(ld)?.generation)
    }

    /// Has the list of a logical device be another one, with the same in it.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn change_list(&mut self, ld: LdId) -> Result<(), Refusal> {
        let ld = self.ld_mut(ld)?;
        ld.generation = ld.generation.wrapping_add(1);
        Ok(())
    }

    /// What a host has, by address: what it took, and did not release.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn extents(&self, ld: LdId) -> Result<Vec<Extent>, Refusal> {
        self.ld(ld)?;
        let views = self.groups.values().filter_map(|group| {
            let view = group.views.get(&ld)?;
            view.is_added().then(|| group.extents(view))
        });
        let mut extents: Vec<_> = views.flatten().collect();
        extents.sort_by_key(|extent| extent.span);
        Ok(extents)
    }

    /// What is at an address, for the host of a logical device.
    #[must_use]
    pub fn place(&self, ld: LdId, address: u64) -> Option<Place> {
        let device = self.lds.get(ld.index())?;
        let (&start, part) = device.parts.range(..=address).next_back()?;
        let into = address - start;
        let left = part.bytes.checked_sub(into).filter(|&left| left > 0)?;
        let group = self.groups.get(&part.group)?;
        let region = device.regions.get(group.views.get(&ld)?.region)?;
        Some(Place {
            physical: part.physical + into,
            bytes: left,
            group: part.group,
            is_read_only: region.is_read_only,
            is_hardware_coherent: group.is_hardware_coherent,
        })
    }

    /// Where in the memory of the device that is which the host of a logical device reaches.
    pub fn reached(&self, ld: LdId) -> impl Iterator<Item = Span> + '_ {
        let parts = self.lds.get(ld.index()).map(|ld| ld.parts.values());
        parts.into_iter().flatten().map(|part| Span {
            start: part.physical,
            bytes: part.bytes,
        })
    }

    /// The tags there are, each with the logical devices that were offered it or have it, and
    /// whether it is referenced.
    pub fn tags(&self) -> impl Iterator<Item = (Tag, Vec<(LdId, ViewState)>, bool)> + '_ {
        self.tags.iter().filter_map(|(&tag, id)| {
            let group = self.groups.get(id)?;
            let views = group.views.iter().map(|(&ld, view)| (ld, view.state));
            Some((tag, views.collect(), group.is_referenced))
        })
    }

    /// Sets a region up anew, for all logical devices.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such region, some of it is in use, or the block is no
    /// power of two that divides it.
    pub fn configure(&mut self, region: usize, block: u64, sanitizes: bool) -> Result<(), Refusal> {
        for ld in &self.lds {
            let config = ld.regions.get(region);
            let config = config.ok_or(Refusal::Input("there is no such region"))?;
            if ld.free.get(region) != Some(&SpanSet::of(config.span)) {
                return Err(Refusal::Input("some of the region is in use"));
            }
            let is_block = block.is_power_of_two() && block >= LEAST_BLOCK;
            if !is_block || !config.span.is_of(block) {
                return Err(Refusal::Input("the region has no such blocks"));
            }
        }
        for config in self
            .lds
            .iter_mut()
            .filter_map(|ld| ld.regions.get_mut(region))
        {
            config.block = block;
            config.sanitizes = sanitizes;
        }
        Ok(())
    }

    /// How many extents more of a logical device, and how many tags more, can be kept track of.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn room(&self, ld: LdId) -> Result<(usize, usize), Refusal> {
        let extents = MOST_EXTENTS.saturating_sub(self.ld(ld)?.extents);
        Ok((extents, MOST_TAGS.saturating_sub(self.tags.len())))
    }

    /// How often the tags there are have changed, or who has them.
    #[must_use]
    pub const fn tag_changes(&self) -> u32 {
        self.tag_changes
    }

    fn new_id(&mut self) -> GroupId {
        let id = GroupId(self.created);
        self.created = self.created.wrapping_add(1);
        id
    }

    fn ld(&self, ld: LdId) -> Result<&Ld, Refusal> {
        let found = self.lds.get(ld.index());
        found.ok_or(Refusal::Input("there is no such logical device"))
    }

    fn ld_mut(&mut self, ld: LdId) -> Result<&mut Ld, Refusal> {
        let found = self.lds.get_mut(ld.index());
        found.ok_or(Refusal::Input("there is no such logical device"))
    }
}
