//! Blocks that are not in the window: those at multiples of a chunk and more, and those for which
//! the window has no room. Each is a mapping of its own, in a short table.

use pool_core::sync::UnsafeCell;

use crate::heap::Block;
use crate::layout::PAGE_BYTES;
use crate::lock::Lock;
use crate::{options, system};

/// The most such blocks at a time.
const ENTRIES: usize = 1_024;

/// A block, and the mapping that it lies in.
#[derive(Debug, Clone, Copy)]
struct Entry {
    address: usize,
    bytes: usize,
    mapping: usize,
    mapped: usize,
}

const NO_ENTRY: Entry = Entry {
    address: 0,
    bytes: 0,
    mapping: 0,
    mapped: 0,
};

struct Table {
    lock: Lock,
    entries: UnsafeCell<[Entry; ENTRIES]>,
}

// SAFETY: the entries are reached through `Table::with` alone, under the lock.
unsafe impl Sync for Table {}

static TABLE: Table = Table {
    lock: Lock::new(),
    entries: UnsafeCell::new([NO_ENTRY; ENTRIES]),
};

impl Table {
    fn with<R>(&self, act: impl FnOnce(&mut [Entry; ENTRIES]) -> R) -> R {
        let _held = self.lock.hold();
        self.entries.with_mut(|entries| {
            // SAFETY: nobody else has the lock, and `act` does not come back here.
            act(unsafe { &mut *entries })
        })
    }
}

/// The lock of the table, for a fork.
pub(crate) fn lock() -> &'static Lock {
    &TABLE.lock
}

/// A block of `bytes`, which is zero, at a multiple of `align`.
pub(crate) fn allocate(bytes: usize, align: usize) -> Option<Block> {
    let bytes = bytes.max(1).checked_next_multiple_of(PAGE_BYTES)?;
    let mapped = bytes.checked_add(align)?;
    let mapping = system::map(mapped)?;
    if !options::place(&(mapping..mapping + mapped)) {
        // SAFETY: nobody has seen it.
        unsafe { system::unmap(mapping..mapping + mapped) };
        return None;
    }
    let address = mapping.next_multiple_of(align);
    let entry = Entry {
        address,
        bytes,
        mapping,
        mapped,
    };
    let is_noted = TABLE.with(|entries| {
        let place = entries.iter_mut().find(|entry| entry.address == 0);
        place.map(|place| *place = entry).is_some()
    });
    if !is_noted {
        // SAFETY: nobody has seen it.
        unsafe { system::unmap(mapping..mapping + mapped) };
        return None;
    }
    Some(Block {
        address,
        is_zero: true,
    })
}

/// How many bytes the block at `address` has, if one begins there.
pub(crate) fn bytes(address: usize) -> Option<usize> {
    TABLE.with(|entries| {
        let found = entries
            .iter()
            .find(|entry| address != 0 && entry.address == address);
        found.map(|entry| entry.bytes)
    })
}

/// Frees the block at `address`; false where none begins there.
#[must_use]
pub(crate) fn free(address: usize) -> bool {
    let found = TABLE.with(|entries| {
        let place = entries
            .iter_mut()
            .find(|entry| address != 0 && entry.address == address);
        place.map(|place| core::mem::replace(place, NO_ENTRY))
    });
    if let Some(entry) = found {
        // SAFETY: whoever frees a block does not use it any more.
        unsafe { system::unmap(entry.mapping..entry.mapping + entry.mapped) };
    }
    found.is_some()
}
