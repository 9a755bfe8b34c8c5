//! The tag of a group: memory of a fabric that several hosts share, and where it lies in the window
//! of each of them.
//!
//! # Layout, 16 bytes, as it travels and as the fabric keeps it
//! ```text
//! 0..8    drawn by the kernel: who was not told the tag does not guess it
//! 8..12   the first address, in extents, big-endian
//! 12..16  the length, in extents, big-endian
//! ```
//! So a host that is told a tag knows where the group belongs and how long it is before it has any
//! of it, and pointers in it mean the same on every host.

use core::fmt;
use core::str::FromStr;

use crate::{EXTENT_BYTES, Extents, PoolAddr};

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupTag {
    drawn: [u8; 8],
    first: u32,
    extents: u32,
}

/// Sixteen bytes, or their digits, that are no tag of a group. A tag is copied as a whole, from
/// `poolctl segments` or from the process that made the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the tag of a group: 32 hexadecimal digits, as `poolctl segments` shows them")]
pub struct NoTag;

impl GroupTag {
    /// The tag of a group that begins at this address; nothing where that is no extent's, or the
    /// group is empty.
    #[must_use]
    pub fn new(drawn: [u8; 8], addr: PoolAddr, extents: Extents) -> Option<Self> {
        let first = u32::try_from(addr.get() / EXTENT_BYTES).ok()?;
        let fits = addr.get().is_multiple_of(EXTENT_BYTES) && extents > Extents::ZERO;
        let extents = extents.get();
        fits.then_some(Self {
            drawn,
            first,
            extents,
        })
    }

    /// The tag that these bytes are.
    ///
    /// # Errors
    /// [`NoTag`] where they are none.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, NoTag> {
        let (drawn, rest) = bytes.split_first_chunk::<8>().ok_or(NoTag)?;
        let (first, rest) = rest.split_first_chunk::<4>().ok_or(NoTag)?;
        let extents = rest.first_chunk::<4>().ok_or(NoTag)?;
        let (first, extents) = (u32::from_be_bytes(*first), u32::from_be_bytes(*extents));
        let addr = PoolAddr::new(u64::from(first) * EXTENT_BYTES);
        Self::new(*drawn, addr, Extents::new(extents)).ok_or(NoTag)
    }

    /// As it travels.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.drawn);
        bytes[8..12].copy_from_slice(&self.first.to_be_bytes());
        bytes[12..].copy_from_slice(&self.extents.to_be_bytes());
        bytes
    }

    /// Where the group begins, on every host.
    #[must_use]
    pub fn addr(self) -> PoolAddr {
        PoolAddr::new(u64::from(self.first) * EXTENT_BYTES)
    }

    /// How long the group is.
    #[must_use]
    pub fn extents(self) -> Extents {
        Extents::new(self.extents)
    }
}

impl fmt::Display for GroupTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.bytes().into_iter();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GroupTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tag-{self}")
    }
}

impl FromStr for GroupTag {
    type Err = NoTag;

    fn from_str(text: &str) -> Result<Self, NoTag> {
        let digits = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16);
        number
            .ok()
            .filter(|_| digits)
            .map_or(Err(NoTag), |number| Self::from_bytes(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_where_its_group_lies_and_reads_back_from_its_bytes_and_its_digits() {
        let addr = PoolAddr::new(0x2800_0000_0000);
        let tag = GroupTag::new([7; 8], addr, Extents::new(3)).unwrap();
        assert_eq!((tag.addr(), tag.extents().get()), (addr, 3));
        assert_eq!(GroupTag::from_bytes(tag.bytes()), Ok(tag));
        assert_eq!(tag.to_string().parse(), Ok(tag));
        assert_eq!(tag.to_string(), "07070707070707070140000000000003");
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        let one = Extents::new(1);
        assert_eq!(GroupTag::new([0; 8], PoolAddr::new(1), one), None);
        assert_eq!(GroupTag::new([0; 8], PoolAddr::new(1 << 62), one), None);
        assert_eq!(GroupTag::from_bytes([0; 16]), Err(NoTag), "it is empty");
        for text in [
            "",
            "07",
            "+7070707070707070014000000000003",
            "_\u{e9}707070707070700140000000000003",
        ] {
            assert_eq!(text.parse::<GroupTag>(), Err(NoTag), "{text}");
        }
    }
}
