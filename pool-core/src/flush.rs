//! Writing cached lines back and dropping them, for memory that other hosts see without hardware
//! coherence.
//!
//! The only instructions of the project that act on caches are here. Who calls them when is the
//! coherence protocol's to say; this is what it may rely on:
//! - **Release**: write back every range that was written, then [`Flusher::fence_stores`], then
//!   store the version and release. Without the fence the version may be seen before the bytes.
//! - **Acquire**: drop the range, then [`Flusher::fence_all`], then load. A store fence is not
//!   enough: it does not hold later loads back behind the drop, so they may still hit the old line.
//!
//! A write-back needs no fence before it: it is ordered behind the older stores of its own thread
//! to the same line. Stores of other threads are to be ordered before it by their own means.
//!
//! # Instructions
//! `x86_64`: write-back by `clwb`, which keeps the line, where the processor has it, else
//! `clflushopt`, else `clflush`; drop by `clflushopt`, else `clflush`. Both of the latter write a
//! dirty line back first. `aarch64`: `dc cvac` and `dc civac`, to the point of coherency, which the
//! kernel allows to user space. None needs more than the right to load, so all work on read-only
//! mappings.
//!
//! # What is not here
//! A processor may load a line whenever it likes: a dropped line may be back, with what memory
//! holds then. And a cache that writes *clean* lines back defeats any protocol of this kind; that
//! no agent does so is for the domain to know.
//!
//! # Invariants
//! 1. Every line that holds a byte of the range is acted on, and no other: ranges need not be
//!    aligned. A line is aligned and never crosses a page, so the whole line is mapped where one of
//!    its bytes is.
//! 2. Every instruction is an `asm!` block that may touch memory: the compiler moves no access over
//!    it.
//! 3. A flusher names only instructions that this processor has.

use core::fmt;

use crate::fault;
use crate::mem::{BoundsError, Mapped};
use crate::units::{Bytes, LINE_BYTES, lines_touched};

#[cfg_attr(target_arch = "x86_64", path = "flush/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "flush/aarch64.rs")]
mod arch;
#[cfg(test)]
mod tests;

/// An instruction that acts on one cached line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// `clwb`: writes back and keeps the line.
    Clwb,
    /// `clflushopt`: writes back and drops; many at once.
    Clflushopt,
    /// `clflush`: writes back and drops; one after the other, some twenty times slower.
    Clflush,
    /// `dc cvac`: writes back and keeps the line.
    DcCvac,
    /// `dc civac`: writes back and drops.
    DcCivac,
}

impl Instruction {
    /// As an assembler spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clwb => "clwb",
            Self::Clflushopt => "clflushopt",
            Self::Clflush => "clflush",
            Self::DcCvac => "dc cvac",
            Self::DcCivac => "dc civac",
        }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which instructions this processor shall use. Ask once and keep it: to ask costs microseconds in
/// a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flusher {
    write_back: Instruction,
    invalidate: Instruction,
    /// Bytes from one instruction to the next: a line, or less where the processor's are smaller.
    step: usize,
}

impl Flusher {
    /// The best this processor has.
    #[must_use]
    pub fn detect() -> Self {
        arch::available()[0]
    }

    /// All that this processor has, the best first, for who compares them.
    #[must_use]
    pub fn available() -> Vec<Self> {
        arch::available()
    }

    /// What writes lines back.
    #[must_use]
    pub const fn write_back_instruction(&self) -> Instruction {
        self.write_back
    }

    /// What drops lines.
    #[must_use]
    pub const fn invalidate_instruction(&self) -> Instruction {
        self.invalidate
    }

    /// Begins to write the lines of the `len` bytes from `offset` back to memory, and returns how
    /// many lines that are. Done once [`Self::fence_stores`] returns.
    ///
    /// # Errors
    /// [`BoundsError::Outside`], and nothing was written back.
    pub fn write_back(
        &self,
        mapped: &Mapped<'_>,
        offset: Bytes,
        len: Bytes,
    ) -> Result<u64, BoundsError> {
        self.run(self.write_back, mapped.part(offset, len)?)
    }

