//! What is read of a tree of files that a kernel showed, and of trees that are broken.

mod trees;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use kernel_cxl::{DecoderKind, PortKind, Region, Sysfs, Topology};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pool_core::clock::{Deadline, eventually};
use pool_core::units::{GIB, MIB};
use pool_core::{Bytes, Nanos};
use trees::{Line, TREE, lay, lines};

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
        read(root.path());
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

/// One object of each kind, and the folder that is its device.
const OBJECTS: [(&str, &str); 8] = [
    (
        "mem1",
        "sys/devices/pci0000:0c/0000:0c:00.0/0000:0d:00.0/mem1",
    ),
    ("root0", "sys/devices/platform/ACPI0017:00/root0"),
    ("port2", "sys/devices/platform/ACPI0017:00/root0/port2"),
    (
        "endpoint3",
        "sys/devices/platform/ACPI0017:00/root0/port2/endpoint3",
    ),
    (
        "decoder3.0",
        "sys/devices/platform/ACPI0017:00/root0/port2/endpoint3/decoder3.0",
    ),
    (
        "region0",
        "sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0",
    ),
    (
        "dax0.0",
        "sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0/dax_region0/dax0.0",
    ),
    ("node3", "sys/devices/system/node/node3"),
];

/// Removes `folder` once somebody reads `pipe`, and only then lets it read `value`. Ends without it
/// where `is_over` says that nobody will.
fn vanish_while_read(pipe: &Path, folder: &Path, value: &str, is_over: Receiver<()>) -> bool {
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).custom_flags(nix::libc::O_NONBLOCK);
    let opened = eventually(Deadline::after(Nanos::from_millis(60_000)), || {
        // There is a reader, or the pipe cannot be opened so.
        let opened = options.open(pipe).ok();
        let is_over = || is_over.try_recv().is_ok().then_some(None);
        opened.map(Some).or_else(is_over)
    });
    let Some(mut file) = opened.expect("it is read, or its reader ends") else {
        return false;
    };
    fs::remove_dir_all(folder).expect("a folder of ours");
    file.write_all(value.as_bytes()).expect("it has a reader");
    true
}

/// Whether all that is told of a region is so, but for dax devices that are left out.
fn is_region_of(whole: &Topology, told: &Region) -> bool {
    let mut same = whole.regions.iter();
    let Some(before) = same.find(|it| it.name == told.name) else {
        return false;
    };
    let (mut before, mut told) = (before.clone(), told.clone());
    let devices = |region: &mut Region| {
        let cut = region.dax.as_mut();
        cut.map_or_else(Vec::new, |cut| std::mem::take(&mut cut.devices))
    };
    let (all, left) = (devices(&mut before), devices(&mut told));
    before == told && left.iter().all(|it| all.contains(it))
}

/// The tree with one object of each kind, and what those need.
fn one_of_each() -> Vec<Line<'static>> {
    let of_others = "decoder1 decoder4 mem0 region1 dax1 node0/ node1/ port1 endpoint4 decoder2. \
                     decoder3.1 decoder3.2 decoder3.3";
    let mut texts = lines(TREE);
    texts.retain(|line| {
        let (Line::File(path, _) | Line::Link(path, _)) = line;
        !of_others.split(' ').any(|word| path.contains(word))
    });
    texts
}

/// Whether a file is that of the object in this folder, and not of one below it.
fn is_of(folder: &str, path: &str) -> bool {
    let own = path.strip_prefix(folder);
    let own = own.and_then(|it| it.strip_prefix('/'));
    let is_of_another = |own: &str| {
        let mut others = ["port", "endpoint", "decoder", "region"].into_iter();
        others.any(|word| own.starts_with(word) && own.contains('/'))
    };
    own.is_some_and(|own| !is_of_another(own))
}

/// What is read of the tree while `folder` goes at the moment that this file of it is read, and
/// whether it went: nobody may read it.
fn read_while_it_goes(root: &Path, folder: &str, path: &str, value: &str) -> (Topology, bool) {
    let (pipe, folder) = (root.join(path), root.join(folder));
    fs::remove_file(&pipe).expect("a file of ours");
    mkfifo(&pipe, Mode::S_IRWXU).expect("a folder of ours");
    let (over, is_over) = channel();
    let (found, has_vanished) = std::thread::scope(|scope| {
        let other = scope.spawn(|| vanish_while_read(&pipe, &folder, value, is_over));
        let found = read(root);
        // It may have ended already.
        over.send(()).unwrap_or_default();
        (found, other.join().expect("it does not panic"))
    });
    if !has_vanished {
        fs::remove_file(&pipe).expect("a file of ours");
    }
    (found, has_vanished)
}

