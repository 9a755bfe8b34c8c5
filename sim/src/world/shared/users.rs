//! Users of what hosts share: they read and write lines through the caches of their hosts, let go,
//! or die.

use coherence::host::{Change, PeerInput, Right};
use fabric_emu::fabric::AccessError;
use fabric_emu::span::Span;
use pool_core::units::LINE_BYTES;
use pool_core::{Nanos, planted};

use super::{MS, Use, slot_of};
use crate::broken::{Checked, holds};
use crate::world::World;
use crate::world::lines::{SHARED, address};
use crate::world::memory::{line_of, mark_of};

impl World {
    pub(super) fn user_granted(
        &mut self,
        h: usize,
        era: u64,
        (user, extent): (u64, u32),
        right: Right,
        (epoch, version): (u64, u64),
    ) -> Checked {
        let slot = slot_of(h);
        if !self.shared.truth.is_fenced(slot, era) {
            let what = (epoch, version);
            let granted = self
                .shared
                .truth
                .granted((slot, user), extent, right, what)?;
            if granted {
                self.trace
                    .reached("an extent is read that another host wrote");
            }
        }
        // Lines of another version are stale.
        let cached = self.shared.cached[h].insert(extent, version);
        if cached != Some(version) && !planted!("sim.keeps_stale_lines") {
            self.flush_extent(h, extent);
        }
        self.shared.lost[h].remove(&extent);
        let mark = self.mark();
        let used = Use {
            era,
            writes: right == Right::Exclusive,
            version,
            mark,
            written: 0,
        };
        self.shared.uses[h].insert((user, extent), used);
        Ok(())
    }

    pub(super) fn flush_extent(&mut self, h: usize, extent: u32) {
        for line in 0..self.mix.shared_lines {
            self.flush_line(h, address(SHARED, extent, line));
        }
    }

    /// A process asks for an extent.
    pub(in crate::world) fn acquire(&mut self, h: usize, pid: u32, pick: u16) -> Checked {
        let (user, extent) = (u64::from(pid), u32::from(pick / 4) % self.shared.extents);
        let peer = &self.shared.peers[h];
        let waits = peer.waiting(extent).any(|(waiter, _)| waiter == user);
        if waits || self.shared.uses[h].contains_key(&(user, extent)) {
            return Ok(());
        }
        let right = if pick.is_multiple_of(2) {
            Right::Exclusive
        } else {
            Right::Shared
        };
        let patience = 30 * MS + self.rng.below(200 * MS);
        if !self.mix.is_exact {
            let until = self.time(h).saturating_add(Nanos::new(patience));
            self.shared.asked[h].insert((user, extent), until);
        }
        let acquire = PeerInput::Acquire {
            user,
            extent,
            right,
            deadline: self.patience_of(h, patience),
        };
        self.step_peer(h, acquire)
    }

    /// Whoever waited for as long as it would, by the clock of its host, is answered.
    pub(super) fn nobody_waits_too_long(&mut self, h: usize) -> Checked {
        if !self.machines[h].acts() || self.shared.asked[h].is_empty() {
            return Ok(());
        }
        let now = self.time(h);
        let peer = &self.shared.peers[h];
        let waits = |(user, extent): &(u64, u32)| {
            let mut waiting = peer.waiting(*extent);
            waiting.any(|(waiter, _)| waiter == *user)
        };
        let late = self.shared.asked[h]
            .iter()
            .find(|(it, until)| **until <= now && waits(it));
        holds(late.is_none(), "a wait is as long as it was to be", || {
            format!("{late:?} on host {h} waits still, and it is {now:?}")
        })?;
        self.shared.asked[h].retain(|_, until| *until > now);
        Ok(())
    }

    pub(super) fn use_of(&self, h: usize, pid: u32, pick: u16) -> Option<((u64, u32), Use)> {
        let user = u64::from(pid);
        let mine = || self.shared.uses[h].range((user, 0)..=(user, u32::MAX));
        let place = usize::from(pick).checked_rem(mine().count())?;
        mine().nth(place).map(|(&at, &used)| (at, used))
    }

    /// A user writes the next line of an extent, or reads one.
    pub(in crate::world) fn touch(
        &mut self,
        h: usize,
        pid: u32,
        pick: u16,
        choice: u16,
    ) -> Checked {
        match self.use_of(h, pid, pick) {
            Some((at, used)) => self.touch_line(h, at, used, u32::from(choice)),
            None => Ok(()),
        }
    }

    pub(super) fn touch_line(
        &mut self,
        h: usize,
        at: (u64, u32),
        used: Use,
        choice: u32,
    ) -> Checked {
        let (slot, extent) = (slot_of(h), at.1);
        if !used.writes {
            let line = choice % self.mix.shared_lines;
            let loaded = self.lines.load(h, address(SHARED, extent, line));
            self.hear_of_lost();
            self.trace.note(
                "shared-load",
                [h as u64, at.0, u64::from(extent), used.version],
            );
            if self.shared.truth.is_fenced(slot, used.era) {
                return Ok(());
            }
            return match loaded {
                Ok(content) => {
                    let found = mark_of(&content);
                    let truth = &self.shared.truth;
                    truth.read(slot, (extent, line), used.version, found)
                }
                Err(AccessError::Poisoned) => {
                    self.trace.reached("a line is poisoned and told");
                    self.shared.truth.told_poisoned((extent, line))
                }
                Err(_) => Ok(()),
            };
        }
        let line = used.written.min(self.mix.shared_lines - 1);
        let stored = self
            .lines
            .store(h, address(SHARED, extent, line), line_of(used.mark));
        self.hear_of_lost();
        self.trace.note(
            "shared-store",
            [h as u64, at.0, u64::from(extent), used.mark],
        );
        if stored.is_err() {
            return Ok(());
        }
        if let Some(used) = self.shared.uses[h].get_mut(&at) {
            used.written = line + 1;
        }
        Ok(())
    }

