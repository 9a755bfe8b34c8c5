//! A bin without blocks gets some, and slabs come and go.
//!
//! In this order: the next word of its slab, what others told of, another slab with free blocks,
//! some slabs that nobody told of, a slab that nobody owns, new frames.

use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use pool_core::sync::lock;
use pool_core::{crash_point, planted};

use super::error::HeapError;
use super::frames;
use super::front::Mark;
use super::local::{self, Local, Own, Shelf};
use super::process::Process;
use crate::bits;
use crate::frame::Frame;
use crate::layout::Cut;
use crate::owner::{Kind, Owner};
use crate::place::{self, Place};
use crate::size_class::{CLASSES, block_bytes, slab_blocks, slab_frames};

/// How many bytes of a slab are opened at once: four pages, and one block at least.
const OPENED_BYTES: usize = 16 << 10;
/// At how many slabs that nobody told of a heap looks before it takes new frames.
const LOOKS: usize = 4;
/// At how many slabs that nobody owns it looks.
const SCANS: usize = 64;

/// The bits of word `word` that stand for the first `blocks` blocks of a slab.
pub(super) fn among(blocks: usize, word: usize) -> u64 {
    bits::below(blocks.saturating_sub(word * 64))
}

/// Words that a slab of `class` has.
pub(super) fn words(class: usize) -> usize {
    slab_blocks(class).div_ceil(64)
}

/// Whether a slab has no allocated block.
fn is_empty(slab: Frame, class: usize) -> bool {
    slab.is_empty(words(class))
}

/// Whether a slab has a block that was given out, or may be, and is not published.
pub(super) fn has_pending(slab: Frame, class: usize) -> bool {
    let marks = |word| slab.allocated(word).load(Relaxed) & slab.pending(word).load(Relaxed);
    (0..words(class)).any(|word| marks(word) != 0)
}

/// Lets others have a slab that nobody owns any more, and that the caller owned.
pub(super) fn leave(slab: Frame, class: usize) {
    let order = if planted!("pool.leaves_relaxed") {
        Relaxed
    } else {
        Release
    };
    // Release pairs with whoever adopts it.
    let owner = &slab.descriptor().owner;
    owner.store(Owner::abandoned(class).0, order);
    crash_point!("heap.slab_left");
    let index = slab.index();
    bits::set(&slab.head().left, &(index..index + 1));
}

impl Local {
    /// Fills the bin of `class`.
    #[cold]
    #[inline(never)]
    pub(super) fn refill(&mut self, on: &Process, class: usize) -> Result<(), HeapError> {
        on.check()?;
        while !self.take_word(class) {
            self.put_by(class);
            self.hear(on);
            if self.slabs[class].partial.is_empty() {
                self.look_around(on);
            }
            if self.slabs[class].partial.is_empty() {
                self.adopt_any(on, class, SCANS);
            }
            let number = match self.slabs[class].partial.pop() {
                Some(number) => number,
                None => match self.new_slab(on, class) {
                    Ok(number) => number,
                    Err(error) => {
                        // It recovered the dead: what they had may be in slabs that nobody owns.
                        // And there may be blocks in slabs that nobody told of.
                        self.look_everywhere(on);
                        self.adopt_any(on, class, usize::MAX);
                        self.slabs[class].partial.pop().ok_or(error)?
                    }
                },
            };
            if let Some(own) = self.own_mut(number) {
                own.shelf = Shelf::Current;
            }
            let slabs = &mut self.slabs[class];
            slabs.current = Some(number);
            slabs.next_word = 0;
        }
        Ok(())
    }

    pub(super) fn own(&self, number: u32) -> Option<Own> {
        *self.own.get(usize::try_from(number).ok()?)?
    }

    fn own_mut(&mut self, number: u32) -> Option<&mut Own> {
        self.own.get_mut(usize::try_from(number).ok()?)?.as_mut()
    }

