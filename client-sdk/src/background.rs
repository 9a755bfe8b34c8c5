//! The one thread of a session: it hears events, takes the session up again, has requests resolved
//! that were not answered in time, tells the daemon what is queued, and keeps reserves filled.
//!
//! It also holds the session's robust word (see [`pool_core::futex::RobustWord`]), by which the
//! daemon learns of the death of the process before its memory is taken down.
//!
//! Events are acted upon as they come, whatever call is under way. What needs the session is done
//! when the session is free, in steps between which calls have their turn: where a call holds it,
//! the end of the call wakes the thread. After a step that failed there is a pause.

use std::ops::Bound;
use std::os::fd::AsFd;
use std::sync::mpsc::{SyncSender, sync_channel};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use pool_core::bare_thread::BareThread;
use pool_core::clock::Deadline;
use pool_core::futex::{RobustError, RobustWord};
use pool_core::sync::atomic::Ordering;
use pool_core::sync::{Arc, lock};
use pool_core::{Bytes, Nanos, SegmentId};
use pool_proto::session::v1::{self as session, request};

use crate::error::{AccessError, Error, Reason};
use crate::reserve::Reserves;
use crate::session::ATTEMPT;
use crate::shared::{SessionGuard, Shared};

/// Where the robust word lies in the liveness page.
const ROBUST_WORD: Bytes = Bytes::ZERO;
/// The first and the longest pause before work that failed is tried again. A client that comes back
/// late to a daemon that restarted is told nothing of what was revoked meanwhile.
const RETRY_FIRST: Nanos = Nanos::from_millis(1);
const RETRY_LONGEST: Nanos = Nanos::from_millis(20);
/// How long callers wait for a segment to be brought up to date that is still being moved.
const REFRESH: Nanos = Nanos::from_millis(200);

struct Background {
    shared: Arc<Shared>,
    robust: Option<RobustWord>,
    reserves: Reserves,
    /// The segment that was refreshed last in the present round through those that are stale, and
    /// whether one of the round is to be refreshed again.
    refreshed: Option<SegmentId>,
    failed: bool,
    /// There is another step to be taken now.
    more: bool,
    /// No step before this, because one has failed.
    retry: Option<Deadline>,
    /// How long that is put off, should it fail again.
    pause: Nanos,
    /// The session has ended, and wants no more steps.
    ended: bool,
}

/// How a step went.
enum Step {
    /// There may be another one.
    More,
    Done,
    /// It is to be taken again after a pause.
    Failed,
}

/// Starts the thread of a session, which has registered its word when this returns.
pub(crate) fn spawn(shared: Arc<Shared>) -> Result<BareThread, Error> {
    let (ready, started) = sync_channel(1);
    let thread = BareThread::spawn(c"tierpool", move || Background::new(shared).run(&ready));
    let thread = thread.map_err(|errno| Error::System {
        call: "pthread_create",
        errno,
    })?;
    match started.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::System {
            call: "pthread_create",
            errno: Errno::ECHILD,
        }),
    }
}

