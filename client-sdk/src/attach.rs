//! Attaching: finding the daemon, opening a session, reserving the window.
//!
//! Where there is no socket there is no daemon, and nobody is made to wait for one that nobody may
//! ever start, unless he asks to. A socket is a daemon that lives, starts, or has died and may be
//! started again: that is waited for. So is one that goes away meanwhile, for somebody was there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use pool_core::Nanos;
use pool_core::clock::{Backoff, Deadline, now};
use pool_core::mem::Window;
use pool_core::socket::{NotFound, Untrusted, find};
use pool_core::sync::Arc;
use pool_proto::session::v1::{self as session, request};

use crate::background;
use crate::connection::{Connection, Trip};
use crate::error::Error;
use crate::hear::Listening;
use crate::pool::{Life, Pool};
use crate::session::{Session, liveness_page};
use crate::shared::{Parts, Shared, waker};
use crate::wire::{self, Answer, PROTOCOL, Welcome};

/// The name of the session socket in the daemon's runtime folder.
const SOCKET: &str = "session.sock";
/// The id of a session's first request.
const FIRST_ID: u64 = 1;

/// How to attach. All that is not said has a default.
#[derive(Debug, Clone)]
pub struct AttachOptions {
    socket: Option<PathBuf>,
    tenant: String,
    name: String,
    timeout: Nanos,
    waits: bool,
}

impl Default for AttachOptions {
    fn default() -> Self {
        let (tenant, name) = (String::new(), String::new());
        Self {
            socket: None,
            tenant,
            name,
            timeout: Nanos::from_millis(10_000),
            waits: false,
        }
    }
}

impl AttachOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The daemon's session socket. The default is `$TIERPOOL_SOCKET`, or else the first there is
    /// of `$XDG_RUNTIME_DIR/tierpool/session.sock`, `/tmp/tierpool-<uid>/session.sock` and
    /// `/run/tierpool/session.sock`: for root, the last only.
    #[must_use]
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(path.into());
        self
    }

    /// The tenant to attach as: a configured one that this user may use, or, where the user has no
    /// configured tenant, a label that parts it into several. The default is the first that fits.
    #[must_use]
    pub fn tenant(mut self, tenant: &str) -> Self {
        tenant.clone_into(&mut self.tenant);
        self
    }

    /// What operators see of this process.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// How long attaching, and each call after it, may take: 10 s by default. Calls of one session
    /// are made one after the other, and waiting for the ones before counts.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Nanos::new(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        self
    }

    /// Whether attaching waits, within the timeout, until a daemon makes its socket. It does not by
    /// default: where there is none it fails at once. Whoever starts a daemon and attaches to it
    /// next, or may come when one was stopped in good order, which removes the socket, waits. A
    /// socket that is there, as a killed daemon leaves it, is waited for in any case until somebody
    /// answers, and whoever has attached waits for a daemon that went away.
    #[must_use]
    pub const fn wait_for_daemon(mut self, waits: bool) -> Self {
        self.waits = waits;
        self
    }

    pub(crate) fn attach(&self) -> Result<Pool, Error> {
        let deadline = Deadline::after(self.timeout);
        let socket = match self.named() {
            Some(socket) => socket,
            None => self.find_socket(deadline, || find(SOCKET))?,
        };
        let (connection, answer) = self.ask(&socket, deadline)?;
        let attached = wire::attached(answer)?;
        let client = attached.client;
        let mut session = Session::new(connection, client, attached.token, FIRST_ID);
        // To be closed after the session has ended: the daemon would take it for a client that
        // comes back.
        let Welcome { events, liveness } = attached.welcome;
        let made = Window::shared(attached.window)
            .map_err(Error::from)
            .and_then(|window| {
                let waker = waker()?;
                Ok((window, waker, liveness_page(&liveness)?))
            });
        let (window, waker, liveness) = made.inspect_err(|_| session.detach())?;
        start(Parts {
            socket,
            timeout: self.timeout,
            client,
            tenant: attached.tenant,
            advisory_isolation: attached.advisory_isolation,
            epoch: attached.epoch,
            window,
            waker,
            session,
            listening: Listening::new(1, events),
            liveness,
        })
    }

    /// Connects and asks; anew where the daemon dies before it has answered. A session of which
    /// nobody was told holds nothing, and the daemon ends it with this process at the latest.
    fn ask(&self, socket: &Path, deadline: Deadline) -> Result<(Connection, Answer), Error> {
        let ask = session::Attach {
            protocol: PROTOCOL,
            tenant: self.tenant.clone(),
            name: self.name.clone(),
        };
        let body = request::Body::Attach(ask);
        let (mut waits, mut backoff) = (self.waits, backoff());
        loop {
            let mut connection = connect(socket, waits, deadline)?;
            waits = true;
            match connection.round_trip(FIRST_ID, &body, &[], deadline) {
                Ok(answer) => return Ok((connection, answer)),
                Err(Trip::Gone) if backoff.pause(deadline) => {}
                Err(trip) => return Err(self.refused(socket, trip)),
            }
        }
    }

    fn refused(&self, socket: &Path, trip: Trip) -> Error {
        match trip {
            Trip::NotSent | Trip::NoAnswer | Trip::Gone => Error::Unreachable {
                socket: socket.to_owned(),
                waited: self.timeout,
            },
            Trip::Broken(error) => error.into(),
            Trip::Unsent(error) | Trip::Unreceived(error) => Error::Packet(error),
        }
    }

    /// The socket that the program or its environment names.
    fn named(&self) -> Option<PathBuf> {
        let environment = || std::env::var_os("TIERPOOL_SOCKET").map(PathBuf::from);
        self.socket.clone().or_else(environment)
    }

    /// What `find` finds. Nobody waits for a folder to become one that is trusted: that takes an
    /// operator.
    fn find_socket(
        &self,
        deadline: Deadline,
        mut find: impl FnMut() -> Result<PathBuf, NotFound>,
    ) -> Result<PathBuf, Error> {
        let mut backoff = backoff();
        loop {
            let NotFound { tried, untrusted } = match find() {
                Ok(socket) => return Ok(socket),
                Err(not_found) => not_found,
            };
            if let Some(untrusted) = untrusted {
                return Err(distrusted(untrusted));
            }
            if !self.waits || !backoff.pause(deadline) {
                return Err(Error::NoDaemon { tried });
            }
        }
    }
}

