//! The keeper's side: a loop that holds descriptors, one daemon at a time.
//!
//! # Invariants
//! 1. A descriptor is held until it is removed, replaced, or the keeper ends; no connection's end
//!    and no malformed packet closes one.
//! 2. Everything a connection sent is taken in before a later connection is served.
//! 3. The keeper ends when it is told to, and where nobody can need it any more: it has been
//!    without a daemon for a while, and holds nothing or cannot be found under its name.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, geteuid, setsid};
use pool_core::clock::Deadline;
use pool_core::packet::{self, PacketError};
use pool_core::{BackingId, Nanos};

use super::super::StoreError;
use super::wire::{self, BATCH, REQUEST_BYTES, Reply, Request, Status};
use crate::sys::{self, Failed, socket};

/// What a new keeper prints when it listens.
pub(super) const READY: &[u8; 6] = b"ready\n";
/// How long a keeper that nobody needs waits for a daemon.
const IDLE: Nanos = Nanos::from_millis(60_000);
/// How long a daemon may leave an answer unread.
const PATIENCE: Nanos = Nanos::from_millis(1_000);
/// How long a keeper that cannot take up a connection waits before it tries again.
const PAUSE: Nanos = Nanos::from_millis(1_000);
/// Descriptors that the keeper needs for itself and for a packet under way.
const SPARE: usize = 128;

/// Becomes the keeper under `socket_path`, and returns when it ends: what `pool-daemon keeper`
/// does.
///
/// The process leaves its session, its standard streams and its folder; it should have no other
/// threads and no other descriptors.
///
/// # Errors
/// Where it cannot begin, or the kernel does not let it wait for requests.
pub fn serve(socket_path: &Path) -> Result<(), StoreError> {
    leave_session()?;
    // A daemon that blocks its signals has handed that on. What ends other processes ends this one.
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
        .thread_unblock()
        .map_err(os("pthread_sigmask"))?;
    let capacity = raise_limit()?.saturating_sub(SPARE);
    let server = Server::listen(socket_path, capacity)?;
    announce()?;
    server.run(IDLE)
}

fn os(call: &'static str) -> impl Fn(Errno) -> Failed {
    move |errno| Failed { call, errno }
}

fn leave_session() -> Result<(), Failed> {
    match setsid() {
        // It leads a group of its own already, and so gets no signal that is meant for the
        // daemon's.
        Ok(_) | Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(os("setsid")(errno)),
    }
}

/// Lets this process hold as many descriptors as it may, and tells how many.
fn raise_limit() -> Result<usize, Failed> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(os("getrlimit"))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(os("setrlimit"))?;
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

/// Says that it listens, and lets go of what belongs to whoever started it.
fn announce() -> Result<(), StoreError> {
    let mut output = std::io::stdout();
    output
        .write_all(READY)
        .and_then(|()| output.flush())
        .map_err(|error| sys::failed("write", &error))?;
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.map_err(|error| sys::failed("open", &error))?;
    dup2_stdin(&null).map_err(os("dup2"))?;
    dup2_stdout(&null).map_err(os("dup2"))?;
    dup2_stderr(&null).map_err(os("dup2"))?;
    nix::unistd::chdir("/").map_err(os("chdir"))?;
    Ok(())
}

/// What to do after a packet.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Go on.
    Go,
    /// The connection has ended, or is not worth keeping.
    Part,
    /// The daemon wants no keeper.
    End,
}

/// A connection.
#[derive(Debug)]
struct Daemon {
    socket: OwnedFd,
    /// It takes no answers any more.
    deaf: bool,
}

impl Daemon {
    fn tell(&mut self, bytes: &[u8], files: &[BorrowedFd<'_>]) {
        if !self.deaf {
            let deadline = Deadline::after(PATIENCE);
            self.deaf = packet::send_by(self.socket.as_fd(), bytes, files, deadline).is_err();
        }
    }
}

#[derive(Debug)]
struct Server {
    listener: OwnedFd,
    path: PathBuf,
    /// Device and inode of the socket's name.
    name: (u64, u64),
    daemon: Option<Daemon>,
    files: BTreeMap<BackingId, OwnedFd>,
    capacity: usize,
}

impl Server {
    fn listen(path: &Path, capacity: usize) -> Result<Self, StoreError> {
        // The process changes its folder, and looks at the name later.
        let path = std::path::absolute(path).map_err(|error| sys::failed("getcwd", &error))?;
        let listener = socket::listen_privately(&path)?;
        let name = inode_of(&path).map_err(|error| sys::failed("stat", &error))?;
        Ok(Self {
            listener,
            path,
            name,
            daemon: None,
            files: BTreeMap::new(),
            capacity,
        })
    }

    fn run(mut self, idle: Nanos) -> Result<(), StoreError> {
        let mut idle_until = Deadline::after(idle);
        let mut deaf_until = Deadline::at(Nanos::ZERO);
        loop {
            let (knocks, speaks) = self.wait(idle_until, deaf_until)?;
            if speaks || knocks {
                // First what lies in the old connection: invariant 2.
                match self.hear() {
                    Next::Go => {}
                    Next::Part => {
                        self.daemon = None;
                        idle_until = Deadline::after(idle);
                    }
                    Next::End => return self.vanish(),
                }
            }
            if knocks && !self.take_up() {
                deaf_until = Deadline::after(PAUSE);
            }
            if self.daemon.is_none() && idle_until.expired() {
                if self.files.is_empty() || self.is_lost() {
                    return self.vanish();
                }
                idle_until = Deadline::after(idle);
            }
        }
    }

