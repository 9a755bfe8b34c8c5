//! The threads that build, copy and destroy, so that the reactor never waits for memory.
//!
//! # Protocol
//! The reactor gives jobs and collects outcomes. There are two workers, one for small jobs and one
//! for large ones, so that whoever asks for much holds up nobody who asks for little, nor memory
//! that is to be given back. A device that asks somebody else, who may not answer, has a worker of
//! its own besides ([`Device::asks_others`]): it holds up nobody but itself. Each takes its jobs
//! one by one, in their order; the one for small jobs fills the [`Stock`] when it has none. It is
//! not woken by what is taken from there but by [`Builder::restock`]: a grant is answered before
//! anybody zeroes the next file.
//!
//! Everything they share is under one lock, which is never held during a system call of a job. An
//! outcome is there before the event is raised that announces it, and the event is taken back
//! before outcomes are collected: none stays behind unannounced.
//!
//! # Invariants
//! 1. There is at most one build or destruction, and one copy, of each backing: asking again for
//!    what is in hand adds nothing. So the queue is no longer than what the engine has open.
//! 2. Every job taken up has exactly one outcome, unless the builder is dropped first: what was
//!    built by then is closed, and what was not begun is not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::PoisonError;

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use pool_core::sync::{Arc, Condvar, Mutex, MutexGuard, lock, thread};
use pool_core::units::MIB;
use pool_core::{BackingId, Bytes, DeviceId, EXTENT_BYTES};

use super::copy::{Part, copy};
use super::stock::{Kind, Stock};
use super::{Device, NewFile, Place, SetupError};
use crate::engine::Run;
use crate::engine::command::WorldError;
use crate::sys;

/// Files of each kind that are kept ready where nothing else is said.
pub const STOCK_TARGET: usize = 4;

/// As much as a small job builds or copies: tens of milliseconds of work.
const SMALL_BYTES_MAX: u64 = 64 * MIB;

/// Which worker does a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Small,
    Large,
    /// Whatever is built and destroyed on a device that asks others.
    Of(DeviceId),
}

impl Lane {
    /// The lanes that such devices take.
    fn all(devices: &BTreeMap<DeviceId, Arc<dyn Device>>) -> Vec<Self> {
        let apart = devices.iter().filter(|(_, device)| device.asks_others());
        let apart = apart.map(|(&id, _)| Self::Of(id));
        [Self::Small, Self::Large]
            .into_iter()
            .chain(apart)
            .collect()
    }

    const fn of(bytes: u64) -> Self {
        if bytes <= SMALL_BYTES_MAX {
            Self::Small
        } else {
            Self::Large
        }
    }

    const fn thread_name(self) -> &'static str {
        match self {
            Self::Small => "builder",
            Self::Large => "builder-large",
            Self::Of(_) => "builder-apart",
        }
    }
}

/// What became of a job.
#[derive(Debug)]
pub enum Outcome {
    /// A file was to be built.
    Built {
        /// What for.
        backing: BackingId,
        /// The file.
        result: Result<NewFile, WorldError>,
    },
    /// Contents were to be copied.
    Copied {
        /// The first backing they were copied to.
        into: BackingId,
        /// How it went.
        result: Result<(), WorldError>,
    },
    /// A file was to be destroyed.
    Destroyed {
        /// Which.
        backing: BackingId,
        /// Nothing is left of it, or why something is, and the file to try again with.
        result: Result<(), (WorldError, OwnedFd)>,
    },
}

/// What a job is about: see invariant 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Backing(BackingId),
    Copy(BackingId),
}

#[derive(Debug)]
enum Job {
    Build {
        backing: BackingId,
        device: DeviceId,
        bytes: Bytes,
        runs: Vec<Run>,
        shareable: bool,
    },
    Copy {
        into: BackingId,
        from: Vec<(OwnedFd, Bytes)>,
        to: Vec<(OwnedFd, Bytes)>,
    },
    Destroy {
        backing: BackingId,
        device: DeviceId,
        file: OwnedFd,
    },
    Restock(Kind),
}

impl Job {
    /// The device that is to do something, where one is.
    const fn device(&self) -> Option<DeviceId> {
        match self {
            Self::Build { device, .. } | Self::Destroy { device, .. } => Some(*device),
            Self::Copy { .. } | Self::Restock(_) => None,
        }
    }

    /// Where it is done if its device has no lane of its own.
    fn lane(&self) -> Lane {
        match self {
            Self::Build { bytes, .. } => Lane::of(bytes.get()),
            Self::Copy { to, .. } => Lane::of(to.iter().map(|(_, bytes)| bytes.get()).sum()),
            Self::Destroy { .. } | Self::Restock(_) => Lane::Small,
        }
    }
}

