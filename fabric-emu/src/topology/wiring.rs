//! The rules for how the parts of a topology are connected: each port once, downwards only, no
//! switch below itself, and nothing that memory is behind left alone.

use std::collections::BTreeMap;

use super::error::{Part, Problem};
use super::limits::{GIGATRANSFERS, LANES};
use super::{Link, Topology, TopologyError};
use crate::id::{MemdevId, Node, Port, PortId, SwitchId};

type Checked = Result<(), TopologyError>;

/// The links, of a topology whose parts were checked.
pub(super) fn check(topology: &Topology) -> Checked {
    let mut taken = BTreeMap::new();
    for (index, link) in (0..).zip(&topology.links) {
        let part = Part::Link(index);
        speed(part, link)?;
        exists(topology, part, "up", link.up)?;
        exists(topology, part, "down", link.down)?;
        downwards(part, link)?;
        for (key, port) in [("up", link.up), ("down", link.down)] {
            if let Some(first) = taken.insert(port, part) {
                let end = topology.end(port);
                let problem = Problem::PortTaken { end, first };
                return Err(TopologyError::at(part, Some(key), problem));
            }
        }
    }
    heads(topology, &taken)?;
    cycles(topology)?;
    ways_up(topology)
}

fn speed(part: Part, link: &Link) -> Checked {
    let sets: [(_, _, &'static [u8]); 2] = [
        ("lanes", link.lanes, &LANES),
        ("gigatransfers", link.gigatransfers, &GIGATRANSFERS),
    ];
    for (key, value, allowed) in sets {
        if !allowed.contains(&value) {
            let value = u64::from(value);
            let problem = Problem::NoneOf { value, allowed };
            return Err(TopologyError::at(part, Some(key), problem));
        }
    }
    Ok(())
}

fn exists(topology: &Topology, part: Part, key: &'static str, port: Port) -> Checked {
    let problem = match topology.ports_of(port.node) {
        Some(ports) if port.port.0 < ports => return Ok(()),
        Some(ports) => Problem::NoSuchPort {
            end: topology.end(port),
            ports,
        },
        None => Problem::NoSuchNode {
            name: port.node.to_string(),
        },
    };
    Err(TopologyError::at(part, Some(key), problem))
}

fn downwards(part: Part, link: &Link) -> Checked {
    let (key, problem) = match (link.up.node, link.down.node) {
        (Node::Host(_), Node::Host(_)) => (None, Problem::JoinsHosts),
        (Node::Memdev(_), Node::Memdev(_)) => (None, Problem::JoinsMemdevs),
        (_, Node::Host(_)) => (Some("down"), Problem::HostBelow),
        (Node::Memdev(_), _) => (Some("up"), Problem::MemdevAbove),
        _ => return Ok(()),
    };
    Err(TopologyError::at(part, key, problem))
}

fn heads(topology: &Topology, taken: &BTreeMap<Port, Part>) -> Checked {
    for (id, memdev) in (0..).zip(&topology.memdevs) {
        for head in 0..memdev.kind.heads() {
            let node = Node::Memdev(MemdevId(id));
            let port = PortId(head);
            let port = Port { node, port };
            if !taken.contains_key(&port) {
                let end = topology.end(port);
                let part = Part::Memdev(id.into());
                return Err(TopologyError::at(part, None, Problem::HeadAlone { end }));
            }
        }
    }
    Ok(())
}

/// The switches that links join, upper and lower.
fn between_switches(topology: &Topology) -> impl Iterator<Item = (SwitchId, SwitchId)> {
    let ends = |link: &Link| match (link.up.node, link.down.node) {
        (Node::Switch(up), Node::Switch(down)) => Some((up, down)),
        _ => None,
    };
    topology.links.iter().filter_map(ends)
}

/// Takes away again and again each switch that nothing leads down to from those that are left. What
/// stays has one above it that stays too, so that going up from it ends in a circle.
fn cycles(topology: &Topology) -> Checked {
    let mut below = vec![Vec::new(); topology.switches.len()];
    let mut above = vec![Vec::new(); topology.switches.len()];
    for (up, down) in between_switches(topology) {
        below[up.index()].push(down);
        above[down.index()].push(up);
    }
    let mut left: Vec<_> = above.iter().map(Vec::len).collect();
    let ids = (0..).map(SwitchId).take(left.len());
    let mut free: Vec<_> = ids.filter(|id| left[id.index()] == 0).collect();
    let mut gone = vec![false; left.len()];
    while let Some(id) = free.pop() {
        gone[id.index()] = true;
        for down in &below[id.index()] {
            left[down.index()] -= 1;
            if left[down.index()] == 0 {
                free.push(*down);
            }
        }
    }
    let ids = || (0..).map(SwitchId).take(gone.len());
    let Some(start) = ids().find(|id| !gone[id.index()]) else {
        return Ok(());
    };
    let up = |id: &SwitchId| {
        let mut above = above[id.index()].iter();
        above.find(|up| !gone[up.index()]).copied()
    };
    // After as many steps as there are switches, the way has been around the circle.
    let steps = core::iter::successors(Some(start), up);
    let inside = steps.take(gone.len() + 1).last().unwrap_or(start);
    let around = core::iter::successors(Some(inside), up).skip(1);
    let mut through: Vec<_> = around.take_while(|id| *id != inside).collect();
    through.push(inside);
    let names = through.iter().rev();
    let through = names.map(|id| topology.switches[id.index()].name.clone());
    let problem = Problem::Cycle {
        through: through.collect(),
    };
    let part = Part::Switch(inside.0.into());
    Err(TopologyError::at(part, None, problem))
}

/// No switch is below itself, so where each has something above it, that ends at a host.
fn ways_up(topology: &Topology) -> Checked {
    let mut has = vec![false; topology.switches.len()];
    for link in &topology.links {
        if let Node::Switch(down) = link.down.node {
            has[down.index()] = true;
        }
    }
    for ((index, switch), has) in (0..).zip(&topology.switches).zip(has) {
        if !has {
            let name = switch.name.clone();
            let part = Part::Switch(index);
            return Err(TopologyError::at(part, None, Problem::NoWayUp { name }));
        }
    }
    Ok(())
}
