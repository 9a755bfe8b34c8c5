//! From a configuration to a running reactor, and its end.
//!
//! # Protocol of the start
//! 1. The journal is read. Devices that keep files under names check that those are this pool's.
//! 2. The store gives back what it kept; each descriptor is checked against its row. Devices that
//!    keep files under names are asked for theirs.
//! 3. An engine is recovered, the session socket is opened, and the new life is journaled. Up to
//!    here nothing was let go: a journal and a configuration that do not fit cost nothing.
//! 4. What no row names is let go, from the store and from the devices.
//! 5. Processes of before are looked for: those that are gone are clients that are gone. Then
//!    whoever has come meanwhile is served.
//!
//! A daemon that dies anywhere in between changes nothing that the next one does not do again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use pool_core::limits::MESSAGE_BYTES_MAX;
use pool_core::sync::Arc;
use pool_core::{BackingId, Bytes, DeviceId, clock, crash_point};
use pool_proto::common::v1::DeviceState;
use pool_proto::journal::v1::BackingRow;

use super::closer::Closer;
use super::domains::Domains;
use super::files::Files;
use super::gauges::Gauges;
use super::liveness::Liveness;
use super::poller::{Interest, Poller, Token};
use super::questions::Doctor;
use super::regions::RegionDesk;
use super::sessions::{Attached, Sessions};
use super::stewards::{Stewards, give_all_back};
use super::watchdog::Watchdog;
use super::{Batch, Reactor, ReactorError, process};
use crate::config::FabricSource;
use crate::device::builder::Builder;
use crate::device::cxl::CxlRegion;
use crate::device::identity::{WrongFile, adopt, verify};
use crate::device::regions::Regions;
use crate::device::{Device, SetupError};
use crate::engine::command::{Command, FileIdentity};
use crate::engine::effect::Effects;
use crate::engine::plan::Plan;
use crate::engine::{Engine, Found};
use crate::journal::{Journal, Record, Rows};
use crate::server::handle::Inbox;
use crate::server::metrics::Metrics;
use crate::store::DescriptorStore;
use crate::sys;
use crate::sys::socket::listen_at;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;

/// What becomes of granted memory when the daemon is told to stop.
#[derive(Debug)]
pub enum OnStop {
    /// It is kept for the next daemon.
    Keep,
    /// It is let go: the store and these devices are emptied, what fabrics have added is given
    /// back, and this journal is removed. Clients keep what they have mapped.
    Release {
        /// The devices.
        devices: Vec<Arc<dyn Device>>,
        /// Where those of them that are dynamic have their memory from.
        fabrics: Vec<FabricSource>,
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
    /// Where devices of the plan get their memory from that a fabric gives it, by their names.
    pub fabrics: BTreeMap<String, FabricSource>,
    /// The regions that others of them are while their hardware is there, by their names.
    pub regions: BTreeMap<String, Arc<CxlRegion>>,
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
    /// Looks at CXL memory for operators, and changes its regions.
    pub operated: Regions,
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
        let mut rows = setup.journal.load()?;
        crash_point!("recover.loaded");
        let mut files = Files::new(setup.store);
        let pool_id = pool_id(&rows)?;
        check_owners(&rows, &setup.devices, &pool_id)?;
        let adopted = adopt_files(&mut files, &mut rows, &setup.devices)?;
        crash_point!("recover.adopted");
        let found = Found {
            boot_id: setup.boot_id.clone(),
            pool_id: pool_id.clone(),
            present: files.ids().collect(),
        };
        let (engine, mut effects) =
            Engine::recover(setup.plan.clone(), rows, &found, clock::now())?;
        let builder = Builder::new(by_id(&engine, &setup.devices).collect(), 0)?;
        let fabrics: Vec<_> = by_id(&engine, &setup.fabrics).collect();
        let regions: Vec<_> = by_id(&engine, &setup.regions).collect();
        let listener = open_socket(&setup.session_socket, setup.session_mode)?;
        let can_refuse = refuse_descriptors(&listener);
        let records = [adopted.found_anew, std::mem::take(&mut effects.records)];
        setup.journal.commit(&records.concat())?;
        crash_point!("recover.committed");
        adopted.unknown.into_iter().for_each(|id| files.forget(id));
        clean(&setup.devices, &pool_id, &engine)?;
        let reactor = Self {
            engine,
            plan: setup.plan,
            boot_id: setup.boot_id,
            pool_id,
            journal: setup.journal,
            journal_down_until: None,
            files,
            builder,
            stock: setup.stock,
            building: BTreeMap::new(),
            gone: BTreeSet::new(),
            destroyed: BTreeSet::new(),
            copying: BTreeMap::new(),
            domains: Domains::default(),
            stewards: Stewards::start(fabrics, regions)?,
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
            regions: RegionDesk::start(setup.operated)?,
            batch: Batch::default(),
            buffer: vec![0; MESSAGE_BYTES_MAX].into_boxed_slice(),
            on_stop: setup.on_stop,
            session_socket: setup.session_socket,
            watchdog: Watchdog::from_environment(),
            stopping: false,
        };
        reactor.begin(effects)
    }

