//! The one thread that owns the engine, and does what it wants done.
//!
//! # Protocol
//! The reactor waits for all its descriptors at once. What is ready together is one batch: each
//! request becomes a command, each command a step of the engine; builds are begun at once, since
//! nothing of them is remembered; then the records of the whole batch are committed to the journal,
//! in one commit, and only then are the other actions performed: replies sent, descriptors handed
//! out, files watched. So the journal is always ahead of what anybody was told, and one commit
//! serves all that came together.
//!
//! A commit that fails is a restart without a death: the connections of all clients are closed, the
//! journal is opened anew, and an engine is recovered from it, just as after a crash. Until that
//! succeeds nobody is let in. Whether the failed commit was made after all is only known then; the
//! clients come back, hear what they hold, and repeat what was not answered.
//!
//! # Invariants
//! 1. Nothing is sent, handed out or freed on the strength of a record that is not durable.
//! 2. A file is in the descriptor store before its backing is journaled, and leaves it after the
//!    journal forgot it.
//! 3. Every wait is bounded, and nothing here waits for a client: what would block is dropped with
//!    its session.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signalfd::SignalFd;
use pool_core::mem::MapError;
use pool_core::packet::PacketError;
use pool_core::sync::Arc;
use pool_core::{BackingId, ClientId, DeviceId, Nanos, SegmentId, clock, crash_point, planted};

use crate::device::builder::Builder;
use crate::device::{Place, SetupError};
use crate::engine::command::{Command, ConnectionId, TicketId, WorldError};
use crate::engine::effect::{Action, Effects};
use crate::engine::plan::Plan;
use crate::engine::{Engine, Found, RecoverError};
use crate::journal::{Journal, JournalError, Record};
use crate::server::ServerError;
use crate::server::handle::{Inbox, Question};
use crate::server::metrics::Metrics;
use crate::store::StoreError;
use crate::sys::Failed;

mod closer;
mod domains;
mod ending;
mod files;
mod gauges;
mod intake;
mod liveness;
mod outcomes;
mod perform;
mod poller;
mod process;
mod questions;
mod regions;
mod sessions;
mod start;
mod stewards;
mod watchdog;

pub use questions::Doctor;
pub use start::{OnStop, Setup};

use closer::Closer;
use domains::Domains;
use ending::Lingering;
use files::Files;
use gauges::Gauges;
use liveness::Liveness;
use poller::{Poller, Token};
use regions::RegionDesk;
use sessions::Sessions;
use stewards::Stewards;
use watchdog::Watchdog;

/// Every named point at which a test may end the daemon, in the order of a request's way.
pub const CRASH_POINTS: &[&str] = &[
    "recover.loaded",
    "recover.adopted",
    "recover.committed",
    "store.before-put",
    "store.after-put",
    "batch.before-commit",
    "batch.after-commit",
    "reply.before-send",
    "reply.after-send",
    "release.before-destroy",
    "release.before-commit",
    "release.after-commit",
    "release.after-forget",
    "domain.formatted",
    "domain.entered",
    "domain.slot-left",
    "domain.recovered",
];

/// The same of the eviction of members from a domain.
pub const EVICTION_POINTS: &[&str] = &[
    "evict.journaled",
    "evict.fenced",
    "evict.copied",
    "evict.committed",
];

/// The longest wait: the service manager's watchdog is fed at least so often.
const WAIT_MAX: Nanos = Nanos::from_millis(1_000);
/// The time between two tries of a journal that fails.
const JOURNAL_PAUSE: Nanos = Nanos::from_millis(200);

