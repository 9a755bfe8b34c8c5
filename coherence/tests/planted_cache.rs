//! Bugs that are planted in the cache rules, and who catches them. One test: a planted bug is there
//! for the whole process.
#![cfg(all(feature = "fault", not(loom)))]

mod hand_over;

use coherence::cache::{Capabilities, Mode};
use coherence::simulated::Faults;
use hand_over::{ALL, fails};
use pool_core::fault::plant;

/// Catches: lines.end_is_not_rounded_up, mode.admits_clean_write_backs
#[test]
fn planted_bugs_are_caught() {
    let loses = || fails(Faults::often(true), ALL);
    let admits = || Mode::Software.admit(Capabilities::default()).is_ok();
    assert!(!loses() && !admits());
    plant(Some("lines.end_is_not_rounded_up"));
    assert!(loses());
    plant(Some("mode.admits_clean_write_backs"));
    assert!(admits() && fails(Faults::often(false), ALL));
    plant(None);
    assert!(!loses() && !admits());
}