    /// Does what the recovered engine wants done, and from then on waits for everybody.
    fn begin(mut self, effects: Effects) -> Result<Self, ReactorError> {
        self.keep_stock();
        self.absorb(effects);
        self.await_clients();
        self.finish_batch()?;
        self.wait_for_all()?;
        Ok(self)
    }

    /// Keeps files ready of devices that give memory, and of no others.
    pub(super) fn keep_stock(&self) {
        let devices = self.engine.devices();
        let gives = |name: &str| {
            let mut devices = devices.iter();
            devices.any(|device| device.name == name && device.state() == DeviceState::Online)
        };
        for (id, name) in self.engine.device_ids() {
            let target = if gives(name) { self.stock } else { 0 };
            self.builder.set_stock(id, target);
        }
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
        let regions = self.regions.event_fd();
        self.poller
            .add(regions, Token::Regions, Interest::Readable)?;
        self.poller.add(
            self.stewards.event_fd(),
            Token::Stewards,
            Interest::Readable,
        )?;
        self.watch_store()
    }

    /// Ends in good order: nobody is accepted any more, and granted memory is kept or let go as
    /// configured.
    pub(super) fn stop(mut self) -> Result<(), ReactorError> {
        remove_socket(&self.session_socket);
        if let OnStop::Release {
            devices,
            fabrics,
            journal,
        } = &self.on_stop
        {
            // Nobody asks for more, or builds, from now on.
            drop((self.stewards, self.builder));
            let kept: Vec<_> = self.files.ids().collect();
            for backing in kept {
                self.files.forget(backing);
            }
            for device in devices {
                if let Err(error) = device.release() {
                    tracing::warn!(%error, "files of a device are not removed");
                }
            }
            let published = self.engine.published_groups();
            for fabric in fabrics {
                give_all_back(fabric, &published);
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

/// The id of the journal's pool, or a new one for a new pool.
fn pool_id(rows: &Rows) -> Result<String, ReactorError> {
    let pool = rows.pool.as_ref().filter(|pool| !pool.pool_id.is_empty());
    if let Some(pool) = pool {
        return Ok(pool.pool_id.clone());
    }
    let random = sys::random_token()?;
    Ok(random.map(|byte| format!("{byte:02x}")).concat())
}

/// What devices have, by the devices' ids instead of their names.
fn by_id<'e, T: Clone>(
    engine: &'e Engine,
    by_name: &'e BTreeMap<String, T>,
) -> impl Iterator<Item = (DeviceId, T)> {
    let devices = engine.device_ids();
    devices.filter_map(|(id, name)| Some((id, by_name.get(name)?.clone())))
}

/// The rows of backings that have an id.
fn backings(rows: &Rows) -> impl Iterator<Item = (BackingId, &BackingRow)> {
    let rows = rows.backings.iter();
    rows.filter_map(|row| Some((BackingId::new(row.backing_id)?, row)))
}

/// The back end of each device that the journal knows and that is configured.
fn back_ends<'d>(
    rows: &Rows,
    devices: &'d BTreeMap<String, Arc<dyn Device>>,
) -> BTreeMap<DeviceId, &'d Arc<dyn Device>> {
    let rows = rows.devices.iter();
    rows.filter_map(|row| Some((DeviceId::new(row.device_id)?, devices.get(&row.name)?)))
        .collect()
}

/// Each device keeps the files of this pool, or none.
fn check_owners(
    rows: &Rows,
    devices: &BTreeMap<String, Arc<dyn Device>>,
    pool_id: &str,
) -> Result<(), ReactorError> {
    for (name, device) in devices {
        let id = rows.devices.iter().find(|row| row.name == *name);
        let id = id.map(|row| row.device_id);
        let in_use = rows.backings.iter().any(|row| Some(row.device_id) == id);
        device
            .check_owner(pool_id, in_use)
            .map_err(|error| of_device(name, unless_new(rows, error)))?;
    }
    Ok(())
}

/// The id of a new pool is another one at the next start: nobody is told to write it down.
fn unless_new(rows: &Rows, error: SetupError) -> SetupError {
    match error {
        SetupError::UnknownPool { path, reason, .. } if rows.pool.is_none() => {
            let pool = String::new();
            SetupError::UnknownPool { path, reason, pool }
        }
        error => error,
    }
}

/// Marks each device as this pool's, and removes from it what the journal does not name.
fn clean(
    devices: &BTreeMap<String, Arc<dyn Device>>,
    pool_id: &str,
    engine: &Engine,
) -> Result<(), ReactorError> {
    let known: BTreeSet<BackingId> = engine.backing_ids().collect();
    let files = known.iter().filter_map(|id| engine.expected(*id));
    let files: BTreeSet<FileIdentity> = files.map(|it| it.identity).collect();
    for (name, device) in devices {
        device
            .claim(pool_id)
            .map_err(|source| of_device(name, source))?;
        let removed = device.remove_leftovers(&known, &files)?;
        if removed > 0 {
            tracing::info!(device = %name, removed, "the files that no row names are gone");
        }
    }
    Ok(())
}

fn of_device(name: &str, source: SetupError) -> ReactorError {
    ReactorError::Device {
        name: name.to_owned(),
        source,
    }
}

/// What taking over the files of before has shown.
#[derive(Debug, Default)]
struct Adopted {
    /// Descriptors of the store that the journal does not name.
    unknown: Vec<BackingId>,
    /// Rows of files that their file system has under another number than before.
    found_anew: Vec<Record>,
}

/// Takes over every file of before that is still there, from the store or under its name. Lets
/// nothing go.
fn adopt_files(
    files: &mut Files,
    rows: &mut Rows,
    devices: &BTreeMap<String, Arc<dyn Device>>,
) -> Result<Adopted, ReactorError> {
    let mut adopted = Adopted::default();
    let back_ends = back_ends(rows, devices);
    // Without its back end nothing is adopted, and recovery refuses the start.
    let back_end = |row: &BackingRow| {
        let id = DeviceId::new(row.device_id)?;
        Some((id, *back_ends.get(&id)?))
    };
    let expected: BTreeMap<_, _> = backings(rows).collect();
    for (backing, file) in files.store_mut().recover()? {
        let Some(row) = expected.get(&backing) else {
            tracing::info!(%backing, "the journal does not name a descriptor of the store");
            adopted.unknown.push(backing);
            continue;
        };
        let Some((device, _)) = back_end(row) else {
            continue;
        };
        match verify(file.as_fd(), identity(row), Bytes::new(row.bytes), false) {
            Ok(()) => files.take_over(backing, device, file),
            Err(wrong) => {
                tracing::error!(%backing, %wrong, "a descriptor of the store is not of its file")
            }
        }
    }
    let present: BTreeSet<_> = files.ids().collect();
    for row in &mut rows.backings {
        let backing = BackingId::new(row.backing_id).filter(|id| !present.contains(id));
        let (Some(backing), Some((device, back_end))) = (backing, back_end(row)) else {
            continue;
        };
        let Some(file) = back_end.find(backing, identity(row))? else {
            continue;
        };
        // A file system may have another number after each boot. That the file is in it, the device
        // has seen.
        let before = std::mem::replace(
            &mut row.file_device,
            sys::status(file.as_fd())?.identity.device,
        );
        match adopt(file.as_fd(), identity(row), Bytes::new(row.bytes), false) {
            Ok(master) => {
                files.take_over(backing, device, master);
                if row.file_device != before {
                    adopted.found_anew.push(Record::Backing(row.clone()));
                }
            }
            // It may be the right one: the next start can look at it.
            Err(WrongFile::Os { call, errno }) => {
                return Err(ReactorError::os(call, Errno::from_raw(errno)));
            }
            Err(wrong) => {
                tracing::error!(%backing, %wrong, "a file under its name is not the one that was \
                 built")
            }
        }
    }
    Ok(adopted)
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

/// Opens the session socket. A socket that a dead daemon left is replaced, and never missing
/// meanwhile; one that answers is left alone.
fn open_socket(path: &Path, mode: u32) -> Result<OwnedFd, ReactorError> {
    let refused = |reason: String| ReactorError::Socket {
        path: path.display().to_string(),
        reason,
    };
    let address = UnixAddr::new(path).map_err(|errno| refused(too_long(errno)))?;
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
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error.to_string())),
    }
    listen_at(path, mode, BACKLOG).map_err(|failed| {
        refused(match failed.errno {
            Errno::ENAMETOOLONG => too_long(failed.errno),
            Errno::EADDRINUSE => "its name with .new after it is taken: move that away".to_owned(),
            errno => format!("{}: {errno}", failed.call),
        })
    })
}

