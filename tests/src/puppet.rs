//! A process that a test leads by the hand: a client of its own, under a user id of its own, that
//! can be paused and killed.
//!
//! The test writes [`Order`]s to its standard input, a line each, and the puppet answers each with
//! an [`Outcome`] on its standard output. It ends with its input, so none outlives its test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool_proto::common::v1::{Error, Segment};
use pool_proto::session::v1::{self as session, reply, request};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::attempt::{Attempt, Spying};
use crate::daemon::Daemon;

/// What a puppet is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Becomes another user, for good.
    Become(u32),
    /// Attaches, and maps from then on what it is granted.
    Attach {
        /// The session socket.
        socket: PathBuf,
        /// The tenant, or the label.
        tenant: String,
    },
    /// Takes its session up again.
    Reattach,
    /// Tries to take up the session with this number and this token.
    ReattachAs(u64, Vec<u8>),
    /// Registers its thread with the kernel as the one whose death is told.
    ShowLife,
    /// Registers another thread, which ends at once without a word.
    ShowDeath,
    /// Closes its connection, and stays.
    HangUp,
    /// Asks the daemon.
    Ask {
        /// The body in an encoded `Request`, whose id the puppet sets.
        request: Vec<u8>,
        /// Files of its own that ride along.
        files: usize,
    },
    /// Fills a segment with what the seed writes.
    Write(u64, u64),
    /// Tells whether a segment is what the seed wrote.
    Holds(u64, u64),
    /// Tells whether a segment is zero.
    IsZero(u64),
    /// Unmaps a segment and closes its descriptors.
    Drop(u64),
    /// Tries something with the first descriptor of a segment.
    Try(u64, Attempt),
    /// Leases a unit of a domain, to write or to read, and never lets go; tells whether it could.
    Lease(u64, u32, bool),
    /// Gives back a unit that it leased; tells whether it still held it.
    LetGo(u64, u32),
    /// Stores into the first word of a unit, lease or none.
    Poke(u64, u32, u64),
    /// Tells whether the first word of a unit is this, as it has the unit mapped.
    Peeks(u64, u32, u64),
    /// Fills everything that it can write with what the seed writes.
    Scribble(u64),
    /// Spies on a process.
    Spy(u32, Spying),
    /// Calls the operators' interface.
    Call(PathBuf, Call),
    /// Follows the operators' events from now on.
    Follow(PathBuf),
    /// Waits for the next of them: its kind and its tenant.
    NextEvent,
}

/// A call of the operators' interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Call {
    /// Lists segments: their names.
    Segments,
    /// Lists tenants: their names.
    Tenants,
    /// Lists clients: their numbers.
    Clients,
    /// Asks for the accounting.
    Check,
    /// Drains a device.
    Drain(String),
    /// Takes a device back.
    Activate(String),
    /// Removes a device.
    Remove(String),
    /// Gives a device so many bytes.
    Resize(String, u64),
    /// Ends a segment, by force.
    Free(u64),
}

/// How an order went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The answer to a question.
    Truth(bool),
    /// The kernel refused, with this error number.
    Kernel(i32),
    /// The daemon answered, with an encoded `Reply`.
    Reply(Vec<u8>),
    /// The daemon has closed the connection, or does not answer: what the socket says.
    Gone(String),
    /// What a call listed.
    Names(Vec<String>),
    /// A call was refused with this gRPC code.
    Code(i32),
}

/// A puppet, as its test holds it.
#[derive(Debug)]
pub struct Puppet {
    child: Child,
    orders: ChildStdin,
    outcomes: BufReader<ChildStdout>,
}

