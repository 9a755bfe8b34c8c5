//! The board: all of the directory between hosts that lies in the memory that they share. So hosts
//! need no network to agree who owns what, and whoever survives finds all that it needs to go on.
//!
//! On it hosts [post](Station) what a home and its peers tell each other, the home keeps its
//! journal, and whoever manages the fabric says which host has the home and which lives of hosts
//! write no more. The [`Station`] of a host runs its peer, and the home where that is here.
//!
//! # Layout
//! Blocks of whole lines of 64 bytes, for `H` hosts, `E` extents and [`PLACES`] messages on each
//! way from one host to another. A row is two blocks, of `L` lines each where it is an extent's:
//! as many as `5 + H` words take.
//!
//! | lines | what | written by |
//! |---|---|---|
//! | 1 | what this is: magic, layout, `H`, `E`, its mark | who makes the board, once |
//! | 2 | which host has the home | the fabric's manager |
//! | 2 `H` | of each host, up to which life it is fenced | the fabric's manager |
//! | 2 `H` | of each host, which life it is in, and its mark | that host |
//! | 2 | the journal: the term | the home's host |
//! | 2 `H` | the journal: each host | the home's host |
//! | 2 `L E` | the journal: each extent | the home's host |
//! | `PLACES H H` | the way from each host to each other one | the host it leads from |
//!
//! A block is words of eight bytes: a number that rises, the contents, a seal. The seal is a hash
//! of the other words and of the place. So what is torn, stale in part, or garbage is known for
//! that, whatever the order in which words of it reached memory. It tells accidents, no forgery:
//! hosts of one board trust each other, and each value is checked before it is used all the same.
//!
//! # Who writes
//! **Each line has one writer.** No word is exchanged or added to, so that memory without atomic
//! operations among hosts will do, and no host ever writes back what another one has written. The
//! home's host changes, and with it who writes the journal: only after the host that had it is
//! fenced.
//!
//! # Rows
//! The two blocks of a row are written in turn, under ever higher numbers: the older one while the
//! newer one stays as it is. A writer may die at any store: what it left is the row as it was, or
//! as it was to be. Of two whole blocks the numbers are neighbours; anything else is damage, an
//! error, and never served.
//!
//! # Ways
//! The message with the number `n` lies at place `n` modulo [`PLACES`], over what was there before.
//! The writer waits for nobody: a reader that is late or dead, or a burst of more than a way holds,
//! costs the oldest messages, which is allowed: they are sent again after a while. Numbers begin
//! with the life of the host, so a host that lives again goes on above all that it ever sent. A
//! reader looks for the highest number first, and then takes all that is above what it had: those
//! were written before, so it finds each that is there still.
//!
//! # Order
//! All that a host stored before it writes a block is seen by whoever has read that block: a
//! release fence goes before its words and an acquire fence after them. Where hosts do not keep
//! their caches the same, [`Caches`] says what it takes: a block is written back, and fenced,
//! before anything after it; and it is dropped before it is read. They count from where the board
//! begins. **A machine whose memory is
//! always coherent (QEMU's) cannot show that any of this is missing**; `tests/host_board` does it
//! with caches that lose lines.
//!
//! # Fencing
//! A life that is fenced writes no more: it is dead, or cut off from the device. Only the manager
//! says so, [`Board::fence`], after it was made so. Each station looks at its own fence before it
//! does anything, and whether its life is still the one that its host is in: two processes that
//! were given one slot by mistake would write the same lines. But that is a courtesy: a host that
//! sleeps between that look and a store is stopped by the fabric, or by nobody.
//!
//! A number does not tell which life it is: on a board that was made anew hosts count from 1 again,
//! and of two processes that begin at once neither sees what the other takes. So a board and each
//! life have a **mark**, drawn at random. A station of a board of before is told by the board's; of
//! two with one number whoever wrote last stands. Until the other one is fenced the home takes both
//! for one.
//!
//! # Example
//! Two hosts of one process, over memory of its own; of real hosts each has a station, over the
//! same memory (`Segment::words` of a segment that a daemon grants of it).
//!
//! ```
//! # #[cfg(not(loom))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use coherence::cache::Hardware;
//! use coherence::host::board::{Board, Shape, Station, StationError, Told};
//! use coherence::host::{Change, HomeLimits, PeerLimits, PeerOutput, Right};
//! use pool_core::clock::{self, Deadline, eventually};
//! use pool_core::sync::atomic::AtomicU64;
//! use pool_core::Nanos;
//!
//! let shape = Shape::new(2, 16)?; // hosts, extents
//! let words: Vec<AtomicU64> =
//!     (0..shape.bytes().get() / 8).map(|_| AtomicU64::new(0)).collect();
//!
//! // The manager of the fabric, once, while no host uses the memory.
//! Board::create(&words[..], Hardware, shape)?.appoint(0)?;
//!
//! // Each host, in a slot of its own.
//! let station = |slot| {
//!     let board = Board::open(&words[..], Hardware)?;
//!     let (home, peer) = (HomeLimits::default(), PeerLimits::default());
//!     Station::open(clock::now(), board, slot, home, peer)
//! };
//! let (mut a, mut b) = (station(0)?, station(1)?);
//!
//! // Each host takes turns for as long as it lives, and does what it is told.
//! let (user, extent) = (1, 3);
//! let mut asked = false;
//! let mut take_turns = || -> Result<Option<u64>, StationError> {
//!     let now = clock::now();
//!     let told = [a.turn(now)?, b.turn(now)?].concat();
//!     if !asked && b.peer().member().is_some() {
//!         asked = true;
//!         let deadline = now.saturating_add(Nanos::from_millis(5_000));
//!         b.acquire(now, (user, extent), Right::Exclusive, deadline)?;
//!     }
//!     Ok(told.iter().find_map(|it| match it {
//!         Told::Peer(PeerOutput::Granted { version, .. }) => Some(*version),
//!         _ => None,
//!     }))
//! };
//! let patience = Deadline::after(Nanos::from_millis(10_000));
//! let version = eventually(patience, || take_turns().transpose())??;
//! assert_eq!(version, 0); // nobody has written it yet
//! // Here `b` writes the extent, in one piece, and writes it back. Then:
//! b.release(clock::now(), (user, extent), Change::Published)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! 1. Each line is written by one host, or by the manager.
//! 2. What was written last of a row, or a row as it was before, is read; never a mix, never
//!    anything older.
//! 3. What is read and not sound is an error, or counted, and used for nothing.
//! 4. A read or a write takes a bounded time, whatever the memory holds.
//!
//! # How it is checked
//! `tests/host_board`: two hosts exchange extents, one dies at each single store in turn, and the
//! other goes on; the same with caches of their own that lose lines, and with planted bugs; and a
//! manager dies while it makes a board over another one.
//! `tests/loom_board.rs` and the models of ways: a row, and a message, under every schedule, with
//! what was stored before it. And `cargo xtask cxl-vm --only two-hosts`: two machines on the
//! kernel's driver.

