//! Dynamic capacity: what a host is told, takes and gives back; what a manager adds, asks for,
//! takes away and shares.
//!
//! The manager names a host by the logical device that is its way in.

use super::super::Fabric;
use super::{Answer, Logical, cut, list, part};
use crate::capacity::{Capacity, Extent, Region, Removal, Selection, ViewState};
use crate::capacity::{MOST_EXTENTS, MOST_TAGS};
use crate::cci::dcd::{
    DcRegion, GetDcConfigRequest, GetDcConfigResponse, GetDcExtentListRequest,
    GetDcExtentListResponse, TrackingLimits, UpdatedExtentList,
};
use crate::cci::dcd_management::{
    GetDcRegionExtentListsRequest, GetDcRegionExtentListsResponse, GetDcdInfoResponse,
    GetHostDcRegionConfigRequest, GetHostDcRegionConfigResponse, HostDcRegion, InitiateAddRequest,
    InitiateReleaseRequest, ListTagsRequest, ListTagsResponse, RemovalPolicy, SelectionPolicy,
    SetDcRegionConfigRequest, TagInformation,
};
use crate::cci::generic::Empty;
use crate::cci::{DpaExtent, Request, Response, ReturnCode, Tag};
use crate::id::{LdId, MemdevId};
use crate::memdev::{GRANULE, Memdev};
use crate::span::Span;

/// Bytes of an extent, of a tag, and of what goes before the extents of an answer.
const EXTENT_BYTES: usize = 0x28;
const TAG_BYTES: usize = 0x54;
const LIST_HEAD: usize = 0x18;
/// Bytes of a region, and of what goes before and after the regions of an answer.
const REGION_BYTES: usize = 0x28;
const REGION_LIST_ENDS: usize = 0x18;

impl Fabric {
    /// What a host says about the dynamic capacity of its logical device.
    pub(super) fn host_capacity(
        &mut self,
        (memdev, ld): Logical,
        request: &Request,
        room: usize,
    ) -> Answer {
        let now = self.now;
        let device = self.memdev_mut(memdev).ok_or(ReturnCode::InternalError)?;
        let response = match request {
            Request::GetDcConfig(asked) => config(device, ld, asked, room)?,
            Request::GetDcExtentList(asked) => extent_list(device, ld, asked, room)?,
            Request::AddDcResponse(taken) => {
                let answered = device.answer(now, ld, &updated(taken)?)?;
                self.freed(memdev, &answered.freed);
                Response::AddDcResponse(Empty)
            }
            Request::ReleaseDc(given) => {
                let freed = device.release(now, ld, &updated(given)?)?;
                self.freed(memdev, &freed);
                Response::ReleaseDc(Empty)
            }
            _ => return Err(ReturnCode::Unsupported),
        };
        Ok(response.into())
    }

    /// What a manager does with the dynamic capacity of a memory device.
    pub(super) fn managed_capacity(
        &mut self,
        memdev: MemdevId,
        request: Request,
        room: usize,
    ) -> Answer {
        let now = self.now;
        let device = self.memdev_mut(memdev).ok_or(ReturnCode::InternalError)?;
        let response = match request {
            Request::GetDcdInfo(_) => Response::GetDcdInfo(info(device)),
            Request::GetHostDcRegionConfig(asked) => host_config(device, &asked, room)?,
            Request::SetDcRegionConfig(new) => configure(device, &new)?,
            Request::GetDcRegionExtentLists(asked) => host_extents(device, &asked, room)?,
            Request::InitiateAdd(asked) => {
                let (region, what, tag) = selection(device, &asked)?;
                device.add(now, (asked.host_id, region), &what, tag)?;
                Response::InitiateAdd(Empty)
            }
            Request::InitiateRelease(asked) => {
                let (removal, how) = removal(&asked)?;
                let freed = device.remove(now, asked.host_id, &removal, how)?;
                self.freed(memdev, &freed);
                Response::InitiateRelease(Empty)
            }
            Request::AddReference(asked) => {
                device.add_reference(asked.tag)?;
                Response::AddReference(Empty)
            }
            Request::RemoveReference(asked) => {
                let freed = device.remove_reference(asked.tag)?;
                self.freed(memdev, &freed);
                Response::RemoveReference(Empty)
            }
            Request::ListTags(asked) => tags(device.capacity(), &asked, room)?,
            _ => return Err(ReturnCode::Unsupported),
        };
        Ok(response.into())
    }
}

