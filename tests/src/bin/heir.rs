//! A process that has a heap of which it knows the name, and does one thing in it.
//!
//! `heir SOCKET LABEL HEAP COMMAND ROOT`:
//! - `link`: puts a list of 1,000 blocks, each with its number, into the root, and ends;
//! - `sum`: follows the list, and prints the sum of its numbers;
//! - `end`: retires the list, block by block, and ends;
//! - `hang`: does as `link`, allocates 1,000 blocks and a run more and publishes none, says so,
//!   and waits to be killed.

#![expect(clippy::unwrap_used, reason = "an heir that fails fails its test")]
#![expect(unsafe_code, reason = "blocks of a heap are reached through pointers")]

use std::io::Read as _;
use std::ptr::NonNull;

use client_sdk::{AttachOptions, Cell, Pool, PoolHeap, ThreadHeap};

/// A block: the next one, and a number.
#[repr(C)]
struct Node {
    next: u64,
    number: u64,
}

const NODES: u64 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, label, heap, command, root] = &arguments[..] else {
        panic!("heir SOCKET LABEL HEAP COMMAND ROOT");
    };
    let pool = Pool::attach(&AttachOptions::new().socket(socket).tenant(label)).unwrap();
    let heap = pool.open_heap(heap).unwrap();
    let mut mine = heap.thread().unwrap();
    let root = heap.root(root).unwrap();
    match command.as_str() {
        "link" => link(&mut mine, root),
        "sum" => println!("{}", sum(&heap, root)),
        "end" => end(&heap, &mut mine, root),
        "hang" => {
            link(&mut mine, root);
            for _ in 0..NODES {
                mine.allocate(48).unwrap();
            }
            mine.allocate(1 << 20).unwrap();
            println!("ready");
            let _ = std::io::stdin().read(&mut [0]);
        }
        other => panic!("no command {other}"),
    }
}

/// The list grows at its front, so that it is whole at any time.
fn link(mine: &mut ThreadHeap, root: Cell) {
    let mut next = 0;
    for number in 0..NODES {
        let block = mine.allocate(size_of::<Node>()).unwrap();
        let node = block.cast::<Node>();
        // SAFETY: the block is this thread's, and large enough.
        unsafe { node.write(Node { next, number }) };
        mine.link(root, next, block).unwrap();
        next = block.as_ptr().expose_provenance() as u64;
    }
}

fn node(heap: &PoolHeap, address: u64) -> Option<(NonNull<u8>, Node)> {
    let address = usize::try_from(address).unwrap();
    let block = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(address))?;
    heap.resolve(block).unwrap();
    // SAFETY: a block of the list, which is mapped and nobody changes.
    Some((block, unsafe { block.cast::<Node>().read() }))
}

fn sum(heap: &PoolHeap, root: Cell) -> u64 {
    let mut sum = 0;
    let mut next = heap.load(root).unwrap();
    while let Some((_, node)) = node(heap, next) {
        sum += node.number;
        next = node.next;
    }
    sum
}

fn end(heap: &PoolHeap, mine: &mut ThreadHeap, root: Cell) {
    while let Some((block, node)) = node(heap, heap.load(root).unwrap()) {
        // SAFETY: nobody else uses the list.
        unsafe { mine.retire(root, block, node.next) }.unwrap();
    }
}
