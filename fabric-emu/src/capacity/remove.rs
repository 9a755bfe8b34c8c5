//! Memory leaves a host: because it gives it back, or because the manager takes it away.

use super::add::NO_GROUP;
use super::group::{Extent, Group, GroupId, NO_TAG, ViewState};
use super::lists::{check_length, total, within};
use super::{Capacity, Part};
use crate::cci::Tag;
use crate::id::LdId;
use crate::refusal::Refusal;
use crate::span::Span;
use pool_core::planted;

/// Which memory a manager wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// So many bytes of what has this tag.
    Tagged {
        /// The tag; none for what has none.
        tag: Tag,
        /// How many bytes: all that has the tag, where it is sharable.
        bytes: u64,
    },
    /// What is at these addresses.
    Prescriptive(Vec<Span>),
}

/// Memory that nobody has any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Free at once.
    pub spans: Vec<Span>,
    /// To be zeroed first, and to be told by [`Capacity::zeroed`] then.
    pub zeroing: Vec<(GroupId, Vec<Span>)>,
}

/// What came of a manager's wish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// What the host is asked to release, or has lost.
    pub extents: Vec<Extent>,
    /// What is free now, where it was taken by force.
    pub freed: Freed,
}

/// Some extents of one view.
pub(super) type OfView = (GroupId, Vec<Span>);

impl Capacity {
    /// The host of `ld` gives extents back, or parts of them.
    ///
    /// # Errors
    /// [`Refusal::Address`] where it has not all of them; [`Refusal::Extents`] where they are not
    /// of whole blocks, or named twice; [`Refusal::Input`] where some of what is sharable is given
    /// back and not all.
    pub fn release(&mut self, ld: LdId, extents: &[Span]) -> Result<Freed, Refusal> {
        check_length(extents)?;
        let wanted = self.sort_out(ld, extents, false)?;
        self.check_split(ld, &wanted)?;
        let mut freed = Freed::default();
        for (id, extents) in wanted {
            freed.add(self.take_from_view(id, ld, &extents, false)?);
        }
        Ok(freed)
    }

    /// The manager wants memory back of the host of `ld`. By force it is gone at once, whatever the
    /// host does; what was only offered is gone too, and its addresses are free when the host has
    /// answered. Else the host is asked; `room` is as for [`Capacity::offer`].
    ///
    /// # Errors
    /// [`Refusal::Input`], [`Refusal::Address`], [`Refusal::Extents`], [`Refusal::Retry`].
    pub fn remove(
        &mut self,
        ld: LdId,
        removal: &Removal,
        (is_forced, sanitizes): (bool, bool),
        room: usize,
    ) -> Result<Removed, Refusal> {
        let spans = match removal {
            Removal::Tagged { tag, bytes } => self.tagged(ld, *tag, *bytes, is_forced)?,
            Removal::Prescriptive(spans) => spans.clone(),
        };
        check_length(&spans)?;
        let wanted = self.sort_out(ld, &spans, is_forced)?;
        if is_forced {
            self.check_split(ld, &wanted)?;
        }
        let mut removed = Removed::default();
        for (id, spans) in &wanted {
            let group = self.groups.get(id).ok_or(NO_GROUP)?;
            removed
                .extents
                .extend(spans.iter().map(|&span| group.extent_of(ld, span)));
        }
        if removed.extents.len() > room {
            return Err(Refusal::Retry("the log of the host has no room"));
        }
        for (id, spans) in wanted {
            if is_forced {
                removed
                    .freed
                    .add(self.take_from_view(id, ld, &spans, sanitizes)?);
                continue;
            }
            let group = self.groups.get_mut(&id).ok_or(NO_GROUP)?;
            group.sanitizes |= sanitizes;
            group.views.get_mut(&ld).ok_or(NO_GROUP)?.state = ViewState::Leaving;
        }
        Ok(removed)
    }

