//! Bulk transfers: a host copies many bytes at once, as a DMA engine does.
//!
//! # What is modelled
//! The time alone. A copy takes what its first byte takes and then its bytes at its share of what
//! it passes: each direction of a link, each switch, each device, and the limit of a logical
//! device. Shares are max-min fair ([`Transfers`]), and change where a copy begins, where its bytes
//! are through, where one fails, and where a link changes. What is copied from one address to
//! another goes up to the host and down again. Contents, caches and poison are not looked at: who
//! wants contents stores them.
//!
//! # Beside lines
//! Copies take no notice of lines. A line is served at the rate that copies leave of what it
//! passes, and at no less than if it were one more of them: of a link that is full with three
//! copies it has a quarter.
//!
//! # Invariants
//! 1. A timer stands at the next change of a share, while there is a copy.
//! 2. A copy that is under way has the way, the window and the memory with which it was begun, and
//!    ends with any of them, also where the same comes back at once.
//! 3. A copy ends: one that could not before the end of time, as links are then, is not begun, nor
//!    one that would keep another from it.

use std::collections::BTreeMap;

use super::command::Timer;
use super::event::{AccessError, Effect};
use super::time::Direction;
use super::{Fabric, Physical, Window};
use crate::id::{HostId, LdId, MemdevId};
use crate::memdev::Memdev;
use crate::timing::{Elements, Ended, Flow, Path, Picos, Rate, Share, TransferId, Transfers};
use crate::topology::Topology;

/// Copies that go on at once.
const MOST: usize = 256;

/// Where a copy reads or writes.
#[derive(Debug, Clone)]
struct End {
    memdev: MemdevId,
    ld: LdId,
    /// The first address of the host's window, and what that led to.
    window: (u64, Window),
    /// The first address of the logical device, and how many bytes.
    memory: (u64, u64),
    /// Of the list of what else but fixed memory is there, when it was last looked at.
    generation: Option<u32>,
    is_written: bool,
    /// The way there.
    way: Path,
}

/// A copy that goes on.
#[derive(Debug, Clone)]
struct Copy {
    host: HostId,
    begun: Picos,
    ends: Vec<End>,
    /// Whether a device with which it has an end was off meanwhile.
    is_lost: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Copies {
    transfers: Transfers,
    under_way: BTreeMap<TransferId, Copy>,
    timer: Option<(Picos, u64)>,
    /// Of logical devices with a limit: which resource that is, behind those of elements.
    limits: BTreeMap<(MemdevId, LdId), (usize, Rate)>,
}

impl Copies {
    pub(super) fn new(topology: &Topology, elements: &Elements) -> Self {
        let mut resources = elements.resources();
        let mut limits = BTreeMap::new();
        for (id, memdev) in (0..).map(MemdevId).zip(&topology.memdevs) {
            for ld in (0..memdev.kind.logical_devices()).map(|ld| LdId(ld.into())) {
                if let Some(limit) = memdev.ld_limit {
                    limits.insert((id, ld), (resources.len(), limit));
                    resources.push(limit);
                }
            }
        }
        Self {
            transfers: Transfers::new(resources),
            under_way: BTreeMap::new(),
            timer: None,
            limits,
        }
    }
}

impl Fabric {
    /// A host begins to copy.
    pub(super) fn copy(
        &mut self,
        host: HostId,
        (from, to): (Option<u64>, Option<u64>),
        bytes: u64,
        effects: &mut Vec<Effect>,
    ) {
        let ended = self.copies.transfers.advance(self.now);
        self.tell_ended(&ended, effects);
        effects.push(match self.begin_to_copy(host, (from, to), bytes) {
            Ok(copy) => Effect::Copying { copy: copy.0 },
            Err(why) => Effect::Failed(why),
        });
        self.share_anew();
    }

