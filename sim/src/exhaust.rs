//! Everything that can happen within a small scope: each short sequence of commands, each point at
//! which something dies, each set of lines that had left the caches of a host by then.
//!
//! # Scopes
//! `alphabet`: what the commands of a scope are, and what dies. A sequence fills as many slots of
//! time as it has commands, one of which is to do nothing: so those of at most so many commands are
//! among those of exactly so many. In at most one of its slots something dies: at each point that
//! the slot has, counted by having gone through it without; with a host that dies, each set of the
//! lines that it has not written back then may have left its caches. The commands after that go
//! on with whoever is left, and one of them starts again what is dead.
//!
//! # Ends
//! Of each state that is come to, everything dead starts again, all is read, faults end, and
//! everything has to come back. The oracles look after each step on the way.
//!
//! # What is left out, and why nothing is lost by it
//! - *States*: two sequences that come to the same state after as many slots go on in the same way:
//!   one of them goes on. The same is all of the world, see `world::exact`, and whether
//!   something has died already. What they come to on the way is looked at in both.
//! - *Commands that do nothing*: where a world is right after a command as it was right before it,
//!   what comes is what comes of doing nothing, and every death in that slot is one in the slot of
//!   nothing. Such a command is counted with its deaths and not gone through again.
//!
//! # Which failure is told
//! The states after each slot have an order that is not that of the threads, and so has what
//! follows from each. A thread ends at the first failure of its own; told is the first of these.
//!
//! Counted are what was gone through, and what stands for it: the sequences and cases without
//! anything left out, from the number of ways to each state.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use pool_core::sync::thread;

use crate::broken::{Broken, Checked};
use crate::mix::Mix;
use crate::op::Op;
use crate::run::guarded;
use crate::world::{Noted, Start, World};

mod alphabet;

pub use alphabet::Scope;

/// What was tried, and the first case that broke something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Slots that were gone through: with one of its deaths each, or none.
    pub runs: u64,
    /// Sequences of commands for which they stand.
    pub sequences: u64,
    /// Cases for which they stand: sequences with one death each, or none.
    pub cases: u64,
    /// Points at which something died, in what was gone through.
    pub points: u64,
    /// Sets of lines that had left the caches of a host that died, in what was gone through.
    pub sets: u64,
    /// The most lines of which such a set was.
    pub lines_most: u32,
    /// Cases that came to a state that another had come to, or whose command did nothing.
    pub pruned: u64,
    /// States that were gone on from, and brought to an end.
    pub states: u64,
    /// The ops of the first case that failed, and how: the same with any number of threads.
    pub failure: Option<(Vec<Op>, Broken)>,
}

/// What happens in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// The place of a command among those of the scope.
    command: usize,
    death: Option<Op>,
}

/// A state, and a way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    way: Vec<Slot>,
    state: u128,
    has_died: bool,
    /// How many ways lead to it, this one among them.
    ways: u64,
}

/// What one thread did of a layer.
#[derive(Debug, Default)]
struct Share {
    /// Where the slots lead to that were gone through, each after the number of the state that it
    /// led from; of the last ones nothing is kept.
    nodes: Vec<(usize, Node)>,
    tried: Tried,
    /// What broke something, and the number of the state from which: the thread ended there.
    failed: Option<(Vec<Slot>, Broken)>,
    failed_at: Option<usize>,
}

impl Scope {
    /// Tries every sequence of at most so many commands, with so many threads.
    #[must_use]
    pub fn try_all(self, most: usize, threads: usize) -> Tried {
        match Search::new(self, threads) {
            Ok(search) => search.go(most),
            Err(broken) => Tried {
                failure: Some((Vec::new(), broken)),
                ..Tried::default()
            },
        }
    }
}

/// A scope that is gone through.
#[derive(Debug)]
struct Search {
    scope: Scope,
    start: Start,
    commands: Vec<Vec<Op>>,
    threads: usize,
    /// Otherwise nothing is left out.
    prunes: bool,
}

