//! Domains: who gets which slot, when the next one gets it, and what is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coherence::{Grant, LeaseError, Own, Refused, Slot};
use pool_core::{ClientId, SegmentId};
use pool_proto::common::v1::{
    Access, CoherenceMode, ErrorReason, OnDeath, Segment as SegmentMessage,
};
use pool_proto::session::v1 as session;
use session::{reply, request::Body};

use super::ask;
use super::plans::{ALPHA, BETA, GAMMA, extents, plan};
use super::process::Pid;
use super::world::World as Whole;
use crate::engine::command::{
    Command, Operation, Recovered, Seen, Unrecovered, WorldError, Written,
};
use crate::engine::effect::{Action, Hold, Lease, Recovery};
use crate::journal::{Record, Table};

/// What the world does with domains, and what it remembers of them.
#[derive(Debug, Default)]
pub(super) struct World {
    work: VecDeque<Action>,
    pub(super) awaited: Vec<(SegmentId, Slot, Pid)>,
    /// Who was given a slot last, until it was recovered.
    given: BTreeMap<(SegmentId, u32), ClientId>,
    /// Slots that the directory says have come.
    entered: BTreeSet<(u64, u8)>,
    /// What the next recoveries come to.
    pub(super) is_corrupt: bool,
    pub(super) is_contended: bool,
    pub(super) recovered: Vec<Recovery>,
    /// Who is seen to hold each unit, of whatever domain; who writes one keeps it from being
    /// copied.
    pub(super) seen: BTreeMap<u32, Seen>,
    /// Units whose recall was ended, in their order.
    pub(super) rid_of_recalls: Vec<u32>,
    /// The next pass misses units.
    pub(super) misses: bool,
    /// Every pass, in their order.
    pub(super) passes: Vec<Hold>,
}

impl World {
    pub(super) fn forget_work(&mut self) {
        self.work.clear();
        self.awaited.clear();
    }
}

impl Whole {
    pub(super) fn act_on_domain(&mut self, action: Action) {
        match action {
            Action::Enter { directory, slot } => {
                assert!(self.files[&directory].kept, "only what is there is written");
                let _again = self
                    .domains
                    .entered
                    .insert((directory.number(), slot.index()));
            }
            Action::AwaitEnd {
                segment,
                slot,
                process,
            } => self.domains.awaited.push((segment, slot, process.pid)),
            Action::EndRecall { unit, .. } => self.domains.rid_of_recalls.push(unit),
            action => self.domains.work.push_back(action),
        }
    }

    /// Ends one piece of work with a domain, or hears of the end of a process; whether there was
    /// any.
    pub(super) fn finish_domain_work(&mut self, ok: bool) -> bool {
        let dead = self.domains.awaited.iter().map(|(.., pid)| *pid);
        let dead = dead
            .into_iter()
            .find(|pid| !self.processes.contains_key(pid));
        if let Some(pid) = dead {
            self.end_awaited(pid);
            return true;
        }
        let Some(action) = self.domains.work.pop_front() else {
            return false;
        };
        let command = match action {
            Action::Format { segment, .. } => {
                let failure = WorldError::Os {
                    call: "mmap",
                    errno: 12,
                };
                let result = if ok { Ok(()) } else { Err(failure) };
                Command::Formatted { segment, result }
            }
            Action::Recover(recovery) => self.finish_recovery(recovery),
            Action::Hold(hold) => self.finish_pass(hold),
            Action::Look { segment, unit, .. } => {
                let seen = self.domains.seen.get(&unit).copied();
                Command::Looked {
                    segment,
                    unit,
                    seen,
                }
            }
            Action::Lease {
                client,
                request_id,
                unit,
                lease,
                ..
            } => {
                let grant = Grant {
                    // Shared by slot 1, in epoch 1.
                    own: Own::judge(1 << 61 | 1 << 32 | 0b10).unwrap(),
                    version: 7,
                    backing: 3,
                };
                let outcome = match (lease, unit % 5) {
                    (Lease::Release, _) => Ok(None),
                    (Lease::Acquire, 4) => Err(LeaseError::Lost { last_good: 6 }),
                    (Lease::Acquire, 3) => Err(LeaseError::Busy(Refused::Held)),
                    (Lease::Acquire, _) => Ok(Some(grant)),
                };
                Command::Leased {
                    client,
                    request_id,
                    unit,
                    outcome,
                }
            }
            other => unreachable!("{other:?} is no work with a domain"),
        };
        self.step_alone(command);
        true
    }