    /// Waits for somebody to connect, and for the connected one to say something.
    fn wait(&self, idle_until: Deadline, deaf_until: Deadline) -> Result<(bool, bool), StoreError> {
        let deaf = !deaf_until.expired();
        let daemon = self.daemon.as_ref().map(|daemon| daemon.socket.as_fd());
        let listener = (!deaf).then(|| self.listener.as_fd());
        let both: Vec<BorrowedFd<'_>> = listener.into_iter().chain(daemon).collect();
        let idle = if daemon.is_some() {
            Deadline::NEVER
        } else {
            idle_until
        };
        let until = if deaf { idle.min(deaf_until) } else { idle };
        let ready = socket::wait_for_any(&both, until)?;
        let mut ready = ready.into_iter();
        let knocks = !deaf && ready.next() == Some(true);
        Ok((knocks, ready.next() == Some(true)))
    }

    /// Takes in everything the daemon has sent, whether or not it still wants the answers.
    fn hear(&mut self) -> Next {
        let Some(mut daemon) = self.daemon.take() else {
            return Next::Go;
        };
        let mut reset = false;
        loop {
            // One byte more than a request has, so that a longer packet is seen to be one.
            let mut buffer = [0; REQUEST_BYTES + 1];
            match packet::receive(daemon.socket.as_fd(), &mut buffer) {
                Ok(packet) => {
                    let bytes = buffer.get(..packet.len).unwrap_or_default();
                    if self.answer(&mut daemon, bytes, packet.descriptors) == Next::End {
                        return Next::End;
                    }
                }
                Err(PacketError::WouldBlock) if daemon.deaf => return Next::Part,
                Err(PacketError::WouldBlock) => {
                    self.daemon = Some(daemon);
                    return Next::Go;
                }
                // The packet is gone, and its descriptors are closed.
                Err(PacketError::TooLarge { .. } | PacketError::DescriptorsLost { .. }) => {
                    daemon.tell(&wire::NOT_UNDERSTOOD, &[]);
                }
                // Of a daemon that died with answers unread the kernel tells just that, once, and
                // only then gives out what it had sent.
                Err(PacketError::Closed) if !reset => reset = true,
                Err(_) => return Next::Part,
            }
        }
    }

    fn answer(&mut self, daemon: &mut Daemon, bytes: &[u8], mut descriptors: Vec<OwnedFd>) -> Next {
        let file = descriptors.pop();
        let Some(request) = Request::decode(bytes).filter(|_| descriptors.is_empty()) else {
            daemon.tell(&wire::NOT_UNDERSTOOD, &[]);
            return Next::Go;
        };
        let mut files = Vec::new();
        let mut reply = Reply {
            request,
            status: Status::Done,
            numbers: Vec::new(),
        };
        let mut next = Next::Go;
        match (request, file) {
            (Request::Put(backing), Some(file)) if self.has_room_for(backing) => {
                self.files.insert(backing, file);
            }
            (Request::Remove(backing), None) => {
                self.files.remove(&backing);
            }
            (Request::List { after }, None) => {
                (reply.numbers, files) = self.batch(after);
            }
            (Request::Count, None) => {
                let numbers = [self.files.len(), self.capacity].map(|count| count as u64);
                reply.numbers.extend(numbers);
            }
            (Request::End, None) => next = Next::End,
            _ => reply.status = Status::Refused,
        }
        daemon.tell(&reply.encode(), &files);
        next
    }

    fn has_room_for(&self, backing: BackingId) -> bool {
        self.files.len() < self.capacity || self.files.contains_key(&backing)
    }

    /// What one reply to a list holds.
    fn batch(&self, after: u64) -> (Vec<u64>, Vec<BorrowedFd<'_>>) {
        let from = BackingId::new(after).map_or(Bound::Unbounded, Bound::Excluded);
        let batch = self.files.range((from, Bound::Unbounded)).take(BATCH);
        batch
            .map(|(backing, file)| (backing.number(), file.as_fd()))
            .unzip()
    }

    /// Takes up a connection of this user, in place of the one before. Whether the listener is
    /// fit to be asked again.
    fn take_up(&mut self) -> bool {
        match sys::accept(self.listener.as_fd()) {
            Ok(socket) => {
                if socket::peer_uid(socket.as_fd()) == Ok(geteuid().as_raw()) {
                    let deaf = false;
                    self.daemon = Some(Daemon { socket, deaf });
                }
                true
            }
            Err(errno) => matches!(errno, Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED),
        }
    }

    /// Whether nobody finds this keeper any more: its name is gone or another's.
    fn is_lost(&self) -> bool {
        inode_of(&self.path).ok() != Some(self.name)
    }

    /// Ends: the name first, so that whoever finds it finds a keeper that listens.
    fn vanish(self) -> Result<(), StoreError> {
        if !self.is_lost() {
            fs::remove_file(&self.path).map_err(|error| sys::failed("unlink", &error))?;
        }
        Ok(())
    }
}

fn inode_of(path: &Path) -> std::io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests;
