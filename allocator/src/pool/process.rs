//! What a process has of a pool heap: the mapping of what is shared, and which slots are its own.

use pool_core::sync::Mutex;
#[cfg(all(feature = "fault", not(loom)))]
use pool_core::sync::atomic::AtomicBool;
#[cfg(not(loom))]
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::{crash_point, planted};

use super::chunks::Chunks;
use super::control::{Control, MEMBER_THREADS, Member};
use super::error::HeapError;
use super::frames::Wanted;
use super::ground::Ground;
use super::local::Local;
use crate::frame::Frame;
use crate::layout::Cut;
use crate::owner::Owner;
use crate::place::{self, Place};
use crate::window::Claim;

/// How often this process was forked, seen from inside of it.
#[cfg(not(loom))]
static FORKS: AtomicU32 = AtomicU32::new(0);

#[cfg(not(loom))]
#[inline(always)]
fn forks() -> u32 {
    FORKS.load(Relaxed)
}

/// Models do not fork.
#[cfg(loom)]
fn forks() -> u32 {
    0
}

/// Counts forks from now on.
#[cfg(not(loom))]
fn count_forks() {
    extern "C" fn count() {
        FORKS.fetch_add(1, Relaxed);
    }
    static COUNTED: std::sync::Once = std::sync::Once::new();
    COUNTED.call_once(|| {
        // SAFETY: keeps a function that is there for as long as this library is.
        unsafe { libc::pthread_atfork(None, None, Some(count)) };
    });
}

/// How often frames are looked for, while others change what there is.
const CLAIMS: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) control: &'static Control,
    pub(crate) ground: Box<dyn Ground>,
    pub(crate) chunks: Chunks,
    /// What the ground says of it.
    pub(crate) is_software: bool,
    pub(crate) member: usize,
    pub(crate) era: u64,
    /// Has the slabs of threads that ended and had blocks that were not published. None before
    /// there was one.
    pub(crate) keeper: Mutex<Option<Box<Local>>>,
    forks: u32,
    /// See [`Process::die`].
    #[cfg(all(feature = "fault", not(loom)))]
    is_dead: AtomicBool,
}

impl Process {
    pub(crate) fn new(control: &'static Control, ground: Box<dyn Ground>) -> Self {
        #[cfg(not(loom))]
        count_forks();
        let (member, era) = ground.member();
        Self {
            control,
            chunks: Chunks::new(ground.window()),
            is_software: ground.is_software(),
            ground,
            member,
            era,
            keeper: Mutex::new(None),
            forks: forks(),
            #[cfg(all(feature = "fault", not(loom)))]
            is_dead: AtomicBool::new(false),
        }
    }

    /// Whether this is still the process that opened the heap, and the heap is still there.
    #[inline(always)]
    pub(crate) fn is_well(&self) -> bool {
        !self.is_forked() && self.control.is_there()
    }

    /// The same, with what is wrong.
    pub(crate) fn check(&self) -> Result<(), HeapError> {
        if self.is_forked() {
            return Err(HeapError::Forked);
        }
        if self.control.is_there() {
            Ok(())
        } else {
            Err(HeapError::Ended)
        }
    }

    #[inline(always)]
    pub(crate) fn is_forked(&self) -> bool {
        #[cfg(all(feature = "fault", not(loom)))]
        if self.is_dead.load(Relaxed) {
            return true;
        }
        forks() != self.forks
    }

    /// A simulated process has died: as in a forked child, nothing is done for it any more, and
    /// what it had of the heap may be dropped, which changes nothing that others see.
    #[cfg(all(feature = "fault", not(loom)))]
    pub(crate) fn die(&self) {
        self.is_dead.store(true, Relaxed);
    }

    /// Maps what others added.
    pub(crate) fn refresh(&self) -> Result<(), HeapError> {
        self.chunks.refresh(self.control, &*self.ground)
    }

    /// The frame that `address` lies in, which another process may have added just now.
    pub(crate) fn frame_of(&self, address: usize) -> Result<Frame, HeapError> {
        if let Some(frame) = self.chunks.frame_of(address) {
            return Ok(frame);
        }
        // A chunk that cannot be mapped matters where the address may be in it.
        let refreshed = self.refresh();
        if let Some(frame) = self.chunks.frame_of(address) {
            return Ok(frame);
        }
        refreshed?;
        Err(HeapError::NoBlock { address })
    }

    /// What begins at `address`: whether it is allocated is not looked at.
    pub(crate) fn place_at(&self, address: usize) -> Result<Place, HeapError> {
        let frame = self.frame_of(address)?;
        place::in_frame(frame, address).ok_or(HeapError::NoBlock { address })
    }

