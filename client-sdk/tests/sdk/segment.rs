use std::os::fd::OwnedFd;

use client_sdk::{
    Access, AccessError, Create, Error, ErrorClass, Force, Lifetime, Ordering, Pages, Pool,
    ProtocolError, Reason,
};
use pool_core::mem::Window;
use pool_core::{Bytes, EXTENT_BYTES, PoolAddr, WindowRange};
use pool_proto::common::v1 as common;
use pool_proto::session::v1::{self as session, reply, request};

use crate::fake::{Fake, Matcher, Script};
use crate::{EXTENT, attached, extents, wait_until};

fn is_create(body: &request::Body) -> bool {
    matches!(body, request::Body::Create(_))
}

fn is_close(body: &request::Body) -> bool {
    matches!(body, request::Body::Close(_))
}

fn is_free(body: &request::Body) -> bool {
    matches!(body, request::Body::Free(_))
}

#[test]
fn a_segment_is_zeroed_memory_where_the_daemon_said() {
    let (fake, pool) = attached();
    let addr = fake.model().next_addr();
    let create = Create::new("hbm", Bytes::new(1))
        .name("weights")
        .capacity(extents(4))
        .persistent();
    let segment = pool.create(&create).unwrap();
    assert_eq!(
        (segment.addr(), segment.bytes(), segment.access()),
        (addr, EXTENT, Access::ReadWrite)
    );
    assert_eq!(segment.as_ptr().addr() as u64, addr.get());
    assert_eq!(
        (segment.name().as_str(), segment.tier().as_str()),
        ("weights", "hbm")
    );
    assert!(segment.is_emulated());
    let pieces = segment.pieces();
    assert_eq!(
        (pieces.len(), pieces[0].device.as_str(), pieces[0].pages),
        (1, "ddr0", Pages::Base)
    );
    let view = segment.view_mut::<f32>(Bytes::new(64), 100).unwrap();
    assert!(view.iter().all(|x| x == Ok(0.0)));
    view.set(99, 1.5).unwrap();
    assert_eq!(view.get(99), Ok(1.5));
    let listed = pool.segments().unwrap();
    assert_eq!(
        (listed.segments[0].id, listed.segments[0].addr),
        (segment.id(), addr)
    );
    assert_eq!(listed.segments[0].lifetime, Lifetime::Persistent);
}

#[test]
fn every_kind_of_access_reaches_the_same_bytes() {
    let (_fake, pool) = attached();
    let segment = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let words = segment.view_mut::<u32>(Bytes::ZERO, 8).unwrap();
    words.write_from(1, &[10, 20, 30]).unwrap();
    let word = segment.atomic_u32(Bytes::new(4)).unwrap();
    assert_eq!(word.fetch_add(5, Ordering::AcqRel), Ok(10));
    assert_eq!(word.swap(6, Ordering::AcqRel), Ok(15));
    let exchange = |from| word.compare_exchange(from, 7, Ordering::AcqRel, Ordering::Acquire);
    assert_eq!((exchange(5), exchange(6)), (Ok(Err(6)), Ok(Ok(6))));
    let long = segment.atomic_u64(Bytes::new(8)).unwrap();
    assert_eq!(long.load(Ordering::Acquire), Ok(20 | 30 << 32));
    long.store(0, Ordering::Release).unwrap();
    let mut all = [9; 8];
    words.read_into(0, &mut all).unwrap();
    assert_eq!(all, [0, 7, 0, 0, 0, 0, 0, 0]);
    words.fill(3).unwrap();
    assert_eq!(word.load(Ordering::Acquire), Ok(3));
}

#[test]
fn words_are_the_memory_itself_and_zeros_once_it_was_taken_away() {
    let (_fake, pool) = attached();
    let kept = Create::new("ddr", EXTENT).name("kept").persistent();
    let segment = pool.create(&kept).unwrap();
    let other = pool.open("kept", Access::ReadWrite).unwrap();
    let last = EXTENT.get() / 8 - 1;
    let words = other.words(Bytes::new(8), 511).unwrap();
    assert_eq!(words.len(), 511);
    let view = segment.view_mut::<u64>(Bytes::ZERO, 512).unwrap();
    view.set(1, 7).unwrap();
    words[510].store(9, Ordering::Release);
    assert_eq!(words[0].load(Ordering::Acquire), 7);
    assert_eq!(view.get(511), Ok(9));
    let all = other
        .words(Bytes::ZERO, usize::try_from(last).unwrap() + 1)
        .unwrap();
    assert_eq!(all[511].load(Ordering::Acquire), 9);
    // Nothing is beyond the segment, between two words, or for who may only read.
    for (offset, count) in [
        (8 * last, 2),
        (EXTENT.get(), 1),
        (0, usize::MAX),
        (u64::MAX, 1),
    ] {
        let refused = other.words(Bytes::new(offset), count).unwrap_err();
        assert!(
            matches!(refused, AccessError::Outside { .. }),
            "{offset}, {count}: {refused}"
        );
    }
    let between = other.words(Bytes::new(4), 1).unwrap_err();
    assert!(matches!(between, AccessError::Misaligned { align: 8, .. }));
    let reader = pool.open("kept", Access::ReadOnly).unwrap();
    let refused = reader.words(Bytes::ZERO, 1).unwrap_err();
    assert_eq!(refused, AccessError::ReadOnly);
    let id = segment.id();
    segment.free(Force::Yes).unwrap();
    assert_eq!(
        (
            words[510].load(Ordering::Acquire),
            all[1].load(Ordering::Acquire)
        ),
        (0, 0)
    );
    let revoked = other.words(Bytes::ZERO, 1).unwrap_err();
    assert_eq!(revoked, AccessError::Revoked { segment: id });
}

