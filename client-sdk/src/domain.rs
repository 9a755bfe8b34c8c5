//! A domain in the hands of a program: a segment whose units are leased.

use std::time::Duration;

use coherence::cache::Mode;
use coherence::{Layout, Slot};
use pool_core::mem::Access;
use pool_core::{Bytes, EXTENT_BYTES, PoolAddr, SegmentId};
use pool_proto::common::v1 as common;

use crate::error::{AccessError, Error};
use crate::info::{DomainInfo, Lifetime, OnDeath};
use crate::lease::hand::Ticket;
use crate::lease::{LeaseError, Units};
use crate::membership::Membership;
use crate::segment::{Force, Segment};
use crate::wire;

/// How a domain is to be made. The default is one for processes of this machine, of units of an
/// extent, whose contents are lost with a writer that dies.
#[derive(Debug, Clone, Copy)]
pub struct DomainOptions {
    mode: Mode,
    unit: Bytes,
    on_death: OnDeath,
    one_host: bool,
    no_clean_write_backs: bool,
    /// 0: the daemon's own.
    recall_ms: u32,
    checksums: bool,
}

impl Default for DomainOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Hardware,
            unit: Bytes::new(EXTENT_BYTES),
            on_death: OnDeath::Lose,
            one_host: true,
            no_clean_write_backs: false,
            recall_ms: 0,
            checksums: false,
        }
    }
}

impl DomainOptions {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How members see each other's writes.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Bytes of a unit: a power of two, at least 4,096.
    #[must_use]
    pub const fn unit_bytes(mut self, bytes: Bytes) -> Self {
        self.unit = bytes;
        self
    }

    /// What becomes of the contents of a unit whose writer died.
    #[must_use]
    pub const fn on_death(mut self, on_death: OnDeath) -> Self {
        self.on_death = on_death;
        self
    }

    /// Members may run on other hosts as well. Software mode is granted then only where every
    /// cache of them is known to write back no clean lines, and hardware mode not at all.
    #[must_use]
    pub const fn several_hosts(mut self, no_clean_write_backs: bool) -> Self {
        self.one_host = false;
        self.no_clean_write_backs = no_clean_write_backs;
        self
    }

    /// How long a member may keep others waiting for a unit before it is recalled, and from then
    /// on before it is evicted from the domain: 50 ms to an hour, in whole milliseconds. A second
    /// where nothing is said. So whoever waits gets past a member that hangs after twice this time
    /// and what the copying takes. Take the longest that a member holds a unit while it works, a
    /// lent one included: with the unit it loses the domain, and what it held besides. Messages
    /// call it `recall_ms`, and `poolctl segments` shows it.
    #[must_use]
    pub fn recall_time(mut self, time: Duration) -> Self {
        // Zero would mean that nothing is said: the daemon refuses what is too short or too long.
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        self.recall_ms = millis.max(1);
        self
    }

    /// Whether each unit has a checksum, which none has by default. Where a writer died the daemon
    /// looks then whether what it left is whole: what it had not touched yet is not lost, and what
    /// it left half-written is lost, also where the domain keeps what dead writers leave. Readers
    /// can [verify](crate::ReadGuard::verify) what they read; what was written past the guards does
    /// not fit. Each publication costs one pass over the whole of each unit that was written, and
    /// the daemon reads a unit at a time, in which it serves nobody: choose small units.
    #[must_use]
    pub const fn checksums(mut self, checksums: bool) -> Self {
        self.checksums = checksums;
        self
    }

    pub(crate) fn ask(&self) -> common::Coherence {
        let on_death = match self.on_death {
            OnDeath::Lose => common::OnDeath::Lose,
            OnDeath::Keep => common::OnDeath::Keep,
        };
        common::Coherence {
            mode: wire::mode(self.mode),
            unit_bytes: self.unit.get(),
            on_death: on_death.into(),
            no_clean_write_backs: self.no_clean_write_backs,
            one_host: self.one_host,
            directory_bytes: 0,
            recall_ms: self.recall_ms,
            checksums: self.checksums,
        }
    }
}

/// A handle of a domain: memory in units, each of which one process at a time may write, or any
/// number read, under a lease.
///
/// A process is one member of a domain, however many handles and threads it has. Of those that hold
/// the domain read-write each could ignore the leases: they trust each other. A process that opens
/// it read-only leases by requests to the daemon, and can hurt nobody.
#[derive(Debug)]
pub struct Domain {
    segment: Segment,
    info: DomainInfo,
    slot: Slot,
}

