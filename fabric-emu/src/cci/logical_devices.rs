//! The logical devices of a memory device, and how its memory is divided among them.
//!
//! 5400h to 5402h. Compared with the tables as published and with libcxlmi, which agree.

use super::bytes::Malformed;
use super::layout::{codes, layout, listed};

layout! {
    /// What there is to divide (5400h).
    GetLdInfoResponse = 0x0b {
        /// All the memory, in bytes.
        0x00 memory_size: u64,
        /// How many logical devices there can be.
        0x08 ld_count: u16,
        /// Bit 0: tells of congestion. Bit 1: can be slowed for a time.
        0x0a qos_telemetry_capability: u8,
    }
}

layout! {
    /// Which logical devices are asked for (5401h).
    GetLdAllocationsRequest = 0x02 {
        /// From which one on.
        0x00 start_ld_id: u8,
        /// How many at most.
        0x01 ld_allocation_list_limit: u8; from 1 to 255,
    }
}

codes! {
    /// What allocations are counted in.
    MemoryGranularity: u8 {
        /// 256 MiB.
        0 Mib256,
        /// 512 MiB.
        1 Mib512,
        /// 1 GiB.
        2 Gib1,
    }
}

layout! {
    /// What a logical device has.
    LdAllocation = 0x10 {
        /// Its first range, in multiples of the granularity.
        0x00 range_1_multiplier: u64,
        /// Its second range, in multiples of the granularity.
        0x08 range_2_multiplier: u64,
    }
}

listed! {
    /// What logical devices have (5401h).
    GetLdAllocationsResponse = 0x04 {
        /// How many logical devices there are.
        0x00 ld_count: u8,
        /// What is counted in.
        0x01 memory_granularity: MemoryGranularity,
        /// The first of those that follow.
        0x02 start_ld_id: u8,
    } then {
        /// Each of them.
        allocations: [LdAllocation; 0xff], u8 at 0x03
    }
}

listed! {
    /// What logical devices are to have (5402h).
    SetLdAllocationsRequest = 0x04 {
        /// The first of those that follow.
        0x01 start_ld_id: u8,
    } then {
        /// Each of them; at least one.
        allocations: [LdAllocation; 0xff], u8 at 0x00
    } check names_one
}

/// The count of logical devices is at least 1.
fn names_one(request: &SetLdAllocationsRequest) -> Result<(), Malformed> {
    if request.allocations.is_empty() {
        Err(Malformed::Value)
    } else {
        Ok(())
    }
}

listed! {
    /// What logical devices have then (5402h).
    SetLdAllocationsResponse = 0x04 {
        /// The first of those that follow.
        0x01 start_ld_id: u8,
    } then {
        /// Each of them.
        allocations: [LdAllocation; 0xff], u8 at 0x00
    }
}
