//! The private heap under loads that shift, for 20 seconds or as long as one likes: `cargo xtask
//! endure --minutes N`.
//!
//! # The load
//! Phases follow each other in a cycle, each with blocks of other sizes than the one before. In a
//! phase four threads at a time keep [`BUDGET`] each: they take blocks, free any of theirs, make
//! some another size and hand some to each other. Three times in a phase they end, and others go
//! on with what they had. At the end of a phase all blocks but a sixteenth are freed, by another
//! thread than had them: those left lie scattered over the memory of their phase, which can hold
//! no blocks of the next one. They are freed when the next phase ends. This is what Robson showed
//! to be worst for any allocator that moves no blocks, for one step back instead of all.
//!
//! # What is promised
//! 1. Each block holds what was put into it.
//! 2. At the end of every phase, resident memory is at most [`bound`] of what the threads had in
//!    this phase and in the last one. In use may be: what they had, for blocks are up to an eighth
//!    larger than asked for, and of the last phase each slab may be held by one block, so that its
//!    memory counts whole; and of each class a slab for each thread, which may have few blocks but
//!    has touched all of it. Idle may be as much as what is in use, before it goes back.
//! 3. When all is freed, at the end of a cycle, and memory was asked back, what is left does not
//!    grow from cycle to cycle by more than [`GROWTH_BYTES`].

#[path = "../resident/mod.rs"]
mod resident;
mod worker;

use std::sync::mpsc;

use allocator::{PrivateHeap, malloc};
use pool_core::Nanos;
use pool_core::clock::{self, Deadline};
use pool_core::sync::thread;

use resident::resident_bytes;
use worker::{Block, Shift, Worker};

#[global_allocator]
static HEAP: PrivateHeap = PrivateHeap;

const MIB: usize = 1 << 20;

const WORKERS: usize = 4;
/// What each worker keeps, in bytes of blocks and of what is noted of them.
const BUDGET: usize = 16 * MIB;
/// How often the workers of a phase are others.
const TURNS: u64 = 3;
const TURN: Nanos = Nanos::from_millis(80);
/// How many cycles there are at least: with some hundred threads in each, what grows is seen.
const CYCLES: usize = 8;
/// Of how many blocks one is left for the next phase.
const LEFT: usize = 16;

/// From the smallest blocks to those that are runs.
const SHIFTS: [Shift; 8] = [
    Shift::of("16 to 64 bytes", 16, 64),
    Shift::of("0.5 to 4 KiB", 512, 4 << 10),
    Shift::of("64 to 512 bytes", 64, 512),
    Shift::of("32 to 512 KiB", 32 << 10, 512 << 10),
    Shift::of("4 to 32 KiB", 4 << 10, 32 << 10),
    Shift::of("0.5 to 8 MiB", 512 << 10, 8 << 20),
    Shift::of("16 bytes to 1 MiB", 16, 1 << 20),
    Shift::of("1 to 2 KiB", 1 << 10, 2 << 10),
];

/// The program itself, with metadata, and what threads keep of empty slabs.
const PROGRAM_BYTES: usize = 96 * MIB;
/// What may be idle however little is in use.
const IDLE_BYTES: usize = 128 * MIB;
/// What may be left by each cycle.
const GROWTH_BYTES: usize = 16 * MIB;

/// How long to go on, as the environment says.
fn span() -> Nanos {
    let Ok(minutes) = std::env::var("TIERPOOL_ENDURE_MINUTES") else {
        return Nanos::ZERO;
    };
    let minutes: u64 = minutes.parse().expect("a number of minutes");
    Nanos::from_millis(minutes.saturating_mul(60_000))
}

/// One turn of the workers: what they have at its end, how many blocks they had, and how many bytes
/// at most at the same time.
fn turn(shift: Shift, seed: u64, mut blocks: Vec<Vec<Block>>) -> (Vec<Vec<Block>>, u64, usize) {
    let deadline = Deadline::after(TURN);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| mpsc::channel()).unzip();
    let threads: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(number, incoming)| {
            let had = blocks.pop().unwrap_or_default();
            let next = senders[(number + 1) % WORKERS].clone();
            let worker = Worker::new(shift, seed + number as u64, had);
            thread::spawn(move || worker.work(BUDGET, deadline, &incoming, next))
        })
        .collect();
    drop(senders);
    let (mut left, mut taken, mut most) = (Vec::new(), 0, 0);
    for thread in threads {
        let done = thread.join().expect("it works here");
        taken += done.taken;
        most += done.most_bytes;
        left.push(done.blocks);
    }
    (left, taken, most)
}

/// A phase that has ended, but for some of its blocks.
#[derive(Debug, Default)]
struct Phase {
    left: Vec<Block>,
    /// How many bytes its workers had at most.
    most: usize,
    /// How many bytes a slab of each class has, for each of them.
    slabs: usize,
}

impl Phase {
    fn run(shift: Shift, seed: u64, before: Self) -> Self {
        let (mut blocks, mut taken, mut most) = (Vec::new(), 0, 0);
        for number in 0..TURNS {
            let (left, of_turn, bytes) = turn(shift, seed + 100 * number, blocks);
            (blocks, taken, most) = (left, taken + of_turn, most.max(bytes));
        }
        let resident = resident_bytes();
        let mut left = Vec::new();
        for (number, block) in blocks.into_iter().flatten().enumerate() {
            if number % LEFT == 0 {
                left.push(block);
            } else {
                block.free();
            }
        }
        let slabs = WORKERS * shift.slab_bytes();
        let bound = bound(most + before.most, slabs + before.slabs);
        before.left.into_iter().for_each(Block::free);
        println!(
            "{:<18} {taken:>8} blocks, {:>3} MiB at most, resident {:>4} of {:>4} MiB, then {:>4}",
            shift.name,
            most / MIB,
            resident / MIB,
            bound / MIB,
            resident_bytes() / MIB,
        );
        assert!(resident <= bound, "{resident} bytes, more than {bound}");
        Self { left, most, slabs }
    }
}

/// How much memory there may be, in bytes, where the threads had `most` at the same time, and a
/// slab of each of their classes is `slabs`: rule 2.
fn bound(most: usize, slabs: usize) -> usize {
    let used = most + most / 8 + slabs;
    PROGRAM_BYTES + used + used.max(IDLE_BYTES)
}

/// All phases. What is resident after them, with nothing left to be freed.
fn cycle(number: usize) -> usize {
    let mut last = Phase::default();
    for (index, shift) in SHIFTS.into_iter().enumerate() {
        let seed = (number * SHIFTS.len() + index) as u64 * 1_000;
        last = Phase::run(shift, seed, last);
    }
    last.left.into_iter().for_each(Block::free);
    malloc::trim();
    resident_bytes()
}

#[test]
fn memory_stays_in_proportion_to_the_load_however_it_shifts() {
    let deadline = Deadline::at(clock::now().saturating_add(span()));
    let mut first = None;
    for number in 0.. {
        if number >= CYCLES && deadline.expired() {
            break;
        }
        let resident = cycle(number);
        println!("cycle {number}: {} MiB resident", resident / MIB);
        let first = *first.get_or_insert(resident);
        assert!(
            resident <= first + GROWTH_BYTES,
            "{first} bytes after the first cycle, {resident} after {number} more"
        );
    }
}
