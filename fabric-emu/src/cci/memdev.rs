//! What a memory device is, and how it is.
//!
//! 4000h and 4200h. Compared with libcxlmi; 4200h with Linux as well. 4000h has 43h bytes in CXL
//! 2.0, which are not read here.

use super::bytes::U24;
use super::layout::layout;

layout! {
    /// What a memory device is (4000h).
    IdentifyMemoryDeviceResponse = 0x45 {
        /// The version of its firmware, as text.
        0x00 fw_revision: [u8; 16],
        /// All its capacity, in multiples of 256 MiB; dynamic capacity is not in it.
        0x10 total_capacity: u64,
        /// What is always volatile, in multiples of 256 MiB.
        0x18 volatile_only_capacity: u64,
        /// What is always persistent, in multiples of 256 MiB.
        0x20 persistent_only_capacity: u64,
        /// What a partition is a multiple of, in multiples of 256 MiB.
        0x28 partition_alignment: u64,
        /// How many records its informational log takes.
        0x30 informational_event_log_size: u16,
        /// How many records its warning log takes.
        0x32 warning_event_log_size: u16,
        /// How many records its failure log takes.
        0x34 failure_event_log_size: u16,
        /// How many records its fatal log takes.
        0x36 fatal_event_log_size: u16,
        /// How long its label storage is, in bytes.
        0x38 lsa_size: u32,
        /// How many records its poison list takes.
        0x3c poison_list_maximum: U24,
        /// How many lines can be poisoned by command; 0 means that nobody counts.
        0x3f inject_poison_limit: u16,
        /// Bit 0: injects persistently. Bit 1: scans for poison.
        0x41 poison_handling_capabilities: u8,
        /// Bit 0: tells of congestion. Bit 1: can be slowed for a time.
        0x42 qos_telemetry_capabilities: u8,
        /// How many records its dynamic capacity log takes.
        0x43 dynamic_capacity_event_log_size: u16,
    }
}

layout! {
    /// How a memory device is (4200h). Also a part of an event record.
    HealthInfo = 0x12 {
        /// Bit 0 maintenance needed, 1 slower than it should be, 2 to be replaced, 3 less memory.
        0x00 health_status: u8,
        /// 0 normal; above, what it can no longer do.
        0x01 media_status: u8,
        /// Which limits are near.
        0x02 additional_status: u8,
        /// In percent of what it was built for.
        0x03 life_used: u8,
        /// In degrees Celsius, as a two's complement number.
        0x04 device_temperature: u16,
        /// How often it was shut down with something unsaved.
        0x06 dirty_shutdown_count: u32,
        /// How many errors of volatile memory were corrected.
        0x0a corrected_volatile_error_count: u32,
        /// How many errors of persistent memory were corrected.
        0x0e corrected_persistent_error_count: u32,
    }
}
