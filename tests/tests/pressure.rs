//! Memory runs short, and devices come, go and change their size, all under clients that live: who
//! is guaranteed memory gets it, who bursts is asked first, and nobody's bytes change.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

#[path = "pressure/burst.rs"]
mod burst;
#[path = "pressure/devices.rs"]
mod devices;

use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;

fn start(setup: &Setup) -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_daemon"), setup)
}
