//! Laws of simulated caches: they hide nothing that a protocol does wrong, and nothing that it does
//! right goes wrong.
#![cfg(not(loom))]

mod hand_over;

use coherence::cache::{Caches as _, Capabilities, Mode};
use coherence::simulated::{Faults, SimCache};
use hand_over::{ALL, PAYLOAD, Steps, fails, play};
use pool_core::Bytes;
use pool_core::mem::{Access, FileMap};
use pool_core::rng::Rng;
use pool_core::sync::Arc;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;

const OFTEN: Faults = Faults::often(true);

/// Flush-and-unmap.
const BY_TURNS: Steps = Steps {
    flush: true,
    unmap: true,
    ..ALL
};

proptest! {
    // A seed that fails is told by the failure itself.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_sees_what_was_written_where_every_step_is_done(seed: u64) {
        prop_assert!(play(seed, OFTEN, ALL).is_ok());
    }

    #[test]
    fn by_turns_nothing_is_lost_even_where_clean_lines_are_written_back(seed: u64) {
        prop_assert!(play(seed, Faults::often(false), BY_TURNS).is_ok());
    }

    #[test]
    fn one_seed_has_one_result(seed: u64) {
        prop_assert_eq!(play(seed, OFTEN, ALL), play(seed, OFTEN, ALL));
    }

    #[test]
    fn a_dead_host_tears_one_line_at_most_and_no_word(seed: u64, death: u64) {
        let memory = after_death(seed, death);
        let torn = memory.chunks(8).filter(|line| line.contains(&0) && line.contains(&NEW));
        prop_assert!(torn.count() <= 1);
        prop_assert!(memory.iter().all(|word| [0, NEW].contains(word)));
    }
}

const NEW: u64 = u64::MAX;

/// The memory after the death of a host that had written every byte of it and none back.
fn after_death(seed: u64, death: u64) -> Vec<u64> {
    let memory: Vec<_> = (0..PAYLOAD / 8).map(|_| AtomicU64::new(0)).collect();
    let host = SimCache::new(&memory[..], seed, Faults::NONE);
    host.write(0, &[0xff; 512]);
    host.kill(death);
    memory.iter().map(|word| word.load(Relaxed)).collect()
}

#[test]
fn of_a_dead_hosts_lines_some_arrive_some_do_not_and_some_are_torn() {
    let deaths: Vec<_> = (0..50).map(|death| after_death(0, death)).collect();
    let lines = || deaths.iter().flat_map(|memory| memory.chunks(8));
    assert!(lines().any(|line| line == [NEW; 8]));
    assert!(lines().any(|line| line == [0; 8]));
    assert!(lines().any(|line| line.contains(&0) && line.contains(&NEW)));
    assert_eq!(after_death(0, 7), after_death(0, 7));
}

#[test]
fn another_seed_has_another_result() {
    assert_ne!(play(1, OFTEN, ALL), play(2, OFTEN, ALL));
}

#[test]
fn each_step_that_is_left_out_is_found() {
    let wrong = [
        Steps {
            write_back: false,
            ..ALL
        },
        Steps {
            fence_stores: false,
            ..ALL
        },
        Steps {
            invalidate: false,
            ..ALL
        },
        Steps {
            fence_all: false,
            ..ALL
        },
    ];
    for steps in wrong {
        assert!(fails(OFTEN, steps), "{steps:?}");
    }
    assert!(!fails(OFTEN, ALL));
}

#[test]
fn a_clean_write_back_loses_an_update_though_every_step_is_done() {
    assert!(fails(Faults::often(false), ALL));
}

#[test]
fn by_turns_both_the_flush_and_the_unmapping_are_needed() {
    let no_flush = Steps {
        flush: false,
        ..BY_TURNS
    };
    let no_unmap = Steps {
        unmap: false,
        ..BY_TURNS
    };
    for steps in [no_flush, no_unmap] {
        assert!(fails(Faults::often(false), steps), "{steps:?}");
    }
    assert!(!fails(Faults::often(false), BY_TURNS));
}

/// Hosts write by turns, the last one seals, and then all read at once: whether each of them reads
/// what was written. A turn ends with every line dropped, or does not; so does the last one.
fn reads_what_was_sealed(seed: u64, drops: bool, last_drops: bool) -> bool {
    const TURNS: u64 = 6;
    let memory: Vec<_> = (0..PAYLOAD / 8).map(|_| AtomicU64::new(0)).collect();
    // Clean lines are written back as well.
    let hosts = [1, 2, 3].map(|host| SimCache::new(&memory[..], seed ^ host, Faults::often(false)));
    let mut rng = Rng::new(seed);
    // The number of one of the three hosts.
    let mut any = || usize::try_from(rng.below(3)).unwrap_or(0);
    let nothing = vec![0; memory.len() * 8];
    let mut expected = nothing.clone();
    for turn in 1..=TURNS {
        let host = &hosts[any()];
        host.read(0, &mut nothing.clone());
        for byte in expected.iter_mut().skip(any()).step_by(7) {
            *byte += 1;
        }
        host.write(0, &expected);
        if (turn == TURNS && last_drops) || (turn < TURNS && drops) {
            host.invalidate(0, PAYLOAD);
            host.fence_all();
        }
    }
    (0..40).all(|_| {
        let mut found = nothing.clone();
        hosts[any()].read(0, &mut found);
        found == expected
    })
}

#[test]
fn what_is_sealed_is_read_by_all_hosts_only_where_every_turn_dropped_its_lines() {
    let all = |drops, last| (0..200).all(|seed| reads_what_was_sealed(seed, drops, last));
    assert!(all(true, true));
    assert!(!all(true, false), "the one who seals");
    assert!(!all(false, true), "the ones before");
}

#[test]
fn a_domain_may_have_software_mode_exactly_where_it_loses_nothing() {
    for no_clean_write_backs in [false, true] {
        let known = Capabilities {
            one_host: false,
            no_clean_write_backs,
        };
        let is_admitted = Mode::Software.admit(known).is_ok();
        assert_eq!(
            is_admitted,
            !fails(Faults::often(no_clean_write_backs), ALL)
        );
    }
}

#[test]
fn the_memory_may_be_mapped_and_shared() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let fd = std::os::fd::AsFd::as_fd(&file);
    let map = FileMap::new(fd, Bytes::ZERO, Bytes::new(4096), Access::ReadWrite).unwrap();
    let view = map.mapped().write_view::<u64>(Bytes::ZERO, 512).unwrap();
    let host = SimCache::new(view, 0, OFTEN);
    host.write(60, b"across a line");
    assert_eq!(host.write_back(60, 13), 2);
    host.fence_stores();
    let mut found = [0; 13];
    let bytes = map.mapped().view::<u8>(Bytes::new(60), 13).unwrap();
    bytes.read_into(0, &mut found).unwrap();
    assert_eq!(&found, b"across a line");

    let words: Vec<_> = (0..8).map(|_| AtomicU64::new(0)).collect();
    let memory: Arc<[AtomicU64]> = words.into();
    let host = SimCache::new(Arc::clone(&memory), 0, OFTEN);
    host.write(0, &[1]);
    host.write_back(0, 1);
    host.fence_stores();
    assert_eq!(memory[0].load(Relaxed), 1);
}
