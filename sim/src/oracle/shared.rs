//! What users see of extents that several hosts share, whatever home and peers believe.
//!
//! # Rules
//! - *one writer*: of the hosts whose era is not fenced, one user writes an extent or any number
//!   read it.
//! - *epochs rise*: an exclusive grant has an epoch that no other host had it under, and no grant
//!   has one below the last.
//! - *extent published*: who is granted an extent is told a version that was published, and finds
//!   in all of its lines what was published under it; of what a fenced host still does nothing is
//!   seen.
//! - *a version means one content*, for ever.
//! - *poison is where it was*: a line is an error to read only where one was lost.

use std::collections::{BTreeMap, BTreeSet};

use coherence::host::Right;

use crate::broken::{Checked, broken, holds};

/// Versions of an extent that are remembered.
const VERSIONS: usize = 256;

/// What was published.
#[derive(Debug, Clone, Copy)]
struct Content {
    /// `None`: anything, for what a dead writer left was accepted.
    mark: Option<u64>,
    /// By which host.
    by: u8,
    /// Another host was granted it. What only users of one host saw ends with that host's era: its
    /// number may be used again for what the extent is given then.
    is_granted: bool,
}

#[derive(Debug, Clone)]
struct Extent {
    published: BTreeMap<u64, Content>,
    users: BTreeMap<(u8, u64), Right>,
    /// The last epoch in which someone might write, whose it is, and whether it is over.
    writer: (u64, u8, bool),
}

impl Default for Extent {
    fn default() -> Self {
        Self {
            published: BTreeMap::from([(
                0,
                Content {
                    mark: Some(0),
                    by: 0,
                    is_granted: true,
                },
            )]),
            users: BTreeMap::new(),
            writer: (0, 0, true),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    extents: BTreeMap<u32, Extent>,
    fenced: BTreeSet<(u8, u64)>,
    poisoned: BTreeSet<(u32, u32)>,
}

impl Truth {
    pub(crate) fn is_fenced(&self, slot: u8, era: u64) -> bool {
        self.fenced.contains(&(slot, era))
    }

    /// The fabric cut a host off: what its users still do counts for nothing.
    pub(crate) fn fenced(&mut self, slot: u8, era: u64) {
        self.fenced.insert((slot, era));
        self.end_users(slot);
    }

    /// The users of a host have ended.
    pub(crate) fn end_users(&mut self, slot: u8) {
        for extent in self.extents.values_mut() {
            extent.users.retain(|(of, _), _| *of != slot);
        }
    }

    /// A user is granted an extent. Whether another host published what it gets.
    pub(crate) fn granted(
        &mut self,
        (slot, user): (u8, u64),
        number: u32,
        right: Right,
        (epoch, version): (u64, u64),
    ) -> Checked<bool> {
        let extent = self.extents.entry(number).or_default();
        let writes = right == Right::Exclusive;
        for (other, held) in &extent.users {
            holds(!writes && *held != Right::Exclusive, "one writer", || {
                format!("extent {number}: user {user} of host {slot} beside {other:?}")
            })?;
        }
        let (last, owner, over) = extent.writer;
        let rises = epoch > last || epoch == last && (!writes || owner == slot && !over);
        holds(rises, "epochs rise", || {
            format!("extent {number}: host {slot} is granted epoch {epoch} after {last}")
        })?;
        if writes {
            extent.writer = (epoch, slot, false);
        }
        extent.users.insert((slot, user), right);
        match extent.published.get_mut(&version) {
            Some(content) => {
                content.is_granted |= content.by != slot;
                Ok(version > 0 && content.by != slot)
            }
            None => broken(
                "extent published",
                format_args!(
                    "extent {number}: host {slot} gets version {version}, never published"
                ),
            ),
        }
    }

    /// The host says that a grant is over.
    pub(crate) fn told_over(&mut self, slot: u8, number: u32, epoch: u64) {
        let extent = self.extents.entry(number).or_default();
        if epoch == extent.writer.0 && slot == extent.writer.1 {
            extent.writer.2 = true;
        }
    }

    /// A user uses it no more.
    pub(crate) fn ended(&mut self, user: (u8, u64), number: u32) {
        self.extents.entry(number).or_default().users.remove(&user);
    }

    /// A user of a host published a mark; nobody knows what where it is `None`.
    pub(crate) fn published(
        &mut self,
        slot: u8,
        number: u32,
        version: u64,
        mark: Option<u64>,
    ) -> Checked {
        let published = &mut self.extents.entry(number).or_default().published;
        let content = Content {
            mark,
            by: slot,
            is_granted: false,
        };
        let before = published.insert(version, content);
        while published.len() > VERSIONS {
            published.pop_first();
        }
        // A home that dies in the step that mends an extent is told again, before anybody has it.
        let is_one = before.is_none_or(|before| !before.is_granted || before.mark == mark);
        holds(is_one, "a version means one content", || {
            format!("version {version} of extent {number} is {mark:?}, and was {before:?}")
        })
    }

    /// What was published under a version, where that is known.
    pub(crate) fn content(&self, number: u32, version: u64) -> Option<u64> {
        let Some(extent) = self.extents.get(&number) else {
            return (version == 0).then_some(0);
        };
        extent.published.get(&version)?.mark
    }

    /// A user reads a line under a version, and finds a mark, or a torn line.
    pub(crate) fn read(
        &self,
        slot: u8,
        (number, line): (u32, u32),
        version: u64,
        found: Option<u64>,
    ) -> Checked {
        let at = format_args!("line {line} of extent {number} on host {slot}").to_string();
        let Some(found) = found else {
            return broken("extent whole", format_args!("{at} is torn"));
        };
        let extent = self.extents.get(&number);
        let known = extent.and_then(|extent| extent.published.get(&version));
        let (wanted, by) = match known {
            Some(content) => (content.mark, content.by),
            None => (Some(0).filter(|_| version == 0), 0),
        };
        let Some(wanted) = wanted else {
            return Ok(()); // Accepted as it was; that it was published was seen at the grant.
        };
        holds(found == wanted, "extent published", || {
            format!("{at} holds {found} in version {version}, which is {wanted} of host {by}")
        })
    }

    /// A line was lost.
    pub(crate) fn poisoned(&mut self, spot: (u32, u32)) {
        self.poisoned.insert(spot);
    }

    /// A line is written anew. Whether it was lost ever: a write that is back in memory already
    /// when the line is lost mends nothing.
    pub(crate) fn was_poisoned(&self, spot: (u32, u32)) -> bool {
        self.poisoned.contains(&spot)
    }

    /// A reader is told that a line is lost.
    pub(crate) fn told_poisoned(&self, spot: (u32, u32)) -> Checked {
        holds(
            self.poisoned.contains(&spot),
            "poison is where it was",
            || format!("{spot:?} reads as poisoned and was not"),
        )
    }
}
