//! Where the boxes and the lines of a picture are: hosts in the first row, then switches by how
//! many of them are above, then memory devices. Boxes of a row stand side by side, and each has
//! room for its words and for its ports, so none lies on another.

use std::collections::BTreeMap;

use super::words;
use crate::id::{HostId, MemdevId, Node, Port, SwitchId};
use crate::topology::{Link, Topology};

/// Pixels that a character takes at most, and a line.
const CHARACTER: usize = 8;
pub(super) const LINE: usize = 16;
/// Pixels from one port to the next along the edge of a box.
const PORT: usize = 30;
const BOX_WIDTH_MIN: usize = 120;
/// Pixels between boxes, between rows, and around all.
const GAP: usize = 24;
const ROW_GAP: usize = 96;
pub(super) const MARGIN: usize = 24;
/// What is above the first row: the title.
const HEAD: usize = 40;

/// A box with words in it.
#[derive(Debug)]
pub(super) struct Box {
    pub(super) node: Node,
    pub(super) name: String,
    pub(super) lines: Vec<String>,
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Box {
    fn new(node: Node, name: &str, lines: Vec<String>, ports: usize) -> Self {
        let longest = lines.iter().map(String::len).chain([name.len()]).max();
        let words = (longest.unwrap_or(0) + 2) * CHARACTER;
        Self {
            node,
            name: name.to_owned(),
            // A strip for the ports above the words and one below them.
            height: (lines.len() + 3) * LINE + LINE / 2,
            lines,
            x: 0,
            y: 0,
            width: words.max(BOX_WIDTH_MIN).max(ports * PORT),
        }
    }

    fn middle(&self) -> usize {
        self.x + self.width / 2
    }
}

/// A link as a line.
#[derive(Debug)]
pub(super) struct Line<'t> {
    pub(super) link: &'t Link,
    pub(super) up: (usize, usize),
    pub(super) down: (usize, usize),
    /// Where its label is.
    pub(super) label: (usize, usize),
}

/// A whole picture.
#[derive(Debug)]
pub(super) struct Layout<'t> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) boxes: Vec<Box>,
    pub(super) lines: Vec<Line<'t>>,
}

impl<'t> Layout<'t> {
    pub(super) fn of(topology: &'t Topology) -> Self {
        let mut rows = rows(topology);
        let widths = rows.iter().map(|row| {
            let boxes: usize = row.iter().map(|one| one.width).sum();
            boxes + GAP * row.len().saturating_sub(1)
        });
        let widths: Vec<_> = widths.collect();
        let widest = widths
            .iter()
            .copied()
            .max()
            .unwrap_or(0)
            .max(title_width(topology));
        let mut y = MARGIN + HEAD;
        for (row, width) in rows.iter_mut().zip(widths) {
            let mut x = MARGIN + (widest - width) / 2;
            let height = row.iter().map(|one| one.height).max().unwrap_or(0);
            for one in row {
                (one.x, one.y, one.height) = (x, y, height);
                x += one.width + GAP;
            }
            y += height + ROW_GAP;
        }
        let boxes: Vec<_> = rows.into_iter().flatten().collect();
        let lines = lines(topology, &boxes);
        Self {
            width: widest + 2 * MARGIN,
            height: y.saturating_sub(ROW_GAP) + MARGIN,
            boxes,
            lines,
        }
    }
}

pub(super) fn title(topology: &Topology) -> String {
    format!("{}: {}", topology.name, words::summary(topology))
}

fn title_width(topology: &Topology) -> usize {
    title(topology).len() * (CHARACTER + 2)
}

