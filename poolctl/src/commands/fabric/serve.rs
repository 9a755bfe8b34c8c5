//! `poolctl fabric serve`: a fabric as a process of its own, until it is told to end.

use fabric_emu::schedule::{self, Schedule};
use fabric_emu::serve::{Config, Mode, Server, Stop};
use fabric_emu::topology::Topology;
use serde::Serialize;

use super::{text_of_most, timing_table};
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
    /// The faults that are planned, as a file that has them again.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
}

impl Serving {
    /// With a schedule all of it is a file that has its faults again.
    fn text(&self) -> String {
        let comment = self.schedule.as_ref().map_or("", |_| "# ");
        let schedule = self.schedule.as_deref().unwrap_or_default();
        format!(
            "{comment}{}, emulated, mode {}, seed {}: {} sockets in {}\n{schedule}",
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
    let schedule = planned(topology, how)?;
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
        schedule: schedule.as_ref().map(Schedule::to_toml),
    };
    if let Some(schedule) = &schedule {
        server.plan(schedule);
    }
    output.show(&serving, Serving::text)?;
    Ok(server.run(&stop)?)
}

/// The faults of a file, or those that are drawn. They are of parts that the topology has.
fn planned(topology: &Topology, how: &HowServed) -> Result<Option<Schedule>, CtlError> {
    let wrong = |why| CtlError::Schedule(Box::new(why));
    let schedule = match (&how.schedule, &how.faults) {
        (Some(path), _) => {
            let text = text_of_most(path, schedule::FILE_BYTES_MAX);
            let text = text.map_err(|source| CtlError::File {
                path: path.clone(),
                source,
            })?;
            Schedule::parse(&path.display().to_string(), &text)
        }
        (None, Some(drawn)) => Schedule::draw(topology, how.seed, &drawn.0),
        (None, None) => return Ok(None),
    };
    let schedule = schedule.map_err(wrong)?;
    schedule.check(topology).map_err(wrong)?;
    Ok(Some(schedule))
}
