//! Segments that are resized, moved and taken away under their views.

use client_sdk::{
    Access, AccessError, Create, Error, ErrorClass, Event, Incarnation, Ordering, Segment,
};
use pool_core::{Bytes, SegmentId};
use pool_proto::session::v1::{self as session, event, request};

use crate::fake::in_use;
use crate::{EXTENT, attached, extents, heard, wait_until};

fn is_close(body: &request::Body) -> bool {
    matches!(body, request::Body::Close(_))
}

fn revoked(segment: SegmentId) -> event::Body {
    event::Body::Revoked(session::Revoked {
        segment_id: segment.number(),
        incarnation: 0,
    })
}

fn changed(segment: SegmentId) -> event::Body {
    event::Body::Changed(session::Changed {
        segment_id: segment.number(),
        incarnation: 0,
    })
}

#[test]
fn a_segment_grows_in_its_place() {
    let (_fake, pool) = attached();
    let mut segment = pool
        .create(&Create::new("ddr", EXTENT).capacity(extents(2)))
        .unwrap();
    segment
        .view_mut::<u8>(Bytes::ZERO, 1)
        .unwrap()
        .set(0, 1)
        .unwrap();
    // Within its capacity, and then beyond.
    for count in [2, 4] {
        segment.resize(extents(count)).unwrap();
        assert_eq!(segment.bytes(), extents(count));
        let last = segment.view_mut::<u8>(extents(count - 1), 1).unwrap();
        assert_eq!(last.get(0), Ok(0));
        last.set(0, 7).unwrap();
        assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(1));
    }
}

#[test]
fn a_segment_that_cannot_grow_here_is_as_it_was_and_grows_once_it_can() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let create = || pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let (mut segment, behind) = (create(), create());
    let view = segment.view_mut::<u8>(Bytes::ZERO, 1).unwrap();
    view.set(0, 7).unwrap();
    fake.tell(revoked(behind.id()));
    heard(&mut events, |event| matches!(event, Event::Revoked { .. }));
    let held = Error::AddressHeld {
        addr: segment.addr(),
        len: extents(2),
    };
    assert_eq!(segment.resize(extents(2)), Err(held));
    let first = |segment: &Segment| segment.view::<u8>(Bytes::ZERO, 1)?.get(0);
    assert_eq!((first(&segment), segment.bytes()), (Ok(7), EXTENT));
    assert!(segment.view::<u8>(EXTENT, 1).is_err());
    let refreshes = |body: &request::Body| matches!(body, request::Body::Refresh(_));
    wait_until(|| fake.model().asked(refreshes).len() > 1);
    assert_eq!((first(&segment), segment.bytes()), (Ok(7), EXTENT));
    drop(behind);
    heard(&mut events, |event| matches!(event, Event::Changed { .. }));
    assert_eq!((first(&segment), segment.bytes()), (Ok(7), extents(2)));
    assert_eq!(segment.view::<u8>(EXTENT, 1).unwrap().get(0), Ok(0));
}

#[test]
fn what_a_segment_loses_by_shrinking_is_refused_and_does_not_fault() {
    let (fake, pool) = attached();
    let create = Create::new("ddr", extents(2)).piece(EXTENT).name("shrinks");
    let mut segment = pool.create(&create).unwrap();
    let other = pool.open("shrinks", Access::ReadWrite).unwrap();
    let across = other.view_mut::<u64>(Bytes::ZERO, 2 * (1 << 18)).unwrap();
    across.fill(5).unwrap();
    let dropped = fake.model().segments[&segment.id().number()].files[1]
        .try_clone()
        .unwrap();
    let backing = fake.model().segments[&segment.id().number()].message.pieces[1].backing_id;

    segment.resize(EXTENT).unwrap();
    assert_eq!(across.get(0), Ok(5));
    let outside = AccessError::Outside {
        offset: EXTENT,
        len: Bytes::new(8),
        size: EXTENT,
    };
    assert_eq!(across.get(1 << 18), Err(outside));
    assert!(across.set(1 << 18, 1).is_err());
    assert!(across.read_into((1 << 18) - 1, &mut [0; 2]).is_err());
    assert!(across.fill(1).is_err());
    // Nothing of the dropped piece is left here but the test's own descriptor.
    assert!(!in_use(fake.model().window_base, backing, &dropped));

    segment.resize(extents(2)).unwrap();
    assert_eq!(across.get(1 << 18), Ok(0));
}