    /// Keeps what has a tag when no host has it.
    ///
    /// # Errors
    /// [`Refusal::Input`] where nothing has the tag, or it is referenced already.
    pub fn add_reference(&mut self, tag: Tag) -> Result<(), Refusal> {
        let group = self.group_of(tag)?;
        if group.is_referenced {
            return Err(Refusal::Input("the tag is referenced already"));
        }
        group.is_referenced = true;
        self.tag_changes = self.tag_changes.wrapping_add(1);
        Ok(())
    }

    /// Keeps it no longer.
    ///
    /// # Errors
    /// [`Refusal::Input`] where nothing has the tag, or it is not referenced.
    pub fn remove_reference(&mut self, tag: Tag) -> Result<Freed, Refusal> {
        let group = self.group_of(tag)?;
        if !group.is_referenced {
            return Err(Refusal::Input("the tag is not referenced"));
        }
        group.is_referenced = false;
        self.tag_changes = self.tag_changes.wrapping_add(1);
        let id = self.tags.get(&tag).copied().ok_or(NO_GROUP)?;
        Ok(self.drop_unused(id, false))
    }

    /// What groups held is lost: none is kept by a reference any more, and no offer stands. Hosts
    /// that have one keep its memory, and are told in other ways.
    pub fn forget_references(&mut self) -> Freed {
        let mut freed = Freed::default();
        let lds = 0..u16::try_from(self.lds.len()).unwrap_or(u16::MAX);
        for ld in lds.map(LdId) {
            freed.add(self.reset(ld).unwrap_or_default());
        }
        let referenced = self.tags().filter(|(.., is_referenced)| *is_referenced);
        let tags: Vec<Tag> = referenced.map(|(tag, ..)| tag).collect();
        for tag in tags {
            freed.add(self.remove_reference(tag).unwrap_or_default());
        }
        freed
    }

