//! The waiting handshake; see the module of rings for its proof.

use pool_core::clock::{Deadline, TimedOut, now};
use pool_core::planted;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use pool_core::sync::atomic::{AtomicU32, fence};
use pool_core::sync::hint;

use super::RingError;
use crate::wait::Wait;

/// How often a sleeper looks before it sleeps: about the time of a wake-up across cores. None in a
/// model, where each look is a step of its own.
const SPINS: u32 = if cfg!(loom) { 0 } else { 256 };

/// Two words by which one side tells the other that the ring has changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signal<'a> {
    /// Rises with each wake.
    pub(super) event: &'a AtomicU32,
    /// Not zero: somebody sleeps, or is about to.
    pub(super) waiters: &'a AtomicU32,
}

impl Signal<'_> {
    /// Tries until `attempt` answers, and sleeps between, at most until `until`.
    pub(super) fn until<T>(
        &self,
        wait: &impl Wait,
        until: Deadline,
        mut attempt: impl FnMut() -> Result<Option<T>, RingError>,
    ) -> Result<T, RingError> {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        for _ in 0..SPINS {
            hint::spin_loop();
            if let Some(done) = attempt()? {
                return Ok(done);
            }
        }
        let start = now();
        loop {
            // Before the flag is set: a waker that clears it raises the event after this value, so
            // that we cannot sleep with the flag cleared. Acquire pairs with the release in
            // `notify`: where we read a raised event, the flag was cleared before we set it.
            let mut seen = self.event.load(Acquire);
            self.waiters.store(1, Relaxed);
            if planted!("ring.event_read_after_flag") {
                seen = self.event.load(Acquire);
            }
            // Pairs with the fence in `notify`.
            if !planted!("ring.sleeps_without_fence") {
                fence(SeqCst);
            }
            if !planted!("ring.sleeps_without_recheck")
                && let Some(done) = attempt()?
            {
                return Ok(done);
            }
            if until.expired() {
                let waited = now().saturating_since(start);
                return Err(TimedOut { waited }.into());
            }
            wait.wait(self.event, seen, until);
            if let Some(done) = attempt()? {
                return Ok(done);
            }
        }
    }

    /// Wakes those who sleep; the ring has changed before.
    #[inline]
    pub(super) fn notify(&self, wait: &impl Wait) {
        // Pairs with the fence in `until`: either its attempt sees our change, or we see its flag.
        if !planted!("ring.wakes_without_fence") {
            fence(SeqCst);
        }
        // Read before it is written: the line stays shared as long as nobody sleeps.
        if self.waiters.load(Relaxed) != 0 && self.waiters.swap(0, Relaxed) != 0 {
            if !planted!("ring.event_not_raised") {
                self.event.fetch_add(1, Release);
            }
            wait.wake_all(self.event);
        }
    }
}
