//! From a configuration to a running reactor, and its end.
//!
//! # Protocol of the start
//! 1. The journal is read.
//! 2. The store gives back what it kept; each descriptor is checked against its row, and what no
//!    row names is let go. Devices that keep files under names are asked for theirs.
//! 3. An engine is recovered, and its new life is journaled.
//! 4. Processes of before are looked for: those that are gone are clients that are gone.
//! 5. The session socket is opened: only now can anybody come.
//!
//! A daemon that dies anywhere in between changes nothing that the next one does not do again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use pool_core::limits::MESSAGE_BYTES_MAX;
use pool_core::sync::Arc;
use pool_core::{BackingId, Bytes, DeviceId, clock, crash_point};
use pool_proto::journal::v1::BackingRow;

use super::closer::Closer;
use super::files::Files;
use super::gauges::Gauges;
use super::liveness::Liveness;
use super::poller::{Interest, Poller, Token};
use super::questions::Doctor;
use super::sessions::{Attached, Sessions};
use super::watchdog::Watchdog;
use super::{Batch, Reactor, ReactorError, process};
use crate::device::Device;
use crate::device::builder::Builder;
use crate::device::identity::{adopt, verify};
use crate::engine::command::{Command, FileIdentity};
use crate::engine::plan::Plan;
use crate::engine::{Engine, Found};
use crate::journal::{Journal, Rows};
use crate::server::handle::Inbox;
use crate::server::metrics::Metrics;
use crate::store::DescriptorStore;
use crate::sys;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;

/// What becomes of granted memory when the daemon is told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnStop {
    /// It is kept for the next daemon.
    Keep,
    /// It is let go: the store is emptied and this journal removed. Clients keep what they have
    /// mapped.
    Release {
        /// The file of the journal.
        journal: PathBuf,
    },
}

/// All that a reactor needs.
pub struct Setup {
    /// The pool.
    pub plan: Plan,
    /// A back end for each device of the plan, by its name.
    pub devices: BTreeMap<String, Arc<dyn Device>>,
    /// Ready files kept of each kind on each device.
    pub stock: usize,
    /// The journal, opened.
    pub journal: Box<dyn Journal>,
    /// The descriptor store, connected.
    pub store: Box<dyn DescriptorStore>,
    /// The present boot of the machine.
    pub boot_id: String,
    /// Where the session socket is to be.
    pub session_socket: PathBuf,
    /// Its mode.
    pub session_mode: u32,
    /// The end of the servers' questions.
    pub inbox: Inbox,
    /// The daemon's numbers.
    pub metrics: Arc<Metrics>,
    /// Looks at the platform.
    pub doctor: Doctor,
    /// What a stop does.
    pub on_stop: OnStop,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("session_socket", &self.session_socket)
            .finish_non_exhaustive()
    }
}

impl Reactor {
    /// Takes the pool up from its journal, and opens the session socket.
    ///
    /// Call it before any other thread is started: it blocks the signals that stop the daemon.
    ///
    /// # Errors
    /// [`ReactorError`]; nothing has been changed that a second start would not do alike.
    pub fn start(mut setup: Setup) -> Result<Self, ReactorError> {
        let signals = stop_signals()?;
        let rows = setup.journal.load()?;
        crash_point!("recover.loaded");
        let mut files = Files::new(setup.store);
        let by_name = device_ids(&rows);
        adopt_files(&mut files, &rows, &by_name, &setup.devices)?;
        crash_point!("recover.adopted");
        let found = Found {
            boot_id: setup.boot_id.clone(),
            present: files.ids().collect(),
            attached: BTreeSet::new(),
        };
        let (engine, effects) = Engine::recover(setup.plan.clone(), rows, &found, clock::now())?;
        let devices = engine
            .device_ids()
            .filter_map(|(id, name)| Some((id, Arc::clone(setup.devices.get(name)?))));
        let builder = Builder::new(devices.collect(), setup.stock)?;
        let listener = open_socket(&setup.session_socket, setup.session_mode)?;
        let can_refuse = refuse_descriptors(&listener);
        let mut reactor = Self {
            engine,
            plan: setup.plan,
            boot_id: setup.boot_id,
            journal: setup.journal,
            journal_down_until: None,
            files,
            builder,
            building: BTreeMap::new(),
            in_doubt: Vec::new(),
            gone: BTreeSet::new(),
            destroyed: BTreeSet::new(),
            copying: BTreeMap::new(),
            sessions: Sessions::default(),
            closer: Closer::default(),
            lingering: Vec::new(),
            can_refuse,
            poller: Poller::new()?,
            listener,
            accept_again_at: None,
            inbox: setup.inbox,
            questions: BTreeMap::new(),
            last_ticket: 0,
            liveness: Liveness::new()?,
            signals,
            gauges: Gauges::new(setup.metrics),
            doctor: setup.doctor,
            batch: Batch::default(),
            buffer: vec![0; MESSAGE_BYTES_MAX].into_boxed_slice(),
            on_stop: setup.on_stop,
            session_socket: setup.session_socket,
            watchdog: Watchdog::from_environment(),
            stopping: false,
        };
        reactor.absorb(effects);
        reactor.await_clients();
        reactor.finish_batch()?;
        crash_point!("recover.committed");
        reactor.wait_for_all()?;
        Ok(reactor)
    }

