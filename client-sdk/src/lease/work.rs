//! Lending a unit to a worker that stands for an accelerator.
//!
//! An accelerator is no member: it works in the memory of its host's place, by addresses, and tells
//! by an event that it has ended. So the host leases the units for writing, starts the work, and
//! lends the guard to it. Until the event has come the units are not let go, whatever becomes of
//! the guard: a worker that still writes must not meet the next holder.

use std::fmt;
use std::time::Duration;

use pool_core::clock::Deadline;
use pool_core::futex::Waited;
use pool_core::sync::atomic::Ordering;

use super::deadline;
use super::error::LeaseError;
use super::write::WriteGuard;
use crate::atomic::SharedU32;
use crate::error::Error;

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Progress {
    /// The worker may still write.
    Running = 0,
    /// It has ended, and the contents are whole.
    Done = 1,
    /// It has ended, and the contents are not whole.
    Failed = 2,
}

impl Progress {
    /// Tells it by a word that processes share: the worker's side of a [`SharedU32`] that is a
    /// [`Completion`].
    ///
    /// # Errors
    /// As [`SharedU32::store`] and [`SharedU32::wake`].
    pub fn tell(self, word: &SharedU32<'_>) -> Result<(), Error> {
        // Release pairs with the acquire of whoever waits: it sees what the worker wrote.
        word.store(self as u32, Ordering::Release)?;
        word.wake(u32::MAX).map(|_| ())
    }
}

/// The event by which a worker tells that it has ended: a stream's event of an accelerator, or a
/// word.
pub trait Completion {
    /// Waits at most `timeout` until the worker has ended, and says how far it is. With no time it
    /// only looks. Whoever is told that it has ended sees all that it wrote.
    ///
    /// # Errors
    /// [`Error`] where that cannot be known.
    fn wait(&self, timeout: Duration) -> Result<Progress, Error>;
}

/// A word that is zero while the worker runs, and then what [`Progress::tell`] stored: any other
/// number than that of done is a failure. It lies in memory of its own, not in the units that are
/// lent.
impl Completion for SharedU32<'_> {
    fn wait(&self, timeout: Duration) -> Result<Progress, Error> {
        const RUNNING: u32 = Progress::Running as u32;
        const DONE: u32 = Progress::Done as u32;
        let until = deadline(timeout);
        loop {
            match self.load(Ordering::Acquire)? {
                RUNNING => {}
                DONE => return Ok(Progress::Done),
                _ => return Ok(Progress::Failed),
            }
            if until.expired() || SharedU32::wait(self, RUNNING, left(until))? == Waited::TimedOut {
                break;
            }
        }
        match self.load(Ordering::Acquire)? {
            RUNNING => Ok(Progress::Running),
            DONE => Ok(Progress::Done),
            _ => Ok(Progress::Failed),
        }
    }
}

fn left(until: Deadline) -> Duration {
    Duration::from_nanos(until.remaining().get())
}

/// Units that are lent to a worker, which alone writes them.
///
/// Dropped, it looks once more. Where the work is done the contents are published; where it failed
/// they are given up. Where it still runs the units stay held by this process, until it closes the
/// domain or ends: nobody else could be safe from the worker.
#[must_use = "dropped before the work is done, the units stay held"]
pub struct Lent<'d, C: Completion> {
    /// `None` once it was given back.
    guard: Option<WriteGuard<'d>>,
    work: C,
}

impl<'d> WriteGuard<'d> {
    /// Lends the units to a worker that ends with `work`. What was written by now is written back
    /// before, and all of the range counts as written by the worker.
    ///
    /// # Errors
    /// [`LeaseError`] where the lease does not stand. Start the worker afterwards only.
    pub fn lend<C: Completion>(mut self, work: C) -> Result<Lent<'d, C>, LeaseError> {
        self.check()?;
        self.write_back()?;
        self.mark_all();
        let guard = Some(self);
        Ok(Lent { guard, work })
    }
}

impl<'d, C: Completion> Lent<'d, C> {
    /// Waits at most `timeout` until the worker has ended, and gives the guard back then. `None`
    /// while it runs: wait on, or make sure that it has ended and [abandon](Self::abandon) the
    /// contents.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] where the worker failed: the contents were given up. [`LeaseError`]
    /// where the lease does not stand, or cannot be known to.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<WriteGuard<'d>>, LeaseError> {
        if let Some(guard) = &self.guard {
            // First: in a forked child nothing of it is there.
            guard.lease.units.held.check_standing()?;
        }
        match self.work.wait(timeout)? {
            Progress::Running => Ok(None),
            Progress::Done => {
                let Some(guard) = self.guard.take() else {
                    return Ok(None);
                };
                let units = guard.lease.units;
                let end = units.start.saturating_add(units.bytes);
                let caches = &units.membership.caches;
                caches.invalidate(units.held, units.start, end);
                guard.check()?;
                Ok(Some(guard))
            }
            Progress::Failed => match self.guard.take() {
                Some(guard) => {
                    let unit = guard.lease.units.first;
                    let last_good = guard.version();
                    guard.abandon()?;
                    Err(LeaseError::Lost { unit, last_good })
                }
                None => Ok(None),
            },
        }
    }

    /// Gives the contents up, and the units with them, of a worker that is known to have ended and
    /// never told so: its process is dead, or its accelerator was reset.
    ///
    /// # Errors
    /// As [`WriteGuard::abandon`].
    pub fn abandon(mut self) -> Result<(), LeaseError> {
        self.guard.take().map_or(Ok(()), WriteGuard::abandon)
    }
}

impl<C: Completion> Drop for Lent<'_, C> {
    fn drop(&mut self) {
        // Whoever wants to know what became of it waits. A guard that comes back is released.
        drop(self.wait(Duration::ZERO));
        if let Some(guard) = &mut self.guard {
            guard.keep_held();
        }
    }
}

impl<C: Completion> fmt::Debug for Lent<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lent({:?})", self.guard)
    }
}
