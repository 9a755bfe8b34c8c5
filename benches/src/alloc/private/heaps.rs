//! Who takes part: libraries that each have the whole malloc family, and the C library itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::worker::{Arguments, Line};
use super::workloads::{Run, Workload};
use crate::coherence::libc_version;
use crate::contest::{OURS, number};

const OUR_LIBRARY: &str = "libtierpool.so";
const GLIBC: &str = "glibc";

/// One heap.
#[derive(Debug, Clone)]
pub(super) struct Heap {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// What is preloaded; nothing for the C library's own.
    library: Option<PathBuf>,
}

/// One that was asked for and is not there.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Heaps {
    pub(super) ours: Heap,
    pub(super) peers: Vec<Heap>,
    pub(super) missing: Vec<Missing>,
}

/// A peer as `cargo xtask bench alloc` lists it: one that it could not build has no library.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    version: Option<String>,
    library: Option<PathBuf>,
    missing: Option<String>,
}

impl Heaps {
    /// The subject at `ours`, and what stands in `peer_list`; without one, the C library alone.
    pub(crate) fn find(ours: Option<&Path>, peer_list: Option<&Path>) -> anyhow::Result<Self> {
        let mut heaps = Self {
            ours: Heap::ours(ours)?,
            peers: Vec::new(),
            missing: Vec::new(),
        };
        let Some(list) = peer_list else {
            heaps.peers.push(Heap::glibc());
            return Ok(heaps);
        };
        let list = fs::read(list).with_context(|| format!("{}", list.display()))?;
        for listed in serde_json::from_slice::<Vec<Listed>>(&list)? {
            heaps.add(listed)?;
        }
        Ok(heaps)
    }

    fn add(&mut self, listed: Listed) -> anyhow::Result<()> {
        // Names and versions are few, and as long-lived as the program.
        let name: &str = listed.name.leak();
        match (listed.version, listed.library, listed.missing) {
            (Some(version), library, None) if library.is_some() => self.peers.push(Heap {
                name,
                version: version.leak(),
                library,
            }),
            (None, None, None) if name == GLIBC => self.peers.push(Heap::glibc()),
            (None, None, Some(why)) => self.missing.push(Missing {
                name,
                why: why.leak(),
            }),
            _ => bail!("the list of peers tells nothing of {name}"),
        }
        Ok(())
    }
}

impl Heap {
    fn glibc() -> Self {
        Self {
            name: GLIBC,
            version: libc_version(),
            library: None,
        }
    }

    /// The subject goes by its own name, so that a stand-in is not taken for it.
    fn ours(library: Option<&Path>) -> anyhow::Result<Self> {
        let library = match library {
            Some(library) => library.to_path_buf(),
            None => std::env::current_exe()?.with_file_name(OUR_LIBRARY),
        };
        let library = library
            .canonicalize()
            .with_context(|| format!("no library to measure at {}", library.display()))?;
        let file = library.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = file == OUR_LIBRARY;
        let name = if is_ours {
            OURS
        } else {
            format!("{file} for ours").leak()
        };
        Ok(Self {
            name,
            version: if is_ours {
                env!("CARGO_PKG_VERSION")
            } else {
                "unknown"
            },
            library: Some(library),
        })
    }

    /// Does a workload once, in a process of its own.
    pub(super) fn work(
        &self,
        workload: &Workload,
        threads: usize,
        run: Run,
    ) -> anyhow::Result<Line> {
        let asked = Arguments {
            workload: workload.name.to_owned(),
            threads,
            run,
            library: self.library.clone(),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["alloc-worker", "--workload", workload.name])
            .args(["--threads", &threads.to_string()])
            .args(run.arguments())
            // What tunes one of the heaps in this environment is not told to it.
            .env_clear();
        if let Some(library) = &self.library {
            command.arg("--library").arg(library);
            command.env("LD_PRELOAD", library);
        }
        let output = command.output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "a worker failed, {}: {}",
            output.status,
            errors.lines().last().unwrap_or("it says nothing")
        );
        let line = Line::read(&String::from_utf8_lossy(&output.stdout), &asked)?;
        let whole = workload.task(threads, run).operations;
        ensure!(
            line.operations == whole,
            "a worker did {} operations, not {whole}",
            line.operations
        );
        Ok(line)
    }
}

impl Line {
    /// Nanoseconds of processor time an operation.
    pub(super) fn cpu(&self) -> f64 {
        number(self.cpu_ns) / number(self.operations)
    }

    /// Nanoseconds by the clock an operation, of all threads together.
    pub(super) fn wall(&self) -> f64 {
        number(self.wall_ns) / number(self.operations)
    }

    /// MiB by which the peak of memory grew.
    pub(super) fn grown(&self) -> f64 {
        mib(self.grown_kib)
    }

    /// MiB that the process had at the end over those at the beginning.
    pub(super) fn left(&self) -> f64 {
        mib(self.left_kib)
    }

    /// Nanoseconds that all but one in a thousand calls stayed within.
    pub(super) fn tail(&self) -> f64 {
        self.tail_ns.map_or(f64::NAN, number)
    }
}

/// A page at least, so that a ratio has something to divide by.
fn mib(kib: u64) -> f64 {
    number(kib.max(4)) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heaps(list: &str) -> anyhow::Result<Heaps> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("peers.json");
        fs::write(&path, list)?;
        let ours = std::env::current_exe()?;
        Heaps::find(Some(&ours), Some(&path))
    }

    #[test]
    fn a_peer_is_there_or_is_told_to_be_missing() {
        let found = heaps(
            r#"[{"name": "glibc"}, {"name": "a", "version": "1", "library": "/lib/a.so"},
                {"name": "b", "missing": "no compiler"}]"#,
        )
        .unwrap();
        let names: Vec<_> = found.peers.iter().map(|peer| peer.name).collect();
        assert_eq!(names, ["glibc", "a"]);
        assert_eq!(found.missing[0].name, "b");
        assert_ne!(found.ours.name, OURS, "a stand-in is told from ours");
        assert!(heaps(r#"[{"name": "a"}]"#).is_err());
        assert!(heaps(r#"[{"name": "a", "version": "1"}]"#).is_err());
    }
}