fn limits(capacity: &Capacity, ld: LdId) -> Result<TrackingLimits, ReturnCode> {
    let (extents, tags) = capacity.room(ld)?;
    Ok(TrackingLimits {
        supported_extents: cut(MOST_EXTENTS, u32::MAX),
        available_extents: cut(extents, u32::MAX),
        supported_tags: cut(MOST_TAGS, u32::MAX),
        available_tags: cut(tags, u32::MAX),
    })
}

/// Some regions of a logical device, as many as there is room for.
fn some_regions(
    regions: &[Region],
    (first, most): (u8, u8),
    room: usize,
) -> Result<Vec<Region>, ReturnCode> {
    if usize::from(first) >= regions.len() {
        return Err(ReturnCode::InvalidInput);
    }
    let most = usize::from(most).min(room.saturating_sub(REGION_LIST_ENDS) / REGION_BYTES);
    Ok(part(regions, first.into(), most))
}

fn config(
    device: &Memdev,
    ld: LdId,
    asked: &GetDcConfigRequest,
    room: usize,
) -> Result<Response, ReturnCode> {
    let (_, regions) = device.ld(ld)?;
    let range = (asked.starting_region_index, asked.region_count);
    let first = asked.starting_region_index;
    let region = |(place, it): (u32, Region)| DcRegion {
        region_base: it.span.start,
        region_decode_length: it.span.bytes.div_ceil(GRANULE),
        region_length: it.span.bytes,
        region_block_size: it.block,
        // As the table of its speed has it.
        dsmad_handle: u32::from(first) + place + 1,
        flags: u8::from(it.sanitizes),
    };
    let told = (0..).zip(some_regions(regions, range, room)?);
    let told = told.map(region).collect();
    Ok(Response::GetDcConfig(GetDcConfigResponse {
        available_regions: cut(regions.len(), u8::MAX),
        regions: list(told)?,
        limits: limits(device.capacity(), ld)?,
    }))
}

fn told(extent: Extent) -> DpaExtent {
    DpaExtent {
        start_dpa: extent.span.start,
        length: extent.span.bytes,
        tag: extent.tag,
        shared_extent_sequence: extent.sequence,
    }
}

/// Some extents of a logical device, as many as there is room for; and how many there are.
fn some_extents(
    capacity: &Capacity,
    ld: LdId,
    (first, most): (u32, u32),
    room: usize,
) -> Result<(Vec<DpaExtent>, u32), ReturnCode> {
    let all = capacity.extents(ld)?;
    if first as usize > all.len() {
        return Err(ReturnCode::InvalidInput);
    }
    let most = (most as usize).min(room.saturating_sub(LIST_HEAD) / EXTENT_BYTES);
    let some = part(&all, first as usize, most)
        .into_iter()
        .map(told)
        .collect();
    Ok((some, cut(all.len(), u32::MAX)))
}

fn extent_list(
    device: &Memdev,
    ld: LdId,
    asked: &GetDcExtentListRequest,
    room: usize,
) -> Result<Response, ReturnCode> {
    let range = (asked.starting_extent_index, asked.extent_count);
    let (some, all) = some_extents(device.capacity(), ld, range, room)?;
    Ok(Response::GetDcExtentList(GetDcExtentListResponse {
        total_extent_count: all,
        extent_list_generation: device.capacity().generation(ld)?,
        extents: list(some)?,
    }))
}

