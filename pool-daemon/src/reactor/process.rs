//! Which process is at the other end, so that a reused process id is never taken for it.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_core::packet::Peer;

use super::ReactorError;
use crate::engine::command::PeerIdentity;
use crate::sys;

/// The identity of a process that a pidfd names. `None` where it has ended.
///
/// The start time is read by process id and believed only if the process still lives afterwards:
/// then the id was its own all the while.
pub(super) fn identity(peer: &Peer) -> Option<PeerIdentity> {
    let pid = u32::try_from(peer.pid).ok()?;
    let started_ticks = started_ticks(pid)?;
    let (uid, gid) = (peer.uid, peer.gid);
    (!has_ended(&peer.pidfd)).then_some(PeerIdentity {
        pid,
        started_ticks,
        uid,
        gid,
    })
}

/// Finds a process of before again: a pidfd, or `None` where it has ended, its id reused or not.
pub(super) fn find(process: &PeerIdentity) -> Result<Option<OwnedFd>, ReactorError> {
    let pidfd = match sys::open_process(process.pid) {
        Ok(pidfd) => pidfd,
        Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
        Err(errno) => return Err(ReactorError::os("pidfd_open", errno)),
    };
    let same = started_ticks(process.pid) == Some(process.started_ticks) && !has_ended(&pidfd);
    Ok(same.then_some(pidfd))
}

/// Whether the process of a pidfd has ended: its address space is gone, and its descriptors.
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // A pidfd can be polled as long as it is open; an interrupted look is repeated by the next one.
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Clock ticks after boot at which the process with this id started; field 22 of its `stat`.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses included: count from the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_again_and_another_with_its_id_is_not_it() {
        let pid = std::process::id();
        let me = PeerIdentity {
            pid,
            started_ticks: started_ticks(pid).unwrap(),
            uid: 0,
            gid: 0,
        };
        assert!(find(&me).unwrap().is_some());
        let before = PeerIdentity {
            started_ticks: me.started_ticks - 1,
            ..me
        };
        assert!(find(&before).unwrap().is_none());
    }

    #[test]
    fn a_process_that_has_ended_is_not_found() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let dead = PeerIdentity {
            pid,
            started_ticks: 1,
            uid: 0,
            gid: 0,
        };
        assert!(find(&dead).unwrap().is_none());
    }
}
