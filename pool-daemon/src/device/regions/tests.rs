//! On the files of a kernel with two expanders, `0xa0` and `0xa1`, with a region each whose memory
//! is in nodes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pool_core::Nanos;

use super::*;
use trees::{Line, TREE, lay, lines};

#[path = "../../../../kernel-cxl/tests/trees/mod.rs"]
pub(crate) mod trees;

/// By somebody who waits for ever.
const AWAITED: Asked<'static> = Asked {
    until: Deadline::NEVER,
    is_awaited: &|| true,
};

const ROOT0: &str = "sys/devices/platform/ACPI0017:00/root0";

/// Without what these words are part of.
pub(crate) fn tree(without: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut lines = lines(TREE);
    lines.retain(|line| {
        let (Line::File(path, _) | Line::Link(path, _)) = line;
        !without.iter().any(|word| path.contains(word))
    });
    lay(root.path(), &lines);
    for file in ["create_ram_region", "delete_region"] {
        fs::write(
            root.path().join(ROOT0).join("decoder0.0").join(file),
            "region7",
        )
        .unwrap();
    }
    let drivers = root.path().join("sys/bus/cxl/drivers/cxl_region");
    fs::create_dir_all(&drivers).unwrap();
    for file in ["bind", "unbind"] {
        fs::write(drivers.join(file), "").unwrap();
    }
    root
}

/// A device on `0xa1`.
#[derive(Debug)]
struct Far {
    region: Option<&'static str>,
}

impl Holder for Far {
    fn serials(&self) -> &[u64] {
        &[0xa1]
    }

    fn region(&self) -> Option<String> {
        self.region.map(str::to_owned)
    }
}

/// With a device `far` that has `region1`.
fn regions(root: &Path) -> Regions {
    let far: Arc<dyn Holder> = Arc::new(Far {
        region: Some("region1"),
    });
    Regions::new(Sysfs::at(root), [("far".to_owned(), far)].into())
}

/// All files, with what they hold.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (kind, path) = (entry.file_type().unwrap(), entry.path());
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            let text = fs::read_to_string(&path).unwrap();
            found.insert(path.display().to_string(), text);
        }
    }
    found
}

fn reason<T: fmt::Debug>(result: Result<T, RegionError>) -> (ErrorReason, String) {
    let error = result.expect_err("it is refused");
    let told = Error::from(&error);
    assert_ne!(told.class(), ErrorClass::Unspecified);
    (told.reason(), told.message)
}

#[test]
fn the_topology_is_told_with_the_devices_of_the_pool_on_their_regions() {
    let root = tree(&[]);
    let device = |name: &str| DeviceMessage {
        name: name.to_owned(),
        ..DeviceMessage::default()
    };
    let devices = vec![device("dram"), device("far")];
    let told = regions(root.path()).topology(devices).unwrap();
    assert!(told.has_cxl && told.left_out == 0);
    let placed: Vec<_> = told.devices.iter().map(|it| it.region.as_str()).collect();
    assert_eq!(placed, ["", "region1"]);
    assert_eq!(told.devices[1].serials, [0xa1]);
    let [first, second] = &told.regions[..] else {
        panic!("there are two");
    };
    assert_eq!(
        (first.pool_device.as_str(), second.pool_device.as_str()),
        ("", "far")
    );
    assert_eq!(
        (first.targets[0].serial, first.targets[0].memdev.as_str()),
        (0xa0, "mem1")
    );
    let dax = &first.dax.as_ref().unwrap().devices[0];
    assert_eq!((dax.name.as_str(), dax.driver.as_str()), ("dax0.0", "kmem"));
    assert_eq!(dax.target_node, Some(3));
    let memdev = told.memdevs.iter().find(|it| it.serial == 0xa0).unwrap();
    assert_eq!(
        (memdev.ram_bytes, memdev.free_bytes),
        (512 << 20, 256 << 20)
    );
    let node = told.nodes.iter().find(|it| it.id == 3).unwrap();
    assert_eq!((node.has_cpus, node.tier), (false, Some(115)));
}

