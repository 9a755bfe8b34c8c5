//! A daemon that dies, is silent or answers the wrong thing: nothing is done twice, and nothing is
//! held that nobody knows.

use std::os::fd::AsFd;
use std::time::Duration;

use client_sdk::{
    Access, AccessError, AttachOptions, Create, Error, ErrorClass, Event, Force, Ordering, Pool,
    ProtocolError, Reason, Segment,
};
use pool_core::Bytes;
use pool_core::futex::TID_MASK;
use pool_core::limits::LIVENESS_PAGE_BYTES;
use pool_core::mem::FileMap;
use pool_proto::common::v1 as common;
use pool_proto::session::v1::{self as session, event, request};

use crate::fake::{Fake, Matcher, Script, refused};
use crate::{EXTENT, attached, extents, heard, options, wait_until};

fn is_create(body: &request::Body) -> bool {
    matches!(body, request::Body::Create(_))
}

fn is_open(body: &request::Body) -> bool {
    matches!(body, request::Body::Open(_))
}

fn is_free(body: &request::Body) -> bool {
    matches!(body, request::Body::Free(_))
}

fn is_reattach(body: &request::Body) -> bool {
    matches!(body, request::Body::Reattach(_))
}

fn is_resize(body: &request::Body) -> bool {
    matches!(body, request::Body::Resize(_))
}

/// The pauses of the thread of a session double from 1 ms up to 20 ms.
const FAILURES_TO_THE_LONGEST_PAUSE: usize = 7;

#[cfg(target_arch = "x86_64")]
const POLL: i64 = libc::SYS_poll;
#[cfg(not(target_arch = "x86_64"))]
const POLL: i64 = libc::SYS_ppoll;

fn impatient() -> (Fake, Pool) {
    let fake = Fake::start();
    let options = AttachOptions::new()
        .socket(fake.socket())
        .timeout(Duration::from_millis(60));
    let pool = Pool::attach(&options).unwrap();
    (fake, pool)
}

#[test]
fn a_request_whose_answer_was_lost_is_repeated_with_its_id_and_done_once() {
    let (fake, pool) = attached();
    fake.once(is_create, Script::DoAndHangUp);
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let model = fake.model();
    let ids = model.asked(is_create);
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(
        model.held.iter().copied().collect::<Vec<_>>(),
        [segment.id().number()]
    );
}

#[test]
fn a_request_that_was_lost_is_repeated_until_it_is_done() {
    let (fake, pool) = attached();
    for _ in 0..3 {
        fake.once(is_create, Script::HangUp);
    }
    pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let ids = fake.model().asked(is_create);
    assert!(
        ids.len() == 4 && ids.iter().all(|&id| id == ids[0]),
        "{ids:?}"
    );
}

#[test]
fn the_daemon_may_restart_under_calls_and_views() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    let segment = pool
        .create(&Create::new("ddr", extents(2)).piece(EXTENT))
        .unwrap();
    let view = segment.view_mut::<u8>(Bytes::ZERO, 1).unwrap();
    view.set(0, 9).unwrap();
    let backing = fake.model().segments[&segment.id().number()].message.pieces[1].backing_id;
    fake.kill();
    heard(&mut events, |event| *event == Event::DaemonGone);
    view.set(0, 10).unwrap();
    fake.model().missing = vec![backing, 999];
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| pool.create(&Create::new("ddr", EXTENT)));
        fake.restart();
        caller.join().unwrap().unwrap();
    });
    heard(&mut events, |event| {
        *event == Event::DaemonBack { epoch: 2 }
    });
    assert_eq!(view.get(0), Ok(10));
    assert_eq!(
        (pool.daemon_epoch(), fake.model().supplied.clone()),
        (2, vec![backing])
    );
}

#[test]
fn a_session_is_taken_up_again_without_a_call() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    for epoch in 2..5 {
        fake.restart();
        heard(&mut events, |event| *event == Event::DaemonGone);
        heard(&mut events, |event| *event == Event::DaemonBack { epoch });
    }
    pool.tiers().unwrap();
}

