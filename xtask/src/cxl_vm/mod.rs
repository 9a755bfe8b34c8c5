//! `cargo xtask cxl-vm`: the kernel's CXL driver, in virtual machines.
//!
//! Fetches an emulator and a kernel from Debian's archive into the target directory, builds the
//! guest's programs without libraries, and starts a machine for each scenario. The guest's first
//! process runs the scenario and says on its console what came of it. Nothing is installed, nobody
//! needs to be root, and no processor has to help: see `machine`.
//!
//! What this cannot show is written in `docs/cxl.md`.
//!
//! [`pins`]: which packages. [`packages`]: how they are had. [`image`]: what a guest starts from.
//! [`machine`]: how it is started. [`scenarios`]: what is run. [`play`]: how. [`console`]: what a
//! guest says. [`monitor`]: what it may ask of the hardware around it.

mod console;
mod image;
mod machine;
mod monitor;
mod packages;
mod pins;
mod play;
mod scenarios;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use pool_core::clock;
use serde_json::Value;

use crate::command::{cargo, output, run as run_command, target_directory};
use console::Verdict;
use machine::Image;
use packages::{Missing, Roots};
use scenarios::Scenario;

/// What the guests are built for: with a target of its own, what is built for this machine (as
/// macros) is built as ever.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Which programs a guest has. The first one is its first process.
const PROGRAMS: [&str; 3] = ["cxl-guest", "pool-daemon", "poolctl"];
/// Which tests it has as programs: of which package, and their name.
const TESTS: [(&str, &str); 1] = [("pool-daemon", "device_conformance")];

/// Which scenarios.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run these alone, by name, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Name the scenarios, and run nothing.
    #[arg(long)]
    list: bool,
    /// Fetch and build, and run nothing.
    #[arg(long)]
    build: bool,
}

/// Runs them; fails unless each passed. Where the packages are not to be had it says so, and
/// counts as skipped.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.list {
        for scenario in scenarios::ALL {
            println!("{:12} {}", scenario.name, scenario.law);
        }
        return Ok(());
    }
    let chosen = chosen(&arguments.only)?;
    let folder = target_directory(root)?.join("cxl-vm");
    let pins = pins::Pins::read(root)?;
    let roots = match packages::fetch(&folder, &pins) {
        Ok(roots) => roots,
        Err(Missing::Failed(why)) => return Err(why),
        Err(Missing::Unavailable(why)) => {
            writeln!(io::stdout(), "skipped: cxl-vm: {why:#}")?;
            return Ok(());
        }
    };
    let image = build(root, &folder, &roots)?;
    if arguments.build {
        return Ok(());
    }
    let mut failed = Vec::new();
    for scenario in &chosen {
        let began = clock::now();
        let verdict = play::play(&folder, &roots, &image, scenario)?;
        let seconds = clock::now().saturating_since(began).get() / 1_000_000_000;
        match verdict {
            Verdict::Passed => println!("passed {} in {seconds} s", scenario.name),
            Verdict::Failed(why) => {
                println!("FAILED {} in {seconds} s: {why}", scenario.name);
                failed.push(scenario.name);
            }
        }
    }
    println!(
        "{} passed, {} failed, of {} scenarios on QEMU's devices and the kernel's driver",
        chosen.len() - failed.len(),
        failed.len(),
        chosen.len()
    );
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    if only.is_empty() {
        return Ok(scenarios::ALL.iter().collect());
    }
    let find = |name: &String| {
        let found = scenarios::ALL.iter().find(|it| it.name == name);
        found.with_context(|| format!("there is no scenario {name}: see --list"))
    };
    only.iter().map(find).collect()
}

/// Builds the guest's programs and the archive that it starts from.
fn build(root: &Path, folder: &Path, roots: &Roots) -> anyhow::Result<Image> {
    let at = folder.join("build");
    let mut command = static_cargo(root, &at, "build");
    for package in ["cxl-vm", "pool-daemon", "poolctl"] {
        command.args(["--package", package]);
    }
    run_command(command.arg("--bins"))?;
    let built = at.join(TARGET).join("guest");
    let mut programs: Vec<PathBuf> = PROGRAMS.iter().map(|name| built.join(name)).collect();
    for (package, test) in TESTS {
        let mut command = static_cargo(root, &at, "test");
        command.args(["--no-run", "--message-format", "json-render-diagnostics"]);
        command.args(["--package", package, "--test", test]);
        let told = output(&mut command)?;
        let program = program_in(&told, test);
        let program = program.with_context(|| format!("cargo built no test {test}"))?;
        // Without the hash that cargo gives it.
        let plain = built.join(test);
        fs::copy(program, &plain)?;
        programs.push(plain);
    }
    let modules = fs::read_to_string(root.join("tests/cxl-vm/modules.txt"))?;
    let archive = folder.join("archive");
    let kernel = image::write(&archive, roots, &modules, &programs)?;
    Ok(Image { kernel, archive })
}

/// Cargo, which builds for a guest.
fn static_cargo(root: &Path, at: &Path, what: &str) -> Command {
    let mut command = cargo(root);
    command.args([what, "--profile", "guest", "--target", TARGET]);
    command.arg("--target-dir").arg(at);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    command
}

/// The program of a test, in what cargo tells.
fn program_in(told: &str, test: &str) -> Option<PathBuf> {
    let lines = told
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut programs = lines.filter_map(|line: Value| {
        let is_it = line["target"]["name"] == test && line["executable"].is_string();
        is_it.then(|| line["executable"].as_str().map(PathBuf::from))?
    });
    programs.next()
}
