//! The chunks of a pool heap as one process has them mapped.
//!
//! # Invariant
//! `firsts` and `seen` of this process name a chunk only while it is mapped. It goes from them
//! when the table has it no more, which happens only after one process had all of its frames,
//! so that nobody has a block in it. It is unmapped after that, once no [`Scan`] is under way:
//! who looks at frames that are not his own does so in one. Whoever has a block keeps its
//! chunk.
//!
//! # A chunk that goes
//! Whoever removes a chunk claims all its frames, has its entry in the table be his claim of the
//! number, gives its memory back, and then clears the entry. Others may still look at the old
//! mapping, which may read as zeros: frames that are free. So whoever claimed frames looks at the
//! entry afterwards, and where it is another one, has claimed nothing. The chunk is marked as
//! doomed before its entry goes: memory that is found under a number that the table does not have
//! is new, or doomed and to be given back.
//!
//! # A number is claimed
//! by whoever adds or removes memory under it, by his member and era: two who find doomed memory
//! would each give it back, and the second one that which the first has added since. Nobody waits
//! for a claim: who finds one takes another number. That of somebody dead is taken over.

use core::ops::Range;

use pool_core::sync::atomic::{
    AtomicU16, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use pool_core::sync::{Mutex, lock};
use pool_core::{crash_point, planted};

use super::control::{Control, Entry, MEMBER_THREADS, MOST_CHUNKS};
use super::error::HeapError;
use super::frames::{self, Seen, Wanted, claim_in, take_frames};
use super::ground::Ground;
use crate::frame::{ChunkHead, Frame};
use crate::layout::{CHUNK_BYTES, Cut, FRAME_BYTES};
use crate::owner::Owner;
use crate::window::Claim;

const CHUNK_SHIFT: u32 = CHUNK_BYTES.trailing_zeros();

/// The place of no chunk, beside the first frames of data of chunks: no frame is so far on.
const NONE: u16 = u16::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Chunks {
    window: Range<usize>,
    /// Which frame is the first one of data at each place of the window.
    firsts: Box<[AtomicU16]>,
    /// The entries of the chunks that are mapped, by number.
    seen: Box<[AtomicU64]>,
    /// The generation of the table that `seen` is as new as.
    generation: AtomicU64,
    /// No chunk is mapped at this number or after it.
    end: AtomicUsize,
    /// How many scans are under way.
    scans: AtomicUsize,
    /// By the numbers of the threads of this process: whether each is busy.
    busy: Box<[BusyWord]>,
    /// Who changes `seen`; and chunks that went from it and are still mapped.
    changes: Mutex<Vec<usize>>,
}

/// How often a thread looks at a slab that may be free by then, because it has just freed a block
/// of it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct BusyWord(AtomicU64);

/// While a thread has one, no chunk is unmapped of which it has a block when it begins, or had.
///
/// It costs two stores, where a [`Scan`] costs two operations on a word of all threads. The first
/// comes before the block is freed, and so before whoever removes the chunk for want of blocks.
#[derive(Debug)]
pub(crate) struct Busy<'a>(&'a BusyWord);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let left = self.0.0.load(Relaxed).wrapping_sub(1);
        self.0.0.store(left, Release);
    }
}

/// While there is one, no chunk is unmapped that was mapped when it began.
#[derive(Debug)]
pub(crate) struct Scan<'a>(&'a AtomicUsize);

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

impl Chunks {
    pub(crate) fn new(window: Range<usize>) -> Self {
        // Chunks are at multiples of their size, wherever the window begins.
        let window = window.start & !(CHUNK_BYTES - 1)..window.end;
        let places = window.len().div_ceil(CHUNK_BYTES);
        Self {
            window,
            firsts: (0..places).map(|_| AtomicU16::new(NONE)).collect(),
            seen: (0..MOST_CHUNKS).map(|_| AtomicU64::new(0)).collect(),
            generation: AtomicU64::new(0),
            end: AtomicUsize::new(0),
            scans: AtomicUsize::new(0),
            busy: (0..MEMBER_THREADS).map(|_| BusyWord::default()).collect(),
            changes: Mutex::new(Vec::new()),
        }
    }

