//! The bytes of a memory device. Fresh memory is of zeros; some lines may be poisoned.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::planted;
use pool_core::units::{LINE_BYTES, PAGE_BYTES};

use crate::memdev::Found;
use crate::span::Span;

/// Bytes of a line.
pub const LINE: usize = 64;
/// What one line holds.
pub type Line = [u8; LINE];

/// Lines of a page.
const LINES: usize = 64;
const _: () = assert!(LINE as u64 == LINE_BYTES && LINES as u64 * LINE_BYTES == PAGE_BYTES);
/// Lines that a device keeps a list of as poisoned; one more is not taken.
pub const MOST_POISONED: usize = 1_024;

/// See the module. An address of a line is that of its first byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Media {
    pages: BTreeMap<u64, Box<[Line; LINES]>>,
    /// With what had them be so.
    poisoned: BTreeMap<u64, Found>,
    /// Lines that are read as an error once.
    fails_once: BTreeSet<u64>,
    /// Of the poisoned lines those that no write makes good.
    spoilt: BTreeSet<u64>,
}

/// The line cannot be read: what it held is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line is poisoned: what it held is lost")]
pub struct Poisoned;

/// The page of an address, and which line of it.
fn split(address: u64) -> (u64, usize) {
    let line = usize::try_from(address % PAGE_BYTES / LINE_BYTES);
    // Below the lines of a page, hence never the fallback.
    (address / PAGE_BYTES, line.unwrap_or(0))
}

const fn first(address: u64) -> u64 {
    address / LINE_BYTES * LINE_BYTES
}

impl Media {
    /// What the line of an address holds.
    ///
    /// # Errors
    /// [`Poisoned`].
    pub fn read(&self, address: u64) -> Result<Line, Poisoned> {
        if self.poisoned.contains_key(&first(address)) {
            return Err(Poisoned);
        }
        let (page, line) = split(address);
        let page = self.pages.get(&page);
        Ok(page.map_or([0; LINE], |page| page[line]))
    }

    /// What the line holds, as it is read for a host: one that fails once has failed then.
    ///
    /// # Errors
    /// [`Poisoned`].
    pub fn fetch(&mut self, address: u64) -> Result<Line, Poisoned> {
        if self.fails_once.remove(&first(address)) {
            return Err(Poisoned);
        }
        self.read(address)
    }

    /// Writes a line. That makes a poisoned one good, unless it is spoilt.
    pub fn write(&mut self, address: u64, content: &Line) {
        self.fails_once.remove(&first(address));
        if !self.spoilt.contains(&first(address)) {
            self.poisoned.remove(&first(address));
        }
        let (page, line) = split(address);
        let fresh = || Box::new([[0; LINE]; LINES]);
        self.pages.entry(page).or_insert_with(fresh)[line] = *content;
    }

    /// Whether all lines of a range of whole lines can be poisoned at once.
    #[must_use]
    pub fn has_room_for(&self, span: Span) -> bool {
        let lines = span.bytes.div_ceil(LINE_BYTES);
        let known = self.poisoned(span).count() as u64;
        let room = MOST_POISONED.saturating_sub(self.poisoned.len()) as u64;
        lines.saturating_sub(known) <= room
    }

    /// Has the line of an address be poisoned, by what it was found so. Of one that is poisoned
    /// already that stays. False where there are too many.
    #[must_use]
    pub fn poison(&mut self, address: u64, found: Found) -> bool {
        let has_room = self.poisoned.len() < MOST_POISONED;
        if has_room || self.poisoned.contains_key(&first(address)) {
            self.poisoned.entry(first(address)).or_insert(found);
            return true;
        }
        false
    }

    /// By what the line of an address was found to be poisoned; none where it is not.
    #[must_use]
    pub fn found(&self, address: u64) -> Option<Found> {
        self.poisoned.get(&first(address)).copied()
    }

    /// Has the line of an address be read as an error once. False where there are too many.
    #[must_use]
    pub fn fail_once(&mut self, address: u64) -> bool {
        let has_room = self.fails_once.len() < MOST_POISONED;
        if has_room {
            self.fails_once.insert(first(address));
        }
        has_room
    }

