use super::*;

#[test]
fn a_file_that_is_too_short_is_not_mapped() {
    let file = file(PAGE_BYTES);
    let (needed, size) = (Bytes::new(2 * PAGE_BYTES), Bytes::new(PAGE_BYTES));
    let refused = FileMap::new(file.as_fd(), size, size, Access::ReadOnly).unwrap_err();
    assert_eq!(refused, MapError::FileTooShort { needed, size });
    let nothing = FileMap::new(file.as_fd(), Bytes::ZERO, Bytes::ZERO, Access::ReadOnly);
    assert!(matches!(
        nothing,
        Err(MapError::Os {
            errno: Errno::EINVAL,
            ..
        })
    ));
}

#[test]
fn a_mapping_ends_with_its_owner_and_is_not_for_children() {
    let file = memfd_create("ends-with-its-owner", MFdFlags::MFD_CLOEXEC).unwrap();
    ftruncate(&file, i64::try_from(PAGE_BYTES).unwrap()).unwrap();
    // By name: the address may be another test's as soon as it is free.
    let mapped = || {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .contains("ends-with-its")
    };
    let map = map(&file, Access::ReadWrite);
    let addr = map.mapped().addr();
    assert!(flags(addr).contains("dc"), "{}", flags(addr));
    assert!(mapped());
    drop(map);
    assert!(!mapped());
}

#[test]
fn a_read_only_descriptor_is_not_mapped_writable() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let page = Bytes::new(PAGE_BYTES);
    let refused = FileMap::new(file.as_fd(), Bytes::ZERO, page, Access::ReadWrite);
    assert!(matches!(
        refused,
        Err(MapError::Os {
            errno: Errno::EACCES,
            ..
        })
    ));
    assert!(FileMap::new(file.as_fd(), Bytes::ZERO, page, Access::ReadOnly).is_ok());
}
