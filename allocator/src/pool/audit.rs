//! Looks at all that is known of a heap, and tells what does not fit together.
//!
//! It reads only, and believes nothing: what it finds while others change the heap may be half of
//! a change. While nobody does it is exact.

use std::collections::BTreeMap;

use pool_core::sync::atomic::Ordering::{Acquire, Relaxed};

use super::control::{Control, MEMBERS};
use super::frames::{Seen, extent, kind_at};
use super::process::Process;
use super::slabs::{among, words};
use crate::bits;
use crate::frame::Frame;
use crate::layout::FRAME_BYTES;
use crate::owner::{Kind, Owner};
use crate::size_class::{block_bytes, slab_blocks};

/// What a heap is made of, and what of it does not fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Chunks of 64 MiB.
    pub chunks: usize,
    /// Bytes of them that are metadata.
    pub metadata_bytes: u64,
    /// Frames of data of 64 KiB, and how many of them nobody has.
    pub frames: usize,
    /// See `frames`.
    pub free_frames: usize,
    /// Slots that threads have, and slots of threads that died and were not recovered yet.
    pub threads: usize,
    /// See `threads`.
    pub dead_threads: usize,
    /// Of each size of blocks, how many there are.
    pub classes: Vec<ClassCount>,
    /// Runs, and how many bytes they have.
    pub runs: usize,
    /// See `runs`.
    pub run_bytes: u64,
    /// Slots of the dead that were recovered since the heap was made.
    pub recovered: u64,
    /// Blocks and runs that became free by that.
    pub recovered_blocks: u64,
    /// Blocks that two had freed in the same moment, found by their owner.
    pub freed_twice: u64,
    /// Chunks that are not of the tier whose turn it was, because that had no room.
    pub fallbacks: u64,
    /// What does not fit.
    pub findings: Vec<Finding>,
}

/// What there is of blocks of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassCount {
    /// The size of a block.
    pub block_bytes: usize,
    /// Slabs that a thread owns, and slabs that nobody owns.
    pub slabs: usize,
    /// See `slabs`.
    pub abandoned: usize,
    /// Blocks that are published.
    pub published: usize,
    /// Blocks that are not published, or that a thread keeps ready.
    pub pending: usize,
    /// Blocks that were freed, and whose owner has not looked yet.
    pub told: usize,
}

/// Something that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// An owner word that no frame can have.
    Word {
        /// The frame.
        address: usize,
        /// The word.
        word: u64,
    },
    /// A frame that is part of something that does not begin before it.
    TailAlone {
        /// The frame.
        address: usize,
    },
    /// Something that is being made or being made free: by somebody, or by nobody any more.
    Between {
        /// The frame.
        address: usize,
        /// Whether its thread lives.
        lives: bool,
    },
    /// What has an owner that is no thread.
    OwnerGone {
        /// The frame.
        address: usize,
        /// The slot.
        slot: usize,
    },
    /// A slab with fewer frames than its blocks take.
    Short {
        /// The slab.
        address: usize,
    },
    /// A block that is free and told to be free.
    FreedTwice {
        /// The block.
        address: usize,
    },
    /// A block beyond the last of its slab is marked as allocated.
    PastEnd {
        /// The slab.
        address: usize,
    },
    /// A block that is not published in a slab that nobody owns: nobody will free it.
    PendingAlone {
        /// The block.
        address: usize,
    },
    /// A slab that nobody owns and nobody would find.
    Hidden {
        /// The slab.
        address: usize,
    },
    /// A free frame that nobody would find.
    HiddenFrame {
        /// The frame.
        address: usize,
    },
}

/// A block that is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockInfo {
    /// Where it is.
    pub address: usize,
    /// How many bytes it has.
    pub bytes: usize,
    /// It is not published, or a thread keeps it ready.
    pub is_pending: bool,
}

/// Looks at all of it.
pub(super) fn audit(on: &Process) -> Audit {
    let mut look = Look {
        on,
        audit: Audit::default(),
        classes: BTreeMap::new(),
    };
    look.threads();
    let _scan = on.chunks.scan();
    for seen in on.chunks.all() {
        look.chunk(seen);
    }
    let Look {
        mut audit, classes, ..
    } = look;
    audit.classes = classes.into_values().collect();
    let control = on.control;
    audit.recovered = control.recovered.load(Relaxed);
    audit.recovered_blocks = control.recovered_blocks.load(Relaxed);
    audit.freed_twice = control.freed_twice.load(Relaxed);
    audit.fallbacks = control.fallbacks.load(Relaxed);
    audit
}

struct Look<'a> {
    on: &'a Process,
    audit: Audit,
    classes: BTreeMap<usize, ClassCount>,
}

