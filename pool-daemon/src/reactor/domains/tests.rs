use coherence::Own;
use coherence::sum::Digest;
use pool_core::sync::atomic::Ordering::Relaxed;

use super::audit::{FINDINGS_MAX, audit};
use super::recovery::recover_unit;
use super::work::UNITS_A_ROUND;
use super::*;
use crate::engine::DomainView;

fn own(state: u64, epoch: u64, holders: u64) -> u64 {
    state << 61 | epoch << 32 | holders
}

fn lines(words: &[u64]) -> Vec<Descriptor> {
    let lines = words.iter().map(|word| {
        let line = Descriptor::default();
        line.own.store(*word, Relaxed);
        line
    });
    lines.collect()
}

fn recovery(slots: u32) -> Recovery {
    Recovery {
        segment: SegmentId::FIRST,
        directory: BackingId::FIRST,
        layout: Layout::new(Bytes::new(1 << 16), Bytes::new(1 << 12)).unwrap(),
        keeps: false,
        checks: false,
        slots,
        members: 0,
        in_order: false,
        cut_off: 0,
        contents_in: None,
        settles: true,
    }
}

/// Of a unit that needs no look at its contents.
fn unread(reading: &mut Reading) -> Result<Option<Digest>, OpenError> {
    panic!("{reading:?} is read")
}

fn view(members: u32, left: u32, settling: bool) -> DomainView {
    let Recovery {
        segment,
        directory,
        layout,
        ..
    } = recovery(0);
    DomainView {
        segment,
        directory,
        layout,
        members,
        left,
        settling,
    }
}

#[test]
fn who_leaves_in_order_wakes_those_only_who_wait() {
    let slot = Slot::new(1).unwrap();
    let died = recovery(slot.bit());
    let left = Recovery {
        in_order: true,
        ..died
    };
    let woken = |recovery: &Recovery, own: u64| {
        let line = &lines(&[own])[0];
        let before = line.event.load(Relaxed);
        recover_unit(line, recovery, &mut Recovered::default(), || None).unwrap();
        let word = Own::judge(line.own.load(Relaxed)).unwrap();
        assert!(!word.has_waiters() && !word.is_recalled());
        line.event.load(Relaxed) != before
    };
    let (waiters, recall) = (1 << 58, 1 << 59);
    for (own, waited_for) in [
        (0, false),
        (own(1, 3, 0b100), false),
        (own(2, 3, 0b010), false),
        (own(1, 3, 0b100) | waiters, true),
        (own(2, 3, 0b010) | waiters, true),
        (recall, true),
    ] {
        assert_eq!(woken(&left, own), waited_for, "{own:#x}");
        assert!(woken(&died, own), "{own:#x}: a waker may have died");
    }
}

#[test]
fn where_contents_are_kept_those_of_a_restorer_that_died_are_not() {
    let slot = Slot::new(1).unwrap();
    let member = coherence::Member::new(slot, FutexWait);
    let keeping = Recovery {
        keeps: true,
        ..recovery(slot.bit())
    };
    let line = Descriptor::default();
    let die = || {
        let mut found = Recovered::default();
        recover_unit(&line, &keeping, &mut found, || None).unwrap();
        (found.repaired, found.lost)
    };
    // What a writer leaves is kept, as version 1. What one leaves who had to write all of it anew
    // is nothing.
    member.try_exclusive(&line).unwrap();
    assert_eq!(die(), (1, 0));
    let grant = member.try_exclusive(&line).unwrap();
    member.abandon(&line, &grant).unwrap();
    for _ in 0..2 {
        member.try_restore(&line).unwrap();
        assert_eq!(die(), (0, 1));
        let refused = member.try_shared(0, &line);
        assert_eq!(refused, Err(LeaseError::Lost { last_good: 1 }));
    }
    let grant = member.try_restore(&line).unwrap();
    member.release_exclusive(&line, &grant, true).unwrap();
    member.try_exclusive(&line).unwrap();
    assert_eq!(die(), (1, 0));
}

#[test]
fn all_that_slots_hold_is_taken_and_nothing_of_others() {
    let (gone, lives) = (0b110, 0b1000);
    let lines = lines(&[
        own(1, 0, 0b1110),
        own(2, 3, 0b010),
        own(2, 3, 0b1000),
        own(3, 9, 0),
        0,
    ]);
    let mut found = Recovered::default();
    for line in &lines {
        recover_unit(line, &recovery(gone), &mut found, || None).unwrap();
    }
    let words: Vec<_> = lines.iter().map(|line| line.own.load(Relaxed)).collect();
    let lost = |epoch| own(4, epoch, 0);
    assert_eq!(
        words,
        [own(1, 0, lives), lost(4), own(2, 3, lives), lost(9), 0]
    );
    let expected = Recovered {
        cleared: 2,
        repaired: 0,
        lost: 2,
    };
    assert_eq!(found, expected);
    // Once more, and there is nothing to do.
    let mut again = Recovered::default();
    for line in &lines {
        recover_unit(line, &recovery(gone), &mut again, || None).unwrap();
    }
    assert_eq!(again, Recovered::default());
}

