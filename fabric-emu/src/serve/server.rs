//! The loop: one thread that owns the fabric, waits for all sockets at once, and does one message
//! of one connection after the other.
//!
//! # Invariants
//! 1. Nothing that comes in has it wait: sockets do not block, and files are filled in parts.
//! 2. After whatever happened to the fabric, carvings have followed before the next thing happens.
//! 3. What is kept is bounded: connections of each socket and of all, what each of them costs
//!    ([`super::stream`]), carvings of each host, files by the descriptors there may be, and late
//!    answers by those that interfaces keep.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::time::TimeSpec;
use pool_core::clock::{self, Deadline};
use pool_core::{Bytes, Nanos};

use super::carvings::Carvings;
use super::directory::{Directory, DirectoryError};
use super::files::Files;
use super::names::{self, Door};
use super::pace::{Mode, Pace};
use super::session::{Session, Stage};
use super::stop::Stop;
use super::stream::{Over, Stream};
use crate::fabric::{Fabric, FabricError};
use crate::schedule::Schedule;
use crate::timing::{Picos, Table};
use crate::topology::Topology;

/// Sockets of a topology that is served.
pub const SOCKETS_MAX: usize = 4_096;
/// Descriptors that are left for all else that a process has open.
const SPARE: usize = 64;
/// How long nobody is taken in after somebody could not be.
const PAUSE: Nanos = Nanos::from_millis(100);

/// How a fabric is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How its time passes.
    pub mode: Mode,
    /// What it is begun with: the same commands in the same order have the same answers.
    pub seed: u64,
    /// Connections of one socket; one more is closed at once.
    pub connections_per_socket_max: usize,
    /// Connections of all sockets together.
    pub connections_max: usize,
    /// How long the rest of a message may take, and the reading of an answer.
    pub patience: Nanos,
    /// Memory that is left to the rest of the machine when files are made.
    pub floor: Bytes,
}

impl Config {
    /// What holds where nothing else is said.
    #[must_use]
    pub const fn new(mode: Mode, seed: u64) -> Self {
        Self {
            mode,
            seed,
            connections_per_socket_max: 16,
            connections_max: 512,
            patience: Nanos::from_millis(5_000),
            floor: Bytes::new(256 << 20),
        }
    }
}

/// A fabric cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// The directory cannot be used: it says what to do.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No fabric can be made of the topology: it says whose class is not known.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// The topology has more hosts and logical devices than sockets are made for. Serve a smaller
    /// one.
    #[error("the topology needs more than {SOCKETS_MAX} sockets: serve a smaller one")]
    TooManySockets,
    /// This process may have too few descriptors. Raise its limit (`ulimit -n`).
    #[error("it takes {needed} descriptors and {allowed} are allowed: raise `ulimit -n`")]
    TooFewDescriptors {
        /// How many are needed, without those of files.
        needed: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// The kernel could not wait for the sockets. Free memory.
    #[error("cannot wait for the sockets: {0}")]
    Wait(Errno),
}

/// A fabric that is served in a directory, as the module [`super`] says.
#[derive(Debug)]
pub struct Server {
    pub(super) fabric: Fabric,
    pub(super) pace: Pace,
    pub(super) topology: String,
    pub(super) config: Config,
    pub(super) carvings: Carvings,
    pub(super) files: Files,
    listeners: Vec<(Door, UnixListener)>,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) sessions: BTreeMap<u64, Session>,
    /// By their numbers: answers that come later, when, and whose connection waits for them.
    pub(super) late: BTreeMap<u64, (Picos, u64)>,
    next: u64,
    /// Until when nobody is taken in.
    pause: Option<Deadline>,
    /// Dropped last: it removes the sockets.
    directory: Directory,
}

/// What something that was waited for is.
#[derive(Debug, Clone, Copy)]
enum Who {
    Stop,
    Listener(usize),
    Stream(u64),
    Session(u64),
}

/// It is ready, and how.
type Ready = (Who, PollFlags);

