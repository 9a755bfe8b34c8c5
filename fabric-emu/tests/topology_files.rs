//! Files of topologies: what is right is read as it is meant, and what is wrong is refused in a way
//! that an operator can act on.

#[path = "topology/support.rs"]
mod support;

use fabric_emu::id::{HostId, Node, Port, PortId, SwitchId};
use fabric_emu::topology::error::{Part, Problem};
use fabric_emu::topology::limits::{FILE_BYTES_MAX, LINKS_MAX};
use fabric_emu::topology::{Link, MemdevKind, READY_NAMES, Topology, shapes};
use pool_core::Bytes;
use pool_core::units::{GIB, MIB};
use support::{changed, more, refusal};

fn mib(mib: u64) -> Bytes {
    Bytes::new(mib * MIB)
}

#[test]
fn what_is_not_said_is_what_the_page_of_the_form_says() {
    let text = "name = \"t\"\n[[host]]\nname = \"h\"\n[[switch]]\nname = \"s\"\nports = 5\n\
        [[memdev]]\nname = \"a\"\nfixed = \"256 MiB\"\n\
        [[memdev]]\nname = \"b\"\ndynamic = \"512 MiB\"\n[[memdev.region]]\n\
        [[link]]\nup = \"h:0\"\ndown = \"s:4\"\n[[link]]\nup = \"s:0\"\ndown = \"a:0\"\n\
        [[link]]\nup = \"s:1\"\ndown = \"b:0\"\n";
    let topology = Topology::parse("t.toml", text).unwrap();
    let host = &topology.hosts[0];
    assert_eq!((host.root_ports, host.cache_lines), (1, 4_096));
    assert_eq!(host.window, Bytes::new(256 * GIB));
    assert!(!host.writes_back_no_clean_lines && !host.takes_back_invalidates);
    assert!(host.memories.is_empty());
    assert_eq!(topology.switches[0].vppbs, 4);
    let [first, second] = &topology.memdevs[..] else {
        panic!("two were said: {:?}", topology.memdevs);
    };
    assert_eq!((first.serial, second.serial), (0x1001, 0x1002));
    assert_eq!((first.kind, &*first.class), (MemdevKind::Sld, "cxl-x8"));
    assert_eq!((first.dynamic, second.fixed), (Bytes::ZERO, Bytes::ZERO));
    let region = &second.regions[0];
    assert_eq!((region.length, region.block), (mib(512), mib(256)));
    assert!(!region.is_sharable && !region.is_read_only && region.sanitizes);
    assert!(!region.is_hardware_coherent);
    let link = topology.links[0];
    assert_eq!((link.lanes, link.gigatransfers), (8, 32));
    let port = |node, port| Port {
        node,
        port: PortId(port),
    };
    assert_eq!(link.up, port(Node::Host(HostId(0)), 0));
    assert_eq!(link.down, port(Node::Switch(SwitchId(0)), 4));
}

#[test]
fn a_ready_topology_is_its_shape() {
    let named = |name: &str, shape| Topology {
        name: name.to_owned(),
        ..shape
    };
    let shapes = [
        ("expander", shapes::expander()),
        ("four-hosts", named("four-hosts", shapes::switched(4, 4))),
        ("two-heads", shapes::two_heads()),
        ("gpu-box", shapes::gpu_box()),
    ];
    assert_eq!(shapes.clone().map(|(name, _)| name), READY_NAMES);
    for (name, shape) in shapes {
        assert_eq!(Topology::named(name), Ok(shape));
    }
}

#[test]
fn a_name_of_no_topology_is_answered_with_those_there_are() {
    let error = Topology::named("nine-hosts").unwrap_err();
    let told = error.to_string();
    for name in ["nine-hosts", "four-hosts", "gpu-box"] {
        assert!(told.contains(name), "{told}");
    }
}

#[test]
fn every_shape_is_valid_at_its_limits() {
    for (hosts, parts) in [(1, 1), (254, 16), (3, 3), (254, 13)] {
        assert_eq!(shapes::switched(hosts, parts).check(), Ok(()));
    }
    for (hosts, devices) in [(1, 0), (1, 1), (64, 64), (65, 1), (1, 65), (1_024, 1_024)] {
        let tree = shapes::tree(hosts, devices);
        assert_eq!(tree.check(), Ok(()), "{hosts} {devices}");
        let made = (tree.hosts.len(), tree.memdevs.len());
        assert_eq!(made, (hosts.into(), devices.into()));
    }
}

#[test]
fn a_host_whose_root_ports_lead_nowhere_is_no_fault() {
    let text = "name = \"t\"\n[[host]]\nname = \"h\"\nroot_ports = 4\n[[host]]\nname = \"g\"\n";
    assert_eq!(Topology::parse("t.toml", text).unwrap().hosts.len(), 2);
}

#[test]
fn a_window_too_small_for_what_a_host_may_see_is_no_fault() {
    let small = changed("window = \"1 GiB\"", "window = \"0\"");
    assert!(Topology::parse("t.toml", &small).is_ok());
}

