//! A process that is handed no more than a socket and a name: it opens the segment of that name,
//! says at which address it has it, follows the chain in it, and writes one of its own.
//!
//! `peer SOCKET LABEL NAME` prints the address and the numbers on the chain's way.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a peer that fails fails its test")]

use client_sdk::{Access, AttachOptions, Pool};
use tierpool_tests::chain;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, label, name] = &arguments[..] else {
        panic!("peer SOCKET LABEL NAME");
    };
    let pool = Pool::attach(&AttachOptions::new().socket(socket).tenant(label)).unwrap();
    let segment = pool.open(name, Access::ReadWrite).unwrap();
    let numbers = chain::follow(&segment).unwrap();
    chain::write(&segment, true).unwrap();
    println!("{}", segment.addr().get());
    println!("{}", serde_json::to_string(&numbers).unwrap());
}
