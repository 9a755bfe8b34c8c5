//! What each handler of a peer does, and refuses.

use super::*;
use crate::host::message::Outcome;

const NOW: Nanos = Nanos::ZERO;
const LATE: Nanos = Nanos::from_millis(60_000);

/// A member in era 3.
fn member() -> Peer {
    let limits = PeerLimits {
        extents_max: 2,
        users_max: 2,
        ..PeerLimits::default()
    };
    let mut peer = Peer::new(1, limits);
    assert_eq!(acquire(&mut peer, 1, Right::Shared).len(), 2);
    let _ = peer.step(NOW, PeerInput::Join { boot: 9 });
    let outputs = hear(&mut peer, Tell::Welcome { boot: 9 });
    assert_eq!(outputs, [PeerOutput::Joined { era: 3 }]);
    let _ = peer.take_counts();
    peer
}

fn hear(peer: &mut Peer, tell: Tell) -> Vec<PeerOutput> {
    let message = ToPeer {
        to: 1,
        era: 3,
        tell,
    };
    peer.step(NOW, PeerInput::Message(message))
}

fn acquire(peer: &mut Peer, user: u64, right: Right) -> Vec<PeerOutput> {
    let acquire = PeerInput::Acquire {
        user,
        extent: 0,
        right,
        deadline: LATE,
    };
    peer.step(NOW, acquire)
}

fn leave(peer: &mut Peer, user: u64, change: Change) -> Vec<PeerOutput> {
    let release = PeerInput::Release {
        user,
        extent: 0,
        change,
    };
    peer.step(NOW, release)
}

fn grant(ticket: u64, right: Right) -> Tell {
    Tell::Grant {
        extent: 0,
        ticket,
        right,
        epoch: 4,
        version: 6,
    }
}

fn recall(ticket: u64, to: Right) -> Tell {
    Tell::Recall {
        extent: 0,
        ticket,
        to,
    }
}

/// What the outputs say to the home.
fn asked(outputs: &[PeerOutput]) -> Vec<Ask> {
    let ask = |output: &PeerOutput| match output {
        PeerOutput::Send(message) => Some(message.ask),
        _ => None,
    };
    outputs.iter().filter_map(ask).collect()
}

fn release(ticket: u64, epoch: u64, keep: Right, outcome: Outcome) -> Ask {
    Ask::Release {
        extent: 0,
        ticket,
        epoch,
        keep,
        outcome,
        floor: ticket + 1,
    }
}

#[track_caller]
fn refuses(peer: &mut Peer, input: PeerInput, why: Refusal) {
    let mut before = peer.clone();
    let outputs = peer.step(NOW, input);
    assert!(outputs.contains(&PeerOutput::Refused(why)), "{outputs:?}");
    assert_eq!(peer.take_counts().of(why), 1);
    let _ = before.take_counts();
    assert_eq!(*peer, before);
}

#[track_caller]
fn refuses_message(peer: &mut Peer, era: u64, tell: Tell, why: Refusal) {
    let message = ToPeer { to: 1, era, tell };
    refuses(peer, PeerInput::Message(message), why);
}

#[test]
fn a_request_is_sent_again_until_its_grant_serves_the_user() {
    let mut peer = member();
    let outputs = acquire(&mut peer, 1, Right::Exclusive);
    let due = peer.next_deadline().unwrap();
    assert_eq!(peer.step(due, PeerInput::Tick), outputs);
    assert!(peer.next_deadline().unwrap() > due);
    let outputs = hear(&mut peer, grant(1, Right::Exclusive));
    let granted = PeerOutput::Granted {
        user: 1,
        extent: 0,
        right: Right::Exclusive,
        epoch: 4,
        version: 6,
    };
    assert_eq!(outputs, [granted]);
    assert!(peer.is_settled());
    assert_eq!(peer.next_deadline(), None);
}

#[test]
fn a_recall_waits_for_the_writer_and_takes_its_version_along() {
    let mut peer = member();
    let _ = acquire(&mut peer, 1, Right::Exclusive);
    let _ = hear(&mut peer, grant(1, Right::Exclusive));
    let outputs = hear(&mut peer, recall(1, Right::Shared));
    assert_eq!(outputs, [PeerOutput::Recall { user: 1, extent: 0 }]);
    // No reader is let in between the recall and the downgrade.
    assert_eq!(acquire(&mut peer, 2, Right::Shared), []);
    let outputs = leave(&mut peer, 1, Change::Published);
    let wrote = Outcome::Wrote { version: 7 };
    assert_eq!(asked(&outputs), [release(1, 4, Right::Shared, wrote)]);
    assert_eq!(peer.holds(0), Some((1, Right::Shared, 4, 7)));
    assert_eq!(peer.users(0).count(), 1);
    // What is not acknowledged is told again with all that follows.
    let _ = hear(&mut peer, recall(1, Right::Nothing));
    let outputs = leave(&mut peer, 2, Change::None);
    assert_eq!(asked(&outputs), [release(1, 4, Right::Nothing, wrote)]);
    let acknowledged = |keep| Tell::Released {
        extent: 0,
        ticket: 1,
        keep,
    };
    let early = acknowledged(Right::Shared);
    refuses_message(&mut peer, 3, early, Refusal::Settled);
    let _ = hear(&mut peer, acknowledged(Right::Nothing));
    assert!(peer.is_settled() && peer.extents.is_empty());
}