    fn begin_to_copy(
        &mut self,
        host: HostId,
        (from, to): (Option<u64>, Option<u64>),
        bytes: u64,
    ) -> Result<TransferId, AccessError> {
        self.living(host)?;
        if bytes == 0 || (from, to) == (None, None) {
            return Err(AccessError::BadRange);
        }
        if self.copies.under_way.len() >= MOST {
            return Err(AccessError::TooMany);
        }
        let mut flow = Flow {
            uses: Vec::new(),
            limit: Rate::MAX,
        };
        let mut first = Picos::ZERO;
        let mut ends = Vec::new();
        let both = [(from, Share::ONE), (to, Share::ZERO)];
        for (address, reads) in both {
            let Some(address) = address else {
                continue;
            };
            let end = self.end_of(host, address, bytes, reads == Share::ZERO)?;
            let (memdev, ld, way) = (end.memdev, end.ld, &end.way);
            let elements = self.times.elements();
            let unknown = |_| AccessError::Unreachable;
            let part = elements.flow(way, reads, Rate::MAX).map_err(unknown)?;
            let takes = elements.unloaded(way, reads).map_err(unknown)?;
            flow.uses.extend(part.uses);
            if let Some(&(limit, _)) = self.copies.limits.get(&(memdev, ld)) {
                flow.uses.push((limit, Share::ONE));
            }
            first = first.saturating_add(takes);
            ends.push(end);
        }
        let id = self.copies.transfers.start(flow, bytes, first);
        if !self.copies.transfers.all_end(MOST) {
            self.copies.transfers.stop(id);
            return Err(AccessError::TooLong);
        }
        let copy = Copy {
            host,
            begun: self.now,
            ends,
            is_lost: false,
        };
        self.copies.under_way.insert(id, copy);
        Ok(id)
    }

    /// The end of a copy, where all of a range is memory of one logical device that a host may use
    /// so.
    fn end_of(
        &self,
        host: HostId,
        address: u64,
        bytes: u64,
        is_written: bool,
    ) -> Result<End, AccessError> {
        let target = self.target(host, address)?;
        let it = self.living(host)?;
        let before = it.windows.range(..=address).next_back();
        let (&start, window) = before.ok_or(AccessError::Unmapped)?;
        let into = address - start;
        if bytes > window.bytes - into {
            return Err(AccessError::Unmapped);
        }
        if target.is_unanswered {
            return Err(AccessError::TimedOut);
        }
        let (memdev, _): Physical = target.at;
        let device = self.memdev(memdev).ok_or(AccessError::Unreachable)?;
        let first = window.address.saturating_add(into);
        is_there(device, target.ld, (first, bytes), is_written)?;
        let way = self.reached.get(host.index());
        let way = way.and_then(|it| it.get(&(memdev, target.ld)));
        Ok(End {
            memdev,
            ld: target.ld,
            window: (start, *window),
            memory: (first, bytes),
            generation: device.capacity().generation(target.ld).ok(),
            is_written,
            way: way.ok_or(AccessError::Unreachable)?.clone(),
        })
    }

    /// A device was off, and is on again: what was copied there or from there is not.
    pub(super) fn lose_copies(&mut self, memdev: MemdevId) {
        for copy in self.copies.under_way.values_mut() {
            copy.is_lost |= copy.ends.iter().any(|end| end.memdev == memdev);
        }
    }

    /// What ended, and what goes on no more because its way is gone. Shares are as links are now.
    pub(super) fn look_at_copies(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.copies.under_way.is_empty() {
            return effects;
        }
        self.look_at_routes();
        let mut resources = self.times.elements().resources();
        resources.extend(self.copies.limits.values().map(|&(_, limit)| limit));
        let failed: Vec<_> = self
            .copies
            .under_way
            .iter()
            .filter_map(|(&id, copy)| Some((id, self.is_cut(copy)?)))
            .collect();
        for end in self
            .copies
            .under_way
            .values_mut()
            .flat_map(|it| &mut it.ends)
        {
            let device = self.memdevs.get(end.memdev.index());
            end.generation = device.and_then(|it| it.capacity().generation(end.ld).ok());
        }
        if failed.is_empty() && self.copies.transfers.resources() == resources {
            return effects;
        }
        let ended = self.copies.transfers.advance(self.now);
        self.tell_ended(&ended, &mut effects);
        for (id, why) in failed {
            self.copies.transfers.stop(id);
            if self.copies.under_way.remove(&id).is_some() {
                effects.push(Effect::CopyFailed { copy: id.0, why });
            }
        }
        self.copies.transfers.change(resources);
        self.share_anew();
        effects
    }

