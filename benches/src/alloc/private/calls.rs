//! The calls of a workload: as they are, or each of them timed.
//!
//! A workload is written once, over [`Calls`]. The totals come of [`Plain`], which adds nothing;
//! the tail comes of [`Timed`], in a run of its own, whose totals are not used.

use pool_core::clock;

use super::heap::Block;

/// How a workload calls the heap.
pub(super) trait Calls: Default + Send {
    fn malloc(&mut self, bytes: usize) -> Block;
    fn calloc(&mut self, bytes: usize) -> Block;
    fn realloc(&mut self, block: Block, bytes: usize) -> Block;
    fn free(&mut self, block: Block);
    /// How long the calls took, where that was looked at.
    fn times(self) -> Times;

    /// Puts `block` where another may have been, which is freed.
    #[inline]
    fn replace(&mut self, place: &mut Option<Block>, bytes: usize) {
        if let Some(old) = place.take() {
            self.free(old);
        }
        *place = Some(self.malloc(bytes));
    }

    /// Frees what is in `places`, in their order.
    #[inline]
    fn free_all(&mut self, places: &mut [Option<Block>]) {
        for block in places.iter_mut().filter_map(Option::take) {
            self.free(block);
        }
    }
}

/// Calls as they are.
#[derive(Debug, Default)]
pub(super) struct Plain;

impl Calls for Plain {
    #[inline]
    fn malloc(&mut self, bytes: usize) -> Block {
        Block::new(bytes)
    }

    #[inline]
    fn calloc(&mut self, bytes: usize) -> Block {
        Block::zeroed(bytes)
    }

    #[inline]
    fn realloc(&mut self, block: Block, bytes: usize) -> Block {
        block.resized(bytes)
    }

    #[inline]
    fn free(&mut self, block: Block) {
        block.free();
    }

    fn times(self) -> Times {
        Times::default()
    }
}

/// Calls that are timed one by one. Each time has that of one look at the clock in it.
#[derive(Debug)]
pub(super) struct Timed(Times);

impl Default for Timed {
    fn default() -> Self {
        Self(Times(vec![0; BUCKETS].into()))
    }
}

impl Timed {
    #[inline]
    fn timed<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = clock::now();
        let done = call();
        self.0.add(clock::now().saturating_since(start).get());
        done
    }
}

impl Calls for Timed {
    #[inline]
    fn malloc(&mut self, bytes: usize) -> Block {
        self.timed(|| Block::new(bytes))
    }

    #[inline]
    fn calloc(&mut self, bytes: usize) -> Block {
        self.timed(|| Block::zeroed(bytes))
    }

    #[inline]
    fn realloc(&mut self, block: Block, bytes: usize) -> Block {
        self.timed(|| block.resized(bytes))
    }

    #[inline]
    fn free(&mut self, block: Block) {
        self.timed(|| block.free());
    }

    fn times(self) -> Times {
        self.0
    }
}

/// Steps of each power of two, as a power of two: a time is told to one part in 32.
const STEP_BITS: u32 = 5;
const BUCKETS: usize = 64 << STEP_BITS;

/// How many calls took how long, in nanoseconds. That of none has no buckets: it takes no memory.
#[derive(Debug, Default)]
pub(super) struct Times(Box<[u64]>);

impl Times {
    #[inline]
    fn add(&mut self, nanos: u64) {
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
        let Timed(mut times) = Timed::default();
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
        let Timed(none) = Timed::default();
        let merged = Times::default().merged(times).merged(none);
        assert_eq!(merged.all_but_a_thousandth(), tail);
    }
}
