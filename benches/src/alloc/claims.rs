//! What the means were expected to give before they were measured, and what the design asks for.

use crate::results::Claim;

/// Ratios, ours to the peer's.
pub(super) const CLAIMS: [Claim; 13] = [
    Claim::new(
        "geometric mean: CPU",
        "mimalloc3",
        Some(1.0),
        1.05,
        "a pair takes a bit of a word that the thread holds, one step more than a list's head",
    ),
    Claim::new(
        "geometric mean: wall",
        "mimalloc3",
        Some(1.0),
        1.05,
        "the same; threads wait for each other in few workloads",
    ),
    Claim::new(
        "geometric mean: peak memory",
        "mimalloc3",
        Some(1.1),
        1.0,
        "as many size classes; what others give back is there at once",
    ),
    Claim::new(
        "geometric mean: CPU",
        "glibc",
        None,
        0.6,
        "mimalloc 2 took 1/1.74 of it in an earlier set of workloads",
    ),
    Claim::new(
        "lifo, 1 thread: CPU",
        "mimalloc3",
        None,
        1.3,
        "a list in the block itself is the shortest way there is",
    ),
    Claim::new(
        "xmalloc, 2 threads: CPU",
        "mimalloc3",
        None,
        0.9,
        "one bit set for each block given back, merged by words; mimalloc is weakest here",
    ),
    Claim::new(
        "fragmentation, 2 threads: peak memory",
        "mimalloc3",
        None,
        1.0,
        "both keep a slab for its one survivor",
    ),
    Claim::new(
        "shared geometric mean: wall",
        "boost",
        Some(1.0),
        0.05,
        "no mutex and no tree: a bit of a word that the thread holds, and one more to publish",
    ),
    Claim::new(
        "shared geometric mean: wall",
        "mimalloc3-private",
        None,
        1.5,
        "as the private heap, with a bit to publish and no list in the block",
    ),
    Claim::new(
        "shared batch-64, 1 process: wall",
        "libpmemobj",
        None,
        0.005,
        "it writes a redo log back to media for each call; we write nothing back",
    ),
    Claim::new(
        "shared hand-over, 2 processes: wall",
        "mimalloc3-private",
        None,
        1.0,
        "one bit set for each block given back; the ring costs both the same",
    ),
    Claim::new(
        "shared random, 2 processes: p99.9 of one call",
        "boost",
        None,
        0.05,
        "nobody waits for another, and a slow call takes a slab",
    ),
    Claim::new(
        "shared survivor, 2 processes: memory for each live byte",
        "boost",
        None,
        0.9,
        "no header in front of a block, and a place that is given back is there at once",
    ),
];