impl Search {
    fn new(scope: Scope, threads: usize) -> Checked<Self> {
        Ok(Self {
            scope,
            start: Start::new(&Mix::scope())?,
            commands: scope.commands(),
            threads: threads.max(1),
            prunes: true,
        })
    }

    fn go(&self, most: usize) -> Tried {
        let mut tried = Tried::default();
        let mut layer = match self.first() {
            Ok(first) => vec![first],
            Err(broken) => {
                tried.failure = Some((self.ops(&[]), broken));
                return tried;
            }
        };
        for length in 1..=most {
            layer = self.next(&layer, length == most, &mut tried);
            if tried.failure.is_some() {
                break;
            }
            tried.states += layer.len() as u64;
            let ends = self.shared_out(layer.len(), |part| self.ends(&layer, part));
            let first = ends.into_iter().flatten().min_by_key(|(number, _)| *number);
            tried.failure = first.map(|(_, failure)| failure);
            if tried.failure.is_some() {
                break;
            }
        }
        tried
    }

    /// Where everything begins.
    fn first(&self) -> Checked<Node> {
        let state = guarded(|| self.world(&[])?.state(&mut String::new()))?;
        Ok(Node {
            way: Vec::new(),
            state,
            has_died: false,
            ways: 1,
        })
    }

    /// The states after one more slot; none after the last one.
    fn next(&self, layer: &[Node], is_last: bool, tried: &mut Tried) -> Vec<Node> {
        (tried.sequences, tried.cases) = (0, 0);
        let work = |part| self.share(layer, part, is_last);
        let mut shares = self.shared_out(layer.len(), work);
        shares.sort_by_key(|share| share.failed_at.unwrap_or(usize::MAX));
        let nodes = shares.into_iter().flat_map(|share| {
            tried.add(share.tried);
            share.nodes
        });
        // In the order of one thread: which way is kept to a state is then the same with others.
        let mut nodes: Vec<(usize, Node)> = nodes.collect();
        nodes.sort_by_key(|(from, _)| *from);
        let nodes = nodes.into_iter().map(|(_, node)| node).collect();
        if self.prunes {
            merge(nodes, tried)
        } else {
            nodes
        }
    }