#[test]
fn a_word_is_waited_for_across_handles() {
    let (_fake, pool) = attached();
    let segment = pool
        .create(&Create::new("ddr", EXTENT).name("words"))
        .unwrap();
    let other = pool.open("words", Access::ReadWrite).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let word = other.atomic_u32(Bytes::ZERO).unwrap();
            while word.load(Ordering::Acquire) == Ok(0) {
                word.wait(0, std::time::Duration::from_secs(20)).unwrap();
            }
        });
        let word = segment.atomic_u32(Bytes::ZERO).unwrap();
        word.store(1, Ordering::Release).unwrap();
        word.wake(1).unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn what_is_not_inside_or_not_allowed_is_refused() {
    let (_fake, pool) = attached();
    let segment = pool
        .create(&Create::new("ddr", EXTENT).name("mine"))
        .unwrap();
    let outside = segment.view::<u64>(EXTENT, 1).unwrap_err();
    assert_eq!(
        outside,
        AccessError::Outside {
            offset: EXTENT,
            len: Bytes::new(8),
            size: EXTENT
        }
    );
    assert!(segment.view::<u64>(Bytes::ZERO, usize::MAX).is_err());
    let misaligned = segment.view::<u64>(Bytes::new(4), 1).unwrap_err();
    assert!(matches!(
        misaligned,
        AccessError::Misaligned { align: 8, .. }
    ));
    let view = segment.view::<u8>(Bytes::ZERO, 4).unwrap();
    assert!(matches!(view.get(4), Err(AccessError::Outside { .. })));

    drop(segment);
    let (_fake, pool) = attached();
    pool.create(&Create::new("ddr", EXTENT).name("kept").persistent())
        .unwrap();
    let reader = pool.open("kept", Access::ReadOnly).unwrap();
    assert_eq!(
        reader.view_mut::<u8>(Bytes::ZERO, 1).unwrap_err(),
        AccessError::ReadOnly
    );
    assert_eq!(
        reader.atomic_u32(Bytes::ZERO).unwrap_err(),
        AccessError::ReadOnly
    );
    assert_eq!(reader.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
    let error = pool.open("other", Access::ReadOnly).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NotFound));
}

#[test]
fn a_process_maps_a_segment_once_and_widens_it_when_asked() {
    let (_fake, pool) = attached();
    drop(
        pool.create(&Create::new("ddr", EXTENT).name("kept").persistent())
            .unwrap(),
    );
    let reader = pool.open("kept", Access::ReadOnly).unwrap();
    let view = reader.view::<u8>(Bytes::ZERO, 1).unwrap();
    let writer = pool.open("kept", Access::ReadWrite).unwrap();
    assert_eq!(writer.addr(), reader.addr());
    writer
        .view_mut::<u8>(Bytes::ZERO, 1)
        .unwrap()
        .set(0, 9)
        .unwrap();
    assert_eq!(view.get(0), Ok(9));
    assert_eq!(
        reader.view_mut::<u8>(Bytes::ZERO, 1).unwrap_err(),
        AccessError::ReadOnly
    );
}

#[test]
fn the_daemon_hears_of_a_close_once_nothing_is_left() {
    let (fake, pool) = attached();
    let segment = pool
        .create(&Create::new("ddr", extents(2)).name("a").piece(EXTENT))
        .unwrap();
    let again = pool.open("a", Access::ReadWrite).unwrap();
    drop(segment);
    assert_eq!(again.view::<u8>(EXTENT, 1).unwrap().get(0), Ok(0));
    assert!(fake.model().asked(is_close).is_empty());
    again.close();
    wait_until(|| fake.model().asked(is_close).len() == 1);
    let model = fake.model();
    assert!(
        model.held.is_empty() && model.unclean.is_empty(),
        "{:?}",
        model.unclean
    );
}

