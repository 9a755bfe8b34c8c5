//! The private heap beside another allocator, which has all other blocks of this process.
//!
//! `cargo xtask sanitize` has that one be AddressSanitizer's, which then sees every access of the
//! heap to what is not its own.

mod laws;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_block_is_one_s_own_and_keeps_what_it_holds(
        steps in prop::collection::vec(laws::steps(), 1..250),
    ) {
        laws::run(steps);
    }
}

#[test]
fn threads_that_free_each_other_s_blocks_lose_none() {
    laws::hand_round();
}

#[test]
fn each_block_is_of_one_thing_whatever_the_order_of_frees() {
    laws::free_out_of_order();
}

#[test]
fn more_than_there_can_be_is_refused_and_the_block_stays() {
    laws::refuse_the_impossible();
}
