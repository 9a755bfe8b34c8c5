//! The table in which a device or a switch tells how fast it is (CDAT).
//!
//! ```text
//! 00h  4  length of all of it
//! 04h  1  revision, 1
//! 05h  1  checksum: all bytes sum up to 0
//! 06h  6  reserved
//! 0Ch  4  sequence: another one where the table has changed
//! 10h     structures, each with: 1 type, 1 reserved, 2 length
//! ```
//! Compared with the structures of ACPICA; the flags of a range and the memory type with QEMU,
//! recalled. A real host reads it from a mailbox in configuration space (DOE), entry by entry.
//!
//! # Invariants
//! 1. What is read is what was written, whatever it was.
//! 2. A table of which any byte is another one is refused.

/// Bytes of the head.
const HEAD: usize = 0x10;
/// Bytes of each structure of a device, and of the head of that of a switch.
const STRUCTURE: usize = 0x18;
const SWITCH_HEAD: usize = 0x10;
const REVISION: u8 = 1;

/// What a number of a structure is, as HMAT has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Figure {
    /// Of any access, in picoseconds.
    AccessLatency,
    /// Of a read, in picoseconds.
    ReadLatency,
    /// Of a write, in picoseconds.
    WriteLatency,
    /// Of any access, in 10^6 bytes a second.
    AccessBandwidth,
    /// Of reads, in 10^6 bytes a second.
    ReadBandwidth,
    /// Of writes, in 10^6 bytes a second.
    WriteBandwidth,
}

impl Figure {
    const ALL: [Self; 6] = [
        Self::AccessLatency,
        Self::ReadLatency,
        Self::WriteLatency,
        Self::AccessBandwidth,
        Self::ReadBandwidth,
        Self::WriteBandwidth,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::AccessLatency => 0,
            Self::ReadLatency => 1,
            Self::WriteLatency => 2,
            Self::AccessBandwidth => 3,
            Self::ReadBandwidth => 4,
            Self::WriteBandwidth => 5,
        }
    }
}

/// A number as the table has it: so many times a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaled {
    /// The unit.
    pub unit: u64,
    /// How many; below [`u16::MAX`], which would be no number.
    pub count: u16,
}

impl Scaled {
    /// The number in the smallest unit, a power of ten, in which it fits; rounded up.
    #[must_use]
    pub fn of(number: u64) -> Self {
        let mut unit = 1_u64;
        loop {
            match u16::try_from(number.div_ceil(unit)) {
                Ok(count) if count < u16::MAX => return Self { unit, count },
                // 10^19 is the largest that fits, and with it each number does.
                _ => unit = unit.saturating_mul(10),
            }
        }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.unit.saturating_mul(self.count as u64)
    }
}

/// A structure of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A range of addresses (DSMAS).
    Range {
        /// What other structures name it by.
        handle: u8,
        /// See the constants.
        flags: u8,
        /// Where it begins.
        start: u64,
        /// How long it is.
        bytes: u64,
    },
    /// How fast a range is (DSLBIS).
    Speed {
        /// Of which range.
        handle: u8,
        /// What is told.
        figure: Figure,
        /// How much.
        value: Scaled,
    },
    /// For what a range is to be used (DSEMTS).
    Use {
        /// Of which range.
        handle: u8,
        /// 1: conventional memory for a special purpose.
        memory: u8,
        /// Where it begins, within the range.
        offset: u64,
        /// How long it is.
        bytes: u64,
    },
    /// How fast a switch is, from its upstream port to any other (SSLBIS).
    Switch {
        /// What is told.
        figure: Figure,
        /// How much.
        value: Scaled,
    },
}

impl Entry {
    /// Flag of a range: several hosts may have it.
    pub const SHARABLE: u8 = 1 << 3;
    /// Flag of a range: hardware keeps it coherent.
    pub const HARDWARE_COHERENT: u8 = 1 << 4;
    /// Flag of a range: it is dynamic capacity.
    pub const DYNAMIC: u8 = 1 << 5;
    /// Flag of a range: it is only read.
    pub const READ_ONLY: u8 = 1 << 6;
    /// Conventional memory for a special purpose.
    pub const SPECIAL_PURPOSE: u8 = 1;
    /// The upstream port of a switch, and any port.
    const UPSTREAM: u16 = 0x0100;
    const ANY: u16 = 0xffff;

