//! What each handler of the home does, and refuses.

use super::*;
use crate::host::message::{Ask, NUMBER_MAX, Outcome};
use crate::host::row::Standing;

const NOW: Nanos = Nanos::ZERO;

fn home(rows: Vec<Record>) -> Home {
    let limits = HomeLimits {
        extents: 4,
        contended_max: 1,
        ..HomeLimits::default()
    };
    Home::recover(NOW, limits, rows).unwrap().0
}

/// A home with two members, in era 1.
fn two_members() -> Home {
    let mut home = home(Vec::new());
    for from in [1, 2] {
        let outputs = hear(&mut home, from, 0, Ask::Join { boot: 5 });
        assert_eq!(sent(&outputs), [Tell::Welcome { boot: 5 }]);
    }
    home
}

fn hear(home: &mut Home, from: u8, era: u64, ask: Ask) -> Vec<HomeOutput> {
    home.step(NOW, HomeInput::Message(ToHome { from, era, ask }))
}

fn sent(outputs: &[HomeOutput]) -> Vec<Tell> {
    let tell = |output: &HomeOutput| match output {
        HomeOutput::Send(message) => Some(message.tell),
        _ => None,
    };
    outputs.iter().filter_map(tell).collect()
}

fn request(extent: u32, ticket: u64, right: Right) -> Ask {
    Ask::Request {
        extent,
        ticket,
        right,
        floor: 1,
    }
}

fn release(ticket: u64, keep: Right, outcome: Outcome) -> Ask {
    Ask::Release {
        extent: 0,
        ticket,
        epoch: 1,
        keep,
        outcome,
        floor: 1,
    }
}

/// The input is refused for this reason, changes nothing and is counted.
#[track_caller]
fn refuses(home: &mut Home, input: HomeInput, why: Refusal) {
    let mut before = home.clone();
    let outputs = home.step(NOW, input);
    assert!(outputs.contains(&HomeOutput::Refused(why)), "{outputs:?}");
    assert!(!outputs.iter().any(|o| matches!(o, HomeOutput::Record(_))));
    assert_eq!(home.take_counts().of(why), 1);
    let _ = before.take_counts();
    assert_eq!(*home, before);
}

#[track_caller]
fn refuses_message(home: &mut Home, from: u8, era: u64, ask: Ask, why: Refusal) {
    refuses(home, HomeInput::Message(ToHome { from, era, ask }), why);
}

#[test]
fn a_record_comes_before_the_grant_that_it_justifies() {
    let mut home = two_members();
    let outputs = hear(&mut home, 1, 1, request(0, 1, Right::Exclusive));
    assert!(matches!(
        outputs[..],
        [
            HomeOutput::Record(Record::Extent { .. }),
            HomeOutput::Send(ToPeer {
                to: 1,
                era: 1,
                tell: Tell::Grant { epoch: 1, .. }
            })
        ]
    ));
    // A copy is answered as before, and nothing is recorded.
    let again = hear(&mut home, 1, 1, request(0, 1, Right::Exclusive));
    assert_eq!(again, outputs[1..]);
}

#[test]
fn a_writer_is_recalled_and_the_reader_gets_its_version() {
    let mut home = two_members();
    let _ = hear(&mut home, 1, 1, request(0, 1, Right::Exclusive));
    let recall = Tell::Recall {
        extent: 0,
        ticket: 1,
        to: Right::Shared,
    };
    let outputs = hear(&mut home, 2, 1, request(0, 1, Right::Shared));
    assert_eq!(sent(&outputs), [recall]);
    let due = home.next_deadline().unwrap();
    assert_eq!(sent(&home.step(due, HomeInput::Tick)), [recall]);
    assert!(home.next_deadline().unwrap() > due);
    let outcome = Outcome::Wrote { version: 7 };
    let outputs = hear(&mut home, 1, 1, release(1, Right::Shared, outcome));
    let granted = Tell::Grant {
        extent: 0,
        ticket: 1,
        right: Right::Shared,
        epoch: 1,
        version: 7,
    };
    assert_eq!(sent(&outputs).last(), Some(&granted));
    assert_eq!(home.next_deadline(), None);
}

