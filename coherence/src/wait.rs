//! How a thread sleeps until a word changes, and how those who sleep are woken.
//!
//! Whoever sleeps has said so in shared memory first, has then read the event word, and has looked
//! once more whether it must sleep. Whoever wakes takes the saying back, moves the event word on,
//! and wakes. So either the sleeper sees the change when it looks once more, or the event word
//! moves after it was read, and the sleep ends at once.
//!
//! A waker that dies between the two leaves a sleeper that nobody wakes, which no lock can mend: so
//! no sleep is longer than [`WAIT_CAP`], and every sleeper looks again by itself.

use pool_core::clock::Deadline;
use pool_core::sync::atomic::AtomicU32;
use pool_core::{Nanos, sync};

/// The longest sleep: 50 ms. A sleeper then looks again.
pub const WAIT_CAP: Nanos = Nanos::new(50_000_000);

/// Sleeping and waking.
pub trait Wait {
    /// Sleeps until somebody wakes `word`, at most until `until` and no longer than [`WAIT_CAP`];
    /// not at all where the word is another one than `seen`. It may return early.
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline);

    /// Wakes all who sleep.
    fn wake_all(&self, word: &AtomicU32);
}

impl<W: Wait + ?Sized> Wait for &W {
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
        (**self).wait(word, seen, until);
    }

    fn wake_all(&self, word: &AtomicU32) {
        (**self).wake_all(word);
    }
}

/// Sleeping on a futex: between all processes that map the word.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, Default)]
pub struct FutexWait;

#[cfg(not(loom))]
impl Wait for FutexWait {
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
        let until = until.min(Deadline::after(WAIT_CAP));
        // Whatever the kernel says, the sleeper looks again: a word that cannot be waited for is
        // looked at more often, and its caller's deadline ends that.
        if pool_core::futex::wait(word, seen, until).is_err() {
            sync::thread::yield_now();
        }
    }

    fn wake_all(&self, word: &AtomicU32) {
        // It fails for a word that is mapped no more: nobody can sleep on that for longer than a
        // cap.
        let _ = pool_core::futex::wake(word, u32::MAX);
    }
}

/// Sleeping on a condition variable, for models: between the threads of one process.
///
/// It has no cap, so that a wake-up that is lost shows as a thread that sleeps for ever.
#[derive(Debug, Default)]
pub struct ModelWait {
    turn: sync::Mutex<()>,
    woken: sync::Condvar,
}

impl Wait for ModelWait {
    fn wait(&self, word: &AtomicU32, seen: u32, _until: Deadline) {
        let turn = sync::lock(&self.turn);
        // Relaxed: the lock orders it with `wake_all`, as the kernel's lock does.
        if word.load(sync::atomic::Ordering::Relaxed) == seen {
            drop(self.woken.wait(turn));
        }
    }

    fn wake_all(&self, _word: &AtomicU32) {
        let _turn = sync::lock(&self.turn);
        self.woken.notify_all();
    }
}
