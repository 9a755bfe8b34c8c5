//! What the sockets of a served fabric are called, and which there are.
//!
//! | name | type | what comes in |
//! |---|---|---|
//! | `switch0.cci` | stream | commands of a manager to a switch |
//! | `memdev0.cci` | stream | commands of a manager to a memory device |
//! | `host0-memdev0-ld1.cci` | stream | commands of a host to the mailbox of a logical device |
//! | `host0.memory` | seqpacket | what a host asks of its memory: [`super::wire`] |
//! | `control` | stream | what an operator asks: [`super::control`] |
//!
//! There is a mailbox for each host and each logical device that some binding would have the host
//! reach. One that is not bound now answers nobody.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use crate::fabric::Cci;
use crate::id::{HostId, LdId, MemdevId, Node, Port, SwitchId};
use crate::topology::{MemdevKind, Topology};

/// A socket of a served fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// For commands.
    Cci(Cci),
    /// For the memory of a host.
    Memory(HostId),
    /// For operators.
    Control,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cci(Cci::Switch(switch)) => write!(f, "switch{}.cci", switch.0),
            Self::Cci(Cci::Memdev(memdev)) => write!(f, "memdev{}.cci", memdev.0),
            Self::Cci(Cci::Mailbox { host, memdev, ld }) => {
                write!(f, "host{}-memdev{}-ld{}.cci", host.0, memdev.0, ld.0)
            }
            Self::Memory(host) => write!(f, "host{}.memory", host.0),
            Self::Control => f.write_str("control"),
        }
    }
}

/// Whether a file of this name can be a socket that a server left.
pub(super) fn is_of_a_door(name: &str) -> bool {
    name == "control" || name.ends_with(".cci") || name.ends_with(".memory")
}

/// All sockets of a topology; none where there are more than `most`.
pub(super) fn doors(topology: &Topology, most: usize) -> Option<Vec<Door>> {
    let mut doors = vec![Door::Control];
    doors.extend(
        (0..)
            .map(SwitchId)
            .take(topology.switches.len())
            .map(switch),
    );
    doors.extend((0..).map(MemdevId).take(topology.memdevs.len()).map(memdev));
    let mut below: BTreeMap<Node, Vec<Port>> = BTreeMap::new();
    for link in &topology.links {
        below.entry(link.up.node).or_default().push(link.down);
    }
    for host in (0..).map(HostId).take(topology.hosts.len()) {
        doors.push(Door::Memory(host));
        for (memdev, ld) in behind(topology, &below, host) {
            doors.push(Door::Cci(Cci::Mailbox { host, memdev, ld }));
        }
        if doors.len() > most {
            return None;
        }
    }
    Some(doors)
}

const fn switch(switch: SwitchId) -> Door {
    Door::Cci(Cci::Switch(switch))
}

const fn memdev(memdev: MemdevId) -> Door {
    Door::Cci(Cci::Memdev(memdev))
}

/// The logical devices that a host may ever reach.
fn behind(
    topology: &Topology,
    below: &BTreeMap<Node, Vec<Port>>,
    host: HostId,
) -> BTreeSet<(MemdevId, LdId)> {
    let mut found = BTreeSet::new();
    let (mut seen, mut open) = (BTreeSet::new(), vec![Node::Host(host)]);
    // Each node is looked at once.
    while let Some(node) = open.pop().filter(|&node| seen.insert(node)) {
        for &port in below.get(&node).into_iter().flatten() {
            match port.node {
                Node::Memdev(memdev) => {
                    let kind = topology.memdevs.get(memdev.index()).map(|it| it.kind);
                    let is_bound = matches!(node, Node::Switch(_));
                    found.extend(lds(kind, port, is_bound).map(|ld| (memdev, LdId(ld))));
                }
                Node::Switch(_) | Node::Host(_) => open.push(port.node),
            }
        }
        open.retain(|node| !seen.contains(node));
    }
    found
}

/// Those behind one head: what a bridge may be bound to, or what is on the cable.
fn lds(kind: Option<MemdevKind>, port: Port, is_bound: bool) -> core::ops::Range<u16> {
    match kind {
        Some(MemdevKind::Mld(lds)) if is_bound => 0..u16::from(lds),
        Some(MemdevKind::MultiHeaded(_)) => {
            let head = u16::from(port.port.0);
            head..head + 1
        }
        Some(MemdevKind::Mld(_) | MemdevKind::Sld) => 0..1,
        None => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(topology: &str) -> Vec<String> {
        let topology = Topology::named(topology).unwrap();
        let doors = doors(&topology, 4_096).unwrap();
        doors.iter().map(Door::to_string).collect()
    }

    #[test]
    fn there_is_a_socket_for_each_interface_that_the_topology_makes_possible() {
        assert_eq!(
            names("two-heads"),
            [
                "control",
                "memdev0.cci",
                "host0.memory",
                "host0-memdev0-ld0.cci",
                "host1.memory",
                "host1-memdev0-ld1.cci",
            ]
        );
        let names = names("four-hosts");
        for host in 0..4 {
            for ld in 0..4 {
                assert!(names.contains(&format!("host{host}-memdev0-ld{ld}.cci")));
            }
        }
        assert_eq!(names.len(), 1 + 1 + 1 + 4 + 16);
        assert!(names.iter().all(|name| is_of_a_door(name)));
    }

    #[test]
    fn a_topology_with_too_many_sockets_has_none() {
        let topology = Topology::named("four-hosts").unwrap();
        assert_eq!(doors(&topology, 22), None);
        assert_eq!(doors(&topology, 23).map(|doors| doors.len()), Some(23));
    }
}
