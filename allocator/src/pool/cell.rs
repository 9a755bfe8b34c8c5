//! Cells: words through which objects are reached, and how a block is linked or unlinked so that
//! no death loses it.
//!
//! A cell is a root, or a word in a block of the heap. It holds an even number, most often the
//! address of a block or 0; an odd one is a *mark*: it says that the thread of a slot is about to
//! change the cell, and the intent of that slot says how.
//!
//! # Protocol
//! *To link*: `link` makes a block that is pending reachable through a cell.
//! 1. The intent is written: cell, block, the value at the end (the block).
//! 2. The cell changes from what was expected to the mark. **From here on it is linked.**
//! 3. The block is published.
//! 4. The cell changes from the mark to the value.
//! 5. The intent is cleared.
//!
//! *To retire*: `retire` makes a block unreachable through a cell, and frees it.
//! 1. The bit of the slot in `retiring` is set, once for ever, and the intent is written.
//! 2. The cell changes from the block to the mark. **From here on it is unlinked.**
//! 3. The bit of the block in its slab is set, as by any other who frees it.
//! 4. and 5. as above.
//!
//! Of a run, step 3 takes it: its owner word says from then on that this slot frees it. Its frames
//! become free after step 5.
//!
//! # Whoever meets a mark
//! Reads the value that the cell will have in the intent, and believes it if the cell still has
//! the mark afterwards: marks never come twice. Who wants to change the cell first notes the
//! number of the intent in `helped` of the slot, and then does step 4. So nobody waits for whoever
//! is in between, alive or stopped.
//!
//! # Why each death is survived
//! The recovery of a slot finds its intent. If the cell has its mark, or `helped` has its number,
//! step 2 was done: it does step 3, where it is not done, then 4 and 5. Else it was not done, or
//! all was done but step 5: it does step 5.
//!
//! Step 3 of a link can be repeated: the owner of the block is dead, so nobody publishes or gives
//! out blocks of its slab. Step 3 of a retirement can be repeated while the block is not given out
//! again. It is not: whoever owns the slab finds the bit, which was set after the intent was
//! written, so it finds the intent as well, and spares the block until that is cleared
//! ([`spare_in_flight`]).
//!
//! Was `helped` noted, and the cell not changed? Then it still has the mark, and either is true.

use pool_core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use pool_core::{crash_point, planted};

use super::control::{Control, Intent, Member, Root, Slot};
use super::error::HeapError;
use super::frames;
use super::local::Local;
use super::process::Process;
use crate::frame::Frame;
use crate::owner::{Kind, Owner};
use crate::place::Place;
use crate::size_class::{block_bytes, slab_blocks};

const NONE: u64 = 0;
const LINK: u64 = 1;
const RETIRE: u64 = 2;
const KIND_BITS: u32 = 2;

/// A mark: bit 0, the slot in bits 1..17, the number of the intent above.
const SLOT_SHIFT: u32 = 1;
const NUMBER_SHIFT: u32 = 17;
/// How often an intent is read that changes meanwhile.
const READS: usize = 16;

/// What a thread is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    kind: u64,
    number: u64,
    cell: usize,
    block: usize,
    value: u64,
}

fn mark(slot: usize, number: u64) -> u64 {
    1 | (slot as u64) << SLOT_SHIFT | number << NUMBER_SHIFT
}

fn slot_of(mark: u64) -> usize {
    usize::try_from(mark >> SLOT_SHIFT & 0xffff).unwrap_or(usize::MAX)
}

impl Intent {
    /// What it says; none where it says nothing.
    ///
    /// An intent that is read while it changes is read once more; one that never stands still is
    /// told as an error.
    fn read(&self) -> Result<Option<Plan>, ()> {
        for _ in 0..READS {
            // Acquire pairs with `begin`.
            let word = self.word.load(Acquire);
            let kind = word & ((1 << KIND_BITS) - 1);
            let plan = Plan {
                kind,
                number: word >> KIND_BITS,
                cell: usize::try_from(self.cell.load(Acquire)).unwrap_or(0),
                block: usize::try_from(self.block.load(Acquire)).unwrap_or(0),
                value: self.value.load(Acquire),
            };
            if self.word.load(Acquire) == word {
                return Ok((kind != NONE).then_some(plan));
            }
        }
        Err(())
    }

    /// Writes an intent, and says its number.
    fn begin(&self, kind: u64, cell: usize, block: usize, value: u64) -> u64 {
        let number = (self.word.load(Relaxed) >> KIND_BITS).wrapping_add(1);
        // The word says none meanwhile, and Release keeps the order: nobody takes half of the one
        // for half of the other.
        self.word.store(number << KIND_BITS | NONE, Release);
        self.cell.store(cell as u64, Release);
        self.block.store(block as u64, Release);
        self.value.store(value, Release);
        self.word.store(number << KIND_BITS | kind, Release);
        crash_point!("heap.intent_begun");
        number
    }