#[test]
fn what_the_daemon_told_before_it_died_is_heard() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    for round in 0..20 {
        for number in 0..10 {
            let device = format!("ddr{round}-{number}");
            fake.tell(event::Body::DeviceBack(session::DeviceBack { device }));
        }
        fake.restart();
        pool.tiers().unwrap();
        let device = format!("ddr{round}-9");
        heard(
            &mut events,
            |event| matches!(event, Event::DeviceBack { device: back } if *back == device),
        );
    }
}

#[test]
fn a_call_ends_with_its_timeout_and_what_is_held_stays_usable() {
    let (mut fake, pool) = impatient();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    fake.kill();
    let error = pool.create(&Create::new("ddr", EXTENT)).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Unreachable);
    segment
        .view_mut::<u8>(Bytes::ZERO, 1)
        .unwrap()
        .set(0, 1)
        .unwrap();
    drop(segment);
    fake.restart();
    // The close waited for the daemon, too.
    wait_until(|| fake.model().held.is_empty());
}

#[test]
fn a_call_waits_for_its_turn_within_its_own_timeout() {
    let (fake, pool) = impatient();
    fake.once(is_create, Script::DoAndAnswerLate);
    let create = Create::new("ddr", EXTENT).wait(Duration::from_secs(20));
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| pool.create(&create));
        wait_until(|| fake.model().asked(is_create).len() == 1);
        let error = pool.tiers().unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        fake.answer_late();
        patient.join().unwrap().unwrap();
    });
    pool.tiers().unwrap();
}

#[test]
fn a_grant_that_came_too_late_is_given_back() {
    let (fake, pool) = impatient();
    for create in [
        Create::new("ddr", EXTENT),
        Create::new("ddr", EXTENT).name("p").persistent(),
    ] {
        fake.once(is_create, Script::DoAndAnswerLate);
        let error = pool.create(&create).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert_eq!(fake.model().segments.len(), 1);
        fake.answer_late();
        pool.tiers().unwrap();
        wait_until(|| fake.model().segments.is_empty());
    }
    let ids = fake.model().asked(is_create);
    assert_eq!(ids.len(), 2, "each was asked once");
}

#[test]
fn a_request_that_was_refused_too_late_is_not_made_again() {
    let (fake, pool) = impatient();
    let (class, reason) = (common::ErrorClass::Exhausted, common::ErrorReason::TierFull);
    let (body, files) = refused(class, reason);
    fake.once(is_create, Script::SayLate(body, files));
    let create = Create::new("ddr", EXTENT).name("p").persistent();
    let error = pool.create(&create).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    // The daemon would have room by now.
    fake.answer_late();
    pool.tiers().unwrap();
    let model = fake.model();
    assert_eq!((model.asked(is_create).len(), model.segments.len()), (1, 0));
}

