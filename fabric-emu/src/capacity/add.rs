//! Memory is offered to a host, which takes all of it, some of it, or none.

use super::group::{Extent, Group, GroupId, NO_TAG, View, ViewState};
use super::lists::{check_length, total, within};
use super::remove::{Freed, OfView};
use super::{Capacity, MOST_EXTENTS, MOST_TAGS, Region};
use crate::cci::Tag;
use crate::id::LdId;
use crate::refusal::Refusal;
use crate::span::{Span, SpanSet};
use pool_core::planted;

/// Which memory is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// So many bytes, at whatever addresses.
    Free(u64),
    /// So many bytes, at addresses that follow each other.
    Contiguous(u64),
    /// At these addresses.
    Prescriptive(Vec<Span>),
    /// What other logical devices have under the tag.
    Shared,
}

/// What came of a host's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What it has from now on.
    pub added: Vec<Extent>,
    /// What it did not take.
    pub freed: Freed,
}

impl Capacity {
    /// Offers memory to the host of `ld`, in its region `region`, under `tag`. `room` is how many
    /// more events the host's log takes: there is one for each extent.
    ///
    /// # Errors
    /// [`Refusal::Input`], [`Refusal::Extents`], [`Refusal::Exhausted`], [`Refusal::Retry`].
    pub fn offer(
        &mut self,
        (ld, region): (LdId, usize),
        selection: &Selection,
        tag: Tag,
        room: usize,
    ) -> Result<Vec<Extent>, Refusal> {
        let config = self.region_of(ld, region)?;
        if *selection == Selection::Shared {
            return self.offer_shared((ld, region), tag, room);
        }
        self.check_tag(&config, tag)?;
        let mut addresses = self.lds[ld.index()].free[region].clone();
        let extents = take_addresses(&mut addresses, &config, selection)?;
        self.check_room(ld, extents.len(), room)?;
        let bytes = total(&extents)?;
        // Only addresses are of whole blocks: memory may lie anywhere.
        let pieces = self.free.take_some(bytes, 1);
        let pieces = pieces.ok_or(Refusal::Exhausted("the device has not as much free memory"))?;
        self.lds[ld.index()].free[region] = addresses;
        let group = Group {
            tag,
            is_sharable: config.is_sharable,
            is_hardware_coherent: config.is_hardware_coherent,
            sanitizes: config.sanitizes,
            is_referenced: false,
            pieces,
            views: [].into(),
        };
        let id = self.new_id();
        if tag != NO_TAG {
            self.tags.insert(tag, id);
        }
        self.groups.insert(id, group);
        Ok(self.place_offer(id, (ld, region), extents))
    }

    /// The same memory, for one more host.
    fn offer_shared(
        &mut self,
        (ld, region): (LdId, usize),
        tag: Tag,
        room: usize,
    ) -> Result<Vec<Extent>, Refusal> {
        let config = self.region_of(ld, region)?;
        let known = self.tags.get(&tag).copied();
        let id = known.ok_or(Refusal::Input("no memory has this tag"))?;
        let Some(group) = self.groups.get(&id) else {
            return Err(Refusal::Input("no memory has this tag"));
        };
        let is_sharable = group.is_sharable || planted!("capacity.shares_anything");
        if !is_sharable || !config.is_sharable {
            return Err(Refusal::Input("the region is not sharable"));
        }
        if self.ld(ld)?.dead.contains_key(&id) {
            return Err(Refusal::Retry(
                "the host has not answered an offer of this tag",
            ));
        }
        if group.views.contains_key(&ld) {
            return Err(Refusal::Input("the logical device has this tag already"));
        }
        if group.is_hardware_coherent != config.is_hardware_coherent {
            return Err(Refusal::Input("the region is kept coherent in another way"));
        }
        if !group.bytes().is_multiple_of(config.block) {
            return Err(Refusal::Input(
                "the memory is not of whole blocks of the region",
            ));
        }
        let mut addresses = self.lds[ld.index()].free[region].clone();
        let extents = addresses.take_some(group.bytes(), config.block);
        let extents = extents.ok_or(Refusal::Exhausted("the region has not as many addresses"))?;
        self.check_room(ld, extents.len(), room)?;
        self.lds[ld.index()].free[region] = addresses;
        Ok(self.place_offer(id, (ld, region), extents))
    }

    fn place_offer(
        &mut self,
        id: GroupId,
        (ld, region): (LdId, usize),
        extents: Vec<Span>,
    ) -> Vec<Extent> {
        let Some(group) = self.groups.get_mut(&id) else {
            return Vec::new();
        };
        self.tag_changes = self.tag_changes.wrapping_add(1);
        self.lds[ld.index()].extents += extents.len();
        self.lds[ld.index()].offers.push_back(id);
        let view = View {
            state: ViewState::Offered,
            region,
            extents,
        };
        let told = group.extents(&view);
        group.views.insert(ld, view);
        told
    }

