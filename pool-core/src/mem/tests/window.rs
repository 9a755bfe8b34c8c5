use super::*;

fn filled(count: u64, byte: u8) -> OwnedFd {
    let file = file(count * EXTENT_BYTES);
    let map = FileMap::new(file.as_fd(), Bytes::ZERO, extents(count), Access::ReadWrite);
    let map = map.unwrap();
    let len = map.mapped().bytes().to_usize().unwrap();
    map.mapped()
        .write_view::<u8>(Bytes::ZERO, len)
        .unwrap()
        .fill(byte);
    file
}

fn first_byte(region: &Region, offset: Bytes) -> u8 {
    region
        .mapped()
        .view::<u8>(offset, 1)
        .unwrap()
        .get(0)
        .unwrap()
}

#[test]
fn a_reservation_is_address_space_that_nobody_can_access() {
    let range = range(4);
    let window = Window::reserve(range).unwrap();
    assert_eq!(probe(range.base()), Err(Errno::EFAULT));
    let held = flags(range.base());
    assert!(
        held.contains("dc") && held.contains("dd") && held.contains("nr"),
        "{held}"
    );
    assert!(!held.contains("rd"), "{held}");
    drop(window);
    assert_eq!(flags(range.base()), "");
}

#[test]
fn a_range_that_is_taken_is_refused_by_naming_what_lies_there() {
    let range = range(4);
    let window = Window::reserve(range).unwrap();
    let region = window.claim(range.base(), EXTENT).unwrap();
    region
        .map(
            Bytes::ZERO,
            EXTENT,
            file(EXTENT_BYTES).as_fd(),
            Bytes::ZERO,
            Access::ReadOnly,
        )
        .unwrap();
    let Err(MapError::Taken { base, occupant, .. }) = Window::reserve(range) else {
        panic!("a range was reserved twice");
    };
    assert_eq!(base, range.base());
    assert!(occupant.contains("memfd:mem"), "{occupant}");
    assert_eq!(first_byte(&region, Bytes::ZERO), 0);
    drop((window, region));
    Window::reserve(range).unwrap();
}

#[test]
fn a_file_is_mapped_at_its_address_and_unmapped_with_its_region() {
    let range = range(4);
    let window = Window::reserve(range).unwrap();
    let at = range.base().checked_add(EXTENT).unwrap();
    let region = window.claim(at, extents(2)).unwrap();
    assert_eq!(region.mapped().bytes(), Bytes::ZERO);
    let file = filled(3, 7);
    region
        .map(
            Bytes::ZERO,
            extents(2),
            file.as_fd(),
            EXTENT,
            Access::ReadWrite,
        )
        .unwrap();
    assert_eq!(
        (region.mapped().addr(), region.mapped().bytes()),
        (at, extents(2))
    );
    assert_eq!(probe(at), Ok(7));
    let held = flags(at);
    assert!(
        held.contains("dc") && held.contains("dd") && held.contains("wr"),
        "{held}"
    );
    drop(window);
    assert_eq!(probe(at), Ok(7));
    region.release().unwrap();
    assert_eq!(probe(at), Err(Errno::EFAULT));
}

#[test]
fn a_released_range_is_reserved_still_and_can_be_claimed_anew() {
    let range = range(2);
    let window = Window::reserve(range).unwrap();
    for byte in 1..4 {
        let region = window.claim(range.base(), EXTENT).unwrap();
        region
            .map(
                Bytes::ZERO,
                EXTENT,
                filled(1, byte).as_fd(),
                Bytes::ZERO,
                Access::ReadOnly,
            )
            .unwrap();
        assert_eq!(probe(range.base()), Ok(byte));
        drop(region);
        let held = flags(range.base());
        assert!(held.contains("dc") && !held.contains("rd"), "{held}");
    }
}

