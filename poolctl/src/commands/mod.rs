//! The commands, one file each.

mod check;
mod clients;
mod devices;
mod doctor;
mod drain;
mod events;
mod fabric;
mod heap;
mod metrics;
mod regions;
mod segments;
mod status;
mod tenants;
mod tiers;
mod top;
mod tree;

use std::time::Duration;

pub(crate) use fabric::DemoError;
use serde::Serialize;

use crate::cli::{Cli, Command, DeviceChange, SegmentChange, Target};
use crate::connect::{Address, Pool};
use crate::error::CtlError;
use crate::output::Output;
use crate::{Verdict, generate};

/// How long to wait for one answer.
const WAIT: Duration = Duration::from_secs(10);

/// Carries the command out.
pub(crate) fn run(cli: Cli) -> Result<Verdict, CtlError> {
    let mut output = Output::new(cli.json);
    match &cli.command {
        Command::Generate { what, folder } => {
            let written = Written {
                written: generate::write(*what, folder)?,
            };
            output.show(&written, Written::text)?;
            return Ok(Verdict::Yes);
        }
        Command::Metrics => {
            metrics::run(&cli.target, cli.timeout.unwrap_or(WAIT), &mut output)?;
            return Ok(Verdict::Yes);
        }
        Command::Fabric { what } => {
            return fabric::run(what, cli.timeout, &mut output);
        }
        Command::Heap(heap) => {
            return heap::run(heap, &cli.target, cli.timeout.unwrap_or(WAIT), &mut output);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CtlError::Machine { source })?;
    runtime.block_on(ask(cli, &mut output))
}

async fn ask(cli: Cli, output: &mut Output) -> Result<Verdict, CtlError> {
    let Cli {
        target,
        timeout,
        command,
        ..
    } = cli;
    let pool = &mut dial(&target, timeout).await?;
    match command {
        Command::Status => status::run(pool, output).await?,
        Command::Top { once, interval } => top::run(pool, output, once, interval).await?,
        Command::Tiers => tiers::run(pool, output).await?,
        Command::Devices {
            tree: true,
            change: None,
        } => tree::run(pool, output).await?,
        Command::Devices { change: None, .. } => devices::list(pool, output).await?,
        Command::Regions { change: None } => regions::list(pool, output).await?,
        Command::Regions {
            change: Some(change),
        } => regions::change(pool, output, change).await?,
        Command::Devices {
            change: Some(change),
            ..
        } => match change {
            DeviceChange::Resize { name, size } => {
                devices::resize(pool, output, name, size).await?;
            }
            DeviceChange::Activate { name } => devices::activate(pool, output, name).await?,
            DeviceChange::Remove { name } => devices::remove(pool, output, name).await?,
        },
        Command::Segments {
            tenant,
            change: None,
        } => segments::list(pool, output, tenant).await?,
        Command::Segments {
            change: Some(SegmentChange::Free { id, force }),
            ..
        } => segments::free(pool, output, id, force).await?,
        Command::Tenants => tenants::run(pool, output).await?,
        Command::Clients => clients::run(pool, output).await?,
        Command::Drain { name, wait } => {
            let wait = wait.then(|| timeout.unwrap_or(drain::WAIT));
            drain::run(pool, output, name, wait).await?;
        }
        Command::Events(until) => events::run(pool, output, &until).await?,
        Command::Doctor => return doctor::run(pool, output).await,
        Command::Check => return check::run(pool, output).await,
        // These have no use for this connection, and `run` has carried them out.
        Command::Metrics | Command::Heap(_) | Command::Fabric { .. } | Command::Generate { .. } => {
        }
    }
    Ok(Verdict::Yes)
}

async fn dial(target: &Target, timeout: Option<Duration>) -> Result<Pool, CtlError> {
    Pool::connect(Address::of(target)?, timeout.unwrap_or(WAIT)).await
}

/// The files that were written.
#[derive(Debug, Serialize)]
struct Written {
    written: Vec<std::path::PathBuf>,
}

impl Written {
    fn text(&self) -> String {
        self.written
            .iter()
            .map(|path| format!("{}\n", path.display()))
            .collect()
    }
}
