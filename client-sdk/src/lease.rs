//! Leases: the right to read or write units of a domain, held by a guard.
//!
//! # Protocol
//! A lease is granted by one compare-exchange of the unit's ownership word, and given back by
//! another (see [`coherence`]): no lock, no allocation, no system call and no daemon, where nobody
//! else wants the unit. After each grant, and before the program is given the guard,
//! 1. the incarnation at which the contents were placed is compared with the one that is mapped; a
//!    mapping that is older is brought up to date;
//! 2. where the caches are not kept the same by the hardware, the version is compared with the one
//!    that was seen last; lines that may be older are dropped.
//!
//! A guard of several units has them one after the other, in rising order, so that no two members
//! wait for each other in a circle; where one of them cannot be had the others are given back.
//!
//! Each access checks before and after that the segment is still held (see [`crate::held`]) and
//! that the word still names this process, under the epoch of the grant. So what was read from a
//! unit that had been taken away is never given out, and what was written to one is never
//! published: the release is refused by the word.
//!
//! What was written is recorded by the guard. Its release writes back what was written, raises the
//! version of the units where something was, and lets go. A guard that wrote nothing publishes
//! nothing.
//!
//! # What it costs
//! The simple way is inlined into the caller, whatever it costs in code: a guard is then a few
//! registers, and where it is nothing else no store waits before a compare-exchange. That needs
//! care: a guard whose address is given to a function that is not inlined lies in memory all along.
//! So what is not simple takes copies of [`Units`], and guards by value.
//!
//! # Who dies
//! A process that dies holds nothing after the daemon has taken note: what it read is free, what it
//! wrote is lost or kept as the domain says. A thread that panics while it has written half of a
//! change is taken for such a process: its guard gives the contents up. In a forked child a guard
//! is dead, and its words are not even mapped: the limit of the segment is looked at before them.

use std::mem::offset_of;
use std::time::Duration;

use coherence::{Grant, Member, Own, Slot, last_good};
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::mem::Access;
use pool_core::sync::atomic::{Ordering, fence};
use pool_core::{Bytes, SegmentId};

use crate::domain::Domain;
use crate::error::AccessError;
use crate::held::Held;
use crate::membership::Membership;

mod call;
pub(crate) mod dirty;
pub(crate) mod error;
mod follow;
pub(crate) mod hand;
pub(crate) mod patience;
pub(crate) mod read;
pub(crate) mod request;
mod sums;
pub(crate) mod view;
pub(crate) mod work;
pub(crate) mod write;

use call::deadline;
pub use error::LeaseError;
use patience::AskingWait;
use read::ReadGuard;
use write::WriteGuard;

/// Units of a domain that follow each other, to be leased together: a unit, the units of a range,
/// or all.
///
/// Waiting ends with the deadline at the latest. That holds where the daemon has to be asked as
/// well: for a mapping that is older than the contents, and for leases of a process that holds the
/// domain read-only. Who does not wait, or gives no time at all, asks it for two seconds at most
/// for each unit.
///
/// A process that waits for a unit that another guard of the same thread holds waits in vain; so
/// may two processes of which each holds what the other waits for, unless they lease in rising
/// order.
#[derive(Clone, Copy)]
pub struct Units<'d> {
    domain: &'d Domain,
    held: &'d Held,
    membership: &'d Membership,
    /// The descriptor of the first; none where the process leases by requests.
    line: Option<&'d Descriptor>,
    first: u32,
    count: u32,
    /// The range in the payload.
    start: u64,
    bytes: u64,
}

impl Kind {
    /// It gives no right to write.
    const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Beside)
    }
}

/// What is to be held, and how it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    /// To read beside somebody who reads.
    Beside,
    Write,
    /// To write all of what is lost.
    Restore,
}

impl<'d> Units<'d> {
    pub(crate) fn new(domain: &'d Domain, offset: Bytes, len: Bytes) -> Result<Self, LeaseError> {
        let membership = domain.membership()?;
        if len == Bytes::ZERO {
            return Err(LeaseError::Empty { offset });
        }
        let layout = domain.layout();
        let size = layout.payload();
        let outside = || AccessError::Outside { offset, len, size };
        let end = offset.checked_add(len).filter(|end| *end <= size);
        let last = end.and_then(|end| end.checked_sub(Bytes::new(1)));
        let last = last
            .and_then(|last| layout.unit_at(last))
            .ok_or_else(outside)?;
        let first = layout.unit_at(offset).ok_or_else(outside)?;
        let count = last.saturating_sub(first).saturating_add(1);
        let held: &Held = domain.segment().held();
        let mut units = Self {
            domain,
            held,
            membership,
            line: None,
            first,
            count,
            start: offset.get(),
            bytes: len.get(),
        };
        if membership.requests.is_none() {
            units.line = Some(units.find_line(first)?);
        }
        Ok(units)
    }

