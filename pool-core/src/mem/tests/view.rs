use super::*;

fn round_trip<T: Plain + PartialEq>(values: [T; 3]) {
    let file = file(PAGE_BYTES);
    let map = map(&file, Access::ReadWrite);
    let view = map.mapped().write_view::<T>(Bytes::new(64), 3).unwrap();
    for (index, value) in values.into_iter().enumerate() {
        view.set(index, value).unwrap();
    }
    assert_eq!(view.iter().collect::<Vec<_>>(), values);
    assert_eq!(view.get(2), Some(values[2]));
}

#[test]
fn every_plain_type_is_read_as_it_was_written() {
    round_trip([0, 1, u8::MAX]);
    round_trip([0, 1, u16::MAX]);
    round_trip([0, 1, u32::MAX]);
    round_trip([0, 1, u64::MAX]);
    round_trip([i8::MIN, -1, i8::MAX]);
    round_trip([i16::MIN, -1, i16::MAX]);
    round_trip([i32::MIN, -1, i32::MAX]);
    round_trip([i64::MIN, -1, i64::MAX]);
    round_trip([f32::MIN, -0.5, f32::INFINITY]);
    round_trip([f64::MIN, -0.5, f64::INFINITY]);
}

/// Copies in bulk at every alignment and length against element by element.
fn bulk_is_as_single<T: Plain + PartialEq + From<u8>>() {
    let file = file(PAGE_BYTES);
    let map = map(&file, Access::ReadWrite);
    let all = map.mapped().write_view::<T>(Bytes::ZERO, 64).unwrap();
    for start in 0..17 {
        for len in 0..40 {
            all.fill(T::from(0xee));
            let from: Vec<T> = (1..=len).map(T::from).collect();
            all.write_from(start, &from).unwrap();
            let end = start + from.len();
            let singles = (0..64).map(|index| all.get(index).unwrap());
            let expected = (0..64).map(|index| match index {
                index if (start..end).contains(&index) => from[index - start],
                _ => T::from(0xee),
            });
            assert!(singles.eq(expected), "{len} from {start}");
            let mut to = vec![T::default(); from.len()];
            all.read_into(start, &mut to).unwrap();
            assert_eq!(to, from);
        }
    }
}

#[test]
fn a_bulk_copy_is_a_copy_of_each_element_and_of_nothing_else() {
    bulk_is_as_single::<u8>();
    bulk_is_as_single::<u16>();
    bulk_is_as_single::<f32>();
    bulk_is_as_single::<f64>();
}

#[test]
fn fill_reaches_the_first_and_the_last_element() {
    let file = file(PAGE_BYTES);
    let map = map(&file, Access::ReadWrite);
    let whole = map.mapped().write_view::<u16>(Bytes::ZERO, 2048).unwrap();
    map.mapped()
        .write_view::<u16>(Bytes::new(2), 1_001)
        .unwrap()
        .fill(7);
    assert_eq!(
        (whole.get(0), whole.get(1), whole.get(1_001)),
        (Some(0), Some(7), Some(7))
    );
    assert_eq!(whole.get(1_002), Some(0));
}

#[test]
fn what_is_not_inside_is_refused_and_nothing_is_touched() {
    let file = file(PAGE_BYTES);
    let map = map(&file, Access::ReadWrite);
    let mapped = map.mapped();
    let outside = |offset: u64, count| {
        matches!(
            mapped.view::<u32>(Bytes::new(offset), count),
            Err(BoundsError::Outside { .. })
        )
    };
    assert!(outside(PAGE_BYTES, 1));
    assert!(outside(0, 1025));
    assert!(outside(0, usize::MAX));
    assert!(outside(u64::MAX, 1));
    assert!(
        mapped
            .view::<u32>(Bytes::new(PAGE_BYTES), 0)
            .unwrap()
            .is_empty()
    );

    let view = mapped.write_view::<u32>(Bytes::ZERO, 4).unwrap();
    assert_eq!(view.get(4), None);
    let size = Bytes::new(16);
    let refused = BoundsError::Outside {
        offset: size,
        len: Bytes::new(4),
        size,
    };
    assert_eq!(view.set(4, 9), Err(refused));
    assert!(view.write_from(3, &[9, 9]).is_err());
    assert!(view.write_from(usize::MAX, &[9, 9]).is_err());
    assert!(view.read_into(4, &mut [0]).is_err());
    assert!(
        mapped
            .view::<u32>(Bytes::ZERO, 1024)
            .unwrap()
            .iter()
            .all(|word| word == 0)
    );
}