    /// Looks for the processes that the engine knows and the reactor does not: those that are gone
    /// are clients that are gone, the others are awaited.
    pub(super) fn await_clients(&mut self) {
        let processes: Vec<_> = self.engine.processes().collect();
        for (client, process) in processes {
            if self.sessions.clients.contains_key(&client) {
                continue;
            }
            let pidfd = match process::find(&process) {
                Ok(Some(pidfd)) => Some(pidfd),
                Ok(None) => {
                    self.step(Command::ClientGone { client });
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%client, %error, "a process of before cannot be watched");
                    None
                }
            };
            let token = Token::Process(client);
            let watched = pidfd
                .as_ref()
                .is_some_and(|pidfd| self.poller.add(pidfd, token, Interest::Readable).is_ok());
            // A process that cannot be watched is given up after a while, unless it comes back.
            let later = clock::now().saturating_add(self.plan.reattach_grace);
            let awaited = Attached {
                pidfd,
                connection: None,
                events: None,
                asked: None,
                give_up_at: (!watched).then_some(later),
            };
            self.sessions.clients.insert(client, awaited);
        }
    }

    fn wait_for_all(&self) -> Result<(), ReactorError> {
        self.poller
            .add(&self.listener, Token::Listener, Interest::Readable)?;
        self.poller
            .add(self.inbox.event_fd(), Token::Inbox, Interest::Readable)?;
        self.poller
            .add(self.builder.event_fd(), Token::Builder, Interest::Readable)?;
        self.poller.add(
            self.liveness.event_fd(),
            Token::Liveness,
            Interest::Readable,
        )?;
        self.poller
            .add(&self.signals, Token::Signals, Interest::Readable)?;
        self.watch_store()
    }

    /// Ends in good order: nobody is accepted any more, and granted memory is kept or let go as
    /// configured.
    pub(super) fn stop(mut self) -> Result<(), ReactorError> {
        remove_socket(&self.session_socket);
        if let OnStop::Release { journal } = &self.on_stop {
            let kept: Vec<_> = self.files.ids().collect();
            for backing in kept {
                self.files.forget(backing);
            }
            let journal = journal.clone();
            drop(self.journal);
            return match fs::remove_file(&journal) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(ReactorError::Socket {
                        path: journal.display().to_string(),
                        reason: format!("the journal cannot be removed: {error}"),
                    })
                }
                _ => Ok(()),
            };
        }
        let kept = self.files.ids().count();
        if kept > 0 {
            tracing::info!(
                files = kept,
                store = self.files.store_kind(),
                "granted memory is kept for the next start"
            );
        }
        Ok(())
    }
}

/// The names of the journal's devices.
fn device_ids(rows: &Rows) -> BTreeMap<DeviceId, String> {
    let named = rows
        .devices
        .iter()
        .filter_map(|row| Some((DeviceId::new(row.device_id)?, row.name.clone())));
    named.collect()
}

