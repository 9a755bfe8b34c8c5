//! Which host reaches what: over links that are up and bridges that are bound.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::planted;

use super::Fabric;
use crate::id::{HostId, LdId, MemdevId, Node, PortId, SwitchId};
use crate::switch::Switch;
use crate::timing::Path;

/// Switches on the way to a device; one more is a loop.
const MOST_HOPS: usize = 8;

/// A logical device that a host reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The device.
    pub memdev: MemdevId,
    /// The logical device.
    pub ld: LdId,
    /// The links on the way, from the host on, by their places in the topology.
    pub links: Vec<usize>,
    /// The switches on the way, from the host on.
    pub switches: Vec<SwitchId>,
}

impl Fabric {
    /// What a host reaches now.
    #[must_use]
    pub fn reach(&self, host: HostId) -> Vec<Reach> {
        let mut all = Vec::new();
        let ports = self
            .ends
            .range((Node::Host(host), PortId(0))..=(Node::Host(host), PortId(255)));
        for (&port, _) in ports {
            let start = Reach {
                memdev: MemdevId(0),
                ld: LdId(0),
                links: Vec::new(),
                switches: Vec::new(),
            };
            self.follow(port, None, start, &mut all);
        }
        all
    }

    /// Follows the link of a port, to what is bound behind it.
    fn follow(&self, port: (Node, PortId), ld: Option<LdId>, mut way: Reach, all: &mut Vec<Reach>) {
        let Some(&((node, end), link)) = self.ends.get(&port) else {
            return;
        };
        if !self.is_up(link) || way.switches.len() > MOST_HOPS {
            return;
        }
        way.links.push(link);
        match node {
            Node::Host(_) => {}
            Node::Memdev(memdev) => {
                let Some(device) = self.memdevs.get(memdev.index()) else {
                    return;
                };
                if self.gone.get(memdev.index()) == Some(&false) {
                    way.memdev = memdev;
                    way.ld = ld.unwrap_or_else(|| device.behind(end));
                    all.push(way);
                }
            }
            Node::Switch(id) => {
                way.switches.push(id);
                let Some(switch) = self.switches.get(id.index()) else {
                    return;
                };
                let vcs = switch.behind(end).map(crate::id::VcsId::index);
                let bridges = vcs.and_then(|vcs| switch.virtual_switches().get(vcs));
                for bound in bridges
                    .into_iter()
                    .flat_map(|it| it.bridges.iter().flatten())
                {
                    self.follow((node, bound.port), bound.ld, way.clone(), all);
                }
            }
        }
    }

    /// Whether a host reaches a logical device: as it was when it was last looked.
    pub(super) fn reaches(&self, host: HostId, memdev: MemdevId, ld: LdId) -> bool {
        let reached = self.reached.get(host.index());
        reached.is_some_and(|reached| reached.contains_key(&(memdev, ld)))
    }

    /// Looks who reaches what, where that may have changed.
    pub(super) fn look_at_routes(&mut self) {
        if std::mem::take(&mut self.has_new_routes) {
            self.new_ways.clear();
            let hosts = (0..).map(HostId).take(self.hosts.len());
            self.reached = hosts.map(|host| self.ways(host)).collect();
            return;
        }
        for host in std::mem::take(&mut self.new_ways) {
            let ways = self.ways(host);
            if let Some(reached) = self.reached.get_mut(host.index()) {
                *reached = ways;
            }
        }
    }

    /// The ways of a host to what it reaches.
    fn ways(&self, host: HostId) -> BTreeMap<(MemdevId, LdId), Path> {
        let mut ways = BTreeMap::new();
        for reach in self.reach(host) {
            // Of several ways the first is taken.
            let way = ways.entry((reach.memdev, reach.ld));
            way.or_insert_with(|| self.times.path(&reach));
        }
        ways
    }

    /// Notes that a switch may lead elsewhere now. Only hosts that are above it by cables, whatever
    /// is bound, may reach other things by that: with many racks these are few of all.
    pub(super) fn leads_elsewhere(&mut self, switch: SwitchId) {
        let mut seen = BTreeSet::from([switch]);
        let mut left = vec![switch];
        while let Some(switch) = left.pop() {
            let node = Node::Switch(switch);
            let ports = self.ends.range((node, PortId(0))..=(node, PortId(255)));
            for (&(_, port), &((other, _), _)) in ports {
                let is_above = |it: &Switch| it.behind(port).is_some();
                if !self.switches.get(switch.index()).is_some_and(is_above) {
                    continue;
                }
                match other {
                    Node::Host(host) => drop(self.new_ways.insert(host)),
                    Node::Switch(above) if seen.insert(above) => {
                        if !planted!("fabric.forgets_who_is_behind_another_switch") {
                            left.push(above);
                        }
                    }
                    Node::Switch(_) | Node::Memdev(_) => {}
                }
            }
        }
    }
}
