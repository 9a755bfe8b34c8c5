//! The lists that a device is read by: of extents that are there, and of lines that are bad.

use fabric_emu::cci::DpaExtent;
use fabric_emu::cci::dcd::GetDcExtentListResponse;
use fabric_emu::cci::poison::{GetPoisonListRequest, GetPoisonListResponse};
use fabric_emu::span::Span;
use pool_core::Nanos;
use pool_core::units::LINE_BYTES;

use super::{Capacity, LISTED_MAX, Listing, MOST_PARTS, RunSet, Step, Steward};

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
        let piece = |it: &DpaExtent| Span {
            start: it.start_dpa,
            bytes: it.length,
        };
        listing.pieces.extend(list.extents.iter().map(piece));
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
        let there = region.runs(&listing.pieces);
        self.taken = 0;
        if let Some(held) = self.held.take() {
            // What left is told before anything else.
            let left = held.minus(&there).count() > 0;
            let held = held.common(&there);
            if left {
                let rest = held.iter().collect();
                self.says.push_back(Capacity::Present(rest));
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
        self.says
            .push_back(Capacity::Present(there.iter().collect()));
        self.held = Some(there);
        self.step = Step::Events;
    }

    pub(super) fn poison_request(&self, begins: bool) -> GetPoisonListRequest {
        let (base, bytes) = self.region.map_or((0, 0), |it| (it.base, it.bytes()));
        let begins = if begins {
            GetPoisonListRequest::RESTART
        } else {
            0
        };
        GetPoisonListRequest {
            physical_address: base | begins,
            physical_address_length: bytes / LINE_BYTES,
        }
    }

    pub(super) fn found_poison(&mut self, parts: u32, list: &GetPoisonListResponse) {
        let Some(region) = self.region else {
            return self.begin_round();
        };
        let found = list.records.iter().filter_map(|it| {
            let line = it.media_error_address & !(LINE_BYTES - 1);
            region.hit(line, it.media_error_length)
        });
        self.found_bad.extend(found);
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
            self.says
                .push_back(Capacity::Poisoned(fresh.iter().collect()));
            // It is disjoint from what was bad before.
            let added = self.bad.add(&fresh);
            debug_assert!(added.is_ok(), "what is new is not there");
        }
        if self.held.as_ref() != Some(&there) {
            self.says
                .push_back(Capacity::Present(there.iter().collect()));
        }
        self.held = Some(there);
        self.unreached_since = None;
        if !std::mem::replace(&mut self.has_said_reached, true) {
            self.says.push_back(Capacity::Reached(true));
        }
        self.is_reached();
        self.step = Step::Decide;
    }
}
