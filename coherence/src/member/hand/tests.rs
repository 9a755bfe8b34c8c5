use core::cell::Cell;

use pool_core::Nanos;
use pool_core::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::recover::{Fenced, Recovered, Verdict, recover};
use crate::wait::FutexWait;

const ERA: u64 = 7;

fn member(slot: u8) -> Member<FutexWait> {
    Member::new(Slot::new(slot).unwrap(), FutexWait)
}

fn receiver(slot: u8, era: u64) -> Receiver {
    let slot = Slot::new(slot).unwrap();
    Receiver { slot, era }
}

fn lost(line: &Descriptor, slot: u8) -> Recovered {
    let slot = Slot::new(slot).unwrap();
    recover(line, slot, &FutexWait, |fenced| fenced.by_terms(false)).unwrap()
}

fn past() -> Deadline {
    Deadline::at(Nanos::ZERO)
}

#[test]
fn a_unit_goes_from_hand_to_hand_and_is_free_at_no_moment() {
    let (line, giver, taker) = (Descriptor::default(), member(1), member(2));
    let grant = giver.try_exclusive(&line).unwrap();
    assert!(matches!(
        taker.try_receive(&line, ERA),
        Err(LeaseError::Busy(_))
    ));
    let handed = giver.hand_over(&line, &grant, true, receiver(2, ERA), || true);
    assert_eq!(handed, Ok(1));
    // Nobody gets in before it is taken: not the giver, and not the receiver by another way.
    for other in [&giver, &taker, &member(3)] {
        assert!(matches!(
            other.try_exclusive(&line),
            Err(LeaseError::Busy(_))
        ));
    }
    assert_eq!(
        giver.release_exclusive(&line, &grant, false),
        Err(LeaseError::Revoked)
    );
    let taken = taker.try_receive(&line, ERA).unwrap();
    assert_eq!((taken.version, taken.epoch()), (1, grant.epoch().after()));
    assert!(matches!(
        taker.try_receive(&line, ERA),
        Err(LeaseError::Busy(_))
    ));
    assert_eq!(taker.release_exclusive(&line, &taken, true), Ok(2));
}

#[test]
fn a_receiver_that_waits_is_woken() {
    let (line, giver) = (Descriptor::default(), member(1));
    let grant = giver.try_exclusive(&line).unwrap();
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| member(2).receive(&line, ERA, Deadline::NEVER));
        giver
            .hand_over(&line, &grant, true, receiver(2, ERA), || true)
            .unwrap();
        assert_eq!(taker.join().unwrap().unwrap().version, 1);
    });
    let late = member(2).receive(&line, ERA, past());
    assert!(matches!(late, Err(LeaseError::TimedOut(_))));
}

#[test]
fn a_member_of_another_era_takes_nothing() {
    let (line, giver) = (Descriptor::default(), member(1));
    let grant = giver.try_exclusive(&line).unwrap();
    giver
        .hand_over(&line, &grant, false, receiver(2, ERA), || true)
        .unwrap();
    for (slot, era) in [(2, ERA + 1), (1, ERA), (3, ERA)] {
        let taken = member(slot).try_receive(&line, era);
        assert!(matches!(taken, Err(LeaseError::Busy(_))), "{slot} {era}");
    }
    assert!(member(2).try_receive(&line, ERA).is_ok());
}

#[test]
fn a_receiver_that_died_meanwhile_has_nothing_and_the_giver_all() {
    let (line, giver) = (Descriptor::default(), member(1));
    let grant = giver.try_exclusive(&line).unwrap();
    let to = receiver(2, ERA);
    let before = giver.hand_over(&line, &grant, true, to, || false);
    assert_eq!(before, Err(NotHanded::Gone(grant)));

    let looks = Cell::new(0);
    let dies = || looks.replace(looks.get() + 1) == 0;
    let during = giver.hand_over(&line, &grant, true, to, dies);
    let Err(NotHanded::Gone(kept)) = during else {
        panic!("{during:?}");
    };
    assert!(kept.version == 1 && giver.check_exclusive(&line, &kept).is_ok());
    assert_eq!(lost(&line, 2), Recovered::Untouched);
    assert!(member(2).try_receive(&line, ERA).is_err());
    assert_eq!(giver.release_exclusive(&line, &kept, true), Ok(2));
}

