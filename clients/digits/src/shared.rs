//! What trainer and worker share: three segments, at the same addresses in both processes.
//!
//! # Layout
//! `control` (tier `ddr`): the words of the protocol, each on a line of its own. `gradients`
//! (`ddr`): the gradient. `weights` (`hbm`, the accelerator's own): both copies of the state, one
//! after the other.

use std::time::Duration;

use client_sdk::{
    Access, AccessError, Bytes, Create, Error, Force, Ordering, Pool, Reason, Segment, SharedU32,
    View,
};

use crate::job::SHAPE;
use crate::model::Values;
use crate::protocol::{Block, Shared, Word};

/// Name, tier and size of each segment.
const CONTROL: (&str, &str, Bytes) = ("control", "ddr", Bytes::new(4 * LINE_BYTES));
const GRADIENTS: (&str, &str, Bytes) = ("gradients", "ddr", bytes_of(GRADIENT));
const WEIGHTS: (&str, &str, Bytes) = ("weights", "hbm", bytes_of(2 * STATE));

/// Words that change often lie on lines of their own.
const LINE_BYTES: u64 = 64;
/// Numbers of the gradient.
const GRADIENT: usize = SHAPE.parameters();
/// Numbers of one copy of the state: parameters, then velocities.
const STATE: usize = 2 * SHAPE.parameters();

/// How long to sleep before looking again unasked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const fn bytes_of(numbers: usize) -> Bytes {
    Bytes::new((numbers * size_of::<f32>()) as u64)
}

/// The three segments, held by this process.
#[derive(Debug)]
pub(crate) struct PoolMemory {
    control: Segment,
    gradients: Segment,
    weights: Segment,
}

impl PoolMemory {
    /// Creates the segments, or takes up those that a trainer before this one has left.
    pub(crate) fn create_or_open(pool: &Pool) -> Result<Self, Error> {
        Self::from_each(|(name, tier, bytes)| {
            match pool.create(&Create::new(tier, bytes).name(name).persistent()) {
                Err(error) if error.reason() == Some(Reason::NameTaken) => {
                    pool.open(name, Access::ReadWrite)
                }
                created => created,
            }
        })
    }

    /// Opens the segments that the trainer has created.
    pub(crate) fn open(pool: &Pool) -> Result<Self, Error> {
        Self::from_each(|(name, ..)| pool.open(name, Access::ReadWrite))
    }

    fn from_each(
        get: impl Fn((&str, &str, Bytes)) -> Result<Segment, Error>,
    ) -> Result<Self, Error> {
        let (control, gradients) = (get(CONTROL)?, get(GRADIENTS)?);
        Ok(Self {
            control,
            gradients,
            weights: get(WEIGHTS)?,
        })
    }

    pub(crate) fn segments(&self) -> [&Segment; 3] {
        [&self.control, &self.gradients, &self.weights]
    }

    /// Ends the segments for everybody.
    pub(crate) fn free(self) -> Result<(), Error> {
        for segment in [self.control, self.gradients, self.weights] {
            segment.free(Force::Yes)?;
        }
        Ok(())
    }

    /// Sleeps until the word is no longer `seen`, or for a while.
    pub(crate) fn wait(&self, word: Word, seen: u32) -> Result<(), Error> {
        self.word(word)?.wait(seen, LOOK_AGAIN)?;
        Ok(())
    }

    /// Wakes who waits for the word.
    pub(crate) fn wake(&self, word: Word) -> Result<(), Error> {
        self.word(word)?.wake(u32::MAX)?;
        Ok(())
    }

    fn word(&self, word: Word) -> Result<SharedU32<'_>, AccessError> {
        let line = match word {
            Word::Ready => 0,
            Word::Posted => 1,
            Word::Done => 2,
            Word::Applied => 3,
        };
        self.control.atomic_u32(Bytes::new(line * LINE_BYTES))
    }

    /// The segment of a block, and where in it.
    fn place(&self, block: Block) -> (&Segment, Bytes, usize) {
        match block {
            Block::Gradient => (&self.gradients, Bytes::ZERO, GRADIENT),
            Block::State(steps) if steps.is_multiple_of(2) => (&self.weights, Bytes::ZERO, STATE),
            Block::State(_) => (&self.weights, bytes_of(STATE), STATE),
        }
    }
}

impl Shared for PoolMemory {
    type Error = AccessError;
    type Block<'a> = View<'a, f32>;

    fn load(&self, word: Word) -> Result<u32, AccessError> {
        self.word(word)?.load(Ordering::Acquire)
    }

    fn store(&self, word: Word, count: u32) -> Result<(), AccessError> {
        self.word(word)?.store(count, Ordering::Release)
    }

    fn block(&self, block: Block) -> Result<View<'_, f32>, AccessError> {
        let (segment, offset, count) = self.place(block);
        segment.view(offset, count)
    }

    fn write(&self, block: Block, numbers: &[f32]) -> Result<(), AccessError> {
        let (segment, offset, count) = self.place(block);
        segment.view_mut(offset, count)?.write_from(0, numbers)
    }
}

impl Values for View<'_, f32> {
    type Error = AccessError;

    fn at(&self, index: usize) -> Result<f32, AccessError> {
        self.get(index)
    }
}
