//! From the death of a process to the moment when what it had of a heap is free again.
//!
//! A process takes blocks and is killed before it publishes them. Another one, which had the heap
//! all along, asks again and again for dead processes to be recovered. How long until one is
//! found dead is the time to *notice*, most of it the kernel's and the daemon's; how long the call
//! takes that recovers it is the time to *repair*. That goes once over all owner words of a heap
//! that is full, whose slabs nobody owns, and through the few slabs that the dead one had: so it is
//! the price of the size of a heap, and not of what a process holds of it.
//!
//! No peer that is measured here does this: Boost.Interprocess leaves its mutex locked, and
//! libpmemobj repairs a pool when it is opened. So the figures stand for themselves. It is as much
//! work in each run, however little is asked for.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use client_sdk::{AttachOptions, HeapOptions, Pool, PoolHeap};
use pool_core::Nanos;
use pool_core::clock::{self, Deadline};
use pool_core::units::{GIB, KIB};

use crate::contest::{Better, Case, Result, nanos};
use crate::daemon::TIER;

/// What the case is called.
pub(super) const NAME: &str = "death";
/// What the victim says once it has its blocks.
const READY: u8 = b'!';
/// How many blocks it has, and how large they are.
const PENDING: usize = 10_000;
const PENDING_BYTES: usize = 64;
/// What the heap has of others: so many bytes, in blocks of a slab each with seven more.
const FILL_BYTES: u64 = GIB;
const FILL_BLOCK: u64 = 8 * KIB;
/// How long a death may go unnoticed.
const PATIENCE: Nanos = Nanos::from_millis(10_000);

/// A process that takes blocks of a heap and waits to be killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Victim {
    /// The daemon's.
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    heap: String,
}

/// Measures so many deaths.
pub(super) fn measure(socket: &Path, rounds: usize) -> anyhow::Result<Vec<Result>> {
    let pool = attach(socket)?;
    let name = format!("bench-death-{}", std::process::id());
    let heap = pool.create_heap(&HeapOptions::new(&name).tier(TIER))?;
    fill(&heap)?;
    let victim = Victim {
        socket: socket.to_owned(),
        heap: name.clone(),
    };
    let mut deaths = Vec::new();
    // The first one warms up, as elsewhere.
    for _ in 0..=rounds {
        deaths.push(victim.die(&heap)?);
    }
    drop(heap);
    pool.remove_heap(&name)?;
    let figure = |name: &str, of: fn(&Death) -> Nanos| {
        let case = Case::figure(format!("shared {NAME}: {name}"), "ms", Better::Lower);
        let runs = deaths.iter().skip(1).map(|death| nanos(of(death)) / 1e6);
        Result::alone(case, runs.collect())
    };
    Ok(vec![
        figure("until it is noticed", |death| death.noticed),
        figure("repair of a heap of 1 GiB", |death| death.repaired),
    ])
}

/// What one death cost.
#[derive(Debug, Clone, Copy)]
struct Death {
    noticed: Nanos,
    repaired: Nanos,
}

fn attach(socket: &Path) -> anyhow::Result<Pool> {
    let options = AttachOptions::new().socket(socket).name("alloc-death");
    Ok(Pool::attach(&options)?)
}

fn fill(heap: &PoolHeap) -> anyhow::Result<()> {
    let mut thread = heap.thread()?;
    for _ in 0..FILL_BYTES / FILL_BLOCK {
        let block = thread.allocate(usize::try_from(FILL_BLOCK)?)?;
        thread.publish(block)?;
    }
    Ok(())
}

impl Victim {
    fn start(&self) -> anyhow::Result<Child> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("alloc-victim")
            .arg("--socket")
            .arg(&self.socket)
            .args(["--heap", &self.heap])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = [0];
        let output = child.stdout.as_mut().context("its output is piped")?;
        output.read_exact(&mut said)?;
        ensure!(said == [READY], "the victim says {said:?}");
        Ok(child)
    }

    /// Has one die, and sees what that costs.
    fn die(&self, heap: &PoolHeap) -> anyhow::Result<Death> {
        let mut victim = self.start()?;
        let before = heap.audit()?.recovered_blocks;
        let killed = clock::now();
        victim.kill()?;
        let death = loop {
            let asked = clock::now();
            if heap.recover()? > 0 {
                break Death {
                    noticed: asked.saturating_since(killed),
                    repaired: clock::now().saturating_since(asked),
                };
            }
            if asked.saturating_since(killed) > PATIENCE {
                bail!("nobody noticed a death");
            }
        };
        victim.wait()?;
        let after = heap.audit()?;
        let freed = after.recovered_blocks.saturating_sub(before);
        ensure!(
            freed >= PENDING as u64,
            "{freed} blocks of the dead were freed"
        );
        ensure!(after.findings.is_empty(), "{:?}", after.findings);
        Ok(death)
    }

    /// What the process does.
    pub(crate) fn serve(&self) -> anyhow::Result<()> {
        let pool = attach(&self.socket)?;
        let mut thread = pool.open_heap(&self.heap)?.thread()?;
        for _ in 0..PENDING {
            thread.allocate(PENDING_BYTES)?;
        }
        std::io::stdout().write_all(&[READY])?;
        std::io::stdout().flush()?;
        // It ends with the process that started it, should that not kill it.
        pool_core::packet::wait_readable(std::io::stdin().as_fd(), Deadline::NEVER)?;
        Ok(())
    }
}
