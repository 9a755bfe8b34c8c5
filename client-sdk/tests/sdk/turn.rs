//! Segments that hosts use by turns, and segments that are sealed.

use std::time::Duration;

use client_sdk::{
    Access, AccessError, Create, DomainOptions, Error, ErrorClass, GroupTag, Join, Pool, Reason,
    Segment,
};
use pool_core::Bytes;
use pool_proto::common::v1 as common;
use pool_proto::session::v1::request;

use crate::fake::{Fake, Script, refused};
use crate::{EXTENT, attached, extents, options, wait_until};

fn is_close(body: &request::Body) -> bool {
    matches!(body, request::Body::Close(_))
}

fn is_seal(body: &request::Body) -> bool {
    matches!(body, request::Body::Seal(_))
}

fn kept() -> Create {
    let create = Create::new("ddr", extents(3)).piece(EXTENT);
    create.name("kept").persistent()
}

fn write(segment: &Segment, value: u64) -> Result<(), AccessError> {
    segment.view_mut(extents(2), 1)?.set(0, value)
}

fn read(segment: &Segment) -> Result<u64, AccessError> {
    segment.view(extents(2), 1)?.get(0)
}

fn written(pool: &Pool) -> Segment {
    let segment = pool.create(&kept()).unwrap();
    write(&segment, 5).unwrap();
    segment
}

fn is_sealed(segment: &Segment, holds: u64) {
    let sealed = AccessError::Sealed {
        segment: segment.id(),
    };
    assert_eq!(
        (segment.is_sealed(), segment.access()),
        (true, Access::ReadOnly)
    );
    assert_eq!((write(segment, 9), read(segment)), (Err(sealed), Ok(holds)));
    assert_eq!(segment.atomic_u64(Bytes::ZERO).map(drop), Err(sealed));
}

#[test]
fn a_turn_is_over_when_it_is_unmapped_and_the_daemon_has_heard_of_it() {
    let (fake, pool) = attached();
    written(&pool).flush_and_close().unwrap();
    assert_eq!(fake.model().asked(is_close).len(), 1);
    assert_eq!(fake.model().unclean, []);
    for access in [Access::ReadWrite, Access::ReadOnly] {
        let segment = pool.open("kept", access).unwrap();
        assert_eq!(read(&segment), Ok(5));
        segment.flush_and_close().unwrap();
        assert_eq!(fake.model().unclean, []);
    }
    assert_eq!(fake.model().asked(is_close).len(), 3);
}

#[test]
fn a_turn_does_not_end_under_another_handle_or_in_a_domain() {
    let (fake, pool) = attached();
    let (mut segment, other) = (written(&pool), pool.open("kept", Access::ReadOnly).unwrap());
    let held = Err(Error::HeldHere {
        segment: segment.id(),
        others: 1,
    });
    assert_eq!(segment.seal(), held);
    assert_eq!((segment.flush_and_close(), read(&other)), (held, Ok(5)));
    assert_eq!(fake.model().asked(is_close).len(), 0);
    let create = Create::new("ddr", EXTENT).name("units");
    drop(pool.create_domain(&create.persistent(), &DomainOptions::new()));
    let mut units = pool.open("units", Access::ReadWrite).unwrap();
    let is_one = Err(Error::IsADomain {
        segment: units.id(),
    });
    assert_eq!(units.seal(), is_one);
    assert_eq!(units.flush_and_close(), is_one);
}

#[test]
fn what_is_sealed_is_read_where_it_was_and_written_no_more() {
    let (fake, pool) = attached();
    let mut segment = written(&pool);
    let addr = segment.addr();
    segment.seal().unwrap();
    is_sealed(&segment, 5);
    assert_eq!((segment.addr(), fake.model().unclean.len()), (addr, 0));
    segment.seal().unwrap();
    assert_eq!(fake.model().asked(is_seal).len(), 1, "it is sealed once");
    let mut reader = pool.open("kept", Access::ReadOnly).unwrap();
    is_sealed(&reader, 5);
    reader.refresh().unwrap();
    assert!(pool.segments().unwrap().segments[0].sealed);
    drop(segment);
    reader.flush_and_close().unwrap();
}

#[test]
fn what_was_not_sealed_is_written_again() {
    let (fake, pool) = attached();
    let mut segment = written(&pool);
    let (body, files) = refused(common::ErrorClass::Caller, common::ErrorReason::InUse);
    fake.once(is_seal, Script::Say(body, files));
    let error = segment.seal().unwrap_err();
    assert_eq!(
        (error.reason(), error.class()),
        (Some(Reason::InUse), ErrorClass::Caller)
    );
    assert_eq!((read(&segment), write(&segment, 6)), (Ok(5), Ok(())));
    segment.seal().unwrap();
    is_sealed(&segment, 6);
}

