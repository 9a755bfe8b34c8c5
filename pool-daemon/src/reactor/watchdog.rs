//! The service manager's watchdog: a reactor that hangs is restarted.

use pool_core::{Nanos, clock};
use sd_notify::NotifyState;

/// Feeds the watchdog, where the service manager has one.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// Half of what it waits for, as its manual advises.
    every: Option<Nanos>,
    fed: Nanos,
}

impl Watchdog {
    pub(super) fn from_environment() -> Self {
        let nanos = sd_notify::watchdog_enabled().map(|span| span.as_nanos() / 2);
        let every = nanos.map(|nanos| Nanos::new(u64::try_from(nanos).unwrap_or(u64::MAX)));
        Self {
            every,
            fed: Nanos::ZERO,
        }
    }

    pub(super) fn feed(&mut self) {
        let Some(every) = self.every else { return };
        let now = clock::now();
        if now.saturating_since(self.fed) < every {
            return;
        }
        self.fed = now;
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::warn!(%error, "the service manager does not hear the watchdog");
        }
    }
}
