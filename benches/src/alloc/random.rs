//! Numbers that are the same in each run: xorshift, multiplied. Two nanoseconds a number at most,
//! since each contender pays for them.

/// A sequence that its seed decides.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// That of one thread.
    pub(super) fn of(thread: usize) -> Self {
        let seed = (thread as u64).wrapping_add(1);
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The one that is drawn as it is; after the same draws it is the same.
    #[inline]
    pub(super) fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One of 0 to `bound`, without the latter; zero where that is zero.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the result is below `bound`"
    )]
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.word()) * bound as u128) >> 64) as usize
    }

    /// One of `least` to `most`, both counted.
    #[inline]
    pub(super) fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// A size of `least` to `most`, small ones more often: of each power of two as many.
    #[inline]
    pub(super) fn size(&mut self, least: usize, most: usize) -> usize {
        let octave = least << self.below((most / least).ilog2() as usize + 1);
        self.between(octave, (2 * octave - 1).min(most))
    }

    /// All numbers below `count`, mixed.
    pub(super) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_sequence() {
        let draw = |thread| {
            let mut random = Random::of(thread);
            [(); 4].map(|()| random.below(1 << 20))
        };
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::of(0);
        let mut seen = [false; 7];
        for _ in 0..1_000 {
            seen[random.between(3, 9) - 3] = true;
            assert!((8..=1_000).contains(&random.size(8, 1_000)));
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn an_order_has_each_number_once() {
        let mut order = Random::of(0).order(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
