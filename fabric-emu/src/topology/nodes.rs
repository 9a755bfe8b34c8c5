//! What stands at the ends of links.

use super::{MemdevKind, Topology};
use crate::id::{Node, Port};

impl MemdevKind {
    /// How many logical devices it has.
    #[must_use]
    pub const fn logical_devices(self) -> u8 {
        match self {
            Self::Sld => 1,
            Self::Mld(count) | Self::MultiHeaded(count) => count,
        }
    }

    /// How many ports it has, each of which is a head.
    #[must_use]
    pub const fn heads(self) -> u8 {
        match self {
            Self::Sld | Self::Mld(_) => 1,
            Self::MultiHeaded(count) => count,
        }
    }
}

impl Topology {
    /// What a node is called, where there is one.
    #[must_use]
    pub fn name_of(&self, node: Node) -> Option<&str> {
        match node {
            Node::Host(id) => self.hosts.get(id.index()).map(|host| &*host.name),
            Node::Switch(id) => self.switches.get(id.index()).map(|switch| &*switch.name),
            Node::Memdev(id) => self.memdevs.get(id.index()).map(|memdev| &*memdev.name),
        }
    }

    /// How many ports a node has, where there is one.
    #[must_use]
    pub fn ports_of(&self, node: Node) -> Option<u8> {
        match node {
            Node::Host(id) => self.hosts.get(id.index()).map(|host| host.root_ports),
            Node::Switch(id) => self.switches.get(id.index()).map(|switch| switch.ports),
            Node::Memdev(id) => {
                let memdev = self.memdevs.get(id.index())?;
                Some(memdev.kind.heads())
            }
        }
    }

    /// A port as a file names it, `h0:0`; by the number of its node where that has no name.
    pub(super) fn end(&self, port: Port) -> String {
        match self.name_of(port.node) {
            Some(name) => format!("{name}:{}", port.port.0),
            None => port.to_string(),
        }
    }
}
