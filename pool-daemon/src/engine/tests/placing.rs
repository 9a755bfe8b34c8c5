//! Segments that begin at a multiple of what was asked for.

use pool_core::{PoolAddr, SegmentId, WindowRange};
use pool_proto::common::v1::{Access, ErrorReason, Segment as SegmentMessage};
use pool_proto::session::v1 as session;
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, BETA, extents, plan};
use super::process::Pid;
use super::world::World;

/// So many extents, at a multiple of so many.
fn aligned(count: u32, align: u32) -> session::Create {
    session::Create {
        align: extents(align),
        ..ask::create(count)
    }
}

fn granted(world: &mut World, pid: Pid, ask: session::Create) -> SegmentMessage {
    world.granted(pid, Body::Create(ask))
}

/// A world whose window is at a multiple of every alignment that fits it, and at so many extents
/// more.
fn beyond(extra: u32) -> World {
    let mut plan = plan();
    let (base, len) = (plan.window.base().get() + extents(extra), plan.window.len());
    plan.window = WindowRange::new(PoolAddr::new(base), len).unwrap();
    World::new(plan)
}

/// In extents from the base of the window.
fn place(world: &World, segment: &SegmentMessage) -> u64 {
    (segment.addr - world.plan.window.base().get()) / extents(1)
}

#[test]
fn a_segment_begins_at_a_multiple_of_what_was_asked_wherever_the_window_begins() {
    for extra in [0, 1, 5, 63, 64] {
        let mut world = beyond(extra);
        let alpha = world.attach(ALPHA);
        for shift in 0..7 {
            // One that is not aligned comes before each, so that what just comes next is not.
            let before = granted(&mut world, alpha, ask::create(1));
            let segment = granted(&mut world, alpha, aligned(1, 1 << shift));
            assert!(
                segment.addr.is_multiple_of(extents(1 << shift)),
                "{extra} {shift}"
            );
            world.done(alpha, ask::close(before.segment_id));
            world.done(alpha, ask::close(segment.segment_id));
            world.prove();
        }
    }
}

#[test]
fn a_request_that_says_nothing_of_it_is_served_as_before() {
    let mut world = beyond(1);
    let alpha = world.attach(ALPHA);
    for (asked, due) in [(0, 0), (1, 1), (0, 2)] {
        let segment = granted(&mut world, alpha, aligned(1, asked));
        assert_eq!(place(&world, &segment), due);
    }
}

#[test]
fn what_is_left_before_an_aligned_segment_is_granted_to_the_next_that_fits() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let places = [
        (3, 0, 0),
        (4, 8, 8),
        (2, 2, 4),
        (1, 8, 16),
        (2, 0, 6),
        (1, 0, 3),
    ];
    for (count, align, due) in places {
        let segment = granted(&mut world, alpha, aligned(count, align));
        assert_eq!(place(&world, &segment), due, "{count} at {align}");
    }
}

#[test]
fn an_alignment_that_cannot_be_had_is_refused_and_the_refusal_says_what_can() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let account = world.engine.account();
    // The window has 96 extents, and 64 are the largest power of two of them.
    let one = extents(1);
    for align in [
        1,
        4_096,
        one - 1,
        one / 2,
        one + 1,
        3 * one,
        96 * one,
        128 * one,
        1 << 63,
    ] {
        for align in [align, u64::MAX - align] {
            let create = session::Create {
                align,
                ..ask::create(1)
            };
            let refusal = world.refused(alpha, Body::Create(create));
            assert_eq!(refusal.reason(), ErrorReason::OutOfRange, "{align}");
            let said = format!("align is {align} bytes, and must be a power of two");
            assert!(refusal.message.starts_with(&said), "{}", refusal.message);
            let allowed = "from 2 MiB to 128 MiB, or 0 for any place";
            assert!(refusal.message.ends_with(allowed), "{}", refusal.message);
            assert_eq!((refusal.limit, refusal.asked), (extents(64), align));
        }
    }
    assert_eq!(world.engine.account(), account);
}

