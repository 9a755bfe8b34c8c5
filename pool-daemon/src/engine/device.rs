//! The extents of one device: which are free, which are out of service, and how they are carved.
//!
//! # Invariants
//! 1. The indexes `0..index_space` are parted into `free`, `retired` and the runs of the backings
//!    that lie on the device; `check` proves it.
//! 2. A device that is removed has no backing.
//! 3. `segments` counts the backings on the device by their segments.
//! 4. `gone` are extents of backings, and so are not free: they are retired when they come back.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{DeviceId, Extents, GroupTag, SegmentId, planted};

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
    /// Extents that are not there any more, or are bad, and have a backing still.
    gone: RunSet,
    /// Extents that hold a line whose content was lost: granted to nobody.
    bad: RunSet,
    /// Extents of backings in quarantine.
    pub(super) quarantined: Extents,
    /// The segments that have files here, and how many each.
    pub(super) segments: BTreeMap<SegmentId, u32>,
    pub(super) draining: bool,
    pub(super) removed: bool,
    /// Its memory is reached at the moment; that of a dynamic one is when that is said.
    pub(super) reached: bool,
    /// Groups that were made here and sealed, and are no more, until nobody can join them.
    pub(super) ending: BTreeSet<GroupTag>,
    /// Why a dynamic device does not get what it should; empty where nothing is in the way.
    pub(super) note: String,
}

/// What comes of a word about which extents are there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Come {
    /// They are free from now on.
    pub(super) fresh: Extents,
    /// They were free, and are not there any more.
    pub(super) left: Extents,
    /// Of those that are not there any more, the ones of backings.
    pub(super) lost: RunSet,
}

/// Not so many extents of the device are free as it would have to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InUse {
    pub(super) used: Extents,
}

impl Device {
    /// A new device, all of it free; all of it retired where its memory is still to come.
    pub(super) fn new(id: DeviceId, plan: DevicePlan, tier: usize) -> Self {
        let index_space = plan.extents.get();
        let all = RunSet::of(Run {
            first: 0,
            count: index_space,
        });
        let (free, retired) = if plan.dynamic {
            (RunSet::default(), all)
        } else {
            (all, RunSet::default())
        };
        let (quarantined, reached) = (Extents::ZERO, !plan.dynamic);
        Self {
            id,
            plan,
            tier,
            index_space,
            free,
            retired,
            gone: RunSet::default(),
            bad: RunSet::default(),
            quarantined,
            segments: BTreeMap::new(),
            draining: false,
            removed: false,
            reached,
            ending: BTreeSet::new(),
            note: String::new(),
        }
    }