impl Domain {
    pub(crate) fn new(segment: Segment) -> Result<Self, Error> {
        let id = segment.id();
        let no_domain = Error::NotADomain { segment: id };
        let held = segment.held();
        let Some(membership) = held.membership() else {
            return Err(no_domain);
        };
        let (info, slot) = (membership.info, membership.slot());
        if let Some(simulated) = membership.caches.simulated() {
            simulated.over(held.downgrade(), info.layout.payload().get() / 8);
        }
        Ok(Self {
            segment,
            info,
            slot,
        })
    }

    /// The daemon's name for it, never used again.
    #[must_use]
    pub fn id(&self) -> SegmentId {
        self.segment.id()
    }

    /// Where the first unit is, in this and every other process.
    #[must_use]
    pub fn addr(&self) -> PoolAddr {
        let addr = self.segment.addr();
        // The whole segment has addresses.
        addr.checked_add(self.info.layout.directory())
            .unwrap_or(addr)
    }

    /// How large all units are together.
    #[must_use]
    pub const fn bytes(&self) -> Bytes {
        self.info.layout.payload()
    }

    /// How many units there are.
    #[must_use]
    pub const fn units(&self) -> u32 {
        self.info.layout.units()
    }

    /// How large a unit is.
    #[must_use]
    pub const fn unit_bytes(&self) -> Bytes {
        self.info.layout.unit()
    }

    /// How members see each other's writes.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.info.mode
    }

    /// What becomes of the contents of a unit whose writer died.
    #[must_use]
    pub const fn on_death(&self) -> OnDeath {
        self.info.on_death
    }

    /// How long a member may keep others waiting before it is recalled, and then before it is
    /// evicted.
    #[must_use]
    pub const fn recall_time(&self) -> Duration {
        Duration::from_nanos(self.info.recall.get())
    }

    /// Whether each unit has a checksum.
    #[must_use]
    pub const fn has_checksums(&self) -> bool {
        self.info.checksums
    }

    /// The place of this process among the members.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// What this handle may do.
    #[must_use]
    pub fn access(&self) -> Access {
        self.segment.access()
    }

    /// The segment that the domain is: its directory and its units as bare memory, past every
    /// lease. For sharing it with another tenant, for tools, and for the worker of a guard that was
    /// lent. What is written there without a lease is lost where a member is evicted meanwhile: the
    /// contents are copied then.
    #[must_use]
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Unit number `unit`.
    ///
    /// # Errors
    /// [`LeaseError::Access`] where there is none.
    pub fn unit(&self, unit: u32) -> Result<Units<'_>, LeaseError> {
        let bytes = self.unit_bytes();
        let offset = u64::from(unit).saturating_mul(bytes.get());
        self.range(Bytes::new(offset), bytes)
    }

    /// The units that have the `len` bytes from `offset`: they are leased one after the other, in
    /// rising order, all or none. What is read and written through a guard of them is inside the
    /// range.
    ///
    /// # Errors
    /// [`LeaseError::Access`] where the range is not inside the domain; [`LeaseError::Empty`] where
    /// it has no bytes.
    pub fn range(&self, offset: Bytes, len: Bytes) -> Result<Units<'_>, LeaseError> {
        Units::new(self, offset, len)
    }

    /// Every unit.
    ///
    /// # Errors
    /// [`LeaseError::Access`].
    pub fn all(&self) -> Result<Units<'_>, LeaseError> {
        self.range(Bytes::ZERO, self.bytes())
    }

    /// What somebody needs to hand units over to this process.
    ///
    /// # Errors
    /// [`LeaseError::Access`] where this process holds the domain read-only, or not any more.
    pub fn ticket(&self) -> Result<Ticket, LeaseError> {
        let membership = self.membership()?;
        if membership.requests.is_some() {
            return Err(AccessError::ReadOnly.into());
        }
        Ok(Ticket::new(self.slot, membership.era))
    }

    /// Ends the domain for everybody.
    ///
    /// # Errors
    /// As [`Segment::free`].
    pub fn free(self, force: Force) -> Result<(), Error> {
        self.segment.free(force)
    }

    /// Closes the handle. To drop it does the same.
    pub fn close(self) {
        drop(self);
    }

    /// Whether it stays where nobody holds it.
    pub(crate) fn is_persistent(&self) -> bool {
        let lifetime = self.segment.held().peek(|detail| detail.info.lifetime);
        lifetime == Some(Lifetime::Persistent)
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.info.layout
    }

    /// What this process is in it.
    pub(crate) fn membership(&self) -> Result<&Membership, AccessError> {
        let held = self.segment.held();
        held.check_standing()?;
        // A handle is made of a segment that has one.
        let segment = self.id();
        held.membership().ok_or(AccessError::Lost { segment })
    }
}
