//! A process that does one workload over the heap that it was started with, and tells what it cost.
//!
//! Which heap that is the dynamic linker decided, by `LD_PRELOAD`. A preload that fails is no more
//! than a warning of the linker, and the C library's own heap would be measured under another's
//! name: so the worker looks whose its calls are, and refuses to work where they are another's.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::unistd::alarm;
use serde::{Deserialize, Serialize};

use super::heap;
use super::workloads::{Run, Workload};
use crate::machine::amount;

/// Seconds after which a worker is taken to hang.
const PATIENCE: u32 = 120;

/// What it is to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    pub(super) workload: String,
    #[arg(long)]
    pub(super) threads: usize,
    #[command(flatten)]
    pub(super) run: Run,
    /// The library whose heap it is; without one, the C library's.
    #[arg(long, value_name = "FILE")]
    pub(super) library: Option<PathBuf>,
}

/// What it cost, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) workload: String,
    pub(super) threads: usize,
    pub(super) operations: u64,
    /// The file whose `malloc` was called.
    pub(super) library: PathBuf,
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
    /// The most memory that the process ever had, KiB, and by how much that grew in the work.
    pub(super) peak_kib: u64,
    pub(super) grown_kib: u64,
    /// The memory that it had at the end over that at the beginning, KiB.
    pub(super) left_kib: u64,
    /// What all but one in a thousand calls stayed within, where they were timed.
    pub(super) tail_ns: Option<u64>,
}

/// Does it.
pub(crate) fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    alarm::set(PATIENCE);
    let name = &arguments.workload;
    let workload = Workload::named(name).with_context(|| format!("no workload {name:?}"))?;
    ensure!(
        workload.threads.contains(&arguments.threads),
        "{name} is not for {} threads",
        arguments.threads
    );
    let library = heap::library_of_calls()?;
    ensure_is(&library, arguments.library.as_deref())?;
    let before = Memory::now()?;
    let task = workload.task(arguments.threads, arguments.run);
    let done = workload.run(task, arguments.run);
    let after = Memory::now()?;
    let line = Line {
        workload: arguments.workload.clone(),
        threads: arguments.threads,
        operations: done.operations,
        library,
        wall_ns: done.span.wall.get(),
        cpu_ns: done.span.cpu.get(),
        peak_kib: after.peak_kib,
        grown_kib: after.peak_kib.saturating_sub(before.peak_kib),
        left_kib: after.now_kib.saturating_sub(before.now_kib),
        tail_ns: done.times.all_but_a_thousandth(),
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(&line)?)?;
    Ok(output.flush()?)
}

/// Fails unless `found` is `wanted`, or the C library where nothing is wanted.
pub(super) fn ensure_is(found: &Path, wanted: Option<&Path>) -> anyhow::Result<()> {
    let is_wanted = match wanted {
        Some(wanted) => same_file(found, wanted)?,
        None => found
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("libc.so") || name.starts_with("libc-2.")),
    };
    let wanted = wanted.unwrap_or(Path::new("the C library"));
    ensure!(
        is_wanted,
        "the heap is not that of {}, but that of {}",
        wanted.display(),
        found.display()
    );
    Ok(())
}

fn same_file(one: &Path, other: &Path) -> anyhow::Result<bool> {
    let real = |path: &Path| {
        let real = path.canonicalize();
        real.with_context(|| format!("cannot find {}", path.display()))
    };
    Ok(real(one)? == real(other)?)
}

impl Line {
    /// What a worker wrote that was to do `asked`. Fails where it did anything else.
    pub(super) fn read(text: &str, asked: &Arguments) -> anyhow::Result<Self> {
        let line = text.lines().last().unwrap_or_default();
        let line: Self =
            serde_json::from_str(line).with_context(|| format!("a worker says {line:?}"))?;
        ensure_is(&line.library, asked.library.as_deref())?;
        ensure!(
            line.workload == asked.workload && line.threads == asked.threads,
            "a worker did {} with {} threads",
            line.workload,
            line.threads
        );
        ensure!(
            line.operations > 0 && line.wall_ns > 0,
            "a worker did nothing: {line:?}"
        );
        Ok(line)
    }
}

/// Memory of this process.
#[derive(Debug, Clone, Copy)]
struct Memory {
    now_kib: u64,
    peak_kib: u64,
}

impl Memory {
    fn now() -> anyhow::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        Ok(Self {
            now_kib: amount(&status, "VmRSS")?,
            peak_kib: amount(&status, "VmHWM")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(library: Option<PathBuf>) -> Arguments {
        Arguments {
            workload: "lifo".into(),
            threads: 2,
            run: Run::WHOLE,
            library,
        }
    }

    fn told(library: &Path) -> Line {
        Line {
            workload: "lifo".into(),
            threads: 2,
            operations: 80,
            library: library.into(),
            wall_ns: 1_000,
            cpu_ns: 2_000,
            peak_kib: 3_000,
            grown_kib: 100,
            left_kib: 50,
            tail_ns: None,
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let line = told(Path::new("/lib/libc.so.6"));
        let text = format!("noise\n{}\n", serde_json::to_string(&line).unwrap());
        assert_eq!(Line::read(&text, &asked(None)).unwrap(), line);
        assert!(Line::read("", &asked(None)).is_err());
        assert!(Line::read("{}", &asked(None)).is_err());
    }

    #[test]
    fn a_worker_that_ran_without_the_preload_is_refused() {
        let program = std::env::current_exe().unwrap();
        let libc = heap::library_of_calls().unwrap();
        let text = serde_json::to_string(&told(&libc)).unwrap();
        let refused = Line::read(&text, &asked(Some(program.clone()))).unwrap_err();
        assert!(refused.to_string().contains("not that of"), "{refused}");
        assert!(Line::read(&text, &asked(None)).is_ok());
        let text = serde_json::to_string(&told(&program)).unwrap();
        assert!(Line::read(&text, &asked(Some(program))).is_ok());
        assert!(Line::read(&text, &asked(None)).is_err());
    }

    #[test]
    fn a_worker_that_did_something_else_is_refused() {
        let line = told(Path::new("/lib/libc.so.6"));
        let others = [
            Line {
                threads: 1,
                ..line.clone()
            },
            Line {
                operations: 0,
                ..line.clone()
            },
            Line {
                workload: "batch".into(),
                ..line
            },
        ];
        for other in others {
            let text = serde_json::to_string(&other).unwrap();
            assert!(Line::read(&text, &asked(None)).is_err(), "{other:?}");
        }
    }

    #[test]
    fn this_process_has_the_heap_of_the_c_library() {
        let library = heap::library_of_calls().unwrap();
        ensure_is(&library, None).unwrap();
        let program = std::env::current_exe().unwrap();
        assert!(ensure_is(&library, Some(&program)).is_err());
    }
}
