//! How trainer and worker take turns over memory that outlives both.
//!
//! The **worker** computes the gradient of a step from the weights; the **trainer** applies it.
//! Either may be killed between any two stores and be started anew, knowing nothing but what the
//! shared memory says; the steps that follow are the same, bit by bit.
//!
//! # Layout
//! Four words: `ready`, `posted`, `done` and `applied`; the gradient; two copies of the state
//! (parameters, then velocities). Words count steps.
//!
//! # Invariants
//! 1. `applied <= done <= posted <= applied + 1`, once `ready` is set.
//! 2. Copy `n % 2` of the state is the state after `n` steps while `applied` is `n`. Whoever writes
//!    a copy writes the other one.
//! 3. The gradient is that of step `n` while `done` is `n + 1` and `posted` is `n + 1`.
//! 4. `ready`, `posted` and `applied` are stored by the trainer alone, `done` by the worker alone.
//!
//! # Protocol
//! ```text
//! trainer                             worker
//! post:  posted = applied + 1         compute: done < posted
//! apply: done > applied                        gradient := of copy done % 2
//!        other copy := next state              done = done + 1
//!        applied = applied + 1
//! ```
//! By 1 only one of them has something to do at a time, so that neither writes what the other
//! reads. What a role writes before its last store is read by nobody until that store, so that a
//! role killed before it does the same again, from inputs that have not changed. A store to a word
//! is a release and a load an acquire: who sees the count sees what it counts.

use crate::job::Job;
use crate::model::{self, Examples, Values};

/// A count in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// 1 as soon as the initial state is in place.
    Ready,
    /// Steps the worker may compute.
    Posted,
    /// Steps whose gradient was computed.
    Done,
    /// Steps whose gradient was applied.
    Applied,
}

/// A run of numbers in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// What the worker hands to the trainer.
    Gradient,
    /// The state after this many steps.
    State(u32),
}

/// The memory that both roles share.
pub(crate) trait Shared {
    /// Why it cannot be read or written.
    type Error;
    /// The numbers of a block, where they lie.
    type Block<'a>: Values<Error = Self::Error>
    where
        Self: 'a;

    /// The count, and with it everything written before it was stored.
    fn load(&self, word: Word) -> Result<u32, Self::Error>;
    /// Stores the count after everything written before.
    fn store(&self, word: Word, count: u32) -> Result<(), Self::Error>;
    /// The numbers of a block.
    fn block(&self, block: Block) -> Result<Self::Block<'_>, Self::Error>;
    /// Overwrites the numbers of a block.
    fn write(&self, block: Block, numbers: &[f32]) -> Result<(), Self::Error>;
}

/// What became of a role's turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Turn {
    /// Something was done; there may be more.
    Moved,
    /// A gradient was computed, at this loss.
    Computed(f32),
    /// Nothing can be done until the word is no longer what it was seen to be.
    Wait(Word, u32),
    /// All steps are applied.
    Finished,
}

/// Takes one turn as the trainer. Whoever waits for [`Word::Posted`] is to be woken after it.
pub(crate) fn train<S: Shared>(job: &Job, shared: &S) -> Result<Turn, S::Error> {
    if shared.load(Word::Ready)? == 0 {
        let mut state = job.shape.initial(job.seed);
        state.resize(2 * job.shape.parameters(), 0.0);
        shared.write(Block::State(0), &state)?;
        shared.store(Word::Ready, 1)?;
        return Ok(Turn::Moved);
    }
    let applied = shared.load(Word::Applied)?;
    if applied >= job.steps {
        return Ok(Turn::Finished);
    }
    if shared.load(Word::Posted)? == applied {
        shared.store(Word::Posted, applied + 1)?;
        return Ok(Turn::Moved);
    }
    let done = shared.load(Word::Done)?;
    if done == applied {
        return Ok(Turn::Wait(Word::Done, done));
    }
    let (state, gradient) = (
        shared.block(Block::State(applied))?,
        shared.block(Block::Gradient)?,
    );
    let next = model::updated(job.rate, job.shape.parameters(), &state, &gradient)?;
    shared.write(Block::State(applied + 1), &next)?;
    shared.store(Word::Applied, applied + 1)?;
    Ok(Turn::Moved)
}

/// Takes one turn as the worker. Whoever waits for [`Word::Done`] is to be woken after it.
pub(crate) fn work<S: Shared>(
    job: &Job,
    shared: &S,
    examples: &impl Examples<S::Error>,
) -> Result<Turn, S::Error> {
    let done = shared.load(Word::Done)?;
    if done >= job.steps {
        return Ok(Turn::Finished);
    }
    let posted = shared.load(Word::Posted)?;
    if posted == done {
        return Ok(Turn::Wait(Word::Posted, posted));
    }
    let state = shared.block(Block::State(done))?;
    let rows = job.order.batch(done);
    let (gradient, loss) = model::gradient(job.shape, &state, examples, &rows)?;
    shared.write(Block::Gradient, &gradient)?;
    shared.store(Word::Done, done + 1)?;
    Ok(Turn::Computed(loss))
}

#[cfg(test)]
mod tests;
