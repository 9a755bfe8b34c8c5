//! A forked child has copies of everything and owns nothing.

use client_sdk::{AccessError, Create, Error, Force};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use pool_core::Bytes;

use crate::{EXTENT, attached, wait_until};

/// Runs `child` in a forked child, which does nothing else, and says whether it held.
fn in_a_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child of a process with threads calls `child`, which takes no lock and allocates
    // nothing, and ends without running anything of its parent's.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let status = i32::from(!child());
            // SAFETY: has no preconditions.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => ended_well(child),
    }
}

fn ended_well(child: Pid) -> bool {
    waitpid(child, None).unwrap() == WaitStatus::Exited(child, 0)
}

#[test]
fn a_forked_child_is_told_and_the_session_of_its_parent_goes_on() {
    let (_fake, pool) = attached();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let view = segment.view_mut::<u64>(Bytes::ZERO, 8).unwrap();
    view.fill(5).unwrap();
    let word = segment.atomic_u32(Bytes::ZERO).unwrap();
    let reserve = pool.reserve("ddr", EXTENT, 1).unwrap();
    wait_until(|| reserve.ready() == 1);
    assert!(in_a_child(|| {
        let forked = Err(AccessError::Forked);
        view.get(0) == forked
            && view.set(0, 1) == Err(AccessError::Forked)
            && word.wake(1) == Err(Error::Access(AccessError::Forked))
            && matches!(segment.view::<u8>(Bytes::ZERO, 1), Err(AccessError::Forked))
            && matches!(pool.tiers(), Err(Error::Forked))
            && matches!(reserve.take(), Err(Error::Forked))
            && reserve.ready() == 0
    }));
    assert_eq!(view.get(0), Ok(5));
    pool.tiers().unwrap();
}

#[test]
fn what_a_forked_child_drops_is_its_parents_still() {
    let (fake, pool) = attached();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let mut handles = Some((segment, pool));
    assert!(in_a_child(|| {
        drop(handles.take());
        true
    }));
    let (segment, pool) = handles.unwrap();
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
    pool.tiers().unwrap();
    segment.free(Force::No).unwrap();
    assert!(fake.model().held.is_empty());
}
