//! How a server is told to stop.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pool_core::sync::Arc;

/// What a server looks at; once it is raised it stays so.
#[derive(Debug)]
pub struct Stop(Raised);

#[derive(Debug)]
enum Raised {
    By(Arc<EventFd>),
    Signal(SignalFd),
}

/// What raises it, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<EventFd>);

/// The machine is out of descriptors. Close some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server cannot be told to stop: {0}")]
pub struct NoStop(Errno);

impl Stop {
    /// One that a [`Stopper`] raises.
    ///
    /// # Errors
    /// [`NoStop`].
    pub fn by_hand() -> Result<(Self, Stopper), NoStop> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = Arc::new(EventFd::from_flags(flags).map_err(NoStop)?);
        Ok((Self(Raised::By(Arc::clone(&event))), Stopper(event)))
    }

    /// One that SIGINT and SIGTERM raise. They do nothing else to this thread from now on, nor to
    /// those that it starts: for a process that has no other yet.
    ///
    /// # Errors
    /// [`NoStop`].
    pub fn on_signals() -> Result<Self, NoStop> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().map_err(NoStop)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags).map_err(NoStop)?;
        Ok(Self(Raised::Signal(signals)))
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Raised::By(event) => event.as_fd(),
            Raised::Signal(signals) => signals.as_fd(),
        }
    }
}

impl Stopper {
    /// Has the server stop.
    pub fn stop(&self) {
        // It fails only where it is raised more often than a number counts.
        let _raised = self.0.write(1);
    }
}
