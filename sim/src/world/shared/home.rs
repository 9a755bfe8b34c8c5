//! The home of what hosts share, and the duties of its driver: its journal, fencing, and the
//! mending of what was lost.

use coherence::host::{Home, HomeInput, HomeOutput, State};

use super::{Later, MS, key, slot_of};
use crate::broken::{Checked, broken, holds};
use crate::world::World;
use crate::world::lines::{SHARED, address};
use crate::world::memory::line_of;

impl World {
    pub(super) fn home_born(&mut self) -> Checked {
        if self.shared.home.is_some() {
            return Ok(());
        }
        let limits = self.shared.limits();
        let rows = self.shared.journal.values().cloned();
        let (home, outputs) = match Home::recover(self.time(0), limits, rows) {
            Ok(born) => born,
            Err(error) => return broken("a home starts from its journal", error),
        };
        self.shared.home = Some(home);
        self.perform_home(outputs);
        Ok(())
    }

    /// The home dies, or its host does.
    pub(in crate::world) fn home_dies(&mut self) {
        if self.shared.home.take().is_some() {
            self.trace.fault("home-death", [0; 4]);
            let span = self.rng.below(40 * MS);
            self.after(span, Later::HomeBorn);
        }
    }

    /// The home dies within its next step.
    pub(in crate::world) fn arm_home(&mut self, outputs: usize) {
        self.shared.armed = Some(outputs);
    }

    pub(super) fn step_home(&mut self, input: HomeInput) -> Checked {
        let now = self.time(0);
        let Some(home) = self.shared.home.as_mut() else {
            return Ok(());
        };
        let mut outputs = home.step(now, input);
        if let Err(found) = home.check() {
            return broken("the home is sound", found);
        }
        self.trace
            .note("home", [outputs.len() as u64, now.get(), 0, 0]);
        self.noted.home(outputs.len());
        let dies = self.shared.loss_of_step().filter(|_| !self.heals);
        if let Some(count) = dies {
            if count > 0 && count < outputs.len() {
                self.trace.reached("the home dies between its outputs");
            }
            outputs.truncate(count);
        }
        self.perform_home(outputs);
        if dies.is_some() {
            self.home_dies();
        }
        Ok(())
    }

    pub(super) fn perform_home(&mut self, outputs: Vec<HomeOutput>) {
        for output in outputs {
            match output {
                HomeOutput::Record(record) => {
                    self.shared.journal.insert(key(&record), record);
                }
                HomeOutput::Send(message) => self.post_message(Later::ToPeer(message)),
                HomeOutput::Lost { extent, .. } => {
                    self.trace.note("extent-lost", [u64::from(extent), 0, 0, 0]);
                    self.trace.reached("an extent is lost with its host");
                    let span = self.rng.below(30 * MS);
                    self.after(span, Later::Mend(extent));
                }
                HomeOutput::Suspect { host, era } => {
                    let span = self.rng.below(20 * MS);
                    self.after(span, Later::Condemn(host, era));
                }
                HomeOutput::Fence { host, era } => {
                    let span = self.rng.below(10 * MS);
                    self.after(span, Later::Fence(host, era));
                }
                HomeOutput::Refused(_) => self.trace.reached("a late message is refused"),
            }
        }
    }

    /// A host that was condemned is cut off, and the home is told.
    pub(super) fn fence(&mut self, host: u8, era: u64) -> Checked {
        let home = self.shared.home.as_ref();
        let is_due = home.is_some_and(|home| home.condemned(host) == Some(era));
        if is_due && self.home_acts() && self.lines.fence(usize::from(host)).is_ok() {
            self.hear_of_lost();
            self.trace
                .fault("host-fenced", [u64::from(host), era, 0, 0]);
            self.shared.truth.fenced(host, era);
            self.step_home(HomeInput::HostFenced { host, era })?;
        }
        let home = self.shared.home.as_ref();
        if home.is_none_or(|home| home.condemned(host) == Some(era)) {
            self.after(20 * MS, Later::Fence(host, era));
        }
        Ok(())
    }

    /// Condemns a host that lives, or lived.
    pub(in crate::world) fn condemn(&mut self, h: usize, within: u64) {
        if let Some(era) = self.shared.peers[h].member() {
            let span = self.rng.below(within.max(1));
            self.after(span, Later::Condemn(slot_of(h), era));
        }
    }

    /// A lost extent is repaired from a copy, or accepted as it is.
    pub(super) fn mend(&mut self, extent: u32) -> Checked {
        let row = self
            .shared
            .home
            .as_ref()
            .and_then(|home| home.extent(extent));
        let Some(row) = row.filter(|_| self.home_acts()) else {
            self.after(10 * MS, Later::Mend(extent));
            return Ok(());
        };
        let State::Lost { last_good } = row.state else {
            return Ok(());
        };
        if self.rng.once_in(4) {
            let version = if self.rng.once_in(2) {
                last_good + 1
            } else {
                last_good.saturating_sub(1)
            };
            if version != last_good {
                self.step_home(HomeInput::Repaired { extent, version })?;
            }
            let home = self.shared.home.as_ref();
            let state = home
                .and_then(|home| home.extent(extent))
                .map(|row| row.state);
            let is_taken = !matches!(state, Some(State::Lost { .. }) | None);
            holds(!is_taken, "only the last good copy repairs", || {
                format!("extent {extent}, lost after {last_good}, took version {version}")
            })?;
            if state.is_none() {
                self.after(10 * MS, Later::Mend(extent));
                return Ok(());
            }
        }
        let copy = self.shared.truth.content(extent, last_good);
        let copy = copy.filter(|_| self.rng.below(100) >= 30);
        let Some(mark) = copy else {
            self.trace.reached("an extent is accepted as it is");
            self.shared.truth.published(0, extent, row.version, None)?;
            return self.step_home(HomeInput::Accepted { extent });
        };
        for line in 0..self.mix.shared_lines {
            let at = address(SHARED, extent, line);
            self.flush_line(0, at);
            let stored = self.lines.store(0, at, line_of(mark));
            self.flush_line(0, at);
            let is_there = self
                .lines
                .load(0, at)
                .is_ok_and(|line| line == line_of(mark));
            self.hear_of_lost();
            if stored.is_err() || !is_there {
                self.after(10 * MS, Later::Mend(extent));
                return Ok(());
            }
        }
        self.trace.reached("an extent is repaired");
        self.shared.cached[0].remove(&extent);
        self.shared
            .truth
            .published(0, extent, row.version, Some(mark))?;
        let version = last_good;
        self.step_home(HomeInput::Repaired { extent, version })
    }
}
