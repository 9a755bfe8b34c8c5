//! Bytes a second: each thread reads, or fills, a part of its own, all at once.
//!
//! Reading is summing up. Filling is what the C library does to set memory to one byte, which for
//! so much goes past the caches where the processor can: no line is read to be written.
//!
//! A run moves [`RUN`] bytes for each thread, and the next one those that come after them: by the
//! time that they come again they have left the caches. Runs are short and many, as those of a
//! chain.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use pool_core::{Nanos, clock};

use super::Effort;
use super::spread::Spread;

/// Bytes a second, in MB/s, with as many threads as moved the most.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) read: (usize, Spread),
    pub(super) write: (usize, Spread),
    /// Read by one thread.
    pub(super) read_of_one: Spread,
}

/// Bytes of a run, for each thread.
const RUN: usize = 16 << 20;

/// What a thread does with its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Read,
    Fill(u8),
}

/// In so many bytes; none where they are less than the threads, or no thread came to an end.
pub(super) fn measure(effort: Effort, cpus: usize, bytes: u64) -> Option<Streams> {
    let mut memory = vec![1_u8; usize::try_from(bytes).ok()?];
    let counts = counts(cpus);
    let mut best = |work| {
        let mut all = Vec::new();
        let patience = Nanos::new(effort.patience.get() / counts.len() as u64);
        for &threads in &counts {
            let effort = Effort { patience, ..effort };
            all.push((threads, of(effort, work, threads, &mut memory)?));
        }
        Some(all)
    };
    let reads = best(Work::Read)?;
    let writes = best(Work::Fill(2))?;
    let most = |all: &[(usize, Spread)]| all.iter().max_by_key(|one| one.1.median()).cloned();
    Some(Streams {
        read: most(&reads)?,
        write: most(&writes)?,
        read_of_one: reads.into_iter().next()?.1,
    })
}

/// 1, 2, 4 and so on, and all.
fn counts(cpus: usize) -> Vec<usize> {
    let powers = (0..usize::BITS).map(|power| 1 << power);
    let mut counts: Vec<usize> = powers.take_while(|&count| count < cpus).collect();
    counts.push(cpus.max(1));
    counts
}

fn of(effort: Effort, work: Work, threads: usize, memory: &mut [u8]) -> Option<Spread> {
    let deadline = effort.deadline();
    let mut runs = Vec::new();
    let mut next = 0;
    while runs.len() < effort.runs && (runs.is_empty() || !deadline.expired()) {
        let of_run = RUN.saturating_mul(threads);
        if next >= memory.len() {
            next = 0;
        }
        let end = memory.len().min(next.saturating_add(of_run));
        runs.push(once(work, threads, memory.get_mut(next..end)?)?);
        next = end;
    }
    Spread::of(runs)
}

/// From when the first begins to when the last has ended, in MB/s.
fn once(work: Work, threads: usize, memory: &mut [u8]) -> Option<u64> {
    let bytes = u64::try_from(memory.len()).ok()?;
    let of_each = memory.len().div_ceil(threads).max(1);
    let parts: Vec<&mut [u8]> = memory.chunks_mut(of_each).collect();
    let together = Barrier::new(parts.len());
    let ends: Option<Vec<_>> = thread::scope(|scope| {
        let together = &together;
        let start = |part| {
            scope.spawn(move || {
                together.wait();
                let start = clock::now();
                work.does(part);
                (start, clock::now())
            })
        };
        let running: Vec<_> = parts.into_iter().map(start).collect();
        running.into_iter().map(|one| one.join().ok()).collect()
    });
    let ends = ends?;
    let first = ends.iter().map(|ends| ends.0).min()?;
    let last = ends.iter().map(|ends| ends.1).max()?;
    // A byte a nanosecond is 1,000 MB/s.
    let took = last.saturating_since(first).get().max(1);
    Some(bytes.saturating_mul(1_000) / took)
}

impl Work {
    fn does(self, part: &mut [u8]) {
        match self {
            Self::Read => {
                let (words, _) = part.as_chunks::<64>();
                let mut sums = [0_u64; 8];
                for line in words {
                    let (words, _) = line.as_chunks::<8>();
                    for (sum, word) in sums.iter_mut().zip(words) {
                        *sum = sum.wrapping_add(u64::from_le_bytes(*word));
                    }
                }
                black_box(sums);
            }
            Self::Fill(byte) => {
                part.fill(black_box(byte));
                black_box(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_up_to_all() {
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(6), [1, 2, 4, 6]);
        assert_eq!(counts(0), [1]);
    }

    #[test]
    fn a_filled_part_is_filled_and_every_byte_is_read_by_some_thread() {
        let mut memory = vec![0; 1_000];
        assert!(once(Work::Fill(7), 3, &mut memory).unwrap() > 0);
        assert!(memory.iter().all(|byte| *byte == 7));
        assert!(once(Work::Read, 3, &mut memory).unwrap() > 0);
    }
}