/// Why the daemon cannot start, or cannot go on. Whoever holds memory goes on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactorError {
    /// A system call failed that the daemon cannot do without.
    #[error(
        "{call} failed with {errno}, which cannot be done without: see to it that the machine has \
         memory and descriptors to spare (LimitNOFILE), and start the daemon again"
    )]
    Os {
        /// Which.
        call: &'static str,
        /// How.
        errno: Errno,
    },
    /// The session socket cannot be set up at this path.
    #[error("the session socket {path} cannot be set up: {reason}")]
    Socket {
        /// Where it was to be.
        path: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A page cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A socket failed.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A device cannot be set up.
    #[error("device {name}: {source}")]
    Device {
        /// Its name.
        name: String,
        /// Why not.
        source: SetupError,
    },
    /// A device failed at the start.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The builder cannot be started.
    #[error(transparent)]
    Builder(#[from] SetupError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal and the configuration do not fit.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The descriptor store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operators' servers ended unasked. Their log says why.
    #[error("the servers for operators have ended")]
    ServersEnded,
    /// The way to the servers failed.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl ReactorError {
    fn os(call: &'static str, errno: Errno) -> Self {
        Self::Os { call, errno }
    }
}

impl From<Failed> for ReactorError {
    fn from(Failed { call, errno }: Failed) -> Self {
        Self::Os { call, errno }
    }
}

/// The state of the thread.
#[derive(Debug)]
pub struct Reactor {
    engine: Engine,
    plan: Plan,
    boot_id: String,
    pool_id: String,
    journal: Box<dyn Journal>,
    /// Set while the journal has failed: when it is tried again.
    journal_down_until: Option<Nanos>,
    files: Files,
    builder: Builder,
    /// Files kept ready of each kind on each device that gives memory.
    stock: usize,
    /// What is being built, and where.
    building: BTreeMap<BackingId, DeviceId>,
    /// Clients that are gone, and files that are destroyed, of which no commit says so yet.
    gone: BTreeSet<ClientId>,
    destroyed: BTreeSet<BackingId>,
    /// Segments whose contents are being copied, by the first backing they are copied to.
    copying: BTreeMap<BackingId, SegmentId>,
    domains: Domains,
    stewards: Stewards,
    sessions: Sessions,
    closer: Closer,
    /// Sockets of which the peer has not read everything.
    lingering: Vec<Lingering>,
    /// The kernel lets a socket refuse descriptors (Linux 6.16).
    can_refuse: bool,
    poller: Poller,
    listener: OwnedFd,
    /// Set while the process has no descriptor for another connection.
    accept_again_at: Option<Nanos>,
    inbox: Inbox,
    questions: BTreeMap<TicketId, Question>,
    last_ticket: u64,
    liveness: Liveness,
    signals: SignalFd,
    gauges: Gauges,
    doctor: Doctor,
    regions: RegionDesk,
    batch: Batch,
    /// Where messages are received.
    buffer: Box<[u8]>,
    on_stop: OnStop,
    session_socket: PathBuf,
    watchdog: Watchdog,
    stopping: bool,
}

/// What the steps of one round want done.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<Record>,
    actions: Vec<Action>,
    /// Files that the journal knows no more once the records are durable.
    forgotten: Vec<BackingId>,
}

impl Reactor {
    /// Serves until a signal says to stop, or something fails that cannot be done without;
    /// `healthy` says whether the rest of the daemon still runs.
    ///
    /// # Errors
    /// [`ReactorError`]; clients keep what they have, and a restarted daemon takes up from the
    /// journal.
    pub fn run(mut self, healthy: impl Fn() -> bool) -> Result<(), ReactorError> {
        while !self.stopping {
            self.watchdog.feed();
            if !healthy() {
                return Err(ReactorError::ServersEnded);
            }
            let ready = self.poller.wait(self.patience())?;
            for token in ready {
                self.take(token)?;
            }
            self.keep_time()?;
            self.work_on_domains(clock::now());
            self.finish_batch()?;
            self.hear_stewards()?;
            self.builder.restock();
            self.gauges
                .update(&self.engine, self.files.oldest_quarantine(), clock::now());
        }
        self.stop()
    }

