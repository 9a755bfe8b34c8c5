//! A run in a file: its seed, from which its world is drawn, and the ops that are left of it.
//!
//! ```text
//! # comments, and what the run came to
//! seed 17
//! create 12 33 9 0 4711
//! ```

use std::fmt;

use crate::mix::Mix;
use crate::op::{NoOp, Op};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Whose world it is.
    pub seed: u64,
    /// What happens in it.
    pub ops: Vec<Op>,
}

/// A file is no replay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReplay {
    /// Begin it with the seed.
    #[error("the first line that is no comment is not `seed N`")]
    NoSeed,
    /// See the line.
    #[error("line {line}: {error}")]
    NoOp {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: NoOp,
    },
}

impl Replay {
    /// The world of its seed.
    #[must_use]
    pub fn mix(&self) -> Mix {
        Mix::draw(self.seed)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`NoReplay`].
    pub fn parse(text: &str) -> Result<Self, NoReplay> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let seed = lines
            .next()
            .and_then(|(_, line)| line.strip_prefix("seed "));
        let seed = seed.and_then(|seed| seed.trim().parse().ok());
        let seed = seed.ok_or(NoReplay::NoSeed)?;
        let op = |(line, text): (usize, &str)| {
            text.parse().map_err(|error| NoReplay::NoOp { line, error })
        };
        let ops = lines.map(op).collect::<Result<_, _>>()?;
        Ok(Self { seed, ops })
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}", self.mix())?;
        writeln!(f, "seed {}", self.seed)?;
        for op in &self.ops {
            writeln!(f, "{op}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_read_as_it_was_written() {
        let (seed, ops) = (3, Mix::draw(3).ops(40));
        let replay = Replay { seed, ops };
        assert_eq!(Replay::parse(&replay.to_string()), Ok(replay));
        assert_eq!(Replay::parse("# nothing\n"), Err(NoReplay::NoSeed));
        let wrong = Replay::parse("seed 1\n\nspawn 1\n");
        assert!(
            matches!(wrong, Err(NoReplay::NoOp { line: 3, .. })),
            "{wrong:?}"
        );
    }
}
