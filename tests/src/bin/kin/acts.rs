//! What a kin does before it dies: for each act, what there is before it, and the act.
//!
//! Before it is ready it tells, of each of its blocks that may be published when all is over:
//! - `keep A`: A is published, before and after.
//! - `gains A`: A is published after the act, and not before.
//! - `loses A`: A is published before the act, and not after.
//! - `tied A`: A is published if, and only if, the root `cell` has its address.
//! - `value V`: the root may have it.

use allocator::pool::{Cell, PoolHeap, ThreadHeap};
use tierpool_tests::blocks;

/// What of each block is written.
const SIGNED: usize = 16;
/// Sizes of which a kin has some blocks: two of small classes, one of a larger class, and a run.
const CROWD: [usize; 4] = [64, 300, 20_000, 700_000];

/// See the module.
pub(crate) struct Actor {
    heap: Option<PoolHeap>,
    mine: Option<ThreadHeap>,
    cell: Cell,
    blocks: Vec<usize>,
}

impl Actor {
    pub(crate) fn new(heap: PoolHeap) -> Self {
        let (mine, cell) = (heap.thread().unwrap(), heap.root("cell").unwrap());
        let mut actor = Self {
            heap: Some(heap),
            mine: Some(mine),
            cell,
            blocks: Vec::new(),
        };
        for bytes in CROWD {
            actor.kept(bytes);
            actor.pending(bytes);
            let freed = actor.pending(bytes);
            blocks::free(actor.mine(), freed).unwrap();
        }
        actor
    }

    fn heap(&self) -> &PoolHeap {
        self.heap.as_ref().unwrap()
    }

    fn mine(&mut self) -> &mut ThreadHeap {
        self.mine.as_mut().unwrap()
    }

    /// A new block.
    fn pending(&mut self, bytes: usize) -> usize {
        let block = blocks::allocate(self.mine(), bytes).unwrap();
        blocks::sign(block, SIGNED, 0);
        block
    }

    /// A block that stays.
    fn kept(&mut self, bytes: usize) -> usize {
        let block = self.pending(bytes);
        blocks::publish(self.mine(), block).unwrap();
        println!("keep {block:x}");
        block
    }

    /// Gets ready for the end of a thread.
    fn prepare_to_end(&mut self, how: &str) {
        match how {
            "nothing-pending" => {
                // What the crowd has pending is had by the thread that ended first.
                let next = self.heap().thread().unwrap();
                drop(self.mine.replace(next));
                self.kept(64);
                self.kept(5_000);
            }
            "run" => {
                // The one that ended before keeps what is pending.
                let mut other = self.heap().thread().unwrap();
                blocks::allocate(&mut other, 100).unwrap();
                drop(other);
                let mine = self.mine.as_mut().unwrap();
                blocks::allocate(mine, 700_000).unwrap();
            }
            "twice" => {
                let next = self.heap().thread().unwrap();
                drop(self.mine.replace(next));
                for bytes in [64, 5_000, 20_000] {
                    self.pending(bytes);
                    self.kept(bytes);
                }
            }
            _ => {}
        }
    }

