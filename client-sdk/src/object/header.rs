//! What stands before the elements of an object.
//!
//! ```text
//! byte  0 magic  u64   "TPOBJEC" and the format
//!       8 kind   u64   of the elements, see `Element::KIND`
//!      16 count  u64   how many there are
//!      24 summed u64   1 where there is a checksum
//!      32 sum    u64   xxh3 of the bytes of the elements
//!      40 length u64   of the name
//!      48 name   128 bytes, zeros behind
//!     176 zero, to 256
//! ```
//!
//! Any member may have written it: it is judged before anything of it is used.

use pool_core::Bytes;
use pool_core::limits::NAME_BYTES_MAX;

use crate::lease::LeaseError;
use crate::lease::read::ReadGuard;
use crate::lease::write::WriteGuard;

/// Bytes before the elements.
pub(super) const HEADER: Bytes = Bytes::new(256);
const MAGIC: u64 = u64::from_le_bytes(*b"TPOBJEC\x01");
const WORDS: usize = 32;
const NAME_AT: usize = 6;
const NAME_WORDS: usize = NAME_BYTES_MAX / 8;
const _: () = assert!(NAME_BYTES_MAX.is_multiple_of(8) && NAME_AT + NAME_WORDS <= WORDS);
const _: () = assert!(WORDS as u64 * 8 == HEADER.get());

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) count: usize,
    pub(super) sum: Option<u64>,
    name: String,
}

impl Header {
    pub(super) fn new(kind: u8, count: usize, sum: Option<u64>, name: &str) -> Self {
        Self {
            kind,
            count,
            sum,
            name: name.to_owned(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name == name
    }

    /// The header of the object that is held, or `None` where there is none, or none whose elements
    /// fit the `room` of a unit.
    pub(super) fn read(guard: &ReadGuard<'_>, room: Bytes) -> Result<Option<Self>, LeaseError> {
        let mut words = [0; WORDS];
        guard
            .view::<u64>(Bytes::ZERO, WORDS)?
            .read_into(0, &mut words)?;
        Ok(Self::judge(&words, room))
    }

    fn judge(words: &[u64; WORDS], room: Bytes) -> Option<Self> {
        let [magic, kind, count, summed, sum, length, ..] = *words;
        let length = usize::try_from(length).ok();
        let length = length.filter(|length| *length <= NAME_BYTES_MAX)?;
        // No element is smaller than a byte.
        if magic != MAGIC || count > room.get() {
            return None;
        }
        let name = words.get(NAME_AT..NAME_AT + NAME_WORDS)?;
        let name: Vec<u8> = name.iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = core::str::from_utf8(name.get(..length)?).ok()?;
        Some(Self {
            kind: u8::try_from(kind).ok()?,
            count: usize::try_from(count).ok()?,
            sum: (summed == 1).then_some(sum),
            name: name.to_owned(),
        })
    }

    /// From here on the unit has no object.
    pub(super) fn erase(guard: &mut WriteGuard<'_>) -> Result<(), LeaseError> {
        guard.view_mut::<u64>(Bytes::ZERO, 1)?.set(0, 0)
    }

    pub(super) fn write(&self, guard: &mut WriteGuard<'_>) -> Result<(), LeaseError> {
        let words = self.words();
        guard
            .view_mut::<u64>(Bytes::ZERO, WORDS)?
            .write_from(0, &words)
    }

    fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[0] = MAGIC;
        words[1] = u64::from(self.kind);
        words[2] = self.count as u64;
        words[3] = u64::from(self.sum.is_some());
        words[4] = self.sum.unwrap_or(0);
        words[5] = self.name.len() as u64;
        for (word, bytes) in words[NAME_AT..]
            .iter_mut()
            .zip(self.name.as_bytes().chunks(8))
        {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(padded);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Bytes = Bytes::new(4096 - 256);

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for (name, sum) in [("a", None), ("weights/layer-0.w_1", Some(7))] {
            let header = Header::new(9, 5, sum, name);
            assert_eq!(Header::judge(&header.words(), ROOM), Some(header));
        }
        let longest = "n".repeat(NAME_BYTES_MAX);
        let header = Header::new(1, 0, Some(0), &longest);
        assert_eq!(Header::judge(&header.words(), ROOM), Some(header));
    }

    #[test]
    fn what_is_no_header_is_none() {
        let words = Header::new(9, 5, None, "name").words();
        for (at, value) in [
            (0, 0),
            (1, 256),
            (2, ROOM.get() + 1),
            (5, NAME_BYTES_MAX as u64 + 1),
            (5, u64::MAX),
            (NAME_AT, 0xff),
        ] {
            let mut wrong = words;
            wrong[at] = value;
            assert_eq!(Header::judge(&wrong, ROOM), None, "word {at} is {value}");
        }
    }
}
