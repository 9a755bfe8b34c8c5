//! Event records: a head that all of them have, and a body for each kind.
//!
//! A record takes 128 bytes. The head is 30h long and begins with a UUID, which says what the
//! body is. Compared with Linux, libcxlmi and QEMU; QEMU has the DRAM and the memory module record
//! in an older form, whose last bytes are reserved there.

use super::bytes::{Fixed, Malformed, Reader, U24, Wire, Writer};
use super::dcd::DpaExtent;
use super::layout::{codes, layout};
use super::logs::Uuid;
use super::memdev::HealthInfo;
use crate::id::LdId;

layout! {
    /// The head of a record, but for the UUID.
    EventHeader = 0x30 {
        /// How many bytes of the record mean something; 128 in each that is defined here.
        0x10 length: u8,
        /// Bits 1:0 severity, 2 permanent, 3 maintenance needed, 4 slower than it should be,
        /// 5 to be replaced, 6 to 8: maintenance subclass, LD and head are valid.
        0x11 flags: U24,
        /// What [`super::events::ClearEventRecordsRequest`] names it by. Never 0.
        0x14 handle: u16,
        /// Another record that this belongs to, or 0.
        0x16 related_handle: u16,
        /// When it happened, in nanoseconds since the beginning of 1970.
        0x18 timestamp_ns: u64,
        /// What maintenance it asks for.
        0x20 maintenance_operation_class: u8,
        /// What kind of that.
        0x21 maintenance_operation_subclass: u8,
        /// Whose it is.
        0x22 ld_id: LdId,
        /// The head of the device that it came through.
        0x24 head_id: u8,
    }
}

layout! {
    /// Something happened to the media.
    GeneralMediaEvent = 0x80 {
        /// Where. Bits 5:0 are flags.
        0x30 physical_address: u64,
        /// Bit 0 uncorrectable, 1 a threshold was reached, 2 the poison list overflowed.
        0x38 memory_event_descriptor: u8,
        /// What it was.
        0x39 memory_event_type: u8,
        /// What was being done.
        0x3a transaction_type: u8,
        /// Which of the fields below mean something.
        0x3b validity_flags: u16,
        /// Channel.
        0x3d channel: u8,
        /// Rank.
        0x3e rank: u8,
        /// Device of the rank, as a mask.
        0x3f device: U24,
        /// Which part of the device.
        0x42 component_identifier: [u8; 16],
        /// How the count of corrected errors stands to its threshold.
        0x52 threshold_event_flags: u8,
        /// How many errors were corrected.
        0x53 corrected_error_count: U24,
        /// What it was, more closely.
        0x56 memory_event_subtype: u8,
    }
}

layout! {
    /// Something happened in a DRAM.
    DramEvent = 0x80 {
        /// Where. Bits 5:0 are flags.
        0x30 physical_address: u64,
        /// As of [`GeneralMediaEvent`].
        0x38 memory_event_descriptor: u8,
        /// What it was.
        0x39 memory_event_type: u8,
        /// What was being done.
        0x3a transaction_type: u8,
        /// Which of the fields below mean something.
        0x3b validity_flags: u16,
        /// Channel.
        0x3d channel: u8,
        /// Rank.
        0x3e rank: u8,
        /// Which nibbles.
        0x3f nibble_mask: U24,
        /// Bank group.
        0x42 bank_group: u8,
        /// Bank.
        0x43 bank: u8,
        /// Row.
        0x44 row: U24,
        /// Column.
        0x47 column: u16,
        /// Which bits were corrected.
        0x49 correction_mask: [u8; 32],
        /// Which part of the device.
        0x69 component_identifier: [u8; 16],
        /// Sub-channel.
        0x79 sub_channel: u8,
        /// How the count of corrected errors stands to its threshold.
        0x7a threshold_event_flags: u8,
        /// How many errors of volatile memory were corrected.
        0x7b corrected_volatile_error_count: U24,
        /// What it was, more closely.
        0x7e memory_event_subtype: u8,
    }
}

layout! {
    /// Something happened to the module as a whole.
    MemoryModuleEvent = 0x80 {
        /// What it was.
        0x30 device_event_type: u8,
        /// How the device is, then.
        0x31 device_health: HealthInfo,
        /// Which of the fields below mean something.
        0x43 validity_flags: u16,
        /// Which part of the device.
        0x45 component_identifier: [u8; 16],
        /// What it was, more closely.
        0x55 device_event_subtype: u8,
    }
}

codes! {
    /// What is asked, or told, about dynamic capacity.
    DynamicCapacityEventType: u8 {
        /// A host is offered capacity.
        0 AddCapacity,
        /// A host is asked to give capacity back.
        1 ReleaseCapacity,
        /// Capacity was taken from a host.
        2 ForcedCapacityRelease,
        /// A region was set up anew.
        3 RegionConfigurationUpdated,
        /// The fabric manager is told what a host made of an offer.
        4 AddCapacityResponse,
        /// The fabric manager is told that a host gave back.
        5 CapacityReleased,
    }
}

