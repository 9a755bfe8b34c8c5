//! A pool heap without a daemon: on one file of memory that a family of processes maps, each at the
//! same address, and in which the first of them says who lives.
//!
//! # Layout of the file
//! ```text
//! 0        the control area of the heap
//! 32 MiB   the book: eras, and which chunks there are
//! 64 MiB   places for chunks
//! ```
//! A chunk that is removed leaves a hole, and its place is used again last.

#![expect(unsafe_code, reason = "a ground promises what a heap believes")]

use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Command};

use allocator::pool::{CHUNK_BYTES, Ground, GroundError, PoolHeap};
use coherence::era::Era;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use pool_core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

/// Why a step of a family is not expected to fail.
const WHOLE: &str = "a family has its memory and its processes";
/// How many chunks there may be.
const PLACES: usize = 24;
const BOOK_AT: usize = 32 << 20;
const FILE_BYTES: usize = CHUNK_BYTES * (1 + PLACES);
const MEMBERS: usize = 32;
const FIRST_PLACE: usize = 0x1000_0000_0000;

/// What is in the book.
#[repr(C)]
struct Book {
    eras: [AtomicU64; MEMBERS],
    /// One more than the place of each chunk that there is.
    chunks: [AtomicU64; PLACES],
    /// How many chunks were ever made.
    made: AtomicU64,
    /// How many there may be.
    limit: AtomicU64,
}

/// The memory of a family, as one process has mapped it.
#[derive(Debug)]
pub struct Family {
    file: File,
    base: usize,
}

/// One member of a family: what a heap stands on.
#[derive(Debug)]
pub struct Member {
    family: Family,
    member: usize,
    era: u64,
}

/// A member in a process of its own.
#[derive(Debug)]
pub struct Kin {
    child: Child,
    member: usize,
}

impl Family {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let name = c"family";
        let flags = nix::sys::memfd::MFdFlags::empty();
        let file = File::from(nix::sys::memfd::memfd_create(name, flags).expect(WHOLE));
        file.set_len(FILE_BYTES as u64).expect(WHOLE);
        let family = Self::map(file, free_place());
        family.book().limit.store(PLACES as u64, Release);
        family
    }

    /// Maps the file at `base`.
    fn map(file: File, base: usize) -> Self {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED_NOREPLACE;
        let (at, bytes) = (
            NonZeroUsize::new(base),
            NonZeroUsize::new(FILE_BYTES).expect(WHOLE),
        );
        // SAFETY: a new mapping in place of none.
        let place = unsafe { mmap(at, bytes, access, flags, &file, 0) }.expect(WHOLE);
        assert_eq!(place.as_ptr().expose_provenance(), base);
        Self { file, base }
    }

    fn book(&self) -> &Book {
        book(self.base)
    }

    /// A member in this process, with an era of its own.
    #[must_use]
    pub fn member(&self, member: usize) -> Member {
        let era = Era::new(&self.book().eras[member]).enter();
        Member {
            family: Self {
                file: self.file.try_clone().expect(WHOLE),
                base: self.base,
            },
            member,
            era,
        }
    }

    /// A new heap of one tier, seen by `member`.
    #[must_use]
    pub fn heap(&self, member: usize) -> PoolHeap {
        PoolHeap::create(Box::new(self.member(member)), &[("ddr", 1)]).expect(WHOLE)
    }

    /// The heap that there is, seen by `member`.
    #[must_use]
    pub fn open(&self, member: usize) -> PoolHeap {
        PoolHeap::open(Box::new(self.member(member))).expect(WHOLE)
    }

    /// Says that a member died.
    pub fn bury(&self, member: usize) {
        Era::new(&self.book().eras[member]).leave();
    }

    /// Lets there be at most `chunks`.
    pub fn limit(&self, chunks: usize) {
        self.book().limit.store(chunks as u64, Release);
    }

    /// Starts `command` as `member`, which takes its place by [`Member::inherited`].
    #[must_use]
    pub fn spawn(&self, member: usize, command: &mut Command) -> Kin {
        let era = Era::new(&self.book().eras[member]).enter();
        // Only the child is to inherit it; children of others that start now end it unused.
        let file = nix::unistd::dup(&self.file).expect(WHOLE);
        let place = format!("{}:{}:{member}:{era}", file.as_raw_fd(), self.base);
        let child = command.env("TIERPOOL_FAMILY", place).spawn().expect(WHOLE);
        Kin { child, member }
    }
}

