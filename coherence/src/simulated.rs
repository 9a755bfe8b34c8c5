//! A private write-back cache in software, for hosts that are simulated over shared memory: what a
//! protocol forgets to write back, to drop or to fence goes wrong here on any machine, and goes
//! wrong again from the same seed.
//!
//! Each simulated host has one [`SimCache`]; all of them lie over one [`Backing`], the memory.
//! Nothing keeps the caches the same but the calls of [`Caches`].
//!
//! # What a cache may do, as real ones do
//! - A load or store of a line that is not there fetches it: all its words, as memory has them.
//! - A store makes the line dirty; memory keeps what it had. Eight aligned bytes are never torn.
//! - A dirty line is written back *whole*, its words in a drawn order.
//! - By itself, as [`Faults`] says: it evicts a line, dirty or not; fetches a neighbour of a line
//!   that is loaded or stored; writes a *clean* line back, unless the domain guarantees against it.
//! - A write-back or drop that is asked for may be delayed until a fence. A store fence ends
//!   write-backs only: a line that is to be dropped may be hit until [`Caches::fence_all`].
//! - A host that dies ([`SimCache::kill`]) takes what is dirty along, all but a drawn part.
//!
//! # What it is kinder in than a real one
//! A fence ends what any thread of the host has asked for, not only the calling one. Loads and
//! stores of one host happen in the order of its program.
//!
//! # Invariants
//! 1. A line that is `due` is in `lines`.
//! 2. All that is drawn comes from the seed, in the order of the calls: one seed and one order of
//!    calls, one result.
//! 3. A dead host stores nothing to memory.

use core::fmt;
use std::collections::BTreeMap;

use pool_core::rng::Rng;
use pool_core::sync::{Mutex, MutexGuard, lock};
use pool_core::units::{LINE_BYTES, lines_touched};

use crate::cache::Caches;

mod backing;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

pub use backing::Backing;

const WORD_BYTES: u64 = 8;
const LINE: usize = 64;
const LINE_WORDS: usize = 8;
const _: () = assert!(LINE as u64 == LINE_BYTES);
const _: () = assert!(LINE_WORDS as u64 * WORD_BYTES == LINE_BYTES);

/// What a cache does by itself: each once in so many operations on a line, never where it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Any line is evicted, and written back if it is dirty.
    pub evicted_once_in: u32,
    /// A neighbour of the line that is loaded or stored is fetched. Not where the operation is a
    /// write-back or a drop: those are no access that a prefetcher learns from.
    pub prefetched_once_in: u32,
    /// A clean line is written back. Never where `no_clean_write_backs` is set.
    pub clean_written_back_once_in: u32,
    /// A write-back or drop that was asked for waits for its fence.
    pub delayed_once_in: u32,
    /// The guarantee without which software coherence is lost.
    pub no_clean_write_backs: bool,
}

impl Faults {
    /// Nothing happens by itself, and nothing is delayed.
    pub const NONE: Self = Self {
        evicted_once_in: 0,
        prefetched_once_in: 0,
        clean_written_back_once_in: 0,
        delayed_once_in: 0,
        no_clean_write_backs: true,
    };

    /// All of it, often enough that a short test meets it.
    #[must_use]
    pub const fn often(no_clean_write_backs: bool) -> Self {
        Self {
            evicted_once_in: 7,
            prefetched_once_in: 5,
            clean_written_back_once_in: 9,
            delayed_once_in: 2,
            no_clean_write_backs,
        }
    }
}

/// The private cache of one simulated host. All its threads may use it at once.
pub struct SimCache<B> {
    memory: B,
    faults: Faults,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    lines: BTreeMap<u64, Line>,
    due: BTreeMap<u64, Due>,
    is_dead: bool,
}

#[derive(Clone, Copy)]
struct Line {
    /// In the order of memory: words are little-endian.
    bytes: [u8; LINE],
    is_dirty: bool,
}

impl Line {
    const EMPTY: Self = Self {
        bytes: [0; LINE],
        is_dirty: false,
    };
}

/// What was asked for and is not done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    WriteBack,
    Drop,
}

impl<B: Backing> SimCache<B> {
    /// An empty cache over `memory`, all of whose faults follow from `seed`.
    pub fn new(memory: B, seed: u64, faults: Faults) -> Self {
        Self {
            memory,
            faults,
            state: Mutex::new(State {
                rng: Rng::new(seed),
                lines: BTreeMap::new(),
                due: BTreeMap::new(),
                is_dead: false,
            }),
        }
    }