#[test]
fn a_segment_closed_and_opened_again_is_held() {
    let (fake, pool) = attached();
    drop(
        pool.create(&Create::new("ddr", EXTENT).name("kept").persistent())
            .unwrap(),
    );
    for _ in 0..200 {
        let segment = pool.open("kept", Access::ReadOnly).unwrap();
        assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
    }
    let last = pool.open("kept", Access::ReadOnly).unwrap();
    pool.tiers().unwrap(); // Every close before was sent before this.
    let model = fake.model();
    assert!(model.held.contains(&last.id().number()));
    assert!(model.unclean.is_empty());
}

#[test]
fn freeing_unmaps_first_and_ends_the_segment() {
    let (fake, pool) = attached();
    let segment = pool
        .create(&Create::new("ddr", EXTENT).name("kept").persistent())
        .unwrap();
    segment.free(Force::No).unwrap();
    let model = fake.model();
    assert_eq!((model.asked(is_free).len(), model.segments.len()), (1, 0));
    assert!(model.unclean.is_empty());
}

#[test]
fn freeing_asks_before_it_cuts_off_other_handles_of_the_process() {
    let (fake, pool) = attached();
    let segment = pool
        .create(&Create::new("ddr", EXTENT).name("kept").persistent())
        .unwrap();
    let other = pool.open("kept", Access::ReadOnly).unwrap();
    let id = segment.id();
    assert_eq!(
        segment.free(Force::No),
        Err(Error::HeldHere {
            segment: id,
            others: 1
        })
    );
    assert!(fake.model().asked(is_free).is_empty());
    let segment = pool.open("kept", Access::ReadWrite).unwrap();
    let view = other.view::<u8>(Bytes::ZERO, 1).unwrap();
    segment.free(Force::Yes).unwrap();
    assert_eq!(view.get(0), Err(AccessError::Revoked { segment: id }));
    assert!(fake.model().unclean.is_empty());
}

#[test]
fn a_free_that_is_refused_leaves_the_segment_closed() {
    let (fake, pool) = attached();
    let segment = pool
        .create(&Create::new("ddr", EXTENT).name("kept").persistent())
        .unwrap();
    let (class, reason) = (
        common::ErrorClass::Caller,
        common::ErrorReason::NotPermitted,
    );
    let (body, files) = crate::fake::refused(class, reason);
    fake.once(is_free, Script::Say(body, files));
    let refused = segment.free(Force::No).unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::NotPermitted));
    wait_until(|| fake.model().held.is_empty());
    assert_eq!(fake.model().segments.len(), 1);
}

/// Has the daemon grant `message` with `files`, and gives back what came of it.
fn granted(fake: &Fake, pool: &Pool, granted: session::Granted, files: Vec<OwnedFd>) -> Error {
    fake.once(is_create, Script::Say(reply::Body::Granted(granted), files));
    pool.create(&Create::new("ddr", EXTENT)).unwrap_err()
}

#[test]
fn a_grant_that_breaks_the_protocol_maps_nothing() {
    let (fake, pool) = attached();
    let segment = pool
        .create(&Create::new("ddr", extents(2)).piece(EXTENT))
        .unwrap();
    let number = segment.id().number();
    type Breakage = fn(&mut session::Granted);
    let breakages: [(Breakage, ProtocolError); 11] = [
        // A new segment is none that is held.
        (|_| (), ProtocolError::Field("segment_id")),
        (|g| g.segment = None, ProtocolError::Field("segment")),
        (|g| g.access = 0, ProtocolError::Field("access")),
        (
            |g| inner(g).segment_id = 0,
            ProtocolError::Field("segment_id"),
        ),
        (
            |g| inner(g).incarnation = 0,
            ProtocolError::Field("incarnation"),
        ),
        (|g| inner(g).bytes += 1, ProtocolError::Field("bytes")),
        (
            |g| inner(g).capacity_bytes = EXTENT_BYTES,
            ProtocolError::Place,
        ),
        (|g| inner(g).addr -= EXTENT_BYTES * 64, ProtocolError::Place),
        (
            |g| inner(g).pieces[1].offset += EXTENT_BYTES,
            ProtocolError::Pieces,
        ),
        (|g| inner(g).pieces[0].descriptor = 1, ProtocolError::Pieces),
        (|g| inner(g).bytes = EXTENT_BYTES, ProtocolError::Pieces),
    ];
    for (breakage, expected) in breakages {
        let (reply::Body::Granted(mut broken), files) = fake.model().grant(number) else {
            panic!("the fake grants");
        };
        breakage(&mut broken);
        let error = granted(&fake, &pool, broken, files);
        assert_eq!(
            (error.class(), error),
            (ErrorClass::Corrupt, expected.into())
        );
    }
    for (remove, got) in [(true, 1), (false, 3)] {
        let (reply::Body::Granted(message), mut files) = fake.model().grant(number) else {
            panic!("the fake grants");
        };
        let extra = files[0].try_clone().unwrap();
        if remove {
            drop(files.pop())
        } else {
            files.push(extra)
        }
        let error = granted(&fake, &pool, message, files);
        assert_eq!(
            error,
            ProtocolError::Descriptors { expected: 2, got }.into()
        );
    }
    // The one that was granted well is as it was, and nothing else is left of its files.
    assert_eq!(segment.view::<u8>(EXTENT, 1).unwrap().get(0), Ok(0));
    drop(segment);
    wait_until(|| fake.model().asked(is_close).len() == 1);
    assert!(fake.model().unclean.is_empty());
}

