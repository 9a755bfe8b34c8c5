//! How a thread sleeps until a word changes, and how those who sleep are woken.
//!
//! Whoever sleeps has said so in shared memory first, has then read the event word, and has looked
//! once more whether it must sleep. Whoever wakes takes the saying back, moves the event word on,
//! and wakes. So either the sleeper sees the change when it looks once more, or the event word
//! moves after it was read, and the sleep ends at once.
//!
//! A waker that dies between the two leaves a sleeper that nobody wakes, which no lock can mend: so
//! no sleep is longer than [`WAIT_CAP`], and every sleeper looks again by itself.

#[cfg(not(loom))]
use pool_core::clock::Backoff;
use pool_core::clock::Deadline;
#[cfg(not(loom))]
use pool_core::futex;
use pool_core::sync::atomic::{AtomicU32, Ordering::Acquire};
use pool_core::sync::{Condvar, Mutex, lock};
use pool_core::units::Nanos;

/// The longest sleep, 50 ms: past it a sleeper looks again, whether or not it was woken.
pub const WAIT_CAP: Nanos = Nanos::from_millis(50);

/// How a thread sleeps until a word changes, and wakes those who sleep. Futex in processes, a
/// condition variable in models.
pub trait Wait {
    /// Sleeps while `word` is `seen`, at most until `until` and at most [`WAIT_CAP`]. May return
    /// early: look again.
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline);

    /// Wakes all who sleep on `word`.
    fn wake_all(&self, word: &AtomicU32);

    /// Whether whoever sleeps is to give up, though its time is not over. Asked between sleeps.
    fn is_over(&self) -> bool {
        false
    }
}

impl<W: Wait + ?Sized> Wait for &W {
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
        (**self).wait(word, seen, until);
    }

    fn wake_all(&self, word: &AtomicU32) {
        (**self).wake_all(word);
    }

    fn is_over(&self) -> bool {
        (**self).is_over()
    }
}

/// Waits with a futex: works between processes that map the word at different addresses.
///
/// Where the kernel refuses to wait (a word without a page, or a filter of system calls), a sleep
/// is one of 1 ms: waiting becomes polling, and nothing is lost but time.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, Default)]
pub struct FutexWait;

#[cfg(not(loom))]
impl Wait for FutexWait {
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
        let until = until.min(Deadline::after(WAIT_CAP));
        if futex::wait(word, seen, until).is_err() {
            let millisecond = Nanos::from_millis(1);
            let _in_time = Backoff::new(millisecond, millisecond).pause(until);
        }
    }

    fn wake_all(&self, word: &AtomicU32) {
        // A refused wake costs the sleepers what a dead waker does: at most one cap.
        let _woken = futex::wake(word, u32::MAX);
    }
}

/// Waits with a lock and a condition variable, for models and for tests: all who wait share one
/// value of it.
///
/// Under loom there is no cap, so that a lost wake-up is a deadlock, which loom reports.
#[derive(Debug, Default)]
pub struct ModelWait {
    turn: Mutex<()>,
    changed: Condvar,
}

impl ModelWait {
    /// A value nobody waits with yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Wait for ModelWait {
    fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
        let turn = lock(&self.turn);
        // A waker changes the word before it takes the lock: either the change is seen here, or the
        // wake comes after the sleep began. Acquire is not needed for that, the lock orders both.
        if word.load(Acquire) != seen {
            return;
        }
        self.sleep(turn, until);
    }

    fn wake_all(&self, _word: &AtomicU32) {
        let _turn = lock(&self.turn);
        self.changed.notify_all();
    }
}

impl ModelWait {
    #[cfg(loom)]
    fn sleep(&self, turn: pool_core::sync::MutexGuard<'_, ()>, _until: Deadline) {
        drop(
            self.changed
                .wait(turn)
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    #[cfg(not(loom))]
    fn sleep(&self, turn: pool_core::sync::MutexGuard<'_, ()>, until: Deadline) {
        let left = until.remaining().min(WAIT_CAP);
        let slept = self
            .changed
            .wait_timeout(turn, core::time::Duration::from_nanos(left.get()));
        drop(slept.unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use pool_core::sync::atomic::Ordering::Release;
    use pool_core::sync::{Arc, thread};

    use super::*;

    fn a_change_ends_the_wait(wait: &(impl Wait + Clone + Send + 'static)) {
        let word = Arc::new(AtomicU32::new(7));
        let (sleeper, waiting) = (Arc::clone(&word), wait.clone());
        let sleeper = thread::spawn(move || {
            while sleeper.load(Acquire) == 7 {
                waiting.wait(&sleeper, 7, Deadline::NEVER);
            }
        });
        word.store(8, Release);
        wait.wake_all(&word);
        sleeper.join().unwrap();
    }

    fn nobody_sleeps_past_the_cap(wait: &impl Wait) {
        wait.wait(&AtomicU32::new(7), 7, Deadline::NEVER);
        wait.wait(&AtomicU32::new(7), 8, Deadline::NEVER);
        wait.wait(&AtomicU32::new(7), 7, Deadline::at(Nanos::ZERO));
    }

    #[test]
    fn a_change_ends_the_wait_of_a_futex() {
        a_change_ends_the_wait(&FutexWait);
    }

    #[test]
    fn a_wait_without_a_wake_ends() {
        nobody_sleeps_past_the_cap(&FutexWait);
        nobody_sleeps_past_the_cap(&ModelWait::new());
    }

    impl Wait for Arc<ModelWait> {
        fn wait(&self, word: &AtomicU32, seen: u32, until: Deadline) {
            ModelWait::wait(self, word, seen, until);
        }

        fn wake_all(&self, word: &AtomicU32) {
            ModelWait::wake_all(self, word);
        }
    }

    #[test]
    fn a_change_ends_the_wait_of_a_model() {
        a_change_ends_the_wait(&Arc::new(ModelWait::new()));
    }
}
