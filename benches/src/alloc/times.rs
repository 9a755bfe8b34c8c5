//! How long single calls took, in so little memory that writing it down disturbs nobody.

use serde::{Deserialize, Serialize};

/// Steps of each power of two, as a power of two: a time is told to one part in 32.
const STEP_BITS: u32 = 5;
const BUCKETS: usize = 64 << STEP_BITS;

/// How many calls took how long, in nanoseconds. That of none has no buckets: it takes no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times(Box<[u64]>);

impl Times {
    /// That of calls that are yet to come.
    pub(super) fn new() -> Self {
        Self(vec![0; BUCKETS].into())
    }

    #[inline]
    pub(super) fn add(&mut self, nanos: u64) {
        if let Some(count) = self.0.get_mut(bucket(nanos)) {
            *count += 1;
        }
    }

    /// These and those.
    pub(super) fn merged(mut self, other: Self) -> Self {
        if self.0.is_empty() {
            return other;
        }
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
        self
    }

    /// The time that all but one in a thousand calls stayed within, `None` where none was timed.
    pub(super) fn all_but_a_thousandth(&self) -> Option<u64> {
        let all: u64 = self.0.iter().sum();
        let beyond = all / 1_000;
        let mut seen = 0;
        let reached = self.0.iter().position(|count| {
            seen += count;
            all > 0 && seen >= all - beyond
        });
        reached.map(longest)
    }
}

/// Times below [`STEP_BITS`] powers of two have a bucket each, longer ones share.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "below BUCKETS")]
fn bucket(nanos: u64) -> usize {
    let power = (nanos | 1).ilog2().saturating_sub(STEP_BITS);
    (((power as u64) << STEP_BITS) + (nanos >> power)) as usize
}

/// The longest time of a bucket.
fn longest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let power = (bucket >> STEP_BITS).saturating_sub(1);
    let first = (bucket - (power << STEP_BITS)) << power;
    first + (1 << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_times_that_differ_by_a_thirtysecond_at_most() {
        for nanos in (0..5_000).chain([1 << 20, (1 << 40) + 12_345]) {
            let most = longest(bucket(nanos));
            assert!(
                most >= nanos && most - nanos <= nanos / 32,
                "{nanos}: {most}"
            );
        }
    }

    #[test]
    fn the_tail_is_what_a_thousandth_is_beyond() {
        assert_eq!(Times::default().all_but_a_thousandth(), None);
        let mut times = Times::new();
        assert_eq!(times.all_but_a_thousandth(), None);
        for nanos in 0..9_990 {
            times.add(nanos % 20);
        }
        for _ in 0..10 {
            times.add(1 << 20);
        }
        assert_eq!(times.all_but_a_thousandth(), Some(19));
        times.add(1 << 20);
        assert!(times.all_but_a_thousandth() >= Some(1 << 20));
        let tail = times.all_but_a_thousandth();
        let merged = Times::default().merged(times).merged(Times::new());
        assert_eq!(merged.all_but_a_thousandth(), tail);
    }
}
