//! What a worker is asked, as words of a command, and what it tells, as one line of JSON. The
//! programs of the peers have the same (`benches/shared_peers/plan.hpp`).

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::super::private::Run;
use super::workloads::Workload;
use crate::contest::number;

/// Bytes below which memory is not told apart: a page, so that a ratio has something to divide by.
const PAGE: u64 = 4 << 10;

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(crate) struct Asked {
    /// Which of the workloads, as all programs call it.
    #[arg(long)]
    pub(super) workload: String,
    /// Bytes of a block, where a workload has blocks of one size.
    #[arg(long)]
    pub(super) bytes: usize,
    /// How many work at the same time.
    #[arg(long)]
    pub(super) processes: u64,
    /// Of all of them together.
    #[arg(long)]
    pub(super) operations: u64,
    /// Look at the clock around each call.
    #[arg(long)]
    pub(super) timed: bool,
}

/// What it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) workload: String,
    pub(super) bytes: usize,
    pub(super) processes: u64,
    pub(super) operations: u64,
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
    /// Pages of the heap that hold anything but zeros, while the blocks of `live_bytes` were
    /// there. Both zero where nobody looked.
    pub(super) held_bytes: u64,
    pub(super) live_bytes: u64,
    /// What all but one in a thousand calls stayed within; zero where they were not timed.
    pub(super) tail_ns: u64,
    /// The same for all who drew the same numbers.
    pub(super) sequence: u64,
}

impl Asked {
    pub(super) fn new(workload: &Workload, processes: u64, run: Run) -> Self {
        Self {
            workload: workload.kind.to_owned(),
            bytes: workload.bytes,
            processes,
            operations: workload.amount(processes, run),
            timed: run.timed,
        }
    }

    /// As a worker is told.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words: Vec<_> = [
            ("--workload", self.workload.clone()),
            ("--bytes", self.bytes.to_string()),
            ("--processes", self.processes.to_string()),
            ("--operations", self.operations.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        words.extend(self.timed.then(|| "--timed".to_owned()));
        words
    }
}

impl Line {
    /// What a worker wrote that was to do `asked`. Fails where it did anything else.
    pub(super) fn read(text: &str, asked: &Asked) -> anyhow::Result<Self> {
        let line = text.lines().last().unwrap_or_default();
        let line: Self =
            serde_json::from_str(line).with_context(|| format!("a worker says {line:?}"))?;
        let done = Asked {
            workload: line.workload.clone(),
            bytes: line.bytes,
            processes: line.processes,
            operations: line.operations,
            timed: line.tail_ns > 0,
        };
        ensure!(
            done == *asked,
            "a worker that was to do {asked:?} did {done:?}"
        );
        ensure!(line.wall_ns > 0, "a worker took no time: {line:?}");
        Ok(line)
    }

    /// Whether both took blocks of the same sizes.
    pub(super) fn did_the_same(&self, other: &Self) -> bool {
        (self.sequence, self.live_bytes) == (other.sequence, other.live_bytes)
    }

    /// Nanoseconds by the clock a block, of all processes together.
    pub(super) fn wall(&self) -> f64 {
        number(self.wall_ns) / number(self.operations)
    }

    /// Nanoseconds of processor time a block.
    pub(super) fn cpu(&self) -> f64 {
        number(self.cpu_ns) / number(self.operations)
    }

    /// Bytes of pages in use for each byte that was asked for and not given back.
    pub(super) fn held(&self) -> f64 {
        number(self.held_bytes.max(PAGE)) / number(self.live_bytes)
    }

    /// Nanoseconds that all but one in a thousand calls stayed within.
    pub(super) fn tail(&self) -> f64 {
        number(self.tail_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            workload: "lifo".into(),
            bytes: 64,
            processes: 2,
            operations: 80,
            timed: false,
        }
    }

    fn told() -> Line {
        Line {
            workload: "lifo".into(),
            bytes: 64,
            processes: 2,
            operations: 80,
            wall_ns: 1_600,
            cpu_ns: 2_400,
            held_bytes: 8_192,
            live_bytes: 4_096,
            tail_ns: 0,
            sequence: 7,
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let text = format!("noise\n{}\n", serde_json::to_string(&told()).unwrap());
        let line = Line::read(&text, &asked()).unwrap();
        assert_eq!(line, told());
        let figures = [line.wall(), line.cpu(), line.held()];
        assert_eq!(figures, [20.0, 30.0, 2.0]);
        assert!(Line::read("", &asked()).is_err());
        assert!(Line::read("{}", &asked()).is_err());
    }

    #[test]
    fn a_worker_that_did_something_else_is_refused() {
        let mut timed = told();
        timed.tail_ns = 5;
        let mut fewer = told();
        fewer.operations -= 1;
        let mut at_once = told();
        at_once.wall_ns = 0;
        for line in [timed, fewer, at_once] {
            let text = serde_json::to_string(&line).unwrap();
            assert!(Line::read(&text, &asked()).is_err(), "{line:?}");
        }
        let mut other = told();
        other.sequence += 1;
        assert!(!other.did_the_same(&told()));
    }
}
