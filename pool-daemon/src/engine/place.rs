//! Where a segment begins: taking the addresses of a new one out of the window.
//!
//! Addresses are kept in extents from the base of the window, and an alignment is one of the
//! address itself. A window may begin at any extent, so what the base is past a multiple of the
//! alignment is part of the sum.
//!
//! A segment keeps its address for as long as it lives: it grows behind itself, moves by having
//! other files there, and is found there after a restart by its row in the journal. So what it was
//! aligned to is remembered nowhere.

use pool_core::{Bytes, DeviceId, EXTENT_BYTES, Extents, WindowRange, planted};

use super::plan::{GROUP_PARTS, Plan};
use super::runs::{Misfit, Run, RunSet};
use super::{Engine, Refusal};

/// The free addresses of a new pool: of this host's own segments, and of groups that hosts share.
/// Where it has a device of groups, those are the upper half of the window.
pub(super) fn parted(plan: &Plan) -> (RunSet, RunSet) {
    let whole = Run {
        first: 0,
        count: extents_of(plan.window),
    };
    if plan.devices.iter().all(|device| device.shared.is_none()) {
        return (RunSet::of(whole), RunSet::default());
    }
    let groups = group_places(plan.window);
    let own = Run {
        first: 0,
        count: groups.first,
    };
    (RunSet::of(own), RunSet::of(groups))
}

/// A window ends below 2^47: at most 2^26 extents.
fn extents_of(window: WindowRange) -> u32 {
    u32::try_from(window.len().get() / EXTENT_BYTES).unwrap_or(u32::MAX)
}

/// The addresses of groups: as long a part for each host.
fn group_places(window: WindowRange) -> Run {
    let whole = extents_of(window);
    let count = whole / 2 / GROUP_PARTS * GROUP_PARTS;
    Run {
        first: whole - count,
        count,
    }
}

/// The part of the addresses of groups in which a host makes its own; none beyond the last part.
fn group_part(window: WindowRange, part: u8) -> Option<Run> {
    let (part, places) = (u32::from(part), group_places(window));
    let count = places.count / GROUP_PARTS;
    (part < GROUP_PARTS).then_some(Run {
        first: places.first + part * count,
        count,
    })
}

impl Engine {
    /// The addresses of the pool.
    #[must_use]
    pub fn window(&self) -> WindowRange {
        self.plan.window
    }

    /// See [`group_places`].
    pub(super) fn group_places(&self) -> Run {
        group_places(self.plan.window)
    }

    /// The part of the addresses of groups in which a device's groups are made.
    pub(super) fn group_part(&self, on: DeviceId) -> Option<Run> {
        let part = self.devices.get(&on)?.plan.shared?;
        let part = if planted!("place.makes_groups_anywhere") {
            0
        } else {
            part
        };
        group_part(self.plan.window, part)
    }

    /// Takes a range of addresses, of whatever they are: a segment of before may lie where those of
    /// groups begin now.
    ///
    /// # Errors
    /// [`Misfit`] where some of it is another's, and nothing is taken.
    pub(super) fn take_range(&mut self, range: Run) -> Result<(), Misfit> {
        let (mut own, mut groups) = (self.window.clone(), self.group_window.clone());
        let (below, above) = self.cut_at_groups(range);
        below.into_iter().try_for_each(|run| own.remove(run))?;
        above.into_iter().try_for_each(|run| groups.remove(run))?;
        (self.window, self.group_window) = (own, groups);
        Ok(())
    }

    /// A range of addresses is nobody's any more.
    ///
    /// # Errors
    /// [`Misfit`] where some of it was nobody's already.
    pub(super) fn give_range(&mut self, range: Run) -> Result<(), Misfit> {
        let (below, above) = self.cut_at_groups(range);
        let (own, groups) = (&mut self.window, &mut self.group_window);
        below.into_iter().try_for_each(|run| own.insert(run))?;
        above.into_iter().try_for_each(|run| groups.insert(run))
    }

    /// What of a range is below the addresses of groups, and what is of those.
    fn cut_at_groups(&self, range: Run) -> (Option<Run>, Option<Run>) {
        let has_groups = self.plan.devices.iter().any(|it| it.shared.is_some());
        let border = if has_groups {
            self.group_places().first.clamp(range.first, range.end())
        } else {
            range.end()
        };
        let run = |first, end| {
            (first < end).then(|| Run {
                first,
                count: end - first,
            })
        };
        (run(range.first, border), run(border, range.end()))
    }

    /// Takes so many addresses for a group that is made here.
    ///
    /// # Errors
    /// [`Refusal::WindowFull`], and nothing is taken.
    pub(super) fn take_group_place(
        &mut self,
        on: DeviceId,
        count: Extents,
        align: Extents,
    ) -> Result<Run, Refusal> {
        let part = self.group_part(on).unwrap_or(Run { first: 0, count: 0 });
        let phase = self.phase(align)?;
        // Behind the last one first: other hosts may have what lay here before.
        let begin = self.group_begin.clamp(part.first, part.end());
        let behind = Run {
            first: begin,
            count: part.end() - begin,
        };
        let fit = |within: Run| {
            let mut free = self.group_window.common(&RunSet::of(within));
            free.take_aligned(count.get(), align.get(), phase)
        };
        let taken = fit(behind).or_else(|| fit(part));
        let taken = taken.filter(|&run| self.group_window.remove(run).is_ok());
        self.group_begin = taken.map_or(self.group_begin, Run::end);
        taken.ok_or(Refusal::WindowFull {
            asked: count.bytes(),
            align: align.bytes(),
        })
    }

    /// What the address of a segment is to be a multiple of. One extent where a request says 0.
    ///
    /// # Errors
    /// [`Refusal::Unaligned`] where it is no power of two, less than an extent, or more than the
    /// window.
    pub(super) fn alignment(&self, bytes: u64) -> Result<Extents, Refusal> {
        let one = Bytes::new(EXTENT_BYTES);
        let asked = match bytes {
            0 => one,
            bytes => Bytes::new(bytes),
        };
        // The window has an extent at least.
        let most = self.plan.window.len().get().max(EXTENT_BYTES);
        let most = Bytes::new(1 << most.ilog2());
        let fits = asked.get().is_power_of_two() && (one..=most).contains(&asked);
        let align = Extents::holding(asked).filter(|_| fits);
        align.ok_or(Refusal::Unaligned {
            asked,
            least: one,
            most,
        })
    }

    /// Takes so many addresses, beginning at a multiple of `align`.
    ///
    /// # Errors
    /// [`Refusal::WindowFull`], and nothing is taken.
    pub(super) fn take_place(&mut self, count: Extents, align: Extents) -> Result<Run, Refusal> {
        let phase = self.phase(align)?;
        let taken = self.window.take_aligned(count.get(), align.get(), phase);
        taken.ok_or(Refusal::WindowFull {
            asked: count.bytes(),
            align: align.bytes(),
        })
    }

    /// What the base of the window is past a multiple of an alignment.
    fn phase(&self, align: Extents) -> Result<u32, Refusal> {
        let base = self.plan.window.base().get() / EXTENT_BYTES;
        let past = base % u64::from(align.get().max(1));
        // It is less than the alignment, which is a u32.
        match u32::try_from(past) {
            Ok(_) if planted!("place.aligns_the_offset") => Ok(0),
            Ok(phase) => Ok(phase),
            Err(_) => Err(Refusal::Broken("an alignment is more than the window")),
        }
    }
}
