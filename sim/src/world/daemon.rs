//! A host's daemon: it steps, commits, and performs; it dies anywhere between, and starts again.

use fabric_emu::cci::{Request, Response, ReturnCode, Tag};
use pool_core::{BackingId, ClientId, SegmentId, planted};
use pool_daemon::engine::command::{
    Built, Capacity, Command, ConnectionId, FileIdentity, Operation, TicketId, WorldError,
};
use pool_daemon::engine::effect::{Action, Effects};
use pool_daemon::engine::{Engine, Found};
use pool_daemon::journal::{Record, Table};
use pool_daemon::steward::{Do, Steward, Unanswered, Whose};
use pool_proto::admin::v1::PoolEvent;
use pool_proto::common::v1::{Access, Pages};
use pool_proto::session::v1::{self as session, reply};

use super::World;
use super::groups::Voice;
use super::heap::Heap;
use super::lines::PRIVATE;
use super::machine::{Loss, Order, Transfer, commit, rows};
use super::plans;
use crate::broken::{Checked, broken, holds};
use crate::oracle::books::{Books, Known};
use crate::oracle::waits::Waits;

/// Steps of a steward in one round at most.
const STEPS_MAX: usize = 512;
/// A steward stops between two steps, until time has passed, once in so many.
const PAUSES_ONCE_IN: u32 = 32;
/// The manager does what it is asked and is not heard, once in so many.
const MUTE_ONCE_IN: u32 = 16;
/// Steps that follow from one another at most. More of them would never end.
const ROUNDS_MAX: usize = 4_096;

fn number_of(command: &Command) -> (u64, u64) {
    match command {
        Command::Attach { peer, .. } => (1, peer.pid.into()),
        Command::Reattach { peer, .. } => (2, peer.pid.into()),
        Command::Request { client, .. } => (3, client.number()),
        Command::Supplied { backing, .. } => (4, backing.number()),
        Command::Disconnected { client } => (5, client.number()),
        Command::ClientGone { client } => (6, client.number()),
        Command::Built { backing, .. } => (7, backing.number()),
        Command::Copied { segment, .. } => (8, segment.number()),
        Command::Released { backing } => (9, backing.number()),
        Command::Formatted { segment, .. } => (10, segment.number()),
        Command::Ended { segment, .. } => (11, segment.number()),
        Command::Recovered { segment, .. } => (12, segment.number()),
        Command::Looked { segment, .. } => (13, segment.number()),
        Command::Held { segment, .. } => (14, segment.number()),
        Command::Leased { client, .. } => (15, client.number()),
        Command::Operate { .. } => (16, 0),
        Command::Tick => (17, 0),
        Command::Capacity { device, .. } => (18, device.number().into()),
    }
}

fn name_of(action: &Action) -> (&'static str, u64) {
    match action {
        Action::Bind { client, .. } => ("bind", client.number()),
        Action::Welcome { welcome, .. } => ("welcome", u64::from(*welcome)),
        Action::Reply { client, .. } => ("reply", client.number()),
        Action::Event { client, .. } => ("event", client.number()),
        Action::Close { client } => ("close-session", client.number()),
        Action::Build { backing, .. } => ("order", backing.number()),
        Action::Copy { segment, .. } => ("transfer", segment.number()),
        Action::Format { segment, .. } => ("format", segment.number()),
        Action::Enter { directory, .. } => ("enter", directory.number()),
        Action::AwaitEnd { segment, .. } => ("await-end", segment.number()),
        Action::Recover(recovery) => ("recover", recovery.segment.number()),
        Action::Look { segment, .. } => ("look", segment.number()),
        Action::EndRecall { unit, .. } => ("end-recall", u64::from(*unit)),
        Action::Hold(hold) => ("hold", hold.segment.number()),
        Action::Lease { client, .. } => ("lease-for", client.number()),
        Action::Watch { backing } => ("watch", backing.number()),
        Action::Discard { backing } => ("discard", backing.number()),
        Action::Destroy { backing } => ("destroy", backing.number()),
        Action::Answer { .. } => ("answer", 0),
        Action::Publish(_) => ("publish", 0),
        Action::Withdrawn { device, .. } => ("withdrawn", device.number().into()),
        Action::Group { device, .. } => ("group", device.number().into()),
    }
}

