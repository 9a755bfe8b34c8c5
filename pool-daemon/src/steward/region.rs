//! Where the extents of a device lie in a region of dynamic capacity: number 0 where it begins, and
//! one after the other.

use fabric_emu::cci::DpaExtent;
use fabric_emu::cci::dcd::GetDcConfigResponse;
use fabric_emu::span::Span;
use pool_core::EXTENT_BYTES;
use pool_core::units::LINE_BYTES;

use crate::engine::{Run, RunSet};

/// A region, as the device tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(super) base: u64,
    /// How many extents it has.
    extents: u32,
    /// Extents that come and go together.
    pub(super) unit: u32,
}

impl Region {
    /// One that nothing is of.
    pub(super) const NONE: Self = Self {
        base: 0,
        extents: 0,
        unit: 1,
    };

    /// The region of this number; nothing where there is none, or its blocks are no whole extents
    /// and no parts of one.
    pub(crate) fn of(found: &GetDcConfigResponse, number: u8) -> Option<Self> {
        let region = found.regions.get(usize::from(number))?;
        let block = region.region_block_size.max(EXTENT_BYTES);
        let fits = block.is_multiple_of(EXTENT_BYTES)
            && block.is_multiple_of(region.region_block_size.max(1))
            && region.region_base.is_multiple_of(EXTENT_BYTES);
        let unit = u32::try_from(block / EXTENT_BYTES).ok().filter(|_| fits)?;
        let extents = u32::try_from(region.region_length / EXTENT_BYTES).ok()?;
        Some(Self {
            base: region.region_base,
            extents,
            unit,
        })
    }

    #[cfg(test)]
    pub(super) const fn with(extents: u32) -> Self {
        Self {
            extents,
            ..Self::NONE
        }
    }

    pub(super) fn bytes(self) -> u64 {
        u64::from(self.extents) * EXTENT_BYTES
    }

    /// Whether a piece lies in it as a whole.
    #[cfg(feature = "server")]
    pub(super) fn covers(self, piece: Span) -> bool {
        let end = piece.start.checked_add(piece.bytes);
        piece.start >= self.base && end.is_some_and(|end| end - self.base <= self.bytes())
    }

    /// The extents that lie in pieces of the device as a whole.
    pub(super) fn runs(self, pieces: &[Span]) -> RunSet {
        let runs = pieces.iter().filter_map(|&piece| {
            let (count, first) = (self.whole(piece), self.first(piece)?);
            (count > 0).then_some(Run { first, count })
        });
        runs.collect()
    }

    /// The number of the extent that a piece begins in.
    pub(super) fn first(self, piece: Span) -> Option<u32> {
        let offset = piece.start.checked_sub(self.base)?;
        u32::try_from(offset / EXTENT_BYTES).ok()
    }

    /// How many extents a piece is; none where it is not of this region, or not of whole ones.
    pub(super) fn whole(self, piece: Span) -> u32 {
        let offset = piece.start.checked_sub(self.base);
        let end = offset.and_then(|offset| offset.checked_add(piece.bytes));
        let is_of_it = end.is_some_and(|end| end <= self.bytes())
            && offset.is_some_and(|offset| offset.is_multiple_of(EXTENT_BYTES))
            && piece.bytes.is_multiple_of(EXTENT_BYTES);
        let count = u32::try_from(piece.bytes / EXTENT_BYTES);
        count.ok().filter(|_| is_of_it).unwrap_or(0)
    }

    /// The extents that so many lines from an address on lie in.
    pub(super) fn hit(self, line: u64, lines: u32) -> Option<Run> {
        let offset = line.checked_sub(self.base)?;
        let last = offset.checked_add(u64::from(lines.max(1)) * LINE_BYTES - 1)?;
        let first = u32::try_from(offset / EXTENT_BYTES).ok()?;
        let last = u32::try_from(last / EXTENT_BYTES)
            .ok()?
            .min(self.extents.checked_sub(1)?);
        let count = last.checked_sub(first)?.checked_add(1)?;
        Some(Run { first, count })
    }

    /// Where these extents lie, in order.
    pub(crate) fn spans(self, runs: &[Run]) -> Vec<Span> {
        let span = |run: &Run| Span {
            start: self
                .base
                .saturating_add(u64::from(run.first) * EXTENT_BYTES),
            bytes: u64::from(run.count) * EXTENT_BYTES,
        };
        runs.iter().map(span).collect()
    }
}

/// Where an extent of a list lies.
pub(super) fn piece_of(extent: &DpaExtent) -> Span {
    Span {
        start: extent.start_dpa,
        bytes: extent.length,
    }
}