/// Takes over every file of before that is still there, from the store or under its name.
fn adopt_files(
    files: &mut Files,
    rows: &Rows,
    names: &BTreeMap<DeviceId, String>,
    devices: &BTreeMap<String, Arc<dyn Device>>,
) -> Result<(), ReactorError> {
    let expected: BTreeMap<BackingId, &BackingRow> = rows
        .backings
        .iter()
        .filter_map(|row| Some((BackingId::new(row.backing_id)?, row)))
        .collect();
    let back_end = |row: &BackingRow| {
        let id = DeviceId::new(row.device_id)?;
        Some((id, devices.get(names.get(&id)?)?))
    };
    for (backing, file) in files.store_mut().recover()? {
        let row = expected
            .get(&backing)
            .and_then(|row| Some((row, back_end(row)?)));
        let Some((row, (device, _))) = row else {
            tracing::info!(%backing, "a descriptor that the journal does not name is let go");
            files.forget(backing);
            continue;
        };
        match verify(file.as_fd(), identity(row), Bytes::new(row.bytes), false) {
            Ok(()) => files.take_over(backing, device, file),
            Err(wrong) => {
                tracing::error!(%backing, %wrong, "a descriptor of the store is not of its file");
                files.forget(backing);
            }
        }
    }
    let present: BTreeSet<_> = files.ids().collect();
    for (&backing, row) in expected.iter().filter(|(id, _)| !present.contains(id)) {
        let Some((device, back_end)) = back_end(row) else {
            continue;
        };
        let Some(file) = back_end.find(backing)? else {
            continue;
        };
        match adopt(file.as_fd(), identity(row), Bytes::new(row.bytes), false) {
            Ok(master) => files.take_over(backing, device, master),
            Err(wrong) => {
                tracing::error!(%backing, %wrong, "a file under its name is not the one that was \
                 built")
            }
        }
    }
    for device in devices.values() {
        device.remove_leftovers(&expected.keys().copied().collect())?;
    }
    Ok(())
}

fn identity(row: &BackingRow) -> FileIdentity {
    FileIdentity {
        device: row.file_device,
        inode: row.file_inode,
    }
}

/// The signals that stop the daemon, as something to be waited for.
fn stop_signals() -> Result<SignalFd, ReactorError> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals
        .thread_block()
        .map_err(|errno| ReactorError::os("pthread_sigmask", errno))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&signals, flags).map_err(|errno| ReactorError::os("signalfd", errno))
}

/// Opens the session socket. A socket that a dead daemon left is replaced, one that answers is not.
fn open_socket(path: &Path, mode: u32) -> Result<OwnedFd, ReactorError> {
    let refused = |reason: String| ReactorError::Socket {
        path: path.display().to_string(),
        reason,
    };
    let address =
        UnixAddr::new(path).map_err(|errno| refused(format!("{errno}: choose a shorter path")))?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(refused(
                "something else lies there: move it away".to_owned(),
            ));
        }
        Ok(_) if is_answered(&address)? => {
            return Err(refused(
                "another daemon answers there: stop it, or choose another runtime_dir".to_owned(),
            ));
        }
        Ok(_) => fs::remove_file(path).map_err(|error| refused(error.to_string()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error.to_string())),
    }
    let listener = new_socket()?;
    bind(listener.as_raw_fd(), &address).map_err(|errno| refused(errno.to_string()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| refused(error.to_string()))?;
    let backlog = Backlog::new(BACKLOG).map_err(|errno| refused(errno.to_string()))?;
    listen(&listener, backlog).map_err(|errno| refused(errno.to_string()))?;
    Ok(listener)
}

/// Whether the kernel lets sockets refuse descriptors; every connection accepted from now on does.
fn refuse_descriptors(listener: &OwnedFd) -> bool {
    let refused = sys::pass_descriptors(listener.as_fd(), false);
    if let Err(failed) = &refused {
        tracing::warn!(errno = %failed.errno, "clients can send unwanted descriptors");
    }
    refused.is_ok()
}

fn new_socket() -> Result<OwnedFd, ReactorError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .map_err(|errno| ReactorError::os("socket", errno))
}

fn is_answered(address: &UnixAddr) -> Result<bool, ReactorError> {
    Ok(connect(new_socket()?.as_raw_fd(), address).is_ok())
}

fn remove_socket(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "the session socket is left behind");
    }
}
