//! Clients that ask once and take what comes for an answer, in a process of their own: as a test
//! holds it.
//!
//! The test writes [`Order`]s to its standard input, a line each, and it answers each with a
//! [`Tally`]. It knows what was acknowledged and what is in doubt, and panics where an answer is
//! wrong; [`Asker::order`] panics then too, with what it said. It ends with its input, so none
//! outlives its test.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What it is told to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Order {
    /// Attaches, and makes what is looked for later. All of it must be done.
    Prepare,
    /// Asks for everything that there is to ask for, once.
    Ask,
    /// Asks for what takes descriptors, mappings and memory, so many times.
    Press(u64),
    /// Comes back, looks whether everything acknowledged is there and nothing else, and gives it
    /// back. All of it must be done.
    Settle,
    /// Asks for everything once more, all of which must be done, gives it back, and goes.
    Leave,
}

/// How requests went, by class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Done.
    pub done: u64,
    /// Refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Left without an answer on a connection that ended.
    pub ended: u64,
    /// Left without an answer for as long as the asker waits.
    pub late: u64,
    /// Not made, for want of what was refused before.
    pub left_out: u64,
}

impl Tally {
    /// How many were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.ended += other.ended;
        self.late += other.late;
        self.left_out += other.left_out;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Asker {
    child: Child,
    orders: ChildStdin,
    tallies: BufReader<ChildStdout>,
    /// It says nothing there before it panics.
    errors: ChildStderr,
}

impl Asker {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_asker")`, on the daemon's session socket.
    ///
    /// `keeps` says that it holds everything it needs later, so that the daemon need not.
    #[must_use]
    pub fn start(program: &str, socket: &Path, keeps: bool) -> Self {
        let mut command = Command::new(program);
        command
            .arg(socket)
            .arg(if keeps { "keeps" } else { "trusts" });
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        let mut child = command.spawn().expect("an asker starts");
        let orders = child.stdin.take().expect("its input");
        let tallies = BufReader::new(child.stdout.take().expect("its output"));
        let errors = child.stderr.take().expect("its errors");
        Self {
            child,
            orders,
            tallies,
            errors,
        }
    }

    /// Gives an order, and waits until it is carried out.
    pub fn order(&mut self, order: Order) -> Tally {
        let mut line = serde_json::to_vec(&order).expect("an order is JSON");
        line.push(b'\n');
        self.orders.write_all(&line).expect("the asker lives");
        let mut line = String::new();
        self.tallies.read_line(&mut line).expect("it answers");
        if line.is_empty() {
            let mut why = String::new();
            let told = self.errors.read_to_string(&mut why);
            panic!("{order:?}: the asker has ended ({told:?}): {why}");
        }
        serde_json::from_str(&line).expect("a tally is JSON")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as `kill -9` does, and collects it.
    pub fn kill(mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGKILL).expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
