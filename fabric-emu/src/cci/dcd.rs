//! Dynamic capacity, as a host sees it: what is offered, taken and given back.
//!
//! 4800h to 4803h. Compared with libcxlmi; the extents, the update lists and their flag with the
//! Linux patches for dynamic capacity as well; flags of a region with the tables as published.

use super::layout::{layout, listed};
use super::most_of;

/// What capacity was added under: chosen by who adds it, all zero where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag(pub [u8; 16]);

layout! {
    /// A piece of dynamic capacity.
    DpaExtent = 0x28 {
        /// Where it begins in the device.
        0x00 start_dpa: u64,
        /// How long it is, in bytes.
        0x08 length: u64,
        /// What it was added under.
        0x10 tag: Tag,
        /// Its place among the extents of its tag, from 1 on; 0 where it cannot be shared.
        0x20 shared_extent_sequence: u16,
    }
}

/// How many extents fit in one payload.
pub const EXTENTS_MAX: usize = most_of(0x28);

/// Extents as one payload can list them.
pub type Extents = super::List<DpaExtent, EXTENTS_MAX>;

layout! {
    /// Which regions are asked for (4800h).
    GetDcConfigRequest = 0x02 {
        /// How many at most.
        0x00 region_count: u8,
        /// From which one on.
        0x01 starting_region_index: u8,
    }
}

layout! {
    /// How a region is set up, as a host is told.
    DcRegion = 0x28 {
        /// Where it begins in the device; a multiple of 256 MiB.
        0x00 region_base: u64,
        /// How much of the device's address space it takes, in multiples of 256 MiB.
        0x08 region_decode_length: u64,
        /// How much of it can be added, in bytes.
        0x10 region_length: u64,
        /// What an extent is a multiple of, in bytes.
        0x18 region_block_size: u64,
        /// Which entry of the device's table of attributes tells of it.
        0x20 dsmad_handle: u32,
        /// Bit 0: what is given back is sanitized.
        0x24 flags: u8,
    }
}

layout! {
    /// What a device can still keep track of.
    TrackingLimits = 0x10 {
        /// How many extents.
        0x00 supported_extents: u32,
        /// How many of them are left.
        0x04 available_extents: u32,
        /// How many tags.
        0x08 supported_tags: u32,
        /// How many of them are left.
        0x0c available_tags: u32,
    }
}

listed! {
    /// The regions of a device (4800h).
    GetDcConfigResponse = 0x08 {
        /// How many there are.
        0x00 available_regions: u8,
    } then {
        /// Those that were asked for.
        regions: [DcRegion; 8], u8 at 0x01
    } end {
        /// What else can be kept track of.
        limits: TrackingLimits
    }
}

layout! {
    /// Which extents are asked for (4801h).
    GetDcExtentListRequest = 0x08 {
        /// How many at most; 0 asks for the numbers alone.
        0x00 extent_count: u32,
        /// From which one on.
        0x04 starting_extent_index: u32,
    }
}

listed! {
    /// What a host has (4801h).
    GetDcExtentListResponse = 0x10 {
        /// How many extents it has.
        0x04 total_extent_count: u32,
        /// Changes whenever the list does.
        0x08 extent_list_generation: u32,
    } then {
        /// Those that were asked for.
        extents: [DpaExtent; EXTENTS_MAX], u32 at 0x00
    }
}

layout! {
    /// A piece that is taken or given back.
    UpdatedExtent = 0x18 {
        /// Where it begins in the device.
        0x00 start_dpa: u64,
        /// How long it is, in bytes.
        0x08 length: u64,
    }
}

listed! {
    /// What a host takes of an offer (4802h), or gives back (4803h).
    UpdatedExtentList = 0x08 {
        /// Bit 0: the next command goes on with this list.
        0x04 flags: u8; bits 0x01,
    } then {
        /// The pieces; none means that the whole offer is declined.
        extents: [UpdatedExtent; most_of(0x18)], u32 at 0x00
    }
}

impl UpdatedExtentList {
    /// Flag: the next command goes on with this list.
    pub const MORE: u8 = 1 << 0;
}
