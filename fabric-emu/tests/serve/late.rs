//! Answers that come late, twice or never over a socket, and whose they are taken for.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use fabric_emu::cci::generic::{Empty, Timestamp};
use fabric_emu::cci::{Message, Opcode, Request, Response};
use fabric_emu::fabric::{Cci, Fault, Glitch};
use fabric_emu::serve::{AskError, Config, Mode, Remote};
use fabric_emu::timing::Picos;
use pool_core::Nanos;
use pool_core::clock::eventually;

use crate::commands::{connect_std, read_message};
use crate::rig::{POOL, Rig, soon};

const MEMDEV: &str = "memdev0.cci";
const GET: Request = Request::GetTimestamp(Empty);

fn set(timestamp_ns: u64) -> Request {
    Request::SetTimestamp(Timestamp { timestamp_ns })
}

fn errs(rig: &Rig, glitch: Glitch, times: u16) {
    rig.fault(Fault::InterfaceErrs {
        cci: Cci::Memdev(POOL),
        glitch,
        times,
    });
}

fn late(millis: u64) -> Glitch {
    Glitch::AnsweredLate(Picos::from_nanos(millis * 1_000_000))
}

/// Waits for no answer for long.
fn hasty(remote: Remote) -> Remote {
    remote.with_patience(Nanos::from_millis(5))
}

fn patient(remote: Remote) -> Remote {
    remote.with_patience(Nanos::from_millis(60_000))
}

#[test]
fn a_late_answer_comes_when_it_is_due_behind_those_to_later_commands() {
    let rig = Rig::start();
    errs(&rig, late(1), 2);
    let mut socket = connect_std(&rig, MEMDEV);
    let requests = [GET, Request::Identify(Empty), set(7), GET];
    let messages = (1..).zip(&requests);
    let bytes = messages.map(|(tag, it)| Message::request(tag, it).unwrap().encode());
    // At once, so that time does not go on before all of it is done.
    socket
        .write_all(&bytes.collect::<Vec<_>>().concat())
        .unwrap();
    let mut input = Vec::new();
    let mut next = |socket: &mut UnixStream| {
        let answer = read_message(socket, &mut input);
        (answer.tag, answer.opcode)
    };
    let answers: Vec<_> = requests.iter().map(|_| next(&mut socket)).collect();
    let (get, set) = (Opcode::GetTimestamp.number(), Opcode::SetTimestamp.number());
    let identify = Opcode::Identify.number();
    assert_eq!(answers, [(3, set), (4, get), (1, get), (2, identify)]);
}

#[test]
fn a_client_that_waits_gets_its_late_answer() {
    for mode in [Mode::Virtual, Mode::Paced] {
        let rig = Rig::with(Config::new(mode, 1));
        errs(&rig, late(20), 1);
        let mut remote = rig.remote(MEMDEV);
        assert!(remote.ask(&set(7)).is_ok(), "{mode}");
        assert!(remote.ask(&GET).is_ok(), "{mode}");
        assert_eq!(remote.dropped(), 0);
    }
}

#[test]
fn what_comes_after_nobody_waits_for_it_is_dropped_and_counted_and_taken_for_nothing_else() {
    let rig = Rig::with(Config::new(Mode::Paced, 1));
    let mut remote = rig.remote(MEMDEV);
    assert!(remote.ask(&set(1_000)).is_ok());
    errs(&rig, late(2_000), 1);
    remote = hasty(remote);
    // Its answer would be told as the time, were it taken for another one.
    assert_eq!(remote.ask(&GET), Err(AskError::TimedOut));
    remote = patient(remote);
    assert!(remote.ask(&set(1 << 60)).is_ok());
    let came = eventually(soon(), || {
        let Ok(Response::GetTimestamp(told)) = remote.ask(&GET) else {
            panic!("it is answered");
        };
        assert!(told.timestamp_ns >= 1 << 60, "{told:?}");
        (remote.dropped() == 1).then_some(())
    });
    assert_eq!(came, Ok(()));
}

#[test]
fn a_tag_whose_answer_may_come_yet_is_not_used() {
    let rig = Rig::with(Config::new(Mode::Paced, 1));
    errs(&rig, late(600_000), 1);
    let mut remote = hasty(rig.remote(MEMDEV));
    let message = Message::request(9, &GET).unwrap().encode();
    assert_eq!(remote.exchange(&message), Err(AskError::TimedOut));
    remote = patient(remote);
    assert_eq!(remote.exchange(&message), Err(AskError::TagTaken));
    // All other tags are taken in turns, and that one is left out.
    for _ in 0..600 {
        assert!(remote.ask(&GET).is_ok());
    }
    assert_eq!(remote.dropped(), 0);
}

#[test]
fn an_answer_that_comes_twice_is_taken_once() {
    let rig = Rig::start();
    errs(&rig, Glitch::AnsweredTwice, 3);
    let mut remote = rig.remote(MEMDEV);
    for number in 0..4 {
        assert!(remote.ask(&set(number)).is_ok());
        assert_eq!(remote.dropped(), number);
    }
}

#[test]
fn a_late_answer_to_who_hung_up_or_died_harms_nobody() {
    let rig = Rig::start();
    rig.bind_all();
    errs(&rig, late(1), 100);
    for _ in 0..100 {
        let mut socket = connect_std(&rig, MEMDEV);
        let message = Message::request(1, &GET).unwrap().encode();
        socket.write_all(&message).unwrap();
    }
    rig.fault(Fault::InterfaceHeals(Cci::Memdev(POOL)));
    let answered = eventually(soon(), || rig.remote(MEMDEV).ask(&GET).ok());
    assert!(answered.is_ok());
}
