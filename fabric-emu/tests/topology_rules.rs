//! Files of topologies that break a rule are refused, with what is wrong, where, and what is
//! allowed.

#[path = "topology/support.rs"]
mod support;

use fabric_emu::topology::TopologyError;
use fabric_emu::topology::error::{Part, Place, Problem};
use fabric_emu::topology::limits::{
    BLOCK_MIN, CAPACITY_MAX, GIGATRANSFERS, GRANULE, LANES, WINDOW_MAX,
};
use pool_core::Bytes;
use pool_core::units::{GIB, MIB, TIB};
use support::{GOOD, changed, more, refusal};

/// What is wrong with a file, and the line, the part and the key where it is.
type Bad = (String, u32, Part, Option<&'static str>, Problem);

fn assert_refused(bad: Vec<Bad>) {
    for (text, line, part, key, problem) in bad {
        let place = Place {
            file: Some("t.toml".to_owned()),
            line: Some(line),
            part,
            key,
        };
        let error = refusal(&text);
        assert_eq!(error, TopologyError { place, problem }, "{text}\n{error}");
    }
}

fn mib(mib: u64) -> Bytes {
    Bytes::new(mib * MIB)
}

#[test]
fn a_name_is_short_and_plain() {
    let odd = |name: &str| Problem::Name {
        name: name.to_owned(),
    };
    let named = |line, from: &str, to: &str, part| {
        let quoted = |name| format!("\"{name}\"");
        let text = changed(&quoted(from), &quoted(to));
        (text, line, part, Some("name"), odd(to))
    };
    let long = "x".repeat(33);
    let (host, switch, device) = (Part::Host(0), Part::Switch(0), Part::Memdev(0));
    assert_refused(vec![
        named(1, "t", "", Part::Whole),
        named(3, "h", "", host),
        named(3, "h", "a b", host),
        named(3, "h", "-a", host),
        named(7, "s", "a:0", switch),
        named(11, "m", "<m>", device),
        named(11, "m", "\u{fc}", device),
        named(11, "m", &long, device),
    ]);
    let class = "[[host.memory]]\nclass = \"\"\ncapacity = \"1 GiB\"\n\n[[switch]]";
    let text = changed("[[switch]]", class);
    assert_refused(vec![(text, 7, Part::Memory(0, 0), Some("class"), odd(""))]);
}

#[test]
fn two_parts_have_two_names() {
    let (host, switch, device) = (Part::Host(0), Part::Switch(0), Part::Memdev(0));
    let double = |name: &str, first| Problem::DoubleName {
        name: name.to_owned(),
        first,
    };
    let key = Some("name");
    let second = more("[[host]]\nname = \"h\"\n");
    assert_refused(vec![
        (changed("\"s\"", "\"h\""), 7, switch, key, double("h", host)),
        (
            changed("\"m\"", "\"s\""),
            11,
            device,
            key,
            double("s", switch),
        ),
        (second, 28, Part::Host(1), key, double("h", host)),
    ]);
}

#[test]
fn two_devices_have_two_serial_numbers() {
    let serial = 7;
    let first = Part::Memdev(0);
    assert_refused(vec![(
        more("[[memdev]]\nname = \"n\"\nserial = 0x7\nfixed = \"256 MiB\"\n"),
        29,
        Part::Memdev(1),
        Some("serial"),
        Problem::DoubleSerial { serial, first },
    )]);
}

#[test]
fn a_device_has_up_to_sixteen_parts_or_heads() {
    let kind = |kind: &str, value| {
        let text = changed("{ mld = 2 }", kind);
        let (least, most) = (1, 16);
        let problem = Problem::Number { value, least, most };
        (text, 13, Part::Memdev(0), Some("kind"), problem)
    };
    assert_refused(vec![
        kind("{ mld = 0 }", 0),
        kind("{ mld = 17 }", 17),
        kind("{ mld = 300 }", 300),
        kind("{ heads = 0 }", 0),
        kind("{ heads = 17 }", 17),
    ]);
}

#[test]
fn a_number_is_within_its_bounds() {
    let number = |value, least, most| Problem::Number { value, least, most };
    let (host, switch) = (Part::Host(0), Part::Switch(0));
    let ports = changed("ports = 3", "ports = 1");
    let vppbs = changed("ports = 3", "ports = 3\nvppbs = 256");
    let root_ports = changed("[[switch]]", "root_ports = 256\n[[switch]]");
    let lines = changed("[[switch]]", "cache_lines = 1_048_577\n[[switch]]");
    let lines_max = 1_048_576;
    let limit = |value: u64| {
        let text = changed("{ mld = 2 }", &format!("{{ mld = 2 }}\nld_limit = {value}"));
        let problem = number(value, 1_000_000, 1_000_000_000_000_000);
        (text, 14, Part::Memdev(0), Some("ld_limit"), problem)
    };
    assert_refused(vec![
        limit(0),
        limit(999_999),
        limit(1_000_000_000_000_001),
        (ports, 8, switch, Some("ports"), number(1, 2, 255)),
        (vppbs, 9, switch, Some("vppbs"), number(256, 1, 255)),
        (root_ports, 6, host, Some("root_ports"), number(256, 0, 255)),
        (
            lines,
            6,
            host,
            Some("cache_lines"),
            number(lines_max + 1, 1, lines_max),
        ),
    ]);
}

#[test]
fn a_link_is_as_wide_and_fast_as_links_are() {
    let link = |key, value, allowed| {
        let text = more(&format!("{key} = {value}\n"));
        (
            text,
            27,
            Part::Link(1),
            Some(key),
            Problem::NoneOf { value, allowed },
        )
    };
    assert_refused(vec![
        link("lanes", 0, &LANES),
        link("lanes", 3, &LANES),
        link("lanes", 256 + 16, &LANES),
        link("gigatransfers", 33, &GIGATRANSFERS),
        link("gigatransfers", 128, &GIGATRANSFERS),
    ]);
}

#[test]
fn memory_can_be_told_and_divided() {
    let (device, dynamic) = (Part::Memdev(0), "dynamic = \"1 GiB\"");
    let division = |size| Problem::Division {
        size,
        parts: 2,
        of: mib(512),
    };
    let set = |size: &str| changed(dynamic, &format!("dynamic = \"{size}\""));
    let fixed = |size: &str| changed(dynamic, &format!("{dynamic}\nfixed = \"{size}\""));
    let window = |size: &str| changed("window = \"1 GiB\"", &format!("window = \"{size}\""));
    let too_large = |size, most| Problem::Size {
        size,
        least: Bytes::ZERO,
        most,
    };
    let (size, of) = (mib(1), GRANULE);
    let multiple = Problem::Multiple { size, of };
    let error = Bytes::parse("1 GB").unwrap_err();
    let text = "1 GB".to_owned();
    let no_size = Problem::NoSize { text, error };
    let key = Some("dynamic");
    let large = Bytes::new(128 * TIB);
    assert_refused(vec![
        (set("1 GB"), 14, device, key, no_size),
        (set("1 MiB"), 14, device, key, division(mib(1))),
        (set("256 MiB"), 14, device, key, division(mib(256))),
        (
            set("128 TiB"),
            14,
            device,
            key,
            too_large(large, CAPACITY_MAX),
        ),
        (
            fixed("768 MiB"),
            15,
            device,
            Some("fixed"),
            division(mib(768)),
        ),
        (set("0"), 16, Part::Region(0, 0), None, Problem::NoDynamic),
        (window("1 MiB"), 4, Part::Host(0), Some("window"), multiple),
        (
            window("8192 TiB"),
            4,
            Part::Host(0),
            Some("window"),
            too_large(Bytes::new(8_192 * TIB), WINDOW_MAX),
        ),
        (
            GOOD.replace(
                "[[memdev.region]]\nlength = \"1 GiB\"\nblock = \"256 MiB\"\n",
                "",
            ),
            14,
            device,
            key,
            Problem::NoRegion,
        ),
        (
            more("[[memdev]]\nname = \"n\"\n"),
            27,
            Part::Memdev(1),
            None,
            Problem::NoMemory,
        ),
    ]);
}

#[test]
fn a_region_is_of_whole_blocks_and_granules() {
    let (region, block, length) = (Part::Region(0, 0), Some("block"), Some("length"));
    let of_block = |size: &str| changed("block = \"256 MiB\"", &format!("block = \"{size}\""));
    let of_length = |size: &str| changed("length = \"1 GiB\"", &format!("length = \"{size}\""));
    let no_block = |size| Problem::Block { size };
    let multiple = |size, of| Problem::Multiple { size, of };
    let odd_length = GIB + 2 * MIB;
    assert_refused(vec![
        (of_block("0"), 18, region, block, no_block(Bytes::ZERO)),
        (of_block("64"), 18, region, block, no_block(Bytes::new(64))),
        (of_block("1 MiB"), 18, region, block, no_block(mib(1))),
        (of_block("6 MiB"), 18, region, block, no_block(mib(6))),
        (
            of_block("2 GiB"),
            17,
            region,
            length,
            multiple(mib(1_024), mib(2_048)),
        ),
        (
            of_length("1026 MiB").replace("block = \"256 MiB\"", "block = \"2 MiB\""),
            17,
            region,
            length,
            multiple(Bytes::new(odd_length), GRANULE),
        ),
        (
            of_length("0"),
            17,
            region,
            length,
            Problem::Size {
                size: Bytes::ZERO,
                least: GRANULE,
                most: CAPACITY_MAX,
            },
        ),
    ]);
    assert_eq!(BLOCK_MIN, mib(2));
}

#[test]
fn a_link_leads_down_from_one_port_to_another() {
    let (up, down, part) = (Some("up"), Some("down"), Part::Link(1));
    let link = |up: &str, down: &str| {
        let from = "up = \"s:1\"\ndown = \"m:0\"";
        changed(from, &format!("up = \"{up}\"\ndown = \"{down}\"")).replace(
            "[[switch]]",
            "[[host]]\nname = \"g\"\nroot_ports = 2\n[[switch]]",
        )
    };
    let no_end = |end: &str| Problem::NoEnd {
        end: end.to_owned(),
    };
    let no_node = Problem::NoSuchNode {
        name: "x".to_owned(),
    };
    let no_port = |end: &str, ports| Problem::NoSuchPort {
        end: end.to_owned(),
        ports,
    };
    let taken = Problem::PortTaken {
        end: "s:0".to_owned(),
        first: Part::Link(0),
    };
    assert_refused(vec![
        (link("s", "m:0"), 28, part, up, no_end("s")),
        (link("s:", "m:0"), 28, part, up, no_end("s:")),
        (link("s:+1", "m:0"), 28, part, up, no_end("s:+1")),
        (link("s:256", "m:0"), 28, part, up, no_end("s:256")),
        (link("s:1", "x:0"), 29, part, down, no_node),
        (link("s:3", "m:0"), 28, part, up, no_port("s:3", 3)),
        (link("s:1", "m:1"), 29, part, down, no_port("m:1", 1)),
        (link("h:1", "m:0"), 28, part, up, no_port("h:1", 1)),
        (link("s:0", "m:0"), 28, part, up, taken),
        (link("g:0", "g:1"), 27, part, None, Problem::JoinsHosts),
        (link("m:0", "m:0"), 27, part, None, Problem::JoinsMemdevs),
        (link("s:1", "g:0"), 29, part, down, Problem::HostBelow),
        (link("m:0", "g:0"), 29, part, down, Problem::HostBelow),
        (link("m:0", "s:1"), 28, part, up, Problem::MemdevAbove),
    ]);
}

#[test]
fn what_memory_is_behind_is_reached_by_a_host() {
    let head = |end: &str| Problem::HeadAlone {
        end: end.to_owned(),
    };
    let cycle = |names: &[&str]| Problem::Cycle {
        through: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let no_way = |name: &str| Problem::NoWayUp {
        name: name.to_owned(),
    };
    let switches = "[[switch]]\nname = \"a\"\nports = 3\n[[switch]]\nname = \"b\"\nports = 3\n";
    let links = |ends: &[(&str, &str)]| {
        let link =
            |(up, down): &(&str, &str)| format!("[[link]]\nup = \"{up}\"\ndown = \"{down}\"\n");
        more(switches) + &ends.iter().map(link).collect::<String>()
    };
    let device = Part::Memdev(0);
    let two = changed("{ mld = 2 }", "{ heads = 2 }");
    let alone = changed("[[link]]\nup = \"s:1\"\ndown = \"m:0\"\n", "");
    assert_refused(vec![
        (alone, 10, device, None, head("m:0")),
        (two, 10, device, None, head("m:1")),
        (links(&[]), 27, Part::Switch(1), None, no_way("a")),
        (
            links(&[("s:2", "a:0")]),
            30,
            Part::Switch(2),
            None,
            no_way("b"),
        ),
        (
            links(&[("b:0", "a:0")]),
            30,
            Part::Switch(2),
            None,
            no_way("b"),
        ),
        (
            links(&[("b:0", "a:0"), ("a:1", "b:1")]),
            30,
            Part::Switch(2),
            None,
            cycle(&["b", "a"]),
        ),
        (
            links(&[("s:2", "a:0"), ("a:1", "b:0"), ("b:1", "b:2")]),
            30,
            Part::Switch(2),
            None,
            cycle(&["b"]),
        ),
    ]);
}