impl Server {
    /// Begins a fabric, and listens in a directory, which is made where it is missing.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn open(topology: &Topology, directory: &Path, config: Config) -> Result<Self, ServeError> {
        let table = Table::embedded().map_err(FabricError::from)?;
        Self::open_timed(topology, directory, config, &table)
    }

    /// The same, in the time of a table.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn open_timed(
        topology: &Topology,
        directory: &Path,
        config: Config,
        table: &Table,
    ) -> Result<Self, ServeError> {
        let doors = names::doors(topology, SOCKETS_MAX).ok_or(ServeError::TooManySockets)?;
        let allowed = raise_limit();
        let needed = doors.len() + config.connections_max + SPARE;
        // Each file may be handed out while it is made.
        let files = allowed.checked_sub(needed).filter(|&files| files > 0);
        let files = files.ok_or(ServeError::TooFewDescriptors { needed, allowed })?;
        let directory = Directory::take(directory)?;
        let listeners = doors
            .into_iter()
            .map(|door| Ok((door, directory.listen(door)?)));
        let listeners: Result<Vec<_>, DirectoryError> = listeners.collect();
        Ok(Self {
            fabric: Fabric::with_table(topology, config.seed, table)?,
            pace: Pace::new(config.mode),
            topology: topology.name.clone(),
            config,
            carvings: Carvings::default(),
            files: Files::new(config.floor, files),
            listeners: listeners?,
            streams: BTreeMap::new(),
            sessions: BTreeMap::new(),
            late: BTreeMap::new(),
            next: 0,
            pause: None,
            directory,
        })
    }

    /// Has the faults of a schedule happen at their times.
    pub fn plan(&mut self, schedule: &Schedule) {
        self.fabric.plan(schedule);
    }

    /// Where it serves.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The names of its sockets.
    pub fn sockets(&self) -> impl Iterator<Item = Door> + '_ {
        self.listeners.iter().map(|&(door, _)| door)
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// [`ServeError::Wait`].
    pub fn run(&mut self, stop: &Stop) -> Result<(), ServeError> {
        loop {
            let ready = self.wait(stop).map_err(ServeError::Wait)?;
            if ready.iter().any(|(who, _)| matches!(who, Who::Stop)) {
                return Ok(());
            }
            let idle = self.pace.idle(&self.fabric);
            if let Some(end) = idle.filter(|_| ready.is_empty() && !self.has_work()) {
                // What is lost by it no host has asked for.
                let _lost = self.advance(end);
            }
            let _lost = self.advance(self.pace.now(&self.fabric));
            for who in ready {
                self.attend(who);
            }
            self.go_on();
        }
    }

    /// Waits for whatever is next. Empty where that is not a socket.
    fn wait(&self, stop: &Stop) -> Result<Vec<Ready>, Errno> {
        let (mut who, mut polled) = (
            vec![Who::Stop],
            vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)],
        );
        let mut add = |is: Who, socket, events| {
            who.push(is);
            polled.push(PollFd::new(socket, events));
        };
        if self.pause.is_none() {
            for (place, (_, listener)) in self.listeners.iter().enumerate() {
                add(Who::Listener(place), listener.as_fd(), PollFlags::POLLIN);
            }
        }
        for (&id, stream) in &self.streams {
            let events = if stream.has_work() {
                // What has come is done before more of it is taken.
                PollFlags::empty()
            } else {
                direction(stream.is_telling())
            };
            add(Who::Stream(id), stream.as_fd(), events);
        }
        for (&id, session) in &self.sessions {
            let events = match session.stage {
                Stage::Idle => direction(false),
                Stage::Tells(..) => direction(true),
                // That it hangs up is told all the same.
                Stage::Waits { .. } => PollFlags::empty(),
            };
            add(Who::Session(id), session.as_fd(), events);
        }
        loop {
            let left = self.time_left().map(TimeSpec::from_duration);
            match ppoll(&mut polled, left, None) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let events = polled.iter().map(|one| one.revents());
        let ready = who
            .iter()
            .copied()
            .zip(events.map(|it| it.unwrap_or(PollFlags::POLLERR)));
        Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
    }

    /// How long nothing is to be done; none where that is until somebody comes.
    fn time_left(&self) -> Option<Duration> {
        if self.pace.idle(&self.fabric).is_some() || self.has_work() {
            return Some(Duration::ZERO);
        }
        let fabric = self.pace.due(&self.fabric).map(Deadline::at);
        let streams = self.streams.values().filter_map(Stream::due);
        let sessions = self.sessions.values().filter_map(Session::due);
        let all = streams.chain(sessions).chain(fabric).chain(self.pause);
        let next = all.min()?;
        Some(Duration::from_nanos(next.remaining().get()))
    }

    fn has_work(&self) -> bool {
        self.files.has_work() || self.streams.values().any(Stream::has_work)
    }

    /// Sees to what is ready.
    fn attend(&mut self, (who, events): Ready) {
        let (reads, writes) = (
            events.contains(PollFlags::POLLIN),
            events.contains(PollFlags::POLLOUT),
        );
        match who {
            Who::Stop => {}
            Who::Listener(place) => self.take_in(place),
            Who::Stream(id) => {
                let Some(stream) = self.streams.get_mut(&id) else {
                    return;
                };
                let done = match (reads, writes) {
                    (true, _) => stream.read(),
                    (false, true) => stream.tell(),
                    (false, false) => Err(Over),
                };
                if done == Err(Over) {
                    self.streams.remove(&id);
                }
            }
            Who::Session(id) => {
                let done = match (reads, writes) {
                    (true, _) => self.ask_of_session(id),
                    (false, true) => self.sessions.get_mut(&id).map_or(Ok(()), Session::tell),
                    (false, false) => Err(Over),
                };
                if done == Err(Over) {
                    self.sessions.remove(&id);
                }
            }
        }
    }

    /// Takes in whoever waits at a socket, or shows that there is no room.
    fn take_in(&mut self, place: usize) {
        let Some((door, listener)) = self.listeners.get(place) else {
            return;
        };
        let door = *door;
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) => {
                let errno = error.raw_os_error().map(Errno::from_raw);
                if !matches!(
                    errno,
                    Some(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR)
                ) {
                    self.pause = Some(Deadline::after(PAUSE));
                }
                return;
            }
        };
        let here = match door {
            Door::Memory(host) => self.sessions.values().filter(|it| it.host == host).count(),
            _ => self.streams.values().filter(|it| it.door == door).count(),
        };
        let all = self.streams.len() + self.sessions.len();
        let is_full =
            here >= self.config.connections_per_socket_max || all >= self.config.connections_max;
        // One that blocks could keep everybody waiting.
        if is_full || socket.set_nonblocking(true).is_err() {
            return;
        }
        let patience = self.config.patience;
        self.next += 1;
        match door {
            Door::Memory(host) => {
                let session = Session::new(host, OwnedFd::from(socket), patience);
                self.sessions.insert(self.next, session);
            }
            Door::Cci(_) | Door::Control => {
                let stream = Stream::new(door, socket, patience);
                self.streams.insert(self.next, stream);
            }
        }
    }

    /// Does what has come, fills files, and drops who is late.
    fn go_on(&mut self) {
        let open: Vec<u64> = self.streams.keys().copied().collect();
        for id in open {
            if self.do_message(id) == Err(Over) {
                self.streams.remove(&id);
            }
        }
        self.fill_files();
        let now = clock::now();
        let is_late = |due: Option<Deadline>| due.is_some_and(|due| due.time() <= now);
        self.streams.retain(|_, stream| !is_late(stream.due()));
        self.sessions.retain(|_, session| !is_late(session.due()));
        self.pause = self.pause.filter(|pause| pause.time() > now);
    }
}

const fn direction(is_telling: bool) -> PollFlags {
    if is_telling {
        PollFlags::POLLOUT
    } else {
        PollFlags::POLLIN
    }
}

/// As many descriptors as this process may have, raised to what it may raise it to.
fn raise_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}
