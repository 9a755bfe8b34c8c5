//! What a seed draws before anything runs: how large the world is, how often what goes wrong, and
//! what its members like to do. Rates differ from seed to seed, down to never, because faults that
//! are always on hide each other.

use coherence::simulated::Faults;
use pool_core::planted;
use pool_core::rng::Rng;

/// What the daemon says of contents whose writer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// They are lost.
    Lose,
    /// They are good, whatever they are.
    Keep,
    /// They are good where they are those that were published last, as a checksum tells.
    Compare,
    /// They are good where their checksum says so.
    Sum,
}

/// One world. Rates are one in so many, and never where they are 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) seed: u64,
    /// Operations after which nothing new is begun.
    pub(crate) operations: u64,
    pub(crate) units: u32,
    /// Bytes of a unit: whole lines.
    pub(crate) unit_bytes: u64,
    pub(crate) members: u8,
    /// Threads of each member, 1 or 2.
    pub(crate) threads: usize,
    pub(crate) policy: Policy,
    pub(crate) faults: Faults,
    /// Another thread runs on, at each point where it may.
    pub(crate) switched_once_in: u32,
    /// Some threads are hardly ever chosen, for a while.
    pub(crate) is_uneven: bool,
    /// A thread may also be stopped or killed between two words of a line that is stored.
    pub(crate) stops_in_lines: bool,
    /// A member dies at any point.
    pub(crate) killed_once_in: u32,
    /// A member dies at a crash point, and the daemon at one of its own.
    pub(crate) killed_at_point_once_in: u32,
    /// The daemon dies at any point.
    pub(crate) daemon_killed_once_in: u32,
    /// A member that lives is taken for dead.
    pub(crate) cut_off_once_in: u32,
    /// The longest sleep, in steps.
    pub(crate) cap: u64,
    /// A sleep ends for no reason.
    pub(crate) woken_early_once_in: u32,
    /// Of eight operations so many write.
    pub(crate) writes_in_8: u64,
    /// Of eight acquisitions so many wait.
    pub(crate) waits_in_8: u64,
    /// A wait has a deadline.
    pub(crate) deadline_once_in: u32,
    pub(crate) upgraded_once_in: u32,
    pub(crate) downgraded_once_in: u32,
    pub(crate) restored_once_in: u32,
}

impl Mix {
    /// What follows from `seed`, for so many operations.
    pub(crate) fn of(seed: u64, operations: u64) -> Self {
        let mut rng = Rng::new(seed);
        let rng = &mut rng;
        let faults = Faults {
            evicted_once_in: one(rng, [0, 2, 7, 40]),
            prefetched_once_in: one(rng, [0, 2, 5, 30]),
            clean_written_back_once_in: one(rng, [2, 9, 30, 30]),
            delayed_once_in: one(rng, [0, 1, 2, 10]),
            no_clean_write_backs: !planted!("caller.without_guarantee"),
        };
        let kills = rng.below(8) != 0;
        let rate = |rate| if kills { rate } else { 0 };
        Self {
            seed,
            operations,
            units: one(rng, [1, 2, 3, 4]),
            unit_bytes: 64 * (2 + rng.below(7)),
            members: one(rng, [2, 3, 4, 6]),
            threads: one(rng, [1, 1, 1, 2]),
            policy: one(
                rng,
                [Policy::Lose, Policy::Sum, Policy::Keep, Policy::Compare],
            ),
            faults,
            switched_once_in: one(rng, [2, 4, 10, 30]),
            is_uneven: rng.once_in(2),
            stops_in_lines: rng.once_in(4),
            killed_once_in: rate(one(rng, [0, 200, 1_000, 5_000])),
            killed_at_point_once_in: rate(one(rng, [0, 10, 50, 300])),
            daemon_killed_once_in: rate(one(rng, [0, 3, 10, 50])),
            cut_off_once_in: rate(one(rng, [0, 0, 300, 2_000])),
            cap: one(rng, [100, 300, 1_000, 3_000]),
            woken_early_once_in: one(rng, [0, 0, 3, 20]),
            writes_in_8: one(rng, [1, 3, 5, 7]),
            waits_in_8: one(rng, [2, 6, 8, 8]),
            deadline_once_in: one(rng, [0, 1, 2, 8]),
            upgraded_once_in: one(rng, [0, 2, 5, 10]),
            downgraded_once_in: one(rng, [0, 2, 5, 10]),
            restored_once_in: one(rng, [1, 1, 2, 4]),
        }
    }
}

fn one<T: Copy>(rng: &mut Rng, of: [T; 4]) -> T {
    match rng.below(4) {
        0 => of[0],
        1 => of[1],
        2 => of[2],
        _ => of[3],
    }
}
