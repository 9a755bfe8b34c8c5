//! The extents of one device: which are free, which are out of service, and how they are carved.
//!
//! # Invariants
//! 1. The indexes `0..index_space` are parted into `free`, `retired` and the runs of the backings
//!    that lie on the device; `check` proves it.
//! 2. A device that is removed has no backing.
//! 3. `segments` counts the backings on the device by their segments.

use std::collections::BTreeMap;

use pool_core::{DeviceId, Extents, SegmentId};

use super::plan::DevicePlan;
use super::runs::{Misfit, Run, RunSet};

/// A device as the engine sees it.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    pub(super) plan: DevicePlan,
    /// The position of its tier among the tiers.
    pub(super) tier: usize,
    index_space: u32,
    free: RunSet,
    retired: RunSet,
    /// Extents of backings in quarantine.
    pub(super) quarantined: Extents,
    /// The segments that have files here, and how many each.
    pub(super) segments: BTreeMap<SegmentId, u32>,
    pub(super) draining: bool,
    pub(super) removed: bool,
}

/// Not so many extents of the device are free as it would have to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InUse {
    pub(super) used: Extents,
}

impl Device {
    /// A new device, all of it free.
    pub(super) fn new(id: DeviceId, plan: DevicePlan, tier: usize) -> Self {
        let index_space = plan.extents.get();
        let free = RunSet::of(Run {
            first: 0,
            count: index_space,
        });
        let (retired, quarantined) = (RunSet::default(), Extents::ZERO);
        Self {
            id,
            plan,
            tier,
            index_space,
            free,
            retired,
            quarantined,
            segments: BTreeMap::new(),
            draining: false,
            removed: false,
        }
    }

    /// A device of the journal: all but the retired extents free; the backings claim theirs after.
    ///
    /// # Errors
    /// Where the retired runs overlap or pass the end.
    pub(super) fn restored(
        id: DeviceId,
        plan: DevicePlan,
        tier: usize,
        index_space: u32,
        retired: &[Run],
    ) -> Result<Self, Misfit> {
        let mut device = Self::new(id, plan, tier);
        device.index_space = index_space;
        device.free = RunSet::of(Run {
            first: 0,
            count: index_space,
        });
        for &run in retired {
            device.free.remove(run)?;
            device.retired.insert(run)?;
        }
        Ok(device)
    }

    /// All extents in service.
    pub(super) fn total(&self) -> Extents {
        Extents::new(self.index_space - self.retired.count())
    }

    /// Free extents, whether or not the device may grant them.
    pub(super) fn free(&self) -> Extents {
        Extents::new(self.free.count())
    }

    /// Extents a grant may take now.
    pub(super) fn grantable(&self) -> Extents {
        if self.draining || self.removed {
            Extents::ZERO
        } else {
            self.free()
        }
    }

    /// Extents of backings in use.
    pub(super) fn granted(&self) -> Extents {
        self.total()
            .saturating_sub(self.free())
            .saturating_sub(self.quarantined)
    }

    pub(super) fn index_space(&self) -> u32 {
        self.index_space
    }

    pub(super) fn free_runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.free.iter()
    }

    pub(super) fn retired_runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.retired.iter()
    }

    /// A file of the segment lies here from now on.
    pub(super) fn tie(&mut self, segment: SegmentId) {
        *self.segments.entry(segment).or_default() += 1;
    }

    /// A file of the segment lies here no more.
    pub(super) fn untie(&mut self, segment: SegmentId) {
        if let Some(files) = self.segments.get_mut(&segment) {
            *files -= 1;
            if *files == 0 {
                self.segments.remove(&segment);
            }
        }
    }

    /// Takes extents for a backing. `None`, and nothing is changed, where too few are free.
    pub(super) fn carve(&mut self, count: Extents) -> Option<Vec<Run>> {
        self.free.take(count.get())
    }

    /// Takes just these extents: those of a backing of the journal.
    pub(super) fn claim(&mut self, run: Run) -> Result<(), Misfit> {
        self.free.remove(run)
    }

    /// Takes the extents of a backing back.
    pub(super) fn give_back(&mut self, runs: &[Run]) -> Result<(), Misfit> {
        runs.iter().try_for_each(|&run| self.free.insert(run))
    }

    /// Gives the device a new size: retired extents come back first when it grows, and the highest
    /// free ones are retired when it shrinks.
    pub(super) fn resize(&mut self, wanted: Extents) -> Result<(), InUse> {
        let total = self.total();
        if let Some(less) = total.checked_sub(wanted).filter(|less| less.get() > 0) {
            let used = total.saturating_sub(self.free());
            let retired = self.free.take_highest(less.get()).ok_or(InUse { used })?;
            // They were free, so they are not retired yet (invariant 1).
            return retired
                .into_iter()
                .try_for_each(|r| self.retired.insert(r))
                .map_err(|_| InUse { used });
        }
        let more = wanted.saturating_sub(total).get();
        let back = self.retired.count().min(more);
        let mut runs = self.retired.take(back).unwrap_or_default();
        let fresh = more - back;
        if fresh > 0 {
            runs.push(Run {
                first: self.index_space,
                count: fresh,
            });
            self.index_space += fresh;
        }
        runs.into_iter()
            .try_for_each(|r| self.free.insert(r))
            .map_err(|_| InUse { used: total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(extents: u32) -> Device {
        let plan = DevicePlan {
            name: "d".into(),
            tier: "t".into(),
            extents: Extents::new(extents),
            emulated: true,
            kind: "memfd",
            sealed: true,
            persistent: false,
            numa_node: None,
        };
        Device::new(DeviceId::FIRST, plan, 0)
    }

    #[test]
    fn a_device_shrinks_only_by_what_is_free_and_grows_again() {
        let mut d = device(10);
        let held = d.carve(Extents::new(4)).unwrap();
        assert_eq!(
            d.resize(Extents::new(3)),
            Err(InUse {
                used: Extents::new(4)
            })
        );
        assert_eq!((d.total().get(), d.free().get()), (10, 6));
        d.resize(Extents::new(4)).unwrap();
        assert_eq!((d.total().get(), d.free().get()), (4, 0));
        d.resize(Extents::new(12)).unwrap();
        assert_eq!(
            (d.total().get(), d.free().get(), d.index_space()),
            (12, 8, 12)
        );
        d.give_back(&held).unwrap();
        assert_eq!(d.free(), d.total());
    }

    #[test]
    fn a_draining_device_grants_nothing_but_keeps_its_count() {
        let mut d = device(10);
        d.draining = true;
        assert_eq!((d.grantable().get(), d.free().get()), (0, 10));
    }
}
