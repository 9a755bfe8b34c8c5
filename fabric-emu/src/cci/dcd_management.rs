//! Dynamic capacity, as the fabric manager sees it: whom it is given to, and from whom it is taken.
//!
//! 5600h to 5608h. Compared with the tables as published and with libcxlmi. They differ in one
//! thing: the count of extents in 5604h and 5605h is there, by the tables, only where extents are
//! prescribed; libcxlmi and QEMU always have it. Both forms are read, and kept apart. The title of
//! the table for 5602h names a response as well; libcxlmi expects none, and none is written here.

use super::bytes::{Fixed, Malformed, Reader, Wire, Writer};
use super::dcd::{DpaExtent, Extents, Tag, TrackingLimits};
use super::layout::{codes, layout, listed};
use super::most_of;
use crate::id::LdId;

layout! {
    /// What a device can do with dynamic capacity (5600h).
    GetDcdInfoResponse = 0x54 {
        /// How many hosts it can have.
        0x00 host_count: u8,
        /// How many regions a host can have, 1 to 8.
        0x01 supported_regions: u8,
        /// A bit for each [`SelectionPolicy`] but the last, by its number.
        0x04 add_selection_policies: u16,
        /// A bit for each [`RemovalPolicy`], by its number.
        0x08 release_removal_policies: u16,
        /// Of which regions it can be chosen whether they are sanitized: a bit for each.
        0x0a sanitize_configurable: u8,
        /// All that can be given, in multiples of 256 MiB.
        0x0c total_dynamic_capacity: u64,
        /// The block sizes of region 0: bit n for 2 to the power of n bytes.
        0x14 region_0_block_sizes: u64,
        /// The same for region 1.
        0x1c region_1_block_sizes: u64,
        /// The same for region 2.
        0x24 region_2_block_sizes: u64,
        /// The same for region 3.
        0x2c region_3_block_sizes: u64,
        /// The same for region 4.
        0x34 region_4_block_sizes: u64,
        /// The same for region 5.
        0x3c region_5_block_sizes: u64,
        /// The same for region 6.
        0x44 region_6_block_sizes: u64,
        /// The same for region 7.
        0x4c region_7_block_sizes: u64,
    }
}

layout! {
    /// Which regions of a host are asked for (5601h).
    GetHostDcRegionConfigRequest = 0x04 {
        /// The logical device that is the host's way in.
        0x00 host_id: LdId,
        /// How many at most.
        0x02 region_count: u8,
        /// From which one on.
        0x03 starting_region_index: u8,
    }
}

layout! {
    /// How a region is set up, as the fabric manager is told.
    HostDcRegion = 0x28 {
        /// Where it begins in the device.
        0x00 region_base: u64,
        /// How much of the device's address space it takes, in multiples of 256 MiB.
        0x08 region_decode_length: u64,
        /// How much of it can be added, in bytes.
        0x10 region_length: u64,
        /// What an extent is a multiple of, in bytes.
        0x18 region_block_size: u64,
        /// See the flags of this type.
        0x20 flags: u8,
        /// Bit 0: what is given back is sanitized.
        0x24 sanitize_on_release: u8,
    }
}

impl HostDcRegion {
    /// Flag: it keeps what it holds without power.
    pub const NON_VOLATILE: u8 = 1 << 2;
    /// Flag: several hosts can have the same of it.
    pub const SHARABLE: u8 = 1 << 3;
    /// Flag: the device keeps the caches of those hosts coherent.
    pub const HARDWARE_COHERENT: u8 = 1 << 4;
    /// Flag: it is managed by means of the interconnect.
    pub const INTERCONNECT_MANAGED: u8 = 1 << 5;
    /// Flag: hosts can only read it.
    pub const READ_ONLY: u8 = 1 << 6;
}

listed! {
    /// The regions of a host (5601h).
    GetHostDcRegionConfigResponse = 0x04 {
        /// The logical device that is the host's way in.
        0x00 host_id: LdId,
        /// How many regions there are.
        0x02 available_regions: u8,
    } then {
        /// Those that were asked for.
        regions: [HostDcRegion; 8], u8 at 0x03
    } end {
        /// What else can be kept track of.
        limits: TrackingLimits
    }
}

layout! {
    /// How a region is to be set up (5602h).
    SetDcRegionConfigRequest = 0x10 {
        /// Which one.
        0x00 region_id: u8; from 0 to 7,
        /// What an extent is to be a multiple of, in bytes.
        0x04 region_block_size: u64,
        /// Bit 0: what is given back is sanitized.
        0x0c sanitize_on_release: u8; bits 0x01,
    }
}

