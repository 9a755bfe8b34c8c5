//! Measures Tierpool against its peers, all in one run: `cargo xtask bench SUITE`.
//!
//! A suite is a list of *cases*. In each, the contenders take turns, round by round and in a
//! rotating order, after a first round that does not count; the subject takes part twice, so that
//! each figure comes with the noise it has to be told from. See [`contest`].
//!
//! # Who does what
//! [`contest`] lets contenders take turns; [`report`] prints what came of it, [`plot`] draws it,
//! [`results`] writes it down, [`machine`] says where it was. [`pool`] is the suite of the daemon,
//! which [`daemon`] runs as the real process that it is; [`bare`] is what it is compared with:
//! another process of ours that passes descriptors and does nothing else. [`modelled`] is what this
//! machine has not the memory for. [`coherence`] is the suite of leases, of two processes that map
//! one domain; [`lock_file`] says of which version its peers are. [`alloc`] is the suite of the
//! allocator, whose contenders are libraries that one program is run with. [`fabric`] is the suite
//! of the emulated fabric.

// Two files call the C library: `alloc/private/heap.rs` and `coherence/pthread.rs`. One reaches
// blocks of a heap: `alloc/shared/ours/pool_heap.rs`.
#![deny(unsafe_code)]

mod alloc;
mod bare;
mod coherence;
mod contest;
mod daemon;
mod drive;
mod fabric;
mod lock_file;
mod machine;
mod modelled;
mod plot;
mod pool;
mod report;
mod results;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures Tierpool against its peers, in one run.
#[derive(Debug, Parser)]
#[command(name = "tierpool-benches", version)]
struct Cli {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Debug, Subcommand)]
enum Suite {
    /// The daemon: attaching, granting, opening, freeing, requests per second, memory, restarts.
    Pool(pool::Arguments),
    /// Leases: acquiring, releasing, publishing, handing over; alone and contended.
    Coherence(coherence::Arguments),
    /// The allocator: the classic workloads against the allocators that people use.
    Alloc(alloc::Arguments),
    /// The emulated fabric: events a second, memory, and how both grow with hosts.
    Fabric(fabric::Arguments),
    /// A fabric that is made to be weighed.
    #[command(hide = true)]
    FabricMaking(fabric::making::Arguments),
    /// One workload over the heap that was preloaded.
    #[command(hide = true)]
    AllocWorker(alloc::worker::Arguments),
    /// One workload over our shared heap.
    #[command(hide = true)]
    AllocSharedWorker(alloc::shared_worker::Arguments),
    /// A process that has blocks of a shared heap until it is killed.
    #[command(hide = true)]
    AllocVictim(alloc::Victim),
    /// The other member of a domain.
    #[command(hide = true)]
    Partner(coherence::partner::Arguments),
    /// The peer: passes descriptors and does nothing else.
    #[command(hide = true)]
    Bare {
        /// The socket to serve.
        #[arg(long)]
        socket: PathBuf,
    },
    /// A process that holds memory until it is killed.
    #[command(hide = true)]
    Hold(pool::deaths::Holder),
    /// An engine and a journal with more extents than this machine has memory for.
    #[command(hide = true)]
    Modelled(modelled::Shape),
}

fn main() -> ExitCode {
    let done = match Cli::parse().suite {
        Suite::Pool(arguments) => pool::run(&arguments),
        Suite::Coherence(arguments) => coherence::run(&arguments),
        Suite::Alloc(arguments) => alloc::run(&arguments),
        Suite::Fabric(arguments) => fabric::run(&arguments),
        Suite::FabricMaking(arguments) => fabric::making::run(&arguments),
        Suite::AllocWorker(arguments) => alloc::worker::serve(&arguments),
        Suite::AllocSharedWorker(arguments) => alloc::shared_worker::serve(&arguments),
        Suite::AllocVictim(victim) => victim.serve(),
        Suite::Partner(arguments) => coherence::partner::serve(&arguments),
        Suite::Bare { socket } => bare::serve(&socket),
        Suite::Hold(holder) => holder.hold(),
        Suite::Modelled(shape) => modelled::run(&shape),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tierpool-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}
