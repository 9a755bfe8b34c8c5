use std::os::fd::OwnedFd;

use coherence::directory::UNIT_BYTES_MIN;
use coherence::recover::RecoverError;
use coherence::sum::Digest;
use coherence::{FutexWait, Layout, Member, Own, Slot, State};
use pool_core::BackingId;
use pool_core::sync::atomic::Ordering::Relaxed;

use super::super::*;
use super::{BYTES_A_ROUND, Reading, Zeroes};
use crate::engine::command::Unrecovered;

const UNITS: u32 = 5;
const SLOT: u8 = 2;

fn zeroes() -> Digest {
    Digest::of_zeroes(Bytes::new(UNIT_BYTES_MIN))
}

fn recovery(slot: Slot) -> Recovery {
    let bytes = UNIT_BYTES_MIN * u64::from(UNITS);
    Recovery {
        segment: SegmentId::FIRST,
        directory: BackingId::FIRST,
        layout: Layout::new(Bytes::new(bytes), Bytes::new(UNIT_BYTES_MIN)).unwrap(),
        keeps: true,
        checks: true,
        slots: slot.bit(),
        members: 0,
        in_order: false,
        cut_off: 0,
        contents_in: None,
        settles: true,
    }
}

fn begun(domains: &mut Domains) -> Work {
    domains.next_due(Nanos::ZERO).unwrap()
}

/// The file of a directory, in memory that everybody maps.
fn mapped(layout: Layout) -> FileMap {
    let file = tempfile::tempfile().unwrap();
    file.set_len(layout.directory().get()).unwrap();
    let file = OwnedFd::from(file);
    let master = std::os::fd::AsFd::as_fd(&file);
    FileMap::new(master, Bytes::ZERO, layout.directory(), Access::ReadWrite).unwrap()
}

/// A new domain in which the units `written` are being written by `slot`.
fn written<'a>(map: &'a FileMap, recovery: &Recovery, written: &[usize]) -> Directory<'a> {
    let (layout, mut domains) = (recovery.layout, Domains::default());
    let directory = Directory::new(map.mapped(), layout).unwrap();
    let header = (1, Incarnation::FIRST, true);
    domains.format(recovery.segment, recovery.directory, layout, header);
    let unread = |reading: &mut Reading| panic!("{reading:?} is read");
    assert!(begun(&mut domains).proceed(&directory, unread).unwrap());
    let member = Member::new(Slot::new(SLOT).unwrap(), FutexWait);
    for &unit in written {
        member.try_exclusive(&directory.lines()[unit]).unwrap();
    }
    directory
}

fn state(directory: &Directory<'_>, unit: usize) -> State {
    let word = directory.lines()[unit].own.load(Relaxed);
    Own::judge(word).unwrap().state()
}

/// A pass over all units, with the units that were read in each round.
fn pass(
    recovery: Recovery,
    directory: &Directory<'_>,
    contents: impl Fn(u32) -> Result<Digest, OpenError>,
) -> (Vec<Vec<u32>>, Recovered, Option<Unrecovered>) {
    let mut domains = Domains::default();
    domains.recover(recovery);
    let (mut work, mut rounds) = (begun(&mut domains), Vec::new());
    let mut is_done = false;
    while !is_done {
        let mut read = Vec::new();
        let look = |reading: &mut Reading| {
            read.push(reading.unit);
            contents(reading.unit).map(Some)
        };
        is_done = work.proceed(directory, look).unwrap();
        rounds.push(read);
    }
    let Task::Recover { found, stuck, .. } = work.task else {
        panic!("it stays what it is");
    };
    (rounds, found, stuck)
}

#[test]
fn units_are_read_one_in_a_round_and_one_that_cannot_be_read_holds_up_no_other() {
    let recovery = recovery(Slot::new(SLOT).unwrap());
    let map = mapped(recovery.layout);
    // Three of five.
    let directory = written(&map, &recovery, &[1, 2, 3]);
    let (rounds, found, stuck) = pass(recovery, &directory, |unit| match unit {
        1 => Err(OpenError::Gone),
        2 => Ok(zeroes()),
        _ => Ok(Digest::of_zeroes(Bytes::new(1))),
    });
    assert_eq!(rounds, [vec![1], vec![2], vec![3], vec![]]);
    assert_eq!((found.repaired, found.lost), (1, 1));
    let stuck = stuck.unwrap();
    assert_eq!((stuck.units, stuck.first), (1, 1));
    assert_eq!(stuck.reason, RecoverError::Undecided);
    let states = [1, 2, 3].map(|unit| state(&directory, unit));
    assert_eq!(states, [State::Fenced, State::Free, State::Lost]);
    // The next pass reads what is left.
    let (rounds, found, stuck) = pass(recovery, &directory, |_| Ok(zeroes()));
    assert_eq!(rounds, [vec![1], vec![]]);
    assert_eq!((found.repaired, found.lost, stuck), (1, 0, None));
    let line = &directory.lines()[1];
    assert_eq!(
        line.sum.load(Relaxed),
        zeroes().word(line.version.load(Relaxed))
    );
}

