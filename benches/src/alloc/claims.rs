//! What the means were expected to give before they were measured, and what the design asks for.

use crate::results::Claim;

/// Ratios, ours to the peer's.
pub(super) const CLAIMS: [Claim; 7] = [
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
];