    /// Loads the bytes from `offset` until `to` is full, as this host sees them.
    ///
    /// # Panics
    /// Where they are not inside of the memory.
    pub fn read(&self, offset: u64, to: &mut [u8]) {
        let mut host = self.host(offset, to.len() as u64);
        let (mut at, mut rest) = (offset, to);
        while !rest.is_empty() {
            let (line, start, len) = first_part(at, rest.len());
            let (part, after) = rest.split_at_mut(len);
            part.copy_from_slice(&host.line(line).bytes[start..start + len]);
            at += len as u64;
            rest = after;
        }
    }

    /// Stores `from` to the bytes from `offset`, as far as this host alone can see.
    ///
    /// # Panics
    /// Where they are not inside of the memory.
    pub fn write(&self, offset: u64, from: &[u8]) {
        let mut host = self.host(offset, from.len() as u64);
        let (mut at, mut rest) = (offset, from);
        while !rest.is_empty() {
            let (number, start, len) = first_part(at, rest.len());
            let (part, after) = rest.split_at(len);
            let line = host.line(number);
            line.bytes[start..start + len].copy_from_slice(part);
            line.is_dirty = true;
            at += len as u64;
            rest = after;
        }
    }

    /// The host dies: of its dirty lines a part reaches memory that follows from `seed`, one of
    /// them with some of its words only; the rest is lost. What the host does after that reaches
    /// nobody. Returns how many dirty lines were lost, torn ones included.
    pub fn kill(&self, seed: u64) -> u64 {
        let mut host = self.host(0, 0);
        host.state.rng = Rng::new(seed);
        let lines = core::mem::take(&mut host.state.lines);
        let mut dirty: Vec<_> = lines
            .into_iter()
            .filter(|(_, line)| line.is_dirty)
            .collect();
        host.state.rng.shuffle(&mut dirty);
        let mut lost = 0;
        for (index, (number, line)) in dirty.into_iter().enumerate() {
            let part = match index {
                0 => host.state.rng.number().to_le_bytes()[0],
                _ if host.state.rng.once_in(2) => ALL_WORDS,
                _ => 0,
            };
            host.store(number, &line.bytes, part);
            lost += u64::from(part != ALL_WORDS);
        }
        host.state.due.clear();
        host.state.is_dead = true;
        lost
    }

    /// What an operation on a range works with.
    fn host(&self, offset: u64, len: u64) -> Host<'_, B> {
        let end = offset.checked_add(len);
        let size = self.memory.words().saturating_mul(WORD_BYTES);
        assert!(
            end.is_some_and(|end| end <= size),
            "{len} B at {offset} are not inside of {size} B"
        );
        Host {
            memory: &self.memory,
            faults: self.faults,
            // Whole between any two statements, so a panic of another thread leaves it usable.
            state: lock(&self.state),
        }
    }
}

/// The line of the byte at `at`, where in it that byte is, and how many of `len` bytes it has.
fn first_part(at: u64, len: usize) -> (u64, usize, usize) {
    let start = usize::from((at % LINE_BYTES).to_le_bytes()[0]);
    (at / LINE_BYTES, start, len.min(LINE - start))
}

/// A bit for each word of a line.
const ALL_WORDS: u8 = u8::MAX;

/// A cache that is locked, with the memory below.
struct Host<'a, B> {
    memory: &'a B,
    faults: Faults,
    state: MutexGuard<'a, State>,
}

