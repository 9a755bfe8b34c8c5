//! Whatever is sent to the sockets, the servers live, answer the next call, and keep no descriptor.
//!
//! One test, since it counts the descriptors of its process.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

#[path = "support/call.rs"]
mod call;
#[path = "support/fake.rs"]
#[expect(
    dead_code,
    reason = "the other tests of the servers use the rest of it"
)]
mod fake;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use call::{dial, in_runtime};
use fake::Fake;
use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use pool_proto::admin::v1 as admin;
use tonic::Code;

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, claimed_bytes: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = claimed_bytes.to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Bytes without a pattern, the same in each run.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(bytes).collect()
}

fn greeted(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = GREETING.to_vec();
    bytes.extend(frame(4, 0, 0, 0, &[]));
    bytes.extend(frames.concat());
    bytes
}

fn attacks() -> Vec<Vec<u8>> {
    let mut attacks = vec![
        Vec::new(),
        GREETING.to_vec(),
        b"PRI * HTTP/2.0\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET ".repeat(1 << 14),
        // A frame that claims 16 MiB, headers that are noise, data of no stream, a window of zero.
        greeted(&[frame(0, 0, 1, 0x00ff_ffff, &noise(1, 4096))]),
        greeted(&[frame(1, 5, 1, 200, &noise(2, 200))]),
        greeted(&[frame(0, 1, 7, 10, &[0; 10])]),
        greeted(&[frame(8, 0, 0, 4, &[0; 4])]),
        // Streams opened and reset as fast as they can be sent.
        greeted(&(0..4_000).map(rapid_reset).collect::<Vec<_>>()),
        // Settings and pings without end.
        greeted(&vec![frame(4, 0, 0, 0, &[]); 20_000]),
        greeted(&vec![frame(6, 0, 0, 8, &[7; 8]); 20_000]),
        // A call whose message claims 4 GiB.
        greeted(&[
            call_headers(1),
            frame(0, 1, 1, 5, &[0, 0xff, 0xff, 0xff, 0xff]),
        ]),
        // Headers that never end.
        greeted(&vec![frame(9, 0, 1, 1000, &noise(3, 1000)); 200]),
    ];
    attacks.extend((10..60).map(|seed| noise(seed, 997)));
    attacks.extend((60..110).map(|seed| greeted(&[noise(seed, 499)])));
    attacks
}

fn rapid_reset(turn: u32) -> Vec<u8> {
    let stream = 2 * turn + 1;
    [call_headers(stream), frame(3, 0, stream, 4, &[0, 0, 0, 8])].concat()
}

/// `POST /tierpool.admin.v1.Pool/GetStatus`, without compression.
fn call_headers(stream: u32) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", "/tierpool.admin.v1.Pool/GetStatus"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let length = u32::try_from(block.len()).unwrap();
    frame(1, 4, stream, length, &block)
}

/// Sends, tells the server that no more comes, and reads until the server has had enough.
fn attack(socket: &Path, bytes: &[u8]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut reading = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        // A reset by the server is an end as good as any.
        reading
            .read_to_end(&mut answer)
            .map(drop)
            .unwrap_or_default();
    });
    // The server may hang up in the middle.
    if stream.write_all(bytes).is_ok() {
        stream.shutdown(Shutdown::Write).unwrap_or_default();
    }
    reader.join().unwrap();
}

fn still_answers(fake: &Fake) {
    in_runtime(async {
        let mut pool = dial(fake).await;
        let status = pool.get_status(admin::GetStatusRequest {}).await.unwrap();
        assert_eq!(status.into_inner().pid, 4242);
    });
}

/// Nothing of what came before is left: waits for the servers to have closed it.
fn settles_at(before: usize) {
    let deadline = Deadline::after(Nanos::from_millis(30_000));
    let settled = eventually(deadline, || (descriptors() <= before).then_some(()));
    assert!(
        settled.is_ok(),
        "{} descriptors, {before} before",
        descriptors()
    );
}

#[test]
fn nothing_that_is_sent_stops_the_servers_or_stays() {
    let fake = Fake::start();
    still_answers(&fake);
    let before = descriptors();

    for bytes in attacks() {
        attack(&fake.config.admin_socket, &bytes);
        attack(&fake.config.metrics_socket, &bytes);
    }
    still_answers(&fake);
    settles_at(before);

    // A message beyond the bound is refused as such.
    in_runtime(async {
        let mut pool = dial(&fake).await;
        let device = "x".repeat(2 << 20);
        let huge = pool
            .drain_device(admin::DrainDeviceRequest { device })
            .await;
        assert_eq!(huge.unwrap_err().code(), Code::OutOfRange);
    });

    // More half-open connections than one user may have; those beyond are closed at once.
    let silent: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(&fake.config.admin_socket).unwrap())
        .collect();
    // 64 of the hundred, or fewer while the connection before still closes.
    let refused = || {
        let page = fake.metrics.render().unwrap();
        let mut counts = page.lines().filter_map(|line| {
            line.strip_prefix("tierpool_connections_refused_total ")?
                .parse::<u32>()
                .ok()
        });
        counts.next().filter(|count| *count >= 36)
    };
    eventually(Deadline::after(Nanos::from_millis(30_000)), refused).unwrap();
    drop(silent);
    settles_at(before);
    still_answers(&fake);
    settles_at(before);
}
