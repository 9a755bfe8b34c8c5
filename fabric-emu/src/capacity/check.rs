//! The invariants of [`capacity`](super), looked at from the outside.

use super::{Capacity, GroupId, NO_TAG};
use crate::id::LdId;
use crate::span::{Span, SpanSet};

/// Which invariant does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {number} of dynamic capacity does not hold: {what}")]
pub struct Broken {
    /// Its number, as the module has it.
    pub number: u8,
    /// What is wrong.
    pub what: String,
}

fn broken(number: u8, what: impl Into<String>) -> Broken {
    let what = what.into();
    Broken { number, what }
}

impl Capacity {
    /// Whether all that is promised holds. It looks at everything.
    ///
    /// # Errors
    /// [`Broken`], the first that does not.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_memory()?;
        for (&id, group) in &self.groups {
            self.check_group(id)?;
            if group.tag != NO_TAG && self.tags.get(&group.tag) != Some(&id) {
                return Err(broken(4, format!("{:?} is not known by its tag", id)));
            }
        }
        (0..self.lds.len()).try_for_each(|index| {
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            self.check_ld(LdId(number))
        })
    }

    fn check_memory(&self) -> Result<(), Broken> {
        let of_groups = self.groups.values().flat_map(|group| &group.pieces);
        let zeroed = self.zeroed.values().flatten();
        let taken = of_groups.chain(zeroed).copied();
        let all = SpanSet::of_all(taken.chain(self.free.iter()));
        match all {
            None => Err(broken(1, "some memory is had twice")),
            Some(all) if all != SpanSet::of(self.all) => Err(broken(1, "some memory is lost")),
            Some(_) => Ok(()),
        }
    }

    fn check_group(&self, id: GroupId) -> Result<(), Broken> {
        let Some(group) = self.groups.get(&id) else {
            return Ok(());
        };
        if group.views.is_empty() && !group.is_referenced {
            return Err(broken(2, format!("nobody has {id:?}")));
        }
        if group.views.len() > 1 && !group.is_sharable {
            return Err(broken(2, format!("{id:?} is shared")));
        }
        for (ld, view) in &group.views {
            let bytes: u64 = view.extents.iter().map(|extent| extent.bytes).sum();
            if bytes != group.bytes() {
                return Err(broken(2, format!("{ld} has {bytes} bytes of {id:?}")));
            }
        }
        Ok(())
    }

    fn check_ld(&self, id: LdId) -> Result<(), Broken> {
        let Some(ld) = self.lds.get(id.index()) else {
            return Ok(());
        };
        let views = self
            .groups
            .values()
            .filter_map(|group| group.views.get(&id));
        let held: Vec<(usize, Span)> = views
            .flat_map(|view| view.extents.iter().map(|&extent| (view.region, extent)))
            .chain(
                ld.dead
                    .values()
                    .flat_map(|(region, extents)| extents.iter().map(|&extent| (*region, extent))),
            )
            .collect();
        let is_offered = |group: &GroupId| {
            let view = self
                .groups
                .get(group)
                .and_then(|group| group.views.get(&id));
            ld.dead.contains_key(group) || view.is_some_and(|view| !view.is_added())
        };
        if !ld.offers.iter().all(is_offered) {
            return Err(broken(7, format!("{id} cannot answer what it was offered")));
        }
        if held.len() != ld.extents {
            return Err(broken(3, format!("{id} counts {} extents", ld.extents)));
        }
        for (index, (region, free)) in ld.regions.iter().zip(&ld.free).enumerate() {
            let of_region = held
                .iter()
                .filter(|(it, _)| *it == index)
                .map(|(_, span)| *span);
            let of_region: Vec<Span> = of_region.collect();
            if !of_region.iter().all(|span| span.is_of(region.block)) {
                return Err(broken(3, format!("{id} has a part of a block")));
            }
            let all = SpanSet::of_all(of_region.into_iter().chain(free.iter()));
            if all != Some(SpanSet::of(region.span)) {
                return Err(broken(3, format!("{id} has addresses twice, or lost some")));
            }
        }
        self.check_parts(id)
    }

    /// What the host reaches is what it has, and where the groups say.
    fn check_parts(&self, id: LdId) -> Result<(), Broken> {
        let Some(ld) = self.lds.get(id.index()) else {
            return Ok(());
        };
        let views = self.groups.iter().filter_map(|(&group, it)| {
            let view = it.views.get(&id).filter(|view| view.is_added())?;
            Some(it.parts(view).into_iter().map(move |part| (part, group)))
        });
        let mut expected: Vec<_> = views.flatten().collect();
        expected.sort_by_key(|((addresses, _), _)| *addresses);
        let reached = ld.parts.iter().map(|(&start, part)| {
            let addresses = Span {
                start,
                bytes: part.bytes,
            };
            ((addresses, part.physical), part.group)
        });
        if reached.collect::<Vec<_>>() == expected {
            Ok(())
        } else {
            Err(broken(
                3,
                format!("{id} reaches something else than it has"),
            ))
        }
    }
}