    fn finish_recovery(&mut self, recovery: Recovery) -> Command {
        let segment = recovery.segment;
        self.domains.recovered.push(recovery);
        if self.domains.is_contended {
            let result = Err(Unrecovered {
                units: 1,
                first: 9,
                reason: coherence::recover::RecoverError::Contended,
            });
            return Command::Recovered { segment, result };
        }
        if self.domains.is_corrupt {
            let word = coherence::CorruptWord {
                word: u64::MAX,
                invariant: 0,
            };
            let reason = coherence::recover::RecoverError::Corrupt(word);
            let result = Err(Unrecovered {
                units: 1,
                first: 9,
                reason,
            });
            return Command::Recovered { segment, result };
        }
        let awaited = |slot: u32| {
            let awaited = &self.domains.awaited;
            awaited
                .iter()
                .any(|(of, its, _)| *of == segment && u32::from(its.index()) == slot)
        };
        // What is recovered while its process lives is not free.
        let free = (0..32).filter(|slot| recovery.slots & 1 << slot != 0 && !awaited(*slot));
        for slot in free.collect::<Vec<_>>() {
            self.domains.given.remove(&(segment, slot));
        }
        self.domains
            .seen
            .values_mut()
            .for_each(|seen| seen.holders &= !recovery.slots);
        self.domains.seen.retain(|_, seen| seen.holders != 0);
        let result = Ok(Recovered::default());
        Command::Recovered { segment, result }
    }

    /// Goes through the units: who is evicted keeps nobody out, once it may be fenced.
    fn finish_pass(&mut self, hold: Hold) -> Command {
        self.domains.passes.push(hold);
        let others = |(_, seen): &(&u32, &Seen)| seen.writes && seen.holders & hold.evicted == 0;
        let written = self
            .domains
            .seen
            .iter()
            .filter(others)
            .map(|(&unit, seen)| {
                let slot = u8::try_from(seen.holders.trailing_zeros()).ok();
                let (slot, epoch) = (slot.and_then(Slot::new).unwrap(), seen.epoch);
                Written { unit, slot, epoch }
            });
        Command::Held {
            segment: hold.segment,
            written: written.collect(),
            missed: std::mem::take(&mut self.domains.misses),
        }
    }

    /// The kernel has ended a process, every thread of it.
    pub(super) fn end_awaited(&mut self, pid: Pid) {
        let awaited = std::mem::take(&mut self.domains.awaited);
        let (ended, still) = awaited.into_iter().partition(|(.., of)| *of == pid);
        self.domains.awaited = still;
        let ended: Vec<(SegmentId, Slot, Pid)> = ended;
        for (segment, slot, _) in ended {
            self.step(Command::Ended { segment, slot });
        }
    }

    /// Domain invariant 2, of what a client is told.
    pub(super) fn has_slot(&mut self, client: ClientId, granted: &session::Granted) {
        let segment = granted.segment.as_ref().unwrap();
        assert_eq!(segment.coherence.is_some(), granted.slot != 0);
        if granted.slot == 0 {
            return;
        }
        let id = SegmentId::new(segment.segment_id).unwrap();
        let before = self.domains.given.insert((id, granted.slot), client);
        assert!(
            before.is_none_or(|before| before == client),
            "slot {} of {id} is given to {client} while it is {before:?}'s",
            granted.slot
        );
    }
}

fn grant(world: &mut Whole, pid: Pid, body: Body) -> (SegmentMessage, u32) {
    match world.ask(pid, body) {
        reply::Body::Granted(granted) => (granted.segment.unwrap(), granted.slot),
        other => panic!("not granted: {other:?}"),
    }
}

/// A world with a domain `d` of alpha, which the first process created.
fn with_domain() -> (Whole, Pid, SegmentMessage) {
    let mut world = Whole::new(plan());
    let pid = world.attach(ALPHA);
    let (segment, slot) = grant(&mut world, pid, Body::Create(ask::create_domain("d", 3)));
    assert_eq!(slot, 1);
    (world, pid, segment)
}

#[test]
fn a_directory_lies_before_the_payload_in_a_file_of_its_own_and_is_charged() {
    let (world, _, segment) = with_domain();
    let sizes: Vec<_> = segment.pieces.iter().map(|piece| piece.bytes).collect();
    assert_eq!(sizes, [extents(1), extents(3)]);
    assert_eq!(
        (segment.bytes, segment.capacity_bytes),
        (extents(4), extents(4))
    );
    let terms = segment.coherence.unwrap();
    assert_eq!(terms.directory_bytes, extents(1));
    assert_eq!(
        (terms.unit_bytes, terms.on_death()),
        (1 << 16, OnDeath::Lose)
    );
    let used = world.engine.tenants(crate::engine::Visible::All)[0].tiers[0].used_bytes;
    assert_eq!(used, extents(4));
    let shareable = |file: &super::world::File| file.shareable;
    assert!(
        world.files.values().all(shareable),
        "no page of it is missing ever"
    );
}

