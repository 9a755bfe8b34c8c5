//! Rings between threads at full speed, and a producer that is killed.

#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use coherence::FutexWait;
use coherence::Slot;
use coherence::ring::{Capacity, Mpsc, OwnedMemory, Owner, RingError, RingMemory, Spsc};
use pool_core::clock::Deadline;
use pool_core::mem::{Access, FileMap};
use pool_core::sync::{Arc, thread};
use pool_core::units::{Bytes, Nanos};

const RECORDS: u64 = 2_000_000;

fn owner(slot: u8) -> Owner {
    let slot = Slot::new(slot).unwrap();
    Owner { slot, era: 1 }
}

fn deadline() -> Deadline {
    Deadline::after(Nanos::from_millis(60_000))
}

/// A record of which no word can stem from another one unseen.
fn record<const N: usize>(number: u64) -> [u64; N] {
    let mut word = number;
    core::array::from_fn(|_| {
        let this = word;
        word = (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ number;
        this
    })
}

fn check<const N: usize>(found: [u64; N], number: u64) {
    assert_eq!(found, record(number), "record {number}");
}

fn one_producer<const N: usize>(places: u64) {
    let capacity = Capacity::new(places).unwrap();
    let memory = Arc::new(OwnedMemory::new(Spsc::<N>::bytes(capacity)));
    Spsc::<N>::create(memory.memory(), capacity).unwrap();
    let other = Arc::clone(&memory);
    let producer = thread::spawn(move || {
        let ring = Spsc::<N>::open(other.memory()).unwrap();
        let mut producer = ring.producer(owner(1)).unwrap();
        let mut number = 0;
        while number < RECORDS {
            // Batches of every length, and single records between them.
            let batch: Vec<_> = (number..RECORDS).take(7).map(record).collect();
            let pushed = producer.try_push_many(&batch).unwrap();
            producer.notify(&FutexWait);
            number += u64::try_from(pushed).unwrap();
            if number < RECORDS {
                producer
                    .push(&record(number), &FutexWait, deadline())
                    .unwrap();
                number += 1;
            }
        }
    });
    let ring = Spsc::<N>::open(memory.memory()).unwrap();
    let mut consumer = ring.consumer(owner(2)).unwrap();
    let mut number = 0;
    let mut batch = [[0; N]; 5];
    while number < RECORDS {
        let popped = consumer.pop(&FutexWait, deadline()).unwrap();
        check(popped, number);
        number += 1;
        let count = consumer.try_pop_many(&mut batch).unwrap();
        consumer.notify(&FutexWait);
        for found in &batch[..count] {
            check(*found, number);
            number += 1;
        }
    }
    producer.join().unwrap();
    assert_eq!(consumer.try_pop().unwrap(), None);
}

#[test]
fn every_record_of_a_word_arrives_once_and_in_order() {
    one_producer::<1>(64);
}

#[test]
fn every_record_of_a_line_arrives_once_and_in_order() {
    one_producer::<8>(1024);
}

#[test]
fn every_record_of_three_producers_arrives_once_and_in_their_order() {
    const EACH: u64 = RECORDS / 4;
    let capacity = Capacity::new(64).unwrap();
    let memory = Arc::new(OwnedMemory::new(Mpsc::<4>::bytes(capacity)));
    Mpsc::<4>::create(memory.memory(), capacity).unwrap();
    let producers = [1u8, 2, 3].map(|slot| {
        let other = Arc::clone(&memory);
        thread::spawn(move || {
            let ring = Mpsc::<4>::open(other.memory()).unwrap();
            let sender = ring.sender(owner(slot));
            for number in 0..EACH {
                let record = record(u64::from(slot) << 56 | number);
                sender.push(&record, &FutexWait, deadline()).unwrap();
            }
        })
    });
    let ring = Mpsc::<4>::open(memory.memory()).unwrap();
    let mut receiver = ring.receiver(owner(9)).unwrap();
    let mut expected = [0; 4];
    for _ in 0..3 * EACH {
        let found = receiver.pop(&FutexWait, deadline(), |_| false).unwrap();
        let slot = usize::try_from(found[0] >> 56).unwrap();
        assert!((1..=3).contains(&slot), "{found:x?}");
        check(found, found[0] >> 56 << 56 | expected[slot]);
        expected[slot] += 1;
    }
    assert_eq!(expected, [0, EACH, EACH, EACH]);
    for producer in producers {
        producer.join().unwrap();
    }
}

const CHILD_FILE: &str = "TIERPOOL_TEST_RING";

fn map(file: &File) -> FileMap {
    let len = Bytes::new(file.metadata().unwrap().len());
    FileMap::new(file.as_fd(), Bytes::ZERO, len, Access::ReadWrite).unwrap()
}

/// Not a test of its own: the process that the test below kills.
#[test]
fn child_that_pushes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_FILE) else {
        return;
    };
    let file = File::options().read(true).write(true).open(path).unwrap();
    let map = map(&file);
    let ring = Mpsc::<4>::open(RingMemory::mapped(map.mapped()).unwrap()).unwrap();
    let sender = ring.sender(owner(1));
    for number in 0.. {
        sender
            .push(&record(number), &FutexWait, deadline())
            .unwrap();
    }
}

#[test]
fn a_killed_process_holds_up_no_other_and_each_record_it_published_arrives() {
    let path = std::env::temp_dir().join(format!("ring-{}", std::process::id()));
    let capacity = Capacity::new(8).unwrap();
    let options = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .clone();
    let file = options.open(&path).unwrap();
    file.set_len(Mpsc::<4>::bytes(capacity).get()).unwrap();
    let map = map(&file);
    let ring = Mpsc::<4>::create(RingMemory::mapped(map.mapped()).unwrap(), capacity).unwrap();
    let mut receiver = ring.receiver(owner(9)).unwrap();
    for _ in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_pushes_until_it_is_killed"])
            .env(CHILD_FILE, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for number in 0..1_000 {
            let found = receiver.pop(&FutexWait, deadline(), |_| false).unwrap();
            check(found, number);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut number = 1_000;
        // What it had pushed when it was killed; then another producer is not held up.
        let sender = ring.sender(owner(2));
        let last = record(u64::MAX);
        loop {
            match sender.try_push(&last) {
                Ok(()) => break,
                Err(RingError::Full) => {}
                Err(error) => panic!("{error}"),
            }
            let found = receiver
                .pop(&FutexWait, deadline(), |by| by == owner(1))
                .unwrap();
            check(found, number);
            number += 1;
        }
        loop {
            let found = receiver
                .pop(&FutexWait, deadline(), |by| by == owner(1))
                .unwrap();
            if found == last {
                break;
            }
            check(found, number);
            number += 1;
        }
    }
    std::fs::remove_file(path).unwrap();
}
