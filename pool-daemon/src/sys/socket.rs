//! Sockets of type `SOCK_SEQPACKET` under a name in the file system, and waiting for several
//! descriptors at once.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket,
};
use nix::sys::time::TimeSpec;
use pool_core::clock::Deadline;
use pool_core::fault::Call;

use super::{Failed, PRIVATE_FILE, failed, made, make_private, planned};

fn seqpacket() -> Result<OwnedFd, Failed> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    made("socket", || {
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
    })
}

/// Listens under `path`, for this user alone; otherwise as [`listen_at`].
///
/// # Errors
/// As [`listen_at`].
pub fn listen_privately(path: &Path) -> Result<OwnedFd, Failed> {
    listen_at(path, PRIVATE_FILE.bits(), 16)
}

/// Listens under `path`, where whoever may write by `mode` may connect, and `backlog` may wait to
/// be accepted. A socket that is there is replaced in one step: whoever finds the name finds a
/// listener, that of before or this one, and one that it may connect to.
///
/// The socket is made under a second name, that of `path` with `.new` after it, and gets the first
/// one when it is complete. A socket that has the second name was left by a process that died in
/// between, and is removed.
///
/// # Errors
/// `ENAMETOOLONG` past 103 bytes, `EADDRINUSE` where the second name is that of something else than
/// a socket, or where the directory cannot be written.
pub fn listen_at(path: &Path, mode: u32, backlog: i32) -> Result<OwnedFd, Failed> {
    let listener = seqpacket()?;
    // The name takes the permissions that the socket has when it is bound.
    make_private(listener.as_fd())?;
    let fresh = path.with_added_extension("new");
    remove_left_over(&fresh)?;
    made("bind", || {
        bind(listener.as_raw_fd(), &UnixAddr::new(&fresh)?)
    })?;
    // By its name: what is asked of the descriptor once it is bound does not change the name's.
    fs::set_permissions(&fresh, Permissions::from_mode(mode))
        .map_err(|error| failed("chmod", &error))?;
    made("listen", || listen(&listener, Backlog::new(backlog)?))?;
    fs::rename(&fresh, path).map_err(|error| failed("rename", &error))?;
    Ok(listener)
}

/// Removes a socket. What is none is left alone.
fn remove_left_over(path: &Path) -> Result<(), Failed> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("unlink", &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Connects to the listener under `path`.
///
/// # Errors
/// `ENOENT` or `ECONNREFUSED` where there is none, `EAGAIN` where too many wait for it already.
pub fn connect_to(path: &Path) -> Result<OwnedFd, Failed> {
    let socket = seqpacket()?;
    planned(Call::Open, "connect", || {
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
    })?;
    Ok(socket)
}

/// The user at the other end: who connected, or who listens. Known also where that process is
/// dead.
///
/// # Errors
/// Where the kernel does not say.
pub fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32, Failed> {
    let peer = made("getsockopt", || getsockopt(&socket, PeerCredentials))?;
    Ok(peer.uid())
}

/// Waits until something can be read from one of these, or its end has come, and tells from which;
/// none where the deadline passed.
///
/// # Errors
/// Where the kernel has not the memory to wait.
pub fn wait_for_any(
    descriptors: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Result<Vec<bool>, Failed> {
    let mut polled: Vec<_> = descriptors
        .iter()
        .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN))
        .collect();
    planned(Call::Poll, "ppoll", || {
        let left = Duration::from_nanos(deadline.remaining().get());
        let left = (deadline != Deadline::NEVER).then(|| TimeSpec::from_duration(left));
        ppoll(&mut polled, left, None)
    })?;
    Ok(polled.iter().map(|one| one.any() == Some(true)).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nix::errno::Errno;
    use nix::sys::inotify::{AddWatchFlags as Event, InitFlags, Inotify};
    use pool_core::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        (folder, path)
    }

    #[test]
    fn whoever_finds_the_name_of_a_socket_finds_a_listener_also_while_it_is_replaced() {
        let (_folder, path) = folder();
        let mut listener = listen_at(&path, 0o666, 16).unwrap();
        let ended = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| {
                for _ in 0..20_000 {
                    let before = ended.load(Ordering::Acquire);
                    match connect_to(&path).map_err(|failed| failed.errno) {
                        // Nobody accepts here.
                        Ok(_) | Err(Errno::EAGAIN) => {}
                        // The one that was found has ended since: it had the name when it was.
                        Err(Errno::ECONNREFUSED) if ended.load(Ordering::Acquire) != before => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Ok(())
            });
            while !connecting.is_finished() {
                let successor = listen_at(&path, 0o666, 16).unwrap();
                ended.fetch_add(1, Ordering::Release);
                listener = successor;
            }
            assert_eq!(connecting.join().unwrap(), Ok(()));
        });
        drop(listener);
        let refused = connect_to(&path).unwrap_err();
        assert_eq!(refused.errno, Errno::ECONNREFUSED);
    }

    #[test]
    fn a_socket_gets_its_name_in_one_step_and_has_its_mode_by_then() {
        let (folder, path) = folder();
        let _before = listen_at(&path, 0o666, 16).unwrap();
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        let told = Event::IN_CREATE | Event::IN_DELETE | Event::IN_MOVE | Event::IN_ATTRIB;
        watch.add_watch(folder.path(), told).unwrap();
        let _listener = listen_at(&path, 0o666, 16).unwrap();
        let seen: Vec<_> = watch.read_events().unwrap();
        let seen = seen
            .into_iter()
            .map(|event| (event.mask, event.name.unwrap()));
        let expected = [
            (Event::IN_CREATE, "a.sock.new"),
            (Event::IN_ATTRIB, "a.sock.new"),
            (Event::IN_MOVED_FROM, "a.sock.new"),
            (Event::IN_MOVED_TO, "a.sock"),
        ];
        assert_eq!(
            seen.collect::<Vec<_>>(),
            expected.map(|(mask, name)| (mask, name.into()))
        );
    }

    #[test]
    fn a_socket_has_the_mode_it_is_to_have_whatever_was_left_under_its_second_name() {
        let (folder, path) = folder();
        let fresh = folder.path().join("a.sock.new");
        let left_over = listen_privately(&fresh).unwrap();
        for mode in [0o600, 0o660, 0o666] {
            let _listener = listen_at(&path, mode, 1).unwrap();
            let found = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode);
            assert!(!fresh.exists());
        }
        drop(left_over);
        fs::write(&fresh, "dear").unwrap();
        let refused = listen_at(&path, 0o666, 1).unwrap_err();
        assert_eq!(refused.errno, Errno::EADDRINUSE);
        assert_eq!(fs::read(&fresh).unwrap(), b"dear");
    }
}
