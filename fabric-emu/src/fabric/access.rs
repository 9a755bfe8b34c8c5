//! Loads, stores and write-backs, as a host's processor does them.

use std::collections::VecDeque;

use pool_core::planted;
use pool_core::units::LINE_BYTES;

use super::event::{AccessError, Effect};
use super::time::{Access, Direction, Kind};
use super::{Fabric, Host, Physical, Window};
use crate::cache::Cached;
use crate::cci::events::EventLog;
use crate::id::{HostId, LdId, MemdevId};
use crate::media::Line;
use crate::memdev::Found;
use crate::span::Span;
use crate::timing::Picos;

/// Ranges that the decoders of a host lead on.
const MOST_WINDOWS: usize = 32;

/// Where an access goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) at: Physical,
    pub(super) ld: LdId,
    is_coherent: bool,
    pub(super) is_read_only: bool,
    /// What is asked gets there, and no answer gets back.
    pub(super) is_unanswered: bool,
}

const fn lost(host: HostId, line: &Cached, why: AccessError) -> Effect {
    Effect::Lost {
        host,
        address: line.address,
        why,
    }
}

const fn line_of(address: u64) -> u64 {
    address / LINE_BYTES * LINE_BYTES
}

impl Fabric {
    pub(super) fn map(
        &mut self,
        host: HostId,
        span: Span,
        (memdev, ld, address): (MemdevId, LdId, u64),
    ) -> Effect {
        if !self.reaches(host, memdev, ld) {
            return Effect::Failed(AccessError::Unreachable);
        }
        let Some(host) = self
            .hosts
            .get_mut(host.index())
            .filter(|host| host.is_alive)
        else {
            return Effect::Failed(AccessError::Dead);
        };
        let there = |start: u64, bytes| Span::new(start, bytes);
        let (here, behind) = (there(span.start, span.bytes), there(address, span.bytes));
        let (Some(here), Some(behind)) = (here, behind) else {
            return Effect::Failed(AccessError::BadRange);
        };
        // Neither addresses of the host nor memory is mapped twice.
        let is_taken = host.windows.iter().any(|(&start, it)| {
            let is_same = (it.memdev, it.ld) == (memdev, ld);
            let memory = there(it.address, it.bytes).filter(|_| is_same);
            there(start, it.bytes)
                .and_then(|it| it.common(here))
                .is_some()
                || memory.and_then(|memory| memory.common(behind)).is_some()
        });
        let is_one_too_many = host.windows.len() >= MOST_WINDOWS;
        let is_crooked = !span.is_of(LINE_BYTES) || !address.is_multiple_of(LINE_BYTES);
        if is_taken || is_one_too_many || is_crooked {
            return Effect::Failed(AccessError::BadRange);
        }
        let mapped: u64 = host.windows.values().map(|it| it.bytes).sum();
        if mapped.saturating_add(span.bytes) > host.addresses {
            return Effect::Failed(AccessError::NoAddresses);
        }
        let window = Window {
            bytes: span.bytes,
            memdev,
            ld,
            address,
        };
        host.windows.insert(span.start, window);
        Effect::Done
    }

    pub(super) fn unmap(&mut self, host: HostId, start: u64) -> Effect {
        let host = self.hosts.get_mut(host.index());
        match host.and_then(|host| host.windows.remove(&start)) {
            Some(_) => Effect::Done,
            None => Effect::Failed(AccessError::Unmapped),
        }
    }

    pub(super) fn load(&mut self, host: HostId, address: u64, effects: &mut Vec<Effect>) {
        let address = line_of(address);
        let here = self
            .living(host)
            .map(|it| it.cache.get(address).map(|line| line.content));
        let done = match here {
            Ok(Some(content)) => Ok((content, true, self.times.hit)),
            Ok(None) => self
                .fetch(host, address, effects)
                .map(|(content, end)| (content, false, end.saturating_sub(self.now))),
            Err(error) => Err(error),
        };
        effects.push(match done {
            Ok((content, is_hit, took)) => Effect::Loaded {
                content,
                is_hit,
                took,
            },
            Err(error) => Effect::Failed(error),
        });
    }

