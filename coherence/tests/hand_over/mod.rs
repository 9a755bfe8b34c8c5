//! Hosts with simulated caches that hand one payload to each other, turn by turn, as the protocol
//! does, or with a step left out.

use coherence::cache::Caches;
use coherence::simulated::{Faults, SimCache};
use pool_core::rng::Rng;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;

pub(crate) const PAYLOAD: u64 = 512;
const TURNS: u64 = 40;
const HOSTS: usize = 3;

/// Which steps of a hand-over are done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) write_back: bool,
    pub(crate) fence_stores: bool,
    pub(crate) invalidate: bool,
    pub(crate) fence_all: bool,
    /// At the end of a turn every line is dropped, read or written.
    pub(crate) flush: bool,
    /// A host touches nothing from the end of its turn to the next one.
    pub(crate) unmap: bool,
}

/// What the protocol demands where hosts keep the payload mapped.
pub(crate) const ALL: Steps = Steps {
    write_back: true,
    fence_stores: true,
    invalidate: true,
    fence_all: true,
    flush: false,
    unmap: false,
};

/// What all hosts read, and what memory held at the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Story {
    pub(crate) reads: Vec<Vec<u8>>,
    pub(crate) memory: Vec<u64>,
}

/// A host did not read what was written: the turn in which it did not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) turn: u64,
}

/// Plays all turns that follow from `seed`.
pub(crate) fn play(seed: u64, faults: Faults, steps: Steps) -> Result<Story, Stale> {
    let memory: Vec<_> = (0..PAYLOAD / 8).map(|_| AtomicU64::new(0)).collect();
    let hosts: [_; HOSTS] = std::array::from_fn(|host| {
        SimCache::new(&memory[..], seed ^ ((host as u64) << 60), faults)
    });
    let mut rng = Rng::new(seed);
    let (mut version, mut seen) = (0, [0; HOSTS]);
    let mut expected = vec![0; small(PAYLOAD)];
    let mut reads = Vec::new();
    for turn in 0..TURNS {
        let index = small(rng.below(HOSTS as u64));
        let host = &hosts[index];
        if seen[index] != version {
            acquire(host, steps);
        }
        let mut found = vec![0; expected.len()];
        host.read(0, &mut found);
        if found != expected {
            return Err(Stale { turn });
        }
        reads.push(found);
        if rng.once_in(2) {
            let written = write(host, &mut rng, &mut expected);
            release(host, &written, steps);
            version += 1;
        }
        seen[index] = version;
        if steps.flush {
            host.invalidate(0, PAYLOAD);
            host.fence_all();
        }
        if !steps.unmap {
            guess(&hosts[small(rng.below(HOSTS as u64))], &mut rng);
        }
    }
    let memory = memory.iter().map(|word| word.load(Relaxed)).collect();
    Ok(Story { reads, memory })
}

fn acquire(host: &impl Caches, steps: Steps) {
    if steps.invalidate {
        host.invalidate(0, PAYLOAD);
    }
    if steps.fence_all {
        host.fence_all();
    } else {
        host.fence_stores();
    }
}

/// Writes some ranges, aligned to nothing.
fn write(host: &SimCache<&[AtomicU64]>, rng: &mut Rng, expected: &mut [u8]) -> Vec<(u64, u64)> {
    let count = 1 + rng.below(4);
    let ranges = (0..count).map(|_| {
        let offset = rng.below(PAYLOAD);
        (offset, 1 + rng.below((PAYLOAD - offset).min(150)))
    });
    let ranges: Vec<_> = ranges.collect();
    for &(offset, len) in &ranges {
        let start = small(offset);
        let part = &mut expected[start..start + small(len)];
        for byte in part.iter_mut() {
            *byte = rng.number().to_le_bytes()[0];
        }
        host.write(offset, part);
    }
    ranges
}

fn release(host: &impl Caches, written: &[(u64, u64)], steps: Steps) {
    if steps.write_back {
        for &(offset, len) in written {
            host.write_back(offset, len);
        }
    }
    if steps.fence_stores {
        host.fence_stores();
    }
}

/// Loads on a path that turns out wrong, by a host whose turn it is not: nobody looks at the value.
fn guess(host: &SimCache<&[AtomicU64]>, rng: &mut Rng) {
    host.read(rng.below(PAYLOAD), &mut [0]);
}

/// Whether the hand-over fails for some seed.
pub(crate) fn fails(faults: Faults, steps: Steps) -> bool {
    (0..200).any(|seed| play(seed, faults, steps).is_err())
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("no more than the payload has bytes")
}
