//! Little-endian bytes: how values are taken from a payload and put into one.
//!
//! # Invariants
//! 1. Nothing here panics, whatever the bytes are: each look is checked against what is there.
//! 2. A list is no longer than its bound, and its bytes are there before room is made for it.
//! 3. What is not written is zero, so reserved bytes are zero in all that leaves.

use core::ops::Deref;

use super::ReturnCode;

/// Why a payload could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The caller answers Unsupported: no such command is known here.
    #[error("opcode {0:#06x} is not known")]
    Opcode(u16),
    /// The caller answers Invalid Payload Length: more or fewer bytes than the counts in it say.
    #[error("the payload is not as long as its command says")]
    Length,
    /// The caller answers Invalid Input: a reserved bit is set, or a reserved encoding is used.
    #[error("a field of the payload holds a value that means nothing")]
    Value,
    /// The caller answers Invalid Physical Address: it is not the address of a line.
    #[error("a physical address is not a multiple of 64")]
    PhysicalAddress,
    /// The caller answers Invalid Extent List: a list that must name extents names none.
    #[error("an extent list is empty")]
    ExtentList,
}

impl Malformed {
    /// What a component answers to a request that is so.
    #[must_use]
    pub const fn return_code(self) -> ReturnCode {
        match self {
            Self::Opcode(_) => ReturnCode::Unsupported,
            Self::Length => ReturnCode::InvalidPayloadLength,
            Self::Value => ReturnCode::InvalidInput,
            Self::PhysicalAddress => ReturnCode::InvalidPhysicalAddress,
            Self::ExtentList => ReturnCode::InvalidExtentList,
        }
    }
}

/// A whole payload, or a record, that is known as bytes.
pub trait Wire: Sized {
    /// Reads it. All of `bytes` belongs to it.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed>;

    /// Its bytes. Reserved bytes are zero.
    #[must_use]
    fn encode(&self) -> Vec<u8>;
}

/// A value that always takes the same number of bytes.
pub(crate) trait Fixed: Sized {
    const BYTES: usize;

    /// Reads it from the start of what the reader has.
    fn read(reader: Reader<'_>) -> Result<Self, Malformed>;

    /// Writes it with its first byte at `at`.
    fn write(&self, writer: &mut Writer, at: usize);

    fn decode_exact(bytes: &[u8]) -> Result<Self, Malformed> {
        let reader = Reader::new(bytes);
        reader.ends_at(Self::BYTES)?;
        Self::read(reader)
    }

    fn encode_exact(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.at(0, self);
        writer.into_bytes()
    }
}

/// Bytes that are looked at by their places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn at<T: Fixed>(self, offset: usize) -> Result<T, Malformed> {
        T::read(Self(self.window(offset, T::BYTES)?))
    }

    pub(crate) fn array<const N: usize>(self) -> Result<[u8; N], Malformed> {
        self.0.first_chunk().copied().ok_or(Malformed::Length)
    }

    /// The bound and the bytes are checked before room is made.
    pub(crate) fn list<T: Fixed, const MAX: usize>(
        self,
        offset: usize,
        count: usize,
    ) -> Result<List<T, MAX>, Malformed> {
        if count > MAX {
            return Err(Malformed::Length);
        }
        let bytes = count.checked_mul(T::BYTES).ok_or(Malformed::Length)?;
        let window = self.window(offset, bytes)?;
        let all: Result<Vec<T>, Malformed> = window
            .chunks_exact(T::BYTES)
            .map(|each| T::read(Self(each)))
            .collect();
        Ok(List(all?))
    }

    pub(crate) const fn ends_at(self, offset: usize) -> Result<(), Malformed> {
        if self.0.len() == offset {
            Ok(())
        } else {
            Err(Malformed::Length)
        }
    }

    fn window(self, offset: usize, bytes: usize) -> Result<&'a [u8], Malformed> {
        self.0
            .get(offset..)
            .and_then(|rest| rest.get(..bytes))
            .ok_or(Malformed::Length)
    }
}