    /// The number of the first unit.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// How many units there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// How large the range is that a guard gives access to.
    #[must_use]
    pub const fn bytes(&self) -> Bytes {
        Bytes::new(self.bytes)
    }

    /// Leases the units for reading, now or not at all: not at all also where somebody else has
    /// waited whose turn it is.
    ///
    /// Where the daemon has to be asked, see [`Units`], it has two seconds for each unit.
    ///
    /// # Errors
    /// [`LeaseError::Busy`]; [`LeaseError`].
    #[inline]
    pub fn try_read(&self) -> Result<ReadGuard<'d>, LeaseError> {
        match self.take_at_once(Kind::Read) {
            Some(grant) => Ok(ReadGuard::new(self.lease_of(grant))),
            None => self.acquire(Kind::Read, None).map(ReadGuard::new),
        }
    }

    /// Leases the units for reading, and waits at most `timeout` until they can be had.
    ///
    /// # Errors
    /// [`LeaseError::TimedOut`]; [`LeaseError`].
    #[inline(always)]
    pub fn read(&self, timeout: Duration) -> Result<ReadGuard<'d>, LeaseError> {
        let lease = match self.take_at_once(Kind::Read) {
            Some(grant) => self.lease_of(grant),
            None => self.acquire_within(Kind::Read, timeout)?,
        };
        Ok(ReadGuard::new(lease))
    }

    /// Leases a unit for reading where somebody reads it, now or not at all: `None` where nobody
    /// does. A process that leases by requests may be the only reader by the time it is answered.
    pub(crate) fn try_read_beside(&self) -> Result<Option<ReadGuard<'d>>, LeaseError> {
        self.held.check(0, self.domain.layout().directory().get())?;
        let seen = self.own(0)?;
        if !seen.is_read_by_a_member() {
            return Ok(None);
        }
        match self.acquire(Kind::Beside, None) {
            // Granted by a request it may have been free meanwhile, and written by somebody.
            Ok(lease) => Ok(Some(ReadGuard::new(lease)).filter(|g| g.epoch() == seen.epoch())),
            Err(LeaseError::Revoked { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Leases the units for writing, now or not at all: not at all also where somebody else has
    /// waited whose turn it is.
    ///
    /// Where the daemon has to be asked, see [`Units`], it has two seconds for each unit.
    ///
    /// # Errors
    /// [`LeaseError::Busy`]; [`LeaseError`].
    #[inline]
    pub fn try_write(&self) -> Result<WriteGuard<'d>, LeaseError> {
        match self.take_at_once(Kind::Write) {
            Some(grant) => Ok(WriteGuard::new(self.lease_of(grant))),
            None => self.acquire(Kind::Write, None).map(WriteGuard::new),
        }
    }

    /// Leases the units for writing, and waits at most `timeout` until they can be had. Readers
    /// that come later are kept waiting, and after a millisecond writers as well.
    ///
    /// # Errors
    /// [`LeaseError::TimedOut`]; [`LeaseError`].
    #[inline(always)]
    pub fn write(&self, timeout: Duration) -> Result<WriteGuard<'d>, LeaseError> {
        let lease = match self.take_at_once(Kind::Write) {
            Some(grant) => self.lease_of(grant),
            None => self.acquire_within(Kind::Write, timeout)?,
        };
        Ok(WriteGuard::new(lease))
    }

    /// Leases units whose contents are lost, to write all of them anew. What is found in them may
    /// be half of what the last writer wrote. A guard that is dropped leaves them lost: only
    /// [`WriteGuard::release`], or what else says that they are whole, publishes them.
    ///
    /// # Errors
    /// [`LeaseError::NotLost`] where there are contents; [`LeaseError::PartOfUnit`] of a range that
    /// is not a whole number of units; [`LeaseError`].
    pub fn restore(&self) -> Result<WriteGuard<'d>, LeaseError> {
        let unit = self.domain.unit_bytes();
        let whole = |bytes: u64| bytes.is_multiple_of(unit.get());
        if !whole(self.start) || !whole(self.bytes) {
            return Err(LeaseError::PartOfUnit { unit });
        }
        self.acquire(Kind::Restore, None).map(WriteGuard::restoring)
    }

    /// The way to one unit that nobody else wants, which is to cost no more than the change of its
    /// word. `None` for all that is not so simple: nothing is held then.
    #[inline(always)]
    fn take_at_once(&self, kind: Kind) -> Option<Grant> {
        let may = kind.reads() || self.domain.access() == Access::ReadWrite;
        let line = self.line.filter(|_| may && self.count == 1)?;
        if !self.held.is_standing() {
            return None; // In a forked child the words are not there.
        }
        let member = &self.membership.member;
        let granted = match kind {
            Kind::Read => member.try_shared(self.first, line),
            Kind::Write => member.try_exclusive(line),
            Kind::Beside | Kind::Restore => return None,
        };
        let grant = granted.ok()?;
        if self.is_current(0, &grant) {
            return Some(grant);
        }
        self.take_back(kind, &grant);
        None
    }

    /// Gives back what is to be taken by the long way.
    #[cold]
    #[inline(never)]
    fn take_back(&self, kind: Kind, grant: &Grant) {
        // Where it was taken away meanwhile the long way finds that out.
        let _ = self.give_back(kind, 0, grant);
    }

    #[inline(always)]
    const fn lease_of(&self, first: Grant) -> Lease<'d> {
        Lease {
            units: *self,
            first,
            more: Vec::new(),
        }
    }

    /// Whether the contents of a grant are where they are mapped, and nothing older is cached.
    #[inline(always)]
    fn is_current(&self, index: u32, grant: &Grant) -> bool {
        grant.backing <= self.held.incarnation()
            && !self.membership.is_stale(self.unit(index), grant)
    }

    /// Takes all units as `kind` says, within a time.
    #[inline(never)]
    fn acquire_within(&self, kind: Kind, timeout: Duration) -> Result<Lease<'d>, LeaseError> {
        self.acquire(kind, Some(deadline(timeout)))
    }

    /// Takes all units as `kind` says, now or until a deadline.
    #[inline(never)]
    fn acquire(&self, kind: Kind, until: Option<Deadline>) -> Result<Lease<'d>, LeaseError> {
        // First: in a forked child the words are not there.
        self.held.check(0, self.domain.layout().directory().get())?;
        if !kind.reads() && self.domain.access() == Access::ReadOnly {
            return Err(AccessError::ReadOnly.into());
        }
        let heard = self.recalls_heard();
        let mut lease = self.lease_of(self.take(kind, 0, until, None)?);
        if self.count > 1 {
            lease.take_more(kind, until, heard)?;
        }
        Ok(lease)
    }

    /// How often the daemon has said that somebody waits for what this process holds of the domain.
    fn recalls_heard(&self) -> u64 {
        self.membership.recalls.load(Ordering::Relaxed)
    }

    /// Takes the unit at `index`, and sees to it that the contents of the grant are what is read.
    /// Where others are held, the wait ends when more than `heard` recalls have come.
    fn take(
        &self,
        kind: Kind,
        index: u32,
        until: Option<Deadline>,
        heard: Option<u64>,
    ) -> Result<Grant, LeaseError> {
        let grant = match self.line(index) {
            Some(line) => self.take_by_word(kind, index, (line, heard), until),
            None => request::acquire(self, index, heard, until),
        }?;
        if !self.is_current(index, &grant) {
            self.catch_up(kind, index, &grant, until)?;
        }
        Ok(grant)
    }

    fn take_by_word(
        &self,
        kind: Kind,
        index: u32,
        (line, heard): (&Descriptor, Option<u64>),
        until: Option<Deadline>,
    ) -> Result<Grant, LeaseError> {
        let (member, unit) = (&self.membership.member, self.unit(index));
        let granted = match (kind, until) {
            (Kind::Read, None) => member.try_shared(unit, line),
            (Kind::Beside, _) => member.try_shared_beside(unit, line),
            (Kind::Read, Some(until)) => match member.try_shared(unit, line) {
                Err(coherence::LeaseError::Busy(_)) => {
                    self.waiting(index, heard, || member.shared(unit, line, until))
                }
                done => done,
            },
            (Kind::Write, None) => member.try_exclusive(line),
            (Kind::Write, Some(until)) => match member.try_exclusive(line) {
                Err(coherence::LeaseError::Busy(_)) => {
                    self.waiting(index, heard, || member.exclusive(line, until))
                }
                done => done,
            },
            (Kind::Restore, _) => member.try_restore(line),
        };
        granted.map_err(|refused| self.not_granted(kind, index, refused))
    }

    fn not_granted(&self, kind: Kind, index: u32, refused: coherence::LeaseError) -> LeaseError {
        match (kind, refused) {
            (Kind::Restore, coherence::LeaseError::Revoked) => LeaseError::NotLost {
                unit: self.unit(index),
            },
            (_, refused) => self.refused(index, refused),
        }
    }

    /// Gives back the unit at `index`, which nothing was done to.
    fn give_back(&self, kind: Kind, index: u32, grant: &Grant) -> Result<(), LeaseError> {
        let Some(line) = self.line(index) else {
            return request::release(self, index, grant);
        };
        let (member, unit) = (&self.membership.member, self.unit(index));
        let given = match kind {
            Kind::Read | Kind::Beside => member.release_shared(unit, line, grant),
            Kind::Write => member.release_exclusive(line, grant, false).map(|_| ()),
            Kind::Restore => member.abandon(line, grant),
        };
        given.map_err(|refused| self.refused(index, refused))
    }

    /// Whether the unit at `index` is held as `kind` says, since `grant`.
    #[inline(always)]
    fn check_one(self, kind: Kind, index: u32, grant: &Grant) -> Result<(), LeaseError> {
        let member = &self.membership.member;
        let stands = match (self.line(index), kind) {
            (Some(line), Kind::Read | Kind::Beside) => member.check_shared(line, grant),
            (Some(line), Kind::Write | Kind::Restore) => member.check_exclusive(line, grant),
            (None, _) => {
                let own = self.own(index)?;
                let stands = own.is_shared_by(member.slot(), grant.epoch());
                stands.then_some(()).ok_or(coherence::LeaseError::Revoked)
            }
        };
        stands.map_err(|refused| self.refused(index, refused))
    }

    /// Whether the units that a range of the payload touches are held as `kind` says.
    #[inline(never)]
    fn check_touched(
        self,
        kind: Kind,
        (first, more): (Grant, &[Grant]),
        (offset, len): (u64, u64),
    ) -> Result<(), LeaseError> {
        let last = offset.saturating_add(len.saturating_sub(1));
        let touched = self.index_of(offset)..=self.index_of(last);
        for (grant, index) in std::iter::once(&first).chain(more).zip(0..) {
            if touched.contains(&index) {
                self.check_one(kind, index, grant)?;
            }
        }
        Ok(())
    }

    /// What the ownership word of the unit at `index` says.
    fn own(&self, index: u32) -> Result<Own, LeaseError> {
        let unit = self.unit(index);
        let word = match self.line(index) {
            Some(line) => line.own.load(Ordering::Acquire),
            None => self.word(index, offset_of!(Descriptor, own))?,
        };
        Own::judge(word).map_err(|_| LeaseError::Corrupt { unit })
    }

    /// A word of the descriptor of the unit at `index`, where it cannot be written.
    fn word(&self, index: u32, offset: usize) -> Result<u64, LeaseError> {
        let line = self.domain.layout().line_at(self.unit(index));
        let at = line.zip(u64::try_from(offset).ok());
        let at = at.and_then(|(line, offset)| line.checked_add(Bytes::new(offset)));
        let view = self.held.mapped().view::<u64>(at.unwrap_or(Bytes::ZERO), 1);
        let word = view.map_err(AccessError::from)?.get(0).unwrap_or(0);
        // Memory that may not be written is read by relaxed loads only.
        fence(Ordering::Acquire);
        Ok(word)
    }

    /// The version that was published last of a unit whose contents are lost.
    fn last_good(&self, index: u32) -> Result<u64, LeaseError> {
        let base = self.word(index, offset_of!(Descriptor, base))?;
        let version = self.word(index, offset_of!(Descriptor, version))?;
        Ok(last_good(base, version))
    }

    /// Why the unit at `index` cannot be had.
    #[cold]
    #[inline(never)]
    fn refused(self, index: u32, refused: coherence::LeaseError) -> LeaseError {
        let unit = self.unit(index);
        let holders = self.own(index).map_or(0, Own::holders);
        LeaseError::of(unit, holders, refused)
    }

    #[inline]
    fn line(&self, index: u32) -> Option<&'d Descriptor> {
        match index {
            0 => self.line,
            _ => self
                .line
                .and_then(|_| self.find_line(self.unit(index)).ok()),
        }
    }

    /// The descriptor of unit number `unit`, where its words can be changed.
    fn find_line(&self, unit: u32) -> Result<&'d Descriptor, AccessError> {
        let at = self.domain.layout().line_at(unit).unwrap_or(Bytes::ZERO);
        let lines = self.held.mapped().descriptors(at, 1)?;
        lines.first().ok_or(AccessError::ReadOnly)
    }

    #[inline]
    const fn unit(&self, index: u32) -> u32 {
        // Checked when it was made: `index` is below `count`.
        self.first.saturating_add(index)
    }

    /// Where the unit at `index` begins and ends in the payload.
    fn unit_range(&self, index: u32) -> (u64, u64) {
        let bytes = self.domain.unit_bytes().get();
        let start = u64::from(self.unit(index)).saturating_mul(bytes);
        (start, start.saturating_add(bytes))
    }

    /// Which unit of these has the byte at `offset` of the payload.
    #[inline]
    fn index_of(&self, offset: u64) -> u32 {
        // A power of two.
        let unit = offset >> self.domain.unit_bytes().get().trailing_zeros();
        let unit = u32::try_from(unit).unwrap_or(u32::MAX);
        unit.saturating_sub(self.first)
    }

    const fn member(&self) -> &'d Member<AskingWait> {
        &self.membership.member
    }

    fn segment_id(&self) -> SegmentId {
        self.domain.id()
    }

    fn slot(&self) -> Slot {
        self.membership.slot()
    }
}