/// A list of a host. One that goes on in the next command is more than an interface keeps.
fn updated(list: &UpdatedExtentList) -> Result<Vec<Span>, ReturnCode> {
    if list.flags & UpdatedExtentList::MORE != 0 {
        return Err(ReturnCode::ResourcesExhausted);
    }
    let spans = list
        .extents
        .iter()
        .map(|it| Span::new(it.start_dpa, it.length));
    let spans: Option<Vec<Span>> = spans.collect();
    spans.ok_or(ReturnCode::InvalidExtentList)
}

/// A bit for each policy.
const ALL_SELECTIONS: u16 = 0b111;
const ALL_REMOVALS: u16 = 0b11;

fn info(device: &Memdev) -> GetDcdInfoResponse {
    let capacity = device.capacity();
    let regions = capacity.regions(LdId(0)).unwrap_or_default();
    // From a line to 2^40 bytes, as far as they divide the region.
    let blocks = |region: Option<&Region>| {
        let sizes = (6..=40).map(|power| 1_u64 << power);
        let fit = |size: &u64| region.is_some_and(|it| it.span.is_of(*size));
        sizes.filter(fit).fold(0, |all, size| all | size)
    };
    let mut sizes = [0; 8];
    for (place, size) in sizes.iter_mut().enumerate() {
        *size = blocks(regions.get(place));
    }
    let [zero, one, two, three, four, five, six, seven] = sizes;
    GetDcdInfoResponse {
        host_count: device.kind().logical_devices(),
        supported_regions: cut(regions.len(), u8::MAX),
        add_selection_policies: ALL_SELECTIONS,
        release_removal_policies: ALL_REMOVALS,
        sanitize_configurable: (1_u16 << regions.len().min(8))
            .wrapping_sub(1)
            .to_le_bytes()[0],
        total_dynamic_capacity: capacity.bytes() / GRANULE,
        region_0_block_sizes: zero,
        region_1_block_sizes: one,
        region_2_block_sizes: two,
        region_3_block_sizes: three,
        region_4_block_sizes: four,
        region_5_block_sizes: five,
        region_6_block_sizes: six,
        region_7_block_sizes: seven,
    }
}

fn host_config(
    device: &Memdev,
    asked: &GetHostDcRegionConfigRequest,
    room: usize,
) -> Result<Response, ReturnCode> {
    let (_, regions) = device.ld(asked.host_id)?;
    let range = (asked.starting_region_index, asked.region_count);
    let flag = |is_so: bool, flag: u8| if is_so { flag } else { 0 };
    let region = |it: Region| HostDcRegion {
        region_base: it.span.start,
        region_decode_length: it.span.bytes.div_ceil(GRANULE),
        region_length: it.span.bytes,
        region_block_size: it.block,
        flags: flag(it.is_sharable, HostDcRegion::SHARABLE)
            | flag(it.is_hardware_coherent, HostDcRegion::HARDWARE_COHERENT)
            | flag(it.is_read_only, HostDcRegion::READ_ONLY),
        sanitize_on_release: u8::from(it.sanitizes),
    };
    let told = some_regions(regions, range, room)?
        .into_iter()
        .map(region)
        .collect();
    Ok(Response::GetHostDcRegionConfig(
        GetHostDcRegionConfigResponse {
            host_id: asked.host_id,
            available_regions: cut(regions.len(), u8::MAX),
            regions: list(told)?,
            limits: limits(device.capacity(), asked.host_id)?,
        },
    ))
}

fn configure(device: &mut Memdev, new: &SetDcRegionConfigRequest) -> Result<Response, ReturnCode> {
    let sanitizes = new.sanitize_on_release & 1 != 0;
    device.configure(new.region_id.into(), new.region_block_size, sanitizes)?;
    Ok(Response::SetDcRegionConfig(Empty))
}

fn host_extents(
    device: &Memdev,
    asked: &GetDcRegionExtentListsRequest,
    room: usize,
) -> Result<Response, ReturnCode> {
    let (capacity, ld) = (device.capacity(), asked.host_id);
    let range = (asked.starting_extent_index, asked.extent_count);
    let (some, all) = some_extents(capacity, ld, range, room)?;
    Ok(Response::GetDcRegionExtentLists(
        GetDcRegionExtentListsResponse {
            host_id: ld,
            starting_extent_index: asked.starting_extent_index,
            total_extent_count: all,
            extent_list_generation: capacity.generation(ld)?,
            extents: list(some)?,
        },
    ))
}