#[test]
fn a_receiver_that_dies_before_it_took_the_unit_loses_nothing() {
    let (line, giver) = (Descriptor::default(), member(1));
    let grant = giver.try_exclusive(&line).unwrap();
    giver
        .hand_over(&line, &grant, true, receiver(2, ERA), || true)
        .unwrap();
    assert_eq!(lost(&line, 2), Recovered::Repaired);
    // Nobody takes it late.
    assert!(member(2).try_receive(&line, ERA).is_err());
    let next = giver.try_exclusive(&line).unwrap();
    assert!(member(2).try_receive(&line, ERA).is_err());
    giver.release_exclusive(&line, &next, false).unwrap();
}

#[test]
fn a_receiver_that_dies_after_it_took_the_unit_is_a_writer_that_died() {
    let (line, giver, taker) = (Descriptor::default(), member(1), member(2));
    let grant = giver.try_exclusive(&line).unwrap();
    giver
        .hand_over(&line, &grant, true, receiver(2, ERA), || true)
        .unwrap();
    taker.try_receive(&line, ERA).unwrap();
    assert_eq!(lost(&line, 2), Recovered::Lost { last_good: 1 });
}

#[test]
fn a_giver_that_dies_before_it_gave_leaves_nothing_to_take() {
    let (line, giver, taker) = (Descriptor::default(), member(1), member(2));
    let grant = giver.try_exclusive(&line).unwrap();
    let given = note(grant.epoch().after(), receiver(2, ERA));
    giver.leave_note(&line, &grant, given).unwrap();
    let kept = recover(&line, giver.slot(), &FutexWait, |_| Verdict::Good);
    assert_eq!(kept, Ok(Recovered::Repaired));
    assert!(matches!(
        taker.try_receive(&line, ERA),
        Err(LeaseError::Busy(_))
    ));
    // Nor does it, revived, write over the note of the next one.
    let next = member(3).try_exclusive(&line).unwrap();
    member(3)
        .hand_over(&line, &next, false, receiver(2, ERA), || true)
        .unwrap();
    let late = giver.hand_over(&line, &grant, false, receiver(2, ERA), || true);
    assert_eq!(late, Err(LeaseError::Revoked.into()));
    assert!(taker.try_receive(&line, ERA).is_ok());
}

#[test]
fn what_its_writer_gave_up_is_lost_and_not_published() {
    let (line, writer) = (Descriptor::default(), member(1));
    let grant = writer.try_exclusive(&line).unwrap();
    writer.release_exclusive(&line, &grant, true).unwrap();
    let grant = writer.try_exclusive(&line).unwrap();
    writer.abandon(&line, &grant).unwrap();
    let lost = Err(LeaseError::Lost { last_good: 1 });
    assert_eq!(member(2).try_exclusive(&line), lost);
    assert_eq!(member(2).try_receive(&line, ERA), lost);
    let restorer = member(3);
    let grant = restorer.try_restore(&line).unwrap();
    restorer.release_exclusive(&line, &grant, true).unwrap();
    // Whoever has lines of before sees another version.
    assert!(line.version.load(Relaxed) > 2);
}

#[test]
fn what_was_handed_to_the_dead_by_the_dead_is_free_after_the_givers_recovery() {
    let (line, giver) = (Descriptor::default(), member(1));
    let grant = giver.try_exclusive(&line).unwrap();
    // The receiver is dead and recovered, and the giver dies before it looks.
    let handed = giver.hand_over(&line, &grant, true, receiver(2, ERA), || true);
    assert_eq!(handed, Ok(1));
    let own = || judged(&line).unwrap();
    let living = |slot: Slot, era: u32| slot.index() == 2 && u64::from(era) == ERA;
    crate::recover::fence_stranded(&line, &FutexWait, living).unwrap();
    assert_eq!(own().state(), State::Exclusive, "whoever lives may take it");
    // Another has come to the slot.
    let another = |slot: Slot, era: u32| slot.index() == 2 && u64::from(era) == ERA + 1;
    crate::recover::fence_stranded(&line, &FutexWait, another).unwrap();
    assert_eq!(own().state(), State::Fenced);
    let by_terms = |fenced: Fenced| fenced.by_terms(false);
    let settled = crate::recover::settle(&line, &FutexWait, by_terms).unwrap();
    assert_eq!((settled, own().state()), (Recovered::Repaired, State::Free));
    // What nobody was handed is nobody else's to fence.
    let held = giver.try_exclusive(&line).unwrap();
    crate::recover::fence_stranded(&line, &FutexWait, |_, _| false).unwrap();
    assert_eq!(giver.check_exclusive(&line, &held), Ok(()));
}