    /// The users of a host that wakes go on where they were, before the host hears anything.
    pub(in crate::world) fn users_wake(&mut self, h: usize) -> Checked {
        for ((user, extent), used) in self.shared.uses[h].clone() {
            self.touch_line(h, (user, extent), used, 0)?;
            if self.rng.once_in(2) {
                self.end_use(h, user, extent)?;
            }
        }
        Ok(())
    }

    /// A user ends its use; a writer writes what it has not written yet, and writes back.
    pub(in crate::world) fn release(&mut self, h: usize, pid: u32, pick: u16) -> Checked {
        match self.use_of(h, pid, pick) {
            Some(((user, extent), _)) => self.end_use(h, user, extent),
            None => Ok(()),
        }
    }

    pub(super) fn end_use(&mut self, h: usize, user: u64, extent: u32) -> Checked {
        let at = (user, extent);
        for _ in 0..self.mix.shared_lines {
            match self.shared.uses[h].get(&at).copied() {
                Some(used) if used.writes && (1..self.mix.shared_lines).contains(&used.written) => {
                    self.touch_line(h, at, used, 0)?;
                }
                _ => break,
            }
        }
        let Some(used) = self.shared.uses[h].get(&at).copied() else {
            return Ok(());
        };
        let mut change = Change::None;
        if used.writes && used.written > 0 {
            let reached =
                self.write_extent_back(h, extent) && used.written == self.mix.shared_lines;
            change = if reached {
                Change::Published
            } else {
                Change::Torn
            };
        }
        self.give_up(h, at, used, change)
    }

    /// Writes back what a user wrote. False where it did not reach memory.
    pub(super) fn write_extent_back(&mut self, h: usize, extent: u32) -> bool {
        let lines = self.mix.shared_lines - u32::from(planted!("sim.skips_write_back"));
        for line in 0..lines {
            if let Some(span) = Span::new(address(SHARED, extent, line), LINE_BYTES) {
                self.lines.write_back(h, span, false);
            }
        }
        self.hear_of_lost();
        if self.shared.lost[h].contains(&extent) {
            return false;
        }
        let slot = slot_of(h);
        let era = self.shared.peers[h].member().unwrap_or(0);
        for line in 0..self.mix.shared_lines {
            if !self.shared.truth.is_fenced(slot, era)
                && self.shared.truth.was_poisoned((extent, line))
            {
                self.trace.reached("a poisoned line is written anew");
            }
        }
        true
    }

    pub(super) fn give_up(
        &mut self,
        h: usize,
        at: (u64, u32),
        used: Use,
        change: Change,
    ) -> Checked {
        let (slot, (user, extent)) = (slot_of(h), at);
        self.shared.uses[h].remove(&at);
        if change == Change::Torn && !planted!("sim.leaves_torn_lines") {
            // Before the home hears of it: later they would fall upon what others write.
            self.flush_extent(h, extent);
        }
        if !self.shared.truth.is_fenced(slot, used.era) {
            self.shared.truth.ended((slot, user), extent);
            if change == Change::Published {
                let (version, mark) = (used.version + 1, Some(used.mark));
                self.shared.truth.published(slot, extent, version, mark)?;
                self.shared.cached[h].insert(extent, version);
            }
        }
        let release = PeerInput::Release {
            user,
            extent,
            change,
        };
        self.step_peer(h, release)
    }

    /// A process is killed: what it was writing is torn, and it waits no longer.
    pub(in crate::world) fn user_dies(&mut self, h: usize, pid: u32) -> Checked {
        let user = u64::from(pid);
        for extent in 0..self.shared.extents {
            if let Some(used) = self.shared.uses[h].get(&(user, extent)).copied() {
                let change = if used.writes && used.written > 0 {
                    Change::Torn
                } else {
                    Change::None
                };
                self.give_up(h, (user, extent), used, change)?;
                continue;
            }
            let peer = &self.shared.peers[h];
            if peer.waiting(extent).any(|(waiter, _)| waiter == user) {
                let change = Change::None;
                self.step_peer(
                    h,
                    PeerInput::Release {
                        user,
                        extent,
                        change,
                    },
                )?;
            }
        }
        Ok(())
    }

    /// A host gives back what nobody uses.
    pub(in crate::world) fn drop_extent(&mut self, h: usize, pick: u16) -> Checked {
        let extent = u32::from(pick) % self.shared.extents;
        self.step_peer(h, PeerInput::Drop { extent })
    }

    /// A line of a host did not reach memory.
    pub(in crate::world) fn line_lost(&mut self, h: usize, extent: u32) {
        self.shared.lost[h].insert(extent);
        self.shared.cached[h].remove(&extent);
        let era = self.shared.peers[h].member().unwrap_or(0);
        if self.shared.truth.is_fenced(slot_of(h), era) {
            self.trace.reached("a zombie writes back into nothing");
        }
    }

    /// A line of a shared extent is lost.
    pub(in crate::world) fn poison_shared(&mut self, h: usize, pick: u16) {
        let (extent, line) = (u32::from(pick) % self.shared.extents, u32::from(pick / 16));
        let line = line % self.mix.shared_lines;
        if self.lines.poison(h, address(SHARED, extent, line)) {
            self.trace
                .fault("line-poisoned", [u64::from(extent), u64::from(line), 1, 0]);
            self.shared.truth.poisoned((extent, line));
        }
    }
}