#[test]
fn an_open_that_came_too_late_does_not_take_the_segment_from_its_handles() {
    let (fake, pool) = impatient();
    let held = pool.create(&Create::new("ddr", EXTENT).name("x")).unwrap();
    fake.once(is_open, Script::DoAndAnswerLate);
    pool.open("x", Access::ReadOnly).unwrap_err();
    fake.answer_late();
    pool.tiers().unwrap();
    pool.tiers().unwrap();
    assert!(fake.model().held.contains(&held.id().number()));
    assert_eq!(held.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
}

#[test]
fn a_resize_whose_answer_came_too_late_is_mapped_by_the_next_call() {
    let (fake, pool) = impatient();
    let mut segment = pool
        .create(&Create::new("ddr", EXTENT).capacity(extents(2)))
        .unwrap();
    fake.once(is_resize, Script::DoAndAnswerLate);
    segment.resize(extents(2)).unwrap_err();
    assert_eq!(segment.bytes(), EXTENT);
    fake.answer_late();
    pool.tiers().unwrap();
    assert_eq!(segment.bytes(), extents(2));
    assert_eq!(segment.view::<u8>(EXTENT, 1).unwrap().get(0), Ok(0));
}

#[test]
fn nothing_is_accessed_while_it_is_not_known_where_it_is() {
    type Move = fn(&mut Segment) -> Result<(), Error>;
    let moves: [(Move, Matcher); 2] = [
        (
            |segment| segment.relocate("ddr"),
            |body| matches!(body, request::Body::Relocate(_)),
        ),
        (
            |segment| segment.revoke("them"),
            |body| matches!(body, request::Body::Revoke(_)),
        ),
    ];
    for (moved, matches) in moves {
        let (fake, pool) = impatient();
        let mut events = pool.events();
        let mut segment = pool.create(&Create::new("hbm", EXTENT)).unwrap();
        let id = segment.id();
        fake.once(matches, Script::DoAndAnswerLate);
        let error = moved(&mut segment).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        let in_doubt = AccessError::InDoubt { segment: id };
        assert_eq!(in_doubt.class(), ErrorClass::Unreachable);
        // What would be written now could be lost, or be seen by whom the segment was taken from.
        let views = || segment.view_mut::<u8>(Bytes::ZERO, 1).map(|_| ());
        assert_eq!(views(), Err(in_doubt));
        fake.answer_late();
        // Without a call.
        heard(&mut events, |event| {
            *event == Event::Changed { segment: id }
        });
        let view = segment.view_mut::<u8>(Bytes::ZERO, 1).unwrap();
        assert_eq!((view.get(0), view.set(0, 1)), (Ok(0x5a), Ok(())));
    }
}

#[test]
fn what_was_not_moved_is_accessed_again_as_soon_as_that_is_known() {
    let (mut fake, pool) = impatient();
    let mut segment = pool.create(&Create::new("hbm", EXTENT)).unwrap();
    let first = |segment: &Segment| {
        let view = segment.view::<u8>(Bytes::ZERO, 1)?;
        view.get(0)
    };
    segment
        .view_mut::<u8>(Bytes::ZERO, 1)
        .unwrap()
        .fill(7)
        .unwrap();
    let is_relocate: Matcher = |body| matches!(body, request::Body::Relocate(_));
    let no = || refused(common::ErrorClass::Exhausted, common::ErrorReason::TierFull);
    let (body, files) = no();
    fake.once(is_relocate, Script::Say(body, files));
    assert_eq!(
        segment.relocate("ddr").unwrap_err().reason(),
        Some(Reason::TierFull)
    );
    assert_eq!(first(&segment), Ok(7));

    let (body, files) = no();
    fake.once(is_relocate, Script::SayLate(body, files));
    segment.relocate("ddr").unwrap_err();
    assert!(first(&segment).is_err());
    fake.answer_late();
    segment.refresh().unwrap();
    assert_eq!(first(&segment), Ok(7));

    // Never sent: it is where it was.
    fake.kill();
    pool.tiers().unwrap_err();
    segment.relocate("ddr").unwrap_err();
    assert_eq!(first(&segment), Ok(7));
}

#[test]
fn a_free_that_was_refused_too_late_is_a_close() {
    let (fake, pool) = impatient();
    let segment = pool
        .create(&Create::new("ddr", EXTENT).name("p").persistent())
        .unwrap();
    fake.once(is_free, Script::HangUp);
    let (class, reason) = (
        common::ErrorClass::Caller,
        common::ErrorReason::NotPermitted,
    );
    let (body, files) = refused(class, reason);
    fake.once(is_free, Script::Say(body, files));
    assert_eq!(
        segment.free(Force::No).unwrap_err().reason(),
        Some(Reason::NotPermitted)
    );
    wait_until(|| fake.model().held.is_empty());
}

#[test]
fn a_grant_that_came_too_late_is_given_back_however_long_the_daemon_is_away() {
    let (mut fake, pool) = impatient();
    fake.once(is_create, Script::DoAndAnswerLate);
    let create = Create::new("ddr", EXTENT).name("p").persistent();
    pool.create(&create).unwrap_err();
    fake.kill();
    for _ in 0..2 {
        let error = pool.tiers().unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }
    fake.restart();
    wait_until(|| pool.tiers().is_ok() && fake.model().segments.is_empty());
}

#[test]
fn a_grant_whose_answer_cannot_be_understood_is_given_back() {
    let (fake, pool) = attached();
    fake.once(is_create, Script::DoAndHangUp);
    fake.once(is_create, Script::Send(vec![0xff]));
    let create = Create::new("ddr", EXTENT).name("p").persistent();
    assert_eq!(
        pool.create(&create).unwrap_err(),
        Error::Protocol(ProtocolError::Undecodable)
    );
    assert_eq!(fake.model().segments.len(), 1);
    pool.tiers().unwrap();
    wait_until(|| fake.model().segments.is_empty());
}

#[test]
fn a_session_that_ends_leaves_no_grant_that_came_too_late() {
    let (fake, pool) = impatient();
    fake.once(is_create, Script::DoAndAnswerLate);
    let create = Create::new("ddr", EXTENT).name("p").persistent();
    pool.create(&create).unwrap_err();
    assert_eq!(fake.model().segments.len(), 1);
    fake.answer_late();
    drop(pool);
    assert!(fake.model().segments.is_empty());
}

#[test]
fn a_session_that_ends_frees_what_was_created_for_nobody() {
    let (mut fake, pool) = attached();
    let live = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    fake.model().next_extent -= 1;
    restart_until_the_thread_pauses(&mut fake);
    // It is granted and cannot be mapped.
    let create = Create::new("ddr", EXTENT).name("p").persistent();
    let error = pool.create(&create).unwrap_err();
    assert!(matches!(error, Error::AddressHeld { .. }), "{error}");
    drop((live, pool));
    assert!(
        fake.model()
            .segments
            .values()
            .all(|seg| seg.message.name != "p")
    );
}

#[test]
fn what_the_daemon_says_is_held_and_nobody_knows_is_closed() {
    let (mut fake, pool) = attached();
    let known = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let create = Create::new("ddr", EXTENT).name("p").persistent();
    let closed = pool.create(&create).unwrap().id().number();
    wait_until(|| !fake.model().held.contains(&closed));
    fake.model().held.insert(closed);
    fake.restart();
    wait_until(|| !fake.model().held.contains(&closed));
    pool.tiers().unwrap();
    assert!(fake.model().held.contains(&known.id().number()));
    assert_eq!(known.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
}

#[test]
fn a_segment_is_not_closed_before_it_is_freed() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    let create = || pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let (other, segment) = (create(), create());
    fake.kill();
    heard(&mut events, |event| *event == Event::DaemonGone);
    // Its release is told before the segment is freed, on a session that the call takes up for it.
    drop(other);
    restart_until_the_thread_pauses(&mut fake);
    assert_eq!(segment.free(Force::No), Ok(()));
}

/// Has the thread of the session fail to take it up until it pauses for as long as it ever does:
/// what is called now finds the session free.
fn restart_until_the_thread_pauses(fake: &mut Fake) {
    for _ in 0..FAILURES_TO_THE_LONGEST_PAUSE {
        let (class, reason) = (common::ErrorClass::Lost, common::ErrorReason::Busy);
        let (body, files) = refused(class, reason);
        fake.once(is_reattach, Script::Say(body, files));
    }
    fake.restart();
    wait_until(|| fake.model().asked(is_reattach).len() == FAILURES_TO_THE_LONGEST_PAUSE);
}

#[test]
fn the_thread_of_a_session_rests_while_the_daemon_is_away_and_when_the_session_has_ended() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    let _reserve = pool.reserve("ddr", EXTENT, 1).unwrap();
    fake.kill();
    heard(&mut events, |event| *event == Event::DaemonGone);
    let thread = thread_of_the_session(&fake);
    // A thread that finds something to do wherever it looks is never seen to wait.
    wait_until(|| polled_until(&thread).is_some());
    let ended = (common::ErrorClass::Lost, common::ErrorReason::UnknownClient);
    fake.model().refuse_session = Some(ended);
    fake.restart();
    assert_eq!(pool.tiers().unwrap_err(), Error::SessionEnded);
    // It has nothing to wake up for any more but to be told to end.
    wait_until(|| polled_until(&thread) == Some(NEVER));
}