    /// Has the line of an address be poisoned whatever is written. False where there are too many.
    #[must_use]
    pub fn spoil(&mut self, address: u64) -> bool {
        let is_poisoned = self.poison(address, Found::Unknown);
        if is_poisoned {
            self.spoilt.insert(first(address));
        }
        is_poisoned
    }

    /// Makes the line of an address good; it holds what was last written.
    pub fn heal(&mut self, address: u64) {
        self.poisoned.remove(&first(address));
        for lines in [&mut self.fails_once, &mut self.spoilt] {
            lines.remove(&first(address));
        }
    }

    /// The poisoned lines of a range.
    pub fn poisoned(&self, span: Span) -> impl Iterator<Item = u64> + '_ {
        let lines = self.poisoned.range(span.start..span.end());
        lines.map(|(&line, _)| line)
    }

    /// Zeros a range of whole lines; what was poisoned is good, unless it is spoilt.
    pub fn zero(&mut self, span: Span) {
        let (first, end) = (span.start.div_ceil(PAGE_BYTES), span.end() / PAGE_BYTES);
        if first < end {
            let whole: Vec<u64> = self
                .pages
                .range(first..end)
                .map(|(&page, _)| page)
                .collect();
            for page in whole {
                self.pages.remove(&page);
            }
        }
        if planted!("media.zeroes_whole_pages_alone") {
            return;
        }
        for page in [span.start / PAGE_BYTES, end] {
            self.zero_some(page, span);
        }
        let poisoned: Vec<u64> = self.poisoned(span).collect();
        for line in poisoned {
            if !self.spoilt.contains(&line) {
                self.poisoned.remove(&line);
            }
        }
    }

    /// Zeros what `span` has of one page.
    fn zero_some(&mut self, page: u64, span: Span) {
        let lines = self.pages.get_mut(&page).map(|page| page.iter_mut());
        for (line, content) in (0..).zip(lines.into_iter().flatten()) {
            let address = page * PAGE_BYTES + line * LINE_BYTES;
            if span.start <= address && address < span.end() {
                *content = [0; LINE];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(byte: u8) -> Line {
        [byte; LINE]
    }

    #[test]
    fn a_line_holds_what_was_written_until_it_is_zeroed() {
        let mut media = Media::default();
        assert_eq!(media.read(5 * PAGE_BYTES), Ok(line(0)));
        let addresses = [
            0,
            LINE_BYTES,
            PAGE_BYTES - 1,
            PAGE_BYTES,
            2 * PAGE_BYTES + 64,
        ];
        for (byte, &address) in (1..).zip(&addresses) {
            media.write(address, &line(byte));
        }
        media.zero(Span::new(LINE_BYTES, 2 * PAGE_BYTES).unwrap());
        assert_eq!(media.read(0), Ok(line(1)));
        assert_eq!(media.read(LINE_BYTES), Ok(line(0)));
        assert_eq!(media.read(PAGE_BYTES), Ok(line(0)));
        assert_eq!(media.read(2 * PAGE_BYTES + 64), Ok(line(5)));
        assert_eq!(media.read(PAGE_BYTES - 64), Ok(line(0)));
    }

    #[test]
    fn what_is_poisoned_is_not_read_until_it_is_written() {
        let mut media = Media::default();
        assert!(media.poison(130, Found::Injected));
        assert!(media.poison(130, Found::Scrubbed));
        assert_eq!(media.found(191), Some(Found::Injected));
        assert_eq!(media.read(191), Err(Poisoned));
        assert_eq!(media.read(192), Ok(line(0)));
        let all = Span::new(0, 4_096).unwrap();
        assert_eq!(media.poisoned(all).collect::<Vec<_>>(), [128]);
        media.write(128, &line(1));
        assert_eq!(media.read(130), Ok(line(1)));
        for number in 0..MOST_POISONED as u64 {
            assert!(media.poison(number * LINE_BYTES, Found::Unknown));
        }
        assert!(!media.poison(1 << 40, Found::Unknown));
        assert!(media.poison(64, Found::Unknown));
        media.zero(all);
        assert_eq!(media.poisoned(all).count(), 0);
    }
}
