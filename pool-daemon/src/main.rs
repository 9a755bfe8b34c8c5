//! `pool-daemon`, the program.

fn main() {}
