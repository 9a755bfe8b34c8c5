//! Topologies of common shapes and of any size. Each is valid.
//!
//! What a host, a device and a link are by themselves is the same in all of them: a host has 64 GiB
//! of DDR and writes back no clean lines, a link has eight lanes of 32 GT/s.

use pool_core::Bytes;
use pool_core::units::{GIB, MIB};

use super::limits::{
    CACHE_LINES_DEFAULT, CLASS_DEFAULT, GIGATRANSFERS_DEFAULT, GRANULE, LANES_DEFAULT,
    SERIAL_DEFAULT,
};
use super::{Host, Link, Memdev, MemdevKind, Memory, Region, Switch, Topology};
use crate::id::{HostId, MemdevId, Node, Port, PortId, SwitchId};

/// How many hosts or devices [`tree`] connects to its middle switch, and to each other one.
const DIRECT_MAX: usize = 64;
const GROUP: usize = 16;

/// One host with an expander of fixed memory.
#[must_use]
pub fn expander() -> Topology {
    let fixed = Bytes::new(128 * GIB);
    let memdev = Memdev {
        fixed,
        ..memdev("expander", 0, MemdevKind::Sld)
    };
    Topology {
        name: "expander".to_owned(),
        hosts: vec![host(0, 256)],
        switches: Vec::new(),
        memdevs: vec![memdev],
        links: vec![link(host_port(0), memdev_port(0, 0))],
    }
}

/// One switch between so many hosts and a device of so many logical devices: a region that may be
/// shared, and is kept coherent by software, and one for one host each, of 512 GiB for both.
///
/// # Panics
/// Unless there are 1 to 254 hosts and 1 to 16 logical devices.
#[must_use]
pub fn switched(hosts: u8, logical_devices: u8) -> Topology {
    assert!(
        (1..=254).contains(&hosts) && (1..=16).contains(&logical_devices),
        "a switch has 255 ports, and a device 16 logical devices"
    );
    let shared = Region {
        is_sharable: true,
        ..region(512, 256 * MIB)
    };
    // Down to what can be divided.
    let dynamic = 512 * GIB - 512 * GIB % (GRANULE.get() * u64::from(logical_devices));
    let memdev = Memdev {
        dynamic: Bytes::new(dynamic),
        regions: vec![shared, region(512, 256 * MIB)],
        ..memdev("pool", 0, MemdevKind::Mld(logical_devices))
    };
    let up = |id: u8| link(host_port(id.into()), switch_port(0, id));
    let down = link(switch_port(0, hosts), memdev_port(0, 0));
    Topology {
        name: format!("switched-{hosts}-{logical_devices}"),
        hosts: (0..hosts).map(|id| host(id.into(), 512)).collect(),
        switches: vec![Switch {
            name: "s0".to_owned(),
            ports: hosts + 1,
            vppbs: logical_devices,
        }],
        memdevs: vec![memdev],
        links: (0..hosts).map(up).chain([down]).collect(),
    }
}

/// Two hosts on the two heads of one device: a region that the hardware keeps the same for both, in
/// small blocks, and one in large blocks for one host each.
#[must_use]
pub fn two_heads() -> Topology {
    let host = |id| Host {
        writes_back_no_clean_lines: false,
        takes_back_invalidates: true,
        ..host(id, 512)
    };
    let shared = Region {
        is_sharable: true,
        is_hardware_coherent: true,
        ..region(128, 2 * MIB)
    };
    let memdev = Memdev {
        dynamic: Bytes::new(256 * GIB),
        regions: vec![shared, region(256, 256 * MIB)],
        ..memdev("shared", 0, MemdevKind::MultiHeaded(2))
    };
    Topology {
        name: "two-heads".to_owned(),
        hosts: vec![host(0), host(1)],
        switches: Vec::new(),
        memdevs: vec![memdev],
        links: vec![
            link(host_port(0), memdev_port(0, 0)),
            link(host_port(1), memdev_port(0, 1)),
        ],
    }
}

/// One host with HBM, DDR and a disk of its own, and an expander.
#[must_use]
pub fn gpu_box() -> Topology {
    let memory = |class: &str, gib: u64| Memory {
        class: class.to_owned(),
        capacity: Bytes::new(gib * GIB),
    };
    let host = Host {
        root_ports: 2,
        memories: vec![memory("hbm", 80), memory("ddr", 256), memory("nvme", 4_096)],
        ..host(0, 512)
    };
    let memdev = Memdev {
        class: "cxl-x16".to_owned(),
        fixed: Bytes::new(128 * GIB),
        dynamic: Bytes::new(256 * GIB),
        regions: vec![region(256, 256 * MIB)],
        ..memdev("expander", 0, MemdevKind::Sld)
    };
    let wide = Link {
        lanes: 16,
        ..link(host_port(0), memdev_port(0, 0))
    };
    Topology {
        name: "gpu-box".to_owned(),
        hosts: vec![host],
        switches: Vec::new(),
        memdevs: vec![memdev],
        links: vec![wide],
    }
}

