//! Files of one extent, built ahead, so that the grant of one need not wait for zeroing.
//!
//! The stock only keeps; the [`super::builder`] fills it when it has nothing else to do. A file
//! in it has been given to nobody, so closing it frees its memory. That takes time: what the stock
//! keeps no longer is given back, to be closed where nobody waits for it.
//!
//! # Invariants
//! 1. A shelf holds at most as many files as it was told to, and each was built on its device, and
//!    shareable or not, as the shelf says.
//! 2. A shelf that could not be filled is left alone until somebody takes from it or asks for a
//!    file of its kind: a short machine is not asked again and again.

use std::collections::BTreeMap;

use pool_core::DeviceId;

use super::NewFile;

/// What one shelf holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Whose memory.
    pub device: DeviceId,
    /// Whether it was built to be shared.
    pub shareable: bool,
}

#[derive(Debug)]
struct Shelf {
    target: usize,
    files: Vec<NewFile>,
    /// The last attempt to fill it failed, and nobody has asked since.
    given_up: bool,
}

/// The files of all devices.
#[derive(Debug, Default)]
pub struct Stock {
    shelves: BTreeMap<Kind, Shelf>,
}

impl Stock {
    /// Keeps up to `target` files of each kind of this device from now on. Returns those that are
    /// more.
    #[must_use = "closing them takes time"]
    pub fn set_target(&mut self, device: DeviceId, target: usize) -> Vec<NewFile> {
        let mut surplus = Vec::new();
        for shareable in [false, true] {
            let kind = Kind { device, shareable };
            let shelf = self.shelves.entry(kind).or_insert(Shelf {
                target,
                files: Vec::new(),
                given_up: false,
            });
            shelf.target = target;
            shelf.given_up = false;
            surplus.extend(shelf.files.drain(target.min(shelf.files.len())..));
        }
        surplus
    }

    /// A file of exactly this kind, if there is one. Says that such files are wanted.
    pub fn take(&mut self, kind: Kind) -> Option<NewFile> {
        let shelf = self.shelves.get_mut(&kind)?;
        shelf.given_up = false;
        shelf.files.pop()
    }

    /// The kind of which a file should be built next.
    #[must_use]
    pub fn wanted(&self) -> Option<Kind> {
        let wants = |shelf: &Shelf| shelf.files.len() < shelf.target && !shelf.given_up;
        let (kind, _) = self.shelves.iter().find(|(_, shelf)| wants(shelf))?;
        Some(*kind)
    }

    /// Puts a file where it belongs. It is closed where it is not wanted any more.
    pub fn put(&mut self, kind: Kind, file: NewFile) {
        if let Some(shelf) = self.shelves.get_mut(&kind)
            && shelf.files.len() < shelf.target
        {
            shelf.files.push(file);
        }
    }

    /// No file of this kind could be built: see invariant 2.
    pub fn give_up(&mut self, kind: Kind) {
        if let Some(shelf) = self.shelves.get_mut(&kind) {
            shelf.given_up = true;
        }
    }

    /// Gives every file back, so that its memory can be, and fills no shelf until somebody asks.
    #[must_use = "closing them takes time"]
    pub fn drain(&mut self) -> Vec<NewFile> {
        let mut drained = Vec::new();
        for shelf in self.shelves.values_mut() {
            drained.append(&mut shelf.files);
            shelf.given_up = true;
        }
        drained
    }

    /// How many files of this kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.shelves.get(&kind).map_or(0, |shelf| shelf.files.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use pool_proto::common::v1::Pages;

    use super::*;
    use crate::engine::command::FileIdentity;

    const PLAIN: Kind = Kind {
        device: DeviceId::FIRST,
        shareable: false,
    };
    const SHAREABLE: Kind = Kind {
        device: DeviceId::FIRST,
        shareable: true,
    };

    fn file(inode: u64) -> NewFile {
        NewFile {
            file: File::open("/dev/null").unwrap().into(),
            pages: Pages::Base,
            identity: FileIdentity { device: 0, inode },
        }
    }

    #[test]
    fn a_file_is_handed_out_for_exactly_its_kind() {
        let mut stock = Stock::default();
        assert!(stock.set_target(DeviceId::FIRST, 1).is_empty());
        stock.put(SHAREABLE, file(7));
        assert!(stock.take(PLAIN).is_none());
        assert_eq!(stock.take(SHAREABLE).unwrap().identity.inode, 7);
        assert!(stock.take(SHAREABLE).is_none());
    }

    #[test]
    fn no_more_is_held_than_was_told() {
        let mut stock = Stock::default();
        stock.put(PLAIN, file(1));
        assert_eq!(stock.count(PLAIN), 0);
        assert!(stock.set_target(DeviceId::FIRST, 2).is_empty());
        (1..=3).for_each(|inode| stock.put(PLAIN, file(inode)));
        assert_eq!(stock.count(PLAIN), 2);
        assert_eq!(stock.set_target(DeviceId::FIRST, 1).len(), 1);
        assert_eq!(stock.count(PLAIN), 1);
        assert_eq!(stock.set_target(DeviceId::FIRST, 0).len(), 1);
        assert_eq!((stock.count(PLAIN), stock.wanted()), (0, None));
    }

    #[test]
    fn a_shelf_that_could_not_be_filled_waits_until_somebody_asks() {
        let mut stock = Stock::default();
        assert!(stock.set_target(DeviceId::FIRST, 1).is_empty());
        stock.put(SHAREABLE, file(1));
        assert_eq!(stock.wanted(), Some(PLAIN));
        stock.give_up(PLAIN);
        assert_eq!(stock.wanted(), None);
        assert!(stock.take(PLAIN).is_none());
        assert_eq!(stock.wanted(), Some(PLAIN));
    }

    #[test]
    fn a_drained_stock_is_empty_and_stays_so_until_somebody_asks() {
        let mut stock = Stock::default();
        assert!(stock.set_target(DeviceId::FIRST, 1).is_empty());
        stock.put(PLAIN, file(1));
        assert_eq!((stock.drain().len(), stock.drain().len()), (1, 0));
        assert_eq!(stock.wanted(), None);
        stock.take(SHAREABLE);
        assert_eq!(stock.wanted(), Some(SHAREABLE));
    }
}
