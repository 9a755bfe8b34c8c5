//! Logs that are known by a UUID, above all the one of the commands a component has.
//!
//! Set 04h. Compared with the tables as published and with libcxlmi, which agree.

use super::MAX_PAYLOAD;
use super::bytes::{List, Malformed, Reader, Wire, Writer};
use super::layout::{layout, listed};

/// A UUID, its bytes in the order in which it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The command effects log, a list of [`CommandEffect`].
    pub const COMMAND_EFFECTS_LOG: Self = Self([
        0x0d, 0xa9, 0xc0, 0xb5, 0xbf, 0x41, 0x4b, 0x78, 0x8f, 0x79, 0x96, 0xb1, 0x62, 0x3b, 0x3f,
        0x17,
    ]);
}

layout! {
    /// A log that there is.
    SupportedLog = 0x14 {
        /// Which one.
        0x00 log_identifier: Uuid,
        /// How long it can be, in bytes.
        0x10 log_size: u32,
    }
}

listed! {
    /// The logs of a component (0400h).
    GetSupportedLogsResponse = 0x08 {
    } then {
        /// Each of them.
        entries: [SupportedLog; 0xffff], u16 at 0x00
    }
}

layout! {
    /// Which part of a log (0401h).
    GetLogRequest = 0x18 {
        /// Which log.
        0x00 log_identifier: Uuid,
        /// From which byte on.
        0x10 offset: u32,
        /// How many bytes.
        0x14 length: u32,
    }
}

/// A part of a log (0401h): as many bytes as were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetLogResponse {
    /// The bytes.
    pub data: List<u8, MAX_PAYLOAD>,
}

impl Wire for GetLogResponse {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            data: Reader::new(bytes).list(0, bytes.len())?,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.put(0, &self.data);
        writer.into_bytes()
    }
}

#[cfg(test)]
impl super::sample::Sample for GetLogResponse {
    fn sample(source: &mut super::sample::Source) -> Self {
        Self {
            data: source.sample(),
        }
    }
}

layout! {
    /// An entry of the command effects log.
    CommandEffect = 0x04 {
        /// A command that there is.
        0x00 opcode: u16,
        /// Bit 0 changes the configuration after a cold reset, 1 the configuration at once, 2 data,
        /// 3 a policy, 4 a log, 5 the security state; 6 goes on in the background.
        0x02 effect: u16,
    }
}
