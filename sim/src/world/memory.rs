//! The lines of segments: in DDR, or in pooled memory through the caches of the host.

use fabric_emu::fabric::AccessError;
use fabric_emu::span::Span;
use pool_core::units::LINE_BYTES;
use pool_core::{BackingId, DeviceId, GroupTag, SegmentId, planted};
use pool_daemon::journal::{Record, Table};

use super::World;
use super::groups::line_key;
use super::lines::{GROUPS, PRIVATE, address, line_at};
use super::machine::{Held, Machine, Transfer};
use crate::broken::Checked;
use crate::oracle::contents::Spot;
use crate::oracle::groups::has;

/// Lines of an extent that anybody writes.
pub(crate) const LINES: u32 = 2;

/// The line that holds a mark; that of mark 0 is zero.
pub(crate) fn line_of(mark: u64) -> [u8; 64] {
    let mut line = [0; 64];
    if mark != 0 {
        for (turn, word) in (0..).zip(line.chunks_exact_mut(8)) {
            word.copy_from_slice(&mark.rotate_left(8 * turn).to_le_bytes());
        }
    }
    line
}

/// The mark that a line holds; `None` where it is torn.
pub(crate) fn mark_of(line: &[u8; 64]) -> Option<u64> {
    let first = line.first_chunk().copied().map(u64::from_le_bytes)?;
    (line_of(first) == *line).then_some(first)
}

/// Where a line of a file is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Ddr(BackingId, usize),
    Pooled(u64),
    /// At an address, if that is of the group of a tag still.
    Group(u64, GroupTag),
}

impl Machine {
    /// Where a process has the line of an extent of what it holds: the file and the extent in it.
    pub(crate) fn find(&self, held: &Held, extent: u32) -> Option<(BackingId, u32)> {
        let mut left = extent;
        for &backing in &held.pieces {
            let count = u32::try_from(self.files.get(&backing)?.extents.len()).ok()?;
            if left < count {
                return Some((backing, left));
            }
            left -= count;
        }
        None
    }

    /// Whether a line of what a process holds is the segment's line, as the journal has it.
    fn is_current(&self, spot: Spot, held: &Held) -> bool {
        let Some((row, (backing, _))) = self.segment_row(spot.0).zip(self.find(held, spot.1))
        else {
            return false;
        };
        let place = held.pieces.iter().position(|id| *id == backing);
        let now = place.and_then(|place| row.backings.get(place));
        row.incarnation == held.incarnation && now == Some(&backing.number())
    }

    /// How many extents a process has of what it holds.
    pub(crate) fn held_extents(&self, held: &Held) -> u32 {
        let pieces = held.pieces.iter().filter_map(|id| self.files.get(id));
        pieces
            .map(|file| u32::try_from(file.extents.len()).unwrap_or(0))
            .sum()
    }

    pub(crate) fn place(&self, backing: BackingId, extent: u32, line: u32) -> Option<Place> {
        let file = self.files.get(&backing)?;
        let of_device = *file.extents.get(usize::try_from(extent).ok()?)?;
        Some(if let Some(tag) = file.group {
            Place::Group(address(GROUPS, of_device, line), tag)
        } else if file.pooled {
            Place::Pooled(address(PRIVATE, of_device, line))
        } else {
            Place::Ddr(backing, usize::try_from(extent * LINES + line).ok()?)
        })
    }

    /// The spot of the segments whose line lies at an address of the host, where one does.
    fn spot_at(&self, at: u64) -> Option<Spot> {
        let (extent, line) = line_at(PRIVATE, at)?;
        self.durable.values().find_map(|record| {
            let Record::Segment(row) = record else {
                return None;
            };
            let mut first = 0;
            for &id in row.backings.iter().filter(|_| !row.freed) {
                let file = self.files.get(&BackingId::new(id)?)?;
                let found = file.extents.iter().position(|&of| of == extent);
                if let Some(found) = found.filter(|_| file.pooled) {
                    let found = u32::try_from(found).ok()?;
                    return Some((SegmentId::new(row.segment_id)?, first + found, line));
                }
                first += u32::try_from(file.extents.len()).ok()?;
            }
            None
        })
    }
}

impl World {
    pub(super) fn is_pooled(&self, h: usize, device: DeviceId) -> bool {
        let row = self.machines[h]
            .durable
            .get(&(Table::Devices, device.number().into()));
        matches!(row, Some(Record::Device(row)) if row.tier == "pooled")
    }

