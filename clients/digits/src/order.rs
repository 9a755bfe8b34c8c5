//! Which digits a step looks at: a function of the seed and the step alone, so that a process that
//! starts anew in the middle of the job needs nothing but the number of the step.

/// A sequence of numbers that a seed decides: `SplitMix64`.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of `seed`, of which each `stream` is another.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed);
        let start = random
            .next()
            .wrapping_add(stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self(start)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0. Of 2^64 numbers at most `bound` favour a result.
    fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.next()) * bound as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// A number from -1 to 1, exactly one of 2^24.
    pub(crate) fn signed_unit(&mut self) -> f32 {
        // 24 bits fill the fraction of an `f32`, so nothing is rounded.
        let fraction = (self.next() >> 40) as f32 / (1_u32 << 24) as f32;
        2.0 * fraction - 1.0
    }

    fn shuffle(&mut self, rows: &mut [u32]) {
        for last in (1..rows.len()).rev() {
            let other = self.below(last + 1);
            rows.swap(last, other);
        }
    }
}

/// The rows of the data set, parted into those to learn from and those to judge by.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    seed: u64,
    batch: usize,
    learned: Vec<u32>,
    held_out: Vec<u32>,
}

impl Order {
    /// Parts `rows` rows, `held_out` of them to judge by, and deals the rest in batches.
    ///
    /// `None` where fewer than one batch would be left.
    pub(crate) fn new(seed: u64, rows: u32, held_out: usize, batch: usize) -> Option<Self> {
        let mut learned: Vec<_> = (0..rows).collect();
        Random::new(seed, u64::MAX).shuffle(&mut learned);
        let kept = learned
            .len()
            .checked_sub(held_out)
            .filter(|kept| *kept >= batch.max(1))?;
        let held_out = learned.split_off(kept);
        Some(Self {
            seed,
            batch: batch.max(1),
            learned,
            held_out,
        })
    }

    /// The rows of step number `step`, each at most once in an epoch.
    pub(crate) fn batch(&self, step: u32) -> Vec<u32> {
        let batches = self.learned.len() / self.batch;
        let step = step as usize;
        let mut rows = self.learned.clone();
        Random::new(self.seed, (step / batches) as u64).shuffle(&mut rows);
        rows.chunks_exact(self.batch)
            .nth(step % batches)
            .unwrap_or_default()
            .to_vec()
    }

    /// The rows to judge by.
    pub(crate) fn held_out(&self) -> &[u32] {
        &self.held_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_held_out_rows_are_never_learned() {
        let order = Order::new(7, 100, 20, 8).unwrap();
        assert_eq!(order.held_out().len(), 20);
        for step in 0..40 {
            assert!(
                order
                    .batch(step)
                    .iter()
                    .all(|row| !order.held_out().contains(row))
            );
        }
    }

    #[test]
    fn an_epoch_shows_each_row_once_and_the_next_in_another_order() {
        let order = Order::new(7, 100, 20, 8).unwrap();
        let epoch = |number: u32| -> Vec<u32> {
            (number * 10..number * 10 + 10)
                .flat_map(|step| order.batch(step))
                .collect()
        };
        let sorted = |number| {
            let mut rows = epoch(number);
            rows.sort_unstable();
            rows
        };
        assert_eq!(epoch(0).len(), 80);
        assert_eq!(sorted(0), sorted(1));
        sorted(0)
            .windows(2)
            .for_each(|pair| assert!(pair[0] < pair[1]));
        assert_ne!(epoch(0), epoch(1));
    }

    #[test]
    fn the_seed_and_the_step_decide_the_batch() {
        let batch = |seed| Order::new(seed, 100, 20, 8).unwrap().batch(33);
        assert_eq!(batch(7), batch(7));
        assert_ne!(batch(7), batch(8));
    }

    #[test]
    fn fewer_rows_than_a_batch_make_no_order() {
        assert!(Order::new(7, 27, 20, 8).is_none());
        assert!(Order::new(7, 10, 20, 8).is_none());
        assert!(Order::new(7, 28, 20, 8).is_some());
    }
}
