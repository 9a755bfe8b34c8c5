//! Which segments of a host the chunks of its heap are, where each of them lies in the memory of
//! the simulator, and what the process that acts wants the daemon to do.
//!
//! A segment has a place from when a process first has it in the heap until it has ended and every
//! process has let go of it. Which address the daemon gave it is not looked at: that no two have
//! the same is for the rules of the engine.

use std::collections::{BTreeMap, BTreeSet};

use allocator::pool::GroundError;
use pool_core::SegmentId;

use super::memory::PLACES;

/// What a process asks of the daemon when its act is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A chunk of a number, in a tier; where somebody has made it, that.
    Make(usize, String),
    /// The chunk of a number.
    Open(usize),
    /// Its end, for everybody.
    Free(SegmentId),
    /// It holds it no more.
    Close(SegmentId),
}

/// Where a segment lies.
#[derive(Debug, Clone, Default)]
struct Place {
    index: usize,
    number: usize,
    kept_by: BTreeSet<u32>,
    /// It was told to a heap that wanted memory under its number.
    is_added: bool,
    /// Who has given it back: it is freed, unless that process dies before it asks for it.
    given_back_by: Option<u32>,
    /// Why it may be in no table, where nobody has mapped it since.
    left: Option<Left>,
    /// Somebody who had it died while he added or removed memory, since it was added last.
    is_died_over: bool,
    is_over: bool,
}

/// Why a chunk may be in no table and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Whoever added it died in that act.
    DiedOver,
    /// It could not be given back.
    NotGiven,
    /// Whoever was to add it, or to give it back for somebody who died, could not map it.
    NotHad,
}

impl Place {
    /// It may stay although it is in no table: somebody died over it, or it could not be given
    /// back.
    fn may_stay(&self) -> bool {
        match self.left {
            Some(Left::DiedOver | Left::NotGiven) => true,
            Some(Left::NotHad) => self.is_died_over,
            None => false,
        }
    }

    fn leave(&mut self, why: Left) {
        self.left = self.left.or(Some(why));
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    places: BTreeMap<SegmentId, Place>,
    /// Of the process that acts: which segments it holds, by the numbers of chunks.
    pub(crate) offered: BTreeMap<usize, SegmentId>,
    /// The daemon would answer it.
    pub(crate) reaches_daemon: bool,
    /// It waits for no answer, and may ask.
    pub(crate) may_ask: bool,
    pub(crate) wishes: Vec<Wish>,
    /// What the act that is under way has added.
    adds: Vec<SegmentId>,
    /// Numbers under which a chunk was given back.
    used: BTreeSet<usize>,
    /// Such a number was used anew.
    pub(crate) is_used_anew: bool,
}

impl Book {
    /// Another act begins.
    pub(crate) fn begin(&mut self, offered: BTreeMap<usize, SegmentId>) {
        self.offered = offered;
        self.wishes.clear();
        self.adds.clear();
    }

    /// The process that acts has died.
    pub(crate) fn died(&mut self, pid: u32) {
        for segment in self.adds.drain(..) {
            if let Some(place) = self.places.get_mut(&segment) {
                place.left = Some(Left::DiedOver);
            }
        }
        let kept = self.places.values_mut();
        let kept = kept.filter(|place| place.kept_by.contains(&pid));
        kept.for_each(|place| place.is_died_over = true);
    }

    /// A process keeps a segment: its place, and whether it is new, and so has to be emptied.
    pub(crate) fn keep(
        &mut self,
        (segment, number): (SegmentId, usize),
        pid: u32,
    ) -> Option<(usize, bool)> {
        let is_known = self.places.contains_key(&segment);
        let taken: BTreeSet<usize> = self.places.values().map(|place| place.index).collect();
        let free = (0..PLACES).find(|index| !taken.contains(index));
        let index = if is_known { Some(0) } else { free }?;
        let new = || Place {
            index,
            ..Place::default()
        };
        let place = self.places.entry(segment).or_insert_with(new);
        place.kept_by.insert(pid);
        (place.number, place.left) = (number, None);
        Some((place.index, !is_known))
    }

    /// The heap has the memory under this number from here on, or is about to.
    pub(crate) fn added(&mut self, number: usize) {
        self.is_used_anew |= self.used.contains(&number);
        let Some(segment) = self.offered.get(&number) else {
            return;
        };
        if let Some(place) = self.places.get_mut(segment) {
            (place.is_added, place.given_back_by) = (true, None);
            place.is_died_over = false;
            self.adds.push(*segment);
        }
    }