    pub(super) fn is_of_groups(&self, h: usize, device: DeviceId) -> bool {
        let voice = self.machines[h].steward.as_ref();
        voice.is_some_and(|voice| voice.groups == Some(device))
    }

    /// Lines of a host that were written and not written back, by address.
    pub(super) fn unwritten(&self, h: usize) -> Vec<u64> {
        let machine = &self.machines[h];
        let mut lines = self.shared.unwritten(h);
        for (segment, extent, line) in machine.contents.unwritten() {
            let row = machine.segment_row(segment);
            let pieces = row.into_iter().flat_map(|row| &row.backings);
            let mut left = extent;
            for id in pieces.filter_map(|id| BackingId::new(*id)) {
                let file = machine.files.get(&id);
                let count = file.map_or(0, |file| file.extents.len());
                let count = u32::try_from(count).unwrap_or(0);
                if left < count {
                    if let Some(Place::Pooled(at)) = machine.place(id, left, line) {
                        lines.push(at);
                    }
                    break;
                }
                left -= count;
            }
        }
        lines
    }

    /// A new mark.
    pub(super) fn mark(&mut self) -> u64 {
        self.marks += 1;
        self.marks
    }

    pub(super) fn store(&mut self, h: usize, place: Place, mark: u64) -> Result<(), AccessError> {
        match place {
            Place::Ddr(backing, line) => {
                let file = self.machines[h].files.get_mut(&backing);
                if let Some(line) = file.and_then(|file| file.ddr.get_mut(line)) {
                    *line = mark;
                }
                Ok(())
            }
            Place::Group(at, tag) if !self.lines.is_of_group(h, at, tag) => {
                Err(AccessError::Unreachable)
            }
            Place::Pooled(at) | Place::Group(at, _) => {
                let done = self.lines.store(h, at, line_of(mark));
                self.hear_of_lost();
                if done == Err(AccessError::Unreachable) {
                    self.trace.reached("a link is down under an access");
                }
                done
            }
        }
    }

    /// The mark in a line; `None` where it is torn.
    pub(super) fn load(&mut self, h: usize, place: Place) -> Result<Option<u64>, AccessError> {
        match place {
            Place::Ddr(backing, line) => {
                let file = self.machines[h].files.get(&backing);
                Ok(file.and_then(|file| file.ddr.get(line)).copied())
            }
            Place::Group(at, tag) if !self.lines.is_of_group(h, at, tag) => {
                Err(AccessError::Unreachable)
            }
            Place::Pooled(at) | Place::Group(at, _) => {
                let loaded = self.lines.load(h, at);
                self.hear_of_lost();
                if loaded == Err(AccessError::Unreachable) {
                    self.trace.reached("a link is down under an access");
                }
                loaded.map(|line| mark_of(&line))
            }
        }
    }

    /// Lines that did not reach memory are as if their cache had died.
    pub(super) fn hear_of_lost(&mut self) {
        for (h, at) in self.lines.take_lost() {
            self.trace.note("lost", [h as u64, at, 0, 0]);
            // The line is in no cache then, so that a reader looks at memory.
            if let Some(span) = Span::new(at, LINE_BYTES) {
                self.lines.write_back(h, span, true);
            }
            if at >= GROUPS {
                self.groups.lost(h, at);
                continue;
            }
            if let Some((extent, _)) = line_at(super::lines::SHARED, at) {
                self.line_lost(h, extent);
                continue;
            }
            let Some(machine) = self.machines.get_mut(h) else {
                continue;
            };
            if let Some(spot) = machine.spot_at(at) {
                machine.contents.unsettled(spot);
            }
        }
    }

    /// Zeroes extents behind an address of a host, through its caches. False where one cannot be.
    pub(super) fn zero(&mut self, h: usize, (base, extents): (u64, &[u32])) -> bool {
        if planted!("sim.hands_out_what_was_there") {
            return true;
        }
        for &extent in extents {
            for line in 0..LINES {
                let at = address(base, extent, line);
                if self.store(h, Place::Pooled(at), 0).is_err() {
                    return false;
                }
                self.flush_line(h, at);
                if self.load(h, Place::Pooled(at)) != Ok(Some(0)) {
                    return false;
                }
                self.machines[h].contents.mended(at);
            }
        }
        true
    }

    pub(super) fn flush_line(&mut self, h: usize, at: u64) {
        if let Some(span) = Span::new(at, LINE_BYTES) {
            self.lines.write_back(h, span, true);
            self.hear_of_lost();
        }
    }

