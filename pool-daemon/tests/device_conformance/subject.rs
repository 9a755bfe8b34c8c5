//! The devices under test.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use pool_core::clock::{Deadline, eventually};
use pool_core::sync::Arc;
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::{BackingId, Bytes, EXTENT_BYTES, Nanos};
use pool_daemon::config::{CxlMode, CxlSource};
use pool_daemon::device::cxl;
use pool_daemon::device::file::FileDevice;
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::{Device, NewFile, Place, proof};
use pool_daemon::engine::Run;
use pool_proto::common::v1::Pages;
use tempfile::TempDir;

/// Extents of the files that the laws build.
pub(crate) const EXTENTS: u64 = 2;
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
/// Huge pages that one law may have in use at once.
const HUGE_PAGES_NEEDED: u64 = 12;
/// Left to the machine that runs the tests.
const FLOOR: Bytes = Bytes::new(64 << 20);

/// A device and what is particular about it.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) device: Arc<dyn Device>,
    /// What its files may consist of.
    pub(crate) pages: &'static [Pages],
    pub(crate) sealed: bool,
    pub(crate) named: bool,
    /// They have a length of their own, and blocks. A dax device has neither.
    pub(crate) measured: bool,
    // Dropped after the device.
    _directory: Option<TempDir>,
    _huge: Option<HugePages>,
}

impl Subject {
    /// A device of sealed files that have a length and no names.
    fn of(device: Arc<dyn Device>, pages: &'static [Pages]) -> Self {
        Self {
            device,
            pages,
            sealed: true,
            named: false,
            measured: true,
            _directory: None,
            _huge: None,
        }
    }

    fn memfd(policy: PagePolicy, node: Option<u32>, pages: &'static [Pages]) -> Self {
        let device = MemfdDevice::new(policy, node, FLOOR).unwrap();
        Self::of(Arc::new(device), pages)
    }

    pub(crate) fn base() -> Option<Self> {
        Some(Self::memfd(PagePolicy::Base, None, &[Pages::Base]))
    }

    pub(crate) fn collapsed() -> Option<Self> {
        let pages = &[Pages::Collapsed, Pages::Base];
        Some(Self::memfd(PagePolicy::Collapsed, None, pages))
    }

    pub(crate) fn bound() -> Option<Self> {
        if !Path::new("/sys/devices/system/node/node0").exists() {
            return None;
        }
        let pages = &[Pages::Collapsed, Pages::Base];
        Some(Self::memfd(PagePolicy::Collapsed, Some(0), pages))
    }

    /// Keeps others from raising the number of huge pages meanwhile, and so leaves them theirs.
    pub(crate) fn auto() -> Option<Self> {
        let huge = HugePages::locked();
        let pages = &[Pages::Hugetlb, Pages::Collapsed, Pages::Base];
        let mut subject = Self::memfd(PagePolicy::Auto, None, pages);
        subject._huge = huge;
        Some(subject)
    }

    pub(crate) fn hugetlb() -> Option<Self> {
        let huge = HugePages::locked()?.with_free_pages()?;
        let mut subject = Self::memfd(PagePolicy::Hugetlb, None, &[Pages::Hugetlb]);
        subject._huge = Some(huge);
        Some(subject)
    }

    pub(crate) fn file() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let device = FileDevice::open(&directory.path().join("device")).unwrap();
        Some(Self {
            sealed: false,
            named: true,
            _directory: Some(directory),
            ..Self::of(Arc::new(device), &[Pages::File])
        })
    }

    /// Files that are cut from a region of the CXL device that the environment names.
    pub(crate) fn devdax() -> Option<Self> {
        static DEVICE: OnceLock<Option<Arc<dyn Device>>> = OnceLock::new();
        let open = || cxl_device("TIERPOOL_DEVDAX_SERIAL", CxlMode::DevDax);
        let device = DEVICE.get_or_init(open).clone()?;
        Some(Self {
            named: true,
            measured: false,
            ..Self::of(device, &[Pages::Dax])
        })
    }

    /// Files in the memory of a node that such a device is.
    pub(crate) fn kmem() -> Option<Self> {
        static DEVICE: OnceLock<Option<Arc<dyn Device>>> = OnceLock::new();
        let open = || cxl_device("TIERPOOL_KMEM_SERIAL", CxlMode::Kmem);
        let device = DEVICE.get_or_init(open).clone()?;
        Some(Self::of(device, &[Pages::Collapsed, Pages::Base]))
    }

    /// A file of a few extents that may not be shared, under the number `number`.
    pub(crate) fn build(&self, number: u64) -> NewFile {
        self.build_extents(number, EXTENTS)
    }

    pub(crate) fn build_extents(&self, number: u64, extents: u64) -> NewFile {
        self.build_for(number, extents, false)
    }

    /// The same, and others may come to have it where `shareable` says so.
    pub(crate) fn build_for(&self, number: u64, extents: u64, shareable: bool) -> NewFile {
        let runs = fresh_extents(u32::try_from(extents).unwrap());
        let place = Place {
            bytes: Bytes::new(extents * EXTENT_BYTES),
            runs: &runs,
        };
        let built = self.device.build(backing(number), place, shareable);
        built.unwrap()
    }
}

/// Extents that no other file of this program lies in, in two pieces where that goes.
fn fresh_extents(count: u32) -> Vec<Run> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut pieces = vec![count / 2, count - count / 2];
    pieces.retain(|count| *count > 0);
    let piece = |count| {
        // What lies between them is left out.
        let first = NEXT.fetch_add(count + 1, Relaxed);
        Run { first, count }
    };
    pieces.into_iter().map(piece).collect()
}

/// A region of 512 MiB on the device whose serial number the variable holds; `None` without.
fn cxl_device(variable: &str, mode: CxlMode) -> Option<Arc<dyn Device>> {
    let serial = std::env::var(variable).ok()?;
    let source = CxlSource {
        serials: vec![serial.parse().unwrap()],
        mode,
        size: Bytes::new(512 << 20),
        shared: false,
    };
    Some(cxl::open(&source, false).unwrap().0)
}

pub(crate) fn backing(number: u64) -> BackingId {
    BackingId::new(number).unwrap()
}

/// Whether somebody else has the file, told as soon as it is not: a process that another test has
/// just begun holds duplicates of every descriptor for a moment.
pub(crate) fn becomes_free(master: &OwnedFd) -> bool {
    let free = || (!proof::is_held_elsewhere(master.as_fd()).unwrap()).then_some(());
    eventually(Deadline::after(Nanos::from_millis(30_000)), free).is_ok()
}

/// The machine's pool of huge pages, for this test alone, as it was found when dropped.
#[derive(Debug)]
struct HugePages {
    before: u64,
    _lock: Flock<File>,
}

impl HugePages {
    /// `None` where the kernel has no such pages.
    fn locked() -> Option<Self> {
        let file = File::open(HUGE_PAGES).ok()?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        Some(Self {
            before: count_of(HUGE_PAGES),
            _lock: lock,
        })
    }

    /// With as many more as a law needs; `None` where the machine has not so many together, or
    /// this process may not ask.
    fn with_free_pages(self) -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let wanted = self.before + HUGE_PAGES_NEEDED;
        fs::write(HUGE_PAGES, wanted.to_string()).unwrap();
        (count_of(HUGE_PAGES) >= wanted).then_some(self)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if count_of(HUGE_PAGES) != self.before {
            fs::write(HUGE_PAGES, self.before.to_string()).unwrap();
        }
    }
}

fn count_of(path: &str) -> u64 {
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}