use core::fmt;
use core::hash::BuildHasher as _;
use std::hash::RandomState;

use pool_core::Bytes;
use pool_core::planted;
use pool_core::sync::atomic::Ordering::{Acquire, Release};
use pool_core::sync::atomic::fence;
use pool_core::units::LINE_BYTES;
use xxhash_rust::xxh3::xxh3_64;

use super::message::SLOTS;
use crate::cache::Caches;
use crate::simulated::Backing;

mod encoding;
mod journal;
mod row;
mod shape;
mod station;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod way;

pub use shape::{PLACES, Shape};
pub use station::{Station, StationError, Told};

use row::{Pair, Row};

/// Words of a line.
const WORDS: u64 = LINE_BYTES / 8;
/// Words of the largest block.
const BLOCK_WORDS: usize = 40;
const _: () = assert!(BLOCK_WORDS as u64 >= 5 + SLOTS as u64);
const _: () = assert!((BLOCK_WORDS as u64).is_multiple_of(WORDS));
/// In the first block.
const MAGIC: u64 = u64::from_le_bytes(*b"tierbord");
const LAYOUT: u64 = 2;

/// No life of a host has a higher number: the numbers of messages begin with it.
pub const LIFE_MAX: u64 = (1 << 30) - 1;

/// What lies on the board is not what a board has, or the board is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// A board has 2 to 32 hosts and at least one extent. The caller is wrong.
    #[error("a board for {hosts} hosts and {extents} extents: 2 to 32 hosts, and an extent")]
    Shape {
        /// How many hosts it was to have.
        hosts: u8,
        /// How many extents.
        extents: u32,
    },
    /// The memory is smaller than the board. Give it more, or open the right one.
    #[error("the board takes {needed}, and there are {given}")]
    TooSmall {
        /// How much it takes.
        needed: Bytes,
        /// How much there is.
        given: Bytes,
    },
    /// There is no board. Whoever manages the fabric makes it; or the memory was taken away from
    /// this process.
    #[error("there is no board here: whoever manages the fabric has to make it")]
    None,
    /// It is one of another version of this program. Have all hosts use the same one, and the
    /// manager make the board anew.
    #[error("the board has layout {found}, and this program knows layout {LAYOUT}")]
    Layout {
        /// Its layout.
        found: u64,
    },
    /// Since it was opened it was made anew, and nothing of before is of this board. End all users,
    /// forget all cached lines, and open it again.
    #[error("the board was made anew meanwhile: open it again")]
    MadeAnew,
    /// A row is neither what was written last nor what was written before. Have every host fenced
    /// and make the board anew.
    #[error("the row at line {line} of the board is damaged")]
    Damaged {
        /// Where it lies.
        line: u64,
    },
    /// A slot that no host of this board has, or a life that none can be in. The caller is wrong.
    #[error("no host of this board has slot {slot} and life {life}")]
    NoSuchHost {
        /// The slot.
        slot: u8,
        /// The life.
        life: u64,
    },
    /// The host that has the home may write its journal still. Have it fenced up to this life
    /// first.
    #[error("the home is on the host in slot {slot}, whose life {life} is not fenced")]
    HomeLives {
        /// Its slot.
        slot: u8,
        /// The life that it is in.
        life: u64,
    },
}

