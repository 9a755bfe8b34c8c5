//! A forked child has copies of everything and owns nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use client_sdk::{AccessError, Create, Error, Force, Pool};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use pool_core::Bytes;
use pool_core::sync::atomic::{AtomicBool, Ordering};
use pool_proto::session::v1::{self as session, event};

use crate::{EXTENT, attached, options, wait_until};

/// Runs `child` in a forked child, which does nothing else, and says whether it held. One that
/// hangs did not.
pub(crate) fn in_a_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child of a process with threads calls `child`, which takes no lock of its
    // parent's but that of the C library's allocator, which is whole in a child, and ends without
    // running anything of its parent's.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            nix::unistd::alarm::set(20);
            let held = catch_unwind(AssertUnwindSafe(child)).unwrap_or(false);
            let status = i32::from(!held);
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

#[test]
fn a_forked_child_is_told_without_waiting_for_its_parent() {
    let (fake, pool) = attached();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let stopped = AtomicBool::new(false);
    let changed = || {
        let (segment_id, incarnation) = (segment.id().number(), 0);
        event::Body::Changed(session::Changed {
            segment_id,
            incarnation,
        })
    };
    std::thread::scope(|scope| {
        // Meanwhile its locks are taken, as often as can be.
        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                let _size = segment.bytes();
            }
        });
        let told = (0..50).all(|_| {
            fake.tell(changed());
            in_a_child(|| {
                let nothing = (
                    segment.bytes(),
                    segment.pieces().len(),
                    segment.is_emulated(),
                );
                let empty = segment.name().is_empty() && segment.tier().is_empty();
                let said = format!("{segment:?}");
                nothing == (Bytes::ZERO, 0, false) && empty && !said.is_empty()
            })
        });
        stopped.store(true, Ordering::Relaxed);
        assert!(told);
    });
    assert_eq!(segment.bytes(), EXTENT);
}

#[test]
fn a_forked_child_attaches_anew_while_its_parent_does() {
    let (fake, pool) = attached();
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                Pool::attach(&options(&fake)).unwrap();
            }
        });
        let attached = (0..10).all(|_| in_a_child(|| Pool::attach(&options(&fake)).is_ok()));
        stopped.store(true, Ordering::Relaxed);
        assert!(attached);
    });
    pool.tiers().unwrap();
}

#[test]
fn a_forked_child_that_drops_a_session_lets_go_of_no_thread_of_its_own() {
    let (_fake, pool) = attached();
    let mut pool = Some(pool);
    assert!(in_a_child(|| {
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| ())).collect();
        drop(pool.take());
        threads.into_iter().all(|thread| thread.join().is_ok())
    }));
    pool.unwrap().tiers().unwrap();
}