#[test]
fn parts_join_into_one_range_and_leave_no_gap() {
    let range = range(4);
    let window = Window::reserve(range).unwrap();
    let region = window.claim(range.base(), extents(3)).unwrap();
    let (one, two) = (filled(1, 1), filled(2, 2));
    let gap = region
        .map(
            EXTENT,
            extents(2),
            two.as_fd(),
            Bytes::ZERO,
            Access::ReadOnly,
        )
        .unwrap_err();
    let at = range.base().checked_add(EXTENT).unwrap();
    assert_eq!(
        gap,
        MapError::Gap {
            at,
            mapped: range.base()
        }
    );
    region
        .map(
            Bytes::ZERO,
            EXTENT,
            one.as_fd(),
            Bytes::ZERO,
            Access::ReadOnly,
        )
        .unwrap();
    region
        .map(
            EXTENT,
            extents(2),
            two.as_fd(),
            Bytes::ZERO,
            Access::ReadOnly,
        )
        .unwrap();
    let len = region.mapped().bytes().to_usize().unwrap();
    let across = region.mapped().view::<u8>(Bytes::ZERO, len).unwrap();
    let sum: u64 = across.iter().map(u64::from).sum();
    assert_eq!(sum, 5 * EXTENT_BYTES);
}

#[test]
fn what_is_mapped_is_replaced_under_its_readers() {
    let range = range(1);
    let window = Window::reserve(range).unwrap();
    let region = window.claim(range.base(), EXTENT).unwrap();
    region
        .map(
            Bytes::ZERO,
            EXTENT,
            filled(1, 1).as_fd(),
            Bytes::ZERO,
            Access::ReadWrite,
        )
        .unwrap();
    let view = region
        .mapped()
        .write_view::<u64>(Bytes::ZERO, 1024)
        .unwrap();
    let word = |byte: u8| u64::from_le_bytes([byte; 8]);
    assert_eq!(view.get(0), Some(word(1)));
    let second = filled(1, 2);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let seen = |value: &u64| [word(1), word(2), 0].contains(value);
            while view.get(1023) != Some(0) {
                assert!(view.iter().all(|value| seen(&value)));
            }
        });
        region
            .map(
                Bytes::ZERO,
                EXTENT,
                second.as_fd(),
                Bytes::ZERO,
                Access::ReadWrite,
            )
            .unwrap();
        assert_eq!(view.get(0), Some(word(2)));
        region.zero(Bytes::ZERO, EXTENT).unwrap();
        reader.join().unwrap();
    });
    // What is written now reaches the file no more.
    view.fill(9);
    let second = map(&second, Access::ReadOnly);
    assert_eq!(
        second.mapped().view::<u64>(Bytes::ZERO, 1).unwrap().get(0),
        Some(word(2))
    );
}

#[test]
fn regions_do_not_overlap_and_end_where_the_window_does() {
    let range = range(8);
    let window = Window::reserve(range).unwrap();
    let at = |extent: u64| range.base().checked_add(extents(extent)).unwrap();
    let claim = |first: u64, count: u64| window.claim(at(first), extents(count));
    let held = claim(2, 3).unwrap();
    for (first, count) in [(2, 3), (0, 8), (1, 2), (4, 1), (3, 1), (4, 4)] {
        let claimed = MapError::Claimed {
            at: at(first),
            len: extents(count),
        };
        assert_eq!(claim(first, count).unwrap_err(), claimed);
    }
    let neighbours = (claim(0, 2).unwrap(), claim(5, 3).unwrap());
    for (first, count) in [(8, 1), (7, 2), (0, 0)] {
        assert!(
            matches!(claim(first, count), Err(MapError::Outside { .. })),
            "{first}"
        );
    }
    let below = PoolAddr::new(range.base().get() - EXTENT_BYTES);
    assert!(window.claim(below, EXTENT).is_err());
    drop((held, neighbours));
    claim(0, 8).unwrap();
}

#[test]
fn only_whole_extents_are_claimed_and_mapped() {
    let range = range(4);
    let window = Window::reserve(range).unwrap();
    let page = Bytes::new(PAGE_BYTES);
    let odd = range.base().checked_add(page).unwrap();
    let refused = window.claim(odd, EXTENT).unwrap_err();
    assert_eq!(
        refused,
        MapError::NotExtents {
            at: odd,
            len: EXTENT
        }
    );
    assert!(window.claim(range.base(), page).is_err());
    let region = window.claim(range.base(), extents(2)).unwrap();
    let file = file(2 * EXTENT_BYTES);
    let odd = region.map(
        Bytes::ZERO,
        page,
        file.as_fd(),
        Bytes::ZERO,
        Access::ReadOnly,
    );
    assert!(matches!(odd, Err(MapError::NotExtents { .. })));
    let past = region.map(
        EXTENT,
        extents(2),
        file.as_fd(),
        Bytes::ZERO,
        Access::ReadOnly,
    );
    assert!(matches!(past, Err(MapError::Outside { .. })));
}

