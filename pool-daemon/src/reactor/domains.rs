//! The directories of domains, in the daemon's own mappings: written when a domain is made, and
//! recovered when a member is gone.
//!
//! Members write this memory too, as they like. Each word is read once and judged; what cannot be
//! judged is told, and the rest is done. A domain may have a million units, so that what goes
//! through all of them is done a part in each round of the reactor, and everybody else is served
//! between two parts.
//!
//! # Invariants
//! 1. A directory is mapped from the first access on until its file is given up, and never after:
//!    a file in quarantine is emptied, and whoever touches it then brings pages back.
//! 2. A mapping is made from the master's own description, so the proof of release does not see it.
//! 3. There is at most one work on a domain at a time, and each has one outcome; but for work on a
//!    file that is given up, and for what a failed journal has undone, which have none.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;

use coherence::{Directory, FutexWait, Layout, LeaseError, Refused, Slot, proxy};
use pool_core::descriptor::Descriptor;
use pool_core::mem::{Access, BoundsError, FileMap, MapError};
use pool_core::{BackingId, Bytes, ClientId, Incarnation, Nanos, SegmentId, crash_point};

use super::Reactor;
use crate::engine::command::{Command, Leased, Recovered, WorldError};
use crate::engine::effect::{Hold, Lease, Recovery};

use departed::Departed;
use sums::{Reading, Zeroes};
use work::{Task, Work};

/// The time between two tries of what the machine could not do.
const RETRY_PAUSE: Nanos = Nanos::from_millis(200);

#[derive(Debug)]
struct Open {
    map: FileMap,
    layout: Layout,
}

/// Why a directory cannot be accessed.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("its file is gone")]
    Gone,
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Bounds(#[from] BoundsError),
}

impl From<OpenError> for WorldError {
    fn from(error: OpenError) -> Self {
        let (call, errno) = match error {
            OpenError::Map(MapError::Os { call, errno, .. }) => (call, errno as i32),
            OpenError::Map(_) | OpenError::Gone => ("mmap", libc::ENOENT),
            OpenError::Bounds(_) => ("mmap", libc::EFAULT),
        };
        Self::Os { call, errno }
    }
}

/// The directories that are mapped, and what is to be done with them.
#[derive(Debug, Default)]
pub(super) struct Domains {
    open: BTreeMap<BackingId, Open>,
    work: VecDeque<Work>,
    departed: BTreeMap<u64, Departed>,
    last_departed: u64,
    /// When processes are looked for that are not watched, and after which of them.
    look_at: Option<Nanos>,
    looked_for: u64,
}

impl Domains {
    /// When there is something to do unasked.
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let work = self.work.iter();
        let work = work.map(|work| work.retry_at.unwrap_or(Nanos::ZERO));
        work.chain(self.look_at).min()
    }

    /// Gives a file up (invariant 1).
    fn close(&mut self, file: BackingId) {
        self.open.remove(&file);
        self.work.retain(|work| work.directory != file);
    }

    /// What was asked for before the journal failed is asked for anew, or not wanted any more.
    pub(super) fn forget_work(&mut self) {
        self.work.clear();
        self.departed.clear();
        self.look_at = None;
    }

    pub(super) fn format(
        &mut self,
        segment: SegmentId,
        directory: BackingId,
        layout: Layout,
        (mode, incarnation, checksums): (u8, Incarnation, bool),
    ) {
        // Version 0 of every unit is all zeroes.
        let zeroes = checksums.then(|| Zeroes::new(layout.unit()));
        let task = Task::Format {
            mode,
            incarnation,
            zeroes,
            sum: None,
        };
        self.add(segment, directory, layout, task);
    }

    pub(super) fn recover(&mut self, recovery: Recovery) {
        if recovery.contents_in.is_some() {
            crash_point!("evict.committed");
        }
        let (found, stuck, reading) = (Recovered::default(), None, None);
        let task = Task::Recover {
            recovery,
            found,
            stuck,
            reading,
        };
        self.add(recovery.segment, recovery.directory, recovery.layout, task);
    }

    pub(super) fn hold(&mut self, hold: Hold) {
        if hold.fences {
            crash_point!("evict.journaled");
        }
        let found = hold::Found::default();
        let task = Task::Hold { hold, found };
        self.add(hold.segment, hold.directory, hold.layout, task);
    }

    fn add(&mut self, segment: SegmentId, directory: BackingId, layout: Layout, task: Task) {
        self.work.push_back(Work {
            segment,
            directory,
            layout,
            at: 0,
            retry_at: None,
            task,
        });
    }

    /// The work whose turn it is.
    fn next_due(&mut self, now: Nanos) -> Option<Work> {
        let is_due = |work: &Work| work.retry_at.is_none_or(|at| at <= now);
        let due = self.work.iter().position(is_due)?;
        let mut work = self.work.remove(due)?;
        work.retry_at = None;
        Some(work)
    }

    /// The directory in `file`, where it has been mapped before.
    fn directory(&self, file: BackingId) -> Result<Directory<'_>, OpenError> {
        let open = self.open.get(&file).ok_or(OpenError::Gone)?;
        Ok(Directory::new(open.map.mapped(), open.layout)?)
    }

    /// The directory of `work`, of which `master` is the file.
    fn opened(
        &mut self,
        work: &Work,
        master: Option<BorrowedFd<'_>>,
    ) -> Result<Directory<'_>, OpenError> {
        let open = match self.open.entry(work.directory) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(free) => {
                let (master, layout) = (master.ok_or(OpenError::Gone)?, work.layout);
                let bytes = layout.directory();
                let map = FileMap::new(master, Bytes::ZERO, bytes, Access::ReadWrite)?;
                free.insert(Open { map, layout })
            }
        };
        Ok(Directory::new(open.map.mapped(), open.layout)?)
    }
}

