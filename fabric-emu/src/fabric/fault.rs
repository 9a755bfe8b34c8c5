//! What goes wrong, and is well again.

use super::event::{AccessError, Effect, Fault};
use super::{Cci, Fabric};
use crate::id::{HostId, MemdevId, Port};
use crate::span::Span;

impl Fabric {
    pub(super) fn fail(&mut self, fault: Fault, effects: &mut Vec<Effect>) {
        match fault {
            Fault::HostDies(host) => self.die(host, effects),
            Fault::HostStarts(host) => self.start(host, effects),
            Fault::LinkFails(port) => self.set_link(port, false, effects),
            Fault::LinkHeals(port) => self.set_link(port, true, effects),
            Fault::SwitchRestarts(switch) => {
                // What went on in the background goes on no more.
                self.start_anew(|cci| cci == Cci::Switch(switch));
                let found = self.switches.get_mut(switch.index());
                effects.push(found.map_or(UNREACHABLE, |switch| {
                    switch.forget();
                    Effect::Done
                }));
            }
            Fault::MemdevVanishes(memdev) => self.set_gone(memdev, true, effects),
            Fault::MemdevReturns(memdev) => self.set_gone(memdev, false, effects),
            Fault::Poison { memdev, physical } => {
                let device = self.memdevs.get_mut(memdev.index());
                let is_done = device
                    .filter(|it| physical < it.bytes())
                    .is_some_and(|it| it.media_mut().poison(physical));
                effects.push(if is_done { Effect::Done } else { UNREACHABLE });
            }
        }
        self.has_new_routes = true;
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

    fn start(&mut self, host: HostId, effects: &mut Vec<Effect>) {
        let Some(it) = self.hosts.get_mut(host.index()) else {
            return effects.push(Effect::Failed(AccessError::Dead));
        };
        if it.is_alive {
            return effects.push(Effect::Failed(AccessError::Alive));
        }
        it.is_alive = true;
        let reached = self.reached.get(host.index()).cloned().unwrap_or_default();
        for (memdev, ld) in reached.into_keys() {
            let device = self.memdevs.get_mut(memdev.index());
            if let Some(Ok(freed)) = device.map(|device| device.reset(ld)) {
                self.freed(memdev, &freed);
            }
        }
        effects.push(Effect::Done);
    }

    fn set_link(&mut self, port: Port, is_up: bool, effects: &mut Vec<Effect>) {
        let link = self
            .ends
            .get(&(port.node, port.port))
            .map(|(_, link)| *link);
        let up = link.and_then(|link| self.is_up.get_mut(link));
        effects.push(up.map_or(UNREACHABLE, |up| {
            *up = is_up;
            Effect::Done
        }));
    }

    fn set_gone(&mut self, memdev: MemdevId, is_gone: bool, effects: &mut Vec<Effect>) {
        let (Some(gone), Some(device)) = (
            self.gone.get_mut(memdev.index()),
            self.memdevs.get_mut(memdev.index()),
        ) else {
            return effects.push(UNREACHABLE);
        };
        if std::mem::replace(gone, is_gone) && !is_gone {
            device.power_cycle();
        }
        if is_gone {
            let all = Span {
                start: 0,
                bytes: u64::MAX,
            };
            self.forget(memdev, all);
            self.start_anew(|cci| cci.is_of_memdev(memdev));
        }
        effects.push(Effect::Done);
    }
}

const UNREACHABLE: Effect = Effect::Failed(AccessError::Unreachable);