#[test]
fn a_kernel_without_cxl_says_so_and_has_the_pools_devices_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let told = regions(root.path())
        .topology(vec![DeviceMessage::default()])
        .unwrap();
    assert!(!told.has_cxl && told.memdevs.is_empty());
    assert_eq!(told.devices.len(), 1);
    let wanted = CreateRegionRequest {
        serials: vec![0xa0],
        ..CreateRegionRequest::default()
    };
    let (found, message) = reason(regions(root.path()).create(&wanted, AWAITED));
    assert_eq!(found, ErrorReason::NotFound, "{message}");
}

#[test]
fn a_region_that_somebody_has_stays_and_it_is_told_who() {
    let root = tree(&[]);
    let before = files(root.path());
    let regions = regions(root.path());
    let (found, message) = reason(regions.destroy("region1", AWAITED));
    assert_eq!(found, ErrorReason::InUse);
    assert!(message.contains("device far of this pool"), "{message}");

    let (found, message) = reason(regions.destroy("region0", AWAITED));
    assert_eq!(found, ErrorReason::InUse);
    let way = "write dax0.0 into /sys/bus/dax/drivers/kmem/unbind";
    assert!(
        message.contains("in use by kmem") && message.contains(way),
        "{message}"
    );

    let claimed = claim(&Sysfs::at(root.path()), "region0").unwrap();
    let (found, message) = reason(regions.destroy("region0", AWAITED));
    assert_eq!(found, ErrorReason::InUse);
    assert!(message.contains("another daemon has region0"), "{message}");
    drop(claimed);

    for name in ["region9", "decoder3.0", "../region0"] {
        let (found, message) = reason(regions.destroy(name, AWAITED));
        assert_eq!(found, ErrorReason::NotFound, "{name}: {message}");
    }
    for name in ["", "region 0", &"region9".repeat(100_000)] {
        let (found, message) = reason(regions.destroy(name, AWAITED));
        assert_eq!(found, ErrorReason::BadName, "{message}");
        assert!(message.len() < 512, "it repeats {} bytes", message.len());
    }
    assert_eq!(
        files(root.path()),
        before,
        "what is refused changes nothing"
    );
}

#[test]
fn a_region_that_cannot_be_is_refused_by_its_reason_and_changes_nothing() {
    let root = tree(&[]);
    let before = files(root.path());
    let regions = regions(root.path());
    let create = |serials: &[u64], mib: u64, granularity_bytes: u32| {
        let wanted = CreateRegionRequest {
            serials: serials.to_vec(),
            bytes: mib << 20,
            granularity_bytes,
        };
        reason(regions.create(&wanted, AWAITED))
    };
    use ErrorReason as R;
    let many = vec![0xa0; 100_000];
    for (serials, mib, granularity, expected) in [
        (&[][..], 256, 0, R::Malformed),
        (&[0xa0, 0xa0], 512, 0, R::Malformed),
        (&[0xdead], 256, 0, R::NotFound),
        (&[0xa0], 100, 0, R::OutOfRange),
        (&[0xa0], 256, 300, R::OutOfRange),
        (&many, 256, 0, R::OutOfRange),
        (&[0xa0, 0xa1], 512, 0, R::OutOfRange),
        (&[0xa0], 512, 0, R::MachineShort),
        (&[0xa1], 0, 0, R::MachineShort),
    ] {
        let (found, message) = create(serials, mib, granularity);
        assert_eq!(found, expected, "{mib} MiB: {message}");
    }
    // Where `kmem` waits for it, it would be the kernel's for ever.
    fs::create_dir_all(root.path().join("sys/bus/dax/drivers/kmem")).unwrap();
    let (found, message) = create(&[0xa0], 256, 0);
    assert_eq!(found, R::OutOfOrder, "{message}");
    assert_eq!(
        files(root.path()),
        before,
        "what is refused changes nothing"
    );
}