    pub(super) fn store(
        &mut self,
        host: HostId,
        address: u64,
        content: Line,
        effects: &mut Vec<Effect>,
    ) {
        let done = self.write(host, line_of(address), content, effects);
        effects.push(done.map_or_else(Effect::Failed, |took| Effect::Written { took }));
    }

    fn write(
        &mut self,
        host: HostId,
        address: u64,
        content: Line,
        effects: &mut Vec<Effect>,
    ) -> Result<Picos, AccessError> {
        let hit = self.times.hit;
        let it = self.living_mut(host)?;
        // One that was written is this host's to write.
        if it.cache.get(address).is_some_and(|line| line.is_dirty) {
            // It takes the place of the line that is there.
            let _none = it.cache.put(Cached {
                address,
                content,
                is_dirty: true,
            });
            return Ok(hit);
        }
        let is_here = it.cache.get(address).is_some();
        let target = self.target(host, address)?;
        if target.is_read_only {
            return Err(AccessError::ReadOnly);
        }
        let mut ready = Picos::ZERO;
        if target.is_coherent && !planted!("fabric.writes_what_others_read") {
            ready = self.take_back(target, host, true, effects);
        }
        let took = if is_here && !target.is_coherent {
            hit
        } else {
            let end = self.timed(host, target, (Kind::Read, self.now, ready));
            if target.is_unanswered {
                return Err(AccessError::TimedOut);
            }
            end.saturating_sub(self.now)
        };
        let line = Cached {
            address,
            content,
            is_dirty: true,
        };
        self.keep(host, line, target, effects);
        Ok(took)
    }

