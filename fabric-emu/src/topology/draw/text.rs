//! A tree of text, by host. What several hosts reach is told under the first one, and named under
//! the others, so that there are as many lines as there are things.

use std::collections::{BTreeMap, BTreeSet};

use super::words;
use crate::id::{HostId, Node, Port, PortId};
use crate::topology::{Link, Topology};

/// The topology as a tree, one line for each thing, each with its end.
#[must_use]
pub fn text(topology: &Topology) -> String {
    let mut tree = Tree {
        topology,
        below: BTreeMap::new(),
        told: BTreeSet::new(),
        out: format!("{}: {}\n", topology.name, words::summary(topology)),
    };
    for link in &topology.links {
        tree.below.entry(link.up.node).or_default().push(link);
    }
    for links in tree.below.values_mut() {
        links.sort_by_key(|link| link.up.port);
    }
    for (id, host) in (0..).map(HostId).zip(&topology.hosts) {
        let about = words::host(host).join(", ");
        tree.out.push_str(&format!("\n{}  {about}\n", host.name));
        let mut items: Vec<_> = host
            .memories
            .iter()
            .map(words::memory)
            .map(Item::Line)
            .collect();
        items.extend(tree.ports(id, host.root_ports));
        tree.tell(items);
    }
    tree.out
}

/// What stands below something.
enum Item<'t> {
    Line(String),
    Down(&'t Link),
}

struct Tree<'t> {
    topology: &'t Topology,
    below: BTreeMap<Node, Vec<&'t Link>>,
    told: BTreeSet<Node>,
    out: String,
}

impl<'t> Tree<'t> {
    /// The root ports of a host: each with its link, or with nothing.
    fn ports(&self, id: HostId, ports: u8) -> Vec<Item<'t>> {
        let node = Node::Host(id);
        let links = self.links(node);
        let free = |port: &u8| links.iter().all(|link| link.up.port.0 != *port);
        let free = (0..ports).filter(free).map(|port| {
            let port = PortId(port);
            let name = self.topology.end(Port { node, port });
            (port, Item::Line(format!("{name} -- nothing")))
        });
        let linked = links.iter().map(|link| (link.up.port, Item::Down(link)));
        let mut items: Vec<_> = free.chain(linked).collect();
        items.sort_by_key(|(port, _)| *port);
        items.into_iter().map(|(_, item)| item).collect()
    }

    fn links(&self, node: Node) -> Vec<&'t Link> {
        self.below.get(&node).cloned().unwrap_or_default()
    }

    /// Writes these items and all that is below them. What is still to be written is kept in a list
    /// and not on the stack: switches may stand in a long row.
    fn tell(&mut self, items: Vec<Item<'t>>) {
        let mut left = vec![(String::new(), items.into_iter().peekable())];
        while let Some((indent, items)) = left.last_mut() {
            let Some(item) = items.next() else {
                left.pop();
                continue;
            };
            let (branch, further) = match items.peek() {
                Some(_) => ("|- ", "|  "),
                None => ("`- ", "   "),
            };
            let inner = format!("{indent}{further}");
            self.out.push_str(&format!("{indent}{branch}"));
            let below = match item {
                Item::Line(line) => {
                    self.out.push_str(&line);
                    Vec::new()
                }
                Item::Down(link) => self.follow(link),
            };
            self.out.push('\n');
            left.push((inner, below.into_iter().peekable()));
        }
    }

    /// Writes where a link leads to, and answers what stands below that.
    fn follow(&mut self, link: &'t Link) -> Vec<Item<'t>> {
        let (up, down) = (self.topology.end(link.up), self.topology.end(link.down));
        let about = words::link(link);
        self.out.push_str(&format!("{up} -- {about} -- {down}"));
        let node = link.down.node;
        if !self.told.insert(node) {
            self.out.push_str("  (see above)");
            return Vec::new();
        }
        let words = match node {
            Node::Switch(id) => self.topology.switches.get(id.index()).map(words::switch),
            Node::Memdev(id) => self.topology.memdevs.get(id.index()).map(words::memdev),
            Node::Host(_) => None,
        };
        if let Some(words) = words {
            self.out.push_str(&format!("  {}", words.join(", ")));
        }
        let mut items: Vec<_> = self.regions(node).into_iter().map(Item::Line).collect();
        items.extend(self.links(node).into_iter().map(Item::Down));
        items
    }

    fn regions(&self, node: Node) -> Vec<String> {
        let memdev = match node {
            Node::Memdev(id) => self.topology.memdevs.get(id.index()),
            _ => None,
        };
        let regions = memdev.map_or(&[][..], |memdev| &memdev.regions);
        let regions = regions.iter().enumerate();
        regions
            .map(|(index, region)| words::region(index, region).join(", "))
            .collect()
    }
}
