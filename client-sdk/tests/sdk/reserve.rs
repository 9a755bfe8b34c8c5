use client_sdk::{Bytes, Create, Event, Reason};
use pool_proto::common::v1 as common;
use pool_proto::session::v1::{self as session, event, request};

use crate::fake::{Script, refused};
use crate::{EXTENT, attached, heard, wait_until};

fn is_create(body: &request::Body) -> bool {
    matches!(body, request::Body::Create(_))
}

#[test]
fn a_reserve_fills_itself_and_serves_without_the_daemon() {
    let (fake, pool) = attached();
    let reserve = pool.reserve("ddr", EXTENT, 3).unwrap();
    wait_until(|| reserve.ready() == 3);
    let asked = fake.model().asked(is_create).len();
    let taken = reserve.take().unwrap();
    assert_eq!(taken.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
    assert_eq!((asked, reserve.misses()), (3, 0));
    wait_until(|| reserve.ready() == 3);
    let more: Vec<_> = (0..3).map(|_| reserve.take().unwrap()).collect();
    let mut addrs: Vec<_> = more.iter().map(client_sdk::Segment::addr).collect();
    addrs.push(taken.addr());
    addrs.sort_unstable();
    addrs.dedup();
    assert_eq!(addrs.len(), 4);
}

#[test]
fn an_empty_reserve_asks_the_daemon_and_counts_it() {
    let (fake, pool) = attached();
    let no_room = || {
        let (class, reason) = (common::ErrorClass::Exhausted, common::ErrorReason::TierFull);
        let (body, files) = refused(class, reason);
        fake.once(is_create, Script::Say(body, files));
    };
    no_room();
    let reserve = pool.reserve("ddr", EXTENT, 1).unwrap();
    wait_until(|| fake.model().asked(is_create).len() == 1);
    no_room();
    assert_eq!(reserve.take().unwrap_err().reason(), Some(Reason::TierFull));
    assert_eq!(reserve.misses(), 1);
    // It tries again by itself.
    wait_until(|| reserve.ready() == 1);
}

#[test]
fn a_reserve_gives_way_to_those_who_are_guaranteed_memory() {
    let (fake, pool) = attached();
    let reserve = pool.reserve("ddr", EXTENT, 2).unwrap();
    let other = pool.reserve("hbm", EXTENT, 1).unwrap();
    wait_until(|| (reserve.ready(), other.ready()) == (2, 1));
    let deadline_ms = 60_000;
    let pressure = session::Pressure {
        tier: "ddr".to_owned(),
        bytes: 1,
        deadline_ms,
    };
    fake.tell(event::Body::Pressure(pressure));
    wait_until(|| fake.model().held.len() == 1);
    assert_eq!((reserve.ready(), other.ready()), (0, 1));
    assert!(fake.model().unclean.is_empty());
}

#[test]
fn what_was_taken_away_is_not_ready_and_is_replaced() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let reserve = pool.reserve("ddr", EXTENT, 2).unwrap();
    wait_until(|| reserve.ready() == 2);
    let ids: Vec<u64> = fake.model().held.iter().copied().collect();
    for &segment_id in &ids {
        fake.tell(event::Body::Lost(session::Lost { segment_id }));
        heard(&mut events, |event| matches!(event, Event::Lost { .. }));
    }
    wait_until(|| reserve.ready() == 2);
    // Their addresses are to be had again.
    fake.model().next_extent = 0;
    let taken = reserve.take().unwrap();
    assert!(!ids.contains(&taken.id().number()));
    let reused = pool.create(&Create::new("ddr", EXTENT)).unwrap();
    assert_eq!(reserve.misses(), 0);
    drop(reused);
}

#[test]
fn a_dropped_reserve_gives_everything_back() {
    let (fake, pool) = attached();
    let reserve = pool.reserve("ddr", EXTENT, 4).unwrap();
    wait_until(|| reserve.ready() == 4);
    let taken = reserve.take().unwrap();
    drop(reserve);
    wait_until(|| fake.model().held.len() == 1);
    assert!(fake.model().held.contains(&taken.id().number()));
    pool.create(&Create::new("ddr", EXTENT)).unwrap();
}