/// A board in memory, as one host or the manager has it.
pub struct Board<M, C> {
    memory: M,
    caches: C,
    shape: Shape,
    /// The one in its header, by which it is told from every other board that lay there.
    mark: u64,
}

/// A life of a host: its number, and the mark of the one process that began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    number: u64,
    mark: u64,
}

/// What a block was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Nothing was ever written there.
    Empty,
    /// What was written under this number.
    Whole(u64),
    /// Anything else.
    Broken,
}

impl<M: Backing, C: Caches> Board<M, C> {
    /// Makes a board in memory that nobody uses: all that was there is gone. Where it ends before
    /// its time there is the board of before, or none; never a part of one. For the manager.
    ///
    /// # Errors
    /// [`BoardError::TooSmall`].
    pub fn create(memory: M, caches: C, shape: Shape) -> Result<Self, BoardError> {
        let mut board = Self::cut(memory, caches, shape)?;
        if !planted!("board.old_header_outlives_its_rows") {
            board.clear(0..1);
        }
        board.clear(0..shape.lines());
        let (hosts, extents) = (u64::from(shape.hosts()), u64::from(shape.extents()));
        let mut header = [0; 8];
        board.mark = draw();
        header[1..6].copy_from_slice(&[MAGIC, LAYOUT, hosts, extents, board.mark]);
        board.write(0, 1, &mut header);
        Ok(board)
    }

    /// Has zeros in these lines before anything that follows.
    fn clear(&self, lines: core::ops::Range<u64>) {
        for word in lines.start * WORDS..lines.end * WORDS {
            self.memory.store_word(word, 0);
        }
        let bytes = (lines.end - lines.start) * LINE_BYTES;
        self.caches.write_back(lines.start * LINE_BYTES, bytes);
        self.caches.fence_stores();
        fence(Release);
    }

    /// Opens the board that somebody made at the beginning of `memory`.
    ///
    /// # Errors
    /// [`BoardError::None`], [`BoardError::Layout`], [`BoardError::Shape`],
    /// [`BoardError::TooSmall`].
    pub fn open(memory: M, caches: C) -> Result<Self, BoardError> {
        let smallest = Shape::new(2, 1)?;
        let mut board = Self::cut(memory, caches, smallest)?;
        let [hosts, extents, mark] = board.header()?;
        let shape = Shape::new(
            u8::try_from(hosts).unwrap_or(u8::MAX),
            u32::try_from(extents).unwrap_or(u32::MAX),
        )?;
        (board.shape, board.mark) = (shape, mark);
        board.has_room()?;
        Ok(board)
    }