fn backoff() -> Backoff {
    Backoff::new(Nanos::from_millis(1), Nanos::from_millis(100))
}

fn distrusted(found: Untrusted) -> Error {
    Error::Untrusted {
        folder: found.folder,
        owner: found.owner,
        mode: found.mode,
    }
}

/// Connects. Where there is no socket, and none was seen before, it does so only if it `waits`.
fn connect(socket: &Path, mut waits: bool, deadline: Deadline) -> Result<Connection, Error> {
    let start = now();
    let mut backoff = backoff();
    loop {
        match Connection::open(socket) {
            Ok(connection) => return Ok(connection),
            Err(Errno::ENOENT) if !waits => {
                let tried = vec![socket.to_owned()];
                return Err(Error::NoDaemon { tried });
            }
            Err(Errno::ENOENT) => {}
            // It has died, or has more callers than it can take at once. The next one replaces the
            // socket, and one that stops in good order removes its own: from now on that is waited
            // for as well.
            Err(Errno::ECONNREFUSED | Errno::EAGAIN) => waits = true,
            Err(errno) => {
                return Err(Error::Socket {
                    socket: socket.to_owned(),
                    errno,
                });
            }
        }
        if !backoff.pause(deadline) {
            let waited = now().saturating_since(start);
            return Err(Error::Unreachable {
                socket: socket.to_owned(),
                waited,
            });
        }
    }
}

fn start(parts: Parts) -> Result<Pool, Error> {
    let shared = Arc::new(Shared::new(parts));
    match background::spawn(Arc::clone(&shared)) {
        Ok(thread) => Ok(Pool::new(Arc::new(Life::new(shared, thread)))),
        Err(error) => {
            shared.session(shared.deadline())?.detach();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Deadline = Deadline::NEVER;

    fn nothing(untrusted: Option<Untrusted>) -> Result<PathBuf, NotFound> {
        let tried = [
            "/run/user/7/tierpool/session.sock",
            "/run/tierpool/session.sock",
        ];
        let tried = tried.map(PathBuf::from).to_vec();
        Err(NotFound { tried, untrusted })
    }

    #[test]
    fn a_socket_that_nobody_named_is_looked_for_until_it_is_there_by_who_waits() {
        let mut found = vec![
            Ok("/run/tierpool/session.sock".into()),
            nothing(None),
            nothing(None),
        ];
        let options = AttachOptions::new().wait_for_daemon(true);
        let socket = options.find_socket(NEVER, || found.pop().unwrap());
        assert_eq!(socket, Ok("/run/tierpool/session.sock".into()));
        assert!(found.is_empty());
    }

    #[test]
    fn where_no_socket_is_found_it_is_told_where_one_was_looked_for_and_what_to_do() {
        let mut found = vec![nothing(None)];
        let look = || found.pop().expect("nobody waits who did not ask to");
        let error = AttachOptions::new().find_socket(NEVER, look).unwrap_err();
        let told = error.to_string();
        for part in [
            "at /run/user/7/tierpool/session.sock or /run/tierpool/session.sock: start pool-daemon",
            "TIERPOOL_SOCKET",
            "wait_for_daemon",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let late = Deadline::at(Nanos::ZERO);
        let waits = AttachOptions::new().wait_for_daemon(true);
        assert_eq!(waits.find_socket(late, || nothing(None)), Err(error));
    }

    #[test]
    fn a_folder_that_is_not_trusted_is_told_at_once_also_to_who_waits() {
        let (folder, owner, mode) = (PathBuf::from("/run/user/7/tierpool"), 8, 0o777);
        let mut found = vec![nothing(Some(Untrusted {
            folder: folder.clone(),
            owner,
            mode,
        }))];
        let waits = AttachOptions::new().wait_for_daemon(true);
        let error = waits.find_socket(NEVER, || found.pop().unwrap());
        let untrusted = Error::Untrusted {
            folder,
            owner,
            mode,
        };
        assert_eq!(error, Err(untrusted));
    }
}