impl<B: Backing> Host<'_, B> {
    /// The line, fetched if it is not there. An operation: faults come first.
    fn line(&mut self, number: u64) -> &mut Line {
        self.disturb();
        self.prefetch(number);
        self.fetch(number);
        self.state.lines.entry(number).or_insert(Line::EMPTY)
    }

    /// What the cache does by itself at any operation.
    fn disturb(&mut self) {
        let faults = self.faults;
        let rng = &mut self.state.rng;
        let evicts = rng.once_in(faults.evicted_once_in);
        let writes_clean = rng.once_in(faults.clean_written_back_once_in);
        let place = rng.number();
        if evicts && let Some(number) = self.any(place, |_| true) {
            self.drop_line(number);
        }
        if writes_clean
            && !faults.no_clean_write_backs
            && let Some(number) = self.any(place, |line| !line.is_dirty)
        {
            let bytes = self.state.lines[&number].bytes;
            self.store(number, &bytes, ALL_WORDS);
        }
    }

    /// What the cache may fetch by itself when the line `near` is loaded or stored.
    fn prefetch(&mut self, near: u64) {
        let prefetches = self.state.rng.once_in(self.faults.prefetched_once_in);
        let neighbour = if self.state.rng.once_in(2) {
            near.checked_add(1)
        } else {
            near.checked_sub(1)
        };
        let lines = self.memory.words().div_ceil(LINE_WORDS as u64);
        if prefetches && let Some(number) = neighbour.filter(|&number| number < lines) {
            self.fetch(number);
        }
    }

    /// Some line that `is_meant`: the first from a drawn place on, around the end.
    fn any(&self, drawn: u64, is_meant: impl Fn(&Line) -> bool) -> Option<u64> {
        let (&last, _) = self.state.lines.last_key_value()?;
        let place = drawn % last.saturating_add(1);
        let lines = &self.state.lines;
        let mut around = lines.range(place..).chain(lines.range(..place));
        around
            .find(|(_, line)| is_meant(line))
            .map(|(&number, _)| number)
    }

    /// Loads a line from memory, unless it is there.
    fn fetch(&mut self, number: u64) {
        if self.state.lines.contains_key(&number) {
            return;
        }
        let mut line = Line::EMPTY;
        let first = number * LINE_WORDS as u64;
        let (words, _) = line.bytes.as_chunks_mut();
        for (index, word) in (first..self.memory.words()).zip(words) {
            *word = self.memory.load_word(index).to_le_bytes();
        }
        self.state.lines.insert(number, line);
    }

    /// Stores the words of a line that `part` has a bit for to memory, in a drawn order.
    fn store(&mut self, number: u64, bytes: &[u8; LINE], part: u8) {
        if self.state.is_dead {
            return;
        }
        let (words, _) = bytes.as_chunks();
        let first = number * LINE_WORDS as u64;
        let mut words: Vec<_> = (first..self.memory.words())
            .zip(words)
            .enumerate()
            .filter(|(bit, _)| part & (1 << bit) != 0)
            .collect();
        self.state.rng.shuffle(&mut words);
        for (_, (index, word)) in words {
            self.memory.store_word(index, u64::from_le_bytes(*word));
        }
    }

    /// Stores a dirty line to memory, and keeps it.
    fn clean(&mut self, number: u64) {
        let Some(line) = self.state.lines.get_mut(&number) else {
            return;
        };
        if line.is_dirty {
            line.is_dirty = false;
            let bytes = line.bytes;
            self.store(number, &bytes, ALL_WORDS);
        }
    }

    /// Stores a line to memory if it is dirty, and forgets it.
    fn drop_line(&mut self, number: u64) {
        self.clean(number);
        self.state.lines.remove(&number);
        self.state.due.remove(&number);
    }

    /// Does `what` to the lines of a range, each now or at its fence.
    fn ask(&mut self, offset: u64, len: u64, what: Due) -> u64 {
        let range = lines_touched(offset, len);
        for number in range.clone() {
            self.disturb();
            let is_delayed = self.state.rng.once_in(self.faults.delayed_once_in);
            if !self.state.lines.contains_key(&number) {
                continue;
            }
            match what {
                Due::WriteBack if !is_delayed => self.clean(number),
                Due::Drop if !is_delayed => self.drop_line(number),
                // A drop that waits already writes back as well.
                Due::WriteBack => {
                    self.state.due.entry(number).or_insert(what);
                }
                Due::Drop => {
                    self.state.due.insert(number, what);
                }
            }
        }
        range.end - range.start
    }

    /// Ends all that is due, in a drawn order; drops only where `ends_drops`.
    fn fence(&mut self, ends_drops: bool) {
        let mut due: Vec<_> = self.state.due.iter().map(|(&n, &what)| (n, what)).collect();
        self.state.rng.shuffle(&mut due);
        for (number, what) in due {
            match what {
                Due::Drop if ends_drops => self.drop_line(number),
                Due::Drop => self.clean(number),
                Due::WriteBack => {
                    self.clean(number);
                    self.state.due.remove(&number);
                }
            }
        }
    }
}

impl<B: Backing> Caches for SimCache<B> {
    fn write_back(&self, offset: u64, len: u64) -> u64 {
        self.host(offset, len).ask(offset, len, Due::WriteBack)
    }

    fn invalidate(&self, offset: u64, len: u64) -> u64 {
        self.host(offset, len).ask(offset, len, Due::Drop)
    }

    fn fence_stores(&self) {
        self.host(0, 0).fence(false);
    }

    fn fence_all(&self) {
        self.host(0, 0).fence(true);
    }
}

impl<B: Backing> fmt::Debug for SimCache<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        let dirty = state.lines.values().filter(|line| line.is_dirty).count();
        f.debug_struct("SimCache")
            .field("words", &self.memory.words())
            .field("faults", &self.faults)
            .field("lines", &state.lines.len())
            .field("dirty", &dirty)
            .field("due", &state.due.len())
            .field("is_dead", &state.is_dead)
            .finish()
    }
}
