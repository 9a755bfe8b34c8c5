//! What a pool heap stands on: shared memory, and who of those that use it lives.

use core::error::Error;
use core::fmt;
use std::sync::Arc;

/// Why there is no chunk: the error of whatever the ground is made of.
#[derive(Debug, Clone)]
pub struct GroundError(Arc<dyn Error + Send + Sync>);

impl GroundError {
    /// The one that `cause` is the cause of.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(cause.into()))
    }

    /// The cause, where it is of this type.
    #[must_use]
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl PartialEq for GroundError {
    /// Whether both say the same.
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for GroundError {}

impl fmt::Display for GroundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for GroundError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// What a pool heap stands on. Implemented over the segments of a pool, and in tests over any
/// shared memory.
///
/// # Safety
/// What a heap is told here it believes:
/// 1. `control` is the address of [`CONTROL_BYTES`](super::CONTROL_BYTES) that are mapped for
///    reading and writing for as long as the ground lives, at a multiple of 4,096, zero when the
///    heap is new, and the same memory in every process.
/// 2. `add` and `map` answer with the address of a chunk of [`CHUNK_BYTES`](super::CHUNK_BYTES) at
///    a multiple of as much, within `window`, that is mapped in the same way until `unmap` is
///    called for it, and afterwards does not become memory of somebody else while the ground
///    lives.
/// 3. Between all processes a number of a chunk names one piece of memory, until it is removed.
pub unsafe trait Ground: fmt::Debug + Send + Sync {
    /// Where the control area is.
    fn control(&self) -> usize;

    /// The addresses that chunks are at.
    fn window(&self) -> core::ops::Range<usize>;

    /// Which member of the heap this process is, from 1 to 31, and in which era.
    fn member(&self) -> (usize, u64);

    /// Whether the member of that era lives. Once it does not, it never does again, and all that
    /// it wrote is there.
    fn lives(&self, member: usize, era: u64) -> bool;

    /// Maps chunk `number`, and makes it first where there is none: of zeros, in `tier`.
    ///
    /// # Errors
    /// Where there is no memory to be had there; nothing has changed then.
    fn add(&self, number: usize, tier: &str) -> Result<usize, GroundError>;

    /// Maps chunk `number`, which there is.
    ///
    /// # Errors
    /// Where it cannot be mapped, or was removed meanwhile.
    fn map(&self, number: usize) -> Result<usize, GroundError>;

    /// Lets go of the chunk at `chunk`, which is in no table any more.
    fn unmap(&self, chunk: usize);

    /// Gives the memory of chunk `number` back, which is at `chunk` and in no table any more. What
    /// is mapped stays so until [`Ground::unmap`]: it holds what it held, or zeros.
    ///
    /// # Errors
    /// Where it could not be given back. Then the next `add` of the number finds it.
    fn remove(&self, number: usize, chunk: usize) -> Result<(), GroundError>;
}
