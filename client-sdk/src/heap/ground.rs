//! What a heap stands on: segments of a pool.

#![expect(
    unsafe_code,
    reason = "a ground promises what a heap believes: the addresses of its memory"
)]

use std::collections::BTreeMap;
use std::ops::Range;

use allocator::pool::{CHUNK_BYTES, Ground, GroundError};
use coherence::Layout;
use coherence::Slot;
use coherence::cache::{Caches as _, Mode, Software};
use coherence::era::Era;
use pool_core::Bytes;
use pool_core::clock::eventually;
use pool_core::flush::Flusher;
use pool_core::mem::Access;
use pool_core::sync::{Mutex, lock};

use super::SEPARATOR;
use crate::domain::Domain;
use crate::error::{Error, ErrorClass, Reason};
use crate::pool::{Create, Pool};
use crate::segment::{Force, Segment};

/// See the module. The heap has the memory for as long as this has the handles.
#[derive(Debug)]
pub(super) struct Segments {
    /// By the addresses of the chunks. What was given back stays mapped until it is let go of.
    chunks: Mutex<BTreeMap<usize, Segment>>,
    domain: Domain,
    pool: Pool,
    name: String,
    is_persistent: bool,
    may_add: bool,
    member: usize,
    era: u64,
    flusher: Flusher,
}

impl Segments {
    pub(super) fn new(
        pool: &Pool,
        domain: Domain,
        name: &str,
        (is_persistent, may_add): (bool, bool),
    ) -> Result<Self, Error> {
        let era = domain.membership()?.era;
        Ok(Self {
            chunks: Mutex::default(),
            pool: pool.clone(),
            name: name.to_owned(),
            is_persistent,
            may_add,
            member: usize::from(domain.slot().index()),
            era,
            flusher: Flusher::detect(),
            domain,
        })
    }

    /// Whether this process still is a member: one that was cut off must not go on.
    fn check_standing(&self) -> Result<(), GroundError> {
        let standing = self.domain.membership().map(|_| ());
        standing.map_err(GroundError::new)
    }

    /// Calls `act` with the caches over the chunk that has these bytes, and where they are in it.
    fn with_part(&self, bytes: Range<usize>, act: impl FnOnce(&Software<'_>, u64, u64)) {
        let chunks = lock(&self.chunks);
        let chunk = bytes.start & !(CHUNK_BYTES - 1);
        if let Some(segment) = chunks.get(&chunk) {
            let caches = Software::new(segment.held().mapped(), self.flusher);
            act(&caches, (bytes.start - chunk) as u64, bytes.len() as u64);
        }
    }

    fn name_of(&self, number: usize) -> String {
        format!("{}{SEPARATOR}{number}", self.name)
    }

    /// Keeps a segment that is a chunk, and says where it is.
    fn keep(&self, segment: Segment) -> Result<usize, GroundError> {
        let chunk = address(&segment);
        let is_chunk = segment.bytes() == Bytes::new(CHUNK_BYTES as u64)
            && chunk.is_multiple_of(CHUNK_BYTES)
            && segment.access() == Access::ReadWrite
            && segment.held().membership().is_none();
        if !is_chunk {
            let (name, heap) = (segment.name(), &self.name);
            return Err(GroundError::new(format!(
                "the segment {name} is no chunk of the heap {heap}: free it"
            )));
        }
        lock(&self.chunks).insert(chunk, segment);
        Ok(chunk)
    }

    /// Makes chunk `number`, which this process has claimed, or opens what somebody has made of it
    /// who died.
    fn make(&self, number: usize, tier: &str) -> Result<Segment, Error> {
        let bytes = Bytes::new(CHUNK_BYTES as u64);
        let name = self.name_of(number);
        let mut create = Create::new(tier, bytes).align(bytes).name(&name);
        if self.is_persistent {
            create = create.persistent();
        }
        // Between the name and the memory there is the daemon's work, also for somebody who died
        // while it went on: what has a name is not found before it is done.
        let made = eventually(self.pool.deadline(), || {
            let created = self.pool.create(&create);
            if !is(&created, Reason::NameTaken) {
                return Some(created);
            }
            let opened = self.pool.open(&name, Access::ReadWrite);
            (!is(&opened, Reason::NotFound)).then_some(opened)
        });
        made.unwrap_or_else(|_| self.pool.open(&name, Access::ReadWrite))
    }
}

/// Whether the daemon refused for this reason.
fn is(answer: &Result<Segment, Error>, reason: Reason) -> bool {
    answer.as_ref().err().and_then(Error::reason) == Some(reason)
}

/// What went wrong, and whether another tier may have what was wanted.
fn told(error: Error) -> GroundError {
    match error.class() {
        ErrorClass::Exhausted => GroundError::shortage(error),
        _ => GroundError::new(error),
    }
}

fn address(segment: &Segment) -> usize {
    segment.as_ptr().expose_provenance()
}

// SAFETY: the domain is held for as long as this is, with more bytes behind its directory than the
// control area has; what the daemon grants is mapped at the same address in every process, and
// nothing else is mapped there while a handle is kept. Names are unique within a tenant. A segment
// that is taken away stays mapped, as zeros of this process alone.
unsafe impl Ground for Segments {
    fn control(&self) -> usize {
        let directory = self.domain.layout().directory().get();
        let start = address(self.domain.segment());
        start.wrapping_add(usize::try_from(directory).unwrap_or(0))
    }

