//! What the handles of one session and its background thread have in common.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use pool_core::clock::{Deadline, now};
use pool_core::mem::{FileMap, Window};
use pool_core::sync::atomic::{AtomicBool, AtomicU64};
use pool_core::sync::{Arc, Condvar, Mutex, lock};
use pool_core::{ClientId, Nanos};
use pool_proto::session::v1::request;

use crate::error::Error;
use crate::event::Hub;
use crate::hear::Listening;
use crate::reserve::Ready;
use crate::session::Session;
use crate::table::Table;
use crate::wire::Answer;

/// Locks are taken in this order: session, listening, detail of a segment, leases by request,
/// table, all others.
pub(crate) struct Shared {
    /// The process that attached.
    owner: u32,
    pub(crate) socket: PathBuf,
    pub(crate) timeout: Nanos,
    pub(crate) client: ClientId,
    pub(crate) tenant: String,
    pub(crate) advisory_isolation: bool,
    pub(crate) epoch: AtomicU64,
    pub(crate) window: Window,
    pub(crate) table: Mutex<Table>,
    pub(crate) events: Hub,
    pub(crate) reserves: Mutex<Vec<Weak<Ready>>>,
    /// Where events come; held while they are acted upon.
    pub(crate) listening: Mutex<Option<Listening>>,
    /// The liveness page of the newest connection, until the background thread takes it.
    pub(crate) liveness: Mutex<Option<FileMap>>,
    pub(crate) stopping: AtomicBool,
    /// A request without an answer is to be resolved.
    pub(crate) unresolved: AtomicBool,
    turn: Mutex<Turn>,
    /// The session was put back.
    freed: Condvar,
    waker: EventFd,
}

/// Whose turn it is to use the session.
#[derive(Debug)]
struct Turn {
    /// `None` while somebody uses it.
    session: Option<Session>,
    /// How many calls wait for it.
    waiting: usize,
    /// The background thread found it taken: who puts it back wakes the thread.
    attention: bool,
}

/// What a session is made of.
pub(crate) struct Parts {
    pub(crate) socket: PathBuf,
    pub(crate) timeout: Nanos,
    pub(crate) client: ClientId,
    pub(crate) tenant: String,
    pub(crate) advisory_isolation: bool,
    pub(crate) epoch: u64,
    pub(crate) window: Window,
    pub(crate) waker: EventFd,
    pub(crate) session: Session,
    pub(crate) listening: Listening,
    pub(crate) liveness: FileMap,
}

/// What the background thread is woken by.
pub(crate) fn waker() -> Result<EventFd, Error> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    EventFd::from_value_and_flags(0, flags).map_err(|errno| Error::System {
        call: "eventfd",
        errno,
    })
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            owner: std::process::id(),
            socket: parts.socket,
            timeout: parts.timeout,
            client: parts.client,
            tenant: parts.tenant,
            advisory_isolation: parts.advisory_isolation,
            epoch: AtomicU64::new(parts.epoch),
            window: parts.window,
            table: Mutex::default(),
            events: Hub::default(),
            reserves: Mutex::default(),
            listening: Mutex::new(Some(parts.listening)),
            liveness: Mutex::new(Some(parts.liveness)),
            stopping: AtomicBool::new(false),
            unresolved: AtomicBool::new(false),
            turn: Mutex::new(Turn {
                session: Some(parts.session),
                waiting: 0,
                attention: false,
            }),
            freed: Condvar::new(),
            waker: parts.waker,
        }
    }

    /// # Errors
    /// [`Error::Forked`] in a child of the process that attached. Nothing may be locked there: the
    /// threads that held the locks did not come along.
    pub(crate) fn check_owner(&self) -> Result<(), Error> {
        if std::process::id() == self.owner {
            Ok(())
        } else {
            Err(Error::Forked)
        }
    }

    /// Has the background thread look at what there is to do.
    pub(crate) fn wake(&self) {
        // It fails only where the count is at its end, and then the thread is awake.
        let written = self.waker.write(1);
        debug_assert!(matches!(written, Ok(_) | Err(Errno::EAGAIN)), "{written:?}");
    }

    pub(crate) fn waker(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }

    /// Takes note of having been woken.
    pub(crate) fn woken(&self) {
        let read = self.waker.read();
        debug_assert!(matches!(read, Ok(_) | Err(Errno::EAGAIN)), "{read:?}");
    }

    /// The session, when the call before has its answer.
    ///
    /// # Errors
    /// [`Error::Forked`]; [`Error::Unreachable`] where that takes too long.
    pub(crate) fn session(self: &Arc<Self>, deadline: Deadline) -> Result<SessionGuard<'_>, Error> {
        self.check_owner()?;
        let start = now();
        let mut turn = lock(&self.turn);
        turn.waiting += 1;
        while turn.session.is_none() && !deadline.expired() {
            let left = Duration::from_nanos(deadline.remaining().get());
            let woken = self.freed.wait_timeout(turn, left);
            turn = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        turn.waiting -= 1;
        match turn.session.take() {
            Some(session) => Ok(SessionGuard::new(self, session, true)),
            None => Err(Error::Unreachable {
                socket: self.socket.clone(),
                waited: now().saturating_since(start),
            }),
        }
    }

    /// The session, unless a call is under way or has waited for its turn: then its end wakes the
    /// background thread, which never waits for a daemon that is away.
    pub(crate) fn try_session(self: &Arc<Self>) -> Option<SessionGuard<'_>> {
        let mut turn = lock(&self.turn);
        // Whoever waits takes the session when it is there, whatever the time.
        let session = if turn.waiting == 0 {
            turn.session.take()
        } else {
            None
        };
        turn.attention |= session.is_none();
        session.map(|session| SessionGuard::new(self, session, false))
    }

    /// One request and its answer, within the session's timeout.
    pub(crate) fn call(self: &Arc<Self>, body: request::Body) -> Result<Answer, Error> {
        let deadline = self.deadline();
        self.session(deadline)?.call_by(body, deadline)
    }

    /// When a call that begins now is to have ended.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }
}

/// Neither the session's secret nor buffers: handles are printed where something went wrong.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, tenant, .. } = self;
        write!(f, "Shared({client} of {tenant})")
    }
}

/// The session, taken for one call and what follows from it.
pub(crate) struct SessionGuard<'s> {
    shared: &'s Arc<Shared>,
    /// `None` only while it is dropped.
    session: Option<Session>,
}

impl<'s> SessionGuard<'s> {
    const fn new(shared: &'s Arc<Shared>, mut session: Session, patient: bool) -> Self {
        session.patient = patient;
        let session = Some(session);
        Self { shared, session }
    }

    pub(crate) const fn shared(&self) -> &'s Arc<Shared> {
        self.shared
    }

    /// One request and its answer.
    pub(crate) fn call_by(
        &mut self,
        body: request::Body,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        let shared = self.shared;
        Session::call(self, shared, body, deadline)
    }
}

impl Deref for SessionGuard<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("it is taken by `drop` alone")
    }
}

impl DerefMut for SessionGuard<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("it is taken by `drop` alone")
    }
}

impl Drop for SessionGuard<'_> {
    fn drop(&mut self) {
        let mut turn = lock(&self.shared.turn);
        turn.session = self.session.take();
        let attention = std::mem::take(&mut turn.attention);
        drop(turn);
        self.shared.freed.notify_one();
        if attention {
            self.shared.wake();
        }
    }
}
