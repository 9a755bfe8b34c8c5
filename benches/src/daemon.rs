//! The real daemon as a process of its own, over a temporary folder.
//!
//! It runs as it would by default but for the size of its pool, with one tier of DRAM; a stop lets
//! go of everything, so nothing of a run stays behind.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};
use client_sdk::{AttachOptions, Bytes, Pool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool_core::Nanos;
use pool_core::clock::{Backoff, Deadline, eventually};
use pool_core::units::MIB;
use pool_daemon::store::keeper::Keeper;
use tempfile::TempDir;

use crate::machine::amount;

/// The tier that all segments of the suite are in.
pub(crate) const TIER: &str = "ddr";
/// How long anything may take that is not measured.
const PATIENCE: Nanos = Nanos::from_millis(120_000);

/// The daemon to start: what is `given`, or what lies beside this program.
pub(crate) fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(program) = given {
        return Ok(program.to_owned());
    }
    let here = std::env::current_exe()?;
    let folder = here.parent().context("this program lies in no folder")?;
    Ok(folder.join("pool-daemon"))
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    program: PathBuf,
    home: TempDir,
    /// `None` while it is down.
    child: Option<Child>,
}

/// What a process has in memory, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    pub(crate) all: u64,
    pub(crate) anonymous: u64,
    pub(crate) shared: u64,
}

impl Resident {
    /// Of a process of ours.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        Ok(Self {
            all: amount(&status, "VmRSS")?,
            anonymous: amount(&status, "RssAnon")?,
            shared: amount(&status, "RssShmem")?,
        })
    }
}

impl Daemon {
    /// Starts `program` over a pool of `bytes`, and waits until it serves.
    pub(crate) fn start(program: &Path, bytes: Bytes) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("tierpool-bench-")
            .tempdir()?;
        let config = format!(
            "[daemon]\nlog = \"warn\"\non_stop = \"release\"\n\
             [[tier]]\nname = \"{TIER}\"\n\
             [[device]]\nname = \"{TIER}0\"\ntier = \"{TIER}\"\nkind = \"memfd\"\n\
             size = \"{} MiB\"\npages = \"auto\"\nemulated = false\n",
            bytes.get() / MIB
        );
        fs::write(home.path().join("pool.toml"), config)?;
        let mut daemon = Self {
            program: program.to_owned(),
            home,
            child: None,
        };
        daemon.launch()?;
        daemon.attach("probe")?;
        Ok(daemon)
    }

    /// Starts the process, and does not wait for it.
    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.path().join("log"))?;
        let child = Command::new(&self.program)
            .arg("run")
            .arg("--config")
            .arg(self.home.path().join("pool.toml"))
            .arg("--runtime-dir")
            .arg(self.home.path().join("run"))
            .arg("--state-dir")
            .arg(self.home.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// A new session; waits for a daemon that is still starting.
    pub(crate) fn attach(&self, name: &str) -> anyhow::Result<Pool> {
        let options = AttachOptions::new()
            .socket(self.session_socket())
            .name(name)
            .timeout(std::time::Duration::from_nanos(PATIENCE.get()))
            .wait_for_daemon(true);
        options_attach(&options).with_context(|| format!("the daemon's log:\n{}", self.log()))
    }

    pub(crate) fn session_socket(&self) -> PathBuf {
        self.home.path().join("run/session.sock")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.home.path().join("run/admin.sock")
    }

    pub(crate) fn journal_bytes(&self) -> anyhow::Result<u64> {
        Ok(fs::metadata(self.home.path().join("state/journal.redb"))?.len())
    }

    /// The sum of the series of the daemon's own metrics whose names begin so.
    pub(crate) fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let mut socket = UnixStream::connect(self.home.path().join("run/metrics.sock"))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let mut lines = answer
            .lines()
            .filter(|line| line.starts_with(series))
            .peekable();
        anyhow::ensure!(lines.peek().is_some(), "the daemon has no metric {series}");
        let values = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        Ok(values.sum::<Result<f64, _>>()?)
    }

    pub(crate) fn resident(&self) -> anyhow::Result<Resident> {
        let child = self.child.as_ref().context("the daemon is down")?;
        Resident::of(child.id())
    }

    /// Ends it as `kill -9` does. What was granted stays, and so does the process that keeps the
    /// descriptors, until it is launched again and stopped.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops it in good order.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        match self.terminate()? {
            Some(status) if !status.success() => {
                bail!("the daemon ended with {status}; its log:\n{}", self.log())
            }
            _ => Ok(()),
        }
    }

    fn terminate(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.take() else {
            return Ok(None);
        };
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
        let status = child.wait()?;
        // It would wait for a while whether another daemon comes.
        Keeper::connect_or_spawn(&self.home.path().join("run"), &self.program)?.end()?;
        Ok(Some(status))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    /// The way out where something failed: what failed is told, not this.
    fn drop(&mut self) {
        if let Err(error) = self.terminate() {
            eprintln!("the daemon could not be stopped: {error:#}");
        }
    }
}

fn options_attach(options: &AttachOptions) -> anyhow::Result<Pool> {
    Ok(Pool::attach(options)?)
}

/// How much of the tier can be granted.
pub(crate) fn free(pool: &Pool) -> anyhow::Result<Bytes> {
    let tiers = pool.tiers()?;
    let tier = tiers.iter().find(|tier| tier.name == TIER);
    Ok(tier.context("the tier is gone")?.free)
}

/// Asks without a pause until `bytes` of the tier can be granted.
pub(crate) fn await_free(pool: &Pool, bytes: Bytes) -> anyhow::Result<()> {
    let deadline = Deadline::after(PATIENCE);
    while free(pool)? < bytes {
        if deadline.expired() {
            bail!("{bytes} were not free again within two minutes");
        }
    }
    Ok(())
}

/// Waits until `check` says yes; for what is not measured.
pub(crate) fn until(what: &str, mut check: impl FnMut() -> bool) -> anyhow::Result<()> {
    eventually(Deadline::after(PATIENCE), || check().then_some(())).with_context(|| what.to_owned())
}

/// Lets the machine come to rest for `span`.
pub(crate) fn rest(span: Nanos) {
    let (deadline, mut pause) = (Deadline::after(span), Backoff::new(span, span));
    while pause.pause(deadline) {}
}