#[test]
fn a_segment_moves_under_an_unchanged_address() {
    let (_fake, pool) = attached();
    let mut segment = pool.create(&Create::new("hbm", EXTENT)).unwrap();
    let (addr, incarnation) = (segment.addr(), segment.incarnation());
    segment.relocate("ddr").unwrap();
    assert_eq!((segment.addr(), segment.tier().as_str()), (addr, "ddr"));
    assert!(segment.incarnation() > incarnation);
    // The fake's new files are not copies: so the mapping is the new one.
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0x5a));
}

#[test]
fn contents_are_not_moved_while_another_handle_could_write() {
    let (_fake, pool) = attached();
    let mut segment = pool.create(&Create::new("hbm", EXTENT).name("x")).unwrap();
    let other = pool.open("x", Access::ReadWrite).unwrap();
    let here = Err(Error::HeldHere {
        segment: segment.id(),
        others: 1,
    });
    assert_eq!(
        (segment.relocate("ddr"), segment.revoke("them")),
        (here.clone(), here)
    );
    drop(other);
    segment.revoke("them").unwrap();
}

#[test]
fn what_events_and_calls_hold_for_a_moment_are_no_handles() {
    let (fake, pool) = attached();
    let mut segment = pool.create(&Create::new("hbm", EXTENT)).unwrap();
    for _ in 0..100 {
        fake.tell(changed(segment.id()));
        segment.relocate("ddr").unwrap();
    }
}

#[test]
fn a_change_of_another_process_is_followed() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let view = segment.view::<u8>(Bytes::ZERO, 4096).unwrap();
    assert_eq!(view.get(0), Ok(0));
    fake.model().refill(segment.id().number(), 3);
    fake.tell(changed(segment.id()));
    heard(&mut events, |event| {
        *event
            == Event::Changed {
                segment: segment.id(),
            }
    });
    assert!(view.iter().all(|byte| byte == Ok(3)));
}

#[test]
fn what_was_revoked_is_never_read_again() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let segment = pool
        .create(&Create::new("ddr", EXTENT).name("shared"))
        .unwrap();
    let id = segment.id();
    let view = segment.view_mut::<u64>(Bytes::ZERO, 4096).unwrap();
    view.fill(7).unwrap();
    let word = segment.atomic_u32(Bytes::ZERO).unwrap();
    let gone = AccessError::Revoked { segment: id };
    std::thread::scope(|scope| {
        let single = scope.spawn(|| {
            loop {
                match view.get(4095) {
                    Ok(value) => assert_eq!(value, 7),
                    Err(error) => return error,
                }
            }
        });
        let bulk = scope.spawn(|| {
            let mut copy = vec![0; 4096];
            loop {
                match view.read_into(0, &mut copy) {
                    Ok(()) => assert!(copy.iter().all(|&value| value == 7)),
                    Err(error) => return error,
                }
            }
        });
        let waiter = scope.spawn(|| word.wait(7, std::time::Duration::from_secs(20)));
        fake.tell(revoked(id));
        heard(&mut events, |event| {
            *event == Event::Revoked { segment: id }
        });
        assert_eq!((single.join().unwrap(), bulk.join().unwrap()), (gone, gone));
        assert_eq!(waiter.join().unwrap(), Err(Error::Access(gone)));
    });
    assert_eq!(
        (view.set(0, 1), word.load(Ordering::Relaxed)),
        (Err(gone), Err(gone))
    );
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap_err(), gone);
    assert_eq!(gone.class(), ErrorClass::Revoked);
    // The daemon is told at once, and once, that nothing of it is left: not when the handle goes.
    wait_until(|| fake.model().asked(is_close).len() == 1);
    assert!(fake.model().unclean.is_empty());
    drop(segment);
    pool.tiers().unwrap();
    assert_eq!(fake.model().asked(is_close).len(), 1);
}