    fn at(&mut self, index: usize) -> Option<(SegmentId, &mut Place)> {
        let mut places = self.places.iter_mut();
        let found = places.find(|(_, place)| place.index == index);
        found.map(|(segment, place)| (*segment, place))
    }

    /// A process has the place mapped no more.
    pub(crate) fn let_go(&mut self, index: usize, pid: u32) {
        let Some((segment, place)) = self.at(index) else {
            return;
        };
        place.kept_by.remove(&pid);
        if !place.is_over && place.given_back_by.is_none() {
            self.wishes.push(Wish::Close(segment));
        }
        self.forget_unkept();
    }

    /// Has the segment at a place be freed once the act is over.
    pub(crate) fn give_back(
        &mut self,
        (number, index): (usize, usize),
        pid: u32,
    ) -> Result<(), GroundError> {
        let may_ask = self.may_ask;
        let Some((segment, place)) = self.at(index) else {
            return Err(GroundError::new(format!("chunk {number} has no segment")));
        };
        if place.is_over {
            return Ok(()); // Somebody else was faster.
        }
        if !may_ask {
            return Err(GroundError::new("this process waits for an answer"));
        }
        place.given_back_by = Some(pid);
        self.offered.retain(|_, offered| *offered != segment);
        self.used.insert(number);
        self.wishes.push(Wish::Free(segment));
        Ok(())
    }

    /// The segment at a place could not be given back: it is in no table.
    pub(crate) fn leave(&mut self, index: usize) {
        if let Some((_, place)) = self.at(index) {
            place.left = Some(Left::NotGiven);
        }
    }

    /// Chunk `number` could not be had: who was to give it back, or to add it, lets it be.
    pub(crate) fn leave_number(&mut self, number: usize) {
        let places = self.places.values_mut();
        let of_it = places.filter(|place| place.number == number);
        of_it.for_each(|place| place.leave(Left::NotHad));
    }

    /// The heap has ended: its chunks are in no table.
    pub(crate) fn leave_all(&mut self) {
        self.places
            .values_mut()
            .for_each(|place| place.left = Some(Left::DiedOver));
    }

    /// A process is gone, with its mappings.
    pub(crate) fn forget(&mut self, pid: u32) {
        for place in self.places.values_mut() {
            place.kept_by.remove(&pid);
        }
        self.forget_unkept();
    }

    /// A segment has ended: the place that it had, which is zeros from now on, and whether a heap
    /// had memory in it, and had it in its table for sure.
    pub(crate) fn ended(&mut self, segment: SegmentId) -> Option<(usize, bool, bool)> {
        let place = self.places.get_mut(&segment)?;
        place.is_over = true;
        let was_used = place.is_added && place.given_back_by.is_none();
        let is_known = place.left.is_none() && !place.is_died_over;
        let told = (place.index, was_used, was_used && is_known);
        self.forget_unkept();
        Some(told)
    }

    fn forget_unkept(&mut self) {
        let is_kept = |place: &Place| !place.is_over || !place.kept_by.is_empty();
        self.places.retain(|_, place| is_kept(place));
    }

    /// A process that has no heap keeps none of its memory: one that does, where there is one.
    pub(crate) fn kept_by_others(&self, who_has_it: &[u32]) -> Option<u32> {
        let keepers = self.places.values().flat_map(|place| &place.kept_by);
        let mut others = keepers.filter(|pid| !who_has_it.contains(pid));
        others.next().copied()
    }

    /// The segment that stays under a number, in no table.
    pub(crate) fn left_under(&self, number: usize) -> Option<SegmentId> {
        let mut places = self.places.iter();
        let found = places.find(|(_, place)| {
            place.number == number && place.is_added && !place.is_over && place.may_stay()
        });
        found.map(|(segment, _)| *segment)
    }

    /// Whether any segment is a chunk in the table of a heap now, or was given back by a process,
    /// and is there.
    pub(crate) fn has_chunks(&self, pid: u32) -> bool {
        let mut places = self
            .places
            .values()
            .filter(|place| !place.is_over && !place.may_stay());
        places.any(|place| place.is_added && place.given_back_by.is_none_or(|by| by == pid))
    }
}