#[test]
fn where_no_aligned_place_is_left_that_is_said() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let both = [0, 64].map(|due| {
        let segment = granted(&mut world, alpha, aligned(1, 64));
        assert_eq!(place(&world, &segment), due);
        segment
    });
    let account = world.engine.account();
    let refusal = world.refused(alpha, Body::Create(aligned(1, 64)));
    assert_eq!(refusal.reason(), ErrorReason::WindowFull);
    let said = "no gap of 2 MiB that begins at a multiple of 128 MiB";
    assert!(refusal.message.contains(said), "{}", refusal.message);
    assert_eq!(world.engine.account(), account);
    // Elsewhere there is room, and a refusal of that says nothing of alignment.
    granted(&mut world, alpha, aligned(1, 32));
    let roomy = session::Create {
        capacity_bytes: extents(90),
        ..ask::create(1)
    };
    let refusal = world.refused(alpha, Body::Create(roomy));
    assert!(!refusal.message.contains("multiple"), "{}", refusal.message);
    // The place of one that has ended is a place again.
    world.done(alpha, ask::close(both[1].segment_id));
    world.prove();
    let again = granted(&mut world, alpha, aligned(1, 64));
    assert_eq!(again.addr, both[1].addr);
}

#[test]
fn room_to_grow_is_room_behind_an_aligned_place() {
    let mut world = beyond(3);
    let alpha = world.attach(ALPHA);
    let roomy = session::Create {
        capacity_bytes: extents(7),
        ..aligned(2, 16)
    };
    let segment = granted(&mut world, alpha, roomy.clone());
    assert_eq!(place(&world, &segment), 13);
    let next = granted(&mut world, alpha, aligned(1, 8));
    assert_eq!(place(&world, &next), 5);
    let grown = world.granted(alpha, ask::resize(segment.segment_id, 7));
    assert_eq!((grown.addr, grown.bytes), (segment.addr, extents(7)));
    // Past its room it grows as any other one, and stays where it is.
    let grown = world.granted(alpha, ask::resize(segment.segment_id, 9));
    assert_eq!((grown.addr, grown.bytes), (segment.addr, extents(9)));
    let after = granted(
        &mut world,
        alpha,
        session::Create {
            bytes: extents(1),
            ..roomy
        },
    );
    assert_eq!(place(&world, &after), 29);
}

#[test]
fn an_aligned_segment_stays_where_it_is_over_moves_and_restarts() {
    let mut world = beyond(1);
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    let kept = session::Create {
        align: extents(32),
        ..ask::create_kept("a", 2)
    };
    let segment = granted(&mut world, alpha, kept);
    assert_eq!(place(&world, &segment), 31);
    let id = SegmentId::new(segment.segment_id).unwrap();
    world.write(alpha, id, 7);
    world.done(
        alpha,
        ask::share(segment.segment_id, "beta", Access::ReadOnly),
    );
    world.granted(beta, ask::open("alpha:a", Access::ReadOnly));
    let revoked = world.granted(alpha, ask::revoke(segment.segment_id, "beta"));
    assert_eq!(revoked.addr, segment.addr);
    let moved = world.granted(alpha, ask::relocate(segment.segment_id, "pooled"));
    assert_eq!(moved.addr, segment.addr);
    for _ in 0..2 {
        world.restart(|_| true);
        world.reattach(alpha);
        let again = world.granted(alpha, ask::open("a", Access::ReadWrite));
        assert_eq!(
            (again.addr, world.read(alpha, id)),
            (segment.addr, vec![7, 7])
        );
        // It is taken, and the next one is not granted it.
        let other = granted(&mut world, alpha, aligned(1, 32));
        assert_eq!(place(&world, &other), 63);
        world.done(alpha, ask::close(other.segment_id));
        world.prove();
    }
}

#[test]
fn a_domain_begins_at_a_multiple_of_what_was_asked_with_its_directory() {
    let mut world = beyond(1);
    let alpha = world.attach(ALPHA);
    let create = session::Create {
        align: extents(16),
        ..ask::create_domain("a", 2)
    };
    let segment = granted(&mut world, alpha, create);
    assert_eq!((place(&world, &segment), segment.bytes), (15, extents(3)));
    assert_eq!(segment.coherence.unwrap().directory_bytes, extents(1));
}
