//! What goes wrong with links, switches and memory devices.

use pool_core::units::LINE_BYTES;

use super::super::event::{AccessError, Effect};
use super::super::link::Link;
use super::super::time::Direction;
use super::super::{Cci, Fabric};
use super::{Fault, NO_ROOM, UNREACHABLE};
use crate::cci::events::EventLog;
use crate::id::{MemdevId, Port};
use crate::media::MOST_POISONED;
use crate::memdev::{Found, Memdev};
use crate::span::Span;
use crate::timing::Picos;

const fn done(is_done: bool) -> Effect {
    if is_done { Effect::Done } else { UNREACHABLE }
}

impl Fabric {
    fn link_mut(&mut self, port: Port) -> Option<(usize, &mut Link)> {
        let &(_, link) = self.ends.get(&(port.node, port.port))?;
        Some((link, self.links.get_mut(link)?))
    }

    /// Changes the link of a port.
    pub(super) fn set_link(&mut self, port: Port, change: impl FnOnce(&mut Link)) -> Effect {
        let link = self.link_mut(port);
        done(link.map(|(_, link)| change(link)).is_some())
    }

    pub(super) fn heal_link(&mut self, port: Port) -> Effect {
        let healed = self
            .link_mut(port)
            .map(|(place, link)| (place, link.heal()));
        if let Some((place, (lanes, gigatransfers))) = healed {
            self.times.heal_link(place, lanes, gigatransfers);
            self.link_trained(place);
        }
        done(healed.is_some())
    }

    pub(super) fn retrain(&mut self, port: Port, lanes: u8, gigatransfers: u8) -> Effect {
        match self.link_mut(port) {
            None => UNREACHABLE,
            Some((place, link)) => {
                if !link.train(lanes, gigatransfers) {
                    return Effect::Failed(AccessError::NotSo);
                }
                self.times.train(place, lanes, gigatransfers);
                self.link_trained(place);
                Effect::Done
            }
        }
    }

    pub(super) fn retry(&mut self, port: Port, once_in: u32) -> Effect {
        let place = self.link_mut(port).map(|(place, _)| place);
        done(
            place
                .map(|it| self.times.set_retries(it, once_in))
                .is_some(),
        )
    }

    pub(super) fn stall(
        &mut self,
        port: Port,
        direction: Direction,
        longer: Option<Picos>,
    ) -> Effect {
        let place = self.link_mut(port).map(|(place, _)| place);
        let stalled = place.map(|place| self.times.stall(place, direction, longer));
        done(stalled.is_some())
    }

    /// What goes wrong with a switch.
    pub(super) fn fail_switch(&mut self, fault: Fault) -> Effect {
        let (Fault::SwitchRestarts(id)
        | Fault::SwitchRefuses(id)
        | Fault::SwitchObeys(id)
        | Fault::BridgeUnbinds { switch: id, .. }) = fault
        else {
            return UNREACHABLE;
        };
        if matches!(fault, Fault::SwitchRestarts(_)) {
            // What went on in the background goes on no more.
            self.start_anew(|cci| cci == Cci::Switch(id));
        }
        let Some(switch) = self.switches.get_mut(id.index()) else {
            return UNREACHABLE;
        };
        match fault {
            Fault::SwitchRestarts(_) => switch.forget(),
            Fault::BridgeUnbinds { vcs, vppb, .. } => {
                return done(switch.unbind(vcs, vppb).is_ok());
            }
            _ => switch.refuse(matches!(fault, Fault::SwitchRefuses(_))),
        }
        Effect::Done
    }