layout! {
    /// Dynamic capacity is to come, to go, or went.
    DynamicCapacityEvent = 0x80 {
        /// What it is.
        0x30 event_type: DynamicCapacityEventType,
        /// Bit 0: the numbers of available extents and tags mean something. Recalled, not compared.
        0x31 validity_flags: u8,
        /// The logical device that is the host's way in.
        0x32 host_id: LdId,
        /// The region that was set up anew.
        0x34 updated_region_index: u8,
        /// Bit 0: the next record belongs to this one.
        0x35 flags: u8,
        /// What is offered or asked back.
        0x38 extent: DpaExtent,
        /// How many extents more it can keep track of.
        0x78 available_extents: u32,
        /// How many tags more it can keep track of.
        0x7c available_tags: u32,
    }
}

impl DynamicCapacityEvent {
    /// Flag: the next record belongs to this one.
    pub const MORE: u8 = 1 << 0;
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventBody {
    /// To the media.
    GeneralMedia(GeneralMediaEvent),
    /// In a DRAM.
    Dram(DramEvent),
    /// To the module.
    MemoryModule(MemoryModuleEvent),
    /// About dynamic capacity.
    DynamicCapacity(DynamicCapacityEvent),
    /// Something that is not understood here.
    Other {
        /// What it is.
        uuid: Uuid,
        /// The bytes after the head.
        data: [u8; 0x50],
    },
}

/// A record of an event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// What all records have.
    pub header: EventHeader,
    /// What this one has.
    pub body: EventBody,
}

impl EventRecord {
    /// How long a record is.
    pub const BYTES: usize = 0x80;
    /// A record of a [`GeneralMediaEvent`].
    pub const GENERAL_MEDIA: Uuid = Uuid([
        0xfb, 0xcd, 0x0a, 0x77, 0xc2, 0x60, 0x41, 0x7f, 0x85, 0xa9, 0x08, 0x8b, 0x16, 0x21, 0xeb,
        0xa6,
    ]);
    /// A record of a [`DramEvent`].
    pub const DRAM: Uuid = Uuid([
        0x60, 0x1d, 0xcb, 0xb3, 0x9c, 0x06, 0x4e, 0xab, 0xb8, 0xaf, 0x4e, 0x9b, 0xfb, 0x5c, 0x96,
        0x24,
    ]);
    /// A record of a [`MemoryModuleEvent`].
    pub const MEMORY_MODULE: Uuid = Uuid([
        0xfe, 0x92, 0x74, 0x75, 0xdd, 0x59, 0x43, 0x39, 0xa5, 0x86, 0x79, 0xba, 0xb1, 0x13, 0xbc,
        0x74,
    ]);
    /// A record of a [`DynamicCapacityEvent`].
    pub const DYNAMIC_CAPACITY: Uuid = Uuid([
        0xca, 0x95, 0xaf, 0xa7, 0xf1, 0x83, 0x40, 0x18, 0x8c, 0x2f, 0x95, 0x26, 0x8e, 0x10, 0x1a,
        0x2a,
    ]);
}

impl Fixed for EventRecord {
    const BYTES: usize = 0x80;

    fn read(reader: Reader<'_>) -> Result<Self, Malformed> {
        let header = reader.at(0x00)?;
        let uuid = reader.at(0x00)?;
        let body = match uuid {
            Self::GENERAL_MEDIA => EventBody::GeneralMedia(reader.at(0x00)?),
            Self::DRAM => EventBody::Dram(reader.at(0x00)?),
            Self::MEMORY_MODULE => EventBody::MemoryModule(reader.at(0x00)?),
            Self::DYNAMIC_CAPACITY => EventBody::DynamicCapacity(reader.at(0x00)?),
            _ => EventBody::Other {
                uuid,
                data: reader.at(0x30)?,
            },
        };
        Ok(Self { header, body })
    }

    fn write(&self, writer: &mut Writer, at: usize) {
        let uuid = match &self.body {
            EventBody::GeneralMedia(event) => {
                writer.at(at, event);
                &Self::GENERAL_MEDIA
            }
            EventBody::Dram(event) => {
                writer.at(at, event);
                &Self::DRAM
            }
            EventBody::MemoryModule(event) => {
                writer.at(at, event);
                &Self::MEMORY_MODULE
            }
            EventBody::DynamicCapacity(event) => {
                writer.at(at, event);
                &Self::DYNAMIC_CAPACITY
            }
            EventBody::Other { uuid, data } => {
                writer.at(at + 0x30, data);
                uuid
            }
        };
        writer.at(at, uuid);
        writer.at(at, &self.header);
    }
}

impl Wire for EventRecord {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::decode_exact(bytes)
    }

    fn encode(&self) -> Vec<u8> {
        self.encode_exact()
    }
}

#[cfg(test)]
impl super::sample::Sample for EventRecord {
    fn sample(source: &mut super::sample::Source) -> Self {
        let body = match source.below(5) {
            0 => EventBody::GeneralMedia(source.sample()),
            1 => EventBody::Dram(source.sample()),
            2 => EventBody::MemoryModule(source.sample()),
            3 => EventBody::DynamicCapacity(source.sample()),
            _ => EventBody::Other {
                uuid: source.sample(),
                data: source.sample(),
            },
        };
        Self {
            header: source.sample(),
            body,
        }
    }
}
