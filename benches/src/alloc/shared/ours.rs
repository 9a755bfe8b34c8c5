//! The worker of our heap: a process that does one workload over it, with a second one where that
//! is asked for, and tells what it cost. Both attach to the daemon that the suite runs.
//!
//! # Protocol
//! The first makes the [`board`] and starts the second with the way to it. The first makes the
//! heap; they meet; the second opens it; they meet; both work. The second writes its account as one
//! line of JSON and ends; the first adds that to its own. One that fails says so on the board, so
//! that the other ends too.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use client_sdk::{AttachOptions, Pool};
use nix::unistd::alarm;

use super::line::{Asked, Line};

mod board;
mod heap;
mod pages;
mod pool_heap;
mod workloads;

use board::Board;
use heap::SharedHeap;
use pages::Page;
use pool_heap::OurHeap;
use workloads::{Account, work};

/// Seconds after which a worker is taken to hang.
const PATIENCE: u32 = 120;

/// What it is to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The daemon's.
    #[arg(long)]
    socket: PathBuf,
    #[command(flatten)]
    asked: Asked,
    /// The board that the first member made; without one this is the first.
    #[arg(long)]
    board: Option<PathBuf>,
}

/// Does it.
pub(crate) fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    alarm::set(PATIENCE);
    let Some(path) = &arguments.board else {
        let line = first(arguments)?;
        return tell(&line);
    };
    let board = Board::open(path, arguments.asked.processes)?;
    tell(&told(&board, || member(arguments, &board, 1))?)
}

fn tell(line: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(line)?)?;
    Ok(output.flush()?)
}

/// What `work` yields; where it fails, the other is told.
fn told<T>(board: &Board, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let done = work();
    if done.is_err() {
        board.fail()?;
    }
    done
}

fn first(arguments: &Arguments) -> anyhow::Result<Line> {
    let processes = arguments.asked.processes;
    ensure!(matches!(processes, 1 | 2), "one process or two");
    let board = Board::create(processes)?;
    let second = (processes == 2).then(|| start(arguments, &board));
    let second = second.transpose()?;
    let mut accounts = vec![told(&board, || member(arguments, &board, 0))];
    if let Some(second) = second {
        let output = second.wait_with_output()?;
        let text = String::from_utf8(output.stdout)?;
        let account = serde_json::from_str(&text);
        accounts.push(account.with_context(|| format!("the second process says {text:?}")));
    }
    attach(arguments)?.remove_heap(&heap_of(std::process::id()))?;
    let accounts: Vec<_> = accounts.into_iter().collect::<anyhow::Result<_>>()?;
    Ok(line(&arguments.asked, &accounts))
}

/// The heap of the first process, by its id.
fn heap_of(first: u32) -> String {
    format!("bench-{first}")
}

fn attach(arguments: &Arguments) -> anyhow::Result<Pool> {
    let options = AttachOptions::new()
        .socket(&arguments.socket)
        .name("alloc-shared-worker");
    Ok(Pool::attach(&options)?)
}

fn start(arguments: &Arguments, board: &Board) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("alloc-shared-worker")
        .arg("--socket")
        .arg(&arguments.socket)
        .args(arguments.asked.words())
        .args(["--board", &board.path()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// What all members did together.
fn line(asked: &Asked, accounts: &[Account]) -> Line {
    let start = accounts.iter().map(|account| account.start).min();
    let end = accounts.iter().map(|account| account.end).max();
    let sum = |of: fn(&Account) -> u64| accounts.iter().map(of).sum();
    let pages: BTreeSet<Page> = accounts
        .iter()
        .flat_map(|account| account.pages.iter().copied())
        .collect();
    let times = accounts.iter().map(|account| account.times.clone());
    let times = times.reduce(super::super::times::Times::merged);
    let sequences = accounts.iter().map(|account| account.sequence);
    Line {
        workload: asked.workload.clone(),
        bytes: asked.bytes,
        processes: asked.processes,
        operations: sum(|account| account.operations),
        wall_ns: end.unwrap_or(0).saturating_sub(start.unwrap_or(0)),
        cpu_ns: sum(|account| account.cpu),
        held_bytes: pages::bytes(pages.len() as u64),
        live_bytes: sum(|account| account.live),
        tail_ns: times
            .and_then(|times| times.all_but_a_thousandth())
            .unwrap_or(0),
        sequence: sequences.fold(0, |one, other| one ^ other),
    }
}

fn member(arguments: &Arguments, board: &Board, number: usize) -> anyhow::Result<Account> {
    let pool = attach(arguments)?;
    let before = pages::files()?;
    let first = if number == 0 {
        std::process::id()
    } else {
        parent_id()
    };
    let name = heap_of(first);
    let heap = || match number {
        0 => OurHeap::create(&pool, &name),
        _ => OurHeap::open(&pool, &name),
    };
    let look = || Ok(pages::used(&before)?.into_iter().collect());
    work_over(&arguments.asked, board, number, heap, &look)
}

/// Makes the heap or opens it when it is made, and works.
fn work_over<H: SharedHeap>(
    asked: &Asked,
    board: &Board,
    number: usize,
    heap: impl FnOnce() -> anyhow::Result<H>,
    look: &dyn Fn() -> anyhow::Result<Vec<Page>>,
) -> anyhow::Result<Account> {
    if number > 0 {
        board.meet()?;
    }
    let mut heap = heap()?;
    if number == 0 {
        board.meet()?;
    }
    board.meet()?;
    let account = work(asked, board, &mut heap, number, look)?;
    // Nobody leaves while the other works with what it has.
    board.meet()?;
    Ok(account)
}