#[test]
fn who_may_only_read_seals_nothing() {
    let (fake, pool) = attached();
    written(&pool).close();
    let mut reader = pool.open("kept", Access::ReadOnly).unwrap();
    assert_eq!(reader.seal(), Err(Error::Access(AccessError::ReadOnly)));
    assert_eq!(fake.model().asked(is_seal).len(), 0);
}

#[test]
fn a_seal_whose_answer_was_lost_is_had_again() {
    let (fake, pool) = attached();
    let mut segment = written(&pool);
    fake.once(is_seal, Script::DoAndHangUp);
    segment.seal().unwrap();
    is_sealed(&segment, 5);
}

/// A segment whose seal was not answered in time.
fn in_doubt(script: Script) -> (Fake, Pool, Segment) {
    let fake = Fake::start();
    let short = options(&fake).timeout(Duration::from_millis(50));
    let pool = Pool::attach(&short).unwrap();
    let mut segment = written(&pool);
    fake.once(is_seal, script);
    let unanswered = segment.seal().unwrap_err();
    assert!(
        matches!(unanswered, Error::Unreachable { .. }),
        "{unanswered}"
    );
    let segment_id = segment.id();
    let doubt = AccessError::InDoubt {
        segment: segment_id,
    };
    assert_eq!(
        (read(&segment), write(&segment, 7)),
        (Err(doubt), Err(doubt))
    );
    (fake, pool, segment)
}

#[test]
fn nothing_is_accessed_while_it_is_not_known_whether_it_is_sealed() {
    let (fake, _pool, segment) = in_doubt(Script::DoAndAnswerLate);
    fake.answer_late();
    wait_until(|| read(&segment) == Ok(5));
    is_sealed(&segment, 5);

    let (body, files) = refused(common::ErrorClass::Caller, common::ErrorReason::InUse);
    let (fake, _pool, mut segment) = in_doubt(Script::SayLate(body, files));
    fake.answer_late();
    wait_until(|| read(&segment) == Ok(5));
    assert_eq!(write(&segment, 6), Ok(()));
    wait_until(|| segment.seal().is_ok());
    is_sealed(&segment, 6);
}

#[test]
fn a_turn_that_ends_while_the_daemon_is_away_is_told_of_later() {
    let mut fake = Fake::start();
    let short = options(&fake).timeout(Duration::from_millis(50));
    let pool = Pool::attach(&short).unwrap();
    let segment = written(&pool);
    let other = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    fake.kill();
    // What else the daemon is to be told does not keep the turn from its end.
    drop(other);
    let away = segment.flush_and_close().unwrap_err();
    assert!(matches!(away, Error::Unreachable { .. }), "{away}");
    fake.restart();
    wait_until(|| fake.model().held.is_empty());
    assert_eq!(fake.model().unclean, []);
}

#[test]
fn a_turn_does_not_end_while_it_is_not_known_where_the_segment_is() {
    let is_move = |body: &request::Body| matches!(body, request::Body::Relocate(_));
    let fake = Fake::start();
    let short = options(&fake).timeout(Duration::from_millis(50));
    let pool = Pool::attach(&short).unwrap();
    let mut segment = written(&pool);
    fake.once(is_move, Script::DoAndAnswerLate);
    segment.relocate("hbm").unwrap_err();
    let id = segment.id();
    let unknown = segment.flush_and_close().unwrap_err();
    let Error::NotFlushed { segment, cause } = &unknown else {
        panic!("{unknown}");
    };
    assert_eq!(*segment, id);
    assert!(matches!(**cause, Error::Unreachable { .. }), "{cause}");
    assert_eq!(unknown.class(), ErrorClass::Unreachable);
    fake.answer_late();
    wait_until(|| fake.model().held.is_empty());
}

#[test]
fn a_group_is_joined_by_its_tag_where_it_was_made_and_only_read() {
    let (fake, pool) = attached();
    let made = pool.create(&Create::new("common", extents(3)).name("kept").persistent());
    let mut made = made.unwrap();
    write(&made, 5).unwrap();
    let (tag, addr) = (made.tag().unwrap(), made.addr());
    assert_eq!((tag.addr(), tag.extents().get()), (addr, 3));
    let other = GroupTag::from_bytes(tag.bytes().map(|byte| byte ^ 1)).unwrap();
    for unsealed in [tag, other] {
        let refused = pool.join(&Join::new("common", unsealed)).unwrap_err();
        assert_eq!(refused.reason(), Some(Reason::NotFound));
    }
    made.seal().unwrap();
    drop(made);
    let joined = pool.join(&Join::new("common", tag).name("theirs")).unwrap();
    is_sealed(&joined, 5);
    assert_eq!((joined.addr(), joined.tag()), (addr, Some(tag)));
    let asked = fake
        .model()
        .asked(|body| matches!(body, request::Body::Join(_)));
    assert_eq!(asked.len(), 3);
}