#[test]
fn a_directory_is_a_piece_of_its_own_however_pieces_and_devices_lie() {
    let mut world = Whole::new(plan());
    let pid = world.attach(BETA);
    let ask = session::Create {
        piece_bytes: extents(4),
        ..ask::create_domain("wide", 18)
    };
    let (segment, _) = grant(&mut world, pid, Body::Create(ask));
    let sizes: Vec<_> = segment.pieces.iter().map(|piece| piece.bytes).collect();
    assert_eq!(sizes[0], extents(1));
    assert_eq!(sizes.iter().sum::<u64>(), extents(19));
    assert!(sizes.iter().all(|bytes| *bytes <= extents(4)));
}

#[test]
fn what_cannot_be_cut_or_placed_is_refused_with_its_numbers() {
    let mut world = Whole::new(plan());
    let pid = world.attach(ALPHA);
    let domain = || ask::create_domain("d", 2);
    let with = |change: &dyn Fn(&mut session::Create)| {
        let mut ask = domain();
        change(&mut ask);
        Body::Create(ask)
    };
    let unit = |bytes| with(&move |ask| ask.coherence.as_mut().unwrap().unit_bytes = bytes);
    for (body, reason, said) in [
        (unit(3 << 12), ErrorReason::OutOfRange, "12288"),
        (unit(2048), ErrorReason::OutOfRange, "2048"),
        (unit(8 << 20), ErrorReason::OutOfRange, "4194304"),
        (
            with(&|ask| ask.bytes = extents(2) - 4096),
            ErrorReason::OutOfRange,
            "whole number of extents",
        ),
        (
            with(&|ask| ask.capacity_bytes = extents(9)),
            ErrorReason::Malformed,
            "capacity",
        ),
        (
            with(&|ask| ask.coherence.as_mut().unwrap().mode = 0),
            ErrorReason::Malformed,
            "mode",
        ),
        (
            with(&|ask| ask.tier = "pooled".into()),
            ErrorReason::Unsealed,
            "p0",
        ),
    ] {
        let error = world.refused(pid, body);
        assert_eq!(error.reason(), reason, "{}", error.message);
        assert!(error.message.contains(said), "{}", error.message);
    }
}

#[test]
fn software_coherence_is_refused_unless_a_promise_makes_it_sound() {
    let mut world = Whole::new(plan());
    let pid = world.attach(ALPHA);
    let software = |one_host, no_clean_write_backs| {
        let mut ask = ask::create_domain("", 1);
        let terms = ask.coherence.as_mut().unwrap();
        terms.mode = CoherenceMode::Software.into();
        (terms.one_host, terms.no_clean_write_backs) = (one_host, no_clean_write_backs);
        Body::Create(ask)
    };
    let refused = world.refused(pid, software(false, false));
    assert_eq!(refused.reason(), ErrorReason::NotPermitted);
    for alternative in ["hardware", "read-only", "unmap"] {
        assert!(refused.message.contains(alternative), "{}", refused.message);
    }
    world.granted(pid, software(true, false));
    world.granted(pid, software(false, true));
    for mode in [CoherenceMode::Hardware, CoherenceMode::Simulated] {
        let mut ask = ask::create_domain("", 1);
        let terms = ask.coherence.as_mut().unwrap();
        (terms.mode, terms.one_host) = (mode.into(), false);
        let refused = world.refused(pid, Body::Create(ask));
        assert_eq!(refused.reason(), ErrorReason::NotPermitted);
        assert!(
            refused.message.contains("several hosts"),
            "{}",
            refused.message
        );
    }
}

#[test]
fn each_member_has_a_slot_of_its_own_and_the_thirty_second_is_refused() {
    let (mut world, first, segment) = with_domain();
    let mut slots = BTreeSet::from([1]);
    for number in 2..=31 {
        let pid = world.attach(ALPHA);
        let access = if number % 2 == 0 {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        };
        let (_, slot) = grant(&mut world, pid, ask::open("d", access));
        assert!(slots.insert(slot), "slot {slot} is given twice");
    }
    assert_eq!(slots, (1..=31).collect());
    let late = world.attach(ALPHA);
    let refused = world.refused(late, ask::open("d", Access::ReadOnly));
    assert_eq!(refused.reason(), ErrorReason::Limit);
    assert_eq!(refused.limit, 31);
    // Who has a slot keeps it, whatever it asks again.
    let (_, again) = grant(&mut world, first, ask::refresh(segment.segment_id));
    assert_eq!(again, 1);
    let (_, again) = grant(&mut world, first, ask::open("d", Access::ReadOnly));
    assert_eq!(again, 1);
    world.repeat(first);
    world.done(first, ask::close(segment.segment_id));
    let (_, slot) = grant(&mut world, late, ask::open("d", Access::ReadOnly));
    assert_eq!(slot, 1);
}

