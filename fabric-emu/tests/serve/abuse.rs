//! Whatever a client does, the server goes on, and serves the others.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::{Message, Request, Wire as _};
use fabric_emu::serve::wire::{MemoryAnswer, Outcome};
use fabric_emu::serve::{AskError, Config, MESSAGE_BYTES_MAX, Mode, ORDER_BYTES_MAX};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use pool_core::Nanos;
use pool_core::clock::eventually;
use pool_core::limits::MESSAGE_BYTES_MAX as PACKET_BYTES_MAX;
use pool_core::packet::{self, PacketError};
use pool_core::rng::Rng;

use crate::commands::{connect_std, read_message};
use crate::rig::{Rig, soon};

const SWITCH: &str = "switch0.cci";

fn identify() -> Vec<u8> {
    let message = Message::request(1, &Request::Identify(Empty)).unwrap();
    message.encode()
}

/// Somebody else is served as ever.
fn assert_serves(rig: &Rig) {
    assert!(rig.remote(SWITCH).ask(&Request::Identify(Empty)).is_ok());
    assert!(rig.operator().state().is_ok());
    assert_eq!(rig.carver(0).list(), Ok(Vec::new()));
}

fn assert_closed(socket: &mut UnixStream) {
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(0) => {}
        // What was sent had not been read.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}: {rest:?}"),
    }
}

fn short() -> Config {
    Config {
        patience: Nanos::from_millis(50),
        ..Config::new(Mode::Virtual, 1)
    }
}

#[test]
fn what_is_no_command_ends_its_connection_and_no_other() {
    let rig = Rig::start();
    let sound = identify();
    let with = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        bytes
    };
    let garbage = [
        with(0, 0x10),
        with(0, 2),
        // An answer.
        with(0, 1),
        with(2, 1),
        with(7, 0x20),
        // A payload of 2 MiB.
        with(7, 0x1f),
        // A return code that there is not.
        with(8, 0xff),
    ];
    for bytes in garbage {
        let mut socket = connect_std(&rig, SWITCH);
        socket.write_all(&bytes).unwrap();
        assert_closed(&mut socket);
        assert_serves(&rig);
    }
}

#[test]
fn any_bytes_are_survived_at_any_socket() {
    let rig = Rig::start();
    let mut rng = Rng::new(11);
    for round in 0..200 {
        let name = [SWITCH, "memdev0.cci", "host0-memdev0-ld0.cci", "control"][round % 4];
        let mut socket = connect_std(&rig, name);
        let mut bytes: Vec<u8> = (0..rng.below(300))
            .map(|_| u8::try_from(rng.below(256)).unwrap())
            .collect();
        // Half of them begin as commands do.
        if round % 8 < 4 && bytes.len() > 12 {
            bytes[..12].copy_from_slice(&identify());
            bytes[3] = u8::try_from(rng.below(6)).unwrap();
            bytes[4] = u8::try_from(rng.below(0x59)).unwrap();
            bytes[5] = u8::try_from(rng.below(64)).unwrap();
        }
        // The server may have closed it by the time.
        let _sent = socket.write_all(&bytes);
    }
    assert_serves(&rig);
}

#[test]
fn packets_that_mean_nothing_are_told_so() {
    let rig = Rig::start();
    let path = rig.path("host0.memory");
    let mut rng = Rng::new(5);
    let socket = seqpacket(&path);
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..=rng.below(64))
            .map(|_| u8::try_from(rng.below(8)).unwrap())
            .collect();
        packet::send_by(socket.as_fd(), &bytes, &[], soon()).unwrap();
        let told = packet::receive_by(socket.as_fd(), &mut buffer, soon()).unwrap();
        assert!(told.descriptors.is_empty());
        let answer = MemoryAnswer::decode(&buffer[..told.len]).unwrap();
        assert_ne!(answer.carving, u64::MAX);
    }
    packet::send_by(socket.as_fd(), &[9; 16], &[], soon()).unwrap();
    let told = packet::receive_by(socket.as_fd(), &mut buffer, soon()).unwrap();
    let answer = MemoryAnswer::decode(&buffer[..told.len]).unwrap();
    assert_eq!(answer.outcome, Outcome::Malformed);
    // A descriptor never enters the server, and who sends one is dropped.
    let file = std::fs::File::open("/dev/null").unwrap();
    packet::send_by(socket.as_fd(), &[1; 16], &[file.as_fd()], soon()).unwrap();
    let told = packet::receive_by(socket.as_fd(), &mut buffer, soon());
    assert_eq!(told.map(|it| it.len), Err(PacketError::Closed));
    assert_serves(&rig);
}