#[derive(Debug)]
struct State {
    devices: BTreeMap<DeviceId, Arc<dyn Device>>,
    stock: Stock,
    /// There is an entry for each lane.
    jobs: BTreeMap<Lane, VecDeque<Job>>,
    in_hand: BTreeSet<Subject>,
    outcomes: Vec<Outcome>,
    ending: bool,
}

impl State {
    fn lane_of(&self, job: &Job) -> Lane {
        let apart = job.device().map(Lane::Of);
        let apart = apart.filter(|lane| self.jobs.contains_key(lane));
        apart.unwrap_or_else(|| job.lane())
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Raised when there may be something to do for a worker.
    work: Condvar,
    /// Readable while there are outcomes.
    event: EventFd,
}

/// The workers, their jobs and the stock. Dropping it waits for the jobs that are being done.
#[derive(Debug)]
pub struct Builder {
    shared: Arc<Shared>,
    workers: Vec<thread::JoinHandle<()>>,
}

impl Builder {
    /// Starts the workers over these devices, keeping `stock_target` files of each kind ready.
    ///
    /// # Errors
    /// Where the process may have no further thread or descriptor.
    pub fn new(
        devices: BTreeMap<DeviceId, Arc<dyn Device>>,
        stock_target: usize,
    ) -> Result<Self, SetupError> {
        let mut stock = Stock::default();
        for device in devices.keys() {
            let nothing = stock.set_target(*device, stock_target);
            drop(nothing);
        }
        let lanes = Lane::all(&devices);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                devices,
                stock,
                jobs: lanes.iter().map(|&lane| (lane, VecDeque::new())).collect(),
                in_hand: BTreeSet::new(),
                outcomes: Vec::new(),
                ending: false,
            }),
            work: Condvar::new(),
            event: sys::event()?,
        });
        let workers = Vec::new();
        let mut builder = Self { shared, workers };
        for lane in lanes {
            let shared = Arc::clone(&builder.shared);
            let worker = thread::Builder::new()
                .name(lane.thread_name().to_owned())
                .spawn(move || shared.work_until_the_end(lane))
                .map_err(|error| sys::failed("clone", &error))?;
            builder.workers.push(worker);
        }
        Ok(builder)
    }

    /// Readable while there are outcomes to be collected.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    /// Builds a file. It is returned at once where one lies ready; else it comes as an outcome.
    #[must_use = "a file that is returned has no outcome"]
    pub fn build(
        &self,
        device: DeviceId,
        backing: BackingId,
        place: Place<'_>,
        shareable: bool,
    ) -> Option<NewFile> {
        let mut state = self.shared.lock();
        // What lies ready is of a device whose extents are just counted.
        if place.bytes.get() == EXTENT_BYTES
            && let Some(file) = state.stock.take(Kind { device, shareable })
        {
            return Some(file);
        }
        let job = Job::Build {
            backing,
            device,
            bytes: place.bytes,
            runs: place.runs.to_vec(),
            shareable,
        };
        self.shared.add(state, Subject::Backing(backing), job);
        None
    }

    /// Has the stock filled up.
    pub fn restock(&self) {
        if self.shared.lock().stock.wanted().is_some() {
            self.shared.work.notify_all();
        }
    }

    /// Copies the contents of `from`, end to end, to `to`, of which `into` is the first.
    ///
    /// # Errors
    /// Where the process may have no further descriptor; nothing was begun.
    pub fn copy(
        &self,
        into: BackingId,
        from: &[Part<'_>],
        to: &[Part<'_>],
    ) -> Result<(), WorldError> {
        let (from, to) = (keep(from)?, keep(to)?);
        let job = Job::Copy { into, from, to };
        let subject = Subject::Copy(into);
        self.shared.add(self.shared.lock(), subject, job);
        Ok(())
    }

    /// Destroys a file that is proven to be held by nobody else, and closes it.
    pub fn destroy(&self, device: DeviceId, backing: BackingId, file: OwnedFd) {
        let job = Job::Destroy {
            backing,
            device,
            file,
        };
        let subject = Subject::Backing(backing);
        self.shared.add(self.shared.lock(), subject, job);
    }

    /// Every outcome since the last time, in the order in which the jobs were done.
    #[must_use = "an outcome is told once"]
    pub fn outcomes(&self) -> Vec<Outcome> {
        sys::take_event(&self.shared.event);
        core::mem::take(&mut self.shared.lock().outcomes)
    }

    /// Keeps up to `target` files of each kind of this device ready.
    pub fn set_stock(&self, device: DeviceId, target: usize) {
        let surplus = self.shared.lock().stock.set_target(device, target);
        self.shared.work.notify_all();
        drop(surplus);
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a builder thread panicked");
            }
        }
    }
}

