//! The memory of the suite: a domain as the daemon would make it, and the tools of the peers behind
//! its payload, in one file that both processes map.
//!
//! ```text
//! directory | payload | tools: words 128 bytes apart, rings from 256 KiB on, mutexes from 1 MiB on
//! ```
//! What is compared lies in the same file, on pages of the same kind, each in lines of its own.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::Context as _;
use coherence::{Directory, Layout};
use pool_core::descriptor::Descriptor;
use pool_core::mem::{Access, FileMap, Mapped};
use pool_core::sync::atomic::{AtomicU32, AtomicU64};
use pool_core::units::KIB;
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::{Device as _, Place};

use super::pthread::{RobustMutex, STRIDE};

const TOOLS_BYTES: u64 = EXTENT_BYTES;
const MUTEXES_AT: u64 = EXTENT_BYTES / 2;
const WORDS_FIRST: u64 = 16;
const RINGS_AT: u64 = 256 * KIB;
const RING_BYTES: u64 = 256 * KIB;

/// How many mutexes there are, and words.
pub(super) const TOOLS: u32 = 256;

/// How the domain is cut.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Shape {
    /// Bytes of a unit.
    #[arg(long)]
    pub(super) unit_bytes: u64,
    /// How many units.
    #[arg(long)]
    pub(super) units: u32,
}

/// A word that both processes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// How many have come to where they begin together.
    Arrived,
    /// Whose turn it is.
    Turn,
    /// What is counted under a lock.
    Count,
    /// The word of the compare-exchange with this number.
    Word(u32),
}

impl Tool {
    fn at(self) -> u64 {
        let place = match self {
            Self::Arrived => 0,
            Self::Turn => 1,
            Self::Count => 2,
            Self::Word(number) => WORDS_FIRST + u64::from(number % TOOLS),
        };
        place * STRIDE
    }
}

/// A domain that is mapped here.
#[derive(Debug)]
pub(super) struct Domain {
    file: OwnedFd,
    layout: Layout,
    map: FileMap,
}

impl Domain {
    /// A new one.
    pub(super) fn create(shape: Shape) -> anyhow::Result<Self> {
        let layout = shape.layout()?;
        let device = MemfdDevice::new(PagePolicy::Auto, None, Bytes::ZERO)?;
        let file = device
            .build(BackingId::FIRST, Place::anywhere(bytes_of(layout)), false)?
            .file;
        let domain = Self::map(file, layout)?;
        domain.directory()?.format(0)?;
        for number in 0..TOOLS {
            RobustMutex::create(domain.mutex_memory(number)?)?;
        }
        Ok(domain)
    }