fn too_long(errno: Errno) -> String {
    format!("{errno}: choose a shorter path")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Place;
    use crate::device::file::FileDevice;
    use crate::store::none::ClientsOnly;
    use pool_core::EXTENT_BYTES;
    use pool_proto::journal::v1::DeviceRow;

    const EXTENT: Bytes = Bytes::new(EXTENT_BYTES);

    /// The rows of backing 1, a file of `device`.
    fn rows_of(device: &FileDevice) -> Rows {
        let built = device
            .build(BackingId::FIRST, Place::anywhere(EXTENT), false)
            .unwrap();
        Rows {
            devices: vec![DeviceRow {
                device_id: 1,
                name: "ssd".to_owned(),
                ..DeviceRow::default()
            }],
            backings: vec![BackingRow {
                backing_id: 1,
                device_id: 1,
                bytes: EXTENT_BYTES,
                file_device: built.identity.device,
                file_inode: built.identity.inode,
                ..BackingRow::default()
            }],
            ..Rows::default()
        }
    }

    fn adopted(device: FileDevice, rows: &mut Rows) -> (Vec<BackingId>, Adopted) {
        let mut files = Files::new(Box::new(ClientsOnly));
        let device: Arc<dyn Device> = Arc::new(device);
        let devices = BTreeMap::from([("ssd".to_owned(), device)]);
        let adopted = adopt_files(&mut files, rows, &devices).unwrap();
        (files.ids().collect(), adopted)
    }

    #[test]
    fn a_file_whose_file_system_has_another_number_after_a_boot_is_still_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let device = FileDevice::open(&folder.path().join("device")).unwrap();
        let mut rows = rows_of(&device);
        let now = rows.clone();
        rows.backings[0].file_device += 1;
        let (files, adopted) = adopted(device, &mut rows);
        assert_eq!(files, [BackingId::FIRST]);
        assert_eq!(rows, now, "it is known by its new number");
        assert_eq!(
            adopted.found_anew,
            [Record::Backing(now.backings[0].clone())]
        );
    }

    #[test]
    fn another_file_of_the_same_name_is_not_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let device = FileDevice::open(&folder.path().join("device")).unwrap();
        let mut rows = rows_of(&device);
        rows.backings[0].file_inode += 1;
        let (files, adopted) = adopted(device, &mut rows);
        assert!(files.is_empty() && adopted.found_anew.is_empty());
    }
}
