//! Which process is at the other end, so that a reused process id is never taken for it.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_core::packet::Peer;
use pool_core::planted;

use super::ReactorError;
use crate::engine::command::PeerIdentity;
use crate::sys;

/// The identity of a process that a pidfd names. `None` where it has ended, or lives where this one
/// cannot see it.
///
/// The start time is read by process id and believed only if the process still lives afterwards:
/// then the id was its own all the while.
pub(super) fn identity(peer: &Peer) -> Result<Option<PeerIdentity>, ReactorError> {
    let Ok(pid) = u32::try_from(peer.pid) else {
        return Ok(None);
    };
    let started = started_ticks(pid)?.filter(|_| !has_ended(&peer.pidfd));
    let (uid, gid) = (peer.uid, peer.gid);
    Ok(started.map(|started_ticks| PeerIdentity {
        pid,
        started_ticks,
        uid,
        gid,
    }))
}

/// Finds a process of before again: a pidfd, or `None` where it has ended, its id reused or not.
/// One that cannot be looked at has not ended.
pub(super) fn find(process: &PeerIdentity) -> Result<Option<OwnedFd>, ReactorError> {
    let pidfd = match sys::open_process(process.pid) {
        Ok(pidfd) => pidfd,
        Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
        Err(errno) => return Err(ReactorError::os("pidfd_open", errno)),
    };
    let same = started_ticks(process.pid)? == Some(process.started_ticks) && !has_ended(&pidfd);
    Ok(same.then_some(pidfd))
}

/// Whether the process of a pidfd has ended: its address space is gone, and its descriptors.
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // A pidfd can be polled as long as it is open; an interrupted look is repeated by the next one.
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Clock ticks after boot at which the process with this id started; `None` where there is none.
fn started_ticks(pid: u32) -> Result<Option<u64>, ReactorError> {
    match sys::stat_of(pid) {
        Ok(stat) => {
            let ticks = started_ticks_of(&stat);
            ticks
                .map(Some)
                .ok_or_else(|| ReactorError::os("read of a process's stat", Errno::EILSEQ))
        }
        Err(_) if planted!("process.is_gone_that_cannot_be_seen") => Ok(None),
        Err(failed) if [Errno::ENOENT, Errno::ESRCH].contains(&failed.errno) => Ok(None),
        Err(failed) => Err(failed.into()),
    }
}

/// Field 22 of a process's `stat`.
fn started_ticks_of(stat: &[u8]) -> Option<u64> {
    // The name in parentheses may hold any bytes, parentheses included: count from the last one.
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_ends..]).ok()?;
    rest.split_ascii_whitespace().nth(20)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_again_and_another_with_its_id_is_not_it() {
        let pid = std::process::id();
        let me = PeerIdentity {
            pid,
            started_ticks: started_ticks(pid).unwrap().unwrap(),
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
    fn a_process_of_any_name_is_known_by_when_it_started() {
        for name in [
            &b"plain"[..],
            b"a) b (c",
            b"\xff\xfe)",
            b"cut amid \xc3",
            b"",
        ] {
            let before = [b"17 (", name].concat();
            let stat = [
                &before[..],
                b") S 1 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9",
            ];
            assert_eq!(started_ticks_of(&stat.concat()), Some(4_711), "{name:?}");
        }
        for other in [&b""[..], b"17", b"17 (x)", b"17 (x) S 1 2", b"17 (x) \xff"] {
            assert_eq!(started_ticks_of(other), None, "{other:?}");
        }
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
