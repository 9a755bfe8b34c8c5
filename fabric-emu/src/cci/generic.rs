//! What every component answers: who it is, what it does in the background, what time it has.
//!
//! Sets 00h and 03h. Compared with libcxlmi (all) and QEMU (all but the timestamps).

use super::bytes::{Fixed, Malformed, Reader, Wire, Writer};
use super::layout::layout;
use super::return_code::ReturnCode;

/// No payload at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Empty;

impl Fixed for Empty {
    const BYTES: usize = 0;

    fn read(_: Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self)
    }

    fn write(&self, _: &mut Writer, _: usize) {}
}

impl Wire for Empty {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::decode_exact(bytes)
    }

    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
}

#[cfg(test)]
impl super::sample::Sample for Empty {
    fn sample(_: &mut super::sample::Source) -> Self {
        Self
    }
}

layout! {
    /// Who a component is (0001h).
    IdentifyResponse = 0x12 {
        /// PCIe vendor.
        0x00 vendor_id: u16,
        /// PCIe device.
        0x02 device_id: u16,
        /// PCIe subsystem vendor.
        0x04 subsystem_vendor_id: u16,
        /// PCIe subsystem.
        0x06 subsystem_id: u16,
        /// Serial number.
        0x08 serial_number: u64,
        /// The longest message it takes is 2 to the power of this, in bytes.
        0x10 maximum_message_size: u8,
        /// [`IdentifyResponse::SWITCH`] or [`IdentifyResponse::TYPE_3`].
        0x11 component_type: u8,
    }
}

impl IdentifyResponse {
    /// The component type of a switch.
    pub const SWITCH: u8 = 0x00;
    /// The component type of a memory device.
    pub const TYPE_3: u8 = 0x03;
}

layout! {
    /// How far the background operation is (0002h).
    BackgroundOperationStatus = 0x08 {
        /// Bit 0: it is under way. Bits 7:1: how much is done, in percent.
        0x00 status: u8,
        /// The command that began it.
        0x02 opcode: u16,
        /// How it ended, once it did.
        0x04 return_code: ReturnCode,
        /// What the vendor adds.
        0x06 vendor_status: u16,
    }
}

layout! {
    /// The longest answer, of Get (0003h) and Set Response Message Limit (0004h).
    ///
    /// The range is recalled, not compared: 256 bytes to 1 MiB, as for a mailbox.
    ResponseMessageLimit = 0x01 {
        /// The limit is 2 to the power of this, in bytes.
        0x00 limit: u8; from 8 to 20,
    }
}

layout! {
    /// The time of Get (0300h) and Set Timestamp (0301h).
    Timestamp = 0x08 {
        /// Nanoseconds since the beginning of 1970.
        0x00 timestamp_ns: u64,
    }
}