#[test]
fn elements_lie_at_their_alignment() {
    let file = file(PAGE_BYTES);
    let map = map(&file, Access::ReadWrite);
    let addr = map.mapped().addr().checked_add(Bytes::new(4)).unwrap();
    let refused = map.mapped().view::<u64>(Bytes::new(4), 1).unwrap_err();
    assert_eq!(refused, BoundsError::Misaligned { addr, align: 8 });
    assert!(map.mapped().atomic_u32(Bytes::new(2)).is_err());
    assert!(map.mapped().atomic_u64(Bytes::new(4)).is_err());
    assert!(map.mapped().atomics_u64(Bytes::new(4), 2).is_err());
}

#[test]
fn read_only_bytes_have_no_way_to_be_written() {
    let file = file(PAGE_BYTES);
    let map = map(&file, Access::ReadOnly);
    let mapped = map.mapped();
    assert_eq!(mapped.view::<u64>(Bytes::ZERO, 8).unwrap().get(7), Some(0));
    assert_eq!(
        mapped.write_view::<u8>(Bytes::ZERO, 1).unwrap_err(),
        BoundsError::ReadOnly
    );
    assert_eq!(
        mapped.atomic_u32(Bytes::ZERO).unwrap_err(),
        BoundsError::ReadOnly
    );
    assert_eq!(
        mapped.atomic_u64(Bytes::ZERO).unwrap_err(),
        BoundsError::ReadOnly
    );
    assert_eq!(
        mapped.atomics_u64(Bytes::ZERO, 8).unwrap_err(),
        BoundsError::ReadOnly
    );
}

#[test]
fn many_words_are_the_words_one_by_one_and_none_past_the_end() {
    let file = file(PAGE_BYTES);
    let map = map(&file, Access::ReadWrite);
    let mapped = map.mapped();
    let words = mapped.atomics_u64(Bytes::new(16), 510).unwrap();
    for (index, word) in words.iter().enumerate() {
        word.store(u64::try_from(index).unwrap(), SeqCst);
    }
    let last = mapped.atomic_u64(Bytes::new(PAGE_BYTES - 8)).unwrap();
    assert_eq!(last.load(SeqCst), 509);
    assert_eq!(mapped.atomic_u64(Bytes::new(16)).unwrap().load(SeqCst), 0);
    assert!(mapped.atomics_u64(Bytes::new(16), 511).is_err());
    assert!(mapped.atomics_u64(Bytes::ZERO, usize::MAX).is_err());
    assert!(
        mapped
            .atomics_u64(Bytes::new(PAGE_BYTES), 0)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_word_written_through_one_mapping_is_seen_through_the_other() {
    let file = file(PAGE_BYTES);
    let (here, there) = (map(&file, Access::ReadWrite), map(&file, Access::ReadOnly));
    here.mapped()
        .atomic_u64(Bytes::new(8))
        .unwrap()
        .fetch_add(5, SeqCst);
    here.mapped()
        .atomic_u32(Bytes::new(4))
        .unwrap()
        .store(6, SeqCst);
    let words = there.mapped().view::<u32>(Bytes::ZERO, 4).unwrap();
    assert_eq!(words.iter().collect::<Vec<_>>(), [0, 6, 5, 0]);
}
