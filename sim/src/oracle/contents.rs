//! What readers see of the segments of one host.
//!
//! A line holds the mark of one store: a number that no other store has. It is known of each mark
//! where it was stored, so that a byte of another tenant is recognised.
//!
//! # Rules
//! - *last store*: who reads a line of a segment that it holds finds the last mark that a holder
//!   stored there, whatever incarnation it lies in; or an error, where the way is broken or the
//!   line is poisoned. A line of which a cache died before it was written back has the last mark,
//!   or one that was stored since it was written back before: which one shows at the first look,
//!   and stays.
//! - *fresh is zero*: before the first store a line is zero.
//! - *whole*: all bytes of a line are of one store.
//! - *unit published*: who reads a unit of a domain finds in all of it what was published under the
//!   version of its grant; a unit is never read that a dead writer left, but where the domain keeps
//!   it.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::SegmentId;

use crate::broken::{Checked, broken, holds};

/// A line of a segment: its extent and which of them.
pub(crate) type Spot = (SegmentId, u32, u32);

#[derive(Debug, Clone, Default)]
struct Cell {
    /// The last one that was stored. `None` where a cache died with it.
    last: Option<u64>,
    /// What memory may hold.
    memory: Vec<u64>,
}

/// What is in a unit of a domain, by version.
#[derive(Debug, Clone, Default)]
struct Unit {
    /// `None`: anything, for a dead writer's half was kept.
    published: BTreeMap<u64, Option<u64>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    cells: BTreeMap<Spot, Cell>,
    units: BTreeMap<(SegmentId, u32), Unit>,
    /// Segments whose device returned empty, and their files there: nobody knows what is in them,
    /// until the daemon hears of it and says that they are lost.
    unknown: BTreeMap<SegmentId, Vec<u64>>,
    poisoned: BTreeSet<u64>,
    /// Segments of which holders were told that a part is lost: that part is not lost once more.
    damaged: BTreeSet<SegmentId>,
}

/// Versions of a unit that are remembered.
const VERSIONS: usize = 8;

impl Contents {
    /// A holder stored a mark.
    pub(crate) fn stored(&mut self, spot: Spot, mark: u64) {
        let cell = self.cells.entry(spot).or_insert_with(|| Cell {
            last: None,
            memory: vec![0],
        });
        cell.last = Some(mark);
        cell.memory.push(mark);
    }

    /// What was stored is in memory now.
    pub(crate) fn written_back(&mut self, spot: Spot) {
        if let Some(cell) = self.cells.get_mut(&spot)
            && let Some(last) = cell.last
        {
            cell.memory = vec![last];
        }
    }

    /// What was stored and not written back may be lost: the cache died, or the way was broken.
    pub(crate) fn unsettled(&mut self, spot: Spot) {
        if let Some(cell) = self.cells.get_mut(&spot) {
            cell.last = None;
        }
    }

    /// Spots that were stored to since they were written back.
    pub(crate) fn unwritten(&self) -> Vec<Spot> {
        let cells = self.cells.iter();
        let dirty = cells.filter(|(_, cell)| cell.last.is_some() && cell.memory.len() > 1);
        dirty.map(|(&spot, _)| spot).collect()
    }

    /// All caches of the host died. Whether anything may be lost by it.
    pub(crate) fn all_unsettled(&mut self) -> bool {
        let mut lost = false;
        for cell in self.cells.values_mut() {
            lost |= cell.last.is_some() && cell.memory.len() > 1;
            cell.last = None;
        }
        lost
    }

    /// The device that files of some segments lie on came back empty.
    pub(crate) fn emptied(&mut self, segments: Vec<(SegmentId, Vec<u64>)>) {
        self.unknown.extend(segments);
    }

    /// Holders of a segment were told that a part of it is lost.
    pub(crate) fn damaged(&mut self, segment: SegmentId) {
        self.damaged.insert(segment);
    }

