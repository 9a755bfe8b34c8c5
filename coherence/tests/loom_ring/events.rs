use coherence::Slot;
use coherence::ring::events::{Event, EventReceiver, EventRing, Notice};
use pool_core::sync::{Arc, thread};

use super::{Shared, after_the_others, capacity, explore, made, owner};

fn event(value: u64) -> Event {
    let slot = Slot::DAEMON;
    Event {
        kind: 1,
        slot,
        unit: 2,
        value,
    }
}

/// Takes at most `tries` notices, and checks that the events and the misses are those in order.
/// Says how many were missed.
fn notices(receiver: &mut EventReceiver<'_>, tries: usize, position: &mut u64) -> u64 {
    let mut missed = 0;
    for _ in 0..tries {
        match receiver.try_receive().unwrap() {
            Some(Notice::Event(found)) => {
                assert_eq!(found, event(*position));
                *position += 1;
            }
            Some(Notice::Missed { count }) => {
                *position += count;
                missed += count;
            }
            None => {}
        }
    }
    missed
}

/// Catches: events.count_before_record
/// Catches: events.forgets_the_missed
#[test]
fn an_event_is_received_or_told_as_missed_at_its_place_in_the_order() {
    const SENT: u64 = 4;
    explore(&[0, 1, 2], || {
        let capacity = capacity(2);
        let shared = made(move || {
            let shared = Shared::new(EventRing::bytes(capacity));
            EventRing::create(shared.memory.memory(), capacity).unwrap();
            shared
        });
        let other = Arc::clone(&shared);
        let sender = thread::spawn(move || {
            let ring = EventRing::open(other.memory.memory()).unwrap();
            let mut sender = ring.sender(owner(1), |_| false).unwrap();
            for value in 0..SENT {
                let _sent = sender.send(event(value), &other.wait).unwrap();
            }
        });
        after_the_others();
        let ring = EventRing::open(shared.memory.memory()).unwrap();
        let mut receiver = ring.receiver(owner(2), |_| false).unwrap();
        let mut position = 0;
        let mut missed = notices(&mut receiver, 3, &mut position);
        sender.join().unwrap();
        missed += notices(&mut receiver, 6, &mut position);
        assert_eq!(position, SENT);
        assert_eq!(receiver.try_receive().unwrap(), None);
        missed
    });
}