    /// Gets ready for an act.
    pub(crate) fn prepare(&mut self, act: &[&str]) {
        match *act {
            ["allocate", bytes, before] => {
                for index in 0..number(before) {
                    if index % 2 == 0 {
                        self.kept(number(bytes));
                    } else {
                        self.pending(number(bytes));
                    }
                }
            }
            ["reuse", bytes, before] => {
                let blocks: Vec<_> = (0..number(before))
                    .map(|_| self.pending(number(bytes)))
                    .collect();
                for &block in blocks.iter().take(3) {
                    blocks::free(self.mine(), block).unwrap();
                }
            }
            ["publish", bytes] => {
                let block = self.pending(number(bytes));
                println!("gains {block:x}");
                self.blocks = vec![block];
            }
            ["free", bytes, count, which] => self.prepare_to_free(number(bytes), count, which),
            ["link" | "link-over", bytes] => {
                let block = self.pending(number(bytes));
                println!("tied {block:x}\nvalue {block:x}\nvalue 0");
                self.blocks = vec![block];
            }
            ["hear-and-publish", bytes] => {
                let (block, cell) = (self.pending(number(bytes)), self.cell);
                blocks::link(self.mine(), cell, 0, block).unwrap();
                println!("tied {block:x}");
            }
            ["retire", bytes] => {
                let block = self.pending(number(bytes));
                let cell = self.cell;
                blocks::link(self.mine(), cell, 0, block).unwrap();
                println!("tied {block:x}\nvalue 0\nvalue {block:x}");
                self.blocks = vec![block];
            }
            ["end", how] => self.prepare_to_end(how),
            ["resize", from, _] => self.blocks = vec![self.kept(number(from))],
            ["rest" | "close"] => {
                for bytes in [64, 5_000, 5_000, 100_000] {
                    let freed = self.pending(bytes);
                    self.kept(bytes);
                    blocks::free(self.mine(), freed).unwrap();
                }
            }
            _ => {}
        }
    }

    fn prepare_to_free(&mut self, bytes: usize, count: &str, which: &str) {
        for _ in 0..number(count) {
            let block = self.pending(bytes);
            if which == "published" {
                blocks::publish(self.mine(), block).unwrap();
                println!("loses {block:x}");
            }
            self.blocks.push(block);
        }
    }

    /// Does it. `given` are addresses that the test has.
    pub(crate) fn act(&mut self, act: &[&str], given: &[usize]) {
        let (cell, known) = (self.cell, self.blocks.clone());
        match *act {
            ["allocate", bytes, _] => {
                self.pending(number(bytes));
            }
            // More than a word.
            ["reuse", bytes, _] => {
                for _ in 0..66 {
                    self.pending(number(bytes));
                }
            }
            ["publish", _] => blocks::publish(self.mine(), known[0]).unwrap(),
            ["free", ..] => {
                for block in known {
                    blocks::free(self.mine(), block).unwrap();
                }
            }
            ["free-given"] => {
                for &block in given {
                    blocks::free(self.mine(), block).unwrap();
                }
            }
            ["link", _] => blocks::link(self.mine(), cell, 0, known[0]).unwrap(),
            ["link-over", _] => {
                blocks::link(self.mine(), cell, given[0] as u64, known[0]).unwrap();
            }
            ["retire", _] => blocks::retire(self.mine(), cell, known[0], 0).unwrap(),
            ["retire-given"] => blocks::retire(self.mine(), cell, given[0], 0).unwrap(),
            ["exchange"] => {
                let (old, new) = (given[0] as u64, given[1] as u64);
                self.heap().exchange(cell, old, new).unwrap();
            }
            // More than a slab has, so that what is heard of is among them.
            ["hear-and-publish", bytes] => {
                self.mine().rest().unwrap();
                for _ in 0..70 {
                    let block = self.pending(number(bytes));
                    println!("gains {block:x}");
                    blocks::publish(self.mine(), block).unwrap();
                }
            }
            ["rest"] => self.mine().rest().unwrap(),
            ["end", ..] => drop(self.mine.take()),
            ["close"] => {
                drop(self.mine.take());
                drop(self.heap.take());
            }
            ["recover"] => drop(self.heap().recover().unwrap()),
            ["trim"] => drop(self.heap().trim().unwrap()),
            ["root"] => drop(self.heap().root("another").unwrap()),
            ["thread"] => {
                let next = self.heap().thread().unwrap();
                drop(next);
            }
            ["resize", _, to] => {
                assert!(blocks::resize(self.mine(), known[0], number(to)).unwrap());
            }
            _ => panic!("no act: {act:?}"),
        }
    }
}

fn number(word: &str) -> usize {
    word.parse().unwrap()
}
