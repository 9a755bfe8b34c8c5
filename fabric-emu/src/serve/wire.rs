//! What is said on the socket of a host's memory.
//!
//! One request and one answer a packet of a `SOCK_SEQPACKET` socket, little-endian. It stands for
//! the driver in the host's kernel that makes dax devices of memory that the host has. **It is the
//! emulator's own and no part of CXL.** A descriptor comes with the answer to [`Verb::Carve`] and
//! [`Verb::Open`] where that is [`Outcome::Done`], and with no other.

use crate::cci::layout::{codes, layout, listed};
use crate::id::{LdId, MemdevId};
use crate::span::Span;

/// Ranges of one carving.
pub const SPANS_MAX: usize = 512;
/// Carvings in one answer; those after them are asked for by the number of the last.
pub const CARVED_MAX: usize = 512;

codes! {
    /// What a host asks of its memory.
    Verb: u8 {
        /// A file that holds these ranges end to end.
        1 Carve,
        /// That a carving end.
        2 GiveBack,
        /// Another descriptor of the file of a carving.
        3 Open,
        /// Which carvings there are, from the one after that number on.
        4 List,
    }
}

codes! {
    /// How a request ended. All but `Done` have changed nothing.
    Outcome: u8 {
        /// It was done.
        0 Done,
        /// The packet means nothing.
        1 Malformed,
        /// The host is dead.
        2 HostDead,
        /// The host does not reach the logical device.
        3 Unreachable,
        /// The host has not accepted some of it, or has it no more.
        4 NotHad,
        /// None, too many, not of whole pages, named twice, or of regions with different access.
        5 BadSpans,
        /// What is shared is carved as a whole, in the order of its extents.
        6 NotWhole,
        /// Some of it is carved already.
        7 Carved,
        /// The host, or the emulator, has as many carvings as it may.
        8 TooMany,
        /// The machine of the emulator has not as much memory to spare.
        9 MachineShort,
        /// The host has no carving of this number.
        10 NoCarving,
        /// The memory left the host while its file was made.
        11 Left,
        /// A system call of the emulator failed.
        12 Failed,
    }
}

impl Outcome {
    /// What it means, and what to do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Done => "it was done",
            Self::Malformed => "the request means nothing to the emulator: use one of its version",
            Self::HostDead => "the host is dead: have it start first",
            Self::Unreachable => "the host does not reach the logical device: bind it first",
            Self::NotHad => "the host has not accepted all of it: read the extent list anew",
            Self::BadSpans => {
                "the ranges are none, too many, not of whole pages, named twice, or of regions \
                 with different access: ask for others"
            }
            Self::NotWhole => "what is shared is carved as a whole, in the order of its extents",
            Self::Carved => "some of it is carved already: give that back, or open it",
            Self::TooMany => "there are as many carvings as may be: give some back",
            Self::MachineShort => "the emulator's machine has not as much memory: free some",
            Self::NoCarving => "the host has no such carving, or no more: list what it has",
            Self::Left => "the memory left the host meanwhile: read the extent list anew",
            Self::Failed => "a system call of the emulator failed: look at its machine",
        }
    }
}

layout! {
    /// A range of a logical device.
    CarvedSpan = 0x10 {
        /// Where it begins.
        0x00 start: u64,
        /// How long it is.
        0x08 bytes: u64,
    }
}

impl From<Span> for CarvedSpan {
    fn from(Span { start, bytes }: Span) -> Self {
        Self { start, bytes }
    }
}

listed! {
    /// A request.
    MemoryRequest = 0x10 {
        /// What is asked.
        0x00 verb: Verb,
        /// The device, where something is carved; else 0.
        0x02 memdev: MemdevId,
        /// The logical device, where something is carved; else 0.
        0x04 ld: LdId,
        /// The number of a carving, where nothing is carved; else 0.
        0x08 carving: u64,
    } then {
        /// What is carved.
        spans: [CarvedSpan; SPANS_MAX], u16 at 0x06
    }
}

layout! {
    /// A carving, in a list.
    Carved = 0x18 {
        /// Its number.
        0x00 carving: u64,
        /// How long its file is.
        0x08 bytes: u64,
        /// The device.
        0x10 memdev: MemdevId,
        /// The logical device.
        0x12 ld: LdId,
    }
}

listed! {
    /// An answer.
    MemoryAnswer = 0x18 {
        /// How it ended.
        0x00 outcome: Outcome,
        /// The carving that was made, opened or given back; else 0.
        0x08 carving: u64,
        /// How long its file is. Where the machine is short, how much it has to spare.
        0x10 bytes: u64,
    } then {
        /// What the host has carved, the lowest numbers first.
        carvings: [Carved; CARVED_MAX], u16 at 0x02
    }
}

impl MemoryAnswer {
    /// An answer without anything else in it.
    #[must_use]
    pub const fn bare(outcome: Outcome) -> Self {
        Self {
            outcome,
            carving: 0,
            bytes: 0,
            carvings: crate::cci::List::new(),
        }
    }
}

// The longest of both fits a packet.
const _: () = assert!(0x10 + SPANS_MAX * 0x10 <= pool_core::limits::MESSAGE_BYTES_MAX);
const _: () = assert!(0x18 + CARVED_MAX * 0x18 <= pool_core::limits::MESSAGE_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cci::sample::{Sample, Source};
    use crate::cci::{List, Malformed, Wire};

    fn comes_back<T: Wire + Sample + PartialEq + core::fmt::Debug>(source: &mut Source) {
        let sent: T = source.sample();
        let bytes = sent.encode();
        assert_eq!(T::decode(&bytes), Ok(sent));
        for cut in 0..bytes.len() {
            assert!(T::decode(&bytes[..cut]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(T::decode(&longer), Err(Malformed::Length));
    }

    #[test]
    fn what_is_said_of_memory_comes_back_as_it_went() {
        let mut source = Source::new(1);
        for _ in 0..200 {
            comes_back::<MemoryRequest>(&mut source);
            comes_back::<MemoryAnswer>(&mut source);
        }
    }

    #[test]
    fn memory_is_asked_for_in_these_bytes() {
        let span = CarvedSpan {
            start: 0x20_0000,
            bytes: 0x40_0000,
        };
        let request = MemoryRequest {
            verb: Verb::Carve,
            memdev: MemdevId(3),
            ld: LdId(1),
            carving: 0,
            spans: List::try_from(vec![span]).unwrap(),
        };
        let mut bytes = vec![1, 0, 3, 0, 1, 0, 1, 0];
        bytes.extend([0; 8]);
        bytes.extend([0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0]);
        assert_eq!(request.encode(), bytes);
        let mut answer = MemoryAnswer::bare(Outcome::MachineShort);
        answer.bytes = 0x1000;
        let mut bytes = vec![9];
        bytes.resize(0x11, 0);
        bytes.push(0x10);
        bytes.resize(0x18, 0);
        assert_eq!(answer.encode(), bytes);
    }
}