/// The folder of the thread that registered the robust word.
fn thread_of_the_session(fake: &Fake) -> String {
    let liveness = fake.model().liveness.try_clone().unwrap();
    let page = Bytes::new(LIVENESS_PAGE_BYTES);
    let page = FileMap::new(liveness.as_fd(), Bytes::ZERO, page, Access::ReadWrite).unwrap();
    let word = page.mapped().atomic_u32(Bytes::ZERO).unwrap();
    let thread = word.load(Ordering::Acquire) & TID_MASK;
    format!("/proc/self/task/{thread}")
}

/// A timeout of `poll` that is none.
const NEVER: u32 = u32::MAX;

/// The timeout of the `poll` that a thread waits in, if it does.
fn polled_until(thread: &str) -> Option<u32> {
    let call = std::fs::read_to_string(format!("{thread}/syscall")).unwrap();
    let mut words = call.split(' ');
    let number = words.next()?.parse().ok()?;
    let third = words.nth(2)?.strip_prefix("0x")?;
    let third = u64::from_str_radix(third, 16).ok()?;
    match number {
        POLL => u32::try_from(third & u64::from(u32::MAX)).ok(),
        // It is given a pointer to its timeout, or none.
        libc::SYS_ppoll => Some(if third == 0 { NEVER } else { 0 }),
        _ => None,
    }
}