    /// Does what is said of devices whose memory comes from a fabric. While the journal is down
    /// nobody is heard.
    fn hear_stewards(&mut self) -> Result<(), ReactorError> {
        if self.journal_down_until.is_some() {
            // What waits would wake the reactor again and again.
            self.stewards.hush();
            return Ok(());
        }
        let words = self.stewards.take();
        for word in words {
            self.step(word);
        }
        self.finish_batch()?;
        if self.journal_down_until.is_none() {
            self.stewards.done(&self.engine);
        }
        Ok(())
    }

    /// How long there is nothing to do unasked.
    fn patience(&self) -> Nanos {
        // While the journal is down the engine is not asked, and its time does not pass.
        let engine = match self.journal_down_until {
            None => self.engine.next_deadline(),
            down_until => down_until,
        };
        let deadlines = [
            engine,
            self.files.next_look(),
            self.files.refill_at(),
            self.sessions.next_deadline(),
            self.accept_again_at,
            self.domains.next_deadline(),
        ];
        let next = deadlines.into_iter().flatten().min();
        next.map_or(WAIT_MAX, |at| {
            at.saturating_since(clock::now()).min(WAIT_MAX)
        })
    }

    fn take(&mut self, token: Token) -> Result<(), ReactorError> {
        match token {
            Token::Listener => self.accept(),
            Token::Connection(connection) => self.read(connection),
            Token::Inbox => self.take_questions()?,
            Token::Builder => self.take_outcomes(),
            Token::Regions => self.take_region_outcomes(),
            // They are heard in each round.
            Token::Stewards => {}
            Token::Liveness => {
                for client in self.liveness.dead() {
                    self.client_is_dead(client);
                }
            }
            Token::Process(client) => self.client_is_dead(client),
            Token::Departed(number) => self.has_ended(number),
            Token::Events(client) => self.flush_events(client),
            Token::Signals => self.take_signals()?,
            Token::Store => {
                self.files
                    .store_connection()
                    .into_iter()
                    .for_each(|gone| self.poller.remove(gone));
                self.files.store_is_gone(clock::now());
            }
        }
        Ok(())
    }

