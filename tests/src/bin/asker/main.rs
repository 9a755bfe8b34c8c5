//! Clients that ask once: see `tierpool_tests::asker`.
//!
//! `asker SOCKET keeps|trusts`: what `trusts` lets go of is kept by the daemon alone.

#![forbid(unsafe_code)]

mod client;
mod known;
mod script;

use std::io::{BufRead as _, Write as _};

use script::Script;
use tierpool_tests::asker::Order;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, manner] = &arguments[..] else {
        panic!("asker SOCKET keeps|trusts");
    };
    let mut script = Script::new(socket.into(), manner == "keeps");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("the input is text");
        let tally = match serde_json::from_str(&line).expect("an order") {
            Order::Prepare => script.prepare(),
            Order::Ask => script.ask(),
            Order::Press(times) => script.press(times),
            Order::Settle => script.settle(),
            Order::Leave => script.leave(),
        };
        let mut tally = serde_json::to_vec(&tally).expect("a tally is JSON");
        tally.push(b'\n');
        let mut out = std::io::stdout().lock();
        let told = out.write_all(&tally).and_then(|()| out.flush());
        told.expect("the output takes it");
    }
}