    /// Takes a slot for the calling thread: its number, and the owner word of its heap.
    pub(crate) fn take_slot(&self) -> Result<(usize, Owner), HeapError> {
        let first = self.member * MEMBER_THREADS;
        let slots = self.control.slots.iter().enumerate();
        for (index, slot) in slots.skip(first).take(MEMBER_THREADS) {
            if slot.era.load(Relaxed) != 0 {
                continue;
            }
            // First: whoever recovers looks at slots that are marked. It stays so.
            let (_, word, bit) = Control::place_of(index);
            Member::mark(&self.control.members[self.member].taken, word, bit);
            crash_point!("heap.slot_marked");
            // Acquire pairs with the release of the one before.
            let taken = slot.era.compare_exchange(0, self.era, AcqRel, Relaxed);
            if taken.is_err() {
                continue;
            }
            crash_point!("heap.slot_taken");
            for hint in &slot.hints {
                hint.store(0, Relaxed);
            }
            let generation = slot.generation.fetch_add(1, Relaxed);
            return Ok((index, Owner::heap(index, generation)));
        }
        Err(HeapError::TooManyThreads)
    }

    /// Lets go of a slot that owns nothing any more.
    pub(crate) fn free_slot(&self, index: usize) {
        let (place, word, bit) = Control::place_of(index);
        let member = self.control.members.get(place);
        if let (Some(slot), Some(member)) = (self.control.slot(index), member) {
            Member::unmark(&member.retiring, word, bit);
            slot.era.store(0, Release);
            crash_point!("heap.slot_freed");
            // Somebody may take it from here on, and have marked it.
            if planted!("recover.unmarks_a_slot_of_others") {
                Member::unmark(&member.taken, word, bit);
            }
        }
    }

    /// Frames of any tier, or of `tier`; adds a chunk where there are none.
    pub(crate) fn claim(
        &self,
        heap: Owner,
        (frames, align): (usize, usize),
        (cut, tier): (Cut, Option<usize>),
    ) -> Result<Claim, HeapError> {
        let wanted = Wanted {
            frames,
            align,
            cut,
            tier,
        };
        let mut is_mended = false;
        // Others may add and take chunks all the time, but not for ever.
        for _ in 0..CLAIMS {
            self.check()?;
            if let Some(claim) = self.chunks.claim(self.control, heap, &wanted) {
                return Ok(claim);
            }
            let before = self.control.generation.load(Acquire);
            self.refresh()?;
            if before != self.control.generation.load(Acquire) {
                continue;
            }
            if !is_mended {
                is_mended = true;
                self.recover_dead();
                self.tend_keeper();
                self.collect();
                self.chunks.mend();
                continue;
            }
            self.add_chunk(cut, tier)?;
        }
        let address = core::ptr::from_ref(&self.control.generation).addr();
        let what = "the table of chunks, which changes all the time,";
        Err(HeapError::Damaged { what, address })
    }

    /// Adds a chunk, of the tier whose turn it is or the next that has room.
    fn add_chunk(&self, cut: Cut, tier: Option<usize>) -> Result<(), HeapError> {
        let mut failed = None;
        for (turn, tier) in self.turns(tier).into_iter().enumerate() {
            match self.chunks.add(self.control, &*self.ground, (cut, tier)) {
                Ok(()) => {
                    let is_fallback = u64::from(turn != 0);
                    self.control.fallbacks.fetch_add(is_fallback, AcqRel);
                    return Ok(());
                }
                // The first one says most: it is of the tier that was wanted.
                Err(error @ HeapError::Exhausted(_)) => failed = failed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        let none = || HeapError::Damaged {
            what: "the list of tiers",
            address: core::ptr::from_ref(&self.control.tiers).addr(),
        };
        Err(failed.unwrap_or_else(none))
    }

    /// The tiers for the next chunk, the best first: by how much of its share each has, those
    /// without a share last, in the order in which the heap names them.
    fn turns(&self, tier: Option<usize>) -> Vec<usize> {
        if let Some(tier) = tier {
            return vec![tier];
        }
        let mut counts = [0_u64; super::control::MOST_TIERS];
        for seen in self.chunks.all() {
            counts[seen.entry.tier()] += 1;
        }
        let share = |&tier: &usize| {
            let share = self.control.tiers[tier]
                .share
                .load(Relaxed)
                .saturating_sub(1);
            // What it has of its share, in millionths.
            counts[tier]
                .saturating_mul(1_000_000)
                .checked_div(share)
                .unwrap_or(u64::MAX)
        };
        let mut tiers: Vec<usize> = (0..self.control.tier_count()).collect();
        tiers.sort_by_key(share);
        tiers
    }
}