#[test]
fn a_grant_of_less_than_was_asked_for_is_not_believed() {
    let (fake, pool) = attached();
    let asks_more: Matcher =
        |body| matches!(body, request::Body::Create(ask) if ask.bytes > EXTENT_BYTES);
    let less = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    let reply = fake.model().grant(less.id().number());
    drop(less);
    wait_until(|| fake.model().asked(is_close).len() == 1);
    fake.once(asks_more, Script::Say(reply.0, reply.1));
    let error = pool.create(&Create::new("ddr", extents(2))).unwrap_err();
    assert_eq!(error, ProtocolError::Field("bytes").into());
    // It is given back.
    wait_until(|| fake.model().asked(is_close).len() == 2);
}

#[test]
fn a_segment_begins_at_a_multiple_of_what_was_asked() {
    let (fake, pool) = attached();
    let _before = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    for align in [8, 1, 16] {
        let create = Create::new("ddr", EXTENT).align(extents(align));
        let segment = pool.create(&create).unwrap();
        let (addr, align) = (segment.addr().get(), extents(align).get());
        assert!(addr.is_multiple_of(align), "{addr:#x} for {align}");
        assert_eq!(last_align(&fake), align);
    }
    pool.create(&Create::new("ddr", EXTENT)).unwrap();
    assert_eq!(
        last_align(&fake),
        0,
        "it is not asked for where nothing is said"
    );
}

/// What the last create asked for.
fn last_align(fake: &Fake) -> u64 {
    let model = fake.model();
    let mut asked = model.log.iter().filter_map(|(_, body)| match body {
        request::Body::Create(ask) => Some(ask.align),
        _ => None,
    });
    asked.next_back().unwrap()
}

#[test]
fn a_grant_at_another_place_than_was_asked_for_is_not_believed_and_given_back() {
    let (fake, pool) = attached();
    let _before = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    fake.model().ignores_align = true;
    let addr = fake.model().next_addr();
    let held = Create::new("ddr", EXTENT).align(extents(8));
    let error = pool.create(&held).unwrap_err();
    let align = extents(8);
    let misaligned = |addr, align| Error::from(ProtocolError::Misaligned { addr, align });
    assert_eq!(error, misaligned(addr, align));
    assert_eq!(error.class(), ErrorClass::Corrupt);
    wait_until(|| fake.model().asked(is_close).len() == 1);
    // Nobody could free by hand what is kept without a holder.
    let kept = held.clone().name("kept").persistent();
    let addr = fake.model().next_addr();
    assert_eq!(pool.create(&kept).unwrap_err(), misaligned(addr, align));
    wait_until(|| fake.model().asked(is_free).len() == 1);
    wait_until(|| fake.model().held.len() == 1);
    assert!(fake.model().unclean.is_empty());
}

fn inner(granted: &mut session::Granted) -> &mut common::Segment {
    granted.segment.as_mut().unwrap()
}

#[test]
fn a_grant_that_cannot_be_mapped_is_given_back() {
    let (fake, pool) = attached();
    let kept = Create::new("ddr", EXTENT).name("kept").persistent();
    // Its file is shorter than the piece it is said to be.
    let first = pool.create(&kept).unwrap();
    nix::unistd::ftruncate(&fake.model().segments[&first.id().number()].files[0], 0).unwrap();
    drop(first);
    let error = pool.open("kept", Access::ReadOnly).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Corrupt);
    wait_until(|| fake.model().held.is_empty());
    assert!(fake.model().unclean.is_empty());

    // Its addresses are in use.
    let base = fake.model().window_base;
    let range = WindowRange::new(PoolAddr::new(base), extents(64)).unwrap();
    assert!(Window::reserve(range).is_err());
    let live = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    fake.model().next_extent -= 1;
    let error = pool.create(&kept.clone().name("other")).unwrap_err();
    assert_eq!(
        error,
        Error::AddressHeld {
            addr: live.addr(),
            len: EXTENT
        }
    );
    // Nobody could ever free it by hand: it was created persistent, and nobody holds it.
    wait_until(|| fake.model().asked(is_free).len() == 1);
}
