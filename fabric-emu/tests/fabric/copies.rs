//! Bulk transfers in a fabric: shares, ends, and what cuts them off.

use fabric_emu::capacity::Selection;
use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
use fabric_emu::cci::dcd_management::{InitiateReleaseRequest, RemovalPolicy};
use fabric_emu::cci::{Message, Request, Tag};
use fabric_emu::fabric::{AccessError, Cci, Effect, Event, Fabric, Fault};
use fabric_emu::id::{HostId, Node, Port, PortId};
use fabric_emu::span::Span;
use fabric_emu::timing::{Picos, Rate, Share, Transfers, fair_shares, transfer_time};
use pool_core::units::{GIB, MIB};

use super::rig::{BASE, DEVICE, LD, apart, fabric, load, remap};

const READ: (Option<u64>, Option<u64>) = (Some(BASE), None);
const WRITE: (Option<u64>, Option<u64>) = (None, Some(BASE));
/// Under way from then on.
const START: Picos = Picos::from_nanos(1_000);

fn link_of(host: u16) -> Port {
    Port {
        node: Node::Host(HostId(host)),
        port: PortId(0),
    }
}

fn begin(
    fabric: &mut Fabric,
    now: Picos,
    host: u16,
    (from, to): (Option<u64>, Option<u64>),
    bytes: u64,
) -> Vec<Effect> {
    let host = HostId(host);
    let copy = Event::Copy {
        host,
        from,
        to,
        bytes,
    };
    fabric.step(now, &copy)
}

/// All that is told until nothing is due.
fn ends(fabric: &mut Fabric) -> Vec<Effect> {
    let mut all = Vec::new();
    while let Some(due) = fabric.next_due() {
        all.extend(fabric.advance(due));
    }
    all
}

/// What a host moves alone, and what its first byte takes.
fn alone(fabric: &Fabric, host: u16, reads: Share) -> (Rate, Picos) {
    let (host, ld) = (HostId(host), fabric_emu::id::LdId(host));
    let way = fabric.way(host, DEVICE, ld).unwrap();
    let elements = fabric.elements();
    let flow = elements.flow(&way, reads, Rate::MAX).unwrap();
    let share = fair_shares(&elements.resources(), &[flow])[0];
    (share, elements.unloaded(&way, reads).unwrap())
}

#[test]
fn a_copy_that_is_alone_takes_its_first_byte_and_the_rest_at_what_it_passes() {
    for (ends_at, reads) in [(READ, Share::ONE), (WRITE, Share::ZERO)] {
        for hosts in [1, 2] {
            let mut fabric = fabric(hosts, |_| {});
            let (rate, first) = alone(&fabric, 0, reads);
            let begun = begin(&mut fabric, START, 0, ends_at, GIB);
            assert_eq!(begun, [Effect::Copying { copy: 0 }]);
            let took = transfer_time(first, GIB, rate);
            assert_eq!(ends(&mut fabric), [Effect::Copied { copy: 0, took }]);
            assert_eq!(fabric.now(), START.saturating_add(took));
        }
    }
    // From memory to memory: both ways of the link, and all of it at the device.
    let mut fabric = fabric(1, |_| {});
    let both = (Some(BASE), Some(BASE + GIB));
    begin(&mut fabric, START, 0, both, GIB);
    let [Effect::Copied { took, .. }] = ends(&mut fabric)[..] else {
        panic!("it ends");
    };
    let [(read, there), (_, back)] = [Share::ONE, Share::ZERO].map(|it| alone(&fabric, 0, it));
    let least = transfer_time(there.saturating_add(back), GIB, read);
    assert!(took > least, "{took} {least}");
}

