//! Developer commands, the same by hand and in continuous integration: `cargo xtask --help`.
//!
//! Each command is a module. They run cargo and read the tree, nothing else: no command installs
//! anything, and none needs more than Rust and a C linker, but for `dist`, which says so.

#![forbid(unsafe_code)]

mod bench;
mod campaigns;
mod command;
mod cxl_vm;
mod debian;
mod demo;
mod dist;
mod endure;
mod gate;
mod loom;
mod preload;
mod sanitize;
mod sim;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

/// Developer commands of Tierpool.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Command {
    /// Train a model over the pool, kill parts of it halfway, and check what came of it.
    Demo(demo::Arguments),
    /// Run every test of the workspace, and say which were skipped and why.
    Test,
    /// Run every model under all schedules, and with each planted bug that it must catch.
    Loom(loom::Arguments),
    /// Run whole pools in one thread from one seed, many seeds at once.
    Sim(sim::Arguments),
    /// Run the campaigns of the reliability plan that need no hours, and print their figures. One
    /// that ends with `part` ran well and lacks what its line names; only `FAIL` fails the command.
    Campaigns(campaigns::Arguments),
    /// Run the tests of the private heap under AddressSanitizer.
    Sanitize,
    /// Run the private heap under loads that shift, and hold its memory to theirs.
    Endure(endure::Arguments),
    /// Check the rules that no compiler knows: sizes, text, unsafe files, directions, promises,
    /// planted bugs.
    Tidy,
    /// Run all checks a change must pass, in the order in which they are likely to fail.
    Gate,
    /// Measure one suite against its peers, in one run.
    Bench(bench::Arguments),
    /// Run real programs over the preloaded allocator, and compare them with themselves.
    Preload(preload::Arguments),
    /// Run one command of those programs, and write down how it went.
    #[command(hide = true)]
    Measure(preload::measure::Arguments),
    /// Run the daemon on the kernel's CXL driver, in virtual machines that need no hardware.
    CxlVm(cxl_vm::Arguments),
    /// Build the Debian package with its man pages and completions.
    Dist,
}

fn main() -> ExitCode {
    match run(&Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes, and no backtrace: a failed check is no fault of this program.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    let root = command::workspace_root()?;
    match command {
        Command::Demo(arguments) => demo::run(&root, arguments),
        Command::Test => test::run(&root),
        Command::Loom(arguments) => loom::run(&root, arguments),
        Command::Sim(arguments) => sim::run(&root, arguments),
        Command::Campaigns(arguments) => campaigns::run(&root, arguments),
        Command::Sanitize => sanitize::run(&root),
        Command::Endure(arguments) => endure::run(&root, arguments),
        Command::Tidy => tidy::run(&root),
        Command::Gate => gate::run(&root),
        Command::Bench(arguments) => bench::run(&root, arguments),
        Command::Preload(arguments) => preload::run(&root, arguments),
        Command::Measure(arguments) => preload::measure::run(arguments),
        Command::CxlVm(arguments) => cxl_vm::run(&root, arguments),
        Command::Dist => dist::run(&root),
    }
}