    /// Holds some free blocks of the current slab: those of the next word that has any, and once
    /// all words had their turn, blocks that were never given out. False where there are none.
    ///
    /// Only with nothing held that is free.
    fn take_word(&mut self, class: usize) -> bool {
        let current = self.slabs[class]
            .current
            .and_then(|number| self.own(number));
        let Some(Own { slab, .. }) = current else {
            return false;
        };
        debug_assert_eq!(self.bins[class].free, 0);
        let descriptor = slab.descriptor();
        while let next @ 0..64 = self.slabs[class].next_word {
            let summary = descriptor.summary.load(Relaxed);
            let ahead = summary & (u64::MAX << next);
            if ahead == 0 {
                break;
            }
            let word = ahead.trailing_zeros() as usize;
            self.slabs[class].next_word = ahead.trailing_zeros() + 1;
            descriptor.summary.store(summary & !(1 << word), Relaxed);
            if word >= words(class) {
                continue;
            }
            let opened = descriptor.opened.load(Relaxed) as usize;
            let taken = slab.allocated(word).load(Relaxed);
            let free = !taken & among(opened.min(slab_blocks(class)), word);
            if free != 0 {
                self.hold(slab, class, word, free, false);
                return true;
            }
        }
        self.slabs[class].next_word = 0;
        self.open(slab, class)
    }

    /// Holds blocks that were never given out; false where all were.
    fn open(&mut self, slab: Frame, class: usize) -> bool {
        let descriptor = slab.descriptor();
        let opened = descriptor.opened.load(Relaxed) as usize;
        let (word, first) = (opened / 64, opened % 64);
        let left = slab_blocks(class).saturating_sub(opened).min(64 - first);
        if left == 0 {
            return false;
        }
        let count = (OPENED_BYTES / block_bytes(class)).clamp(1, left);
        let is_zero = descriptor.is_zero.load(Relaxed) != 0;
        self.hold(slab, class, word, bits::below(count) << first, is_zero);
        crash_point!("heap.opened_blocks_held");
        let opened = u32::try_from(opened + count).unwrap_or(u32::MAX);
        descriptor.opened.store(opened, Relaxed);
        true
    }

    /// Holds the blocks `free` of a word: pending first, and allocated then.
    fn hold(&mut self, slab: Frame, class: usize, word: usize, free: u64, is_zero: bool) {
        let (allocated, pending) = (slab.allocated(word), slab.pending(word));
        let (taken, marks) = (allocated.load(Relaxed), pending.load(Relaxed));
        if planted!("pool.holds_before_it_marks") {
            allocated.store(taken | free, Release);
            crash_point!("heap.word_marked");
        }
        pending.store(marks | free, Release);
        crash_point!("heap.word_marked");
        allocated.store(taken | free, Release);
        crash_point!("heap.word_held");
        let bin = &mut self.bins[class];
        bin.held = core::ptr::from_ref(allocated).addr();
        bin.mark = Mark::new(pending, 0);
        bin.free = free;
        bin.is_zero = is_zero;
        bin.word = u32::try_from(word).unwrap_or(0);
        bin.base = slab.start().wrapping_add(word * 64 * block_bytes(class));
    }

    /// Puts the current slab with the others of its class.
    fn put_by(&mut self, class: usize) {
        if let Some(number) = self.slabs[class].current.take() {
            debug_assert_eq!(self.bins[class].free, 0);
            self.bins[class].let_go();
            self.shelve(number);
        }
    }

    /// Puts a slab of this heap, which is nowhere, where it belongs.
    pub(super) fn shelve(&mut self, number: u32) {
        let Some(Own { slab, class, .. }) = self.own(number) else {
            return;
        };
        let descriptor = slab.descriptor();
        let is_open = descriptor.opened.load(Relaxed) as usize >= slab_blocks(class);
        let partial = &mut self.slabs[class].partial;
        let shelf = if is_open && descriptor.summary.load(Relaxed) == 0 {
            Shelf::Full
        } else {
            partial.push(number);
            Shelf::Partial(u32::try_from(partial.len() - 1).unwrap_or(0))
        };
        if let Some(own) = self.own_mut(number) {
            own.shelf = shelf;
        }
    }

    /// Takes a slab from where it is.
    fn unshelve(&mut self, number: u32) {
        let Some(own) = self.own(number) else { return };
        let slabs = &mut self.slabs[own.class];
        match own.shelf {
            Shelf::Full => {}
            Shelf::Current => slabs.current = None,
            Shelf::Partial(at) => {
                slabs.partial.swap_remove(at as usize);
                let moved = slabs.partial.get(at as usize).copied();
                if let Some(moved) = moved.and_then(|moved| self.own_mut(moved)) {
                    moved.shelf = Shelf::Partial(at);
                }
            }
        }
    }

