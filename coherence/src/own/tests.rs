use std::collections::{BTreeMap, VecDeque};

use super::*;

const A: Slot = match Slot::new(1) {
    Some(slot) => slot,
    None => Slot::DAEMON,
};
const B: Slot = match Slot::new(31) {
    Some(slot) => slot,
    None => Slot::DAEMON,
};

/// Every change there is, by three holders.
fn changes(own: Own) -> Vec<(&'static str, Result<Own, Refused>)> {
    let mut all = vec![
        ("awaited", Ok(own.awaited())),
        ("recalled", Ok(own.recalled())),
        ("recall_ended", Ok(own.recall_ended())),
        ("fence", own.fence()),
        ("held_to_copy", own.held_to_copy()),
        ("set_aside", own.set_aside()),
        ("repaired", own.repaired()),
        ("lost", own.lost()),
        ("retire", own.retire()),
    ];
    for slot in [Slot::DAEMON, A, B] {
        let epoch = own.epoch();
        all.extend([
            ("grant_shared", own.grant_shared(slot)),
            ("grant_shared_beside", own.grant_shared_beside(slot)),
            ("grant_shared_in_turn", own.grant_shared_in_turn(slot)),
            ("join", own.join(slot)),
            ("release_shared", own.release_shared(slot, epoch)),
            ("grant_exclusive", own.grant_exclusive(slot)),
            ("grant_exclusive_in_turn", own.grant_exclusive_in_turn(slot)),
            ("upgrade", own.upgrade(slot, epoch)),
            ("release_exclusive", own.release_exclusive(slot, epoch)),
            ("downgrade", own.downgrade(slot, epoch)),
            ("restore", own.restore(slot)),
            ("hand_over", own.hand_over(slot, epoch, B)),
            ("abandon", own.abandon(slot, epoch)),
        ]);
    }
    all
}

/// Every word that can be reached with an epoch of at most 4.
fn reachable() -> Vec<Own> {
    let mut seen = BTreeMap::from([(0, ())]);
    let mut queue = VecDeque::from([Own::default()]);
    let mut all = Vec::new();
    while let Some(own) = queue.pop_front() {
        all.push(own);
        for (_, changed) in changes(own) {
            let Ok(changed) = changed else { continue };
            let epoch = changed.epoch().number();
            if epoch <= 4 && seen.insert(changed.word(), ()).is_none() {
                queue.push_back(changed);
            }
        }
    }
    assert!(all.len() > 200, "only {} words were reached", all.len());
    all
}

#[test]
fn every_change_of_a_sound_word_gives_a_sound_word() {
    for own in reachable() {
        for (change, changed) in changes(own) {
            if let Ok(changed) = changed {
                assert_eq!(Own::judge(changed.word()), Ok(changed), "{own:?} {change}");
            }
        }
    }
}

#[test]
fn the_epoch_rises_exactly_when_another_may_write_or_a_holder_is_cut_off() {
    for own in reachable() {
        for (change, changed) in changes(own) {
            let Ok(changed) = changed else { continue };
            let raises = [
                "grant_exclusive",
                "grant_exclusive_in_turn",
                "upgrade",
                "restore",
                "fence",
                "hand_over",
            ];
            let raises = raises.contains(&change);
            let expected = if raises {
                own.epoch().after()
            } else {
                own.epoch()
            };
            assert_eq!(changed.epoch(), expected, "{own:?} {change}");
        }
    }
}

#[test]
fn a_holder_of_another_epoch_gives_nothing_back() {
    for own in reachable() {
        let stale = own.epoch().before();
        for slot in [A, B] {
            for refused in [
                own.release_shared(slot, stale),
                own.upgrade(slot, stale),
                own.release_exclusive(slot, stale),
                own.downgrade(slot, stale),
                own.hand_over(slot, stale, A),
                own.abandon(slot, stale),
            ] {
                assert_eq!(refused, Err(Refused::NotHeld), "{own:?} {slot}");
            }
        }
    }
}

