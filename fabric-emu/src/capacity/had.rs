//! What hosts have, group by group.

use super::Capacity;
use super::group::GroupId;
use crate::cci::Tag;
use crate::id::LdId;
use crate::refusal::Refusal;
use crate::span::Span;

/// A group, as the host of a logical device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Had {
    /// Which group.
    pub group: GroupId,
    /// Its tag.
    pub tag: Tag,
    /// The addresses of all of it, in the order that all of its hosts have it in.
    pub extents: Vec<Span>,
    /// Whether other hosts may have it too.
    pub is_sharable: bool,
    /// Whether this host only reads it.
    pub is_read_only: bool,
}

impl Capacity {
    /// What the host of a logical device has taken and did not release, the oldest group first.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such logical device.
    pub fn had(&self, ld: LdId) -> Result<Vec<Had>, Refusal> {
        let regions = self.regions(ld)?;
        let had = self.groups.iter().filter_map(|(&id, group)| {
            let view = group.views.get(&ld).filter(|view| view.is_added())?;
            Some(Had {
                group: id,
                tag: group.tag,
                extents: view.extents.clone(),
                is_sharable: group.is_sharable,
                is_read_only: regions.get(view.region)?.is_read_only,
            })
        });
        Ok(had.collect())
    }

    /// Whether a group is there still, with hosts or referenced.
    #[must_use]
    pub fn has_group(&self, group: GroupId) -> bool {
        self.groups.contains_key(&group)
    }
}
