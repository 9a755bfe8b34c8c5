//! The other process: it maps the same domain as another member of it, and does its half of a case.
//!
//! # Protocol
//! One task a line on its standard input, as JSON; one line on its standard output when that is
//! done: how much it did. It ends with its input. What both do at the same time they begin
//! together ([`meet`]).

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};
use coherence::{FutexWait, Member, Slot};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pool_core::Nanos;
use pool_core::clock::Deadline;
use pool_core::sync::atomic::Ordering::{Acquire, Release};
use pool_core::sync::hint;
use serde::{Deserialize, Serialize};

use super::contended::{self, Rival};
use super::domain::{Domain, Shape, Tool};
use super::handover::{self, Pass};
use super::publish;
use super::rings::{self, Stream};

/// How long one task may take: far more than it needs.
const PATIENCE: Nanos = Nanos::from_millis(60_000);

/// The end of the patience with a task that begins now.
pub(super) fn patience() -> Deadline {
    Deadline::after(PATIENCE)
}

/// What the partner is to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Task {
    /// Take and let go, against the other.
    Strive(Rival),
    /// Be handed an object and hand it back.
    Pass(Pass),
    /// Take the records that come.
    Drain(Stream),
    /// Publish every unit whenever it is its turn.
    Publish(Rival),
}

/// How the other process is started.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    file: PathBuf,
    #[command(flatten)]
    shape: Shape,
}

/// One side of a case: a member of a domain.
#[derive(Debug)]
pub(super) struct Side<'d> {
    pub(super) domain: &'d Domain,
    pub(super) member: Member<FutexWait>,
    /// 0 for this process, 1 for the partner.
    pub(super) number: u32,
}

impl<'d> Side<'d> {
    pub(super) fn new(domain: &'d Domain, number: u8) -> anyhow::Result<Self> {
        // Slot 0 is the daemon's.
        let slot = Slot::new(number + 1).context("no such slot")?;
        Ok(Self {
            domain,
            member: Member::new(slot, FutexWait),
            number: u32::from(number),
        })
    }
}

/// The process, as this one sees it.
#[derive(Debug)]
pub(super) struct Partner {
    child: RefCell<Child>,
    input: RefCell<Option<ChildStdin>>,
    output: RefCell<BufReader<ChildStdout>>,
}

impl Partner {
    /// Starts it.
    pub(super) fn start(domain: &Domain) -> anyhow::Result<Self> {
        let shape = domain.shape();
        let mut child = Command::new(std::env::current_exe()?)
            .arg("partner")
            .args(["--file", &domain.path()])
            .args(["--unit-bytes", &shape.unit_bytes.to_string()])
            .args(["--units", &shape.units.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output is piped")?;
        let partner = Self {
            child: RefCell::new(child),
            input: RefCell::new(input),
            output: RefCell::new(BufReader::new(output)),
        };
        // It has mapped everything when it answers.
        partner.done()?;
        Ok(partner)
    }

    /// Tells it what to do.
    pub(super) fn tell(&self, task: Task) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&task)?;
        line.push(b'\n');
        self.send(&line)
    }

    /// Waits until that is done.
    pub(super) fn done(&self) -> anyhow::Result<u64> {
        let mut line = String::new();
        self.output.borrow_mut().read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the partner says {line:?}"))
    }

    /// Bytes that are part of a task.
    pub(super) fn send(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut input = self.input.borrow_mut();
        let input = input.as_mut().context("the partner has been dismissed")?;
        input.write_all(bytes)?;
        Ok(input.flush()?)
    }

    /// Bytes of its answer to those.
    pub(super) fn receive(&self, bytes: &mut [u8]) -> anyhow::Result<()> {
        Ok(self.output.borrow_mut().read_exact(bytes)?)
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        drop(self.input.get_mut().take());
        if let Err(error) = self.child.get_mut().wait() {
            eprintln!("the partner could not be waited for: {error}");
        }
    }
}

/// What the process does.
pub(crate) fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let domain = Domain::open(&arguments.file, arguments.shape)?;
    let side = Side::new(&domain, 1)?;
    answer(0)?;
    let mut line = String::new();
    while std::io::stdin().lock().read_line(&mut line)? > 0 {
        let task = serde_json::from_str(&line).with_context(|| format!("told {line:?}"))?;
        line.clear();
        let count = match task {
            Task::Strive(rival) => contended::strive_as(rival, &side, false)?.count,
            Task::Pass(pass) => handover::answer(&side, pass)?,
            Task::Drain(stream) => rings::drain(&side, stream)?,
            Task::Publish(rival) => publish::publish(&side, rival)?,
        };
        answer(count)?;
    }
    Ok(())
}

fn answer(count: u64) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{count}")?;
    Ok(output.flush()?)
}

/// Takes back what the last meeting left. Before the other is told to come.
pub(super) fn announce(domain: &Domain) -> anyhow::Result<()> {
    domain.word(Tool::Arrived)?.store(0, Release);
    domain.word(Tool::Turn)?.store(0, Release);
    domain.word(Tool::Count)?.store(0, Release);
    Ok(())
}

/// Waits until both are here.
pub(super) fn meet(domain: &Domain) -> anyhow::Result<()> {
    let arrived = domain.word(Tool::Arrived)?;
    arrived.fetch_add(1, Release);
    spin(|| arrived.load(Acquire) >= 2)
}

/// Looks again and again until `is_so`.
#[inline]
pub(super) fn spin(mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    /// Looks between two looks at the clock.
    const LOOKS: u32 = 1 << 16;
    if is_so() {
        return Ok(());
    }
    let deadline = patience();
    while !deadline.expired() {
        for _ in 0..LOOKS {
            if is_so() {
                return Ok(());
            }
            hint::spin_loop();
        }
    }
    bail!("the other process does not come")
}

/// Runs this thread on one processor only, until the value is dropped.
#[derive(Debug)]
pub(super) struct Pinned(CpuSet);

impl Pinned {
    /// To the processor with this number among those that this process may run on.
    pub(super) fn to(number: usize) -> anyhow::Result<Self> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        let mut allowed = (0..CpuSet::count()).filter(|&cpu| before.is_set(cpu) == Ok(true));
        let cpu = allowed.nth(number).context("too few processors")?;
        let mut one = CpuSet::new();
        one.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &one)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(Pid::from_raw(0), &self.0) {
            eprintln!("cannot run on all processors again: {error}");
        }
    }
}
