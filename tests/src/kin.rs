//! A member of a family in a process of its own, as its test holds it: it tells lines, and goes on
//! when it is told to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use crate::family::{Family, Kin};

/// See the module.
#[derive(Debug)]
pub struct Told {
    kin: Kin,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Told {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_kin")`, as a member. `bug` is one that it
    /// has.
    #[must_use]
    pub fn start(
        family: &Family,
        member: usize,
        (program, bug): (&str, Option<&str>),
        arguments: &[&str],
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(bug) = bug {
            command.env("TIERPOOL_BUG", bug);
        }
        let mut kin = family.spawn(member, &mut command);
        let input = kin.child().stdin.take().expect("its input");
        let output = kin.child().stdout.take().expect("its output");
        Self {
            kin,
            input,
            output: BufReader::new(output),
        }
    }

    /// The process.
    #[must_use]
    pub fn child(&mut self) -> &mut Child {
        self.kin.child()
    }

    /// The next line that it tells; none where it has ended.
    pub fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let bytes = self.output.read_line(&mut line).expect("its output");
        (bytes != 0).then(|| line.trim_end().to_owned())
    }

    /// The lines that it tells up to `last`, which it must come to.
    pub fn hear_until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self
                .hear()
                .unwrap_or_else(|| panic!("it ended before {last}"));
            if line == last {
                return lines;
            }
            lines.push(line);
        }
    }

    /// The lines that it tells until it ends.
    pub fn hear_all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.hear()).collect()
    }

    /// Tells it a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it listens");
    }

    /// Waits for its end, and says that it is gone.
    pub fn wait(self, family: &Family) -> ExitStatus {
        self.kin.wait(family)
    }

    /// Kills it.
    pub fn kill(self, family: &Family) {
        self.kin.kill(family);
    }
}
