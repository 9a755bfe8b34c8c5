//! Segments that nobody else has: each extent is stamped at both ends, and stays so wherever the
//! segment goes.

use client_sdk::{Bytes, Create, Error, Force, Pool, Reason, Segment};
use tierpool_tests::EXTENT;
use tierpool_tests::pattern::word;
use tierpool_tests::random::Random;

use crate::{TIERS, unless, unless_short};

/// Words of a stamp.
const STAMP_WORDS: usize = 32;
const STAMP_BYTES: u64 = STAMP_WORDS as u64 * 8;
/// The most extents of one segment.
const EXTENTS_MAX: u64 = 4;

pub(crate) struct Own {
    segment: Segment,
    seed: u64,
    /// Extents that are stamped: all of it.
    extents: u64,
}

impl Own {
    /// A segment that was just granted, and so is zero.
    pub(crate) fn new(segment: Segment, seed: u64) -> Self {
        let mut own = Self {
            segment,
            seed,
            extents: 0,
        };
        own.stamp_new();
        own
    }

    pub(crate) fn create(pool: &Pool, random: &mut Random) -> Result<Self, Error> {
        let extents = 1 + random.below(EXTENTS_MAX);
        let mut create = Create::new(random.one_of(&TIERS), Bytes::new(extents * EXTENT));
        if random.once_in(2) {
            create = create.piece(Bytes::new(EXTENT));
        }
        if random.once_in(2) {
            create = create.capacity(Bytes::new(EXTENTS_MAX * EXTENT));
        }
        let segment = pool.create(&create)?;
        Ok(Self::new(segment, random.number()))
    }

    /// Grows or shrinks it.
    pub(crate) fn resize(&mut self, random: &mut Random) {
        let extents = 1 + random.below(EXTENTS_MAX);
        let outcome = self.segment.resize(Bytes::new(extents * EXTENT));
        let reasons = [
            Reason::OverQuota,
            Reason::TierFull,
            Reason::WindowFull,
            Reason::NotAtBoundary,
        ];
        if unless(outcome, &reasons).is_some() {
            assert_eq!(self.segment.bytes().get(), extents * EXTENT);
            self.extents = self.extents.min(extents);
            self.stamp_new();
        }
    }

    /// Moves it to any tier, its own too.
    pub(crate) fn relocate(&mut self, random: &mut Random) {
        let before = self.segment.incarnation();
        let outcome = self.segment.relocate(random.one_of(&TIERS));
        if unless_short(outcome).is_some() {
            assert!(self.segment.incarnation() > before);
        }
    }

    pub(crate) fn give_back(self, random: &mut Random) {
        if random.once_in(2) {
            self.segment.free(Force::No).unwrap();
        }
    }

    /// Every stamp is there.
    pub(crate) fn verify(&self) {
        for extent in 0..self.extents {
            for (end, offset) in ends(extent) {
                let expected = self.stamp(extent, end);
                assert_eq!(
                    self.words(offset),
                    expected,
                    "{:?}, extent {extent}",
                    self.segment
                );
            }
        }
    }

    /// Stamps what has come new, and was zero.
    fn stamp_new(&mut self) {
        let extents = self.segment.bytes().get() / EXTENT;
        for extent in self.extents..extents {
            for (end, offset) in ends(extent) {
                let found = self.words(offset);
                assert_eq!(
                    found, [0; STAMP_WORDS],
                    "{:?}, extent {extent}",
                    self.segment
                );
                let view = self
                    .segment
                    .view_mut::<u64>(Bytes::new(offset), STAMP_WORDS)
                    .unwrap();
                view.write_from(0, &self.stamp(extent, end)).unwrap();
            }
        }
        self.extents = extents;
    }

    fn words(&self, offset: u64) -> [u64; STAMP_WORDS] {
        let mut words = [0; STAMP_WORDS];
        let view = self
            .segment
            .view::<u64>(Bytes::new(offset), STAMP_WORDS)
            .unwrap();
        view.read_into(0, &mut words).unwrap();
        words
    }

    fn stamp(&self, extent: u64, end: u64) -> [u64; STAMP_WORDS] {
        let first = (extent * 2 + end) * STAMP_WORDS as u64;
        std::array::from_fn(|index| word(self.seed, first + index as u64))
    }
}

/// Where the stamps of an extent are: number and offset of each.
fn ends(extent: u64) -> [(u64, u64); 2] {
    let start = extent * EXTENT;
    [(0, start), (1, start + EXTENT - STAMP_BYTES)]
}
