//! Closing what clients may have put something into.
//!
//! The last close of a file can take as long as its file system or its peer likes, and a hostile
//! client chooses both: a file of its own file system, a TCP socket that lingers. It happens where
//! the last reference goes: also when a message is received without taking its descriptors, and
//! when a socket is closed in which such a message still waits.
//!
//! Since Linux 6.16 a socket can refuse descriptors, and then none is ever on its way. Sockets that
//! must take them (a client is to bring some back), and all sockets of older kernels, are read with
//! room for descriptors, and whatever is not wanted is closed on threads that nobody waits for: few
//! for each user, whose further descriptors wait behind those that hang.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use pool_core::sync::{Arc, Mutex, lock, thread};

/// Threads that may be closing things of one user; while so many do, that user gets no further
/// connection, and loses those over which it sends something to be closed.
const CLOSERS_PER_UID_MAX: usize = 16;

/// Closes elsewhere.
#[derive(Debug, Default)]
pub(super) struct Closer {
    users: BTreeMap<u32, Arc<Mutex<Hands>>>,
}

/// What is done for one user.
#[derive(Debug, Default)]
struct Hands {
    threads: usize,
    waiting: VecDeque<Vec<OwnedFd>>,
}

impl Closer {
    /// Whether so much of this user's hangs in being closed that it gets no further connection.
    pub(super) fn is_choked_by(&self, uid: u32) -> bool {
        let hands = self.users.get(&uid);
        hands.is_some_and(|hands| lock(hands).threads >= CLOSERS_PER_UID_MAX)
    }

    /// Closes these, which a client of this user has had something to do with.
    pub(super) fn close(&mut self, uid: u32, files: Vec<OwnedFd>) {
        if files.is_empty() {
            return;
        }
        self.users.retain(|_, hands| {
            let hands = lock(hands);
            hands.threads > 0 || !hands.waiting.is_empty()
        });
        let hands = self.users.entry(uid).or_default();
        let mut state = lock(hands);
        state.waiting.push_back(files);
        if state.threads >= CLOSERS_PER_UID_MAX {
            return;
        }
        state.threads += 1;
        drop(state);
        let for_thread = Arc::clone(hands);
        let closing = move || close_all(&for_thread);
        let name = "closer".to_owned();
        if let Err(error) = thread::Builder::new().name(name).spawn(closing) {
            // They wait for the next thread of this user.
            tracing::error!(%error, "no thread to close descriptors on");
            lock(hands).threads -= 1;
        }
    }
}

/// Closes what waits, until nothing does.
fn close_all(hands: &Mutex<Hands>) {
    loop {
        let mut state = lock(hands);
        let Some(files) = state.waiting.pop_front() else {
            state.threads -= 1;
            return;
        };
        drop(state);
        drop(files);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use nix::sys::socket::{setsockopt, sockopt::Linger};
    use pool_core::Nanos;
    use pool_core::clock::{Deadline, eventually};

    use super::*;

    /// A socket whose close takes an hour, unless its peer goes.
    fn lingering(listener: &TcpListener) -> (OwnedFd, TcpStream) {
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 1 << 16]).is_ok() {}
        socket.set_nonblocking(false).unwrap();
        let hour = libc::linger {
            l_onoff: 1,
            l_linger: 3_600,
        };
        setsockopt(&socket, Linger, &hour).unwrap();
        (socket.into(), peer)
    }

    #[test]
    fn what_hangs_in_being_closed_holds_up_its_own_user_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut closer = Closer::default();
        let mut peers = Vec::new();
        for count in 1..=2 * CLOSERS_PER_UID_MAX {
            let (socket, peer) = lingering(&listener);
            peers.push(peer);
            closer.close(1, vec![socket]);
            assert_eq!(closer.is_choked_by(1), count >= CLOSERS_PER_UID_MAX);
        }
        let (reader, writer) = std::io::pipe().unwrap();
        closer.close(2, vec![writer.into()]);
        // It is closed: the pipe ends.
        assert_eq!(std::io::read_to_string(reader).unwrap(), "");
        assert!(!closer.is_choked_by(2));
        drop(peers);
        let deadline = Deadline::after(Nanos::from_millis(60_000));
        let free = eventually(deadline, || (!closer.is_choked_by(1)).then_some(()));
        assert_eq!(free, Ok(()));
    }
}
