//! What the handles of one session and its background thread have in common.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{TryLockError, Weak};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use pool_core::clock::Deadline;
use pool_core::mem::{FileMap, Window};
use pool_core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pool_core::sync::{Arc, Mutex, MutexGuard, lock};
use pool_core::{ClientId, Nanos};
use pool_proto::session::v1::request;

use crate::error::Error;
use crate::event::Hub;
use crate::reserve::Ready;
use crate::session::Session;
use crate::table::Table;
use crate::wire::Answer;

/// Locks are taken in this order: session, detail of a segment, table, all others.
#[derive(Debug)]
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
    /// The newest connection's, until the background thread takes it.
    pub(crate) news: Mutex<Option<Newcomer>>,
    pub(crate) stopping: AtomicBool,
    /// A request without an answer is to be resolved.
    pub(crate) unresolved: AtomicBool,
    /// The background thread found the session taken: who frees it wakes the thread.
    attention: AtomicBool,
    session: Mutex<Session>,
    waker: EventFd,
}

/// What the background thread needs of a connection.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// Which connection of the session it is.
    pub(crate) generation: u64,
    pub(crate) events: std::os::fd::OwnedFd,
    pub(crate) liveness: FileMap,
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
    pub(crate) session: Session,
    pub(crate) newcomer: Newcomer,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Result<Self, Error> {
        let waker =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let waker = waker.map_err(|errno| Error::System {
            call: "eventfd",
            errno,
        })?;
        Ok(Self {
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
            news: Mutex::new(Some(parts.newcomer)),
            stopping: AtomicBool::new(false),
            unresolved: AtomicBool::new(false),
            attention: AtomicBool::new(false),
            session: Mutex::new(parts.session),
            waker,
        })
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
    pub(crate) fn session(self: &Arc<Self>) -> Result<SessionGuard<'_>, Error> {
        self.check_owner()?;
        Ok(SessionGuard {
            shared: self,
            session: Some(lock(&self.session)),
        })
    }

    /// The session, unless a call is under way: then its end wakes the background thread.
    pub(crate) fn try_session(self: &Arc<Self>) -> Option<SessionGuard<'_>> {
        // Before the attempt: who holds the session now sees it after freeing it.
        self.attention.store(true, Ordering::Release);
        let session = match self.session.try_lock() {
            Ok(session) => session,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(SessionGuard {
            shared: self,
            session: Some(session),
        })
    }

    /// One request and its answer.
    pub(crate) fn call(self: &Arc<Self>, body: request::Body) -> Result<Answer, Error> {
        self.session()?.call(body)
    }
}

/// The session, locked for one call and what follows from it.
pub(crate) struct SessionGuard<'s> {
    shared: &'s Arc<Shared>,
    /// `None` only while it is dropped.
    session: Option<MutexGuard<'s, Session>>,
}

impl SessionGuard<'_> {
    /// One request and its answer, within the session's timeout.
    pub(crate) fn call(&mut self, body: request::Body) -> Result<Answer, Error> {
        self.call_by(body, Deadline::after(self.shared.timeout))
    }

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
        drop(self.session.take());
        // After the session is free. The lock orders this with the attempt that failed.
        if self.shared.attention.swap(false, Ordering::AcqRel) {
            self.shared.wake();
        }
    }
}