    fn end(&self) {
        let number = self.word.load(Relaxed) >> KIND_BITS;
        self.word.store(number << KIND_BITS | NONE, Release);
        crash_point!("heap.intent_ended");
    }
}

impl Process {
    /// The word that is the cell at `address`.
    fn cell(&self, address: usize) -> Result<&'static AtomicU64, HeapError> {
        let no_cell = HeapError::NoCell { address };
        if !address.is_multiple_of(8) {
            return Err(no_cell);
        }
        let roots = &self.control.roots;
        let offset = address.wrapping_sub(roots.as_ptr().addr());
        if let Some(root) = roots.get(offset / size_of::<Root>()) {
            let is_its = core::ptr::from_ref(&root.cell).addr() == address;
            return is_its.then_some(&root.cell).ok_or(no_cell);
        }
        #[cfg(not(loom))]
        {
            self.frame_of(address).map_err(|error| match error {
                HeapError::NoBlock { .. } => no_cell,
                error => error,
            })?;
            let place: *mut u64 = core::ptr::with_exposed_provenance_mut(address);
            // SAFETY: data of a chunk that is mapped for as long as the process has the heap; a
            // word that several processes change is one that each changes atomically.
            Ok(unsafe { AtomicU64::from_ptr(place) })
        }
        #[cfg(loom)]
        Err(no_cell)
    }

    /// The value of a cell.
    pub(crate) fn load(&self, address: usize) -> Result<u64, HeapError> {
        let cell = self.cell(address)?;
        loop {
            // Acquire pairs with whoever linked what is there.
            let value = cell.load(Acquire);
            if value & 1 == 0 {
                return Ok(value);
            }
            if let Some(plan) = self.plan_of(cell, value)? {
                return Ok(plan.value);
            }
        }
    }

    /// Changes a cell from `old` to `new`, both even.
    pub(crate) fn exchange(&self, address: usize, old: u64, new: u64) -> Result<(), HeapError> {
        check_even(new)?;
        check_even(old)?;
        self.change(self.cell(address)?, old, new)
    }

    /// Changes a cell, whoever is changing it.
    fn change(&self, cell: &AtomicU64, old: u64, new: u64) -> Result<(), HeapError> {
        loop {
            // Release pairs with `load`; acquire sees what the one before did.
            match cell.compare_exchange(old, new, AcqRel, Acquire) {
                Ok(_) => return Ok(()),
                Err(value) if value & 1 != 0 => self.help(cell, value)?,
                Err(value) => return Err(HeapError::Changed { value }),
            }
        }
    }

    /// Does the last step for whoever has marked a cell.
    fn help(&self, cell: &AtomicU64, mark: u64) -> Result<(), HeapError> {
        let Some(plan) = self.plan_of(cell, mark)? else {
            return Ok(()); // It was done meanwhile.
        };
        let slot = self.control.slot(slot_of(mark));
        if planted!("cell.notes_after_it_changes") {
            let _ = cell.compare_exchange(mark, plan.value, AcqRel, Relaxed);
            crash_point!("heap.help_noted");
        }
        if let (Some(slot), false) = (slot, planted!("cell.helps_without_a_note")) {
            // Before the cell: a recovery that finds it changed finds this.
            slot.helped.number.fetch_max(plan.number, AcqRel);
        }
        crash_point!("heap.help_noted");
        // Who was faster did the same.
        let _ = cell.compare_exchange(mark, plan.value, AcqRel, Relaxed);
        Ok(())
    }

    /// What is about to become of a cell that has a mark. None where it has it no more.
    fn plan_of(&self, cell: &AtomicU64, with: u64) -> Result<Option<Plan>, HeapError> {
        let address = core::ptr::from_ref(cell).addr();
        let slot = self.control.slot(slot_of(with));
        let plan = slot.and_then(|slot| slot.intent.read().ok().flatten());
        // After the intent: where the mark is still there, it was there when the intent was read.
        if cell.load(Acquire) != with && !planted!("cell.believes_at_once") {
            return Ok(None);
        }
        let fits = |plan: &Plan| {
            let is_its = mark(slot_of(with), plan.number) == with;
            is_its && plan.cell == address && plan.value & 1 == 0
        };
        let what = "the mark in a cell";
        let damaged = HeapError::Damaged { what, address };
        plan.filter(fits).map(Some).ok_or(damaged)
    }
}

fn check_even(value: u64) -> Result<(), HeapError> {
    if value & 1 == 0 {
        return Ok(());
    }
    Err(HeapError::OddValue { value })
}

