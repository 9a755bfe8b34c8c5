//! `poolctl fabric demo`: how capacity moves between four hosts, in front of one's eyes.
//!
//! In a folder of its own it serves an emulated fabric, starts a daemon for each of four hosts and
//! a client of each daemon, and goes through seven steps. Each says what it does and what is
//! promised, looks whether it is so, and ends with what everybody has. The first promise that does
//! not hold ends it.
//!
//! # Who does what
//! ```text
//! this process   the story (steps), the fabric and its manager (served), what is asked of daemons
//! pool-daemon    one a host: some memory of its own, and a device of the fabric (daemon)
//! demo-client    one a host: attaches to its daemon, and does what it is told (client, led, order)
//! ```
//! A process attaches to one pool at a time, since all have their window at the same addresses: so
//! each client is a process.
//!
//! # What is left
//! Nothing. Each process is killed when what stands for it is dropped, on every way out; an
//! interrupt is a flag that all waits look at (`wait`), and each of them ends. The folder goes as
//! well, unless it was to be kept or something went wrong. Only where this process is killed
//! itself do the daemons stay; the clients end with their input.

mod cast;
mod client;
mod daemon;
mod error;
mod led;
mod order;
mod place;
mod process;
mod served;
mod stage;
mod steps;
mod told;
mod wait;

use std::time::Duration;

use pool_core::clock;

use self::cast::Cast;
pub(crate) use self::error::DemoError;
pub(super) use self::led::run as client;
use self::place::Place;
use self::stage::Stage;
use self::wait::Patience;
use crate::cli::Demo;
use crate::error::CtlError;
use crate::output::Output;

const MIB: u64 = 1 << 20;
/// How many there are, as `fabric.toml` says.
const HOSTS: u8 = 4;
/// The dynamic capacity of the device, as `fabric.toml` says.
const DEVICE_BYTES: u64 = 1024 * MIB;
/// What a daemon asks for at once, as its configuration says.
const FIRST_STEP_BYTES: u64 = 16 * MIB;
/// What may lie idle with a host, as well.
const HIGH_BYTES: u64 = 32 * MIB;
/// What each client holds of its host's own memory.
const LOCAL_BYTES: u64 = 8 * MIB;
/// The tier of that memory.
const LOCAL_TIER: &str = "ddr";
/// The tier of the pooled device.
const FAR_TIER: &str = "pooled";
/// How long each wait may take where nothing is said.
const WAIT: Duration = Duration::from_secs(20);

/// Shows all of it.
pub(super) fn run(
    how: &Demo,
    timeout: Option<Duration>,
    output: &mut Output,
) -> Result<(), CtlError> {
    let program = daemon::find(how.daemon.as_deref())?;
    // Before there is anything that would have to be ended.
    let patience = Patience::new(timeout.unwrap_or(WAIT))?;
    let place = Place::make(how.keep.as_deref())?;
    if !output.is_json() {
        output.text(&told::wrapped(&format!(
            "All of this is emulated, in ordinary memory of this machine: four hosts, a switch, \
             and a pooled device of 1 GiB that they share. The daemons are real: {}, one for each \
             host. It runs in {}.",
            program.display(),
            place.folder().display()
        )))?;
    }
    let begun = clock::now();
    let shown = Cast::new(program, place.folder(), patience).and_then(|cast| {
        let mut stage = Stage::new(cast, output, Duration::from_millis(how.pace));
        for step in steps::STEPS {
            step(&mut stage)?;
        }
        let took = clock::now().saturating_since(begun).get() / 1_000_000_000;
        stage.close(&format!(
            "\nAll {} steps were as promised, in {took} s. All memory of the fabric is emulated.\n",
            steps::STEPS.len()
        ))
    });
    // By now everything that was started has been ended.
    place.leave(shown)
}
