//! A process of the demonstration: it is ended on every way out, and its log can be told.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::DemoError;
use super::wait::Patience;

/// Lines of a log that are told.
const LINES_TOLD: usize = 3;

/// One process; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    who: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, so that an interrupt from the terminal
    /// reaches the demonstration alone, which then ends everything in order. It complains into
    /// `log`.
    pub(super) fn start(who: String, mut command: Command, log: &Path) -> Result<Self, DemoError> {
        let failed = |source| DemoError::Process {
            who: format!("cannot start {who}"),
            source,
        };
        let file = File::options().create(true).append(true).open(log);
        command.stderr(file.map_err(failed)?).process_group(0);
        let child = command.spawn().map_err(failed)?;
        Ok(Self {
            child,
            log: log.to_owned(),
            who,
        })
    }

    /// The pipes of it that were asked for.
    pub(super) fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.child.stdin.take()?, self.child.stdout.take()?))
    }

    /// An error where it has ended by itself.
    pub(super) fn lives(&mut self) -> Result<(), DemoError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(self.ended()),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// It has ended, and why.
    pub(super) fn ended(&self) -> DemoError {
        DemoError::Ended {
            who: self.who.clone(),
            log: self.complaints(),
        }
    }

    /// It does not answer, and what it said last.
    pub(super) fn silent(&self) -> DemoError {
        DemoError::Silent {
            who: self.who.clone(),
            log: self.complaints(),
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), DemoError> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).map_err(|errno| self.failed(errno.into()))
    }

    /// Ends it without warning, and waits until it is gone.
    pub(super) fn kill(mut self) -> Result<(), DemoError> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(|_| ()).map_err(|source| self.failed(source))
    }

    /// Tells it to end, and waits until it has.
    pub(super) fn terminate(self, patience: &Patience) -> Result<(), DemoError> {
        self.signal(Signal::SIGTERM)?;
        self.end(patience)
    }

    /// Waits until it has ended, as it was told to, and well.
    pub(super) fn end(mut self, patience: &Patience) -> Result<(), DemoError> {
        let over = patience.until(|| {
            let waited = self.child.try_wait();
            waited.map_err(|source| self.failed(source))
        })?;
        match over {
            Some(status) if status.success() => Ok(()),
            Some(_) => Err(self.ended()),
            None => Err(self.silent()),
        }
    }

    pub(super) fn who(&self) -> &str {
        &self.who
    }

    fn failed(&self, source: io::Error) -> DemoError {
        DemoError::Process {
            who: self.who.clone(),
            source,
        }
    }

    /// The end of its log, each line after a line break.
    fn complaints(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(LINES_TOLD));
        last.map(|line| format!("\n  {}", crate::text::plain(line)))
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only where it has ended and was waited for already.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