    fn cut(memory: M, caches: C, shape: Shape) -> Result<Self, BoardError> {
        let board = Self {
            memory,
            caches,
            shape,
            mark: 0,
        };
        board.has_room()?;
        Ok(board)
    }

    fn has_room(&self) -> Result<(), BoardError> {
        let needed = self.shape.bytes();
        let given = Bytes::new(self.memory.words().saturating_mul(8));
        if given < needed {
            return Err(BoardError::TooSmall { needed, given });
        }
        Ok(())
    }

    /// How many hosts and extents the header says, and its mark.
    fn header(&self) -> Result<[u64; 3], BoardError> {
        let mut header = [0; 8];
        match self.read(0, &mut header) {
            Seen::Whole(1) if header[1..3] == [MAGIC, LAYOUT] => {
                Ok([header[3], header[4], header[5]])
            }
            Seen::Whole(_) if header[1] == MAGIC => Err(BoardError::Layout { found: header[2] }),
            _ => Err(BoardError::None),
        }
    }

    /// # Errors
    /// [`BoardError::None`] where the memory was taken away since, [`BoardError::MadeAnew`] where
    /// it has another board.
    fn is_there(&self) -> Result<(), BoardError> {
        let [_, _, mark] = self.header()?;
        if mark == self.mark || planted!("board.one_made_anew_is_the_same") {
            Ok(())
        } else {
            Err(BoardError::MadeAnew)
        }
    }

    /// For how many hosts and extents it is.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Says that this host has the home from now on; for the manager. The host that had it before,
    /// if that is another, is fenced by then and not let in anew before this is done: it would go
    /// on with the home.
    ///
    /// # Errors
    /// [`BoardError::HomeLives`], [`BoardError::NoSuchHost`], [`BoardError::Damaged`].
    pub fn appoint(&self, slot: u8) -> Result<(), BoardError> {
        self.check(slot, 0)?;
        if let Some(had) = self.home()?.filter(|had| *had != slot) {
            let life = self.life(had)?;
            if life > self.fenced(had)? {
                return Err(BoardError::HomeLives { slot: had, life });
            }
        }
        self.set(self.shape.seat(), u64::from(slot) + 1)
    }

    /// Says that no life of the host up to this one writes any more; for the manager, once it is
    /// so.
    ///
    /// # Errors
    /// [`BoardError::NoSuchHost`], [`BoardError::Damaged`].
    pub fn fence(&self, slot: u8, life: u64) -> Result<(), BoardError> {
        self.check(slot, life)?;
        let fenced = self.fenced(slot)?.max(life);
        self.set(self.shape.fence(slot), fenced)
    }

    /// Which host has the home, where one was appointed.
    ///
    /// # Errors
    /// [`BoardError::Damaged`].
    pub fn home(&self) -> Result<Option<u8>, BoardError> {
        let at = self.shape.seat();
        let Some(slot) = self.get(at)?.checked_sub(1) else {
            return Ok(None);
        };
        let slot = u8::try_from(slot)
            .ok()
            .filter(|it| *it < self.shape.hosts());
        slot.map(Some).ok_or(BoardError::Damaged { line: at.line })
    }

    /// Up to which life a host is fenced; 0 where it never was.
    ///
    /// # Errors
    /// [`BoardError::NoSuchHost`], [`BoardError::Damaged`].
    pub fn fenced(&self, slot: u8) -> Result<u64, BoardError> {
        self.check(slot, 0)?;
        self.get_life(self.shape.fence(slot))
    }

    /// Which life a host is in, or was in last; 0 where it never lived.
    ///
    /// # Errors
    /// [`BoardError::NoSuchHost`], [`BoardError::Damaged`].
    pub fn life(&self, slot: u8) -> Result<u64, BoardError> {
        self.check(slot, 0)?;
        self.get_life(self.shape.life(slot))
    }