#[test]
fn contents_that_are_lost_are_an_error_and_no_zeros() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let mut segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let lost = session::Lost {
        segment_id: segment.id().number(),
    };
    fake.tell(event::Body::Lost(lost));
    heard(&mut events, |event| {
        *event
            == Event::Lost {
                segment: segment.id(),
            }
    });
    let gone = AccessError::Lost {
        segment: segment.id(),
    };
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap_err(), gone);
    assert_eq!(segment.refresh().unwrap_err().class(), ErrorClass::Lost);
}

#[test]
fn addresses_of_a_revoked_handle_are_not_given_to_another_segment() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let old = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    fake.tell(revoked(old.id()));
    heard(&mut events, |event| matches!(event, Event::Revoked { .. }));
    fake.model().next_extent -= 1;
    let error = pool.create(&Create::new("ddr", EXTENT)).unwrap_err();
    assert_eq!(
        error,
        Error::AddressHeld {
            addr: old.addr(),
            len: EXTENT
        }
    );
    drop(old);
    fake.model().next_extent -= 1;
    let new = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    assert_eq!(new.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
}

#[test]
fn a_segment_that_is_opened_under_a_revoked_handle_is_given_back() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let create = Create::new("ddr", EXTENT).name("p").persistent();
    let old = pool.create(&create).unwrap();
    fake.tell(revoked(old.id()));
    heard(&mut events, |event| matches!(event, Event::Revoked { .. }));
    wait_until(|| fake.model().held.is_empty());
    let here = Error::AddressHeld {
        addr: old.addr(),
        len: EXTENT,
    };
    assert_eq!(pool.open("p", Access::ReadOnly).unwrap_err(), here);
    wait_until(|| fake.model().held.is_empty());
    drop(old);
    let new = pool.open("p", Access::ReadOnly).unwrap();
    assert_eq!(new.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
    assert!(fake.model().held.contains(&new.id().number()));
}

#[test]
fn a_revocation_of_before_ends_no_newer_grant() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let mut segment = pool.create(&Create::new("hbm", EXTENT)).unwrap();
    let meant = |incarnation: Incarnation| {
        event::Body::Revoked(session::Revoked {
            segment_id: segment.id().number(),
            incarnation: incarnation.number(),
        })
    };
    let (before, id) = (meant(segment.incarnation()), segment.id());
    // Of a segment that is held, and of one whose grant is still to come.
    segment.relocate("ddr").unwrap();
    let now = session::Revoked {
        segment_id: id.number(),
        incarnation: segment.incarnation().number(),
    };
    fake.tell(before);
    let early = session::Revoked {
        segment_id: segment.incarnation().number() + 2,
        incarnation: 1,
    };
    let device = "told".to_owned();
    fake.tell(event::Body::Revoked(early));
    fake.tell(event::Body::DeviceBack(session::DeviceBack { device }));
    heard(&mut events, |event| {
        matches!(event, Event::DeviceBack { .. })
    });
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0x5a));
    let next = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    assert_eq!(next.id().number(), early.segment_id);
    assert_eq!(next.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));

    fake.tell(event::Body::Revoked(now));
    heard(&mut events, |event| {
        *event == Event::Revoked { segment: id }
    });
    let gone = AccessError::Revoked { segment: id };
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap_err(), gone);
}

#[test]
fn an_event_that_overtakes_its_grant_is_not_lost() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    // The fake numbers segments by itself; the event names the one that comes next.
    let next = pool
        .create(&Create::new("ddr", EXTENT))
        .unwrap()
        .id()
        .number()
        + 3;
    fake.tell(revoked(SegmentId::new(next).unwrap()));
    heard(&mut events, |event| matches!(event, Event::Revoked { .. }));
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    assert_eq!(segment.id().number(), next);
    let gone = AccessError::Revoked {
        segment: segment.id(),
    };
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap_err(), gone);
}