    /// As the journal keeps them; none where a bug is planted.
    pub(super) fn ending_rows(&self) -> Vec<Vec<u8>> {
        let forgets = planted!("group.forgets_what_it_published");
        let tags = self.ending.iter().filter(|_| !forgets);
        tags.map(|tag| tag.bytes().to_vec()).collect()
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
        device.retired = RunSet::default();
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
        let has_groups = self.plan.shared.is_some();
        if self.draining || self.removed || !self.reached || has_groups {
            Extents::ZERO // A group is granted as a whole, to whom it was asked for.
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

    /// Takes just these extents, all of them or none: also those that are bad, where `takes_bad`.
    pub(super) fn claim_all(&mut self, runs: &[Run], takes_bad: bool) -> Result<(), Misfit> {
        let (mut free, mut retired) = (self.free.clone(), self.retired.clone());
        let mut bad = RunSet::default();
        if takes_bad {
            let all: RunSet = runs.iter().copied().collect();
            bad = all.common(&retired).common(&self.bad);
            retired = retired.minus(&bad);
            free.add(&bad)?;
        }
        runs.iter().try_for_each(|&run| free.remove(run))?;
        self.gone.add(&bad.minus(&self.gone))?;
        (self.free, self.retired) = (free, retired);
        Ok(())
    }

    /// No backing has any of these extents.
    pub(super) fn is_idle(&self, runs: &[Run]) -> bool {
        let all: RunSet = runs.iter().copied().collect();
        let known = all.common(&RunSet::of(Run {
            first: 0,
            count: self.index_space,
        }));
        known.minus(&self.free).minus(&self.retired).count() == 0
    }

    /// Free extents go out of service; what is bad of them is forgotten.
    pub(super) fn leave(&mut self, runs: &[Run]) {
        let all: RunSet = runs.iter().copied().collect();
        let free = self.free.common(&all);
        self.free = self.free.minus(&free);
        self.bad = self.bad.minus(&all);
        // They were free, so they are not retired yet.
        let moved = self.retired.add(&free);
        debug_assert!(moved.is_ok(), "device invariant 1");
    }

    /// Takes the extents of a backing back; what is not there any more goes out of service. Whether
    /// any of it is not.
    pub(super) fn give_back(&mut self, runs: &[Run]) -> Result<bool, Misfit> {
        let all: RunSet = runs.iter().copied().collect();
        let gone = if planted!("capacity.frees_what_is_gone") {
            RunSet::default()
        } else {
            all.common(&self.gone)
        };
        self.gone = self.gone.minus(&gone);
        self.retired.add(&gone)?;
        self.free.add(&all.minus(&gone))?;
        Ok(gone.count() > 0)
    }

    /// The most extents there may ever be of it.
    pub(super) fn most(&self) -> Extents {
        if self.plan.dynamic {
            Extents::new(self.index_space)
        } else {
            self.total()
        }
    }

    /// These extents are there now, and no others.
    pub(super) fn come(&mut self, present: &RunSet) -> Result<Come, Misfit> {
        let all = RunSet::of(Run {
            first: 0,
            count: self.index_space,
        });
        // What is bad has lost a line; that all of it is lost is still to be told when it leaves.
        let known = self.gone.minus(&self.bad);
        // Where one that left comes anew, nothing is known of it.
        self.bad = self.bad.common(present);
        let good = if planted!("capacity.grants_what_is_bad") {
            present.common(&all)
        } else {
            present.common(&all).minus(&self.bad)
        };
        let fresh = self.retired.common(&good);
        self.retired = self.retired.minus(&fresh);
        let left = self.free.minus(&good);
        self.free = self.free.minus(&left);
        self.free.add(&fresh)?;
        self.retired.add(&left)?;
        let in_use = all.minus(&self.free).minus(&self.retired);
        // What is bad is there: whoever has it may have the rest of it.
        let lost = in_use.minus(&present.common(&all)).minus(&known);
        self.gone = in_use.minus(&good);
        Ok(Come {
            fresh: Extents::new(fresh.count()),
            left: Extents::new(left.count()),
            lost,
        })
    }

    /// Takes free extents out of service, `unit` of them at a time as the device counts them, the
    /// highest first: at most so many units, and none but those `within`. What is bad and nobody's
    /// leaves along.
    pub(super) fn withdraw(&mut self, unit: u32, most: u32, within: &RunSet) -> Vec<Run> {
        let (mut taken, unit) = (Vec::new(), unit.max(1));
        let spoiled = self.bad.common(&self.retired);
        let idle: RunSet = self.free.iter().chain(spoiled.iter()).collect();
        let idle: Vec<Run> = idle.common(within).iter().collect();
        for run in idle.into_iter().rev() {
            let mut last = run.end() / unit;
            while taken.len() < most as usize && last > run.first.div_ceil(unit) {
                last -= 1;
                let (first, count) = (last * unit, unit);
                taken.push(Run { first, count });
            }
        }
        let free = taken.iter().copied().collect::<RunSet>().common(&self.free);
        self.free = self.free.minus(&free);
        // They were free, so they are not retired yet.
        let moved = self.retired.add(&free);
        debug_assert!(moved.is_ok(), "device invariant 1");
        taken
    }

    /// Extents of the device are bad: the free ones go out of service, those of backings do when
    /// they come back. Those that were not bad before, and have a backing.
    pub(super) fn spoil(&mut self, runs: &RunSet) -> Result<RunSet, Misfit> {
        let all = RunSet::of(Run {
            first: 0,
            count: self.index_space,
        });
        let fresh = runs.common(&all).minus(&self.bad);
        self.bad.add(&fresh)?;
        let free = self.free.common(&fresh);
        self.free = self.free.minus(&free);
        self.retired.add(&free)?;
        let held = fresh.minus(&free).minus(&self.retired);
        self.gone.add(&held.minus(&self.gone))?;
        Ok(held)
    }

    /// What the device is to be at most; what is new of it is still to come.
    ///
    /// # Errors
    /// [`InUse`] where extents behind that have backings.
    pub(super) fn span(&mut self, wanted: Extents) -> Result<(), InUse> {
        let now = self.index_space;
        let (low, high) = (now.min(wanted.get()), now.max(wanted.get()));
        let part = RunSet::of(Run {
            first: low,
            count: high - low,
        });
        let used = self.total().saturating_sub(self.free());
        if wanted.get() >= now {
            self.retired.add(&part).map_err(|_| InUse { used })?;
        } else {
            let idle = self.free.common(&part).count() + self.retired.common(&part).count();
            if idle != part.count() {
                return Err(InUse { used });
            }
            self.free = self.free.minus(&part);
            self.retired = self.retired.minus(&part);
            self.bad = self.bad.minus(&part);
        }
        self.index_space = wanted.get();
        Ok(())
    }

    /// How many extents are bad and nobody's.
    pub(super) fn spoiled(&self) -> u32 {
        self.bad.common(&self.retired).count()
    }

    /// Extents that hold a line whose content was lost.
    pub(super) fn bad(&self) -> &RunSet {
        &self.bad
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
            dynamic: false,
            shared: None,
            whole: false,
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

    fn runs(runs: &[(u32, u32)]) -> RunSet {
        let run = |&(first, count): &(u32, u32)| Run { first, count };
        runs.iter().map(run).collect()
    }

    fn dynamic(extents: u32) -> Device {
        let mut plan = device(extents).plan;
        plan.dynamic = true;
        Device::new(DeviceId::FIRST, plan, 0)
    }

    #[test]
    fn memory_that_comes_is_free_and_what_left_comes_back_to_nobody() {
        let mut d = dynamic(16);
        assert_eq!((d.total().get(), d.most().get()), (0, 16));
        let come = d.come(&runs(&[(0, 8), (14, 9)])).unwrap();
        assert_eq!((come.fresh.get(), d.free().get()), (10, 10));
        let held = d.carve(Extents::new(8)).unwrap();
        let come = d.come(&runs(&[(6, 2), (14, 1)])).unwrap();
        assert_eq!((come.left.get(), come.lost), (1, runs(&[(0, 6)])));
        let again = d.come(&runs(&[(6, 2), (14, 1)])).unwrap();
        assert_eq!(again, Come::default(), "what is known is told once");
        d.give_back(&held).unwrap();
        assert_eq!((d.total().get(), d.free().get()), (3, 3));
        d.come(&runs(&[(0, 16)])).unwrap();
        assert_eq!(d.free().get(), 16);
    }

    #[test]
    fn what_leaves_of_its_own_accord_is_free_and_whole_units_the_highest_first() {
        let mut d = dynamic(16);
        d.come(&runs(&[(0, 16)])).unwrap();
        d.carve(Extents::new(3)).unwrap();
        let all = runs(&[(0, 16)]);
        let unit = |first| Run { first, count: 4 };
        assert_eq!(d.withdraw(4, 2, &all), [unit(12), unit(8)]);
        assert_eq!(d.withdraw(4, 9, &runs(&[(0, 7)])), []);
        assert_eq!(d.withdraw(4, 9, &all), [unit(4)], "unit 0 is in use");
        assert_eq!((d.total().get(), d.free().get()), (4, 1));
    }

    #[test]
    fn a_bad_extent_is_granted_to_nobody_and_told_once() {
        let mut d = dynamic(8);
        d.come(&runs(&[(0, 8)])).unwrap();
        let held = d.carve(Extents::new(4)).unwrap();
        assert_eq!(d.spoil(&runs(&[(3, 2)])), Ok(runs(&[(3, 1)])));
        assert_eq!(d.spoil(&runs(&[(3, 2)])), Ok(RunSet::default()));
        let come = d.come(&runs(&[(0, 8)])).unwrap();
        assert_eq!(come, Come::default(), "it is there, and bad");
        d.give_back(&held).unwrap();
        assert_eq!((d.total().get(), d.free().get()), (6, 6));
    }

    #[test]
    fn a_bad_extent_that_leaves_is_lost_like_any_other_and_told_once() {
        let mut d = dynamic(8);
        d.come(&runs(&[(0, 8)])).unwrap();
        d.carve(Extents::new(4)).unwrap();
        assert_eq!(d.spoil(&runs(&[(3, 1)])), Ok(runs(&[(3, 1)])));
        let come = d.come(&runs(&[(4, 4)])).unwrap();
        assert_eq!(come.lost, runs(&[(0, 4)]), "the bad one is among them");
        let again = d.come(&runs(&[(4, 4)])).unwrap();
        assert_eq!(again, Come::default());
    }

    #[test]
    fn a_device_spans_more_than_is_there_and_less_only_where_nothing_is_held() {
        let mut d = dynamic(8);
        d.come(&runs(&[(4, 4)])).unwrap();
        d.carve(Extents::new(2)).unwrap();
        let used = Extents::new(2);
        assert_eq!(d.span(Extents::new(4)), Err(InUse { used }));
        d.span(Extents::new(6)).unwrap();
        assert_eq!((d.total().get(), d.index_space()), (2, 6));
        d.span(Extents::new(12)).unwrap();
        assert_eq!((d.total().get(), d.index_space()), (2, 12));
    }

    #[test]
    fn a_draining_device_grants_nothing_but_keeps_its_count() {
        let mut d = device(10);
        d.draining = true;
        assert_eq!((d.grantable().get(), d.free().get()), (0, 10));
    }
}
