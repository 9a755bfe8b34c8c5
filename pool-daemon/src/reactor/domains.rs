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
use std::ops::Bound::{Excluded, Unbounded};
use std::os::fd::{BorrowedFd, OwnedFd};

use coherence::check::{Census, Violation, check};
use coherence::pass::Pass;
use coherence::recover::{self, Fenced, RecoverError, Verdict};
use coherence::sum::Digest;
use coherence::{Directory, FutexWait, Layout, LeaseError, Refused, Slot, proxy};
use pool_core::descriptor::Descriptor;
use pool_core::mem::{Access, BoundsError, FileMap, MapError};
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::{BackingId, Bytes, ClientId, Incarnation, Nanos, SegmentId, clock, crash_point};
use pool_proto::admin::v1::{CheckReport, DomainCheck};

use super::poller::{Interest, Token};
use super::{Reactor, process};
use crate::engine::DomainView;
use crate::engine::command::{Command, Leased, PeerIdentity, Recovered, Unrecovered, WorldError};
use crate::engine::effect::{Hold, Lease, Recovery};

/// Units that are gone through in one round: a few milliseconds of work.
const UNITS_A_ROUND: u32 = 8_192;
/// The time between two tries of what the machine could not do.
const RETRY_PAUSE: Nanos = Nanos::from_millis(200);
/// Processes that are watched by a descriptor of each; further ones are looked for now and then.
const WATCHED_MAX: usize = 1_024;
/// Of those, so many at once.
const LOOKED_FOR_MAX: usize = 64;
/// Findings that a check names of one domain.
const FINDINGS_MAX: usize = 8;

/// What is to be done with all units of a domain.
#[derive(Debug)]
enum Task {
    Format {
        mode: u8,
        incarnation: Incarnation,
        /// In a domain that has checksums: that of each unit.
        sum: Option<u64>,
    },
    Recover {
        recovery: Recovery,
        found: Recovered,
        stuck: Option<Unrecovered>,
    },
    Hold {
        hold: Hold,
        found: hold::Found,
    },
}

#[derive(Debug)]
struct Work {
    segment: SegmentId,
    directory: BackingId,
    layout: Layout,
    /// The unit that comes next.
    at: u32,
    /// Set while the machine does not give what it needs.
    retry_at: Option<Nanos>,
    task: Task,
}

