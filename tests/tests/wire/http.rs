//! Bytes that are no call, on the operators' socket and on that of the metrics.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use tierpool_tests::pattern::word;

use crate::Besieged;

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that claims any length.
fn frame(kind: u8, claimed: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = claimed.to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, 0, 0, 0, 0, 1]);
    frame.extend(payload);
    frame
}

fn attacks() -> Vec<Vec<u8>> {
    let noise = |seed, words| {
        (0..words)
            .flat_map(|at| word(seed, at).to_be_bytes())
            .collect::<Vec<_>>()
    };
    let mut attacks = vec![
        Vec::new(),
        b"\0".to_vec(),
        b"GET /metrics HTTP/1.1\r\n".repeat(4_000),
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        GREETING[..10].to_vec(),
        [
            GREETING,
            &frame(4, 0, &[]),
            &frame(0, 0x00ff_ffff, &noise(1, 500)),
        ]
        .concat(),
        [
            GREETING,
            &frame(4, 0, &[]),
            &frame(1, 4_000, &noise(2, 500)),
        ]
        .concat(),
        [GREETING, &frame(4, 0, &[]).repeat(5_000)].concat(),
    ];
    attacks.extend((0..20).map(|seed| noise(seed, 1 << seed.min(12))));
    attacks.extend((0..20).map(|seed| [GREETING, &noise(seed, 1 << seed.min(12))].concat()));
    attacks
}

/// Sends what the daemon takes, and waits until it has closed the connection.
fn attack(socket: &std::path::Path, bytes: &[u8]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    // The daemon may close before it has read everything, and then also before we are done.
    if stream.write_all(bytes).is_ok() {
        drop(stream.shutdown(Shutdown::Write));
    }
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
}

#[test]
fn what_is_no_call_ends_its_connection_only() {
    let mut besieged = Besieged::new();
    let sockets = [
        besieged.daemon.admin_socket(),
        besieged.daemon.path("run/metrics.sock"),
    ];
    for bytes in attacks() {
        for socket in &sockets {
            attack(socket, &bytes);
        }
        assert!(besieged.daemon.is_running());
    }
    // Connections that never speak, and one that still is served beside them.
    let silent: Vec<_> = (0..32)
        .map(|_| UnixStream::connect(besieged.daemon.admin_socket()).unwrap())
        .collect();
    besieged.daemon.balanced();
    drop(silent);
    besieged.recovers();
}
