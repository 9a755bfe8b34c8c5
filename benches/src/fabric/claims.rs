//! What each case was expected to give before it was measured. The design has no target for any.

use super::accesses::{MAP_GET, MAP_INSERT};
use super::steady::SOLVE;
use crate::results::Claim;

/// Ratios, ours to the peer's.
pub(super) const CLAIMS: [Claim; 7] = [
    Claim::new(
        "load that hits, 16 hosts",
        MAP_GET,
        None,
        0.3,
        "one look-up for either, and the fabric folds the event into its trace and lists effects",
    ),
    Claim::new(
        "load that hits, 1024 hosts",
        MAP_GET,
        None,
        0.4,
        "the same, and what is looked for is in no cache of the processor",
    ),
    Claim::new(
        "load that misses, 16 hosts",
        MAP_GET,
        None,
        0.08,
        "a window, a way and a logical device are looked up, eight queues passed, a line evicted",
    ),
    Claim::new(
        "load that misses, 1024 hosts",
        MAP_GET,
        None,
        0.1,
        "no step depends on how many hosts there are but by the depth of maps",
    ),
    Claim::new(
        "store that hits, 16 hosts",
        MAP_INSERT,
        None,
        0.3,
        "as a load that hits",
    ),
    Claim::new(
        "65,536 reads at 60 % load, their mean latency, 16 hosts",
        SOLVE,
        None,
        100.0,
        "a microsecond an event, against some rounds over 18 links with 64 steps each",
    ),
    Claim::new(
        "mean latency of a read at 60 % load, 16 hosts",
        SOLVE,
        None,
        0.99,
        "the bound has lines queue anew at the link above, where they come one after the other",
    ),
];
