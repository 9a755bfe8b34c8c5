//! What files hold, and whose.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use pool_core::mem::{Access as MapAccess, FileMap};
use pool_core::{Bytes, EXTENT_BYTES};
use pool_daemon::device::copy::{Part, copy};
use pool_daemon::device::identity::{WrongFile, adopt};
use pool_daemon::device::{open_for, proof};
use pool_proto::common::v1::Access;

use crate::subject::{EXTENTS, Subject, backing, becomes_free};

const BYTES: Bytes = Bytes::new(EXTENTS * EXTENT_BYTES);
const WORDS_PER_EXTENT: u64 = EXTENT_BYTES / 8;

pub(crate) fn is_all_zeros(file: &File, bytes: u64) -> bool {
    // Mapped: a dax device takes no reads.
    let len = Bytes::new(bytes);
    let map = FileMap::new(file.as_fd(), Bytes::ZERO, len, MapAccess::ReadOnly).unwrap();
    let mut words = vec![1; usize::try_from(bytes / 8).unwrap()];
    let view = map.mapped().view::<u64>(Bytes::ZERO, words.len()).unwrap();
    view.read_into(0, &mut words).unwrap();
    words.iter().all(|&word| word == 0)
}

/// Numbers each word of the file, from `first` on.
fn number_words(file: &OwnedFd, extents: u64, first: u64) {
    let len = Bytes::new(extents * EXTENT_BYTES);
    let map = FileMap::new(file.as_fd(), Bytes::ZERO, len, MapAccess::ReadWrite).unwrap();
    let count = extents * WORDS_PER_EXTENT;
    let words: Vec<u64> = (first..first + count).collect();
    let view = map
        .mapped()
        .write_view::<u64>(Bytes::ZERO, words.len())
        .unwrap();
    view.write_from(0, &words).unwrap();
}

fn are_numbered(file: &OwnedFd, extents: u64, first: u64) -> bool {
    let len = Bytes::new(extents * EXTENT_BYTES);
    let map = FileMap::new(file.as_fd(), Bytes::ZERO, len, MapAccess::ReadOnly).unwrap();
    let count = extents * WORDS_PER_EXTENT;
    let mut words = vec![0; usize::try_from(count).unwrap()];
    let view = map.mapped().view::<u64>(Bytes::ZERO, words.len()).unwrap();
    view.read_into(0, &mut words).unwrap();
    words.into_iter().eq(first..first + count)
}

fn part(file: &OwnedFd, extents: u64) -> Part<'_> {
    Part {
        file: file.as_fd(),
        bytes: Bytes::new(extents * EXTENT_BYTES),
    }
}

pub(crate) fn a_fresh_file_never_shows_what_another_held(subject: &Subject) {
    for number in 1..=4 {
        let new = subject.build(number);
        let file = File::from(new.file);
        assert!(is_all_zeros(&file, BYTES.get()), "file {number}");
        let file = OwnedFd::from(file);
        number_words(&file, EXTENTS, 1);
        subject
            .device
            .destroy(backing(number), file.as_fd())
            .unwrap();
    }
}

pub(crate) fn contents_are_copied_whatever_the_pieces(subject: &Subject) {
    let old = [(1, 2), (2, 1)].map(|(number, extents)| subject.build_extents(number, extents));
    number_words(&old[0].file, 2, 0);
    number_words(&old[1].file, 1, 2 * WORDS_PER_EXTENT);
    let new = [(3, 1), (4, 2)].map(|(number, extents)| subject.build_extents(number, extents));
    let from = [part(&old[0].file, 2), part(&old[1].file, 1)];
    copy(&from, &[part(&new[0].file, 1), part(&new[1].file, 2)]).unwrap();
    assert!(are_numbered(&new[0].file, 1, 0));
    assert!(are_numbered(&new[1].file, 2, WORDS_PER_EXTENT));
    // The copying keeps no hold on either.
    for file in [&old[0].file, &new[1].file] {
        assert!(!proof::is_held_elsewhere(file.as_fd()).unwrap());
    }
    assert!(copy(&from, &[part(&new[0].file, 1)]).is_err());
}

pub(crate) fn what_came_back_is_adopted_only_if_it_is_the_file_that_was_built(subject: &Subject) {
    let (new, other) = (subject.build(1), subject.build(2));
    number_words(&new.file, EXTENTS, 5);
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let brought = open_for(new.file.as_fd(), access).unwrap();
        let planted = adopt(brought.as_fd(), other.identity, BYTES, subject.sealed);
        let found = new.identity;
        assert_eq!(planted.unwrap_err(), WrongFile::Other { found });
        let master = adopt(brought.as_fd(), new.identity, BYTES, subject.sealed).unwrap();
        assert!(are_numbered(&master, EXTENTS, 5));
        drop((brought, master));
    }
    // The daemon died, a client brings back what it has, and lets go of it.
    let brought = open_for(new.file.as_fd(), Access::ReadOnly).unwrap();
    drop(new.file);
    let master = adopt(brought.as_fd(), new.identity, BYTES, subject.sealed).unwrap();
    assert!(proof::is_held_elsewhere(master.as_fd()).unwrap());
    drop(brought);
    assert!(becomes_free(&master));
    let longer = Bytes::new(BYTES.get() + EXTENT_BYTES);
    let expected_bytes = longer.get();
    let found_bytes = BYTES.get();
    let refused = adopt(master.as_fd(), new.identity, longer, subject.sealed);
    assert_eq!(
        refused.unwrap_err(),
        WrongFile::Length {
            found_bytes,
            expected_bytes
        }
    );
}
