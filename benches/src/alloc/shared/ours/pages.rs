//! Which pages of shared memory are in use: those in the page table of this process that hold
//! anything but zeros. Fresh memory is of zeros, and a block of a workload is written to; what was
//! mapped in one piece with it, and never used, does not count.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::Context as _;

const PAGE: u64 = PAGE_BYTES as u64;
const PAGE_BYTES: usize = 4 << 10;
/// An entry of the page table that is there.
const PRESENT: u64 = 1 << 63;
/// Entries that are read at once.
const ENTRIES: usize = 512;

/// A page of a file: where the file is, and the number of the page in it. The same in all processes
/// that map it.
pub(super) type Page = (u64, u64);

/// The memory of this process.
#[derive(Debug)]
struct Memory {
    table: File,
    content: File,
}

impl Memory {
    fn open() -> anyhow::Result<Self> {
        Ok(Self {
            table: File::open("/proc/self/pagemap")?,
            content: File::open("/proc/self/mem")?,
        })
    }

    fn is_used(&self, page: u64) -> anyhow::Result<bool> {
        let mut content = [0; PAGE_BYTES];
        self.content.read_exact_at(&mut content, page * PAGE)?;
        Ok(content != [0; PAGE_BYTES])
    }
}

/// A shared mapping of a file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    file: u64,
    start: u64,
    end: u64,
    offset: u64,
}

impl Mapping {
    /// A line of `/proc/PID/maps`, where it tells of a shared mapping.
    fn read(line: &str) -> anyhow::Result<Option<Self>> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [range, access, offset, _, file, ..] = words[..] else {
            anyhow::bail!("a mapping is {line:?}");
        };
        if !access.ends_with('s') {
            return Ok(None);
        }
        let (start, end) = range.split_once('-').context("a mapping has no end")?;
        let number = |text| u64::from_str_radix(text, 16);
        Ok(Some(Self {
            file: file.parse()?,
            start: number(start)?,
            end: number(end)?,
            offset: number(offset)?,
        }))
    }

    fn pages(&self, memory: &Memory, pages: &mut BTreeSet<Page>) -> anyhow::Result<()> {
        let (first, count) = (self.start / PAGE, (self.end - self.start) / PAGE);
        let mut entries = [0; 8 * ENTRIES];
        for done in (0..count).step_by(ENTRIES) {
            let wanted = usize::try_from(count - done)?.min(ENTRIES);
            let entries = &mut entries[..8 * wanted];
            memory.table.read_exact_at(entries, 8 * (first + done))?;
            for (index, entry) in (done..).zip(entries.as_chunks().0) {
                let is_there = u64::from_le_bytes(*entry) & PRESENT != 0;
                if is_there && memory.is_used(first + index)? {
                    pages.insert((self.file, self.offset / PAGE + index));
                }
            }
        }
        Ok(())
    }
}

fn mappings() -> anyhow::Result<Vec<Mapping>> {
    let text = fs::read_to_string("/proc/self/maps")?;
    let lines = text.lines().map(Mapping::read);
    lines.filter_map(Result::transpose).collect()
}

/// The files that this process maps.
pub(super) fn files() -> anyhow::Result<BTreeSet<u64>> {
    Ok(mappings()?.iter().map(|mapping| mapping.file).collect())
}

/// The pages in use of all files but those in `without`.
pub(super) fn used(without: &BTreeSet<u64>) -> anyhow::Result<BTreeSet<Page>> {
    let memory = Memory::open()?;
    let mut pages = BTreeSet::new();
    for mapping in mappings()? {
        if !without.contains(&mapping.file) {
            mapping.pages(&memory, &mut pages)?;
        }
    }
    Ok(pages)
}

/// Bytes of so many pages.
pub(super) const fn bytes(count: u64) -> u64 {
    count * PAGE
}

#[cfg(test)]
mod tests {
    use pool_core::sync::atomic::Ordering::Relaxed;

    use super::super::board::Board;
    use super::*;

    #[test]
    fn a_line_of_a_shared_mapping_is_read() {
        let line = "20000000-20400000 rw-s 00200000 00:01 1027    /memfd:pool (deleted)";
        let expected = Mapping {
            file: 1_027,
            start: 0x2000_0000,
            end: 0x2040_0000,
            offset: 0x20_0000,
        };
        assert_eq!(Mapping::read(line).unwrap(), Some(expected));
        let private = "7f00-7f80 r--p 00000000 fe:00 12 /lib/x.so";
        assert_eq!(Mapping::read(private).unwrap(), None);
        assert!(Mapping::read("nothing").is_err());
    }

    #[test]
    fn pages_of_new_files_are_in_use_from_when_they_are_written() {
        let before = files().unwrap();
        let board = Board::create(1).unwrap();
        let none = used(&before).unwrap().len();
        assert!(none < 4, "{none} pages of zeros");
        let desk = board.desk(0).unwrap();
        for word in desk.iter().step_by(512).take(10) {
            word.store(1, Relaxed);
        }
        assert_eq!(used(&before).unwrap().len(), none + 10);
        assert!(used(&files().unwrap()).unwrap().is_empty());
    }
}