#[test]
fn grants_of_other_eras_and_of_settled_tickets_are_refused() {
    let mut peer = member();
    let _ = acquire(&mut peer, 1, Right::Shared);
    refuses_message(&mut peer, 2, grant(1, Right::Shared), Refusal::DeadEra);
    let other = grant(1, Right::Exclusive);
    refuses_message(&mut peer, 3, other, Refusal::Malformed);
    let _ = leave(&mut peer, 1, Change::None);
    refuses_message(&mut peer, 3, grant(1, Right::Shared), Refusal::Settled);
    let acknowledged = Tell::Released {
        extent: 0,
        ticket: 1,
        keep: Right::Nothing,
    };
    let _ = hear(&mut peer, acknowledged);
    refuses_message(&mut peer, 3, grant(1, Right::Shared), Refusal::NotHeld);
    refuses_message(&mut peer, 3, recall(8, Right::Nothing), Refusal::Malformed);
    let outputs = hear(&mut peer, recall(1, Right::Nothing));
    let unused = release(1, 0, Right::Nothing, Outcome::Unused);
    assert_eq!(asked(&outputs), [unused]);
}

#[test]
fn who_wants_more_gives_up_first() {
    let mut peer = member();
    let _ = acquire(&mut peer, 1, Right::Shared);
    let _ = hear(&mut peer, grant(1, Right::Shared));
    assert_eq!(acquire(&mut peer, 2, Right::Exclusive), []);
    let outputs = leave(&mut peer, 1, Change::None);
    let unused = release(1, 4, Right::Nothing, Outcome::Unused);
    assert_eq!(asked(&outputs), [unused]);
    let outputs = hear(
        &mut peer,
        Tell::Released {
            extent: 0,
            ticket: 1,
            keep: Right::Nothing,
        },
    );
    assert!(matches!(
        asked(&outputs)[..],
        [Ask::Request {
            ticket: 2,
            right: Right::Exclusive,
            ..
        }]
    ));
}

#[test]
fn a_user_that_waits_too_long_is_told_and_its_request_is_withdrawn() {
    let mut peer = member();
    let _ = acquire(&mut peer, 1, Right::Shared);
    let outputs = peer.step(LATE, PeerInput::Tick);
    let why = Denial::Unavailable { holder: 1 };
    let denied = PeerOutput::Denied {
        user: 1,
        extent: 0,
        why,
    };
    assert_eq!(outputs.first(), Some(&denied));
    let unused = release(1, 0, Right::Nothing, Outcome::Unused);
    assert!(asked(&outputs).contains(&unused));
}

#[test]
fn a_torn_change_is_reported_with_the_last_version_that_was_seen() {
    let mut peer = member();
    let _ = acquire(&mut peer, 1, Right::Exclusive);
    let _ = hear(&mut peer, grant(1, Right::Exclusive));
    let _ = leave(&mut peer, 1, Change::Published);
    let _ = acquire(&mut peer, 2, Right::Exclusive);
    let outputs = leave(&mut peer, 2, Change::Torn);
    let torn = Outcome::Torn { version: 7 };
    assert_eq!(asked(&outputs), [release(1, 4, Right::Nothing, torn)]);
    assert_eq!(peer.holds(0), None);
}

#[test]
fn the_end_of_an_era_stops_all_users() {
    let mut peer = member();
    let _ = acquire(&mut peer, 1, Right::Exclusive);
    let _ = hear(&mut peer, grant(1, Right::Exclusive));
    let _ = acquire(&mut peer, 2, Right::Shared);
    let outputs = hear(&mut peer, Tell::Dead);
    let why = Denial::NotMember;
    let expected = [
        PeerOutput::Revoked { user: 1, extent: 0 },
        PeerOutput::Denied {
            user: 2,
            extent: 0,
            why,
        },
        PeerOutput::Ended { era: 3 },
    ];
    assert_eq!(outputs, expected);
    assert_eq!((peer.member(), peer.next_deadline()), (None, None));
    let _ = peer.step(NOW, PeerInput::Join { boot: 10 });
    let old = Tell::Welcome { boot: 10 };
    refuses_message(&mut peer, 3, old, Refusal::Malformed);
}

#[test]
fn what_is_held_is_announced_until_the_home_confirms_it() {
    let mut peer = member();
    let _ = acquire(&mut peer, 1, Right::Shared);
    let _ = hear(&mut peer, grant(1, Right::Shared));
    let announce = Ask::Announce {
        extent: 0,
        ticket: 1,
        right: Right::Shared,
        epoch: 4,
    };
    let hello = Tell::Hello { term: 2 };
    assert_eq!(asked(&hear(&mut peer, hello)), [announce]);
    let due = peer.next_deadline().unwrap();
    assert_eq!(asked(&peer.step(due, PeerInput::Tick)), [announce]);
    let _ = hear(&mut peer, grant(1, Right::Shared));
    let announced = Ask::Announced { term: 2 };
    assert_eq!(asked(&hear(&mut peer, hello)), [announced]);
    let _ = hear(&mut peer, Tell::Hello { term: 3 });
    let void = Tell::Void {
        extent: 0,
        ticket: 1,
    };
    let outputs = hear(&mut peer, void);
    assert_eq!(outputs, [PeerOutput::Revoked { user: 1, extent: 0 }]);
    assert_eq!(peer.holds(0), None);
}

#[test]
fn a_full_peer_refuses_by_name() {
    let mut peer = member();
    let more = |user, extent| PeerInput::Acquire {
        user,
        extent,
        right: Right::Shared,
        deadline: LATE,
    };
    for (user, extent) in [(1, 0), (2, 0), (1, 1)] {
        let _ = peer.step(NOW, more(user, extent));
    }
    refuses(&mut peer, more(1, 0), Refusal::User);
    refuses(&mut peer, more(3, 0), Refusal::Full);
    refuses(&mut peer, more(1, 2), Refusal::Full);
    refuses(&mut peer, PeerInput::Drop { extent: 2 }, Refusal::NotHeld);
    refuses(&mut peer, PeerInput::Drop { extent: 0 }, Refusal::InUse);
}
