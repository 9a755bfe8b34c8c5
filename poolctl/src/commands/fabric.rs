//! `poolctl fabric`: emulated fabrics. One file each: `draw`, `serve`, `status`, `fault` (and
//! `advance`), `send` ask no daemon; `curves` is what the timing model says, and `calibrate` what
//! this machine says; `demo` has daemons of its own.

mod calibrate;
mod curves;
mod demo;
mod draw;
mod fault;
mod send;
mod serve;
mod status;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

pub(crate) use demo::DemoError;
use fabric_emu::timing::Table;
use fabric_emu::topology::limits::FILE_BYTES_MAX;
use fabric_emu::topology::{READY_NAMES, Topology};

use super::Written;
use crate::Verdict;
use crate::cli::Fabric;
use crate::error::CtlError;
use crate::output::Output;

pub(super) fn run(
    what: &Fabric,
    timeout: Option<Duration>,
    output: &mut Output,
) -> Result<Verdict, CtlError> {
    match what {
        Fabric::Draw { topology, svg } => draw::run(&find(topology)?, svg.as_deref(), output)?,
        Fabric::Serve { topology, how } => serve::run(&find(topology)?, how, output)?,
        Fabric::Status { directory } => status::run(directory, output)?,
        Fabric::Fault { directory, fault } => fault::run(directory, fault, output)?,
        Fabric::Advance { directory, time } => fault::advance(directory, *time, output)?,
        Fabric::Curves(which) => curves::run(which, output)?,
        Fabric::Calibrate(how) => calibrate::run(how, output)?,
        Fabric::Send(message) => return send::run(message, output),
        Fabric::Demo(how) => demo::run(how, timeout, output)?,
        Fabric::DemoClient { socket } => demo::client(socket, output)?,
    }
    Ok(Verdict::Yes)
}

/// The ready topology of this name, or that of this file.
fn find(given: &Path) -> Result<Topology, CtlError> {
    let ready = READY_NAMES.iter().find(|name| given == Path::new(name));
    let read = match ready {
        Some(name) => Topology::named(name),
        None => {
            let text = text_of(given).map_err(|source| CtlError::NoTopology {
                given: given.display().to_string(),
                known: READY_NAMES.join(", "),
                source,
            })?;
            Topology::parse(&given.display().to_string(), &text)
        }
    };
    read.map_err(|error| CtlError::Topology(Box::new(error)))
}

/// The timing table that comes with the emulator, under what a file says.
fn timing_table(file: Option<&Path>) -> Result<Table, CtlError> {
    let wrong = |why| CtlError::Timing {
        path: file.map(Path::to_owned),
        why: Box::new(why),
    };
    let table = Table::embedded().map_err(wrong)?;
    let Some(path) = file else {
        return Ok(table);
    };
    let text = text_of(path).map_err(|source| CtlError::File {
        path: path.to_owned(),
        source,
    })?;
    table.overlay(&text).map_err(wrong)
}

fn text_of(path: &Path) -> io::Result<String> {
    text_of_most(path, FILE_BYTES_MAX)
}

/// One byte more than is allowed at most, so that a file without an end is refused and not read.
fn text_of_most(path: &Path, most: usize) -> io::Result<String> {
    let mut text = String::new();
    let most = most as u64 + 1;
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}