    /// Segments whose device returned empty and that were whole until then, with their files there.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = (&SegmentId, &Vec<u64>)> {
        let unknown = self.unknown.iter();
        unknown.filter(|(segment, _)| !self.damaged.contains(segment))
    }

    /// A reader found a mark, or that the line is torn (`None`). Whether it tells that the line is
    /// there although its host died.
    pub(crate) fn read(&mut self, spot: Spot, found: Option<u64>) -> Checked<bool> {
        let Some(found) = found else {
            return broken("whole", format_args!("{spot:?} is torn"));
        };
        if self.unknown.contains_key(&spot.0) || self.damaged.contains(&spot.0) {
            return Ok(false);
        }
        let Some(cell) = self.cells.get_mut(&spot) else {
            return holds(found == 0, "fresh is zero", || {
                format!("{spot:?} was never stored to and holds {found}")
            })
            .map(|()| false);
        };
        if let Some(last) = cell.last {
            return holds(found == last, "last store", || {
                format!("{spot:?} holds {found}, and {last} was stored last")
            })
            .map(|()| false);
        }
        holds(cell.memory.contains(&found), "last store", || {
            format!("{spot:?} holds {found}, and can hold {:?}", cell.memory)
        })?;
        (cell.last, cell.memory) = (Some(found), vec![found]);
        Ok(true)
    }

    /// The same where the device was reset: a line is zero, or what it was as far as that is known.
    pub(crate) fn read_of_lost(&self, spot: Spot, found: Option<u64>) -> Checked {
        let Some(found) = found else {
            return broken("whole", format_args!("{spot:?} is torn"));
        };
        let may_be = self.cells.get(&spot).is_some_and(|cell| match cell.last {
            Some(last) => found == last,
            None => cell.memory.contains(&found),
        });
        holds(found == 0 || may_be, "last store", || {
            format!(
                "{spot:?} holds {found} and was reset: {:?}",
                self.cells.get(&spot)
            )
        })
    }

    /// A segment has so many extents by now; none where it ended.
    pub(crate) fn resized(&mut self, segment: SegmentId, extents: u32) {
        let beyond = (segment, extents, 0)..=(segment, u32::MAX, u32::MAX);
        let gone: Vec<Spot> = self.cells.range(beyond).map(|(&spot, _)| spot).collect();
        for spot in gone {
            self.cells.remove(&spot);
        }
        if extents == 0 {
            self.unknown.remove(&segment);
            self.damaged.remove(&segment);
            self.units.retain(|(of, _), _| *of != segment);
        }
    }

    /// The line behind an address of the host was lost.
    pub(crate) fn poisoned(&mut self, address: u64) {
        self.poisoned.insert(address);
    }

    /// A whole line was written there.
    pub(crate) fn mended(&mut self, address: u64) -> bool {
        self.poisoned.remove(&address)
    }

    /// A reader was told that the line is poisoned.
    pub(crate) fn told_poisoned(&self, address: u64) -> Checked {
        holds(
            self.poisoned.contains(&address),
            "poison is where it was",
            || format!("{address:#x} reads as poisoned and was not"),
        )
    }

    /// A writer of a unit published a mark, or nobody knows what.
    pub(crate) fn published(&mut self, unit: (SegmentId, u32), version: u64, mark: Option<u64>) {
        let published = &mut self.units.entry(unit).or_default().published;
        published.insert(version, mark);
        while published.len() > VERSIONS {
            published.pop_first();
        }
    }

    /// The contents of a unit pass for those of an older version under a newer one.
    pub(crate) fn published_again(&mut self, unit: (SegmentId, u32), older: u64, newer: u64) {
        let known = self.units.get(&unit).map(|unit| &unit.published);
        let mark = match known.and_then(|known| known.get(&older)) {
            Some(mark) => *mark,
            None if known.is_none_or(BTreeMap::is_empty) => Some(0),
            None => None,
        };
        self.published(unit, newer, mark);
    }

    /// A unit is read under a grant of a version, and holds a mark in one of its lines.
    pub(crate) fn unit_read(
        &self,
        unit: (SegmentId, u32),
        version: u64,
        found: Option<u64>,
    ) -> Checked {
        let Some(found) = found else {
            return broken("whole", format_args!("a line of unit {unit:?} is torn"));
        };
        if self.unknown.contains_key(&unit.0) {
            return Ok(());
        }
        let known = self.units.get(&unit).map(|unit| &unit.published);
        let wanted = match known.and_then(|known| known.get(&version)) {
            Some(Some(mark)) => *mark,
            Some(None) => return Ok(()),
            None if known.is_none_or(BTreeMap::is_empty) => 0,
            None => {
                return broken(
                    "unit published",
                    format_args!("unit {unit:?} has version {version}, never published: {known:?}"),
                );
            }
        };
        holds(found == wanted, "unit published", || {
            format!("unit {unit:?} holds {found} in version {version}, which is {wanted}")
        })
    }
}
