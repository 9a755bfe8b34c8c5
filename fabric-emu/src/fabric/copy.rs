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
//! 2. A copy that is under way has the way on which it was begun, and ends with it.

use std::collections::BTreeMap;

use super::command::Timer;
use super::event::{AccessError, Effect};
use super::time::Direction;
use super::{Fabric, Physical};
use crate::id::{HostId, LdId, MemdevId};
use crate::memdev::Memdev;
use crate::timing::{Elements, Ended, Flow, Path, Picos, Rate, Share, TransferId, Transfers};
use crate::topology::Topology;

/// Copies that go on at once.
const MOST: usize = 256;

/// A copy that goes on.
#[derive(Debug, Clone)]
struct Copy {
    host: HostId,
    begun: Picos,
    /// Where it reads and writes, and the ways there.
    ends: Vec<(MemdevId, LdId, Path)>,
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
            let (memdev, ld) = self.range(host, address, bytes, reads == Share::ZERO)?;
            let way = self.reached.get(host.index());
            let way = way.and_then(|it| it.get(&(memdev, ld)));
            let way = way.ok_or(AccessError::Unreachable)?.clone();
            let elements = self.times.elements();
            let unknown = |_| AccessError::Unreachable;
            let part = elements.flow(&way, reads, Rate::MAX).map_err(unknown)?;
            let takes = elements.unloaded(&way, reads).map_err(unknown)?;
            flow.uses.extend(part.uses);
            if let Some(&(limit, _)) = self.copies.limits.get(&(memdev, ld)) {
                flow.uses.push((limit, Share::ONE));
            }
            first = first.saturating_add(takes);
            ends.push((memdev, ld, way));
        }
        let id = self.copies.transfers.start(flow, bytes, first);
        let begun = self.now;
        let copy = Copy { host, begun, ends };
        self.copies.under_way.insert(id, copy);
        Ok(id)
    }

    /// Whether all of a range is memory of one logical device that a host may use so.
    fn range(
        &self,
        host: HostId,
        address: u64,
        bytes: u64,
        is_written: bool,
    ) -> Result<(MemdevId, LdId), AccessError> {
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
        Ok((memdev, target.ld))
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
        let reached = self.reached.get(copy.host.index())?;
        copy.ends.iter().find_map(|(memdev, ld, way)| {
            let is_blocked = |direction| self.times.is_blocked(way, direction);
            let is_viral = |it: &Memdev| it.condition().is_viral;
            if reached.get(&(*memdev, *ld)) != Some(way) {
                Some(AccessError::Unreachable)
            } else if is_blocked(Direction::Down) || is_blocked(Direction::Up) {
                Some(AccessError::TimedOut)
            } else if self.memdev(*memdev).is_some_and(is_viral) {
                Some(AccessError::Viral)
            } else {
                None
            }
        })
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
