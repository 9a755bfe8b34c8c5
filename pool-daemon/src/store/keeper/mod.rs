//! A process that holds descriptors for the daemon where no service manager does.
//!
//! It is this very program, started as `pool-daemon keeper --socket PATH` and left alone: it has
//! its own session, ignores what happens to the daemon, and is found again by its socket. There
//! is one daemon to a keeper, which a lock of the daemon's ensures.
//!
//! # Protocol
//! Packets over one connection, see `wire`. Each request has one answer, in order. The daemon
//! does not wait for the answers to puts and removes: a packet that was sent lies in the keeper's
//! queue, and with it the descriptor, whatever becomes of the sender; the keeper empties the
//! queue of a dead connection before it takes up the next. Answers are looked at with the
//! next call, and at most `UNANSWERED_MAX` are left open. Whatever is wrong ends the
//! connection; [`Keeper::refill`] then makes the keeper, or a new one, hold exactly what it
//! should.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::unistd::geteuid;
use pool_core::clock::Deadline;
use pool_core::packet::{self, PacketError};
use pool_core::{BackingId, Nanos};

use super::{DescriptorStore, StoreError, put_each};
use crate::sys::{self, socket};
use wire::{Reply, Request, Status};

mod serve;
mod wire;

pub use serve::serve;

/// The keeper's socket in the runtime directory.
const SOCKET: &str = "keeper.sock";
/// How long a keeper may take to answer. It has nothing else to do.
const ANSWER: Nanos = Nanos::from_millis(5_000);
/// How long a new keeper may take to begin.
const START: Nanos = Nanos::from_millis(10_000);
/// Requests that may be under way at once. Few enough for the queue of a socket and for the
/// kernel's bound on descriptors in flight.
const UNANSWERED_MAX: usize = 64;

/// The daemon's end.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    binary: PathBuf,
    /// `None` after a failure.
    link: Option<Link>,
    /// The keeper, where this process started it: to be waited for when it has ended.
    child: Option<Child>,
}

impl Keeper {
    /// Finds the keeper of this runtime directory, or starts one from `binary`, this program.
    ///
    /// # Errors
    /// Where there is none and none can be started.
    pub fn connect_or_spawn(runtime_dir: &Path, binary: &Path) -> Result<Self, StoreError> {
        let mut keeper = Self {
            path: runtime_dir.join(SOCKET),
            binary: binary.to_owned(),
            link: None,
            child: None,
        };
        keeper.link = Some(keeper.find_or_spawn()?);
        Ok(keeper)
    }

    /// How many descriptors the keeper holds, by its own count.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn count(&mut self) -> Result<usize, StoreError> {
        self.with_link(|link| link.count().map(|(count, _)| count))
    }

    /// Ends the keeper: it lets go of everything.
    ///
    /// # Errors
    /// Where it does not answer; it is then gone, or holds what it held.
    pub fn end(mut self) -> Result<(), StoreError> {
        self.with_link(|link| link.ask(Request::End, None).map(drop))?;
        if let Some(child) = &mut self.child {
            child
                .wait()
                .map_err(|error| sys::failed("waitpid", &error))?;
        }
        Ok(())
    }

    /// Uses the connection, and gives it up where that fails.
    fn with_link<T>(
        &mut self,
        with: impl FnOnce(&mut Link) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let link = self.link.as_mut().ok_or(StoreError::Gone)?;
        let done = with(link);
        // A full store is in order. After anything else, what is on the wire is not known.
        if !matches!(done, Ok(_) | Err(StoreError::Full { .. })) {
            self.link = None;
        }
        done
    }

    fn find_or_spawn(&mut self) -> Result<Link, StoreError> {
        match Link::open(&self.path) {
            // Nobody listens, or somebody who was about to end.
            Err(StoreError::Gone) => {}
            opened => return opened,
        }
        self.spawn()?;
        Link::open(&self.path)
    }

    /// Starts a keeper, and waits until it listens.
    fn spawn(&mut self) -> Result<(), StoreError> {
        if let Some(ended) = &mut self.child {
            // Whether it has ended by now or never does: it is not ours any more.
            ended
                .try_wait()
                .map_err(|error| sys::failed("waitpid", &error))?;
        }
        let mut child = Command::new(&self.binary)
            .args(["keeper", "--socket"])
            .arg(&self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| sys::failed("execve", &error))?;
        let output = child.stdout.take();
        self.child = Some(child);
        let mut output = output.ok_or(StoreError::Gone)?;
        packet::wait_readable(output.as_fd(), Deadline::after(START))?;
        // It is written in one piece, or the process has ended without.
        let mut said = [0; serve::READY.len()];
        match output.read_exact(&mut said) {
            Ok(()) if said == *serve::READY => Ok(()),
            Ok(()) => Err(StoreError::OutOfOrder),
            Err(_) => Err(StoreError::Gone),
        }
    }
}

impl DescriptorStore for Keeper {
    fn kind(&self) -> &'static str {
        "keeper"
    }

    fn recover(&mut self) -> Result<Vec<(BackingId, OwnedFd)>, StoreError> {
        self.with_link(Link::list)
    }

    fn put(&mut self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), StoreError> {
        self.with_link(|link| link.put(backing, file))
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.with_link(|link| link.settle(0))
    }

    /// Starts a new keeper where the old one is gone.
    fn refill(
        &mut self,
        files: &[(BackingId, BorrowedFd<'_>)],
    ) -> Result<Vec<BackingId>, StoreError> {
        self.link = None;
        let mut link = self.find_or_spawn()?;
        let wanted: BTreeMap<_, _> = files.iter().copied().collect();
        let mut kept = BTreeSet::new();
        for (backing, file) in link.list()? {
            match wanted.get(&backing) {
                None => link.remove(backing)?,
                Some(wanted) if is_same(file.as_fd(), *wanted)? => _ = kept.insert(backing),
                Some(_) => {}
            }
        }
        let missing = files.iter().filter(|(backing, _)| !kept.contains(backing));
        let left_out = put_each(missing, |backing, file| link.put(backing, file))?;
        link.settle(0)?;
        self.link = Some(link);
        Ok(left_out)
    }

    fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(|link| link.socket.as_fd())
    }

    fn remove(&mut self, backing: BackingId) -> Result<(), StoreError> {
        self.with_link(|link| link.remove(backing))
    }
}