    /// The life that a host is in, where it ever lived.
    fn life_now(&self, slot: u8) -> Result<Life, BoardError> {
        self.check(slot, 0)?;
        let at = self.shape.life(slot);
        Self::life_of(at, &self.row(at)?)
    }

    /// Begins a life of a host that was never used before, and is not fenced.
    fn begin_life(&self, slot: u8, above: u64) -> Result<Life, BoardError> {
        let fenced = self.fenced(slot)?;
        let at = self.shape.life(slot);
        let row = self.row(at)?;
        let before = Self::life_of(at, &row)?.number.max(fenced).max(above);
        let (number, mark) = (before.saturating_add(1), draw());
        self.check(slot, number)?;
        let mut words = [0; BLOCK_WORDS];
        words[1..3].copy_from_slice(&[number, mark]);
        self.renew(at, row.number, &mut words);
        Ok(Life { number, mark })
    }

    fn check(&self, slot: u8, life: u64) -> Result<(), BoardError> {
        if slot >= self.shape.hosts() || life > LIFE_MAX {
            return Err(BoardError::NoSuchHost { slot, life });
        }
        Ok(())
    }

    fn get_life(&self, at: Pair) -> Result<u64, BoardError> {
        Ok(Self::life_of(at, &self.row(at)?)?.number)
    }

    fn life_of(at: Pair, row: &Row) -> Result<Life, BoardError> {
        let [_, number, mark, ..] = row.words;
        if number > LIFE_MAX {
            return Err(BoardError::Damaged { line: at.line });
        }
        Ok(Life { number, mark })
    }

    /// Reads a block into `words`, the number first and the seal last.
    fn read(&self, line: u64, words: &mut [u64]) -> Seen {
        let first = line * WORDS;
        self.drop_stale(line, words.len() as u64 * 8);
        for (index, word) in (first..).zip(words.iter_mut()) {
            *word = self.memory.load_word(index);
        }
        if !planted!("board.reads_without_order") {
            // Pairs with the release in `write`: what was stored before this block is seen.
            fence(Acquire);
        }
        let is_sealed = words.last() == Some(&seal(line, words));
        if is_sealed || planted!("board.seal_is_not_looked_at") && words[0] != 0 {
            return Seen::Whole(words[0]);
        }
        if words.iter().all(|word| *word == 0) {
            Seen::Empty
        } else {
            Seen::Broken
        }
    }

    /// The number that a block has, whether it is whole or not.
    fn number(&self, line: u64) -> u64 {
        self.drop_stale(line, 8);
        self.memory.load_word(line * WORDS)
    }

    /// What is loaded next is what memory has.
    fn drop_stale(&self, line: u64, bytes: u64) {
        if !planted!("board.reads_stale_lines") {
            self.caches.invalidate(line * LINE_BYTES, bytes);
            self.caches.fence_all();
        }
    }

    /// Writes a block, the number first and the seal last.
    fn write(&self, line: u64, number: u64, words: &mut [u64]) {
        words[0] = number;
        let sealed = seal(line, words);
        if let Some(last) = words.last_mut() {
            *last = sealed;
        }
        if !planted!("board.writes_without_order") {
            // Pairs with the acquire in `read`.
            fence(Release);
        }
        for (index, word) in (line * WORDS..).zip(words.iter()) {
            self.memory.store_word(index, *word);
        }
        if !planted!("board.block_is_not_written_back") {
            self.caches
                .write_back(line * LINE_BYTES, words.len() as u64 * 8);
            self.caches.fence_stores();
        }
    }
}

/// A number that no other process draws, and this one never again. A child that was forked has the
/// same keys, and another process.
fn draw() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// The last word of a block at a line that has these others.
fn seal(line: u64, words: &[u64]) -> u64 {
    let mut bytes = [0; 8 * BLOCK_WORDS];
    let count = words.len();
    let contents = std::iter::once(&line).chain(words.iter().take(count.saturating_sub(1)));
    for (to, word) in bytes.chunks_exact_mut(8).zip(contents) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64(&bytes[..8 * count])
}

impl<M, C> fmt::Debug for Board<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Board({:?})", self.shape)
    }
}