    /// Has each thread do what is `numbers` of so many; what they did, in their order.
    fn shared_out<T: Send>(
        &self,
        count: usize,
        work: impl Fn(std::iter::StepBy<std::ops::Range<usize>>) -> T + Sync,
    ) -> Vec<T> {
        thread::scope(|scope| {
            let work = &work;
            let threads = (0..self.threads).map(|thread| {
                let part = (thread.min(count)..count).step_by(self.threads);
                scope.spawn(move || work(part))
            });
            let threads: Vec<_> = threads.collect();
            let done = threads.into_iter().map(thread::ScopedJoinHandle::join);
            // A panic within a case is its outcome; one outside of it is this program's own.
            done.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    /// Every slot that can follow some states.
    fn share(&self, layer: &[Node], part: impl Iterator<Item = usize>, is_last: bool) -> Share {
        let mut share = Share::default();
        let mut text = String::new();
        for number in part {
            let node = &layer[number];
            let mut idle = 0;
            // Nothing comes last: it stands for every command that does nothing.
            for command in (0..self.commands.len()).rev() {
                let ways = if command == alphabet::NOTHING {
                    1 + idle
                } else {
                    1
                };
                let (slot, ways) = (Slot::of(command), node.ways * ways);
                let mut noted = Noted::default();
                let done = self.try_slot(node, slot, &mut text, (Some(&mut noted), is_last));
                if done == Ok(None) {
                    idle += 1;
                    share.tried.pruned += 1;
                    continue;
                }
                share.take((number, node), (slot, ways), done, is_last);
                let deaths = self.scope.deaths(&noted);
                for death in deaths.into_iter().filter(|_| !node.has_died) {
                    share.tried.count(&death);
                    let slot = slot.with(death.op);
                    let done = self.try_slot(node, slot, &mut text, (None, is_last));
                    share.take((number, node), (slot, ways), done, is_last);
                }
            }
            if let Some((way, broken)) = share.failed.take() {
                let mut ops = self.ops(&way);
                if is_last {
                    ops.extend(self.scope.afterwards());
                }
                share.tried.failure = Some((ops, broken));
                share.failed_at = Some(number);
                break;
            }
        }
        share
    }

    /// The state that a slot ends in; `None` where its command did nothing. What it has is noted.
    /// The last slot is brought to its end, and ends in no state.
    fn try_slot(
        &self,
        node: &Node,
        slot: Slot,
        text: &mut String,
        (noted, is_last): (Option<&mut Noted>, bool),
    ) -> Checked<Option<u128>> {
        guarded(|| {
            let mut world = self.world(&node.way)?;
            let [armed, command, death] = self.ops_of(slot);
            play(&mut world, &armed)?;
            if let Some(noted) = noted {
                world.note_from_here();
                play(&mut world, &command)?;
                // At the last slot of what has died, to look takes as long as to go on.
                if self.prunes
                    && slot.command != alphabet::NOTHING
                    && !(is_last && node.has_died)
                    && world.has_noted_nothing()
                    && world.state(text)? == node.state
                {
                    return Ok(None);
                }
                world.note_unwritten();
                play(&mut world, &death)?;
                *noted = world.noted.clone();
            } else {
                play(&mut world, &command)?;
                play(&mut world, &death)?;
            }
            if is_last {
                play(&mut world, &self.scope.afterwards())?;
                world.heal()?;
                return Ok(Some(0));
            }
            world.state(text).map(Some)
        })
    }

    /// What happens in a slot: before its command, in it, and from there to its end.
    fn ops_of(&self, Slot { command, death }: Slot) -> [Vec<Op>; 3] {
        let (armed, at_end): (Vec<Op>, Vec<Op>) = death
            .into_iter()
            .partition(|death| alphabet::is_told_before(death.kind));
        let at_end = at_end.into_iter().chain([alphabet::pass()]);
        [armed, self.commands[command].clone(), at_end.collect()]
    }

    fn ops(&self, way: &[Slot]) -> Vec<Op> {
        let slots = way.iter().flat_map(|&slot| self.ops_of(slot)).flatten();
        self.scope.beginning().into_iter().chain(slots).collect()
    }

    /// The world at the end of a way.
    fn world(&self, way: &[Slot]) -> Checked<World> {
        let mut world = self.start.world()?;
        play(&mut world, &self.ops(way))?;
        Ok(world)
    }

    /// The number of the first of some states that does not come to its end, and how it fails.
    fn ends(
        &self,
        layer: &[Node],
        part: impl Iterator<Item = usize>,
    ) -> Option<(usize, (Vec<Op>, Broken))> {
        let mut ends = part.filter_map(|number| {
            let mut ops = self.ops(&layer[number].way);
            ops.extend(self.scope.afterwards());
            let ended = guarded(|| {
                let mut world = self.start.world()?;
                play(&mut world, &ops)?;
                world.heal()
            });
            Some((number, (ops, ended.err()?)))
        });
        ends.next()
    }
}

impl Slot {
    const fn of(command: usize) -> Self {
        let death = None;
        Self { command, death }
    }

    const fn with(self, death: Op) -> Self {
        Self {
            death: Some(death),
            ..self
        }
    }
}

impl Tried {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.sequences += other.sequences;
        self.cases += other.cases;
        self.points += other.points;
        self.sets += other.sets;
        self.lines_most = self.lines_most.max(other.lines_most);
        self.pruned += other.pruned;
        if self.failure.is_none() {
            self.failure = other.failure;
        }
    }

    fn count(&mut self, death: &alphabet::Death) {
        self.points += u64::from(death.is_first_of_point);
        if let Some(lines) = death.lines {
            self.sets += 1;
            self.lines_most = self.lines_most.max(lines);
        }
    }
}

impl Share {
    /// Takes in where a slot led to, in so many ways.
    fn take(
        &mut self,
        (number, from): (usize, &Node),
        (slot, ways): (Slot, u64),
        done: Checked<Option<u128>>,
        is_last: bool,
    ) {
        let has_died = from.has_died || slot.death.is_some();
        self.tried.runs += 1;
        self.tried.cases += ways;
        self.tried.sequences += if has_died { 0 } else { ways };
        let way = || from.way.iter().copied().chain([slot]).collect();
        match done {
            Err(broken) if self.failed.is_none() => self.failed = Some((way(), broken)),
            Ok(Some(state)) if !is_last => {
                let way = way();
                let node = Node {
                    way,
                    state,
                    has_died,
                    ways,
                };
                self.nodes.push((number, node));
            }
            _ => {}
        }
    }
}

/// Each state once, in an order that is not that of the threads.
fn merge(nodes: Vec<Node>, tried: &mut Tried) -> Vec<Node> {
    let mut known: BTreeMap<(u128, bool), Node> = BTreeMap::new();
    for node in nodes {
        match known.entry((node.state, node.has_died)) {
            Entry::Occupied(mut known) => {
                tried.pruned += 1;
                known.get_mut().ways += node.ways;
            }
            Entry::Vacant(free) => _ = free.insert(node),
        }
    }
    known.into_values().collect()
}

fn play(world: &mut World, ops: &[Op]) -> Checked {
    for op in ops {
        world.play(0, op)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is come to in so many slots: the states, and how many cases there are.
    fn reached(scope: Scope, slots: usize, prunes: bool) -> (BTreeSet<(u128, bool)>, u64, u64) {
        let mut search = Search::new(scope, 2).unwrap();
        search.prunes = prunes;
        let (mut layer, mut tried) = (vec![search.first().unwrap()], Tried::default());
        for _ in 0..slots {
            layer = search.next(&layer, false, &mut tried);
            assert_eq!(tried.failure, None);
        }
        let states = layer.iter().map(|node| (node.state, node.has_died));
        (states.collect(), tried.cases, tried.sequences)
    }

    #[test]
    fn what_is_left_out_leads_to_no_state_that_is_not_come_to() {
        for scope in Scope::ALL {
            let (all, cases, sequences) = reached(scope, 2, false);
            assert_eq!(reached(scope, 2, true), (all, cases, sequences));
            let commands = scope.commands().len() as u64;
            assert_eq!(sequences, commands * commands);
        }
    }

    #[test]
    fn the_ways_that_are_gone_on_are_the_same_with_one_thread_and_with_more() {
        let layer = |scope, threads| {
            let search = Search::new(scope, threads).unwrap();
            let (mut layer, mut tried) = (vec![search.first().unwrap()], Tried::default());
            for _ in 0..2 {
                layer = search.next(&layer, false, &mut tried);
            }
            (layer, tried)
        };
        for scope in Scope::ALL {
            assert_eq!(layer(scope, 3), layer(scope, 1));
        }
    }

    #[test]
    fn a_way_ends_in_one_state_and_another_way_in_another() {
        let search = Search::new(Scope::Extents, 1).unwrap();
        let state = |commands: &[usize]| {
            let way: Vec<Slot> = commands.iter().map(|&command| Slot::of(command)).collect();
            search
                .world(&way)
                .unwrap()
                .state(&mut String::new())
                .unwrap()
        };
        // Nothing, and to start what is dead where nothing is.
        assert_eq!(state(&[0, 0]), state(&[1, 0]));
        // One host acquires to write, the other one does, or one to read.
        let others: BTreeSet<u128> = [2, 3, 6].map(|command| state(&[command])).into();
        assert_eq!(others.len(), 3);
        assert!(!others.contains(&state(&[0])));
    }
}
