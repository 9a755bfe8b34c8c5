//! A client of the demonstration, as it is led: `led` is its process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::error::DemoError;
use super::order::{Order, Refusal, Said, Slot};
use super::process::Process;
use super::wait::Patience;

/// How long is waited for a line between two looks whether the user has interrupted.
const LOOK: Duration = Duration::from_millis(50);

/// A client; it ends when dropped.
#[derive(Debug)]
pub(super) struct Client {
    orders: ChildStdin,
    lines: Receiver<String>,
    process: Process,
    patience: Patience,
}

impl Client {
    /// Starts one, and waits until it has attached to the daemon at `socket`.
    pub(super) fn start(
        who: String,
        socket: &Path,
        log: &Path,
        patience: &Patience,
    ) -> Result<Self, DemoError> {
        let this = std::env::current_exe().map_err(|source| DemoError::Process {
            who: format!("cannot start {who}"),
            source,
        })?;
        let mut command = Command::new(this);
        command.args(["fabric", "demo-client"]).arg(socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(who, command, log)?;
        let (orders, output) = process.pipes().ok_or_else(|| process.ended())?;
        let (sender, lines) = channel();
        let read = move || {
            // Nobody listens any more where the demonstration ends.
            let each = BufReader::new(output).lines().map_while(Result::ok);
            for line in each {
                if sender.send(line).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("client".into())
            .spawn(read);
        thread.map_err(|source| DemoError::Process {
            who: process.who().to_owned(),
            source,
        })?;
        let mut client = Self {
            orders,
            lines,
            process,
            patience: patience.clone(),
        };
        match client.hears()? {
            Said::Attached { .. } => Ok(client),
            other => Err(client.wrong(other)),
        }
    }

    /// Gives it an order, and waits for what it says.
    pub(super) fn says(&mut self, order: &Order) -> Result<Said, DemoError> {
        let mut line = serde_json::to_vec(order).map_err(std::io::Error::from);
        if let Ok(line) = &mut line {
            line.push(b'\n');
        }
        let written = line.and_then(|line| self.orders.write_all(&line));
        written.map_err(|_| self.process.ended())?;
        self.hears()
    }

    fn hears(&mut self) -> Result<Said, DemoError> {
        // What it does may take as long as one of our waits; that it answers takes some more.
        let deadline = self.patience.deadline();
        let line = loop {
            self.patience.goes_on()?;
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => break line,
                Err(RecvTimeoutError::Disconnected) => return Err(self.process.ended()),
                Err(RecvTimeoutError::Timeout) if deadline.expired() => {
                    return Err(self.process.silent());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        serde_json::from_str(&line).map_err(|error| DemoError::Refused {
            who: self.process.who().to_owned(),
            why: format!("{error} in {line:?}"),
        })
    }

    fn wrong(&self, said: Said) -> DemoError {
        let who = self.process.who().to_owned();
        match said {
            Said::Refused { why, .. } => DemoError::Refused { who, why },
            said => DemoError::Answer {
                who,
                said: Box::new(said),
            },
        }
    }

    /// Has it hold so much, and waits for that; whether there was so much.
    pub(super) fn holds(
        &mut self,
        slot: Slot,
        bytes: u64,
        wait: Duration,
    ) -> Result<bool, DemoError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        match self.says(&Order::Hold {
            slot,
            bytes,
            wait_ms,
        })? {
            Said::Held { .. } => Ok(true),
            Said::Refused {
                is: Refusal::Full, ..
            } => Ok(false),
            other => Err(self.wrong(other)),
        }
    }

    /// Has it do something.
    pub(super) fn does(&mut self, order: &Order) -> Result<(), DemoError> {
        match self.says(order)? {
            Said::Done => Ok(()),
            other => Err(self.wrong(other)),
        }
    }

    /// Asks it a question.
    pub(super) fn tells(&mut self, question: &Order) -> Result<bool, DemoError> {
        match self.says(question)? {
            Said::Truth(answer) => Ok(answer),
            other => Err(self.wrong(other)),
        }
    }

    /// What it is told next of something lost.
    pub(super) fn is_told(&mut self) -> Result<Said, DemoError> {
        // So that it answers before nobody listens any more.
        let wait = self.patience.span() * 3 / 4;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.says(&Order::Event { wait_ms })
    }

    /// Tells it, by the end of its input, to end.
    pub(super) fn dismiss(self) -> Result<(), DemoError> {
        let Self {
            orders,
            process,
            patience,
            ..
        } = self;
        drop(orders);
        process.end(&patience)
    }

    /// Ends it without warning.
    pub(super) fn kill(self) -> Result<(), DemoError> {
        self.process.kill()
    }
}
