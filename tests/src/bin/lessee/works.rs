//! Members that lease the units of a domain at random until they are killed, and a member that
//! comes after one that died.
//!
//! Here the number of the contents of a unit is its version. So whoever is granted a unit can tell
//! that it has what was published last, and neither what is older nor what nobody published.

use std::collections::BTreeMap;
use std::io::Read as _;

use client_sdk::{Domain, LeaseError, WriteGuard};
use pool_core::sync::thread;
use tierpool_tests::contents::{self, PATIENCE, UNITS};
use tierpool_tests::random::Random;

use crate::tell_and_wait;

/// What a worker knows of each unit: the last version that it saw published.
type Seen = BTreeMap<u32, u64>;

/// Reads, writes, loses and restores units, for ever.
pub(crate) fn works(domain: &Domain, seed: u64) {
    thread::spawn(ends_with_its_test);
    let (mut random, mut seen) = (Random::new(seed), Seen::new());
    loop {
        let unit = u32::try_from(random.below(u64::from(UNITS))).unwrap();
        match step(domain, unit, &mut random) {
            Ok(version) => saw(&mut seen, unit, version),
            Err(LeaseError::Lost { last_good, .. }) => {
                saw(&mut seen, unit, last_good);
                if random.once_in(2) {
                    restore(domain, unit);
                }
            }
            // Of a try that waits for nobody.
            Err(LeaseError::Busy { .. }) => {}
            Err(error) => panic!("unit {unit}: {error}"),
        }
    }
}

/// The test's end is the end of the input.
fn ends_with_its_test() {
    while std::io::stdin().read(&mut [0]).unwrap() > 0 {}
    std::process::exit(0);
}

fn saw(seen: &mut Seen, unit: u32, version: u64) {
    let before = seen.insert(unit, version).unwrap_or(0);
    assert!(version >= before, "unit {unit}: {version} after {before}");
}

/// One thing with one unit. Returns the version that was published last.
fn step(domain: &Domain, unit: u32, random: &mut Random) -> Result<u64, LeaseError> {
    let units = domain.unit(unit)?;
    match random.below(8) {
        0..=2 => {
            let guard = units.read(PATIENCE)?;
            let version = guard.version();
            assert_eq!(contents::read(&guard), version);
            guard.release()?;
            Ok(version)
        }
        3..=4 => changed(units.write(PATIENCE)?).release(),
        5 => {
            let guard = changed(units.write(PATIENCE)?).downgrade()?;
            let version = guard.version();
            assert_eq!(contents::read(&guard), version);
            guard.release()?;
            Ok(version)
        }
        6 => match units.read(PATIENCE)?.upgrade() {
            Ok(guard) => changed(guard).release(),
            Err((_, error)) => Err(error),
        },
        _ => {
            let mut guard = units.write(PATIENCE)?;
            let version = guard.version();
            if random.once_in(4) {
                contents::write_half(&mut guard);
                guard.abandon()?;
            }
            Ok(version)
        }
    }
}

fn changed(mut guard: WriteGuard<'_>) -> WriteGuard<'_> {
    let next = contents::change(&mut guard);
    assert_eq!(next, guard.version() + 1, "it was what was published last");
    guard
}

/// Writes a lost unit anew, unless somebody else does.
fn restore(domain: &Domain, unit: u32) {
    let units = domain.unit(unit).unwrap();
    match units.restore() {
        Ok(mut guard) => {
            let number = guard.version() + 1;
            contents::write_anew(&mut guard, number);
            assert_eq!(guard.release(), Ok(number));
        }
        Err(LeaseError::NotLost { .. } | LeaseError::Busy { .. }) => {}
        Err(error) => panic!("unit {unit}: {error}"),
    }
}

/// Tells its slot. Told to go on it changes unit 0, and tells the number of the contents.
pub(crate) fn succeeds(domain: &Domain) {
    tell_and_wait(u64::from(domain.slot().index()));
    let mut guard = domain.unit(0).unwrap().write(PATIENCE).unwrap();
    let number = contents::change(&mut guard);
    let guard = guard.downgrade().unwrap();
    assert_eq!(contents::read(&guard), number);
    guard.release().unwrap();
    println!("{number}");
}