layout! {
    /// Which extents of a host are asked for (5603h).
    GetDcRegionExtentListsRequest = 0x0c {
        /// The logical device that is the host's way in.
        0x00 host_id: LdId,
        /// How many at most; 0 asks for the numbers alone.
        0x04 extent_count: u32,
        /// From which one on.
        0x08 starting_extent_index: u32,
    }
}

listed! {
    /// What a host has (5603h).
    GetDcRegionExtentListsResponse = 0x18 {
        /// The logical device that is the host's way in.
        0x00 host_id: LdId,
        /// The place of the first extent that follows.
        0x04 starting_extent_index: u32,
        /// How many extents the host has.
        0x0c total_extent_count: u32,
        /// Changes whenever the list does.
        0x10 extent_list_generation: u32,
    } then {
        /// Those that were asked for.
        extents: [DpaExtent; super::dcd::EXTENTS_MAX], u32 at 0x08
    }
}

codes! {
    /// Who chooses what is added.
    SelectionPolicy: u8 {
        /// The device: any extents.
        0 Free,
        /// The device: one extent.
        1 Contiguous,
        /// The fabric manager: those it lists.
        2 Prescriptive,
        /// Nobody: those that another host has under the tag.
        3 EnableSharedAccess,
    }
}

/// What a host is to be offered (5604h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitiateAddRequest {
    /// The logical device that is the host's way in.
    pub host_id: LdId,
    /// Who chooses what.
    pub selection_policy: SelectionPolicy,
    /// Of which region, 0 to 7. Reserved where extents are prescribed.
    pub region_number: u8,
    /// How much, in bytes. Reserved where extents are prescribed or shared.
    pub length: u64,
    /// Under which tag. Reserved where extents are prescribed.
    pub tag: Tag,
    /// Which, where they are prescribed; otherwise none, and the count may be absent.
    pub extents: Option<Extents>,
}

impl Wire for InitiateAddRequest {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let reader = Reader::new(bytes);
        let all = Self {
            host_id: reader.at(0x00)?,
            selection_policy: reader.at(0x02)?,
            region_number: reader.at(0x03)?,
            length: reader.at(0x04)?,
            tag: reader.at(0x0c)?,
            extents: prescribed(bytes)?,
        };
        let prescriptive = all.selection_policy == SelectionPolicy::Prescriptive;
        agrees(prescriptive, all.extents.as_ref())?;
        let sized = matches!(
            all.selection_policy,
            SelectionPolicy::Free | SelectionPolicy::Contiguous
        );
        if (!prescriptive && all.region_number > 7) || (sized && all.length == 0) {
            return Err(Malformed::Value);
        }
        Ok(all)
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.at(0x00, &self.host_id);
        writer.at(0x02, &self.selection_policy);
        writer.at(0x03, &self.region_number);
        writer.at(0x04, &self.length);
        writer.at(0x0c, &self.tag);
        prescribe(&mut writer, self.extents.as_ref());
        writer.into_bytes()
    }
}

codes! {
    /// Who chooses what is released.
    RemovalPolicy: u8 {
        /// Nobody: all under the tag.
        0 TagBased,
        /// The fabric manager: what it lists.
        1 Prescriptive,
    }
}

/// What a host is to give back (5605h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitiateReleaseRequest {
    /// The logical device that is the host's way in.
    pub host_id: LdId,
    /// Who chooses what.
    pub removal_policy: RemovalPolicy,
    /// The host is not asked, and has it no longer.
    pub forced_removal: bool,
    /// It is sanitized once no host has it.
    pub sanitize_on_release: bool,
    /// How much, in bytes. Reserved where extents are prescribed.
    pub length: u64,
    /// Under which tag. Reserved where extents are prescribed.
    pub tag: Tag,
    /// Which, where they are prescribed; otherwise none, and the count may be absent.
    pub extents: Option<Extents>,
}

impl InitiateReleaseRequest {
    const FORCED: u8 = 1 << 4;
    const SANITIZE: u8 = 1 << 5;
}

impl Wire for InitiateReleaseRequest {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let reader = Reader::new(bytes);
        let flags: u8 = reader.at(0x02)?;
        let policy = flags & !(Self::FORCED | Self::SANITIZE);
        let all = Self {
            host_id: reader.at(0x00)?,
            removal_policy: RemovalPolicy::of(policy).ok_or(Malformed::Value)?,
            forced_removal: flags & Self::FORCED != 0,
            sanitize_on_release: flags & Self::SANITIZE != 0,
            length: reader.at(0x04)?,
            tag: reader.at(0x0c)?,
            extents: prescribed(bytes)?,
        };
        let prescriptive = all.removal_policy == RemovalPolicy::Prescriptive;
        agrees(prescriptive, all.extents.as_ref())?;
        if !prescriptive && all.length == 0 {
            return Err(Malformed::Value);
        }
        Ok(all)
    }

    fn encode(&self) -> Vec<u8> {
        let forced = if self.forced_removal { Self::FORCED } else { 0 };
        let sanitize = if self.sanitize_on_release {
            Self::SANITIZE
        } else {
            0
        };
        let mut writer = Writer::default();
        writer.at(0x00, &self.host_id);
        writer.at(0x02, &(self.removal_policy.number() | forced | sanitize));
        writer.at(0x04, &self.length);
        writer.at(0x0c, &self.tag);
        prescribe(&mut writer, self.extents.as_ref());
        writer.into_bytes()
    }
}