fn rows(topology: &Topology) -> Vec<Vec<Box>> {
    let mut ports = BTreeMap::<_, (usize, usize)>::new();
    for link in &topology.links {
        ports.entry(link.up.node).or_default().1 += 1;
        ports.entry(link.down.node).or_default().0 += 1;
    }
    let ports = |node| {
        ports
            .get(&node)
            .map_or(0, |(above, below)| *above.max(below))
    };
    let depths = depths(topology);
    let deepest = depths.iter().copied().max().unwrap_or(0);
    let mut rows: Vec<_> = (0..deepest + 2).map(|_| Vec::new()).collect();
    for (id, host) in (0..).map(HostId).zip(&topology.hosts) {
        let mut lines = words::host(host);
        lines.extend(host.memories.iter().map(words::memory));
        let node = Node::Host(id);
        rows[0].push(Box::new(node, &host.name, lines, ports(node)));
    }
    for ((id, switch), depth) in (0..).map(SwitchId).zip(&topology.switches).zip(depths) {
        let node = Node::Switch(id);
        let lines = words::switch(switch);
        rows[depth].push(Box::new(node, &switch.name, lines, ports(node)));
    }
    for (id, memdev) in (0..).map(MemdevId).zip(&topology.memdevs) {
        let mut lines = words::memdev(memdev);
        for (index, region) in memdev.regions.iter().enumerate() {
            let mut words = words::region(index, region).into_iter();
            lines.extend(words.next());
            lines.extend(words.map(|word| format!("  {word}")));
        }
        let node = Node::Memdev(id);
        rows[deepest + 1].push(Box::new(node, &memdev.name, lines, ports(node)));
    }
    rows.retain(|row| !row.is_empty());
    rows
}

/// The row of each switch: one below the lowest that is above it. In a circle that has no end, so
/// that is looked for as often as there are switches, and no further.
fn depths(topology: &Topology) -> Vec<usize> {
    let mut depths = vec![1; topology.switches.len()];
    let deepest = depths.len();
    for _ in 0..deepest {
        let mut is_settled = true;
        for link in &topology.links {
            let (Node::Switch(up), Node::Switch(down)) = (link.up.node, link.down.node) else {
                continue;
            };
            let above = depths.get(up.index()).copied().unwrap_or(0);
            if let Some(depth) = depths.get_mut(down.index())
                && *depth <= above
                && above < deepest
            {
                *depth = above + 1;
                is_settled = false;
            }
        }
        if is_settled {
            break;
        }
    }
    depths
}

/// Where the links of each box meet its edges: in the order of what is at their other ends.
fn lines<'t>(topology: &'t Topology, boxes: &[Box]) -> Vec<Line<'t>> {
    let boxes: BTreeMap<_, _> = boxes.iter().map(|one| (one.node, one)).collect();
    let middle = |node| boxes.get(&node).map_or(0, |one| one.middle());
    let mut edges = BTreeMap::<_, Vec<(usize, Port)>>::new();
    for link in &topology.links {
        let below = edges.entry((link.up.node, false)).or_default();
        below.push((middle(link.down.node), link.up));
        let above = edges.entry((link.down.node, true)).or_default();
        above.push((middle(link.up.node), link.down));
    }
    let mut meets = BTreeMap::new();
    for ((node, is_above), mut ports) in edges {
        let Some(one) = boxes.get(&node) else {
            continue;
        };
        ports.sort_unstable();
        let y = one.y + if is_above { 0 } else { one.height };
        for (nth, (_, port)) in ports.iter().enumerate() {
            let x = one.x + one.width * (2 * nth + 1) / (2 * ports.len());
            meets.insert((*port, is_above), ((x, y), ports.len()));
        }
    }
    let line = |link: &'t Link| {
        let (up, below) = *meets.get(&(link.up, false))?;
        let (down, above) = *meets.get(&(link.down, true))?;
        Some(Line {
            link,
            up,
            down,
            // Nearer to the end that fewer lines share.
            label: between(up, down, if below <= above { 3 } else { 7 }),
        })
    };
    topology.links.iter().filter_map(line).collect()
}

/// So many tenths of the way.
fn between(from: (usize, usize), to: (usize, usize), tenths: usize) -> (usize, usize) {
    let mix = |from, to| (from * (10 - tenths) + to * tenths) / 10;
    (mix(from.0, to.0), mix(from.1, to.1))
}
