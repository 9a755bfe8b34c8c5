//! Drawings of topologies: those of the ready ones as recorded, and those of any size whole and
//! without two things at one place.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use fabric_emu::topology::{Link, READY_NAMES, Topology, draw, shapes};

/// Compares with the file of this name, or writes it where `TIERPOOL_BLESS` is set.
fn assert_golden(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/topology/golden");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("TIERPOOL_BLESS").is_some() {
        std::fs::write(&path, text).expect("the folder is there");
    }
    let expected = std::fs::read_to_string(&path).expect("it is recorded");
    assert_eq!(text, expected, "TIERPOOL_BLESS=1 writes {name} anew");
}

/// An element that begins: its name, and its attributes.
type Element = (String, BTreeMap<String, String>);

/// Reads XML as far as our pictures use it, and panics where it is not well formed.
#[derive(Debug, Default)]
struct Xml {
    elements: Vec<Element>,
    /// The text in elements, without what is around it.
    texts: Vec<String>,
}

impl Xml {
    fn read(text: &str) -> Self {
        let mut xml = Self::default();
        let mut open = Vec::<String>::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            xml.text(before, !open.is_empty());
            let (tag, after) = after.split_once('>').expect("a tag ends");
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "a tag ends what is open");
                continue;
            }
            assert!(xml.elements.is_empty() || !open.is_empty(), "one root");
            let (tag, is_empty) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let element = element(tag);
            if !is_empty {
                open.push(element.0.clone());
            }
            xml.elements.push(element);
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        xml
    }

    fn text(&mut self, text: &str, is_inside: bool) {
        let text = text.trim();
        if !text.is_empty() {
            assert!(is_inside && !text.contains('>'), "{text}");
            self.texts.push(unescaped(text));
        }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &BTreeMap<String, String>> {
        let named = move |element: &&Element| element.0 == name;
        self.elements.iter().filter(named).map(|element| &element.1)
    }

    fn numbers<const N: usize>(&self, name: &str, keys: [&str; N]) -> Vec<[u64; N]> {
        let number = |attributes: &BTreeMap<String, String>, key| {
            let text = attributes.get(key).expect("it is there");
            text.parse().expect("a whole number")
        };
        let all = self.named(name);
        all.map(|attributes| keys.map(|key| number(attributes, key)))
            .collect()
    }
}

fn element(tag: &str) -> Element {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{tag}");
    let mut attributes = BTreeMap::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").expect("a key has a value");
        let (value, after) = after.split_once('"').expect("a value ends");
        assert!(after.is_empty() || after.starts_with(' '), "{tag}");
        let before = attributes.insert(key.trim_start().to_owned(), unescaped(value));
        assert_eq!(before, None, "{tag}");
        rest = after;
    }
    (name.to_owned(), attributes)
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, after) = part.split_once(';').expect("an entity ends");
        let named = [("amp", "&"), ("lt", "<"), ("gt", ">"), ("quot", "\"")];
        let meant = named.iter().find(|(known, _)| *known == name);
        let _ = write!(plain, "{}{after}", meant.expect("it is known").1);
    }
    plain
}

/// Every rule that holds for the picture of any topology.
fn assert_drawn(topology: &Topology) {
    let drawn = draw::svg(topology);
    assert_eq!(drawn, draw::svg(&topology.clone()));
    let xml = Xml::read(&drawn);
    let hosts = topology.hosts.iter().map(|host| &host.name);
    let switches = topology.switches.iter().map(|switch| &switch.name);
    let memdevs = topology.memdevs.iter().map(|memdev| &memdev.name);
    let names: Vec<_> = hosts.chain(switches).chain(memdevs).collect();
    for name in &names {
        assert!(xml.texts.contains(name), "{name}");
    }

    let root = xml.named("svg").next().expect("it is the root");
    let size = ["width", "height"].map(|key| root[key].parse::<u64>().expect("a whole number"));
    let boxes = xml.numbers("rect", ["x", "y", "width", "height"]);
    assert_eq!(boxes.len(), names.len());
    for (index, [x, y, width, height]) in boxes.iter().enumerate() {
        assert!(x + width <= size[0] && y + height <= size[1], "box {index}");
        for (other, [left, top, wide, high]) in boxes.iter().enumerate().skip(index + 1) {
            let beside = x + width <= *left || left + wide <= *x;
            let below = y + height <= *top || top + high <= *y;
            assert!(beside || below, "boxes {index} and {other}");
        }
    }

    // Each line goes from the lower edge of a box to the upper edge of another one, and where they
    // meet an edge there is room for the numbers of ports between them.
    let lines = xml.numbers("line", ["x1", "y1", "x2", "y2"]);
    assert_eq!(lines.len(), topology.links.len());
    let edge = |at: u64, x: u64, is_upper: bool| {
        boxes.iter().any(|[left, top, width, height]| {
            let edge = if is_upper { *top } else { top + height };
            edge == at && (*left..=left + width).contains(&x)
        })
    };
    let mut ends = Vec::new();
    for [x1, y1, x2, y2] in lines {
        assert!(edge(y1, x1, false) && edge(y2, x2, true) && y1 < y2);
        ends.extend([(y1, x1), (y2, x2)]);
    }
    ends.sort_unstable();
    for pair in ends.windows(2) {
        let [(above, left), (below, right)] = [pair[0], pair[1]];
        assert!(above != below || left + 24 <= right, "{left} {right}");
    }
    for Link { lanes, .. } in &topology.links {
        let label = format!("x{lanes}");
        let labels = xml.texts.iter().filter(|text| **text == label).count();
        let links = topology.links.iter().filter(|link| link.lanes == *lanes);
        assert_eq!(labels, links.count(), "{label}");
    }
}

