//! Memory that nobody uses goes back to the system.
//!
//! A frame that is given back keeps its memory for a while, since it is often wanted again. How
//! much of that is too much is seen by what was never wanted: the least that was idle in the last
//! [`PERIOD_MS`]. At the end of each such time whoever gives frames back gives half of that to the
//! system, and all that is more than [`options::idle_bytes`].
//!
//! So that a load that falls at once does not leave much behind, what is idle is never more than
//! what is in use, or four times [`options::idle_bytes`]: what is more goes back at once, down to
//! half of that.

use core::ops::Range;

use pool_core::planted;
use pool_core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::bits;
use crate::frame::ChunkHead;
use crate::layout::{FRAME_BYTES, FRAMES, HUGE_PAGE_FRAMES};
use crate::window::{WINDOW, Window};
use crate::{options, system};

/// Over which time the least that was idle is taken.
const PERIOD_MS: u64 = 1_000;

#[cfg(not(loom))]
static LAST_MS: AtomicU64 = AtomicU64::new(0);
/// The least frames that were idle since then.
#[cfg(not(loom))]
static LEAST: AtomicUsize = AtomicUsize::new(0);
#[cfg(loom)]
pool_core::sync::lazy_static! {
    static ref LAST_MS: AtomicU64 = AtomicU64::new(0);
    static ref LEAST: AtomicUsize = AtomicUsize::new(0);
}

/// To be called after frames were given back.
pub(crate) fn after_release() {
    let (idle, used) = (WINDOW.idle.load(Relaxed), WINDOW.used.load(Relaxed));
    let kept = options::idle_bytes() / FRAME_BYTES;
    let most = used.max(kept.saturating_mul(4));
    if idle > most {
        WINDOW.purge(idle - most / 2);
    } else if is_due() {
        let least = LEAST.swap(idle, Relaxed);
        WINDOW.purge(least.saturating_sub(kept).max(least.div_ceil(2)));
    }
}

/// Notes that no more than `frames` are idle.
pub(crate) fn note_idle(frames: usize) {
    LEAST.fetch_min(frames, Relaxed);
}

fn is_due() -> bool {
    let (now, last) = (system::coarse_ms(), LAST_MS.load(Relaxed));
    now.saturating_sub(last) >= PERIOD_MS
        && LAST_MS
            .compare_exchange(last, now, Relaxed, Relaxed)
            .is_ok()
}

/// The bits of those huge pages of which all bits are set.
fn whole_huge_pages(idle: u64) -> u64 {
    let page = bits::below(HUGE_PAGE_FRAMES);
    (0..64 / HUGE_PAGE_FRAMES)
        .map(|index| page << (index * HUGE_PAGE_FRAMES))
        .filter(|&page| idle & page == page)
        .fold(0, |all, page| all | page)
}

impl Window {
    /// Gives the memory of `frames` idle frames back, from the end of the window. Whole huge pages
    /// first: what is left of one whose part is given back may take as much memory as before.
    pub(crate) fn purge(&self, frames: usize) {
        let left = self.purge_among(frames, whole_huge_pages);
        self.purge_among(left, |idle| idle);
    }

    /// Gives back `frames` idle frames of those that `choose` leaves of each word; how many fewer
    /// they were.
    fn purge_among(&self, frames: usize, choose: impl Fn(u64) -> u64) -> usize {
        let mut left = frames;
        for (chunk, head) in self.heads().rev() {
            for index in (0..FRAMES / 64).rev() {
                if left == 0 {
                    return 0;
                }
                let idle = head.dirty[index].load(Relaxed) & !head.taken[index].load(Relaxed);
                let done = self.purge_word(chunk, head, index, choose(idle));
                left = left.saturating_sub(done);
            }
        }
        left
    }

    /// Gives back the frames of word `index` that are in `idle`, in as few calls as that takes.
    fn purge_word(&self, chunk: usize, head: &ChunkHead, index: usize, idle: u64) -> usize {
        let (mut rest, mut done) = (idle, 0);
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let length = (!(rest >> first)).trailing_zeros() as usize;
            rest &= !(bits::below(length) << first);
            let range = index * 64 + first..index * 64 + first + length;
            done += self.purge_range(chunk, head, &range);
        }
        done
    }

    fn purge_range(&self, chunk: usize, head: &ChunkHead, range: &Range<usize>) -> usize {
        if !bits::reserve(&head.taken, range) {
            return 0;
        }
        self.take_out(head, range.len());
        let memory = chunk + range.start * FRAME_BYTES..chunk + range.end * FRAME_BYTES;
        // SAFETY: the frames are taken, and nothing begins there.
        let is_gone = unsafe { system::discard(&memory) };
        if is_gone {
            self.idle
                .fetch_sub(bits::count(&head.dirty, range), Relaxed);
            if !planted!("purge.is_clean_late") {
                bits::clear(&head.dirty, range);
            }
        }
        self.put_back(chunk, head, range);
        if planted!("purge.is_clean_late") {
            bits::clear(&head.dirty, range);
        }
        if is_gone { range.len() } else { 0 }
    }
}