/// Bytes that are written by their places, and grow as they are.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn at<T: Fixed>(&mut self, offset: usize, value: &T) {
        value.write(self, offset);
    }

    pub(crate) fn list<T: Fixed>(&mut self, offset: usize, list: &[T]) {
        self.grow(offset);
        for (place, each) in list.iter().enumerate() {
            self.at(offset + place * T::BYTES, each);
        }
    }

    pub(crate) fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.grow(end);
        self.0[offset..end].copy_from_slice(bytes);
    }

    /// Makes it at least this long; what is new is zero.
    pub(crate) fn grow(&mut self, bytes: usize) {
        if self.0.len() < bytes {
            self.0.resize(bytes, 0);
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Fixed for $int {
            const BYTES: usize = size_of::<$int>();

            fn read(reader: Reader<'_>) -> Result<Self, Malformed> {
                Ok(<$int>::from_le_bytes(reader.array()?))
            }

            fn write(&self, writer: &mut Writer, at: usize) {
                writer.put(at, &self.to_le_bytes());
            }
        }

        impl Count for $int {
            const MOST: $int = <$int>::MAX;

            fn of(length: usize) -> Self {
                Self::try_from(length).unwrap_or(Self::MOST)
            }

            fn get(self) -> usize {
                usize::try_from(self).unwrap_or(usize::MAX)
            }
        }
    )*};
}

/// A field that says how many things follow.
pub(crate) trait Count: Fixed {
    const MOST: Self;

    /// A list's bound fits its count, which is asserted where the two meet.
    fn of(length: usize) -> Self;

    fn get(self) -> usize;
}

integers!(u8, u16, u32, u64);

impl<const N: usize> Fixed for [u8; N] {
    const BYTES: usize = N;

    fn read(reader: Reader<'_>) -> Result<Self, Malformed> {
        reader.array()
    }

    fn write(&self, writer: &mut Writer, at: usize) {
        writer.put(at, self);
    }
}

/// A number of three bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct U24(u32);

impl U24 {
    /// Nothing where it does not fit.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value < 1 << 24 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Fixed for U24 {
    const BYTES: usize = 3;

    fn read(reader: Reader<'_>) -> Result<Self, Malformed> {
        let [a, b, c] = reader.array()?;
        Ok(Self(u32::from_le_bytes([a, b, c, 0])))
    }

    fn write(&self, writer: &mut Writer, at: usize) {
        let [a, b, c, _] = self.0.to_le_bytes();
        writer.put(at, &[a, b, c]);
    }
}

/// A list that cannot be longer than its place in a payload allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct List<T, const MAX: usize>(Vec<T>);

/// The caller splits the list: it is too long for one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a list of {count} where {max} are the most")]
pub struct TooMany {
    /// How many there were.
    pub count: usize,
    /// How many there may be.
    pub max: usize,
}

impl<T, const MAX: usize> List<T, MAX> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// What is in it.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for List<T, MAX> {
    type Error = TooMany;

    fn try_from(all: Vec<T>) -> Result<Self, TooMany> {
        if all.len() > MAX {
            Err(TooMany {
                count: all.len(),
                max: MAX,
            })
        } else {
            Ok(Self(all))
        }
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

macro_rules! names {
    ($($name:path, $inner:ty);* $(;)?) => {$(
        impl Fixed for $name {
            const BYTES: usize = <$inner as Fixed>::BYTES;

            fn read(reader: Reader<'_>) -> Result<Self, Malformed> {
                <$inner as Fixed>::read(reader).map($name)
            }

            fn write(&self, writer: &mut Writer, at: usize) {
                self.0.write(writer, at);
            }
        }

        #[cfg(test)]
        impl super::sample::Sample for $name {
            fn sample(source: &mut super::sample::Source) -> Self {
                $name(super::sample::Sample::sample(source))
            }
        }
    )*};
}

names! {
    crate::id::LdId, u16;
    crate::id::MemdevId, u16;
    crate::id::PortId, u8;
    crate::id::VcsId, u8;
    crate::id::VppbId, u8;
    super::dcd::Tag, [u8; 16];
    super::logs::Uuid, [u8; 16];
}
