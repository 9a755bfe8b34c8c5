//! A ring in memory: where each word lies, and the check of its header.

use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::sync::atomic::{AtomicU32, AtomicU64};
use pool_core::units::Bytes;

use super::claim::Claim;
use super::signal::Signal;
use super::{Field, RingError};

const MAGIC: u64 = u64::from_le_bytes(*b"tierring");
const VERSION: u64 = 1;

/// Bytes before the words: the two signals, a line each.
const SIGNALS_BYTES: u64 = 128;
/// Words of the header, the tail and the head come first, 128 bytes apart.
const WORD_MAGIC: usize = 0;
const WORD_SHAPE: usize = 1;
const WORD_PRODUCER_CLAIM: usize = 2;
const WORD_CONSUMER_CLAIM: usize = 3;
const WORD_TAIL: usize = 16;
const WORD_PRODUCER_NOTE: usize = 17;
const WORD_HEAD: usize = 32;
const WORD_CONSUMER_NOTE: usize = 33;
const WORD_PLACES: usize = 48;

/// How many records a ring holds: a power of two from 2 to 2^24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    shift: u32,
}

impl Capacity {
    const SHIFT_MAX: u32 = 24;

    /// This many records.
    ///
    /// # Errors
    /// [`RingError::Capacity`].
    pub const fn new(records: u64) -> Result<Self, RingError> {
        let shift = records.trailing_zeros();
        if !records.is_power_of_two() || shift == 0 || shift > Self::SHIFT_MAX {
            return Err(RingError::Capacity {
                capacity: records,
                min: 2,
                max: 1 << Self::SHIFT_MAX,
            });
        }
        Ok(Self { shift })
    }

    /// How many records that is.
    #[must_use]
    pub const fn records(self) -> u64 {
        1 << self.shift
    }

    pub(super) const fn shift(self) -> u32 {
        self.shift
    }
}

/// What a ring is for, and how it lays out its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Spsc,
    Mpsc,
    Events,
}

impl Kind {
    const fn number(self) -> u64 {
        match self {
            Self::Spsc => 1,
            Self::Mpsc => 2,
            Self::Events => 3,
        }
    }

    /// Records' worth of words in one place: [`Kind::Mpsc`] has its state in the first.
    const fn parts(self) -> u64 {
        match self {
            Self::Spsc | Self::Events => 1,
            Self::Mpsc => 2,
        }
    }
}

fn shape(kind: Kind, record_words: usize, capacity: Capacity) -> u64 {
    // At most 8, see `Area::CHECK`.
    let words = u64::try_from(record_words).unwrap_or(0);
    VERSION | kind.number() << 8 | words << 16 | u64::from(capacity.shift) << 24
}

/// Words and bytes that a ring takes.
fn words_needed(kind: Kind, record_words: usize, capacity: Capacity) -> usize {
    let places = kind.parts() * capacity.records();
    usize::try_from(places).map_or(usize::MAX, |places| {
        places
            .saturating_mul(record_words)
            .saturating_add(WORD_PLACES)
    })
}

pub(super) fn bytes_needed(kind: Kind, record_words: usize, capacity: Capacity) -> Bytes {
    bytes_of(words_needed(kind, record_words, capacity))
}

fn bytes_of(words: usize) -> Bytes {
    let words = u64::try_from(words).unwrap_or(u64::MAX);
    Bytes::new(words.saturating_mul(8).saturating_add(SIGNALS_BYTES))
}

/// The memory of one ring, cut into what is accessed as 32-bit and as 64-bit words: no byte is ever
/// accessed as both.
#[derive(Debug, Clone, Copy)]
pub struct RingMemory<'a> {
    words: &'a [AtomicU64],
    ready: Signal<'a>,
    room: Signal<'a>,
}

#[cfg(not(loom))]
impl<'a> RingMemory<'a> {
    /// All of `mapped`, which starts at a multiple of 128 bytes.
    ///
    /// # Errors
    /// [`BoundsError`](pool_core::mem::BoundsError), where the bytes are read-only, too few for any
    /// ring, or start elsewhere.
    pub fn mapped(mapped: pool_core::mem::Mapped<'a>) -> Result<Self, pool_core::mem::BoundsError> {
        use pool_core::mem::BoundsError;
        const ALIGN: usize = 128;
        if mapped.as_ptr().align_offset(ALIGN) != 0 {
            let (addr, align) = (mapped.addr(), ALIGN);
            return Err(BoundsError::Misaligned { addr, align });
        }
        let signal = |offset| {
            Ok::<_, BoundsError>(Signal {
                event: mapped.atomic_u32(Bytes::new(offset))?,
                waiters: mapped.atomic_u32(Bytes::new(offset + 4))?,
            })
        };
        let (ready, room) = (signal(0)?, signal(64)?);
        let offset = Bytes::new(SIGNALS_BYTES);
        // The signals above are inside, so there is no less.
        let rest = mapped.bytes().checked_sub(offset).unwrap_or(Bytes::ZERO);
        let count = usize::try_from(rest.get() / 8).unwrap_or(usize::MAX);
        let words = mapped.atomics_u64(offset, count)?;
        Ok(Self { words, ready, room })
    }
}

/// The memory of one ring within a process, for tests and models.
#[derive(Debug)]
pub struct OwnedMemory {
    words: Box<[AtomicU64]>,
    signals: [AtomicU32; 4],
}