#[test]
fn what_no_correct_host_says_is_refused() {
    let mut home = two_members();
    let _ = hear(&mut home, 1, 1, request(0, 1, Right::Exclusive));
    let none = request(0, 2, Right::Nothing);
    refuses_message(&mut home, 40, 1, none, Refusal::UnknownHost);
    refuses_message(&mut home, 3, 1, none, Refusal::DeadEra);
    refuses_message(&mut home, 1, 2, none, Refusal::DeadEra);
    refuses_message(&mut home, 1, 1, none, Refusal::Malformed);
    let far = request(9, 2, Right::Shared);
    refuses_message(&mut home, 1, 1, far, Refusal::UnknownExtent);
    let wrote = |version| Outcome::Wrote { version };
    for (outcome, why) in [
        (wrote(0), Refusal::BadVersion),
        (wrote(NUMBER_MAX), Refusal::BadVersion),
        (Outcome::Torn { version: u64::MAX }, Refusal::BadVersion),
    ] {
        refuses_message(&mut home, 1, 1, release(1, Right::Nothing, outcome), why);
    }
    let not_mine = release(1, Right::Nothing, wrote(3));
    refuses_message(&mut home, 2, 1, not_mine, Refusal::NotHeld);
    let more = release(1, Right::Exclusive, Outcome::Unused);
    refuses_message(&mut home, 1, 1, more, Refusal::Malformed);
    let term = Ask::Announced { term: 9 };
    refuses_message(&mut home, 1, 1, term, Refusal::OtherTerm);
}

#[test]
fn a_reader_cannot_say_that_it_wrote() {
    let mut home = two_members();
    let _ = hear(&mut home, 1, 1, request(0, 1, Right::Shared));
    let wrote = release(1, Right::Nothing, Outcome::Wrote { version: 1 });
    refuses_message(&mut home, 1, 1, wrote, Refusal::NotOwner);
    let torn = release(1, Right::Nothing, Outcome::Torn { version: 0 });
    refuses_message(&mut home, 1, 1, torn, Refusal::NotOwner);
}

#[test]
fn what_is_owned_by_the_fenced_is_lost_until_the_right_copy_is_back() {
    let mut home = two_members();
    let _ = hear(&mut home, 1, 1, request(0, 1, Right::Exclusive));
    let _ = hear(&mut home, 1, 1, request(1, 2, Right::Shared));
    let fenced = HomeInput::HostFenced { host: 1, era: 1 };
    refuses(&mut home, fenced, Refusal::NotCondemned);
    let outputs = home.step(NOW, HomeInput::Condemn { host: 1, era: 1 });
    assert_eq!(outputs.last(), Some(&HomeOutput::Fence { host: 1, era: 1 }));
    let wrote = release(1, Right::Nothing, Outcome::Wrote { version: 1 });
    refuses_message(&mut home, 1, 1, wrote, Refusal::DeadEra);
    let outputs = home.step(NOW, fenced);
    let lost = HomeOutput::Lost {
        extent: 0,
        last_good: 0,
    };
    assert_eq!(outputs.last(), Some(&lost));
    assert_eq!(home.extent(1).unwrap().state, State::Free);
    assert_eq!(home.step(NOW, fenced), []);
    let outputs = hear(&mut home, 2, 1, request(0, 1, Right::Shared));
    let why = Denial::Lost { last_good: 0 };
    assert!(matches!(sent(&outputs)[..], [Tell::Refuse { why: told, .. }] if told == why));
    let repaired = |version| HomeInput::Repaired { extent: 0, version };
    refuses(&mut home, repaired(1), Refusal::WrongCopy);
    let _ = home.step(NOW, repaired(0));
    assert_eq!(home.extent(0).unwrap().version, 1);
    refuses(&mut home, repaired(0), Refusal::NotLost);
}

#[test]
fn a_new_life_waits_until_the_old_one_is_fenced() {
    let mut home = two_members();
    let _ = hear(&mut home, 1, 1, request(0, 1, Right::Exclusive));
    let join = Ask::Join { boot: 6 };
    refuses_message(&mut home, 1, 0, join, Refusal::NotFenced);
    let _ = home.step(NOW, HomeInput::Condemn { host: 1, era: 1 });
    let _ = home.step(NOW, HomeInput::HostFenced { host: 1, era: 1 });
    let outputs = hear(&mut home, 1, 0, join);
    assert_eq!(sent(&outputs), [Tell::Welcome { boot: 6 }]);
    assert_eq!(home.member(1), Some(2));
    refuses_message(&mut home, 1, 0, Ask::Join { boot: 5 }, Refusal::Behind);
    let late = HomeInput::HostFenced { host: 1, era: 1 };
    refuses(&mut home, late, Refusal::OtherFence);
}