fn spans(extents: &[DpaExtent]) -> Result<Vec<Span>, ReturnCode> {
    let spans = extents.iter().map(|it| Span::new(it.start_dpa, it.length));
    spans
        .collect::<Option<Vec<Span>>>()
        .ok_or(ReturnCode::InvalidExtentList)
}

/// Which region of a host, what of it, and under which tag.
fn selection(
    device: &Memdev,
    asked: &InitiateAddRequest,
) -> Result<(usize, Selection, Tag), ReturnCode> {
    let region = usize::from(asked.region_number);
    let selection = match asked.selection_policy {
        SelectionPolicy::Free => Selection::Free(asked.length),
        SelectionPolicy::Contiguous => Selection::Contiguous(asked.length),
        SelectionPolicy::EnableSharedAccess => Selection::Shared,
        SelectionPolicy::Prescriptive => {
            let extents = asked.extents.as_deref().unwrap_or_default();
            let first = extents.first().ok_or(ReturnCode::InvalidExtentList)?;
            // All are of one group.
            if extents.iter().any(|extent| extent.tag != first.tag) {
                return Err(ReturnCode::InvalidExtentList);
            }
            let spans = spans(extents)?;
            let (_, regions) = device.ld(asked.host_id)?;
            let has = |it: &Region| spans.iter().all(|&span| it.span.contains(span));
            let region = regions
                .iter()
                .position(has)
                .ok_or(ReturnCode::InvalidExtentList)?;
            return Ok((region, Selection::Prescriptive(spans), first.tag));
        }
    };
    Ok((region, selection, asked.tag))
}

fn removal(asked: &InitiateReleaseRequest) -> Result<(Removal, (bool, bool)), ReturnCode> {
    let how = (asked.forced_removal, asked.sanitize_on_release);
    let removal = match asked.removal_policy {
        RemovalPolicy::TagBased => Removal::Tagged {
            tag: asked.tag,
            bytes: asked.length,
        },
        RemovalPolicy::Prescriptive => {
            Removal::Prescriptive(spans(asked.extents.as_deref().unwrap_or_default())?)
        }
    };
    Ok((removal, how))
}

/// That the references, and the pending ones, are filled in.
const VALID: u8 = 0b11;

fn tags(capacity: &Capacity, asked: &ListTagsRequest, room: usize) -> Result<Response, ReturnCode> {
    let bit = |bytes: &mut [u8; 32], ld: LdId| {
        if let Some(byte) = bytes.get_mut(ld.index() / 8) {
            *byte |= 1 << (ld.0 % 8);
        }
    };
    let information = |(tag, views, is_referenced): (Tag, Vec<(LdId, ViewState)>, bool)| {
        let (mut references, mut pending) = ([0; 32], [0; 32]);
        for (ld, state) in views {
            match state {
                ViewState::Offered => bit(&mut pending, ld),
                ViewState::Added | ViewState::Leaving => bit(&mut references, ld),
            }
        }
        TagInformation {
            tag,
            flags: if is_referenced {
                TagInformation::FM_HOLDS_REFERENCE
            } else {
                0
            },
            references,
            pending_references: pending,
        }
    };
    let all: Vec<TagInformation> = capacity.tags().map(information).collect();
    if asked.starting_index as usize > all.len() {
        return Err(ReturnCode::InvalidInput);
    }
    let most = (asked.max_tags as usize).min(room.saturating_sub(LIST_HEAD) / TAG_BYTES);
    Ok(Response::ListTags(ListTagsResponse {
        generation_number: capacity.tag_changes(),
        total_tags: cut(all.len(), u32::MAX),
        validity: VALID,
        tags: list(part(&all, asked.starting_index as usize, most))?,
    }))
}
