//! Contents that are whole whenever their writer is killed: two halves, and a word that says which
//! of them counts.
//!
//! # Layout
//! One extent, in words of 8 bytes. Word 0 is zero while nothing was written; else bit 0 is the
//! half that counts, and the bits above it are the seed of its contents. Half 0 lies from
//! [`HALF_WORDS`] on, half 1 behind it.
//!
//! # Protocol
//! There is one writer. It fills the half that does not count and then says that it does, by one
//! store. A reader whose half changed under its eyes finds another word 0, and reads again. Seeds
//! rise, over all writers of a name: so a reader knows contents that came back from the past.

use std::fmt;

use crate::pattern::word;

/// Words of a half, and of the head before them.
pub const HALF_WORDS: usize = 512;

/// Where a half begins, in words.
const fn start_of(half: u64) -> usize {
    if half == 0 {
        HALF_WORDS
    } else {
        2 * HALF_WORDS
    }
}

/// The memory of a slot: words by their index.
pub trait Words {
    /// Why a word cannot be had.
    type Error;

    /// Reads one.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn load(&self, index: usize) -> Result<u64, Self::Error>;

    /// Writes one; what was written before is seen before it.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn store(&self, index: usize, value: u64) -> Result<(), Self::Error>;
}

/// What a reader finds that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Word 0.
    pub head: u64,
    /// The first word that is not what the seed wrote.
    pub index: usize,
    /// What it is.
    pub found: u64,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, index, found } = self;
        write!(f, "head {head:#x}, and word {index} is {found:#x}")
    }
}

/// Writes the contents of `seed`, which must be greater than the one before.
///
/// # Errors
/// As the words; the contents of before are then still whole.
pub fn write<W: Words>(words: &W, seed: u64) -> Result<(), W::Error> {
    let head = words.load(0)?;
    let half = if head == 0 { 0 } else { !head & 1 };
    let start = start_of(half);
    for index in start..start + HALF_WORDS {
        words.store(index, word(seed, index as u64))?;
    }
    words.store(0, seed << 1 | half)
}

/// Reads the slot: the seed of its contents, 0 while there are none, or where they are torn.
///
/// # Errors
/// As the words.
pub fn read<W: Words>(words: &W) -> Result<Result<u64, Torn>, W::Error> {
    let mut head = words.load(0)?;
    loop {
        let torn = compare(words, head)?;
        let now = words.load(0)?;
        match torn {
            None => return Ok(Ok(head >> 1)),
            Some(torn) if now == head => return Ok(Err(torn)),
            Some(_) => head = now,
        }
    }
}

fn compare<W: Words>(words: &W, head: u64) -> Result<Option<Torn>, W::Error> {
    if head == 0 {
        return Ok(None);
    }
    let start = start_of(head & 1);
    for index in start..start + HALF_WORDS {
        let found = words.load(index)?;
        if found != word(head >> 1, index as u64) {
            return Ok(Some(Torn { head, index, found }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Memory whose writer dies after so many stores.
    struct Mortal {
        words: RefCell<Vec<u64>>,
        left: RefCell<usize>,
    }

    impl Mortal {
        fn new() -> Self {
            let (words, left) = (
                RefCell::new(vec![0; 3 * HALF_WORDS]),
                RefCell::new(usize::MAX),
            );
            Self { words, left }
        }
    }

    impl Words for Mortal {
        type Error = ();

        fn load(&self, index: usize) -> Result<u64, ()> {
            Ok(self.words.borrow()[index])
        }

        fn store(&self, index: usize, value: u64) -> Result<(), ()> {
            let mut left = self.left.borrow_mut();
            *left = left.checked_sub(1).ok_or(())?;
            self.words.borrow_mut()[index] = value;
            Ok(())
        }
    }

    #[test]
    fn a_slot_is_whole_after_any_number_of_stores() {
        let slot = Mortal::new();
        assert_eq!(read(&slot), Ok(Ok(0)));
        let mut last = 0;
        for stores in 0..HALF_WORDS + 2 {
            *slot.left.borrow_mut() = stores;
            let seed = stores as u64 + 1;
            if write(&slot, seed).is_ok() {
                last = seed;
            }
            assert_eq!(read(&slot), Ok(Ok(last)), "after {stores} stores");
        }
        assert_eq!(
            last,
            HALF_WORDS as u64 + 2,
            "the last writer lived long enough"
        );
    }

    #[test]
    fn a_word_that_was_changed_is_found() {
        let slot = Mortal::new();
        write(&slot, 7).unwrap();
        slot.words.borrow_mut()[HALF_WORDS + 3] ^= 1;
        assert_eq!(read(&slot).unwrap().unwrap_err().index, HALF_WORDS + 3);
    }
}