#[test]
fn a_segment_that_is_freed_while_the_daemon_is_away_is_closed_when_it_is_back() {
    for force in [Force::No, Force::Yes] {
        let (mut fake, pool) = impatient();
        let mut events = pool.events();
        let segment = pool
            .create(&Create::new("ddr", EXTENT).name("p").persistent())
            .unwrap();
        fake.kill();
        heard(&mut events, |event| *event == Event::DaemonGone);
        let error = segment.free(force).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        fake.restart();
        wait_until(|| fake.model().held.is_empty());
        assert!(fake.model().unclean.is_empty());
    }
}

#[test]
fn answers_to_requests_nobody_waits_for_are_dropped() {
    let (fake, pool) = attached();
    fake.once(is_create, Script::DoAndAnswerFirst(1));
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    drop(segment);
    wait_until(|| fake.model().held.is_empty());
    // The descriptors that came with the answer to nothing were closed.
    assert!(fake.model().unclean.is_empty());
}

#[test]
fn an_answer_to_a_request_that_was_not_sent_breaks_the_connection() {
    let (fake, pool) = attached();
    fake.once(is_create, Script::AnswerOnly(1 << 40));
    let error = pool.create(&Create::new("ddr", EXTENT)).unwrap_err();
    let Error::Protocol(ProtocolError::RequestId { got, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!((got, error.class()), (1 << 40, ErrorClass::Corrupt));
    pool.create(&Create::new("ddr", EXTENT)).unwrap();
}

#[test]
fn a_segment_that_waits_for_its_files_is_waited_for() {
    let (fake, pool) = attached();
    drop(
        pool.create(&Create::new("ddr", EXTENT).name("p").persistent())
            .unwrap(),
    );
    for _ in 0..3 {
        let (body, files) = refused(common::ErrorClass::Lost, common::ErrorReason::Busy);
        fake.once(is_open, Script::Say(body, files));
    }
    pool.open("p", Access::ReadOnly).unwrap();
    assert_eq!(fake.model().asked(is_open).len(), 4);
}

#[test]
fn a_segment_that_stays_busy_is_said_to_be_busy_at_the_deadline() {
    let (fake, pool) = impatient();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    for _ in 0..100 {
        let (body, files) = refused(common::ErrorClass::Lost, common::ErrorReason::Busy);
        fake.once(is_free, Script::Say(body, files));
    }
    let error = segment.free(Force::No).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Busy), "{error}");
}

