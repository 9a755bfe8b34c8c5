//! What a pool heap stands on: shared memory, and who of those that use it lives.

use core::error::Error;
use core::fmt;
use core::ops::Range;
use std::sync::Arc;

/// Why there is no chunk: the error of whatever the ground is made of.
#[derive(Debug, Clone)]
pub struct GroundError {
    cause: Arc<dyn Error + Send + Sync>,
    is_shortage: bool,
}

impl GroundError {
    /// The one that `cause` is the cause of.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: Arc::from(cause.into()),
            is_shortage: false,
        }
    }

    /// The same, where there is no memory to be had: another tier may have some.
    pub fn shortage(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            is_shortage: true,
            ..Self::new(cause)
        }
    }

    /// Whether it is a shortage.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        self.is_shortage
    }

    /// The cause, where it is of this type.
    #[must_use]
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
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
        self.cause.fmt(f)
    }
}

impl Error for GroundError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
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

    /// A number of the heap that no other heap of the ground ever has, and that is not 0.
    fn id(&self) -> u64;

    /// The addresses that chunks are at.
    fn window(&self) -> Range<usize>;

    /// Which member of the heap this process is, from 1 to 31, and in which era.
    fn member(&self) -> (usize, u64);

    /// Whether the member of that era lives. Once it does not, it never does again, and all that
    /// it wrote is there.
    fn lives(&self, member: usize, era: u64) -> bool;

    /// Maps chunk `number`, and makes it first where there is none: of zeros, in `tier`.
    ///
    /// # Errors
    /// [`GroundError::shortage`] where there is no memory to be had there. Nothing has changed.
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

    /// Whether blocks lie in memory whose caches no hardware keeps the same for all that read it.
    /// Control area and metadata are the same for all members, whatever this says.
    fn is_software(&self) -> bool {
        false
    }

    /// Writes the lines of these bytes of a chunk back to memory, and returns when they are there.
    /// Called only where [`Ground::is_software`].
    fn write_back(&self, _bytes: Range<usize>) {}

    /// Drops the lines of these bytes of a chunk, so that the next to read them reads memory.
    /// Called only where [`Ground::is_software`].
    fn invalidate(&self, _bytes: Range<usize>) {}
}
