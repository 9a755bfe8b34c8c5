//! The proof that nobody has a file any more is exact.

use std::os::fd::{AsFd, OwnedFd};

use pool_core::mem::{Access as MapAccess, FileMap};
use pool_core::packet;
use pool_core::{Bytes, EXTENT_BYTES};
use pool_daemon::device::open_for;
use pool_daemon::device::proof::is_held_elsewhere;
use pool_daemon::sys;
use pool_proto::common::v1::Access;

use crate::child;
use crate::subject::{Subject, becomes_free};

const BOTH: [Access; 2] = [Access::ReadOnly, Access::ReadWrite];

fn is_held(master: &OwnedFd) -> bool {
    is_held_elsewhere(master.as_fd()).unwrap()
}

fn map(file: &OwnedFd, access: Access) -> FileMap {
    let access = match access {
        Access::ReadWrite => MapAccess::ReadWrite,
        _ => MapAccess::ReadOnly,
    };
    FileMap::new(file.as_fd(), Bytes::ZERO, Bytes::new(EXTENT_BYTES), access).unwrap()
}

pub(crate) fn an_open_descriptor_is_seen_until_it_is_closed(subject: &Subject) {
    let master = subject.build(1).file;
    assert!(becomes_free(&master));
    for access in BOTH {
        let given = open_for(master.as_fd(), access).unwrap();
        assert!(is_held(&master), "{access:?}");
        drop(given);
        assert!(becomes_free(&master), "{access:?}");
    }
}

pub(crate) fn a_bare_mapping_is_seen_until_it_ends(subject: &Subject) {
    let master = subject.build(1).file;
    for access in BOTH {
        let given = open_for(master.as_fd(), access).unwrap();
        let mapping = map(&given, access);
        drop(given);
        assert!(is_held(&master), "{access:?}");
        drop(mapping);
        assert!(becomes_free(&master), "{access:?}");
    }
}

pub(crate) fn a_descriptor_under_way_is_seen_until_it_is_dropped(subject: &Subject) {
    let master = subject.build(1).file;
    for access in BOTH {
        let (sender, receiver) = packet::pair().unwrap();
        let given = open_for(master.as_fd(), access).unwrap();
        packet::send(sender.as_fd(), b"x", &[given.as_fd()]).unwrap();
        drop(given);
        assert!(is_held(&master), "{access:?}");
        drop(sender);
        assert!(is_held(&master), "{access:?}");
        drop(receiver);
        assert!(becomes_free(&master), "{access:?}");
    }
}

pub(crate) fn a_child_process_is_seen_until_it_dies(subject: &Subject) {
    let master = subject.build(1).file;
    for access in BOTH {
        let given = open_for(master.as_fd(), access).unwrap();
        let mut child = child::holding(given);
        assert!(is_held(&master), "{access:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(becomes_free(&master), "{access:?}");
    }
}

pub(crate) fn duplicates_of_the_master_and_mappings_of_it_do_not_count(subject: &Subject) {
    let master = subject.build(1).file;
    let duplicate = sys::duplicate(master.as_fd()).unwrap();
    let mapping = map(&master, Access::ReadWrite);
    assert!(!is_held(&master));
    assert!(!is_held(&duplicate));
    drop(mapping);
    let mut keeper = child::holding(sys::duplicate(master.as_fd()).unwrap());
    assert!(!is_held(&master));
    keeper.kill().unwrap();
    keeper.wait().unwrap();
}