    const fn kind(&self) -> u8 {
        match self {
            Self::Range { .. } => 0,
            Self::Speed { .. } => 1,
            Self::Use { .. } => 4,
            Self::Switch { .. } => 5,
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend([self.kind(), 0]);
        bytes.extend(0x18_u16.to_le_bytes());
        match *self {
            Self::Range {
                handle,
                flags,
                start,
                bytes: length,
            } => {
                bytes.extend([handle, flags, 0, 0]);
                bytes.extend(start.to_le_bytes());
                bytes.extend(length.to_le_bytes());
            }
            Self::Speed {
                handle,
                figure,
                value,
            } => {
                bytes.extend([handle, 0, figure.number(), 0]);
                bytes.extend(value.unit.to_le_bytes());
                bytes.extend(value.count.to_le_bytes());
                bytes.extend([0; 6]);
            }
            Self::Use {
                handle,
                memory,
                offset,
                bytes: length,
            } => {
                bytes.extend([handle, memory, 0, 0]);
                bytes.extend(offset.to_le_bytes());
                bytes.extend(length.to_le_bytes());
            }
            Self::Switch { figure, value } => {
                bytes.extend([figure.number(), 0, 0, 0]);
                bytes.extend(value.unit.to_le_bytes());
                bytes.extend(Self::UPSTREAM.to_le_bytes());
                bytes.extend(Self::ANY.to_le_bytes());
                bytes.extend(value.count.to_le_bytes());
                bytes.extend([0; 2]);
            }
        }
    }

    fn read(of: &[u8; STRUCTURE]) -> Option<Self> {
        let long = |at: usize| Some(u64::from_le_bytes(*of.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u16::from_le_bytes(*of.get(at..)?.first_chunk()?));
        let figure = |number: u8| Figure::ALL.into_iter().find(|it| it.number() == number);
        let read = match of[0] {
            0 => Self::Range {
                handle: of[4],
                flags: of[5],
                start: long(8)?,
                bytes: long(16)?,
            },
            1 => Self::Speed {
                handle: of[4],
                figure: figure(of[6])?,
                value: Scaled {
                    unit: long(8)?,
                    count: short(16)?,
                },
            },
            4 => Self::Use {
                handle: of[4],
                memory: of[5],
                offset: long(8)?,
                bytes: long(16)?,
            },
            5 => Self::Switch {
                figure: figure(of[4])?,
                value: Scaled {
                    unit: long(8)?,
                    count: short(SWITCH_HEAD + 4)?,
                },
            },
            _ => return None,
        };
        // Whatever else is in it would be something that is not understood here.
        let mut again = Vec::with_capacity(STRUCTURE);
        read.write(&mut again);
        (again == of).then_some(read)
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdat {
    /// Another one where the table has changed.
    pub sequence: u32,
    /// What it tells.
    pub entries: Vec<Entry>,
}

/// Why bytes are no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CdatError {
    /// It is not as long as it says, or of another revision. Read it anew.
    #[error("the table is not as long as it says, or of another revision: read it anew")]
    Head,
    /// Its bytes do not sum up to 0. Read it anew.
    #[error("the bytes of the table do not sum up: read it anew")]
    Checksum,
    /// A structure is not known here, or is cut. Do not rely on the table.
    #[error("no structure that is known is at byte {at} of the table: do not rely on it")]
    Structure {
        /// Where it begins.
        at: usize,
    },
}

impl Cdat {
    /// The bytes of the table.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = HEAD.saturating_add(self.entries.len().saturating_mul(STRUCTURE));
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([REVISION, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(self.sequence.to_le_bytes());
        for entry in &self.entries {
            entry.write(&mut bytes);
        }
        let sum = sum(&bytes);
        if let Some(checksum) = bytes.get_mut(5) {
            *checksum = 0_u8.wrapping_sub(sum);
        }
        bytes
    }

    /// Reads one. All of `bytes` belongs to it.
    ///
    /// # Errors
    /// [`CdatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CdatError> {
        let head: &[u8; HEAD] = bytes.first_chunk().ok_or(CdatError::Head)?;
        let [l0, l1, l2, l3, revision, _, reserved @ .., s0, s1, s2, s3] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let is_whole = u32::try_from(bytes.len()) == Ok(length);
        if !is_whole || revision != REVISION || reserved != [0; 6] {
            return Err(CdatError::Head);
        }
        if sum(bytes) != 0 {
            return Err(CdatError::Checksum);
        }
        let mut entries = Vec::new();
        let parts = bytes.get(HEAD..).unwrap_or_default();
        for (number, part) in parts.chunks(STRUCTURE).enumerate() {
            let entry = part.first_chunk().and_then(Entry::read);
            let at = HEAD + number * STRUCTURE;
            entries.push(entry.ok_or(CdatError::Structure { at })?);
        }
        Ok(Self {
            sequence: u32::from_le_bytes([s0, s1, s2, s3]),
            entries,
        })
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}
