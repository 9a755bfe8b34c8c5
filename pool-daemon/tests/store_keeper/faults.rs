//! The n-th failure of every call of the daemon's side, in a process that does nothing else.

use std::fs;

use nix::errno::Errno;
use pool_core::fault::{self, Call};
use pool_daemon::store::DescriptorStore;

use crate::process::{Home, backing};
use crate::{borrowed, files, inodes};

/// More calls of one kind than any round makes.
const CALLS_MAX: u64 = 1_000;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

pub(crate) fn sweep(home: &Home) {
    let wanted = files(1..=5);
    let mut failures = 0;
    for call in Call::ALL {
        for nth in 1..CALLS_MAX {
            let mut keeper = home.keeper();
            let before = descriptors();
            let passed = fault::passed(call);
            fault::arm_failure(call, nth, Errno::EIO, false);
            let put = borrowed(&wanted)
                .into_iter()
                .try_for_each(|(backing, file)| keeper.put(backing, file));
            let told = put
                .and_then(|()| keeper.remove(backing(1)))
                .and_then(|()| keeper.recover().map(drop));
            let met = fault::passed(call) - passed >= nth;
            fault::disarm();
            assert_eq!(told.is_err(), met, "{call:?} {nth}: {told:?}");
            keeper.refill(&borrowed(&wanted)).unwrap();
            assert_eq!(descriptors(), before, "{call:?} {nth}");
            assert_eq!(inodes(&keeper.recover().unwrap()), inodes(&wanted));
            if !met {
                break;
            }
            failures += 1;
        }
    }
    // At least one for each packet that was sent, and for each that was received.
    assert!(failures > 14, "{failures}");
    home.keeper().end().unwrap();
}
