//! Groups, as the fabric has them: who has which, and what becomes of them by the manager's hand.

use std::collections::BTreeSet;

use fabric_emu::cci::dcd::UpdatedExtentList;
use fabric_emu::cci::dcd_management::{
    InitiateAddRequest, InitiateReleaseRequest, ReferenceRequest, RemovalPolicy, SelectionPolicy,
};
use fabric_emu::cci::{Request, Tag};
use fabric_emu::id::LdId;
use fabric_emu::memdev::Memdev;
use fabric_emu::span::Span;
use pool_core::{EXTENT_BYTES, GroupTag};

use super::{GROUP_REGION, GROUPS, Lines, NotNow, host};

impl Lines {
    /// Where the region of groups begins, among the addresses of a logical device.
    pub(crate) const fn first_of_groups(&self) -> Option<u64> {
        self.groups
    }

    /// The addresses of groups of a host, of which it maps all that may ever be there.
    pub(crate) fn map_groups(&mut self, h: usize) -> Result<(), NotNow> {
        let Some((start, bytes)) = self.groups.zip(self.region) else {
            return Ok(());
        };
        self.map_span(h, self.private, GROUPS, Span { start, bytes })
    }

    /// The group of which is what lies at an address of a host.
    pub(crate) fn group_at(&self, h: usize, at: u64) -> Option<GroupTag> {
        let dpa = self.groups? + (at - GROUPS);
        let capacity = self.fabric.memdev(self.private)?.capacity();
        let extents = capacity.extents(LdId(host(h).0)).ok()?;
        let has = |span: Span| (span.start..span.start + span.bytes).contains(&dpa);
        let found = extents.iter().find(|extent| has(extent.span))?;
        GroupTag::from_bytes(found.tag.0).ok()
    }

    pub(crate) fn is_of_group(&self, h: usize, at: u64, tag: GroupTag) -> bool {
        self.group_at(h, at) == Some(tag)
    }

    /// The groups that there are.
    pub(crate) fn all_groups(&self) -> BTreeSet<GroupTag> {
        let memdev = self.groups.and_then(|_| self.fabric.memdev(self.private));
        let Some(capacity) = memdev.map(Memdev::capacity) else {
            return BTreeSet::new();
        };
        let tags = capacity.tags().map(|(tag, ..)| tag.0);
        tags.filter_map(|tag| GroupTag::from_bytes(tag).ok())
            .collect()
    }

    /// The groups that a host has, or was offered.
    pub(crate) fn groups_of(&self, h: usize) -> Vec<GroupTag> {
        let memdev = self.groups.and_then(|_| self.fabric.memdev(self.private));
        let Some(capacity) = memdev.map(Memdev::capacity) else {
            return Vec::new();
        };
        let ld = LdId(host(h).0);
        let had = capacity
            .tags()
            .filter(|(_, views, _)| views.iter().any(|(of, _)| *of == ld));
        had.filter_map(|(tag, ..)| GroupTag::from_bytes(tag.0).ok())
            .collect()
    }

    /// The manager takes a group from a host by force. False where it cannot.
    pub(crate) fn take_group(&mut self, h: usize, tag: GroupTag) -> bool {
        let release = Request::InitiateRelease(InitiateReleaseRequest {
            host_id: LdId(host(h).0),
            removal_policy: RemovalPolicy::TagBased,
            forced_removal: true,
            sanitize_on_release: false,
            length: u64::from(tag.extents().get()) * EXTENT_BYTES,
            tag: Tag(tag.bytes()),
            extents: None,
        });
        self.manage(self.private, &release).is_ok()
    }

    /// The manager offers a host a group that there is. False where it cannot.
    pub(crate) fn offer_group(&mut self, h: usize, tag: GroupTag) -> bool {
        let add = Request::InitiateAdd(InitiateAddRequest {
            host_id: LdId(host(h).0),
            selection_policy: SelectionPolicy::EnableSharedAccess,
            region_number: GROUP_REGION,
            length: 0,
            tag: Tag(tag.bytes()),
            extents: None,
        });
        self.manage(self.private, &add).is_ok()
    }

    /// The manager ends that a group is published.
    pub(crate) fn end_reference(&mut self, tag: GroupTag) -> bool {
        let tag = Tag(tag.bytes());
        let ended = Request::RemoveReference(ReferenceRequest { tag });
        self.manage(self.private, &ended).is_ok()
    }

    /// What of a list is of the region of groups, as addresses of a host.
    pub(crate) fn group_lines(&self, list: &UpdatedExtentList) -> Vec<u64> {
        let Some(first) = self.groups else {
            return Vec::new();
        };
        let theirs = list.extents.iter().filter(|piece| piece.start_dpa >= first);
        let addresses = theirs.flat_map(|piece| {
            let start = GROUPS + (piece.start_dpa - first);
            (start..start + piece.length).step_by(usize::try_from(EXTENT_BYTES).unwrap_or(1))
        });
        addresses.collect()
    }
}