impl Look<'_> {
    fn threads(&mut self) {
        for index in (1..MEMBERS).flat_map(|member| self.on.control.taken(member)) {
            match self.lives(index) {
                Some(true) => self.audit.threads += 1,
                Some(false) => self.audit.dead_threads += 1,
                None => {}
            }
        }
    }

    /// Whether the thread of a slot lives; none where nobody has it.
    fn lives(&self, index: usize) -> Option<bool> {
        let (member, ..) = Control::place_of(index);
        let era = self.on.control.slot(index)?.era.load(Acquire);
        (era != 0).then(|| self.on.ground.lives(member, era))
    }

    fn chunk(&mut self, seen: Seen) {
        self.audit.chunks += 1;
        self.audit.metadata_bytes += (seen.data().start * FRAME_BYTES) as u64;
        self.audit.frames += seen.data().len();
        let mut index = seen.data().start;
        while seen.data().contains(&index) {
            let frame = seen.frame(index);
            let (kind, frames) = kind_at(frame);
            self.frame(frame, kind, frames);
            index += frames;
        }
    }

    fn frame(&mut self, frame: Frame, kind: Kind, frames: usize) {
        let (address, owner) = (frame.start(), frame.owner());
        match kind {
            Kind::Free => {
                self.audit.free_frames += 1;
                let (word, bit) = (frame.index() / 64, frame.index() % 64);
                if frame.head().taken[word].load(Relaxed) >> bit & 1 != 0 {
                    self.find(Finding::HiddenFrame { address });
                }
            }
            Kind::Slab(class) => self.slab(frame, class, frames),
            Kind::Run | Kind::PendingRun => {
                self.audit.runs += 1;
                self.audit.run_bytes += (frames * FRAME_BYTES) as u64;
                self.owner(frame, owner);
            }
            Kind::Tail(_) => self.find(Finding::TailAlone { address }),
            Kind::Between => {
                let lives = owner.slot().and_then(|slot| self.lives(slot));
                let lives = lives == Some(true);
                self.find(Finding::Between { address, lives });
            }
            Kind::Huge | Kind::Unknown => {
                let word = owner.0;
                self.find(Finding::Word { address, word });
            }
        }
    }

    fn find(&mut self, finding: Finding) {
        self.audit.findings.push(finding);
    }

    /// Whether the owner of something is a thread that lives.
    fn owner(&mut self, frame: Frame, owner: Owner) {
        if let Some(slot) = owner.slot()
            && self.lives(slot) != Some(true)
        {
            let address = frame.start();
            self.find(Finding::OwnerGone { address, slot });
        }
    }

    fn slab(&mut self, slab: Frame, class: usize, frames: usize) {
        let (address, owner) = (slab.start(), slab.owner());
        self.owner(slab, owner);
        if frames * FRAME_BYTES < slab_blocks(class) * block_bytes(class) {
            self.find(Finding::Short { address });
            return;
        }
        let mut count = self.classes.remove(&class).unwrap_or_default();
        count.block_bytes = block_bytes(class);
        if owner.is_abandoned() {
            count.abandoned += 1;
            let (word, bit) = (slab.index() / 64, slab.index() % 64);
            if slab.head().left[word].load(Relaxed) >> bit & 1 == 0 {
                self.find(Finding::Hidden { address });
            }
        } else {
            count.slabs += 1;
        }
        for word in 0..words(class) {
            self.word(slab, class, word, &mut count);
        }
        self.classes.insert(class, count);
    }

    fn word(&mut self, slab: Frame, class: usize, word: usize, count: &mut ClassCount) {
        let address = |bit: usize| slab.start() + (word * 64 + bit) * block_bytes(class);
        let allocated = slab.allocated(word).load(Acquire);
        let pending = slab.pending(word).load(Acquire) & allocated;
        let told = slab.remote(word).load(Acquire);
        let there = among(slab_blocks(class), word);
        if (allocated | told) & !there != 0 {
            let address = slab.start();
            self.find(Finding::PastEnd { address });
        }
        count.published += (allocated & !pending & there).count_ones() as usize;
        count.pending += (pending & there).count_ones() as usize;
        count.told += (told & there).count_ones() as usize;
        for bit in bits::ones(told & !allocated & there) {
            let address = address(bit);
            self.find(Finding::FreedTwice { address });
        }
        if slab.owner().is_abandoned() {
            for bit in bits::ones(pending & there) {
                let address = address(bit);
                self.find(Finding::PendingAlone { address });
            }
        }
    }
}

/// All blocks that are allocated, and not told to be free.
pub(super) fn blocks(on: &Process) -> Vec<BlockInfo> {
    let mut found = Vec::new();
    let _scan = on.chunks.scan();
    for seen in on.chunks.all() {
        for index in seen.data() {
            let frame = seen.frame(index);
            match frame.owner().kind() {
                Kind::Slab(class) => blocks_of(frame, class, &mut found),
                kind @ (Kind::Run | Kind::PendingRun) => found.push(BlockInfo {
                    address: frame.start(),
                    bytes: extent(frame) * FRAME_BYTES,
                    is_pending: kind == Kind::PendingRun,
                }),
                _ => {}
            }
        }
    }
    found
}

fn blocks_of(slab: Frame, class: usize, found: &mut Vec<BlockInfo>) {
    for word in 0..words(class) {
        let told = slab.remote(word).load(Acquire);
        let allocated = slab.allocated(word).load(Acquire) & among(slab_blocks(class), word);
        let pending = slab.pending(word).load(Acquire);
        for bit in bits::ones(allocated & !told) {
            found.push(BlockInfo {
                address: slab.start() + (word * 64 + bit) * block_bytes(class),
                bytes: block_bytes(class),
                is_pending: pending >> bit & 1 != 0,
            });
        }
    }
}
