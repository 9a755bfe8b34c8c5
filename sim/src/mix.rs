//! What a seed draws before anything happens: how large its world is, which faults are on and how
//! often they come (swarm), and the list of ops.

use std::fmt;

use pool_core::rng::Rng;

use crate::op::{Group, Kind, Op};

/// The world of a seed, and what goes wrong in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Where everything comes from.
    pub seed: u64,
    /// How many hosts there are.
    pub hosts: u8,
    /// The shipped topology of four hosts, with blocks of 256 MiB; otherwise one with small blocks
    /// and a device of its own for what is shared.
    pub shipped: bool,
    /// Extents of each host's own DDR.
    pub ddr_extents: u32,
    /// Extents of each host's own pooled memory.
    pub pooled_extents: u32,
    /// Extents of groups that a host may have; none where there are no groups.
    pub group_extents: u32,
    /// Extents that all hosts share.
    pub shared_extents: u32,
    /// Lines of each of them that anybody writes.
    pub shared_lines: u32,
    /// Lines of each host's caches.
    pub cache_lines: u32,
    /// Chunks that the heap of each host may have; none where hosts have no heaps.
    pub heap_chunks: u32,
    /// Pooled memory outlives its host.
    pub persistent: bool,
    /// Of 100 messages between hosts, so many are lost.
    pub lost_percent: u64,
    /// So many come twice.
    pub doubled_percent: u64,
    /// So many come late.
    pub late_percent: u64,
    /// The clock of a host is faster or slower than others by at most so many parts of a million.
    pub drift_ppm: u32,
    /// An op happens where and when it says, or not at all: see `world::exact`.
    pub is_exact: bool,
    /// How often each kind happens, beside the others.
    weights: Vec<(Kind, u32)>,
}

impl Mix {
    /// The seed that stands for the world of [`Mix::scope`].
    pub const SCOPE: u64 = u64::MAX;

    /// What `seed` draws.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        if seed == Self::SCOPE {
            return Self::scope();
        }
        let mut rng = Rng::new(seed ^ 0x5157_4152_4d00);
        let one_of = |rng: &mut Rng, choices: &[u32]| {
            let drawn = usize::try_from(rng.below(choices.len() as u64)).unwrap_or(0);
            choices.get(drawn).copied().unwrap_or(0)
        };
        let hosts = [2, 2, 3, 4][usize::try_from(rng.below(4)).unwrap_or(0)];
        let shipped = rng.once_in(4);
        let troubled = !rng.once_in(3);
        let percent = |rng: &mut Rng, most: u64| if troubled { rng.below(most + 1) } else { 0 };
        let mut mix = Self {
            seed,
            hosts,
            shipped,
            ddr_extents: one_of(&mut rng, &[12, 16, 24]),
            pooled_extents: one_of(&mut rng, &[6, 10, 16]),
            group_extents: if shipped {
                0
            } else {
                one_of(&mut rng, &[0, 6, 12])
            },
            shared_extents: one_of(&mut rng, &[1, 2, 4]),
            shared_lines: 3,
            cache_lines: one_of(&mut rng, &[4, 8, 16, 64]),
            persistent: !rng.once_in(3),
            lost_percent: percent(&mut rng, 20),
            doubled_percent: percent(&mut rng, 20),
            late_percent: percent(&mut rng, 10),
            drift_ppm: one_of(&mut rng, &[0, 50, 300]),
            heap_chunks: 0,
            is_exact: false,
            weights: Vec::new(),
        };
        // Who dies may not end what it had of the heap, which takes that feature.
        if cfg!(feature = "fault") {
            mix.heap_chunks = one_of(&mut rng, &[0, 2, 3]);
        }
        for &kind in Kind::ALL {
            if kind.is_of_heap() && mix.heap_chunks == 0 {
                continue;
            }
            let factor = match kind.group() {
                Group::Work => one_of(&mut rng, &[2, 4, 4, 8]),
                // Each fault is off in one seed of three.
                Group::Fault => one_of(&mut rng, &[0, 4, 8]),
                Group::Heals => 4,
            };
            mix.weights.push((kind, kind.weight() * factor));
        }
        mix
    }

    /// The small world in which everything is tried: seed [`Mix::SCOPE`].
    #[must_use]
    pub fn scope() -> Self {
        Self {
            seed: Self::SCOPE,
            hosts: 2,
            shipped: true,
            ddr_extents: 12,
            pooled_extents: 6,
            group_extents: 0,
            shared_extents: 1,
            shared_lines: 4,
            is_exact: true,
            cache_lines: 64,
            heap_chunks: 0,
            persistent: true,
            lost_percent: 0,
            doubled_percent: 0,
            late_percent: 0,
            drift_ppm: 0,
            weights: Kind::ALL
                .iter()
                .filter(|kind| !kind.is_of_heap())
                .map(|&kind| (kind, kind.weight()))
                .collect(),
        }
    }

    /// The same without faults and trouble on the network.
    #[must_use]
    pub fn calm(mut self) -> Self {
        (self.lost_percent, self.doubled_percent, self.late_percent) = (0, 0, 0);
        for (kind, weight) in &mut self.weights {
            if kind.group() == Group::Fault {
                *weight = 0;
            }
        }
        self
    }

    /// The first `count` ops of this seed.
    #[must_use]
    pub fn ops(&self, count: usize) -> Vec<Op> {
        let mut rng = Rng::new(self.seed);
        let total: u32 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut draw = || {
            let mut left = rng.below(u64::from(total));
            let kind = self.weights.iter().find(|(_, weight)| {
                let is_it = left < u64::from(*weight);
                left = left.saturating_sub(u64::from(*weight));
                is_it
            });
            let (picks, salt) = (rng.number(), rng.number());
            let pick = |shift: u32| u16::try_from(picks >> shift & 0xffff).unwrap_or(0);
            Op {
                // There is one for each number below the total.
                kind: kind.map_or(Kind::Pass, |(kind, _)| *kind),
                picks: [pick(0), pick(16), pick(32), pick(48)],
                salt: u32::try_from(salt >> 32).unwrap_or(0),
            }
        };
        (0..count).map(|_| draw()).collect()
    }

    /// Which faults are on, with their weights.
    pub fn faults(&self) -> impl Iterator<Item = (Kind, u32)> + '_ {
        let on = |(kind, weight): &&(Kind, u32)| kind.group() == Group::Fault && *weight > 0;
        self.weights.iter().filter(on).copied()
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = if self.shipped { "four-hosts" } else { "small" };
        write!(
            f,
            "{} hosts of {topology}; extents: {} ddr, {} pooled{}, {} of groups, {} shared; \
             {} chunks of a heap; {} cache lines; messages: {} % lost, {} % doubled, {} % late; \
             clocks within {} ppm; faults:",
            self.hosts,
            self.ddr_extents,
            self.pooled_extents,
            if self.persistent { " (persistent)" } else { "" },
            self.group_extents,
            self.shared_extents,
            self.heap_chunks,
            self.cache_lines,
            self.lost_percent,
            self.doubled_percent,
            self.late_percent,
            self.drift_ppm,
        )?;
        for (kind, weight) in self.faults() {
            write!(f, " {} {weight}", kind.name())?;
        }
        Ok(())
    }
}