impl Puppet {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_puppet")`, under the test's own user.
    #[must_use]
    pub fn start(program: &str) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a puppet starts");
        let orders = child.stdin.take().expect("its input");
        let outcomes = BufReader::new(child.stdout.take().expect("its output"));
        Self {
            child,
            orders,
            outcomes,
        }
    }

    /// Starts one under another user.
    #[must_use]
    pub fn start_as(program: &str, uid: u32) -> Self {
        let mut puppet = Self::start(program);
        puppet.done(&Order::Become(uid));
        puppet
    }

    /// Gives an order and does not wait for its outcome.
    pub fn tell(&mut self, order: &Order) {
        let mut line = serde_json::to_vec(order).expect("an order is JSON");
        line.push(b'\n');
        self.orders.write_all(&line).expect("the puppet lives");
    }

    /// Waits for the outcome of an order.
    pub fn outcome(&mut self) -> Outcome {
        let mut line = String::new();
        self.outcomes
            .read_line(&mut line)
            .expect("the puppet answers");
        assert!(
            !line.is_empty(),
            "the puppet has ended; its standard error tells why"
        );
        serde_json::from_str(&line).expect("an outcome is JSON")
    }

    /// Gives an order and waits for its outcome.
    pub fn order(&mut self, order: &Order) -> Outcome {
        self.tell(order);
        self.outcome()
    }

    /// Gives an order that must be done.
    pub fn done(&mut self, order: &Order) {
        assert_eq!(self.order(order), Outcome::Done, "{order:?}");
    }

    /// Asks a question.
    pub fn tells(&mut self, question: &Order) -> bool {
        match self.order(question) {
            Outcome::Truth(answer) => answer,
            other => panic!("{question:?} is answered by {other:?}"),
        }
    }

    /// Has it try something, and tells how the kernel took it.
    ///
    /// # Errors
    /// As the kernel refused it.
    pub fn tries(&mut self, order: &Order) -> Result<(), Errno> {
        match self.order(order) {
            Outcome::Done => Ok(()),
            Outcome::Kernel(errno) => Err(Errno::from_raw(errno)),
            other => panic!("{order:?} is answered by {other:?}"),
        }
    }

    /// Has it attach to a daemon.
    pub fn attach(&mut self, daemon: &Daemon, tenant: &str) -> session::Attached {
        let (socket, tenant) = (daemon.session_socket(), tenant.to_owned());
        match reply_in(self.order(&Order::Attach { socket, tenant })) {
            reply::Body::Attached(attached) => attached,
            other => panic!("an attach is answered by {other:?}"),
        }
    }

    /// Has it ask the daemon.
    ///
    /// # Errors
    /// As the daemon refused it.
    pub fn try_ask(&mut self, body: request::Body, files: usize) -> Result<reply::Body, Error> {
        match reply_in(self.ask_anyhow(body, files)) {
            reply::Body::Error(error) => Err(error),
            body => Ok(body),
        }
    }

    /// Has it ask the daemon, however that ends.
    pub fn ask_anyhow(&mut self, body: request::Body, files: usize) -> Outcome {
        let request = session::Request {
            request_id: 0,
            body: Some(body),
        };
        let request = request.encode_to_vec();
        self.order(&Order::Ask { request, files })
    }

    /// Has it ask for what must succeed.
    pub fn ask(&mut self, body: request::Body) -> reply::Body {
        let what = format!("{body:?}");
        self.try_ask(body, 0)
            .unwrap_or_else(|error| panic!("{what}: {}", error.message))
    }

    /// Has it ask for what must be refused.
    pub fn refused(&mut self, body: request::Body, files: usize) -> Error {
        let what = format!("{body:?}");
        match self.try_ask(body, files) {
            Err(error) => error,
            Ok(other) => panic!("{what} is answered by {other:?}"),
        }
    }

    /// Has it ask for a grant that must succeed.
    pub fn granted(&mut self, body: request::Body) -> Segment {
        match self.ask(body) {
            reply::Body::Granted(granted) => granted.segment.expect("a grant has a segment"),
            other => panic!("a grant was hoped for, and there came {other:?}"),
        }
    }

    /// Gives an order that the daemon must refuse.
    pub fn refused_order(&mut self, order: &Order) -> Error {
        match reply_in(self.order(order)) {
            reply::Body::Error(error) => error,
            other => panic!("{order:?} is answered by {other:?}"),
        }
    }

    /// Has it call the operators' interface.
    pub fn call(&mut self, socket: &Path, call: Call) -> Outcome {
        self.order(&Order::Call(socket.to_owned(), call))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).expect("kill");
    }

    /// Kills it, as `kill -9` does, and collects it.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn reply_in(outcome: Outcome) -> reply::Body {
    let Outcome::Reply(bytes) = outcome else {
        panic!("a reply was hoped for, and there came {outcome:?}");
    };
    let reply = session::Reply::decode(bytes.as_slice()).expect("a reply");
    reply.body.expect("it says something")
}
