//! A pool heap without a daemon: on one file of memory that a family of processes maps, each at the
//! same address, and in which the first of them says who lives.
//!
//! # Layout of the file
//! ```text
//! 0        the control area of the heap
//! 32 MiB   the book: eras, and which chunks there are
//! 64 MiB   places for chunks
//! ```
//! A chunk that is removed leaves a hole, and its place is not used again: who still has it mapped
//! writes where nobody else does. The heap adds and removes under one number by one process at a
//! time.

#![expect(unsafe_code, reason = "a ground promises what a heap believes")]

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command};

use allocator::pool::{CHUNK_BYTES, Ground, GroundError, PoolHeap};
use coherence::era::Era;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::unistd::{Whence, lseek};
use pool_core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

/// Why a step of a family is not expected to fail.
const WHOLE: &str = "a family has its memory and its processes";
/// How many chunks there may be at a time, and how many are made in a family that is short-lived.
const CHUNKS: usize = 24;
const BOOK_AT: usize = 32 << 20;
const MEMBERS: usize = 32;
const PAGE_BYTES: usize = 4096;
/// What of a chunk may be metadata.
const METADATA_BYTES: u64 = 2 << 20;
const FIRST_PLACE: usize = 0x1000_0000_0000;

/// What is in the book.
#[repr(C)]
struct Book {
    eras: [AtomicU64; MEMBERS],
    /// One more than the place of each chunk that there is.
    chunks: [AtomicU64; CHUNKS],
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
    bytes: usize,
}

/// One member of a family: what a heap stands on.
#[derive(Debug)]
pub struct Member {
    family: Family,
    member: usize,
    era: u64,
}

/// All that a family had at some moment.
#[derive(Debug)]
pub struct Memory {
    /// The parts of the file that are there, by where they begin.
    parts: BTreeMap<u64, Box<[u8]>>,
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
        Self::with_places(CHUNKS)
    }

    /// A new one in which so many chunks can be made, one after the other.
    #[must_use]
    pub fn with_places(places: usize) -> Self {
        let name = c"family";
        let flags = nix::sys::memfd::MFdFlags::empty();
        let file = File::from(nix::sys::memfd::memfd_create(name, flags).expect(WHOLE));
        let bytes = CHUNK_BYTES * (1 + places);
        file.set_len(bytes as u64).expect(WHOLE);
        let family = Self::map(file, free_place(bytes));
        family.book().limit.store(CHUNKS as u64, Release);
        family
    }

    /// Maps the file at `base`.
    fn map(file: File, base: usize) -> Self {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED_NOREPLACE;
        let bytes = usize::try_from(file.metadata().expect(WHOLE).len()).expect(WHOLE);
        let (at, length) = (
            NonZeroUsize::new(base),
            NonZeroUsize::new(bytes).expect(WHOLE),
        );
        // SAFETY: a new mapping in place of none.
        let place = unsafe { mmap(at, length, access, flags, &file, 0) }.expect(WHOLE);
        assert_eq!(place.as_ptr().expose_provenance(), base);
        Self { file, base, bytes }
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
                bytes: self.bytes,
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

    /// The pages of the file that are there.
    fn pages(&self) -> Vec<u64> {
        let mut pages = Vec::new();
        let mut at = 0;
        let seek = |at: u64, whence| lseek(&self.file, at.cast_signed(), whence);
        // An error: there is no more of it.
        while let Ok(first) = seek(at, Whence::SeekData) {
            let end = seek(first.cast_unsigned(), Whence::SeekHole).expect(WHOLE);
            pages.extend((first.cast_unsigned()..end.cast_unsigned()).step_by(PAGE_BYTES));
            at = end.cast_unsigned();
        }
        pages
    }

    fn page(&self, at: u64) -> Box<[u8]> {
        let mut bytes = vec![0; PAGE_BYTES];
        self.file.read_exact_at(&mut bytes, at).expect(WHOLE);
        bytes.into()
    }

    /// How many chunks have memory.
    #[must_use]
    pub fn chunks(&self) -> usize {
        let chunks = self.book().chunks.iter();
        chunks.filter(|chunk| chunk.load(Acquire) != 0).count()
    }

    /// The word at `at` in the file.
    #[must_use]
    pub fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).expect(WHOLE);
        u64::from_le_bytes(bytes)
    }

    /// Has it be `word`.
    pub fn set_word(&self, at: u64, word: u64) {
        let bytes = word.to_le_bytes();
        self.file.write_all_at(&bytes, at).expect(WHOLE);
    }

    /// All that there is, while nobody changes it.
    #[must_use]
    pub fn remember(&self) -> Memory {
        let pages = self.pages().into_iter();
        Memory {
            parts: pages.map(|at| (at, self.page(at))).collect(),
        }
    }

    /// Has everything be as it was, while nobody uses it.
    pub fn restore(&self, memory: &Memory) {
        for at in self.pages() {
            if !memory.parts.contains_key(&at) {
                punch(&self.file, at, PAGE_BYTES as u64).expect(WHOLE);
            }
        }
        for (&at, bytes) in &memory.parts {
            if self.page(at) != *bytes {
                self.file.write_all_at(bytes, at).expect(WHOLE);
            }
        }
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

impl Drop for Kin {
    /// A test that fails leaves no process.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Has a part of a file be a hole.
fn punch(file: &File, at: u64, bytes: u64) -> Result<(), GroundError> {
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let (at, bytes) = (at.cast_signed(), bytes.cast_signed());
    fallocate(file.as_fd(), hole, at, bytes).map_err(GroundError::new)
}

fn book(base: usize) -> &'static Book {
    let place: *const Book = std::ptr::with_exposed_provenance(base + BOOK_AT);
    // SAFETY: mapped for as long as a family or one of its members is there, who alone ask; only
    // atomics are in it.
    unsafe { &*place }
}

/// A place for a file, at a multiple of a chunk: far from where the kernel maps by itself, so that
/// it is free in each process of the family.
fn free_place(bytes: usize) -> usize {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let taken = usize::try_from(TAKEN.fetch_add(bytes as u64, AcqRel)).expect(WHOLE);
    FIRST_PLACE + taken
}

fn none() -> GroundError {
    GroundError::new("no such chunk")
}

// SAFETY: the file is mapped for as long as the family is, at the same address in every process;
// each chunk has a place of its own in it, and a place that was given up is used no more.
unsafe impl Ground for Member {
    fn control(&self) -> usize {
        self.family.base
    }

    fn id(&self) -> u64 {
        1
    }

    fn window(&self) -> Range<usize> {
        self.family.base + CHUNK_BYTES..self.family.base + self.family.bytes
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
            if self.family.chunks() as u64 >= book.limit.load(Acquire) {
                return Err(GroundError::shortage("the family has no more memory"));
            }
            let place = book.made.fetch_add(1, AcqRel);
            let bytes = (CHUNK_BYTES as u64).saturating_mul(place + 2);
            if bytes > self.family.bytes as u64 {
                return Err(GroundError::new("the family has no more places"));
            }
            entry.store(place + 1, Release);
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
        let at = (chunk - self.family.base) as u64;
        // The metadata last: until then it says that the chunk is doomed.
        punch(
            &self.family.file,
            at + METADATA_BYTES,
            CHUNK_BYTES as u64 - METADATA_BYTES,
        )?;
        punch(&self.family.file, at, METADATA_BYTES)?;
        self.family.book().chunks[number].store(0, Release);
        Ok(())
    }
}