/// A process whose end is waited for.
#[derive(Debug)]
struct Departed {
    process: PeerIdentity,
    /// The slots it had, in any domains.
    slots: Vec<(SegmentId, Slot)>,
    /// `None` where it could not be had: the process is looked for again.
    pidfd: Option<OwnedFd>,
}

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
        let sum = checksums.then(|| Digest::of_zeroes(layout.unit()).word(0));
        let task = Task::Format {
            mode,
            incarnation,
            sum,
        };
        self.add(segment, directory, layout, task);
    }

    pub(super) fn recover(&mut self, recovery: Recovery) {
        if recovery.moved.is_some() {
            crash_point!("evict.committed");
        }
        let (found, stuck) = (Recovered::default(), None);
        let task = Task::Recover {
            recovery,
            found,
            stuck,
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
        let look = |unit| sums::contents(engine, files, segment, unit);
        let opened = self.domains.opened(&work, files.master(work.directory));
        let done = opened.and_then(|directory| work.proceed(&directory, look));
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

    /// Waits for the end of a process that had a slot.
    pub(super) fn await_end(&mut self, segment: SegmentId, slot: Slot, process: PeerIdentity) {
        if !self.engine.awaits_end(segment, slot) {
            return;
        }
        let same = |departed: &Departed| {
            (departed.process.pid, departed.process.started_ticks)
                == (process.pid, process.started_ticks)
        };
        let mut known = self.domains.departed.values_mut();
        if let Some(departed) = known.find(|departed| same(departed)) {
            return departed.slots.push((segment, slot));
        }
        self.domains.last_departed += 1;
        let number = self.domains.last_departed;
        let (slots, pidfd) = (vec![(segment, slot)], None);
        let departed = Departed {
            process,
            slots,
            pidfd,
        };
        self.domains.departed.insert(number, departed);
        self.look_for(number);
    }

    fn look_for_departed(&mut self) {
        let after = (Excluded(self.domains.looked_for), Unbounded);
        let unwatched = self.domains.departed.range(after);
        let unwatched = unwatched.filter(|(_, departed)| departed.pidfd.is_none());
        let next: Vec<_> = unwatched
            .map(|(&number, _)| number)
            .take(LOOKED_FOR_MAX)
            .collect();
        let is_last = next.len() < LOOKED_FOR_MAX;
        self.domains.looked_for = next.last().copied().filter(|_| !is_last).unwrap_or(0);
        next.into_iter().for_each(|number| self.look_for(number));
        if !is_last {
            self.look_again();
        }
    }

    fn look_again(&mut self) {
        let again = clock::now().saturating_add(RETRY_PAUSE);
        self.domains.look_at.get_or_insert(again);
    }

    fn look_for(&mut self, number: u64) {
        let departed = self.domains.departed.values();
        let watched = departed.filter(|departed| departed.pidfd.is_some()).count();
        let Some(departed) = self.domains.departed.get_mut(&number) else {
            return;
        };
        let found = process::find(&departed.process).and_then(|found| {
            if let Some(pidfd) = found.as_ref().filter(|_| watched < WATCHED_MAX) {
                let token = Token::Departed(number);
                self.poller.add(pidfd, token, Interest::Readable)?;
            }
            Ok(found)
        });
        match found {
            Ok(Some(pidfd)) if watched < WATCHED_MAX => departed.pidfd = Some(pidfd),
            Ok(Some(_)) => self.look_again(),
            Ok(None) => self.has_ended(number),
            Err(error) => {
                tracing::warn!(%error, "a process that had a slot cannot be watched yet");
                self.look_again();
            }
        }
    }

    /// A process that had slots has ended.
    pub(super) fn has_ended(&mut self, number: u64) {
        let Some(departed) = self.domains.departed.remove(&number) else {
            return;
        };
        if let Some(pidfd) = &departed.pidfd {
            self.poller.remove(pidfd);
        }
        for (segment, slot) in departed.slots {
            self.step(Command::Ended { segment, slot });
        }
    }

    /// Looks at every word of every domain.
    pub(super) fn check_domains(&self, report: &mut CheckReport) {
        for domain in self.engine.domains() {
            let Ok(directory) = self.domains.directory(domain.directory) else {
                continue; // Its descriptor is awaited, or it is being recovered.
            };
            let (row, found) = audit(&domain, directory.lines());
            report.domains.push(row);
            report.findings.extend(found);
        }
    }
}

impl Work {
    /// Goes on with the next units; whether there are no more. Where contents have to be looked at,
    /// which `look` does, it goes no further than that unit.
    ///
    /// # Errors
    /// [`OpenError`]: it is to go on with the same unit later.
    fn proceed(
        &mut self,
        directory: &Directory<'_>,
        mut look: impl FnMut(u32) -> Result<Digest, OpenError>,
    ) -> Result<bool, OpenError> {
        if self.at == 0 {
            self.begin(directory)?;
        }
        let units = self.layout.units();
        let end = self.at.saturating_add(UNITS_A_ROUND).min(units);
        for unit in self.at..end {
            self.at = unit.saturating_add(1);
            let Some(line) = directory.line(unit) else {
                continue;
            };
            match &mut self.task {
                // Relaxed: nobody has it yet, and handing it out orders it.
                Task::Format {
                    incarnation, sum, ..
                } => {
                    line.backing.store(incarnation.number(), Relaxed);
                    if let Some(sum) = *sum {
                        line.sum.store(sum, Relaxed);
                    }
                }
                Task::Recover {
                    recovery,
                    found,
                    stuck,
                } => {
                    let mut looked = None;
                    let contents = || sums::noted(look(unit), &mut looked);
                    let freed = free_stranded(line, recovery, directory);
                    let recovered =
                        freed.and_then(|()| recover_unit(line, recovery, found, contents));
                    if let Some(Err(error)) = looked {
                        self.at = unit;
                        return Err(error);
                    }
                    if let Err(reason) = recovered {
                        count_stuck(stuck, unit, reason);
                    }
                    if looked.is_some() {
                        break;
                    }
                }
                Task::Hold { hold, found } => found.hold((unit, line), hold),
            }
        }
        Ok(self.at == units)
    }

    fn begin(&self, directory: &Directory<'_>) -> Result<(), BoundsError> {
        match &self.task {
            Task::Format { mode, .. } => directory.format(*mode),
            Task::Hold { .. } => Ok(()),
            Task::Recover { recovery, .. } => {
                for slot in slots_in(recovery.slots) {
                    directory.leave(slot)?;
                }
                crash_point!("domain.slot-left");
                // Who was granted a slot before the daemon died, and was not announced.
                for slot in slots_in(recovery.members) {
                    if !directory.lives(slot, directory.era(slot)?)? {
                        directory.enter(slot)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The slots of a set.
fn slots_in(set: u32) -> impl Iterator<Item = Slot> {
    let all = (0..Slot::COUNT).filter_map(Slot::new);
    all.filter(move |slot| set & slot.bit() != 0)
}

/// Has a unit judged that was handed to a member that is gone, by one that died as well.
fn free_stranded(
    line: &Descriptor,
    recovery: &Recovery,
    directory: &Directory<'_>,
) -> Result<(), RecoverError> {
    if recovery.in_order {
        return Ok(());
    }
    recover::fence_stranded(line, &FutexWait, |slot, era| {
        // What cannot be read does not live.
        let full = directory.era(slot).unwrap_or(0);
        u32::try_from(full & u64::from(u32::MAX)) == Ok(era)
            && directory.lives(slot, full) == Ok(true)
    })
}

/// Takes from a unit what is held in the slots of a recovery, and finishes what an earlier one
/// began: see [`coherence::pass`].
fn recover_unit(
    line: &Descriptor,
    recovery: &Recovery,
    found: &mut Recovered,
    mut contents: impl FnMut() -> Option<Digest>,
) -> Result<(), RecoverError> {
    let pass = Pass {
        slots: recovery.slots,
        cut_off: recovery.cut_off,
        moved: recovery.moved.map(Incarnation::number),
        settles: recovery.settles,
        in_order: recovery.in_order,
    };
    let judge = |holder: Option<Slot>, fenced: Fenced| {
        let cut_off = holder.is_some_and(|slot| recovery.cut_off & slot.bit() != 0);
        // Where there are checksums, that of the version which is raised has to be stored as well.
        if cut_off && !recovery.checks && !fenced.was_lost {
            return Verdict::Good;
        }
        sums::verdict(line, &fenced, recovery, &mut contents)
    };
    let tell = |holder: Option<Slot>, what| {
        // Neither the daemon's own hold nor what was lost before is news.
        if holder != Some(Slot::DAEMON) && (holder.is_some() || recovery.settles) {
            note(found, what);
        }
    };
    pass.go_on(line, &FutexWait, judge, tell)
}

/// Counts a unit that cannot be recovered. A word that is none is worse than one that changes.
fn count_stuck(stuck: &mut Option<Unrecovered>, unit: u32, reason: RecoverError) {
    let stuck = stuck.get_or_insert(Unrecovered {
        units: 0,
        first: unit,
        reason,
    });
    stuck.units = stuck.units.saturating_add(1);
    if stuck.reason == RecoverError::Contended && reason != stuck.reason {
        (stuck.first, stuck.reason) = (unit, reason);
    }
}

fn note(found: &mut Recovered, what: recover::Recovered) {
    let count = match what {
        recover::Recovered::Untouched => return,
        recover::Recovered::Cleared => &mut found.cleared,
        recover::Recovered::Repaired => &mut found.repaired,
        recover::Recovered::Lost { .. } => &mut found.lost,
    };
    *count = count.saturating_add(1);
}

fn lease_of(line: &Descriptor, slot: Slot, lease: Lease) -> Leased {
    match lease {
        Lease::Acquire => proxy::lease(line, slot).map(Some),
        Lease::Release => proxy::let_go(line, slot, &FutexWait).map(|_| None),
    }
}

/// What the words of a domain say, and what is wrong with them. What is held in slots that are
/// still to be recovered is no finding, nor is what is fenced while it is decided.
fn audit(domain: &DomainView, lines: &[Descriptor]) -> (DomainCheck, Vec<String>) {
    let (mut findings, mut violations) = (Vec::new(), 0_u32);
    let census = check(lines, domain.members | domain.left, |violation| {
        if domain.settling && matches!(violation, Violation::LeftFenced { .. }) {
            return;
        }
        violations = violations.saturating_add(1);
        if findings.len() < FINDINGS_MAX {
            findings.push(format!("domain of {}: {violation}", domain.segment));
        }
    });
    let more = usize::try_from(violations).unwrap_or(usize::MAX);
    if let more @ 1.. = more.saturating_sub(findings.len()) {
        findings.push(format!("domain of {}: {more} more", domain.segment));
    }
    let Census {
        free,
        shared,
        exclusive,
        fenced,
        lost,
        retired,
    } = census;
    let row = DomainCheck {
        segment_id: domain.segment.number(),
        members: domain.members.count_ones(),
        units: domain.layout.units(),
        free,
        shared,
        exclusive,
        fenced,
        lost,
        retired,
        violations,
    };
    (row, findings)
}

mod hold;
mod sums;

#[cfg(test)]
mod tests;