    /// What is due.
    fn keep_time(&mut self) -> Result<(), ReactorError> {
        let now = clock::now();
        if self.journal_down_until.is_some_and(|at| at <= now) {
            self.recover_from_journal();
        }
        for connection in self.sessions.overdue_strangers(now) {
            self.close_connection(connection);
        }
        for client in self.sessions.overdue_clients(now) {
            self.client_is_dead(client);
        }
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            self.poller
                .add(&self.listener, Token::Listener, poller::Interest::Readable)?;
        }
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.step(Command::Tick);
        }
        if self.files.refill_at().is_some_and(|at| at <= now) {
            self.refill_store(now);
        }
        self.close_lingering();
        self.destroy_proven(now);
        Ok(())
    }

    /// Fills a store that failed.
    fn refill_store(&mut self, now: Nanos) {
        self.files.refill(now);
        if let Err(error) = self.watch_store() {
            // Its end is then noticed with the next descriptor.
            tracing::warn!(%error, "the descriptor store cannot be waited for");
        }
    }

    /// Waits for the end of the store; one that is closed is not waited for any more.
    fn watch_store(&self) -> Result<(), ReactorError> {
        match self.files.store_connection() {
            Some(store) => self.poller.add(store, Token::Store, poller::Interest::End),
            None => Ok(()),
        }
    }

    /// One step of the engine; what it wants done joins the batch, but for builds, the end of what
    /// was built for nothing, and the writing of directories, which begin at once. While the
    /// journal is down nothing is done: the engine of after learns it from the world.
    fn step(&mut self, command: Command) {
        if self.journal_down_until.is_some() {
            return;
        }
        let effects = self.engine.step(clock::now(), command);
        self.absorb(effects);
    }

    fn absorb(&mut self, effects: Effects) {
        self.batch.records.extend(effects.records);
        for action in effects.actions {
            match action {
                Action::Build {
                    backing,
                    device,
                    bytes,
                    runs,
                    shareable,
                } => {
                    self.building.insert(backing, device);
                    let place = Place { bytes, runs: &runs };
                    if let Some(file) = self.builder.build(device, backing, place, shareable) {
                        self.adopt_built(backing, Ok(file));
                    }
                }
                // As builds: nothing of it is remembered.
                Action::Format {
                    segment,
                    directory,
                    layout,
                    mode,
                    incarnation,
                    checksums,
                } => {
                    let header = (mode, incarnation, checksums);
                    self.domains.format(segment, directory, layout, header);
                }
                // Nobody was ever given it, nor is it remembered. What is built in its place is
                // built after it is gone.
                Action::Discard { backing } => self.discard(backing),
                action => self.batch.actions.push(action),
            }
        }
    }

    /// Makes the batch durable and performs it, with what that leads to.
    fn finish_batch(&mut self) -> Result<(), ReactorError> {
        while !(self.batch.records.is_empty()
            && self.batch.actions.is_empty()
            && self.batch.forgotten.is_empty())
        {
            let batch = std::mem::take(&mut self.batch);
            if !batch.records.is_empty() {
                crash_point!("batch.before-commit");
                let begun = clock::now();
                if let Err(error) = self.journal.commit(&batch.records) {
                    tracing::error!(%error, "the journal failed: it is taken up anew, and all \
                     clients come back to it");
                    self.give_up(batch.actions);
                    continue;
                }
                self.gauges
                    .metrics()
                    .journal_commit(clock::now().saturating_since(begun));
                self.gone.clear();
                crash_point!("batch.after-commit");
            }
            for action in batch.actions {
                self.perform(action)?;
            }
            if !batch.forgotten.is_empty() {
                crash_point!("release.after-commit");
                for backing in batch.forgotten {
                    self.destroyed.remove(&backing);
                    self.files.forget(backing);
                }
                crash_point!("release.after-forget");
            }
        }
        Ok(())
    }

    /// Gives the engine up, with a batch of which nobody knows whether it was made durable.
    fn give_up(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.leave_in_doubt(action);
        }
        self.hang_up_on_all();
        self.domains.forget_work();
        self.batch = Batch::default();
        self.journal_down_until = Some(clock::now());
    }

    /// Closes every connection. Whose it was is not to blame, and is awaited without an end.
    fn hang_up_on_all(&mut self) {
        let connections = std::mem::take(&mut self.sessions.connections);
        let mut events = Vec::new();
        for client in self.sessions.clients.values_mut() {
            client.asked = None;
            let connection = client.connection.take().and_then(|id| connections.get(&id));
            if let (Some(connection), Some(socket)) = (connection, client.events.take()) {
                events.push((connection.peer.uid, socket.socket));
            }
        }
        for (uid, socket) in events {
            self.end(uid, !self.can_refuse, socket);
        }
        for connection in connections.into_values() {
            self.end(connection.peer.uid, connection.may_carry, connection.socket);
        }
    }

    /// An engine anew from the journal, in the midst of life.
    fn recover_from_journal(&mut self) {
        match self.recovered() {
            Ok((mut engine, effects)) => {
                engine.never_reuse_ids_of(&self.engine);
                self.engine = engine;
                self.journal_down_until = None;
                self.copying.clear(); // What is copied still is for files that nobody knows.
                self.absorb(effects);
                self.drop_unknown();
                self.catch_up();
                self.await_clients();
                self.stewards.begin_anew();
            }
            Err(error) => {
                tracing::error!(%error, "the journal is down: changes are refused until it is \
                 back");
                self.journal_down_until = Some(clock::now().saturating_add(JOURNAL_PAUSE));
                if planted!("reactor.goes_on_without_a_journal") {
                    self.journal = Box::new(crate::journal::memory::MemoryJournal::default());
                    self.journal_down_until = None;
                }
            }
        }
    }

    /// Tells the engine what has happened of which no commit says so.
    fn catch_up(&mut self) {
        for client in std::mem::take(&mut self.gone) {
            // Who had asked to detach has an entry still: the answer that closes it was in doubt.
            self.drop_client(client);
            self.step(Command::ClientGone { client });
        }
        for backing in self.destroyed.clone() {
            self.release(backing);
        }
    }

    /// The engine that the journal describes, once the journal takes its first record.
    fn recovered(&mut self) -> Result<(Engine, Effects), ReactorError> {
        let rows = self.journal.load()?;
        let found = Found {
            boot_id: self.boot_id.clone(),
            pool_id: self.pool_id.clone(),
            present: self.files.ids().collect(),
        };
        let (engine, mut effects) = Engine::recover(self.plan.clone(), rows, &found, clock::now())?;
        self.journal.commit(&std::mem::take(&mut effects.records))?;
        Ok((engine, effects))
    }

    /// Files and clients that only the lost steps knew.
    fn drop_unknown(&mut self) {
        let known: BTreeSet<_> = self.engine.backing_ids().collect();
        let unknown: Vec<_> = self.files.ids().filter(|id| !known.contains(id)).collect();
        for backing in unknown {
            self.discard(backing);
        }
        let known: BTreeSet<_> = self.engine.processes().map(|(client, _)| client).collect();
        let unknown: Vec<_> = self
            .sessions
            .clients
            .keys()
            .filter(|id| !known.contains(id))
            .copied()
            .collect();
        for client in unknown {
            self.drop_client(client);
        }
    }

    fn metrics(&self) -> &Arc<Metrics> {
        self.gauges.metrics()
    }

    /// A new name for an operator's question.
    fn next_ticket(&mut self) -> TicketId {
        self.last_ticket += 1;
        TicketId(self.last_ticket)
    }

    /// The client is dead, or given up: what it has in this process is closed.
    fn client_is_dead(&mut self, client: ClientId) {
        self.drop_client(client);
        self.gone.insert(client);
        self.step(Command::ClientGone { client });
        self.files.look_at_all(clock::now());
    }

    fn drop_client(&mut self, client: ClientId) {
        let Some(attached) = self.sessions.clients.remove(&client) else {
            return;
        };
        if let Some(pidfd) = &attached.pidfd {
            self.poller.remove(pidfd);
        }
        let connection = attached.connection;
        let connection = connection.and_then(|id| self.sessions.connections.remove(&id));
        let uid = connection.as_ref().map_or(u32::MAX, |c| c.peer.uid);
        if let Some(connection) = connection {
            self.end(uid, connection.may_carry, connection.socket);
        }
        if let Some(events) = attached.events {
            self.end(uid, !self.can_refuse, events.socket);
        }
        self.liveness.forget(client);
    }

    fn close_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.sessions.connections.remove(&id) else {
            return;
        };
        let (uid, client) = (connection.peer.uid, connection.client);
        self.end(uid, connection.may_carry, connection.socket);
        let attached = client.and_then(|client| self.sessions.clients.get_mut(&client));
        let Some(attached) = attached.filter(|attached| attached.connection == Some(id)) else {
            return;
        };
        attached.connection = None;
        attached.give_up_at = Some(clock::now().saturating_add(self.plan.reattach_grace));
        if let Some(events) = attached.events.take() {
            self.end(uid, !self.can_refuse, events.socket);
        }
        // One that comes back in this very round is not away.
        let mut back = self.batch.actions.iter().filter_map(|action| match action {
            Action::Bind { client, .. } => Some(*client),
            _ => None,
        });
        let is_back = back.any(|back| Some(back) == client);
        if let Some(client) = client.filter(|_| !is_back) {
            self.step(Command::Disconnected { client });
        }
    }
}
