//! Closing what a client sent and nobody wanted.
//!
//! Closing a file can take as long as its file system likes, and a hostile client may be that file
//! system. So the reactor takes descriptors in only while it awaits some, and closes those that are
//! not the daemon's own files on threads that nobody waits for. Once so many of these hang that
//! there is no further one, no descriptor is taken in any more.

use std::os::fd::OwnedFd;

use pool_core::sync::{Arc, thread};

/// Threads that may close at once.
const CLOSERS_MAX: usize = 16;

/// Closes elsewhere.
#[derive(Debug, Default)]
pub(super) struct Closer {
    /// Counted by its owners: the reactor, and each thread that still closes.
    busy: Arc<()>,
}

impl Closer {
    /// Whether there is a thread for whatever may have to be closed.
    pub(super) fn has_room(&self) -> bool {
        Arc::strong_count(&self.busy) <= CLOSERS_MAX
    }

    pub(super) fn close(&self, file: OwnedFd) {
        let busy = Arc::clone(&self.busy);
        let closing = move || {
            drop(file);
            drop(busy);
        };
        if let Err(error) = thread::Builder::new()
            .name("closer".to_owned())
            .spawn(closing)
        {
            // The descriptor was closed here, with the closure that was not to run.
            tracing::error!(%error, "no thread to close a descriptor on");
        }
    }
}