    /// Copies some files, end to end, into others. False where it cannot be done.
    pub(super) fn copy_lines(&mut self, h: usize, transfer: &Transfer) -> bool {
        let machine = &self.machines[h];
        let spots = |files: &[BackingId]| {
            let mut spots = Vec::new();
            for &id in files {
                let count = machine.files.get(&id).map_or(0, |file| file.extents.len());
                let count = u32::try_from(count).unwrap_or(0);
                spots.extend((0..count).map(|extent| (id, extent)));
            }
            spots
        };
        let (from, to) = (spots(&transfer.from), spots(&transfer.to));
        if from.is_empty() {
            return true;
        }
        for ((source, place), (target, into)) in from.into_iter().zip(to) {
            for line in 0..LINES {
                let machine = &self.machines[h];
                let source = machine.place(source, place, line);
                let Some((source, target)) = source.zip(machine.place(target, into, line)) else {
                    return false;
                };
                let Ok(Some(mark)) = self.load(h, source) else {
                    return false;
                };
                if self.store(h, target, mark).is_err() {
                    return false;
                }
                // A copy is in memory before the segment is there.
                if let Place::Pooled(at) = target {
                    self.flush_line(h, at);
                    if self.load(h, target) != Ok(Some(mark)) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// A holder writes a line of a segment.
    pub(super) fn write(&mut self, h: usize, pid: u32, pick: u16, choice: u16) -> Checked {
        let Some((spot, place, held)) = self.choose_line(h, pid, pick, choice) else {
            return Ok(());
        };
        if held.access != pool_proto::common::v1::Access::ReadWrite || held.slot.is_some() {
            return Ok(());
        }
        // As for a stale mapping: whose session was given up is trusted to write no group any more,
        // which somebody else of its tenant may have sealed meanwhile.
        if matches!(place, Place::Group(..)) && self.machines[h].gave_up(pid) {
            return Ok(());
        }
        let mark = self.mark();
        self.trace
            .note("stored", [h as u64, pid.into(), spot.0.number(), mark]);
        let stored = self.store(h, place, mark);
        if let Place::Group(at, tag) = place {
            return match self.groups.spot(tag, spot.1, spot.2) {
                Some(spot) if stored.is_ok() => self.groups.stored((h, at), tag, spot, mark),
                _ => Ok(()),
            };
        }
        let machine = &mut self.machines[h];
        if stored.is_ok() && machine.is_current(spot, &held) {
            machine.contents.stored(spot, mark);
            if let Place::Ddr(..) = place {
                machine.contents.written_back(spot);
            }
        }
        Ok(())
    }

    /// A holder reads a line of a segment.
    pub(super) fn read(&mut self, h: usize, pid: u32, pick: u16, choice: u16) -> Checked {
        let Some((spot, place, held)) = self.choose_line(h, pid, pick, choice) else {
            return Ok(());
        };
        if let Place::Group(_, tag) = place {
            return self.read_group((h, pid), (tag, place), spot);
        }
        let machine = &self.machines[h];
        if held.slot.is_some() || !machine.is_current(spot, &held) {
            return Ok(());
        }
        let found = match self.load(h, place) {
            Ok(found) => found,
            Err(AccessError::Poisoned) => {
                if let Place::Pooled(at) = place {
                    self.machines[h].contents.told_poisoned(at)?;
                    self.trace.reached("a line is poisoned and told");
                }
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        self.trace.note(
            "loaded",
            [h as u64, pid.into(), spot.0.number(), found.unwrap_or(0)],
        );
        if self.machines[h].contents.read(spot, found)? {
            self.trace.reached("a line is read after its host died");
        }
        Ok(())
    }

    /// A holder reads a line of a group.
    fn read_group(
        &mut self,
        (h, pid): (usize, u32),
        (tag, place): (GroupTag, Place),
        spot: Spot,
    ) -> Checked {
        let Some(spot) = self.groups.spot(tag, spot.1, spot.2) else {
            return Ok(());
        };
        let found = match self.load(h, place) {
            Ok(found) => found,
            Err(AccessError::Poisoned) => {
                self.trace.reached("a line of a group is poisoned and told");
                return self.groups.contents.told_poisoned(line_key(spot));
            }
            Err(_) => return Ok(()),
        };
        let numbers = [
            h as u64,
            spot.0.number(),
            u64::from(spot.2),
            found.unwrap_or(0),
        ];
        self.trace.note("group-load", numbers);
        if self.groups.is_lost(tag) {
            self.trace.reached("a group is read that was reset");
        }
        let machine = &self.machines[h];
        let process = machine.processes.get(&pid);
        let is_connected = process.is_some_and(|process| process.connected);
        let is_told = is_connected && machine.engine.is_some();
        self.groups.read((h, is_told), (tag, spot), found)?;
        let Some(maker) = self.groups.maker(tag).filter(|maker| *maker != h) else {
            return Ok(());
        };
        if found.is_some_and(|found| found != 0) {
            self.trace.reached("a group is read on another host");
        }
        if !self.machines[maker].alive {
            self.trace.reached("a group is read whose maker is dead");
        }
        if !has(&self.machines[maker].durable, tag) {
            self.trace
                .reached("a group is read that its maker has no more");
        }
        Ok(())
    }

    /// A line of a segment that a process holds.
    pub(super) fn choose_line(
        &self,
        h: usize,
        pid: u32,
        pick: u16,
        choice: u16,
    ) -> Option<(Spot, Place, Held)> {
        let machine = &self.machines[h];
        let process = machine.processes.get(&pid)?;
        if !process.is_answered {
            return None; // What it asked may have moved it.
        }
        let held = || process.held.iter().filter(|(_, held)| held.part.is_none());
        let place = usize::from(pick).checked_rem(held().count())?;
        let (&segment, held) = held().nth(place)?;
        let choice = u32::from(choice);
        let extent = (choice / LINES).checked_rem(machine.held_extents(held))?;
        let (backing, at) = machine.find(held, extent)?;
        let line = choice % LINES;
        let place = machine.place(backing, at, line)?;
        Some(((segment, extent, line), place, held.clone()))
    }

    /// A process writes through a mapping of what it holds no more. Whoever is right sees nothing
    /// of it.
    pub(super) fn write_stale(&mut self, h: usize, pid: u32, pick: u16) -> Checked {
        let machine = &self.machines[h];
        let Some(process) = machine.processes.get(&pid) else {
            return Ok(());
        };
        // What is in use may be written by whoever had it to write: tenants trust their own.
        let stale = |id: &BackingId| match machine.durable.get(&(Table::Backings, id.number())) {
            Some(Record::Backing(row)) => row.charged_tenant_id != 0,
            _ => true,
        };
        // Of a group nobody here proves that it is gone: its tenant is trusted to write it no more.
        let is_group = |id: &BackingId| {
            let file = machine.files.get(id);
            file.is_some_and(|file| file.group.is_some())
        };
        let mapped = process.mapped.keys().copied();
        let stale = mapped.filter(|id| stale(id) && !is_group(id));
        let stale: Vec<BackingId> = stale.collect();
        let place = usize::from(pick).checked_rem(stale.len());
        let Some(backing) = place.and_then(|place| stale.get(place)) else {
            return Ok(());
        };
        // A read-only mapping stores nothing; of others it is known that they were to be written.
        let place = machine.place(*backing, 0, u32::from(pick) % LINES);
        if let (Some(place), true) = (place, process.wrote.contains(backing)) {
            let mark = self.mark();
            self.trace.reached("a stale mapping is stored through");
            // Whether it reaches anything is nobody's concern.
            let _stored = self.store(h, place, mark);
        }
        Ok(())
    }

    /// The host writes back what it wrote of a segment that a process holds.
    pub(super) fn write_back(&mut self, h: usize, pid: u32, pick: u16) -> Checked {
        let Some((first, _, held)) = self.choose_line(h, pid, pick, 0) else {
            return Ok(());
        };
        for extent in 0..self.machines[h].held_extents(&held) {
            for line in 0..LINES {
                let machine = &self.machines[h];
                let found = machine.find(&held, extent);
                let place = found.and_then(|(id, at)| machine.place(id, at, line));
                let (at, tag) = match place {
                    Some(Place::Pooled(at)) => (at, None),
                    Some(Place::Group(at, tag)) => (at, Some(tag)),
                    _ => continue,
                };
                if let Some(span) = Span::new(at, LINE_BYTES) {
                    self.lines.write_back(h, span, false);
                    self.hear_of_lost();
                }
                if let Some(spot) = tag.and_then(|tag| self.groups.spot(tag, extent, line)) {
                    self.groups.contents.written_back(spot);
                    continue;
                }
                let machine = &mut self.machines[h];
                machine.contents.written_back((first.0, extent, line));
            }
        }
        Ok(())
    }
}
