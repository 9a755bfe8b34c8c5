//! What the private heap has, counted when somebody asks.
//!
//! Nothing is counted while blocks come and go. The figures are read from the metadata while
//! other threads change it, so those of a busy process are of no one moment. Blocks that a thread
//! has ready, to give out without looking, count as allocated.

use core::fmt;

use pool_core::sync::atomic::Ordering::Relaxed;

use crate::frame::Frame;
use crate::layout::{FRAME_BYTES, FRAMES, META_FRAMES};
use crate::owner::Kind;
use crate::run;
use crate::size_class::{CLASSES, block_bytes, slab_blocks};
use crate::window::WINDOW;

/// The blocks of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// How many bytes each has.
    pub block_bytes: usize,
    /// How many slabs there are.
    pub slabs: usize,
    /// How many blocks those have.
    pub blocks: usize,
    /// How many of them are allocated.
    pub allocated: usize,
}

/// What the private heap of this process has.
///
/// ```
/// use allocator::stats::Stats;
///
/// let stats = Stats::now();
/// assert!(stats.used_bytes >= stats.classes().map(|c| c.allocated * c.block_bytes).sum());
/// ```
#[derive(Debug, Clone)]
pub struct Stats {
    /// Bytes in slabs and runs.
    pub used_bytes: usize,
    /// Bytes that nobody uses and that were not given back to the system.
    pub idle_bytes: usize,
    /// Blocks of more than 512 KiB and up to 32 MiB, and their bytes.
    pub runs: usize,
    /// See [`Self::runs`].
    pub run_bytes: usize,
    /// Slabs that a thread left and nobody took over.
    pub abandoned: usize,
    classes: [ClassStats; CLASSES],
}

impl Stats {
    /// Counts.
    #[must_use]
    pub fn now() -> Self {
        let mut stats = Self {
            used_bytes: WINDOW.used.load(Relaxed) * FRAME_BYTES,
            idle_bytes: WINDOW.idle.load(Relaxed) * FRAME_BYTES,
            runs: 0,
            run_bytes: 0,
            abandoned: 0,
            classes: [ClassStats::default(); CLASSES],
        };
        for (class, counts) in stats.classes.iter_mut().enumerate().skip(1) {
            counts.block_bytes = block_bytes(class);
        }
        for (chunk, _) in WINDOW.heads() {
            for index in META_FRAMES..FRAMES {
                if let Some(frame) = WINDOW.frame_of(chunk + index * FRAME_BYTES) {
                    stats.add(frame);
                }
            }
        }
        stats
    }

    /// The classes that have a slab, from the smallest block.
    pub fn classes(&self) -> impl Iterator<Item = &ClassStats> {
        self.classes.iter().filter(|class| class.slabs != 0)
    }

    fn add(&mut self, frame: Frame) {
        let owner = frame.owner();
        match owner.kind() {
            Kind::Run => {
                self.runs += 1;
                self.run_bytes += run::run_bytes(frame);
            }
            Kind::Slab(class) => {
                let counts = &mut self.classes[class];
                let blocks = slab_blocks(class);
                counts.slabs += 1;
                counts.blocks += blocks;
                counts.allocated += (0..blocks.div_ceil(64))
                    .map(|word| frame.allocated(word).load(Relaxed).count_ones() as usize)
                    .sum::<usize>();
                self.abandoned += usize::from(owner.is_abandoned());
            }
            _ => {}
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes >> 10;
        writeln!(
            f,
            "used {} KiB, idle {} KiB",
            kib(self.used_bytes),
            kib(self.idle_bytes)
        )?;
        writeln!(
            f,
            "runs {} of {} KiB in all",
            self.runs,
            kib(self.run_bytes)
        )?;
        writeln!(f, "slabs that threads left {}", self.abandoned)?;
        writeln!(
            f,
            "{:>12} {:>8} {:>10} {:>10}",
            "block bytes", "slabs", "blocks", "allocated"
        )?;
        for class in self.classes() {
            let ClassStats {
                block_bytes,
                slabs,
                blocks,
                allocated,
            } = class;
            writeln!(
                f,
                "{block_bytes:>12} {slabs:>8} {blocks:>10} {allocated:>10}"
            )?;
        }
        Ok(())
    }
}
