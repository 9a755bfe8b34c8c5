//! Closing what clients may have put something into.
//!
//! The last close of a file can take as long as its file system or its peer likes, and a hostile
//! client chooses both: a file of its own file system, a TCP socket that lingers. It happens where
//! the last reference goes: also when a message is received without taking its descriptors, and
//! when a socket is closed in which such a message still waits.
//!
//! Since Linux 6.16 a socket can refuse descriptors, and then none is ever on its way. Sockets that
//! must take them (a client is to bring some back), and all sockets of older kernels, are read with
//! room for descriptors, and whatever is not wanted is closed on threads that nobody waits for.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use pool_core::sync::{Arc, thread};

/// Threads that may be closing things of one user; with more, nobody of that user is let in.
const CLOSERS_PER_UID_MAX: usize = 16;

/// Closes elsewhere.
#[derive(Debug, Default)]
pub(super) struct Closer {
    /// One owner more than there are threads closing things of the user.
    busy: BTreeMap<u32, Arc<()>>,
}

impl Closer {
    /// Whether so much of this user's hangs in being closed that it gets no further connection.
    pub(super) fn is_choked_by(&self, uid: u32) -> bool {
        self.busy
            .get(&uid)
            .is_some_and(|busy| Arc::strong_count(busy) > CLOSERS_PER_UID_MAX)
    }

    /// Closes these, which a client of this user has had something to do with.
    pub(super) fn close(&mut self, uid: u32, files: Vec<OwnedFd>) {
        self.busy.retain(|_, busy| Arc::strong_count(busy) > 1);
        let busy = Arc::clone(self.busy.entry(uid).or_default());
        let closing = move || {
            drop(files);
            drop(busy);
        };
        if let Err(error) = thread::Builder::new()
            .name("closer".to_owned())
            .spawn(closing)
        {
            // They were closed here, with the closure that was not to run.
            tracing::error!(%error, "no thread to close descriptors on");
        }
    }
}