impl Background {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            reserves: Reserves::new(Arc::clone(&shared)),
            shared,
            robust: None,
            refreshed: None,
            failed: false,
            more: false,
            retry: None,
            pause: RETRY_FIRST,
            ended: false,
        }
    }

    fn run(mut self, ready: &SyncSender<Result<(), Error>>) {
        // The program's signals are for its own threads.
        let blocked = SigSet::all().thread_block();
        let blocked = blocked.map_err(|errno| Error::System {
            call: "pthread_sigmask",
            errno,
        });
        let started = blocked.and_then(|()| self.welcome());
        let failed = started.is_err();
        if ready.send(started).is_err() || failed {
            return;
        }
        while !self.shared.stopping.load(Ordering::Acquire) {
            self.wait();
            self.shared.woken();
            // A word that cannot be registered is missed by nobody but a stopwatch: the daemon
            // watches the process as well.
            drop(self.welcome());
            self.shared.hear();
            self.work();
        }
    }

    /// Takes the liveness page that a new connection brought.
    fn welcome(&mut self) -> Result<(), Error> {
        let Some(liveness) = lock(&self.shared.liveness).take() else {
            return Ok(());
        };
        // One at a time: the one before leaves first.
        self.robust = None;
        let robust = RobustWord::register(liveness, ROBUST_WORD);
        self.robust = Some(robust.map_err(unregistered)?);
        Ok(())
    }

    /// Waits for an event, for being woken, or for the time of something.
    fn wait(&self) {
        let at_once = self.more.then_some(Deadline::at(Nanos::ZERO));
        let times = [at_once, self.retry, self.reserves.next_look()];
        let timeout = times.into_iter().flatten().min().filter(|_| !self.ended);
        let timeout = timeout.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, so that the time has come when the wait ends.
            let millis = deadline.remaining().get().div_ceil(1_000_000);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        let events = self.shared.events_socket();
        let sockets = events.as_ref().map(|events| events.as_fd());
        let mut polled: Vec<PollFd<'_>> = sockets
            .into_iter()
            .chain([self.shared.waker()])
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        // An interruption, or a failure for want of memory, is one more look at everything.
        let _ = poll(&mut polled, timeout);
    }

    /// Takes one step of what needs the session, if there is any and the session is free.
    fn work(&mut self) {
        self.more = false;
        if self.ended {
            return;
        }
        // First, as it sets the time of the next look.
        let reserves = self.reserves.want_something();
        if self.retry.is_some_and(|retry| !retry.expired()) || !(reserves || self.is_wanted()) {
            return;
        }
        self.retry = None;
        let shared = Arc::clone(&self.shared);
        let Some(mut session) = shared.try_session() else {
            return;
        };
        if let Some(generation) = shared.broken_connection() {
            session.give_up(&shared, generation);
        }
        self.ended = session.has_ended();
        if self.ended {
            return;
        }
        match self.step(&shared, &mut session) {
            Step::More => self.more = true,
            Step::Done => self.pause = RETRY_FIRST,
            Step::Failed => {
                self.retry = Some(Deadline::after(self.pause));
                self.pause = RETRY_LONGEST.min(self.pause.saturating_add(self.pause));
            }
        }
    }

    /// Whether a step is to be taken for others than the reserves.
    fn is_wanted(&self) -> bool {
        let table = lock(&self.shared.table);
        let queued = !table.errands.is_empty() || !table.stale.is_empty();
        drop(table);
        queued
            || self.shared.unresolved.load(Ordering::Acquire)
            || self.shared.events_socket().is_none()
    }

    fn step(&mut self, shared: &Arc<Shared>, session: &mut SessionGuard<'_>) -> Step {
        let deadline = Deadline::after(ATTEMPT);
        let connected = session.connect(shared, deadline);
        if connected
            .and_then(|()| session.settle(shared, deadline))
            .is_err()
        {
            return Step::Failed;
        }
        let after = self.refreshed.map_or(Bound::Unbounded, Bound::Excluded);
        let mut table = lock(&shared.table);
        let next = table.stale.range((after, Bound::Unbounded)).next().copied();
        if let Some(id) = next {
            table.stale.remove(&id);
            drop(table);
            self.refreshed = next;
            if refresh(shared, session, id).is_err() {
                lock(&shared.table).stale.insert(id);
                self.failed = true;
            }
            return Step::More;
        }
        drop(table);
        self.refreshed = None;
        if std::mem::take(&mut self.failed) {
            return Step::Failed;
        }
        if self.reserves.fill(session) {
            Step::More
        } else {
            Step::Done
        }
    }
}

/// Why the robust word could not be registered.
fn unregistered(error: RobustError) -> Error {
    match error {
        RobustError::Os { call, errno } => Error::System { call, errno },
        RobustError::Wake(error) => error.into(),
        RobustError::Bounds(error) => AccessError::from(error).into(),
        // `Registered`: the one before was dropped first, on the same thread.
        _ => Error::System {
            call: "set_robust_list",
            errno: Errno::EBUSY,
        },
    }
}

/// Brings a segment up to date. What fails otherwise than for now is told by the segment itself.
fn refresh(
    shared: &Arc<Shared>,
    session: &mut SessionGuard<'_>,
    segment: SegmentId,
) -> Result<(), Error> {
    let Some(held) = shared.find(segment) else {
        return Ok(());
    };
    let body = request::Body::Refresh(session::Refresh {
        segment_id: segment.number(),
    });
    let answer = session.call_by(body, Deadline::after(REFRESH));
    let grant = match answer.and_then(|answer| answer.granted(shared.window.range())) {
        Ok(grant) => grant,
        // It is held no more: an event says so, or has.
        Err(error) if is_over(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    shared.follow(&held, grant)
}

/// Whether a segment that was to be brought up to date is held no more. Whatever else fails fails
/// for now.
fn is_over(error: &Error) -> bool {
    let over = [Reason::NotFound, Reason::Revoked, Reason::Lost];
    *error == Error::SessionEnded || error.reason().is_some_and(|reason| over.contains(&reason))
}