#[test]
fn a_ready_topology_is_drawn_as_recorded() {
    for name in READY_NAMES {
        let topology = Topology::named(name).unwrap();
        assert_golden(name, &draw::text(&topology));
    }
}

#[test]
fn a_text_tells_of_each_thing_once() {
    for topology in [shapes::tree(100, 70), shapes::switched(20, 16)] {
        let text = draw::text(&topology);
        let told = |start: &str| {
            let starts = |line: &&str| {
                line.split_once(" GT/s -- ")
                    .is_some_and(|(_, down)| down.starts_with(start))
            };
            text.lines().filter(starts).count()
        };
        for memdev in &topology.memdevs {
            assert_eq!(told(&format!("{}:", memdev.name)), 1, "{}", memdev.name);
        }
        // One line for each link, one for each host and its memory and what is around it, one for
        // each region, and the title.
        let regions: usize = topology.memdevs.iter().map(|it| it.regions.len()).sum();
        let lines = 1 + topology.links.len() + 3 * topology.hosts.len() + regions;
        assert_eq!(text.lines().count(), lines);
        assert!(text.lines().all(|line| line == line.trim_end()));
    }
}

#[test]
fn a_picture_is_whole_and_no_two_boxes_are_at_one_place() {
    for name in READY_NAMES {
        assert_drawn(&Topology::named(name).unwrap());
    }
    for (hosts, devices) in [(1, 0), (2, 3), (64, 64), (65, 65), (300, 200)] {
        assert_drawn(&shapes::tree(hosts, devices));
    }
    assert_drawn(&shapes::switched(64, 16));
}

#[test]
fn a_long_name_makes_its_box_wide() {
    let mut topology = shapes::switched(8, 4);
    for host in &mut topology.hosts {
        host.name = format!("{}{}", "m".repeat(30), host.name);
    }
    assert_drawn(&topology);
    let widths = Xml::read(&draw::svg(&topology)).numbers("rect", ["width"]);
    let longest = topology.hosts[0].name.len() as u64;
    assert!(widths[0][0] >= 8 * longest, "{widths:?}");
}

#[test]
fn a_picture_is_escaped() {
    let mut topology = shapes::expander();
    topology.hosts[0].name = "<a href=\"x\">&amp;</a>".to_owned();
    topology.memdevs[0].class = "a\u{0}b\u{7}".to_owned();
    let drawn = draw::svg(&topology);
    assert!(!drawn.contains('\u{0}') && !drawn.contains('\u{7}'));
    assert_drawn(&topology);
}

#[test]
fn what_is_in_a_row_of_switches_is_drawn_in_a_column() {
    let mut topology = shapes::switched(1, 1);
    let mut last = topology.links.pop().expect("to the device");
    for number in 1..10 {
        let mut switch = topology.switches[0].clone();
        switch.name = format!("s{number}");
        topology.switches.push(switch);
        let up = fabric_emu::id::Node::Switch(fabric_emu::id::SwitchId(number));
        let mut link = last;
        link.down = fabric_emu::id::Port {
            node: up,
            port: fabric_emu::id::PortId(0),
        };
        topology.links.push(link);
        last.up.node = up;
    }
    topology.links.push(last);
    assert_eq!(topology.check(), Ok(()));
    assert_drawn(&topology);
    let tops = Xml::read(&draw::svg(&topology)).numbers("rect", ["y"]);
    assert!(tops.is_sorted_by(|above, below| above < below), "{tops:?}");
}
