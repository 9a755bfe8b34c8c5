//! A memory device: its memory, which of it is at which addresses of its logical devices, and what
//! it has to tell.
//!
//! # Addresses
//! Of the device's memory, *physical* addresses: first the fixed memory of each logical device, one
//! after the other, then the dynamic memory of all of them. Of a logical device, device physical
//! addresses (DPA): its fixed memory from 0 on, then its regions, each at a multiple of 256 MiB.

use pool_core::units::LINE_BYTES;

use crate::capacity::{
    Answered, Capacity, Extent, Freed, NO_TAG, Place, Region, Removal, Selection,
};
use crate::cci::Tag;
use crate::cci::events::EventLog;
use crate::id::{LdId, PortId};
use crate::log::Log;
use crate::media::Media;
use crate::refusal::Refusal;
use crate::span::Span;
use crate::timing::Picos;
use crate::topology::{self, MemdevKind};

mod condition;
mod errors;

pub use condition::Condition;
pub use errors::{CORRECTED_MOST, DatedError, ERROR_LOG, Error, Errors, Found};

/// At a multiple of which addresses regions begin, and in which capacities are told.
pub(crate) const GRANULE: u64 = topology::limits::GRANULE.get();
/// Records that the log of a logical device for dynamic capacity takes.
pub const HOST_LOG: usize = 256;
/// Records that the log of the manager takes.
const MANAGER_LOG: usize = 4_096;

/// What a record of dynamic capacity tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// To the host: this is offered.
    Add,
    /// To the host: this is wanted back.
    Release,
    /// To the host: this is gone.
    ForcedRelease,
    /// To the manager: the host has taken this.
    AddAnswered,
    /// To the manager: the host has released this.
    Released,
}

/// A record of dynamic capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityEvent {
    /// What it tells.
    pub told: Told,
    /// Whose extents they are.
    pub ld: LdId,
    /// The extent; none where a host took nothing.
    pub extent: Option<Extent>,
    /// Whether records of the same command follow.
    pub has_more: bool,
}

/// A logical device.
#[derive(Debug, Clone)]
struct LogicalDevice {
    fixed: Span,
    log: Log<Dated>,
    errors: Errors,
}

/// A record, and when it came.
pub type Dated = (Picos, CapacityEvent);

/// See the module.
#[derive(Debug, Clone)]
pub struct Memdev {
    kind: MemdevKind,
    serial: u64,
    lds: Vec<LogicalDevice>,
    capacity: Capacity,
    media: Media,
    log: Log<Dated>,
    errors: Errors,
    condition: Condition,
}

impl Memdev {
    /// The device of a topology, before anything happened to it.
    #[must_use]
    pub fn new(of: &topology::Memdev) -> Self {
        let count = u16::from(of.kind.logical_devices());
        let fixed = of.fixed.get() / u64::from(count.max(1));
        let ld = |number: u16| LogicalDevice {
            // Where there is no fixed memory this is a place without bytes.
            fixed: Span {
                start: u64::from(number) * fixed,
                bytes: fixed,
            },
            log: Log::new(HOST_LOG),
            errors: Errors::new(),
        };
        let dynamic = Span {
            start: of.fixed.get(),
            bytes: of.dynamic.get(),
        };
        let regions = regions(fixed, &of.regions);
        Self {
            kind: of.kind,
            serial: of.serial,
            lds: (0..count).map(ld).collect(),
            capacity: Capacity::new(dynamic, &vec![regions; usize::from(count)]),
            media: Media::default(),
            log: Log::new(MANAGER_LOG),
            errors: Errors::new(),
            condition: Condition::default(),
        }
    }

    /// How many logical devices and heads it has.
    #[must_use]
    pub const fn kind(&self) -> MemdevKind {
        self.kind
    }

    /// Its serial number.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// What is wrong with it, to be changed.
    pub const fn condition_mut(&mut self) -> &mut Condition {
        &mut self.condition
    }

    /// Nothing is wrong with it any more, and its logs take records.
    pub fn heal(&mut self) {
        self.condition = Condition::default();
        self.log.close(false);
        for ld in &mut self.lds {
            ld.log.close(false);
        }
    }

    /// Has the list of a logical device be another one, with the same in it.
    ///
    /// # Errors
    /// As [`Capacity::change_list`].
    pub fn change_list(&mut self, ld: LdId) -> Result<(), Refusal> {
        self.capacity.change_list(ld)
    }