#[test]
fn a_slot_is_given_again_only_after_it_is_recovered() {
    let (mut world, first, segment) = with_domain();
    let second = world.attach(ALPHA);
    assert_eq!(
        grant(&mut world, second, ask::open("d", Access::ReadWrite)).1,
        2
    );
    world.prompt = false;
    world.done(first, ask::close(segment.segment_id));
    let third = world.attach(ALPHA);
    assert_eq!(
        grant(&mut world, third, ask::open("d", Access::ReadWrite)).1,
        3
    );
    world.work();
    assert_eq!(world.domains.recovered.last().unwrap().slots, 1 << 1);
    let fourth = world.attach(ALPHA);
    assert_eq!(
        grant(&mut world, fourth, ask::open("d", Access::ReadWrite)).1,
        1
    );
}

#[test]
fn a_recovery_is_in_order_where_all_it_takes_back_was_left_in_order_in_this_life() {
    let (mut world, _, segment) = with_domain();
    let again = |world: &mut Whole| {
        let pid = world.attach(ALPHA);
        grant(world, pid, ask::open("d", Access::ReadWrite));
        world.domains.recovered.clear();
        pid
    };
    let (closes, dies) = (again(&mut world), again(&mut world));
    world.done(closes, ask::close(segment.segment_id));
    assert!(world.domains.recovered.pop().unwrap().in_order);
    world.kill(dies);
    assert!(!world.domains.recovered.pop().unwrap().in_order);
    let closes = again(&mut world);
    world.done(closes, ask::close(segment.segment_id));
    assert!(world.domains.recovered.pop().unwrap().in_order);
    world.restart(|_| true);
    assert!(!world.domains.recovered.pop().unwrap().in_order);
}

#[test]
fn the_slot_of_who_is_given_up_waits_for_the_end_of_its_process_over_a_restart_too() {
    let (mut world, first, _) = with_domain();
    let second = world.attach(ALPHA);
    grant(&mut world, second, ask::open("d", Access::ReadWrite));
    let client = world.client(first);
    world.domains.recovered.clear();
    // Its process lives on.
    world.disconnect(first);
    world.step(Command::ClientGone { client });
    assert!(world.domains.recovered.is_empty());
    world.restart(|_| true);
    let all = world.domains.recovered.pop().unwrap();
    assert_eq!((all.slots, all.members), (!0b110, 0b100));
    world.reattach(second);
    let third = world.attach(ALPHA);
    assert_eq!(
        grant(&mut world, third, ask::open("d", Access::ReadWrite)).1,
        3
    );
    world.kill(first);
    assert_eq!(world.domains.recovered.pop().unwrap().slots, 0b010);
    let fourth = world.attach(ALPHA);
    assert_eq!(
        grant(&mut world, fourth, ask::open("d", Access::ReadWrite)).1,
        1
    );
}

#[test]
fn after_a_restart_nothing_of_a_domain_is_answered_before_it_is_recovered() {
    let (mut world, first, segment) = with_domain();
    world.prompt = false;
    world.restart(|_| true);
    world.reattach(first);
    let id = segment.segment_id;
    assert_eq!(world.reason(first, ask::refresh(id)), ErrorReason::Busy);
    let second = world.attach(ALPHA);
    let open = || ask::open("d", Access::ReadOnly);
    assert_eq!(world.reason(second, open()), ErrorReason::Busy);
    world.work();
    let (again, slot) = grant(&mut world, first, ask::refresh(id));
    assert_eq!((slot, again.coherence), (1, segment.coherence));
    assert_eq!(grant(&mut world, second, open()).1, 2);
    // Every slot that nobody had, the daemon's own among them.
    assert_eq!(world.domains.recovered[0].slots, !0b10);
}

