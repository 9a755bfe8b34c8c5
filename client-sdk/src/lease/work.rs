//! Lending a unit to a worker that stands for an accelerator.
//!
//! An accelerator is no member: it works in the memory of its host's place, by addresses, and tells
//! by an event that it has ended. So the host leases the units for writing, starts the work, and
//! lends the guard to it. Until the event has come the units are not let go, whatever becomes of
//! the guard: a worker that still writes must not meet the next holder.
//!
//! # States
//! *Running*, then *given back* or *over*, which are final: the guard comes back once, and whoever
//! asks again is told which of the two it was.
//!
//! # Closing the domain
//! A member that leaves has let go of everything: the daemon takes back at once what it finds in
//! its slot. So what is lent keeps a reference of the segment and of the session, beside those of
//! the handles. It is dropped once the worker has ended, and never where that is not known, not
//! even where the value is forgotten. The end of the process remains: it is the end of the mapping
//! that the worker uses, and a worker that goes on even then has to be stopped by whoever
//! started it.

use std::fmt;
use std::mem::ManuallyDrop;
use std::time::Duration;

use pool_core::clock::Deadline;
use pool_core::futex::Waited;
use pool_core::sync::atomic::Ordering;

use super::deadline;
use super::error::LeaseError;
use super::write::WriteGuard;
use crate::atomic::SharedU32;
use crate::error::Error;
use crate::segment::Segment;

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
/// they are given up. Where it still runs the units stay held by this process until it ends: nobody
/// else could be safe from the worker. So does the domain then, with the addresses the worker has,
/// whatever becomes of its handles.
#[must_use = "dropped before the work is done, the units stay held"]
pub struct Lent<'d, C: Completion> {
    state: State<'d>,
    work: C,
}

/// What a worker has to do with the units.
#[derive(Debug)]
enum State<'d> {
    /// It may write them.
    Running {
        guard: WriteGuard<'d>,
        /// Keeps the mapping, the place among the members and the session.
        keep: Segment,
    },
    /// It has ended, and the guard is the program's.
    GivenBack { unit: u32 },
    /// It has ended, and there is nothing to be given back: this is why.
    Over(LeaseError),
}

/// How far units are that were lent.
#[derive(Debug)]
#[must_use = "a guard in it is let go of"]
pub enum Loan<'d> {
    /// The worker may still write. Wait on, or make sure that it has ended and
    /// [abandon](Lent::abandon) the contents.
    Running,
    /// The work is done. This is the guard that was lent: nothing is lent any more.
    Back(WriteGuard<'d>),
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
        let keep = self.lease.units.domain.segment().keep();
        let state = State::Running { guard: self, keep };
        Ok(Lent { state, work })
    }
}

impl<'d, C: Completion> Lent<'d, C> {
    /// Waits at most `timeout` until the worker has ended, and gives the guard back then, once.
    ///
    /// # Errors
    /// [`LeaseError::NotLent`] where the guard was given back before. [`LeaseError::Lost`] where
    /// the worker failed: the contents were given up. [`LeaseError`] where the lease does not
    /// stand, or cannot be known to; the units stay lent where it cannot be known.
    pub fn wait(&mut self, timeout: Duration) -> Result<Loan<'d>, LeaseError> {
        let guard = match &self.state {
            State::Running { guard, .. } => guard,
            State::GivenBack { unit } => return Err(LeaseError::NotLent { unit: *unit }),
            State::Over(why) => return Err(why.clone()),
        };
        // First: in a forked child nothing of it is there.
        guard.lease.units.held.check_standing()?;
        match self.work.wait(timeout)? {
            Progress::Running => Ok(Loan::Running),
            Progress::Done => self.end(|guard| {
                let units = guard.lease.units;
                let end = units.start.saturating_add(units.bytes);
                let caches = &units.membership.caches;
                caches.invalidate(units.held, units.start, end)?;
                guard.check()?;
                Ok(Loan::Back(guard))
            }),
            Progress::Failed => self.end(|guard| {
                let unit = guard.lease.units.first;
                let last_good = guard.version();
                guard.abandon()?;
                Err(LeaseError::Lost { unit, last_good })
            }),
        }
    }

    /// Gives the contents up, and the units with them, of a worker that is known to have ended and
    /// never told so: its process is dead, or its accelerator was reset.
    ///
    /// # Errors
    /// [`LeaseError::NotLent`] where the guard was given back before: abandon that. Otherwise as
    /// [`Lent::wait`] and [`WriteGuard::abandon`].
    pub fn abandon(mut self) -> Result<(), LeaseError> {
        self.end(WriteGuard::abandon)
    }

    /// Takes the guard back from a worker that has ended.
    fn end<R>(
        &mut self,
        take: impl FnOnce(WriteGuard<'d>) -> Result<R, LeaseError>,
    ) -> Result<R, LeaseError> {
        let unit = match &self.state {
            State::Running { guard, .. } => guard.lease.units.first,
            State::GivenBack { unit } => *unit,
            State::Over(why) => return Err(why.clone()),
        };
        match std::mem::replace(&mut self.state, State::GivenBack { unit }) {
            State::Running { guard, keep } => {
                let taken = take(guard);
                if let Err(why) = &taken {
                    self.state = State::Over(why.clone());
                }
                drop(keep);
                taken
            }
            _ => Err(LeaseError::NotLent { unit }),
        }
    }
}

impl<C: Completion> Drop for Lent<'_, C> {
    fn drop(&mut self) {
        // Whoever wants to know what became of it waits. A guard that comes back is released.
        drop(self.wait(Duration::ZERO));
        let over = State::GivenBack { unit: 0 };
        if let State::Running { mut guard, keep } = std::mem::replace(&mut self.state, over) {
            guard.keep_held();
            // Never closed: the daemon would take the units back and lend them to others, for it
            // knows nothing of the worker.
            let _kept = ManuallyDrop::new(keep);
        }
    }
}

impl<C: Completion> fmt::Debug for Lent<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lent({:?})", self.state)
    }
}
