//! Members that pass the crash points of leases, of handing over and of objects, at one of which
//! they die.
//!
//! Each tells its slot first, with nothing held. Told to go on it gets ready, tells a number, and
//! acts when it is told to. It may die before it is ready.

use std::time::Duration;

use client_sdk::{Domain, LeaseError, Objects, Ticket, Units, WriteGuard};
use tierpool_tests::contents::{self, PATIENCE};

use crate::tell_and_wait;

/// How long a writer waits that gives up.
const IMPATIENCE: Duration = Duration::from_millis(120);

/// Does what a role wants with unit 0. `number` is that of a ticket, or of new contents.
pub(crate) fn with_unit(domain: &Domain, role: &str, number: u64) {
    tell_and_wait(u64::from(domain.slot().index()));
    let unit = domain.unit(0).unwrap();
    match role {
        "releases" => {
            changed(&unit).release().unwrap();
        }
        "looks" => {
            let guard = unit.write(PATIENCE).unwrap();
            ready();
            guard.release().unwrap();
        }
        "downgrades" => changed(&unit).downgrade().unwrap().release().unwrap(),
        "abandons" => {
            let mut guard = unit.write(PATIENCE).unwrap();
            contents::write_half(&mut guard);
            ready();
            guard.abandon().unwrap();
        }
        "lets-go" => {
            let guard = unit.read(PATIENCE).unwrap();
            ready();
            guard.release().unwrap();
        }
        "crowds" => {
            let pair = [unit.read(PATIENCE).unwrap(), unit.read(PATIENCE).unwrap()];
            ready();
            pair.into_iter().for_each(|guard| guard.release().unwrap());
        }
        "upgrades" => {
            let guard = unit.read(PATIENCE).unwrap();
            ready();
            let mut guard = guard.upgrade().map_err(|(_, error)| error).unwrap();
            contents::change(&mut guard);
            guard.release().unwrap();
        }
        "restores" => {
            let mut guard = unit.restore().unwrap();
            contents::write_anew(&mut guard, number);
            ready();
            guard.release().unwrap();
        }
        "gives" => {
            let guard = changed(&unit);
            guard.hand_over(Ticket::from_number(number)).unwrap();
        }
        role => waits(domain, &unit, role),
    }
}

/// The roles that wait for what others hold.
fn waits(domain: &Domain, unit: &Units<'_>, role: &str) {
    match role {
        "waits-to-read" => {
            ready();
            unit.read(PATIENCE).unwrap().release().unwrap();
        }
        "waits-to-write" => {
            ready();
            unit.write(PATIENCE).unwrap().release().unwrap();
        }
        "gives-up" => {
            ready();
            let late = unit.write(IMPATIENCE).map(drop);
            assert!(matches!(late, Err(LeaseError::TimedOut { .. })), "{late:?}");
        }
        "takes" => {
            tell_and_wait(domain.ticket().map(Ticket::number).unwrap());
            let guard = unit.receive(PATIENCE).unwrap();
            contents::check(&guard);
            guard.release().unwrap();
        }
        other => panic!("{other} is no role"),
    }
}

/// Does what a role wants with an object named `it`.
pub(crate) fn with_objects(objects: &Objects, role: &str) {
    tell_and_wait(u64::from(objects.domain().slot().index()));
    match role {
        "publishes" => {
            let mut draft = objects.draft::<u64>(contents::OBJECT.len()).unwrap();
            let mut view = draft.view_mut().unwrap();
            view.write_from(0, &contents::OBJECT).unwrap();
            ready();
            drop(draft.publish("it").unwrap());
        }
        "finds" => {
            ready();
            let found = objects.get::<u64>("it").unwrap();
            found.verify().unwrap();
        }
        other => panic!("{other} is no role"),
    }
}

fn ready() {
    tell_and_wait(0);
}

/// Has the unit, with a change that is not published.
fn changed<'d>(unit: &Units<'d>) -> WriteGuard<'d> {
    let mut guard = unit.write(PATIENCE).unwrap();
    contents::change(&mut guard);
    ready();
    guard.check().unwrap();
    guard
}
