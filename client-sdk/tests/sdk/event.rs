use std::time::Duration;

use client_sdk::{Bytes, Event};
use pool_core::SegmentId;
use pool_proto::session::v1::{self as session, event};

use crate::{attached, heard};

#[test]
fn what_the_daemon_tells_is_passed_on() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    let mut next = || events.next(Duration::from_secs(20)).unwrap();
    let pressure = session::Pressure {
        tier: "hbm".to_owned(),
        bytes: 4096,
        deadline_ms: 250,
    };
    fake.tell(event::Body::Pressure(pressure));
    let (tier, bytes, deadline) = (
        "hbm".to_owned(),
        Bytes::new(4096),
        Duration::from_millis(250),
    );
    assert_eq!(
        next(),
        Some(Event::Pressure {
            tier,
            bytes,
            deadline
        })
    );
    let (device, segment_ids) = ("hbm0".to_owned(), vec![1, 2]);
    let leaving = session::DeviceLeaving {
        device: device.clone(),
        segment_ids,
    };
    fake.tell(event::Body::DeviceLeaving(leaving));
    let segments = [1, 2].map(|id| SegmentId::new(id).unwrap()).to_vec();
    assert_eq!(
        next(),
        Some(Event::DeviceLeaving {
            device: device.clone(),
            segments
        })
    );
    fake.tell(event::Body::DeviceBack(session::DeviceBack {
        device: device.clone(),
    }));
    assert_eq!(next(), Some(Event::DeviceBack { device }));
    fake.tell(event::Body::Recalled(session::Recalled {
        segment_id: 7,
        unit: 3,
        within_ms: 50,
    }));
    assert_eq!(
        next(),
        Some(Event::Recalled {
            segment: SegmentId::new(7).unwrap(),
            unit: 3,
            deadline: Duration::from_millis(50)
        })
    );
    assert_eq!(events.next(Duration::ZERO), Ok(None));
}

#[test]
fn every_subscriber_hears_every_event_since_it_came() {
    let (fake, pool) = attached();
    let (mut one, mut two) = (pool.events(), pool.events());
    let back = |device: &str| {
        fake.tell(event::Body::DeviceBack(session::DeviceBack {
            device: device.to_owned(),
        }));
        Event::DeviceBack {
            device: device.to_owned(),
        }
    };
    let first = back("a");
    for events in [&mut one, &mut two] {
        heard(events, |event| *event == first);
    }
    drop(two);
    let mut late = pool.events();
    let second = back("b");
    for events in [&mut one, &mut late] {
        assert_eq!(
            events.next(Duration::from_secs(20)),
            Ok(Some(second.clone()))
        );
    }
}

#[test]
fn an_event_that_breaks_the_protocol_ends_the_connection_and_not_the_session() {
    let (fake, pool) = attached();
    let mut events = pool.events();
    fake.tell(event::Body::Revoked(session::Revoked::default()));
    heard(&mut events, |event| *event == Event::DaemonGone);
    heard(&mut events, |event| {
        matches!(event, Event::DaemonBack { .. })
    });
    pool.tiers().unwrap();
}
