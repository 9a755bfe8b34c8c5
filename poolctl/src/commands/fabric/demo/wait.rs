//! Waiting: always for so long and no longer, and never after the user has interrupted.

use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use pool_core::Nanos;
use pool_core::clock::{Backoff, Deadline};
use pool_core::sync::Arc;
use pool_core::sync::atomic::{AtomicBool, Ordering};

use super::error::DemoError;
use crate::error::CtlError;

/// The longest pause between two looks.
const PAUSE: Nanos = Nanos::from_millis(20);

/// How long each wait of the demonstration may take, and what ends all of them.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    span: Nanos,
    interrupted: Arc<AtomicBool>,
}

impl Patience {
    /// Hears from now on of SIGINT, SIGTERM and SIGHUP, which do nothing else to this process any
    /// more: for a process that has no other thread yet.
    pub(super) fn new(span: Duration) -> Result<Self, CtlError> {
        let machine = |source| CtlError::Machine { source };
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        let signals: SigSet = signals.into_iter().collect();
        signals
            .thread_block()
            .map_err(|errno| machine(errno.into()))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&interrupted);
        let thread = std::thread::Builder::new().name("interrupt".into());
        thread
            .spawn(move || {
                if signals.wait().is_ok() {
                    heard.store(true, Ordering::Relaxed);
                }
            })
            .map_err(machine)?;
        Ok(Self {
            span: nanos(span),
            interrupted,
        })
    }

    /// When a wait that begins now is over.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.span)
    }

    pub(super) fn span(&self) -> Duration {
        Duration::from_nanos(self.span.get())
    }

    /// An error once the user has interrupted.
    pub(super) fn goes_on(&self) -> Result<(), DemoError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        Ok(())
    }

    /// Asks `check` until it answers; `None` where it does not within the time.
    pub(super) fn until<T, E: From<DemoError>>(
        &self,
        mut check: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let (deadline, mut backoff) = (self.deadline(), Backoff::new(Nanos::new(500_000), PAUSE));
        loop {
            self.goes_on()?;
            if let Some(found) = check()? {
                return Ok(Some(found));
            }
            if !backoff.pause(deadline) {
                return Ok(None);
            }
        }
    }

    /// Lets so much time pass.
    pub(super) fn pause(&self, span: Duration) -> Result<(), DemoError> {
        let (deadline, mut backoff) = (Deadline::after(nanos(span)), Backoff::new(PAUSE, PAUSE));
        while backoff.pause(deadline) {
            self.goes_on()?;
        }
        Ok(())
    }
}

fn nanos(span: Duration) -> Nanos {
    Nanos::new(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}