    /// The logical device that a host has which is connected to a head directly.
    #[must_use]
    pub fn behind(&self, head: PortId) -> LdId {
        match self.kind {
            MemdevKind::MultiHeaded(_) => LdId(u16::from(head.0)),
            MemdevKind::Sld | MemdevKind::Mld(_) => LdId(0),
        }
    }

    /// Its dynamic capacity.
    #[must_use]
    pub const fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Its bytes.
    #[must_use]
    pub const fn media(&self) -> &Media {
        &self.media
    }

    /// Its bytes, to be changed.
    pub const fn media_mut(&mut self) -> &mut Media {
        &mut self.media
    }

    /// How much memory it has, fixed and dynamic.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.fixed_bytes().saturating_add(self.capacity.bytes())
    }

    /// How long its fixed memory is, of all logical devices together.
    #[must_use]
    pub fn fixed_bytes(&self) -> u64 {
        self.lds.iter().map(|ld| ld.fixed.bytes).sum()
    }

    /// All physical memory that the host of a logical device reaches.
    #[must_use]
    pub fn reached(&self, ld: LdId) -> Vec<Span> {
        let fixed = self.lds.get(ld.index()).map(|ld| ld.fixed);
        let fixed = fixed.filter(|fixed| fixed.bytes > 0);
        fixed.into_iter().chain(self.capacity.reached(ld)).collect()
    }

    /// The poisoned lines of a range of a logical device, by its addresses, from the lowest.
    #[must_use]
    pub fn poisoned(&self, ld: LdId, asked: Span) -> Vec<u64> {
        let mut lines = Vec::new();
        let mut at = asked.start;
        while at < asked.end() {
            let Some((physical, bytes)) = self.piece(ld, at) else {
                let Some(next) = self.next_piece(ld, at) else {
                    break;
                };
                at = next;
                continue;
            };
            let piece = Span {
                start: physical,
                bytes: bytes.min(asked.end() - at),
            };
            lines.extend(
                self.media
                    .poisoned(piece)
                    .map(|line| at + (line - physical)),
            );
            at += piece.bytes;
        }
        lines
    }

    /// What is at an address, and how many bytes follow there in one piece.
    pub(crate) fn piece(&self, ld: LdId, at: u64) -> Option<(u64, u64)> {
        let (physical, place) = self.place(ld, at)?;
        let fixed = self.lds.get(ld.index())?.fixed;
        Some((
            physical,
            place.map_or(fixed.bytes.saturating_sub(at), |place| place.bytes),
        ))
    }

    /// The first address after that one at which something is.
    fn next_piece(&self, ld: LdId, at: u64) -> Option<u64> {
        let extents = self.capacity.extents(ld).ok()?;
        extents
            .iter()
            .map(|extent| extent.span.start)
            .find(|&start| start > at)
    }

    /// What it has to tell the host of a logical device.
    pub fn log_mut(&mut self, ld: LdId) -> Option<&mut Log<Dated>> {
        self.lds.get_mut(ld.index()).map(|ld| &mut ld.log)
    }

    /// What it has to tell the host of a logical device of errors.
    pub fn errors_mut(&mut self, ld: LdId) -> Option<&mut Errors> {
        self.lds.get_mut(ld.index()).map(|ld| &mut ld.errors)
    }

    /// What it has to tell the manager of errors.
    pub const fn manager_errors_mut(&mut self) -> &mut Errors {
        &mut self.errors
    }

    /// Under which addresses a line of its memory is had, by logical devices.
    #[must_use]
    pub fn seen_at(&self, physical: u64) -> Vec<(LdId, u64)> {
        let lds = (0..).map(LdId).take(self.lds.len());
        lds.filter_map(|ld| Some((ld, self.address_of(ld, physical)?)))
            .collect()
    }

    fn address_of(&self, ld: LdId, physical: u64) -> Option<u64> {
        let fixed = self.lds.get(ld.index())?.fixed;
        let within = |start: u64, bytes: u64| physical.checked_sub(start).filter(|at| *at < bytes);
        if let Some(address) = within(fixed.start, fixed.bytes) {
            return Some(address);
        }
        for extent in self.capacity.extents(ld).ok()? {
            let mut at = extent.span.start;
            while at < extent.span.end()
                && let Some((start, bytes)) = self.piece(ld, at)
            {
                if let Some(into) = within(start, bytes) {
                    return Some(at + into);
                }
                at = at.saturating_add(bytes.max(1));
            }
        }
        None
    }

    /// Tells whoever has a line that it is bad, in a log.
    pub fn tell_bad(&mut self, now: Picos, (physical, found): (u64, Found), log: EventLog) {
        let error = |address| Error::Line { address, found };
        let physical = physical / LINE_BYTES * LINE_BYTES;
        let seen = self.seen_at(physical);
        if seen.is_empty() {
            self.errors.push(now, log, error(physical));
        }
        for (ld, address) in seen {
            if let Some(errors) = self.errors_mut(ld) {
                errors.push(now, log, error(address));
            }
        }
    }

    /// The first address of a logical device at which it has memory; none where it has none.
    fn first_address(&self, ld: LdId) -> Option<u64> {
        let is_there = self.piece(ld, 0).is_some_and(|(_, bytes)| bytes > 0);
        if is_there {
            Some(0)
        } else {
            self.next_piece(ld, 0)
        }
    }

    /// It has corrected so many errors more of a logical device, and tells of it, unless that has
    /// no memory of which it could be told; a warning from so many on. False where there is no
    /// such logical device.
    pub fn corrects(&mut self, now: Picos, ld: LdId, more: u32) -> bool {
        if self.ld(ld).is_err() {
            return false;
        }
        let count = self.condition.corrected.entry(ld).or_insert(0);
        let before = *count;
        *count = count.saturating_add(more);
        let count = *count;
        let is_much = count >= CORRECTED_MOST;
        let log = if is_much {
            EventLog::Warning
        } else {
            EventLog::Informational
        };
        let first = self.first_address(ld);
        if let Some(errors) = self.errors_mut(ld).filter(|_| more > 0) {
            if let Some(address) = first {
                errors.push(now, log, Error::Corrected { address, count });
            }
            if is_much && before < CORRECTED_MOST {
                errors.push(now, log, Error::Worn { count });
            }
        }
        true
    }

    /// What it has to tell the manager.
    pub const fn manager_log_mut(&mut self) -> &mut Log<Dated> {
        &mut self.log
    }

    /// Fixed memory of a logical device, and what its regions are.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn ld(&self, ld: LdId) -> Result<(u64, &[Region]), Refusal> {
        let regions = self.capacity.regions(ld)?;
        let fixed = self.lds.get(ld.index()).map_or(0, |ld| ld.fixed.bytes);
        Ok((fixed, regions))
    }

    /// What is at an address of a logical device. Of fixed memory no group is told.
    #[must_use]
    pub fn place(&self, ld: LdId, address: u64) -> Option<(u64, Option<Place>)> {
        let fixed = self.lds.get(ld.index())?.fixed;
        if address < fixed.bytes {
            return Some((fixed.start + address, None));
        }
        let place = self.capacity.place(ld, address)?;
        Some((place.physical, Some(place)))
    }

    /// The manager offers memory to a host: see [`Capacity::offer`]. The host's log tells of it.
    ///
    /// # Errors
    /// As [`Capacity::offer`].
    pub fn add(
        &mut self,
        now: Picos,
        (ld, region): (LdId, usize),
        selection: &Selection,
        tag: Tag,
    ) -> Result<Vec<Extent>, Refusal> {
        let room = self.lds.get(ld.index()).map_or(0, |ld| ld.log.room());
        let offered = self.capacity.offer((ld, region), selection, tag, room)?;
        self.tell_host(now, ld, Told::Add, &offered);
        Ok(offered)
    }

    /// The host answers: see [`Capacity::answer`]. The manager's log tells of it.
    ///
    /// # Errors
    /// As [`Capacity::answer`].
    pub fn answer(&mut self, now: Picos, ld: LdId, taken: &[Span]) -> Result<Answered, Refusal> {
        let answered = self.capacity.answer(ld, taken)?;
        self.tell_manager(now, ld, Told::AddAnswered, &answered.added);
        Ok(answered)
    }

    /// The host gives back: see [`Capacity::release`]. The manager's log tells of it.
    ///
    /// # Errors
    /// As [`Capacity::release`].
    pub fn release(&mut self, now: Picos, ld: LdId, spans: &[Span]) -> Result<Freed, Refusal> {
        let all = self.capacity.extents(ld)?;
        let freed = self.capacity.release(ld, spans)?;
        let released = spans.iter().map(|&span| {
            let whole = all.iter().find(|extent| extent.span.contains(span));
            Extent {
                span,
                tag: whole.map_or(NO_TAG, |extent| extent.tag),
                sequence: whole.map_or(0, |extent| extent.sequence),
            }
        });
        self.tell_manager(now, ld, Told::Released, &released.collect::<Vec<_>>());
        Ok(freed)
    }

    /// The manager wants memory back: see [`Capacity::remove`]. The host's log tells of it, also
    /// where it is taken by force.
    ///
    /// # Errors
    /// As [`Capacity::remove`].
    pub fn remove(
        &mut self,
        now: Picos,
        ld: LdId,
        removal: &Removal,
        (is_forced, sanitizes): (bool, bool),
    ) -> Result<Freed, Refusal> {
        // By force it goes even where the host could not be told.
        let room = self.lds.get(ld.index()).map_or(0, |ld| ld.log.room());
        let room = if is_forced { usize::MAX } else { room };
        let removed = self
            .capacity
            .remove(ld, removal, (is_forced, sanitizes), room)?;
        let told = if is_forced {
            Told::ForcedRelease
        } else {
            Told::Release
        };
        self.tell_host(now, ld, told, &removed.extents);
        Ok(removed.freed)
    }

    /// Keeps what has a tag when no host has it.
    ///
    /// # Errors
    /// As [`Capacity::add_reference`].
    pub fn add_reference(&mut self, tag: Tag) -> Result<(), Refusal> {
        self.capacity.add_reference(tag)
    }

    /// Keeps it no longer.
    ///
    /// # Errors
    /// As [`Capacity::remove_reference`].
    pub fn remove_reference(&mut self, tag: Tag) -> Result<Freed, Refusal> {
        self.capacity.remove_reference(tag)
    }

    /// Sets a region up anew: see [`Capacity::configure`].
    ///
    /// # Errors
    /// As [`Capacity::configure`].
    pub fn configure(&mut self, region: usize, block: u64, sanitizes: bool) -> Result<(), Refusal> {
        self.capacity.configure(region, block, sanitizes)
    }

    /// The host of a logical device was reset: see [`Capacity::reset`].
    ///
    /// # Errors
    /// As [`Capacity::reset`].
    pub fn reset(&mut self, ld: LdId) -> Result<Freed, Refusal> {
        self.capacity.reset(ld)
    }

    /// Memory is zeroed now, and free.
    ///
    /// # Errors
    /// As [`Capacity::zeroed`].
    pub fn zero(&mut self, group: crate::capacity::GroupId) -> Result<(), Refusal> {
        for span in self.capacity.zeroed(group)? {
            self.media.zero(span);
        }
        Ok(())
    }

    /// The power was off: all that its memory held is gone, and it is of zeros. So nothing is kept
    /// for hosts that are yet to come ([`Capacity::forget_references`]).
    pub fn power_cycle(&mut self) -> Freed {
        self.media = Media::default();
        self.capacity.forget_references()
    }

    fn tell_host(&mut self, now: Picos, ld: LdId, told: Told, extents: &[Extent]) {
        if let Some(device) = self.lds.get_mut(ld.index()) {
            tell(&mut device.log, now, (ld, told), extents);
        }
    }

    fn tell_manager(&mut self, now: Picos, ld: LdId, told: Told, extents: &[Extent]) {
        tell(&mut self.log, now, (ld, told), extents);
        if extents.is_empty() {
            self.log.push(now, (now, record((ld, told), None, false)));
        }
    }
}

const fn record((ld, told): (LdId, Told), extent: Option<Extent>, has_more: bool) -> CapacityEvent {
    CapacityEvent {
        told,
        ld,
        extent,
        has_more,
    }
}

fn tell(log: &mut Log<Dated>, now: Picos, whom: (LdId, Told), extents: &[Extent]) {
    for (number, &extent) in (1..).zip(extents) {
        log.push(
            now,
            (now, record(whom, Some(extent), number < extents.len())),
        );
    }
}

fn regions(fixed: u64, of: &[topology::Region]) -> Vec<Region> {
    let mut next = fixed;
    let region = |it: &topology::Region| {
        let start = next.next_multiple_of(GRANULE);
        next = start.saturating_add(it.length.get());
        Region {
            span: Span {
                start,
                bytes: it.length.get(),
            },
            block: it.block.get(),
            is_sharable: it.is_sharable,
            is_read_only: it.is_read_only,
            sanitizes: it.sanitizes,
            is_hardware_coherent: it.is_hardware_coherent,
        }
    };
    of.iter().map(region).collect()
}
