//! Blocks that are larger than any slab has: runs of frames in a chunk.

use pool_core::crash_point;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::cell::take_run;
use super::error::HeapError;
use super::frames;
use super::local::{Given, Local};
use super::process::Process;
use crate::frame::Frame;
use crate::layout::{Cut, FRAME_BYTES};
use crate::owner::{Kind, Owner};

/// The largest run, and the largest alignment: half a chunk.
pub(crate) const RUN_BYTES: usize = 32 << 20;

impl Local {
    /// A run of `bytes`, at a multiple of `align`, pending.
    pub(crate) fn allocate_run(
        &mut self,
        on: &Process,
        bytes: usize,
        align: usize,
    ) -> Result<Given, HeapError> {
        on.check()?;
        if bytes > RUN_BYTES || align > RUN_BYTES {
            return Err(HeapError::TooLarge { bytes, align });
        }
        let frames = bytes.div_ceil(FRAME_BYTES).max(1);
        let align = align.div_ceil(FRAME_BYTES).max(1);
        let claim = on.claim(self.owner, (frames, align), (Cut::Ordinary, self.tier))?;
        crash_point!("heap.run_claimed");
        let owner = &claim.head.descriptor().owner;
        owner.store(self.owner.pending_run().0, Release);
        crash_point!("heap.run_made");
        self.forget_runs();
        self.runs.push(claim.head);
        Ok(Given {
            address: claim.head.start(),
            is_zero: claim.is_zero,
        })
    }

    /// Forgets runs that are published or free.
    pub(super) fn forget_runs(&mut self) {
        let pending = self.owner.pending_run();
        self.runs.retain(|run| run.owner() == pending);
    }

    /// Takes the pending runs of another thread of this process, which gives them up.
    pub(super) fn take_runs(&mut self, of: &mut Self) {
        let (old, new) = (of.owner.pending_run(), self.owner.pending_run());
        for run in of.runs.drain(..) {
            let owner = &run.descriptor().owner;
            // Somebody may have linked it meanwhile.
            let taken = owner.compare_exchange(old.0, new.0, AcqRel, Relaxed);
            crash_point!("heap.run_kept");
            if taken.is_ok() {
                self.runs.push(run);
            }
        }
    }

    pub(super) fn publish_run(&self, head: Frame) -> Result<(), HeapError> {
        let address = head.start();
        let owner = &head.descriptor().owner;
        let pending = self.owner.pending_run();
        let published = owner.compare_exchange(pending.0, Owner::RUN.0, AcqRel, Relaxed);
        published
            .map(|_| ())
            .map_err(|now| match Owner(now).kind() {
                Kind::PendingRun => HeapError::NotOwner { address },
                _ => HeapError::NotPending { address },
            })
    }

    pub(super) fn free_run(&self, on: &Process, head: Frame) -> Result<(), HeapError> {
        let (address, owner) = (head.start(), head.owner());
        // As in `free_away`.
        if owner.kind() == Kind::PendingRun
            && owner != self.owner.pending_run()
            && !super::cell::is_being_linked(on.control, owner, address)
            && head.owner() == owner
        {
            return Err(HeapError::NotOwner { address });
        }
        if !take_run(head, self.owner) {
            return Err(HeapError::DoubleFree { address });
        }
        crash_point!("heap.run_freeing");
        frames::release(head);
        Ok(())
    }

    /// Has the run at `head` have room for `bytes`, where it is; whether it could.
    pub(super) fn resize_run(head: Frame, bytes: usize) -> bool {
        let (old, new) = (frames::extent(head), bytes.div_ceil(FRAME_BYTES).max(1));
        // Acquire pairs with whoever made it.
        let kind = Owner(head.descriptor().owner.load(Acquire)).kind();
        if bytes > RUN_BYTES || !matches!(kind, Kind::Run | Kind::PendingRun) {
            return false;
        }
        if new < old {
            frames::release_end(head, new);
        }
        new <= old || frames::extend(head, new)
    }
}
