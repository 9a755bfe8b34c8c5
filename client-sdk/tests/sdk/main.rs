//! The client library against a daemon that dies, lies and is silent as told.
//!
//! The daemon is [`fake::Fake`]: it runs in this process, so that a test can look at both sides,
//! and every test has one of its own with a window of its own.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

use std::time::Duration;

use client_sdk::{AttachOptions, Event, Events, Pool};
use pool_core::clock::{Deadline, eventually};
use pool_core::{Bytes, EXTENT_BYTES, Nanos};

mod attach;
mod change;
mod event;
mod fake;
mod fork;
mod hand;
mod lease;
mod object;
mod read_only;
mod recover;
mod reserve;
mod segment;
mod turn;
mod wait;

use fake::Fake;

const EXTENT: Bytes = Bytes::new(EXTENT_BYTES);

fn extents(count: u64) -> Bytes {
    Bytes::new(count * EXTENT_BYTES)
}

fn options(fake: &Fake) -> AttachOptions {
    AttachOptions::new()
        .socket(fake.socket())
        .name("test")
        .timeout(Duration::from_secs(20))
}

fn attached() -> (Fake, Pool) {
    let fake = Fake::start();
    let pool = Pool::attach(&options(&fake)).unwrap();
    (fake, pool)
}

/// Waits for what no event announces.
fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Deadline::after(Nanos::from_millis(20_000));
    eventually(deadline, || holds().then_some(())).unwrap();
}

/// The next event that `matches`.
fn heard(events: &mut Events, matches: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = events
            .next(Duration::from_secs(20))
            .unwrap()
            .expect("the event is heard");
        if matches(&event) {
            return event;
        }
    }
}
