//! Whatever is sent to the daemon's sockets: a typed error or a closed connection for the sender,
//! and nothing for anybody else. No death, no hang, and no growth past what is stated.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

#[path = "wire/bounds.rs"]
mod bounds;
#[path = "wire/flood.rs"]
mod flood;
#[path = "wire/http.rs"]
mod http;
#[path = "wire/mutation.rs"]
mod mutation;
#[path = "wire/order.rs"]
mod order;
#[path = "wire/packets.rs"]
mod packets;

use pool_core::clock::eventually;
use pool_proto::common::v1::{Error, ErrorClass};
use pool_proto::session::v1::reply;
use tierpool_tests::client::{Connection, Session, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;
use tierpool_tests::{patience, until};

/// What the daemon may have grown by when an attack is over: its buffers, and what its allocator
/// keeps of them.
const GROWTH_KIB_MAX: u64 = 32 * 1024;

/// The tenant of those who look whether the daemon still serves.
const FRIEND: &str = "friend";

/// A daemon under attack, and what it was before.
struct Besieged {
    daemon: Daemon,
    descriptors: usize,
    open_files: Vec<String>,
    resident_kib: u64,
}

impl Besieged {
    /// A daemon that gives up at once who hangs up.
    fn new() -> Self {
        Self::with_grace(50)
    }

    /// A daemon that waits for whoever comes back.
    fn patient() -> Self {
        Self::with_grace(3_600_000)
    }

    fn with_grace(grace_ms: u64) -> Self {
        Self::as_set_up(&Setup {
            grace_ms,
            ..Setup::small(64)
        })
    }

    /// A daemon whose sockets cannot refuse descriptors, and one whose sockets do where the kernel
    /// lets them.
    fn of_both_kernels() -> [Self; 2] {
        let setup = Setup {
            grace_ms: 50,
            ..Setup::small(64)
        };
        [setup.clone().on_an_older_kernel(), setup].map(|setup| Self::as_set_up(&setup))
    }

    fn as_set_up(setup: &Setup) -> Self {
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), setup);
        // What is there only from the first use on, as the runtime of the servers, is no growth.
        daemon.attach(FRIEND).ask(ask::detach());
        daemon.await_all_free();
        until("the first client is forgotten", || {
            daemon.admin().clients().ok()?.is_empty().then_some(())
        });
        let (descriptors, resident_kib) = (settled_descriptors(&daemon), daemon.resident_kib());
        let open_files = daemon.open_files();
        Self {
            daemon,
            descriptors,
            open_files,
            resident_kib,
        }
    }

    /// A connection that has not said anything yet.
    fn stranger(&self) -> Connection {
        Connection::open(&self.daemon.session_socket()).unwrap()
    }

    /// A client of a user who has done harm: who took all he may have, or whose descriptors are
    /// still being closed, is let in when the daemon has given up some of it.
    fn let_in(&self, label: &str) -> Session {
        let socket = self.daemon.session_socket();
        until("a client gets in", || {
            Session::attach(&socket, label, "test").ok()
        })
    }

    /// The daemon lives and serves whoever asks.
    fn serves(&mut self) {
        assert!(self.daemon.is_running());
        let mut client = self.let_in(FRIEND);
        client.ask(ask::tiers());
        client.ask(ask::detach());
    }

    /// The daemon is as it was before the attack.
    fn recovers(mut self) {
        self.serves();
        self.daemon.await_all_free();
        let (daemon, before) = (&self.daemon, self.descriptors);
        let closed = eventually(patience(), || {
            (settled_descriptors(daemon) <= before).then_some(())
        });
        let (were, are) = (&self.open_files, daemon.open_files());
        assert!(
            closed.is_ok(),
            "more than {before} stay open: {are:#?}, and before: {were:#?}"
        );
        let grown = daemon.resident_kib().saturating_sub(self.resident_kib);
        assert!(grown <= GROWTH_KIB_MAX, "grown by {grown} KiB");
    }
}

/// The daemon's descriptors, of which the connection that asks is one.
fn settled_descriptors(daemon: &Daemon) -> usize {
    // The stock is filled in the background: a full shelf is where it rests.
    until("the stock is full", || {
        let (one, another) = (daemon.descriptors(), daemon.descriptors());
        (one == another && daemon.files_of_memory() == STOCK).then_some(another)
    })
}

/// Files that the daemon has built ahead when it rests: four to be shared, four not.
const STOCK: usize = 8;

/// What comes back on a connection to which nonsense was sent.
enum Response {
    Refused(Error),
    Closed,
}

/// The response, which is a typed error or the end.
fn response(connection: &Connection) -> Response {
    match connection.receive() {
        Ok(answer) => match answer.body {
            reply::Body::Error(error) => {
                let known = ErrorClass::try_from(error.class);
                assert!(
                    known.is_ok_and(|class| class != ErrorClass::Unspecified),
                    "{error:?}"
                );
                assert!(!error.message.is_empty());
                Response::Refused(error)
            }
            other => panic!("nonsense was answered by {other:?}"),
        },
        Err(_) => Response::Closed,
    }
}