#[test]
fn two_copies_share_evenly_and_one_that_ends_gives_its_share_to_the_other() {
    let mut fabric = fabric(2, |_| {});
    let elements = fabric.elements();
    let flow = |host: u16| {
        let (host, ld) = (HostId(host), fabric_emu::id::LdId(host));
        let way = fabric.way(host, DEVICE, ld).unwrap();
        elements.flow(&way, Share::ONE, Rate::MAX).unwrap()
    };
    let shares = fair_shares(&elements.resources(), &[flow(0), flow(1)]);
    assert_eq!(shares[0], shares[1]);
    let ((all, first), half) = (alone(&fabric, 0, Share::ONE), shares[0]);
    assert!(half < all);
    let mut expected = Transfers::new(elements.resources());
    let flows = [flow(0), flow(1)];
    begin(&mut fabric, START, 0, READ, 3 * GIB);
    begin(&mut fabric, START, 1, READ, GIB);
    let ended = ends(&mut fabric);
    let short = transfer_time(first, GIB, half);
    assert_eq!(
        ended[0],
        Effect::Copied {
            copy: 1,
            took: short
        }
    );
    expected.start(flows[0].clone(), 3 * GIB, first);
    expected.start(flows[1].clone(), GIB, first);
    let model = expected.advance(Picos::MAX);
    let took = model[1].at;
    assert_eq!(ended[1..], [Effect::Copied { copy: 0, took }]);
    // Two thirds of the long one are left when the short one is through, and have all of it.
    let through = half.time_of(GIB);
    let rest = took.saturating_sub(through).saturating_sub(first);
    assert!(
        rest.get().abs_diff(all.time_of(2 * GIB).get()) < 1_000,
        "{rest}"
    );
}

#[test]
fn ends_do_not_depend_on_how_often_the_time_goes_on_and_a_run_is_repeated_from_its_seed() {
    let run = |step: u64| {
        let mut fabric = fabric(2, |_| {});
        let mut all = begin(&mut fabric, START, 0, READ, 64 * MIB);
        all.extend(begin(&mut fabric, apart(20), 1, READ, 16 * MIB));
        all.extend(begin(&mut fabric, apart(40), 1, WRITE, 16 * MIB));
        for number in 0..step {
            all.extend(fabric.advance(apart(50 + number)));
        }
        all.extend(ends(&mut fabric));
        (all, fabric.trace())
    };
    let once = run(0);
    assert_eq!(once.0.len(), 6);
    assert_eq!(run(0), once);
    assert_eq!(run(900).0, once.0);
    assert_ne!(run(900).1, once.1, "that time went on is in the trace");
}

#[test]
fn what_cuts_a_copy_off_ends_it_with_an_error_and_leaves_its_share_to_others() {
    let stall = |direction| Fault::LinkStalls {
        port: link_of(0),
        direction,
        longer: None,
    };
    for (fault, why) in [
        (Fault::LinkFails(link_of(0)), AccessError::Unreachable),
        (Fault::PortResets(link_of(0)), AccessError::Unreachable),
        (Fault::HostDies(HostId(0)), AccessError::Dead),
        (
            stall(fabric_emu::fabric::Direction::Up),
            AccessError::TimedOut,
        ),
    ] {
        let mut fabric = fabric(2, |_| {});
        let (all, first) = alone(&fabric, 1, Share::ONE);
        begin(&mut fabric, START, 0, READ, GIB);
        begin(&mut fabric, START, 1, READ, GIB);
        let cut = apart(1_000);
        let effects = fabric.step(cut, &Event::Fault(fault));
        let failed = Effect::CopyFailed { copy: 0, why };
        assert_eq!(effects.last(), Some(&failed), "{fault:?}");
        let [Effect::Copied { copy: 1, took }] = ends(&mut fabric)[..] else {
            panic!("the other one ends: {fault:?}");
        };
        let shared = cut.saturating_sub(START);
        let moved = shared.get().div_ceil(2);
        let least = transfer_time(first, GIB, all);
        let expected = least.get() + moved;
        assert!(
            took.get().abs_diff(expected) < 1_000_000,
            "{took} {expected}"
        );
    }
    // All that use a device end with it, also where that is planned.
    let mut fabric = fabric(2, |_| {});
    let mut schedule = fabric_emu::schedule::Schedule::new();
    let viral = Fault::MemdevTurnsViral(DEVICE);
    schedule.add(apart(5), viral).unwrap();
    fabric.plan(&schedule);
    begin(&mut fabric, START, 0, READ, GIB);
    begin(&mut fabric, START, 1, WRITE, GIB);
    let why = AccessError::Viral;
    let told = fabric.advance(apart(6));
    let failed = [0, 1].map(|copy| Effect::CopyFailed { copy, why });
    assert_eq!(told[2..], failed);
    assert_eq!(fabric.next_due(), None);
}

