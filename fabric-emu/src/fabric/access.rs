//! Loads, stores and write-backs, as a host's processor does them.

use pool_core::planted;
use pool_core::units::LINE_BYTES;

use super::event::{AccessError, Effect};
use super::{Fabric, Host, Physical, Window};
use crate::cache::Cached;
use crate::id::{HostId, LdId, MemdevId};
use crate::media::Line;
use crate::span::Span;

/// Ranges that the decoders of a host lead on.
const MOST_WINDOWS: usize = 32;

/// Where an access goes.
#[derive(Debug, Clone, Copy)]
struct Target {
    at: Physical,
    is_coherent: bool,
    is_read_only: bool,
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
            Ok(Some(content)) => Ok((content, true)),
            Ok(None) => self
                .fetch(host, address, effects)
                .map(|content| (content, false)),
            Err(error) => Err(error),
        };
        effects.push(match done {
            Ok((content, is_hit)) => Effect::Loaded { content, is_hit },
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
        effects.push(done.map_or_else(Effect::Failed, |()| Effect::Done));
    }

    fn write(
        &mut self,
        host: HostId,
        address: u64,
        content: Line,
        effects: &mut Vec<Effect>,
    ) -> Result<(), AccessError> {
        let it = self.living_mut(host)?;
        // One that was written is this host's to write.
        if it.cache.get(address).is_some_and(|line| line.is_dirty) {
            // It takes the place of the line that is there.
            let _none = it.cache.put(Cached {
                address,
                content,
                is_dirty: true,
            });
            return Ok(());
        }
        let target = self.target(host, address)?;
        if target.is_read_only {
            return Err(AccessError::ReadOnly);
        }
        if target.is_coherent && !planted!("fabric.writes_what_others_read") {
            self.take_back(target.at, host, true, effects);
        }
        let line = Cached {
            address,
            content,
            is_dirty: true,
        };
        self.keep(host, line, target, effects);
        Ok(())
    }

    /// Has a line in the caches of a host, from memory.
    fn fetch(
        &mut self,
        host: HostId,
        address: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<Line, AccessError> {
        let target = self.target(host, address)?;
        if target.is_coherent && !planted!("fabric.reads_past_who_wrote") {
            self.take_back(target.at, host, false, effects);
        }
        let (memdev, physical) = target.at;
        let device = self
            .memdevs
            .get(memdev.index())
            .ok_or(AccessError::Unreachable)?;
        let content = device
            .media()
            .read(physical)
            .map_err(|_| AccessError::Poisoned)?;
        let line = Cached {
            address,
            content,
            is_dirty: false,
        };
        self.keep(host, line, target, effects);
        Ok(content)
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
                self.write_out(host, &evicted.line, effects);
            }
        }
    }

    /// Has other hosts write back a line that they wrote, and let go of it where it is about to be
    /// written.
    fn take_back(
        &mut self,
        at: Physical,
        but: HostId,
        is_written: bool,
        effects: &mut Vec<Effect>,
    ) {
        let holders = self.directory.get(&at).cloned().unwrap_or_default();
        for (host, address) in holders.into_iter().filter(|(host, _)| *host != but) {
            let Some(it) = self.hosts.get_mut(host.index()) else {
                continue;
            };
            let line = if is_written {
                it.cache.drop_line(address).filter(|line| line.is_dirty)
            } else {
                it.cache.clean(address)
            };
            if let Some(line) = line {
                self.write_out(host, &line, effects);
            }
            if is_written {
                self.left(host, address);
            }
        }
    }

    /// Writes a line of a host to memory, wherever its address leads by now.
    pub(super) fn write_out(&mut self, host: HostId, line: &Cached, effects: &mut Vec<Effect>) {
        let target = self.target(host, line.address).and_then(|target| {
            if target.is_read_only {
                Err(AccessError::ReadOnly)
            } else {
                Ok(target)
            }
        });
        match target {
            Ok(Target {
                at: (memdev, physical),
                ..
            }) => {
                if let Some(device) = self.memdevs.get_mut(memdev.index()) {
                    device.media_mut().write(physical, &line.content);
                }
            }
            Err(why) if line.is_dirty => effects.push(Effect::Lost {
                host,
                address: line.address,
                why,
            }),
            // Nothing is lost of what was only read.
            Err(_) => {}
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
                self.write_out(host, &line, effects);
            }
            if lets_go {
                self.left(host, address);
            }
        }
        effects.push(Effect::Done);
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

    fn living(&self, host: HostId) -> Result<&Host, AccessError> {
        let host = self.hosts.get(host.index());
        host.filter(|host| host.is_alive).ok_or(AccessError::Dead)
    }

    fn living_mut(&mut self, host: HostId) -> Result<&mut Host, AccessError> {
        let host = self.hosts.get_mut(host.index());
        host.filter(|host| host.is_alive).ok_or(AccessError::Dead)
    }

    /// Where an address of a host leads now.
    fn target(&self, host: HostId, address: u64) -> Result<Target, AccessError> {
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
        let device = self
            .memdevs
            .get(memdev.index())
            .ok_or(AccessError::Unreachable)?;
        let found = device.place(ld, window.address.saturating_add(into));
        let (physical, place) = found.ok_or(AccessError::NoMemory)?;
        let is_coherent = place.is_some_and(|place| place.is_hardware_coherent);
        if is_coherent && !it.takes_back_invalidates {
            return Err(AccessError::Incoherent);
        }
        Ok(Target {
            at: (memdev, physical),
            is_coherent,
            is_read_only: place.is_some_and(|place| place.is_read_only),
        })
    }
}
