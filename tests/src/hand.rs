//! One who does with a heap what he is told, one order after the other: a thread, or a process.

use allocator::pool::{HeapError, PoolHeap, ThreadHeap};

use crate::blocks;

/// How many roots an oracle knows.
pub const ROOTS: usize = 4;

/// What is to be done. Addresses are of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Allocate so many bytes, and sign them with the number.
    Allocate {
        /// How many.
        bytes: usize,
        /// The number.
        seed: u64,
    },
    /// Publish a block.
    Publish(usize),
    /// Free a block.
    Free(usize),
    /// Put a block into a root that has a value.
    Link {
        /// Which root.
        root: usize,
        /// Its value.
        expected: u64,
        /// The block.
        block: usize,
    },
    /// Take a block out of a root, which is to have a value then.
    Retire {
        /// Which root.
        root: usize,
        /// The block.
        block: usize,
        /// The value.
        value: u64,
    },
    /// Keep nothing ready.
    Rest,
    /// Leave the heap, and come to it as another thread.
    Renew,
}

impl Order {
    /// As a line.
    #[must_use]
    pub fn line(self) -> String {
        match self {
            Self::Allocate { bytes, seed } => format!("0 {bytes} {seed} 0"),
            Self::Publish(block) => format!("1 {block} 0 0"),
            Self::Free(block) => format!("2 {block} 0 0"),
            Self::Link {
                root,
                expected,
                block,
            } => format!("3 {root} {expected} {block}"),
            Self::Retire { root, block, value } => format!("4 {root} {block} {value}"),
            Self::Rest => "5 0 0 0".to_owned(),
            Self::Renew => "6 0 0 0".to_owned(),
        }
    }

    /// The order of a line.
    #[must_use]
    pub fn of(line: &str) -> Option<Self> {
        let numbers: Vec<u64> = line
            .split(' ')
            .map_while(|word| word.parse().ok())
            .collect();
        let &[which, first, second, third] = numbers.as_slice() else {
            return None;
        };
        let size = |number: u64| usize::try_from(number).unwrap_or(0);
        Some(match which {
            0 => Self::Allocate {
                bytes: size(first),
                seed: second,
            },
            1 => Self::Publish(size(first)),
            2 => Self::Free(size(first)),
            3 => Self::Link {
                root: size(first),
                expected: second,
                block: size(third),
            },
            4 => Self::Retire {
                root: size(first),
                block: size(second),
                value: third,
            },
            5 => Self::Rest,
            6 => Self::Renew,
            _ => return None,
        })
    }
}

/// The name of a root of the oracle.
#[must_use]
pub fn root(number: usize) -> String {
    format!("root-{number}")
}

/// See the module.
#[derive(Debug)]
pub struct Hand {
    mine: Option<ThreadHeap>,
    heap: PoolHeap,
}

impl Hand {
    /// One who has the heap.
    ///
    /// # Errors
    /// As [`PoolHeap::thread`].
    pub fn new(heap: PoolHeap) -> Result<Self, HeapError> {
        let mine = Some(heap.thread()?);
        Ok(Self { mine, heap })
    }

    /// Carries an order out: the address where it was to allocate, and 0 else.
    ///
    /// # Errors
    /// What the heap says.
    pub fn carry_out(&mut self, order: Order) -> Result<usize, HeapError> {
        let cell = |number| self.heap.root(&root(number));
        if order == Order::Renew {
            self.mine = None;
            self.mine = Some(self.heap.thread()?);
            return Ok(0);
        }
        let mine = self
            .mine
            .as_mut()
            .expect("it has the heap between two orders");
        match order {
            Order::Allocate { bytes, seed } => {
                let block = blocks::allocate(mine, bytes)?;
                blocks::sign(block, bytes, seed);
                return Ok(block);
            }
            Order::Publish(block) => blocks::publish(mine, block)?,
            Order::Free(block) => blocks::free(mine, block)?,
            Order::Link {
                root,
                expected,
                block,
            } => blocks::link(mine, cell(root)?, expected, block)?,
            Order::Retire { root, block, value } => {
                blocks::retire(mine, cell(root)?, block, value)?;
            }
            Order::Rest => mine.rest()?,
            Order::Renew => {}
        }
        Ok(0)
    }

    /// The same for a line, and the answer as one: an address, or what went wrong.
    ///
    /// # Panics
    /// Where the line is no order.
    #[must_use]
    pub fn answer(&mut self, line: &str) -> String {
        let order = Order::of(line).unwrap_or_else(|| panic!("no order: {line}"));
        match self.carry_out(order) {
            Ok(address) => address.to_string(),
            Err(error) => format!("refused: {error}"),
        }
    }
}