impl std::fmt::Debug for Units<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, count, .. } = self;
        write!(f, "Units({count} from {first} of {})", self.domain.id())
    }
}

/// Units that are held, and by which grants.
#[derive(Debug)]
pub(crate) struct Lease<'d> {
    units: Units<'d>,
    first: Grant,
    /// Of the units after the first.
    more: Vec<Grant>,
}

impl<'d> Lease<'d> {
    /// Takes the units after the first, or gives back all. Where one that is held already is
    /// recalled, it lets others have them, and begins anew.
    #[cold]
    fn take_more(
        &mut self,
        kind: Kind,
        until: Option<Deadline>,
        mut heard: u64,
    ) -> Result<(), LeaseError> {
        loop {
            let Err(error) = self.take_rest(kind, until, heard) else {
                return Ok(());
            };
            let in_time = until.is_some_and(|until| !until.expired());
            if !in_time || !matches!(error, LeaseError::TimedOut { .. }) {
                return Err(error);
            }
            heard = self.units.recalls_heard();
            self.first = self.units.take(kind, 0, until, None)?;
        }
    }

    fn take_rest(
        &mut self,
        kind: Kind,
        until: Option<Deadline>,
        heard: u64,
    ) -> Result<(), LeaseError> {
        for index in 1..self.units.count {
            match self.units.take(kind, index, until, Some(heard)) {
                Ok(grant) => self.more.push(grant),
                Err(error) => {
                    // What it is told is why they are not to be had.
                    let _ = self.each(|units, index, grant| units.give_back(kind, index, grant));
                    self.more.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Does something with every unit, and tells the first thing that went wrong.
    #[inline]
    fn each(
        &mut self,
        mut act: impl FnMut(&Units<'d>, u32, &mut Grant) -> Result<(), LeaseError>,
    ) -> Result<(), LeaseError> {
        let units = self.units;
        let mut done = act(&units, 0, &mut self.first);
        for (grant, index) in self.more.iter_mut().zip(1..) {
            done = done.and(act(&units, index, grant));
        }
        done
    }

    /// Whether the `len` bytes from `offset` of the payload may be accessed.
    #[inline(always)]
    fn check(&self, kind: Kind, offset: u64, len: u64) -> Result<(), LeaseError> {
        let directory = self.units.domain.layout().directory().get();
        self.units
            .held
            .check(directory.saturating_add(offset), len)?;
        if self.more.is_empty() {
            return self.units.check_one(kind, 0, &self.first);
        }
        self.units
            .check_touched(kind, (self.first, &self.more), (offset, len))
    }

    /// Whether somebody waits for one of the units.
    fn is_recalled(&self, kind: Kind) -> Result<bool, LeaseError> {
        self.units.held.check_standing()?;
        for (grant, index) in std::iter::once(&self.first).chain(&self.more).zip(0..) {
            self.units.check_one(kind, index, grant)?;
            if self.units.own(index)?.is_recalled() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The address of the range, unless the process has a cache in software over it.
    fn as_ptr(&self) -> Option<*const u8> {
        let units = &self.units;
        let at = units
            .domain
            .layout()
            .directory()
            .get()
            .saturating_add(units.start);
        let part = units.held.mapped().part(Bytes::new(at), units.bytes());
        let part = part
            .ok()
            .filter(|_| units.membership.caches.simulated().is_none());
        part.map(|part| part.as_ptr())
    }

    /// The same, for a guard that takes this one's place.
    fn take_out(&mut self) -> Self {
        Self {
            units: self.units,
            first: self.first,
            more: std::mem::take(&mut self.more),
        }
    }
}
