//! A member of a domain that does what its test wants, and tells on its standard output.
//!
//! `lessee SOCKET LABEL NAME UID ROLE [NUMBER]`, as user `UID` where that is not 0. What it needs
//! besides it reads from its standard input; it ends with it, where its role has no end.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a lessee that fails fails its test")]

use std::io::Read as _;

use client_sdk::{
    Access, AccessError, AttachOptions, Domain, ErrorClass, LeaseError, Pool, Ticket,
};
use tierpool_tests::contents::{self, PATIENCE};
use tierpool_tests::users::become_user;

mod dies;
mod works;

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = arguments.get(5).map_or(0, |number| number.parse().unwrap());
    arguments.truncate(5);
    let [socket, label, name, uid, role] = &arguments[..] else {
        panic!("lessee SOCKET LABEL NAME UID ROLE [NUMBER]");
    };
    match uid.parse().unwrap() {
        0 => {}
        uid => become_user(uid),
    }
    let pool = Pool::attach(&AttachOptions::new().socket(socket).tenant(label)).unwrap();
    let access = match role.as_str() {
        "read-only" => Access::ReadOnly,
        _ => Access::ReadWrite,
    };
    if let "publishes" | "finds" = role.as_str() {
        return dies::with_objects(&pool.open_objects(name, access).unwrap(), role);
    }
    let domain = pool.open_domain(name, access).unwrap();
    match role.as_str() {
        "works" => works::works(&domain, number),
        "succeeds" => works::succeeds(&domain),
        "even" => contents::exchange(&domain, 0),
        "odd" => contents::exchange(&domain, 1),
        "first" => contents::hand_to_and_fro(&domain, 0),
        "second" => contents::hand_to_and_fro(&domain, 1),
        "writes" => writes(&domain),
        "writes-late" => writes_late(&domain),
        "reads-late" => {
            let guard = domain.unit(0).unwrap().read(PATIENCE).unwrap();
            tell_and_wait(guard.version());
            must_be_cut_off(guard.release());
        }
        "reads" => {
            let guard = domain.unit(0).unwrap().read(PATIENCE).unwrap();
            tell_and_wait(guard.version());
            guard.release().unwrap();
        }
        "receives" => receives(&domain),
        "read-only" => reads_only(&domain),
        role => dies::with_unit(&domain, role, number),
    }
}

/// Writes half of a change, and never the other half.
fn writes(domain: &Domain) {
    let mut guard = domain.unit(0).unwrap().write(PATIENCE).unwrap();
    contents::write_half(&mut guard);
    tell_and_wait(guard.version());
}

/// Goes on with its change when it is told to, and finds that it may not.
fn writes_late(domain: &Domain) {
    let mut guard = domain.unit(0).unwrap().write(PATIENCE).unwrap();
    contents::write_half(&mut guard);
    tell_and_wait(guard.version());
    must_be_cut_off(guard.check());
    must_be_cut_off(guard.release().map(drop));
}

fn must_be_cut_off(done: Result<(), LeaseError>) {
    let cut_off = [ErrorClass::Revoked];
    assert!(
        matches!(&done, Err(error) if cut_off.contains(&error.class())),
        "{done:?}"
    );
}

/// Can be handed units. It takes what it was handed once it is told to.
fn receives(domain: &Domain) {
    tell_and_wait(domain.ticket().map(Ticket::number).unwrap());
    let guard = domain.unit(0).unwrap().receive(PATIENCE).unwrap();
    println!("{}", contents::check(&guard));
    guard.release().unwrap();
}

/// Reads what is published, a hundred times, and may do nothing else.
fn reads_only(domain: &Domain) {
    let mut last = 0;
    for _ in 0..100 {
        let guard = domain.unit(0).unwrap().read(PATIENCE).unwrap();
        let number = contents::read(&guard);
        assert!(number >= last && number == guard.version(), "{number}");
        last = number;
        guard.release().unwrap();
    }
    let refused = domain.unit(0).unwrap().write(PATIENCE).map(drop);
    assert_eq!(refused, Err(LeaseError::Access(AccessError::ReadOnly)));
    println!("{last}");
}

/// Tells a number, and goes on when it is told to. Where its test has ended it ends, too.
fn tell_and_wait(number: u64) {
    println!("{number}");
    let mut line = [0];
    if std::io::stdin().read(&mut line).unwrap() == 0 {
        std::process::exit(0);
    }
}
