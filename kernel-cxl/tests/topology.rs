//! What is read of a tree of files that a kernel showed, and of trees that are broken.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kernel_cxl::{DecoderKind, PortKind, Sysfs, Topology};
use pool_core::Bytes;
use pool_core::units::{GIB, MIB};

/// A kernel's files: see the text itself.
const TREE: &str = include_str!("trees/two-expanders.txt");

/// One line of such a text.
#[derive(Clone, Copy)]
enum Line<'t> {
    File(&'t str, &'t str),
    Link(&'t str, &'t str),
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = |line| match str::split_once(line, " -> ") {
        Some((path, target)) => Line::Link(path, target),
        None => {
            let (path, value) = line.split_once('=').expect("a file and what it holds");
            Line::File(path, value)
        }
    };
    lines.map(line).collect()
}

fn lay(root: &Path, lines: &[Line<'_>]) {
    for line in lines {
        let (Line::File(path, _) | Line::Link(path, _)) = line;
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("within the root")).expect("a folder of ours");
        let laid = match line {
            Line::File(_, value) => fs::write(path, value.replace('|', "\n")),
            Line::Link(_, target) => symlink(target, path),
        };
        laid.expect("a folder of ours");
    }
}

fn read(root: &Path) -> Topology {
    Topology::read(&Sysfs::at(root)).expect("what a kernel showed is read")
}

#[test]
fn what_a_kernel_showed_of_two_expanders_is_read_whole() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), &lines(TREE));
    let found = read(root.path());
    let memdev = found
        .memdev_of(0xa0)
        .expect("the device is found by its serial number");
    assert_eq!(
        (memdev.name.as_str(), memdev.host.as_str()),
        ("mem1", "0000:0d:00.0")
    );
    assert_eq!(
        (memdev.ram, memdev.pmem),
        (Bytes::new(512 * MIB), Bytes::ZERO)
    );
    assert_eq!((memdev.ram_qos_class, memdev.numa_node), (Some(0), None));
    assert!(memdev.is_enabled);
    let endpoint = found.endpoint_of(memdev).expect("it is behind a window");
    assert_eq!((endpoint.name.as_str(), endpoint.depth), ("endpoint3", 2));
    assert_eq!(endpoint.parent.as_deref(), Some("port2"));
    let kinds = |kind| found.ports.iter().filter(|port| port.kind == kind).count();
    assert_eq!(
        [PortKind::Root, PortKind::Switch, PortKind::Endpoint].map(kinds),
        [1, 2, 2]
    );
    let window = found.windows().next().expect("there are two");
    assert_eq!(
        (window.bytes(), window.targets.as_slice()),
        (Bytes::new(GIB), &[12][..])
    );
    assert!(window.takes_ram && !window.is_locked);
    assert_eq!(
        found
            .decoders
            .iter()
            .filter(|it| it.kind == DecoderKind::Endpoint)
            .count(),
        8
    );
}

#[test]
fn what_a_kernel_showed_of_a_region_and_what_became_of_it_is_read_whole() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), &lines(TREE));
    let found = read(root.path());
    let region = &found.regions[0];
    assert_eq!(
        (region.name.as_str(), region.decoder.as_str()),
        ("region0", "decoder0.0")
    );
    assert_eq!((region.bytes(), region.ways), (Bytes::new(256 * MIB), 1));
    assert!(region.is_committed && region.is_enabled);
    let behind = found
        .memdev_behind(&region.targets[0])
        .expect("its decoder is a device's");
    assert_eq!(behind.serial, 0xa0);
    let performance = region.performance.expect("the platform says how far it is");
    assert_eq!(
        (performance.read_latency, performance.write_latency),
        (352, 452)
    );
    let dax = region.dax.as_ref().expect("it is volatile");
    assert_eq!(
        (dax.id, dax.available, dax.align),
        (0, Bytes::ZERO, Bytes::new(2 * MIB))
    );
    let device = &dax.devices[0];
    assert_eq!(
        (device.name.as_str(), device.target_node),
        ("dax0.0", Some(3))
    );
    assert_eq!(
        (device.driver.as_deref(), device.file),
        (Some("kmem"), Some((251, 0)))
    );
    assert_eq!(device.mappings[0].addresses, region.addresses);
    let node = found
        .nodes
        .iter()
        .find(|node| node.id == 3)
        .expect("it has memory");
    assert_eq!(
        (node.has_cpus, node.tier, node.total),
        (false, Some(115), device.bytes)
    );
}

#[test]
fn a_kernel_without_cxl_has_none_and_that_is_no_error() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(read(root.path()), Topology::default());
}

#[test]
fn whatever_a_file_holds_or_where_it_is_gone_there_is_an_answer_that_names_it_or_none() {
    let whole = lines(TREE);
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), &whole);
    let mut refused = 0;
    for line in &whole {
        let Line::File(path, value) = *line else {
            continue;
        };
        let file = root.path().join(path);
        for text in [
            "",
            "no number",
            "-1",
            "0xffffffffffffffff",
            "99999999999999999999",
            "1,2-",
        ] {
            fs::write(&file, text).unwrap();
            if let Err(error) = Topology::read(&Sysfs::at(root.path())) {
                refused += 1;
                let folder = file.parent().expect("within the root");
                let told = error.to_string();
                assert!(told.contains(&*folder.to_string_lossy()), "{path}: {told}");
            }
        }
        fs::remove_file(&file).unwrap();
        // A device whose file is gone is going: it is left out, or known as far as it is told.
        if !path.ends_with("meminfo") {
            read(root.path());
        }
        fs::write(&file, value.replace('|', "\n")).unwrap();
    }
    assert!(refused > 100, "{refused} texts were refused");
    for line in &whole {
        let Line::Link(path, target) = *line else {
            continue;
        };
        let link = root.path().join(path);
        fs::remove_file(&link).unwrap();
        read(root.path());
        symlink("nowhere", &link).unwrap();
        read(root.path());
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
    }
}
