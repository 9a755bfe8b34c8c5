use core::mem::ManuallyDrop;
use std::os::fd::AsFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{ftruncate, gettid};

use super::*;
use crate::mem::{Access, FileMap};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::units::{Bytes, Nanos, PAGE_BYTES};

const PAGE: Bytes = Bytes::new(PAGE_BYTES);

/// One page of a file, mapped twice at different addresses, as two processes would.
fn page_twice() -> (FileMap, FileMap) {
    let file = memfd_create("futex", MFdFlags::MFD_CLOEXEC).unwrap();
    ftruncate(&file, i64::try_from(PAGE_BYTES).unwrap()).unwrap();
    let map = || FileMap::new(file.as_fd(), Bytes::ZERO, PAGE, Access::ReadWrite).unwrap();
    (map(), map())
}

fn word(map: &FileMap, offset: u64) -> &AtomicU32 {
    map.mapped().atomic_u32(Bytes::new(offset)).unwrap()
}

fn long_enough() -> Deadline {
    Deadline::after(Nanos::from_millis(20_000))
}

fn past() -> Deadline {
    Deadline::at(Nanos::ZERO)
}

#[test]
fn a_word_that_changed_already_is_not_waited_for() {
    let (here, _) = page_twice();
    word(&here, 8).store(1, Relaxed);
    assert_eq!(
        wait(word(&here, 8), 0, Deadline::NEVER),
        Ok(Waited::Changed)
    );
    let words = [(word(&here, 0), 0), (word(&here, 8), 0)];
    assert_eq!(wait_any(&words, Deadline::NEVER), Ok(WaitedAny::Changed));
}

#[test]
fn a_wait_ends_with_its_deadline() {
    let (here, _) = page_twice();
    let soon = Deadline::after(Nanos::from_millis(2));
    assert_eq!(wait(word(&here, 0), 0, soon), Ok(Waited::TimedOut));
    assert!(soon.expired());
    assert_eq!(
        wait_any(&[(word(&here, 0), 0)], past()),
        Ok(WaitedAny::TimedOut)
    );
}

#[test]
fn a_waiter_is_woken_through_another_mapping_of_the_word() {
    let (here, there) = page_twice();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            while word(&here, 4).load(Acquire) == 0 {
                assert_ne!(wait(word(&here, 4), 0, long_enough()), Ok(Waited::TimedOut));
            }
        });
        word(&there, 4).store(1, Release);
        wake(word(&there, 4), 1).unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn one_of_many_words_wakes_who_waits_for_all() {
    let (here, there) = page_twice();
    let count = u32::try_from(WAIT_ANY_MAX).unwrap();
    let last = u64::from(count - 1) * 4;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let words: Vec<_> = (0..u64::from(count))
                .map(|place| (word(&here, place * 4), 0))
                .collect();
            loop {
                match wait_any(&words, long_enough()).unwrap() {
                    WaitedAny::TimedOut => panic!("nobody woke the waiter"),
                    WaitedAny::Woken { index } => assert_eq!(index, WAIT_ANY_MAX - 1),
                    WaitedAny::Changed => {}
                }
                if word(&here, last).load(Acquire) == 1 {
                    return;
                }
            }
        });
        word(&there, last).store(1, Release);
        wake(word(&there, last), 1).unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn more_words_than_the_kernel_takes_are_refused() {
    let (here, _) = page_twice();
    let count = WAIT_ANY_MAX + 1;
    let refused = wait_any(&vec![(word(&here, 0), 0); count], past());
    assert_eq!(
        refused,
        Err(FutexError::TooMany {
            count,
            max: WAIT_ANY_MAX
        })
    );
    let none = wait_any(&[], past());
    assert_eq!(
        none,
        Err(FutexError::Os {
            call: "futex_waitv",
            errno: Errno::EINVAL
        })
    );
}

#[test]
fn waking_a_word_nobody_waits_for_wakes_nobody() {
    let (here, _) = page_twice();
    assert_eq!(wake(word(&here, 0), u32::MAX), Ok(0));
}

#[test]
fn a_registered_word_names_its_thread_until_it_leaves_in_good_order() {
    let (here, there) = page_twice();
    let robust = RobustWord::register(here, Bytes::new(64)).unwrap();
    let held = word(&there, 64).load(Acquire);
    assert_eq!(held & TID_MASK, gettid().as_raw().cast_unsigned());
    assert_ne!(held & WAITERS, 0);
    drop(robust);
    assert_eq!(word(&there, 64).load(Acquire), 0);
}

#[test]
fn a_thread_registers_one_word_at_a_time() {
    let ((one, _), (two, there)) = (page_twice(), page_twice());
    let robust = RobustWord::register(one, Bytes::ZERO).unwrap();
    let refused = RobustWord::register(two, Bytes::ZERO).unwrap_err();
    assert_eq!(refused, RobustError::Registered);
    assert_eq!(word(&there, 0).load(Acquire), 0);
    drop(robust);
    let (three, _) = page_twice();
    RobustWord::register(three, Bytes::ZERO).unwrap();
}

#[test]
fn a_word_is_registered_only_where_one_can_be() {
    let refused = |offset| RobustWord::register(page_twice().0, Bytes::new(offset)).unwrap_err();
    assert!(matches!(refused(2), RobustError::Bounds(_)));
    assert!(matches!(refused(PAGE_BYTES), RobustError::Bounds(_)));
}

#[test]
fn a_thread_that_ends_without_leaving_is_told_by_the_kernel() {
    let (here, there) = page_twice();
    let thread = std::thread::spawn(move || {
        let _left_behind = ManuallyDrop::new(RobustWord::register(here, Bytes::ZERO).unwrap());
    });
    loop {
        let held = word(&there, 0).load(Acquire);
        if held & OWNER_DIED != 0 {
            assert_eq!(held & TID_MASK, 0);
            break;
        }
        assert_ne!(
            wait(word(&there, 0), held, long_enough()),
            Ok(Waited::TimedOut)
        );
    }
    thread.join().unwrap();
}