/// So many hosts and so many devices of 64 GiB of dynamic memory, with a switch in the middle. More
/// than 64 hosts, or devices, are connected to it by switches of 16.
///
/// # Panics
/// Unless there are 1 to 1,024 hosts and 0 to 1,024 devices.
#[must_use]
pub fn tree(hosts: u16, devices: u16) -> Topology {
    assert!(
        (1..=1_024).contains(&hosts) && devices <= 1_024,
        "a topology has 1,024 hosts and 1,024 devices"
    );
    let device = |id: u16| Memdev {
        dynamic: Bytes::new(64 * GIB),
        regions: vec![region(64, 256 * MIB)],
        ..memdev(&format!("m{id}"), id, MemdevKind::Sld)
    };
    let window = 64 * u64::from(devices);
    let mut topology = Topology {
        name: format!("tree-{hosts}-{devices}"),
        hosts: (0..hosts).map(|id| host(id, window)).collect(),
        switches: Vec::new(),
        memdevs: (0..devices).map(device).collect(),
        links: Vec::new(),
    };
    let middle = add_switch(&mut topology, "middle".to_owned());
    let above: Vec<_> = (0..hosts).map(host_port).collect();
    connect(&mut topology, middle, Side::Above, &above);
    let below: Vec<_> = (0..devices).map(|id| memdev_port(id, 0)).collect();
    connect(&mut topology, middle, Side::Below, &below);
    for switch in &mut topology.switches {
        switch.ports = switch.ports.max(2);
        switch.vppbs = switch.ports - 1;
    }
    topology
}

/// On which side of a switch something is.
#[derive(Debug, Clone, Copy)]
enum Side {
    Above,
    Below,
}

/// Connects the ports in `ends` to this switch, by further ones where they are many.
fn connect(topology: &mut Topology, switch: SwitchId, side: Side, ends: &[Port]) {
    if ends.len() <= DIRECT_MAX {
        for end in ends {
            attach(topology, switch, side, *end);
        }
        return;
    }
    let name = match side {
        Side::Above => "upper",
        Side::Below => "lower",
    };
    for (number, group) in (0..).zip(ends.chunks(GROUP)) {
        let between = add_switch(topology, format!("{name}{number}"));
        for end in group {
            attach(topology, between, side, *end);
        }
        let end = add_port(topology, between);
        attach(topology, switch, side, end);
    }
}

fn attach(topology: &mut Topology, switch: SwitchId, side: Side, end: Port) {
    let port = add_port(topology, switch);
    topology.links.push(match side {
        Side::Above => link(end, port),
        Side::Below => link(port, end),
    });
}

/// A switch that has no ports yet. There are 129 of them at most.
fn add_switch(topology: &mut Topology, name: String) -> SwitchId {
    topology.switches.push(Switch {
        name,
        ports: 0,
        vppbs: 0,
    });
    let last = (0..).map(SwitchId).zip(&topology.switches).last();
    last.map_or(SwitchId(0), |(id, _)| id)
}

fn add_port(topology: &mut Topology, switch: SwitchId) -> Port {
    let ports = &mut topology.switches[switch.index()].ports;
    let port = switch_port(switch.0, *ports);
    *ports += 1;
    port
}

fn host(id: u16, window_gib: u64) -> Host {
    let ddr = Memory {
        class: "ddr".to_owned(),
        capacity: Bytes::new(64 * GIB),
    };
    Host {
        name: format!("h{id}"),
        root_ports: 1,
        window: Bytes::new(window_gib * GIB),
        writes_back_no_clean_lines: true,
        takes_back_invalidates: false,
        cache_lines: CACHE_LINES_DEFAULT,
        memories: vec![ddr],
    }
}

/// Without any memory yet.
fn memdev(name: &str, id: u16, kind: MemdevKind) -> Memdev {
    Memdev {
        name: name.to_owned(),
        serial: SERIAL_DEFAULT + u64::from(id),
        kind,
        class: CLASS_DEFAULT.to_owned(),
        ld_limit: None,
        fixed: Bytes::ZERO,
        dynamic: Bytes::ZERO,
        regions: Vec::new(),
    }
}

/// For memory that one host has alone.
fn region(length_gib: u64, block: u64) -> Region {
    Region {
        length: Bytes::new(length_gib * GIB),
        block: Bytes::new(block),
        is_sharable: false,
        is_read_only: false,
        sanitizes: true,
        is_hardware_coherent: false,
    }
}

fn host_port(id: u16) -> Port {
    let node = Node::Host(HostId(id));
    Port {
        node,
        port: PortId(0),
    }
}

fn switch_port(id: u16, port: u8) -> Port {
    let node = Node::Switch(SwitchId(id));
    Port {
        node,
        port: PortId(port),
    }
}

fn memdev_port(id: u16, head: u8) -> Port {
    let node = Node::Memdev(MemdevId(id));
    Port {
        node,
        port: PortId(head),
    }
}

fn link(up: Port, down: Port) -> Link {
    Link {
        up,
        down,
        lanes: LANES_DEFAULT,
        gigatransfers: GIGATRANSFERS_DEFAULT,
    }
}
