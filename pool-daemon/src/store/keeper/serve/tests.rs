//! The loop in a thread of the test, with its waits made short.

use std::fs::File;
use std::os::fd::AsFd;

use pool_core::clock::eventually;
use pool_core::sync::thread;
use tempfile::TempDir;

use super::super::super::DescriptorStore;
use super::super::{Keeper, SOCKET};
use super::*;

type Running = thread::JoinHandle<Result<(), StoreError>>;

/// A keeper that gives up after `idle`, and the folder in which it is found.
fn running(capacity: usize, idle: Nanos) -> (TempDir, Running) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::listen(&directory.path().join(SOCKET), capacity).unwrap();
    (directory, thread::spawn(move || server.run(idle)))
}

/// Its daemon. There is no program to start another keeper from.
fn connected(directory: &TempDir) -> Keeper {
    Keeper::connect_or_spawn(directory.path(), Path::new("/nonexistent")).unwrap()
}

fn backing(number: u64) -> BackingId {
    BackingId::new(number).unwrap()
}

fn put(keeper: &mut Keeper, number: u64) -> Result<(), StoreError> {
    keeper.put(backing(number), File::open("/dev/null").unwrap().as_fd())
}

#[test]
fn a_keeper_that_holds_nothing_ends_when_nobody_comes() {
    let (directory, server) = running(8, Nanos::from_millis(1));
    assert_eq!(server.join().unwrap(), Ok(()));
    assert!(!directory.path().join(SOCKET).exists());
}

#[test]
fn a_keeper_that_holds_something_ends_only_when_it_cannot_be_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(SOCKET);
    let server = Server::listen(&path, 8).unwrap();
    // There is a daemon before the keeper could miss one.
    let daemon = socket::connect_to(&path).unwrap();
    let null = File::open("/dev/null").unwrap();
    let put = Request::Put(backing(1)).encode();
    packet::send(daemon.as_fd(), &put, &[null.as_fd()]).unwrap();
    let server = thread::spawn(move || server.run(Nanos::from_millis(1)));
    drop(daemon);
    for _ in 0..50 {
        assert_eq!(connected(&directory).count(), Ok(1));
    }
    fs::remove_file(path).unwrap();
    assert_eq!(server.join().unwrap(), Ok(()));
}

#[test]
fn a_full_keeper_refuses_the_next_and_keeps_the_rest() {
    let (directory, server) = running(2, IDLE);
    let mut keeper = connected(&directory);
    for number in [1, 2, 2] {
        assert_eq!(put(&mut keeper, number), Ok(()));
    }
    assert_eq!(put(&mut keeper, 3), Err(StoreError::Full { limit: 2 }));
    assert_eq!(keeper.count(), Ok(2));
    keeper.remove(backing(1)).unwrap();
    assert_eq!(put(&mut keeper, 3), Ok(()));
    keeper.end().unwrap();
    assert_eq!(server.join().unwrap(), Ok(()));
}

#[test]
fn what_lies_in_the_old_connection_is_seen_by_the_new_one() {
    let (directory, server) = running(1_000, IDLE);
    let mut total = 0;
    for round in 0..20 {
        let mut old = connected(&directory);
        for number in 1..=40 {
            put(&mut old, round * 100 + number).unwrap();
        }
        total += 40;
        // Nobody has looked at an answer to the old one, and it is still there.
        let mut new = connected(&directory);
        assert_eq!(new.count(), Ok(total));
        drop(old);
    }
    connected(&directory).end().unwrap();
    assert_eq!(server.join().unwrap(), Ok(()));
}

#[test]
fn what_a_daemon_sent_that_died_with_answers_unread_is_kept() {
    const ROUNDS: u64 = 200;
    const EACH: u64 = 30;
    let (directory, server) = running(usize::MAX, IDLE);
    let path = directory.path().join(SOCKET);
    let null = File::open("/dev/null").unwrap();
    for round in 0..ROUNDS {
        // As soon as the keeper has taken up some of those before.
        let deadline = Deadline::after(Nanos::from_millis(300_000));
        let daemon = eventually(deadline, || socket::connect_to(&path).ok()).unwrap();
        for number in 1..=EACH {
            let put = Request::Put(backing(round * EACH + number)).encode();
            packet::send(daemon.as_fd(), &put, &[null.as_fd()]).unwrap();
        }
        drop(daemon);
    }
    // As before: its queue may be full of those who have gone.
    let deadline = Deadline::after(Nanos::from_millis(300_000));
    let connect = || Keeper::connect_or_spawn(directory.path(), Path::new("/nonexistent")).ok();
    let mut keeper = eventually(deadline, connect).unwrap();
    let all = usize::try_from(ROUNDS * EACH).unwrap();
    assert_eq!(keeper.count(), Ok(all));
    assert_eq!(keeper.recover().unwrap().len(), all);
    keeper.end().unwrap();
    assert_eq!(server.join().unwrap(), Ok(()));
}

#[test]
fn what_is_no_request_is_refused_and_changes_nothing() {
    let (directory, server) = running(8, IDLE);
    let mut keeper = connected(&directory);
    put(&mut keeper, 1).unwrap();
    assert_eq!(keeper.count(), Ok(1));
    let null = File::open("/dev/null").unwrap();
    let files = [null.as_fd(); 64];
    let hostile = socket::connect_to(&directory.path().join(SOCKET)).unwrap();
    let mut answer = [0; 64];
    let put = Request::Put(backing(2)).encode();
    let long = [put.as_slice(), &[0]].concat();
    let cases: [(&[u8], &[BorrowedFd<'_>], &[u8]); 7] = [
        (b"x", &[], &wire::NOT_UNDERSTOOD),
        (&[0xff; 16], &[], &wire::NOT_UNDERSTOOD),
        (&long, &files[..1], &wire::NOT_UNDERSTOOD),
        (&[1; 60_000], &files, &wire::NOT_UNDERSTOOD),
        (&put, &files[..2], &wire::NOT_UNDERSTOOD),
        (&put, &[], &refusal(Request::Put(backing(2)))),
        (
            &Request::Count.encode(),
            &files[..1],
            &refusal(Request::Count),
        ),
    ];
    for (bytes, files, expected) in cases {
        packet::send(hostile.as_fd(), bytes, files).unwrap();
        let deadline = Deadline::after(Nanos::from_millis(300_000));
        let got = packet::receive_by(hostile.as_fd(), &mut answer, deadline).unwrap();
        assert_eq!(&answer[..got.len], expected);
    }
    drop(hostile);
    let mut keeper = connected(&directory);
    assert_eq!(keeper.count(), Ok(1));
    keeper.end().unwrap();
    assert_eq!(server.join().unwrap(), Ok(()));
}

fn refusal(request: Request) -> Vec<u8> {
    let status = Status::Refused;
    let numbers = vec![];
    Reply {
        request,
        status,
        numbers,
    }
    .encode()
}
