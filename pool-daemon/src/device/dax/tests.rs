//! Who says whose the slices of a region are.

use super::super::cxl::tests::region0;
use super::super::regions::tests::tree;
use super::*;

/// A device on a region of a kernel's files, for a pool that says in `folder` whose it is.
fn device(root: &Path, folder: &Path) -> (DaxDevice, Arc<CxlRegion>) {
    let region = Arc::new(region0(root));
    let device = DaxDevice {
        owner: Owner::at(folder),
        ..DaxDevice::of(Arc::clone(&region), None)
    };
    (device, region)
}

#[test]
fn of_two_pools_on_one_device_the_one_that_has_it_says_so_and_the_other_one_nothing() {
    let (root, folder) = (tree(&["dax0.0/driver"]), tempfile::tempdir().unwrap());
    let owner = Owner::at(folder.path());
    let (first, has_it) = device(root.path(), folder.path());
    let (second, has_it_not) = device(root.path(), folder.path());
    has_it.take().unwrap();
    first.claim("first").unwrap();
    assert!(has_it_not.take().is_err());
    second.claim("second").unwrap();
    let place = Place::anywhere(Bytes::new(EXTENT_BYTES));
    let built = second.build(BackingId::FIRST, place, false);
    assert_eq!(built.err(), Some(WorldError::Withdrawn));
    assert_eq!(owner.read().unwrap().as_deref(), Some("first"));
    // Of what the first one leaves the second one takes nothing that is cut.
    drop((first, has_it));
    has_it_not.take().unwrap();
    second.claim("second").unwrap();
    assert_eq!(owner.read().unwrap().as_deref(), Some("second"));
}

#[test]
fn a_length_that_cannot_be_read_is_not_none() {
    let folder = tempfile::tempdir().unwrap();
    let errno = |found: Result<u64, Failed>| found.unwrap_err().errno;
    assert_eq!(errno(length_in(folder.path())), Errno::ENOENT);
    for (text, expected) in [("268435456\n", Ok(256 << 20)), ("0", Ok(0))] {
        fs::write(folder.path().join("size"), text).unwrap();
        assert_eq!(length_in(folder.path()), expected);
    }
    for text in ["", "much", "-1", "0x10"] {
        fs::write(folder.path().join("size"), text).unwrap();
        assert_eq!(errno(length_in(folder.path())), Errno::EILSEQ, "{text:?}");
    }
    // `/dev/null` is of these numbers, and has no length.
    assert_eq!(errno(length((1, 3))), Errno::ENOENT);
}