fn said(change: &Capacity) -> u64 {
    let count = |runs: &[pool_daemon::engine::Run]| {
        runs.iter().map(|run| u64::from(run.count)).sum::<u64>()
    };
    match change {
        Capacity::Present(runs) => 1_000 + count(runs),
        Capacity::Withdraw { most, .. } => 2_000 + u64::from(*most),
        Capacity::Poisoned(runs) => 3_000 + count(runs),
        Capacity::Reached(reached) => 4_000 + u64::from(*reached),
        Capacity::Noted(note) => 5_000 + u64::from(note.is_empty()),
        Capacity::Groups(groups) => 6_000 + groups.len() as u64,
        Capacity::NoGroup { segment, .. } => 7_000 + segment.number(),
        Capacity::Unpublished(tag) => 8_000 + tag.addr().get(),
    }
}

impl World {
    /// One step of a host's daemon, and all that it wants done.
    pub(super) fn tell(&mut self, h: usize, command: Command) -> Checked {
        let now = self.time(h);
        let machine = &mut self.machines[h];
        machine.told_time = now;
        if machine.engine.is_none() || !machine.alive {
            return Ok(());
        }
        let (kind, what) = number_of(&command);
        self.trace.note("step", [h as u64, kind, what, now.get()]);
        let asks_for = match &command {
            Command::Request { client, .. } => Some(client.number()),
            _ => None,
        };
        let asks = matches!(
            command,
            Command::Request { .. } | Command::Attach { .. } | Command::Reattach { .. }
        );
        let looked = self.waits_before(h, now, &command);
        let machine = &mut self.machines[h];
        let Some(engine) = machine.engine.as_mut() else {
            return Ok(());
        };
        let effects = engine.step(now, command);
        self.waits_after(h, now, looked, &effects)?;
        let noted = self.note_step(h, effects.actions.len());
        let machine = &mut self.machines[h];
        let loss = machine.loss_of_step();
        let loss = loss.or_else(|| self.dies_as_it_leaves(h, &effects.actions));
        if loss == Some(Loss::BeforeCommit) {
            self.trace.reached("the daemon dies before the commit");
            return self.dies_in_step(h);
        }
        if asks {
            self.refusals_change_nothing(h, &effects)?;
        }
        if planted!("sim.destroys_before_the_commit") {
            for action in &effects.actions {
                if let Action::Destroy { backing } = action {
                    self.is_to_go(h, *backing)?;
                }
            }
        }
        self.commit(h, &effects.records)?;
        self.perform(h, effects.actions, loss)?;
        self.note_unwritten_in(h, noted);
        if let Some(client) = asks_for {
            self.machines[h].waits.has_asked(client);
        }
        let machine = &self.machines[h];
        match &machine.engine {
            Some(engine) => machine.books.accounted(engine),
            None => Ok(()),
        }
    }

    /// A step that only refuses has changed nothing.
    fn refusals_change_nothing(&self, h: usize, effects: &Effects) -> Checked {
        let refuses = |action: &Action| match action {
            Action::Reply { reply, .. } | Action::Welcome { reply, .. } => {
                matches!(reply.body, Some(reply::Body::Error(_)))
            }
            _ => false,
        };
        if effects.actions.is_empty() || !effects.actions.iter().all(refuses) {
            return Ok(());
        }
        let durable = &self.machines[h].durable;
        let changed = effects.records.iter().find(|record| match record {
            Record::Delete(table, key) => durable.contains_key(&(*table, *key)),
            record => durable.get(&record.place()) != Some(*record),
        });
        holds(changed.is_none(), "a refusal changes nothing", || {
            format!("{changed:?}")
        })
    }

