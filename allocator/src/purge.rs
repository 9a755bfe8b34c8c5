//! Memory that nobody uses goes back to the system.
//!
//! A frame that is given back keeps its memory for a while, since it is often wanted again. Idle
//! frames may be a quarter of those in use, and [`options::idle_bytes`] at least; what is more is
//! given back at once, down to half of that. What was idle for long goes back as well: at most
//! once in [`PERIOD_MS`], whoever gives frames back halves what is idle.

use core::ops::Range;

use pool_core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::bits;
use crate::frame::ChunkHead;
use crate::layout::{FRAME_BYTES, FRAMES};
use crate::window::{WINDOW, Window};
use crate::{options, system};

/// How often idle memory is halved while frames come and go.
const PERIOD_MS: u64 = 1_000;

static LAST_MS: AtomicU64 = AtomicU64::new(0);

/// To be called after frames were given back.
pub(crate) fn after_release() {
    let idle = WINDOW.idle.load(Relaxed);
    let most = (WINDOW.used.load(Relaxed) / 4).max(options::idle_bytes() / FRAME_BYTES);
    if idle > most {
        WINDOW.purge(idle - most / 2);
    } else if idle != 0 && is_due() {
        WINDOW.purge(idle.div_ceil(2));
    }
}

fn is_due() -> bool {
    let (now, last) = (system::coarse_ms(), LAST_MS.load(Relaxed));
    now.saturating_sub(last) >= PERIOD_MS
        && LAST_MS
            .compare_exchange(last, now, Relaxed, Relaxed)
            .is_ok()
        && last != 0
}

impl Window {
    /// Gives the memory of `frames` idle frames back, from the end of the window.
    pub(crate) fn purge(&self, frames: usize) {
        let mut left = frames;
        for (chunk, head) in self.heads().rev() {
            for index in (0..FRAMES / 64).rev() {
                if left == 0 {
                    return;
                }
                let idle = head.dirty[index].load(Relaxed) & !head.taken[index].load(Relaxed);
                left = left.saturating_sub(self.purge_word(chunk, head, index, idle));
            }
        }
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
            bits::clear(&head.dirty, range);
        }
        self.put_back(chunk, head, range);
        if is_gone { range.len() } else { 0 }
    }
}