    /// The host of `ld` was reset: what was offered to it is withdrawn.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn reset(&mut self, ld: LdId) -> Result<Freed, Refusal> {
        let mut freed = Freed::default();
        while let Some(id) = self.ld_mut(ld)?.offers.pop_front() {
            freed.add(self.withdraw(id, ld)?);
        }
        Ok(freed)
    }

    /// Nobody is behind `ld` any more: all that it has is taken away.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn vacate(&mut self, ld: LdId) -> Result<Freed, Refusal> {
        let mut freed = self.reset(ld)?;
        let groups = self.groups.iter();
        let held: Vec<_> = groups
            .filter(|(_, group)| group.views.contains_key(&ld))
            .map(|(&id, _)| id)
            .collect();
        for id in held {
            freed.add(self.drop_view(id, ld, false)?);
        }
        Ok(freed)
    }

    /// Memory was zeroed, and is free now.
    ///
    /// # Errors
    /// [`Refusal::Input`] where nothing is zeroed under this number.
    pub fn zeroed(&mut self, id: GroupId) -> Result<Vec<Span>, Refusal> {
        let spans = self.zeroed.remove(&id);
        let spans = spans.ok_or(Refusal::Input("nothing is zeroed under this number"))?;
        self.set_free(&spans);
        Ok(spans)
    }

    /// What was offered, and is answered: nothing of it is taken, or it is dead.
    pub(super) fn withdraw(&mut self, id: GroupId, ld: LdId) -> Result<Freed, Refusal> {
        let device = self.ld_mut(ld)?;
        let Some((region, extents)) = device.dead.remove(&id) else {
            return self.drop_view(id, ld, false);
        };
        device.extents = device.extents.saturating_sub(extents.len());
        self.give_back_addresses(ld, region, &extents);
        Ok(Freed::default())
    }

    fn group_of(&mut self, tag: Tag) -> Result<&mut Group, Refusal> {
        let id = self.tags.get(&tag);
        let group = id.and_then(|id| self.groups.get_mut(id));
        group.ok_or(Refusal::Input("no memory has this tag"))
    }

    /// So many bytes of what has a tag, the highest addresses first.
    fn tagged(&self, ld: LdId, tag: Tag, bytes: u64, forced: bool) -> Result<Vec<Span>, Refusal> {
        let groups = self.groups.values().filter(|group| group.tag == tag);
        let views = groups.filter_map(|group| group.views.get(&ld));
        let views: Vec<_> = views.filter(|view| forced || view.is_added()).collect();
        for view in &views {
            if !bytes.is_multiple_of(self.region_of(ld, view.region)?.block) {
                return Err(Refusal::Input("the length is no number of blocks"));
            }
        }
        let mut extents: Vec<Span> = views.iter().flat_map(|view| view.extents.clone()).collect();
        extents.sort_unstable();
        let (mut left, mut wanted) = (bytes, Vec::new());
        while left > 0 {
            let Some(extent) = extents.pop() else {
                return Err(Refusal::Input("the tag has less than that here"));
            };
            let part = extent.bytes.min(left);
            wanted.extend(Span::new(extent.end() - part, part));
            left -= part;
        }
        Ok(wanted)
    }

    /// Which views `spans` are of: whole blocks of what the host has, none named twice, and all of
    /// what is sharable. With `offered` also of what it was offered, and then all of that.
    fn sort_out(&self, ld: LdId, spans: &[Span], offered: bool) -> Result<Vec<OfView>, Refusal> {
        self.ld(ld)?;
        if spans.is_empty() {
            return Err(Refusal::Input("there is no extent"));
        }
        let mut left: Vec<Span> = spans.to_vec();
        let mut wanted = Vec::new();
        for (&id, group) in &self.groups {
            let Some(view) = group.views.get(&ld) else {
                continue;
            };
            let is_one = |span: &Span| view.extents.iter().any(|extent| extent.contains(*span));
            let (of_view, others): (Vec<_>, Vec<_>) = left.into_iter().partition(is_one);
            left = others;
            if of_view.is_empty() {
                continue;
            }
            if !view.is_added() && !offered {
                return Err(Refusal::Address("an extent was not taken yet"));
            }
            let config = self.region_of(ld, view.region)?;
            let set = within(&of_view, &view.extents, config.block)?;
            let is_all = set.bytes() == total(&view.extents)?;
            if group.is_sharable && !is_all {
                return Err(Refusal::Input("what is sharable leaves as a whole"));
            }
            if !view.is_added() && !is_all {
                return Err(Refusal::Input("what was only offered leaves as a whole"));
            }
            wanted.push((id, of_view));
        }
        if left.is_empty() {
            Ok(wanted)
        } else {
            Err(Refusal::Address("the host has not all of the extents"))
        }
    }

    /// Takes `spans` away from a view: all of it where that is all, or where it was only offered.
    pub(super) fn take_from_view(
        &mut self,
        id: GroupId,
        ld: LdId,
        spans: &[Span],
        sanitizes: bool,
    ) -> Result<Freed, Refusal> {
        let (group, view) = self.view(id, ld)?;
        let taken = within(spans, &view.extents, 1)?;
        let is_answered = !self.ld(ld)?.offers.contains(&id);
        if !is_answered || taken.bytes() == group.bytes() {
            return self.drop_view(id, ld, sanitizes);
        }
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for (addresses, physical) in group.parts(view) {
            let at = |part: Span| Span::new(physical + (part.start - addresses.start), part.bytes);
            kept.extend(taken.gaps(addresses).into_iter().filter_map(at));
            let common = taken.iter().filter_map(|part| part.common(addresses));
            gone.extend(common.filter_map(at));
        }
        let region = view.region;
        let extents = view
            .extents
            .iter()
            .flat_map(|&extent| taken.gaps(extent))
            .collect();
        let old = view.extents.len();
        let group = self.groups.get_mut(&id).ok_or(NO_GROUP)?;
        group.pieces = kept;
        let is_zeroed = group.sanitizes || sanitizes;
        let view = group.views.get_mut(&ld).ok_or(NO_GROUP)?;
        view.extents = extents;
        let (new, is_added) = (view.extents.len(), view.is_added());
        let parts = group.parts(&group.views.get(&ld).ok_or(NO_GROUP)?.clone());
        self.give_back_addresses(ld, region, &taken.iter().collect::<Vec<_>>());
        let ld = self.ld_mut(ld)?;
        ld.extents = (ld.extents + new).saturating_sub(old);
        if is_added && !planted!("capacity.leaves_what_was_released_in_reach") {
            ld.change(id, &parts);
        }
        Ok(self.let_go(gone, is_zeroed))
    }

    /// Takes a view away from its logical device. Where it was offered and is not answered, its
    /// addresses stay taken until it is.
    pub(super) fn drop_view(
        &mut self,
        id: GroupId,
        ld: LdId,
        sanitizes: bool,
    ) -> Result<Freed, Refusal> {
        let group = self.groups.get_mut(&id).ok_or(NO_GROUP)?;
        let view = group.views.remove(&ld).ok_or(NO_GROUP)?;
        self.tag_changes = self.tag_changes.wrapping_add(1);
        let device = self.ld_mut(ld)?;
        if view.is_added() {
            device.change(id, &[]);
        }
        if device.offers.contains(&id) && !planted!("capacity.reuses_what_the_host_may_take") {
            device.dead.insert(id, (view.region, view.extents));
        } else {
            device.extents = device.extents.saturating_sub(view.extents.len());
            self.give_back_addresses(ld, view.region, &view.extents);
        }
        Ok(self.drop_unused(id, sanitizes))
    }

    /// Lets go of a group that nobody has and nobody refers to.
    fn drop_unused(&mut self, id: GroupId, sanitizes: bool) -> Freed {
        let is_shared =
            |group: &Group| !group.views.is_empty() && !planted!("capacity.frees_what_others_have");
        let is_used = |group: &Group| group.is_referenced || is_shared(group);
        if self.groups.get(&id).is_none_or(is_used) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.sanitizes |= sanitizes;
            }
            return Freed::default();
        }
        let Some(group) = self.groups.remove(&id) else {
            return Freed::default();
        };
        if group.tag != NO_TAG {
            self.tags.remove(&group.tag);
        }
        self.let_go(group.pieces, group.sanitizes || sanitizes)
    }

    fn let_go(&mut self, spans: Vec<Span>, is_zeroed: bool) -> Freed {
        if !is_zeroed {
            self.set_free(&spans);
            return Freed {
                spans,
                zeroing: Vec::new(),
            };
        }
        let id = self.new_id();
        self.zeroed.insert(id, spans.clone());
        Freed {
            spans: Vec::new(),
            zeroing: vec![(id, spans)],
        }
    }

    fn set_free(&mut self, spans: &[Span]) {
        for &span in spans {
            let is_new = self.free.insert(span);
            debug_assert!(is_new, "{span:?} was free");
        }
    }

    fn give_back_addresses(&mut self, ld: LdId, region: usize, spans: &[Span]) {
        let free = self
            .lds
            .get_mut(ld.index())
            .and_then(|ld| ld.free.get_mut(region));
        if let Some(free) = free {
            for &span in spans {
                let is_new = free.insert(span);
                debug_assert!(is_new, "{span:?} was free");
            }
        }
    }
}

impl super::Ld {
    /// Has the host reach of a group what `parts` say, and nothing else.
    pub(super) fn change(&mut self, id: GroupId, parts: &[(Span, u64)]) {
        self.parts.retain(|_, part| part.group != id);
        self.parts
            .extend(parts.iter().map(|&(addresses, physical)| {
                let part = Part {
                    physical,
                    bytes: addresses.bytes,
                    group: id,
                };
                (addresses.start, part)
            }));
        self.generation = self.generation.wrapping_add(1);
    }
}

impl Freed {
    fn add(&mut self, other: Self) {
        self.spans.extend(other.spans);
        self.zeroing.extend(other.zeroing);
    }
}