    /// The frame that `address` lies in, if that is data of a chunk that is mapped.
    #[inline(always)]
    pub(crate) fn frame_of(&self, address: usize) -> Option<Frame> {
        let place = address.wrapping_sub(self.window.start) >> CHUNK_SHIFT;
        // Acquire pairs with the store in `note`: the chunk is mapped.
        let first = self.firsts.get(place)?.load(Acquire);
        let index = address % CHUNK_BYTES / FRAME_BYTES;
        if index < usize::from(first) {
            return None;
        }
        // SAFETY: the address is in the data of a chunk that is mapped, by the invariant.
        Some(unsafe { Frame::of(address) })
    }

    /// Keeps what is mapped mapped.
    ///
    /// It begins by an operation that reads and writes, and so does whoever looks whether there is
    /// one: where this comes later, it sees that the chunk is gone from `seen`.
    pub(crate) fn scan(&self) -> Scan<'_> {
        self.scans.fetch_add(1, AcqRel);
        Scan(&self.scans)
    }

    /// Has the thread of `slot` be busy.
    pub(crate) fn busy(&self, slot: usize) -> Busy<'_> {
        let word = &self.busy[slot % MEMBER_THREADS];
        // Nobody else writes it.
        word.0.store(word.0.load(Relaxed).wrapping_add(1), Relaxed);
        Busy(word)
    }

    /// The chunks that are mapped. Their frames may be looked at during a [`Scan`].
    pub(crate) fn all(&self) -> impl Iterator<Item = Seen> + '_ {
        let mapped = self.seen.iter().take(self.end.load(Acquire)).enumerate();
        mapped.filter_map(|(number, entry)| {
            let entry = Entry(entry.load(Acquire));
            (entry.0 != 0).then_some(Seen { number, entry })
        })
    }

    /// Maps what was added to the table since this was last called, and lets go of what went.
    pub(crate) fn refresh(&self, control: &Control, ground: &dyn Ground) -> Result<(), HeapError> {
        if control.generation.load(Acquire) == self.generation.load(Acquire) {
            return Ok(());
        }
        let mut gone = lock(&self.changes);
        let generation = control.generation.load(Acquire);
        // Those that went first: others may be at their addresses.
        for (number, place) in control.chunks.iter().enumerate() {
            let old = Entry(self.seen[number].load(Relaxed));
            if old.0 != 0 && old.0 != place.load(Acquire) {
                control.generation.fetch_add(1, AcqRel);
                self.note(number, Entry(0));
                gone.push(old.chunk());
            }
        }
        self.unmap_gone(ground, &mut gone);
        let mut failed = None;
        let mut is_changed = false;
        for (number, place) in control.chunks.iter().enumerate() {
            let entry = Entry::read(place.load(Acquire));
            if entry.0 != 0 && self.seen[number].load(Relaxed) == 0 {
                is_changed = true;
                // The others are mapped all the same.
                failed = failed.or(self.map(number, entry, ground, place).err());
            }
        }
        if is_changed {
            // Whoever changed the table may have died before it said so to all.
            control.generation.fetch_add(1, AcqRel);
        }
        match failed {
            Some(error) => Err(error),
            None => {
                // Acquire and release: what is mapped is so for whoever finds the generation.
                self.generation.store(generation, Release);
                Ok(())
            }
        }
    }

    /// Unmaps chunks that went, unless somebody may look at them.
    fn unmap_gone(&self, ground: &dyn Ground, gone: &mut Vec<usize>) {
        let scans = if planted!("chunks.only_reads_who_looks") {
            self.scans.load(Acquire)
        } else {
            self.scans.fetch_add(0, AcqRel)
        };
        // Acquire pairs with `Busy`: whoever freed the last block of a chunk was busy before it
        // did, and that came before the chunk went.
        let is_busy = self.busy.iter().any(|busy| busy.0.load(Acquire) != 0);
        if scans == 0 && !is_busy {
            for chunk in gone.drain(..) {
                ground.unmap(chunk);
            }
        }
    }

    /// Maps the chunk of an entry, unless that is another one by now.
    fn map(
        &self,
        number: usize,
        entry: Entry,
        ground: &dyn Ground,
        place: &AtomicU64,
    ) -> Result<(), HeapError> {
        let is_still = || Entry(place.load(Acquire)) == entry;
        match ground.map(number) {
            Ok(chunk) if chunk == entry.chunk() && is_still() => {
                self.note(number, entry);
                Ok(())
            }
            Ok(chunk) => {
                ground.unmap(chunk);
                if is_still() {
                    let address = core::ptr::from_ref(place).addr();
                    let what = "the entry of a chunk";
                    return Err(HeapError::Damaged { what, address });
                }
                Ok(())
            }
            Err(error) if is_still() => Err(HeapError::Map(error)),
            Err(_) => Ok(()),
        }
    }

    /// Takes note of what is mapped as chunk `number`. Under the lock.
    fn note(&self, number: usize, entry: Entry) {
        let old = Entry(self.seen[number].swap(entry.0, AcqRel));
        for (entry, is_there) in [(old, false), (entry, true)] {
            let place = entry.chunk().wrapping_sub(self.window.start) >> CHUNK_SHIFT;
            if let (true, Some(first)) = (entry.0 != 0, self.firsts.get(place)) {
                let frames = u16::try_from(entry.cut().meta_frames()).unwrap_or(NONE);
                first.store(if is_there { frames } else { NONE }, Release);
            }
        }
        if entry.0 != 0 {
            self.end.fetch_max(number + 1, AcqRel);
        }
    }

    /// Takes frames of a chunk that is there. None where no chunk has them.
    pub(crate) fn claim(&self, control: &Control, heap: Owner, wanted: &Wanted) -> Option<Claim> {
        let _scan = self.scan();
        self.all()
            .filter(|seen| seen.entry.cut() == wanted.cut)
            .filter(|seen| wanted.tier.is_none_or(|tier| seen.entry.tier() == tier))
            .find_map(|seen| claim_in(control, seen, heap, wanted))
    }

    /// Adds a chunk of `tier`.
    pub(crate) fn add(
        &self,
        control: &Control,
        ground: &dyn Ground,
        (cut, tier): (Cut, usize),
    ) -> Result<(), HeapError> {
        self.refresh(control, ground)?;
        let mut gone = lock(&self.changes);
        self.unmap_gone(ground, &mut gone);
        let Some(number) = control
            .chunks
            .iter()
            .position(|it| claim_number(it, ground))
        else {
            return Err(HeapError::TooManyChunks);
        };
        crash_point!("heap.number_claimed");
        let (place, name) = (&control.chunks[number], control.tiers[tier].name.read());
        let id = control.id.load(Relaxed);
        let chunk = match add_memory(ground, (number, id), &name) {
            Ok(chunk) => chunk,
            Err(error) => {
                place.store(0, Release);
                return Err(error);
            }
        };
        crash_point!("heap.chunk_added");
        let changes = control.generation.fetch_add(1, AcqRel);
        let entry = Entry::new(chunk, cut, tier, changes);
        // Release pairs with `refresh`.
        place.store(entry.0, Release);
        crash_point!("heap.chunk_entered");
        control.generation.fetch_add(1, AcqRel);
        self.note(number, entry);
        Ok(())
    }

    /// Gives a chunk back to the pool of which nobody has a frame; false where somebody has.
    pub(crate) fn remove(
        &self,
        control: &Control,
        ground: &dyn Ground,
        seen: Seen,
        heap: Owner,
    ) -> Result<bool, HeapError> {
        let scan = self.scan();
        // It may have been unmapped before the scan.
        if self.seen[seen.number].load(Acquire) != seen.entry.0
            || take_frames(control, seen, heap, seen.data().start, seen.data().len()).is_none()
        {
            return Ok(false);
        }
        crash_point!("heap.chunk_claimed");
        seen.head().doomed.store(1, Release);
        drop(scan);
        crash_point!("heap.chunk_doomed");
        let mut gone = lock(&self.changes);
        let place = &control.chunks[seen.number];
        let claim = own_claim(ground);
        let is_mine = place.compare_exchange(seen.entry.0, claim.0, AcqRel, Relaxed);
        if is_mine.is_err() {
            return Ok(false);
        }
        control.generation.fetch_add(1, AcqRel);
        crash_point!("heap.chunk_left");
        self.note(seen.number, Entry(0));
        gone.push(seen.entry.chunk());
        let removed = ground.remove(seen.number, seen.entry.chunk());
        crash_point!("heap.chunk_removed");
        // Release pairs with whoever claims the number next.
        place.store(0, Release);
        removed.map_err(HeapError::Remove)?;
        Ok(true)
    }

    /// Gives back the memory that somebody added or removed when he died.
    pub(crate) fn remove_unfinished(
        &self,
        control: &Control,
        ground: &dyn Ground,
    ) -> Result<(), HeapError> {
        let mut gone = lock(&self.changes);
        for (number, place) in control.chunks.iter().enumerate() {
            if place.load(Acquire) == 0 || !claim_number(place, ground) {
                continue;
            }
            // Where it cannot be mapped there is none, or the next to add a chunk finds it.
            let removed = ground.map(number).map_or(Ok(()), |chunk| {
                gone.push(chunk);
                ground.remove(number, chunk)
            });
            place.store(0, Release);
            removed.map_err(HeapError::Remove)?;
        }
        Ok(())
    }

    /// Makes the hints of all chunks fit the owner words, where somebody died between the one and
    /// the other: the bits of frames that are free, and of slabs that nobody owns.
    pub(crate) fn mend(&self) {
        let _scan = self.scan();
        self.all().flat_map(Seen::frames).for_each(frames::mend);
    }
}

