//! The message that a command or an answer travels in.
//!
//! ```text
//! 00h  1  bits 3:0 category, 7:4 reserved
//! 01h  1  tag
//! 02h  1  reserved
//! 03h  2  opcode
//! 05h  2  length of the payload, bits 15:0
//! 07h  1  bits 4:0 length of the payload, bits 20:16; 6:5 reserved; 7 background operation
//! 08h  2  return code
//! 0Ah  2  vendor specific extended status
//! 0Ch     the payload
//! ```
//! Table 7-14. Compared with the table as published, with libcxlmi and with QEMU, which agree;
//! a note in libcxlmi gives the length 20 bits instead of 21.

use super::bytes::{List, Reader, Writer};
use super::layout::codes;
use super::{MAX_PAYLOAD, Request, ReturnCode, TooMany};

codes! {
    /// What a message is.
    Category: u8 {
        /// A command.
        0 Request,
        /// The answer to one.
        1 Response,
    }
}

/// A command or an answer, with its payload still as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which of the two it is.
    pub category: Category,
    /// The same in an answer as in its command.
    pub tag: u8,
    /// Which command; [`super::Opcode::of`] tells whether it is known.
    pub opcode: u16,
    /// Set in an answer whose command goes on in the background.
    pub background: bool,
    /// How the command ended. Success in a request.
    pub return_code: ReturnCode,
    /// What the vendor adds. To be 0 in a request, but not every sender keeps to it.
    pub vendor_status: u16,
    /// The payload.
    pub payload: List<u8, MAX_PAYLOAD>,
}

/// Why bytes are no message. In each case the receiver drops them: there is nothing to answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The receiver drops them, or reads on where they come as a stream.
    #[error("{have} bytes where a header has 12")]
    Short {
        /// How many there are.
        have: usize,
    },
    /// The receiver drops them: the header is not that of this payload.
    #[error("a payload of {have} bytes where the header says {said}")]
    Length {
        /// What the header says.
        said: usize,
        /// How many there are.
        have: usize,
    },
    /// The receiver drops them: a reserved bit of the header is set.
    #[error("a reserved bit of the header is set")]
    Reserved,
    /// The receiver drops them: neither a command nor an answer.
    #[error("message category {0} is not known")]
    Category(u8),
    /// The receiver counts the command as failed: nobody defined how it ended.
    #[error("return code {0:#06x} is not known")]
    ReturnCode(u16),
}

impl Message {
    /// A command, under a tag that its answer will have.
    ///
    /// # Errors
    /// [`TooMany`] where its payload is longer than a header can tell.
    pub fn request(tag: u8, request: &Request) -> Result<Self, TooMany> {
        let (opcode, payload) = request.encode();
        Ok(Self {
            category: Category::Request,
            tag,
            opcode,
            background: false,
            return_code: ReturnCode::Success,
            vendor_status: 0,
            payload: List::try_from(payload)?,
        })
    }

    /// How long the header is, in bytes.
    pub const HEADER_BYTES: usize = 12;

    /// How long the message is that begins with these bytes, once its header is there.
    #[must_use]
    pub fn length(bytes: &[u8]) -> Option<usize> {
        let [_, _, _, _, _, low, middle, high] = *bytes.first_chunk()?;
        let payload = u32::from_le_bytes([low, middle, high & 0x1f, 0]);
        Some(Self::HEADER_BYTES + usize::try_from(payload).ok()?)
    }

    /// Reads a message. All of `bytes` belongs to it.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let short = MessageError::Short { have: bytes.len() };
        let (header, payload) = bytes.split_first_chunk().ok_or(short)?;
        let [category, tag, reserved, c0, c1, _, _, high, r0, r1, v0, v1] = *header;
        if category & 0xf0 != 0 || reserved != 0 || high & 0x60 != 0 {
            return Err(MessageError::Reserved);
        }
        let category = Category::of(category).ok_or(MessageError::Category(category))?;
        let said = Self::length(bytes).ok_or(short)? - Self::HEADER_BYTES;
        let code = u16::from_le_bytes([r0, r1]);
        if said != payload.len() {
            return Err(MessageError::Length {
                said,
                have: payload.len(),
            });
        }
        Ok(Self {
            category,
            tag,
            opcode: u16::from_le_bytes([c0, c1]),
            background: high & 0x80 != 0,
            return_code: ReturnCode::of(code).ok_or(MessageError::ReturnCode(code))?,
            vendor_status: u16::from_le_bytes([v0, v1]),
            payload: Reader::new(payload)
                .list(0, said)
                .map_err(|_| MessageError::Length {
                    said,
                    have: payload.len(),
                })?,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let [low, middle, high, ..] = self.payload.len().to_le_bytes();
        let background = if self.background { 0x80 } else { 0 };
        let mut writer = Writer::default();
        writer.at(0x0, &self.category);
        writer.at(0x1, &self.tag);
        writer.at(0x3, &self.opcode);
        writer.put(0x5, &[low, middle, high | background]);
        writer.at(0x8, &self.return_code);
        writer.at(0xa, &self.vendor_status);
        writer.put(Self::HEADER_BYTES, &self.payload);
        writer.into_bytes()
    }
}

#[cfg(test)]
impl super::sample::Sample for Message {
    fn sample(source: &mut super::sample::Source) -> Self {
        Self {
            category: source.sample(),
            tag: source.sample(),
            opcode: source.sample(),
            background: source.below(2) == 1,
            return_code: source.sample(),
            vendor_status: source.sample(),
            payload: source.sample(),
        }
    }
}
