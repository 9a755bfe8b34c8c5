//! How long one access takes: a chain of loads, each of which says where the next one is, so that
//! no two are under way at once.
//!
//! # The chain
//! Of memory one line of each [`STRIDE`] is on it, so that a processor that fetches a neighbour
//! along with a line fetches none that comes later; of what is to be in a cache all are. The memory
//! is gone through in parts of [`PART`], which are drawn, and so are the lines within one: no
//! prefetcher knows the next line, and the pages of a part stay known to the processor, so that
//! what is measured is memory and not the walk through page tables. Each line comes once before any
//! comes again.
//!
//! Runs are short and many: where the processor is taken away now and then, most runs are between.

use std::hint::black_box;

use pool_core::clock;
use pool_core::rng::Rng;
use pool_core::units::{KIB, LINE_BYTES, MIB};

use super::Effort;
use super::spread::Spread;

/// As many bytes as an emulated host has in its caches where nothing else is said.
pub(super) const CACHED_BYTES: u64 = 256 * KIB;
/// Of what is more than a cache, lines of which one is on the chain.
const STRIDE: u64 = 4;
const PART: u64 = 2 * MIB;
/// Accesses of a run: a millisecond of memory, and of a cache far more than a look at the clock.
const ACCESSES: u64 = 1 << 13;

/// A line of memory: where the next one is, and nothing.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line(usize);

/// Picoseconds of one access of a cache: of so many bytes, over and over.
pub(super) fn of_cache(effort: Effort) -> Option<Spread> {
    measure(effort, &chain(CACHED_BYTES / LINE_BYTES, 1))
}

/// Picoseconds of one access of memory: of so many bytes, which no cache holds.
pub(super) fn of_memory(effort: Effort, bytes: u64) -> Option<Spread> {
    measure(effort, &chain(bytes / LINE_BYTES, STRIDE))
}

/// None where no run came to an end.
fn measure(effort: Effort, chain: &[Line]) -> Option<Spread> {
    // What of it the caches can have, they have then.
    let mut at = follow(chain, 0, ACCESSES);
    let deadline = effort.deadline();
    let mut runs = Vec::new();
    while runs.len() < effort.runs && (runs.is_empty() || !deadline.expired()) {
        let start = clock::now();
        at = follow(chain, at, ACCESSES);
        let took = clock::now().saturating_since(start).get();
        runs.push(took.saturating_mul(1000) / ACCESSES);
    }
    Spread::of(runs)
}

/// Where one is after so many accesses.
fn follow(chain: &[Line], from: usize, accesses: u64) -> usize {
    let mut at = from;
    for _ in 0..accesses {
        at = chain.get(at).map_or(0, |line| line.0);
    }
    black_box(at)
}

/// Lines of which one in `stride` is on one ring; the first is.
fn chain(lines: u64, stride: u64) -> Vec<Line> {
    let mut rng = Rng::new(lines);
    let of_part = PART / LINE_BYTES;
    let mut parts: Vec<u64> = (0..lines.div_ceil(of_part)).collect();
    rng.shuffle(&mut parts);
    let mut order = Vec::new();
    for part in parts {
        let first = part * of_part;
        let mut here: Vec<u64> = (first..lines.min(first + of_part))
            .filter(|line| line.is_multiple_of(stride))
            .collect();
        rng.shuffle(&mut here);
        order.append(&mut here);
    }
    let place = |line: u64| usize::try_from(line).unwrap_or(0);
    let mut chain = vec![Line::default(); place(lines)];
    let next = order.iter().skip(1).chain(order.first());
    for (&line, &next) in order.iter().zip(next) {
        if let Some(line) = chain.get_mut(place(line)) {
            line.0 = place(next);
        }
    }
    chain
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_chain_comes_to_each_of_its_lines_before_it_comes_back() {
        let more = 3 * PART / LINE_BYTES / 2;
        for (lines, stride) in [(4, 4), (1_000, 1), (1_000, 4), (more, 4)] {
            let chain = chain(lines, stride);
            let mut seen = BTreeSet::new();
            let mut at = 0;
            while seen.insert(at) {
                at = follow(&chain, at, 1);
            }
            assert_eq!(
                (at, seen.len() as u64),
                (0, lines.div_ceil(stride)),
                "{lines}"
            );
        }
    }
}
