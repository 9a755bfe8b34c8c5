//! A small world around the engine, in which nothing happens by itself.
//!
//! It does what the reactor does: it commits the records of a step, then performs the actions.
//! Files hold one number an extent, so that it shows which contents are where. After each step
//! [`super::laws`] are checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pool_core::{BackingId, Bytes, DeviceId, EXTENT_BYTES, Nanos, SegmentId};
use pool_proto::admin::v1::Device as DeviceMessage;
use pool_proto::common::v1::{Error, Pages};

use super::domains;
use super::laws;
use super::process::{Pid, Process};
use crate::engine::command::{Built, Command, FileIdentity, Operation, TicketId, WorldError};
use crate::engine::effect::{Action, Effects, GroupAsk};
use crate::engine::plan::Plan;
use crate::engine::{Engine, Found, RecoverError, Run, RunSet};
use crate::journal::{Record, Rows, Table};

/// A file as the world has it.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) shareable: bool,
    pub(super) persistent: bool,
    /// The daemon has a descriptor of it.
    pub(super) kept: bool,
    /// One number an extent.
    pub(super) contents: Vec<u64>,
}

/// How a step ends that does not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The daemon died before the commit.
    BeforeCommit,
    /// The daemon died after the commit, before it did or said anything.
    AfterCommit,
}

/// The engine and everything around it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) plan: Plan,
    pub(super) now: Nanos,
    pub(super) boot: u32,
    /// What the journal holds.
    pub(super) durable: BTreeMap<(Table, u64), Record>,
    pub(super) files: BTreeMap<BackingId, File>,
    pub(super) processes: BTreeMap<Pid, Process>,
    pub(super) building: VecDeque<(BackingId, Bytes, bool, DeviceId)>,
    pub(super) copying: VecDeque<(SegmentId, Vec<BackingId>, Vec<BackingId>)>,
    pub(super) domains: domains::World,
    pub(super) watched: BTreeSet<BackingId>,
    /// What left a dynamic device last.
    pub(super) withdrawn: Option<Vec<Run>>,
    /// The extents of the dynamic device that are there, and those that are bad.
    pub(super) there: RunSet,
    pub(super) bad: RunSet,
    /// What is to be done about groups, in order.
    pub(super) asked_of_groups: Vec<GroupAsk>,
    /// Files of groups that the reactor is to destroy.
    pub(super) to_destroy: Vec<BackingId>,
    pub(super) published: Vec<String>,
    pub(super) operated: Option<Result<Option<DeviceMessage>, Error>>,
    /// Builds and copies succeed at once.
    pub(super) prompt: bool,
    pub(super) laws: laws::Memory,
}

pub(super) fn rows(durable: &BTreeMap<(Table, u64), Record>) -> Rows {
    let mut rows = Rows::default();
    for record in durable.values().cloned() {
        match record {
            Record::Pool(row) => rows.pool = Some(row),
            Record::Device(row) => rows.devices.push(row),
            Record::Tenant(row) => rows.tenants.push(row),
            Record::Client(row) => rows.clients.push(row),
            Record::Segment(row) => rows.segments.push(row),
            Record::Backing(row) => rows.backings.push(row),
            Record::Delete(..) => unreachable!("a deletion is no row"),
        }
    }
    rows
}

