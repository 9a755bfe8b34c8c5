//! Who takes part: programs that each do the workloads over one heap.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use client_sdk::Bytes;
use comfy_table::Table;
use pool_core::units::GIB;
use serde::Deserialize;

use super::line::{Asked, Line};
use crate::contest::OURS;
use crate::daemon::{self, Daemon};

/// The pool that our heap is in.
const POOL: Bytes = Bytes::new(2 * GIB);
/// What our heap promises.
const OURS_SURVIVES: &str = "a process killed at any instruction";

/// One heap.
#[derive(Debug, Clone)]
pub(super) struct Heap {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// How many may have it at the same time.
    pub(super) processes: u64,
    /// Who they are.
    sharers: &'static str,
    /// What its content survives.
    survives: &'static str,
    program: PathBuf,
    /// What the program is told before the workload.
    words: Vec<String>,
    environment: BTreeMap<String, String>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Heaps {
    pub(super) ours: Heap,
    pub(super) peers: Vec<Heap>,
    /// Those that were asked for and are not there, and why.
    pub(super) missing: Vec<(&'static str, &'static str)>,
    /// Where our heap is; a stand-in for it needs none.
    daemon: Option<Daemon>,
}

/// A peer as `cargo xtask bench alloc` lists it.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Listed {
    There {
        name: String,
        version: String,
        program: PathBuf,
        processes: u64,
        sharers: String,
        survives: String,
        environment: BTreeMap<String, String>,
    },
    Missing {
        name: String,
        missing: String,
    },
}

impl Heaps {
    /// The subject, or the program that stands in for it, and what stands in `peer_list`.
    pub(crate) fn find(stand_in: Option<&Path>, peer_list: Option<&Path>) -> anyhow::Result<Self> {
        let (ours, daemon) = match stand_in {
            Some(program) => (Heap::standing_in(program)?, None),
            None => {
                let daemon = Daemon::start(&daemon::program(None)?, POOL)?;
                (Heap::ours(&daemon)?, Some(daemon))
            }
        };
        let mut heaps = Self {
            ours,
            peers: Vec::new(),
            missing: Vec::new(),
            daemon,
        };
        if let Some(list) = peer_list {
            let list = fs::read(list).with_context(|| format!("{}", list.display()))?;
            for listed in serde_json::from_slice::<Vec<Listed>>(&list)? {
                heaps.add(listed);
            }
        }
        Ok(heaps)
    }

    /// Names and versions are few, and as long-lived as the program.
    fn add(&mut self, listed: Listed) {
        match listed {
            Listed::There {
                name,
                version,
                program,
                processes,
                sharers,
                survives,
                environment,
            } => self.peers.push(Heap {
                name: name.leak(),
                version: version.leak(),
                processes,
                sharers: sharers.leak(),
                survives: survives.leak(),
                program,
                words: Vec::new(),
                environment,
            }),
            Listed::Missing { name, missing } => self.missing.push((name.leak(), missing.leak())),
        }
    }

    /// Where the daemon of our heap serves, unless something stands in for it.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.daemon.as_ref().map(Daemon::session_socket)
    }

    /// What each is.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header([
            "shared heap",
            "version",
            "shared by",
            "what it holds survives",
        ]);
        for heap in std::iter::once(&self.ours).chain(&self.peers) {
            table.add_row([heap.name, heap.version, heap.sharers, heap.survives]);
        }
        format!("\n{table}\n")
    }

    /// Ends what was started for them.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.daemon.map_or(Ok(()), Daemon::stop)
    }
}

impl Heap {
    fn ours(daemon: &Daemon) -> anyhow::Result<Self> {
        let socket = daemon.session_socket();
        let socket = socket.to_str().context("the socket has no name")?;
        Ok(Self {
            name: OURS,
            version: env!("CARGO_PKG_VERSION"),
            processes: u64::MAX,
            sharers: "processes",
            survives: OURS_SURVIVES,
            program: std::env::current_exe()?,
            words: ["alloc-shared-worker", "--socket", socket]
                .map(str::to_owned)
                .into(),
            environment: BTreeMap::new(),
        })
    }

    /// It goes by its own name, so that it is not taken for the subject.
    fn standing_in(program: &Path) -> anyhow::Result<Self> {
        let Some(file) = program.file_name().filter(|_| program.is_file()) else {
            bail!("no program to measure at {}", program.display());
        };
        Ok(Self {
            name: format!("{} for ours", file.to_string_lossy()).leak(),
            version: "unknown",
            processes: u64::MAX,
            sharers: "unknown",
            survives: "unknown",
            program: program.to_path_buf(),
            words: Vec::new(),
            environment: BTreeMap::new(),
        })
    }

    /// Does a workload once, in processes of its own.
    pub(super) fn work(&self, asked: &Asked) -> anyhow::Result<Line> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.words)
            .args(asked.words())
            // What tunes one of the heaps in this environment is not told to it.
            .env_clear()
            .envs(&self.environment);
        let output = command.output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "a worker failed, {}: {}",
            output.status,
            errors.lines().last().unwrap_or("it says nothing")
        );
        Line::read(&String::from_utf8_lossy(&output.stdout), asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heaps(list: &str) -> anyhow::Result<Heaps> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("peers.json");
        fs::write(&path, list)?;
        let program = std::env::current_exe()?;
        Heaps::find(Some(&program), Some(&path))
    }

    #[test]
    fn a_peer_is_there_or_is_told_to_be_missing() {
        let found = heaps(
            r#"[{"name": "a", "version": "1", "program": "/bin/a", "processes": 1,
                 "sharers": "nobody", "survives": "nothing", "environment": {"A": "1"}},
                {"name": "b", "missing": "no compiler"}]"#,
        )
        .unwrap();
        assert_eq!(found.peers[0].name, "a");
        assert_eq!(found.missing, [("b", "no compiler")]);
        assert_ne!(found.ours.name, OURS, "a stand-in is told from ours");
        assert!(found.table().contains("| a"), "{}", found.table());
        assert!(heaps(r#"[{"name": "a"}]"#).is_err());
        assert!(heaps(r#"[{"name": "a", "version": "1"}]"#).is_err());
    }
}
