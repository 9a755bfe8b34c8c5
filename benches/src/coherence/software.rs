//! What software mode adds: the lines that a release writes back and an acquire drops, and the time
//! that takes, against the same in hardware mode, where both are nothing.
//!
//! The range is dirtied before each release, and not as part of it. Two members of one process take
//! turns, so that each finds a version that it has not seen; one that it has seen costs no line.

use std::hint::black_box;

use anyhow::Context as _;
use coherence::cache::{Caches, Hardware, Software};
use coherence::{FutexWait, LeaseError, Member, Slot};
use pool_core::Bytes;
use pool_core::descriptor::Descriptor;
use pool_core::flush::Flusher;
use pool_core::mem::WriteView;
use pool_core::units::{EXTENT_BYTES, KIB, LINE_BYTES};

use super::domain::{Domain, Shape};
use super::partner::patience;
use crate::contest::{Better, Case, Contender, hold, median, number, timed};
use crate::report::Report;

/// The one unit.
const UNIT: u32 = 0;
/// Operations of a run; each is timed by itself.
const OPERATIONS: usize = 51;

/// What is measured of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// A writer lets go after it has written the range.
    Release,
    /// A reader is granted, and lets go of, what another has published since.
    AcquireChanged,
    /// The same where nothing was published since.
    AcquireUnchanged,
}

/// All cases of this part.
pub(super) fn measure(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let domain = Domain::create(Shape {
        unit_bytes: EXTENT_BYTES,
        units: 1,
    })?;
    let sizes = [
        ("64 B", LINE_BYTES),
        ("4 KiB", 4 * KIB),
        ("2 MiB", EXTENT_BYTES),
    ];
    for (name, bytes) in sizes {
        for (what, operation) in [
            ("release after writing", Operation::Release),
            ("acquire of changed", Operation::AcquireChanged),
            ("acquire of unchanged", Operation::AcquireUnchanged),
        ] {
            let name = format!("software mode, {what} {name}");
            report.add(contest(&domain, operation, bytes, &name, rounds)?)?;
        }
    }
    Ok(())
}

fn contest(
    domain: &Domain,
    operation: Operation,
    bytes: u64,
    name: &str,
    rounds: usize,
) -> anyhow::Result<Vec<crate::contest::Result>> {
    let pair = Pair::over(domain, bytes)?;
    let software = Software::new(domain.payload()?, Flusher::detect());
    let ours = || Ok(pair.run(&software, operation)?.nanos);
    let peer = Contender::new("hardware mode", || {
        Ok(pair.run(&Hardware, operation)?.nanos)
    });
    let case = Case::time(name, "ns");
    let mut results = hold(&case, rounds, ours, vec![peer])?;
    let lines = pair.run(&software, operation)?.lines;
    let case = Case::figure(format!("{name}: lines"), "lines", Better::Lower);
    results.push(crate::contest::Result::alone(case, vec![number(lines)]));
    Ok(results)
}

/// What one operation took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    nanos: f64,
    /// Lines that were written back or dropped.
    lines: u64,
}

/// Two members of one process, and the range of a unit that one writes and the other reads.
#[derive(Debug)]
struct Pair<'d> {
    writer: Member<FutexWait>,
    reader: Member<FutexWait>,
    line: &'d Descriptor,
    words: WriteView<'d, u64>,
    bytes: u64,
}

impl<'d> Pair<'d> {
    fn over(domain: &'d Domain, bytes: u64) -> anyhow::Result<Self> {
        let member = |slot| Slot::new(slot).map(|slot| Member::new(slot, FutexWait));
        let words = usize::try_from(bytes / 8)?;
        Ok(Self {
            writer: member(1).context("no such slot")?,
            reader: member(2).context("no such slot")?,
            line: domain.line(UNIT)?,
            words: domain.payload()?.write_view(Bytes::ZERO, words)?,
            bytes,
        })
    }

    /// The median of the times, and the lines of the last: each has as many.
    fn run(&self, caches: &impl Caches, operation: Operation) -> anyhow::Result<Cost> {
        let mut times = Vec::with_capacity(OPERATIONS);
        let mut lines = 0;
        for turn in 0..OPERATIONS {
            let value = u64::try_from(turn)?;
            let (time, done) = match operation {
                Operation::Release => self.release(caches, value)?,
                Operation::AcquireChanged => self.acquire(caches, value, true)?,
                Operation::AcquireUnchanged => self.acquire(caches, value, false)?,
            };
            times.push(time);
            lines = done;
        }
        Ok(Cost {
            nanos: median(&times),
            lines,
        })
    }

    fn release(&self, caches: &impl Caches, value: u64) -> Result<(f64, u64), LeaseError> {
        let grant = self.writer.exclusive(self.line, patience())?;
        self.words.fill(value);
        let (time, lines) = timed(|| -> Result<u64, LeaseError> {
            let lines = caches.write_back(0, self.bytes);
            caches.fence_stores();
            self.writer.release_exclusive(self.line, &grant, true)?;
            Ok(lines)
        });
        Ok((time, lines?))
    }

    fn acquire(
        &self,
        caches: &impl Caches,
        value: u64,
        changed: bool,
    ) -> Result<(f64, u64), LeaseError> {
        let grant = self.writer.exclusive(self.line, patience())?;
        self.words.fill(value);
        caches.write_back(0, self.bytes);
        caches.fence_stores();
        let published = self.writer.release_exclusive(self.line, &grant, true)?;
        let seen = if changed { grant.version } else { published };
        let until = patience();
        let (time, lines) = timed(|| -> Result<u64, LeaseError> {
            let grant = self.reader.shared(UNIT, self.line, until)?;
            let mut lines = 0;
            if grant.version != seen {
                lines = caches.invalidate(0, self.bytes);
                caches.fence_all();
            }
            black_box(self.words.get(0));
            self.reader.release_shared(UNIT, self.line, &grant)?;
            Ok(lines)
        });
        Ok((time, lines?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_writes_back_what_was_written_and_only_a_changed_version_costs_lines() {
        let domain = Domain::create(Shape {
            unit_bytes: EXTENT_BYTES,
            units: 1,
        })
        .unwrap();
        let software = Software::new(domain.payload().unwrap(), Flusher::detect());
        for bytes in [LINE_BYTES, 4 * KIB] {
            let pair = Pair::over(&domain, bytes).unwrap();
            let lines = |operation| pair.run(&software, operation).unwrap().lines;
            assert_eq!(lines(Operation::Release), bytes / LINE_BYTES);
            assert_eq!(lines(Operation::AcquireChanged), bytes / LINE_BYTES);
            assert_eq!(lines(Operation::AcquireUnchanged), 0);
        }
    }
}
