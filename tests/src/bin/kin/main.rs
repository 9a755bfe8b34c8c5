//! A member of a family that shares a pool heap. It does what its test wants, and tells on its
//! standard output.
//!
//! `kin ROLE [WORD...]`: see each role.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a kin that fails fails its test")]

use allocator::pool::PoolHeap;
use tierpool_tests::family::Member;
use tierpool_tests::hand::Hand;
use tierpool_tests::rooted::Rooted;

mod acts;
mod dies;
mod survives;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let heap = PoolHeap::open(Box::new(Member::inherited())).unwrap();
    match words[..] {
        ["dies", ref act @ ..] => dies::dies(heap, act),
        ["survives", seed] => survives::survives(heap, seed.parse().unwrap()),
        ["serves"] => serves(heap),
        ["works", which, seed] => works(&heap, which.parse().unwrap(), seed.parse().unwrap()),
        _ => panic!("kin ROLE [WORD...]"),
    }
}

/// `works WHICH SEED`: does everything at random, until it is killed.
fn works(heap: &PoolHeap, which: usize, seed: u64) {
    let mut rooted = Rooted::new(heap, which, seed);
    println!("ready");
    loop {
        rooted.step().unwrap();
    }
}

/// `serves`: does what each line says, and answers by one.
fn serves(heap: PoolHeap) {
    let mut hand = Hand::new(heap).unwrap();
    println!("ready");
    while let Some(line) = listen() {
        println!("{}", hand.answer(&line));
    }
}

/// The next line of the standard input; none at its end.
fn listen() -> Option<String> {
    let mut line = String::new();
    let bytes = std::io::stdin().read_line(&mut line).unwrap();
    (bytes != 0).then(|| line.trim_end().to_owned())
}
