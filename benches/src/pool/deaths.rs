//! From the death of a client to the moment when what it held can be granted again.
//!
//! The client has written every page it holds, so the kernel has its mappings to take down before
//! anybody can prove that they are gone. The peer is a process of the same shape whose parent
//! waits for no more than its end: the time that the kernel needs.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use client_sdk::{AttachOptions, Bytes, Create, Pool};
use pool_core::BackingId;
use pool_core::clock::Deadline;
use pool_core::mem::{Access, FileMap};
use pool_core::units::{GIB, MIB, PAGE_BYTES};
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::{Device as _, Place};

use crate::contest::{Case, Contender, hold, timed};
use crate::daemon::{Daemon, TIER, await_free, free};
use crate::report::Report;

/// What the holder says when it holds everything.
const READY: u8 = b'!';
/// How long a grant may take.
const GRANT: Duration = Duration::from_secs(120);
/// Rounds of what takes a second each.
const ROUNDS_LARGE_MAX: usize = 3;

/// All cases of this part.
pub(super) fn measure(daemon: &Daemon, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let pool = daemon.attach("deaths")?;
    let sizes = [
        ("64 MiB", 64 * MIB, rounds),
        ("1 GiB", GIB, rounds.min(ROUNDS_LARGE_MAX)),
    ];
    for (name, bytes, rounds) in sizes {
        let bytes = Bytes::new(bytes);
        let ours = || until_free(daemon, &pool, bytes);
        let peer = Contender::new("bare process end", move || until_ended(bytes));
        let case = Case::time(
            format!("death of a client holding {name} to memory free"),
            "ms",
        );
        report.add(hold(&case, rounds, ours, vec![peer])?)?;
    }
    Ok(())
}

fn until_free(daemon: &Daemon, pool: &Pool, bytes: Bytes) -> anyhow::Result<f64> {
    let all = free(pool)?;
    let mut holder = Holder {
        socket: Some(daemon.session_socket()),
        bytes: bytes.get(),
    }
    .start()?;
    let (time, freed) = timed(|| {
        holder.kill()?;
        await_free(pool, all)
    });
    freed?;
    holder.wait()?;
    Ok(time / 1e6)
}

fn until_ended(bytes: Bytes) -> anyhow::Result<f64> {
    let mut holder = Holder {
        socket: None,
        bytes: bytes.get(),
    }
    .start()?;
    let (time, ended) = timed(|| {
        holder.kill()?;
        holder.wait()
    });
    ended?;
    Ok(time / 1e6)
}

/// A process that holds memory until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Holder {
    /// The daemon to hold memory of; without one, memory of its own.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// How much.
    #[arg(long)]
    bytes: u64,
}

impl Holder {
    fn start(&self) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("hold")
            .arg("--bytes")
            .arg(self.bytes.to_string());
        if let Some(socket) = &self.socket {
            command.arg("--socket").arg(socket);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = [0];
        child
            .stdout
            .as_mut()
            .context("its output is piped")?
            .read_exact(&mut said)?;
        anyhow::ensure!(said == [READY], "the holder says {said:?}");
        Ok(child)
    }

    /// What the process does.
    pub(crate) fn hold(&self) -> anyhow::Result<()> {
        let bytes = Bytes::new(self.bytes);
        match &self.socket {
            Some(socket) => {
                let options = AttachOptions::new().socket(socket).name("holder");
                // The host may have to find the memory first.
                let pool = Pool::attach(&options.timeout(GRANT))?;
                let segment = pool.create(&Create::new(TIER, bytes))?;
                for page in 0..self.bytes / PAGE_BYTES {
                    segment
                        .view_mut::<u8>(Bytes::new(page * PAGE_BYTES), 1)?
                        .set(0, 1)?;
                }
                wait_for_the_end()
            }
            None => {
                let device = MemfdDevice::new(PagePolicy::Auto, None, Bytes::ZERO)?;
                let file = device
                    .build(BackingId::FIRST, Place::anywhere(bytes), false)?
                    .file;
                let map = FileMap::new(file.as_fd(), Bytes::ZERO, bytes, Access::ReadWrite)?;
                for page in 0..self.bytes / PAGE_BYTES {
                    let at = Bytes::new(page * PAGE_BYTES);
                    map.mapped().write_view::<u8>(at, 1)?.set(0, 1)?;
                }
                wait_for_the_end()
            }
        }
    }
}

/// Ends with the process that started this one, should it not kill it.
fn wait_for_the_end() -> anyhow::Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(&[READY])?;
    std::io::stdout().flush()?;
    pool_core::packet::wait_readable(std::io::stdin().as_fd(), Deadline::NEVER)?;
    Ok(())
}
