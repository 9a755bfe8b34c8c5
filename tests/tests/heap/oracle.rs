//! Threads and processes do what a list says, one after the other, and after each step the heap is
//! what an oracle says it is.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use allocator::pool::PoolHeap;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tierpool_tests::blocks;
use tierpool_tests::family::Family;
use tierpool_tests::hand::{Hand, Order, ROOTS, root};
use tierpool_tests::kin::Told;

use super::scene::WHOLE;

/// The first are threads of the test, the others are processes.
const THREADS: usize = 2;
const HANDS: usize = 4;

/// One step. Blocks are chosen among those that there are.
#[derive(Debug, Clone)]
enum Step {
    Allocate(usize),
    Publish(prop::sample::Index),
    Free(prop::sample::Index),
    FreeAgain(prop::sample::Index),
    Link(usize, prop::sample::Index),
    Retire(usize),
    Rest,
    Renew,
    Kill,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let index = any::<prop::sample::Index>;
    let bytes = prop_oneof![
        8 => 16_usize..300,
        4 => 300_usize..9_000,
        2 => 9_000_usize..400_000,
        1 => 400_000_usize..3_000_000,
    ];
    let step = prop_oneof![
        12 => bytes.prop_map(|bytes| Step::Allocate(bytes & !7)),
        5 => index().prop_map(Step::Publish),
        6 => index().prop_map(Step::Free),
        2 => index().prop_map(Step::FreeAgain),
        4 => (0..ROOTS, index()).prop_map(|(root, block)| Step::Link(root, block)),
        3 => (0..ROOTS).prop_map(Step::Retire),
        1 => Just(Step::Rest),
        1 => Just(Step::Renew),
        1 => Just(Step::Kill),
    ];
    (0..HANDS, step)
}

/// What the oracle knows of a block.
#[derive(Debug, Clone, Copy)]
struct Block {
    bytes: usize,
    seed: u64,
    /// Whose it is until it is published.
    owner: Option<usize>,
}

/// A thread that carries out lines.
struct Threaded {
    orders: Sender<String>,
    answers: Receiver<String>,
    thread: JoinHandle<()>,
}

impl Threaded {
    fn start(heap: PoolHeap) -> Self {
        let (orders, lines) = channel::<String>();
        let (told, answers) = channel();
        let thread = std::thread::spawn(move || {
            let mut hand = Hand::new(heap).expect(WHOLE);
            for line in lines {
                told.send(hand.answer(&line)).expect(WHOLE);
            }
        });
        Self {
            orders,
            answers,
            thread,
        }
    }
}

enum Worker {
    Thread(Threaded),
    Process(Told),
}

struct World {
    family: Family,
    heap: PoolHeap,
    workers: Vec<Worker>,
    blocks: BTreeMap<usize, Block>,
    roots: [u64; ROOTS],
    /// Blocks that were freed, and not given out since.
    freed: Vec<usize>,
    seed: u64,
}

impl World {
    fn new() -> Self {
        let family = Family::new();
        let heap = family.heap(1);
        let mut world = Self {
            heap,
            workers: Vec::new(),
            blocks: BTreeMap::new(),
            roots: [0; ROOTS],
            freed: Vec::new(),
            seed: 0,
            family,
        };
        world.workers = (0..HANDS).map(|hand| world.worker(hand)).collect();
        world
    }

    fn worker(&self, hand: usize) -> Worker {
        if hand < THREADS {
            return Worker::Thread(Threaded::start(self.heap.clone()));
        }
        let program = (env!("CARGO_BIN_EXE_kin"), None);
        let mut process = Told::start(&self.family, 1 + hand, program, &["serves"]);
        assert_eq!(process.hear().as_deref(), Some("ready"));
        Worker::Process(process)
    }

    /// Has a hand do something: the address, or what it was told.
    fn order(&mut self, hand: usize, order: Order) -> Result<usize, String> {
        let line = order.line();
        let answer = match &mut self.workers[hand] {
            Worker::Thread(thread) => {
                thread.orders.send(line).expect(WHOLE);
                thread.answers.recv().expect(WHOLE)
            }
            Worker::Process(process) => {
                process.tell(&line);
                process.hear().expect(WHOLE)
            }
        };
        answer.parse().map_err(|_| answer)
    }

    fn choose(&self, index: &prop::sample::Index) -> Option<usize> {
        let keys: Vec<usize> = self.blocks.keys().copied().collect();
        (!keys.is_empty()).then(|| *index.get(&keys))
    }

    fn is_linked(&self, block: usize) -> bool {
        self.roots.contains(&(block as u64))
    }

    fn check(&self, block: usize) {
        let Block { bytes, seed, .. } = self.blocks[&block];
        self.heap.resolve(pointer(block)).expect(WHOLE);
        assert!(
            blocks::is_signed(block, bytes, seed),
            "{block:#x} of {bytes}"
        );
    }

    fn forget(&mut self, block: usize) {
        self.blocks.remove(&block);
        self.freed.push(block);
    }

