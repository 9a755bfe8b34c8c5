//! The job itself: what is learned from what, in which order, and for how long.

use crate::data::{CLASSES, PIXELS};
use crate::model::{Rate, Shape};
use crate::order::Order;

/// The layers: a pixel each, 32 between, a label each.
pub(crate) const SHAPE: Shape = Shape {
    inputs: PIXELS,
    hidden: 32,
    classes: CLASSES,
};

/// Rows of the data set that are never learned from.
const HELD_OUT: usize = 360;
/// Rows a step looks at.
const BATCH: usize = 32;
/// Decides the weights to begin with, the rows held out, and the order of the rest.
const SEED: u64 = 20_261_123;

/// What there is to do. The same in every process.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) shape: Shape,
    pub(crate) rate: Rate,
    /// Decides the weights to begin with.
    pub(crate) seed: u64,
    pub(crate) steps: u32,
    pub(crate) order: Order,
}

impl Job {
    /// The job of `steps` steps over `rows` rows, or `None` where they are too few.
    pub(crate) fn new(rows: u32, steps: u32) -> Option<Self> {
        let order = Order::new(SEED, rows, HELD_OUT, BATCH)?;
        let rate = Rate {
            step: 0.05,
            momentum: 0.9,
        };
        Some(Self {
            shape: SHAPE,
            rate,
            seed: SEED,
            steps,
            order,
        })
    }
}
