//! `cargo xtask bench SUITE`: builds the measuring program and what it measures with optimisation,
//! and hands over to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use crate::command::{cargo, run as run_command, target_directory};

mod peers;
mod shared_peers;

/// The suite whose contenders are libraries.
const ALLOC: &str = "alloc";

/// What to measure, and how to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The suite: `pool`, `coherence`, `alloc` or `fabric`.
    suite: String,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Write charts into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Leave out the peers that take long to build or need more than Rust and a C linker: iceoryx2,
    /// whose build needs libclang (the output says so), and all allocators but the C library's.
    #[arg(long)]
    no_peers: bool,
    /// In the suite `alloc`: only these peers of glibc, mimalloc2, mimalloc3, snmalloc, jemalloc,
    /// tcmalloc; of shared heaps, boost, libpmemobj, mimalloc3-private. Their build needs a C and a
    /// C++ compiler, and apt-get and dpkg for those that are Debian's.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        conflicts_with = "no_peers"
    )]
    peers: Vec<String>,
    /// In the suite `alloc`: measure this library instead of the one that is built here.
    #[arg(long, value_name = "FILE")]
    ours: Option<PathBuf>,
    /// What the suite itself takes, as `--rounds 3`.
    #[arg(last = true)]
    suite_arguments: Vec<String>,
}

/// Runs the suite; its output is the program's own.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let is_alloc = arguments.suite == ALLOC;
    ensure!(
        is_alloc || (arguments.peers.is_empty() && arguments.ours.is_none()),
        "--peers and --ours are for the suite `{ALLOC}`"
    );
    for name in &arguments.peers {
        let is_known = peers::has(name) || shared_peers::has(name);
        ensure!(is_known, "no peer is called {name:?}");
    }
    let mut build = cargo(root);
    build.args(["build", "--release", "--quiet"]);
    // Together, so that both are built from the same tree with the same features.
    build.args(["--package", "pool-daemon", "--package", "tierpool-benches"]);
    if arguments.suite == "coherence" && !arguments.no_peers {
        build.args(["--features", "tierpool-benches/peers"]);
    }
    run_command(&mut build)?;
    let target = target_directory(root)?;
    let mut command = Command::new(target.join("release/tierpool-benches"));
    command.arg(&arguments.suite);
    if arguments.json {
        command.arg("--json");
    }
    if let Some(folder) = &arguments.plot {
        command.arg("--plot").arg(folder);
    }
    if is_alloc {
        match &arguments.ours {
            Some(library) => drop(command.arg("--ours").arg(library)),
            // Alone, so that the features of what else is built here are not its own.
            None => run_command(cargo(root).args([
                "build",
                "--release",
                "--quiet",
                "--package",
                "tierpool-c",
            ]))?,
        }
        let wanted = arguments.wanted_peers();
        let list = peers::make(root, &target, &wanted)?;
        command.arg("--peer-list").arg(list);
        let list = shared_peers::make(root, &target, &wanted)?;
        command.arg("--shared-peer-list").arg(list);
    }
    command.args(&arguments.suite_arguments);
    run_command(&mut command)
}

impl Arguments {
    /// All where it is empty.
    fn wanted_peers(&self) -> Vec<String> {
        if self.no_peers {
            return vec!["glibc".to_owned()];
        }
        self.peers.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_nobody_knows_is_an_error() {
        let arguments = |peer: &str| Arguments {
            suite: ALLOC.to_owned(),
            json: false,
            plot: None,
            no_peers: false,
            peers: vec![peer.to_owned()],
            ours: None,
            suite_arguments: Vec::new(),
        };
        let refused = run(Path::new("/nonexistent"), &arguments("mimaloc")).unwrap_err();
        assert!(refused.to_string().contains("mimaloc"), "{refused}");
        assert!(peers::has("mimalloc3") && shared_peers::has("boost"));
    }
}