    /// Why a copy cannot go on.
    fn is_cut(&self, copy: &Copy) -> Option<AccessError> {
        if !self.is_alive(copy.host) {
            return Some(AccessError::Dead);
        }
        if copy.is_lost {
            return Some(AccessError::Unreachable);
        }
        copy.ends
            .iter()
            .find_map(|end| self.end_is_cut(copy.host, end).err())
    }

    /// Whether one end of a copy is as it was.
    fn end_is_cut(&self, host: HostId, end: &End) -> Result<(), AccessError> {
        let reached = self.reached.get(host.index());
        let way = reached.and_then(|it| it.get(&(end.memdev, end.ld)));
        let device = self.memdev(end.memdev).ok_or(AccessError::Unreachable)?;
        if way != Some(&end.way) {
            return Err(AccessError::Unreachable);
        }
        let is_blocked = |direction| self.times.is_blocked(&end.way, direction);
        if is_blocked(Direction::Down) || is_blocked(Direction::Up) {
            return Err(AccessError::TimedOut);
        }
        if device.condition().is_viral {
            return Err(AccessError::Viral);
        }
        let (start, window) = end.window;
        if self.living(host)?.windows.get(&start) != Some(&window) {
            return Err(AccessError::Unmapped);
        }
        if end.generation == device.capacity().generation(end.ld).ok() {
            return Ok(());
        }
        is_there(device, end.ld, end.memory, end.is_written)
    }

    /// Some ended, or their bytes are through.
    pub(super) fn go_on_copying(&mut self) {
        self.copies.timer = None;
        let ended = self.copies.transfers.advance(self.now);
        let mut effects = Vec::new();
        self.tell_ended(&ended, &mut effects);
        self.told.append(&mut effects);
        self.share_anew();
    }

    fn tell_ended(&mut self, ended: &[Ended], effects: &mut Vec<Effect>) {
        for end in ended {
            if let Some(copy) = self.copies.under_way.remove(&end.transfer) {
                effects.push(Effect::Copied {
                    copy: end.transfer.0,
                    took: end.at.saturating_sub(copy.begun),
                });
            }
        }
    }

    /// Shares are other ones: the timer stands at their next change, and lines see what is left.
    fn share_anew(&mut self) {
        if let Some(timer) = self.copies.timer.take() {
            self.timers.remove(&timer);
        }
        if let Some(due) = self.copies.transfers.next_change() {
            self.copies.timer = Some(self.at(due, Timer::Copies));
        }
        self.times.copies_take(self.copies.transfers.taken());
    }
}

/// Whether all of a range is there, and may be written.
fn is_there(
    device: &Memdev,
    ld: LdId,
    (first, bytes): (u64, u64),
    is_written: bool,
) -> Result<(), AccessError> {
    let end = first.saturating_add(bytes);
    let mut at = first;
    while at < end {
        let place = device.place(ld, at).and_then(|(_, place)| place);
        if is_written && place.is_some_and(|it| it.is_read_only) {
            return Err(AccessError::ReadOnly);
        }
        let piece = device.piece(ld, at).filter(|&(_, bytes)| bytes > 0);
        let (_, bytes) = piece.ok_or(AccessError::NoMemory)?;
        at = at.saturating_add(bytes);
    }
    Ok(())
}
