//! Poison: which lines have it, and how it is put there and taken away.
//!
//! 4300h to 4302h. Compared with the tables as published, and with libcxlmi, which agree.

use super::bytes::{Fixed, Malformed, Reader, Writer};
use super::layout::{layout, listed};

/// The physical address of a line: a multiple of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(u64);

impl Line {
    /// The line that begins at this device physical address; nothing where none does.
    #[must_use]
    pub const fn at(dpa: u64) -> Option<Self> {
        if dpa.is_multiple_of(64) {
            Some(Self(dpa))
        } else {
            None
        }
    }

    /// Its device physical address.
    #[must_use]
    pub const fn dpa(self) -> u64 {
        self.0
    }
}

impl Fixed for Line {
    const BYTES: usize = 8;

    fn read(reader: Reader<'_>) -> Result<Self, Malformed> {
        Self::at(u64::read(reader)?).ok_or(Malformed::PhysicalAddress)
    }

    fn write(&self, writer: &mut Writer, at: usize) {
        self.0.write(writer, at);
    }
}

#[cfg(test)]
impl super::sample::Sample for Line {
    fn sample(source: &mut super::sample::Source) -> Self {
        Self(source.sample::<u64>() & !63)
    }
}

layout! {
    /// Where poison is looked for (4300h).
    GetPoisonListRequest = 0x10 {
        /// Bits 63:6: the device physical address. Bit 0: begin again.
        0x00 physical_address: u64; bits 0xffff_ffff_ffff_ffc1,
        /// How many lines.
        0x08 physical_address_length: u64,
    }
}

impl GetPoisonListRequest {
    /// Flag in the lowest bit of the address: begin again.
    pub const RESTART: u64 = 1 << 0;
}

layout! {
    /// Lines that have poison.
    MediaErrorRecord = 0x10 {
        /// Bits 63:6: the device physical address. Bits 2:0: where it came from (0 unknown,
        /// 1 outside, 2 inside, 3 injected, 7 the vendor knows).
        0x00 media_error_address: u64,
        /// How many lines.
        0x08 media_error_length: u32,
    }
}

listed! {
    /// The lines that have poison (4300h).
    GetPoisonListResponse = 0x20 {
        /// Bit 0 there are more, 1 the list overflowed, 2 the media is being scanned, 3 it was
        /// begun again.
        0x00 poison_list_flags: u8,
        /// When it overflowed, in nanoseconds since the beginning of 1970.
        0x02 overflow_timestamp_ns: u64,
    } then {
        /// The lines.
        records: [MediaErrorRecord; 0xffff], u16 at 0x0a
    }
}

impl GetPoisonListResponse {
    /// Flag: there are more.
    pub const MORE: u8 = 1 << 0;
    /// Flag: the list overflowed.
    pub const OVERFLOW: u8 = 1 << 1;
}

layout! {
    /// Which line gets poison (4301h).
    InjectPoisonRequest = 0x08 {
        /// The line.
        0x00 physical_address: Line,
    }
}

layout! {
    /// Which line loses its poison (4302h).
    ClearPoisonRequest = 0x48 {
        /// The line.
        0x00 physical_address: Line,
        /// What is in it then.
        0x08 write_data: [u8; 64],
    }
}
