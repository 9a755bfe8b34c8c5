//! Numbers that look random and follow from a seed, for what must be repeated exactly: simulated
//! caches, planned faults, explored schedules. Not for secrets.

/// A source of numbers: a counter, mixed (splitmix64). Two sources of one seed say the same.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The numbers that follow from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number, below `bound`; 0 where `bound` is 0. Small numbers come a little more
    /// often, by one part in 2^64 / `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        match self.number().checked_rem(bound) {
            Some(number) => number,
            None => 0,
        }
    }

    /// True once in `times`, and never where `times` is 0. Draws one number either way, so that a
    /// rate that is changed leaves all other draws as they were.
    pub const fn once_in(&mut self, times: u32) -> bool {
        let number = self.number();
        matches!(number.checked_rem(times as u64), Some(0))
    }

    /// Puts `items` in a drawn order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.below(end as u64 + 1);
            // At most `end`, hence never the fallback.
            items.swap(end, usize::try_from(other).unwrap_or(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_which_numbers_come() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..200).map(|_| rng.below(7)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!((0..7).all(|number| draw(3).contains(&number)));
        // The first numbers of splitmix64 from 0, as its author prints them.
        let mut rng = Rng::new(0);
        assert_eq!(rng.number(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(rng.number(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn a_rate_of_zero_is_never_and_of_one_always() {
        let mut rng = Rng::new(5);
        assert!((0..100).all(|_| !rng.once_in(0) && rng.once_in(1)));
        assert_eq!(rng.below(0), 0);
        let hits = (0..3000).filter(|_| rng.once_in(3)).count();
        assert!((800..1200).contains(&hits), "{hits}");
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_reaches_every_order() {
        let mut rng = Rng::new(9);
        let orders: std::collections::BTreeSet<_> = (0..200)
            .map(|_| {
                let mut items = [0, 1, 2];
                rng.shuffle(&mut items);
                items
            })
            .collect();
        assert_eq!(orders.len(), 6);
        assert!(orders.iter().all(|order| order.iter().sum::<u8>() == 3));
    }
}
