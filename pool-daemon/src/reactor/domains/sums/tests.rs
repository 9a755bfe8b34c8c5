use std::os::fd::OwnedFd;

use coherence::directory::UNIT_BYTES_MIN;
use coherence::{FutexWait, Layout, Member, Own, Slot, State};
use pool_core::BackingId;
use pool_core::sync::atomic::Ordering::Relaxed;

use super::super::*;

const UNITS: u32 = 5;

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

#[test]
fn units_are_read_one_in_a_round_and_one_that_cannot_be_read_is_read_later() {
    let slot = Slot::new(2).unwrap();
    let (recovery, mut domains) = (recovery(slot), Domains::default());
    let layout = recovery.layout;
    let file = tempfile::tempfile().unwrap();
    file.set_len(layout.directory().get()).unwrap();
    let file = OwnedFd::from(file);
    let master = std::os::fd::AsFd::as_fd(&file);
    let map = FileMap::new(master, Bytes::ZERO, layout.directory(), Access::ReadWrite).unwrap();
    let directory = Directory::new(map.mapped(), layout).unwrap();
    let header = (1, Incarnation::FIRST, true);
    domains.format(recovery.segment, recovery.directory, layout, header);
    let unread = |unit| panic!("unit {unit} is read");
    assert!(begun(&mut domains).proceed(&directory, unread).unwrap());
    // Two of five are being written.
    let member = Member::new(slot, FutexWait);
    for unit in [1, 3] {
        member.try_exclusive(&directory.lines()[unit]).unwrap();
    }
    domains.recover(recovery);
    let mut work = begun(&mut domains);
    let states = || {
        let words = directory.lines().iter().map(|line| line.own.load(Relaxed));
        words
            .map(|word| Own::judge(word).unwrap().state())
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let failed = work.proceed(&directory, |_| Err(OpenError::Gone));
        assert!(matches!(failed, Err(OpenError::Gone)));
        assert_eq!((work.at, states()[1]), (1, State::Fenced));
    }
    let mut read = Vec::new();
    let mut round = |work: &mut Work| {
        let look = |unit| {
            read.push(unit);
            Ok(if unit == 1 {
                zeroes()
            } else {
                Digest::of_zeroes(Bytes::new(1))
            })
        };
        let is_done = work.proceed(&directory, look).unwrap();
        (is_done, read.clone())
    };
    assert_eq!(round(&mut work), (false, vec![1]));
    assert_eq!(round(&mut work), (false, vec![1, 3]));
    assert_eq!(round(&mut work), (true, vec![1, 3]));
    assert_eq!([states()[1], states()[3]], [State::Free, State::Lost]);
    let Task::Recover { found, stuck, .. } = work.task else {
        panic!("it stays what it is");
    };
    assert_eq!((found.repaired, found.lost, stuck), (1, 1, None));
    let line = &directory.lines()[1];
    assert_eq!(
        line.sum.load(Relaxed),
        zeroes().word(line.version.load(Relaxed))
    );
}