/// The claim of this process.
fn own_claim(ground: &dyn Ground) -> Entry {
    let (member, era) = ground.member();
    Entry::claim(member, era)
}

/// Claims the number that `place` is of, where there is no chunk; false where another one has.
fn claim_number(place: &AtomicU64, ground: &dyn Ground) -> bool {
    let now = place.load(Acquire);
    let is_dead = |(member, era)| !ground.lives(member, era);
    let is_free = now == 0 || Entry(now).claimant().is_some_and(is_dead);
    if is_free && planted!("chunks.claims_no_number") {
        return true;
    }
    let claim = own_claim(ground).0;
    // Acquire pairs with the release of whoever had it before.
    is_free && place.compare_exchange(now, claim, AcqRel, Relaxed).is_ok()
}

/// Memory for chunk `number`, which the caller has claimed. Where somebody died who was about to
/// give memory back, that is done first.
///
/// So it is with memory that a heap of the same name left when it was removed.
fn add_memory(
    ground: &dyn Ground,
    (number, id): (usize, u64),
    tier: &str,
) -> Result<usize, HeapError> {
    let add = || {
        let added = ground.add(number, tier);
        added.map_err(|error| match error.is_shortage() {
            true => HeapError::Exhausted(error),
            false => HeapError::Map(error),
        })
    };
    let is_new = |chunk| {
        // SAFETY: the metadata of a chunk that was just mapped.
        let head = unsafe { ChunkHead::at(chunk) };
        let stamp = head.stamp.compare_exchange(0, id, AcqRel, Acquire);
        stamp.is_ok() && head.doomed.load(Acquire) == 0
    };
    let chunk = add()?;
    if is_new(chunk) {
        return Ok(chunk);
    }
    crash_point!("heap.doomed_found");
    if planted!("chunks.gives_up_on_what_was_left") {
        ground.unmap(chunk);
        return Err(HeapError::Map(super::ground::GroundError::new(
            "it is left",
        )));
    }
    ground.remove(number, chunk).map_err(HeapError::Remove)?;
    ground.unmap(chunk);
    let chunk = add()?;
    if is_new(chunk) {
        return Ok(chunk);
    }
    ground.unmap(chunk);
    let (what, address) = ("new memory", chunk);
    Err(HeapError::Damaged { what, address })
}
