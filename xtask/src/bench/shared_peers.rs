//! The shared heaps that the suite `alloc` measures against: a program for each, made of the
//! sources in `benches/shared_peers`, which does the workloads over that heap.
//!
//! Boost.Interprocess and libpmemobj are those of Debian's packages, unpacked and not installed.
//! mimalloc is no shared heap; it shows what is lost by being one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::peers::{Made, Sources, compile_from, library_in, mimalloc};
use crate::debian;

/// Where the sources lie, from the root of the workspace.
const SOURCES: &str = "benches/shared_peers";
const BOOST: &str = "libboost1.74-dev";
const PMEMOBJ: &str = "libpmemobj1";
/// With what it needs to be built and to run.
const PMEMOBJ_ALL: [&str; 9] = [
    PMEMOBJ,
    "libpmemobj-dev",
    "libpmem1",
    "libpmem-dev",
    "libndctl6",
    "libdaxctl1",
    "libkmod2",
    "libudev1",
    "libuuid1",
];

/// One that has to be made.
struct Peer {
    name: &'static str,
    /// How many may have it at the same time, and who they are.
    processes: u64,
    sharers: &'static str,
    /// What its content survives.
    survives: &'static str,
    environment: &'static [(&'static str, &'static str)],
    made: fn(&Sources<'_>, &Path) -> anyhow::Result<Made>,
}

const PEERS: [Peer; 3] = [
    Peer {
        name: "boost",
        processes: u64::MAX,
        sharers: "processes",
        survives: "nothing: a process killed in a call leaves its mutex locked",
        environment: &[],
        made: boost,
    },
    Peer {
        name: "libpmemobj",
        processes: 1,
        sharers: "nobody: one process has it at a time",
        survives: "a killed process and a loss of power, on media that keep what was written back",
        environment: &[("PMEM_IS_PMEM_FORCE", "1")],
        made: pmemobj,
    },
    Peer {
        name: "mimalloc3-private",
        processes: u64::MAX,
        sharers: "threads of one process: the ceiling",
        survives: "nothing",
        environment: &[],
        made: mimalloc3,
    },
];

/// Whether one is called so.
pub(super) fn has(name: &str) -> bool {
    PEERS.iter().any(|peer| peer.name == name)
}

/// Makes those that are in `wanted`, or all where it is empty, in `target`, and returns the list of
/// them. One that cannot be made is in the list as missing, with the reason.
pub(super) fn make(root: &Path, target: &Path, wanted: &[String]) -> anyhow::Result<PathBuf> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|peer| peer == name);
    let folder = target.join("peers/shared");
    fs::create_dir_all(&folder)?;
    let wanted = PEERS.iter().filter(|peer| is_wanted(peer.name));
    let list: Vec<_> = wanted.map(|peer| peer.listed(root, &folder)).collect();
    let path = folder.join("list.json");
    fs::write(&path, serde_json::to_string_pretty(&list)?)?;
    Ok(path)
}

impl Peer {
    fn listed(&self, root: &Path, folder: &Path) -> Value {
        let environment: serde_json::Map<_, _> = self
            .environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        match (self.made)(&Sources { root }, folder) {
            Ok(Made { version, library }) => json!({
                "name": self.name,
                "version": version,
                "program": library,
                "processes": self.processes,
                "sharers": self.sharers,
                "survives": self.survives,
                "environment": environment,
            }),
            Err(error) => json!({ "name": self.name, "missing": format!("{error:#}") }),
        }
    }
}

fn boost(sources: &Sources<'_>, folder: &Path) -> anyhow::Result<Made> {
    let unpacked = folder.join("boost");
    let root = debian::unpack(&unpacked, &[BOOST])?;
    let program = folder.join("boost-worker");
    let mut command = compiler();
    command
        .arg("-isystem")
        .arg(root.join("usr/include"))
        .arg(source(sources, "boost.cpp"));
    compile_from(command.arg("-lrt"), &program, &texts(sources)?)?;
    Ok(Made {
        version: debian::version(&unpacked, BOOST)?,
        library: program,
    })
}

fn pmemobj(sources: &Sources<'_>, folder: &Path) -> anyhow::Result<Made> {
    let unpacked = folder.join("pmemobj");
    let root = debian::unpack(&unpacked, &PMEMOBJ_ALL)?;
    let library = library_in(&root, "libpmemobj.so.1")?;
    let libraries = library.parent().context("a library lies in a folder")?;
    let program = folder.join("pmem-worker");
    let mut command = compiler();
    command
        .arg("-isystem")
        .arg(root.join("usr/include"))
        .arg(source(sources, "pmem.cpp"))
        .arg("-L")
        .arg(libraries)
        .arg("-Wl,-rpath-link")
        .arg(format!("-Wl,{}", libraries.display()))
        // The old tag: libraries that a library needs are found by it too.
        .arg("-Wl,--disable-new-dtags,-rpath")
        .arg(format!("-Wl,{}", libraries.display()))
        .args(["-lpmemobj", "-lpmem"]);
    compile_from(&mut command, &program, &texts(sources)?)?;
    Ok(Made {
        version: debian::version(&unpacked, PMEMOBJ)?,
        library: program,
    })
}

fn mimalloc3(sources: &Sources<'_>, folder: &Path) -> anyhow::Result<Made> {
    let Made { version, library } = mimalloc(sources, folder, "v3")?;
    let program = folder.join("mimalloc-worker");
    let mut command = compiler();
    command
        .arg("-isystem")
        .arg(sources.mimalloc("v3")?.join("include"))
        .arg(source(sources, "mimalloc.cpp"))
        .arg(library)
        .arg("-Wl,-rpath")
        .arg(format!("-Wl,{}", folder.display()));
    compile_from(&mut command, &program, &texts(sources)?)?;
    Ok(Made {
        version,
        library: program,
    })
}

fn compiler() -> Command {
    let mut command = Command::new("g++");
    command.args([
        "-std=c++17",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pthread",
    ]);
    command
}

fn source(sources: &Sources<'_>, name: &str) -> PathBuf {
    sources.root.join(SOURCES).join(name)
}

/// All sources, so that each program is made anew when one of them changes.
fn texts(sources: &Sources<'_>) -> anyhow::Result<String> {
    let folder = sources.root.join(SOURCES);
    let entries = fs::read_dir(&folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}", folder.display()))?;
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    let texts = paths.iter().map(fs::read_to_string);
    Ok(texts.collect::<Result<Vec<_>, _>>()?.concat())
}
