//! The lists that a device is read by: of extents that are there, and of lines that are bad.

use fabric_emu::cci::Request;
use fabric_emu::cci::dcd::GetDcExtentListResponse;
use fabric_emu::cci::poison::{GetPoisonListRequest, GetPoisonListResponse};
use pool_core::Nanos;
use pool_core::units::LINE_BYTES;

use super::region::piece_of;
use super::{
    Capacity, Groups, LISTED_MAX, Listing, MOST_PARTS, Region, Run, RunSet, Step, Steward, Whose,
};

impl Steward {
    pub(super) fn listed(
        &mut self,
        now: Nanos,
        mut listing: Listing,
        list: &GetDcExtentListResponse,
    ) {
        if *listing
            .generation
            .get_or_insert(list.extent_list_generation)
            != list.extent_list_generation
        {
            // It has changed in between.
            self.parts += 1;
            return if self.parts < MOST_PARTS {
                self.read_list();
            } else {
                self.rest(now);
            };
        }
        listing.pieces.extend(list.extents.iter().cloned());
        listing.next = u32::try_from(listing.pieces.len()).unwrap_or(u32::MAX);
        if listing.next < list.total_extent_count {
            if list.extents.is_empty() || listing.pieces.len() >= LISTED_MAX {
                // It ends before it is over, or never: what is there is not known.
                return self.lost_touch(now);
            }
            self.step = Step::List(listing);
            return;
        }
        let Some(region) = self.region else {
            return self.begin_round();
        };
        let pieces: Vec<_> = listing.pieces.iter().map(piece_of).collect();
        let there = region.runs(&pieces);
        self.taken = 0;
        let is_first = self.held.is_none();
        let groups = self.groups.as_mut();
        let word = groups.and_then(|groups| groups.listed(&listing.pieces, is_first));
        if let Some(word) = word {
            self.say(Whose::Groups, word);
        }
        if let Some(held) = self.held.take() {
            // What left is told before anything else.
            let left = held.minus(&there).count() > 0;
            let held = held.common(&there);
            if left {
                let rest = held.iter().collect();
                self.say(Whose::Own, Capacity::Present(rest));
            }
            self.held = Some(held);
            self.there = there;
            self.bad = self.bad.common(&self.there);
            self.asked_back = self.asked_back.common(&self.there);
            self.found_bad.clear();
            self.step = Step::Poison(0);
            return;
        }
        // At first: nothing is granted of it before poison is read.
        self.say(Whose::Own, Capacity::Present(there.iter().collect()));
        self.held = Some(there);
        self.step = Step::Events;
    }

    pub(super) fn poison_request(region: Option<Region>, begins: bool) -> Request {
        let (base, bytes) = region.map_or((0, 0), |it| (it.base, it.bytes()));
        let begins = if begins {
            GetPoisonListRequest::RESTART
        } else {
            0
        };
        Request::GetPoisonList(GetPoisonListRequest {
            physical_address: base | begins,
            physical_address_length: bytes / LINE_BYTES,
        })
    }

    pub(super) fn found_poison(&mut self, parts: u32, list: &GetPoisonListResponse) {
        let Some(region) = self.region else {
            return self.begin_round();
        };
        self.found_bad.extend(hit(region, list));
        let more = list.poison_list_flags & GetPoisonListResponse::MORE != 0;
        let parts = parts + 1;
        if more && !list.records.is_empty() && parts < MOST_PARTS {
            self.step = Step::Poison(parts);
            return;
        }
        self.listed_poison();
    }

    /// What is bad is told first: so nobody is granted it where it has just come.
    pub(super) fn listed_poison(&mut self) {
        let bad: RunSet = self.found_bad.drain(..).collect();
        let there = std::mem::take(&mut self.there);
        let fresh = bad.common(&there).minus(&self.bad);
        if fresh.count() > 0 {
            self.say(Whose::Own, Capacity::Poisoned(fresh.iter().collect()));
            // It is disjoint from what was bad before.
            let added = self.bad.add(&fresh);
            debug_assert!(added.is_ok(), "what is new is not there");
        }
        if self.held.as_ref() != Some(&there) {
            self.say(Whose::Own, Capacity::Present(there.iter().collect()));
        }
        self.held = Some(there);
        self.step = Step::GroupPoison(0);
        if self.groups.is_none() {
            self.settled();
        }
    }

    pub(super) fn found_group_poison(&mut self, parts: u32, list: &GetPoisonListResponse) {
        let region = self.groups.as_ref().and_then(|groups| groups.region);
        let Some((groups, region)) = self.groups.as_mut().zip(region) else {
            return self.begin_round();
        };
        groups.found_bad.extend(hit(region, list));
        let more = list.poison_list_flags & GetPoisonListResponse::MORE != 0;
        let parts = parts + 1;
        if more && !list.records.is_empty() && parts < MOST_PARTS {
            self.step = Step::GroupPoison(parts);
            return;
        }
        self.settled();
    }

    /// All lists are read.
    pub(super) fn settled(&mut self) {
        let words = self.groups.as_mut().map(Groups::settled);
        for word in words.into_iter().flatten() {
            self.say(Whose::Groups, word);
        }
        self.unreached_since = None;
        if !std::mem::replace(&mut self.has_said_reached, true) {
            self.say(Whose::Own, Capacity::Reached(true));
            self.say(Whose::Groups, Capacity::Reached(true));
        }
        self.is_reached();
        self.step = Step::Decide;
    }
}

/// The extents of a region that a list of poison names.
fn hit(region: Region, list: &GetPoisonListResponse) -> impl Iterator<Item = Run> {
    list.records.iter().filter_map(move |it| {
        let line = it.media_error_address & !(LINE_BYTES - 1);
        region.hit(line, it.media_error_length)
    })
}
