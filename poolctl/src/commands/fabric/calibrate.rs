//! `poolctl fabric calibrate`: what of the timing parameters this machine can measure, as a file
//! that [`Table::overlay`](fabric_emu::timing::Table::overlay) takes.
//!
//! [`chase`] measures how long one access takes, [`stream`] how many bytes a second there are, and
//! [`storage`], where it is asked for, the same of a file. [`overlay`] makes parameters of them,
//! each of which says in its source what was measured, where, when and how far the runs were apart.
//! [`machine`] says where and when; no name of the machine is told.
//!
//! # Rules
//! 1. What cannot be measured is not written, and is told with the reason.
//! 2. What is written is a table: it is parsed over the default one before it is.
//! 3. It ends: each measurement has a number of runs and a time, and stops at whichever is first.
//!
//! It is done by ordinary loads and stores of memory of this process. Of a virtual machine it says
//! what the machine has at the moment, with its neighbours.

mod chase;
mod machine;
mod overlay;
mod spread;
mod storage;
mod stream;

use std::fs;
use std::path::PathBuf;

use fabric_emu::timing::Table;
use pool_core::Nanos;
use pool_core::clock::Deadline;
use serde::Serialize;

use crate::cli::HowCalibrated;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use machine::Machine;
use overlay::{NotMeasured, Overlay, Parameter};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Runs of each measurement, at most.
    runs: usize,
    /// How long one measurement goes on, at most. There are five, and as many of storage.
    patience: Nanos,
    /// Memory that is gone through, at most.
    bytes_max: u64,
}

const WHOLE: Effort = Effort {
    runs: 1_001,
    patience: Nanos::from_millis(1_500),
    bytes_max: 1 << 30,
};
const QUICK: Effort = Effort {
    runs: 101,
    patience: Nanos::from_millis(150),
    bytes_max: 128 << 20,
};

impl Effort {
    fn deadline(self) -> Deadline {
        Deadline::after(self.patience)
    }
}

/// What is told.
#[derive(Debug, Serialize)]
struct Told {
    emulated: bool,
    machine: Machine,
    parameters: Vec<Parameter>,
    not_measured: Vec<NotMeasured>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<PathBuf>,
}

pub(super) fn run(how: &HowCalibrated, output: &mut Output) -> Result<(), CtlError> {
    let effort = if how.quick { QUICK } else { WHOLE };
    let machine = Machine::here();
    let mut overlay = Overlay::new(&machine);
    memory(effort, &machine, &mut overlay);
    match &how.storage {
        Some(folder) => storage::measure(effort, folder, &mut overlay)?,
        None => overlay.leave_out("nvme", "not asked for: say --storage DIR"),
    }
    overlay.leave_out(
        "hbm, remote-ddr, cxl-*, c2c, pcie5-x16-dma, link-*, switch",
        "takes hardware that this command does not look for",
    );
    let table = Table::embedded().map_err(measured)?;
    let overlay = overlay.fitted(&table).map_err(measured)?;
    let text = overlay.to_toml();
    if let Some(path) = &how.out {
        fs::write(path, &text).map_err(|source| CtlError::File {
            path: path.clone(),
            source,
        })?;
    }
    let told = Told {
        emulated: false,
        written: how.out.clone(),
        parameters: overlay.parameters,
        not_measured: overlay.not_measured,
        machine,
    };
    output.show(&told, |told| match told.written {
        Some(_) => told.text(),
        None => text,
    })
}

fn measured(why: fabric_emu::timing::TableError) -> CtlError {
    CtlError::Measured { why: Box::new(why) }
}

/// A hit in the caches, an access of memory, and bytes a second.
fn memory(effort: Effort, machine: &Machine, overlay: &mut Overlay) {
    let hit = chase::of_cache(effort);
    overlay.time(
        ("model", "cache_hit"),
        hit,
        "a dependent chain of loads through 256 KiB",
    );
    let wanted = machine.cache_bytes.saturating_mul(4).max(64 << 20);
    let bytes = wanted.min(effort.bytes_max).min(machine.free_bytes / 4);
    let what = format!(
        "{} MiB, of caches of {} KiB",
        bytes >> 20,
        machine.cache_bytes >> 10
    );
    if bytes < machine.cache_bytes.saturating_mul(2) {
        let why = format!("{what}: too little to be sure that it is memory");
        return overlay.leave_out("ddr", &why);
    }
    let latency = chase::of_memory(effort, bytes);
    let chain = format!("a dependent chain of loads through {what}");
    overlay.time(("ddr", "latency"), latency.clone(), &chain);
    let streams = stream::measure(effort, machine.cpus, bytes);
    let Some(streams) = streams else {
        return overlay.leave_out("ddr, bandwidths", "no thread could be started");
    };
    let of = |threads: usize, how: &str| {
        let plural = if threads == 1 { "" } else { "s" };
        format!(
            "{how} {what} by {threads} thread{plural}, the most of 1 to {}",
            machine.cpus
        )
    };
    let (threads, read) = streams.read;
    overlay.rate(("ddr", "bandwidth_read"), read, &of(threads, "reading"));
    let (threads, write) = streams.write;
    overlay.rate(("ddr", "bandwidth_write"), write, &of(threads, "filling"));
    overlay.accesses_of_a_core(&streams.read_of_one, &latency);
}

impl Told {
    fn text(&self) -> String {
        let mut grid = Grid::new(["PARAMETER", ">VALUE", "UNIT", "EVIDENCE", "SOURCE"]);
        for one in &self.parameters {
            grid.row([
                format!("{}.{}", one.class, one.key),
                one.value.to_string(),
                one.unit.to_owned(),
                one.evidence.to_string(),
                one.source.clone(),
            ]);
        }
        let mut text = grid.render();
        for left_out in &self.not_measured {
            text.push_str(&format!("{left_out}\n"));
        }
        if let Some(path) = &self.written {
            text.push_str(&format!("written: {}\n", path.display()));
        }
        text
    }
}
