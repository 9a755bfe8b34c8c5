//! A process of the demonstration: its lines arrive on a channel, its complaints in a file.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context as _, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// What a process wrote, or that it will write no more.
#[derive(Debug)]
pub(super) struct Line {
    /// Its name, which another one may have had before.
    pub(super) from: &'static str,
    /// Its id.
    pub(super) process: u32,
    /// `None` at the end of its output.
    pub(super) text: Option<String>,
}

/// One process, killed when dropped.
#[derive(Debug)]
pub(super) struct Child {
    name: &'static str,
    process: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command` in a process group of its own, so that an interrupt from the terminal
    /// reaches the demonstration alone, which then cleans up in order.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        folder: &Path,
        lines: Sender<Line>,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let complaints = File::options().create(true).append(true).open(&log)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints);
        let mut process = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        let output = process
            .stdout
            .take()
            .context("the child has no standard output")?;
        let id = process.id();
        let read = move || {
            let texts = BufReader::new(output)
                .lines()
                .map_while(Result::ok)
                .map(Some);
            for text in texts.chain([None]) {
                // Where nobody listens any more the run has failed, and says why itself.
                if lines
                    .send(Line {
                        from: name,
                        process: id,
                        text,
                    })
                    .is_err()
                {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(read)?;
        Ok(Self { name, process, log })
    }

    /// Ends it without warning, and waits until it is gone.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.process
            .kill()
            .with_context(|| format!("cannot kill the {}", self.name))?;
        self.process.wait()?;
        Ok(())
    }

    /// Tells it, by the end of its input, that it may end, and waits until it has done so well.
    pub(super) fn dismiss(mut self) -> anyhow::Result<()> {
        drop(self.process.stdin.take());
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the {} ended with {status}{}", self.name, self.complaints());
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn terminate(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.process.id())?;
        signal::kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the {} ended with {status}{}", self.name, self.complaints());
        }
        Ok(())
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Whether this is the process with that id.
    pub(super) fn is(&self, process: u32) -> bool {
        self.process.id() == process
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The end of what it complained of, each line after a line break.
    pub(super) fn complaints(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(10).collect();
        lines
            .into_iter()
            .rev()
            .map(|line| format!("\n  {}: {line}", self.name))
            .collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails only where it has ended and was waited for already.
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}
