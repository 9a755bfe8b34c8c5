//! Messages that are none: too long, too short, cut off, of random bytes, with descriptors.

use std::os::fd::{AsRawFd as _, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use pool_core::limits::MESSAGE_BYTES_MAX;
use pool_core::packet::PacketError;
use pool_proto::common::v1::ErrorReason;
use pool_proto::session::v1::{Attach, Request, request};
use prost::Message as _;
use tierpool_tests::EXTENT;
use tierpool_tests::attempt::own_file;
use tierpool_tests::client::{Connection, PROTOCOL, ask};
use tierpool_tests::pattern::word;

use crate::{Besieged, Response, response};

fn attach() -> Request {
    let attach = Attach {
        protocol: PROTOCOL,
        tenant: "x".to_owned(),
        name: "client".to_owned(),
    };
    Request {
        request_id: 1,
        body: Some(request::Body::Attach(attach)),
    }
}

/// Bytes without a pattern, the same in each run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    (0..)
        .flat_map(|index| word(seed, index).to_le_bytes())
        .take(len)
        .collect()
}

/// As the kernel takes it, whatever the protocol says of its length.
fn send_any(connection: &Connection, bytes: &[u8]) -> nix::Result<usize> {
    send(
        connection.socket().as_raw_fd(),
        bytes,
        MsgFlags::MSG_NOSIGNAL,
    )
}

#[test]
fn noise_is_refused_or_ends_the_connection() {
    let mut besieged = Besieged::new();
    let lengths = (1..64).chain([100, 1_000, 4_096, 65_535, 65_536]);
    for (seed, len) in (1..).zip(lengths) {
        let stranger = besieged.stranger();
        stranger.send(&noise(seed, len), &[]).unwrap();
        assert!(
            matches!(response(&stranger), Response::Refused(_)),
            "{len} bytes"
        );
        let client = besieged.daemon.attach("client");
        client.connection().send(&noise(seed, len), &[]).unwrap();
        assert!(
            matches!(response(client.connection()), Response::Refused(_)),
            "{len} bytes"
        );
    }
    besieged.serves();
    besieged.recovers();
}

#[test]
fn a_message_cut_off_anywhere_is_no_message() {
    let besieged = Besieged::new();
    let whole = attach().encode_to_vec();
    for len in 1..whole.len() {
        let stranger = besieged.stranger();
        stranger.send(&whole[..len], &[]).unwrap();
        match stranger.receive() {
            // What is left may happen to be a message: an Attach with a shorter name.
            Ok(answer) => assert!(answer.request_id <= 1),
            Err(error) => assert_eq!(error, PacketError::Closed),
        }
    }
    besieged.recovers();
}

#[test]
fn a_message_that_is_too_long_is_refused_unread() {
    let besieged = Besieged::new();
    for len in [
        MESSAGE_BYTES_MAX + 1,
        2 * MESSAGE_BYTES_MAX,
        3 * MESSAGE_BYTES_MAX,
    ] {
        let stranger = besieged.stranger();
        // A whole request behind which follows what no version of the protocol knows.
        let mut bytes = attach().encode_to_vec();
        bytes.resize(len, 0);
        assert_eq!(send_any(&stranger, &bytes), Ok(len));
        let Response::Refused(error) = response(&stranger) else {
            panic!("it is told why");
        };
        assert_eq!(error.reason(), ErrorReason::Malformed, "{}", error.message);
        assert!(
            error.message.contains(&len.to_string()),
            "{}",
            error.message
        );
        assert!(matches!(response(&stranger), Response::Closed));
    }
    besieged.recovers();
}

#[test]
fn a_message_of_no_bytes_ends_the_connection() {
    let besieged = Besieged::new();
    let stranger = besieged.stranger();
    assert_eq!(send_any(&stranger, &[]), Ok(0));
    assert!(matches!(response(&stranger), Response::Closed));
    let client = besieged.daemon.attach("client");
    assert_eq!(send_any(client.connection(), &[]), Ok(0));
    assert!(matches!(response(client.connection()), Response::Closed));
    drop(client);
    besieged.recovers();
}

#[test]
fn a_message_that_says_nothing_is_refused_and_the_connection_lives() {
    let besieged = Besieged::new();
    let stranger = besieged.stranger();
    let nothing = Request {
        request_id: 5,
        body: None,
    };
    stranger.send(&nothing.encode_to_vec(), &[]).unwrap();
    let Response::Refused(error) = response(&stranger) else {
        panic!("it is told why");
    };
    assert_eq!(error.reason(), ErrorReason::OutOfOrder);
    stranger.send(&attach().encode_to_vec(), &[]).unwrap();
    // The event socket came along: to close it would be to leave.
    let attached = stranger.receive().unwrap();
    assert_eq!(attached.request_id, 1);
    stranger.send(&nothing.encode_to_vec(), &[]).unwrap();
    let Response::Refused(error) = response(&stranger) else {
        panic!("it is told why");
    };
    assert_eq!(error.reason(), ErrorReason::Malformed);
    drop((stranger, attached));
    besieged.recovers();
}

/// Sends a message with descriptors that nobody awaits: either the kernel refuses to send it, and
/// the connection is as it was, or the daemon refuses what it received. Which of both, the daemon
/// has said when it started.
fn send_unwanted(besieged: &Besieged, connection: &Connection, bytes: &[u8], files: &[RawFd]) {
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::IoSlice;

    let rights = [ControlMessage::ScmRights(files)];
    let parts = [IoSlice::new(bytes)];
    let (socket, flags) = (connection.socket().as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    let sent = sendmsg::<()>(socket, &parts, &rights, flags, None);
    let count = files.len();
    if besieged.daemon.refuses_descriptors() {
        assert_eq!(sent, Err(Errno::EPERM), "{count}");
    } else {
        assert_eq!(sent, Ok(bytes.len()), "{count}");
        let response = response(connection);
        assert!(matches!(response, Response::Refused(_)), "{count}");
    }
}

fn encoded(body: request::Body) -> Vec<u8> {
    let request = Request {
        request_id: 9,
        body: Some(body),
    };
    request.encode_to_vec()
}

#[test]
fn descriptors_that_nobody_asked_for_are_not_kept() {
    let file = own_file(EXTENT);
    let files = [file.as_raw_fd(); 64];
    for besieged in Besieged::of_both_kernels() {
        for count in [1, 2, 63, 64] {
            besieged.let_in("client").ask(ask::detach());
            let stranger = besieged.stranger();
            let attach = attach().encode_to_vec();
            send_unwanted(&besieged, &stranger, &attach, &files[..count]);
            for body in [ask::tiers(), ask::create("ddr", EXTENT), ask::detach()] {
                let client = besieged.let_in("client");
                let asked = encoded(body);
                send_unwanted(&besieged, client.connection(), &asked, &files[..count]);
            }
        }
        besieged.recovers();
    }
}

#[test]
fn more_descriptors_than_a_message_may_carry_are_not_kept() {
    /// What the kernel takes at most.
    const SCM_MAX_FD: usize = 253;
    let file = own_file(EXTENT);
    let files = [file.as_raw_fd(); SCM_MAX_FD];
    for besieged in Besieged::of_both_kernels() {
        for count in [65, 128, SCM_MAX_FD] {
            let client = besieged.let_in("client");
            let asked = encoded(ask::tiers());
            send_unwanted(&besieged, client.connection(), &asked, &files[..count]);
        }
        besieged.recovers();
    }
}