#[test]
fn a_file_of_another_form_is_refused_at_its_line() {
    for (text, line, words) in [
        ("name = ".to_owned(), 1, ""),
        (changed("ports = 3", "ports = 3\ncolour = 1"), 9, "`colour`"),
        (changed("serial = 7", "serial = -7"), 12, "-7"),
        (changed("serial = 7", "serial = \"seven\""), 12, "seven"),
        (changed("kind = { mld = 2 }", "kind = \"gfd\""), 13, "`gfd`"),
        (changed("kind = { mld = 2 }", "kind = { sld = 1 }"), 13, ""),
        (changed("ports = 3\n", ""), 6, "`ports`"),
        (changed("block", "coherence = \"odd\"\nblock"), 18, "`odd`"),
        (changed("window = \"1 GiB\"", "window = 1"), 4, "string"),
        (changed("down = \"m:0\"\n", ""), 24, "`down`"),
    ] {
        let error = refusal(&text);
        assert_eq!(error.place.line, Some(line), "{error}");
        let Problem::Form { message } = &error.problem else {
            panic!("{error:?}");
        };
        assert!(message.contains(words), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

#[test]
fn a_topology_has_bounds() {
    let (whole, device) = (Part::Whole, Part::Memdev(0));
    let count = |count, least, most| Problem::Count { count, least, most };
    let numbered = |number: u64, entry: &dyn Fn(u64) -> String| {
        let entries: String = (0..number).map(entry).collect();
        more(&entries)
    };
    let hosts = numbered(1_024, &|at| format!("[[host]]\nname = \"h{at}\"\n"));
    let switches = numbered(256, &|at| {
        format!("[[switch]]\nname = \"s{at}\"\nports = 2\n")
    });
    let memdevs = numbered(1_024, &|at| {
        format!("[[memdev]]\nname = \"m{at}\"\nfixed = \"256 MiB\"\n")
    });
    let links = numbered(LINKS_MAX as u64 - 1, &|_| {
        "[[link]]\nup=\"s:2\"\ndown=\"s:2\"\n".into()
    });
    let region = "[[memdev.region]]\n";
    let of_one = changed(region, &region.repeat(9));
    let full = |at| {
        format!(
            "[[memdev]]\nname=\"m{at}\"\ndynamic=\"1 GiB\"\n{}",
            region.repeat(8)
        )
    };
    let of_all = numbered(512, &full);
    let lines = |at| format!("[[host]]\nname = \"h{at}\"\ncache_lines = 1_048_576\n");
    let lines = numbered(16, &lines);
    let none = "name = \"t\"\n".to_owned();
    let memories = "[[host.memory]]\nclass = \"ddr\"\ncapacity = \"1 GiB\"\n".repeat(17);
    let memories = changed("[[switch]]", &format!("{memories}[[switch]]"));
    for (text, part, key, problem) in [
        (none, whole, "host", count(0, 1, 1_024)),
        (hosts, whole, "host", count(1_025, 1, 1_024)),
        (switches, whole, "switch", count(257, 0, 256)),
        (memdevs, whole, "memdev", count(1_025, 0, 1_024)),
        (links, whole, "link", count(65_537, 0, 65_536)),
        (of_one, device, "region", count(9, 0, 8)),
        (of_all, whole, "region", count(4_097, 0, 4_096)),
        (
            lines,
            whole,
            "cache_lines",
            count(16_781_312, 0, 16_777_216),
        ),
        (memories, Part::Host(0), "memory", count(17, 0, 16)),
    ] {
        let error = refusal(&text);
        let place = (error.place.part, error.place.key);
        assert_eq!(place, (part, Some(key)), "{error}");
        assert_eq!(error.problem, problem, "{error}");
    }
    let long = "#".repeat(FILE_BYTES_MAX + 1);
    assert!(matches!(refusal(&long).problem, Problem::TooLong { .. }));
}

#[test]
fn a_topology_that_was_never_a_file_is_checked_too() {
    let mut unconnected = shapes::expander();
    let nowhere = Port {
        node: Node::Host(HostId(9)),
        port: PortId(0),
    };
    unconnected.links = vec![Link {
        up: nowhere,
        ..unconnected.links[0]
    }];
    let error = unconnected.check().unwrap_err();
    assert_eq!(error.place.part, Part::Link(0));
    assert!(
        matches!(error.problem, Problem::NoSuchNode { .. }),
        "{error}"
    );
}

#[test]
fn an_error_is_one_line_that_an_operator_can_act_on() {
    for (text, told) in [
        (
            changed(
                "1 GiB\"\n\n[[memdev.region]]",
                "768 MiB\"\n\n[[memdev.region]]",
            ),
            "t.toml:14: memdev[0].dynamic: 768 MiB for 2 logical devices; a multiple of 256 MiB \
             for each of them is allowed, as the multiples of 512 MiB are",
        ),
        (
            changed("s:1", "s:7"),
            "t.toml:25: link[1].up: there is no port s:7; it has 3, counted from 0",
        ),
        (
            more("lanes = 5\n"),
            "t.toml:27: link[1].lanes: 5; allowed are [1, 2, 4, 8, 16]",
        ),
        (
            "name = \"t\"\n".to_owned(),
            "t.toml: host: 0; 1 to 1024 are allowed",
        ),
    ] {
        assert_eq!(refusal(&text).to_string(), told);
    }
}
