//! Memory that is offered: what is taken of it, and in which order it is answered.

use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
use fabric_emu::cci::{List, Tag};
use fabric_emu::span::Span;
use pool_core::{EXTENT_BYTES, Nanos};

use super::log::Offer;
use super::{Demand, MOST_PARTS, OFFERED_MAX, Step, Steward};

/// An answer that takes nothing.
pub(super) const NOTHING: UpdatedExtentList = UpdatedExtentList {
    flags: 0,
    extents: List::new(),
};

/// The pieces, in order, as a host takes them or gives them back.
pub(super) fn list_of(pieces: impl IntoIterator<Item = Span>) -> UpdatedExtentList {
    let extent = |piece: Span| UpdatedExtent {
        start_dpa: piece.start,
        length: piece.bytes,
    };
    let extents: Vec<UpdatedExtent> = pieces.into_iter().map(extent).collect();
    UpdatedExtentList {
        flags: 0,
        extents: extents.try_into().unwrap_or_default(),
    }
}

impl Steward {
    /// A piece is offered. Of more than can be kept nothing is taken.
    pub(super) fn is_offered(&mut self, piece: Span, tag: Tag, has_more: bool) {
        if self.offered >= OFFERED_MAX {
            self.in_doubt = true;
            return;
        }
        self.offered += 1;
        self.half_offer.tag = tag;
        self.half_offer.pieces.push(piece);
        if !has_more {
            self.offers.push_back(std::mem::take(&mut self.half_offer));
        }
    }

    /// Whatever is offered is not known any more.
    pub(super) fn forget_offers(&mut self) {
        self.offers.clear();
        self.half_offer = Offer::default();
        (self.offered, self.in_doubt) = (0, true);
    }

    /// Records that are done with are gone: what is next.
    pub(super) fn after_events(&mut self) {
        self.step = if std::mem::take(&mut self.reads_on) {
            Step::Events
        } else if self.region.is_none() {
            Step::Configure
        } else if !self.offers.is_empty() {
            Step::Answer
        } else if self.in_doubt {
            Step::Decline
        } else {
            return self.read_list();
        };
    }

    /// Extents that may still be taken.
    pub(super) fn room(&self, demand: &Demand) -> u32 {
        let held = self.held.as_ref().map_or(0, super::RunSet::count);
        let has = demand.total.get().max(held).saturating_add(self.taken);
        demand.most.get().saturating_sub(has)
    }

    /// What of the oldest offer is taken: whole units that the device has numbers for, until there
    /// is as much as is wanted. And how many extents that is.
    pub(super) fn answer(&self, demand: &Demand) -> (UpdatedExtentList, u32) {
        let (Some(region), Some(offer)) = (self.region, self.offers.front()) else {
            return (NOTHING, 0);
        };
        if let Some(group) = self.group_answer(offer.tag, &offer.pieces) {
            return (group, 0);
        }
        let wanted = if demand.draining {
            0
        } else {
            self.room(demand)
        };
        let (mut left, mut taken) = (wanted, Vec::new());
        for &piece in &offer.pieces {
            let first = region.first(piece).unwrap_or(u32::MAX);
            let numbered = demand.most.get().saturating_sub(first);
            let whole = region.whole(piece).min(left).min(numbered);
            let whole = whole / region.unit * region.unit;
            if whole > 0 {
                taken.push(UpdatedExtent {
                    start_dpa: piece.start,
                    length: u64::from(whole) * EXTENT_BYTES,
                });
                left -= whole;
            }
        }
        let extents = taken.try_into().unwrap_or_default();
        (UpdatedExtentList { flags: 0, extents }, wanted - left)
    }

    pub(super) fn has_answered(&mut self) {
        self.taken = self.taken.saturating_add(self.taking);
        self.answered_for();
        self.after_events();
    }

    /// The oldest offer that is known is done with.
    fn answered_for(&mut self) {
        let offer = self.offers.pop_front().unwrap_or_default();
        self.offered = self.offered.saturating_sub(offer.pieces.len());
    }

    /// Another offer was to be answered before, or this one is no more.
    pub(super) fn is_not_the_oldest(&mut self) {
        self.in_doubt = true;
        self.step = Step::Decline;
    }

    /// One that was older is declined.
    pub(super) fn has_declined(&mut self, now: Nanos) {
        self.parts += 1;
        if self.parts < MOST_PARTS {
            self.after_events();
        } else {
            self.rest(now);
        }
    }

    /// Nothing is offered: also not what seemed to be.
    pub(super) fn has_declined_all(&mut self) {
        self.in_doubt = false;
        self.answered_for();
        self.after_events();
    }
}