    fn id(&self) -> u64 {
        // The daemon never uses it again.
        self.domain.id().number()
    }

    fn window(&self) -> Range<usize> {
        self.pool.window()
    }

    fn member(&self) -> (usize, u64) {
        (self.member, self.era)
    }

    fn lives(&self, member: usize, era: u64) -> bool {
        let slot = u8::try_from(member).ok().and_then(Slot::new);
        let Some(slot) = slot else { return false };
        let word = self.domain.segment().held().mapped();
        let word = word.atomic_u64(Layout::member_at(slot));
        word.is_ok_and(|word| Era::new(word).lives(era))
    }

    fn add(&self, number: usize, tier: &str) -> Result<usize, GroundError> {
        self.check_standing()?;
        if !self.may_add {
            let name = &self.name;
            return Err(GroundError::new(format!(
                "the heap {name} is leased: only the process that made it adds memory to it"
            )));
        }
        self.keep(self.make(number, tier).map_err(told)?)
    }

    fn map(&self, number: usize) -> Result<usize, GroundError> {
        self.check_standing()?;
        let segment = self.pool.open(&self.name_of(number), Access::ReadWrite);
        self.keep(segment.map_err(told)?)
    }

    fn unmap(&self, chunk: usize) {
        lock(&self.chunks).remove(&chunk);
    }

    fn remove(&self, number: usize, chunk: usize) -> Result<(), GroundError> {
        let kept = lock(&self.chunks).get(&chunk).map(Segment::keep);
        let none = || GroundError::new(format!("chunk {number} is not mapped"));
        let kept = kept.ok_or_else(none)?;
        let held = lock(&self.chunks).insert(chunk, kept);
        let freed = held.map_or(Ok(()), |segment| segment.free(Force::Yes));
        match freed {
            // Somebody else was faster.
            Err(error) if error.reason() == Some(Reason::NotFound) => Ok(()),
            freed => freed.map_err(GroundError::new),
        }
    }

    fn is_software(&self) -> bool {
        self.domain.mode() == Mode::Software
    }

    fn write_back(&self, bytes: Range<usize>) {
        self.with_part(bytes, |caches, offset, len| {
            caches.write_back(offset, len);
            caches.fence_stores();
        });
    }

    fn invalidate(&self, bytes: Range<usize>) {
        self.with_part(bytes, |caches, offset, len| {
            caches.invalidate(offset, len);
            caches.fence_all();
        });
    }
}