    /// The number of a slab that this heap owns; none where its descriptor has another one.
    fn number_of(&self, slab: Frame) -> Option<u32> {
        let number = slab.descriptor().list.load(Relaxed);
        self.own(number)
            .filter(|own| own.slab == slab)
            .map(|_| number)
    }

    /// Puts a slab where it belongs that has a free block now.
    #[cold]
    #[inline(never)]
    pub(super) fn settle(&mut self, slab: Frame, class: usize) {
        let Some(number) = self.number_of(slab) else {
            return;
        };
        if self
            .own(number)
            .is_none_or(|own| own.shelf == Shelf::Current)
        {
            return;
        }
        // One slab without blocks is kept, for those that come and go. Large ones are not.
        let may_go = class > crate::size_class::SMALL || self.slabs[class].partial.len() > 1;
        self.unshelve(number);
        if may_go && is_empty(slab, class) {
            self.disown(number);
            self.give_up(slab);
        } else {
            self.shelve(number);
        }
    }

    /// Makes a slab that this heap owns and that has no blocks free frames.
    fn give_up(&self, slab: Frame) {
        let owner = &slab.descriptor().owner;
        owner.store(self.owner.freeing().0, Release);
        crash_point!("heap.slab_freeing");
        frames::release(slab);
    }

    /// Gives a slab a number, by which this heap knows it.
    fn enlist(&mut self, slab: Frame, class: usize) -> u32 {
        let own = Own {
            slab,
            class,
            shelf: Shelf::Full,
        };
        let number = self.unused.pop().unwrap_or_else(|| {
            self.own.push(None);
            u32::try_from(self.own.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.own.get_mut(number as usize) {
            *place = Some(own);
        }
        slab.descriptor().list.store(number, Relaxed);
        number
    }

    /// Forgets a slab that is nowhere.
    fn disown(&mut self, number: u32) {
        // Its memory may be gone before the next block is given out.
        self.forget_last();
        if let Some(place) = self.own.get_mut(number as usize) {
            *place = None;
            self.unused.push(number);
        }
    }

    /// Makes a slab of frames that nobody has.
    fn new_slab(&mut self, on: &Process, class: usize) -> Result<u32, HeapError> {
        let cut = Cut::of(block_bytes(class));
        let claim = on.claim(self.owner, (slab_frames(class), 1), (cut, self.tier))?;
        crash_point!("heap.slab_claimed");
        let (slab, descriptor) = (claim.head, claim.head.descriptor());
        for word in 0..words(class) {
            slab.allocated(word).store(0, Relaxed);
            slab.pending(word).store(0, Relaxed);
            slab.remote(word).store(0, Relaxed);
        }
        descriptor.summary.store(0, Relaxed);
        descriptor.opened.store(0, Relaxed);
        let is_zero = u32::from(claim.is_zero);
        descriptor.is_zero.store(is_zero, Relaxed);
        let number = self.enlist(slab, class);
        // Release pairs with the load of whoever frees a block of it.
        descriptor.owner.store(self.owner.slab(class).0, Release);
        crash_point!("heap.slab_made");
        Ok(number)
    }

    /// Takes slabs of `class` over that nobody owns, until one has free blocks.
    /// Looks at about `most` of them; next time at those that follow.
    pub(super) fn adopt_any(&mut self, on: &Process, class: usize, most: usize) {
        let _scan = on.chunks.scan();
        let mut scans = 0;
        let chunks: Vec<_> = on.chunks.all().collect();
        let words = crate::layout::FRAMES / 64;
        for step in 0..chunks.len() * words {
            let place = self.scanned.wrapping_add(step) % (chunks.len() * words);
            let seen = chunks[place / words];
            if seen.entry.cut() != Cut::of(block_bytes(class))
                || self.tier.is_some_and(|tier| tier != seen.entry.tier())
            {
                continue;
            }
            let left = seen.head().left[place % words].load(Relaxed);
            for bit in bits::ones(left) {
                let index = place % words * 64 + bit;
                scans += 1;
                if seen.data().contains(&index) {
                    self.try_adopt(on, seen.frame(index), class);
                }
                if !self.slabs[class].partial.is_empty() {
                    self.scanned = place;
                    return;
                }
            }
            if scans >= most {
                self.scanned = place + 1;
                return;
            }
        }
    }

    /// Takes a slab over that may be one of `class` that nobody owns.
    fn try_adopt(&mut self, on: &Process, slab: Frame, class: usize) {
        let owner = slab.owner();
        if owner == Owner::abandoned(class) {
            self.adopt(on, slab, class);
        } else if !owner.is_abandoned() {
            let (word, bit) = (slab.index() / 64, 1_u64 << (slab.index() % 64));
            let left = &slab.head().left[word];
            // Acquire pairs with `leave`: who left it meanwhile sets the bit after it is cleared,
            // or is seen to have left it.
            left.fetch_and(!bit, AcqRel);
            if slab.owner().is_abandoned() && !planted!("pool.hides_what_was_left_meanwhile") {
                left.fetch_or(bit, AcqRel);
            }
        }
    }

    /// Takes over a slab of `class` that nobody owns; false where another thread was first.
    pub(super) fn adopt(&mut self, on: &Process, slab: Frame, class: usize) -> bool {
        let (old, new) = (Owner::abandoned(class), self.owner.slab(class));
        // What another process wrote where it should not has no frames for its blocks, and the
        // last of them may be past the chunk.
        if frames::extent(slab) < slab_frames(class) {
            return false;
        }
        let owner = &slab.descriptor().owner;
        // Acquire pairs with the store by which its last owner left it.
        if planted!("pool.adopts_by_a_store") && owner.load(Acquire) == old.0 {
            owner.store(new.0, Relaxed);
        } else if owner
            .compare_exchange(old.0, new.0, AcqRel, Relaxed)
            .is_err()
        {
            return false;
        }
        crash_point!("heap.slab_adopted");
        let bit = slab.index()..slab.index() + 1;
        bits::clear(&slab.head().left, &bit);
        let summary = summary_of(slab, class);
        slab.descriptor().summary.store(summary, Relaxed);
        let number = self.enlist(slab, class);
        self.shelve(number);
        // By operations that read and write: whoever frees a block from now on finds this heap.
        self.drain(on, slab, class, true);
        true
    }

    /// Gives everything up, and its slot. Slabs with blocks that are not published stay with the
    /// process, whose first such heap becomes the one that keeps them.
    pub(super) fn end(mut self, on: &Process) {
        self.hear(on);
        for class in 1..CLASSES {
            self.put_back_held(on, class);
            self.put_by(class);
        }
        let mut keeper = lock(&on.keeper);
        let own = self.own.iter().flatten();
        let is_pending = own.into_iter().any(|own| has_pending(own.slab, own.class));
        self.forget_runs();
        if (is_pending || !self.runs.is_empty()) && keeper.is_none() {
            self.leave_published(on);
            *keeper = Some(Box::new(self));
            return;
        }
        if let Some(keeper) = keeper.as_deref_mut() {
            keeper.take_runs(&mut self);
        }
        self.leave_all(on, keeper.as_deref_mut());
        drop(keeper);
        on.free_slot(self.slot);
    }

    /// Gives everything up but slabs with blocks that are not published: those go to `keeper`.
    fn leave_all(&mut self, on: &Process, keeper: Option<&mut Self>) {
        let mut keeper = keeper;
        for number in 0..self.own.len() {
            let Ok(number) = u32::try_from(number) else {
                return;
            };
            let Some(Own { slab, class, .. }) = self.own(number) else {
                continue;
            };
            self.unshelve(number);
            self.disown(number);
            if is_empty(slab, class) {
                self.give_up(slab);
            } else if let (true, Some(keeper)) = (has_pending(slab, class), keeper.as_mut()) {
                keeper.take_over(on, slab, class);
            } else {
                leave(slab, class);
            }
        }
    }

    /// Takes a slab from another thread of this process, which gives it up.
    fn take_over(&mut self, on: &Process, slab: Frame, class: usize) {
        let number = self.enlist(slab, class);
        let owner = &slab.descriptor().owner;
        owner.store(self.owner.slab(class).0, Release);
        crash_point!("heap.slab_kept");
        self.shelve(number);
        self.drain(on, slab, class, true);
    }

    /// Lets others have the slabs of which nothing is pending any more. For a heap that gives out
    /// nothing.
    pub(super) fn leave_published(&mut self, on: &Process) {
        self.hear(on);
        for number in 0..self.own.len() {
            let Ok(number) = u32::try_from(number) else {
                return;
            };
            let own = self.own(number);
            let Some(Own { slab, class, .. }) = own.filter(|own| !has_pending(own.slab, own.class))
            else {
                continue;
            };
            self.unshelve(number);
            self.disown(number);
            if is_empty(slab, class) {
                self.give_up(slab);
            } else {
                leave(slab, class);
            }
        }
    }

    /// Makes the blocks free that were held, or in front, and not given out.
    fn put_back_held(&mut self, on: &Process, class: usize) {
        self.forget_last();
        while let Some(ready) = self.bins[class].ready.checked_sub(1) {
            self.bins[class].ready = ready;
            let address = self.fronts.get(class, ready).address;
            let frame = on.chunks.frame_of(address);
            let place = frame.and_then(|frame| place::in_frame(frame, address));
            if let Some(Place::Slab { slab, index, .. }) = place
                && local::free_past_front(slab, index)
            {
                self.settle(slab, class);
            }
        }
        let bin = &mut self.bins[class];
        let free = core::mem::take(&mut bin.free);
        bin.let_go();
        let word = bin.word as usize;
        let current = self.slabs[class]
            .current
            .and_then(|number| self.own(number));
        if let (Some(Own { slab, .. }), true) = (current, free != 0) {
            let (allocated, pending) = (slab.allocated(word), slab.pending(word));
            allocated.store(allocated.load(Relaxed) & !free, Release);
            crash_point!("heap.held_put_back");
            pending.store(pending.load(Relaxed) & !free, Release);
            let summary = &slab.descriptor().summary;
            summary.store(summary.load(Relaxed) | 1 << word, Relaxed);
        }
    }

    /// Keeps nothing ready.
    pub(super) fn rest(&mut self, on: &Process) {
        self.hear(on);
        for class in 1..CLASSES {
            self.put_back_held(on, class);
            self.put_by(class);
        }
        for number in 0..self.own.len() {
            let Ok(number) = u32::try_from(number) else {
                return;
            };
            let own = self.own(number);
            if let Some(Own { slab, class, .. }) = own {
                self.drain(on, slab, class, false);
                if self.number_of(slab) == Some(number) && is_empty(slab, class) {
                    self.unshelve(number);
                    self.disown(number);
                    self.give_up(slab);
                }
            }
        }
    }

    /// Looks at all slabs of this heap.
    fn look_everywhere(&mut self, on: &Process) {
        for number in 0..self.own.len() {
            if let Some(Own { slab, class, .. }) = self.own[number] {
                self.drain(on, slab, class, false);
            }
        }
    }

    /// Looks at a few slabs that nobody told of, in turns: who was to tell may have died.
    fn look_around(&mut self, on: &Process) {
        for _ in 0..LOOKS.min(self.own.len()) {
            self.looked = (self.looked + 1) % self.own.len();
            if let Some(Own { slab, class, .. }) = self.own[self.looked] {
                self.drain(on, slab, class, false);
            }
        }
    }
}

/// The words of a slab that have free blocks that were given out before.
pub(super) fn summary_of(slab: Frame, class: usize) -> u64 {
    let opened = slab.descriptor().opened.load(Relaxed) as usize;
    let opened = opened.min(slab_blocks(class));
    let has_free = |&word: &usize| {
        let free = !slab.allocated(word).load(Relaxed) & among(opened, word);
        free != 0
    };
    let with_free = (0..words(class)).filter(has_free);
    with_free.fold(0, |summary, word| summary | 1 << word)
}

/// Whether what a frame is now is a slab of `class` of the heap `owner`.
pub(super) fn is_of(slab: Frame, owner: Owner, class: usize) -> bool {
    slab.owner() == owner.slab(class) && slab.owner().kind() == Kind::Slab(class)
}