    fn commit(&mut self, h: usize, records: &[Record]) -> Checked {
        let machine = &mut self.machines[h];
        let (files, processes) = (&machine.files, &machine.processes);
        let known = |id| {
            let id = BackingId::new(id);
            let file = id.and_then(|id| files.get(&id));
            let maps = |id: BackingId| processes.values().any(|p| p.mapped.contains_key(&id));
            Known {
                is_kept: file.is_some_and(|file| file.kept),
                is_mapped: id.is_some_and(maps),
            }
        };
        machine.books.commit(&machine.durable, records, known)?;
        if self.groups.commit(h, &machine.durable, records)? {
            self.trace.reached("a group is joined");
        }
        let deaf = planted!("sim.drops_a_record");
        let mut ended = Vec::new();
        for record in records {
            let (table, key) = match record {
                Record::Delete(table, key) => (*table, *key),
                record => record.place(),
            };
            self.trace
                .note("record", [h as u64, table as u64, key, u64::from(deaf)]);
            if let Record::Segment(row) = record
                && let Some(id) = SegmentId::new(row.segment_id)
            {
                let extents = if row.freed {
                    0
                } else {
                    u32::try_from(row.bytes / pool_core::EXTENT_BYTES).unwrap_or(u32::MAX)
                };
                machine.contents.resized(id, extents);
                ended.extend(row.freed.then_some(id));
            }
            if let Record::Delete(Table::Segments, id) = record
                && let Some(id) = SegmentId::new(*id)
            {
                machine.contents.resized(id, 0);
                machine.eras.ended(id);
                ended.push(id);
            }
        }
        for segment in ended {
            if let Some(heap) = &mut machine.heap
                && heap.segment_ended(segment)?
            {
                self.trace.reached("a chunk is gone under its heap");
            }
        }
        let kept = records.len() - usize::from(deaf && records.len() > 2);
        commit(&mut machine.durable, &records[..kept]);
        Ok(())
    }

    fn perform(&mut self, h: usize, actions: Vec<Action>, loss: Option<Loss>) -> Checked {
        let dies_after = match loss {
            Some(Loss::AfterCommit) => {
                self.trace.reached("the daemon dies after the commit");
                0
            }
            Some(Loss::After(count)) => {
                if count > 0 && count < actions.len() {
                    self.trace.reached("the daemon dies between two actions");
                }
                count
            }
            _ => usize::MAX,
        };
        for action in actions.into_iter().take(dies_after) {
            self.act(h, action)?;
        }
        if loss.is_some() {
            self.dies_in_step(h)?;
        }
        Ok(())
    }

    fn act(&mut self, h: usize, action: Action) -> Checked {
        let (name, what) = name_of(&action);
        self.trace.note(name, [h as u64, what, 0, 0]);
        let machine = &mut self.machines[h];
        match action {
            Action::Bind { connection, client } => return self.bound(h, connection, client),
            Action::Welcome {
                connection, reply, ..
            } => return self.welcomed(h, connection, reply.body),
            Action::Reply {
                client,
                reply,
                files,
            } => return self.replied(h, client, &reply, &files),
            Action::Event { client, event } => return self.told(h, client, event.body),
            Action::Close { client } => machine.closed(client),
            Action::Build {
                backing,
                device,
                bytes,
                shareable,
                runs,
            } => {
                let bytes = bytes.get();
                let order = Order {
                    backing,
                    device,
                    bytes,
                    runs,
                    shareable,
                };
                return self.ordered(h, order);
            }
            Action::Group { ask, .. } => return self.group_asked(h, ask),
            Action::Destroy { backing } => return self.is_to_go(h, backing),
            Action::Withdrawn { runs, .. } => {
                machine.books.withdrawn(&runs);
                let now = machine.clock.says(self.now);
                if let Some(voice) = &mut machine.steward {
                    voice.steward.withdrawn(now, runs);
                }
                self.trace.reached("memory is given back to the fabric");
            }
            Action::Copy { segment, from, to } => {
                machine.copying.push_back(Transfer { segment, from, to });
            }
            Action::Watch { backing } => {
                let is_there = machine.files.get(&backing).is_some_and(|file| file.kept);
                holds(is_there, "only what is there is watched", || {
                    backing.to_string()
                })?;
                _ = machine.watched.insert(backing);
            }
            Action::Discard { backing } => return self.discarded(h, backing),
            Action::Answer { outcome, .. } => machine.is_refused = outcome.is_err(),
            Action::Publish(event) => {
                self.published(h, &event);
                return self.waits_published(h, &event);
            }
            Action::AwaitEnd {
                segment,
                slot,
                process,
            } => machine.awaited.push((segment, slot, process.pid)),
            action => self.act_on_words(h, action),
        }
        Ok(())
    }

