//! Commands of the component command interface and of the fabric manager, as bytes.
//!
//! Everything here is a pure translation, after CXL 3.1 and 3.2: no state, no I/O. Whether a
//! command may be done is for the component to say; whether its bytes mean anything is said here.
//!
//! # Layers
//! A [`Message`] has a header and a payload as bytes. [`Request`] and [`Response`] are what the
//! payloads say, by [`Opcode`]. The layouts stand as tables in a module for each command set, with
//! the offsets of the specification; each module says what its tables were compared with. "As
//! published" there means the text of CXL 3.2.
//!
//! # What is refused
//! 1. An opcode that is not known: Unsupported.
//! 2. A payload that is not exactly as long as its command and its counts say: Invalid Payload
//!    Length. Counts are held against the bytes that are there before room is made.
//! 3. In a request: a reserved encoding, a reserved bit of a field that has flags, a number out of
//!    its range: Invalid Input. A line that begins at no multiple of 64: Invalid Physical Address.
//!    A prescribed list without extents: Invalid Extent List.
//! 4. In a response: a reserved encoding of a field that has a type of its own here.
//!
//! Reserved bytes are not looked at and leave as zero, so what a newer sender adds does no harm.
//! What was decoded encodes to as many bytes as it came from. Nothing panics on any input.
//!
//! # Examples
//! ```
//! use fabric_emu::cci::{Request, ReturnCode, poison::{InjectPoisonRequest, Line}};
//!
//! let line = Line::at(0x1000).expect("a multiple of 64");
//! let inject = Request::InjectPoison(InjectPoisonRequest { physical_address: line });
//! let (opcode, payload) = inject.encode();
//! assert_eq!((opcode, payload.len()), (0x4301, 8));
//! assert_eq!(Request::decode(opcode, &payload), Ok(inject));
//! assert_eq!(Request::decode(opcode, &[]), Err(ReturnCode::InvalidPayloadLength));
//! ```

pub(crate) mod bytes;
mod commands;
pub mod dcd;
pub mod dcd_management;
pub mod event_records;
pub mod events;
pub mod generic;
#[cfg(test)]
mod laws;
pub(crate) mod layout;
pub mod logical_devices;
pub mod logs;
pub mod memdev;
mod message;
pub mod multi_headed;
pub mod poison;
mod return_code;
#[cfg(test)]
pub(crate) mod sample;
pub mod switch;
pub mod tunnel;
pub mod virtual_switch;

pub use bytes::{List, Malformed, TooMany, U24, Wire};
pub use commands::{Opcode, Request, Response};
pub use dcd::{DpaExtent, Tag};
pub use message::{Category, Message, MessageError};
pub use return_code::ReturnCode;

/// The longest payload a header can tell of, in bytes: its length has 21 bits.
pub const MAX_PAYLOAD: usize = (1 << 21) - 1;

/// How many of so many bytes each fit in a payload, whatever head and end go with them.
const fn most_of(bytes_each: usize) -> usize {
    (MAX_PAYLOAD - 64) / bytes_each
}