#[test]
fn a_check_names_a_few_violations_and_counts_them_all() {
    let corrupt = vec![u64::MAX; 20];
    let (row, findings) = audit(&view(0, 0, false), &lines(&corrupt));
    assert_eq!((row.violations, findings.len()), (20, FINDINGS_MAX + 1));
    assert!(findings.last().unwrap().contains("12 more"), "{findings:?}");
}

#[test]
fn what_is_still_to_be_recovered_is_no_finding_and_what_a_stranger_holds_is() {
    let lines = lines(&[own(1, 0, 0b110), own(3, 1, 0)]);
    assert_eq!(audit(&view(0b010, 0b100, true), &lines).1.len(), 0);
    assert_eq!(audit(&view(0b010, 0b100, false), &lines).1.len(), 1);
    assert_eq!(audit(&view(0b010, 0, true), &lines).1.len(), 1);
}

/// A mapping of a directory of this layout, in memory.
fn mapped(layout: Layout) -> FileMap {
    use std::os::fd::AsFd as _;
    let file = crate::sys::memfd("test", nix::sys::memfd::MFdFlags::empty()).unwrap();
    crate::sys::set_length(file.as_fd(), layout.directory().get()).unwrap();
    let bytes = layout.directory();
    FileMap::new(file.as_fd(), Bytes::ZERO, bytes, Access::ReadWrite).unwrap()
}

fn work(layout: Layout, task: Task) -> Work {
    let (segment, directory) = (SegmentId::FIRST, BackingId::FIRST);
    Work {
        segment,
        directory,
        layout,
        at: 0,
        retry_at: None,
        task,
    }
}

#[test]
fn the_largest_domain_is_gone_through_in_parts_and_completely() {
    let unit = Bytes::new(coherence::directory::UNIT_BYTES_MIN);
    let units = coherence::directory::UNITS_MAX;
    let layout = Layout::new(Bytes::new(unit.get() * u64::from(units)), unit).unwrap();
    let map = mapped(layout);
    let directory = Directory::new(map.mapped(), layout).unwrap();
    let incarnation = Incarnation::FIRST;
    let mut format = work(
        layout,
        Task::Format {
            mode: 1,
            incarnation,
            zeroes: None,
            sum: Some(77),
        },
    );
    let mut rounds = 1;
    while !format.proceed(&directory, unread).unwrap() {
        rounds += 1;
    }
    assert_eq!(rounds, units.div_ceil(UNITS_A_ROUND));
    let number = incarnation.number();
    let written =
        |line: &Descriptor| (line.backing.load(Relaxed), line.sum.load(Relaxed)) == (number, 77);
    assert!(directory.lines().iter().all(written));
    assert_eq!(directory.is_formatted(), Ok(true));
    for line in directory.lines() {
        line.own.store(own(1, 0, 0b100), Relaxed);
    }
    let task = Task::Recover {
        recovery: recovery(0b100),
        found: Recovered::default(),
        stuck: None,
        reading: None,
    };
    let mut recover = work(layout, task);
    while !recover.proceed(&directory, unread).unwrap() {}
    let Task::Recover { found, stuck, .. } = recover.task else {
        panic!("it stays what it is");
    };
    assert_eq!((found.cleared, stuck), (units, None));
}

#[test]
fn units_that_cannot_be_recovered_are_counted_and_the_others_are_recovered() {
    let layout = recovery(0).layout;
    let map = mapped(layout);
    let directory = Directory::new(map.mapped(), layout).unwrap();
    for line in directory.lines() {
        line.own.store(own(2, 1, 0b100), Relaxed);
    }
    for unit in [5, 9] {
        directory.lines()[unit].own.store(u64::MAX, Relaxed);
    }
    let task = Task::Recover {
        recovery: recovery(0b100),
        found: Recovered::default(),
        stuck: None,
        reading: None,
    };
    let mut recover = work(layout, task);
    assert!(recover.proceed(&directory, unread).unwrap());
    let Task::Recover { found, stuck, .. } = recover.task else {
        panic!("it stays what it is");
    };
    let stuck = stuck.unwrap();
    assert_eq!((found.lost, stuck.units, stuck.first), (14, 2, 5));
}

#[test]
fn a_domain_that_cannot_be_had_holds_up_no_other() {
    let mut domains = Domains::default();
    let segment = |number| SegmentId::new(number).unwrap();
    for number in [1, 2] {
        let recovery = Recovery {
            segment: segment(number),
            directory: BackingId::new(number).unwrap(),
            ..recovery(0)
        };
        domains.recover(recovery);
    }
    let (now, later) = (Nanos::from_millis(5), Nanos::from_millis(9));
    let mut first = domains.next_due(now).unwrap();
    assert_eq!(first.segment, segment(1));
    first.retry_at = Some(later);
    domains.work.push_front(first);
    let second = domains.next_due(now).unwrap();
    assert_eq!(second.segment, segment(2));
    assert!(domains.next_due(now).is_none());
    assert_eq!(domains.next_deadline(), Some(later));
    assert_eq!(domains.next_due(later).unwrap().segment, segment(1));
}
