//! Topologies of any number of hosts in which each reaches memory: racks of at most 16 around one
//! switch, since a memory device has at most 16 logical devices and each is one host's.

use fabric_emu::id::{HostId, MemdevId, Node, Port, SwitchId};
use fabric_emu::topology::{Topology, shapes};

/// Hosts of a rack.
pub(super) const RACK: u16 = 16;

/// So many hosts: a power of two, or a multiple of [`RACK`].
pub(super) fn racks(hosts: u16) -> anyhow::Result<Topology> {
    let of_one = u8::try_from(hosts.min(RACK))?;
    let mut one = shapes::switched(of_one, of_one);
    for region in one
        .memdevs
        .iter_mut()
        .flat_map(|memdev| &mut memdev.regions)
    {
        // What is released may be added at once, for zeroing goes on in emulated time; and what no
        // other host may have needs no tag.
        region.sanitizes = false;
        region.is_sharable = false;
    }
    let mut all = Topology {
        name: format!("racks-{hosts}"),
        hosts: Vec::new(),
        switches: Vec::new(),
        memdevs: Vec::new(),
        links: Vec::new(),
    };
    for rack in 0..hosts.div_ceil(RACK) {
        add(&mut all, &one, rack, u16::from(of_one));
    }
    all.check()?;
    Ok(all)
}

/// Adds one more rack, with names and numbers of its own.
fn add(all: &mut Topology, one: &Topology, rack: u16, of_one: u16) {
    let moved = |port: Port| Port {
        node: match port.node {
            Node::Host(id) => Node::Host(HostId(id.0 + rack * of_one)),
            Node::Switch(id) => Node::Switch(SwitchId(id.0 + rack)),
            Node::Memdev(id) => Node::Memdev(MemdevId(id.0 + rack)),
        },
        ..port
    };
    let named = |name: &str| format!("r{rack}-{name}");
    all.hosts.extend(one.hosts.iter().cloned().map(|mut host| {
        host.name = named(&host.name);
        host
    }));
    all.switches
        .extend(one.switches.iter().cloned().map(|mut switch| {
            switch.name = named(&switch.name);
            switch
        }));
    all.memdevs
        .extend(one.memdevs.iter().cloned().map(|mut memdev| {
            memdev.name = named(&memdev.name);
            memdev.serial += u64::from(rack);
            memdev
        }));
    all.links.extend(one.links.iter().copied().map(|mut link| {
        (link.up, link.down) = (moved(link.up), moved(link.down));
        link
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::HOSTS;

    #[test]
    fn every_size_that_is_measured_is_a_topology() {
        for hosts in HOSTS {
            let topology = racks(hosts).unwrap();
            assert_eq!(topology.hosts.len(), usize::from(hosts));
            assert_eq!(
                topology.links.len(),
                usize::from(hosts + hosts.div_ceil(RACK))
            );
        }
    }
}
