//! Whether a topology has the parts that faults name.

use pool_core::units::LINE_BYTES;

use super::{Schedule, ScheduleError};
use crate::fabric::{Cci, Fault};
use crate::id::{HostId, LdId, MemdevId, Node, Port, SwitchId, VcsId, VppbId};
use crate::topology::{Memdev, Switch, Topology};

impl Schedule {
    /// Whether a topology has all that the faults name. Which bridges are bound, what is mapped,
    /// how a link can be trained and whether a device lists that many bad lines shows when they
    /// happen.
    ///
    /// # Errors
    /// [`ScheduleError::NotThere`] for the first of them whose part it has not.
    pub fn check(&self, topology: &Topology) -> Result<(), ScheduleError> {
        let parts = Parts(topology);
        let wrong = self.faults().iter().find(|it| !parts.has(&it.fault));
        wrong.map_or(Ok(()), |planned| {
            Err(ScheduleError::NotThere {
                at: planned.at,
                fault: Box::new(planned.fault),
                topology: topology.name.clone(),
            })
        })
    }
}

struct Parts<'a>(&'a Topology);

impl Parts<'_> {
    fn has(&self, fault: &Fault) -> bool {
        match *fault {
            Fault::HostDies(host)
            | Fault::HostStarts(host)
            | Fault::HostWritesCleanLines(host)
            | Fault::HostKeepsCleanLines(host)
            | Fault::HostPrefetches { host, .. } => self.host(host),
            Fault::LinkFails(port)
            | Fault::LinkHeals(port)
            | Fault::LinkRetrains { port, .. }
            | Fault::LinkRetries { port, .. }
            | Fault::LinkStalls { port, .. }
            | Fault::PortResets(port)
            | Fault::PortRuns(port) => self.link(port),
            Fault::SwitchRestarts(switch)
            | Fault::SwitchRefuses(switch)
            | Fault::SwitchObeys(switch) => self.switch(switch).is_some(),
            Fault::BridgeUnbinds { switch, vcs, vppb } => self.bridge(switch, vcs, vppb),
            Fault::MemdevVanishes(memdev)
            | Fault::MemdevReturns(memdev)
            | Fault::MemdevCycles(memdev)
            | Fault::MemdevTurnsViral(memdev)
            | Fault::MemdevSlows { memdev, .. }
            | Fault::MemdevLies { memdev, .. }
            | Fault::CdatGoesStale(memdev)
            | Fault::MemdevHeals(memdev) => self.memdev(memdev).is_some(),
            Fault::MemdevCorrects { memdev, ld, .. }
            | Fault::LogFills { memdev, ld }
            | Fault::ListChanges { memdev, ld } => self.logical(memdev, ld),
            Fault::Poison { memdev, physical }
            | Fault::PoisonOnce { memdev, physical }
            | Fault::PoisonStays { memdev, physical }
            | Fault::PoisonHeals { memdev, physical } => self.line(memdev, physical),
            Fault::MemdevScrubs {
                memdev,
                physical,
                lines,
            } => {
                let first = physical / LINE_BYTES * LINE_BYTES;
                let last = u64::from(lines.saturating_sub(1)).saturating_mul(LINE_BYTES);
                self.line(memdev, first.saturating_add(last))
            }
            Fault::InterfaceErrs { cci, .. }
            | Fault::BackgroundHangs(cci)
            | Fault::InterfaceHeals(cci) => self.interface(cci),
        }
    }

    fn host(&self, host: HostId) -> bool {
        host.index() < self.0.hosts.len()
    }

    fn switch(&self, switch: SwitchId) -> Option<&Switch> {
        self.0.switches.get(switch.index())
    }

    /// A switch has a virtual switch for each link that leads up from it.
    fn bridge(&self, switch: SwitchId, vcs: VcsId, vppb: VppbId) -> bool {
        let links = self.0.links.iter();
        let up = links.filter(|link| link.down.node == Node::Switch(switch));
        let has_bridge = |it: &Switch| vppb.index() < usize::from(it.vppbs);
        vcs.index() < up.count() && self.switch(switch).is_some_and(has_bridge)
    }

    fn link(&self, port: Port) -> bool {
        let mut links = self.0.links.iter();
        links.any(|link| link.up == port || link.down == port)
    }

    fn memdev(&self, memdev: MemdevId) -> Option<&Memdev> {
        self.0.memdevs.get(memdev.index())
    }

    fn logical(&self, memdev: MemdevId, ld: LdId) -> bool {
        let memdev = self.memdev(memdev);
        memdev.is_some_and(|it| ld.index() < usize::from(it.kind.logical_devices()))
    }

    fn line(&self, memdev: MemdevId, physical: u64) -> bool {
        let bytes = |it: &Memdev| it.fixed.get().saturating_add(it.dynamic.get());
        self.memdev(memdev).is_some_and(|it| physical < bytes(it))
    }

    fn interface(&self, cci: Cci) -> bool {
        match cci {
            Cci::Switch(switch) => self.switch(switch).is_some(),
            Cci::Memdev(memdev) => self.memdev(memdev).is_some(),
            Cci::Mailbox { host, memdev, ld } => self.host(host) && self.logical(memdev, ld),
        }
    }
}
