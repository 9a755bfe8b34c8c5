//! How far the job is: one line that is written over on a terminal, now and then a line elsewhere.

use std::io::{self, IsTerminal as _, Write as _};

const BAR: u32 = 40;
/// Lines over the whole job where nothing can be written over.
const LINES: u32 = 10;

/// The progress of one run.
#[derive(Debug)]
pub(super) struct Progress {
    steps: u32,
    terminal: bool,
    /// What was told last, in parts of [`LINES`].
    told: u32,
    /// A line stands there that is not ended.
    open: bool,
}

impl Progress {
    pub(super) fn new(steps: u32) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            steps: steps.max(1),
            terminal,
            told: 0,
            open: false,
        }
    }

    /// So many steps are done, the last one at this loss.
    pub(super) fn show(&mut self, step: u32, loss: f32) {
        let line = format!("step {step} of {}, loss {loss:.4}", self.steps);
        if self.terminal {
            let done = part(step, self.steps, BAR);
            let bar = "#".repeat(done as usize) + &".".repeat((BAR - done) as usize);
            print!("\r  [{bar}] {line}   ");
            // A terminal that is gone is noticed by the next line that matters.
            drop(io::stdout().flush());
            self.open = true;
        } else if part(step, self.steps, LINES) > self.told {
            self.told = part(step, self.steps, LINES);
            println!("  {line}");
        }
    }

    /// Something else happened.
    pub(super) fn note(&mut self, what: &str) {
        self.end();
        println!("  {what}");
    }

    /// Nothing more will be written over.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            println!();
        }
    }
}

/// `done` of `all`, as a number of `parts`.
fn part(done: u32, all: u32, parts: u32) -> u32 {
    let part = u64::from(done) * u64::from(parts) / u64::from(all);
    u32::try_from(part).unwrap_or(parts).min(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_never_exceeds_the_whole() {
        assert_eq!([0, 5, 10, 11].map(|done| part(done, 10, 4)), [0, 2, 4, 4]);
        assert_eq!(part(u32::MAX, 1, 4), 4);
    }
}
