//! Objects: nobody sees a draft, everybody sees what was published, and it lives as long as it is
//! held.

use std::time::Duration;

use client_sdk::{
    Access, Bytes, Create, Draft, Element, ErrorClass, LeaseError, ObjectError, Objects, Pool,
    Shared,
};
use pool_core::sync::atomic::Ordering;

use crate::fake::{Fake, Peer};
use crate::{EXTENT, attached};

const UNIT: Bytes = Bytes::new(4096);

fn space() -> (Fake, Pool, Objects) {
    let (fake, pool) = attached();
    let create = Create::new("ddr", EXTENT).name("objects").persistent();
    let objects = pool.create_objects(&create, UNIT).unwrap();
    (fake, pool, objects)
}

fn peer(fake: &Fake, objects: &Objects) -> Peer {
    fake.model().peer(objects.domain().id().number(), 2)
}

fn draft<'o, T: Element>(objects: &'o Objects, elements: &[T]) -> Draft<'o, T> {
    let mut draft = objects.draft(elements.len()).unwrap();
    draft.view_mut().unwrap().write_from(0, elements).unwrap();
    draft
}

fn elements<T: Element>(shared: &Shared<'_, T>) -> Vec<T> {
    let view = shared.view().unwrap();
    view.iter().map(Result::unwrap).collect()
}

/// The unit in which the one object of a test is, by its descriptor.
fn units_held(peer: &Peer, units: u32) -> Vec<u32> {
    let held = |unit: &u32| {
        let word = peer.line(*unit).own.load(Ordering::Acquire);
        coherence::Own::judge(word).unwrap().holders() != 0
    };
    (0..units).filter(held).collect()
}

#[test]
fn what_was_published_is_found_as_it_was_written() {
    let (_fake, _pool, objects) = space();
    let numbers = draft(&objects, &[1.5_f64, -2.0, f64::MAX])
        .publish("numbers")
        .unwrap();
    let text = draft(&objects, b"hello").publish_unsummed("text").unwrap();
    let found = objects.get::<f64>("numbers").unwrap();
    assert_eq!(elements(&found), elements(&numbers));
    assert_eq!((found.name(), found.len()), ("numbers", 3));
    assert_eq!(elements(&objects.get::<u8>("text").unwrap()), b"hello");
    found.verify().unwrap();
    assert!(matches!(text.verify(), Err(ObjectError::Unsummed { .. })));
    assert_eq!(
        found.as_ptr(),
        numbers.as_ptr(),
        "it is one object, not a copy"
    );
}

#[test]
fn an_object_lives_as_long_as_it_is_held_and_no_longer() {
    let (fake, _pool, objects) = space();
    let peer = peer(&fake, &objects);
    let first = draft(&objects, &[7_u32]).publish("o").unwrap();
    let second = objects.get::<u32>("o").unwrap();
    let third = second.try_clone().unwrap();
    let weak = first.downgrade();
    drop((first, second));
    assert_eq!(elements(&weak.upgrade().unwrap().unwrap()), [7]);
    assert_eq!(elements(&objects.get::<u32>("o").unwrap()), [7]);
    drop(third);
    assert!(weak.upgrade().unwrap().is_none());
    assert!(matches!(
        objects.get::<u32>("o"),
        Err(ObjectError::NotFound { .. })
    ));
    assert_eq!(
        units_held(&peer, objects.domain().units()),
        [0; 0],
        "nothing is left behind"
    );
}

#[test]
fn nobody_waits_for_the_index_longer_than_it_says() {
    let (fake, _pool, objects) = space();
    let peer = peer(&fake, &objects);
    let segment = objects.domain().id();
    let busy = ObjectError::TimedOut {
        segment,
        holders: peer.member.slot().bit(),
    };
    let first = draft(&objects, &[1_u8]).publish("first").unwrap();
    let index = peer.member.try_exclusive(peer.line(0)).unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(2)] {
        let found = objects.get_within::<u8>("first", timeout).map(drop);
        assert_eq!(found, Err(busy.clone()));
        let draft = draft(&objects, &[2_u8]);
        let refused = draft.publish_within("second", timeout).unwrap_err();
        assert_eq!(refused.error, busy);
        // It comes back whole, and can be published later.
        let draft = refused.draft.unwrap();
        let refused = draft.publish_unsummed_within("second", timeout);
        assert_eq!(refused.unwrap_err().error, busy);
    }
    assert_eq!(busy.class(), ErrorClass::Exhausted);
    peer.member
        .release_exclusive(peer.line(0), &index, false)
        .unwrap();
    let found = objects.get_within::<u8>("first", Duration::ZERO).unwrap();
    assert_eq!(elements(&found), elements(&first));
    let second = draft(&objects, &[2_u8]).publish_within("second", Duration::ZERO);
    assert_eq!(elements(&second.unwrap()), [2]);
}