impl Shared {
    /// Gives the memory of the stock back. Whether there was any.
    fn drain_stock(&self) -> bool {
        let drained = self.lock().stock.drain();
        !drained.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn add(&self, mut state: MutexGuard<'_, State>, subject: Subject, job: Job) {
        if state.in_hand.insert(subject) {
            let lane = state.lane_of(&job);
            state.jobs.entry(lane).or_default().push_back(job);
            drop(state);
            self.work.notify_all();
        }
    }

    fn work_until_the_end(&self, lane: Lane) {
        while let Some(job) = self.next(lane) {
            let outcome = match job {
                Job::Restock(kind) => {
                    self.restock(kind);
                    continue;
                }
                Job::Build {
                    backing,
                    device,
                    bytes,
                    runs,
                    shareable,
                } => {
                    let place = Place { bytes, runs: &runs };
                    let result = self.build(device, backing, place, shareable);
                    Outcome::Built { backing, result }
                }
                Job::Copy { into, from, to } => Outcome::Copied {
                    into,
                    result: copy(&parts(&from), &parts(&to)),
                },
                Job::Destroy {
                    backing,
                    device,
                    file,
                } => Outcome::Destroyed {
                    backing,
                    result: self.destroy(device, backing, file),
                },
            };
            self.tell(outcome);
        }
    }

    /// Waits for a job, or for a shelf to fill; `None` when it is time to end.
    fn next(&self, lane: Lane) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.ending {
                return None;
            }
            let job = state.jobs.get_mut(&lane).and_then(VecDeque::pop_front);
            if job.is_some() {
                return job;
            }
            if lane == Lane::Small
                && let Some(kind) = state.stock.wanted()
            {
                return Some(Job::Restock(kind));
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tell(&self, outcome: Outcome) {
        let subject = match outcome {
            Outcome::Built { backing, .. } | Outcome::Destroyed { backing, .. } => {
                Subject::Backing(backing)
            }
            Outcome::Copied { into, .. } => Subject::Copy(into),
        };
        let mut state = self.lock();
        state.in_hand.remove(&subject);
        state.outcomes.push(outcome);
        drop(state);
        sys::raise_event(&self.event);
    }

    fn device(&self, device: DeviceId) -> Result<Arc<dyn Device>, WorldError> {
        let (call, errno) = ("device", Errno::ENODEV as i32);
        let found = self.lock().devices.get(&device).map(Arc::clone);
        found.ok_or(WorldError::Os { call, errno })
    }

    /// Where the machine is short, what lies in stock is given back and the file built of that.
    fn build(
        &self,
        device: DeviceId,
        backing: BackingId,
        place: Place<'_>,
        shareable: bool,
    ) -> Result<NewFile, WorldError> {
        let device = self.device(device)?;
        let built = device.build(backing, place, shareable);
        let short = matches!(built, Err(WorldError::MachineShort { .. }));
        if short && self.drain_stock() {
            return device.build(backing, place, shareable);
        }
        built
    }

    fn destroy(
        &self,
        device: DeviceId,
        backing: BackingId,
        file: OwnedFd,
    ) -> Result<(), (WorldError, OwnedFd)> {
        let destroyed = self
            .device(device)
            .and_then(|device| device.destroy(backing, file.as_fd()));
        destroyed.map_err(|error| (error, file))
    }

    fn restock(&self, kind: Kind) {
        let built = self
            .device(kind.device)
            .map(|device| device.build_ahead(Bytes::new(EXTENT_BYTES), kind.shareable));
        let mut state = self.lock();
        match built {
            Ok(Some(Ok(file))) => state.stock.put(kind, file),
            // The device keeps no files without names.
            Ok(None) => drop(state.stock.set_target(kind.device, 0)),
            // Nobody waits for this file. Whoever wants one will be told why there is none.
            Ok(Some(Err(_))) | Err(_) => state.stock.give_up(kind),
        }
    }
}

/// Descriptors of one's own for the length of a job. They share the master's description and so do
/// not count as held elsewhere.
fn keep(parts: &[Part<'_>]) -> Result<Vec<(OwnedFd, Bytes)>, WorldError> {
    parts
        .iter()
        .map(|part| Ok((sys::duplicate(part.file)?, part.bytes)))
        .collect()
}

fn parts(kept: &[(OwnedFd, Bytes)]) -> Vec<Part<'_>> {
    kept.iter()
        .map(|(file, bytes)| Part {
            file: file.as_fd(),
            bytes: *bytes,
        })
        .collect()
}