    /// A client is answered.
    fn replied(
        &mut self,
        h: usize,
        client: ClientId,
        reply: &session::Reply,
        files: &[(BackingId, Access)],
    ) -> Checked {
        self.waits_answered(h, client.number(), reply)?;
        self.answered(h, client, reply, files)
    }

    fn bound(&mut self, h: usize, connection: ConnectionId, client: ClientId) -> Checked {
        let pid = u32::try_from(connection.0).unwrap_or(0);
        let Some(process) = self.machines[h].processes.get_mut(&pid) else {
            return Ok(());
        };
        process.connected = true;
        let other = process.client().filter(|had| *had != client);
        holds(other.is_none(), "a process has one session", || {
            format!("{pid} is {other:?} and {client}")
        })
    }

    fn published(&mut self, h: usize, event: &PoolEvent) {
        if event.kind == "segment-damaged"
            && let Some(segment) = SegmentId::new(event.segment_id)
        {
            self.machines[h].contents.damaged(segment);
        }
        self.mark_event(&event.kind);
    }

    /// A file is ordered: of extents that are there, and good.
    fn ordered(&mut self, h: usize, order: Order) -> Checked {
        let is_dynamic = !self.mix.shipped && self.is_pooled(h, order.device);
        let machine = &mut self.machines[h];
        if is_dynamic {
            machine.books.ordered(&order.runs)?;
        }
        for run in &order.runs {
            let (first, count) = (u64::from(run.first), u64::from(run.count));
            let numbers = [h as u64, order.backing.number(), first, count];
            self.trace.note("carved", numbers);
        }
        let extents = order.runs.iter().map(|run| u64::from(run.count));
        let extents: u64 = extents.sum();
        let fits = extents * pool_core::EXTENT_BYTES == order.bytes;
        holds(fits, "a file is of its extents", || format!("{order:?}"))?;
        machine.building.push_back(order);
        Ok(())
    }

    /// The steward of a host says and asks what it wants to, until it rests.
    pub(super) fn run_steward(&mut self, h: usize) -> Checked {
        let now = self.time(h);
        for _ in 0..STEPS_MAX {
            let machine = &mut self.machines[h];
            if !machine.acts() {
                return Ok(());
            }
            let (Some(voice), Some(engine)) = (&mut machine.steward, &machine.engine) else {
                return Ok(());
            };
            let (device, groups) = (voice.own, voice.groups);
            let Some(demand) = engine.demand(device) else {
                return Ok(());
            };
            // Its thread is not always the next one that runs.
            if !self.heals && self.rng.once_in(PAUSES_ONCE_IN) {
                return Ok(());
            }
            let next = voice.steward.next(now, &demand);
            let answer = match next {
                Do::Rest(_) => return Ok(()),
                Do::Say(Whose::Groups, change) => {
                    self.trace.note("said", [h as u64, said(&change), 0, 1]);
                    self.says_of_groups(h, &change);
                    if let Some(device) = groups {
                        self.tell(h, Command::Capacity { device, change })?;
                    }
                    continue;
                }
                Do::Say(Whose::Own, change) => {
                    machine.books.told(&change);
                    self.trace.note("said", [h as u64, said(&change), 0, 0]);
                    if let Capacity::Present(runs) = &change {
                        for run in runs {
                            let (first, count) = (u64::from(run.first), u64::from(run.count));
                            self.trace.note("there", [h as u64, first, count, 0]);
                        }
                    }
                    self.tell(h, Command::Capacity { device, change })?;
                    continue;
                }
                Do::Mailbox(request) => {
                    self.asks_device(h, &request)?;
                    let answer = self.lines.ask_device(h, &request);
                    self.asked_about_groups(h, &request, &answer)?;
                    answer
                }
                Do::Manager(request) if self.has_nothing_for(&request) => {
                    Err(Unanswered::Refused(ReturnCode::ResourcesExhausted))
                }
                Do::Manager(request) => self.ask_manager_of(h, &request)?,
            };
            self.hear_of_lost();
            self.resets_in_between(h)?;
            if let Some(voice) = &mut self.machines[h].steward {
                let answer = answer.as_ref().map_err(|&unanswered| unanswered);
                voice.steward.answered(now, answer);
            }
        }
        broken("a steward rests", format_args!("that of host {h} does not"))
    }