pub(super) fn commit(durable: &mut BTreeMap<(Table, u64), Record>, records: &[Record]) {
    for record in records {
        match record {
            Record::Delete(table, key) => _ = durable.remove(&(*table, *key)),
            record => _ = durable.insert(record.place(), record.clone()),
        }
    }
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let found = Found {
            boot_id: "boot-1".into(),
            pool_id: "pool".into(),
            ..Found::default()
        };
        let recovered = Engine::recover(plan.clone(), Rows::default(), &found, Nanos::ZERO);
        let (engine, effects) = recovered.unwrap();
        let mut world = Self {
            engine,
            plan,
            now: Nanos::ZERO,
            boot: 1,
            durable: BTreeMap::new(),
            files: BTreeMap::new(),
            processes: BTreeMap::new(),
            building: VecDeque::new(),
            copying: VecDeque::new(),
            domains: domains::World::default(),
            watched: BTreeSet::new(),
            withdrawn: None,
            there: RunSet::default(),
            bad: RunSet::default(),
            asked_of_groups: Vec::new(),
            to_destroy: Vec::new(),
            published: Vec::new(),
            operated: None,
            prompt: true,
            laws: laws::Memory::default(),
        };
        world.commit(&effects);
        world.perform(effects);
        world
    }

    /// One step of the engine, and all that follows from it at once.
    pub(super) fn step(&mut self, command: Command) {
        self.step_alone(command);
        if self.prompt {
            self.work();
        }
    }

    pub(super) fn step_alone(&mut self, command: Command) {
        let effects = self.engine.step(self.now, command);
        laws::of_effects(self, &effects);
        self.commit(&effects);
        self.perform(effects);
        laws::of_state(self);
    }

    /// A step during which the daemon dies, and the start after it. `keeps` says which descriptors
    /// of the daemon outlive it.
    pub(super) fn lose_step(
        &mut self,
        command: Command,
        loss: Loss,
        keeps: impl Fn(BackingId) -> bool,
    ) {
        let effects = self.engine.step(self.now, command);
        if loss == Loss::AfterCommit {
            self.commit(&effects);
        }
        self.restart(keeps);
    }

    fn commit(&mut self, effects: &Effects) {
        laws::of_commit(self, &effects.records);
        commit(&mut self.durable, &effects.records);
    }

    fn perform(&mut self, effects: Effects) {
        for action in effects.actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Bind { connection, client } => {
                let process = self.process_of_connection(connection);
                process.connected = true;
                assert!(
                    process.session.as_ref().is_none_or(|s| s.0 == client),
                    "a process has one session"
                );
            }
            Action::Welcome {
                connection, reply, ..
            } => self.welcome(connection, reply.body.unwrap()),
            Action::Reply {
                client,
                reply,
                files,
            } => self.answer(client, &reply, &files),
            Action::Event { client, event } => self.notify(client, event.body.unwrap()),
            Action::Close { client } => {
                let pid = self.pid_of(client).unwrap();
                let process = self.processes.get_mut(&pid).unwrap();
                (process.connected, process.session) = (false, None);
                process.held.clear();
                if process.tidy {
                    process.mapped.clear();
                }
            }
            Action::Build {
                backing,
                device,
                bytes,
                shareable,
                ..
            } => self.building.push_back((backing, bytes, shareable, device)),
            Action::Withdrawn { device, runs } => {
                assert_eq!(device, self.dynamic_device());
                self.there = self.there.minus(&runs.iter().copied().collect());
                self.withdrawn = Some(runs);
            }
            Action::Group { ask, .. } => self.asked_of_groups.push(ask),
            Action::Copy { segment, from, to } => self.copying.push_back((segment, from, to)),
            Action::Watch { backing } => {
                assert!(self.files[&backing].kept, "only what is there is watched");
                self.watched.insert(backing);
            }
            Action::Discard { backing } => self.discard(backing),
            Action::Destroy { backing } => self.destroy(backing),
            Action::Answer { outcome, .. } => self.operated = Some(outcome),
            Action::Format { .. }
            | Action::Enter { .. }
            | Action::AwaitEnd { .. }
            | Action::Recover(_)
            | Action::Hold(_)
            | Action::Look { .. }
            | Action::EndRecall { .. }
            | Action::Lease { .. } => self.act_on_domain(action),
            Action::Publish(event) => self.published.push(event.kind),
        }
    }

    fn destroy(&mut self, backing: BackingId) {
        // Other hosts have it, so nobody proves more than that nobody here has.
        let place = (Table::Backings, backing.number());
        let is_kept = self.durable.contains_key(&place);
        assert!(
            is_kept && !self.is_mapped(backing),
            "{backing} is in quarantine"
        );
        self.to_destroy.push(backing);
    }

    fn discard(&mut self, backing: BackingId) {
        let given = |p: &Process| p.received.contains(&backing);
        assert!(
            !self.processes.values().any(given),
            "{backing} was given to somebody and is discarded"
        );
        let place = (Table::Backings, backing.number());
        assert!(!self.durable.contains_key(&place));
        self.files.remove(&backing);
    }

    /// Builds and copies until there is nothing to do.
    pub(super) fn work(&mut self) {
        loop {
            if !self.building.is_empty() {
                self.finish_build(0, Ok(()));
            } else if !self.copying.is_empty() {
                self.finish_copy(Ok(()));
            } else if let Some(backing) = self.to_destroy.pop() {
                self.files.remove(&backing);
                self.step_alone(Command::Released { backing });
            } else if !self.finish_domain_work(true) {
                return;
            }
        }
    }

    /// Ends one build.
    pub(super) fn finish_build(&mut self, index: usize, outcome: Result<(), WorldError>) {
        let Some((backing, bytes, shareable, device)) = self.building.remove(index) else {
            return;
        };
        let result = outcome.map(|()| {
            let persistent = self.is_persistent(device);
            let count = usize::try_from(bytes.get() / EXTENT_BYTES).unwrap();
            let file = File {
                shareable,
                persistent,
                kept: true,
                contents: vec![0; count],
            };
            let before = self.files.insert(backing, file);
            assert!(before.is_none(), "{backing} is built twice");
            Built {
                pages: if shareable {
                    Pages::Collapsed
                } else {
                    Pages::Hugetlb
                },
                identity: FileIdentity {
                    device: 7,
                    inode: backing.number(),
                },
            }
        });
        self.step_alone(Command::Built { backing, result });
    }

    /// Ends one copy.
    pub(super) fn finish_copy(&mut self, outcome: Result<(), WorldError>) {
        let Some((segment, from, to)) = self.copying.pop_front() else {
            return;
        };
        if outcome.is_ok() {
            let contents: Vec<u64> = from
                .iter()
                .filter_map(|id| self.files.get(id))
                .flat_map(|file| file.contents.clone())
                .collect();
            let mut contents = contents.into_iter();
            for backing in &to {
                if let Some(file) = self.files.get_mut(backing) {
                    file.contents.fill_with(|| contents.next().unwrap_or(0));
                }
            }
        }
        self.step_alone(Command::Copied {
            segment,
            result: outcome,
        });
    }

    fn is_persistent(&self, device: DeviceId) -> bool {
        self.engine.devices[&device].plan.persistent
    }

    /// Proves what can be proven: files that are watched and mapped by nobody are gone.
    pub(super) fn prove(&mut self) {
        for backing in self.watched.clone() {
            self.prove_one(backing);
        }
    }

    pub(super) fn prove_one(&mut self, backing: BackingId) {
        if self.watched.contains(&backing) && !self.is_mapped(backing) {
            self.watched.remove(&backing);
            self.files.remove(&backing);
            self.step(Command::Released { backing });
        }
    }

    pub(super) fn is_mapped(&self, backing: BackingId) -> bool {
        let maps = |process: &Process| process.mapped.contains_key(&backing);
        self.processes.values().any(maps)
    }

    pub(super) fn operate(&mut self, operation: Operation) -> Result<Option<DeviceMessage>, Error> {
        self.operated = None;
        let ticket = TicketId(1);
        self.step(Command::Operate { ticket, operation });
        self.operated.take().unwrap()
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.now = self.now.saturating_add(Nanos::from_millis(millis));
        self.step(Command::Tick);
    }

    /// The daemon dies and starts again. `keeps` says which of its descriptors outlive it.
    pub(super) fn restart(&mut self, keeps: impl Fn(BackingId) -> bool) {
        for (&id, file) in &mut self.files {
            file.kept = file.persistent || (file.kept && keeps(id));
        }
        self.start().unwrap();
    }

    /// The daemon dies with the machine: no process lives, and memory is empty.
    pub(super) fn reboot(&mut self) {
        self.boot += 1;
        self.processes.clear();
        self.files.retain(|_, file| file.persistent);
        self.start().unwrap();
    }

    /// The daemon starts from the journal, with the descriptors it kept.
    pub(super) fn start(&mut self) -> Result<(), RecoverError> {
        self.building.clear();
        self.copying.clear();
        self.domains.forget_work();
        self.watched.clear();
        let durable = &self.durable;
        let journaled = |id: &BackingId| durable.contains_key(&(Table::Backings, id.number()));
        for (id, file) in &mut self.files {
            file.kept &= journaled(id);
        }
        self.forget_unkept();
        for process in self.processes.values_mut() {
            process.connected = false;
        }
        let kept = self.files.iter().filter(|(_, file)| file.kept);
        let found = Found {
            boot_id: format!("boot-{}", self.boot),
            pool_id: "pool".into(),
            present: kept.map(|(id, _)| *id).collect(),
        };
        let recover = |rows| Engine::recover(self.plan.clone(), rows, &found, self.now);
        let (engine, effects) = recover(rows(&self.durable))?;
        laws::of_recovery(self, &engine, &effects, recover);
        self.engine = engine;
        self.commit(&effects);
        self.perform(effects);
        laws::of_state(self);
        if self.prompt {
            self.work();
        }
        Ok(())
    }
}
