//! What a model has for the operating system: memory that is always there, time that stands still,
//! and an end of the process that a model can see.

use core::ops::Range;

use pool_core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::frame::Frame;
use crate::layout::FRAME_BYTES;

/// What a thread unwinds with that would have ended the process.
#[derive(Debug)]
pub(crate) struct Ended;

pool_core::sync::lazy_static! {
    static ref IS_EXPECTED: AtomicBool = AtomicBool::new(false);
}

/// From now on an end of the process is what the model waits for, not its failure.
pub(crate) fn expect_an_end() {
    IS_EXPECTED.store(true, Relaxed);
}

#[must_use]
pub(crate) fn commit(_: &Range<usize>) -> bool {
    true
}

/// # Safety
/// None is needed: there is no memory.
#[must_use]
pub(crate) unsafe fn discard(range: &Range<usize>) -> bool {
    for start in range.clone().step_by(FRAME_BYTES) {
        // SAFETY: an address in the one chunk, whose metadata is there.
        unsafe { Frame::of(start) }.write_content(0);
    }
    true
}

pub(crate) fn advise_huge(_: &Range<usize>) {}

/// # Safety
/// None is needed: there is no memory.
#[must_use]
pub(crate) unsafe fn decommit(_: &Range<usize>) -> bool {
    true
}

/// # Safety
/// None is needed: there is no memory.
#[must_use]
pub(crate) unsafe fn relocate(_: &Range<usize>, _: usize) -> bool {
    true
}

pub(crate) fn coarse_ms() -> u64 {
    0
}

pub(crate) fn tell(text: &[u8]) {
    if !IS_EXPECTED.load(Relaxed) {
        eprint!("{}", String::from_utf8_lossy(text));
    }
}

pub(crate) fn abort() -> ! {
    if IS_EXPECTED.load(Relaxed) {
        // Without a message for each schedule.
        std::panic::resume_unwind(Box::new(Ended));
    }
    panic!("the process ends: see the line before");
}