impl Local {
    /// Makes the pending block at `block` reachable through a cell that has `expected`.
    pub(crate) fn link(
        &mut self,
        on: &Process,
        (address, expected): (usize, u64),
        block: usize,
    ) -> Result<(), HeapError> {
        check_even(expected)?;
        let cell = on.cell(address)?;
        self.check_pending(on, block)?;
        let Some(slot) = on.control.slot(self.slot) else {
            return Err(HeapError::TooManyThreads);
        };
        let number = slot.intent.begin(LINK, address, block, block as u64);
        let mark = mark(self.slot, number);
        if planted!("cell.publishes_before_it_links") {
            self.publish(on, block)?;
            crash_point!("heap.linked");
        }
        if let Err(error) = on.change(cell, expected, mark) {
            slot.intent.end();
            return Err(error);
        }
        // From here on somebody may retire it, and it may be the last of its chunk.
        let _busy = on.chunks.busy(self.slot);
        crash_point!("heap.cell_marked");
        let published = self.publish(on, block);
        crash_point!("heap.linked");
        if planted!("cell.clears_the_intent_first") {
            slot.intent.end();
        }
        finish(cell, mark, block as u64);
        slot.intent.end();
        // Whoever has retired the block since, or given it out again, found it linked.
        drop(published);
        Ok(())
    }

    /// Makes the block at `block` unreachable through a cell, which has `value` then, and frees
    /// it.
    pub(crate) fn retire(
        &mut self,
        on: &Process,
        (address, value): (usize, u64),
        block: usize,
    ) -> Result<(), HeapError> {
        check_even(value)?;
        let cell = on.cell(address)?;
        if let Place::Slab { slab, index, .. } = on.place_at(block)?
            && slab.allocated(index >> 6).load(Relaxed) >> (index & 63) & 1 == 0
        {
            return Err(HeapError::DoubleFree { address: block });
        }
        let Some(slot) = on.control.slot(self.slot) else {
            return Err(HeapError::TooManyThreads);
        };
        self.say_retiring(on);
        // When the block is free, it may be the last of its chunk.
        let _busy = on.chunks.busy(self.slot);
        let number = slot.intent.begin(RETIRE, address, block, value);
        let mark = mark(self.slot, number);
        if let Err(error) = on.change(cell, block as u64, mark) {
            slot.intent.end();
            return Err(error);
        }
        crash_point!("heap.cell_marked");
        // Not before: another block may have been given out there meanwhile, and linked. From here
        // on the block stays, because the intent stands.
        let place = on.place_at(block);
        let is_twice = match place {
            Ok(Place::Slab { slab, class, index }) => {
                let (word, bit) = (index >> 6, 1 << (index & 63));
                self.tell(on, slab, (class, word), bit) != 0
            }
            Ok(Place::Run(head) | Place::Huge(head)) => !take_run(head, self.owner),
            Err(_) => true,
        };
        crash_point!("heap.retired");
        if planted!("cell.ends_before_it_changes") {
            slot.intent.end();
        }
        finish(cell, mark, value);
        slot.intent.end();
        match place {
            Ok(Place::Run(head)) if !is_twice => frames::release(head),
            // It was spared while the intent stood: now the owner is to look.
            Ok(Place::Slab { slab, .. }) => super::remote::hint(on, slab, slab.owner()),
            _ => {}
        }
        if is_twice {
            return Err(HeapError::DoubleFree { address: block });
        }
        Ok(())
    }

    fn say_retiring(&self, on: &Process) {
        let (member, word, bit) = Control::place_of(self.slot);
        let Some(member) = on.control.members.get(member) else {
            return;
        };
        // A slot says so for as long as it is taken.
        if member.retiring[word].load(Relaxed) & bit == 0 {
            Member::mark(&member.retiring, word, bit);
        }
    }

    /// Whether `block` is one that this heap gave out and nobody published or freed.
    fn check_pending(&self, on: &Process, block: usize) -> Result<(), HeapError> {
        match on.place_at(block)? {
            Place::Slab { slab, class, index } => {
                if slab.owner() != self.owner.slab(class) {
                    return Err(HeapError::NotOwner { address: block });
                }
                if !self.is_pending(slab, (class, index), block) {
                    return Err(HeapError::NotPending { address: block });
                }
            }
            Place::Run(head) | Place::Huge(head) => {
                let owner = head.owner();
                if owner.kind() != Kind::PendingRun {
                    return Err(HeapError::NotPending { address: block });
                }
                if owner != self.owner.pending_run() {
                    return Err(HeapError::NotOwner { address: block });
                }
            }
        }
        Ok(())
    }
}

/// Whether the thread of `owner` is about to link its block at `block`. Then others may have found
/// it in the cell, although it is not published yet, and need not wait until it is.
pub(super) fn is_being_linked(control: &Control, owner: Owner, block: usize) -> bool {
    let slot = owner.slot().and_then(|slot| control.slot(slot));
    let plan = slot.and_then(|slot| slot.intent.read().ok().flatten());
    plan.is_some_and(|plan| plan.kind == LINK && plan.block == block)
}