impl Default for Family {
    fn default() -> Self {
        Self::new()
    }
}

impl Kin {
    /// The process.
    #[must_use]
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end, and says that it is gone.
    pub fn wait(mut self, family: &Family) -> std::process::ExitStatus {
        let status = self.child.wait().expect(WHOLE);
        family.bury(self.member);
        status
    }

    /// Kills it.
    pub fn kill(mut self, family: &Family) {
        self.child.kill().expect(WHOLE);
        self.wait(family);
    }
}

impl Member {
    /// The member that this process was started as.
    #[must_use]
    pub fn inherited() -> Self {
        let place = std::env::var("TIERPOOL_FAMILY").expect(WHOLE);
        let numbers: Vec<u64> = place
            .split(':')
            .map(|part| part.parse().expect(WHOLE))
            .collect();
        let [fd, base, member, era] = numbers[..] else {
            panic!("no place in a family: {place}");
        };
        // SAFETY: the descriptor was inherited for this, and nobody else takes it.
        let file = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect(WHOLE)) };
        Self {
            family: Family::map(file.into(), usize::try_from(base).expect(WHOLE)),
            member: usize::try_from(member).expect(WHOLE),
            era,
        }
    }
}

fn book(base: usize) -> &'static Book {
    let place: *const Book = std::ptr::with_exposed_provenance(base + BOOK_AT);
    // SAFETY: mapped for as long as a family or one of its members is there, who alone ask; only
    // atomics are in it.
    unsafe { &*place }
}

/// A place for a file, at a multiple of a chunk: far from where the kernel maps by itself, so that
/// it is free in each process of the family.
fn free_place() -> usize {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let taken = usize::try_from(TAKEN.fetch_add(1, AcqRel)).expect(WHOLE);
    FIRST_PLACE + taken * FILE_BYTES
}

fn none() -> GroundError {
    GroundError::new("no such chunk")
}

// SAFETY: the file is mapped for as long as the family is, at the same address in every process;
// each chunk has a place of its own in it, and a place that was given up is used again after all
// others.
unsafe impl Ground for Member {
    fn control(&self) -> usize {
        self.family.base
    }

    fn window(&self) -> Range<usize> {
        self.family.base + CHUNK_BYTES..self.family.base + FILE_BYTES
    }

    fn member(&self) -> (usize, u64) {
        (self.member, self.era)
    }

    fn lives(&self, member: usize, era: u64) -> bool {
        let word = self.family.book().eras.get(member);
        word.is_some_and(|word| Era::new(word).lives(era))
    }

    fn add(&self, number: usize, _tier: &str) -> Result<usize, GroundError> {
        let book = self.family.book();
        let entry = book.chunks.get(number).ok_or_else(none)?;
        if entry.load(Acquire) == 0 {
            let there = book
                .chunks
                .iter()
                .filter(|chunk| chunk.load(Acquire) != 0)
                .count();
            if there as u64 >= book.limit.load(Acquire) {
                return Err(GroundError::new("the family has no more memory"));
            }
            let place = book.made.fetch_add(1, AcqRel) % PLACES as u64;
            // Whoever was faster has made it.
            let _ = entry.compare_exchange(0, place + 1, AcqRel, Acquire);
        }
        self.map(number)
    }

    fn map(&self, number: usize) -> Result<usize, GroundError> {
        let entry = self.family.book().chunks.get(number);
        let place = entry.map_or(0, |entry| entry.load(Acquire));
        let place = usize::try_from(place)
            .ok()
            .and_then(|place| place.checked_sub(1));
        let place = place.ok_or_else(none)?;
        Ok(self.family.base + CHUNK_BYTES * (1 + place))
    }

    fn unmap(&self, _chunk: usize) {}

    fn remove(&self, number: usize, chunk: usize) -> Result<(), GroundError> {
        let offset = chunk - self.family.base;
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let [offset, bytes] =
            [offset, CHUNK_BYTES].map(|number| i64::try_from(number).unwrap_or(0));
        fallocate(self.family.file.as_fd(), hole, offset, bytes).map_err(GroundError::new)?;
        self.family.book().chunks[number].store(0, Release);
        Ok(())
    }
}