    /// A steward asks the manager, which does what it is asked and may not be heard.
    fn ask_manager_of(
        &mut self,
        h: usize,
        request: &Request,
    ) -> Checked<Result<Response, Unanswered>> {
        self.asks_manager(h, request)?;
        if matches!(request, Request::InitiateAdd(_)) {
            self.trace.reached("more memory is asked for");
        }
        let answer = self.lines.ask_manager(request);
        self.asked_about_groups(h, request, &answer)?;
        if self.rng.once_in(MUTE_ONCE_IN) && !self.heals {
            self.trace.reached("what the manager did is not heard of");
            return Ok(Err(Unanswered::Unreached));
        }
        Ok(answer)
    }

    /// The manager has nothing, now and then: less often for groups, each of which takes more than
    /// one command.
    fn has_nothing_for(&mut self, request: &Request) -> bool {
        let is_own = matches!(request, Request::InitiateAdd(add) if add.tag == Tag::default());
        self.rng.once_in(if is_own { 4 } else { 12 }) && !self.heals
    }

    fn mark_event(&mut self, kind: &str) {
        let mark = match kind {
            "segment-lost" => "memory is lost with its descriptors",
            "segment-moved" => "a segment moves",
            "segment-shrunk" => "a segment shrinks",
            "segment-sealed" => "a segment is sealed",
            "segment-revoked" => "burst memory is revoked",
            "member-evicted" => "a member is evicted",
            "pressure" => "a grant waits for burst memory",
            "segment-damaged" => "holders are told of damage",
            "device-unreached" => "a device is not reached for a while",
            _ => return,
        };
        self.trace.reached(mark);
    }

    fn discarded(&mut self, h: usize, backing: BackingId) -> Checked {
        let machine = &mut self.machines[h];
        let mut processes = machine.processes.values();
        let given = processes.any(|p| p.received.contains(&backing));
        let journaled = machine
            .durable
            .contains_key(&(Table::Backings, backing.number()));
        machine.files.remove(&backing);
        holds(
            !given && !journaled,
            "only what nobody had is discarded",
            || backing.to_string(),
        )
    }

    /// The daemon dies in a step, and its host with it where that was said.
    fn dies_in_step(&mut self, h: usize) -> Checked {
        match self.machines[h].takes_host.take() {
            Some(set) => self.host_dies_with(h, set),
            None => self.daemon_dies(h),
        }
    }

    /// The daemon dies; what it has not committed is forgotten, and some of its descriptors.
    pub(super) fn daemon_dies(&mut self, h: usize) -> Checked {
        self.trace.fault("daemon-death", [h as u64, 0, 0, 0]);
        let keeps = self.rng.below(4);
        let machine = &mut self.machines[h];
        machine.engine = None;
        machine.steward = None;
        (machine.armed, machine.takes_host) = (None, None);
        machine.building.clear();
        machine.copying.clear();
        machine.work.clear();
        machine.awaited.clear();
        machine.watched.clear();
        machine.heap.iter_mut().for_each(Heap::outlives);
        machine.leaving_files.clear();
        self.groups.daemon_dies(h);
        for process in machine.processes.values_mut() {
            process.connected = false;
        }
        for (id, file) in &mut machine.files {
            // One death in four keeps all descriptors, one none, the others some.
            let stored = match keeps {
                0 => true,
                1 => false,
                _ => self.rng.below(3) > 0,
            };
            let journaled = (Table::Backings, id.number());
            file.kept =
                (file.pooled || file.kept && stored) && machine.durable.contains_key(&journaled);
        }
        machine.forget_unkept();
        Ok(())
    }