#[test]
fn what_could_not_be_read_is_tried_again_whatever_word_is_overwritten() {
    for corrupt in [0, 4] {
        let recovery = recovery(Slot::new(SLOT).unwrap());
        let map = mapped(recovery.layout);
        let directory = written(&map, &recovery, &[2]);
        directory.lines()[corrupt].own.store(u64::MAX, Relaxed);
        let (_, _, stuck) = pass(recovery, &directory, |_| Err(OpenError::Gone));
        let stuck = stuck.unwrap();
        assert_eq!(
            (stuck.units, stuck.first, stuck.reason),
            (2, 2, RecoverError::Undecided)
        );
    }
}

#[test]
fn a_unit_is_read_in_parts_and_is_nobodys_meanwhile_beside_an_eviction_too() {
    for settles in [true, false] {
        let other = Slot::new(SLOT + 1).unwrap();
        let recovery = Recovery {
            settles,
            members: other.bit(),
            ..recovery(Slot::new(SLOT).unwrap())
        };
        let map = mapped(recovery.layout);
        let directory = written(&map, &recovery, &[0]);
        let mut domains = Domains::default();
        domains.recover(recovery);
        let mut work = begun(&mut domains);
        let lives = || directory.lives(other, directory.era(other).unwrap());
        for part in 1..=3 {
            let read_on = |reading: &mut Reading| {
                assert_eq!(reading.at, part - 1, "it goes on where it was");
                reading.at = part;
                Ok(None)
            };
            assert!(!work.proceed(&directory, read_on).unwrap());
            assert_eq!((work.at, state(&directory, 0)), (0, State::Fenced));
            assert_eq!(lives(), Ok(part == 1), "who left meanwhile is announced");
            directory.leave(other).unwrap();
        }
        let last = |_: &mut Reading| Ok(Some(zeroes()));
        assert!(!work.proceed(&directory, last).unwrap());
        assert_eq!(state(&directory, 0), State::Free);
        let unread = |reading: &mut Reading| panic!("{reading:?} is read");
        assert!(work.proceed(&directory, unread).unwrap());
        let Task::Recover { found, stuck, .. } = work.task else {
            panic!("it stays what it is");
        };
        assert_eq!((found.repaired, found.lost, stuck), (1, 0, None));
    }
}

#[test]
fn no_round_reads_more_than_a_bound_however_large_a_unit_is() {
    let round = BYTES_A_ROUND;
    for bytes in [UNIT_BYTES_MIN, round, 4 * round, 1 << 40] {
        let (mut reading, unit) = (Reading::new(3), 3 * bytes);
        for at in [0, round, 2 * round, 3 * round] {
            reading.at = at.min(bytes);
            let part = reading.part(bytes);
            assert_eq!(part.start, unit + at.min(bytes));
            assert_eq!(part.end, unit + (at + round).min(bytes));
        }
    }
}

#[test]
fn the_sum_of_a_new_unit_is_made_in_parts() {
    for (bytes, rounds) in [(UNIT_BYTES_MIN, 1), (2 * BYTES_A_ROUND, 2)] {
        let mut zeroes = Zeroes::new(Bytes::new(bytes));
        for _ in 1..rounds {
            assert_eq!(zeroes.proceed(), None);
        }
        let whole = Digest::of_zeroes(Bytes::new(bytes));
        assert_eq!(zeroes.proceed(), Some(whole));
    }
    let unit = Bytes::new(2 * BYTES_A_ROUND);
    let layout = Layout::new(unit, unit).unwrap();
    let (map, mut domains) = (mapped(layout), Domains::default());
    let directory = Directory::new(map.mapped(), layout).unwrap();
    let header = (1, Incarnation::FIRST, true);
    domains.format(SegmentId::FIRST, BackingId::FIRST, layout, header);
    let mut work = begun(&mut domains);
    let unread = |reading: &mut Reading| panic!("{reading:?} is read");
    assert!(!work.proceed(&directory, unread).unwrap());
    assert_eq!(directory.is_formatted(), Ok(false));
    assert!(work.proceed(&directory, unread).unwrap());
    let sum = directory.lines()[0].sum.load(Relaxed);
    assert_eq!(sum, Digest::of_zeroes(unit).word(0));
}
