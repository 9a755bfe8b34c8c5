//! Blocks that another heap gives: here one whose blocks lie in a row, and which keeps notes.

#![expect(
    unsafe_code,
    reason = "the calls of C are made with pointers, and that is what is tested"
)]

use std::collections::BTreeMap;

use allocator::elsewhere::{Elsewhere, Freed, Given, install};
use allocator::malloc;
use pool_core::sync::{Mutex, lock};

const LEAST: usize = 100 << 10;
const MOST: usize = 1 << 20;
/// How many blocks the other heap has in all.
const BLOCKS: usize = 8;

/// The blocks that were given, and how many bytes were asked for, or none once they are free.
static GIVEN: Mutex<BTreeMap<usize, Option<usize>>> = Mutex::new(BTreeMap::new());

fn allocate(bytes: usize, align: usize, is_zero: bool) -> Given {
    let mut given = lock(&GIVEN);
    if bytes == MOST {
        return Given::Refused;
    }
    if given.len() == BLOCKS {
        return Given::Private;
    }
    let block = vec![if is_zero { 0_u8 } else { 0xff }; MOST + align].leak();
    let address = block.as_mut_ptr().expose_provenance();
    let address = address.next_multiple_of(align);
    given.insert(address, Some(bytes));
    Given::Block(address)
}

fn free(address: usize) -> Option<Freed> {
    let mut given = lock(&GIVEN);
    let block = given.get_mut(&address)?;
    Some(match block.take() {
        Some(_) => Freed::Now,
        None => Freed::Before,
    })
}

fn usable_bytes(address: usize) -> Option<usize> {
    lock(&GIVEN).get(&address).copied().flatten()
}

/// In steps of 64 KiB.
fn resize(address: usize, bytes: usize) -> bool {
    let mut given = lock(&GIVEN);
    let Some(Some(old)) = given.get_mut(&address) else {
        return false;
    };
    let is_near = old.abs_diff(bytes) <= 64 << 10;
    if is_near {
        *old = bytes;
    }
    is_near
}

static OTHER: Elsewhere = Elsewhere {
    allocate,
    free,
    usable_bytes,
    resize,
    trim: || true,
};

/// How many blocks of the other heap are in use.
fn in_use() -> usize {
    lock(&GIVEN).values().flatten().count()
}

fn write(block: *mut u8, bytes: usize) {
    // SAFETY: the block is the test's, and has as many bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(block, bytes) };
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(index % 251).expect("it fits");
    }
}

fn holds(block: *mut u8, bytes: usize) -> bool {
    // SAFETY: the block is the test's, and has as many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(block, bytes) };
    let mut bytes = bytes.iter().enumerate();
    bytes.all(|(index, byte)| usize::from(*byte) == index % 251)
}

/// Makes a block have `bytes`, and says whether what it held is kept.
fn grown(block: *mut u8, old: usize, bytes: usize) -> *mut u8 {
    // SAFETY: the block is the test's.
    let new = unsafe { malloc::realloc(block, bytes) };
    assert!(!new.is_null(), "{old} to {bytes}");
    assert!(holds(new, old.min(bytes)), "{old} to {bytes}");
    write(new, bytes);
    new
}

fn end(block: *mut u8) {
    // SAFETY: the test does not use it any more.
    unsafe { malloc::free(block) };
}

/// One test, for what is installed is so for the process.
#[test]
fn blocks_of_some_sizes_are_of_another_heap_and_move_between() {
    install(&OTHER, LEAST, MOST);
    let (small, large, huge) = (
        malloc::malloc(LEAST - 1),
        malloc::malloc(LEAST),
        malloc::malloc(MOST + 1),
    );
    assert_eq!(in_use(), 1);
    [small, large, huge].into_iter().for_each(end);
    assert_eq!(in_use(), 0);

    let mut block = malloc::malloc(50);
    write(block, 50);
    let mut old = 50;
    for (bytes, there) in [
        (LEAST, 1),
        (LEAST + (60 << 10), 1),
        (MOST - 1, 1),
        (2 * MOST, 0),
        (LEAST + 1, 1),
        (1_000, 0),
    ] {
        block = grown(block, old, bytes);
        assert_eq!(in_use(), there, "{bytes}");
        old = bytes;
    }
    // It is refused: the old one is as it was.
    // SAFETY: the block is the test's.
    assert!(unsafe { malloc::realloc(block, MOST) }.is_null());
    assert!(holds(block, old) && malloc::malloc(MOST).is_null());
    assert!(malloc::calloc(MOST, 1).is_null() && malloc::aligned(64, MOST).is_null());
    end(block);

    let zeros = malloc::calloc(LEAST, 1);
    assert_eq!(in_use(), 1);
    // SAFETY: the block is the test's, and has as many bytes.
    assert!(unsafe { std::slice::from_raw_parts(zeros, LEAST) } == vec![0; LEAST]);
    let aligned = malloc::memalign(4_096, LEAST);
    assert!(in_use() == 2 && aligned.addr().is_multiple_of(4_096));
    // The other heap has no more than so many: the rest is private.
    let more: Vec<_> = (0..BLOCKS).map(|_| malloc::malloc(LEAST)).collect();
    assert!(in_use() < 2 + BLOCKS && more.iter().all(|block| !block.is_null()));
    more.into_iter().chain([zeros, aligned]).for_each(end);
    assert_eq!(in_use(), 0);
    assert!(malloc::trim());
}