    /// Begins to drop the lines of the `len` bytes from `offset` from all caches of this host,
    /// dirty ones after they were written back, and returns how many lines that are. Loads find
    /// what memory holds once [`Self::fence_all`] returns.
    ///
    /// # Errors
    /// [`BoundsError::Outside`], and nothing was dropped.
    pub fn invalidate(
        &self,
        mapped: &Mapped<'_>,
        offset: Bytes,
        len: Bytes,
    ) -> Result<u64, BoundsError> {
        let lines = self.run(self.invalidate, mapped.part(offset, len)?)?;
        fault::dropped(lines);
        Ok(lines)
    }

    /// Copies `from` to the bytes from `offset` past the caches where that is faster, and writes
    /// the lines back where it is not; returns how many lines they are. Done once
    /// [`Self::fence_stores`] returns.
    ///
    /// # Errors
    /// [`BoundsError::ReadOnly`], [`BoundsError::Outside`], and nothing was written.
    pub fn store(
        &self,
        mapped: &Mapped<'_>,
        offset: Bytes,
        from: &[u8],
    ) -> Result<u64, BoundsError> {
        let bytes = mapped.write_view::<u8>(offset, from.len())?;
        let place = mapped.part(offset, Bytes::new(from.len() as u64))?;
        let head = place.as_ptr().align_offset(LINE).min(from.len());
        let lines = (from.len() - head) / LINE;
        if !arch::STREAMS || lines < STREAM_LINES {
            bytes.write_from(0, from)?;
            return self.run(self.write_back, place);
        }
        let body = head..head + lines * LINE;
        bytes.write_from(0, &from[..body.start])?;
        bytes.write_from(body.end, &from[body.end..])?;
        let mut touched = lines as u64;
        for ragged in [0..body.start, body.end..from.len()] {
            let len = Bytes::new(ragged.len() as u64);
            touched += self.write_back(&place, Bytes::new(ragged.start as u64), len)?;
        }
        let mut to = place.as_ptr().cast_mut().wrapping_add(body.start);
        for line in from[body].as_chunks::<LINE>().0 {
            // SAFETY: `to` is the start of a line that is inside of `place`, all of which may be
            // written, as `write_view` saw.
            unsafe { arch::stream_line(to, line) };
            to = to.wrapping_add(LINE);
        }
        Ok(touched)
    }

    /// Holds later stores back until what was written back, dropped or [stored](Self::store) before
    /// has reached memory.
    #[inline]
    pub fn fence_stores(&self) {
        arch::fence_stores();
    }

    /// Holds later stores and loads back until what was written back, dropped or
    /// [stored](Self::store) before is done.
    #[inline]
    pub fn fence_all(&self) {
        arch::fence_all();
    }

    /// Runs `instruction` on every line of `range` (invariant 1).
    fn run(&self, instruction: Instruction, range: Mapped<'_>) -> Result<u64, BoundsError> {
        let lines = lines_touched(range.addr().get(), range.bytes().get());
        let count = lines.end - lines.start;
        let start = range.as_ptr();
        let before = start.addr() % LINE;
        let start = start.wrapping_sub(before);
        // No more than the bytes that are mapped and one line, hence no overflow.
        let steps = usize::try_from(count * LINE_BYTES).unwrap_or(0) / self.step;
        // SAFETY: invariants 1 and 3: every step lies in a line that is mapped to be read at least.
        unsafe { arch::each_line(instruction, start, self.step, steps) };
        Ok(count)
    }
}

/// A line as a number of bytes of this address space.
const LINE: usize = 64;
const _: () = assert!(LINE as u64 == LINE_BYTES);

/// From how many whole lines on [`Flusher::store`] goes past the caches. On a Sapphire Rapids,
/// memory that was in no cache took 0.50 us for 4 KiB rather than 1.8 us and 150 us for 2 MiB
/// rather than 480; memory that was in one, up to 43 % more, and below this many lines half as much
/// again.
const STREAM_LINES: usize = 4;
