//! `survives SEED`: does everything that one may with a heap, whatever others wrote where they
//! should not. Errors are what it expects; it must not fail, hang, or be given anything that is not
//! in a chunk as a whole.

use allocator::pool::{CHUNK_BYTES, Cell, PoolHeap, ThreadHeap};
use tierpool_tests::blocks;
use tierpool_tests::random::Random;

use crate::listen;

/// How many things it does once it is told to.
const STEPS: u64 = 600;

struct Survivor {
    heap: PoolHeap,
    mine: ThreadHeap,
    cells: Vec<Cell>,
    blocks: Vec<usize>,
    random: Random,
}

/// See the module.
pub(crate) fn survives(heap: PoolHeap, seed: u64) {
    let (mine, root) = (heap.thread().unwrap(), heap.root("cell").unwrap());
    let mut survivor = Survivor {
        heap,
        mine,
        cells: vec![root],
        blocks: Vec::new(),
        random: Random::new(seed),
    };
    for _ in 0..400 {
        survivor.step();
    }
    println!("ready");
    listen().unwrap();
    for _ in 0..STEPS {
        survivor.step();
        survivor.look();
    }
    println!("done");
    drop(survivor);
}

impl Survivor {
    fn block(&mut self) -> usize {
        if self.blocks.is_empty() {
            return 4096;
        }
        let at = self.random.below(self.blocks.len() as u64);
        self.blocks.swap_remove(usize::try_from(at).unwrap())
    }

    fn step(&mut self) {
        let (random, mine) = (&mut self.random, &mut self.mine);
        let at = usize::try_from(random.below(self.cells.len() as u64)).unwrap();
        let cell = self.cells[at];
        match random.below(16) {
            0 => drop(mine.rest()),
            1 => drop(self.heap.thread().map(|next| self.mine = next)),
            2 => drop(self.heap.exchange(cell, 0, 2)),
            3 => {
                let block = self.block();
                drop(blocks::free(&mut self.mine, block));
            }
            4 => {
                let block = self.block();
                drop(blocks::retire(&mut self.mine, cell, block, 0));
            }
            5 => {
                let block = self.block();
                let bytes = usize::try_from(self.random.below(2_000_000)).unwrap();
                drop(blocks::resize(&mut self.mine, block, bytes));
                drop(blocks::free(&mut self.mine, block));
            }
            6 => {
                let block = self.block();
                drop(blocks::publish(&mut self.mine, block));
                drop(blocks::link(&mut self.mine, cell, 0, block));
                self.blocks.push(block);
            }
            _ => self.allocate(),
        }
    }

    fn allocate(&mut self) {
        let most = *self
            .random
            .one_of(&[&64, &1_000, &9_000, &500_000, &3_000_000]);
        let bytes = usize::try_from(self.random.below(most)).unwrap().max(16);
        let Ok(block) = blocks::allocate(&mut self.mine, bytes) else {
            return;
        };
        let (first, last) = (block / CHUNK_BYTES, (block + bytes - 1) / CHUNK_BYTES);
        assert_eq!(first, last, "{bytes} bytes at {block:#x}");
        blocks::sign(block, bytes.min(4096), 0);
        if bytes < 4096 && self.cells.len() < 50 {
            self.cells.push(blocks::cell(block));
        }
        self.blocks.push(block);
    }

    /// What looks at all of it, now and then.
    fn look(&mut self) {
        let (random, heap) = (&mut self.random, &self.heap);
        let cell = self.cells[usize::try_from(random.below(self.cells.len() as u64)).unwrap()];
        match random.below(80) {
            0 => drop(heap.audit()),
            1 => drop(heap.blocks()),
            2 => drop(heap.recover()),
            3 => drop(heap.trim()),
            4 => drop(heap.placement()),
            5 => drop(heap.roots()),
            6 => drop(heap.root("another")),
            7..20 => drop(heap.load(cell)),
            _ => {}
        }
    }
}