/// Whether two descriptors are of one file.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, StoreError> {
    Ok(sys::status(one)?.identity == sys::status(other)?.identity)
}

/// One connection.
#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    /// The requests whose answer has not been looked at, in order.
    unanswered: VecDeque<Request>,
    /// What the keeper holds, as far as this connection knows.
    kept: BTreeSet<BackingId>,
    capacity: usize,
}

impl Link {
    /// Connects to a keeper that answers and is run by this user.
    fn open(path: &Path) -> Result<Self, StoreError> {
        let socket = match socket::connect_to(path) {
            Err(failed) if matches!(failed.errno, Errno::ENOENT | Errno::ECONNREFUSED) => {
                return Err(StoreError::Gone);
            }
            connected => connected?,
        };
        if socket::peer_uid(socket.as_fd())? != geteuid().as_raw() {
            return Err(StoreError::OutOfOrder);
        }
        let mut link = Self {
            socket,
            unanswered: VecDeque::new(),
            kept: BTreeSet::new(),
            capacity: 0,
        };
        (_, link.capacity) = link.count()?;
        Ok(link)
    }

    fn put(&mut self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), StoreError> {
        let limit = self.capacity;
        if self.kept.len() >= limit && !self.kept.contains(&backing) {
            return Err(StoreError::Full { limit });
        }
        self.post(Request::Put(backing), Some(file))?;
        self.kept.insert(backing);
        Ok(())
    }

    fn remove(&mut self, backing: BackingId) -> Result<(), StoreError> {
        self.post(Request::Remove(backing), None)?;
        self.kept.remove(&backing);
        Ok(())
    }

    /// Sends a request, and leaves its answer for later.
    fn post(&mut self, request: Request, file: Option<BorrowedFd<'_>>) -> Result<(), StoreError> {
        self.settle(UNANSWERED_MAX - 1)?;
        self.send(request, file)?;
        self.unanswered.push_back(request);
        Ok(())
    }

    /// How many descriptors the keeper holds, and how many it can.
    fn count(&mut self) -> Result<(usize, usize), StoreError> {
        let (reply, _) = self.ask(Request::Count, None)?;
        let number = |index: usize| usize::try_from(*reply.numbers.get(index)?).ok();
        let both = number(0).zip(number(1));
        both.ok_or(StoreError::OutOfOrder)
    }

    /// Everything the keeper holds.
    fn list(&mut self) -> Result<Vec<(BackingId, OwnedFd)>, StoreError> {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let (reply, descriptors) = self.ask(Request::List { after }, None)?;
            if reply.numbers.len() != descriptors.len() {
                return Err(StoreError::OutOfOrder);
            }
            if descriptors.is_empty() {
                self.kept = all.iter().map(|(backing, _)| *backing).collect();
                return Ok(all);
            }
            for (number, descriptor) in reply.numbers.into_iter().zip(descriptors) {
                // Rising, so that the list ends.
                let backing = BackingId::new(number).filter(|_| number > after);
                all.push((backing.ok_or(StoreError::OutOfOrder)?, descriptor));
                after = number;
            }
        }
    }

    /// Sends a request, and waits for the answers to all before it and then for its own.
    fn ask(
        &mut self,
        request: Request,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(Reply, Vec<OwnedFd>), StoreError> {
        self.send(request, file)?;
        self.settle(0)?;
        let answer = self.receive(request, Some(Deadline::after(ANSWER)))?;
        answer.ok_or(StoreError::OutOfOrder)
    }

    fn send(&self, request: Request, file: Option<BorrowedFd<'_>>) -> Result<(), StoreError> {
        let deadline = Deadline::after(ANSWER);
        let bytes = request.encode();
        Ok(packet::send_by(
            self.socket.as_fd(),
            &bytes,
            file.as_slice(),
            deadline,
        )?)
    }

    /// Looks at the answers that are there, and waits until no more than `open` are not.
    fn settle(&mut self, open: usize) -> Result<(), StoreError> {
        while let Some(request) = self.unanswered.front() {
            let deadline = (self.unanswered.len() > open).then(|| Deadline::after(ANSWER));
            if self.receive(*request, deadline)?.is_none() {
                break;
            }
            self.unanswered.pop_front();
        }
        Ok(())
    }

    /// The answer to `request`, which is the oldest that is open; without a deadline only if it is
    /// there already.
    fn receive(
        &self,
        request: Request,
        deadline: Option<Deadline>,
    ) -> Result<Option<(Reply, Vec<OwnedFd>)>, StoreError> {
        let mut buffer = [0; wire::REPLY_BYTES_MAX];
        let socket = self.socket.as_fd();
        let received = match deadline {
            Some(deadline) => packet::receive_by(socket, &mut buffer, deadline),
            None => match packet::receive(socket, &mut buffer) {
                Err(PacketError::WouldBlock) => return Ok(None),
                received => received,
            },
        };
        let packet = received?;
        let reply = buffer.get(..packet.len).and_then(Reply::decode);
        match reply.filter(|reply| reply.request == request && reply.status == Status::Done) {
            Some(reply) => Ok(Some((reply, packet.descriptors))),
            None => Err(StoreError::OutOfOrder),
        }
    }
}