    fn step(&mut self, hand: usize, step: &Step) {
        match step {
            Step::Allocate(bytes) => self.allocate(hand, *bytes),
            Step::Publish(index) => {
                let Some(block) = self.choose(index) else {
                    return;
                };
                let may = self.blocks[&block].owner == Some(hand);
                let done = self.order(hand, Order::Publish(block));
                assert_eq!(done.is_ok(), may, "{done:?}");
                if may {
                    self.blocks.get_mut(&block).expect(WHOLE).owner = None;
                }
            }
            Step::Free(index) => {
                let Some(block) = self.choose(index) else {
                    return;
                };
                if !self.is_linked(block) {
                    self.check(block);
                    let owner = self.blocks[&block].owner;
                    let may = owner.is_none_or(|owner| owner == hand);
                    let done = self.order(hand, Order::Free(block));
                    assert_eq!(done.is_ok(), may, "{done:?}");
                    if may {
                        self.forget(block);
                    }
                }
            }
            Step::FreeAgain(index) => {
                if !self.freed.is_empty() {
                    let block = *index.get(&self.freed);
                    let done = self.order(hand, Order::Free(block));
                    assert!(done.is_err(), "{block:#x} was free");
                }
            }
            Step::Link(root, index) => self.link(hand, *root, index),
            Step::Retire(root) => {
                let value = self.roots[*root];
                let block = usize::try_from(value).expect(WHOLE);
                if block != 0 {
                    self.check(block);
                    let retire = Order::Retire {
                        root: *root,
                        block,
                        value: 0,
                    };
                    self.order(hand, retire).expect("it is linked");
                    self.roots[*root] = 0;
                    self.forget(block);
                }
            }
            Step::Rest => {
                self.order(hand, Order::Rest).expect("it may rest");
            }
            Step::Renew if hand >= THREADS => {
                self.order(hand, Order::Renew).expect("it may leave");
            }
            Step::Kill if hand >= THREADS => self.kill(hand),
            Step::Renew | Step::Kill => {}
        }
    }

    fn allocate(&mut self, hand: usize, bytes: usize) {
        self.seed += 1;
        let seed = self.seed;
        let order = Order::Allocate { bytes, seed };
        let block = self.order(hand, order).expect("there is room");
        let before = self.blocks.range(..block + bytes).next_back();
        if let Some((&before, of)) = before {
            assert!(before + of.bytes <= block, "{before:#x} and {block:#x}");
        }
        let owner = Some(hand);
        self.blocks.insert(block, Block { bytes, seed, owner });
        self.freed
            .retain(|&freed| !(block..block + bytes.max(1)).contains(&freed));
    }

    fn link(&mut self, hand: usize, root: usize, index: &prop::sample::Index) {
        let Some(block) = self.choose(index) else {
            return;
        };
        let may = self.blocks[&block].owner == Some(hand);
        let link = |expected| Order::Link {
            root,
            expected,
            block,
        };
        let wrong = self.order(hand, link(self.roots[root] + 16));
        assert!(wrong.is_err(), "the root has another value");
        if self.roots[root] != 0 {
            return;
        }
        let done = self.order(hand, link(0));
        assert_eq!(done.is_ok(), may, "{done:?}");
        if may {
            self.roots[root] = block as u64;
            self.blocks.get_mut(&block).expect(WHOLE).owner = None;
        }
    }

    /// Kills a process: what it had not published is free.
    fn kill(&mut self, hand: usize) {
        let next = |world: &Self| world.worker(hand);
        let Worker::Process(_) = self.workers[hand] else {
            return;
        };
        let old = self.workers.remove(hand);
        if let Worker::Process(process) = old {
            process.kill(&self.family);
        }
        // It may not have had the heap yet.
        let _recovered = self.heap.recover().expect(WHOLE);
        let worker = next(self);
        self.workers.insert(hand, worker);
        self.blocks.retain(|_, block| block.owner != Some(hand));
    }

    /// What the heap says of itself is what the oracle says.
    fn compare(&mut self) {
        for hand in 0..HANDS {
            self.order(hand, Order::Rest).expect("it may rest");
        }
        let audit = self.heap.audit().expect(WHOLE);
        assert_eq!(audit.findings, [], "{audit:?}");
        let told = self.heap.blocks().expect(WHOLE);
        let told: BTreeMap<usize, bool> = told
            .iter()
            .map(|block| (block.address, block.is_pending))
            .collect();
        let known: BTreeMap<usize, bool> = self
            .blocks
            .iter()
            .map(|(&address, block)| (address, block.owner.is_some()))
            .collect();
        assert_eq!(told, known);
        for (number, &value) in self.roots.iter().enumerate() {
            let cell = self.heap.root(&root(number)).expect(WHOLE);
            assert_eq!(self.heap.load(cell).expect(WHOLE), value);
        }
        let blocks: Vec<usize> = self.blocks.keys().copied().collect();
        blocks.into_iter().for_each(|block| self.check(block));
    }

    fn end(mut self) {
        self.compare();
        for worker in self.workers.drain(..) {
            match worker {
                Worker::Thread(thread) => {
                    drop(thread.orders);
                    thread.thread.join().expect(WHOLE);
                }
                Worker::Process(process) => process.kill(&self.family),
            }
        }
    }
}

fn pointer(address: usize) -> std::ptr::NonNull<u8> {
    let place = std::ptr::with_exposed_provenance_mut(address);
    std::ptr::NonNull::new(place).expect("no block is at 0")
}

#[test]
fn threads_and_processes_find_what_an_oracle_says_whoever_is_killed() {
    let config = Config {
        cases: 64,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let steps = prop::collection::vec(step(), 1..250);
    let run = TestRunner::new(config).run(&steps, |steps| {
        let mut world = World::new();
        for (number, (hand, step)) in steps.iter().enumerate() {
            world.step(*hand, step);
            if number % 50 == 49 {
                world.compare();
            }
        }
        world.end();
        Ok(())
    });
    run.unwrap();
}