    /// The daemon starts from its journal, with the descriptors it kept.
    pub(super) fn daemon_starts(&mut self, h: usize) -> Checked {
        let now = self.time(h);
        let machine = &mut self.machines[h];
        if machine.engine.is_some() || !machine.acts() {
            return Ok(());
        }
        self.trace.note("daemon-starts", [h as u64, 0, 0, 0]);
        let boot_id = format!("boot-{}", machine.boot);
        let kept = machine.files.iter().filter(|(_, file)| file.kept);
        let found = Found {
            boot_id: boot_id.clone(),
            pool_id: "pool".to_owned(),
            present: kept.map(|(id, _)| *id).collect(),
        };
        let plan = machine.plan.clone();
        let now = if planted!("sim.starts_at_the_time_of_before") {
            now.max(machine.told_time)
        } else {
            now
        };
        let recover = |durable: &_| Engine::recover(plan.clone(), rows(durable), &found, now);
        let (engine, effects) = match recover(&machine.durable) {
            Ok(recovered) => recovered,
            Err(error) => return broken("a daemon starts from its journal", error),
        };
        let noted = self.note_step(h, effects.actions.len());
        let machine = &mut self.machines[h];
        let loss = machine.loss_of_step();
        if loss.is_some() {
            self.trace.reached("the daemon dies in its recovery");
        }
        if loss == Some(Loss::BeforeCommit) {
            return self.dies_in_step(h);
        }
        let mut after = machine.durable.clone();
        commit(&mut after, &effects.records);
        match recover(&after) {
            Ok((_, again)) => {
                Books::restarted(&machine.durable, &after, &boot_id, &again.records)?;
            }
            Err(error) => return broken("a daemon starts from its journal", error),
        }
        let named = |name| {
            let mut ids = engine.device_ids();
            ids.find(|(_, it)| *it == name).map(|(id, _)| id)
        };
        let own = named("p0").filter(|_| !self.mix.shipped);
        machine.steward = own.map(|own| Voice {
            steward: Steward::new(plans::terms(&self.mix, h)),
            own,
            groups: named("g0"),
        });
        machine.books.begins_a_life();
        machine.waits = Waits::default();
        let is_awaiting = engine.awaits_descriptors();
        machine
            .waits
            .awaits(now, is_awaiting, machine.plan.reattach_grace)?;
        machine.engine = Some(engine);
        self.commit(h, &effects.records)?;
        self.perform(h, effects.actions, loss)?;
        self.note_unwritten_in(h, noted);
        self.missed_ends(h)
    }

    /// Processes that ended while the daemon was dead.
    fn missed_ends(&mut self, h: usize) -> Checked {
        let machine = &self.machines[h];
        let Some(engine) = &machine.engine else {
            return Ok(());
        };
        let lives = |pid: u32| machine.processes.contains_key(&pid);
        let known = engine.processes();
        let gone: Vec<_> = known
            .filter(|(_, peer)| !lives(peer.pid))
            .map(|(client, _)| client)
            .collect();
        for client in gone {
            self.tell(h, Command::ClientGone { client })?;
        }
        Ok(())
    }

    /// Ends one build, well or not.
    pub(super) fn build(&mut self, h: usize, pick: u16) -> Checked {
        let machine = &mut self.machines[h];
        let count = machine.building.len();
        let place = usize::from(pick).checked_rem(count).unwrap_or(0);
        let Some(order) = machine.building.remove(place) else {
            return Ok(());
        };
        let backing = order.backing;
        if machine.failing_builds > 0 {
            machine.failing_builds -= 1;
            self.trace.reached("a build fails");
            let result = Err(self.failure(order.bytes));
            return self.tell(h, Command::Built { backing, result });
        }
        let result = self.build_file(h, order)?.map_err(|()| WorldError::Os {
            call: "mmap",
            errno: 5,
        });
        self.tell(h, Command::Built { backing, result })
    }

