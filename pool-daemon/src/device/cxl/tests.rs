//! On the files of a kernel with two expanders: `region0` lies on `0xa0`, and `kmem` has its dax
//! device, though no block of memory is online.

use std::path::Path;

use super::super::regions::tests::tree;
use super::*;

const REGION: &str = "sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0";
const DAX: &str = "dax_region0/dax0.0";
const DRIVERS: &str = "sys/bus/dax/drivers/kmem";
const DELETE: &str = "sys/devices/platform/ACPI0017:00/root0/decoder0.0/delete_region";

/// A device on `region0`, which is not taken yet.
pub(in super::super) fn region0(root: &Path) -> CxlRegion {
    let source = CxlSource {
        mode: CxlMode::DevDax,
        serials: vec![0xa0],
        size: Bytes::new(256 << 20),
        shared: false,
    };
    CxlRegion::of(Sysfs::at(root), source)
}

/// The region was made here a moment ago.
fn made(region: &CxlRegion) {
    let inode = region.inode_of("region0").unwrap();
    *lock(&region.made) = inode.map(|inode| ("region0".to_owned(), inode));
}

fn has_driver(root: &Path) {
    fs::create_dir_all(root.join(DRIVERS)).unwrap();
    fs::write(root.join(DRIVERS).join("unbind"), "").unwrap();
}

fn said(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file)).unwrap()
}

#[test]
fn a_region_that_was_made_here_and_not_taken_is_taken_from_whom_the_kernel_gave_it() {
    let root = tree(&[]);
    let region = region0(root.path());
    made(&region);
    let failed = region.take().unwrap_err();
    assert!(failed.to_string().contains("unbind"), "{failed}");
    assert!(region.taken().is_none());
    has_driver(root.path());
    region.take().unwrap();
    assert_eq!(region.name().as_deref(), Some("region0"));
    assert_eq!(said(root.path(), &format!("{DRIVERS}/unbind")), "dax0.0");
}

#[test]
fn a_region_of_others_that_kmem_has_is_theirs() {
    let root = tree(&[]);
    has_driver(root.path());
    let region = region0(root.path());
    let refused = region.take().unwrap_err();
    assert!(
        matches!(refused, SetupError::RegionInUse { .. }),
        "{refused}"
    );
    // Another one of the name is not the one that was made.
    *lock(&region.made) = Some(("region0".to_owned(), 1));
    let refused = region.take().unwrap_err();
    assert!(
        matches!(refused, SetupError::RegionInUse { .. }),
        "{refused}"
    );
    assert_eq!(said(root.path(), &format!("{DRIVERS}/unbind")), "");
}

#[test]
fn a_region_without_a_dax_device_is_not_taken_and_destroyed_where_it_was_made_here() {
    let root = tree(&["dax0.0/driver"]);
    fs::remove_file(root.path().join(REGION).join(DAX).join("size")).unwrap();
    let region = region0(root.path());
    let before = said(root.path(), DELETE);
    let refused = region.take().unwrap_err();
    assert!(refused.to_string().contains("a dax device"), "{refused}");
    assert_eq!(
        said(root.path(), DELETE),
        before,
        "it is not ours to destroy"
    );
    made(&region);
    assert_eq!(region.take().unwrap_err(), refused);
    assert!(said(root.path(), DELETE).starts_with("region0"));
    assert!(region.taken().is_none() && lock(&region.made).is_none());
}

#[test]
fn a_device_that_was_removed_is_not_taken_at_the_start() {
    let root = tree(&["dax0.0/driver"]);
    let region = region0(root.path());
    region.begin(true).unwrap();
    assert!(region.taken().is_none());
    assert!(!said(root.path(), &format!("{REGION}/{DAX}/size")).starts_with("0"));
    region.begin(false).unwrap();
    assert!(region.taken().is_some());
}

#[test]
fn what_is_not_there_is_seen_without_reading_all_that_is() {
    let root = tree(&[]);
    fs::write(root.path().join(REGION).join("size"), "much").unwrap();
    let mut region = region0(root.path());
    assert!(region.take().unwrap_err().to_string().contains("much"));
    region.source.serials.push(0xb0);
    let absent = region.take().unwrap_err();
    assert!(absent.is_absence(), "{absent}");
    assert!(absent.to_string().contains("0xb0"), "{absent}");
}

/// The driver would make memory of a node of it, and write there at once.
#[test]
fn a_region_that_other_hosts_have_is_not_made_where_kmem_would_take_it() {
    let root = tree(&[]);
    let mut region = region0(root.path());
    region.source.serials.push(0xa1);
    region.source.size = Bytes::new(512 << 20);
    region.source.shared = true;
    let create = "sys/devices/platform/ACPI0017:00/root0/decoder0.0/create_ram_region";
    let before = said(root.path(), create);
    let refused = region.take().unwrap_err();
    assert!(matches!(refused, SetupError::Cxl(_)), "{refused}");
    has_driver(root.path());
    let refused = region.take().unwrap_err();
    assert_eq!(refused, SetupError::KmemIsThere);
    assert!(region.taken().is_none());
    assert_eq!(said(root.path(), create), before);
    // One host's alone may be the kernel's meanwhile: it is taken from there.
    region.source.shared = false;
    let refused = region.take().unwrap_err();
    assert!(matches!(refused, SetupError::Cxl(_)), "{refused}");
}

/// It may have written there already, whoever gave it the region.
#[test]
fn a_region_that_other_hosts_have_is_not_taken_from_kmem() {
    let root = tree(&[]);
    has_driver(root.path());
    let mut region = region0(root.path());
    region.source.shared = true;
    let expected = SetupError::KmemHasIt {
        region: "region0".to_owned(),
        device: "dax0.0".to_owned(),
    };
    assert_eq!(region.take().unwrap_err(), expected);
    let unbind = format!("{DRIVERS}/unbind");
    assert_eq!(said(root.path(), &unbind), "", "it is left as it is");
    // One that was made here goes, and is told of all the same.
    made(&region);
    assert_eq!(region.take().unwrap_err(), expected);
    assert_eq!(said(root.path(), &unbind), "dax0.0");
    assert!(region.taken().is_none());
    // Where nobody drives it, it is had, whether the driver is there or not.
    let root = tree(&["dax0.0/driver"]);
    has_driver(root.path());
    let mut region = region0(root.path());
    region.source.shared = true;
    region.take().unwrap();
    assert_eq!(region.name().as_deref(), Some("region0"));
}