#[test]
fn slots_and_terms_are_journaled() {
    let (world, first, segment) = with_domain();
    let row = match &world.durable[&(Table::Segments, segment.segment_id)] {
        Record::Segment(row) => row.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(row.coherence, segment.coherence);
    let holder = row.holders[0];
    assert_eq!(
        (holder.client_id, holder.slot),
        (world.client(first).number(), 1)
    );
}

#[test]
fn a_slot_that_cannot_be_recovered_is_given_to_nobody_and_operators_are_told() {
    let (mut world, first, segment) = with_domain();
    let second = world.attach(ALPHA);
    grant(&mut world, second, ask::open("d", Access::ReadWrite));
    world.domains.is_corrupt = true;
    world.done(first, ask::close(segment.segment_id));
    assert_eq!(world.published.last().unwrap(), "domain-corrupt");
    let third = world.attach(ALPHA);
    assert_eq!(
        grant(&mut world, third, ask::open("d", Access::ReadWrite)).1,
        3
    );
    // It is tried again with the next slot that is left.
    world.domains.is_corrupt = false;
    world.done(second, ask::close(segment.segment_id));
    assert_eq!(world.domains.recovered.last().unwrap().slots, 0b110);
}

#[test]
fn a_domain_keeps_its_size_and_its_place() {
    let (mut world, first, segment) = with_domain();
    let id = segment.segment_id;
    for body in [
        ask::resize(id, 8),
        ask::resize(id, 1),
        ask::relocate(id, "ddr"),
    ] {
        let refused = world.refused(first, body);
        assert_eq!(refused.reason(), ErrorReason::NotPermitted);
        assert!(refused.message.contains("domain"), "{}", refused.message);
    }
    world.done(first, ask::share(id, "gamma", Access::ReadWrite));
    let guest = world.attach(GAMMA);
    let (_, slot) = grant(&mut world, guest, ask::open("alpha:d", Access::ReadWrite));
    assert_eq!(slot, 2);
    let revoke = ask::revoke(id, "gamma");
    assert_eq!(world.reason(first, revoke), ErrorReason::NotPermitted);
    let kept = world.attach(ALPHA);
    let ask = session::Create {
        lifetime: 2,
        ..ask::create_domain("kept", 1)
    };
    let (idle, _) = grant(&mut world, kept, Body::Create(ask));
    world.done(kept, ask::close(idle.segment_id));
    world.operate(Operation::Drain("d0".into())).unwrap();
    assert!(world.published.iter().any(|kind| kind == "segment-stays"));
}

#[test]
fn who_only_reads_leases_by_asking_and_who_writes_does_it_itself() {
    let (mut world, first, segment) = with_domain();
    let id = segment.segment_id;
    let reader = world.attach(ALPHA);
    grant(&mut world, reader, ask::open("d", Access::ReadOnly));
    let acquired = session::Acquired {
        version: 7,
        backing: 3,
    };
    let journaled = world.durable.clone();
    for _ in 0..2 {
        let answer = world.ask(reader, ask::acquire(id, 0));
        assert_eq!(answer, reply::Body::Acquired(acquired));
    }
    world.done(reader, ask::release(id, 0));
    assert_eq!(
        world.reason(reader, ask::acquire(id, 3)),
        ErrorReason::InUse
    );
    let lost = world.refused(reader, ask::acquire(id, 4));
    assert_eq!(lost.reason(), ErrorReason::Lost);
    assert!(lost.message.contains("version 6"), "{}", lost.message);
    assert_eq!((lost.used, lost.asked), (6, 4));
    let units = u32::try_from(extents(3) >> 16).unwrap();
    for unit in [units, u32::MAX] {
        assert_eq!(
            world.reason(reader, ask::acquire(id, unit)),
            ErrorReason::NotFound
        );
    }
    assert_eq!(
        world.reason(reader, ask::acquire(77, 0)),
        ErrorReason::NotFound
    );
    assert_eq!(
        world.reason(first, ask::acquire(id, 0)),
        ErrorReason::NotPermitted
    );
    assert_eq!(world.durable, journaled, "nothing of it is remembered");
    let plain = world.granted(first, Body::Create(ask::create(1)));
    let asked = ask::acquire(plain.segment_id, 0);
    assert_eq!(world.reason(first, asked), ErrorReason::NotFound);
}

#[test]
fn a_directory_that_cannot_be_written_costs_the_grant_and_nothing_else() {
    let mut world = Whole::new(plan());
    let pid = world.attach(ALPHA);
    world.prompt = false;
    let id = world.send(pid, Body::Create(ask::create_domain("d", 2)));
    while !world.building.is_empty() {
        world.finish_build(0, Ok(()));
    }
    assert!(world.finish_domain_work(false));
    let answer = world.processes[&pid].answers[&id].clone();
    assert!(matches!(answer, reply::Body::Error(_)), "{answer:?}");
    assert!(world.engine.segments.is_empty() && world.files.is_empty());
}