#[test]
fn a_file_that_is_too_short_is_not_mapped_and_takes_nothing_away() {
    let range = range(1);
    let window = Window::reserve(range).unwrap();
    let region = window.claim(range.base(), EXTENT).unwrap();
    region
        .map(
            Bytes::ZERO,
            EXTENT,
            filled(1, 3).as_fd(),
            Bytes::ZERO,
            Access::ReadOnly,
        )
        .unwrap();
    let refused = region.map(
        Bytes::ZERO,
        EXTENT,
        file(PAGE_BYTES).as_fd(),
        Bytes::ZERO,
        Access::ReadOnly,
    );
    let size = Bytes::new(PAGE_BYTES);
    assert_eq!(
        refused,
        Err(MapError::FileTooShort {
            needed: EXTENT,
            size
        })
    );
    assert_eq!(first_byte(&region, Bytes::ZERO), 3);
}

#[test]
fn what_may_be_written_never_becomes_read_only() {
    let range = range(2);
    let window = Window::reserve(range).unwrap();
    let region = window.claim(range.base(), extents(2)).unwrap();
    let file = filled(2, 1);
    let map = |offset, access| region.map(offset, EXTENT, file.as_fd(), Bytes::ZERO, access);
    let access = || region.mapped().access();

    // Widened from the start on: writable as a whole only when every part is.
    map(Bytes::ZERO, Access::ReadOnly).unwrap();
    map(EXTENT, Access::ReadOnly).unwrap();
    map(Bytes::ZERO, Access::ReadWrite).unwrap();
    assert_eq!(access(), Access::ReadOnly);
    map(EXTENT, Access::ReadWrite).unwrap();
    assert_eq!(access(), Access::ReadWrite);

    let narrower = MapError::Narrower {
        at: range.base(),
        len: EXTENT,
    };
    assert_eq!(map(Bytes::ZERO, Access::ReadOnly), Err(narrower));
    region.zero(Bytes::ZERO, extents(2)).unwrap();
    assert_eq!(access(), Access::ReadWrite);
    region
        .mapped()
        .write_view::<u8>(EXTENT, 1)
        .unwrap()
        .set(0, 9)
        .unwrap();
}

#[test]
fn zero_pages_can_be_written_only_where_the_file_could() {
    let range = range(1);
    let window = Window::reserve(range).unwrap();
    let region = window.claim(range.base(), EXTENT).unwrap();
    let file = filled(1, 1);
    let map = || {
        region.map(
            Bytes::ZERO,
            EXTENT,
            file.as_fd(),
            Bytes::ZERO,
            Access::ReadOnly,
        )
    };
    map().unwrap();
    region.zero(Bytes::ZERO, EXTENT).unwrap();
    assert_eq!(region.mapped().access(), Access::ReadOnly);
    assert!(
        !flags(range.base()).contains("wr"),
        "{}",
        flags(range.base())
    );
    map().unwrap();
    assert_eq!(first_byte(&region, Bytes::ZERO), 1);
}

#[test]
fn a_region_is_extended_up_to_the_next_one() {
    let range = range(4);
    let window = Window::reserve(range).unwrap();
    let region = window.claim(range.base(), EXTENT).unwrap();
    let next = range.base().checked_add(extents(3)).unwrap();
    let next = window.claim(next, EXTENT).unwrap();
    let file = filled(1, 5);
    let map = || region.map(EXTENT, EXTENT, file.as_fd(), Bytes::ZERO, Access::ReadOnly);
    region.zero(Bytes::ZERO, EXTENT).unwrap();
    assert!(matches!(map(), Err(MapError::Outside { .. })));
    region.extend(extents(3)).unwrap();
    map().unwrap();
    assert_eq!(first_byte(&region, EXTENT), 5);

    let claimed = MapError::Claimed {
        at: range.base(),
        len: extents(4),
    };
    assert_eq!(region.extend(extents(4)), Err(claimed));
    drop(next);
    region.extend(extents(4)).unwrap();
    assert!(matches!(
        region.extend(extents(5)),
        Err(MapError::Outside { .. })
    ));
    assert_eq!(region.bytes(), extents(4));
    drop(region);
    window.claim(range.base(), extents(4)).unwrap();
}
