//! How a socket of a client ends.
//!
//! Replies carry descriptors, and those that a client has not read yet count against the daemon's
//! user until its end is closed too. So a socket that ends with something unread is shut down but
//! not closed: it is kept until the peer has let go, and a user with too many of them gets no
//! further connection. What may have been sent into a socket decides where it is closed: see
//! [`super::closer`].

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{Shutdown, shutdown};

use super::Reactor;
use crate::sys;

/// Sockets of one user that ended with something unread.
const UNREAD_PER_UID_MAX: usize = 64;

/// A socket that was shut down and is not closed yet.
#[derive(Debug)]
pub(super) struct Lingering {
    uid: u32,
    may_carry: bool,
    socket: OwnedFd,
}

impl Reactor {
    /// Ends a socket that was a client's of this user.
    pub(super) fn end(&mut self, uid: u32, may_carry: bool, socket: OwnedFd) {
        self.poller.remove(&socket);
        let ending = Lingering {
            uid,
            may_carry,
            socket,
        };
        if ending.is_unread() {
            // It fails where the peer has shut it down already.
            let _already = shutdown(ending.socket.as_raw_fd(), Shutdown::Both);
            self.lingering.push(ending);
        } else {
            self.close(ending);
        }
    }

    fn close(&mut self, ending: Lingering) {
        if ending.may_carry {
            self.closer.close(ending.uid, vec![ending.socket]);
        }
    }

    /// Closes what has been let go meanwhile.
    pub(super) fn close_lingering(&mut self) {
        let (unread, read) = std::mem::take(&mut self.lingering)
            .into_iter()
            .partition(Lingering::is_unread);
        self.lingering = unread;
        read.into_iter()
            .for_each(|ending: Lingering| self.close(ending));
    }

    /// Whether a user may have another connection.
    pub(super) fn may_connect(&self, uid: u32) -> bool {
        let unread = self
            .lingering
            .iter()
            .filter(|ending| ending.uid == uid)
            .count();
        unread < UNREAD_PER_UID_MAX && !self.closer.is_choked_by(uid)
    }
}

impl Lingering {
    fn is_unread(&self) -> bool {
        // A socket that does not say is closed rather than kept.
        sys::unread_by_peer(self.socket.as_fd()).is_ok_and(|bytes| bytes > 0)
    }
}