impl Reactor {
    /// Does a part of what is to be done with directories.
    pub(super) fn work_on_domains(&mut self, now: Nanos) {
        if self.domains.look_at.is_some_and(|at| at <= now) {
            self.domains.look_at = None;
            self.look_for_departed();
        }
        let Some(mut work) = self.domains.next_due(now) else {
            return;
        };
        let (engine, files, segment) = (&self.engine, &self.files, work.segment);
        let read = |reading: &mut Reading| sums::read_on(engine, files, segment, reading);
        let opened = self.domains.opened(&work, files.master(work.directory));
        let done = opened.and_then(|directory| work.proceed(&directory, read));
        match (done, work.task) {
            (Ok(false), task) => self.domains.work.push_back(Work { task, ..work }),
            (Ok(true), Task::Format { .. }) => {
                crash_point!("domain.formatted");
                let result = Ok(());
                self.step(Command::Formatted { segment, result });
            }
            (Err(error), Task::Format { .. }) => {
                let result = Err(error.into());
                self.step(Command::Formatted { segment, result });
            }
            (Ok(true), Task::Recover { found, stuck, .. }) => {
                crash_point!("domain.recovered");
                let result = stuck.map_or(Ok(found), Err);
                self.step(Command::Recovered { segment, result });
            }
            (Ok(true), Task::Hold { hold, found }) => {
                if hold.fences {
                    crash_point!("evict.fenced");
                }
                self.step(found.tell(segment));
            }
            // One domain holds up no other.
            (Err(error), task) => {
                tracing::error!(%segment, %error, "a domain cannot be recovered for a moment");
                let retry_at = Some(now.saturating_add(RETRY_PAUSE));
                let work = Work {
                    retry_at,
                    task,
                    ..work
                };
                self.domains.work.push_back(work);
            }
        }
    }

    /// Says in the directory that a member has come.
    pub(super) fn enter(&self, directory: BackingId, slot: Slot) {
        // It was mapped before anybody was granted it.
        let entered = self.domains.directory(directory);
        match entered.and_then(|directory| Ok(directory.enter(slot)?)) {
            Ok(_) => crash_point!("domain.entered"),
            Err(error) => tracing::error!(%directory, %slot, %error, "a member is not announced"),
        }
    }

    /// Leases a unit in the place of a client, or lets go of it.
    pub(super) fn lease(
        &mut self,
        (client, request_id): (ClientId, u64),
        (directory, unit): (BackingId, u32),
        slot: Slot,
        lease: Lease,
    ) {
        let line = self.domains.directory(directory);
        let line = line.ok().and_then(|directory| directory.line(unit));
        let outcome = line.map_or(Err(LeaseError::Busy(Refused::Fenced)), |line| {
            lease_of(line, slot, lease)
        });
        self.step(Command::Leased {
            client,
            request_id,
            unit,
            outcome,
        });
    }

    /// Gives a file up. Where it was a directory, the ends of those who had slots in it are waited
    /// for no more.
    pub(super) fn close_domain(&mut self, file: BackingId) {
        self.domains.close(file);
        let engine = &self.engine;
        self.domains.departed.retain(|_, departed| {
            departed
                .slots
                .retain(|&(segment, slot)| engine.awaits_end(segment, slot));
            !departed.slots.is_empty()
        });
    }
}

fn lease_of(line: &Descriptor, slot: Slot, lease: Lease) -> Leased {
    match lease {
        Lease::Acquire => proxy::lease(line, slot).map(Some),
        Lease::Release => proxy::let_go(line, slot, &FutexWait).map(|_| None),
    }
}

mod audit;
mod departed;
mod hold;
mod recovery;
mod sums;
mod work;

#[cfg(test)]
mod tests;