/// Where the count of extents is, in both requests; the extents follow it.
const COUNT_AT: usize = 0x1c;

/// Nothing where the payload ends before the count.
fn prescribed(bytes: &[u8]) -> Result<Option<Extents>, Malformed> {
    use super::bytes::Count;

    let reader = Reader::new(bytes);
    if bytes.len() == COUNT_AT {
        return Ok(None);
    }
    let count = reader.at::<u32>(COUNT_AT)?.get();
    let extents: Extents = reader.list(COUNT_AT + 4, count)?;
    reader.ends_at(COUNT_AT + 4 + count * DpaExtent::BYTES)?;
    Ok(Some(extents))
}

fn prescribe(writer: &mut Writer, extents: Option<&Extents>) {
    use super::bytes::Count;

    if let Some(extents) = extents {
        writer.at(COUNT_AT, &u32::of(extents.len()));
        writer.list(COUNT_AT + 4, extents);
    }
}

/// Extents are listed where they are prescribed, and nowhere else.
fn agrees(prescriptive: bool, extents: Option<&Extents>) -> Result<(), Malformed> {
    match (prescriptive, extents.map(|extents| extents.len())) {
        (true, None) => Err(Malformed::Length),
        (true, Some(0)) => Err(Malformed::ExtentList),
        (false, Some(1..)) => Err(Malformed::Value),
        _ => Ok(()),
    }
}

layout! {
    /// Which tag the fabric manager holds on to (5606h), or lets go (5607h).
    ReferenceRequest = 0x10 {
        /// The tag.
        0x00 tag: Tag,
    }
}

layout! {
    /// Which tags are asked for (5608h).
    ListTagsRequest = 0x08 {
        /// From which one on.
        0x00 starting_index: u32,
        /// How many at most; 0 asks for the numbers alone.
        0x04 max_tags: u32,
    }
}

layout! {
    /// A tag that there is, and who has what is under it.
    TagInformation = 0x54 {
        /// The tag.
        0x00 tag: Tag,
        /// Bit 0: the fabric manager holds on to it.
        0x10 flags: u8,
        /// The logical devices that took it: bit 0 of the first byte is number 0.
        0x14 references: [u8; 32],
        /// Those that were offered it and did not answer yet.
        0x34 pending_references: [u8; 32],
    }
}

impl TagInformation {
    /// Flag: the fabric manager holds on to it.
    pub const FM_HOLDS_REFERENCE: u8 = 1 << 0;
}

listed! {
    /// The tags that there are (5608h).
    ListTagsResponse = 0x10 {
        /// Changes whenever the list does.
        0x00 generation_number: u32,
        /// How many there are.
        0x04 total_tags: u32,
        /// Bit 0: the references are filled in. Bit 1: so are the pending ones.
        0x0c validity: u8,
    } then {
        /// Those that were asked for.
        tags: [TagInformation; most_of(0x54)], u32 at 0x08
    }
}

#[cfg(test)]
mod samples {
    use super::super::sample::{Sample, Source};
    use super::*;

    fn extents(prescriptive: bool, source: &mut Source) -> Option<Extents> {
        if !prescriptive {
            return source.sample::<Option<u8>>().map(|_| Extents::new());
        }
        let mut all = source.sample::<Extents>().into_vec();
        all.push(source.sample());
        Some(all.try_into().unwrap())
    }

    impl Sample for InitiateAddRequest {
        fn sample(source: &mut Source) -> Self {
            let selection_policy = source.sample();
            Self {
                host_id: source.sample(),
                selection_policy,
                region_number: source.sample::<u8>() & 7,
                length: source.sample::<u64>() | 1,
                tag: source.sample(),
                extents: extents(selection_policy == SelectionPolicy::Prescriptive, source),
            }
        }
    }

    impl Sample for InitiateReleaseRequest {
        fn sample(source: &mut Source) -> Self {
            let removal_policy = source.sample();
            Self {
                host_id: source.sample(),
                removal_policy,
                forced_removal: source.below(2) == 1,
                sanitize_on_release: source.below(2) == 1,
                length: source.sample::<u64>() | 1,
                tag: source.sample(),
                extents: extents(removal_policy == RemovalPolicy::Prescriptive, source),
            }
        }
    }
}