fn seqpacket(path: &std::path::Path) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd as _;

    let directory = std::fs::File::open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    connect(made.as_raw_fd(), &UnixAddr::new(path.as_str()).unwrap()).unwrap();
    made
}

#[test]
fn half_a_message_is_waited_for_so_long_and_no_longer() {
    let rig = Rig::with(short());
    let mut silent = connect_std(&rig, SWITCH);
    for half in [1, 7, 11] {
        let mut socket = connect_std(&rig, SWITCH);
        socket.write_all(&identify()[..half]).unwrap();
        assert_closed(&mut socket);
    }
    let mut header = identify();
    header[5] = 100;
    let mut socket = connect_std(&rig, SWITCH);
    socket.write_all(&header).unwrap();
    assert_closed(&mut socket);
    let mut operator = connect_std(&rig, "control");
    operator.write_all(b"\"sta").unwrap();
    assert_closed(&mut operator);
    // Who has begun nothing is waited for all the time.
    silent.write_all(&identify()).unwrap();
    assert_eq!(read_message(&mut silent, &mut Vec::new()).opcode, 1);
    assert_serves(&rig);
}

#[test]
fn a_peer_that_does_not_read_is_dropped() {
    let rig = Rig::with(short());
    let socket = connect_std(&rig, SWITCH);
    socket.set_nonblocking(true).unwrap();
    let many: Vec<u8> = identify().repeat(1_000);
    let mut sent = 0_usize;
    let end = loop {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            &many[sent % 12..],
            flags,
        ) {
            Ok(bytes) => sent += bytes,
            Err(Errno::EAGAIN) => match packet::wait_writable(socket.as_fd(), soon()) {
                Ok(()) | Err(PacketError::Closed) => {}
                Err(error) => break Err(error),
            },
            Err(Errno::EPIPE | Errno::ECONNRESET) => break Ok(()),
            Err(errno) => panic!("{errno}"),
        }
    };
    assert_eq!(end, Ok(()));
    // What was kept of it is what the kernel's buffers take, and little more.
    assert!(sent < 8 * MESSAGE_BYTES_MAX, "{sent}");
    assert_serves(&rig);
}

#[test]
fn a_socket_has_so_many_connections_and_the_others_have_theirs() {
    let rig = Rig::with(Config {
        connections_per_socket_max: 3,
        connections_max: 5,
        ..Config::new(Mode::Virtual, 1)
    });
    let mut first: Vec<_> = (0..3).map(|_| rig.remote(SWITCH)).collect();
    let ask = Request::Identify(Empty);
    for remote in &mut first {
        assert!(remote.ask(&ask).is_ok());
    }
    for _ in 0..40 {
        assert_eq!(rig.remote(SWITCH).ask(&ask), Err(AskError::Dropped));
    }
    let mut others = [rig.remote("memdev0.cci"), rig.remote("memdev0.cci")];
    for remote in &mut others {
        assert!(remote.ask(&ask).is_ok());
    }
    // All there are.
    assert!(rig.operator().state().is_err());
    drop(others);
    first.pop();
    let again = eventually(soon(), || rig.remote(SWITCH).ask(&ask).ok());
    assert!(again.is_ok());
}

#[test]
fn a_client_that_is_gone_in_the_middle_of_a_message_leaves_nothing() {
    let rig = Rig::with(Config {
        connections_per_socket_max: 2,
        ..Config::new(Mode::Virtual, 1)
    });
    for half in 1..40 {
        // It never waits for room: the one before is gone.
        let socket = eventually(soon(), || {
            let mut socket = connect_std(&rig, SWITCH);
            let message = identify();
            socket.write_all(&message).ok()?;
            let mut first = [0; 1];
            socket.read_exact(&mut first).ok()?;
            Some(socket)
        });
        let mut socket = socket.unwrap();
        socket.write_all(&identify()[..half % 12]).unwrap();
    }
    assert!(eventually(soon(), || rig.operator().state().ok()).is_ok());
}

#[test]
fn an_order_that_means_nothing_is_refused_and_a_line_without_end_is_dropped() {
    let rig = Rig::start();
    let mut socket = connect_std(&rig, "control");
    for line in [
        "",
        "{}",
        "\"stat\"",
        "{\"fault\":{\"host_dies\":-1}}",
        "\u{0}",
        "[[[[",
    ] {
        writeln!(socket, "{line}").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"{\"refused\""), "{answer:?}");
    }
    socket.write_all(&vec![b' '; ORDER_BYTES_MAX + 1]).unwrap();
    assert_closed(&mut socket);
    assert_serves(&rig);
}