    /// What goes wrong with a memory device as such.
    pub(super) fn fail_memdev(&mut self, fault: Fault) -> Effect {
        let (Fault::MemdevTurnsViral(id)
        | Fault::MemdevSlows { memdev: id, .. }
        | Fault::MemdevLies { memdev: id, .. }
        | Fault::MemdevCorrects { memdev: id, .. }
        | Fault::MemdevScrubs { memdev: id, .. }
        | Fault::LogFills { memdev: id, .. }
        | Fault::ListChanges { memdev: id, .. }
        | Fault::MemdevHeals(id)) = fault
        else {
            return UNREACHABLE;
        };
        let now = self.now;
        let Some(device) = self.memdevs.get_mut(id.index()) else {
            return UNREACHABLE;
        };
        match fault {
            Fault::MemdevTurnsViral(_) => device.condition_mut().is_viral = true,
            Fault::MemdevSlows { times, .. } => device.condition_mut().slower = times.max(1),
            Fault::MemdevLies {
                serial, granules, ..
            } => {
                device.condition_mut().serial = serial;
                device.condition_mut().granules = granules;
            }
            Fault::MemdevCorrects { ld, errors, .. } => {
                return done(device.corrects(now, ld, errors));
            }
            Fault::MemdevScrubs {
                physical, lines, ..
            } => return scrub(device, now, (physical, lines)),
            Fault::LogFills { ld, .. } => {
                return done(device.log_mut(ld).map(|log| log.close(true)).is_some());
            }
            Fault::ListChanges { ld, .. } => return done(device.change_list(ld).is_ok()),
            _ => device.heal(),
        }
        Effect::Done
    }

    /// What goes wrong with a line.
    pub(super) fn fail_line(&mut self, fault: Fault) -> Effect {
        let (Fault::Poison { memdev, physical }
        | Fault::PoisonOnce { memdev, physical }
        | Fault::PoisonStays { memdev, physical }
        | Fault::PoisonHeals { memdev, physical }) = fault
        else {
            return UNREACHABLE;
        };
        let now = self.now;
        let device = self.memdevs.get_mut(memdev.index());
        let Some(device) = device.filter(|it| physical < it.bytes()) else {
            return UNREACHABLE;
        };
        let media = device.media_mut();
        let (is_done, is_told) = match fault {
            Fault::Poison { .. } => (media.poison(physical, Found::Unknown), true),
            Fault::PoisonOnce { .. } => (media.fail_once(physical), false),
            Fault::PoisonStays { .. } => (media.spoil(physical), true),
            _ => {
                media.heal(physical);
                (true, false)
            }
        };
        if is_done && is_told {
            // It is known to be poisoned from now on, and nobody has missed it yet.
            device.tell_bad(now, (physical, Found::Unknown), EventLog::Informational);
        }
        if is_done { Effect::Done } else { NO_ROOM }
    }

    /// A memory device goes, or comes and has forgotten what it held.
    pub(super) fn set_gone(&mut self, memdev: MemdevId, is_gone: bool) -> Effect {
        let (Some(gone), Some(device)) = (
            self.gone.get_mut(memdev.index()),
            self.memdevs.get_mut(memdev.index()),
        ) else {
            return UNREACHABLE;
        };
        if std::mem::replace(gone, is_gone) && !is_gone {
            let freed = device.power_cycle();
            self.freed(memdev, &freed);
        }
        if is_gone {
            let all = Span {
                start: 0,
                bytes: u64::MAX,
            };
            self.forget(memdev, all);
            self.start_anew(|cci| cci.is_of_memdev(memdev));
        }
        Effect::Done
    }
}

/// So many lines turn out to be lost: all of them, or none where some are not there or are not all
/// listed.
fn scrub(device: &mut Memdev, now: Picos, (physical, lines): (u64, u16)) -> Effect {
    let first = physical / LINE_BYTES * LINE_BYTES;
    let span = Span {
        start: first,
        bytes: u64::from(lines) * LINE_BYTES,
    };
    let end = first.checked_add(span.bytes);
    if end.is_none_or(|end| end > device.bytes()) {
        return UNREACHABLE;
    }
    if usize::from(lines) > MOST_POISONED || !device.media().has_room_for(span) {
        return NO_ROOM;
    }
    for line in (0..u64::from(lines)).map(|number| first + number * LINE_BYTES) {
        if !device.media_mut().poison(line, Found::Scrubbed) {
            return NO_ROOM;
        }
        device.tell_bad(now, (line, Found::Scrubbed), EventLog::Failure);
    }
    Effect::Done
}