#[test]
fn a_copy_ends_with_the_power_of_its_device_and_no_other_does() {
    for is_planned in [false, true] {
        let mut fabric = fabric(1, |_| {});
        let cycles = Fault::MemdevCycles(DEVICE);
        begin(&mut fabric, START, 0, READ, GIB);
        begin(&mut fabric, START, 0, WRITE, GIB);
        let told = if is_planned {
            let mut schedule = fabric_emu::schedule::Schedule::new();
            schedule.add(apart(5), cycles).unwrap();
            fabric.plan(&schedule);
            fabric.advance(apart(5)).split_off(1)
        } else {
            fabric.step(apart(5), &Event::Fault(cycles))
        };
        let why = AccessError::Unreachable;
        let failed = [0, 1].map(|copy| Effect::CopyFailed { copy, why });
        assert_eq!(told[..], [&[Effect::Done][..], &failed].concat());
        assert_eq!(ends(&mut fabric), []);
        // It is as good as before for the next one.
        let begun = begin(&mut fabric, apart(6), 0, READ, GIB);
        assert_eq!(begun, [Effect::Copying { copy: 2 }]);
        assert_eq!(ends(&mut fabric).len(), 1);
    }
}

#[test]
fn a_copy_ends_with_the_window_that_it_was_begun_over() {
    let mut fabric = fabric(2, |_| {});
    for host in [0, 1] {
        begin(&mut fabric, START, host, READ, GIB);
    }
    let unmap = Event::Unmap {
        host: HostId(0),
        start: BASE,
    };
    let why = AccessError::Unmapped;
    let failed = Effect::CopyFailed { copy: 0, why };
    let told = fabric.step(apart(5), &unmap);
    assert_eq!(told, [Effect::Done, failed]);
    remap(&mut fabric, apart(6), 0);
    assert!(matches!(
        ends(&mut fabric)[..],
        [Effect::Copied { copy: 1, .. }]
    ));
}

/// Has host 0 have 256 MiB more of dynamic memory under a tag.
fn add(fabric: &mut Fabric, tag: u8) -> Span {
    let device = fabric.memdev_mut(DEVICE).unwrap();
    let what = Selection::Contiguous(256 * MIB);
    let offered = device.add(START, (LD, 0), &what, Tag([tag; 16])).unwrap();
    device.answer(START, LD, &[offered[0].span]).unwrap();
    offered[0].span
}