    fn build_file(&mut self, h: usize, order: Order) -> Checked<Result<Built, ()>> {
        let id = order.backing;
        let runs = order.runs.iter();
        let extents: Vec<u32> = runs.flat_map(|run| run.first..run.end()).collect();
        let pooled = self.is_pooled(h, order.device);
        let is_group = self.is_of_groups(h, order.device);
        // A fabric cuts no file out of what is another file still.
        let files = self.machines[h].files.values();
        let mut cut = files
            .filter(|file| file.pooled == pooled && file.group.is_some() == is_group)
            .flat_map(|file| &file.extents);
        let is_cut = (pooled || is_group) && cut.any(|extent| extents.contains(extent));
        if is_cut || pooled && !self.zero(h, (PRIVATE, &extents)) {
            return Ok(Err(()));
        }
        let group = is_group.then(|| self.build_group(h, &extents));
        if group == Some(None) {
            return Ok(Err(()));
        }
        let machine = &mut self.machines[h];
        let lines = extents.len() * super::memory::LINES as usize;
        let file = super::machine::File {
            pooled,
            group: group.flatten(),
            shareable: order.shareable,
            kept: true,
            ddr: vec![0; if pooled || is_group { 0 } else { lines }],
            extents,
        };
        let before = machine.files.insert(id, file);
        holds(before.is_none(), "ids never repeat", || {
            format!("{id} is built twice")
        })?;
        let identity = FileIdentity {
            device: 7,
            inode: id.number(),
        };
        let pages = if order.shareable {
            Pages::Collapsed
        } else {
            Pages::Hugetlb
        };
        Ok(Ok(Built { pages, identity }))
    }

    fn failure(&mut self, bytes: u64) -> WorldError {
        if self.rng.once_in(2) {
            return WorldError::MachineShort {
                available_bytes: bytes / 2,
                asked_bytes: bytes,
            };
        }
        WorldError::Os {
            call: "ftruncate",
            errno: 28,
        }
    }

    /// Ends one copy, well or not.
    pub(super) fn copy(&mut self, h: usize) -> Checked {
        let machine = &mut self.machines[h];
        let Some(transfer) = machine.copying.pop_front() else {
            return Ok(());
        };
        let segment = transfer.segment;
        let fails = machine.failing_copies > 0;
        machine.failing_copies = machine.failing_copies.saturating_sub(1);
        let result = if fails || !self.copy_lines(h, &transfer) {
            self.trace.reached("a copy fails");
            Err(self.failure(1))
        } else {
            Ok(())
        };
        self.tell(h, Command::Copied { segment, result })
    }

    /// What waits for the world, until nothing does.
    pub(super) fn settle(&mut self, h: usize) -> Checked {
        for _ in 0..ROUNDS_MAX {
            let machine = &self.machines[h];
            if machine.engine.is_none() || !machine.acts() {
                return Ok(());
            }
            if !machine.building.is_empty() {
                self.build(h, 0)?;
            } else if !machine.copying.is_empty() {
                self.copy(h)?;
            } else if !machine.leaving_files.is_empty() {
                self.destroy(h)?;
            } else if !self.work_on_words(h)? {
                return Ok(());
            }
        }
        broken("work ends", format_args!("host {h} still has some"))
    }

    /// A file that is watched and mapped by nobody is proven gone.
    pub(super) fn prove(&mut self, h: usize, pick: u16) -> Checked {
        let machine = &mut self.machines[h];
        if !machine.acts() {
            return Ok(());
        }
        let count = machine.watched.len();
        let place = usize::from(pick).checked_rem(count).unwrap_or(0);
        let Some(backing) = machine.watched.iter().nth(place).copied() else {
            return Ok(());
        };
        if machine.is_mapped(backing) {
            return Ok(());
        }
        machine.watched.remove(&backing);
        machine.files.remove(&backing);
        machine.words.remove(&backing);
        self.trace.reached("memory is proven gone");
        self.tell(h, Command::Released { backing })
    }

    pub(super) fn operate(&mut self, h: usize, operation: Operation) -> Checked {
        let ticket = TicketId(1);
        self.tell(h, Command::Operate { ticket, operation })
    }

    /// Deadlines that have passed.
    pub(super) fn tick(&mut self, h: usize) -> Checked {
        let due = |engine: &Engine| engine.next_deadline();
        let machine = &self.machines[h];
        let due = machine.engine.as_ref().and_then(due);
        let Some(due) = due.filter(|_| machine.acts()) else {
            return Ok(());
        };
        self.waits_by_its_clock(h)?;
        if self.has_passed(h, due) {
            return self.tell(h, Command::Tick);
        }
        Ok(())
    }
}