#[test]
fn nobody_sees_a_draft_and_a_dropped_one_is_gone() {
    let (fake, _pool, objects) = space();
    let peer = peer(&fake, &objects);
    let unpublished = draft(&objects, &[1_u8]);
    assert_eq!(units_held(&peer, objects.domain().units()).len(), 1);
    assert!(matches!(
        objects.get::<u8>("d"),
        Err(ObjectError::NotFound { .. })
    ));
    drop(unpublished);
    assert_eq!(units_held(&peer, objects.domain().units()), [0; 0]);
}

#[test]
fn a_name_is_of_one_living_object_at_a_time() {
    let (_fake, _pool, objects) = space();
    let first = draft(&objects, &[1_u16]).publish("n").unwrap();
    let refused = draft(&objects, &[2_u16]).publish("n").unwrap_err();
    assert_eq!(refused.error, ObjectError::NameTaken { name: "n".into() });
    // The draft comes back, and has what it had.
    let again = refused.draft.unwrap();
    assert_eq!(again.view().unwrap().get(0).unwrap(), 2);
    let other = again.publish("m").unwrap();
    assert_eq!(elements(&objects.get::<u16>("n").unwrap()), [1]);
    drop(first);
    let second = draft(&objects, &[3_u16]).publish("n").unwrap();
    assert_eq!(elements(&objects.get::<u16>("n").unwrap()), [3]);
    drop((second, other));
}

#[test]
fn a_weak_handle_does_not_find_what_came_later_in_its_place() {
    let (_fake, _pool, objects) = space();
    let first = draft(&objects, &[1_u8]).publish("a").unwrap();
    let weak = first.downgrade();
    drop(first);
    let places = objects.capacity();
    // One of them is in the place of the first.
    let later: Vec<_> = (0..places)
        .map(|place| {
            draft(&objects, &[9_u8])
                .publish(&format!("b{place}"))
                .unwrap()
        })
        .collect();
    assert!(weak.upgrade().unwrap().is_none());
    let full = objects.draft::<u8>(1).unwrap_err();
    assert_eq!(full, ObjectError::Full { units: places });
    drop(later);
    assert!(objects.draft::<u8>(1).is_ok());
}

#[test]
fn what_is_asked_for_wrongly_is_refused_by_name_type_and_size() {
    let (_fake, pool, objects) = space();
    let held = draft(&objects, &[1_u8]).publish("x").unwrap();
    let wrong = objects.get::<i8>("x").unwrap_err();
    let expected = ObjectError::WrongType {
        name: "x".into(),
        found: u8::KIND,
        asked: i8::KIND,
    };
    assert_eq!(wrong, expected);
    for name in ["", "a b", "t:x", &"n".repeat(129)] {
        assert!(
            matches!(objects.get::<u8>(name), Err(ObjectError::BadName { .. })),
            "{name:?}"
        );
        let refused = draft(&objects, &[1_u8]).publish(name).unwrap_err();
        assert!(
            matches!(refused.error, ObjectError::BadName { .. }),
            "{name:?}"
        );
    }
    let room = objects.object_bytes_max();
    assert_eq!(room, Bytes::new(4096 - 256));
    let asked = Bytes::new(room.get() + 8);
    let count = usize::try_from(asked.get() / 8).unwrap();
    assert_eq!(
        objects.draft::<u64>(count).unwrap_err(),
        ObjectError::TooLarge { asked, room }
    );
    assert!(objects.draft::<u64>(usize::MAX).is_err());
    assert!(objects.draft::<u64>(count - 1).is_ok());
    drop((held, pool));
}