impl OwnedMemory {
    /// Zeroed memory of `bytes`, as the rings' `bytes` functions tell them.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let words = bytes.get().saturating_sub(SIGNALS_BYTES) / 8;
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            signals: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// The memory, for as many rings as are opened in it at once.
    #[must_use]
    pub fn memory(&self) -> RingMemory<'_> {
        let [ready, ready_waiters, room, room_waiters] = &self.signals;
        RingMemory {
            words: &self.words,
            ready: Signal {
                event: ready,
                waiters: ready_waiters,
            },
            room: Signal {
                event: room,
                waiters: room_waiters,
            },
        }
    }

    /// The words of the memory as they lie there, to look at or to spoil in a test.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    /// The 32-bit words of the two signals, to look at or to spoil in a test.
    #[must_use]
    pub fn signals(&self) -> &[AtomicU32] {
        &self.signals
    }
}

/// A ring whose header was checked.
#[derive(Clone, Copy)]
pub(super) struct Area<'a, const N: usize> {
    pub(super) producer: Claim<'a>,
    pub(super) consumer: Claim<'a>,
    pub(super) tail: &'a AtomicU64,
    pub(super) head: &'a AtomicU64,
    /// Words of either side's own, beside its count.
    pub(super) producer_note: &'a AtomicU64,
    pub(super) consumer_note: &'a AtomicU64,
    /// Something to read has come.
    pub(super) ready: Signal<'a>,
    /// A place to write has come.
    pub(super) room: Signal<'a>,
    pub(super) capacity: Capacity,
    /// `Kind::parts` of them make a place.
    parts: &'a [[AtomicU64; N]],
}

impl<'a, const N: usize> Area<'a, N> {
    const CHECK: () = assert!(N.is_power_of_two() && N <= 8);

    /// Writes an empty ring, in memory that nobody else uses.
    pub(super) fn create(
        memory: RingMemory<'a>,
        kind: Kind,
        capacity: Capacity,
    ) -> Result<Self, RingError> {
        let area = Self::cut(memory, kind, capacity)?;
        for signal in [memory.ready, memory.room] {
            signal.event.store(0, Relaxed);
            signal.waiters.store(0, Relaxed);
        }
        for word in memory.words.iter().take(words_needed(kind, N, capacity)) {
            word.store(0, Relaxed);
        }
        word(memory.words, WORD_SHAPE)?.store(shape(kind, N, capacity), Relaxed);
        // Release pairs with the acquire in `open`: who sees the magic sees an empty ring.
        word(memory.words, WORD_MAGIC)?.store(MAGIC, Release);
        Ok(area)
    }

    /// Checks the header of a ring that somebody made.
    pub(super) fn open(memory: RingMemory<'a>, kind: Kind) -> Result<Self, RingError> {
        let magic = word(memory.words, WORD_MAGIC)?.load(Acquire);
        if magic != MAGIC {
            return Err(Field::Magic.corrupt(magic));
        }
        let found = word(memory.words, WORD_SHAPE)?.load(Relaxed);
        let capacity = u32::try_from(found >> 24)
            .ok()
            .and_then(|shift| 1u64.checked_shl(shift))
            .and_then(|records| Capacity::new(records).ok());
        match capacity {
            Some(capacity) if found == shape(kind, N, capacity) => {
                Self::cut(memory, kind, capacity)
            }
            _ => Err(Field::Shape.corrupt(found)),
        }
    }

    fn cut(memory: RingMemory<'a>, kind: Kind, capacity: Capacity) -> Result<Self, RingError> {
        const { Self::CHECK };
        let words = memory.words;
        let end = words_needed(kind, N, capacity);
        let places = words.get(WORD_PLACES..end).ok_or(RingError::TooSmall {
            needed: bytes_of(end),
            given: bytes_of(words.len()),
        })?;
        let (parts, _none) = places.as_chunks::<N>();
        Ok(Self {
            producer: Claim {
                word: word(words, WORD_PRODUCER_CLAIM)?,
                what: Field::ProducerClaim,
            },
            consumer: Claim {
                word: word(words, WORD_CONSUMER_CLAIM)?,
                what: Field::ConsumerClaim,
            },
            tail: word(words, WORD_TAIL)?,
            head: word(words, WORD_HEAD)?,
            producer_note: word(words, WORD_PRODUCER_NOTE)?,
            consumer_note: word(words, WORD_CONSUMER_NOTE)?,
            ready: memory.ready,
            room: memory.room,
            capacity,
            parts,
        })
    }

    /// Where a position lies, among those of all positions.
    #[inline]
    pub(super) fn index(&self, position: u64) -> usize {
        // Below the number of places, which are all in memory, so it fits.
        usize::try_from(position & (self.capacity.records() - 1)).unwrap_or(usize::MAX)
    }

    /// The part with this index. What `index` returns is never out of bounds, but the compiler does
    /// not know: one compare.
    #[inline]
    pub(super) fn part(&self, index: usize, of: Field) -> Result<&'a [AtomicU64; N], RingError> {
        self.parts.get(index).ok_or_else(|| {
            let index = u64::try_from(index).unwrap_or(u64::MAX);
            of.corrupt(index)
        })
    }
}

fn word(words: &[AtomicU64], index: usize) -> Result<&AtomicU64, RingError> {
    words.get(index).ok_or(RingError::TooSmall {
        needed: bytes_of(index + 1),
        given: bytes_of(words.len()),
    })
}

/// Copies a record into its place. The order of the words does not matter: who publishes the place
/// releases them all.
#[inline]
pub(super) fn write<const N: usize>(place: &[AtomicU64; N], record: &[u64; N]) {
    for (to, from) in place.iter().zip(record) {
        to.store(*from, Relaxed);
    }
}

/// Copies a record out of its place, after an acquire of what published it.
#[inline]
pub(super) fn read<const N: usize>(place: &[AtomicU64; N]) -> [u64; N] {
    core::array::from_fn(|index| place.get(index).map_or(0, |word| word.load(Relaxed)))
}