#[test]
fn a_copy_ends_with_the_memory_that_it_reads_or_writes() {
    let mailbox = Cci::Mailbox {
        host: HostId(0),
        memdev: DEVICE,
        ld: LD,
    };
    for is_forced in [true, false] {
        for ends_at in [(Some(0), None), (None, Some(0)), (Some(BASE), Some(0))] {
            let mut fabric = fabric(4, |_| {});
            let span = add(&mut fabric, 1);
            let map = Event::Map {
                host: HostId(0),
                span: Span::new(0, span.bytes).unwrap(),
                memdev: DEVICE,
                ld: LD,
                address: span.start,
            };
            assert_eq!(fabric.step(START, &map), [Effect::Done]);
            begin(&mut fabric, START, 0, ends_at, span.bytes);
            begin(&mut fabric, START, 0, READ, 64 * GIB);
            // More of it is no less of what there was.
            add(&mut fabric, 2);
            assert_eq!(fabric.advance(apart(1)), []);
            let flush = Event::Flush {
                host: HostId(0),
                span: Span::new(0, 64).unwrap(),
            };
            let flushed = fabric.step(apart(1), &flush);
            assert!(matches!(flushed[..], [Effect::Written { .. }]));
            let release = if is_forced {
                Request::InitiateRelease(InitiateReleaseRequest {
                    host_id: LD,
                    removal_policy: RemovalPolicy::TagBased,
                    forced_removal: true,
                    sanitize_on_release: false,
                    length: span.bytes,
                    tag: Tag([1; 16]),
                    extents: None,
                })
            } else {
                let (start_dpa, length) = (span.start, span.bytes);
                let extents = vec![UpdatedExtent { start_dpa, length }];
                let extents = extents.try_into().unwrap();
                Request::ReleaseDc(UpdatedExtentList { flags: 0, extents })
            };
            let cci = if is_forced {
                Cci::Memdev(DEVICE)
            } else {
                mailbox
            };
            let message = Message::request(0, &release).unwrap().encode();
            let told = fabric.step(apart(2), &Event::Command { cci, message });
            let why = AccessError::NoMemory;
            let failed = Effect::CopyFailed { copy: 0, why };
            assert!(matches!(told[0], Effect::Answer(_)), "{told:?}");
            assert_eq!(told[1..], [failed], "{is_forced} {ends_at:?}");
            assert!(matches!(
                ends(&mut fabric)[..],
                [Effect::Copied { copy: 1, .. }]
            ));
        }
    }
}

#[test]
fn every_copy_ends_and_one_that_would_not_before_the_end_of_time_is_refused() {
    // 213 days in picoseconds: at 1 MB/s some 18 TB.
    let least = Rate::new(1_000_000);
    let mut fabric = fabric(1, |topology| {
        topology.hosts[0].window = pool_core::Bytes::new(64 << 40);
        topology.memdevs[0].fixed = pool_core::Bytes::new(64 << 40);
        topology.memdevs[0].ld_limit = Some(least);
    });
    let tib: u64 = 1 << 40;
    let map = Event::Map {
        host: HostId(0),
        span: Span::new(4 * tib, 32 * tib).unwrap(),
        memdev: DEVICE,
        ld: LD,
        address: tib,
    };
    assert_eq!(fabric.step(START, &map), [Effect::Done]);
    let read = (Some(4 * tib), None);
    let refused = [Effect::Failed(AccessError::TooLong)];
    assert_eq!(begin(&mut fabric, START, 0, read, 20 * tib), refused);
    assert_eq!(fabric.next_due(), None);
    let begun = begin(&mut fabric, START, 0, read, 12 * tib);
    assert_eq!(begun, [Effect::Copying { copy: 1 }]);
    // Either alone would end.
    assert_eq!(begin(&mut fabric, START, 0, read, 12 * tib), refused);
    for copy in 3..258 {
        let begun = begin(&mut fabric, START, 0, read, 1 << 20);
        assert_eq!(begun, [Effect::Copying { copy }]);
    }
    assert_eq!(ends(&mut fabric).len(), 256);
    assert_eq!(fabric.next_due(), None);
    // Little is left of time by then.
    let begun = begin(&mut fabric, Picos::MAX, 0, read, 64);
    assert_eq!(begun, refused);
}

