use std::fs::File;
use std::os::fd::AsFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;

use super::*;
use crate::units::Nanos;

fn long_enough() -> Deadline {
    Deadline::after(Nanos::from_millis(20_000))
}

fn memfd() -> OwnedFd {
    memfd_create("packet", MFdFlags::MFD_CLOEXEC).unwrap()
}

/// The inodes of the descriptors: two name the same file exactly where these are equal.
fn inodes<'a>(descriptors: impl IntoIterator<Item = &'a OwnedFd>) -> Vec<u64> {
    descriptors
        .into_iter()
        .map(|descriptor| fstat(descriptor).unwrap().st_ino)
        .collect()
}

/// How often the file behind `descriptor` is open in this process.
fn times_open(descriptor: &OwnedFd) -> usize {
    let wanted = fstat(descriptor).unwrap();
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        // Other tests close descriptors while this one reads the list.
        .filter_map(|entry| nix::sys::stat::stat(&entry.unwrap().path()).ok())
        .filter(|found| (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino))
        .count()
}

/// Sends `count` copies of one descriptor past the checks of [`send`].
fn send_unchecked(socket: &OwnedFd, bytes: &[u8], descriptor: &OwnedFd, count: usize) {
    let raw = vec![descriptor.as_raw_fd(); count];
    let control = [ControlMessage::ScmRights(&raw)];
    let parts = [IoSlice::new(bytes)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &parts,
        &control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .unwrap();
}

#[test]
fn a_message_arrives_whole_and_apart_from_the_next() {
    let (here, there) = pair().unwrap();
    let longest = vec![7; MESSAGE_BYTES_MAX];
    send(here.as_fd(), b"first", &[]).unwrap();
    send(here.as_fd(), &longest, &[]).unwrap();
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let packet = receive(there.as_fd(), &mut buffer).unwrap();
    assert_eq!(
        (&buffer[..packet.len], packet.descriptors.len()),
        (&b"first"[..], 0)
    );
    let packet = receive(there.as_fd(), &mut buffer).unwrap();
    assert_eq!(buffer[..packet.len], longest);
}

#[test]
fn descriptors_arrive_in_order_and_close_on_exec() {
    let (here, there) = pair().unwrap();
    let files: Vec<OwnedFd> = (0..DESCRIPTORS_MAX).map(|_| memfd()).collect();
    let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    send(here.as_fd(), b"x", &borrowed).unwrap();
    let packet = receive(there.as_fd(), &mut [0; 8]).unwrap();
    assert_eq!(inodes(&packet.descriptors), inodes(&files));
    for descriptor in &packet.descriptors {
        let flags = nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
    }
}

#[test]
fn what_may_not_be_sent_is_refused_before_it_is_sent() {
    let (here, there) = pair().unwrap();
    let file = memfd();
    assert_eq!(send(here.as_fd(), b"", &[]), Err(PacketError::Empty));
    let (len, max) = (MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX);
    let refused = send(here.as_fd(), &vec![0; len], &[]);
    assert_eq!(refused, Err(PacketError::TooLarge { len, max }));
    let (count, max) = (DESCRIPTORS_MAX + 1, DESCRIPTORS_MAX);
    let refused = send(here.as_fd(), b"x", &vec![file.as_fd(); count]);
    assert_eq!(refused, Err(PacketError::TooManyDescriptors { count, max }));
    let nothing = receive(there.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(nothing, PacketError::WouldBlock);
}

#[test]
fn a_message_too_long_for_the_buffer_is_refused_and_its_descriptors_are_closed() {
    let (here, there) = pair().unwrap();
    let file = memfd();
    send(here.as_fd(), b"123456789", &[file.as_fd(), file.as_fd()]).unwrap();
    send(here.as_fd(), b"next", &[]).unwrap();
    let refused = receive(there.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(refused, PacketError::TooLarge { len: 9, max: 8 });
    assert_eq!(times_open(&file), 1);
    assert_eq!(receive(there.as_fd(), &mut [0; 8]).unwrap().len, 4);
}

#[test]
fn more_descriptors_than_allowed_are_refused_and_all_closed() {
    let (here, there) = pair().unwrap();
    let file = memfd();
    send_unchecked(&here, b"x", &file, DESCRIPTORS_MAX + 1);
    let refused = receive(there.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(
        refused,
        PacketError::DescriptorsLost {
            received: DESCRIPTORS_MAX
        }
    );
    assert_eq!(times_open(&file), 1);
}

#[test]
fn a_message_of_no_bytes_ends_the_session_and_its_descriptors_are_closed() {
    let (here, there) = pair().unwrap();
    let file = memfd();
    send_unchecked(&here, b"", &file, 3);
    let refused = receive(there.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(refused, PacketError::Closed);
    assert_eq!(times_open(&file), 1);
}

#[test]
fn descriptors_that_nobody_expects_never_enter_the_process() {
    let (here, there) = pair().unwrap();
    let file = memfd();
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    send(here.as_fd(), b"plain", &[]).unwrap();
    assert_eq!(receive_bytes(there.as_fd(), &mut buffer), Ok(5));
    assert_eq!(&buffer[..5], b"plain");
    send(here.as_fd(), b"with", &[file.as_fd()]).unwrap();
    assert_eq!(
        receive_bytes(there.as_fd(), &mut buffer),
        Err(PacketError::DescriptorsLost { received: 0 })
    );
    assert_eq!(times_open(&file), 1);
    assert_eq!(
        receive_bytes(there.as_fd(), &mut buffer),
        Err(PacketError::WouldBlock)
    );
    send(here.as_fd(), b"longer", &[]).unwrap();
    assert_eq!(
        receive_bytes(there.as_fd(), &mut buffer[..3]),
        Err(PacketError::TooLarge { len: 6, max: 3 })
    );
    drop(here);
    assert_eq!(
        receive_bytes(there.as_fd(), &mut buffer),
        Err(PacketError::Closed)
    );
}

#[test]
fn a_peer_that_is_gone_is_closed_to_both_directions() {
    let (here, there) = pair().unwrap();
    send(there.as_fd(), b"last words", &[]).unwrap();
    drop(there);
    let mut buffer = [0; 16];
    assert_eq!(receive(here.as_fd(), &mut buffer).unwrap().len, 10);
    assert_eq!(
        receive(here.as_fd(), &mut buffer).unwrap_err(),
        PacketError::Closed
    );
    assert_eq!(send(here.as_fd(), b"x", &[]), Err(PacketError::Closed));
    wait_readable(here.as_fd(), long_enough()).unwrap();
    wait_writable(here.as_fd(), long_enough()).unwrap();
}

#[test]
fn a_peer_that_died_with_our_words_unread_is_closed() {
    let (here, there) = pair().unwrap();
    send(here.as_fd(), b"unread", &[]).unwrap();
    drop(there);
    assert_eq!(
        receive(here.as_fd(), &mut [0; 8]).unwrap_err(),
        PacketError::Closed
    );
}

#[test]
fn a_peer_that_does_not_read_makes_the_sender_wait_and_not_block() {
    let (here, there) = pair().unwrap();
    let message = vec![1; MESSAGE_BYTES_MAX];
    let mut sent = 0;
    let full = loop {
        match send(here.as_fd(), &message, &[]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, PacketError::WouldBlock);
    let past = Deadline::at(Nanos::ZERO);
    assert_eq!(
        send_by(here.as_fd(), &message, &[], past),
        Err(PacketError::TimedOut)
    );

    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        (0..=sent).all(|_| receive_by(there.as_fd(), &mut buffer, long_enough()).is_ok())
    });
    send_by(here.as_fd(), &message, &[], long_enough()).unwrap();
    assert!(reader.join().unwrap());
}

#[test]
fn waiting_for_a_silent_peer_ends_with_the_deadline() {
    let (here, _there) = pair().unwrap();
    let soon = Deadline::after(Nanos::from_millis(2));
    let waited = receive_by(here.as_fd(), &mut [0; 8], soon).unwrap_err();
    assert_eq!(waited, PacketError::TimedOut);
    assert!(soon.expired());
}

#[test]
fn the_kernel_says_who_the_peer_is() {
    let (here, _there) = pair().unwrap();
    let peer = peer(here.as_fd()).unwrap();
    assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
    assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
    let alive = wait_readable(peer.pidfd.as_fd(), Deadline::at(Nanos::ZERO));
    assert_eq!(alive, Err(PacketError::TimedOut));
}

#[test]
fn what_is_no_socket_is_an_error_of_the_system() {
    let file = File::open("/dev/null").unwrap();
    let refused = send(file.as_fd(), b"x", &[]).unwrap_err();
    assert_eq!(
        refused,
        PacketError::Os {
            call: "sendmsg",
            errno: Errno::ENOTSOCK
        }
    );
    let refused = receive(file.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(
        refused,
        PacketError::Os {
            call: "recvmsg",
            errno: Errno::ENOTSOCK
        }
    );
    assert!(matches!(peer(file.as_fd()), Err(PacketError::Os { .. })));
}