#[test]
fn nobody_is_let_in_beside_a_writer_and_no_writer_beside_anybody() {
    for own in reachable() {
        for slot in [A, B] {
            if own.state() == State::Exclusive {
                assert_eq!(own.grant_shared(slot), Err(Refused::Held));
            }
            if own.holders() != 0 {
                assert_eq!(own.grant_exclusive(slot), Err(Refused::Held));
            }
            if own.holders() & !slot.bit() != 0 {
                assert!(own.upgrade(slot, own.epoch()).is_err(), "{own:?}");
            }
        }
    }
}

#[test]
fn the_last_one_out_says_who_is_to_be_woken() {
    let own = Own::default()
        .grant_shared(A)
        .and_then(|own| own.grant_shared(B));
    let own = own.map(Own::recalled).unwrap();
    let epoch = own.epoch();
    let one_left = own.release_shared(A, epoch).unwrap();
    assert!(one_left.has_waiters(), "the writer can have nothing yet");
    let free = one_left.release_shared(B, epoch).unwrap();
    assert!(!free.has_waiters() && free.is_recalled());
    assert_eq!(free.grant_shared(A), Err(Refused::Recalled));
    assert_eq!(free.grant_exclusive(A), Err(Refused::Recalled));
    assert!(!free.grant_shared_in_turn(A).unwrap().is_recalled());
    assert!(!free.grant_exclusive_in_turn(A).unwrap().is_recalled());
}

#[test]
fn a_unit_that_ends_with_its_last_holder_is_joined_only() {
    for own in reachable() {
        let joined = own.grant_shared_beside(A);
        assert!(joined.is_err() || own.is_read_by_a_member(), "{own:?}");
    }
}

#[test]
fn what_only_the_daemon_reads_is_joined_by_nobody() {
    let moving = Own::default().grant_shared(Slot::DAEMON).unwrap();
    assert_eq!(moving.grant_shared_beside(A), Err(Refused::State));
    assert!(moving.grant_shared(A).is_ok());
    let read = moving.grant_shared(A).unwrap();
    assert!(read.grant_shared_beside(B).is_ok());
}

#[test]
fn the_epoch_wraps() {
    let last = Epoch::new(u32::MAX);
    assert_eq!(last.after(), Epoch::new(0));
    assert_eq!(Epoch::new(0).before(), last);
    let own = Own::default().with_epoch(last);
    let granted = own.grant_exclusive(A).unwrap();
    assert_eq!(granted.epoch(), Epoch::new(0));
    assert_eq!(Own::judge(granted.word()), Ok(granted));
}

#[test]
fn a_word_that_no_change_leads_to_is_corrupt() {
    let of = |state: u64, holders: u64, flags: u64| Own::judge(state << 61 | flags | holders);
    for (state, holders, flags, invariant) in [
        (6, 0, 0, 0),
        (7, 1, 0, 0),
        (0, 1, 0, 1),
        (1, 0, 0, 1),
        (2, 0, 0, 1),
        (2, 3, 0, 1),
        (3, 2, 0, 1),
        (4, 2, 0, 1),
        (5, 2, 0, 1),
        (0, 0, CROWDED, 2),
        (2, 2, CROWDED, 2),
    ] {
        let error = of(state, holders, flags).unwrap_err();
        assert_eq!(error.invariant, invariant, "{error}");
    }
    assert!(of(1, 2, CROWDED).is_ok());
}

/// What the daemon reads of memory that was pulled from under it: `pool_core::mem::PULLED`.
#[cfg(not(loom))]
#[test]
fn a_word_of_nothing_but_ones_is_none() {
    let pulled = u64::from_le_bytes([pool_core::mem::PULLED; 8]);
    assert_eq!(
        Own::judge(pulled),
        Err(CorruptWord {
            word: pulled,
            invariant: 0
        })
    );
}