    /// One that another process has made.
    pub(super) fn open(path: &Path, shape: Shape) -> anyhow::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Self::map(file.into(), shape.layout()?)
    }

    fn map(file: OwnedFd, layout: Layout) -> anyhow::Result<Self> {
        let (all, access) = (bytes_of(layout), Access::ReadWrite);
        let map = FileMap::new(file.as_fd(), Bytes::ZERO, all, access)?;
        Ok(Self { file, layout, map })
    }

    /// Where another process of the same user finds the file.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// How it is cut.
    pub(super) fn shape(&self) -> Shape {
        Shape {
            unit_bytes: self.layout.unit().get(),
            units: self.layout.units(),
        }
    }

    fn directory(&self) -> anyhow::Result<Directory<'_>> {
        Ok(Directory::new(self.map.mapped(), self.layout)?)
    }

    /// The descriptor of a unit.
    pub(super) fn line(&self, unit: u32) -> anyhow::Result<&Descriptor> {
        self.directory()?.line(unit).context("no such unit")
    }

    /// The object of `bytes` bytes at the beginning of a unit.
    pub(super) fn object(&self, unit: u32, bytes: u64) -> anyhow::Result<Object<'_>> {
        let place = self.layout.place(unit).context("no such unit")?;
        let object = self.map.mapped().part(place, Bytes::new(bytes))?;
        Ok(Object {
            first: object.atomic_u64(Bytes::ZERO)?,
            last: object.atomic_u64(Bytes::new(bytes.saturating_sub(8)))?,
        })
    }

    /// The bytes of all units.
    pub(super) fn payload(&self) -> anyhow::Result<Mapped<'_>> {
        let (start, bytes) = (self.layout.directory(), self.layout.payload());
        Ok(self.map.mapped().part(start, bytes)?)
    }

    /// A tool as a word.
    pub(super) fn word(&self, tool: Tool) -> anyhow::Result<&AtomicU64> {
        let at = self.tools_at() + tool.at();
        Ok(self.map.mapped().atomic_u64(Bytes::new(at))?)
    }

    /// Three words of one line, none of which anything else uses.
    pub(super) fn line_of_words(&self) -> anyhow::Result<[&AtomicU64; 3]> {
        let at = self.tools_at() + Tool::Word(1).at();
        let word = |index: u64| self.map.mapped().atomic_u64(Bytes::new(at + 8 * index));
        Ok([word(0)?, word(1)?, word(2)?])
    }

    /// A tool that can be slept on.
    pub(super) fn futex(&self, tool: Tool) -> anyhow::Result<&AtomicU32> {
        let at = self.tools_at() + tool.at();
        Ok(self.map.mapped().atomic_u32(Bytes::new(at))?)
    }

    /// One of the mutexes.
    pub(super) fn mutex(&self, number: u32) -> anyhow::Result<RobustMutex<'_>> {
        RobustMutex::open(self.mutex_memory(number)?)
    }

    fn mutex_memory(&self, number: u32) -> anyhow::Result<Mapped<'_>> {
        let at = self.tools_at() + MUTEXES_AT + u64::from(number % TOOLS) * STRIDE;
        Ok(self.map.mapped().part(Bytes::new(at), Bytes::new(STRIDE))?)
    }

    /// The memory of one of three rings.
    pub(super) fn ring_memory(&self, number: u32) -> anyhow::Result<Mapped<'_>> {
        let at = self.tools_at() + RINGS_AT + u64::from(number % 3) * RING_BYTES;
        Ok(self
            .map
            .mapped()
            .part(Bytes::new(at), Bytes::new(RING_BYTES))?)
    }

    fn tools_at(&self) -> u64 {
        bytes_of(self.layout).get() - TOOLS_BYTES
    }
}

impl Shape {
    fn layout(self) -> anyhow::Result<Layout> {
        let payload = self.unit_bytes.checked_mul(u64::from(self.units));
        let payload = Bytes::new(payload.context("the payload is too large")?);
        Ok(Layout::new(payload, Bytes::new(self.unit_bytes))?)
    }
}

fn bytes_of(layout: Layout) -> Bytes {
    let payload = layout.payload().get().next_multiple_of(EXTENT_BYTES);
    Bytes::new(layout.directory().get() + payload + TOOLS_BYTES)
}

/// The two ends of an object: whoever is handed it touches these and nothing between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    first: &'a AtomicU64,
    last: &'a AtomicU64,
}

impl Object<'_> {
    /// Writes both ends.
    #[inline]
    pub(super) fn write(&self, value: u64) {
        use pool_core::sync::atomic::Ordering::Relaxed;
        // Relaxed: what hands the object over orders it.
        self.first.store(value, Relaxed);
        self.last.store(value, Relaxed);
    }

    /// Reads both ends, which must be of one writing.
    #[inline]
    pub(super) fn read(&self) -> anyhow::Result<u64> {
        use pool_core::sync::atomic::Ordering::Relaxed;
        let (first, last) = (self.first.load(Relaxed), self.last.load(Relaxed));
        anyhow::ensure!(
            first == last,
            "an object begins with {first}, ends with {last}"
        );
        Ok(first)
    }

    /// Reads the beginning only.
    #[inline]
    pub(super) fn peek(&self) -> u64 {
        self.first.load(pool_core::sync::atomic::Ordering::Relaxed)
    }
}