/// Does the last step, unless somebody has done it.
fn finish(cell: &AtomicU64, mark: u64, value: u64) {
    let _ = cell.compare_exchange(mark, value, AcqRel, Relaxed);
    crash_point!("heap.cell_changed");
}

/// Has a run be one that `heap` makes free; false where it is none that is allocated.
pub(super) fn take_run(head: Frame, heap: Owner) -> bool {
    let owner = &head.descriptor().owner;
    let now = Owner(owner.load(Acquire));
    if !matches!(now.kind(), Kind::Run | Kind::PendingRun) {
        return false;
    }
    owner
        .compare_exchange(now.0, heap.freeing().0, AcqRel, Relaxed)
        .is_ok()
}

/// Takes out of `freed`, bits of the blocks of a slab, those that stand in an intent to retire
/// them, and says whether there were any.
///
/// The caller has read the bits: an intent was there before the bit of its block was.
pub(super) fn spare_in_flight(
    control: &Control,
    slab: Frame,
    class: usize,
    freed: &mut [u64; 64],
) -> bool {
    if planted!("cell.spares_nothing") {
        return false;
    }
    let mut any = false;
    let members = 1..super::control::MEMBERS;
    for index in members.flat_map(|member| control.retiring(member)) {
        let Some(slot) = control.slot(index) else {
            continue;
        };
        match slot.intent.read() {
            Ok(Some(plan)) if plan.kind == RETIRE => {
                let offset = plan.block.wrapping_sub(slab.start());
                let block = offset / block_bytes(class);
                if block < slab_blocks(class) && freed[block / 64] >> (block % 64) & 1 != 0 {
                    freed[block / 64] &= !(1 << (block % 64));
                    any = true;
                }
            }
            Ok(_) => {}
            // It retires one block after the other: next time, then.
            Err(()) => {
                *freed = [0; 64];
                return true;
            }
        }
    }
    any
}

/// Brings to an end what the dead owner of `slot` was about to do, or undoes it.
///
/// Each step may be the last one of whoever does this: the next to recover does it once more.
///
/// False where its cell cannot be reached now: then the slot is to be recovered later.
#[must_use]
pub(super) fn roll(on: &Process, index: usize, slot: &Slot) -> bool {
    let Ok(Some(plan)) = slot.intent.read() else {
        return true;
    };
    let mark = mark(index, plan.number);
    let cell = match on.cell(plan.cell) {
        Ok(cell) => Some(cell),
        Err(HeapError::NoCell { .. }) => None,
        Err(_) => return false,
    };
    let has_mark = cell.is_some_and(|cell| cell.load(Acquire) == mark);
    if has_mark || slot.helped.number.load(Acquire) == plan.number {
        match plan.kind {
            LINK => publish_again(on, plan.block, index),
            _ => retire_again(on, plan.block, index),
        }
        crash_point!("heap.rolled");
        if let Some(cell) = cell {
            finish(cell, mark, plan.value);
        }
    }
    slot.intent.end();
    true
}

/// Publishes a block of a slab of the dead owner of slot `index`.
fn publish_again(on: &Process, block: usize, index: usize) {
    match on.place_at(block) {
        Ok(Place::Slab {
            slab,
            class: _,
            index: block,
        }) if slab.owner().slot() == Some(index) => {
            let (pending, bit) = (slab.pending(block >> 6), 1_u64 << (block & 63));
            pending.store(pending.load(Relaxed) & !bit, Release);
        }
        Ok(Place::Run(head)) if head.owner().slot() == Some(index) => {
            let now = head.owner();
            let owner = &head.descriptor().owner;
            if now.kind() == Kind::PendingRun {
                // Nobody else changes a run that is not reachable yet.
                let _ = owner.compare_exchange(now.0, Owner::RUN.0, AcqRel, Relaxed);
            }
        }
        _ => {}
    }
}

/// Frees a block that the dead owner of slot `index` was about to free.
fn retire_again(on: &Process, block: usize, index: usize) {
    match on.place_at(block) {
        Ok(Place::Slab {
            slab, index: block, ..
        }) => {
            slab.remote(block >> 6).fetch_or(1 << (block & 63), AcqRel);
            // Of a slab that nobody owns whoever adopts it finds the bit.
            super::remote::hint(on, slab, slab.owner());
        }
        Ok(Place::Run(head)) => {
            // Where the dead one had taken it, it is between, and no run any more: its frames
            // become free with the others that its slot left between.
            let freeing = Owner::heap(index, 0);
            take_run(head, freeing);
        }
        _ => {}
    }
}