#[test]
fn an_object_that_was_written_past_its_lease_is_found_damaged() {
    let (_fake, _pool, objects) = space();
    let shared = draft(&objects, &[5_u64; 100]).publish("s").unwrap();
    shared.verify().unwrap();
    let segment = objects.domain().segment();
    let at = shared.as_ptr().unwrap().addr() as u64 - segment.addr().get();
    segment
        .view_mut::<u64>(Bytes::new(at), 100)
        .unwrap()
        .set(99, 6)
        .unwrap();
    assert!(matches!(shared.verify(), Err(ObjectError::Damaged { .. })));
}

#[test]
fn an_object_that_was_taken_away_is_an_error_and_no_other_bytes() {
    let (fake, _pool, objects) = space();
    let shared = draft(&objects, &[5_u64]).publish("s").unwrap();
    let peer = peer(&fake, &objects);
    let unit = units_held(&peer, objects.domain().units())[0];
    let slot = objects.domain().slot();
    let recovered =
        coherence::recover::recover(peer.line(unit), slot, &coherence::FutexWait, |_| {
            coherence::recover::Verdict::Good
        });
    assert_eq!(recovered, Ok(coherence::recover::Recovered::Cleared));
    assert!(matches!(shared.view(), Err(LeaseError::Revoked { .. })));
    assert!(matches!(
        objects.get::<u64>("s"),
        Err(ObjectError::NotFound { .. })
    ));
}

#[test]
fn objects_are_read_by_who_may_not_write() {
    let (fake, pool, objects) = space();
    let shared = draft(&objects, &[5_u64]).publish("s").unwrap();
    let peer = peer(&fake, &objects);
    let unit = units_held(&peer, objects.domain().units())[0];
    // Another process holds it, and this one comes back with less rights.
    let other = coherence::Member::new(coherence::Slot::new(2).unwrap(), coherence::FutexWait);
    let grant = other.try_shared_beside(unit, peer.line(unit)).unwrap();
    drop(shared);
    drop(objects);
    let readable = pool.open_objects("objects", Access::ReadOnly).unwrap();
    let found = readable.get::<u64>("s").unwrap();
    assert_eq!(elements(&found), [5]);
    let refused = readable.draft::<u64>(1).unwrap_err();
    let refused_as_reader = matches!(refused, ObjectError::Lease(LeaseError::Access(_)));
    assert!(refused_as_reader, "{refused}");
    other.release_shared(unit, peer.line(unit), &grant).unwrap();
    assert_eq!(
        elements(&readable.get::<u64>("s").unwrap()),
        [5],
        "it is held here"
    );
    drop(found);
}

#[test]
fn what_a_member_forges_of_a_header_gives_nobody_more_than_the_unit() {
    let (_fake, _pool, objects) = space();
    let shared = draft(&objects, &[1_u8; 8]).publish("h").unwrap();
    let segment = objects.domain().segment();
    let header = shared.as_ptr().unwrap().addr() as u64 - segment.addr().get() - 256;
    let room = objects.object_bytes_max();
    let forged = segment.view_mut(Bytes::new(header), 3).unwrap();
    forged.set(1, u64::from(u64::KIND)).unwrap();
    forged.set(2, room.get()).unwrap();
    let refused = objects.get::<u64>("h").unwrap_err();
    assert!(matches!(refused, ObjectError::Damaged { .. }), "{refused}");
    drop(shared);
}

#[test]
fn a_unit_that_was_drafted_anew_is_the_old_object_to_nobody() {
    let (fake, _pool, objects) = space();
    let peer = peer(&fake, &objects);
    let places = objects.capacity();
    drop(draft(&objects, &[1_u8]).publish("old").unwrap());
    // In every place, so that one of them is that of the old one.
    let drafts: Vec<_> = (0..places)
        .map(|_| objects.draft::<u8>(1).unwrap())
        .collect();
    drop(drafts);
    // Whoever reads by requests may hold it for a moment.
    let other = coherence::Member::new(coherence::Slot::new(2).unwrap(), coherence::FutexWait);
    for unit in 1..objects.domain().units() {
        other.try_shared(unit, peer.line(unit)).unwrap();
    }
    let found = objects.get::<u8>("old").map(drop);
    assert!(
        matches!(found, Err(ObjectError::NotFound { .. })),
        "{found:?}"
    );
}
