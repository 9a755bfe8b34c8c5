//! What goes wrong, and is well again.
//!
//! # Files
//! `kinds`: what may go wrong. Here: hosts. `parts`: links, switches and devices. `interface`:
//! between an interface and who sends commands.

use super::Fabric;
use super::event::{AccessError, Effect};
use crate::id::{HostId, MemdevId};

mod interface;
mod kinds;
mod parts;

pub use kinds::{Fault, Glitch};

impl Fabric {
    pub(super) fn fail(&mut self, fault: Fault, effects: &mut Vec<Effect>) {
        self.has_new_routes = true;
        let effect = match fault {
            Fault::HostDies(host) => return self.die(host, effects),
            Fault::HostStarts(host) => self.start(host),
            Fault::HostWritesCleanLines(host) => self.write_clean_lines(host, true),
            Fault::HostKeepsCleanLines(host) => self.write_clean_lines(host, false),
            Fault::HostPrefetches { host, address } => self.prefetch(host, address, effects),
            Fault::LinkFails(port) => self.set_link(port, |link| link.is_cut = true),
            Fault::LinkHeals(port) => self.heal_link(port),
            Fault::PortResets(port) => self.set_link(port, |link| link.is_in_reset = true),
            Fault::PortRuns(port) => self.set_link(port, |link| link.is_in_reset = false),
            Fault::LinkRetrains {
                port,
                lanes,
                gigatransfers,
            } => self.retrain(port, lanes, gigatransfers),
            Fault::LinkRetries { port, once_in } => self.retry(port, once_in),
            Fault::LinkStalls {
                port,
                direction,
                longer,
            } => self.stall(port, direction, longer),
            Fault::SwitchRestarts(_)
            | Fault::SwitchRefuses(_)
            | Fault::SwitchObeys(_)
            | Fault::BridgeUnbinds { .. } => self.fail_switch(fault),
            Fault::MemdevVanishes(memdev) => self.set_gone(memdev, true),
            Fault::MemdevReturns(memdev) => self.set_gone(memdev, false),
            Fault::MemdevCycles(memdev) => self.cycle(memdev),
            Fault::CdatGoesStale(memdev) => self.keep_cdat(memdev),
            Fault::MemdevTurnsViral(_)
            | Fault::MemdevSlows { .. }
            | Fault::MemdevLies { .. }
            | Fault::MemdevCorrects { .. }
            | Fault::MemdevScrubs { .. }
            | Fault::LogFills { .. }
            | Fault::ListChanges { .. }
            | Fault::MemdevHeals(_) => self.fail_memdev(fault),
            Fault::Poison { .. }
            | Fault::PoisonOnce { .. }
            | Fault::PoisonStays { .. }
            | Fault::PoisonHeals { .. } => self.fail_line(fault),
            Fault::InterfaceErrs { cci, glitch, times } => self.err(cci, glitch, times),
            Fault::BackgroundHangs(cci) => self.hang(cci),
            Fault::InterfaceHeals(cci) => self.heal_interface(cci),
        };
        effects.push(effect);
        self.links_changed();
    }

    fn cycle(&mut self, memdev: MemdevId) -> Effect {
        self.set_gone(memdev, true);
        self.lose_copies(memdev);
        if let Some(device) = self.memdevs.get_mut(memdev.index()) {
            device.heal();
        }
        self.set_gone(memdev, false)
    }

    fn write_clean_lines(&mut self, host: HostId, may: bool) -> Effect {
        match self.hosts.get_mut(host.index()) {
            Some(it) => {
                it.cache.write_clean_lines(may);
                Effect::Done
            }
            None => Effect::Failed(AccessError::Dead),
        }
    }

    /// A line comes into the caches of a host without an event of its own.
    fn prefetch(&mut self, host: HostId, address: u64, effects: &mut Vec<Effect>) -> Effect {
        self.look_at_routes();
        self.load(host, address, effects);
        match effects.pop() {
            // Nobody is told what it holds.
            Some(Effect::Loaded { .. }) | None => Effect::Done,
            Some(failed) => failed,
        }
    }

    /// What had left its caches by then is in memory; the rest is lost.
    fn die(&mut self, host: HostId, effects: &mut Vec<Effect>) {
        let Some(it) = self.hosts.get_mut(host.index()).filter(|it| it.is_alive) else {
            return effects.push(Effect::Failed(AccessError::Dead));
        };
        let (left, lines) = it.cache.die();
        it.is_alive = false;
        it.origins.clear();
        self.start_anew(|cci| cci.is_of_host(host));
        for line in left {
            self.write_out(host, &line, self.now, effects);
        }
        if let Some(it) = self.hosts.get_mut(host.index()) {
            it.windows.clear();
        }
        for holders in self.directory.values_mut() {
            holders.remove(&host);
        }
        self.directory.retain(|_, holders| !holders.is_empty());
        effects.push(Effect::LostLines { host, lines });
    }

    fn start(&mut self, host: HostId) -> Effect {
        let Some(it) = self.hosts.get_mut(host.index()) else {
            return Effect::Failed(AccessError::Dead);
        };
        if it.is_alive {
            return Effect::Failed(AccessError::Alive);
        }
        it.is_alive = true;
        let reached = self.reached.get(host.index()).cloned().unwrap_or_default();
        for (memdev, ld) in reached.into_keys() {
            let device = self.memdevs.get_mut(memdev.index());
            if let Some(Ok(freed)) = device.map(|device| device.reset(ld)) {
                self.freed(memdev, &freed);
            }
        }
        Effect::Done
    }
}

const UNREACHABLE: Effect = Effect::Failed(AccessError::Unreachable);
const NO_ROOM: Effect = Effect::Failed(AccessError::NoRoom);