#[test]
fn who_waits_too_long_hears_who_holds_it() {
    let mut home = two_members();
    let _ = hear(&mut home, 1, 1, request(0, 1, Right::Exclusive));
    let _ = hear(&mut home, 2, 1, request(0, 1, Right::Shared));
    let outputs = home.step(home.limits.suspect_after, HomeInput::Tick);
    assert!(outputs.contains(&HomeOutput::Suspect { host: 1, era: 1 }));
    let outputs = home.step(home.limits.patience, HomeInput::Tick);
    let refused = Tell::Refuse {
        extent: 0,
        ticket: 1,
        why: Denial::Unavailable { holder: 1 },
    };
    assert_eq!(sent(&outputs), [refused]);
    assert_eq!((home.waiting(), home.next_deadline()), (0, None));
}

#[test]
fn a_full_home_refuses_what_would_have_to_wait() {
    let mut home = two_members();
    for extent in [0, 1] {
        let ticket = u64::from(extent) + 1;
        let _ = hear(&mut home, 1, 1, request(extent, ticket, Right::Exclusive));
    }
    let _ = hear(&mut home, 2, 1, request(0, 1, Right::Shared));
    let more = request(1, 2, Right::Shared);
    refuses_message(&mut home, 2, 1, more, Refusal::Full);
    // What need not wait needs no room.
    let outputs = hear(&mut home, 2, 1, request(2, 3, Right::Shared));
    assert!(matches!(sent(&outputs)[..], [Tell::Grant { .. }]));
}

#[test]
fn a_home_that_is_born_again_greets_and_voids_what_it_never_recorded() {
    let mut before = two_members();
    let _ = hear(&mut before, 1, 1, request(0, 1, Right::Shared));
    let mut home = home(before.rows());
    assert_eq!(home.extent(0), before.extent(0));
    assert_eq!(home.term(), 2);
    let announce = |extent| Ask::Announce {
        extent,
        ticket: 1,
        right: Right::Shared,
        epoch: 0,
    };
    let outputs = hear(&mut home, 1, 1, announce(0));
    assert!(matches!(sent(&outputs)[..], [Tell::Grant { .. }]));
    let void = Tell::Void {
        extent: 1,
        ticket: 1,
    };
    assert_eq!(sent(&hear(&mut home, 1, 1, announce(1)))[..], [void]);
    for from in [1, 2] {
        assert!(home.next_deadline().is_some());
        let _ = hear(&mut home, from, 1, Ask::Announced { term: 2 });
    }
    assert_eq!(home.next_deadline(), None);
}

#[test]
fn a_journal_that_contradicts_itself_is_refused() {
    let owned = Row {
        epoch: 1,
        version: 0,
        state: State::Owned { slot: 1, ticket: 1 },
    };
    let host = |standing| Record::Host {
        slot: 1,
        era: 1,
        boot: 1,
        standing,
    };
    let recover = |rows: &[Record]| {
        let limits = HomeLimits {
            extents: 1,
            ..HomeLimits::default()
        };
        Home::recover(NOW, limits, rows.iter().cloned()).map(|(home, _)| home.term())
    };
    let extent = |extent| Record::Extent {
        extent,
        row: owned.clone(),
    };
    assert_eq!(recover(&[host(Standing::Condemned), extent(0)]), Ok(1));
    let stranger = Broken::HolderIsNoMember { extent: 0, slot: 1 };
    let fenced = recover(&[host(Standing::Fenced), extent(0)]);
    assert_eq!(fenced, Err(RecoverError::Unsound(stranger)));
    assert!(recover(&[host(Standing::Member), extent(1)]).is_err());
    let owned = |ticket| Record::Extent {
        extent: 0,
        row: Row {
            state: State::Owned { slot: 1, ticket },
            ..owned.clone()
        },
    };
    assert_eq!(recover(&[host(Standing::Member), owned(NUMBER_MAX)]), Ok(1));
    let beyond = recover(&[host(Standing::Member), owned(NUMBER_MAX + 1)]);
    assert_eq!(beyond, Err(RecoverError::Unsound(Broken::NumberTooLarge)));
    assert!(recover(&[Record::Term { term: u64::MAX }]).is_err());
}