#[test]
fn a_segment_that_others_hold_is_not_waited_for() {
    let (fake, pool) = attached();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let (body, files) = refused(common::ErrorClass::Caller, common::ErrorReason::InUse);
    fake.once(is_free, Script::Say(body, files));
    assert_eq!(
        segment.free(Force::No).unwrap_err().reason(),
        Some(Reason::InUse)
    );
    assert_eq!(fake.model().asked(is_free).len(), 1);
}

#[test]
fn what_the_daemon_no_longer_holds_after_its_restart_is_lost() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    let (gone, grown) = (
        pool.create(&Create::new("ddr", EXTENT)).unwrap(),
        pool.create(&Create::new("ddr", EXTENT)).unwrap(),
    );
    fake.model().held.remove(&gone.id().number());
    fake.model().refill(grown.id().number(), 4);
    fake.restart();
    heard(&mut events, |event| {
        *event == Event::Lost { segment: gone.id() }
    });
    let lost = AccessError::Lost { segment: gone.id() };
    assert_eq!(gone.view::<u8>(Bytes::ZERO, 1).unwrap_err(), lost);
    heard(&mut events, |event| {
        *event
            == Event::Changed {
                segment: grown.id(),
            }
    });
    assert_eq!(grown.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(4));
}

#[test]
fn what_was_revoked_before_the_daemon_died_is_not_called_lost() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    for _ in 0..20 {
        let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
        let id = segment.id();
        fake.model().held.remove(&id.number());
        let revoked = session::Revoked {
            segment_id: id.number(),
            incarnation: 0,
        };
        fake.tell(event::Body::Revoked(revoked));
        fake.restart();
        pool.tiers().unwrap();
        let about_it = [Event::Revoked { segment: id }, Event::Lost { segment: id }];
        let told = heard(&mut events, |event| about_it.contains(event));
        assert_eq!(told, about_it[0]);
        let gone = AccessError::Revoked { segment: id };
        assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap_err(), gone);
    }
}

#[test]
fn what_was_revoked_while_the_daemon_was_out_of_reach_is_not_called_lost() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let id = segment.id();
    fake.kill();
    fake.model().held.remove(&id.number());
    fake.model().revoked.push(id.number());
    fake.restart();
    let told = heard(&mut events, |event| {
        matches!(event, Event::Revoked { .. } | Event::Lost { .. })
    });
    assert_eq!(told, Event::Revoked { segment: id });
    let gone = AccessError::Revoked { segment: id };
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap_err(), gone);
}

#[test]
fn a_session_the_daemon_does_not_know_is_over_and_says_so() {
    let (mut fake, pool) = attached();
    let mut events = pool.events();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    fake.model().refuse_session =
        Some((common::ErrorClass::Lost, common::ErrorReason::UnknownClient));
    fake.restart();
    heard(&mut events, |event| {
        *event
            == Event::Lost {
                segment: segment.id(),
            }
    });
    let error = pool.create(&Create::new("ddr", EXTENT)).unwrap_err();
    assert_eq!(
        (error.class(), error),
        (ErrorClass::Lost, Error::SessionEnded)
    );
    let lost = AccessError::Lost {
        segment: segment.id(),
    };
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap_err(), lost);
    drop((segment, pool));
    Pool::attach(&options(&fake)).unwrap();
}

#[test]
fn calls_of_many_threads_are_answered_one_by_one() {
    let (fake, pool) = attached();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
                    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
                }
            });
        }
    });
    wait_until(|| fake.model().held.is_empty());
    let model = fake.model();
    assert!(
        model.log.is_sorted_by_key(|(id, _)| *id),
        "request ids rise"
    );
    assert!(model.unclean.is_empty());
}