/// Whether each object that is told is so as it was.
fn is_part_of(whole: &Topology, found: &Topology) -> bool {
    let memdevs = found.memdevs.iter().all(|it| whole.memdevs.contains(it));
    let ports = found.ports.iter().all(|it| whole.ports.contains(it));
    let mut decoders = found.decoders.iter();
    let decoders = decoders.all(|it| whole.decoders.contains(it));
    let regions = found.regions.iter().all(|it| is_region_of(whole, it));
    let nodes = found.nodes.iter().all(|it| whole.nodes.contains(it));
    memdevs && ports && decoders && regions && nodes
}

#[test]
fn what_vanishes_while_it_is_read_is_left_out_and_all_else_is_told_as_it_was() {
    let texts = one_of_each();
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), &texts);
    let whole = read(root.path());
    let mut vanished = 0;
    for (name, folder) in OBJECTS {
        for line in &texts {
            let Line::File(path, value) = *line else {
                continue;
            };
            if !is_of(folder, path) {
                continue;
            }
            let (found, has_vanished) = read_while_it_goes(root.path(), folder, path, value);
            vanished += usize::from(has_vanished);
            let is_told = told(&found).iter().any(|it| it == name);
            assert_ne!(is_told, has_vanished, "{name} by {path}");
            assert!(is_part_of(&whole, &found), "{name} by {path}: {found:?}");
            let is_gone = |line: &&Line<'_>| {
                let (Line::File(path, _) | Line::Link(path, _)) = line;
                fs::symlink_metadata(root.path().join(path)).is_err()
            };
            let gone: Vec<Line<'_>> = texts.iter().filter(is_gone).copied().collect();
            lay(root.path(), &gone);
        }
    }
    assert!(vanished > 40, "{vanished} reads were cut off");
}

/// The names of all that is told.
fn told(found: &Topology) -> Vec<String> {
    let memdevs = found.memdevs.iter().map(|it| it.name.clone());
    let ports = found.ports.iter().map(|it| it.name.clone());
    let decoders = found.decoders.iter().map(|it| it.name.clone());
    let regions = found.regions.iter().map(|it| it.name.clone());
    let files = found.dax_devices().map(|it| it.name.clone());
    let nodes = found.nodes.iter().map(|it| format!("node{}", it.id));
    let all = memdevs.chain(ports).chain(decoders).chain(regions);
    all.chain(files).chain(nodes).collect()
}

#[test]
fn devices_that_are_missing_are_told_by_reading_serial_numbers_alone() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), &lines(TREE));
    let regions = "sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0/size";
    fs::write(root.path().join(regions), "much").unwrap();
    let sysfs = Sysfs::at(root.path());
    assert!(Topology::read(&sysfs).is_err());
    assert_eq!(sysfs.missing(&[0xa0, 0xa1]).unwrap(), None);
    assert_eq!(sysfs.missing(&[0xa0, 0xb0]).unwrap(), Some(0xb0));
    let nothing = tempfile::tempdir().unwrap();
    let sysfs = Sysfs::at(nothing.path());
    assert_eq!(sysfs.missing(&[0xa0]).unwrap(), Some(0xa0));
}

#[test]
fn a_device_that_shows_no_list_of_poison_keeps_none() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), &lines(TREE));
    let sysfs = Sysfs::at(root.path());
    let list = root
        .path()
        .join("sys/bus/cxl/devices/mem1/trigger_poison_list");
    assert!(sysfs.list_poison(0xb0).is_err());
    if list.exists() {
        fs::remove_file(&list).unwrap();
    }
    assert!(!sysfs.list_poison(0xa0).unwrap());
    fs::write(&list, "").unwrap();
    assert!(sysfs.list_poison(0xa0).unwrap());
    assert_eq!(fs::read_to_string(&list).unwrap(), "1");
}