    /// Has a line in the caches of a host, from memory; and when it is there.
    fn fetch(
        &mut self,
        host: HostId,
        address: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(Line, Picos), AccessError> {
        let target = self.target(host, address)?;
        let mut ready = Picos::ZERO;
        if target.is_coherent && !planted!("fabric.reads_past_who_wrote") {
            ready = self.take_back(target, host, false, effects);
        }
        let end = self.timed(host, target, (Kind::Read, self.now, ready));
        let (memdev, physical) = target.at;
        let device = self
            .memdevs
            .get_mut(memdev.index())
            .ok_or(AccessError::Unreachable)?;
        let content = device.media_mut().fetch(physical);
        if content.is_err() {
            device.tell_bad(self.now, (physical, Found::Read), EventLog::Failure);
        }
        if target.is_unanswered {
            return Err(AccessError::TimedOut);
        }
        let content = content.map_err(|_| AccessError::Poisoned)?;
        let line = Cached {
            address,
            content,
            is_dirty: false,
        };
        self.keep(host, line, target, effects);
        Ok((content, end))
    }

    /// Puts a line into the caches of a host; what makes room for it is written to memory.
    fn keep(&mut self, host: HostId, line: Cached, target: Target, effects: &mut Vec<Effect>) {
        let Some(it) = self.hosts.get_mut(host.index()) else {
            return;
        };
        let evicted = it.cache.put(line);
        if it.origins.get(&line.address) != Some(&target.at) || !target.is_coherent {
            // Another line was at this address.
            self.left(host, line.address);
        }
        let Some(it) = self.hosts.get_mut(host.index()) else {
            return;
        };
        if target.is_coherent {
            it.origins.insert(line.address, target.at);
            self.directory
                .entry(target.at)
                .or_default()
                .insert(host, line.address);
        }
        if let Some(evicted) = evicted {
            self.left(host, evicted.line.address);
            if evicted.is_written {
                self.write_out(host, &evicted.line, self.now, effects);
            }
        }
    }

    /// Has other hosts write back a line that they wrote, and let go of it where it is about to be
    /// written. When the device has it back, for an access of `but`. A host that the device does
    /// not reach lets go of the line: what it wrote is lost.
    fn take_back(
        &mut self,
        of: Target,
        but: HostId,
        is_written: bool,
        effects: &mut Vec<Effect>,
    ) -> Picos {
        let mut ready = Picos::ZERO;
        let holders = self.directory.get(&of.at).cloned().unwrap_or_default();
        for (host, address) in holders.into_iter().filter(|(host, _)| *host != but) {
            let target = self.target(host, address);
            let is_cut_off = target.is_err() && !planted!("fabric.has_lines_back_over_no_link");
            let Some(it) = self.hosts.get_mut(host.index()) else {
                continue;
            };
            let lets_go = is_written || is_cut_off;
            let line = if lets_go {
                it.cache.drop_line(address).filter(|line| line.is_dirty)
            } else {
                it.cache.clean(address)
            };
            if let Ok(target) = target
                && (line.is_some() || is_written)
            {
                ready = ready.max(self.given_back((but, of), (host, target), line.is_some()));
            }
            match (line, target) {
                (Some(line), Ok(target)) if target.is_read_only => {
                    effects.push(lost(host, &line, AccessError::ReadOnly));
                }
                (Some(line), Ok(target)) => self.put(target, &line),
                (Some(line), Err(why)) => effects.push(lost(host, &line, why)),
                (None, _) => {}
            }
            if lets_go {
                self.left(host, address);
            }
        }
        ready
    }

    /// When a device has a line back from a host, for an access of another one.
    fn given_back(
        &mut self,
        (asking, of): (HostId, Target),
        (host, target): (HostId, Target),
        is_dirty: bool,
    ) -> Picos {
        let (memdev, physical) = target.at;
        let ways = |host: HostId, ld| self.reached.get(host.index())?.get(&(memdev, ld));
        let (Some(asking), Some(way)) = (ways(asking, of.ld), ways(host, target.ld)) else {
            return Picos::ZERO;
        };
        let access = Access {
            kind: Kind::Write,
            ld: (memdev, target.ld),
            physical,
            at: self.times.arrival(self.now, asking),
            ready: Picos::ZERO,
        };
        self.times.give_back(self.now, way, access, is_dirty)
    }

    /// When an access of a host is over that is made at a time.
    fn timed(
        &mut self,
        host: HostId,
        target: Target,
        (kind, at, ready): (Kind, Picos, Picos),
    ) -> Picos {
        let (memdev, physical) = target.at;
        let ld = (memdev, target.ld);
        let way = self.reached.get(host.index()).and_then(|it| it.get(&ld));
        let access = Access {
            kind,
            ld,
            physical,
            at,
            ready,
        };
        way.map_or(at, |way| self.times.access(self.now, way, access))
    }

    /// Writes a line where it belongs.
    fn put(&mut self, target: Target, line: &Cached) {
        let (memdev, physical) = target.at;
        if let Some(device) = self.memdevs.get_mut(memdev.index()) {
            device.media_mut().write(physical, &line.content);
        }
    }

    /// Writes a line of a host to memory, wherever its address leads by now; when that is over,
    /// of what is begun at a time.
    pub(super) fn write_out(
        &mut self,
        host: HostId,
        line: &Cached,
        at: Picos,
        effects: &mut Vec<Effect>,
    ) -> Picos {
        let target = self.target(host, line.address).and_then(|target| {
            if target.is_read_only {
                Err(AccessError::ReadOnly)
            } else {
                Ok(target)
            }
        });
        match target {
            Ok(target) => {
                self.put(target, line);
                if target.is_unanswered && line.is_dirty {
                    effects.push(lost(host, line, AccessError::TimedOut));
                }
                self.timed(host, target, (Kind::Write, at, Picos::ZERO))
            }
            Err(why) => {
                // Nothing is lost of what was only read.
                if line.is_dirty {
                    effects.push(lost(host, line, why));
                }
                at
            }
        }
    }

    /// Writes back what a host wrote of a range; with `lets_go` its caches have none of it then.
    pub(super) fn write_back(
        &mut self,
        host: HostId,
        span: Span,
        lets_go: bool,
        effects: &mut Vec<Effect>,
    ) {
        let addresses = match self.living(host) {
            Ok(it) => it.cache.addresses(line_of(span.start), span.end()),
            Err(error) => return effects.push(Effect::Failed(error)),
        };
        // As many lines as a core has accesses are under way at once, in their order.
        let mut under_way = VecDeque::new();
        let mut end = self.now.saturating_add(self.times.hit);
        for address in addresses {
            let Some(it) = self.hosts.get_mut(host.index()) else {
                continue;
            };
            let line = if lets_go {
                it.cache.drop_line(address).filter(|line| line.is_dirty)
            } else {
                it.cache.clean(address)
            };
            if let Some(line) = line {
                let at = if under_way.len() < self.times.core_accesses {
                    self.now
                } else {
                    under_way.pop_front().unwrap_or(self.now)
                };
                let written = self.write_out(host, &line, at, effects);
                under_way.push_back(written);
                end = end.max(written);
            }
            if lets_go {
                self.left(host, address);
            }
        }
        let took = end.saturating_sub(self.now);
        effects.push(Effect::Written { took });
    }

    /// A host writes back what it wrote of a logical device, its caches let go of it, and its
    /// decoders lead there no more.
    pub(super) fn let_go(
        &mut self,
        host: HostId,
        (memdev, ld): (MemdevId, LdId),
        effects: &mut Vec<Effect>,
    ) {
        let Some(it) = self.hosts.get(host.index()) else {
            return;
        };
        let windows = it.windows.iter();
        let windows = windows.filter(|(_, it)| (it.memdev, it.ld) == (memdev, ld));
        let windows: Vec<_> = windows.map(|(&start, it)| (start, it.bytes)).collect();
        for (start, bytes) in windows {
            self.write_back(host, Span { start, bytes }, true, effects);
            self.unmap(host, start);
        }
    }

    /// A line left the caches of a host: the directory does not have it there any more.
    fn left(&mut self, host: HostId, address: u64) {
        let it = self.hosts.get_mut(host.index());
        let Some(at) = it.and_then(|it| it.origins.remove(&address)) else {
            return;
        };
        if let Some(holders) = self.directory.get_mut(&at)
            && holders.get(&host) == Some(&address)
        {
            holders.remove(&host);
            if holders.is_empty() {
                self.directory.remove(&at);
            }
        }
    }

    pub(super) fn living(&self, host: HostId) -> Result<&Host, AccessError> {
        let host = self.hosts.get(host.index());
        host.filter(|host| host.is_alive).ok_or(AccessError::Dead)
    }

    fn living_mut(&mut self, host: HostId) -> Result<&mut Host, AccessError> {
        let host = self.hosts.get_mut(host.index());
        host.filter(|host| host.is_alive).ok_or(AccessError::Dead)
    }

    /// Where an address of a host leads now.
    pub(super) fn target(&self, host: HostId, address: u64) -> Result<Target, AccessError> {
        let it = self.hosts.get(host.index()).ok_or(AccessError::Dead)?;
        let before = it.windows.range(..=address).next_back();
        let (&start, window) = before.ok_or(AccessError::Unmapped)?;
        let into = address - start;
        if into >= window.bytes {
            return Err(AccessError::Unmapped);
        }
        let (memdev, ld) = (window.memdev, window.ld);
        if !self.reaches(host, memdev, ld) {
            return Err(AccessError::Unreachable);
        }
        let way = self
            .reached
            .get(host.index())
            .and_then(|it| it.get(&(memdev, ld)));
        let is_blocked = |direction| way.is_some_and(|way| self.times.is_blocked(way, direction));
        if is_blocked(Direction::Down) {
            return Err(AccessError::TimedOut);
        }
        let device = self
            .memdevs
            .get(memdev.index())
            .ok_or(AccessError::Unreachable)?;
        if device.condition().is_viral {
            return Err(AccessError::Viral);
        }
        let found = device.place(ld, window.address.saturating_add(into));
        let (physical, place) = found.ok_or(AccessError::NoMemory)?;
        let is_coherent = place.is_some_and(|place| place.is_hardware_coherent);
        if is_coherent && !it.takes_back_invalidates {
            return Err(AccessError::Incoherent);
        }
        Ok(Target {
            at: (memdev, physical),
            ld,
            is_coherent,
            is_read_only: place.is_some_and(|place| place.is_read_only),
            is_unanswered: is_blocked(Direction::Up),
        })
    }
}