#[test]
fn what_no_asker_may_have_is_no_failure_of_a_device() {
    let root = tree(&["dax_region0/dax0.0/driver"]);
    let path = |file: &str| root.path().join(ROOT0).join(file);
    let ways = |window: &str| fs::read_to_string(path(window).join("target_list")).unwrap();
    let both = format!(
        "{},{}",
        ways("decoder0.0").trim(),
        ways("decoder0.1").trim()
    );
    let regions = regions(root.path());
    let refused = |refusal: Result<(), RegionError>, reason, part: &str| {
        let told = Error::from(&refusal.unwrap_err());
        assert_eq!((told.class(), told.reason()), (ErrorClass::Caller, reason));
        assert!(told.message.contains(part), "{}", told.message);
    };
    let destroy = || regions.destroy("region0", AWAITED).map(drop);

    fs::write(path("decoder0.0/region0/mode"), "pmem").unwrap();
    refused(destroy(), ErrorReason::NotPermitted, "persistent");
    fs::write(path("decoder0.0/region0/mode"), "ram").unwrap();
    fs::write(path("decoder0.0/region0/locked"), "1").unwrap();
    refused(destroy(), ErrorReason::NotPermitted, "locked region0");

    fs::write(path("decoder0.1/target_list"), both).unwrap();
    fs::write(path("decoder0.1/interleave_ways"), "2").unwrap();
    fs::write(path("decoder0.1/interleave_granularity"), "1024").unwrap();
    let wanted = CreateRegionRequest {
        serials: vec![0xa0, 0xa1],
        bytes: 512 << 20,
        granularity_bytes: 512,
    };
    let create = regions.create(&wanted, AWAITED).map(drop);
    refused(create, ErrorReason::OutOfRange, "1024 bytes");
}

#[test]
fn a_change_that_comes_too_late_for_its_asker_is_not_begun() {
    let root = tree(&["dax_region0/dax0.0/driver"]);
    let before = files(root.path());
    let regions = regions(root.path());
    let wanted = CreateRegionRequest {
        serials: vec![0xa0],
        bytes: 256 << 20,
        granularity_bytes: 0,
    };
    let refused = |asked: Asked<'_>, part: &str| {
        for refusal in [
            regions.create(&wanted, asked).map(drop),
            regions.destroy("region0", asked).map(drop),
        ] {
            let (found, message) = reason(refusal);
            assert_eq!(found, ErrorReason::Busy, "{message}");
            assert!(message.contains(part), "{message}");
        }
    };
    let over = Asked {
        until: Deadline::at(Nanos::ZERO),
        ..AWAITED
    };
    refused(over, "in time");
    let by_nobody = Asked {
        is_awaited: &|| false,
        ..AWAITED
    };
    refused(by_nobody, "in time");
    let other = Sysfs::at(root.path())
        .lock_regions(Deadline::NEVER)
        .unwrap();
    refused(over, "another program");
    drop(other);
    assert_eq!(files(root.path()), before);
    regions.destroy("region0", AWAITED).unwrap();
}

#[test]
fn a_region_that_nobody_has_is_taken_away_from_its_driver_down_to_its_memory() {
    let root = tree(&["dax_region0/dax0.0/driver"]);
    let gone = regions(root.path()).destroy("region0", AWAITED).unwrap();
    assert_eq!(gone.to_string(), "region0 on 0xa0");
    assert_eq!(gone.bytes, Bytes::new(256 << 20));
    let region = format!("{ROOT0}/decoder0.0/region0");
    let decoder = format!("{ROOT0}/port2/endpoint3/decoder3.0");
    for (file, value) in [
        (
            "sys/bus/cxl/drivers/cxl_region/unbind".to_owned(),
            "region0",
        ),
        (format!("{region}/commit"), "0"),
        (format!("{region}/target0"), "\n"),
        (format!("{decoder}/dpa_size"), "0"),
        (format!("{ROOT0}/decoder0.0/delete_region"), "region0"),
    ] {
        let told = fs::read_to_string(root.path().join(&file)).unwrap();
        // A file of a test keeps what was longer before.
        assert!(told.starts_with(value), "{file}: {told:?}");
    }
}