    /// The answer of the host of `ld` to the oldest offer that it did not answer: what it takes of
    /// it, in any order.
    ///
    /// # Errors
    /// [`Refusal::Input`] where nothing was offered, or some of what is sharable is taken;
    /// [`Refusal::Address`] where what is taken was not offered, [`Refusal::Extents`] where it is
    /// not of whole blocks, or named twice.
    pub fn answer(&mut self, ld: LdId, taken: &[Span]) -> Result<Answered, Refusal> {
        check_length(taken)?;
        let offers = &self.ld(ld)?.offers;
        let id = *offers
            .front()
            .ok_or(Refusal::Input("nothing was offered"))?;
        let (region, offered, is_sharable) = self.offered(id, ld)?;
        let config = self.region_of(ld, region)?;
        let taken = within(taken, &offered, config.block)?;
        let is_all = total(&offered)? == taken.bytes();
        if is_sharable && !is_all && taken.bytes() != 0 {
            return Err(Refusal::Input(
                "what is sharable is taken as a whole or not at all",
            ));
        }
        let rest = offered.iter().flat_map(|&extent| taken.gaps(extent));
        let rest: Vec<Span> = rest.collect();
        let is_dead = self.ld(ld)?.dead.contains_key(&id);
        if !is_dead && !is_all && taken.bytes() != 0 {
            self.check_split(ld, &[(id, rest.clone())])?;
        }
        self.ld_mut(ld)?.offers.pop_front();
        if taken.bytes() == 0 || is_dead {
            let freed = self.withdraw(id, ld)?;
            return Ok(Answered {
                added: Vec::new(),
                freed,
            });
        }
        let freed = if is_all {
            Freed::default()
        } else {
            self.take_from_view(id, ld, &rest, false)?
        };
        let added = self.admit(id, ld)?;
        Ok(Answered { added, freed })
    }

    /// Has the host reach what it was offered.
    fn admit(&mut self, id: GroupId, ld: LdId) -> Result<Vec<Extent>, Refusal> {
        let group = self.groups.get_mut(&id).ok_or(NO_GROUP)?;
        let view = group.views.get_mut(&ld).ok_or(NO_GROUP)?;
        view.state = ViewState::Added;
        let view = view.clone();
        let (parts, added) = (group.parts(&view), group.extents(&view));
        self.ld_mut(ld)?.change(id, &parts);
        self.tag_changes = self.tag_changes.wrapping_add(1);
        Ok(added)
    }

    pub(super) fn view(&self, id: GroupId, ld: LdId) -> Result<(&Group, &View), Refusal> {
        let group = self.groups.get(&id).ok_or(NO_GROUP)?;
        Ok((group, group.views.get(&ld).ok_or(NO_GROUP)?))
    }

    /// What was offered and is not answered: the region, the extents, and whether all or nothing
    /// of it is taken.
    fn offered(&self, id: GroupId, ld: LdId) -> Result<(usize, Vec<Span>, bool), Refusal> {
        if let Some((region, extents)) = self.ld(ld)?.dead.get(&id) {
            return Ok((*region, extents.clone(), false));
        }
        let (group, view) = self.view(id, ld)?;
        Ok((view.region, view.extents.clone(), group.is_sharable))
    }

    pub(super) fn region_of(&self, ld: LdId, region: usize) -> Result<Region, Refusal> {
        let found = self.ld(ld)?.regions.get(region).copied();
        found.ok_or(Refusal::Input("there is no such region"))
    }

    fn check_tag(&self, config: &Region, tag: Tag) -> Result<(), Refusal> {
        if self.tags.contains_key(&tag) {
            return Err(Refusal::Input("other memory has this tag"));
        }
        if config.is_sharable && tag == NO_TAG {
            return Err(Refusal::Input("what is sharable has a tag"));
        }
        if tag != NO_TAG && self.tags.len() >= MOST_TAGS {
            return Err(Refusal::Exhausted("the device keeps track of no more tags"));
        }
        Ok(())
    }

    /// Whether what is left of some views can be kept track of, once parts of them are taken away.
    pub(super) fn check_split(&self, ld: LdId, taken: &[OfView]) -> Result<(), Refusal> {
        let mut extents = self.ld(ld)?.extents;
        for (id, spans) in taken {
            let (_, view) = self.view(*id, ld)?;
            let taken = within(spans, &view.extents, 1)?;
            let left = view.extents.iter().map(|&extent| taken.gaps(extent).len());
            extents = (extents + left.sum::<usize>()).saturating_sub(view.extents.len());
        }
        if extents > MOST_EXTENTS {
            return Err(Refusal::Exhausted(
                "the device keeps track of no more extents",
            ));
        }
        Ok(())
    }

    fn check_room(&self, ld: LdId, extents: usize, room: usize) -> Result<(), Refusal> {
        if self.ld(ld)?.extents + extents > MOST_EXTENTS {
            return Err(Refusal::Exhausted(
                "the device keeps track of no more extents",
            ));
        }
        if extents > room {
            return Err(Refusal::Retry("the log of the host has no room"));
        }
        Ok(())
    }
}

/// What [`Capacity`] never finds, by its invariants.
pub(super) const NO_GROUP: Refusal = Refusal::Input("there is no such group");

fn take_addresses(
    free: &mut SpanSet,
    config: &Region,
    selection: &Selection,
) -> Result<Vec<Span>, Refusal> {
    let is_whole = |bytes: u64| bytes > 0 && bytes.is_multiple_of(config.block);
    const NONE: Refusal = Refusal::Exhausted("the region has not as many addresses");
    match selection {
        Selection::Free(bytes) | Selection::Contiguous(bytes) if !is_whole(*bytes) => {
            Err(Refusal::Input("the length is no number of blocks"))
        }
        Selection::Free(bytes) => free.take_some(*bytes, config.block).ok_or(NONE),
        Selection::Contiguous(bytes) => {
            let taken = free.take_one(*bytes, config.block);
            taken.map(|it| vec![it]).ok_or(NONE)
        }
        Selection::Prescriptive(spans) => {
            if spans.is_empty() || spans.len() > MOST_EXTENTS {
                return Err(Refusal::Extents(
                    "there is no extent, or there are too many",
                ));
            }
            for &span in spans {
                if !span.is_of(config.block) || !config.span.contains(span) {
                    return Err(Refusal::Extents("an extent is no block of the region"));
                }
                if !free.remove(span) {
                    return Err(Refusal::Extents("an extent is taken, or named twice"));
                }
            }
            Ok(spans.clone())
        }
        Selection::Shared => Err(Refusal::Input("no memory has this tag")),
    }
}
