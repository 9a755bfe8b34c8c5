use std::os::fd::{AsFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

use super::*;
use crate::mem::{Access, FileMap};
use crate::units::PAGE_BYTES;

const PAGES: u64 = 4;

fn file() -> OwnedFd {
    let file = memfd_create("flush", MFdFlags::MFD_CLOEXEC).unwrap();
    ftruncate(&file, i64::try_from(PAGES * PAGE_BYTES).unwrap()).unwrap();
    file
}

fn map(file: &OwnedFd, access: Access) -> FileMap {
    let len = Bytes::new(PAGES * PAGE_BYTES);
    FileMap::new(file.as_fd(), Bytes::ZERO, len, access).unwrap()
}

fn read(mapped: &Mapped<'_>, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let view = mapped.view::<u8>(Bytes::new(offset), len).unwrap();
    view.read_into(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_instruction_keeps_what_was_stored() {
    let file = file();
    let map = map(&file, Access::ReadWrite);
    let mapped = map.mapped();
    let (all, len) = (mapped.bytes(), usize::try_from(PAGES * PAGE_BYTES).unwrap());
    for (byte, flusher) in (1..).zip(Flusher::available()) {
        mapped
            .write_view::<u8>(Bytes::ZERO, len)
            .unwrap()
            .fill(byte);
        assert_eq!(flusher.write_back(&mapped, Bytes::ZERO, all), Ok(256));
        flusher.fence_stores();
        assert_eq!(flusher.invalidate(&mapped, Bytes::ZERO, all), Ok(256));
        flusher.fence_all();
        assert_eq!(read(&mapped, 0, len), vec![byte; len], "{flusher:?}");
    }
}

#[test]
fn memory_that_may_only_be_read_can_be_written_back_and_dropped() {
    let file = file();
    let writable = map(&file, Access::ReadWrite);
    let map = map(&file, Access::ReadOnly);
    let mapped = map.mapped();
    let word = writable.mapped().write_view::<u64>(Bytes::ZERO, 1).unwrap();
    for (value, flusher) in (1..).zip(Flusher::available()) {
        word.set(0, value).unwrap();
        let len = mapped.bytes();
        assert_eq!(flusher.write_back(&mapped, Bytes::ZERO, len), Ok(256));
        assert_eq!(flusher.invalidate(&mapped, Bytes::ZERO, len), Ok(256));
        flusher.fence_all();
        let view = mapped.view::<u64>(Bytes::ZERO, 1).unwrap();
        assert_eq!(view.get(0), Some(value), "{flusher:?}");
    }
}

#[test]
fn all_lines_of_a_range_are_touched_also_where_the_memory_begins_inside_of_one() {
    let file = file();
    let map = map(&file, Access::ReadWrite);
    let flusher = Flusher::detect();
    let count = |mapped: &Mapped<'_>, offset, len| {
        flusher.write_back(mapped, Bytes::new(offset), Bytes::new(len))
    };
    let mapped = map.mapped();
    assert_eq!(count(&mapped, 100, 0), Ok(0));
    assert_eq!(count(&mapped, 63, 2), Ok(2));
    assert_eq!(count(&mapped, 64, 64), Ok(1));
    assert_eq!(count(&mapped, PAGES * PAGE_BYTES - 1, 1), Ok(1));
    let part = mapped.part(Bytes::new(60), Bytes::new(10)).unwrap();
    assert_eq!(count(&part, 0, 10), Ok(2));
    assert_eq!(count(&part, 4, 6), Ok(1));
}

#[test]
fn a_range_that_is_not_inside_is_refused() {
    let file = file();
    let map = map(&file, Access::ReadWrite);
    let flusher = Flusher::detect();
    let outside = [(0, PAGES * PAGE_BYTES + 1), (1, u64::MAX), (u64::MAX, 0)];
    for (offset, len) in outside.map(|(offset, len)| (Bytes::new(offset), Bytes::new(len))) {
        let size = map.mapped().bytes();
        let refused = Err(BoundsError::Outside { offset, len, size });
        assert_eq!(flusher.write_back(&map.mapped(), offset, len), refused);
        assert_eq!(flusher.invalidate(&map.mapped(), offset, len), refused);
    }
}

#[test]
fn a_store_past_the_caches_writes_its_bytes_and_no_others() {
    let file = file();
    let map = map(&file, Access::ReadWrite);
    let mapped = map.mapped();
    let flusher = Flusher::detect();
    let all = mapped.write_view::<u8>(Bytes::ZERO, 2048).unwrap();
    let from: Vec<u8> = (0_u8..=250).cycle().take(1024).collect();
    for offset in [0, 1, 8, 63, 64, 65] {
        for len in [0, 1, 63, 64, 65, 127, 200, 256, 319, 320, 321, 1024] {
            all.fill(255);
            let stored = flusher.store(&mapped, Bytes::new(offset), &from[..len]);
            flusher.fence_stores();
            let lines = lines_touched(offset, len as u64).count() as u64;
            assert_eq!(stored, Ok(lines), "{len} at {offset}");
            let start = usize::try_from(offset).unwrap();
            let mut expected = vec![255; 2048];
            expected[start..start + len].copy_from_slice(&from[..len]);
            assert!(read(&mapped, 0, 2048) == expected, "{len} at {offset}");
        }
    }
}

#[test]
fn a_store_past_the_caches_is_refused_where_nothing_may_be_written() {
    let file = file();
    let flusher = Flusher::detect();
    let reader = map(&file, Access::ReadOnly);
    let refused = flusher.store(&reader.mapped(), Bytes::ZERO, &[1; 512]);
    assert_eq!(refused, Err(BoundsError::ReadOnly));
    let map = map(&file, Access::ReadWrite);
    let end = Bytes::new(PAGES * PAGE_BYTES - 8);
    let refused = flusher.store(&map.mapped(), end, &[1; 512]);
    assert!(matches!(refused, Err(BoundsError::Outside { .. })));
    assert_eq!(read(&map.mapped(), end.get(), 8), [0; 8]);
}

#[test]
fn the_best_is_the_first_and_each_way_to_write_back_is_there_once() {
    let all = Flusher::available();
    assert_eq!(all[0], Flusher::detect());
    let names: Vec<_> = all
        .iter()
        .map(|f| f.write_back_instruction().name())
        .collect();
    let known: &[&str] = if cfg!(target_arch = "x86_64") {
        &["clwb", "clflushopt", "clflush"]
    } else {
        &["dc cvac", "dc civac"]
    };
    let in_order: Vec<_> = known.iter().filter(|name| names.contains(name)).collect();
    assert_eq!(names.iter().collect::<Vec<_>>(), in_order);
    let keeps = [Instruction::Clwb, Instruction::DcCvac];
    assert!(
        all.iter()
            .all(|f| !keeps.contains(&f.invalidate_instruction()))
    );
}
