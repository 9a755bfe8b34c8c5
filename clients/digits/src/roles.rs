//! The processes of the job: loader, trainer and worker.
//!
//! Each says what it does on its standard output, one fact a line, for whoever runs the job, and
//! ends in good order when its standard input ends. None of them has code for the death of another
//! one or of the daemon: the protocol and the client library take care of that.
//!
//! # What is said
//! ```text
//! at SEGMENT ADDRESS BYTES TIER real|emulated    where this process sees a segment
//! ready                                          others may go on
//! from STEP                                      the worker takes up the job at this step
//! step STEP LOSS                                 the worker has computed so many steps
//! applied STEP                                   the trainer has applied so many
//! digest HEX                                     of the parameters at the end
//! hits HITS HELD-OUT                             digits named rightly, of those never learned
//! ```

use std::io::{self, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;
use client_sdk::{Access, AttachOptions, Force, Pool, Segment};

use crate::data::Digits;
use crate::job::Job;
use crate::model;
use crate::protocol::{self, Block, Shared as _, Turn, Word};
use crate::shared::PoolMemory;
use crate::staged::Staged;

/// Steps between two lines about progress.
const TOLD_EVERY: u32 = 44;

/// Where the daemon is, and as whom to attach.
#[derive(Debug, clap::Args)]
pub(crate) struct Session {
    /// The daemon's session socket. The default is where a daemon usually has it.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// The tenant to attach as.
    #[arg(long, default_value = "")]
    tenant: String,
}

impl Session {
    fn attach(&self, name: &str) -> anyhow::Result<Pool> {
        let options = AttachOptions::new().tenant(&self.tenant).name(name);
        // It may be started while the daemon is.
        let mut options = options.wait_for_daemon(true);
        if let Some(socket) = &self.socket {
            options = options.socket(socket);
        }
        Ok(Pool::attach(&options)?)
    }
}

/// Stages the data set for `reader`, a tenant; frees it when the input ends.
pub(crate) fn load(session: &Session, reader: &str) -> anyhow::Result<()> {
    let pool = session.attach("loader")?;
    let staged = Staged::create(&pool, &Digits::carried()?)?;
    staged.segment().share(reader, Access::ReadOnly)?;
    say_place(staged.segment());
    println!("ready");
    end_of_input()?;
    Ok(staged.into_segment().free(Force::Yes)?)
}

/// Applies gradients until all steps are done; frees the segments when the input ends.
pub(crate) fn train(session: &Session, owner: &str, steps: u32) -> anyhow::Result<()> {
    let pool = session.attach("trainer")?;
    let staged = Staged::open(&pool, owner)?;
    let memory = PoolMemory::create_or_open(&pool)?;
    say_places(&staged, &memory);
    let job = job_over(&staged, steps)?;
    let mut told = false;
    loop {
        let turn = protocol::train(&job, &memory)?;
        if !told {
            println!("ready");
            told = true;
        }
        match turn {
            Turn::Moved | Turn::Computed(_) => memory.wake(Word::Posted)?,
            Turn::Wait(word, seen) => memory.wait(word, seen)?,
            Turn::Finished => break,
        }
        let applied = memory.load(Word::Applied)?;
        if matches!(turn, Turn::Moved) && applied.is_multiple_of(TOLD_EVERY) {
            println!("applied {applied}");
        }
    }
    judge(&job, &staged, &memory)?;
    end_of_input()?;
    Ok(memory.free()?)
}

/// Computes gradients until all steps are done; stays until the input ends.
pub(crate) fn work(session: &Session, owner: &str, steps: u32) -> anyhow::Result<()> {
    let pool = session.attach("worker")?;
    let staged = Staged::open(&pool, owner)?;
    let memory = PoolMemory::open(&pool)?;
    say_places(&staged, &memory);
    let job = job_over(&staged, steps)?;
    let rows = staged.rows()?;
    println!("from {}", memory.load(Word::Done)?);
    loop {
        match protocol::work(&job, &memory, &rows)? {
            Turn::Computed(loss) => {
                memory.wake(Word::Done)?;
                let done = memory.load(Word::Done)?;
                if done.is_multiple_of(TOLD_EVERY) {
                    println!("step {done} {loss}");
                }
            }
            Turn::Wait(word, seen) => memory.wait(word, seen)?,
            Turn::Moved => {}
            Turn::Finished => break,
        }
    }
    end_of_input()
}

/// The job over what is staged.
fn job_over(staged: &Staged, steps: u32) -> anyhow::Result<Job> {
    Job::new(staged.count(), steps).context("the data set is too small for the job")
}

/// Says what was learned.
fn judge(job: &Job, staged: &Staged, memory: &PoolMemory) -> anyhow::Result<()> {
    let state = memory.block(Block::State(job.steps))?;
    let held_out = job.order.held_out();
    let hits = model::hits(job.shape, &state, &staged.rows()?, held_out)?;
    println!(
        "digest {:016x}",
        model::digest(job.shape.parameters(), &state)?
    );
    println!("hits {hits} {}", held_out.len());
    Ok(())
}

fn say_places(staged: &Staged, memory: &PoolMemory) {
    say_place(staged.segment());
    memory.segments().into_iter().for_each(say_place);
}

fn say_place(segment: &Segment) {
    let kind = if segment.is_emulated() {
        "emulated"
    } else {
        "real"
    };
    let (addr, bytes) = (segment.addr().get(), segment.bytes().get());
    println!(
        "at {} {addr:#x} {bytes} {} {kind}",
        segment.name(),
        segment.tier()
    );
}

/// Returns when whoever runs the job closes this process's input.
fn end_of_input() -> anyhow::Result<()> {
    io::stdin()
        .read_to_end(&mut Vec::new())
        .context("cannot read the standard input")?;
    Ok(())
}
