//! A member of a family that shares a pool heap. It does what its test wants, and tells on its
//! standard output.
//!
//! `kin ROLE [WORD...]`: see each role.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a kin that fails fails its test")]

use allocator::pool::PoolHeap;
use tierpool_tests::family::Member;

mod acts;
mod dies;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let heap = PoolHeap::open(Box::new(Member::inherited())).unwrap();
    match words[..] {
        ["dies", ref act @ ..] => dies::dies(heap, act),
        _ => panic!("kin ROLE [WORD...]"),
    }
}

/// The next line of the standard input; none at its end.
fn listen() -> Option<String> {
    let mut line = String::new();
    let bytes = std::io::stdin().read_line(&mut line).unwrap();
    (bytes != 0).then(|| line.trim_end().to_owned())
}
