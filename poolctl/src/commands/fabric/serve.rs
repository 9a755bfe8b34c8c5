//! `poolctl fabric serve`: a fabric as a process of its own, until it is told to end.

use fabric_emu::serve::{Config, Mode, Server, Stop};
use fabric_emu::topology::Topology;
use serde::Serialize;

use super::timing_table;
use crate::cli::{HowServed, TimeMode};
use crate::error::CtlError;
use crate::output::Output;

/// What is served, told once its sockets are there.
#[derive(Debug, Serialize)]
struct Serving {
    topology: String,
    emulated: bool,
    mode: Mode,
    seed: u64,
    directory: std::path::PathBuf,
    sockets: Vec<String>,
}

impl Serving {
    fn text(&self) -> String {
        format!(
            "{}, emulated, mode {}, seed {}: {} sockets in {}\n",
            self.topology,
            self.mode,
            self.seed,
            self.sockets.len(),
            self.directory.display()
        )
    }
}

pub(super) fn run(
    topology: &Topology,
    how: &HowServed,
    output: &mut Output,
) -> Result<(), CtlError> {
    let mode = match how.mode {
        TimeMode::Paced => Mode::Paced,
        TimeMode::Virtual => Mode::Virtual,
    };
    // Before anybody is told that it serves, so that no signal is early.
    let stop = Stop::on_signals().map_err(|error| CtlError::Machine {
        source: std::io::Error::other(error),
    })?;
    let mut server = Server::open_timed(
        topology,
        &how.directory,
        Config::new(mode, how.seed),
        &timing_table(how.timing.as_deref())?,
    )?;
    let serving = Serving {
        topology: topology.name.clone(),
        emulated: true,
        mode,
        seed: how.seed,
        directory: server.directory().to_owned(),
        sockets: server.sockets().map(|door| door.to_string()).collect(),
    };
    output.show(&serving, Serving::text)?;
    Ok(server.run(&stop)?)
}
