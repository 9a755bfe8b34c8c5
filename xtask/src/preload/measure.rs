//! Runs one command and writes down how it ended, how long it took and how much memory it had.
//!
//! It is a process of its own between `cargo xtask preload` and the script, because the kernel adds
//! up the children of a process: so the largest of the script's processes is known, and nothing
//! else's. It is not preloaded itself.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use pool_core::Nanos;
use pool_core::clock::{self, Deadline, eventually};
use serde_json::{Value, json};

/// How long a script may take before it is taken for hung.
const PATIENCE: Nanos = Nanos::from_millis(1_200_000);

/// What to run, and where to say how it went.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file that tells it.
    report: PathBuf,
    /// The library that is preloaded into the command.
    #[arg(long)]
    preload: Option<PathBuf>,
    /// The command.
    #[arg(last = true)]
    command: Vec<String>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// Nothing, or what went wrong.
    pub(super) failure: Option<String>,
    /// How long it took.
    pub(super) wall: Nanos,
    /// The memory of the largest of its processes at its largest.
    pub(super) peak_kib: u64,
}

/// Runs the command to its end and writes the report.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [program, words @ ..] = arguments.command.as_slice() else {
        bail!("no command is given");
    };
    let mut command = Command::new(program);
    command.args(words).process_group(0);
    if let Some(library) = &arguments.preload {
        command.env("LD_PRELOAD", library);
    }
    let start = clock::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    // Who ends this process ends the command too, which is in a process group of its own. The
    // command itself, which is started already, does not inherit that these signals are blocked.
    let told_to_end = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    told_to_end.thread_block()?;
    let ends = SignalFd::with_flags(&told_to_end, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let group = Pid::from_raw(child.id().cast_signed());
    let ended = eventually(Deadline::after(PATIENCE), || match ends.read_signal() {
        Ok(None) => child.try_wait().map(|ended| ended.map(Some)).transpose(),
        Ok(Some(_)) => Some(Ok(None)),
        Err(error) => Some(Err(error.into())),
    });
    let wall = clock::now().saturating_since(start);
    let failure = match ended {
        Ok(Ok(Some(status))) => (!status.success()).then(|| status.to_string()),
        Ok(Ok(None)) => Some("it was told to end".to_owned()),
        Ok(Err(error)) => Some(format!("cannot wait for it: {error}")),
        Err(late) => Some(format!("it hung: {late}")),
    };
    // Whatever it left behind. That there is nothing is the usual thing.
    let _ = killpg(group, Signal::SIGKILL);
    child.wait()?;
    let peak_kib = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    let report = json!({ "failure": failure, "wall_ns": wall.get(), "peak_kib": peak_kib });
    fs::write(&arguments.report, report.to_string())?;
    Ok(())
}

/// Reads a report.
pub(super) fn read(report: &Path) -> anyhow::Result<Measured> {
    let text =
        fs::read_to_string(report).with_context(|| format!("no report in {}", report.display()))?;
    let report: Value = serde_json::from_str(&text)?;
    Ok(Measured {
        failure: report["failure"].as_str().map(str::to_owned),
        wall: Nanos::new(
            report["wall_ns"]
                .as_u64()
                .context("a report without time")?,
        ),
        peak_kib: report["peak_kib"]
            .as_u64()
            .context("a report without memory")?,
    })
}