#[test]
fn a_link_that_is_trained_down_in_the_middle_carries_the_rest_at_what_it_is_then() {
    let mut fabric = fabric(1, |_| {});
    let (fast, first) = alone(&fabric, 0, Share::ONE);
    begin(&mut fabric, START, 0, READ, GIB);
    let half = START.saturating_add(fast.time_of(GIB / 2));
    let retrains = Fault::LinkRetrains {
        port: link_of(0),
        lanes: 1,
        gigatransfers: 8,
    };
    assert_eq!(fabric.step(half, &Event::Fault(retrains)), [Effect::Done]);
    let (slow, _) = alone(&fabric, 0, Share::ONE);
    assert!(slow < fast);
    let [Effect::Copied { took, .. }] = ends(&mut fabric)[..] else {
        panic!("it ends");
    };
    let expected = half.saturating_sub(START).saturating_add(first);
    let expected = expected.saturating_add(slow.time_of(GIB / 2));
    assert!(
        took.get().abs_diff(expected.get()) < 10_000,
        "{took} {expected}"
    );
}

#[test]
fn lines_have_what_copies_leave_and_all_of_it_again_afterwards() {
    let wait = |fabric: &mut Fabric, now: Picos| {
        let number = now.get() / 1_000;
        let first = load(fabric, now, 0, number);
        load(fabric, now, 0, number + 1).saturating_sub(first).get()
    };
    let mut fabric = fabric(1, |_| {});
    let before = wait(&mut fabric, apart(1));
    assert!(before > 0);
    begin(&mut fabric, apart(2), 0, READ, GIB);
    let beside = wait(&mut fabric, apart(3));
    // The copy leaves less than a half, which is what one more of them would have.
    assert!(beside.abs_diff(2 * before) <= 2, "{beside} {before}");
    ends(&mut fabric);
    let now = fabric.now().saturating_add(apart(1));
    assert_eq!(wait(&mut fabric, now), before);
}

#[test]
fn a_limit_of_a_logical_device_holds_all_its_copies_together() {
    let limit = Rate::new(1_000_000_000);
    let mut fabric = fabric(1, |topology| topology.memdevs[0].ld_limit = Some(limit));
    let (_, first) = alone(&fabric, 0, Share::ONE);
    begin(&mut fabric, START, 0, READ, MIB);
    begin(&mut fabric, START, 0, READ, MIB);
    let took = transfer_time(first, 2 * MIB, limit);
    let both = [0, 1].map(|copy| Effect::Copied { copy, took });
    assert_eq!(ends(&mut fabric), both);
}

#[test]
fn a_copy_of_what_is_not_there_is_refused_and_so_many_go_on_at_once() {
    let mut fabric = fabric(1, |_| {});
    let end = BASE + 128 * GIB;
    for (ends_at, bytes, why) in [
        ((None, None), 1, AccessError::BadRange),
        (READ, 0, AccessError::BadRange),
        ((Some(0), None), 1, AccessError::Unmapped),
        ((Some(end - 64), None), 65, AccessError::Unmapped),
        ((Some(BASE), Some(end)), 1, AccessError::Unmapped),
        ((None, Some(BASE)), u64::MAX, AccessError::Unmapped),
    ] {
        let refused = begin(&mut fabric, START, 0, ends_at, bytes);
        assert_eq!(refused, [Effect::Failed(why)], "{ends_at:?} {bytes}");
    }
    assert_eq!(
        begin(&mut fabric, START, 9, READ, 1),
        [Effect::Failed(AccessError::Dead)]
    );
    // Beyond its fixed memory nothing was added.
    let map = Event::Map {
        host: HostId(0),
        span: Span::new(0, MIB).unwrap(),
        memdev: DEVICE,
        ld: LD,
        address: 1 << 40,
    };
    assert_eq!(fabric.step(START, &map), [Effect::Done]);
    let refused = begin(&mut fabric, START, 0, (Some(0), None), 64);
    assert_eq!(refused, [Effect::Failed(AccessError::NoMemory)]);
    for copy in 0..256 {
        let begun = begin(&mut fabric, START, 0, READ, 1);
        assert_eq!(begun, [Effect::Copying { copy }]);
    }
    let refused = begin(&mut fabric, START, 0, READ, 1);
    assert_eq!(refused, [Effect::Failed(AccessError::TooMany)]);
    assert_eq!(ends(&mut fabric).len(), 256);
}
